//! Values that must never reach a log. Their `Debug` and `Display` hide the part that grants access. Only `expose` returns it,
//! which is easy to search for and hard to call by accident.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use url::Url;

/// A secret: an API key, a signing secret, a token. Prints as `[secret]`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for signing and for request headers only.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether the secret is empty; an empty setting counts as missing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[secret]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[secret]")
    }
}

/// A link to a result. Whoever has it can fetch the file, some providers' links without any signature, so it prints as its
/// origin with a short hash of the whole link: `https://cdn.example.com/…#1a2b3c4d`. The same link always prints the same.
///
/// It is serialised in full, because the record needs it for a later copy.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SignedUrl(String);

impl SignedUrl {
    /// Wraps a link exactly as the provider wrote it. It is not validated here; the copier decides what it may fetch.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The whole link, for fetching it only.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The host of the link.
    pub fn host(&self) -> Option<String> {
        Url::parse(&self.0).ok()?.host_str().map(str::to_owned)
    }
}

impl fmt::Debug for SignedUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl fmt::Display for SignedUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = Url::parse(&self.0).ok().map(|url| url.origin()).filter(url::Origin::is_tuple);
        let origin = origin.map_or_else(|| "[invalid link]".to_owned(), |origin| origin.ascii_serialization() + "/…");
        let hash = hex::encode(Sha256::digest(&self.0));
        write!(formatter, "{origin}#{}", &hash[..8])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_is_printed() {
        let secret = Secret::new("whsec_abc");
        assert_eq!(format!("{secret} {secret:?}"), "[secret] [secret]");

        let url = SignedUrl::new("https://user:pass@cdn.example.com/a.mp4?X-Amz-Signature=s#f");
        assert_eq!(format!("{url} {url:?}"), "https://cdn.example.com/…#9dccfc57 https://cdn.example.com/…#9dccfc57");
        assert_eq!(url.expose(), "https://user:pass@cdn.example.com/a.mp4?X-Amz-Signature=s#f");
    }

    /// The path of an unsigned link once was printed, and with it whoever reads the logs can fetch the video.
    #[test]
    fn the_path_of_a_link_is_not_printed() {
        for (link, printed) in [
            ("https://tempfile.example.com:8443/k/1f2e3d/v.mp4", "https://tempfile.example.com:8443/…#91d9c83d"),
            ("https://tempfile.example.com:8443/k/1f2e3d/w.mp4", "https://tempfile.example.com:8443/…#b2b3fbbc"),
            ("secret?token", "[invalid link]#40576ad9"),
            ("data:secret", "[invalid link]#0020b1b5"),
        ] {
            assert_eq!(SignedUrl::new(link).to_string(), printed);
        }
    }
}
