//! Values that must never reach a log. Their `Debug` and `Display` hide the part that gives access; the real text has to be
//! asked for by name, which is easy to search for and hard to do by accident.

use std::fmt;

use serde::{Deserialize, Serialize};
use url::Url;

/// A secret: an API key, a signing secret, a token. Prints as `[secret]`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes a secret in.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself. For signing and for request headers only.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is nothing in it: an empty setting counts as none.
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

/// A link to a result. Whoever holds all of it can fetch the video, so it prints without query, fragment and credentials.
///
/// It is stored whole in the record (`Serialize`), because a worker has to fetch it later.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SignedUrl(String);

impl SignedUrl {
    /// Takes a link in, exactly as the provider wrote it. It is not checked here: what may be fetched is decided where it
    /// is fetched.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The whole link. For fetching it only.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The link without query, fragment, user name and password: enough to recognise the file, not enough to fetch it.
    pub fn without_query(&self) -> String {
        match Url::parse(&self.0) {
            Ok(mut url) => {
                url.set_query(None);
                url.set_fragment(None);
                // Fails only for URLs that cannot carry credentials in the first place.
                let _ = url.set_username("");
                let _ = url.set_password(None);
                url.into()
            }
            Err(_) => "[unreadable link]".to_owned(),
        }
    }

    /// The host of the link, for logs and settings.
    pub fn host(&self) -> Option<String> {
        Url::parse(&self.0).ok()?.host_str().map(str::to_owned)
    }
}

impl fmt::Debug for SignedUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.without_query())
    }
}

impl fmt::Display for SignedUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.without_query())
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
        assert_eq!(format!("{url} {url:?}"), "https://cdn.example.com/a.mp4 https://cdn.example.com/a.mp4");
        assert_eq!(url.expose(), "https://user:pass@cdn.example.com/a.mp4?X-Amz-Signature=s#f");
    }

    #[test]
    fn an_unreadable_link_is_not_printed_either() {
        assert_eq!(SignedUrl::new("secret?token").to_string(), "[unreadable link]");
    }
}
