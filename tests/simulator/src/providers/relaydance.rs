//! `RelayDance`, a deployment of New API.
//!
//! Confirmed by its pages (`relaydance.com/docs/video`, `/docs/api-reference/generate-video`, `.../get-prediction`,
//! `/docs/errors`): paths, fields, `metadata.callback_url`, shape A and its states, callbacks with the body of a status
//! response, retries of callbacks, HTTP errors.
//!
//! Confirmed by New API's source and public clients: shapes B and C, and that it caches the first link it reads, so that
//! status calls never return another. Inferred: the error object of a failure in shape A; that on a plain New API
//! deployment Ark itself posts the callback, with its own id (shape D; status responses then have shape A).
//!
//! Not documented, chosen here: two retries, after 5 and 30 seconds; links that live 24 hours.

use std::time::SystemTime;

use axum::{
    Router,
    extract::{Path, State},
    response::Response,
    routing::{get, post},
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Uri};
use serde_json::{Value, json};

use super::{Incoming, Shared, admit, failure_text, ok, parameters, required, submit, text};
use crate::{
    api::{Api, Profile},
    clock,
    config::Config,
    delivery::{GiveUp, RetryPolicy},
    example::Example,
    provider::{Dialect, Provider, Shape},
    record::{Call, FileKind, Phase, Refusal},
    script::{Outcome, Script},
    world::{Draft, Purpose, View, World},
};

pub(crate) const PROFILE: Profile = Profile { base_path: "/v1", ..Profile::new(router, &Shape::A, examples) };

/// One for each shape.
fn examples() -> Vec<Example> {
    let relay = |shape, id, status, final_status, link, callback_status, callback_id| Example {
        submit: "/video/generations",
        body: json!({ "model": "seedance", "prompt": "{script}", "seconds": "5", "metadata": { "callback_url": "{url}" } }),
        id,
        status,
        final_status,
        link,
        callback_status,
        callback_id,
        callbacks: if shape == Shape::D { 3 } else { 1 },
        attempts: if shape == Shape::D { 4 } else { 3 },
        shape,
        ..Example::of(Provider::RelayDance)
    };
    vec![
        relay(
            Shape::A,
            "/task_id",
            "/video/generations/{id}",
            ("/status", "succeeded"),
            "/url",
            ("/status", json!("succeeded")),
            "/task_id",
        ),
        relay(
            Shape::B,
            "/id",
            "/videos/{id}",
            ("/status", "completed"),
            "/metadata/url",
            ("/status", json!("completed")),
            "/id",
        ),
        relay(
            Shape::C,
            "/data/task_id",
            "/video/generations/{id}",
            ("/data/status", "SUCCESS"),
            "/data/result_url",
            ("/data/status", json!("SUCCESS")),
            "/data/task_id",
        ),
        relay(
            Shape::D,
            "/task_id",
            "/video/generations/{id}",
            ("/status", "succeeded"),
            "/url",
            ("/status", json!("succeeded")),
            "",
        ),
    ]
}

impl Api for Shape {
    fn provider(&self) -> Provider {
        Provider::RelayDance
    }

    fn refusal(&self, _world: &World, refused: Refusal, message: &str) -> Response {
        refusal(refused, message)
    }

    fn max_videos(&self) -> u32 {
        1
    }

    fn new_id(&self, world: &World, _now: SystemTime) -> String {
        format!("task_{}", world.letters(32, false))
    }

    fn submission_body(&self, _world: &World, view: &View) -> Value {
        match self {
            Self::A | Self::D => json!({ "task_id": view.id, "status": "submitted" }),
            Self::B => json!({
                "id": view.id,
                "task_id": view.id,
                "object": "video",
                "model": view.model,
                "status": "queued",
                "progress": 0,
                "created_at": clock::seconds(view.created),
            }),
            Self::C => json!({ "code": "success", "message": "", "data": { "task_id": view.id } }),
        }
    }

    fn upstream(&self) -> Option<Dialect> {
        (*self == Self::D).then_some(Dialect::Only(Provider::Ark))
    }

    fn callback_body(&self, view: &View) -> Option<Value> {
        Some(body(view, *self))
    }

    /// It retries; the documentation does not say how.
    fn retry_policy(&self, phase: Phase) -> RetryPolicy {
        if phase.is_final() { RetryPolicy::new(10, &[5, 30], GiveUp::Never) } else { RetryPolicy::NEVER }
    }

    /// New API caches the first link that it reads, dead or not.
    fn renewed_by_status(&self, _dead: bool) -> bool {
        false
    }
}

fn router() -> Router<Shared> {
    Router::new()
        .route("/v1/video/generations", post(generate))
        .route("/v1/video/generations/{id}", get(status))
        .route("/v1/videos/{id}", get(status))
        .fallback(async || refusal(Refusal::NotFound, "not found"))
}

fn refusal(refusal: Refusal, message: &str) -> Response {
    let (status, kind) = match refusal {
        Refusal::Parameters | Refusal::Conflict | Refusal::Moderated => (400, "invalid_request_error"),
        Refusal::Unauthorized => (401, "authentication_error"),
        Refusal::Balance => (403, "insufficient_quota"),
        Refusal::NotFound => (404, "not_found_error"),
        Refusal::RateLimited => (429, "rate_limit_error"),
        Refusal::Server => (500, "server_error"),
    };
    let status = StatusCode::from_u16(status).unwrap_or_default();
    super::json(status, &json!({ "error": { "message": message, "type": kind } }))
}

async fn generate(State(world): State<Shared>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let dialect = Dialect::RelayDance(Shape::A);
    let incoming = Incoming { dialect, path: uri.path().to_owned(), headers, body };
    submit(world, incoming, |world, body, script| {
        let model = required(body, "model")?.to_owned();
        required(body, "prompt")?;
        if !body["seconds"].is_null() && !body["seconds"].is_string() {
            return Err(parameters("seconds is not a string"));
        }
        if !body["metadata"].is_null() && !body["metadata"].is_object() {
            return Err(parameters("metadata is not an object"));
        }
        // A callback URL anywhere else is ignored.
        let callback_url = text(&body["metadata"], "callback_url").map(str::to_owned);
        Ok((requested_dialect(&world.config, script), Draft { model, callback_url, ..Draft::default() }))
    })
    .await
}

/// The dialect of a task: the shape that its script names, or the configured one.
fn requested_dialect(config: &Config, script: &Script) -> Dialect {
    Dialect::RelayDance(script.shape.unwrap_or(config.relaydance_shape))
}

/// The code and message of a failed task.
fn failure(view: &View) -> Option<(&'static str, &'static str)> {
    match view.phase {
        Phase::Open(_) | Phase::Final(Outcome::Succeed) => None,
        Phase::Final(Outcome::Moderated) => Some(("content_policy_violation", "content blocked upstream")),
        Phase::Final(outcome) => Some(("upstream_error", failure_text(outcome))),
    }
}

fn body(view: &View, shape: Shape) -> Value {
    let url = view.url(FileKind::Video);
    match shape {
        Shape::A | Shape::D => {
            let status = match view.phase {
                Phase::Open(_) => view.status_word(["submitted", "submitted", "running"]),
                Phase::Final(Outcome::Succeed) => "succeeded",
                Phase::Final(_) => "failed",
            };
            let mut metadata = view.request["metadata"].clone();
            if let Some(fields) = metadata.as_object_mut() {
                fields.remove("callback_url");
            } else {
                metadata = json!({});
            }
            let mut body = json!({ "task_id": view.id, "status": status, "format": "mp4", "metadata": metadata });
            if view.succeeded() {
                body["url"] = json!(url);
            }
            if let Some((_, message)) = failure(view) {
                body["error"] = json!({ "code": 400, "message": message });
            }
            body
        }
        Shape::B => {
            let status = match view.phase {
                Phase::Open(_) => view.status_word(["queued", "queued", "in_progress"]),
                Phase::Final(Outcome::Succeed) => "completed",
                Phase::Final(_) => "failed",
            };
            let mut body = json!({
                "id": view.id,
                "task_id": view.id,
                "object": "video",
                "model": view.model,
                "status": status,
                "progress": view.progress(),
                "created_at": clock::seconds(view.created),
            });
            if view.succeeded() {
                body["completed_at"] = json!(clock::seconds(view.updated));
                body["metadata"] = json!({ "url": url });
            }
            if let Some((code, message)) = failure(view) {
                body["error"] = json!({ "code": code, "message": message });
            }
            body
        }
        Shape::C => {
            let status = match view.phase {
                Phase::Open(_) => view.status_word(["SUBMITTED", "QUEUED", "IN_PROGRESS"]),
                Phase::Final(Outcome::Succeed) => "SUCCESS",
                Phase::Final(_) => "FAILURE",
            };
            let mut data = json!({
                "task_id": view.id,
                "action": "generate",
                "status": status,
                "fail_reason": failure(view).map_or("", |(_, message)| message),
                "progress": format!("{}%", view.progress()),
                "submit_time": clock::seconds(view.created),
                "finish_time": 0,
            });
            if matches!(view.phase, Phase::Final(_)) {
                data["finish_time"] = json!(clock::seconds(view.updated));
            }
            if view.succeeded() {
                data["result_url"] = json!(url);
            }
            json!({ "code": "success", "message": "", "data": data })
        }
    }
}

async fn status(State(world): State<Shared>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    if let Some(response) = admit(&world, Dialect::RelayDance(Shape::A), Call::Status, &headers).await {
        return response;
    }
    match world.view(&id, Purpose::Status, |dialect| matches!(dialect, Dialect::RelayDance(_))) {
        Some(view) => match view.dialect {
            Dialect::RelayDance(shape) => ok(&body(&view, shape)),
            _ => refusal(Refusal::NotFound, "task not found"),
        },
        None => refusal(Refusal::NotFound, "task not found"),
    }
}
