//! fal, the queue of model endpoints.
//!
//! Confirmed by its pages (`fal.ai/docs`: queue, webhooks, errors) and its JavaScript client: paths, the callback URL in the query,
//! `Authorization: Key`, callbacks at the end only, the signature, the key set, the raw output of the call for the result, typed errors in
//! a list under `detail`, cancellation.
//!
//! Inferred: 400 with words for a result that is asked for too early; 404 for an unknown id; the types of errors of tasks that timed
//! out or expired.
//!
//! Not documented, chosen here: two repeated deliveries after 10 and 30 seconds. The stored result lives as long as the file.

use axum::{
    Router,
    extract::{Path, State},
    response::Response,
    routing::get,
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Uri};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Incoming, Shared, admit, cancel_now, credential, first, ok, query, required, submit};
use crate::{
    api::{Api, Headers, KEY_SET_PATH, Outgoing, Profile},
    clock,
    delivery::{GiveUp, RetryPolicy},
    example::Example,
    provider::{Dialect, Provider, Signs},
    record::{Call, FileKind, Phase, Refusal},
    script::Outcome,
    signature,
    world::{Draft, Purpose, View, World},
};

const ACCOUNT: &str = "simulated|customer";

const DIALECT: Dialect = Dialect::Only(Provider::Fal);

pub(crate) const PROFILE: Profile = Profile {
    signs: Signs::Body,
    // The private key of the simulated fal: its seed, as text.
    signing_secret: Some("the-private-key-of-simulated-fal"),
    account_id: Some(ACCOUNT),
    publishes_keys: true,
    ..Profile::new(router, &Fal, examples)
};

fn examples() -> Vec<Example> {
    vec![Example {
        credential: ("authorization", "Key "),
        submit: "/fal-ai/kling-video/v2.5-turbo/pro/text-to-video?fal_webhook={url}",
        body: json!({ "prompt": "{script}", "duration": "5" }),
        id: "/request_id",
        status: "/fal-ai/kling-video/requests/{id}",
        final_status: ("/video/content_type", "video/mp4"),
        http_errors: &["fail", "moderated", "timeout", "cancelled", "expired"],
        link: "/video/url",
        callback_status: ("/status", json!("OK")),
        callback_id: "/request_id",
        attempts: 3,
        ..Example::of(Provider::Fal)
    }]
}

pub(crate) struct Fal;

impl Api for Fal {
    fn provider(&self) -> Provider {
        Provider::Fal
    }

    fn refusal(&self, _world: &World, refused: Refusal, message: &str) -> Response {
        refusal(refused, message)
    }

    fn credential<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        credential(headers, "Key")
    }

    fn submission_body(&self, world: &World, view: &View) -> Value {
        let url = format!("{}/fal/{}/requests/{}", world.origin, application(&view.model), view.id);
        json!({
            "status": "IN_QUEUE",
            "request_id": view.id,
            "response_url": url,
            "status_url": format!("{url}/status"),
            "cancel_url": format!("{url}/cancel"),
            "logs": null,
            "metrics": {},
            "queue_position": 0,
        })
    }

    fn is_pushed(&self, phase: Phase) -> bool {
        phase.is_final()
    }

    fn callback_body(&self, view: &View) -> Option<Value> {
        let failed =
            |payload: Value| json!({ "error": "Invalid status code: 422", "payload": payload, "status": "ERROR" });
        let mut body = match view.phase {
            Phase::Open(_) => return None,
            Phase::Final(Outcome::Succeed) => json!({ "error": null, "payload": output(view), "status": "OK" }),
            Phase::Final(outcome) => failed(error(outcome).1),
        };
        body["request_id"] = json!(view.id);
        // Another one for each of its inner attempts.
        body["gateway_request_id"] = json!(view.id);
        Some(body)
    }

    fn signature(&self, outgoing: &Outgoing<'_>) -> Option<Headers> {
        let key = signature::key_pair(outgoing.account.signing_secret.as_ref()?)?;
        let stamp = clock::seconds(outgoing.now).to_string();
        let hash = hex::encode(Sha256::digest(outgoing.body));
        let message = format!("{}\n{ACCOUNT}\n{stamp}\n{hash}", outgoing.task_id);
        Some(vec![
            ("x-fal-webhook-request-id", outgoing.task_id.to_owned()),
            ("x-fal-webhook-user-id", ACCOUNT.to_owned()),
            ("x-fal-webhook-timestamp", stamp),
            ("x-fal-webhook-signature", hex::encode(key.sign(message.as_bytes()))),
        ])
    }

    fn retry_policy(&self, phase: Phase) -> RetryPolicy {
        if phase.is_final() { RetryPolicy::new(15, &[10, 30], GiveUp::Never) } else { RetryPolicy::NEVER }
    }
}

fn router() -> Router<Shared> {
    Router::new()
        .route(KEY_SET_PATH, get(key_set))
        .route("/{*path}", get(result).post(create).put(cancel))
        .fallback(async || refusal(Refusal::NotFound, "Not found"))
}

async fn key_set(State(world): State<Shared>) -> Response {
    let seed = world.config.account(Provider::Fal).signing_secret.unwrap_or_default();
    ok(&signature::key_set(&[&seed]))
}

fn refusal(refusal: Refusal, message: &str) -> Response {
    let of_model = |kind: &str| json!({ "detail": [{ "loc": ["body"], "msg": message, "type": kind }] });
    let (status, body) = match refusal {
        Refusal::Parameters | Refusal::Conflict => (422, of_model("value_error")),
        Refusal::Moderated => (422, of_model("content_policy_violation")),
        Refusal::Unauthorized => (401, json!({ "detail": "No user found for Key ID and Secret" })),
        Refusal::Balance => (403, json!({ "detail": "User is locked. Reason: Exhausted balance." })),
        Refusal::NotFound => (404, json!({ "detail": message })),
        Refusal::RateLimited => (429, json!({ "detail": message, "error_type": "concurrent_requests_limit" })),
        // Without a type: about the call, not about a task.
        Refusal::Server => (500, json!({ "detail": message })),
    };
    super::json(StatusCode::from_u16(status).unwrap_or_default(), &body)
}

/// Owner and app, which the path of a request begins with.
fn application(model: &str) -> String {
    model.split('/').take(2).collect::<Vec<_>>().join("/")
}

async fn create(
    State(world): State<Shared>,
    Path(model): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let callback_url = first(&query(&uri), "fal_webhook").map(str::to_owned);
    let incoming = Incoming { dialect: DIALECT, path: uri.path().to_owned(), headers, body };
    submit(world, incoming, |_, body, _| {
        required(body, "prompt")?;
        Ok((DIALECT, Draft { model, callback_url, ..Draft::default() }))
    })
    .await
}

/// A model's output: one video, or several under another name.
fn output(view: &View) -> Value {
    let videos: Vec<Value> = view
        .files_of(FileKind::Video)
        .map(|file| json!({ "url": file.url, "content_type": "video/mp4", "file_name": "output.mp4" }))
        .collect();
    match &videos[..] {
        [one] => json!({ "video": one, "seed": 18_446_744_073_709_551_001_u64 }),
        several => json!({ "videos": several }),
    }
}

/// Status and body of the error that a failed task ended with.
fn error(outcome: Outcome) -> (u16, Value) {
    let (status, kind, message) = match outcome {
        Outcome::Succeed | Outcome::Fail => (500, "internal_server_error", "the model failed"),
        Outcome::Moderated => (422, "content_policy_violation", "it failed the content check"),
        Outcome::Timeout | Outcome::Expired => (504, "generation_timeout", "the model took too long"),
        Outcome::Cancelled => (499, "client_cancelled", "the request was cancelled"),
    };
    (status, json!({ "detail": [{ "loc": ["body"], "msg": message, "type": kind }] }))
}

fn is_ours(dialect: Dialect) -> bool {
    dialect == DIALECT
}

/// The id in the path of a request, which is `{owner}/{app}/requests/{id}` and what follows.
fn id_in<'a>(path: &'a str, end: &str) -> Option<&'a str> {
    let id = path.splitn(3, '/').nth(2)?.strip_prefix("requests/")?.strip_suffix(end)?;
    (!id.contains('/')).then_some(id)
}

async fn result(State(world): State<Shared>, Path(path): Path<String>, headers: HeaderMap) -> Response {
    if let Some(response) = admit(&world, DIALECT, Call::Status, &headers).await {
        return response;
    }
    let Some(view) = id_in(&path, "").and_then(|id| world.view(id, Purpose::Status, is_ours)) else {
        return refusal(Refusal::NotFound, "Request not found");
    };
    match view.phase {
        Phase::Open(_) => super::json(StatusCode::BAD_REQUEST, &json!({ "detail": "Request is still in progress" })),
        Phase::Final(Outcome::Succeed) => ok(&output(&view)),
        Phase::Final(outcome) => {
            let (status, body) = error(outcome);
            super::json(StatusCode::from_u16(status).unwrap_or_default(), &body)
        }
    }
}

async fn cancel(State(world): State<Shared>, Path(path): Path<String>, headers: HeaderMap) -> Response {
    if let Some(response) = admit(&world, DIALECT, Call::Cancel, &headers).await {
        return response;
    }
    let id = id_in(&path, "/cancel").unwrap_or_default();
    match world.view(id, Purpose::Callback, is_ours).map(|view| view.phase) {
        None => super::json(StatusCode::NOT_FOUND, &json!({ "status": "NOT_FOUND" })),
        Some(Phase::Final(_)) => super::json(StatusCode::BAD_REQUEST, &json!({ "status": "ALREADY_COMPLETED" })),
        Some(Phase::Open(_)) => {
            cancel_now(&world, id);
            super::json(StatusCode::ACCEPTED, &json!({ "status": "CANCELLATION_REQUESTED" }))
        }
    }
}
