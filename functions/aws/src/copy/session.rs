//! What a copy works with: its limits in time and length, its origin, its bucket, and the writing of the last request.

use std::sync::Arc;
use std::time::Duration;

use reelhook_core::backoff::{Backoff, Growth, seed_of};
use reelhook_core::result::StoredArtifact;
use reelhook_core::transfer::container::claimed_length;
use reelhook_core::transfer::fault::{CopyFault, Difference};
use reelhook_core::transfer::media::{Format, format_for};
use tokio::time::{Instant, sleep, timeout_at};

use super::halt::Halt;
use super::memory_pool::{Buffer, Content, MemoryPool};
use super::origin::OriginSession;
use super::request::{CopyRequest, PriorAttempt};
use super::stats::CopyStats;
use super::store::{ATTEMPTS, FIRST_BACKOFF, FinalWrite, Label, Sent, Store, Written, checksum_of};

/// Between two attempts to begin an upload: as the SDK waits between two attempts at everything else.
const CREATE_BACKOFF: Backoff = Backoff { first: FIRST_BACKOFF, max: Duration::from_secs(4), growth: Growth::Double };

/// How long before its deadline a copy requests nothing more from the origin. What has been received by then is still sent: a
/// piece takes less than that within a region.
const SEND_RESERVE: Duration = Duration::from_secs(3);

/// How long before its deadline a copy stops altogether, for aborting what cannot be kept.
const ABORT_RESERVE: Duration = Duration::from_millis(500);

/// One copy.
#[derive(Debug)]
pub(super) struct CopySession<'a> {
    pub(super) store: &'a Store,
    pub(super) memory: &'a Arc<MemoryPool>,
    pub(super) request: &'a CopyRequest<'a>,
    pub(super) origin: &'a OriginSession<'a>,
    pub(super) stats: &'a CopyStats,
    max_bytes: u64,
    fetch_until: Instant,
    pub(super) send_until: Instant,
}

impl<'a> CopySession<'a> {
    pub(super) fn new(
        store: &'a Store,
        memory: &'a Arc<MemoryPool>,
        max_bytes: u64,
        request: &'a CopyRequest<'a>,
        origin: &'a OriginSession<'a>,
        stats: &'a CopyStats,
    ) -> Self {
        let before = |time: Duration| request.deadline.checked_sub(time).unwrap_or(request.deadline);
        let (fetch_until, send_until) = (before(SEND_RESERVE + ABORT_RESERVE), before(ABORT_RESERVE));
        Self { store, memory, request, origin, stats, max_bytes, fetch_until, send_until }
    }

    /// The format of a file, by its first bytes.
    pub(super) fn format(&self, buffer: &Buffer) -> Result<Format, Halt> {
        let format = format_for(self.request.kind, buffer.from(0));
        format.map_err(|looks_like| CopyFault::NotMedia { looks_like }.into())
    }

    /// The key of a file in this format.
    pub(super) fn key(&self, format: Format) -> String {
        format!("{}.{}", self.request.key_stem, format.extension)
    }

    /// What the object is labelled with.
    pub(super) fn label(&self, format: Format) -> Label<'_> {
        let (content_type, CopyRequest { tagging, reported_at, .. }) = (format.content_type, self.request);
        Label { content_type, tagging: tagging.as_deref(), reported_at: *reported_at }
    }

    pub(super) fn check_length(&self, length: u64) -> Result<(), Halt> {
        let limit = self.max_bytes;
        if length > limit { Err(CopyFault::TooLarge { limit }.into()) } else { Ok(()) }
    }

    /// Begins an upload, and aborts those that nobody will finish: an earlier worker's, or one whose response was lost, so that
    /// nobody knows its id.
    pub(super) async fn create_upload(&self, key: &str, format: Format) -> Result<String, Halt> {
        self.sending(async {
            let mut are_left = self.request.prior == PriorAttempt::Possible;
            let mut attempt = 1;
            loop {
                if are_left {
                    for (key, id) in self.store.uploads(&format!("{}.", self.request.key_stem)).await? {
                        self.abort_upload(&key, &id).await;
                    }
                }
                match self.store.create(key, self.label(format)).await {
                    Err(_) if attempt < ATTEMPTS => are_left = true,
                    created => return Ok(created?),
                }
                sleep(CREATE_BACKOFF.delay(attempt, seed_of(key))).await;
                attempt += 1;
            }
        })
        .await
    }

    /// Writes a part; gives back its `ETag`. `number` from 1.
    pub(super) async fn send_part(&self, key: &str, id: &str, number: u64, content: &Content) -> Result<String, Halt> {
        let sent = self.sending(async { self.store.upload_part(key, id, number, content).await.map_err(Halt::from) });
        let etag = sent.await?;
        self.stats.parts.add(1);
        Ok(etag)
    }

    /// Puts the parts of an upload together. `parts` are `ETag` and checksum of each, in order. [`Halt::UploadGone`] when
    /// the upload is of no use any more: another object was there, which is gone again, or the upload itself is.
    pub(super) async fn complete(
        &self,
        id: &str,
        parts: &[(String, u64)],
        sent: Sent<'_>,
    ) -> Result<StoredArtifact, Halt> {
        self.sending(async {
            let written = self.write_final(sent, FinalWrite::Complete { id, parts }).await?;
            if !matches!(written, Some((_, Written::Now))) {
                self.abort_upload(sent.key, id).await;
            }
            written.map(|(artifact, _)| artifact).ok_or(Halt::UploadGone)
        })
        .await
    }

    /// Makes the final write of a file, and says what it came to. If something exists there already it is the same file, because
    /// the same link was copied twice; that of an earlier report, which is replaced; or somebody else's, which is left alone.
    /// None when nothing exists there after all, or what does could not be replaced.
    pub(super) async fn write_final(
        &self,
        sent: Sent<'_>,
        write: FinalWrite<'_>,
    ) -> Result<Option<(StoredArtifact, Written)>, CopyFault> {
        let CopyRequest { task, kind, reported_at, .. } = *self.request;
        let (bytes, checksum) = (sent.bytes, checksum_of(sent.checksum));
        let mut replaced: Option<String> = None;
        loop {
            let written = self.store.write(write, sent, replaced.as_deref()).await?;
            if written == Written::Exists {
                let Some(existing) = self.store.existing(sent.key).await? else { return Ok(None) };
                if self.store.is_outdated(&existing, task, reported_at).await? {
                    // Refused with the object unchanged: another write is under way, or the upload is gone.
                    if replaced.as_ref() == Some(&existing.etag) {
                        return Ok(None);
                    }
                    tracing::warn!(%task, key = sent.key, "replacing the file of an earlier report");
                    replaced = Some(existing.etag);
                    continue;
                }
                if existing.bytes != bytes || existing.checksum != checksum {
                    let existing = existing.into_artifact(kind, sent.key);
                    return Err(Box::new(Difference { existing, bytes, checksum }).into());
                }
            }
            let (key, content_type) = (sent.key.to_owned(), sent.content_type.to_owned());
            return Ok(Some((StoredArtifact { kind, key, bytes, checksum, content_type }, written)));
        }
    }

    /// Aborts an upload, as far as there is time; what is left then is for the lifecycle rule.
    pub(super) async fn abort_upload(&self, key: &str, id: &str) {
        let _ = timeout_at(self.request.deadline, self.store.abort(key, id)).await;
    }

    /// Ends requests to the origin when there is only time left to send.
    pub(super) async fn fetching<T>(&self, work: impl Future<Output = Result<T, Halt>>) -> Result<T, Halt> {
        timeout_at(self.fetch_until, work).await.unwrap_or_else(|_| Err(self.out_of_time()))
    }

    /// Ends requests to the bucket when there is no time left.
    pub(super) async fn sending<T>(&self, work: impl Future<Output = Result<T, Halt>>) -> Result<T, Halt> {
        timeout_at(self.send_until, work).await.unwrap_or_else(|_| Err(self.out_of_time()))
    }

    fn out_of_time(&self) -> Halt {
        let has_read = self.stats.received_bytes.get() > 0;
        Halt::Failed(if has_read { CopyFault::OutOfTime } else { CopyFault::NotBegun })
    }
}

/// Whether a file is as long as it says.
pub(super) fn check_claim(buffer: &Buffer, bytes: u64) -> Result<(), Halt> {
    match claimed_length(|offset| buffer.from(offset)) {
        Some(claimed) if claimed > bytes => Err(CopyFault::CutOff { claimed, bytes }.into()),
        _ => Ok(()),
    }
}
