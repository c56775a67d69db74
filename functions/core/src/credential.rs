//! The API key for downloads: some providers serve results only from their own API. A link comes from a callback or a response, so the
//! key is sent to the provider's own hosts only, wherever a link or a redirect leads.

use url::{Origin, Url};

use crate::provider::Provider;
use crate::redacted::Secret;
use crate::settings::ProviderSettings;

/// A header with an API key, and the origins it may be sent to.
#[derive(Clone, Debug)]
pub struct Credential {
    header: &'static str,
    value: Secret,
    origins: Vec<Origin>,
}

impl Credential {
    /// What the downloads of a provider's files carry. None where its files need nothing, or there is no key.
    pub fn of(provider: Provider, settings: &ProviderSettings) -> Option<Self> {
        let adapter = provider.adapter();
        let (header, value) = adapter.download_header(settings)?;
        // Behind another base URL the key is for whoever is there, and not for the provider.
        Some(Self::new(header, value, settings.base_url.as_deref().or(adapter.profile().default_base_url)))
    }

    /// A header for the origins of these URLs. What is not a URL is ignored.
    pub fn new<'a>(header: &'static str, value: Secret, urls: impl IntoIterator<Item = &'a str>) -> Self {
        let origins = urls.into_iter().filter_map(|url| Some(Url::parse(url).ok()?.origin())).collect();
        Self { header, value, origins }
    }

    /// Name and value of the header for a request to this URL: none for another scheme, host or port than the API's.
    pub fn header_for(&self, url: &Url) -> Option<(&'static str, &Secret)> {
        self.origins.contains(&url.origin()).then_some((self.header, &self.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_goes_to_the_api_and_nowhere_else() {
        let credential = Credential::new("authorization", Secret::new("s3cret"), ["https://api.example.com/v1"]);
        for (url, is_sent) in [
            ("https://api.example.com/v1/files/1", true),
            ("https://API.example.com:443/other", true),
            ("http://api.example.com/v1/files/1", false),
            ("https://api.example.com:8443/v1/files/1", false),
            ("https://api.example.com.evil.test/v1/files/1", false),
            ("https://api.example.com@evil.test/v1/files/1", false),
            ("https://evil.test/?https://api.example.com/", false),
            ("https://example.com/", false),
            ("data:text/plain,api.example.com", false),
        ] {
            let url = Url::parse(url).expect("a URL");
            assert_eq!(credential.header_for(&url).is_some(), is_sent, "{url}");
        }
        assert!(!format!("{credential:?}").contains("s3cret"), "{credential:?}");
    }
}
