//! Google Veo over the Gemini API, as long-running operations.
//!
//! Confirmed by its pages (`ai.google.dev/gemini-api/docs/video`, `/webhooks`), its SDKs (`googleapis/python-genai`, `js-genai`) and
//! the cookbook (`google-gemini/cookbook`): paths, `x-goog-api-key`, `webhookConfig`, the name of an operation as its id, an open operation
//! without `done`, filtered successes, gRPC codes, the form of errors, files that want the key and redirect elsewhere without, files for 2
//! days, `video.generated`, no event for a failure, callbacks repeated for up to 24 hours.
//!
//! Reported by others, not documented: `v1a` signatures (Ed25519) for the URL of a request, `msg_` ids, a key set with several keys
//! without `kid`, the error texts.
//!
//! Not documented, chosen here: `data.id` is the whole name, and metadata stands beside `data`; three repeated deliveries after 10, 60 and
//! 300 seconds; a file that is unknown or gone is HTTP 403; each download redirects to a new link; 503 for an internal error.

use std::time::{Duration, SystemTime};

use axum::{
    Router,
    extract::{Path, State},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Uri, header};
use serde_json::{Value, json};

use super::{Incoming, Shared, admit, ok, parameters, submit, text};
use crate::{
    api::{Api, Headers, KEY_SET_PATH, Outgoing, Profile},
    clock,
    delivery::{GiveUp, RetryPolicy},
    example::Example,
    files::DAY,
    provider::{Dialect, Provider, Signs},
    record::{Call, FileKind, Phase, Refusal},
    script::Outcome,
    signature,
    world::{Draft, Purpose, View, World},
};

const DIALECT: Dialect = Dialect::Only(Provider::Veo);

pub(crate) const PROFILE: Profile = Profile {
    signs: Signs::Body,
    // The private key of the simulated Google: its seed, as text.
    signing_secret: Some("the-private-key-of-simulated-veo"),
    publishes_keys: true,
    ..Profile::new(router, &Veo, examples)
};

fn examples() -> Vec<Example> {
    vec![Example {
        credential: ("x-goog-api-key", ""),
        submit: "/v1beta/models/veo-3.1-generate-preview:predictLongRunning",
        body: json!({ "instances": [{ "prompt": "{script}" }], "webhookConfig": { "uris": ["{url}"] } }),
        id: "/name",
        status: "/v1beta/{id}",
        anonymous: 403,
        final_status: ("/response/generateVideoResponse/generatedSamples", ""),
        link: "/response/generateVideoResponse/generatedSamples/0/video/uri",
        callback_status: ("/type", json!("video.generated")),
        callback_id: "/data/id",
        attempts: 4,
        ..Example::of(Provider::Veo)
    }]
}

/// The seed of a key that signs nothing: the key set has several.
const OTHER_KEY: &str = "a-second-key-of-the-simulated-veo";

const METHOD: &str = ":predictLongRunning";

pub(crate) struct Veo;

impl Api for Veo {
    fn provider(&self) -> Provider {
        Provider::Veo
    }

    fn refusal(&self, _world: &World, refused: Refusal, message: &str) -> Response {
        refusal(refused, message)
    }

    fn unauthorized(&self, world: &World, headers: &HeaderMap) -> Option<Response> {
        let key = world.config.account(Provider::Veo).api_key;
        match headers.get("x-goog-api-key") {
            Some(given) if !key.is_empty() && given == key.as_str() => None,
            Some(_) => {
                let details = json!([{
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": "API_KEY_INVALID",
                    "domain": "googleapis.com",
                }]);
                let message = "API key not valid. Please pass a valid API key.";
                Some(error(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", message, Some(details)))
            }
            None if headers.contains_key(header::AUTHORIZATION) => {
                Some(refusal(Refusal::Unauthorized, "Request had invalid authentication credentials."))
            }
            None => Some(forbidden("Method doesn't allow unregistered callers")),
        }
    }

    fn id_of(&self, world: &World, draft: &Draft, _now: SystemTime) -> String {
        format!("models/{}/operations/{}", draft.model, world.letters(12, false))
    }

    fn submission_body(&self, _world: &World, view: &View) -> Value {
        json!({ "name": view.id })
    }

    /// A failure or a filtered success sends nothing.
    fn is_pushed(&self, phase: Phase) -> bool {
        phase == Phase::Final(Outcome::Succeed)
    }

    /// Veo has no event for a failure; this one is what a forger might send.
    fn callback_body(&self, view: &View) -> Option<Value> {
        let (event, data) = match view.phase {
            Phase::Open(_) => return None,
            Phase::Final(Outcome::Succeed) => {
                let file = view.file_ids.first()?;
                let name = format!("files/{file}");
                (
                    "video.generated",
                    json!({ "id": view.id, "output_file_uri": file_uri(view, file), "file_name": name }),
                )
            }
            Phase::Final(_) => {
                ("video.failed", json!({ "id": view.id, "error_code": 13, "error_message": "Internal error" }))
            }
        };
        Some(json!({
            "type": event,
            "version": "v1",
            "timestamp": clock::rfc3339(view.updated),
            "data": data,
            "user_metadata": view.request["webhookConfig"]["userMetadata"],
        }))
    }

    fn signature(&self, outgoing: &Outgoing<'_>) -> Option<Headers> {
        let (id, stamp) = (format!("msg_{}", outgoing.message_id), clock::seconds(outgoing.now).to_string());
        let signature = signed(outgoing.account.signing_secret.as_ref()?, &id, &stamp, outgoing.body)?;
        Some(vec![("webhook-id", id), ("webhook-timestamp", stamp), ("webhook-signature", signature)])
    }

    fn retry_policy(&self, _phase: Phase) -> RetryPolicy {
        RetryPolicy::new(5, &[10, 60, 300], GiveUp::Never)
    }

    /// The link of a file leads into the API, which issues the real one.
    fn names_files_by_id(&self) -> bool {
        true
    }

    fn link_life(&self, _kind: FileKind, _purpose: Purpose) -> Duration {
        KEPT_FOR
    }
}

/// How long a file is kept.
const KEPT_FOR: Duration = DAY.saturating_mul(2);

/// The `webhook-signature`: that of Standard Webhooks, with a key pair.
fn signed(seed: &str, id: &str, stamp: &str, body: &[u8]) -> Option<String> {
    let message = [id.as_bytes(), b".", stamp.as_bytes(), b".", body].concat();
    Some(format!("v1a,{}", BASE64_STANDARD.encode(signature::key_pair(seed)?.sign(&message))))
}

fn router() -> Router<Shared> {
    Router::new()
        .route(KEY_SET_PATH, get(key_set))
        .route("/v1beta/models/{model}", post(create))
        .route("/v1beta/files/{file}", get(download))
        .route("/v1beta/{*name}", get(status))
        .fallback(async || refusal(Refusal::NotFound, "not found"))
}

async fn key_set(State(world): State<Shared>) -> Response {
    let own = world.config.account(Provider::Veo).signing_secret.unwrap_or_default();
    ok(&signature::key_set(&[OTHER_KEY, &own]))
}

fn error(http: StatusCode, status: &str, message: &str, details: Option<Value>) -> Response {
    let mut error = json!({ "code": http.as_u16(), "message": message, "status": status });
    if let Some(details) = details {
        error["details"] = details;
    }
    super::json(http, &json!({ "error": error }))
}

fn forbidden(message: &str) -> Response {
    error(StatusCode::FORBIDDEN, "PERMISSION_DENIED", message, None)
}

fn refusal(refusal: Refusal, message: &str) -> Response {
    let retry_info = json!([{ "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "31s" }]);
    let (http, status, message, details) = match refusal {
        Refusal::Parameters | Refusal::Conflict => (400, "INVALID_ARGUMENT", message, None),
        Refusal::Moderated => {
            let message = "The prompt could not be submitted, as it goes against Google's Responsible AI practices. \
                           Support codes: 58061214";
            (400, "INVALID_ARGUMENT", message, None)
        }
        Refusal::Unauthorized => (401, "UNAUTHENTICATED", message, None),
        Refusal::Balance => (429, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted.", None),
        Refusal::NotFound => (404, "NOT_FOUND", message, None),
        Refusal::RateLimited => {
            (429, "RESOURCE_EXHAUSTED", "Quota exceeded for requests per minute.", Some(retry_info))
        }
        Refusal::Server => (503, "UNAVAILABLE", "The service is currently unavailable.", None),
    };
    error(StatusCode::from_u16(http).unwrap_or_default(), status, message, details)
}

async fn create(
    State(world): State<Shared>,
    Path(call): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Some(model) = call.strip_suffix(METHOD).map(str::to_owned) else {
        return refusal(Refusal::NotFound, "no such method");
    };
    let incoming = Incoming { dialect: DIALECT, path: uri.path().to_owned(), headers, body };
    submit(world, incoming, |_, body, _| {
        if text(&body["instances"][0], "prompt").is_none() {
            return Err(parameters("instances[0].prompt is required"));
        }
        let callback_url = body["webhookConfig"]["uris"][0].as_str().map(str::to_owned);
        Ok((DIALECT, Draft { model, callback_url, ..Draft::default() }))
    })
    .await
}

/// The link of a file, which is one into the API.
fn file_uri(view: &View, file: &str) -> String {
    format!("{}/veo/v1beta/files/{file}:download?alt=media", view.origin)
}

fn operation(view: &View) -> Value {
    let failed = |code: u8, message: &str| json!({ "name": view.id, "done": true, "error": { "code": code, "message": message } });
    let done = |result: Value| {
        let response = json!({
            "@type": "type.googleapis.com/google.ai.generativelanguage.v1beta.PredictLongRunningResponse",
            "generateVideoResponse": result,
        });
        json!({ "name": view.id, "done": true, "response": response })
    };
    match view.phase {
        Phase::Open(_) => json!({ "name": view.id }),
        Phase::Final(Outcome::Succeed) => {
            let samples: Vec<Value> =
                view.file_ids.iter().map(|file| json!({ "video": { "uri": file_uri(view, file) } })).collect();
            done(json!({ "generatedSamples": samples }))
        }
        // Done, and all the same no success.
        Phase::Final(Outcome::Moderated) => done(json!({
            "raiMediaFilteredCount": 1,
            "raiMediaFilteredReasons": ["The video was filtered out. Support codes: 29310472"],
        })),
        Phase::Final(Outcome::Timeout) => failed(4, "Deadline expired before operation could complete."),
        Phase::Final(Outcome::Cancelled) => failed(1, "The operation was cancelled."),
        Phase::Final(Outcome::Fail | Outcome::Expired) => {
            failed(13, "Video generation failed due to an internal error.")
        }
    }
}

async fn status(State(world): State<Shared>, Path(name): Path<String>, headers: HeaderMap) -> Response {
    if let Some(response) = admit(&world, DIALECT, Call::Status, &headers).await {
        return response;
    }
    match world.view(&name, Purpose::Status, |dialect| dialect == DIALECT) {
        Some(view) => ok(&operation(&view)),
        None => refusal(Refusal::NotFound, "Operation not found."),
    }
}

/// Redirects to the file, for holders of the key.
async fn download(State(world): State<Shared>, Path(file): Path<String>, headers: HeaderMap) -> Response {
    if let Some(response) = admit(&world, DIALECT, Call::Link, &headers).await {
        return response;
    }
    let link = || {
        let file = file.strip_suffix(":download")?;
        let id = world.task_with_file(file)?;
        let kept_for = world.with_task(&id, |task| task.script.link_ttl)?.unwrap_or(KEPT_FOR);
        let view = world.view(&id, Purpose::Refresh, |dialect| dialect == DIALECT)?;
        let is_kept = SystemTime::now() < clock::later(view.updated, kept_for);
        view.files.into_iter().find(|found| is_kept && found.file_id == file).map(|found| found.url)
    };
    match link() {
        Some(link) => (StatusCode::FOUND, [(header::LOCATION, link)]).into_response(),
        None => forbidden("You do not have permission to access the File or it may not exist."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, section 7.1, has no seed that is text; this vector was computed with another implementation, for the bytes 0 to 31.
    #[test]
    fn signatures_are_ed25519_over_id_time_and_body() {
        let seed = String::from_utf8((0..32).collect()).expect("all of it is ASCII");
        let body = br#"{"type":"video.generated","version":"v1","timestamp":"2026-09-25T10:00:00Z","data":{"id":"models/veo-3.1-generate-preview/operations/ab12cd34ef56","output_file_uri":"https://generativelanguage.googleapis.com/v1beta/files/abc123def456:download?alt=media","file_name":"files/abc123def456"},"user_metadata":{"job":"job-1"}}"#;
        let expected = "v1a,2YnjvCIt3ogG9+MqoA/J39I7ofzdkEfO1qp9i/7dEBG8GcTjHhPsA9kYEd0Bl1zU3qxPGk+TIpDuP7jdmsPGAQ==";
        let signed = signed(&seed, "msg_7f3b8c1e-2d4a-4b6f-9c0d-1e2f3a4b5c6d", "1790330400", body);
        assert_eq!(signed.as_deref(), Some(expected));
    }
}
