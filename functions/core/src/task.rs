//! Names of tasks. The task key `{provider}/{id}` identifies a task in the table, the bucket, messages and logs.

use std::fmt;
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};

use crate::provider::Provider;

/// Percent-encoded in a key: everything but `[A-Za-z0-9._-]`.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'_').remove(b'-');

/// Longest encoded id in bytes. An S3 key has at most 1024 bytes, including `tasks/`, the provider and the file name. The
/// longest provider ids seen have about 300 characters.
const MAX_ENCODED_ID: usize = 768;

/// Characters of an over-long id that are kept in front of its hash. Chosen freely: enough to recognise the id.
const KEPT_OF_LONG_ID: usize = 512;

/// The caller's own name for a task: `[A-Za-z0-9._-]{1,128}`, and not `-`, `.` or `..`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TaskId(String);

/// The text is not a [`TaskId`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "a task id is 1 to 128 characters of A-Z, a-z, 0-9, dot, underscore and hyphen, and not \"-\", \".\" or \"..\""
)]
pub struct InvalidTaskId;

impl TaskId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TaskId {
    type Err = InvalidTaskId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        // "-" is the id of the static callback URL; HTTP clients remove dot segments from paths.
        let reserved = matches!(text, "-" | "." | "..");
        if (1..=128).contains(&text.len()) && text.bytes().all(allowed) && !reserved {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidTaskId)
        }
    }
}

/// The key of a task, `{provider}/{id}`, with the id percent-encoded.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskKey {
    provider: Provider,
    /// Percent-encoded: only `[A-Za-z0-9._~%-]`.
    id: String,
}

/// The text is not a [`TaskKey`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a task key: {0:?} (expected \"provider/id\" with an encoded id)")]
pub struct InvalidTaskKey(String);

impl TaskKey {
    /// The key of a task that was registered under the caller's own id.
    pub fn registered(provider: Provider, id: &TaskId) -> Self {
        Self { provider, id: id.0.clone() }
    }

    /// The key of an unregistered task, made of the provider's id, whatever characters that has. An id whose encoding does
    /// not fit into an S3 key is cut and followed by `~`, which no encoded id contains, and its SHA-256.
    pub fn unregistered(provider: Provider, provider_task_id: &str) -> Self {
        let mut id = utf8_percent_encode(provider_task_id, ENCODED).to_string();
        if matches!(id.as_str(), "-" | "." | "..") {
            // Reserved, as for a `TaskId`.
            id = id.bytes().fold(String::new(), |encoded, byte| format!("{encoded}%{byte:02X}"));
        }
        if id.len() > MAX_ENCODED_ID {
            let hash = Sha256::digest(provider_task_id.as_bytes());
            id.truncate(KEPT_OF_LONG_ID);
            id.push('~');
            id.push_str(&hex::encode(hash));
        }
        Self { provider, id }
    }

    /// The key of the item that says which task a provider task belongs to. No task has a `~` after such a short beginning.
    pub fn of_provider_task(provider: Provider, provider_task_id: &str) -> Self {
        Self { provider, id: format!("id~{}", hex::encode(Sha256::digest(provider_task_id.as_bytes()))) }
    }

    /// Whether this is the key that a task nobody registered has by its provider task id.
    pub fn is_named_after(&self, provider_task_id: &str) -> bool {
        *self == Self::unregistered(self.provider, provider_task_id)
    }

    /// The key of an authentic body that names no task, which is kept for an operator. The same body always has the same
    /// key.
    pub fn unattributed(provider: Provider, body: &[u8]) -> Self {
        let hash = hex::encode(Sha256::digest(body));
        Self { provider, id: format!("unattributed~{}", &hash[..32]) }
    }

    /// The provider.
    pub fn provider(&self) -> Provider {
        self.provider
    }

    /// The percent-encoded id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The S3 prefix of the task's files, with a trailing slash.
    pub fn prefix(&self) -> String {
        format!("tasks/{self}/")
    }
}

impl fmt::Display for TaskKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.provider, self.id)
    }
}

impl fmt::Debug for TaskKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for TaskKey {
    type Err = InvalidTaskKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidTaskKey(text.chars().take(200).collect());
        let (provider, id) = text.split_once('/').ok_or_else(invalid)?;
        let provider = Provider::from_name(provider).ok_or_else(invalid)?;
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'~' | b'%');
        if id.is_empty() || id.len() > MAX_ENCODED_ID || !id.bytes().all(allowed) {
            return Err(invalid());
        }
        Ok(Self { provider, id: id.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caller_ids_are_restricted() {
        for good in ["a", "job-1", "A.b_c-9", &"x".repeat(128)] {
            assert!(good.parse::<TaskId>().is_ok(), "{good}");
        }
        for bad in ["", "-", ".", "..", "a/b", "a b", "ä", "a%2F", &"x".repeat(129)] {
            assert_eq!(bad.parse::<TaskId>(), Err(InvalidTaskId), "{bad}");
        }
    }

    #[test]
    fn provider_ids_are_encoded_and_never_collide_with_the_static_url() {
        let key = TaskKey::unregistered(Provider::Kling, "CjikY2gHPbcAAAAAB+Pl/A==");
        assert_eq!(key.to_string(), "kling/CjikY2gHPbcAAAAAB%2BPl%2FA%3D%3D");
        assert_eq!(key.prefix(), "tasks/kling/CjikY2gHPbcAAAAAB%2BPl%2FA%3D%3D/");
        assert_eq!(key.to_string().parse(), Ok(key));
        assert_eq!(TaskKey::unregistered(Provider::Kling, "-").to_string(), "kling/%2D");
        assert_eq!(TaskKey::unregistered(Provider::Kling, "..").to_string(), "kling/%2E%2E");
    }

    #[test]
    fn very_long_ids_stay_distinct_and_fit_into_an_s3_key() {
        let one = TaskKey::unregistered(Provider::Kling, &"ü".repeat(300));
        let two = TaskKey::unregistered(Provider::Kling, &("ü".repeat(299) + "u"));
        assert_ne!(one, two);
        assert!(one.prefix().len() < 900);
        assert_eq!(one.to_string().parse(), Ok(one));
    }
}
