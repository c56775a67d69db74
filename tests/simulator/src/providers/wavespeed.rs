//! `WaveSpeed` AI.
//!
//! Confirmed by its pages (`wavespeed.ai/docs/how-to-use-webhooks`, `/verify-webhooks`, `/get-result`, `/error-codes`) and its SDKs:
//! paths, the callback URL in the query, the envelope of answers and the flat callback, states, codes of failed tasks under an
//! envelope code of 200, the signature, up to three retries.
//!
//! Inferred: that the `webhook-id` is the task's id; HTTP 404 for an unknown id; the words `cancelled` and `timeout`.
//!
//! Not documented, chosen here: the delays between retries and a timeout of ten seconds; the next status call replaces a dead link.

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

use super::{Incoming, Shared, admit, first, ok, query, required, submit};
use crate::{
    api::{Api, Headers, Outgoing, Profile},
    clock,
    delivery::{GiveUp, RetryPolicy},
    example::Example,
    files::DAY,
    provider::{Dialect, Provider, Signs},
    record::{Call, FileKind, Phase, Refusal},
    script::Outcome,
    signature::hmac,
    world::{Draft, Purpose, View, World},
};

const DIALECT: Dialect = Dialect::Only(Provider::WaveSpeed);

pub(crate) const PROFILE: Profile = Profile {
    signs: Signs::Body,
    signing_secret: Some("whsec_wavespeed-webhook-secret"),
    ..Profile::new(router, &WaveSpeed, examples)
};

fn examples() -> Vec<Example> {
    vec![Example {
        submit: "/api/v3/kwaivgi/kling-v2.5-turbo-pro/text-to-video?webhook={url}",
        body: json!({ "prompt": "{script}", "duration": 5 }),
        id: "/data/id",
        status: "/api/v3/predictions/{id}/result",
        final_status: ("/data/status", "completed"),
        link: "/data/outputs/0",
        callback_status: ("/status", json!("completed")),
        callback_id: "/id",
        attempts: 4,
        ..Example::of(Provider::WaveSpeed)
    }]
}

pub(crate) struct WaveSpeed;

impl Api for WaveSpeed {
    fn provider(&self) -> Provider {
        Provider::WaveSpeed
    }

    fn refusal(&self, _world: &World, refused: Refusal, message: &str) -> Response {
        refusal(refused, message)
    }

    fn new_id(&self, world: &World, _now: SystemTime) -> String {
        world.uuid().replace('-', "")
    }

    fn submission_body(&self, _world: &World, view: &View) -> Value {
        json!({ "code": 200, "message": "success", "data": task(view) })
    }

    /// The task without an envelope, with its input.
    fn callback_body(&self, view: &View) -> Option<Value> {
        let mut body = task(view);
        body["input"] = (*view.request).clone();
        Some(body)
    }

    fn signature(&self, outgoing: &Outgoing<'_>) -> Option<Headers> {
        let (secret, stamp) = (outgoing.account.signing_secret.as_ref()?, clock::seconds(outgoing.now));
        Some(vec![
            ("webhook-id", outgoing.task_id.to_owned()),
            ("webhook-timestamp", stamp.to_string()),
            ("webhook-signature", signature(secret, outgoing.task_id, stamp, outgoing.body)),
        ])
    }

    fn retry_policy(&self, phase: Phase) -> RetryPolicy {
        if phase.is_final() { RetryPolicy::new(10, &[10, 30, 60], GiveUp::Never) } else { RetryPolicy::NEVER }
    }

    fn link_life(&self, _kind: FileKind, _purpose: Purpose) -> Duration {
        7 * DAY
    }
}

/// The `webhook-signature`: hexadecimal, keyed with the text of the secret after its prefix.
fn signature(secret: &str, id: &str, timestamp: i64, body: &[u8]) -> String {
    let key = secret.strip_prefix("whsec_").unwrap_or(secret);
    let stamp = timestamp.to_string();
    let signature = hmac(key.as_bytes(), &[id.as_bytes(), b".", stamp.as_bytes(), b".", body]);
    format!("v3,{}", hex::encode(signature))
}

fn router() -> Router<Shared> {
    Router::new()
        .route("/api/v3/predictions/{id}/result", get(status))
        .route("/api/v3/{*model}", post(create))
        .fallback(async || refusal(Refusal::NotFound, "not found"))
}

fn refusal(refusal: Refusal, message: &str) -> Response {
    let status = match refusal {
        Refusal::Parameters | Refusal::Moderated | Refusal::Conflict => 400,
        Refusal::Unauthorized => 401,
        Refusal::Balance => 403,
        Refusal::NotFound => 404,
        Refusal::RateLimited => 429,
        Refusal::Server => 500,
    };
    let message = if refusal == Refusal::Balance { "Insufficient balance, please top up" } else { message };
    super::json(StatusCode::from_u16(status).unwrap_or_default(), &json!({ "code": status, "message": message }))
}

async fn create(
    State(world): State<Shared>,
    Path(model): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let callback_url = first(&query(&uri), "webhook").map(str::to_owned);
    let incoming = Incoming { dialect: DIALECT, path: uri.path().to_owned(), headers, body };
    submit(world, incoming, |_, body, _| {
        required(body, "prompt")?;
        Ok((DIALECT, Draft { model, callback_url, ..Draft::default() }))
    })
    .await
}

fn task(view: &View) -> Value {
    let status = match view.phase {
        Phase::Open(_) => view.status_word(["created", "processing", "processing"]),
        Phase::Final(Outcome::Succeed) => "completed",
        Phase::Final(Outcome::Fail | Outcome::Moderated | Outcome::Expired) => "failed",
        Phase::Final(Outcome::Timeout) => "timeout",
        Phase::Final(Outcome::Cancelled) => "cancelled",
    };
    let (code, error) = match view.phase {
        Phase::Final(Outcome::Fail | Outcome::Expired) => (1405, "the task failed"),
        Phase::Final(Outcome::Moderated) => (1200, "input did not pass the content check"),
        Phase::Final(Outcome::Timeout) => (5004, "timeout"),
        _ => (0, ""),
    };
    let outputs: Vec<_> = view.files_of(FileKind::Video).map(|file| file.url.as_str()).collect();
    let mut task = json!({
        "id": view.id,
        "model": view.model,
        "outputs": outputs,
        "has_nsfw_contents": null,
        "status": status,
        "created_at": clock::rfc3339(view.created),
        "error": error,
        "executionTime": if view.succeeded() { 91_250 } else { 0 },
        "timings": { "inference": 0 },
    });
    if code != 0 {
        task["code"] = json!(code);
    }
    task
}

async fn status(State(world): State<Shared>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    if let Some(response) = admit(&world, DIALECT, Call::Status, &headers).await {
        return response;
    }
    match world.view(&id, Purpose::Status, |dialect| dialect == DIALECT) {
        // The envelope says 200 about a failed task as well.
        Some(view) => ok(&json!({ "code": 200, "message": "success", "data": task(&view) })),
        None => refusal(Refusal::NotFound, "prediction not found"),
    }
}
