//! Replicate, the predictions API.
//!
//! Confirmed by its pages (`replicate.com/docs/reference/http`, `/topics/webhooks`, `/topics/predictions`) and its SDKs' recorded
//! answers: paths, the prediction object in answers, callbacks and status alike, ids of 26 characters, states, Standard Webhooks, problem
//! objects, that everything is deleted an hour after the end, cancellation.
//!
//! Inferred: what a prediction looks like after that; the words of failures; 404 for an unknown id.
//!
//! Not documented, chosen here: two repeated deliveries after 5 and 15 seconds, and a timeout of five.

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

use super::{Incoming, Shared, admit, ok, parameters, submit, text};
use crate::{
    api::{Api, Headers, Outgoing, Profile},
    clock,
    delivery::{GiveUp, RetryPolicy},
    example::Example,
    files::HOUR,
    provider::{Dialect, Provider, Signs},
    record::{Call, FileKind, Phase, Refusal},
    script::Outcome,
    signature,
    world::{Draft, Purpose, View, World},
};

const DIALECT: Dialect = Dialect::Only(Provider::Replicate);

pub(crate) const PROFILE: Profile = Profile {
    signs: Signs::Body,
    // Base64 of "replicate-secret-of-32-bytes-okk".
    signing_secret: Some("whsec_cmVwbGljYXRlLXNlY3JldC1vZi0zMi1ieXRlcy1va2s="),
    ..Profile::new(router, &Replicate, examples)
};

fn examples() -> Vec<Example> {
    vec![Example {
        submit: "/v1/models/kwaivgi/kling-v2.1/predictions",
        body: json!({ "input": { "prompt": "{script}" }, "webhook": "{url}", "webhook_events_filter": ["completed"] }),
        id: "/id",
        status: "/v1/predictions/{id}",
        final_status: ("/status", "succeeded"),
        link: "/output",
        callback_status: ("/status", json!("succeeded")),
        callback_id: "/id",
        attempts: 3,
        ..Example::of(Provider::Replicate)
    }]
}

pub(crate) struct Replicate;

impl Api for Replicate {
    fn provider(&self) -> Provider {
        Provider::Replicate
    }

    fn refusal(&self, _world: &World, refused: Refusal, message: &str) -> Response {
        refusal(refused, message)
    }

    fn new_id(&self, world: &World, _now: SystemTime) -> String {
        world.letters(26, false)
    }

    fn submission_status(&self) -> StatusCode {
        StatusCode::CREATED
    }

    fn submission_body(&self, _world: &World, view: &View) -> Value {
        body(view)
    }

    fn callback_body(&self, view: &View) -> Option<Value> {
        Some(body(view))
    }

    fn signature(&self, outgoing: &Outgoing<'_>) -> Option<Headers> {
        signature::standard_webhooks_headers(outgoing)
    }

    fn retry_policy(&self, phase: Phase) -> RetryPolicy {
        if phase.is_final() { RetryPolicy::new(5, &[5, 15], GiveUp::Never) } else { RetryPolicy::NEVER }
    }

    fn link_life(&self, _kind: FileKind, _purpose: Purpose) -> Duration {
        HOUR
    }

    /// It deletes the file.
    fn renewed_by_status(&self, _dead: bool) -> bool {
        false
    }
}

fn router() -> Router<Shared> {
    Router::new()
        .route("/v1/predictions", post(create))
        .route("/v1/models/{owner}/{name}/predictions", post(create))
        .route("/v1/deployments/{owner}/{name}/predictions", post(create))
        .route("/v1/predictions/{id}", get(status))
        .route("/v1/predictions/{id}/cancel", post(cancel))
        .fallback(async || refusal(Refusal::NotFound, "The requested resource could not be found."))
}

fn refusal(refusal: Refusal, message: &str) -> Response {
    let (status, title) = match refusal {
        Refusal::Parameters | Refusal::Moderated | Refusal::Conflict => (422, "Input validation failed"),
        Refusal::Unauthorized => (401, "Unauthenticated"),
        Refusal::Balance => (402, "Insufficient credit"),
        Refusal::NotFound => (404, "Not found"),
        Refusal::RateLimited => (429, "Too many requests"),
        Refusal::Server => (500, "Internal server error"),
    };
    let detail = if refusal == Refusal::Balance { "Insufficient credit" } else { message };
    super::json(
        StatusCode::from_u16(status).unwrap_or_default(),
        &json!({ "title": title, "detail": detail, "status": status }),
    )
}

async fn create(State(world): State<Shared>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let path = uri.path().to_owned();
    let names_model = path.contains("/models/") || path.contains("/deployments/");
    let incoming = Incoming { dialect: DIALECT, path: path.clone(), headers, body };
    submit(world, incoming, |_, body, _| {
        if !body["input"].is_object() {
            return Err(parameters("- input is required"));
        }
        let version = text(body, "version");
        if names_model == version.is_some() {
            return Err(parameters("- version: belongs to /v1/predictions, and only there"));
        }
        let model =
            version.map_or_else(|| path.split('/').skip(3).take(2).collect::<Vec<_>>().join("/"), str::to_owned);
        let callback_url = text(body, "webhook").map(str::to_owned);
        Ok((DIALECT, Draft { model, callback_url, ..Draft::default() }))
    })
    .await
}

/// A prediction, in every answer and callback.
fn body(view: &View) -> Value {
    let status = match view.phase {
        Phase::Open(_) => view.status_word(["starting", "starting", "processing"]),
        Phase::Final(Outcome::Succeed) => "succeeded",
        Phase::Final(Outcome::Fail | Outcome::Moderated | Outcome::Timeout) => "failed",
        Phase::Final(Outcome::Cancelled) => "canceled",
        Phase::Final(Outcome::Expired) => "aborted",
    };
    let error = match view.phase {
        Phase::Final(Outcome::Fail) => json!("Prediction interrupted; please retry (code: PA)"),
        Phase::Final(Outcome::Moderated) => json!("The output was flagged as sensitive. (E005) (aBcDeF0123)"),
        Phase::Final(Outcome::Timeout) => json!("Prediction timed out"),
        _ => Value::Null,
    };
    let videos: Vec<_> = view.files_of(FileKind::Video).collect();
    let is_removed = videos.iter().any(|video| video.expires_at <= SystemTime::now());
    let urls: Vec<&str> = videos.iter().map(|video| video.url.as_str()).collect();
    let output = match &urls[..] {
        _ if is_removed => Value::Null,
        [] => Value::Null,
        [one] => json!(one),
        several => json!(several),
    };
    let completed_at = matches!(view.phase, Phase::Final(_)).then(|| clock::rfc3339(view.updated));
    json!({
        "id": view.id,
        "model": view.model,
        "version": "hidden",
        "input": if is_removed { json!({}) } else { view.request["input"].clone() },
        "logs": if is_removed { Value::Null } else { json!("") },
        "output": output,
        "data_removed": is_removed,
        "error": error,
        "source": "api",
        "status": status,
        "created_at": clock::rfc3339(view.created),
        "completed_at": completed_at,
        "metrics": if completed_at.is_some() { json!({ "predict_time": 3.2, "total_time": 3.9 }) } else { json!({}) },
        "webhook": view.request["webhook"],
        "webhook_events_filter": view.request["webhook_events_filter"],
    })
}

async fn status(State(world): State<Shared>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    if let Some(response) = admit(&world, DIALECT, Call::Status, &headers).await {
        return response;
    }
    match world.view(&id, Purpose::Status, |dialect| dialect == DIALECT) {
        Some(view) => ok(&body(&view)),
        None => refusal(Refusal::NotFound, "The requested resource could not be found."),
    }
}

async fn cancel(State(world): State<Shared>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    if let Some(response) = admit(&world, DIALECT, Call::Cancel, &headers).await {
        return response;
    }
    let view = || world.view(&id, Purpose::Callback, |dialect| dialect == DIALECT);
    match view() {
        None => return refusal(Refusal::NotFound, "The requested resource could not be found."),
        Some(View { phase: Phase::Open(_), .. }) => super::cancel_now(&world, &id),
        Some(_) => {}
    }
    view().map_or_else(|| refusal(Refusal::NotFound, "it is gone"), |view| ok(&body(&view)))
}
