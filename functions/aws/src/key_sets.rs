//! The keys that providers publish for their signatures, fetched when one is needed and not known. Nothing here is on the way of a
//! callback that a known key verifies.

use std::collections::HashMap;
use std::error::Error;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::OnceLock;
use std::time::Duration;

use aws_smithy_types::body::SdkBody;
use http::{HeaderMap, Request, StatusCode, header};
use http_body::Body as _;
use reelhook_core::Provider;
use reelhook_core::key_set::{self, MAX_BYTES, PublicKey};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::http_client::HttpClient;
use crate::signer::ServiceClock;
use crate::tls;

/// For connecting, the request and its response. Veo waits only 5 s for us, and the table needs its share.
const FETCH_TIMEOUT: Duration = Duration::from_secs(3);

/// How long keys are kept at most: fal's page says a day. A response may set less.
const MAX_LIFE: Duration = Duration::from_hours(24);

/// How long keys are kept whose response does not say. Chosen freely.
const DEFAULT_LIFE: Duration = Duration::from_hours(1);

/// Between two attempts to fetch the keys of one provider, so that forged signatures cannot drive them. Chosen freely.
const FETCH_INTERVAL: Duration = Duration::from_secs(15);

/// The key sets of all providers.
#[derive(Debug, Default)]
pub struct KeySets {
    client: OnceLock<HttpClient>,
    held: Mutex<HashMap<Provider, Held>>,
}

/// What is held of one provider.
#[derive(Clone, Debug, Default)]
struct Held {
    /// Empty before the first success.
    keys: Vec<PublicKey>,
    fresh_until: Option<Instant>,
    tried_at: Option<Instant>,
    /// Why the last attempt to fetch them failed, if it did.
    last_error: Option<String>,
}

/// A key set cannot be had, so nobody can say whether a signature is wrong.
#[derive(Debug, thiserror::Error)]
#[error("the provider's public keys cannot be fetched: {0}")]
pub struct KeySetError(String);

impl KeySets {
    /// The keys that the provider publishes at this URL: those held while their life lasts, and longer while no others can be had.
    /// None at all before the first success.
    pub async fn current(&self, provider: Provider, url: &str) -> Vec<PublicKey> {
        let is_expired = |held: &Held| held.fresh_until.is_none_or(|end| end <= Instant::now());
        self.held(provider, url, is_expired).await.keys
    }

    /// Fetches the keys again, because a signature fits none of the current ones; at most every 15 seconds, and otherwise the same ones.
    /// Fails if the last attempt did.
    pub async fn refresh(&self, provider: Provider, url: &str) -> Result<Vec<PublicKey>, KeySetError> {
        let held = self.held(provider, url, |_| true).await;
        held.last_error.map_or(Ok(held.keys), |reason| Err(KeySetError(reason)))
    }

    async fn held(&self, provider: Provider, url: &str, is_wanted: impl Fn(&Held) -> bool) -> Held {
        let mut all = self.held.lock().await;
        let held = all.entry(provider).or_default();
        let is_allowed = held.tried_at.is_none_or(|tried_at| tried_at.elapsed() >= FETCH_INTERVAL);
        if is_allowed && is_wanted(held) {
            held.tried_at = Some(Instant::now());
            // It stays when the invocation ends in between, and says that nothing is known about a signature.
            held.last_error = Some("the attempt was interrupted".to_owned());
            match timeout(FETCH_TIMEOUT, self.fetch(url)).await.unwrap_or_else(|_| Err("no response in time".into())) {
                Ok((keys, life)) => {
                    *held = Held { keys, fresh_until: Some(Instant::now() + life), last_error: None, ..held.clone() };
                }
                Err(error) => {
                    tracing::warn!(%provider, url, %error, keys = held.keys.len(), "public keys could not be fetched");
                    held.last_error = Some(error.to_string());
                }
            }
        }
        held.clone()
    }

    async fn fetch(&self, url: &str) -> Result<(Vec<PublicKey>, Duration), Box<dyn Error + Send + Sync>> {
        let client = self
            .client
            .get_or_init(|| HttpClient::new(tls::client_config(tls::public_roots()), 1, ServiceClock::default()));
        let response = client.send(Request::get(url).body(SdkBody::empty())?).await?;
        // Redirects are not followed.
        if response.status() != StatusCode::OK {
            return Err(format!("HTTP {}", response.status().as_u16()).into());
        }
        let life = life(response.headers());
        let mut body = response.into_body();
        let mut document = Vec::new();
        while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            let Ok(piece) = frame?.into_data() else { continue };
            if document.len() + piece.len() > MAX_BYTES {
                return Err(format!("more than {MAX_BYTES} bytes").into());
            }
            document.extend_from_slice(&piece);
        }
        Ok((key_set::parse(&document)?, life))
    }
}

/// How long a response may be kept.
fn life(headers: &HeaderMap) -> Duration {
    let directives = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let stated = directives.flat_map(|value| value.split(',')).find_map(|directive| {
        directive.trim().strip_prefix("max-age=")?.trim_matches('"').parse().ok().map(Duration::from_secs)
    });
    stated.unwrap_or(DEFAULT_LIFE).min(MAX_LIFE)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_response_may_set_its_life_below_a_day() {
        for (value, seconds) in [
            (None, 3600),
            (Some("no-cache"), 3600),
            (Some("public, max-age=600"), 600),
            (Some("max-age=0"), 0),
            (Some("max-age=604800, immutable"), 86_400),
            (Some("s-maxage=5"), 3600),
            (Some("max-age=x"), 3600),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(value));
            }
            assert_eq!(life(&headers), Duration::from_secs(seconds), "{value:?}");
        }
    }
}
