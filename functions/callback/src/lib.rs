//! Receives what providers call back with, on a public Function URL.
//!
//! The order of the work is the promise: authenticate, read, **one conditional write**, queue, answer. A 2xx is sent exactly
//! when the report is in the table; what happens to the message after that does not matter, because `poll` queues again what
//! was recorded and not settled. Our own trouble is a 503 and never a 4xx: `APIMart` gives up for good on a 4xx.

use std::time::Duration;

use lambda_http::http::{Method, StatusCode, header};
use lambda_http::{Body, Request, RequestExt as _, Response};
use reelhook_aws::queue::Queue;
use reelhook_aws::settings::SettingsStore;
use reelhook_aws::table::{Noted, Recorded, Table, TableError};
use reelhook_aws::telemetry::{Metric, count, now};
use reelhook_core::callback::{Accepted, Event, Hint, NoRoute, Open, Route};
use reelhook_core::message::Message;
use reelhook_core::providers::Doubt;
use reelhook_core::request::{CallbackRequest, Headers, LARGEST_BODY};
use reelhook_core::schedule::Pace;
use reelhook_core::settings::Settings;
use reelhook_core::{Provider, TaskKey};
use tokio::time::{Instant, timeout_at};

/// What of a provider's budget is left to the way there and back, in seconds. A cold start, TLS and a slow network come on
/// top of our own time; with the tightest budget of 5 s this leaves 3.5 s for the table.
const RESERVE: f32 = 1.5;

/// Longest time spent on one callback, however patient the provider is: the function itself ends after 10 s.
const LONGEST: f32 = 8.0;

/// What the function works with.
#[derive(Debug)]
pub struct Hub {
    /// The table.
    pub table: Table,
    /// The queue.
    pub queue: Queue,
    /// The settings.
    pub settings: SettingsStore,
}

/// A request that is not answered with 2xx.
#[derive(Debug)]
enum Declined {
    /// The path leads nowhere.
    NoRoute(NoRoute),
    /// Not a POST.
    Method,
    /// The body is too long.
    TooLarge,
    /// Not authentic; the reason is for the log only, a forger learns nothing from us.
    NotAuthentic,
    /// Our own trouble; the provider is to try again.
    Unavailable,
}

impl Declined {
    fn response(&self) -> Response<Body> {
        let (status, message) = match self {
            Self::NoRoute(why) => (StatusCode::NOT_FOUND, why.to_string()),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "callbacks are sent with POST".to_owned()),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, format!("a callback has at most {LARGEST_BODY} bytes")),
            Self::NotAuthentic => {
                (StatusCode::UNAUTHORIZED, "the token in the URL or the signature is not valid".to_owned())
            }
            Self::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the callback could not be recorded at the moment; send it again".to_owned(),
            ),
        };
        let mut response = json(status, serde_json::json!({ "error": message }).to_string());
        if matches!(self, Self::Method) {
            response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("POST"));
        }
        response
    }
}

/// Answers one request. Never fails: whatever goes wrong has a status of its own.
pub async fn handle(hub: &Hub, request: Request) -> Response<Body> {
    match receive(hub, &request).await {
        Ok(response) => response,
        Err(declined) => declined.response(),
    }
}

async fn receive(hub: &Hub, request: &Request) -> Result<Response<Body>, Declined> {
    let received_at = Instant::now();
    let path = request.raw_http_path();
    let route = Route::parse(path).map_err(Declined::NoRoute)?;
    let provider = route.provider();
    if request.method() != Method::POST {
        return Err(Declined::Method);
    }
    let body: &[u8] = request.body();
    if body.len() > LARGEST_BODY {
        tracing::warn!(%provider, bytes = body.len(), "a callback was refused because it is too large");
        return Err(Declined::TooLarge);
    }
    let deadline = received_at + budget(provider);

    let settings = timeout_at(deadline, hub.settings.get()).await.map_err(|_| unavailable(provider, &"out of time"))?;
    let settings = settings.map_err(|error| unavailable(provider, &error))?;
    let headers = request.headers().iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    let callback = CallbackRequest {
        path,
        query: request.uri().query().unwrap_or_default(),
        headers: Headers::new(headers),
        body,
    };
    let mut settings = settings;
    let mut authenticated = route.authenticate(&callback, &settings, now());
    if authenticated.is_err() {
        // A key or secret may have been replaced since the settings were read, and a 401 is final for some providers.
        settings = hub.settings.get_recent().await.map_err(|error| unavailable(provider, &error))?;
        authenticated = route.authenticate(&callback, &settings, now());
    }
    let authentic = authenticated.map_err(|refusal| {
        if refusal.is_ours() {
            return unavailable(provider, &refusal);
        }
        tracing::warn!(%provider, reason = %refusal, "a callback was refused");
        count(Metric::CallbackRefused, provider, 1);
        Declined::NotAuthentic
    })?;
    let event = authentic.read(&settings, now());
    if let Event::Handshake(answer) = event {
        tracing::info!(%provider, "the provider checked the callback URL");
        return Ok(json(StatusCode::OK, answer.to_string()));
    }
    let durable = timeout_at(deadline, record(hub, &settings, event))
        .await
        .map_err(|_| unavailable(provider, &"the table did not answer in time"))?
        .map_err(|error| unavailable(provider, &error))?;
    // From here on the answer is decided, but for the one case in which the message itself has to last.
    let queued = match &durable {
        Durable::Done => Ok(()),
        Durable::ToQueue(message) | Durable::OnlyIfQueued(message) => enqueue(hub, message, deadline).await,
    };
    if queued.is_err() && matches!(durable, Durable::OnlyIfQueued(_)) {
        return Err(Declined::Unavailable);
    }
    Ok(json(StatusCode::OK, provider.adapter().acknowledgement().to_owned()))
}

/// What is left to do for a callback that was recorded.
enum Durable {
    /// Nothing.
    Done,
    /// Queue this, to be fast. If it fails, the record is due again in a minute.
    ToQueue(Message),
    /// Queue this, or have the provider send the callback again: a final failure cannot be made due again by a hint.
    OnlyIfQueued(Message),
}

async fn record(hub: &Hub, settings: &Settings, event: Event) -> Result<Durable, TableError> {
    match event {
        Event::Handshake(_) => Ok(Durable::Done),
        Event::Report(accepted) => report(hub, accepted).await,
        Event::Hint(hint) => note_hint(hub, settings, hint).await,
        Event::Open(open) => note_open(hub, settings, open).await,
    }
}

async fn report(hub: &Hub, accepted: Accepted) -> Result<Durable, TableError> {
    let mut accepted = accepted;
    let mut recorded = hub.table.report(&accepted, now(), None).await?;
    if matches!(recorded, Recorded::OtherTask)
        && let Some(own) = accepted.under_own_id()
    {
        foreign_url(accepted.key(), own.key());
        accepted = own;
        recorded = hub.table.report(&accepted, now(), None).await?;
    }
    let task = accepted.key();
    let outcome = accepted.report().outcome().name();
    let (metric, queue) = match recorded {
        Recorded::New => (Metric::CallbackAccepted, true),
        Recorded::TookOver => (Metric::SuccessAfterFailure, true),
        Recorded::Duplicate => (Metric::CallbackDuplicate, false),
        Recorded::Contradicting | Recorded::OtherTask => (Metric::CallbackContradicting, false),
    };
    tracing::info!(%task, outcome, result = metric.name(), "callback");
    count(metric, task.provider(), 1);
    Ok(if queue { Durable::ToQueue(Message::new(task.clone())) } else { Durable::Done })
}

async fn note_hint(hub: &Hub, settings: &Settings, hint: Hint) -> Result<Durable, TableError> {
    let provider = hint.key.provider();
    let pace = Pace::new(provider.adapter().profile(), &settings.provider(provider).poll);
    let deadline_at = now().plus(pace.deadline);
    let mut hint = hint;
    let mut noted = hub.table.note_hint(&hint, now(), deadline_at).await?;
    if matches!(noted, Noted::OtherTask)
        && let Some(id) = &hint.provider_task_id
    {
        let own = TaskKey::unregistered(provider, id);
        foreign_url(&hint.key, &own);
        hint.key = own;
        noted = hub.table.note_hint(&hint, now(), deadline_at).await?;
    }
    let Hint { key: task, why, outcome, .. } = hint;
    if why == Doubt::Unreadable {
        tracing::error!(%task, "an authentic callback could not be read; its body is kept in the record");
        count(Metric::CallbackUnreadable, provider, 1);
    }
    match noted {
        Noted::Recorded => {
            tracing::info!(%task, doubt = why.name(), "callback taken as a hint");
            count(Metric::CallbackAccepted, provider, 1);
            Ok(Durable::ToQueue(Message::new(task)))
        }
        Noted::Known(held) => {
            let says_more = outcome.is_some_and(|said| held.outcome().is_some_and(|held| said.replaces(held)));
            if says_more {
                tracing::warn!(%task, doubt = why.name(), "a hint says that a failed task succeeded; the provider is asked");
                Ok(Durable::OnlyIfQueued(Message { task, ask: true }))
            } else {
                tracing::info!(%task, doubt = why.name(), result = Metric::CallbackDuplicate.name(), "callback");
                count(Metric::CallbackDuplicate, provider, 1);
                Ok(Durable::Done)
            }
        }
        Noted::OtherTask => {
            count(Metric::CallbackContradicting, provider, 1);
            Ok(Durable::Done)
        }
    }
}

async fn note_open(hub: &Hub, settings: &Settings, open: Open) -> Result<Durable, TableError> {
    let provider = open.key.provider();
    let pace = Pace::new(provider.adapter().profile(), &settings.provider(provider).poll);
    if let Some(word) = &open.progress.unknown_status {
        tracing::warn!(task = %open.key, word, "a status word of the provider is not known; the task counts as open");
        count(Metric::UnknownStatus, provider, 1);
    }
    let (due_at, deadline_at) = (now().plus(pace.first), now().plus(pace.deadline));
    let mut open = open;
    let mut noted = hub.table.note_open(&open, now(), due_at, deadline_at).await?;
    if matches!(noted, Noted::OtherTask)
        && let Some(id) = &open.provider_task_id
    {
        let own = TaskKey::unregistered(provider, id);
        foreign_url(&open.key, &own);
        open.key = own;
        noted = hub.table.note_open(&open, now(), due_at, deadline_at).await?;
    }
    let news = matches!(noted, Noted::Recorded);
    tracing::info!(task = %open.key, percent = open.progress.percent, news, "the task is under way");
    Ok(Durable::Done)
}

/// One callback URL was given to several tasks. Each is recorded under the provider's own id, so that none is lost.
fn foreign_url(url_of: &TaskKey, own: &TaskKey) {
    tracing::warn!(%url_of, task = %own, "a callback came through the URL of another task; it is recorded under its own id");
    count(Metric::ForeignUrl, own.provider(), 1);
}

async fn enqueue(hub: &Hub, message: &Message, deadline: Instant) -> Result<(), ()> {
    // A slow table leaves little; the queue gets its moment all the same, out of the reserve.
    let deadline = deadline.max(Instant::now() + Duration::from_millis(500));
    let reason = match timeout_at(deadline, hub.queue.send(message)).await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "out of time".to_owned(),
    };
    tracing::error!(task = %message.task, reason, "the task is recorded and was not queued");
    count(Metric::QueueFailed, message.task.provider(), 1);
    Err(())
}

fn unavailable(provider: Provider, reason: &dyn std::fmt::Display) -> Declined {
    tracing::error!(%provider, %reason, "a callback could not be recorded; the provider is asked to send it again");
    Declined::Unavailable
}

/// How long the function may work on a callback of this provider.
fn budget(provider: Provider) -> Duration {
    let seconds = f32::from(u16::try_from(provider.adapter().profile().answer_budget).unwrap_or(u16::MAX));
    Duration::from_secs_f32((seconds - RESERVE).clamp(1.0, LONGEST))
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
    fn our_own_answer_goes_out_before_the_provider_hangs_up() {
        for provider in Provider::ALL {
            let hangs_up = Duration::from_secs(provider.adapter().profile().answer_budget.into());
            assert!(budget(provider) < hangs_up, "{provider}");
        }
    }
}
