//! What the providers share: admission of calls, handling of submissions, and the dispatch on dialects.

pub(crate) mod apimart;
pub(crate) mod apimp;
pub(crate) mod ark;
pub(crate) mod kie;
pub(crate) mod kling;
pub(crate) mod maxapi;
pub(crate) mod minimax;
pub(crate) mod relaydance;
pub(crate) mod replicate;
pub(crate) mod vidu;
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
    config::Challenge,
    delivery::{self, GiveUp, RetryPolicy},
    provider::{Dialect, Provider, Upstream},
    record::{Call, CallFault, FileKind, Phase, Refusal, Stage, Submission},
    script::{Outcome, ResponseTiming, Script, SubmitFate},
    world::{Draft, View, World},
};

pub(crate) type Shared = Arc<World>;

/// The routes of all providers, each under its name.
pub(crate) fn router() -> Router<Shared> {
    Router::new()
        .nest("/kling", kling::router())
        .nest("/maxapi", maxapi::router())
        .nest("/apimart", apimart::router())
        .nest("/ark", ark::router())
        .nest("/minimax", minimax::router())
        .nest("/vidu", vidu::router())
        .nest("/kie", kie::router())
        .nest("/apimp", apimp::router())
        .nest("/relaydance", relaydance::router())
        .nest("/replicate", replicate::router())
        .nest("/wavespeed", wavespeed::router())
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

/// The provider's own error response.
pub(crate) fn refusal(world: &World, dialect: Dialect, refusal: Refusal, message: &str) -> Response {
    match dialect {
        Dialect::KlingNew | Dialect::KlingLegacy => kling::refusal(world, refusal, message),
        Dialect::MaxApi => maxapi::refusal(refusal, message),
        Dialect::ApiMart => apimart::refusal(refusal, message),
        Dialect::Ark => ark::refusal(refusal, message),
        Dialect::MiniMaxFirst => minimax::first_refusal(refusal, message),
        Dialect::MiniMaxSecond => minimax::second_refusal(world, refusal, message),
        Dialect::Vidu => vidu::refusal(world, refusal, message),
        Dialect::KieRunway | Dialect::KieVeo | Dialect::KieMarket => kie::refusal(refusal, message),
        Dialect::Apimp(_) => apimp::refusal(refusal, message),
        Dialect::RelayDance(_) => relaydance::refusal(refusal, message),
        Dialect::Replicate => replicate::refusal(refusal, message),
        Dialect::WaveSpeed => wavespeed::refusal(refusal, message),
    }
}

/// Counts a call, applies an injected fault and checks the API key. `Some` is the error response.
pub(crate) async fn admit(world: &World, dialect: Dialect, call: Call, headers: &HeaderMap) -> Option<Response> {
    if let Some(fault) = world.count_call(dialect.provider(), call) {
        return Some(fault_response(world, dialect, fault).await);
    }
    if dialect.provider() == Provider::Kling {
        return kling::unauthorized(world, dialect, headers);
    }
    let key = world.config.account(dialect.provider()).api_key;
    let given = credential(headers, dialect.provider().scheme());
    let authorized = !key.is_empty() && given == Some(key.as_str());
    (!authorized).then(|| refusal(world, dialect, Refusal::Unauthorized, "the API key is missing or wrong"))
}

async fn fault_response(world: &World, dialect: Dialect, fault: CallFault) -> Response {
    match fault {
        CallFault::RateLimited { retry_after_seconds } => {
            let mut response = refusal(world, dialect, Refusal::RateLimited, "too many requests");
            *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
            response.headers_mut().insert(header::RETRY_AFTER, retry_after_seconds.into());
            response
        }
        CallFault::Status(status) => {
            let mut response = refusal(world, dialect, Refusal::Server, "internal error");
            *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            response
        }
        CallFault::Refused(refused) => refusal(world, dialect, refused, "refused by an injected fault"),
        CallFault::Hang => {
            tokio::time::sleep(world.config.hang).await;
            refusal(world, dialect, Refusal::Server, "internal error")
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
            if script.videos > max_videos(dialect) {
                return Err(parameters("simulate: this provider makes only one video per task"));
            }
            Ok((value, script, dialect, draft))
        });
    let (value, script, dialect, mut draft) = match read {
        Ok(read) => read,
        Err((refused, message)) => return refusal(&world, dialect, refused, &message),
    };
    let refused = match script.submit {
        SubmitFate::Refuse => Some((Refusal::Parameters, "refused by the script")),
        SubmitFate::Moderate => Some((Refusal::Moderated, "the prompt was rejected by moderation")),
        SubmitFate::Balance => Some((Refusal::Balance, "insufficient balance")),
        SubmitFate::Busy => Some((Refusal::RateLimited, "too many tasks at once")),
        SubmitFate::Accept | SubmitFate::Timeout | SubmitFate::Error500 => None,
    };
    if let Some((refused, message)) = refused {
        return refusal(&world, dialect, refused, message);
    }
    if let Some(id) = apimart::idempotent_task(&world, dialect, idempotency_key.as_deref()) {
        world.attribute(index, &id);
        return submission_response(&world, dialect, &id);
    }

    let checked = check_url(&world, dialect, &mut draft).await;
    let (muted, challenged) = match checked {
        UrlCheck::Passed(delivery) => (false, delivery),
        UrlCheck::Failed(delivery) => (true, delivery),
        UrlCheck::Refused => {
            return refusal(&world, dialect, Refusal::Parameters, "callback_url failed the challenge");
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
            submission_response(&world, dialect, &id)
        }
        SubmitFate::Error500 => refusal(&world, dialect, Refusal::Server, "internal error"),
        _ => submission_response(&world, dialect, &id),
    }
}

enum UrlCheck {
    Passed(Option<crate::record::Delivery>),
    Failed(Option<crate::record::Delivery>),
    Refused,
}

async fn check_url(world: &World, dialect: Dialect, draft: &mut Draft) -> UrlCheck {
    let Some(url) = draft.callback_url.as_deref().filter(|_| delivery::is_challenged(dialect)) else {
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
fn submission_response(world: &World, dialect: Dialect, id: &str) -> Response {
    // The response describes the initial state, whatever has happened since.
    let Some(view) = world.initial_view(id) else {
        return refusal(world, dialect, Refusal::Server, "the task is gone");
    };
    // Replicate alone says 201.
    let status = if dialect == Dialect::Replicate { StatusCode::CREATED } else { StatusCode::OK };
    let body = match dialect {
        Dialect::KlingNew => kling::new_submission_body(world, &view),
        Dialect::KlingLegacy => kling::legacy_submission_body(world, &view),
        Dialect::MaxApi => maxapi::submission_body(&view),
        Dialect::ApiMart => apimart::submission_body(&view),
        Dialect::Ark => ark::submission_body(&view),
        Dialect::MiniMaxFirst => minimax::first_submission_body(&view),
        Dialect::MiniMaxSecond => minimax::second_submission_body(&view),
        Dialect::Vidu => vidu::submission_body(&view),
        Dialect::KieRunway | Dialect::KieVeo | Dialect::KieMarket => kie::submission_body(&view),
        Dialect::Apimp(_) => apimp::submission_body(&view),
        Dialect::RelayDance(shape) => relaydance::submission_body(&view, shape),
        Dialect::Replicate => replicate::submission_body(&view),
        Dialect::WaveSpeed => wavespeed::submission_body(&view),
    };
    json(status, &body)
}

/// The body of a callback; `None` if the provider sends none for this phase.
pub(crate) fn callback_body(view: &View) -> Option<Value> {
    match view.dialect {
        Dialect::KlingNew => Some(kling::new_body(view)),
        Dialect::KlingLegacy => Some(kling::legacy_body(view)),
        Dialect::MaxApi => Some(maxapi::body(view)),
        Dialect::ApiMart => Some(apimart::body(view)),
        Dialect::Ark => Some(ark::body(view)),
        Dialect::MiniMaxFirst => Some(minimax::first_callback(view)),
        Dialect::MiniMaxSecond => Some(minimax::second_body(view)),
        Dialect::Vidu => Some(vidu::body(view)),
        Dialect::KieRunway => kie::runway_callback(view),
        Dialect::KieVeo => kie::veo_callback(view),
        Dialect::KieMarket => Some(kie::market_callback(view)),
        Dialect::Apimp(upstream) => apimp::callback(view, upstream),
        Dialect::RelayDance(shape) => Some(relaydance::callback(view, shape)),
        Dialect::Replicate => Some(replicate::body(view)),
        Dialect::WaveSpeed => Some(wavespeed::callback(view)),
    }
}

pub(crate) fn callback_content_type(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::KlingNew | Dialect::KlingLegacy => "application/json; charset=utf-8",
        _ => "application/json",
    }
}

/// The stages of an open task for which the provider sends callbacks.
pub(crate) fn stages(dialect: Dialect) -> &'static [Stage] {
    match dialect.of_callback() {
        Dialect::KlingNew | Dialect::KlingLegacy | Dialect::Ark | Dialect::MiniMaxSecond => {
            &[Stage::Accepted, Stage::Running]
        }
        Dialect::MiniMaxFirst | Dialect::Vidu => &[Stage::Running],
        _ => &[],
    }
}

/// Whether the provider ever sends a callback for a phase. Stages are not checked: a script may send one out of order.
pub(crate) fn is_pushed(dialect: Dialect, phase: Phase) -> bool {
    match (dialect.of_callback(), phase) {
        // Both document the states they send, and this is not among them.
        (Dialect::ApiMart | Dialect::Ark, Phase::Final(Outcome::Cancelled)) | (Dialect::Apimp(_), _) => false,
        _ => true,
    }
}

/// How the provider retries a callback. If its documentation does not say, it never retries: the worst case for a receiver.
pub(crate) fn retry_policy(dialect: Dialect, phase: Phase) -> RetryPolicy {
    let last = matches!(phase, Phase::Final(_));
    match dialect {
        Dialect::ApiMart => RetryPolicy::new(10, &[10, 30, 60], GiveUp::OnClientError),
        // Three retries for a result. The delays are not documented, and chosen freely here and below.
        Dialect::Ark if matches!(phase, Phase::Final(outcome) if !is_expired(outcome)) => {
            RetryPolicy::new(5, &[5, 15, 30], GiveUp::Never)
        }
        Dialect::Ark | Dialect::MaxApi => RetryPolicy::new(5, &[], GiveUp::Never),
        Dialect::Vidu | Dialect::WaveSpeed if last => RetryPolicy::new(10, &[10, 30, 60], GiveUp::Never),
        // It stops after three consecutive failures.
        Dialect::KieRunway | Dialect::KieVeo | Dialect::KieMarket => RetryPolicy::new(15, &[10, 60], GiveUp::Never),
        Dialect::Replicate if last => RetryPolicy::new(5, &[5, 15], GiveUp::Never),
        // It retries; the documentation does not say how.
        Dialect::RelayDance(_) if last => RetryPolicy::new(10, &[5, 30], GiveUp::Never),
        _ => RetryPolicy::new(10, &[], GiveUp::Never),
    }
}

fn is_expired(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Expired | Outcome::Timeout)
}

/// The number of videos a task can have.
fn max_videos(dialect: Dialect) -> u32 {
    match dialect {
        Dialect::Ark
        | Dialect::MiniMaxFirst
        | Dialect::MiniMaxSecond
        | Dialect::KieRunway
        | Dialect::RelayDance(_)
        | Dialect::Apimp(Upstream::Ark | Upstream::MiniMax) => 1,
        _ => 10,
    }
}

/// The files of a task, with their names.
pub(crate) fn files(dialect: Dialect, request: &Value, videos: u32) -> Vec<(FileKind, String)> {
    let mut files = Vec::new();
    let extra = match dialect {
        Dialect::KlingNew if request["options"]["watermark_info"]["enabled"] == true => {
            Some((FileKind::Watermarked, "watermarked", "mp4"))
        }
        Dialect::KlingLegacy if request["watermark_info"]["enabled"] == true => {
            Some((FileKind::Watermarked, "watermarked", "mp4"))
        }
        Dialect::Ark if request["return_last_frame"] == true => Some((FileKind::LastFrame, "last_frame", "png")),
        Dialect::Vidu | Dialect::Apimp(Upstream::Vidu) => Some((FileKind::Cover, "cover", "jpeg")),
        Dialect::KieRunway => Some((FileKind::Cover, "cover", "png")),
        _ => None,
    };
    for ordinal in 1..=videos {
        let suffix = if ordinal == 1 { String::new() } else { format!("-{ordinal}") };
        files.push((FileKind::Video, format!("video{suffix}.mp4")));
        if let Some((kind, stem, extension)) = extra {
            files.push((kind, format!("{stem}{suffix}.{extension}")));
        }
    }
    files
}

/// A new task id in the provider's format.
pub(crate) fn new_id(world: &World, dialect: Dialect, now: SystemTime) -> String {
    match dialect {
        Dialect::KlingNew | Dialect::KlingLegacy | Dialect::Vidu | Dialect::MiniMaxFirst => world.digits(18),
        Dialect::MaxApi | Dialect::KieRunway => world.uuid(),
        Dialect::ApiMart | Dialect::Apimp(_) => format!("task_01{}", world.letters(24, true)),
        Dialect::Ark => ark_id(world, now),
        Dialect::MiniMaxSecond => world.digits(15),
        Dialect::KieVeo => format!("veo_task_{}", world.letters(12, false)),
        Dialect::KieMarket => format!("task_kie_{}", world.digits(8)),
        Dialect::RelayDance(_) => format!("task_{}", world.letters(32, false)),
        Dialect::Replicate => world.letters(26, false),
        Dialect::WaveSpeed => world.uuid().replace('-', ""),
    }
}

fn ark_id(world: &World, now: SystemTime) -> String {
    format!("cgt-{}-{}", crate::clock::beijing(now), world.letters(5, false))
}

/// The task's id at the sender of its callbacks.
pub(crate) fn foreign_id(world: &World, dialect: Dialect, id: &str, now: SystemTime) -> String {
    let sender = dialect.of_callback();
    if sender == dialect { id.to_owned() } else { new_id(world, sender, now) }
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
