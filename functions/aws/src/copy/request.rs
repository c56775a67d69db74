//! What is copied, and how a copy fails.

use reelhook_core::credential::Credential;
use reelhook_core::redacted::SignedUrl;
use reelhook_core::report::Kind;
use reelhook_core::transfer::checkpoint::SavedUpload;
use reelhook_core::transfer::fault::CopyFault;
use reelhook_core::{TaskKey, Timestamp};
use tokio::time::Instant;

/// What to copy.
#[derive(Debug)]
pub struct CopyRequest<'a> {
    /// Whose result it is, for the log.
    pub task: &'a TaskKey,
    /// From where.
    pub link: &'a SignedUrl,
    /// What a request to the provider's own API carries, for a link into it.
    pub credential: Option<Credential>,
    /// To where: the key without extension, `tasks/kling/job-1/video-2`. The extension follows from the file's bytes.
    pub key_stem: &'a str,
    /// What it is.
    pub kind: Kind,
    /// The object's tags, as S3's header has them.
    pub tagging: Option<String>,
    /// When the report came that names it. A file of an earlier report in its place is replaced.
    pub reported_at: Timestamp,
    /// When the link dies, for the log.
    pub expires_at: Option<Timestamp>,
    /// When the copy must have ended. It ends by itself before.
    pub deadline: Instant,
    /// Whether an earlier copy of the same artifact may have left something.
    pub prior: PriorAttempt,
    /// What an earlier copy of the same artifact gave back to be kept.
    pub resume: Option<SavedUpload>,
}

/// Whether an earlier copy of the same artifact may have left parts in the bucket that nobody knows of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PriorAttempt {
    /// No worker was at it before.
    None,
    /// A worker may have been killed over it: unfinished uploads under this key are looked for (one more request) and
    /// aborted, other than the one that is resumed. A worker that still runs after it lost its lease is stopped by that as
    /// well.
    #[default]
    Possible,
}

/// A copy that was not finished, and what of it can be resumed.
#[derive(Debug, thiserror::Error)]
#[error("{fault}")]
pub struct CopyFailure {
    /// Why.
    pub fault: CopyFault,
    /// Finished parts, to be kept in the record and given to the next copy of the same artifact, with a fresh link as well:
    /// they are used if the origin still has the same version of the file. None when nothing was kept; nothing is then left
    /// in the bucket either.
    pub upload: Option<SavedUpload>,
}

impl From<CopyFault> for CopyFailure {
    /// A failure that leaves nothing.
    fn from(fault: CopyFault) -> Self {
        Self { fault, upload: None }
    }
}
