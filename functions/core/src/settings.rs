//! The provider settings: one JSON document in a secret of Secrets Manager, read and parsed once per cold start.
//!
//! ```json
//! {
//!   "version": 1,
//!   "callback": { "keys": ["…"] },
//!   "providers": {
//!     "kling": { "api_key": "…", "signing_secrets": ["whsec_…"] },
//!     "maxapi": { "api_key": "…", "confirm": "never" }
//!   }
//! }
//! ```
//!
//! `infra/settings.schema.json` describes it for editors and for `cargo run -- settings check`; what only code can say is said
//! here.
//!
//! A provider that is not listed has the defaults: its callbacks are accepted by their token, and it cannot be polled.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use url::{Host, Url};

use crate::key_set::PublicKey;
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
    /// Secrets that sign callbacks, of providers that sign with one. All of them are accepted, for rotation. With one configured, an
    /// unsigned callback is refused.
    pub signing_secrets: Vec<Secret>,
    /// Our account at a provider whose key signs for all of its customers: fal's user id. Without it, such a signature proves the
    /// sender and not that it is about a task of ours, which a status poll then has to confirm. At Runway, the user for whom an
    /// account acts, sent with every call; some accounts are refused without it.
    pub account_id: Option<String>,
    /// Public keys that verify a provider's callbacks, so that they need not be fetched. If none fits, those that it publishes are
    /// fetched.
    pub public_keys: Vec<PublicKey>,
    /// Where the provider publishes such keys. The default is the adapter's.
    pub key_set_url: Option<String>,
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
    /// Shortest delay between two status polls.
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

/// Why a settings document is rejected: every mistake that could be told. The texts contain none of its values, because they may
/// be secrets.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct InvalidSettings(pub Vec<Mistake>);

/// One mistake in a settings document.
#[derive(Debug, thiserror::Error)]
pub enum Mistake {
    /// Not JSON, or not in this format. Ends the search for others.
    #[error("the settings are not valid, fix the document: {0}")]
    Json(String),
    /// An unknown version.
    #[error("the settings have version {0}; set \"version\" to 1, the only one this release reads")]
    Version(u64),
    /// The name of a provider that does not exist.
    #[error("unknown provider {0:?} in the settings; use one of {known}", known = Provider::names())]
    Provider(String),
    /// Not a base URL.
    #[error("{0} has to be an http or https URL without query and fragment")]
    Url(String),
    /// A key set that anybody on the way could replace.
    #[error("{0} has to be an https URL: whoever responds there can sign callbacks")]
    KeySetUrl(String),
    /// A base URL of documentation.
    #[error("{0} is a placeholder: replace it by a host of your own, or remove it")]
    PlaceholderUrl(String),
    /// A secret that no provider gave.
    #[error("{0} is a placeholder: a key has no spaces and only ASCII characters")]
    PlaceholderSecret(String),
    /// Unusable callback keys.
    #[error(transparent)]
    Keys(#[from] InvalidCallbackKeys),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    /// Where an editor finds `infra/settings.schema.json`.
    #[serde(default, rename = "$schema")]
    _schema: IgnoredAny,
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
            let (line, column) = (error.line(), error.column());
            InvalidSettings(vec![Mistake::Json(format!("{:?} error at line {line} column {column}", error.classify()))])
        })?;
        let mut mistakes = Vec::new();
        if document.version != 1 {
            mistakes.push(Mistake::Version(document.version));
        }
        let Callback { keys, base_url } = document.callback;
        refuse_placeholders("callback.keys", &keys, &mut mistakes);
        let callback_base_url = normalised_base_url("callback.base_url".to_owned(), base_url, &mut mistakes);
        let callback_keys = CallbackKeys::new(keys).map_err(|error| mistakes.push(error.into())).ok();
        let mut providers = BTreeMap::new();
        for (name, mut settings) in document.providers {
            let Some(provider) = Provider::from_name(&name) else {
                mistakes.push(Mistake::Provider(name));
                continue;
            };
            let field = |field| format!("providers.{provider}.{field}");
            settings.base_url = normalised_base_url(field("base_url"), settings.base_url, &mut mistakes);
            settings.key_set_url = normalised_base_url(field("key_set_url"), settings.key_set_url, &mut mistakes);
            if settings.key_set_url.as_deref().is_some_and(|url| !is_tamper_proof(url)) {
                mistakes.push(Mistake::KeySetUrl(field("key_set_url")));
            }
            settings.signing_secrets.retain(|secret| !secret.is_empty());
            refuse_placeholders(&field("signing_secrets"), &settings.signing_secrets, &mut mistakes);
            let ProviderSettings { api_key, access_key, secret_key, .. } = &mut settings;
            for (name, key) in [("api_key", api_key), ("access_key", access_key), ("secret_key", secret_key)] {
                *key = key.take().filter(|key| !key.is_empty());
                refuse_placeholders(&field(name), key.as_ref(), &mut mistakes);
            }
            providers.insert(provider, settings);
        }
        match callback_keys {
            Some(callback_keys) if mistakes.is_empty() => Ok(Self { callback_keys, callback_base_url, providers }),
            _ => Err(InvalidSettings(mistakes)),
        }
    }

    /// Whether the document names a provider.
    pub fn lists(&self, provider: Provider) -> bool {
        self.providers.contains_key(&provider)
    }

    /// The settings of a provider, the defaults if it is not listed.
    pub fn provider(&self, provider: Provider) -> &ProviderSettings {
        static DEFAULT: std::sync::LazyLock<ProviderSettings> = std::sync::LazyLock::new(ProviderSettings::default);
        self.providers.get(&provider).unwrap_or(&DEFAULT)
    }

    /// The same with these keys of a provider in place of its own.
    #[must_use]
    pub fn with_public_keys(&self, provider: Provider, public_keys: Vec<PublicKey>) -> Self {
        let own = ProviderSettings { public_keys, ..self.provider(provider).clone() };
        let mut changed = self.clone();
        changed.providers.insert(provider, own);
        changed
    }
}

impl ProviderSettings {
    /// Whether there are credentials for calls to the provider.
    pub fn has_credentials(&self) -> bool {
        self.api_key.is_some() || (self.access_key.is_some() && self.secret_key.is_some())
    }
}

/// Hosts that RFC 2606 reserves for documentation.
const PLACEHOLDER_HOSTS: [&str; 5] = ["example", "invalid", "example.com", "example.net", "example.org"];

/// Whether nobody on the way can change the response: https, or this machine.
fn is_tamper_proof(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| match url.host() {
        _ if url.scheme() == "https" => true,
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        _ => false,
    })
}

fn normalised_base_url(field: String, text: Option<String>, mistakes: &mut Vec<Mistake>) -> Option<String> {
    let text = text?;
    let url = Url::parse(&text).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https") && url.query().is_none() && url.fragment().is_none() && url.has_host()
    });
    let Some(url) = url else {
        mistakes.push(Mistake::Url(field));
        return None;
    };
    let is_below =
        |host: &str, domain| host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    if url.host_str().is_some_and(|host| PLACEHOLDER_HOSTS.iter().any(|placeholder| is_below(host, placeholder))) {
        mistakes.push(Mistake::PlaceholderUrl(field));
    }
    Some(text.trim_end_matches('/').to_owned())
}

/// Words in place of a secret, as documentation has them, would be a key that everybody knows. Keys go into HTTP headers, so
/// none has a space or a character like "…".
fn refuse_placeholders<'a>(field: &str, secrets: impl IntoIterator<Item = &'a Secret>, mistakes: &mut Vec<Mistake>) {
    if !secrets.into_iter().all(|secret| secret.expose().bytes().all(|byte| byte.is_ascii_graphic())) {
        mistakes.push(Mistake::PlaceholderSecret(field.to_owned()));
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
            (
                format!(
                    r#"{{"version":1,{KEYS},"providers":{{"kling":{{"key_set_url":"http://s3cret.test/keys"}}}}}}"#
                ),
                "kling.key_set_url has to be an https URL",
            ),
            (format!(r#"{{"version":1,{KEYS},"providers":{{"kling":{{"public_keys":["s3cret"]}}}}}}"#), "line 1"),
        ] {
            let error = Settings::parse(&json).expect_err("invalid settings").to_string();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    /// The sample of the README as it stands, and whatever else a document has before its keys are filled in.
    #[test]
    fn placeholders_are_refused() {
        let readme = include_str!("../../../README.md");
        let (_, rest) =
            readme.split_once("one JSON document in a secret of Secrets Manager:\n\n```json\n").expect("the sample");
        let (sample, _) = rest.split_once("```").expect("its end");
        let InvalidSettings(mistakes) = Settings::parse(sample).expect_err("everybody knows its keys");
        let fields = |mistake: &Mistake| match mistake {
            Mistake::PlaceholderUrl(field) | Mistake::PlaceholderSecret(field) => field.clone(),
            other => panic!("{other}"),
        };
        let fields: Vec<String> = mistakes.iter().map(fields).collect();
        let expected = [
            "callback.keys",
            "callback.base_url",
            "providers.kling.signing_secrets",
            "providers.kling.api_key",
            "providers.maxapi.api_key",
            "providers.vidu.api_key",
        ];
        assert_eq!(fields, expected);
        for host in ["example.com", "hooks.example.org", "a.example", "invalid"] {
            let json = format!(r#"{{"version":1,{KEYS},"providers":{{"kling":{{"base_url":"https://{host}"}}}}}}"#);
            assert!(Settings::parse(&json).is_err(), "{host}");
        }
        for host in ["myexample.com", "api.klingai.com", "127.0.0.1:9", "[::1]:9"] {
            let json = format!(r#"{{"version":1,{KEYS},"providers":{{"kling":{{"base_url":"https://{host}"}}}}}}"#);
            assert!(Settings::parse(&json).is_ok(), "{host}");
        }
    }
}
