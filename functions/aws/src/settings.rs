//! The provider settings, read from SSM and kept for a few minutes.

use std::sync::Arc;
use std::time::{Duration, Instant};

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

/// Settings in the parameter store.
#[derive(Debug)]
pub struct SettingsStore {
    client: aws_sdk_ssm::Client,
    parameter: String,
    read: Mutex<Option<(Instant, Arc<Settings>)>>,
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The parameter store did not give them.
    #[error("reading the settings parameter {parameter} failed: {reason}")]
    Unavailable {
        /// Its name.
        parameter: String,
        /// What the SDK says.
        reason: String,
    },
    /// They are not valid.
    #[error("the settings parameter {parameter} is not usable: {source}")]
    Invalid {
        /// Its name.
        parameter: String,
        /// What is wrong with them.
        source: InvalidSettings,
    },
}

impl SettingsStore {
    /// Settings under a parameter name. Nothing is read yet.
    pub fn new(client: aws_sdk_ssm::Client, parameter: String) -> Self {
        Self { client, parameter, read: Mutex::new(None) }
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
                Err(SettingsError::Unavailable { parameter: self.parameter.clone(), reason })
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
                    // Not read again with every request: the parameter store may be down for a while.
                    *at = Instant::now();
                    Ok(settings.clone())
                }
                None => Err(error),
            },
        }
    }

    async fn load(&self) -> Result<Settings, SettingsError> {
        let unavailable = |reason: String| SettingsError::Unavailable { parameter: self.parameter.clone(), reason };
        let response = self
            .client
            .get_parameter()
            .name(&self.parameter)
            .with_decryption(true)
            .send()
            .await
            .map_err(|error| unavailable(described(&error)))?;
        let value = response.parameter().and_then(|parameter| parameter.value());
        let value = value.ok_or_else(|| unavailable("it has no value".to_owned()))?;
        Settings::parse(value).map_err(|source| SettingsError::Invalid { parameter: self.parameter.clone(), source })
    }
}
