//! The copier, which all copies of a process share.

use std::sync::Arc;

use reelhook_core::report::Kind;
use reelhook_core::result::StoredArtifact;
use reelhook_core::transfer::checkpoint::SavedUpload;
use reelhook_core::transfer::fault::CopyFault;
use reelhook_core::transfer::parts::{MAX_OBJECT_BYTES, MEBIBYTE};
use reelhook_core::transfer::retry::MAX_FILE_BYTES;
use reelhook_core::{TaskKey, Timestamp};
use tokio::time::Instant;

use super::job;
use super::memory_pool::MemoryPool;
use super::origin::OriginSession;
use super::origin_client::OriginClient;
use super::permits::PermitRegistry;
use super::request::{CopyFailure, CopyRequest};
use super::session::CopySession;
use super::stats::CopyStats;
use super::store::Store;
use crate::ssrf::OriginPolicy;

/// Memory for file contents, for all copies of an invocation together: seven pieces of 8 MiB, which fill a function's network
/// many times over. With it a process stays below 96 MiB; the rest are the buffers of up to 30 connections.
const MEMORY_BYTES: u64 = 56 * MEBIBYTE;

/// Copies files into the bucket. One per process: all copies share its memory and its connections.
#[derive(Debug)]
pub struct Copier {
    store: Store,
    client: OriginClient,
    memory: Arc<MemoryPool>,
    max_bytes: u64,
    permits: PermitRegistry,
}

impl Copier {
    /// A copier into a bucket. The client has to leave checksums to the copier
    /// (`request_checksum_calculation(WhenRequired)`) and to have no time-out over whole operations.
    pub fn new(
        client: aws_sdk_s3::Client,
        bucket: impl Into<String>,
        policy: OriginPolicy,
    ) -> Result<Self, reqwest::Error> {
        Ok(Self {
            store: Store::new(client, bucket.into()),
            client: OriginClient::new(policy)?,
            memory: MemoryPool::new(MEMORY_BYTES),
            max_bytes: MAX_FILE_BYTES,
            permits: PermitRegistry::default(),
        })
    }

    /// With another limit to the length of a file than [`MAX_FILE_BYTES`]; S3's own holds anyway.
    #[must_use]
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes.min(MAX_OBJECT_BYTES);
        self
    }

    /// Copies one file. Afterwards either the whole file is in the bucket, checked, or nothing that a reader of the bucket
    /// could take for it. Copies of several files may run side by side; the same file copied twice at once is stored once,
    /// and both copies succeed.
    pub async fn copy(&self, mut request: CopyRequest<'_>) -> Result<StoredArtifact, CopyFailure> {
        let saved = request.resume.take();
        let started = Instant::now();
        let stats = CopyStats::default();
        let result = match self.client.read_link(request.link) {
            Ok(link) => {
                let origin = OriginSession::new(&self.client, &self.permits, link, &request, &stats);
                let session = CopySession::new(&self.store, &self.memory, self.max_bytes, &request, &origin, &stats);
                job::run(&session, saved).await
            }
            Err(blocked) => Err(CopyFailure { fault: blocked.into(), upload: saved }),
        };
        stats.report(&request, started, &result);
        result
    }

    /// Aborts an upload that was kept, when the artifact will not be copied any more.
    pub async fn abort_upload(&self, saved: &SavedUpload) {
        self.store.abort(&saved.key, &saved.id).await;
    }

    /// The file that an earlier copy has put under this key, if one has: when a worker died between the copy and the record,
    /// and the link did too. It ignores the file of an earlier report, unless that is published.
    pub async fn stored(
        &self,
        task: &TaskKey,
        key_stem: &str,
        kind: Kind,
        reported_at: Timestamp,
    ) -> Result<Option<StoredArtifact>, CopyFault> {
        for key in self.store.keys(&format!("{key_stem}.")).await? {
            if let Some(existing) = self.store.existing(&key).await?
                && !self.store.is_outdated(&existing, task, reported_at).await?
            {
                return Ok(Some(existing.into_artifact(kind, &key)));
            }
        }
        Ok(None)
    }
}
