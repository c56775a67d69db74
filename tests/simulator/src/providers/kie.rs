//! KIE: the Runway, Veo and Market families.
//!
//! Confirmed by its pages (`docs.kie.ai/runway-api/...`, `/veo3-api/...`, `/market/common/get-task-detail`,
//! `/common-api/webhook-verification`, `/common-api/download-url`): paths, fields, the three callback shapes and their
//! ids, the states of each family and their different spellings, the signature over task id and timestamp (not the body),
//! a callback timeout of 15 seconds, no more delivery after three consecutive failures, files that live 14 days, fresh
//! links of 20 minutes for KIE's own links only.
//!
//! Inferred: errors with HTTP 200 and their code in the body (401 and 429 also set the HTTP status here); the signing key
//! as text; `data.taskId` as the signed id of Veo and Market callbacks; the record with code 200 or 501 as the Market
//! callback.
//!
//! Seen in the wild: the file host rejects the default `User-Agent` of HTTP libraries.
//!
//! Not documented, chosen here: the delays between retries; status responses keep a dead link, so that `download-url` is
//! the only way to a fresh one.

use std::time::{Duration, SystemTime};

use axum::{
    Router,
    extract::State,
    response::Response,
    routing::{get, post},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Uri, header};
use serde_json::{Value, json};

use super::{Incoming, Refused, Shared, admit, failure_text, first, ok, parameters, query, required, submit, text};
use crate::{
    api::{Api, Headers, Outgoing, Profile},
    clock,
    delivery::{GiveUp, RetryPolicy},
    example::Example,
    files::{DAY, Style},
    provider::{Dialect, Provider, Signs},
    record::{Call, FileKind, Phase, Refusal},
    script::Outcome,
    signature::hmac,
    world::{Draft, Purpose, View, World},
};

pub(crate) const PROFILE: Profile = Profile {
    signs: Signs::Id,
    signing_secret: Some("kie-webhook-hmac-key"),
    ..Profile::new(router, &Family::Market, examples)
};

fn examples() -> Vec<Example> {
    vec![
        Example {
            submit: "/api/v1/runway/generate",
            body: json!({ "prompt": "{script}", "duration": 5, "quality": "720p", "callBackUrl": "{url}" }),
            id: "/data/taskId",
            status: "/api/v1/runway/record-detail?taskId={id}",
            final_status: ("/data/state", "success"),
            link: "/data/videoInfo/videoUrl",
            callback_status: ("/code", json!(200)),
            callback_id: "/data/task_id",
            attempts: 3,
            ..Example::of(Provider::Kie)
        },
        Example {
            submit: "/api/v1/veo/generate",
            body: json!({ "prompt": "{script}", "callBackUrl": "{url}" }),
            id: "/data/taskId",
            status: "/api/v1/veo/record-info?taskId={id}",
            final_status: ("/data/response/resolution", "1080p"),
            link: "/data/response/resultUrls/0",
            callback_status: ("/code", json!(200)),
            callback_id: "/data/taskId",
            attempts: 3,
            ..Example::of(Provider::Kie)
        },
    ]
}

#[derive(PartialEq, Eq)]
pub(crate) enum Family {
    Runway,
    Veo,
    Market,
}

impl Api for Family {
    fn provider(&self) -> Provider {
        Provider::Kie
    }

    fn refusal(&self, _world: &World, refused: Refusal, message: &str) -> Response {
        refusal(refused, message)
    }

    fn max_videos(&self) -> u32 {
        if *self == Self::Runway { 1 } else { 10 }
    }

    fn new_id(&self, world: &World, _now: SystemTime) -> String {
        match self {
            Self::Runway => world.uuid(),
            Self::Veo => format!("veo_task_{}", world.letters(12, false)),
            Self::Market => format!("task_kie_{}", world.digits(8)),
        }
    }

    fn submission_body(&self, _world: &World, view: &View) -> Value {
        json!({ "code": 200, "msg": "success", "data": { "taskId": view.id } })
    }

    fn callback_body(&self, view: &View) -> Option<Value> {
        match self {
            Self::Runway => runway_callback(view),
            Self::Veo => veo_callback(view),
            Self::Market => Some(market_callback(view)),
        }
    }

    fn signature(&self, outgoing: &Outgoing<'_>) -> Option<Headers> {
        let (key, stamp) = (outgoing.account.signing_secret.as_ref()?, clock::seconds(outgoing.now));
        Some(vec![
            ("X-Webhook-Timestamp", stamp.to_string()),
            ("X-Webhook-Signature", signature(key, outgoing.task_id, stamp)),
        ])
    }

    /// It stops after three consecutive failures.
    fn retry_policy(&self, _phase: Phase) -> RetryPolicy {
        RetryPolicy::new(15, &[10, 60], GiveUp::Never)
    }

    fn extra_file(&self, _request: &Value) -> Option<(FileKind, &'static str, &'static str)> {
        (*self == Self::Runway).then_some((FileKind::Cover, "cover", "png"))
    }

    fn link_life(&self, _kind: FileKind, purpose: Purpose) -> Duration {
        if purpose == Purpose::Refresh { Duration::from_mins(20) } else { 14 * DAY }
    }

    fn link_style(&self, kind: FileKind, purpose: Purpose) -> Style {
        if purpose == Purpose::Refresh && kind == FileKind::Video { Style::Expires } else { Style::Bare }
    }

    /// It replaces a dead link in a separate call only.
    fn renewed_by_status(&self, _dead: bool) -> bool {
        false
    }

    /// Its file host rejects the default `User-Agent` of HTTP libraries (seen in the wild).
    fn serves(&self, headers: &HeaderMap) -> bool {
        let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let libraries = ["python-", "reqwest", "Go-http-client", "okhttp", "hyper", "aws-sdk", "Java/", "node"];
        !agent.is_empty() && !libraries.iter().any(|library| agent.starts_with(library))
    }
}

/// The `X-Webhook-Signature`. It covers the task id and the timestamp, but not the body.
fn signature(key: &str, task_id: &str, timestamp: i64) -> String {
    let stamp = timestamp.to_string();
    BASE64_STANDARD.encode(hmac(key.as_bytes(), &[task_id.as_bytes(), b".", stamp.as_bytes()]))
}

fn router() -> Router<Shared> {
    Router::new()
        .route("/api/v1/runway/generate", post(runway_submit))
        .route("/api/v1/runway/record-detail", get(runway_status))
        .route("/api/v1/veo/generate", post(veo_submit))
        .route("/api/v1/veo/record-info", get(veo_status))
        .route("/api/v1/jobs/createTask", post(market_submit))
        .route("/api/v1/jobs/recordInfo", get(market_status))
        .route("/api/v1/common/download-url", post(download_url))
        .fallback(async || refusal(Refusal::NotFound, "not found"))
}

fn refusal(refusal: Refusal, message: &str) -> Response {
    let (status, code) = match refusal {
        Refusal::Parameters | Refusal::Conflict => (200, 422),
        Refusal::Moderated => (200, 400),
        Refusal::Unauthorized => (401, 401),
        Refusal::Balance => (200, 402),
        Refusal::NotFound => (200, 404),
        Refusal::RateLimited => (429, 429),
        Refusal::Server => (500, 500),
    };
    let status = StatusCode::from_u16(status).unwrap_or_default();
    super::json(status, &json!({ "code": code, "msg": message, "data": null }))
}

async fn create(
    world: Shared,
    dialect: Dialect,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
    check: fn(&Value) -> Result<String, Refused>,
) -> Response {
    let incoming = Incoming { dialect, path: uri.path().to_owned(), headers, body };
    submit(world, incoming, move |_, body, _| {
        let model = check(body)?;
        let callback_url = text(body, "callBackUrl").map(str::to_owned);
        Ok((dialect, Draft { model, callback_url, ..Draft::default() }))
    })
    .await
}

async fn runway_submit(State(world): State<Shared>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    create(world, Dialect::KieRunway, uri, headers, body, |body| {
        required(body, "prompt")?;
        if !body["duration"].is_null() && !matches!(body["duration"].as_u64(), Some(5 | 10)) {
            return Err(parameters("duration must be 5 or 10"));
        }
        if body["duration"] == 10 && body["quality"] == "1080p" {
            return Err(parameters("a duration of 10 is not available in 1080p"));
        }
        Ok(text(body, "model").unwrap_or("runway").to_owned())
    })
    .await
}

async fn veo_submit(State(world): State<Shared>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    create(world, Dialect::KieVeo, uri, headers, body, |body| {
        required(body, "prompt")?;
        Ok(text(body, "model").unwrap_or("veo3").to_owned())
    })
    .await
}

async fn market_submit(State(world): State<Shared>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    create(world, Dialect::KieMarket, uri, headers, body, |body| {
        if !body["input"].is_object() {
            return Err(parameters("input is required"));
        }
        Ok(required(body, "model")?.to_owned())
    })
    .await
}

fn urls(view: &View) -> Vec<String> {
    view.files_of(FileKind::Video).map(|file| file.url.clone()).collect()
}

/// Runway's id of the video itself.
fn video_id(view: &View) -> &str {
    view.file_ids.first().map_or("", String::as_str)
}

/// The code and message of a failed task.
fn failure(outcome: Outcome) -> (u32, &'static str) {
    match outcome {
        Outcome::Moderated => (400, "Inappropriate content detected. Please replace the image or video."),
        outcome => (500, failure_text(outcome)),
    }
}

/// Runway sends callbacks for finished tasks only.
fn runway_callback(view: &View) -> Option<Value> {
    let Phase::Final(outcome) = view.phase else { return None };
    let (code, message) = match outcome {
        Outcome::Succeed => (200, "All generated successfully."),
        outcome => failure(outcome),
    };
    Some(json!({
        "code": code,
        "msg": message,
        "data": {
            "task_id": view.id,
            "video_id": video_id(view),
            "video_url": view.url(FileKind::Video),
            "image_url": view.url(FileKind::Cover),
        },
    }))
}

/// Veo sends callbacks for finished tasks only.
fn veo_callback(view: &View) -> Option<Value> {
    let Phase::Final(outcome) = view.phase else { return None };
    if outcome == Outcome::Succeed {
        return Some(json!({
            "code": 200,
            "msg": "Veo3.1 video generated successfully.",
            "data": {
                "taskId": view.id,
                "info": { "resultUrls": urls(view), "originUrls": [], "resolution": "1080p" },
                "fallbackFlag": false,
            },
        }));
    }
    let (code, message) = match outcome {
        Outcome::Moderated => (400, "Your prompt was flagged by the website as violating content policies."),
        outcome => (501, failure_text(outcome)),
    };
    Some(json!({ "code": code, "msg": message, "data": { "taskId": view.id, "fallbackFlag": false } }))
}

/// Market's callback contains the record.
fn market_callback(view: &View) -> Value {
    let failed = matches!(view.phase, Phase::Final(outcome) if outcome != Outcome::Succeed);
    let (code, message) =
        if failed { (501, "Playground task failed.") } else { (200, "Playground task completed successfully.") };
    json!({ "code": code, "msg": message, "data": market_record(view) })
}

fn market_record(view: &View) -> Value {
    let state = match view.phase {
        Phase::Open(_) => view.status_word(["waiting", "queuing", "generating"]),
        Phase::Final(Outcome::Succeed) => "success",
        Phase::Final(_) => "fail",
    };
    let (code, message) = match view.phase {
        Phase::Open(_) | Phase::Final(Outcome::Succeed) => (String::new(), ""),
        Phase::Final(outcome) => {
            let (code, message) = failure(outcome);
            (code.to_string(), message)
        }
    };
    let result = if view.succeeded() { json!({ "resultUrls": urls(view) }).to_string() } else { String::new() };
    let mut record = json!({
        "taskId": view.id,
        "model": view.model,
        "state": state,
        "param": view.request.to_string(),
        "resultJson": result,
        "failCode": code,
        "failMsg": message,
        "createTime": clock::milliseconds(view.created),
        "updateTime": clock::milliseconds(view.updated),
    });
    if matches!(view.phase, Phase::Final(_)) {
        record["completeTime"] = json!(clock::milliseconds(view.updated));
    }
    record
}

/// The task in a status request, or the error response.
async fn requested_task(world: &Shared, dialect: Dialect, uri: &Uri, headers: &HeaderMap) -> Result<View, Response> {
    if let Some(response) = admit(world, dialect, Call::Status, headers).await {
        return Err(response);
    }
    let query = query(uri);
    let Some(id) = first(&query, "taskId") else {
        return Err(refusal(Refusal::Parameters, "taskId is required"));
    };
    world
        .view(id, Purpose::Status, |known| known == dialect)
        .ok_or_else(|| refusal(Refusal::NotFound, "the record does not exist"))
}

async fn runway_status(State(world): State<Shared>, uri: Uri, headers: HeaderMap) -> Response {
    let view = match requested_task(&world, Dialect::KieRunway, &uri, &headers).await {
        Ok(view) => view,
        Err(response) => return response,
    };
    let state = match view.phase {
        Phase::Open(_) => view.status_word(["wait", "queueing", "generating"]),
        Phase::Final(Outcome::Succeed) => "success",
        Phase::Final(_) => "fail",
    };
    let mut data = json!({
        "taskId": view.id,
        "parentTaskId": "",
        "generateParam": {
            "prompt": view.request["prompt"],
            "imageUrl": view.request["imageUrl"].as_str().unwrap_or_default(),
            "expandPrompt": true,
        },
        "state": state,
        "generateTime": clock::with_space(view.created),
        "failCode": "",
        "failMsg": "",
        "expireFlag": 0,
    });
    match view.phase {
        Phase::Final(Outcome::Succeed) => {
            data["videoInfo"] = json!({
                "videoId": video_id(&view),
                "taskId": view.id,
                "videoUrl": view.url(FileKind::Video),
                "imageUrl": view.url(FileKind::Cover),
            });
        }
        Phase::Final(outcome) => {
            let (code, message) = failure(outcome);
            data["failCode"] = json!(code);
            data["failMsg"] = json!(message);
        }
        Phase::Open(_) => {}
    }
    ok(&json!({ "code": 200, "msg": "success", "data": data }))
}

async fn veo_status(State(world): State<Shared>, uri: Uri, headers: HeaderMap) -> Response {
    let view = match requested_task(&world, Dialect::KieVeo, &uri, &headers).await {
        Ok(view) => view,
        Err(response) => return response,
    };
    let mut data = json!({
        "taskId": view.id,
        "paramJson": view.request.to_string(),
        "completeTime": null,
        "response": null,
        "successFlag": 0,
        "errorCode": null,
        "errorMessage": "",
        "createTime": clock::milliseconds(view.created),
        "fallbackFlag": false,
    });
    if let Phase::Final(outcome) = view.phase {
        data["completeTime"] = json!(clock::milliseconds(view.updated));
        if outcome == Outcome::Succeed {
            data["successFlag"] = json!(1);
            data["response"] = json!({
                "taskId": view.id,
                "resultUrls": urls(&view),
                "originUrls": [],
                "resolution": "1080p",
            });
        } else {
            let (code, message) = failure(outcome);
            // Both mean failed, and the page does not say which means what: clients must handle both.
            data["successFlag"] = json!(if outcome == Outcome::Moderated { 2 } else { 3 });
            data["errorCode"] = json!(code);
            data["errorMessage"] = json!(message);
        }
    }
    ok(&json!({ "code": 200, "msg": "success", "data": data }))
}

async fn market_status(State(world): State<Shared>, uri: Uri, headers: HeaderMap) -> Response {
    match requested_task(&world, Dialect::KieMarket, &uri, &headers).await {
        Ok(view) => ok(&json!({ "code": 200, "message": "success", "data": market_record(&view) })),
        Err(response) => response,
    }
}

/// Returns a fresh link for a link that KIE issued.
async fn download_url(State(world): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    if let Some(response) = admit(&world, Dialect::KieRunway, Call::Link, &headers).await {
        return response;
    }
    let request: Value = serde_json::from_slice(&body).unwrap_or_default();
    let fresh = text(&request, "url")
        .and_then(|url| world.issued(Provider::Kie, url))
        .and_then(|file_id| Some((world.task_with_file(&file_id)?, file_id)))
        .and_then(|(id, file_id)| {
            let view = world.view(&id, Purpose::Refresh, |dialect| dialect.provider() == Provider::Kie)?;
            view.files.into_iter().find(|file| file.file_id == file_id)
        });
    match fresh {
        Some(file) => ok(&json!({ "code": 200, "msg": "success", "data": file.url })),
        None => refusal(Refusal::Parameters, "the url was not made by this service"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_signs_the_task_id_and_the_timestamp() {
        assert_eq!(
            signature("test_webhook_hmac_key", "ee603959-debb-48d1-98c4-a6d1c717eba6", 1_754_300_000),
            "d/ktFCylHqthXqv0u5cfTgYwg8tOTTAdZl3LKuog+Ik="
        );
    }
}
