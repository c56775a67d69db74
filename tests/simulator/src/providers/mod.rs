//! What the providers share: admission of calls and handling of submissions.

pub(crate) mod apimart;
pub(crate) mod apimp;
pub(crate) mod ark;
pub(crate) mod fal;
pub(crate) mod grok;
pub(crate) mod kie;
pub(crate) mod kling;
pub(crate) mod maxapi;
pub(crate) mod minimax;
pub(crate) mod openrouter;
pub(crate) mod relaydance;
pub(crate) mod replicate;
pub(crate) mod runway;
pub(crate) mod veo;
pub(crate) mod vidu;
pub(crate) mod wan;
pub(crate) mod wavespeed;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{Router, body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::Value;

use crate::{
    api::Api,
    config::Challenge,
    delivery,
    provider::{Dialect, Provider},
    record::{Call, CallFault, FileKind, Refusal, Submission},
    script::{Outcome, ResponseTiming, Script, SubmitFate},
    world::{Draft, View, World},
};

pub(crate) type Shared = Arc<World>;

/// The routes of all providers, each under its name.
pub(crate) fn router() -> Router<Shared> {
    Provider::ALL
        .into_iter()
        .fold(Router::new(), |router, provider| router.nest(&format!("/{provider}"), (provider.profile().router)()))
}

/// Why a submission is refused, with a message for the customer.
pub(crate) type Refused = (Refusal, String);

pub(crate) fn parameters(message: impl Into<String>) -> Refused {
    (Refusal::Parameters, message.into())
}

/// A JSON response.
pub(crate) fn json(status: StatusCode, body: &Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

pub(crate) fn ok(body: &Value) -> Response {
    json(StatusCode::OK, body)
}

/// The parameters of a query.
pub(crate) fn query(uri: &http::Uri) -> Vec<(String, String)> {
    url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect()
}

/// The first non-empty value of a parameter.
pub(crate) fn first<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    query.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
}

/// A page of a list, numbered from 1. `None` if the number or size is invalid.
pub(crate) fn page<T>(items: Vec<T>, number: Option<&str>, size: Option<&str>, max_size: usize) -> Option<Vec<T>> {
    let number: usize = number.map_or(Some(1), |number| number.parse().ok()).filter(|number| *number >= 1)?;
    let size: usize = size.map_or(Some(10), |size| size.parse().ok()).filter(|size| (1..=max_size).contains(size))?;
    Some(items.into_iter().skip((number - 1).saturating_mul(size)).take(size).collect())
}

/// A non-empty string field.
pub(crate) fn text<'a>(body: &'a Value, name: &str) -> Option<&'a str> {
    body[name].as_str().filter(|text| !text.is_empty())
}

/// A required non-empty string field.
pub(crate) fn required<'a>(body: &'a Value, name: &str) -> Result<&'a str, Refused> {
    text(body, name).ok_or_else(|| parameters(format!("{name} is required")))
}

/// The credential in the `Authorization` header.
pub(crate) fn credential<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix(scheme)?.strip_prefix(' ').map(str::trim)
}

/// Counts a call, applies an injected fault and checks the API key. `Some` is the error response.
pub(crate) async fn admit(world: &World, dialect: Dialect, call: Call, headers: &HeaderMap) -> Option<Response> {
    let api = dialect.api();
    if let Some(fault) = world.count_call(api.provider(), call) {
        return Some(fault_response(world, api, fault).await);
    }
    api.unauthorized(world, headers)
}

async fn fault_response(world: &World, api: &dyn Api, fault: CallFault) -> Response {
    match fault {
        CallFault::RateLimited { retry_after_seconds } => {
            let mut response = api.refusal(world, Refusal::RateLimited, "too many requests");
            *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
            response.headers_mut().insert(header::RETRY_AFTER, retry_after_seconds.into());
            response
        }
        CallFault::Status(status) => {
            let mut response = api.refusal(world, Refusal::Server, "internal error");
            *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            response
        }
        CallFault::Refused(refused) => api.refusal(world, refused, "refused by an injected fault"),
        CallFault::Hang => {
            tokio::time::sleep(world.config.hang).await;
            api.refusal(world, Refusal::Server, "internal error")
        }
    }
}

/// A submission as it arrives.
pub(crate) struct Incoming {
    pub(crate) dialect: Dialect,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Handles a submission: records and admits it, reads the script, validates the fields with `check`, creates the task, starts
/// its driver and responds. `check` may choose another dialect once it knows the body.
pub(crate) async fn submit(
    world: Shared,
    incoming: Incoming,
    check: impl FnOnce(&World, &Value, &Script) -> Result<(Dialect, Draft), Refused> + Send,
) -> Response {
    let Incoming { dialect, path, headers, body } = incoming;
    let idempotency_key = headers.get("idempotency-key").and_then(|key| key.to_str().ok()).map(str::to_owned);
    let index = world.record(Submission {
        provider: dialect.provider(),
        path,
        idempotency_key: idempotency_key.clone(),
        body: body.clone(),
        task_id: None,
        at: SystemTime::now(),
    });
    if let Some(response) = admit(&world, dialect, Call::Submit, &headers).await {
        return response;
    }
    let read = serde_json::from_slice::<Value>(&body)
        .ok()
        .filter(Value::is_object)
        .ok_or_else(|| parameters("the body is not a JSON object"))
        .and_then(|value| {
            let script =
                world.config.default_script.clone().read(&value).map_err(|error| parameters(error.to_string()))?;
            let (dialect, draft) = check(&world, &value, &script)?;
            if script.videos > dialect.api().max_videos() {
                return Err(parameters("simulate: this provider makes only one video per task"));
            }
            Ok((value, script, dialect, draft))
        });
    let (value, script, dialect, draft) = match read {
        Ok(read) => read,
        Err((refused, message)) => return dialect.api().refusal(&world, refused, &message),
    };
    let api = dialect.api();
    let refused = match script.submit {
        SubmitFate::Refuse => Some((Refusal::Parameters, "refused by the script")),
        SubmitFate::Moderate => Some((Refusal::Moderated, "the prompt was rejected by moderation")),
        SubmitFate::Balance => Some((Refusal::Balance, "insufficient balance")),
        SubmitFate::Busy => Some((Refusal::RateLimited, "too many tasks at once")),
        SubmitFate::Accept | SubmitFate::Timeout | SubmitFate::Error500 => None,
    };
    if let Some((refused, message)) = refused {
        return api.refusal(&world, refused, message);
    }
    if let Some(id) = idempotency_key.and_then(|key| api.idempotent_task(&world, &key)) {
        world.attribute(index, &id);
        return submission_response(&world, api, &id);
    }

    let checked = check_url(&world, api, &draft).await;
    let (muted, challenged) = match checked {
        UrlCheck::Passed(delivery) => (false, delivery),
        UrlCheck::Failed(delivery) => (true, delivery),
        UrlCheck::Refused => {
            return api.refusal(&world, Refusal::Parameters, "callback_url failed the challenge");
        }
    };
    let id = world.create(dialect, draft, value, script.clone(), index);
    if let Some(delivery) = challenged {
        world.log_delivery(&id, delivery);
    }
    let final_step_done = world.with_task(&id, |task| {
        task.muted = muted;
        task.final_step_done.subscribe()
    });
    delivery::start(&world, &id);
    if let (ResponseTiming::AfterCallback, Some(mut final_step_done)) = (script.response, final_step_done) {
        // Cannot fail: the sender lives in the task, and tasks are never removed.
        let _ = final_step_done.wait_for(|final_step_done| *final_step_done).await;
    }
    match script.submit {
        SubmitFate::Timeout => {
            tokio::time::sleep(world.config.hang).await;
            submission_response(&world, api, &id)
        }
        SubmitFate::Error500 => api.refusal(&world, Refusal::Server, "internal error"),
        _ => submission_response(&world, api, &id),
    }
}

enum UrlCheck {
    Passed(Option<crate::record::Delivery>),
    Failed(Option<crate::record::Delivery>),
    Refused,
}

async fn check_url(world: &World, api: &dyn Api, draft: &Draft) -> UrlCheck {
    let Some(url) = draft.callback_url.as_deref().filter(|_| api.is_challenged()) else {
        return UrlCheck::Passed(None);
    };
    if world.config.minimax_challenge == Challenge::Skipped {
        return UrlCheck::Passed(None);
    }
    match delivery::challenge(world, url).await {
        (true, delivery) => UrlCheck::Passed(Some(delivery)),
        (false, _) if world.config.minimax_challenge == Challenge::Required => UrlCheck::Refused,
        (false, delivery) => UrlCheck::Failed(Some(delivery)),
    }
}

/// The response to a submission that created a task.
fn submission_response(world: &World, api: &dyn Api, id: &str) -> Response {
    // The response describes the initial state, whatever has happened since.
    match world.initial_view(id) {
        Some(view) => json(api.submission_status(), &api.submission_body(world, &view)),
        None => api.refusal(world, Refusal::Server, "the task is gone"),
    }
}

/// The body of a callback; `None` if the provider sends none for this phase.
pub(crate) fn callback_body(view: &View) -> Option<Value> {
    let api = view.dialect.api();
    match api.upstream() {
        Some(sender) => sender.api().callback_body(&view.foreign()),
        None => api.callback_body(view),
    }
}

/// The files of a task, with their names.
pub(crate) fn files(dialect: Dialect, request: &Value, videos: u32) -> Vec<(FileKind, String)> {
    let mut files = Vec::new();
    let extra = dialect.api().extra_file(request);
    for ordinal in 1..=videos {
        let suffix = if ordinal == 1 { String::new() } else { format!("-{ordinal}") };
        files.push((FileKind::Video, format!("video{suffix}.mp4")));
        if let Some((kind, stem, extension)) = extra {
            files.push((kind, format!("{stem}{suffix}.{extension}")));
        }
    }
    files
}

/// The task's id at the sender of its callbacks.
pub(crate) fn foreign_id(world: &World, dialect: Dialect, id: &str, now: SystemTime) -> String {
    dialect.api().upstream().map_or_else(|| id.to_owned(), |sender| sender.api().new_id(world, now))
}

/// The error message of a failed task, for providers with free text.
pub(crate) fn failure_text(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Succeed => "",
        Outcome::Fail => "Generation failed, please try again later",
        Outcome::Moderated => "Content policy violation: the request was rejected by the safety system",
        Outcome::Timeout => "The task timed out",
        Outcome::Cancelled => "The task was cancelled",
        Outcome::Expired => "The task expired",
    }
}

/// Cancels an open task.
pub(crate) fn cancel_now(world: &World, id: &str) {
    world.with_task(id, |task| {
        task.script.outcome = Outcome::Cancelled;
        task.script.then = crate::script::Then::Nothing;
        task.script.delay = task.submitted.elapsed().max(Duration::from_nanos(1));
        task.changed.notify_one();
    });
}
