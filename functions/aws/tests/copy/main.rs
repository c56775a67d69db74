//! The copier against an origin that misbehaves and a bucket that checks everything. Each fault has a test that names the
//! outcome.

mod bucket;
mod contents;
mod inside;
mod kills;
mod origin;
mod origin_faults;
mod resuming;
mod safety;
mod slow_origins;
mod storing;

use std::time::Duration;

use aws_credential_types::Credentials;
use reelhook_aws::clients::{Clients, RetryPolicy};
use reelhook_aws::copy::{Copier, CopyFailure, CopyRequest, PriorAttempt};
use reelhook_aws::ssrf::OriginPolicy;
use reelhook_core::redacted::SignedUrl;
use reelhook_core::report::Kind;
use reelhook_core::result::StoredArtifact;
use reelhook_core::transfer::checkpoint::SavedUpload;
use reelhook_core::{TaskKey, Timestamp};
use tokio::time::Instant;

use self::bucket::Bucket;
use self::origin::{Film, Origin};

const MEBIBYTE: u64 = 1 << 20;
const STEM: &str = "tasks/kling/job-1/video";
const KEY: &str = "tasks/kling/job-1/video.mp4";

/// Longer than any copy here takes.
const LONG: Duration = Duration::from_mins(2);

/// When the report came that names the files.
const REPORTED_AT: Timestamp = Timestamp::from_seconds(1_800_000_000);

/// Whose files are copied.
fn task() -> TaskKey {
    "kling/job-1".parse().expect("a task")
}

/// An origin, a bucket, and a copier between them.
struct Stage {
    origin: Origin,
    bucket: Bucket,
    copier: Copier,
}

impl Stage {
    async fn new() -> Self {
        let origin = Origin::start().await.expect("an origin");
        let bucket = Bucket::start().await.expect("a bucket");
        let copier = copier(&bucket.endpoint(), &[&origin.authority()]);
        Self { origin, bucket, copier }
    }

    /// Copies what is behind a path of the origin.
    async fn copy(&self, target: &str) -> Result<StoredArtifact, CopyFailure> {
        self.copy_link(&self.origin.link(target)).await
    }

    async fn copy_link(&self, link: &str) -> Result<StoredArtifact, CopyFailure> {
        self.copy_with(link, LONG, PriorAttempt::None, None).await
    }

    async fn resume(&self, target: &str, upload: SavedUpload) -> Result<StoredArtifact, CopyFailure> {
        self.copy_with(&self.origin.link(target), LONG, PriorAttempt::Possible, Some(upload)).await
    }

    async fn copy_with(
        &self,
        link: &str,
        time: Duration,
        prior: PriorAttempt,
        resume: Option<SavedUpload>,
    ) -> Result<StoredArtifact, CopyFailure> {
        self.copy_of_report(REPORTED_AT, link, time, prior, resume).await
    }

    async fn copy_of_report(
        &self,
        reported_at: Timestamp,
        link: &str,
        time: Duration,
        prior: PriorAttempt,
        resume: Option<SavedUpload>,
    ) -> Result<StoredArtifact, CopyFailure> {
        let request = CopyRequest {
            task: &crate::task(),
            link: &SignedUrl::new(link),
            credential: None,
            key_stem: STEM,
            kind: Kind::Video,
            tagging: None,
            reported_at,
            expires_at: None,
            deadline: Instant::now() + time,
            prior,
            resume,
        };
        self.copier.copy(request).await
    }

    /// The film is in the bucket, whole and as described, and nothing else is.
    fn assert_stored(&self, film: &Film, result: &Result<StoredArtifact, CopyFailure>) {
        let artifact = result.as_ref().expect("it is copied");
        let object = self.bucket.object(&artifact.key).expect("the object is there");
        assert_eq!(object.bytes.len() as u64, film.length);
        assert!(object.bytes == film.bytes(), "the bytes are the film's");
        assert_eq!(artifact.kind, Kind::Video);
        assert_eq!(artifact.bytes, film.length);
        assert_eq!(artifact.checksum.algorithm, "CRC64NVME");
        assert_eq!(artifact.checksum.value, object.checksum);
        assert_eq!(artifact.content_type, object.content_type);
        assert_eq!(self.bucket.keys(), std::slice::from_ref(&artifact.key));
        assert_eq!(self.bucket.unfinished(), (0, 0), "parts and uploads that were left");
    }

    /// Nothing is in the bucket, whole or in parts.
    fn assert_untouched(&self) {
        assert_eq!(self.bucket.keys(), [""; 0]);
        assert_eq!(self.bucket.unfinished(), (0, 0), "parts and uploads that were left");
    }
}

fn copier(endpoint: &str, origins: &[&str]) -> Copier {
    let policy = OriginPolicy::allowing(origins.iter().copied()).expect("origins");
    let credentials = Credentials::new("test", "test", None, None, "test");
    let clients = Clients::new(RetryPolicy::BACKGROUND, credentials, "us-east-1".to_owned(), Some(endpoint));
    Copier::new(clients.s3(), Bucket::NAME, policy).expect("a copier")
}
