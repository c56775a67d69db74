//! The provider settings: one JSON document, kept as an SSM `SecureString`, read once per cold start and parsed once.
//!
//! ```json
//! {
//!   "version": 1,
//!   "callback": { "keys": ["a long random text"] },
//!   "providers": {
//!     "kling": { "api_key": "…", "signing_secrets": ["whsec_…"] },
//!     "maxapi": { "api_key": "…", "confirm": "never" }
//!   }
//! }
//! ```
//!
//! A provider that is not listed is served with its defaults: callbacks are accepted on its tokens, and it cannot be asked.

use std::collections::BTreeMap;

use serde::Deserialize;
use url::Url;

use crate::Provider;
use crate::redacted::Secret;
use crate::report::Kind;
use crate::token::{CallbackKeys, InvalidCallbackKeys};

/// The whole document.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The keys of callback URLs.
    pub callback_keys: CallbackKeys,
    /// Where providers reach the callback function, without a slash at the end; a custom domain, for example. Without it
    /// the function's own URL is used.
    pub callback_base_url: Option<String>,
    /// One entry per provider that is listed.
    providers: BTreeMap<Provider, ProviderSettings>,
}

/// What is set for one provider.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProviderSettings {
    /// The key for calls to the provider. Without one it can be neither asked nor submitted to.
    pub api_key: Option<Secret>,
    /// Kling's older pair of keys, for accounts without an API key: `access_key` signs nothing and names the account.
    pub access_key: Option<Secret>,
    /// The secret of that pair; signs a short-lived JWT for each call.
    pub secret_key: Option<Secret>,
    /// Secrets that sign callbacks, for the providers that sign: Kling (`whsec_…`), Vidu and KIE. Two are valid at once
    /// during a rotation. With one configured, an unsigned callback is refused.
    pub signing_secrets: Vec<Secret>,
    /// Base URL of the API, without a slash at the end; the adapter's default is used without it.
    pub base_url: Option<String>,
    /// Whether a success that nothing but the URL's token vouches for is confirmed with the provider first.
    pub confirm: Confirm,
    /// Which kinds of files are copied; without it all but a watermarked variant of a video that is there without one.
    pub artifacts: Option<Vec<Kind>>,
    /// Replaces the adapter's own pace of asking.
    pub poll: PollSettings,
}

/// Whether an unsigned success is confirmed by asking the provider before its links are followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confirm {
    /// When an API key is configured. Costs one status call per task, a few hundred milliseconds.
    #[default]
    WhenPossible,
    /// Never. Whoever learns a callback URL can then put a file of their choice into the bucket as that task's result.
    Never,
}

/// Replaces an adapter's pace of asking, each where it is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PollSettings {
    /// Seconds from submission to the first question.
    pub first_seconds: Option<u32>,
    /// Seconds between the first and the second question; later gaps grow.
    pub interval_seconds: Option<u32>,
    /// Longest gap between two questions, in seconds.
    pub longest_interval_seconds: Option<u32>,
    /// Seconds from submission until a task nobody has heard of is closed as lost.
    pub deadline_seconds: Option<u32>,
}

/// Why a settings document is refused. Nothing of its values is in the text.
#[derive(Debug, thiserror::Error)]
pub enum InvalidSettings {
    /// Not JSON, or not of this form.
    #[error("the settings are not valid JSON of version 1: {0}")]
    Json(String),
    /// Another version.
    #[error("the settings have version {0}; this release reads version 1")]
    Version(u64),
    /// A name that is no provider.
    #[error("the settings name a provider {0:?} that does not exist; known are: {known}", known = Provider::names())]
    Provider(String),
    /// A base URL that is none.
    #[error("{field} is not an http or https URL without query")]
    Url {
        /// Where it stands in the document.
        field: String,
    },
    /// The callback keys.
    #[error(transparent)]
    Keys(#[from] InvalidCallbackKeys),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u64,
    callback: Callback,
    #[serde(default)]
    providers: BTreeMap<String, ProviderSettings>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Callback {
    keys: Vec<Secret>,
    #[serde(default)]
    base_url: Option<String>,
}

impl Settings {
    /// Reads and checks the document.
    pub fn parse(json: &str) -> Result<Self, InvalidSettings> {
        // serde_json quotes offending values in some messages ("invalid type: string \"…\""), and every string here may be
        // a secret, so only the position is passed on.
        let document: Document = serde_json::from_str(json).map_err(|error| {
            InvalidSettings::Json(format!(
                "{:?} error at line {} column {}",
                error.classify(),
                error.line(),
                error.column()
            ))
        })?;
        if document.version != 1 {
            return Err(InvalidSettings::Version(document.version));
        }
        let callback_base_url = normalised_base_url("callback.base_url", document.callback.base_url)?;
        let mut providers = BTreeMap::new();
        for (name, mut settings) in document.providers {
            let provider = Provider::from_name(&name).ok_or(InvalidSettings::Provider(name))?;
            settings.base_url = normalised_base_url(&format!("providers.{provider}.base_url"), settings.base_url)?;
            settings.signing_secrets.retain(|secret| !secret.is_empty());
            for key in [&mut settings.api_key, &mut settings.access_key, &mut settings.secret_key] {
                *key = key.take().filter(|key| !key.is_empty());
            }
            providers.insert(provider, settings);
        }
        Ok(Self { callback_keys: CallbackKeys::new(document.callback.keys)?, callback_base_url, providers })
    }

    /// The settings of a provider; the defaults when it is not listed.
    pub fn provider(&self, provider: Provider) -> &ProviderSettings {
        static DEFAULT: std::sync::LazyLock<ProviderSettings> = std::sync::LazyLock::new(ProviderSettings::default);
        self.providers.get(&provider).unwrap_or(&DEFAULT)
    }
}

impl ProviderSettings {
    /// Whether the provider can be asked at all.
    pub fn can_ask(&self) -> bool {
        self.api_key.is_some() || (self.access_key.is_some() && self.secret_key.is_some())
    }
}

fn normalised_base_url(field: &str, text: Option<String>) -> Result<Option<String>, InvalidSettings> {
    let Some(text) = text else { return Ok(None) };
    let acceptable = Url::parse(&text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https") && url.query().is_none() && url.fragment().is_none() && url.has_host()
    });
    if acceptable {
        Ok(Some(text.trim_end_matches('/').to_owned()))
    } else {
        Err(InvalidSettings::Url { field: field.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &str = r#""callback":{"keys":["sixteen-characters"]}"#;

    #[test]
    fn a_small_document_has_defaults() {
        let settings = Settings::parse(&format!(r#"{{"version":1,{KEYS}}}"#)).expect("it is valid");
        assert!(!settings.provider(Provider::Kling).can_ask());
        assert_eq!(settings.provider(Provider::Kling).confirm, Confirm::WhenPossible);
    }

    #[test]
    fn empty_secrets_count_as_none() {
        let json = format!(
            r#"{{"version":1,{KEYS},"providers":{{"kling":{{"api_key":"","signing_secrets":[""],"base_url":"http://127.0.0.1:9/kling/"}}}}}}"#
        );
        let settings = Settings::parse(&json).expect("it is valid");
        let kling = settings.provider(Provider::Kling);
        assert!(!kling.can_ask());
        assert!(kling.signing_secrets.is_empty());
        assert_eq!(kling.base_url.as_deref(), Some("http://127.0.0.1:9/kling"));
    }

    #[test]
    fn mistakes_are_named_and_secrets_are_not() {
        for (json, expected) in [
            (r#"{"version":2,"callback":{"keys":["sixteen-characters"]}}"#.to_owned(), "version 2"),
            (format!(r#"{{"version":1,{KEYS},"providers":{{"klling":{{}}}}}}"#), "\"klling\""),
            (format!(r#"{{"version":1,{KEYS},"providers":{{"kling":{{"api_key":["s3cret"]}}}}}}"#), "line 1"),
            (
                format!(r#"{{"version":1,{KEYS},"providers":{{"kling":{{"base_url":"ftp://s3cret"}}}}}}"#),
                "kling.base_url",
            ),
            (r#"{"version":1,"callback":{"keys":["s3cret"]}}"#.to_owned(), "at least 16"),
        ] {
            let error = Settings::parse(&json).expect_err("it is not valid").to_string();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
