//! `APIMart` (`docs.apimart.ai`).
//!
//! Confirmed by its pages (`/api-reference/tasks/status`, `/api-reference/videos/...`) and public clients: paths, fields,
//! both forms of the submission response (the older one for Veo models), states, `videos[].url` as a list, `expires_at`,
//! the error object, `/callback` appended to the `webhook` base.
//!
//! From the text of its webhook page alone: the callback body is the status body, sent once for completed and failed
//! tasks only; a timeout of about ten seconds; a 4xx ends delivery, anything else is retried after some 10, 30 and 60
//! seconds.
//!
//! From one public source: `Idempotency-Key` (see [`crate::Idempotency`]), links that live 24 hours.
//!
//! Not documented, chosen here: HTTP statuses of errors follow their code; the next status call replaces a dead link.

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

use super::{Incoming, Shared, admit, ok, parameters, required, submit, text};
use crate::{
    api::{Api, Profile},
    clock,
    config::Idempotency,
    delivery::{GiveUp, RetryPolicy},
    example::Example,
    provider::{Dialect, Provider},
    record::{Call, FileKind, Phase, Refusal},
    script::Outcome,
    world::{Draft, Purpose, View, World},
};

const DIALECT: Dialect = Dialect::Only(Provider::ApiMart);

pub(crate) const PROFILE: Profile = Profile { base_path: "/v1", ..Profile::new(router, &ApiMart, examples) };

fn examples() -> Vec<Example> {
    vec![Example {
        submit: "/videos/generations",
        body: json!({ "model": "sora-2", "prompt": "{script}", "webhook": "{url}/" }),
        id: "/data/0/task_id",
        status: "/tasks/{id}?language=en",
        final_status: ("/data/status", "completed"),
        link: "/data/result/videos/0/url/0",
        callback_status: ("/data/status", json!("completed")),
        callback_id: "/data/id",
        target: "/hook/callback",
        attempts: 4,
        ..Example::of(Provider::ApiMart)
    }]
}

pub(crate) struct ApiMart;

impl Api for ApiMart {
    fn provider(&self) -> Provider {
        Provider::ApiMart
    }

    fn refusal(&self, _world: &World, refused: Refusal, message: &str) -> Response {
        refusal(refused, message)
    }

    fn idempotent_task(&self, world: &World, key: &str) -> Option<String> {
        let honoured = world.config.apimart_idempotency == Idempotency::Honoured;
        honoured.then(|| world.task_with_idempotency_key(key)).flatten()
    }

    fn new_id(&self, world: &World, _now: SystemTime) -> String {
        format!("task_01{}", world.letters(24, true))
    }

    fn submission_body(&self, _world: &World, view: &View) -> Value {
        submission_body(view)
    }

    /// Its page lists the states it sends, and cancelled is not among them.
    fn is_pushed(&self, phase: Phase) -> bool {
        phase != Phase::Final(Outcome::Cancelled)
    }

    fn callback_body(&self, view: &View) -> Option<Value> {
        Some(body(view))
    }

    /// It takes a base URL: it strips the trailing slash and appends `/callback`.
    fn target(&self, callback_url: &str) -> String {
        format!("{}/callback", callback_url.trim_end_matches('/'))
    }

    fn retry_policy(&self, _phase: Phase) -> RetryPolicy {
        RetryPolicy::new(10, &[10, 30, 60], GiveUp::OnClientError)
    }
}

fn router() -> Router<Shared> {
    Router::new()
        .route("/v1/videos/generations", post(generate))
        .route("/v1/tasks/{id}", get(status))
        .fallback(async || refusal(Refusal::NotFound, "not found"))
}

fn refusal(refusal: Refusal, message: &str) -> Response {
    let (code, kind) = match refusal {
        Refusal::Parameters | Refusal::Conflict => (400, "invalid_request_error"),
        Refusal::Moderated => (400, "content_policy_violation"),
        Refusal::Unauthorized => (401, "authentication_error"),
        Refusal::Balance => (402, "payment_required"),
        Refusal::NotFound => (404, "not_found"),
        Refusal::RateLimited => (429, "rate_limit_error"),
        Refusal::Server => (500, "server_error"),
    };
    let status = StatusCode::from_u16(code).unwrap_or_default();
    super::json(status, &json!({ "error": { "code": code, "message": message, "type": kind } }))
}

async fn generate(State(world): State<Shared>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let incoming = Incoming { dialect: DIALECT, path: uri.path().to_owned(), headers, body };
    submit(world, incoming, |_, body, _| {
        let model = required(body, "model")?.to_owned();
        required(body, "prompt")?;
        if !body["duration"].is_null() && !body["duration"].is_u64() {
            return Err(parameters("duration is not an integer"));
        }
        let callback_url = text(body, "webhook").map(str::to_owned);
        Ok((DIALECT, Draft { model, callback_url, ..Draft::default() }))
    })
    .await
}

/// The announced duration of a task; chosen freely.
const ESTIMATED_SECONDS: u32 = 60;

fn submission_body(view: &View) -> Value {
    if view.model.starts_with("veo") {
        return json!({
            "code": 200,
            "data": {
                "created": clock::seconds(view.created),
                "id": view.id,
                "model": view.model,
                "object": "video.generation.task",
                "progress": 0,
                "status": "pending",
                "task_info": { "can_cancel": true, "estimated_time": ESTIMATED_SECONDS },
                "type": "video",
            },
        });
    }
    json!({ "code": 200, "data": [{ "status": "submitted", "task_id": view.id }] })
}

/// The body of callbacks and status responses.
fn body(view: &View) -> Value {
    let status = match view.phase {
        Phase::Open(_) => view.status_word(["pending", "processing", "processing"]),
        Phase::Final(Outcome::Succeed) => "completed",
        Phase::Final(Outcome::Cancelled) => "cancelled",
        Phase::Final(_) => "failed",
    };
    let mut data = json!({
        "id": view.id,
        "status": status,
        "progress": view.progress(),
        "created": clock::seconds(view.created),
        "estimated_time": ESTIMATED_SECONDS,
    });
    let duration = clock::seconds(view.updated) - clock::seconds(view.created);
    match view.phase {
        Phase::Open(_) => {}
        Phase::Final(Outcome::Succeed) => {
            let videos: Vec<_> = view
                .files_of(FileKind::Video)
                .map(|file| json!({ "url": [file.url], "expires_at": clock::seconds(file.expires_at) }))
                .collect();
            data["result"] = json!({ "videos": videos });
            data["completed"] = json!(clock::seconds(view.updated));
            data["actual_time"] = json!(duration);
            data["cost"] = json!(0.4);
        }
        Phase::Final(outcome) => {
            let code = match outcome {
                Outcome::Moderated => 400,
                Outcome::Timeout | Outcome::Expired => 504,
                _ => 500,
            };
            data["progress"] = json!(40);
            if outcome != Outcome::Cancelled {
                data["error"] = json!({ "code": code, "message": super::failure_text(outcome) });
            }
        }
    }
    json!({ "code": 200, "data": data })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_strips_the_trailing_slash_and_appends_its_path() {
        for url in ["https://example.com/hook", "https://example.com/hook/"] {
            assert_eq!(Provider::ApiMart.target(url), "https://example.com/hook/callback");
        }
        assert_eq!(Provider::MaxApi.target("https://example.com/hook/"), "https://example.com/hook/");
    }
}
