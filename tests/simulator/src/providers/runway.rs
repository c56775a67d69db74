//! Runway, its developer API (`docs.dev.runwayml.com`).
//!
//! Confirmed by its SDK (`runwayml/sdk-node`: `src/client.ts`, `src/resources/tasks.ts`) and its pages (`/errors/task-failures`,
//! `/errors/errors`, `/assets/outputs`): paths, the version that every call names, ids, states, fields of a task, failure codes, statuses
//! of errors, no callbacks, links for 24 hours at least and a new one with every status response, 204 for a task that was cancelled or
//! deleted.
//!
//! Observed by others, not documented: the body of an error, costs, that a cancelled task is unknown from then on, that an empty account is
//! HTTP 400, the token in a link.
//!
//! Not documented, chosen here: a prompt that moderation rejects at once is HTTP 400; the texts; 404 for deleting an unknown task;
//! `THROTTLED` for a third of the time, as if the account were busy; 60 credits for everything but a fault of the provider.

use axum::{
    Router,
    extract::{Path, State},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Uri};
use serde_json::{Value, json};

use super::{Incoming, Shared, admit, credential, ok, required, submit};
use crate::{
    api::{Api, Profile},
    clock,
    example::Example,
    files::Style,
    provider::{Dialect, Provider},
    record::{Call, FileKind, Phase, Refusal},
    script::Outcome,
    world::{Draft, Purpose, View, World},
};

const DIALECT: Dialect = Dialect::Only(Provider::Runway);

pub(crate) const PROFILE: Profile = Profile { calls_back: false, ..Profile::new(router, &Runway, examples) };

fn examples() -> Vec<Example> {
    vec![Example {
        header: Some(("x-runway-version", "2024-11-06")),
        submit: "/v1/text_to_video",
        body: json!({ "model": "gen4.5", "promptText": "{script}", "ratio": "1280:720", "duration": 5 }),
        id: "/id",
        status: "/v1/tasks/{id}",
        final_status: ("/status", "SUCCEEDED"),
        link: "/output/0",
        callbacks: 0,
        attempts: 0,
        ..Example::of(Provider::Runway)
    }]
}

pub(crate) struct Runway;

impl Api for Runway {
    fn provider(&self) -> Provider {
        Provider::Runway
    }

    fn refusal(&self, _world: &World, refused: Refusal, message: &str) -> Response {
        refusal(refused, message)
    }

    fn unauthorized(&self, world: &World, headers: &HeaderMap) -> Option<Response> {
        let key = world.config.account(Provider::Runway).api_key;
        if key.is_empty() || credential(headers, "Bearer") != Some(key.as_str()) {
            return Some(refusal(Refusal::Unauthorized, "the API key is missing or wrong"));
        }
        let has_version = headers.get("x-runway-version").is_some_and(|version| version == "2024-11-06");
        (!has_version).then(|| refusal(Refusal::Parameters, "X-Runway-Version is missing or unknown"))
    }

    fn submission_body(&self, _world: &World, view: &View) -> Value {
        json!({ "id": view.id, "estimatedCost": { "credits": CREDITS } })
    }

    fn link_style(&self, _kind: FileKind, _purpose: Purpose) -> Style {
        Style::Token
    }

    fn renewed_by_status(&self, _dead: bool) -> bool {
        true
    }
}

const CREDITS: u32 = 60;

fn router() -> Router<Shared> {
    Router::new()
        .route("/v1/text_to_video", post(create))
        .route("/v1/image_to_video", post(create))
        .route("/v1/video_to_video", post(create))
        .route("/v1/tasks/{id}", get(status).delete(delete))
        .fallback(async || refusal(Refusal::NotFound, "Not found"))
}

fn refusal(refusal: Refusal, message: &str) -> Response {
    let status = match refusal {
        Refusal::Parameters => {
            let issue = json!({ "code": "custom", "message": message, "path": [] });
            let body = json!({
                "error": "Validation of body failed",
                "issues": [issue],
                "docUrl": "https://docs.dev.runwayml.com/api",
            });
            return super::json(StatusCode::BAD_REQUEST, &body);
        }
        Refusal::Moderated | Refusal::Balance | Refusal::Conflict => 400,
        Refusal::Unauthorized => 401,
        Refusal::NotFound => 404,
        Refusal::RateLimited => 429,
        Refusal::Server => 500,
    };
    let message =
        if refusal == Refusal::Balance { "You do not have enough credits to run this task." } else { message };
    super::json(StatusCode::from_u16(status).unwrap_or_default(), &json!({ "error": message }))
}

async fn create(State(world): State<Shared>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let incoming = Incoming { dialect: DIALECT, path: uri.path().to_owned(), headers, body };
    submit(world, incoming, |_, body, _| {
        let model = required(body, "model")?.to_owned();
        Ok((DIALECT, Draft { model, ..Draft::default() }))
    })
    .await
}

fn task(view: &View) -> Value {
    let status = match view.phase {
        Phase::Open(_) => view.status_word(["PENDING", "THROTTLED", "RUNNING"]),
        Phase::Final(Outcome::Succeed) => "SUCCEEDED",
        Phase::Final(Outcome::Fail | Outcome::Moderated | Outcome::Timeout | Outcome::Expired) => "FAILED",
        Phase::Final(Outcome::Cancelled) => "CANCELLED",
    };
    let mut task = json!({ "id": view.id, "status": status, "createdAt": clock::rfc3339(view.created) });
    let (failure, code, credits) = match view.phase {
        Phase::Open(_) => {
            task["estimatedCost"] = json!({ "credits": CREDITS });
            if status == "RUNNING" {
                task["progress"] = json!(f64::from(view.progress()) / 100.0);
            }
            return task;
        }
        Phase::Final(Outcome::Succeed) => {
            task["output"] = view.files_of(FileKind::Video).map(|file| file.url.as_str()).collect();
            task["cost"] = json!({ "credits": CREDITS });
            return task;
        }
        Phase::Final(Outcome::Fail) => ("The output was not good enough.", "INTERNAL.BAD_OUTPUT.CODE01", 0),
        Phase::Final(Outcome::Moderated) => ("The prompt was not accepted.", "SAFETY.INPUT.TEXT", CREDITS),
        Phase::Final(Outcome::Timeout) => ("A service did not respond.", "THIRD_PARTY.UNAVAILABLE", 0),
        // No code at all.
        Phase::Final(Outcome::Expired) => ("The task did not get its turn.", "", 0),
        Phase::Final(Outcome::Cancelled) => return task,
    };
    task["failure"] = json!(failure);
    if !code.is_empty() {
        task["failureCode"] = json!(code);
    }
    task["cost"] = json!({ "credits": credits });
    task
}

fn is_own(dialect: Dialect) -> bool {
    dialect == DIALECT
}

async fn status(State(world): State<Shared>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    if let Some(response) = admit(&world, DIALECT, Call::Status, &headers).await {
        return response;
    }
    match world.view(&id, Purpose::Status, is_own) {
        Some(view) => ok(&task(&view)),
        None => refusal(Refusal::NotFound, "Not found"),
    }
}

/// Cancels an open task, and deletes one that has ended. Either is unknown from then on.
async fn delete(State(world): State<Shared>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    if let Some(response) = admit(&world, DIALECT, Call::Cancel, &headers).await {
        return response;
    }
    let Some(view) = world.view(&id, Purpose::Callback, is_own) else {
        return refusal(Refusal::NotFound, "Not found");
    };
    if matches!(view.phase, Phase::Open(_)) {
        super::cancel_now(&world, &id);
    } else {
        world.expire_links(&id);
    }
    world.with_task(&id, |task| task.hidden = true);
    StatusCode::NO_CONTENT.into_response()
}
