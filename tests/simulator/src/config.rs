//! How a simulator is set up.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};

use crate::{
    provider::{Provider, Shape},
    script::Script,
};

/// What one provider knows of its customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// What has to be in the `Authorization` header, behind the provider's own word.
    pub api_key: String,
    /// What callbacks are signed with, where the provider signs: Kling (`whsec_` and base64), KIE (text) and Vidu (text;
    /// its API key without one). The others ignore it.
    pub signing_secret: Option<String>,
}

/// Kling's older way in: the access key is the issuer of a JWT, the secret key signs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessKey {
    /// The issuer.
    pub access_key: String,
    /// The key of the signature, as text.
    pub secret_key: String,
}

/// Whether callbacks carry signatures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Signing {
    /// Wherever the provider signs and a secret is there.
    #[default]
    Signed,
    /// Never.
    Unsigned,
}

/// When `MiniMax` checks a callback URL. Its documentation does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Challenge {
    /// Before a task is created; a receiver that fails gets no callbacks for it.
    #[default]
    Silent,
    /// Before a task is created; a receiver that fails gets the submission refused.
    Required,
    /// Never.
    Skipped,
}

/// What `APIMart` does with `Idempotency-Key`, for which there is one public source only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Idempotency {
    /// The same key gives the same task.
    #[default]
    Honoured,
    /// Every submission makes a task.
    Ignored,
}

/// How a simulator is set up. The default has a key for every provider and a signing secret where the provider signs.
#[derive(Clone, Debug)]
pub struct Config {
    /// Port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// Keys and secrets.
    pub accounts: BTreeMap<Provider, Account>,
    /// Kling's older way in, beside its API key.
    pub kling_access_key: Option<AccessKey>,
    /// Whether callbacks carry signatures.
    pub signing: Signing,
    /// Waits between repeated deliveries are multiplied by this. Time-outs are not, nor is what a script says.
    pub time_scale: f64,
    /// What a task does before its own script is read.
    pub default_script: Script,
    /// Where links point instead of at the simulator itself, scheme and authority only: for tests that need the files to
    /// be on a host of another name.
    pub file_origin: Option<String>,
    /// When `MiniMax` checks a callback URL.
    pub minimax_challenge: Challenge,
    /// What `APIMart` does with `Idempotency-Key`.
    pub apimart_idempotency: Idempotency,
    /// How `RelayDance` answers when a script does not say.
    pub relaydance_shape: Shape,
    /// How long an answer is held back that is not to arrive.
    pub hang: Duration,
    /// Makes ids repeatable; chosen from the clock without one.
    pub seed: Option<u64>,
}

impl Config {
    /// The account at a provider; one with an empty key, which nobody can use, when there is none.
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
            signing_secret: match provider {
                Provider::Kling => {
                    Some(format!("whsec_{}", BASE64_STANDARD.encode("kling-signing-secret-32-bytes-ok")))
                }
                Provider::Kie => Some("kie-webhook-hmac-key".to_owned()),
                _ => None,
            },
        };
        Self {
            port: 0,
            accounts: Provider::ALL.into_iter().map(|provider| (provider, account(provider))).collect(),
            kling_access_key: None,
            signing: Signing::default(),
            time_scale: 1.0,
            default_script: Script::default(),
            file_origin: None,
            minimax_challenge: Challenge::default(),
            apimart_idempotency: Idempotency::default(),
            relaydance_shape: Shape::default(),
            // Longer than any client waits; chosen freely.
            hang: Duration::from_mins(10),
            seed: None,
        }
    }
}
