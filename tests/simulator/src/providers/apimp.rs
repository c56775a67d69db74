//! APIMP (`doc.apimp.ai`), whose callbacks are those of its upstreams.
//!
//! Confirmed by its pages (`/en/docs/common-api/task/webhook`, `/en/docs/generate/video-api`): paths, fields,
//! `input.metadata.callback_url`, the rejection of unknown keys in `input`, `not_started` and `finished`, `image` as the
//! type of every file, and that the upstream gets the callback URL and posts its own body: Kling, Doubao, `MiniMax` and
//! Vidu do; other models can only be polled.
//!
//! Inferred: `running`, `failed`, `progress` and `error_message`; that the upstream's id differs from APIMP's; that Vidu
//! signs with APIMP's token, so that customers cannot verify it; the format of errors.
//!
//! Not documented, chosen here: the model's name selects the upstream; links live 24 hours, and the next status call
//! replaces a dead one.

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

use super::{Incoming, Shared, admit, ok, parameters, required, submit, text, vidu};
use crate::{
    api::{Api, Headers, Outgoing, Profile},
    clock,
    example::Example,
    provider::{Dialect, Provider, Upstream},
    record::{Call, FileKind, Phase, Refusal},
    script::Outcome,
    world::{Draft, Purpose, View, World},
};

pub(crate) const PROFILE: Profile = Profile::new(router, &Upstream::Kling, examples);

/// One for each upstream that sends callbacks.
fn examples() -> Vec<Example> {
    let apimp = |model: &str, callback_status: (&'static str, Value), callbacks, attempts| Example {
        submit: "/api/generate/submit",
        body: json!({ "model": model, "input": { "prompt": "{script}", "metadata": { "callback_url": "{url}" } } }),
        status: "/api/generate/status/{id}",
        final_status: ("/data/status", "finished"),
        link: "/data/files/0/file_url",
        callback_status,
        callbacks,
        attempts,
        ..Example::of(Provider::Apimp)
    };
    vec![
        apimp("kling-2.6", ("/task_status", json!("succeed")), 3, 1),
        apimp("doubao-seedance-2", ("/status", json!("succeeded")), 3, 4),
        apimp("vidu-q3", ("/state", json!("success")), 2, 4),
        apimp("minimax-hailuo-2.3", ("/status", json!("success")), 3, 1),
    ]
}

impl Api for Upstream {
    fn provider(&self) -> Provider {
        Provider::Apimp
    }

    fn refusal(&self, _world: &World, refused: Refusal, message: &str) -> Response {
        refusal(refused, message)
    }

    fn max_videos(&self) -> u32 {
        self.upstream().map_or(10, |sender| sender.api().max_videos())
    }

    fn is_challenged(&self) -> bool {
        self.upstream().is_some_and(|sender| sender.api().is_challenged())
    }

    fn new_id(&self, world: &World, _now: SystemTime) -> String {
        format!("task_01{}", world.letters(24, true))
    }

    fn submission_body(&self, _world: &World, view: &View) -> Value {
        json!({
            "code": 200,
            "data": {
                "task_id": view.id,
                "status": "not_started",
                "created_time": clock::without_zone(view.created),
            },
        })
    }

    fn upstream(&self) -> Option<Dialect> {
        match self {
            Self::Kling => Some(Dialect::KlingLegacy),
            Self::Ark => Some(Dialect::Only(Provider::Ark)),
            Self::MiniMax => Some(Dialect::MiniMaxFirst),
            Self::Vidu => Some(Dialect::Only(Provider::Vidu)),
            Self::Silent => None,
        }
    }

    /// Without an upstream that sends callbacks, nobody does.
    fn is_pushed(&self, _phase: Phase) -> bool {
        false
    }

    /// Signed with the token of APIMP's own Vidu account, which customers do not have.
    fn signature(&self, outgoing: &Outgoing<'_>) -> Option<Headers> {
        (*self == Self::Vidu).then(|| vidu::signed_headers("the-token-of-apimp-at-vidu", outgoing))
    }

    fn extra_file(&self, _request: &Value) -> Option<(FileKind, &'static str, &'static str)> {
        (*self == Self::Vidu).then_some((FileKind::Cover, "cover", "jpeg"))
    }
}

fn router() -> Router<Shared> {
    Router::new()
        .route("/api/generate/submit", post(generate))
        .route("/api/generate/status/{id}", get(status))
        .fallback(async || refusal(Refusal::NotFound, "not found"))
}

fn refusal(refusal: Refusal, message: &str) -> Response {
    let (code, kind) = match refusal {
        Refusal::Parameters | Refusal::Conflict | Refusal::Moderated => (400, "invalid_request_error"),
        Refusal::Unauthorized => (401, "authentication_error"),
        Refusal::Balance => (402, "insufficient_credits_error"),
        Refusal::NotFound => (404, "not_found_error"),
        Refusal::RateLimited => (429, "rate_limit_error"),
        Refusal::Server => (500, "api_error"),
    };
    let status = StatusCode::from_u16(code).unwrap_or_default();
    super::json(status, &json!({ "code": code, "error": { "message": message, "type": kind } }))
}

/// The keys that `input` allows; all others belong in `metadata`.
const INPUT_KEYS: [&str; 7] = ["prompt", "size", "duration", "seconds", "image", "images", "metadata"];

fn upstream(model: &str) -> Upstream {
    let model = model.to_lowercase();
    let named = |names: &[&str]| names.iter().any(|name| model.contains(name));
    if named(&["kling"]) {
        Upstream::Kling
    } else if named(&["doubao", "seedance"]) {
        Upstream::Ark
    } else if named(&["minimax", "hailuo"]) {
        Upstream::MiniMax
    } else if named(&["vidu"]) {
        Upstream::Vidu
    } else {
        Upstream::Silent
    }
}

async fn generate(State(world): State<Shared>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let dialect = Dialect::Apimp(Upstream::Silent);
    let incoming = Incoming { dialect, path: uri.path().to_owned(), headers, body };
    submit(world, incoming, |_, body, _| {
        let model = required(body, "model")?.to_owned();
        let input = body["input"].as_object().ok_or_else(|| parameters("input is required"))?;
        if let Some(name) = input.keys().find(|name| !INPUT_KEYS.contains(&name.as_str())) {
            return Err(parameters(format!("input.{name} is not allowed, use input.metadata")));
        }
        let callback_url = text(&body["input"]["metadata"], "callback_url").map(str::to_owned);
        let dialect = Dialect::Apimp(upstream(&model));
        Ok((dialect, Draft { model, callback_url, ..Draft::default() }))
    })
    .await
}

async fn status(State(world): State<Shared>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    if let Some(response) = admit(&world, Dialect::Apimp(Upstream::Silent), Call::Status, &headers).await {
        return response;
    }
    let Some(view) = world.view(&id, Purpose::Status, |dialect| matches!(dialect, Dialect::Apimp(_))) else {
        return refusal(Refusal::NotFound, "task not found");
    };
    let state = match view.phase {
        Phase::Open(_) => view.status_word(["not_started", "running", "running"]),
        Phase::Final(Outcome::Succeed) => "finished",
        Phase::Final(_) => "failed",
    };
    let error = match view.phase {
        Phase::Open(_) | Phase::Final(Outcome::Succeed) => None,
        Phase::Final(outcome) => Some(super::failure_text(outcome)),
    };
    let files: Vec<_> =
        view.files_of(FileKind::Video).map(|file| json!({ "file_url": file.url, "file_type": "image" })).collect();
    ok(&json!({
        "code": 200,
        "data": {
            "task_id": view.id,
            "status": state,
            "progress": if error.is_some() { 0 } else { view.progress() },
            "files": files,
            "created_time": clock::without_zone(view.created),
            "error_message": error,
        },
    }))
}
