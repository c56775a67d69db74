//! The provider settings, read from a secret of Secrets Manager and kept for a few minutes.
//!
//! Every cold start reads them before its first callback can be authenticated, so the store has to take a burst of cold
//! starts. Parameter Store gives 40 reads a second to a whole account and region, unless somebody pays for more: of 500
//! environments that start at once, some 180 have settings after the 3.5 s that the tightest provider leaves, and the others
//! respond with a 503 that some providers never repeat. No retry can change that. Secrets Manager gives
//! [10,000](https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits.html), encrypts with KMS as well, and
//! costs 0.40 USD a month and 0.05 USD per 10,000 reads. An item of the table would be as fast, but whoever may read tasks
//! would read keys; an object would bring the S3 client into functions that need none.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueError;
use reelhook_core::settings::{InvalidSettings, Settings};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::clients::described;

/// How long settings are used before they are read again: a changed secret is in use everywhere after this. Chosen freely;
/// it costs one call per five minutes and environment.
const FRESH_FOR: Duration = Duration::from_mins(5);

/// How old settings may be when somebody is about to be turned away by them.
const RECENT: Duration = Duration::from_secs(30);

/// How long reading settings again may take, when there are old ones: less than the tightest response timeout of a provider leaves.
const RELOAD_WITHIN: Duration = Duration::from_millis(500);

/// Settings in a secret.
#[derive(Debug)]
pub struct SettingsStore {
    client: aws_sdk_secretsmanager::Client,
    secret: String,
    read: Mutex<Option<(Instant, Arc<Settings>)>>,
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The secret has no value, as after the first deployment.
    #[error("no settings are stored yet in the secret {0}: run `cargo run -- settings put settings.json --stack NAME`")]
    NotStored(
        /// Its name.
        String,
    ),
    /// Secrets Manager did not give them.
    #[error("reading the settings secret {secret} failed: {reason}")]
    Unavailable {
        /// Its name.
        secret: String,
        /// What the SDK says.
        reason: String,
    },
    /// They are not valid.
    #[error("the settings secret {secret} is not usable: {source}")]
    Invalid {
        /// Its name.
        secret: String,
        /// What is wrong with them.
        source: InvalidSettings,
    },
}

impl SettingsStore {
    /// Settings in the secret of this name. Nothing is read yet.
    pub fn new(client: aws_sdk_secretsmanager::Client, secret: String) -> Self {
        Self { client, secret, read: Mutex::new(None) }
    }

    /// The settings. Read when there are none or they are older than five minutes; when reading them again fails or takes
    /// long, the old ones stay in use, with a warning.
    pub async fn get(&self) -> Result<Arc<Settings>, SettingsError> {
        self.not_older_than(FRESH_FOR).await
    }

    /// The settings as they were half a minute ago at most: read before a caller is refused for good, because a key
    /// or a secret may just have been replaced.
    pub async fn get_recent(&self) -> Result<Arc<Settings>, SettingsError> {
        self.not_older_than(RECENT).await
    }

    async fn not_older_than(&self, age: Duration) -> Result<Arc<Settings>, SettingsError> {
        // Held while reading, so that a cold start that warms up and serves at once reads once.
        let mut read = self.read.lock().await;
        match &*read {
            Some((at, settings)) if at.elapsed() < age => return Ok(settings.clone()),
            _ => {}
        }
        let loaded = match &*read {
            None => self.load().await,
            Some(_) => timeout(RELOAD_WITHIN, self.load()).await.unwrap_or_else(|_| {
                let reason = "no response in time".to_owned();
                Err(SettingsError::Unavailable { secret: self.secret.clone(), reason })
            }),
        };
        match loaded {
            Ok(settings) => {
                let settings = Arc::new(settings);
                *read = Some((Instant::now(), settings.clone()));
                Ok(settings)
            }
            Err(error) => match &mut *read {
                Some((at, settings)) => {
                    tracing::warn!(error = %error, "settings could not be read again, the old ones stay in use");
                    // Not read again with every request: Secrets Manager may be down for a while.
                    *at = Instant::now();
                    Ok(settings.clone())
                }
                None => Err(error),
            },
        }
    }

    async fn load(&self) -> Result<Settings, SettingsError> {
        let unavailable = |reason: String| SettingsError::Unavailable { secret: self.secret.clone(), reason };
        let not_stored = || SettingsError::NotStored(self.secret.clone());
        let response = self.client.get_secret_value().secret_id(&self.secret).send().await.map_err(|error| {
            let is_missing = error.as_service_error().is_some_and(GetSecretValueError::is_resource_not_found_exception);
            if is_missing { not_stored() } else { unavailable(described(&error)) }
        })?;
        let value = response.secret_string().filter(|value| !value.is_empty()).ok_or_else(not_stored)?;
        Settings::parse(value).map_err(|source| SettingsError::Invalid { secret: self.secret.clone(), source })
    }
}
