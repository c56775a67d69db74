//! Kling, both generations of its API.
//!
//! Confirmed by Kling's pages (`klingai.com/document-api/api/get-started/callbacks`, `.../authentication`,
//! `.../error-codes`, `.../concurrency-rules`, `.../video/2-6/text-to-video`; the older manual at `docs.qingque.cn` for
//! the legacy paths): paths, fields, envelopes, ids as strings of 18 digits, timestamps in milliseconds, states, callbacks
//! on every change of state, Standard Webhooks signing and its vector, error codes, JWT for the legacy paths.
//!
//! Inferred: that legacy bodies are signed like new ones; the messages of failed tasks (seen in client logs).
//!
//! Not documented, chosen here: no retries and a callback timeout of ten seconds; `/tasks` returns tasks of the new style
//! only; an unknown legacy id is HTTP 400 with code 1201; the next status call replaces a dead link.

use std::time::{Duration, SystemTime};

use axum::{
    Router,
    extract::{Path, State},
    response::Response,
    routing::{get, post},
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Uri};
use serde_json::{Map, Value, json};

use super::{Incoming, Refused, Shared, admit, credential, first, ok, page, parameters, query, submit, text};
use crate::{
    api::{Api, Headers, Outgoing, Profile},
    clock,
    example::Example,
    files::{DAY, Style},
    provider::{Dialect, Provider, Signs},
    record::{Call, FileKind, Phase, Refusal, Stage},
    script::Outcome,
    signature::{self, TokenError, check_token},
    world::{Draft, Purpose, View, World},
};

pub(crate) const PROFILE: Profile = Profile {
    signs: Signs::Body,
    // Base64 of "kling-signing-secret-32-bytes-ok".
    signing_secret: Some("whsec_a2xpbmctc2lnbmluZy1zZWNyZXQtMzItYnl0ZXMtb2s="),
    ..Profile::new(router, &Generation::New, examples)
};

fn examples() -> Vec<Example> {
    vec![
        Example {
            submit: "/text-to-video/kling-2.6",
            body: json!({ "prompt": "{script}", "settings": { "duration": 5 }, "options": { "callback_url": "{url}", "external_task_id": "own-1" } }),
            id: "/data/id",
            status: "/tasks?task_ids={id}",
            final_status: ("/data/0/status", "succeeded"),
            link: "/data/0/outputs/0/url",
            callback_status: ("/status", json!("succeeded")),
            callback_id: "/id",
            callbacks: 3,
            ..Example::of(Provider::Kling)
        },
        Example {
            submit: "/v1/videos/text2video",
            body: json!({ "prompt": "{script}", "model_name": "kling-v2", "duration": "5", "callback_url": "{url}" }),
            status: "/v1/videos/text2video/{id}",
            final_status: ("/data/task_status", "succeed"),
            link: "/data/task_result/videos/0/url",
            callback_status: ("/task_status", json!("succeed")),
            callback_id: "/task_id",
            callbacks: 3,
            ..Example::of(Provider::Kling)
        },
    ]
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Generation {
    New,
    Legacy,
}

impl Api for Generation {
    fn provider(&self) -> Provider {
        Provider::Kling
    }

    fn refusal(&self, world: &World, refused: Refusal, message: &str) -> Response {
        refusal(world, refused, message)
    }

    fn unauthorized(&self, world: &World, headers: &HeaderMap) -> Option<Response> {
        unauthorized(world, *self, headers)
    }

    fn new_id(&self, world: &World, _now: SystemTime) -> String {
        world.digits(18)
    }

    fn submission_body(&self, world: &World, view: &View) -> Value {
        match self {
            Self::New => new_submission_body(world, view),
            Self::Legacy => legacy_submission_body(world, view),
        }
    }

    fn stages(&self) -> &'static [Stage] {
        &[Stage::Accepted, Stage::Running]
    }

    fn callback_body(&self, view: &View) -> Option<Value> {
        Some(match self {
            Self::New => new_body(view),
            Self::Legacy => legacy_body(view),
        })
    }

    fn callback_content_type(&self) -> &'static str {
        "application/json; charset=utf-8"
    }

    fn signature(&self, outgoing: &Outgoing<'_>) -> Option<Headers> {
        signature::standard_webhooks_headers(outgoing)
    }

    fn extra_file(&self, request: &Value) -> Option<(FileKind, &'static str, &'static str)> {
        let options = if *self == Self::New { &request["options"] } else { request };
        (options["watermark_info"]["enabled"] == true).then_some((FileKind::Watermarked, "watermarked", "mp4"))
    }

    fn link_life(&self, _kind: FileKind, _purpose: Purpose) -> Duration {
        30 * DAY
    }

    fn link_style(&self, _kind: FileKind, _purpose: Purpose) -> Style {
        Style::CacheKey
    }
}

fn router() -> Router<Shared> {
    let mut router = Router::new()
        .route("/tasks", get(new_status).post(new_list))
        .route("/v1/videos/{action}", post(legacy_submit).get(legacy_list))
        .route("/v1/videos/{action}/{id}", get(legacy_status))
        .fallback(unknown);
    for kind in NEW_KINDS {
        router = router.route(&format!("/{kind}/{{model}}"), post(new_submit));
    }
    router
}

/// The first path segment of the new style.
const NEW_KINDS: [&str; 3] = ["text-to-video", "image-to-video", "motion-control"];

/// Actions of the legacy style. The status of a task is available under its own action only.
const LEGACY_ACTIONS: [&str; 8] = [
    "text2video",
    "image2video",
    "multi-image2video",
    "omni-video",
    "motion-control",
    "video-extend",
    "lip-sync",
    "effects",
];

async fn unknown(State(world): State<Shared>) -> Response {
    refusal(&world, Refusal::NotFound, "the requested resource does not exist")
}

fn error(world: &World, status: StatusCode, code: u32, message: &str) -> Response {
    super::json(status, &json!({ "code": code, "message": message, "request_id": world.uuid() }))
}

fn refusal(world: &World, refusal: Refusal, message: &str) -> Response {
    let (status, code) = match refusal {
        Refusal::Parameters | Refusal::Conflict => (400, 1201),
        Refusal::Unauthorized => (401, 1002),
        Refusal::Balance => (429, 1102),
        Refusal::Moderated => (400, 1301),
        Refusal::NotFound => (404, 1203),
        Refusal::RateLimited => (429, 1303),
        Refusal::Server => (500, 5000),
    };
    let message = if refusal == Refusal::RateLimited { "parallel task over resource pack limit" } else { message };
    error(world, StatusCode::from_u16(status).unwrap_or_default(), code, message)
}

/// The API key is valid everywhere, a JWT on the legacy paths only.
fn unauthorized(world: &World, generation: Generation, headers: &HeaderMap) -> Option<Response> {
    let refuse = |code, message| Some(error(world, StatusCode::UNAUTHORIZED, code, message));
    let Some(given) = credential(headers, "Bearer").filter(|given| !given.is_empty()) else {
        return refuse(1001, "Authorization is empty");
    };
    let key = world.config.account(Provider::Kling).api_key;
    if !key.is_empty() && given == key {
        return None;
    }
    let Some(pair) = world.config.kling_access_key.as_ref().filter(|_| generation == Generation::Legacy) else {
        return refuse(1002, "Authorization is invalid");
    };
    match check_token(given, &pair.access_key, &pair.secret_key, clock::seconds(SystemTime::now())) {
        Ok(()) => None,
        Err(TokenError::Invalid) => refuse(1002, "Authorization is invalid"),
        Err(TokenError::NotYetValid) => refuse(1003, "Authorization is not yet valid"),
        Err(TokenError::Expired) => refuse(1004, "Authorization is expired"),
    }
}

fn external_id(world: &World, id: Option<&str>) -> Result<Option<String>, Refused> {
    match id {
        Some(id) if world.task_with_external_id(Provider::Kling, id).is_some() => {
            Err(parameters("external_task_id already exists"))
        }
        id => Ok(id.map(str::to_owned)),
    }
}

async fn new_submit(
    State(world): State<Shared>,
    Path(model): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let dialect = Dialect::KlingNew;
    let needs_frame = uri.path().starts_with("/image-to-video/");
    let incoming = Incoming { dialect, path: uri.path().to_owned(), headers, body };
    submit(world, incoming, |world, body, _| {
        let contents = body["contents"].as_array().map(Vec::as_slice).unwrap_or_default();
        let has = |kind: &str| contents.iter().any(|content| content["type"] == kind);
        if text(body, "prompt").is_none() && !has("prompt") && !has("first_frame") {
            return Err(parameters("prompt is required"));
        }
        if needs_frame && !has("first_frame") {
            return Err(parameters("contents has no first_frame"));
        }
        if !body["settings"]["duration"].is_null() && !body["settings"]["duration"].is_u64() {
            return Err(parameters("settings.duration is not an integer"));
        }
        Ok((
            dialect,
            Draft {
                model,
                callback_url: text(&body["options"], "callback_url").map(str::to_owned),
                external_id: external_id(world, text(&body["options"], "external_task_id"))?,
                ..Draft::default()
            },
        ))
    })
    .await
}

async fn legacy_submit(
    State(world): State<Shared>,
    Path(action): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let dialect = Dialect::KlingLegacy;
    let incoming = Incoming { dialect, path: uri.path().to_owned(), headers, body };
    submit(world, incoming, |world, body, _| {
        if !LEGACY_ACTIONS.contains(&action.as_str()) {
            return Err((Refusal::NotFound, format!("no action {action}")));
        }
        if action == "text2video" && text(body, "prompt").is_none() {
            return Err(parameters("prompt is required"));
        }
        if action == "image2video" && text(body, "image").is_none() && text(body, "image_tail").is_none() {
            return Err(parameters("image is required"));
        }
        if !body["duration"].is_null() && !body["duration"].is_string() {
            return Err(parameters("duration is not a string"));
        }
        Ok((
            dialect,
            Draft {
                action,
                model: text(body, "model_name").unwrap_or_default().to_owned(),
                callback_url: text(body, "callback_url").map(str::to_owned),
                external_id: external_id(world, text(body, "external_task_id"))?,
            },
        ))
    })
    .await
}

fn envelope(world: &World, data: Value) -> Value {
    let mut envelope = json!({ "code": 0, "message": "SUCCEED", "request_id": world.uuid() });
    envelope["data"] = data;
    envelope
}

fn new_submission_body(world: &World, view: &View) -> Value {
    let mut data = json!({
        "id": view.id,
        "status": "submitted",
        "create_time": clock::milliseconds(view.created),
        "update_time": clock::milliseconds(view.updated),
    });
    if let Some(external_id) = &view.external_id {
        data["external_id"] = json!(external_id);
    }
    envelope(world, data)
}

fn legacy_submission_body(world: &World, view: &View) -> Value {
    let data = json!({
        "task_id": view.id,
        "task_status": "submitted",
        "task_info": task_info(view),
        "created_at": clock::milliseconds(view.created),
        "updated_at": clock::milliseconds(view.updated),
    });
    envelope(world, data)
}

fn task_info(view: &View) -> Value {
    let mut info = Map::new();
    if let Some(external_id) = &view.external_id {
        info.insert("external_task_id".to_owned(), json!(external_id));
    }
    Value::Object(info)
}

fn message(view: &View) -> &'static str {
    match view.phase {
        Phase::Final(Outcome::Moderated) => "Failure to pass the risk control system",
        Phase::Final(outcome) => super::failure_text(outcome),
        Phase::Open(_) => "",
    }
}

/// The two styles differ only in the status word of a success.
fn status(view: &View, success: &'static str) -> &'static str {
    match view.phase {
        Phase::Open(_) => view.status_word(["submitted", "processing", "processing"]),
        Phase::Final(Outcome::Succeed) => success,
        Phase::Final(_) => "failed",
    }
}

/// Each video with its watermarked copy.
fn videos(view: &View) -> Vec<Value> {
    let watermarked: Vec<_> = view.files_of(FileKind::Watermarked).collect();
    view.files_of(FileKind::Video)
        .enumerate()
        .map(|(index, video)| {
            json!({
                "id": video.file_id,
                "url": video.url,
                "watermark_url": watermarked.get(index).map_or("", |file| file.url.as_str()),
                "duration": format!("{}.0", video.content.seconds()),
            })
        })
        .collect()
}

/// The task in the new style: the body of a callback, and an entry of `data` in a status response.
fn new_body(view: &View) -> Value {
    let mut outputs = videos(view);
    for output in &mut outputs {
        output["type"] = json!("video");
    }
    let mut body = json!({
        "id": view.id,
        "status": status(view, "succeeded"),
        "message": message(view),
        "create_time": clock::milliseconds(view.created),
        "update_time": clock::milliseconds(view.updated),
        "outputs": outputs,
    });
    if let Some(external_id) = &view.external_id {
        body["external_id"] = json!(external_id);
    }
    if matches!(view.phase, Phase::Final(_)) {
        let unit = json!({ "charge_type": "unit", "amount": "2.5", "package_type": "video", "list_price": "2.5" });
        body["billing"] = if view.succeeded() { json!([unit]) } else { json!([]) };
    }
    body
}

/// The task in the legacy style: the body of a callback, and `data` of a status response.
fn legacy_body(view: &View) -> Value {
    let mut body = json!({
        "task_id": view.id,
        "task_status": status(view, "succeed"),
        "task_status_msg": message(view),
        "created_at": clock::milliseconds(view.created),
        "updated_at": clock::milliseconds(view.updated),
        "task_info": task_info(view),
        "task_result": {},
    });
    if view.succeeded() {
        body["task_result"] = json!({ "images": [], "videos": videos(view) });
        body["final_unit_deduction"] = json!("2.5");
        body["final_balance_deduction"] = json!({ "quota": "0", "list_price": "0" });
    }
    body
}

fn is_new(dialect: Dialect) -> bool {
    dialect == Dialect::KlingNew
}

async fn new_status(State(world): State<Shared>, uri: Uri, headers: HeaderMap) -> Response {
    if let Some(response) = admit(&world, Dialect::KlingNew, Call::Status, &headers).await {
        return response;
    }
    let query = query(&uri);
    let ids = match (first(&query, "task_ids"), first(&query, "external_task_ids")) {
        (Some(ids), None) => ids.split(',').map(str::to_owned).collect(),
        (None, Some(ids)) => {
            ids.split(',').filter_map(|id| world.task_with_external_id(Provider::Kling, id)).collect::<Vec<_>>()
        }
        _ => return refusal(&world, Refusal::Parameters, "exactly one of task_ids and external_task_ids is required"),
    };
    let data = ids
        .iter()
        .filter_map(|id| world.view(id, Purpose::Status, is_new))
        .map(|view| new_body(&view))
        .collect::<Vec<_>>();
    ok(&envelope(&world, json!(data)))
}

async fn new_list(State(world): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    if let Some(response) = admit(&world, Dialect::KlingNew, Call::Status, &headers).await {
        return response;
    }
    let request: Value = serde_json::from_slice(&body).unwrap_or_default();
    let limit = request["limit"].as_u64().unwrap_or(20);
    let cursor = request["cursor"].as_str().map_or(Some(0), |cursor| cursor.parse::<usize>().ok());
    let (Some(cursor), Ok(limit @ 1..=500)) = (cursor, usize::try_from(limit)) else {
        return refusal(&world, Refusal::Parameters, "limit or cursor is invalid");
    };
    let filters = request["filters"].as_array().cloned().unwrap_or_default();
    let wanted = |body: &Value| {
        filters
            .iter()
            .filter(|filter| filter["key"] == "status")
            .all(|filter| filter["values"].as_array().is_some_and(|values| values.contains(&body["status"])))
    };
    let inside = |body: &Value| {
        let created = body["create_time"].as_i64().unwrap_or_default();
        request["start_time"].as_i64().is_none_or(|start| created >= start)
            && request["end_time"].as_i64().is_none_or(|end| created <= end)
    };
    let all: Vec<_> = world
        .known(Provider::Kling)
        .iter()
        .filter_map(|id| world.view(id, Purpose::Status, is_new))
        .map(|view| new_body(&view))
        .filter(|body| wanted(body) && inside(body))
        .collect();
    let count = all.len();
    let result: Vec<_> = all.into_iter().skip(cursor).take(limit).collect();
    let next = cursor + result.len();
    ok(&envelope(
        &world,
        json!({ "result": result, "count": count, "next_cursor": next.to_string(), "has_more": next < count }),
    ))
}

async fn legacy_status(
    State(world): State<Shared>,
    Path((action, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    if let Some(response) = admit(&world, Dialect::KlingLegacy, Call::Status, &headers).await {
        return response;
    }
    let id = world.task_with_external_id(Provider::Kling, &id).unwrap_or(id);
    let view = world.view(&id, Purpose::Status, |dialect| dialect == Dialect::KlingLegacy);
    match view.filter(|view| view.action == action) {
        Some(view) => ok(&envelope(&world, legacy_body(&view))),
        None => super::json(
            StatusCode::BAD_REQUEST,
            &json!({ "code": 1201, "message": "task not found", "request_id": world.uuid(), "data": [] }),
        ),
    }
}

async fn legacy_list(
    State(world): State<Shared>,
    Path(action): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    if let Some(response) = admit(&world, Dialect::KlingLegacy, Call::Status, &headers).await {
        return response;
    }
    let query = query(&uri);
    let views = world
        .known(Provider::Kling)
        .iter()
        .filter_map(|id| world.view(id, Purpose::Status, |dialect| dialect == Dialect::KlingLegacy))
        .filter(|view| view.action == action)
        .map(|view| legacy_body(&view))
        .collect();
    match page(views, first(&query, "pageNum"), first(&query, "pageSize"), 500) {
        Some(data) => ok(&envelope(&world, json!(data))),
        None => refusal(&world, Refusal::Parameters, "pageNum or pageSize is out of range"),
    }
}
