//! Receives what providers call back with, on a public Function URL.
//!
//! The order of the work is the promise: authenticate, read, **one conditional write**, queue, respond. A 2xx is sent exactly
//! when what was said is in the table; what happens to the message after that does not matter, because `poll` queues again
//! what was recorded and not settled. Our own fault is a 503 and never a 4xx: `APIMart` gives up for good on a 4xx.

pub mod event;
mod recording;

use std::sync::Arc;
use std::time::Duration;

use lambda_http::http::{Method, StatusCode, header};
use lambda_http::{Body, Request, RequestExt as _, Response};
use reelhook_aws::clock;
use reelhook_aws::key_sets::KeySets;
use reelhook_aws::metrics::{count, measure};
use reelhook_aws::queue::Queue;
use reelhook_aws::settings::SettingsStore;
use reelhook_aws::table::Table;
use reelhook_core::callback::route::{Route, RouteError};
use reelhook_core::callback::{Authentic, Event};
use reelhook_core::metric::Metric;
use reelhook_core::providers::adapter::Callbacks;
use reelhook_core::request::{CallbackRequest, Headers, MAX_BODY, Refusal};
use reelhook_core::settings::Settings;
use reelhook_core::{Provider, Timestamp};
use tokio::time::{Instant, timeout_at};

use crate::recording::AfterRecord;

/// What of a provider's time-out is left to the way there and back. A cold start, TLS and a slow network come on top of our
/// own time; with the tightest time-out of 5 s this leaves 3.5 s for the table.
const NETWORK_RESERVE: Duration = Duration::from_millis(1500);

/// Longest and shortest time spent on one callback, however long the provider waits: the function itself ends after 10 s.
const MAX_WORK: Duration = Duration::from_secs(8);
const MIN_WORK: Duration = Duration::from_secs(1);

/// What the queue gets at least, out of the reserve, when the table was slow.
const MIN_QUEUEING: Duration = Duration::from_millis(500);

/// What the function works with.
#[derive(Debug)]
pub struct App {
    /// The table.
    pub table: Table,
    /// The queue.
    pub queue: Queue,
    /// The settings.
    pub settings: SettingsStore,
    /// The keys that providers publish for their signatures.
    pub key_sets: KeySets,
}

/// A request whose response is not a 2xx.
#[derive(Debug)]
enum Rejection {
    /// The path leads nowhere.
    Route(RouteError),
    /// Not a POST.
    Method,
    /// The body is too long.
    TooLarge,
    /// Not authentic; the reason is for the log only, a forger learns nothing from us.
    NotAuthentic,
    /// Our own fault; the provider is to send it again.
    Unavailable,
}

impl Rejection {
    fn response(&self) -> Response<Body> {
        let (status, message) = match self {
            Self::Route(error) => (StatusCode::NOT_FOUND, error.to_string()),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "use POST".to_owned()),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, format!("a callback has at most {MAX_BODY} bytes")),
            Self::NotAuthentic => {
                (StatusCode::UNAUTHORIZED, "the token in the URL or the signature is not valid".to_owned())
            }
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "temporarily unavailable, retry".to_owned()),
        };
        let mut response = json(status, serde_json::json!({ "error": message }).to_string());
        if matches!(self, Self::Method) {
            response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("POST"));
        }
        response
    }
}

/// Serves one request. Never fails: whatever goes wrong has a status of its own.
pub async fn handle(app: &App, request: Request) -> Response<Body> {
    receive(app, &request, Instant::now(), clock::now()).await.unwrap_or_else(|rejection| rejection.response())
}

async fn receive(
    app: &App,
    request: &Request,
    received_at: Instant,
    now: Timestamp,
) -> Result<Response<Body>, Rejection> {
    let path = request.raw_http_path();
    let route = Route::parse(path).map_err(Rejection::Route)?;
    let provider = route.provider();
    if request.method() != Method::POST {
        return Err(Rejection::Method);
    }
    let body: &[u8] = request.body();
    if body.len() > MAX_BODY {
        tracing::warn!(%provider, bytes = body.len(), "a callback was refused because it is too large");
        return Err(Rejection::TooLarge);
    }
    let deadline = received_at + time_to_respond(route.callbacks());
    let headers = request.headers().iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    let callback = CallbackRequest {
        path,
        query: request.uri().query().unwrap_or_default(),
        headers: Headers::new(headers),
        body,
    };
    let authenticating = authenticate(app, &route, &callback, now);
    let (authentic, settings) =
        timeout_at(deadline, authenticating).await.map_err(|_| unavailable(provider, &"out of time"))??;
    let event = authentic.read(&settings, now);
    if let Event::Handshake(response) = event {
        tracing::info!(%provider, "the provider checked the callback URL");
        return Ok(json(StatusCode::OK, response.to_string()));
    }
    let recorded = timeout_at(deadline, recording::record(&app.table, &settings, provider, event, now))
        .await
        .map_err(|_| unavailable(provider, &"the table did not respond in time"))?
        .map_err(|error| unavailable(provider, &error))?;
    // From here on the response is decided: what is recorded is due again by itself.
    if let AfterRecord::Queue(task) = recorded {
        app.queue.send_before(&task, deadline.max(Instant::now() + MIN_QUEUEING)).await;
    }
    let share = received_at.elapsed().as_millis() * 100 / route.callbacks().response_timeout.as_millis();
    measure(&[(Metric::AcknowledgedWithin, u64::try_from(share).unwrap_or(u64::MAX))]);
    Ok(json(StatusCode::OK, provider.adapter().acknowledgement().to_owned()))
}

async fn authenticate<'a>(
    app: &App,
    route: &Route,
    callback: &CallbackRequest<'a>,
    now: Timestamp,
) -> Result<(Authentic<'a>, Arc<Settings>), Rejection> {
    let provider = route.provider();
    let mut settings = app.settings.get().await.map_err(|error| unavailable(provider, &error))?;
    let mut authenticated = authenticate_under(&app.key_sets, &settings, route, callback, now).await?;
    if authenticated.is_err() {
        // A key or secret may have been replaced since the settings were read, and a 401 is final for some providers.
        let recent = app.settings.get_recent().await.map_err(|error| unavailable(provider, &error))?;
        if !Arc::ptr_eq(&settings, &recent) {
            settings = recent;
            authenticated = authenticate_under(&app.key_sets, &settings, route, callback, now).await?;
        }
    }
    let authentic = authenticated.map_err(|refusal| {
        if refusal.is_ours() {
            return unavailable(provider, &refusal);
        }
        tracing::warn!(%provider, reason = %refusal, "a callback was refused");
        count(Metric::CallbackRefused, provider, 1);
        Rejection::NotAuthentic
    })?;
    Ok((authentic, settings))
}

/// Authenticates a callback under these settings, with the keys that the provider publishes where none of theirs fits.
async fn authenticate_under<'a>(
    key_sets: &KeySets,
    settings: &Settings,
    route: &Route,
    callback: &CallbackRequest<'a>,
    now: Timestamp,
) -> Result<Result<Authentic<'a>, Refusal>, Rejection> {
    let provider = route.provider();
    let authenticated = route.authenticate(callback, settings, now);
    let (Err(Refusal::UnknownKey), Some(url)) = (&authenticated, provider.key_set_url(settings.provider(provider)))
    else {
        return Ok(authenticated);
    };
    let with = |keys| route.authenticate(callback, &settings.with_public_keys(provider, keys), now);
    match with(key_sets.current(provider, url).await) {
        Err(Refusal::UnknownKey) => {
            Ok(with(key_sets.refresh(provider, url).await.map_err(|error| unavailable(provider, &error))?))
        }
        decided => Ok(decided),
    }
}

fn unavailable(provider: Provider, reason: &dyn std::fmt::Display) -> Rejection {
    tracing::error!(%provider, %reason, "a callback could not be recorded; the provider is told to send it again");
    count(Metric::CallbackUnavailable, provider, 1);
    Rejection::Unavailable
}

/// How long the function may work on a callback of a provider.
fn time_to_respond(callbacks: &Callbacks) -> Duration {
    callbacks.response_timeout.saturating_sub(NETWORK_RESERVE).clamp(MIN_WORK, MAX_WORK)
}

fn json(status: StatusCode, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_response_goes_out_before_the_provider_hangs_up() {
        for callbacks in Provider::ALL.into_iter().filter_map(|provider| provider.adapter().profile().callbacks) {
            assert!(time_to_respond(&callbacks) < callbacks.response_timeout, "{callbacks:?}");
        }
    }
}
