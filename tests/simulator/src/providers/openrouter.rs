//! `OpenRouter`, its video API.
//!
//! Confirmed by its pages (`openrouter.ai/docs/guides/overview/multimodal/video-generation`,
//! `/cookbook/video-generation/video-generation-webhooks`, `/api_reference/videos`, `/api_reference/errors`) and its SDK: paths, HTTP 202,
//! a `polling_url` that may be a path, states, the envelope of callbacks and its four types, callbacks at the end only, the signature
//! over time and body, the idempotency header, cost in USD, errors, the content route that wants the API key.
//!
//! Inferred: that the content route redirects to a storage; the texts of failed jobs; the form of ids.
//!
//! Not documented, chosen here: a delivery that is never repeated and a timeout of ten seconds; a link to the storage lives an hour, and
//! each request for the content issues a new one; the idempotency header is missing where callbacks are not signed.

use std::time::{Duration, SystemTime};

use axum::{
    Router,
    extract::{Path, State},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Uri, header};
use serde_json::{Value, json};

use super::{Incoming, Shared, admit, first, ok, query, required, submit, text};
use crate::{
    api::{Api, Headers, Outgoing, Profile},
    clock,
    example::Example,
    files::HOUR,
    provider::{Dialect, Provider, Signs},
    record::{Call, FileKind, Phase, Refusal},
    script::Outcome,
    signature::hmac,
    world::{Draft, Purpose, View, World},
};

const DIALECT: Dialect = Dialect::Only(Provider::OpenRouter);

pub(crate) const PROFILE: Profile = Profile {
    base_path: "/api/v1",
    signs: Signs::Body,
    signing_secret: Some("orwh_openrouter-webhook-secret"),
    ..Profile::new(router, &OpenRouter, examples)
};

fn examples() -> Vec<Example> {
    vec![Example {
        submit: "/videos",
        body: json!({ "model": "google/veo-3.1", "prompt": "{script}", "duration": 4, "callback_url": "{url}" }),
        id: "/id",
        status: "/videos/{id}",
        final_status: ("/status", "completed"),
        link: "/unsigned_urls/0",
        callback_status: ("/type", json!("video.generation.completed")),
        callback_id: "/data/id",
        ..Example::of(Provider::OpenRouter)
    }]
}

pub(crate) struct OpenRouter;

impl Api for OpenRouter {
    fn provider(&self) -> Provider {
        Provider::OpenRouter
    }

    fn refusal(&self, _world: &World, refused: Refusal, message: &str) -> Response {
        refusal(refused, message)
    }

    fn new_id(&self, world: &World, _now: SystemTime) -> String {
        world.letters(20, false)
    }

    fn submission_status(&self) -> StatusCode {
        StatusCode::ACCEPTED
    }

    fn submission_body(&self, _world: &World, view: &View) -> Value {
        json!({ "id": view.id, "polling_url": format!("/api/v1/videos/{}", view.id), "status": status_word(view) })
    }

    fn callback_body(&self, view: &View) -> Option<Value> {
        let status = status_word(view);
        let mut data = result(view);
        data["model"] = json!(view.model);
        Some(json!({
            "type": format!("video.generation.{status}"),
            "created_at": clock::rfc3339(view.updated),
            "data": data,
        }))
    }

    fn signature(&self, outgoing: &Outgoing<'_>) -> Option<Headers> {
        let (secret, stamp) = (outgoing.account.signing_secret.as_ref()?, clock::seconds(outgoing.now));
        let body: Value = serde_json::from_slice(outgoing.body).unwrap_or_default();
        let status = body["data"]["status"].as_str().unwrap_or_default();
        Some(vec![
            ("x-openrouter-signature", signature(secret, stamp, outgoing.body)),
            ("x-openrouter-idempotency-key", format!("{}-{status}", outgoing.task_id)),
        ])
    }

    /// Bodies have links into the API, which issues those to the storage.
    fn names_files_by_id(&self) -> bool {
        true
    }

    fn link_life(&self, _kind: FileKind, _purpose: Purpose) -> Duration {
        HOUR
    }
}

/// The `X-OpenRouter-Signature`: hexadecimal, keyed with the text of the secret, over time and body, joined by a comma.
fn signature(secret: &str, seconds: i64, body: &[u8]) -> String {
    let signature = hmac(secret.as_bytes(), &[seconds.to_string().as_bytes(), b",", body]);
    format!("t={seconds},v1={}", hex::encode(signature))
}

fn router() -> Router<Shared> {
    Router::new()
        .route("/api/v1/videos", post(create))
        .route("/api/v1/videos/{id}", get(status))
        .route("/api/v1/videos/{id}/content", get(content))
        .fallback(async || refusal(Refusal::NotFound, "Not found"))
}

fn refusal(refusal: Refusal, message: &str) -> Response {
    let (code, message, metadata) = match refusal {
        Refusal::Parameters | Refusal::Conflict => (400, message, None),
        Refusal::Moderated => {
            let metadata = json!({ "reasons": ["violence"], "flagged_input": "a paper", "provider_name": "Google" });
            (403, "The input was flagged", Some(metadata))
        }
        Refusal::Unauthorized => (401, message, None),
        Refusal::Balance => (402, "Insufficient credits for this request", Some(json!({ "limit_source": "account" }))),
        Refusal::NotFound => (404, message, None),
        Refusal::RateLimited => (429, message, None),
        Refusal::Server => (500, message, None),
    };
    let mut error = json!({ "code": code, "message": message });
    if let Some(metadata) = metadata {
        error["metadata"] = metadata;
    }
    let status = StatusCode::from_u16(code).unwrap_or_default();
    super::json(status, &json!({ "error": error, "user_id": "user_simulated" }))
}

async fn create(State(world): State<Shared>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let incoming = Incoming { dialect: DIALECT, path: uri.path().to_owned(), headers, body };
    submit(world, incoming, |_, body, _| {
        let model = required(body, "model")?.to_owned();
        required(body, "prompt")?;
        let callback_url = text(body, "callback_url").map(str::to_owned);
        Ok((DIALECT, Draft { model, callback_url, ..Draft::default() }))
    })
    .await
}

fn status_word(view: &View) -> &'static str {
    match view.phase {
        Phase::Open(_) => view.status_word(["pending", "pending", "in_progress"]),
        Phase::Final(Outcome::Succeed) => "completed",
        Phase::Final(Outcome::Fail | Outcome::Moderated | Outcome::Timeout) => "failed",
        Phase::Final(Outcome::Cancelled) => "cancelled",
        Phase::Final(Outcome::Expired) => "expired",
    }
}

/// What callbacks and status responses have in common.
fn result(view: &View) -> Value {
    let mut job = json!({ "id": view.id, "status": status_word(view) });
    let error = match view.phase {
        Phase::Open(_) => return job,
        Phase::Final(Outcome::Succeed) => {
            let link = |index| format!("{}/content?index={index}", api_url(view));
            let videos = u32::try_from(view.file_ids.len()).unwrap_or_default();
            job["generation_id"] = json!(format!("gen-vid-{}-{}", clock::seconds(view.created), &view.id[..6]));
            job["unsigned_urls"] = (0..videos).map(link).collect();
            job["usage"] = json!({ "cost": f64::from(videos) * 1.5, "is_byok": false });
            Value::Null
        }
        Phase::Final(Outcome::Fail) => json!("Provider returned error: internal"),
        Phase::Final(Outcome::Moderated) => json!("The upstream refused the prompt: content policy"),
        Phase::Final(Outcome::Timeout) => json!("The upstream timed out"),
        Phase::Final(Outcome::Cancelled) => json!("The job was cancelled"),
        Phase::Final(Outcome::Expired) => json!("The job's time to live passed"),
    };
    job["error"] = error;
    job
}

/// The URL of a job.
fn api_url(view: &View) -> String {
    format!("{}/openrouter/api/v1/videos/{}", view.origin, view.id)
}

async fn status(State(world): State<Shared>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    if let Some(response) = admit(&world, DIALECT, Call::Status, &headers).await {
        return response;
    }
    match world.view(&id, Purpose::Status, |dialect| dialect == DIALECT) {
        Some(view) => {
            let mut body = result(&view);
            body["polling_url"] = json!(api_url(&view));
            ok(&body)
        }
        None => refusal(Refusal::NotFound, "Job not found"),
    }
}

/// Redirects holders of the key to the file.
async fn content(State(world): State<Shared>, Path(id): Path<String>, uri: Uri, headers: HeaderMap) -> Response {
    if let Some(response) = admit(&world, DIALECT, Call::Link, &headers).await {
        return response;
    }
    let Some(view) = world.view(&id, Purpose::Refresh, |dialect| dialect == DIALECT) else {
        return refusal(Refusal::NotFound, "Job not found");
    };
    if !view.succeeded() {
        return refusal(Refusal::Parameters, "The job is not completed");
    }
    let index = first(&query(&uri), "index").map_or(Some(0), |index| index.parse().ok());
    match index.and_then(|index| view.files_of(FileKind::Video).nth(index)) {
        Some(video) => (StatusCode::FOUND, [(header::LOCATION, video.url.as_str())]).into_response(),
        None => refusal(Refusal::Parameters, "There is no such index"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with another implementation.
    #[test]
    fn signatures_join_time_and_body_by_a_comma() {
        let signed = signature("secret", 1_800_000_000, br#"{"type":"video.generation.completed"}"#);
        let expected = "t=1800000000,v1=6c4a26ba93eaac5510ffcae1629a8643d7a8b1311fa38659b2206500bd194174";
        assert_eq!(signed, expected);
    }
}
