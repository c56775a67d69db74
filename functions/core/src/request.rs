//! The request of a callback, and what verifying it can result in.

use std::time::Duration;

use crate::redacted::Secret;

/// Largest body of a callback that is accepted, in bytes. The largest documented one is Vidu's, which echoes up to 1,048,576
/// characters of the caller's own `payload`.
pub const MAX_BODY: usize = 2 * 1024 * 1024;

/// How far the time in a signature may be off, either way. 300 s in Standard Webhooks' reference libraries and in Kling's
/// documentation. KIE and Vidu document no replay window and get the same.
pub const TOLERANCE: Duration = Duration::from_mins(5);

/// Request headers. Names are compared without case.
#[derive(Clone, Debug, Default)]
pub struct Headers(Vec<(String, Secret)>);

impl Headers {
    /// Headers with names in any case.
    pub fn new<'a>(headers: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self(headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), Secret::new(value))).collect())
    }

    /// The first value of a header.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value.expose())
    }

    /// The first value of a header that has to be present.
    pub fn required(&self, name: &'static str) -> Result<&str, Refusal> {
        self.get(name).ok_or(Refusal::Missing(name))
    }
}

/// The request of a callback, always a POST. Its `Debug` output omits the path, which contains the token.
#[derive(Clone)]
pub struct CallbackRequest<'a> {
    /// The path as it was sent, percent-encoded.
    pub path: &'a str,
    /// The query as it was sent, without `?`.
    pub query: &'a str,
    /// The headers.
    pub headers: Headers,
    /// The body as it was sent, base64-decoded if the Function URL encoded it.
    pub body: &'a [u8],
}

impl std::fmt::Debug for CallbackRequest<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "[callback of {} bytes]", self.body.len())
    }
}

/// What authenticates a callback in addition to the token in its URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authenticity {
    /// A valid signature over the body.
    SignedBody,
    /// A valid signature that proves the sender only: it leaves the body out, or may be about another customer's task.
    SignedSender,
    /// Nothing: the provider signs its callbacks, but no secret is configured to verify it.
    Unverified,
    /// Nothing: the provider does not sign its callbacks.
    Unsigned,
}

/// Why a callback is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refusal {
    /// The token is not valid for this provider and id.
    #[error("the token in the URL is wrong")]
    WrongToken,
    /// A required header is missing. With a secret configured, omitting the headers must not bypass verification.
    #[error("the header {0} is missing")]
    Missing(&'static str),
    /// A header does not have the expected format.
    #[error("the header {0} is malformed")]
    Malformed(&'static str),
    /// The signature does not match any of the configured secrets.
    #[error("the signature is wrong")]
    WrongSignature,
    /// The signature fits none of the known public keys. The provider may have published new ones.
    #[error("the signature is wrong, or its public key is not known yet")]
    UnknownKey,
    /// The signature is the provider's, and about another account of it than ours.
    #[error("the signature is about another account than account_id in the settings")]
    OtherAccount,
    /// The signature is older than [`TOLERANCE`].
    #[error("the signature is {} s old; at most {} s are accepted", age.as_secs(), TOLERANCE.as_secs())]
    Stale {
        /// How old it is.
        age: Duration,
    },
    /// The signature is dated more than [`TOLERANCE`] ahead: one of the two clocks is wrong.
    #[error("the signature is dated {} s ahead; at most {} s are accepted", ahead.as_secs(), TOLERANCE.as_secs())]
    FromTheFuture {
        /// How far ahead it is.
        ahead: Duration,
    },
    /// The body names different tasks in its id fields, of which a signature can cover only one.
    #[error("the body names two different tasks")]
    TwoTasks,
    /// A configured secret is unusable. The fault is in the settings and may be fixed while the provider retries, so this one
    /// is a 5xx.
    #[error("a signing secret in the settings is empty or not in the provider's format")]
    UnusableSecret,
}

impl Refusal {
    /// Whether the fault is on this side, so that a retry may succeed.
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::UnusableSecret)
    }
}
