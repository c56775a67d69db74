//! A callback's request as it comes, and what checking its signature can come to.

use crate::redacted::Secret;

/// Largest body of a callback, in bytes. The largest documented one is Vidu's, which echoes up to 1,048,576 characters of the
/// caller's own `payload`.
pub const LARGEST_BODY: usize = 2 * 1024 * 1024;

/// Request headers. Names are compared without case.
#[derive(Clone, Debug, Default)]
pub struct Headers(Vec<(String, Secret)>);

impl Headers {
    /// Takes headers in, in any case.
    pub fn new<'a>(headers: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self(headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), Secret::new(value))).collect())
    }

    /// The first value under a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value.expose())
    }

    /// The first value under a name, or the refusal that it is missing.
    pub fn required(&self, name: &'static str) -> Result<&str, Refusal> {
        self.get(name).ok_or(Refusal::Missing(name))
    }
}

/// A callback request, as far as anything may depend on it. The method is POST. Prints without its path, which holds the
/// token.
#[derive(Clone)]
pub struct CallbackRequest<'a> {
    /// The path as it was sent, still encoded.
    pub path: &'a str,
    /// The query as it was sent, without `?`.
    pub query: &'a str,
    /// The headers.
    pub headers: Headers,
    /// The body as it was sent, base64 undone.
    pub body: &'a [u8],
}

impl std::fmt::Debug for CallbackRequest<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "[callback of {} bytes]", self.body.len())
    }
}

/// What vouches for a callback beyond the token in its URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authenticity {
    /// A valid signature over the body.
    SignedBody,
    /// A valid signature that does not cover the body: the sender is right, the content may not be.
    SignedSender,
    /// Nothing: the provider does not sign, or no secret is configured.
    Unsigned,
}

/// Why a request is not believed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refusal {
    /// The token is not that of this URL.
    #[error("the token in the URL is wrong")]
    WrongToken,
    /// A header that has to be there is not. With a secret configured, leaving headers away must not open the door.
    #[error("the header {0} is missing")]
    Missing(&'static str),
    /// A header cannot be read.
    #[error("the header {0} is malformed")]
    Malformed(&'static str),
    /// The signature is not by any of the configured secrets.
    #[error("the signature is wrong")]
    WrongSignature,
    /// The signature is too old or from the future.
    #[error("the signature is {seconds} s old; at most 300 s either way are accepted")]
    Stale {
        /// Age in seconds; negative when it comes from the future.
        seconds: i64,
    },
    /// A configured secret cannot be used. This is our own mistake and may be mended while the provider retries, so unlike
    /// all others it is answered with a 5xx.
    #[error("a signing secret in the settings cannot be used")]
    UnusableSecret,
}

impl Refusal {
    /// Whether the fault is ours and a retry may succeed.
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::UnusableSecret)
    }
}
