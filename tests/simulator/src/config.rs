//! The configuration of a simulator.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    provider::{Provider, Shape},
    script::Script,
};

/// A customer's account at one provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The key that authenticates calls.
    pub api_key: String,
    /// The secret that signs callbacks, as the provider writes it. Providers that sign nothing ignore it.
    pub signing_secret: Option<String>,
}

/// Kling's legacy credentials: the access key is the issuer of a JWT, the secret key signs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessKey {
    /// The issuer of the JWT.
    pub access_key: String,
    /// The HMAC key, as text.
    pub secret_key: String,
}

/// Whether callbacks carry signatures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Signing {
    /// If the provider signs and a secret is configured.
    #[default]
    Signed,
    /// Never.
    Unsigned,
}

/// Whether `MiniMax` challenges a callback URL. Its documentation does not say when it does, nor what a failure means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Challenge {
    /// Before it creates a task. A receiver that fails gets no callbacks for it.
    #[default]
    Silent,
    /// Before it creates a task. If the receiver fails, the submission is refused.
    Required,
    /// Never.
    Skipped,
}

/// What `APIMart` does with `Idempotency-Key`. Only one public source mentions the header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Idempotency {
    /// The same key returns the same task.
    #[default]
    Honoured,
    /// Every submission creates a task.
    Ignored,
}

/// The configuration. The default has an API key for every provider, and a signing secret for each that issues one.
#[derive(Clone, Debug)]
pub struct Config {
    /// Port on 127.0.0.1; 0 picks a free one.
    pub port: u16,
    /// Keys and secrets.
    pub accounts: BTreeMap<Provider, Account>,
    /// Kling's legacy credentials, valid next to its API key.
    pub kling_access_key: Option<AccessKey>,
    /// Whether callbacks carry signatures.
    pub signing: Signing,
    /// Scales the delays between delivery attempts, but neither timeouts nor the times in scripts.
    pub time_scale: f64,
    /// The script that a task's own script modifies.
    pub default_script: Script,
    /// Scheme and authority of links, if not the simulator's own: for tests that need the files under another host name.
    pub file_origin: Option<String>,
    /// Scheme and authority of links into a provider's API, if not the simulator's own: for customers that reach it through
    /// something else.
    pub api_origin: Option<String>,
    /// Whether `MiniMax` challenges a callback URL.
    pub minimax_challenge: Challenge,
    /// What `APIMart` does with `Idempotency-Key`.
    pub apimart_idempotency: Idempotency,
    /// The shape of `RelayDance` responses, unless the script names one.
    pub relaydance_shape: Shape,
    /// How long a response that must never arrive is held back.
    pub hang: Duration,
    /// Makes ids reproducible. `None` takes a seed from the clock.
    pub seed: Option<u64>,
}

impl Config {
    /// The account at a provider. Without one, an account with an empty key, which fails every authentication.
    pub fn account(&self, provider: Provider) -> Account {
        self.accounts.get(&provider).cloned().unwrap_or(Account { api_key: String::new(), signing_secret: None })
    }

    /// Sets the API key of a provider.
    #[must_use]
    pub fn with_api_key(mut self, provider: Provider, api_key: impl Into<String>) -> Self {
        let account = Account { api_key: api_key.into(), ..self.account(provider) };
        self.accounts.insert(provider, account);
        self
    }

    /// Sets or removes the signing secret of a provider.
    #[must_use]
    pub fn with_signing_secret(mut self, provider: Provider, signing_secret: Option<String>) -> Self {
        let account = Account { signing_secret, ..self.account(provider) };
        self.accounts.insert(provider, account);
        self
    }
}

impl Default for Config {
    fn default() -> Self {
        let account = |provider: Provider| Account {
            api_key: format!("{provider}-api-key"),
            signing_secret: provider.profile().signing_secret.map(str::to_owned),
        };
        Self {
            port: 0,
            accounts: Provider::ALL.into_iter().map(|provider| (provider, account(provider))).collect(),
            kling_access_key: None,
            signing: Signing::default(),
            time_scale: 1.0,
            default_script: Script::default(),
            file_origin: None,
            api_origin: None,
            minimax_challenge: Challenge::default(),
            apimart_idempotency: Idempotency::default(),
            relaydance_shape: Shape::default(),
            // Longer than any client waits; chosen freely.
            hang: Duration::from_mins(10),
            seed: None,
        }
    }
}
