//! Volcengine Ark and `BytePlus` `ModelArk`.
//!
//! Confirmed by their pages (`volcengine.com/docs/82379/1520757` create, `/1521309` query, `/1521675` list, `/1521720`
//! cancel or delete, `/1299023` errors, `/1366799` tutorial; twins under `docs.byteplus.com/en/docs/ModelArk`): paths,
//! fields, ids with Beijing time, states, callbacks with the body of a status response, the states that they report
//! (queued, running, succeeded, failed, expired), a timeout of five seconds for results, three retries, error codes, no
//! signature, TOS-presigned links that live 24 hours.
//!
//! Inferred: the body of an expired task; that three retries follow the first attempt; HTTP 404 for an unknown id; HTTP
//! 409 if a task cannot be cancelled; no callback for a cancelled task.
//!
//! Not documented, chosen here: the delays between retries; HEAD on a link fails, because links are presigned for GET;
//! the next status call replaces a dead link (do not rely on it).

use std::time::SystemTime;

use axum::{
    Router,
    extract::{Path, State},
    response::Response,
    routing::get,
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Uri};
use serde_json::{Value, json};

use super::{Incoming, Shared, admit, first, ok, page, parameters, query, required, submit, text};
use crate::{
    api::{Api, Profile},
    clock,
    delivery::{GiveUp, RetryPolicy},
    example::Example,
    files::Style,
    provider::{Dialect, Provider},
    record::{Call, FileKind, Phase, Refusal, Stage},
    script::Outcome,
    world::{Draft, Purpose, View, World},
};

const DIALECT: Dialect = Dialect::Only(Provider::Ark);

pub(crate) const PROFILE: Profile = Profile { base_path: "/api/v3", ..Profile::new(router, &Ark, examples) };

fn examples() -> Vec<Example> {
    vec![Example {
        submit: "/contents/generations/tasks",
        body: json!({ "model": "doubao-seedance", "content": [{ "type": "text", "text": "{script}" }], "callback_url": "{url}" }),
        id: "/id",
        status: "/contents/generations/tasks/{id}",
        final_status: ("/status", "succeeded"),
        link: "/content/video_url",
        callback_status: ("/status", json!("succeeded")),
        callback_id: "/id",
        callbacks: 3,
        attempts: 4,
        ..Example::of(Provider::Ark)
    }]
}

pub(crate) struct Ark;

impl Api for Ark {
    fn provider(&self) -> Provider {
        Provider::Ark
    }

    fn refusal(&self, _world: &World, refused: Refusal, message: &str) -> Response {
        refusal(refused, message)
    }

    fn max_videos(&self) -> u32 {
        1
    }

    fn new_id(&self, world: &World, now: SystemTime) -> String {
        format!("cgt-{}-{}", clock::beijing(now), world.letters(5, false))
    }

    fn submission_body(&self, _world: &World, view: &View) -> Value {
        json!({ "id": view.id })
    }

    fn stages(&self) -> &'static [Stage] {
        &[Stage::Accepted, Stage::Running]
    }

    /// Its pages list the states it sends, and cancelled is not among them.
    fn is_pushed(&self, phase: Phase) -> bool {
        phase != Phase::Final(Outcome::Cancelled)
    }

    fn callback_body(&self, view: &View) -> Option<Value> {
        Some(body(view))
    }

    /// Three retries for a result.
    fn retry_policy(&self, phase: Phase) -> RetryPolicy {
        match phase {
            Phase::Open(_) | Phase::Final(Outcome::Expired | Outcome::Timeout) => {
                RetryPolicy::new(5, &[], GiveUp::Never)
            }
            Phase::Final(_) => RetryPolicy::new(5, &[5, 15, 30], GiveUp::Never),
        }
    }

    fn extra_file(&self, request: &Value) -> Option<(FileKind, &'static str, &'static str)> {
        (request["return_last_frame"] == true).then_some((FileKind::LastFrame, "last_frame", "png"))
    }

    fn link_style(&self, _kind: FileKind, _purpose: Purpose) -> Style {
        Style::Tos
    }
}

fn router() -> Router<Shared> {
    Router::new()
        .route("/api/v3/contents/generations/tasks", get(list).post(create))
        .route("/api/v3/contents/generations/tasks/{id}", get(status).delete(remove))
        .fallback(async || refusal(Refusal::NotFound, "not found"))
}

fn refusal(refusal: Refusal, message: &str) -> Response {
    let (status, code, kind) = match refusal {
        Refusal::Parameters => (400, "InvalidParameter", "BadRequest"),
        Refusal::Moderated => (400, "InputTextSensitiveContentDetected", "BadRequest"),
        Refusal::Unauthorized => (401, "AuthenticationError", "Unauthorized"),
        Refusal::Balance => (403, "AccountOverdueError", "Forbidden"),
        Refusal::NotFound => (404, "NotFound.Task", "NotFound"),
        Refusal::Conflict => (409, "InvalidAction.RunningTaskDeletion", "Conflict"),
        Refusal::RateLimited => (429, "RateLimitExceeded.EndpointRPMExceeded", "TooManyRequests"),
        Refusal::Server => (500, "InternalServiceError", "InternalServerError"),
    };
    let error = json!({ "code": code, "message": format!("{message} Request id: 0217"), "type": kind, "param": "" });
    super::json(StatusCode::from_u16(status).unwrap_or_default(), &json!({ "error": error }))
}

async fn create(State(world): State<Shared>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let incoming = Incoming { dialect: DIALECT, path: uri.path().to_owned(), headers, body };
    submit(world, incoming, |_, body, _| {
        let model = required(body, "model")?.to_owned();
        let content = body["content"].as_array().filter(|content| !content.is_empty());
        let content = content.ok_or_else(|| parameters("the parameter content is missing"))?;
        let kinds = ["text", "image_url", "video_url", "audio_url", "draft_task"];
        if !content.iter().all(|item| item["type"].as_str().is_some_and(|kind| kinds.contains(&kind))) {
            return Err(parameters("the parameter content.type is not valid"));
        }
        let callback_url = text(body, "callback_url").map(str::to_owned);
        Ok((DIALECT, Draft { model, callback_url, ..Draft::default() }))
    })
    .await
}

/// The body of callbacks and status responses.
fn body(view: &View) -> Value {
    let status = match view.phase {
        Phase::Open(_) => view.status_word(["queued", "queued", "running"]),
        Phase::Final(Outcome::Succeed) => "succeeded",
        Phase::Final(Outcome::Fail | Outcome::Moderated) => "failed",
        Phase::Final(Outcome::Timeout | Outcome::Expired) => "expired",
        Phase::Final(Outcome::Cancelled) => "cancelled",
    };
    let field = |name: &str, default: Value| view.request.get(name).cloned().unwrap_or(default);
    let mut body = json!({
        "id": view.id,
        "model": view.model,
        "status": status,
        "created_at": clock::seconds(view.created),
        "updated_at": clock::seconds(view.updated),
        "service_tier": field("service_tier", json!("default")),
        "execution_expires_after": field("execution_expires_after", json!(172_800)),
    });
    if view.succeeded() {
        body["content"] = json!({ "video_url": view.url(FileKind::Video) });
        if view.files_of(FileKind::LastFrame).next().is_some() {
            body["content"]["last_frame_url"] = json!(view.url(FileKind::LastFrame));
        }
        let seconds = view.files_of(FileKind::Video).next().map(|file| file.content.seconds());
        body["usage"] = json!({ "completion_tokens": 108_900, "total_tokens": 108_900 });
        body["seed"] = field("seed", json!(1276));
        body["resolution"] = field("resolution", json!("720p"));
        body["ratio"] = field("ratio", json!("16:9"));
        body["duration"] = json!(seconds);
        body["framespersecond"] = json!(24);
        body["generate_audio"] = field("generate_audio", json!(true));
        body["draft"] = json!(false);
    }
    let error = match view.phase {
        Phase::Final(Outcome::Moderated) => Some((
            "OutputVideoSensitiveContentDetected.PolicyViolation",
            "The request failed because the output video may be related to copyright restrictions. Request id: 0217",
        )),
        Phase::Final(Outcome::Fail) => {
            Some(("InternalServiceError", "The service encountered an unexpected internal error. Request id: 0217"))
        }
        _ => None,
    };
    if let Some((code, message)) = error {
        body["error"] = json!({ "code": code, "message": message });
    }
    body
}

fn is_ark(dialect: Dialect) -> bool {
    dialect == DIALECT
}

async fn status(State(world): State<Shared>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    if let Some(response) = admit(&world, DIALECT, Call::Status, &headers).await {
        return response;
    }
    match world.view(&id, Purpose::Status, is_ark) {
        Some(view) => ok(&body(&view)),
        None => refusal(Refusal::NotFound, "the task is not found."),
    }
}

async fn list(State(world): State<Shared>, uri: Uri, headers: HeaderMap) -> Response {
    if let Some(response) = admit(&world, DIALECT, Call::Status, &headers).await {
        return response;
    }
    let query = query(&uri);
    let ids: Vec<_> = query.iter().filter(|(key, _)| key == "filter.task_ids").map(|(_, id)| id.clone()).collect();
    let ids = if ids.is_empty() { world.known(Provider::Ark) } else { ids };
    let is = |body: &Value, name: &str, filter: &str| first(&query, filter).is_none_or(|wanted| body[name] == wanted);
    let items: Vec<_> = ids
        .iter()
        .filter_map(|id| world.view(id, Purpose::Status, is_ark))
        .map(|view| body(&view))
        .filter(|body| is(body, "status", "filter.status") && is(body, "service_tier", "filter.service_tier"))
        .filter(|body| is(body, "model", "filter.model"))
        .collect();
    let total = items.len();
    match page(items, first(&query, "page_num"), first(&query, "page_size"), 500) {
        Some(items) => ok(&json!({ "items": items, "total": total })),
        None => refusal(Refusal::Parameters, "the parameter page_size is not valid."),
    }
}

/// Cancels a queued task, refuses a running one, deletes a finished one.
async fn remove(State(world): State<Shared>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    if let Some(response) = admit(&world, DIALECT, Call::Cancel, &headers).await {
        return response;
    }
    match world.view(&id, Purpose::Callback, is_ark).map(|view| view.phase) {
        None => refusal(Refusal::NotFound, "the task is not found."),
        Some(Phase::Open(Stage::Accepted | Stage::Waiting)) => {
            super::cancel_now(&world, &id);
            ok(&json!({}))
        }
        Some(Phase::Open(Stage::Running) | Phase::Final(Outcome::Cancelled)) => {
            refusal(Refusal::Conflict, "the task cannot be deleted in this state.")
        }
        Some(Phase::Final(_)) => {
            world.with_task(&id, |task| task.hidden = true);
            ok(&json!({}))
        }
    }
}
