//! Everything that can keep a file from being copied. The texts go into the record and the log: they hold no query of a link
//! and no words of an origin.

use std::time::Duration;

use super::media::LooksLike;
use crate::result::{Checksum, StoredArtifact};

/// Redirects that are followed. Links that go through a download page and a CDN have two; five is what curl's manual gives as
/// an example and half of what browsers take.
pub const MAX_REDIRECTS: usize = 5;

/// Why a file was not copied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CopyFault {
    /// The origin gave no file.
    #[error(transparent)]
    Origin(#[from] OriginFault),
    /// The link is not followed.
    #[error(transparent)]
    Blocked(#[from] BlockedLink),
    /// The provider named a file by its id and gave no link for it.
    #[error("the provider gave no link for its file")]
    NoLink,
    /// The bytes are no media, or a picture where a video belongs: an error page, mostly.
    #[error("the origin sent {looks_like} instead of the file")]
    NotMedia {
        /// What they look like.
        looks_like: LooksLike,
    },
    /// The file claims to be longer than the origin says: the origin itself has only a part of it, perhaps not yet all.
    #[error("the origin has {bytes} bytes of a file that says it has {claimed}")]
    CutOff {
        /// Length in bytes by the file's own boxes.
        claimed: u64,
        /// Length in bytes at the origin.
        bytes: u64,
    },
    /// The body ends where the connection does, and nothing in the file says how long it is, so that a cut-off file cannot be
    /// told from a whole one.
    #[error("the origin does not say how long the file is, and neither does the file")]
    UnknownEnd,
    /// The file is longer than [`MAX_FILE_BYTES`](super::retry::MAX_FILE_BYTES) or another limit.
    #[error("the file is larger than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The bucket failed, after several attempts.
    #[error("{operation} failed: {reason}")]
    Storage {
        /// S3's name of the call.
        operation: &'static str,
        /// S3's name of the error, or why there was no response.
        reason: String,
    },
    /// Another file exists under its key that does not give way to it. It is left alone.
    #[error(transparent)]
    Conflict(#[from] Box<Difference>),
    /// The invocation is about to end.
    #[error("the invocation is about to end")]
    OutOfTime,
    /// The same, before any of the file was read in this round: its turn came late, because others were slow, or the origin was still
    /// to respond.
    #[error("the invocation is about to end, and nothing of the file was read")]
    NotBegun,
}

/// Why an origin gave nothing to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OriginFault {
    /// The name was not resolved.
    #[error("the origin's name could not be resolved")]
    Name,
    /// No connection.
    #[error("the origin could not be connected to")]
    Connect,
    /// The certificate is not trusted.
    #[error("the origin's certificate is not accepted")]
    Certificate,
    /// No status line in time.
    #[error("the origin did not respond in time")]
    Silent,
    /// No bytes for too long.
    #[error("the origin stopped sending")]
    Stalled,
    /// The connection broke.
    #[error("the connection broke off")]
    Dropped,
    /// The file was a different one each time.
    #[error("the file changed while it was read")]
    Changing,
    /// The origin is overloaded or down (408, 425, 429, 5xx).
    #[error("the origin responded with status {status}")]
    Status {
        /// HTTP status.
        status: u16,
        /// `Retry-After`, as long as the origin made it.
        retry_after: Option<Duration>,
    },
    /// There is no such file, or not for us (401, 403, 404, 410, …): not yet, or no longer. The age of the link decides
    /// which, not the status: object stores respond with 403 to a signature that ran out as well as to a file that does not exist
    /// yet.
    #[error("the origin responded with status {status}: the file is not there yet, no longer there, or not for us")]
    NotThere {
        /// HTTP status.
        status: u16,
    },
    /// The body is compressed although it was requested as it is: neither its length nor its bytes are the file's.
    #[error("the origin sends the file in a content coding that was not requested")]
    Encoded,
    /// A response that makes no sense here.
    #[error("the origin responded with status {status}")]
    Unexpected {
        /// HTTP status.
        status: u16,
    },
}

impl OriginFault {
    /// What a status without a file means. Redirects are followed before this.
    pub fn of_status(status: u16, retry_after: Option<Duration>) -> Self {
        match status {
            // 202: being made. 451 and 402: withheld; no different to us.
            202 | 401 | 402 | 403 | 404 | 410 | 451 => Self::NotThere { status },
            408 | 425 | 429 | 500..=599 => Self::Status { status, retry_after },
            _ => Self::Unexpected { status },
        }
    }
}

/// Why a link is not followed. Trying again at once gives the same; another link may not, or the same one another day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockedLink {
    /// It is not a URL with a host.
    #[error("the link cannot be read")]
    Unreadable,
    /// Neither https nor an allowed origin.
    #[error("the link is not https")]
    Scheme,
    /// It leads to an address that is not public.
    #[error("the link leads to an address that is not public")]
    Address,
    /// More redirects than are followed, or a loop of them.
    #[error("the link is redirected more than {MAX_REDIRECTS} times")]
    Redirects,
    /// A redirect that does not say where to.
    #[error("the link is redirected to nowhere")]
    RedirectTarget,
}

/// Two files that claim one place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} is in the bucket with other contents ({} bytes instead of {bytes})", .existing.key, .existing.bytes)]
pub struct Difference {
    /// What is in the bucket.
    pub existing: StoredArtifact,
    /// Length in bytes of what was to be written.
    pub bytes: u64,
    /// Checksum of what was to be written.
    pub checksum: Checksum,
}
