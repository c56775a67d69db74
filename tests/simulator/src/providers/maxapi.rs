//! `MaxAPI` (`docs.maxapi.io`).
//!
//! Confirmed by its pages (`/api-reference/webhook`, `/submit-task`, `/query-task`, `/introduction`,
//! `/seedance-video/...`): paths, fields, envelope, states, failure reasons, callbacks with the body of a status response,
//! a timeout of five seconds and no retries, links that live seven days.
//!
//! Not documented, chosen here: errors have HTTP 200 and their code in the body (the harder case for a client), except
//! 401 and 429, which also set the HTTP status; the next status call replaces a dead link. `failure_reason` is null
//! unless moderation failed the task, as documented for transient failures.

use std::time::Duration;

use axum::{
    Router,
    extract::{Path, State},
    response::Response,
    routing::{get, post},
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Uri};
use serde_json::{Value, json};

use super::{Incoming, Shared, admit, ok, parameters, required, submit, text};
use crate::{
    api::{Api, Profile},
    clock,
    delivery::{GiveUp, RetryPolicy},
    example::Example,
    files::DAY,
    provider::{Dialect, Provider},
    record::{Call, FileKind, Phase, Refusal},
    script::Outcome,
    world::{Draft, Purpose, View, World},
};

const DIALECT: Dialect = Dialect::Only(Provider::MaxApi);

pub(crate) const PROFILE: Profile = Profile::new(router, &MaxApi, examples);

fn examples() -> Vec<Example> {
    vec![Example {
        submit: "/api/v1/task/submit",
        body: json!({ "model": "seedance-2.0-fast", "input": { "prompt": "{script}" }, "callBackUrl": "{url}" }),
        id: "/data/taskId",
        status: "/api/v1/task/{id}",
        final_status: ("/data/status", "SUCCESS"),
        link: "/data/result/urls/0",
        callback_status: ("/data/status", json!("SUCCESS")),
        callback_id: "/data/taskId",
        ..Example::of(Provider::MaxApi)
    }]
}

pub(crate) struct MaxApi;

impl Api for MaxApi {
    fn provider(&self) -> Provider {
        Provider::MaxApi
    }

    fn refusal(&self, _world: &World, refused: Refusal, message: &str) -> Response {
        refusal(refused, message)
    }

    fn submission_body(&self, _world: &World, view: &View) -> Value {
        json!({ "code": 0, "msg": "ok", "data": { "taskId": view.id } })
    }

    fn callback_body(&self, view: &View) -> Option<Value> {
        Some(body(view))
    }

    fn retry_policy(&self, _phase: Phase) -> RetryPolicy {
        RetryPolicy::new(5, &[], GiveUp::Never)
    }

    fn link_life(&self, _kind: FileKind, _purpose: Purpose) -> Duration {
        7 * DAY
    }
}

fn router() -> Router<Shared> {
    Router::new()
        .route("/api/v1/task/submit", post(submit_task))
        .route("/api/v1/task/{id}", get(status))
        .fallback(async || refusal(Refusal::NotFound, "not found"))
}

fn refusal(refusal: Refusal, message: &str) -> Response {
    let (status, code) = match refusal {
        Refusal::Parameters | Refusal::Conflict => (200, 400),
        Refusal::Moderated => {
            return ok(&json!({
                "code": 400,
                "msg": "content rejected by moderation",
                "data": { "flagged": true, "categories": { "sexual": true, "violence": false, "hate": false } },
            }));
        }
        Refusal::Unauthorized => (401, 401),
        Refusal::Balance => (200, 402),
        Refusal::NotFound => (200, 404),
        Refusal::RateLimited => (429, 429),
        Refusal::Server => (500, 500),
    };
    let status = StatusCode::from_u16(status).unwrap_or_default();
    super::json(status, &json!({ "code": code, "msg": message, "data": null }))
}

async fn submit_task(State(world): State<Shared>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let incoming = Incoming { dialect: DIALECT, path: uri.path().to_owned(), headers, body };
    submit(world, incoming, |_, body, _| {
        let model = required(body, "model")?.to_owned();
        if !body["input"].is_object() {
            return Err(parameters("input is required"));
        }
        let callback_url = text(body, "callBackUrl").map(str::to_owned);
        Ok((DIALECT, Draft { model, callback_url, ..Draft::default() }))
    })
    .await
}

/// The body of callbacks and status responses.
fn body(view: &View) -> Value {
    let status = match view.phase {
        Phase::Open(_) => view.status_word(["PENDING", "PROCESSING", "SUBMITTED"]),
        Phase::Final(Outcome::Succeed) => "SUCCESS",
        Phase::Final(Outcome::Fail | Outcome::Moderated) => "FAILURE",
        Phase::Final(Outcome::Timeout | Outcome::Expired) => "TIMEOUT",
        Phase::Final(Outcome::Cancelled) => "CANCELLED",
    };
    let reason = (view.phase == Phase::Final(Outcome::Moderated)).then_some("CONTENT_MODERATION");
    let mut input = json!({ "model": view.model });
    for name in ["prompt", "ratio", "resolution", "duration"] {
        if let Some(value) = view.request["input"].get(name) {
            input[name] = value.clone();
        }
    }
    let urls: Vec<_> = view.files_of(FileKind::Video).map(|file| file.url.as_str()).collect();
    let result = if view.succeeded() { json!({ "type": "video", "urls": urls }) } else { Value::Null };
    json!({
        "code": 0,
        "msg": "ok",
        "data": {
            "taskId": view.id,
            "status": status,
            "input": input,
            "result": result,
            "failure_reason": reason,
            "created_at": clock::rfc3339(view.created),
            "updated_at": clock::rfc3339(view.updated),
        },
    })
}

async fn status(State(world): State<Shared>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    if let Some(response) = admit(&world, DIALECT, Call::Status, &headers).await {
        return response;
    }
    match world.view(&id, Purpose::Status, |dialect| dialect == DIALECT) {
        Some(view) => ok(&body(&view)),
        None => refusal(Refusal::NotFound, "task not found"),
    }
}
