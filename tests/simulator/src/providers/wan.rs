//! Alibaba Wan, by `DashScope` (Model Studio). It sends no callbacks.
//!
//! Confirmed by its pages (Model Studio's API reference of text- and image-to-video, its pages on asynchronous tasks and on error codes):
//! paths, the header `X-DashScope-Async`, states, `UNKNOWN` for an id that it does not know, the envelope of tasks and of errors, codes,
//! usage, cancellation of pending tasks only, links that live 24 hours.
//!
//! Inferred: that `UNKNOWN` comes with HTTP 200; times in UTC+8, as in Beijing.
//!
//! Not documented, chosen here: the next status call replaces a dead link; an unknown task cannot be cancelled, like a running one; a task
//! that waited too long ends with a failure, for want of a word of its own; texts.

use std::time::{Duration, SystemTime};

use axum::{
    Router,
    extract::{Path, State},
    response::Response,
    routing::{get, post},
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Uri};
use serde_json::{Value, json};

use super::{Incoming, Shared, admit, ok, parameters, required, submit};
use crate::{
    api::{Api, Profile},
    clock,
    example::Example,
    files::Style,
    provider::{Dialect, Provider},
    record::{Call, FileKind, Phase, Refusal, Stage},
    script::Outcome,
    world::{Draft, Purpose, View, World},
};

const DIALECT: Dialect = Dialect::Only(Provider::Wan);

pub(crate) const PROFILE: Profile = Profile { calls_back: false, ..Profile::new(router, &Wan, examples) };

fn examples() -> Vec<Example> {
    vec![Example {
        header: Some(("x-dashscope-async", "enable")),
        submit: "/api/v1/services/aigc/video-generation/video-synthesis",
        body: json!({ "model": "wan2.7-t2v", "input": { "prompt": "{script}" }, "parameters": { "duration": 5 } }),
        id: "/output/task_id",
        status: "/api/v1/tasks/{id}",
        final_status: ("/output/task_status", "SUCCEEDED"),
        link: "/output/video_url",
        callbacks: 0,
        attempts: 0,
        ..Example::of(Provider::Wan)
    }]
}

pub(crate) struct Wan;

impl Api for Wan {
    fn provider(&self) -> Provider {
        Provider::Wan
    }

    fn refusal(&self, world: &World, refused: Refusal, message: &str) -> Response {
        let (status, code) = match refused {
            Refusal::Parameters | Refusal::Conflict => (400, "InvalidParameter"),
            Refusal::Moderated => (400, "DataInspectionFailed"),
            Refusal::Unauthorized => (401, "InvalidApiKey"),
            Refusal::Balance => (400, "Arrearage"),
            Refusal::NotFound => (404, "NotFound"),
            Refusal::RateLimited => (429, "Throttling.RateQuota"),
            Refusal::Server => (500, "InternalError"),
        };
        error(world, status, code, message)
    }

    fn max_videos(&self) -> u32 {
        1
    }

    fn submission_body(&self, world: &World, view: &View) -> Value {
        json!({ "output": { "task_status": word(view), "task_id": view.id }, "request_id": world.uuid() })
    }

    fn link_style(&self, _kind: FileKind, _purpose: Purpose) -> Style {
        Style::Oss
    }
}

fn router() -> Router<Shared> {
    Router::new()
        .route("/api/v1/services/aigc/video-generation/video-synthesis", post(create))
        .route("/api/v1/services/aigc/image2video/video-synthesis", post(create))
        .route("/api/v1/tasks/{id}", get(status))
        .route("/api/v1/tasks/{id}/cancel", post(cancel))
        .fallback(async |State(world): State<Shared>| Wan.refusal(&world, Refusal::NotFound, "not found"))
}

fn error(world: &World, status: u16, code: &str, message: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or_default();
    super::json(status, &json!({ "code": code, "message": message, "request_id": world.uuid() }))
}

async fn create(State(world): State<Shared>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    if headers.get("x-dashscope-async").is_none_or(|value| value != "enable")
        && Wan.unauthorized(&world, &headers).is_none()
    {
        return error(&world, 403, "AccessDenied", "current user api does not support synchronous calls");
    }
    let incoming = Incoming { dialect: DIALECT, path: uri.path().to_owned(), headers, body };
    submit(world, incoming, |_, body, _| {
        let model = required(body, "model")?.to_owned();
        if !body["input"].is_object() {
            return Err(parameters("input is required"));
        }
        Ok((DIALECT, Draft { model, ..Draft::default() }))
    })
    .await
}

fn word(view: &View) -> &'static str {
    match view.phase {
        Phase::Open(_) => view.status_word(["PENDING", "PENDING", "RUNNING"]),
        Phase::Final(Outcome::Succeed) => "SUCCEEDED",
        Phase::Final(Outcome::Fail | Outcome::Moderated | Outcome::Timeout | Outcome::Expired) => "FAILED",
        Phase::Final(Outcome::Cancelled) => "CANCELED",
    }
}

/// `2026-09-25 17:57:00.100`, in UTC+8.
fn time(time: SystemTime) -> String {
    let there = clock::later(time, Duration::from_hours(8));
    format!("{}.{:03}", clock::with_space(there), clock::milliseconds(there) % 1000)
}

fn task(view: &View) -> Value {
    let mut task = json!({ "task_id": view.id, "task_status": word(view), "submit_time": time(view.created) });
    match view.phase {
        Phase::Open(_) => return task,
        Phase::Final(Outcome::Succeed) => {
            task["orig_prompt"] = view.request["input"]["prompt"].clone();
            task["video_url"] = json!(view.url(FileKind::Video));
        }
        Phase::Final(Outcome::Cancelled) => {}
        Phase::Final(outcome) => {
            let code = match outcome {
                Outcome::Moderated => "DataInspectionFailed",
                Outcome::Timeout => "RequestTimeOut",
                _ => "InternalError",
            };
            task["code"] = json!(code);
            task["message"] = json!(super::failure_text(outcome));
        }
    }
    task["scheduled_time"] = json!(time(view.created));
    task["end_time"] = json!(time(view.updated));
    task
}

async fn status(State(world): State<Shared>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    if let Some(response) = admit(&world, DIALECT, Call::Status, &headers).await {
        return response;
    }
    let view = world.view(&id, Purpose::Status, |dialect| dialect == DIALECT);
    let output = view.as_ref().map_or_else(|| json!({ "task_id": id, "task_status": "UNKNOWN" }), task);
    let mut body = json!({ "request_id": world.uuid(), "output": output });
    if view.is_some_and(|view| view.succeeded()) {
        body["usage"] = json!({
            "duration": 5,
            "output_video_duration": 5,
            "input_video_duration": 0,
            "video_count": 1,
            "SR": 720,
            "ratio": "16:9",
        });
    }
    ok(&body)
}

async fn cancel(State(world): State<Shared>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    if let Some(response) = admit(&world, DIALECT, Call::Cancel, &headers).await {
        return response;
    }
    match world.view(&id, Purpose::Callback, |dialect| dialect == DIALECT) {
        Some(View { phase: Phase::Open(Stage::Accepted | Stage::Waiting), .. }) => {
            super::cancel_now(&world, &id);
            ok(&json!({ "request_id": world.uuid() }))
        }
        _ => error(&world, 400, "UnsupportedOperation", "only pending tasks can be cancelled"),
    }
}
