//! Why a copy was not finished.

use reelhook_core::copy_plan::SavedUpload;
use reelhook_core::result::Checksum;

use crate::download::{FetchError, Refusal, Trouble};

/// A copy that was not finished, and what of it can be gone on with.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Unfinished {
    /// Why.
    pub error: CopyError,
    /// Finished parts, to be kept in the record and given to the next copy of the same artifact, with a fresh link as well:
    /// they are used if the origin still has the same version of the file. None when nothing was kept; nothing is then left
    /// in the bucket either.
    pub upload: Option<SavedUpload>,
}

/// Why a copy was not finished. The texts hold no query and no words of the origin.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The origin says that there is no such file, or not for us (401, 403, 404, 410, …). Within minutes of the report that
    /// is "not there yet"; for an old link it is "no longer".
    #[error("the origin answered with status {status}: the file is not there yet, or not any more")]
    NotThere {
        /// HTTP status.
        status: u16,
    },
    /// What came is no media, or no video where one should be: an error page, mostly. As [`Self::NotThere`], it can be "not yet" or "no longer".
    #[error("the origin sent {looks_like} instead of the file")]
    NotMedia {
        /// What it looks like.
        looks_like: LooksLike,
    },
    /// The file says that it is longer than the origin's length: the origin itself has only a part of it, perhaps not yet all.
    #[error("the origin has {bytes} bytes of a file that says it has {claimed}")]
    CutOff {
        /// What the file says.
        claimed: u64,
        /// What there is.
        bytes: u64,
    },
    /// The link is not followed, or the file is not taken. Trying again at once gives the same.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The origin has trouble that may pass; it was tried several times.
    #[error("{trouble}")]
    Origin {
        /// What trouble.
        trouble: Trouble,
        /// Seconds after which it wants to be asked again.
        retry_after: Option<u32>,
    },
    /// The bucket has trouble; it was tried several times.
    #[error("{operation} failed: {reason}")]
    Storage {
        /// S3's name of the call.
        operation: &'static str,
        /// S3's name of the error, or what kept us from asking.
        reason: String,
    },
    /// Another file stands in its place. It is left alone.
    #[error(transparent)]
    Different(#[from] Box<Difference>),
    /// The invocation is about to end.
    #[error("the invocation is about to end")]
    OutOfTime,
}

impl CopyError {
    /// Whether another try, with this link or a fresh one, can end in the same file.
    pub(super) fn another_try_can_help(&self) -> bool {
        match self {
            Self::NotThere { .. } | Self::Origin { .. } | Self::Storage { .. } | Self::OutOfTime => true,
            Self::NotMedia { .. } | Self::CutOff { .. } | Self::Refused(_) | Self::Different(_) => false,
        }
    }
}

/// Two files that claim one place.
#[derive(Debug, thiserror::Error)]
#[error("{key} is in the bucket with other contents ({standing_bytes} bytes instead of {bytes})")]
pub struct Difference {
    /// The key of both.
    pub key: String,
    /// The length of what stands there.
    pub standing_bytes: u64,
    /// The checksum of what stands there.
    pub standing_checksum: Checksum,
    /// The length of what was to be written.
    pub bytes: u64,
    /// The checksum of what was to be written.
    pub checksum: Checksum,
}

impl From<FetchError> for CopyError {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Refused(refusal) => Self::Refused(refusal),
            FetchError::Trouble(trouble) => Self::Origin { trouble, retry_after: None },
        }
    }
}

/// What bytes look like that are no media. Their text is not kept: error pages quote signed links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LooksLike {
    /// Nothing at all.
    Nothing,
    /// HTML.
    Html,
    /// XML, as object stores give it.
    Xml,
    /// JSON.
    Json,
    /// Some other text.
    Text,
    /// Compressed bytes.
    Compressed,
    /// A picture where a video should be.
    StillImage,
    /// None of these.
    Unknown,
}

impl LooksLike {
    /// Judges by the first bytes.
    pub(super) fn of(beginning: &[u8]) -> Self {
        let text = beginning.strip_prefix(b"\xef\xbb\xbf").unwrap_or(beginning).trim_ascii_start();
        let lower = text.get(..text.len().min(9)).unwrap_or_default().to_ascii_lowercase();
        if beginning.is_empty() {
            Self::Nothing
        } else if beginning.starts_with(&[0x1f, 0x8b]) {
            Self::Compressed
        } else if lower.starts_with(b"<!doctype") || lower.starts_with(b"<html") {
            Self::Html
        } else if lower.starts_with(b"<") {
            Self::Xml
        } else if lower.starts_with(b"{") || lower.starts_with(b"[") {
            Self::Json
        } else if text.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) {
            Self::Text
        } else {
            Self::Unknown
        }
    }
}

impl std::fmt::Display for LooksLike {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Nothing => "an empty file",
            Self::Html => "HTML",
            Self::Xml => "XML",
            Self::Json => "JSON",
            Self::Text => "text",
            Self::Compressed => "compressed bytes",
            Self::StillImage => "a still image",
            Self::Unknown => "bytes of no known format",
        })
    }
}
