//! xAI's Grok Imagine, the video API (`docs.x.ai`).
//!
//! Confirmed by its page (`/developers/model-capabilities/video/generation`), its SDK (`xai-org/xai-sdk-python`) and `vercel/ai`
//! (`packages/xai`, pull request 17887): paths, ids, states, fields of a video, that a status response does not repeat the id, an empty 202
//! or one with a body for an open task, costs in ticks, codes of failed tasks, no callbacks.
//!
//! Inferred from tests of other clients (`QuantumNous/new-api`) and public issues: HTTP 400 and costs for a task that moderation rejected;
//! the forms of errors; that an empty account is a 403 with the code of a missing permission. From a text of the SDK: links for 24 hours.
//!
//! Not documented, chosen here: the texts; 404 for an unknown id; an empty 202 for the first third of the time; that a rejected video is
//! never `done`; that the next status call replaces a dead link; 0.30 dollars for everything.

use axum::{
    Router,
    extract::{Path, State},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Uri};
use serde_json::{Value, json};

use super::{Incoming, Shared, admit, ok, required, submit};
use crate::{
    api::{Api, Profile},
    example::Example,
    provider::{Dialect, Provider},
    record::{Call, FileKind, Phase, Refusal, Stage},
    script::Outcome,
    world::{Draft, Purpose, View, World},
};

const DIALECT: Dialect = Dialect::Only(Provider::Grok);

pub(crate) const PROFILE: Profile = Profile { calls_back: false, ..Profile::new(router, &Grok, examples) };

fn examples() -> Vec<Example> {
    vec![Example {
        submit: "/v1/videos/generations",
        body: json!({ "model": "grok-imagine-video", "prompt": "{script}", "duration": 6 }),
        id: "/request_id",
        status: "/v1/videos/{id}",
        final_status: ("/status", "done"),
        http_errors: &["moderated"],
        link: "/video/url",
        callbacks: 0,
        attempts: 0,
        ..Example::of(Provider::Grok)
    }]
}

pub(crate) struct Grok;

impl Api for Grok {
    fn provider(&self) -> Provider {
        Provider::Grok
    }

    fn refusal(&self, _world: &World, refused: Refusal, message: &str) -> Response {
        refusal(refused, message)
    }

    fn max_videos(&self) -> u32 {
        1
    }

    fn submission_body(&self, _world: &World, view: &View) -> Value {
        json!({ "request_id": view.id })
    }
}

const TICKS: u64 = 3_000_000_000;

fn router() -> Router<Shared> {
    Router::new()
        .route("/v1/videos/generations", post(create))
        .route("/v1/videos/edits", post(create))
        .route("/v1/videos/extensions", post(create))
        .route("/v1/videos/{id}", get(status))
        .fallback(async || refusal(Refusal::NotFound, "not found"))
}

fn refusal(refusal: Refusal, message: &str) -> Response {
    let (status, code) = match refusal {
        Refusal::Parameters | Refusal::Moderated | Refusal::Conflict => (400, "invalid-argument"),
        Refusal::Unauthorized => (401, "unauthenticated"),
        Refusal::Balance => (403, "permission-denied"),
        Refusal::NotFound => (404, "not-found"),
        Refusal::RateLimited => (429, "resource-exhausted"),
        Refusal::Server => (500, "internal"),
    };
    let message = if refusal == Refusal::Balance { "All credits are used up." } else { message };
    super::json(StatusCode::from_u16(status).unwrap_or_default(), &json!({ "code": code, "error": message }))
}

async fn create(State(world): State<Shared>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let incoming = Incoming { dialect: DIALECT, path: uri.path().to_owned(), headers, body };
    submit(world, incoming, |_, body, _| {
        let model = required(body, "model")?.to_owned();
        Ok((DIALECT, Draft { model, ..Draft::default() }))
    })
    .await
}

async fn status(State(world): State<Shared>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    if let Some(response) = admit(&world, DIALECT, Call::Status, &headers).await {
        return response;
    }
    let Some(view) = world.view(&id, Purpose::Status, |dialect| dialect == DIALECT) else {
        return refusal(Refusal::NotFound, "The request was not found.");
    };
    let usage = json!({ "cost_in_usd_ticks": TICKS });
    let (code, message) = match view.phase {
        Phase::Open(Stage::Accepted) => return StatusCode::ACCEPTED.into_response(),
        Phase::Open(Stage::Waiting) => return super::json(StatusCode::ACCEPTED, &json!({ "status": "pending" })),
        Phase::Open(Stage::Running) => return ok(&json!({ "status": "pending", "progress": view.progress() })),
        Phase::Final(Outcome::Succeed) => {
            let duration = view.request["duration"].as_u64().unwrap_or(8);
            return ok(&json!({
                "status": "done",
                "video": { "url": view.url(FileKind::Video), "duration": duration, "respect_moderation": true },
                "model": view.model,
                "usage": usage,
                "progress": 100,
            }));
        }
        Phase::Final(Outcome::Moderated) => {
            let error = "The video was rejected by content moderation.";
            let body = json!({ "code": "Client specified an invalid argument", "error": error, "usage": usage });
            return super::json(StatusCode::BAD_REQUEST, &body);
        }
        Phase::Final(Outcome::Expired) => return ok(&json!({ "status": "expired" })),
        Phase::Final(Outcome::Timeout) => ("service_unavailable", "The service did not respond."),
        Phase::Final(Outcome::Fail | Outcome::Cancelled) => ("internal_error", "It did not work out."),
    };
    ok(&json!({ "status": "failed", "error": { "code": code, "message": message }, "progress": view.progress() }))
}
