//! `MiniMax` Hailuo, both generations of its API.
//!
//! Confirmed by its pages (`platform.minimax.io/docs/api-reference/video-generation-t2v`, `-query`, `-download`,
//! `-v2-create`, `-v2-query`, `-v2-list`, `-v2-delete`, `.../errorcode`): paths, fields, `base_resp` with HTTP 200 in
//! the first generation and real HTTP errors in the second, the challenge of the callback URL and its timeout of three
//! seconds, the status words of both (a callback of the first generation has `success`, a status response `Success`),
//! `file_id` instead of a link and the call that resolves it, `bytes` being 0 there, no signature.
//!
//! Inferred: the callback of a failed task of the first generation and its `base_resp`; a new link for each retrieval that
//! lives nine hours (as in the samples; the page says one hour); code 1027 for moderation.
//!
//! Not documented, chosen here: the challenge precedes the creation of the task (see [`crate::Challenge`]); no retries; an
//! unknown id of the first generation is code 2013.

use std::time::{Duration, SystemTime};

use axum::{
    Router,
    extract::{Path, State},
    response::Response,
    routing::{delete, get, post},
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Uri};
use serde_json::{Value, json};

use super::{Incoming, Shared, admit, first, ok, page, parameters, query, required, submit, text};
use crate::{
    api::{Api, Profile},
    clock,
    example::Example,
    files::{HOUR, Style},
    provider::{Dialect, Provider},
    record::{Call, FileKind, Phase, Refusal, Stage},
    script::Outcome,
    world::{Draft, Purpose, View, World},
};

pub(crate) const PROFILE: Profile = Profile::new(router, &Generation::Second, examples);

fn examples() -> Vec<Example> {
    vec![Example {
        submit: "/v2/video_generation",
        body: json!({ "model": "MiniMax-H3", "content": [{ "type": "text", "text": "{script}" }], "callback_url": "{url}" }),
        id: "/task_id",
        status: "/v2/query/video_generation/{id}",
        final_status: ("/task/status", "succeeded"),
        link: "/task/content/url",
        callback_status: ("/task/status", json!("succeeded")),
        callback_id: "/task/id",
        callbacks: 4,
        ..Example::of(Provider::MiniMax)
    }]
}

pub(crate) enum Generation {
    First,
    Second,
}

impl Api for Generation {
    fn provider(&self) -> Provider {
        Provider::MiniMax
    }

    fn refusal(&self, world: &World, refused: Refusal, message: &str) -> Response {
        match self {
            Self::First => first_refusal(refused, message),
            Self::Second => second_refusal(world, refused, message),
        }
    }

    fn max_videos(&self) -> u32 {
        1
    }

    fn is_challenged(&self) -> bool {
        true
    }

    fn new_id(&self, world: &World, _now: SystemTime) -> String {
        match self {
            Self::First => world.digits(18),
            Self::Second => world.digits(15),
        }
    }

    fn submission_body(&self, _world: &World, view: &View) -> Value {
        match self {
            Self::First => json!({ "task_id": view.id, "base_resp": base_response(0, "success") }),
            Self::Second => json!({ "task_id": view.id }),
        }
    }

    fn stages(&self) -> &'static [Stage] {
        match self {
            Self::First => &[Stage::Running],
            Self::Second => &[Stage::Accepted, Stage::Running],
        }
    }

    fn callback_body(&self, view: &View) -> Option<Value> {
        Some(match self {
            Self::First => first_callback(view),
            Self::Second => second_body(view),
        })
    }

    fn names_files_by_id(&self) -> bool {
        matches!(self, Self::First)
    }

    fn link_life(&self, _kind: FileKind, _purpose: Purpose) -> Duration {
        match self {
            Self::First => 9 * HOUR,
            Self::Second => HOUR,
        }
    }

    fn link_style(&self, _kind: FileKind, _purpose: Purpose) -> Style {
        match self {
            Self::First => Style::Oss,
            Self::Second => Style::Expires,
        }
    }

    /// The second generation presigns its links on every request.
    fn renewed_by_status(&self, dead: bool) -> bool {
        dead || matches!(self, Self::Second)
    }
}

fn router() -> Router<Shared> {
    Router::new()
        .route("/v1/video_generation", post(first_submit))
        .route("/v1/query/video_generation", get(first_status))
        .route("/v1/files/retrieve", get(retrieve))
        .route("/v2/video_generation", post(second_submit))
        .route("/v2/video_generation/{id}", delete(second_delete))
        .route("/v2/query/video_generation", get(second_list))
        .route("/v2/query/video_generation/{id}", get(second_status))
        .fallback(async || super::json(StatusCode::NOT_FOUND, &json!({ "error": "404 Page not found" })))
}

fn is_first(dialect: Dialect) -> bool {
    dialect == Dialect::MiniMaxFirst
}

fn is_second(dialect: Dialect) -> bool {
    dialect == Dialect::MiniMaxSecond
}

fn base_response(code: u32, message: &str) -> Value {
    json!({ "status_code": code, "status_msg": message })
}

/// Errors of the first generation have HTTP 200.
fn first_refusal(refusal: Refusal, message: &str) -> Response {
    let (code, message) = match refusal {
        Refusal::Parameters | Refusal::NotFound | Refusal::Conflict => (2013, format!("invalid params, {message}")),
        Refusal::Unauthorized => (1004, "login fail: Please carry the API secret key".to_owned()),
        Refusal::Balance => (1008, "insufficient balance".to_owned()),
        Refusal::Moderated => (1026, "new_sensitive: video description contains sensitive content".to_owned()),
        Refusal::RateLimited => (1002, "rate limit".to_owned()),
        Refusal::Server => (1000, "unknown error".to_owned()),
    };
    let status = if refusal == Refusal::Server { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
    super::json(status, &json!({ "task_id": "", "base_resp": base_response(code, &message) }))
}

/// Errors of the second generation have an HTTP status.
fn second_refusal(world: &World, refusal: Refusal, message: &str) -> Response {
    let (status, kind, code) = match refusal {
        Refusal::Parameters | Refusal::NotFound | Refusal::Conflict => (400, "bad_request_error", 2013),
        Refusal::Unauthorized => (401, "authorized_error", 1004),
        Refusal::Balance => (402, "insufficient_balance_error", 1008),
        Refusal::Moderated => (422, "unprocessable_entity_error", 1026),
        Refusal::RateLimited => (429, "rate_limit_error", 1002),
        Refusal::Server => (500, "server_error", 1000),
    };
    super::json(
        StatusCode::from_u16(status).unwrap_or_default(),
        &json!({
            "type": "error",
            "error": { "type": kind, "message": format!("{message} ({code})"), "http_code": status.to_string() },
            "request_id": world.uuid(),
        }),
    )
}

async fn first_submit(State(world): State<Shared>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let dialect = Dialect::MiniMaxFirst;
    let incoming = Incoming { dialect, path: uri.path().to_owned(), headers, body };
    submit(world, incoming, |_, body, _| {
        let model = required(body, "model")?.to_owned();
        let pictured = !body["first_frame_image"].is_null() || !body["subject_reference"].is_null();
        if text(body, "prompt").is_none() && !pictured {
            return Err(parameters("prompt is required"));
        }
        if !body["duration"].is_null() && !body["duration"].is_u64() {
            return Err(parameters("duration must be an integer"));
        }
        let callback_url = text(body, "callback_url").map(str::to_owned);
        Ok((dialect, Draft { model, callback_url, ..Draft::default() }))
    })
    .await
}

async fn second_submit(State(world): State<Shared>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let dialect = Dialect::MiniMaxSecond;
    let incoming = Incoming { dialect, path: uri.path().to_owned(), headers, body };
    submit(world, incoming, |_, body, _| {
        let model = required(body, "model")?.to_owned();
        if body["content"].as_array().is_none_or(Vec::is_empty) {
            return Err(parameters("content is required"));
        }
        let callback_url = text(body, "callback_url").map(str::to_owned);
        Ok((dialect, Draft { model, callback_url, ..Draft::default() }))
    })
    .await
}

/// The result of the task, in the field that otherwise has the result of the call.
fn verdict(view: &View) -> Value {
    match view.phase {
        Phase::Open(_) | Phase::Final(Outcome::Succeed) => base_response(0, "success"),
        Phase::Final(Outcome::Moderated) => base_response(1027, "output new_sensitive"),
        Phase::Final(Outcome::Timeout | Outcome::Expired) => base_response(1001, "request timeout"),
        Phase::Final(Outcome::Fail | Outcome::Cancelled) => base_response(1000, "unknown error"),
    }
}

fn file_id(view: &View) -> &str {
    view.file_ids.first().map_or("", String::as_str)
}

fn first_callback(view: &View) -> Value {
    let status = match view.phase {
        Phase::Open(_) => "processing",
        Phase::Final(Outcome::Succeed) => "success",
        Phase::Final(_) => "failed",
    };
    json!({ "task_id": view.id, "status": status, "file_id": file_id(view), "base_resp": verdict(view) })
}

async fn first_status(State(world): State<Shared>, uri: Uri, headers: HeaderMap) -> Response {
    if let Some(response) = admit(&world, Dialect::MiniMaxFirst, Call::Status, &headers).await {
        return response;
    }
    let query = query(&uri);
    let Some(view) = first(&query, "task_id").and_then(|id| world.view(id, Purpose::Status, is_first)) else {
        return first_refusal(Refusal::NotFound, "task_id not found");
    };
    let status = match view.phase {
        Phase::Open(_) => view.status_word(["Preparing", "Queueing", "Processing"]),
        Phase::Final(Outcome::Succeed) => "Success",
        Phase::Final(_) => "Fail",
    };
    let mut body =
        json!({ "task_id": view.id, "status": status, "file_id": file_id(&view), "base_resp": verdict(&view) });
    let content = world.content(&view.id, None).filter(|_| view.succeeded());
    if let Some((width, height)) = content.and_then(|content| content.dimensions()) {
        body["video_width"] = json!(width);
        body["video_height"] = json!(height);
    }
    ok(&body)
}

/// Resolves a file id to a link, a new one each time.
async fn retrieve(State(world): State<Shared>, uri: Uri, headers: HeaderMap) -> Response {
    if let Some(response) = admit(&world, Dialect::MiniMaxFirst, Call::Link, &headers).await {
        return response;
    }
    let query = query(&uri);
    let wanted = first(&query, "file_id").unwrap_or_default();
    let view = world.task_with_file(wanted).and_then(|id| world.view(&id, Purpose::Refresh, is_first));
    let Some((view, file)) = view.and_then(|view| {
        let file = view.files.iter().find(|file| file.file_id == wanted)?.clone();
        Some((view, file))
    }) else {
        return first_refusal(Refusal::NotFound, "file_id not found");
    };
    ok(&json!({
        "file": {
            "file_id": file.file_id.parse::<u64>().unwrap_or_default(),
            "bytes": 0,
            "created_at": clock::seconds(view.updated),
            "filename": "output_aigc.mp4",
            "purpose": "video_generation",
            "download_url": file.url,
        },
        "base_resp": base_response(0, "success"),
    }))
}

/// The body of callbacks and status responses of the second generation.
fn second_body(view: &View) -> Value {
    let status = match view.phase {
        Phase::Open(_) => view.status_word(["queued", "queued", "running"]),
        Phase::Final(Outcome::Succeed) => "succeeded",
        Phase::Final(Outcome::Fail | Outcome::Moderated) => "failed",
        Phase::Final(Outcome::Timeout | Outcome::Expired) => "expired",
        Phase::Final(Outcome::Cancelled) => "cancelled",
    };
    let field = |name: &str, default: Value| view.request.get(name).cloned().unwrap_or(default);
    let mut task = json!({
        "id": view.id,
        "model": view.model,
        "status": status,
        "created_at": clock::seconds(view.created),
        "updated_at": clock::seconds(view.updated),
        "resolution": field("resolution", json!("768P")),
        "duration": field("duration", json!(5)),
        "usage": {},
        "ratio": field("ratio", json!("16:9")),
        "task_type": "generation",
        "modality": "video",
    });
    match view.phase {
        Phase::Final(Outcome::Succeed) => {
            task["content"] = json!({ "url": view.url(FileKind::Video) });
            task["usage"] = json!({ "total_seconds": task["duration"] });
        }
        Phase::Final(Outcome::Moderated) => {
            task["error"] = json!({ "code": "1026", "message": "video description contains sensitive content" });
        }
        Phase::Final(Outcome::Fail) => task["error"] = json!({ "code": "1000", "message": "unknown error" }),
        _ => {}
    }
    json!({ "task": task })
}

async fn second_status(State(world): State<Shared>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    if let Some(response) = admit(&world, Dialect::MiniMaxSecond, Call::Status, &headers).await {
        return response;
    }
    match world.view(&id, Purpose::Status, is_second) {
        Some(view) => ok(&second_body(&view)),
        None => second_refusal(&world, Refusal::NotFound, "invalid task id"),
    }
}

async fn second_list(State(world): State<Shared>, uri: Uri, headers: HeaderMap) -> Response {
    if let Some(response) = admit(&world, Dialect::MiniMaxSecond, Call::Status, &headers).await {
        return response;
    }
    let query = query(&uri);
    let requested: Vec<_> = query
        .iter()
        .filter(|(key, value)| key == "filter.task_ids" && !value.is_empty())
        .flat_map(|(_, ids)| ids.split(',').map(str::to_owned))
        .collect();
    let ids = if requested.is_empty() { world.known(Provider::MiniMax) } else { requested };
    let is = |task: &Value, name: &str, filter: &str| first(&query, filter).is_none_or(|wanted| task[name] == wanted);
    let items: Vec<_> = ids
        .iter()
        .filter_map(|id| world.view(id, Purpose::Status, is_second))
        .map(|view| second_body(&view)["task"].take())
        .filter(|task| is(task, "status", "filter.status") && is(task, "model", "filter.model"))
        .filter(|task| is(task, "task_type", "filter.task_type"))
        .collect();
    let total = items.len();
    match page(items, first(&query, "page_num"), first(&query, "page_size"), 500) {
        Some(items) => ok(&json!({ "items": items, "total": total })),
        None => second_refusal(&world, Refusal::Parameters, "page_size is out of range"),
    }
}

/// Cancels a queued task, refuses a running or cancelled one, deletes a finished one.
async fn second_delete(State(world): State<Shared>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    if let Some(response) = admit(&world, Dialect::MiniMaxSecond, Call::Cancel, &headers).await {
        return response;
    }
    match world.view(&id, Purpose::Callback, is_second).map(|view| view.phase) {
        None => second_refusal(&world, Refusal::NotFound, "invalid task id"),
        Some(Phase::Open(Stage::Accepted | Stage::Waiting)) => {
            super::cancel_now(&world, &id);
            ok(&json!({ "task_id": id, "action": "cancelled", "status": "cancelled" }))
        }
        Some(Phase::Open(Stage::Running) | Phase::Final(Outcome::Cancelled)) => {
            second_refusal(&world, Refusal::Conflict, "the task cannot be deleted in this state")
        }
        Some(Phase::Final(outcome)) => {
            world.with_task(&id, |task| task.hidden = true);
            let status = if outcome == Outcome::Succeed { "succeeded" } else { "failed" };
            ok(&json!({ "task_id": id, "action": "deleted", "status": status }))
        }
    }
}
