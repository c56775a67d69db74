//! The provider settings: one JSON document in a secret of Secrets Manager, read and parsed once per cold start.
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
//! A provider that is not listed has the defaults: its callbacks are accepted by their token, and it cannot be polled.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use url::Url;

use crate::provider::Provider;
use crate::redacted::Secret;
use crate::report::Kind;
use crate::token::{CallbackKeys, InvalidCallbackKeys};

/// The parsed document.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The keys that sign callback URLs.
    pub callback_keys: CallbackKeys,
    /// Base URL of the callback function, such as a custom domain, without a trailing slash. The default is the function's
    /// own URL.
    pub callback_base_url: Option<String>,
    /// The listed providers.
    providers: BTreeMap<Provider, ProviderSettings>,
}

/// The settings of one provider.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProviderSettings {
    /// The API key. Without one the provider can be neither polled nor submitted to.
    pub api_key: Option<Secret>,
    /// Kling's older key pair, for accounts without an API key: `access_key` identifies the account.
    pub access_key: Option<Secret>,
    /// The secret of that pair, which signs a short-lived JWT for each call.
    pub secret_key: Option<Secret>,
    /// Secrets that sign callbacks, for Kling (`whsec_…`), Vidu and KIE. All of them are accepted, for rotation. With one
    /// configured, an unsigned callback is refused.
    pub signing_secrets: Vec<Secret>,
    /// Base URL of the API, without a trailing slash. The default is the adapter's.
    pub base_url: Option<String>,
    /// Whether a callback that only the token in its URL authenticates is confirmed by a status poll first.
    pub confirm: Confirm,
    /// The kinds of files to copy. The default is all, except a watermarked video when there is one without.
    pub artifacts: Option<Vec<Kind>>,
    /// Overrides the adapter's poll schedule and deadline.
    pub poll: PollSettings,
}

/// Whether an unsigned callback is confirmed by a status poll before it is acted on. What each choice means for each proof:
/// [`crate::callback::proof::Proof::belief`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confirm {
    /// If an API key is configured. Costs one status request per task, a few hundred milliseconds.
    #[default]
    WhenPossible,
    /// Never. Anybody who learns a callback URL can then store a file of their choice as the result of that task. Without an API
    /// key it also acts on callbacks whose signature leaves the body out, which nobody can confirm.
    Never,
}

/// Overrides of an adapter's poll schedule and deadline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PollSettings {
    /// From submission to the first status poll.
    #[serde(rename = "first_seconds", deserialize_with = "seconds")]
    pub first: Option<Duration>,
    /// Between the first and the second status poll; later delays grow.
    #[serde(rename = "interval_seconds", deserialize_with = "seconds")]
    pub interval: Option<Duration>,
    /// Longest delay between two status polls.
    #[serde(rename = "max_interval_seconds", deserialize_with = "seconds")]
    pub max_interval: Option<Duration>,
    /// From submission until a task without a final report is closed as lost.
    #[serde(rename = "deadline_seconds", deserialize_with = "seconds")]
    pub deadline: Option<Duration>,
}

/// Whole seconds; 0 counts as 1.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    Ok(Option::<u32>::deserialize(deserializer)?.map(|seconds| Duration::from_secs(seconds.max(1).into())))
}

/// Why a settings document is rejected. The texts contain none of its values, because they may be secrets.
#[derive(Debug, thiserror::Error)]
pub enum InvalidSettings {
    /// Not JSON, or not in this format.
    #[error("the settings are not valid, fix the document: {0}")]
    Json(String),
    /// An unknown version.
    #[error("the settings have version {0}; set \"version\" to 1, the only one this release reads")]
    Version(u64),
    /// The name of a provider that does not exist.
    #[error("unknown provider {0:?} in the settings; use one of {known}", known = Provider::names())]
    Provider(String),
    /// Not a base URL.
    #[error("{field} has to be an http or https URL without query and fragment")]
    Url {
        /// The field of the document.
        field: String,
    },
    /// Unusable callback keys.
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
    /// Parses and validates the document.
    pub fn parse(json: &str) -> Result<Self, InvalidSettings> {
        // serde_json quotes values in some messages ("invalid type: string \"…\""), and every string here may be a secret, so
        // only the position is reported.
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

    /// The settings of a provider, the defaults if it is not listed.
    pub fn provider(&self, provider: Provider) -> &ProviderSettings {
        static DEFAULT: std::sync::LazyLock<ProviderSettings> = std::sync::LazyLock::new(ProviderSettings::default);
        self.providers.get(&provider).unwrap_or(&DEFAULT)
    }
}

impl ProviderSettings {
    /// Whether there are credentials for calls to the provider.
    pub fn has_credentials(&self) -> bool {
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
        let settings = Settings::parse(&format!(r#"{{"version":1,{KEYS}}}"#)).expect("valid settings");
        assert!(!settings.provider(Provider::Kling).has_credentials());
        assert_eq!(settings.provider(Provider::Kling).confirm, Confirm::WhenPossible);
    }

    #[test]
    fn empty_secrets_count_as_missing() {
        let json = format!(
            r#"{{"version":1,{KEYS},"providers":{{"kling":{{"api_key":"","signing_secrets":[""],"base_url":"http://127.0.0.1:9/kling/"}}}}}}"#
        );
        let settings = Settings::parse(&json).expect("valid settings");
        let kling = settings.provider(Provider::Kling);
        assert!(!kling.has_credentials());
        assert!(kling.signing_secrets.is_empty());
        assert_eq!(kling.base_url.as_deref(), Some("http://127.0.0.1:9/kling"));
    }

    #[test]
    fn mistakes_are_reported_without_secrets() {
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
            let error = Settings::parse(&json).expect_err("invalid settings").to_string();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
