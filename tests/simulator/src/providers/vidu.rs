//! Vidu.
//!
//! Confirmed by its pages (`platform.vidu.com/docs/callback-signature`, `/text-to-video`, `/image-to-video`,
//! `/get-generation`, `/tasks-list`, `/cancel-generation`, `/error-code`): paths, the scheme `Token`, fields, the echoed
//! `payload`, states, error names, the signing string and its headers, which leave the body unsigned, three retries for
//! final states, links that live 24 hours.
//!
//! Seen in logs: links presigned on every request, covers that live one hour.
//!
//! Inferred: `id` in callbacks, although the submission response has `task_id`; no retries for other states; the API key
//! as the signing key (configurable here); `UserCancelled` after a cancellation.
//!
//! Not documented, chosen here: a callback timeout of ten seconds, and the delays between retries; a retry has a new nonce
//! and date.

use std::time::{Duration, SystemTime};

use axum::{
    Router,
    extract::{Path, State},
    response::Response,
    routing::{get, post},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Uri};
use serde_json::{Value, json};

use super::{Incoming, Shared, admit, credential, first, ok, page, parameters, query, required, submit, text};
use crate::{
    api::{Api, Headers, Outgoing, Profile},
    clock,
    delivery::{GiveUp, RetryPolicy},
    example::Example,
    files::{DAY, HOUR, Style},
    provider::{Dialect, Provider, Signs},
    record::{Call, FileKind, Phase, Refusal, Stage},
    script::Outcome,
    signature::hmac,
    world::{Draft, Purpose, View, World},
};

const DIALECT: Dialect = Dialect::Only(Provider::Vidu);

pub(crate) const PROFILE: Profile = Profile { signs: Signs::Sender, ..Profile::new(router, &Vidu, examples) };

fn examples() -> Vec<Example> {
    vec![Example {
        credential: ("authorization", "Token "),
        submit: "/ent/v2/text2video",
        body: json!({ "model": "viduq3-turbo", "prompt": "{script}", "payload": "own-1", "callback_url": "{url}" }),
        id: "/task_id",
        status: "/ent/v2/tasks/{id}/creations",
        final_status: ("/state", "success"),
        link: "/creations/0/url",
        callback_status: ("/state", json!("success")),
        callback_id: "/id",
        callbacks: 2,
        attempts: 4,
        ..Example::of(Provider::Vidu)
    }]
}

pub(crate) struct Vidu;

impl Api for Vidu {
    fn provider(&self) -> Provider {
        Provider::Vidu
    }

    fn refusal(&self, world: &World, refused: Refusal, message: &str) -> Response {
        refusal(world, refused, message)
    }

    fn credential<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        credential(headers, "Token")
    }

    fn new_id(&self, world: &World, _now: SystemTime) -> String {
        world.digits(18)
    }

    fn submission_body(&self, _world: &World, view: &View) -> Value {
        submission_body(view)
    }

    fn stages(&self) -> &'static [Stage] {
        &[Stage::Running]
    }

    fn callback_body(&self, view: &View) -> Option<Value> {
        Some(body(view))
    }

    fn signature(&self, outgoing: &Outgoing<'_>) -> Option<Headers> {
        let account = outgoing.account;
        Some(signed_headers(account.signing_secret.as_ref().unwrap_or(&account.api_key), outgoing))
    }

    fn retry_policy(&self, phase: Phase) -> RetryPolicy {
        if phase.is_final() { RetryPolicy::new(10, &[10, 30, 60], GiveUp::Never) } else { RetryPolicy::NEVER }
    }

    fn extra_file(&self, _request: &Value) -> Option<(FileKind, &'static str, &'static str)> {
        Some((FileKind::Cover, "cover", "jpeg"))
    }

    fn link_life(&self, kind: FileKind, _purpose: Purpose) -> Duration {
        if kind == FileKind::Cover { HOUR } else { DAY }
    }

    fn link_style(&self, _kind: FileKind, _purpose: Purpose) -> Style {
        Style::Amazon
    }

    /// Presigned on every request.
    fn renewed_by_status(&self, _dead: bool) -> bool {
        true
    }
}

fn router() -> Router<Shared> {
    let mut router = Router::new()
        .route("/ent/v2/tasks", get(list))
        .route("/ent/v2/tasks/{id}/creations", get(status))
        .route("/ent/v2/tasks/{id}/cancel", post(cancel))
        .route("/ent/v2/credits", get(credits))
        .fallback(unknown);
    for kind in KINDS {
        router = router.route(&format!("/ent/v2/{kind}"), post(create));
    }
    router
}

const KINDS: [&str; 7] =
    ["text2video", "img2video", "start-end2video", "reference2video", "template", "extend", "multiframe"];

/// Fields that at least one endpoint accepts; all others are rejected.
const FIELDS: [&str; 31] = [
    "model",
    "style",
    "prompt",
    "prompts",
    "images",
    "image",
    "videos",
    "video_url",
    "subjects",
    "template",
    "story",
    "area",
    "beast",
    "image_settings",
    "start_image",
    "duration",
    "seed",
    "aspect_ratio",
    "resolution",
    "movement_amplitude",
    "bgm",
    "audio",
    "audio_type",
    "voice_id",
    "is_rec",
    "payload",
    "off_peak",
    "watermark",
    "wm_position",
    "wm_url",
    "callback_url",
];

async fn unknown(State(world): State<Shared>) -> Response {
    refusal(&world, Refusal::NotFound, "not found")
}

fn error(world: &World, status: u16, reason: &str, message: &str) -> Response {
    super::json(
        StatusCode::from_u16(status).unwrap_or_default(),
        &json!({ "code": status, "reason": reason, "message": message, "metadata": { "trace_id": world.uuid() } }),
    )
}

fn refusal(world: &World, refusal: Refusal, message: &str) -> Response {
    let (status, reason) = match refusal {
        Refusal::Parameters if message.contains(" is required") => (400, "FieldLacking"),
        Refusal::Parameters if message.contains(" is not wanted") => (400, "FieldUnwanted"),
        Refusal::Parameters => (400, "FieldInvalid"),
        Refusal::Conflict => (400, "BadRequest"),
        Refusal::Moderated => (400, "TaskPromptPolicyViolation"),
        Refusal::Unauthorized => (401, "Unauthorized"),
        Refusal::Balance => (400, "CreditInsufficient"),
        Refusal::NotFound => (404, "TaskNotFound"),
        Refusal::RateLimited => (429, "QuotaExceeded"),
        Refusal::Server => (500, "InternalServiceFailure"),
    };
    error(world, status, reason, message)
}

async fn create(State(world): State<Shared>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let kind = uri.path().rsplit('/').next().unwrap_or_default().to_owned();
    let incoming = Incoming { dialect: DIALECT, path: uri.path().to_owned(), headers, body };
    submit(world, incoming, |_, body, _| {
        let unwanted = body.as_object().and_then(|fields| fields.keys().find(|name| !FIELDS.contains(&name.as_str())));
        if let Some(name) = unwanted {
            return Err(parameters(format!("{name} is not wanted")));
        }
        let model = match kind.as_str() {
            "template" => required(body, "template")?,
            _ => required(body, "model")?,
        };
        if kind == "text2video" {
            required(body, "prompt")?;
        }
        if kind == "img2video" && body["images"].as_array().is_none_or(Vec::is_empty) {
            return Err(parameters("images is required"));
        }
        if !body["payload"].is_null() && !body["payload"].is_string() {
            return Err(parameters("payload is not a string"));
        }
        let callback_url = text(body, "callback_url").map(str::to_owned);
        Ok((DIALECT, Draft { model: model.to_owned(), callback_url, ..Draft::default() }))
    })
    .await
}

fn field(view: &View, name: &str, default: Value) -> Value {
    view.request.get(name).cloned().unwrap_or(default)
}

fn submission_body(view: &View) -> Value {
    json!({
        "task_id": view.id,
        "state": "created",
        "model": view.model,
        "prompt": field(view, "prompt", json!("")),
        "images": field(view, "images", json!([])),
        "duration": field(view, "duration", json!(5)),
        "seed": field(view, "seed", json!(0)),
        "aspect_ratio": field(view, "aspect_ratio", json!("16:9")),
        "resolution": field(view, "resolution", json!("720p")),
        "movement_amplitude": field(view, "movement_amplitude", json!("auto")),
        "bgm": field(view, "bgm", json!(false)),
        "payload": field(view, "payload", json!("")),
        "credits": 10,
        "off_peak": field(view, "off_peak", json!(false)),
        "watermark": field(view, "watermark", json!(false)),
        "created_at": clock::rfc3339(view.created),
    })
}

/// The body of callbacks and status responses.
fn body(view: &View) -> Value {
    let state = match view.phase {
        Phase::Open(_) => view.status_word(["created", "queueing", "processing"]),
        Phase::Final(Outcome::Succeed) => "success",
        Phase::Final(_) => "failed",
    };
    let code = match view.phase {
        Phase::Open(_) | Phase::Final(Outcome::Succeed) => "",
        Phase::Final(Outcome::Fail) => "InternalServiceFailure",
        Phase::Final(Outcome::Moderated) => "CreationPolicyViolation",
        Phase::Final(Outcome::Cancelled) => "UserCancelled",
        Phase::Final(Outcome::Timeout | Outcome::Expired) => "Canceled",
    };
    let covers: Vec<_> = view.files_of(FileKind::Cover).collect();
    let creations: Vec<_> = view
        .files_of(FileKind::Video)
        .enumerate()
        .map(|(index, video)| {
            let (width, height) = video.content.dimensions().unwrap_or_default();
            json!({
                "id": video.file_id,
                "url": video.url,
                "cover_url": covers.get(index).map_or("", |cover| cover.url.as_str()),
                "watermarked_url": "",
                "moderation_url": [],
                "video": {
                    "fps": 24,
                    "duration": video.content.seconds(),
                    "resolution": { "width": width, "height": height },
                },
            })
        })
        .collect();
    json!({
        "id": view.id,
        "state": state,
        "err_code": code,
        "credits": if code.is_empty() { 10 } else { 0 },
        "payload": field(view, "payload", json!("")),
        "bgm": field(view, "bgm", json!(false)),
        "off_peak": field(view, "off_peak", json!(false)),
        "creations": creations,
    })
}

/// The headers that sign a callback.
pub(crate) fn signed_headers(secret: &str, outgoing: &Outgoing<'_>) -> Headers {
    let (date, nonce) = (httpdate::fmt_http_date(outgoing.now), outgoing.world.uuid());
    let (path, query) = function_path(outgoing.url);
    let signed = [("Date", date.as_str()), ("x-request-nonce", nonce.as_str())];
    let signature = signature(secret, &path, &query, &date, &signed);
    vec![
        ("X-HMAC-SIGNATURE", signature),
        ("X-HMAC-ALGORITHM", "hmac-sha256".to_owned()),
        ("X-HMAC-ACCESS-KEY", "vidu".to_owned()),
        ("X-HMAC-SIGNED-HEADERS", "Date;x-request-nonce".to_owned()),
        ("Date", date),
        ("x-request-nonce", nonce),
    ]
}

/// The `X-HMAC-SIGNATURE` (the APISIX HMAC) for a POST. It covers path, query and the listed headers, but not the body.
fn signature(secret: &str, path: &str, query: &str, date: &str, signed: &[(&str, &str)]) -> String {
    let mut text = format!("POST\n{}\n{query}\nvidu\n{date}\n", if path.is_empty() { "/" } else { path });
    for (name, value) in signed {
        text.push_str(name);
        text.push(':');
        text.push_str(value);
        text.push('\n');
    }
    BASE64_STANDARD.encode(hmac(secret.as_bytes(), &[text.as_bytes()]))
}

/// The path and query that the receiving function sees, which are what a signature has to cover.
///
/// The local AWS emulator serves function URLs path-style, under `/_aws/lambda-url/{id}/...`, and strips that prefix before it
/// invokes the function. On AWS, function URLs have no prefix.
fn function_path(url: &str) -> (String, String) {
    let Ok(url) = url::Url::parse(url) else { return ("/".to_owned(), String::new()) };
    let path = url.path();
    let path = match path.strip_prefix("/_aws/lambda-url/") {
        Some(rest) => rest.find('/').map_or("/", |slash| &rest[slash..]),
        None => path,
    };
    (path.to_owned(), url.query().unwrap_or_default().to_owned())
}

fn is_vidu(dialect: Dialect) -> bool {
    dialect == DIALECT
}

async fn status(State(world): State<Shared>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    if let Some(response) = admit(&world, DIALECT, Call::Status, &headers).await {
        return response;
    }
    match world.view(&id, Purpose::Status, is_vidu) {
        Some(view) => ok(&body(&view)),
        None => refusal(&world, Refusal::NotFound, "task not found"),
    }
}

async fn list(State(world): State<Shared>, uri: Uri, headers: HeaderMap) -> Response {
    if let Some(response) = admit(&world, DIALECT, Call::Status, &headers).await {
        return response;
    }
    let query = query(&uri);
    let values = |name: &str| -> Vec<String> {
        let named = query.iter().filter(|(key, value)| key == name && !value.is_empty());
        named.flat_map(|(_, value)| value.split(',').map(str::to_owned)).collect()
    };
    let (requested, states) = (values("task_ids"), values("states"));
    let ids = if requested.is_empty() { world.known(Provider::Vidu) } else { requested };
    let tasks: Vec<_> = ids
        .iter()
        .filter_map(|id| world.view(id, Purpose::Status, is_vidu))
        .map(|view| body(&view))
        .filter(|body| states.is_empty() || states.iter().any(|state| body["state"] == **state))
        .collect();
    let number = first(&query, "pager.page_token").or_else(|| first(&query, "pager.page"));
    let next = number.unwrap_or("1").parse::<usize>().unwrap_or(1) + 1;
    let size = first(&query, "pager.pagesz");
    let more = page(tasks.clone(), Some(&next.to_string()), size, 100).is_some_and(|rest| !rest.is_empty());
    match page(tasks, number, size, 100) {
        Some(tasks) => {
            let token = if more { next.to_string() } else { String::new() };
            ok(&json!({ "next_page_token": token, "tasks": tasks }))
        }
        None => error(&world, 400, "PageSizeOutOfRange", "page size out of range"),
    }
}

async fn cancel(State(world): State<Shared>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    if let Some(response) = admit(&world, DIALECT, Call::Cancel, &headers).await {
        return response;
    }
    match world.view(&id, Purpose::Callback, is_vidu).map(|view| view.phase) {
        None => refusal(&world, Refusal::NotFound, "task not found"),
        Some(Phase::Open(Stage::Accepted | Stage::Waiting)) => {
            super::cancel_now(&world, &id);
            ok(&json!({}))
        }
        Some(_) => refusal(&world, Refusal::Conflict, "task state is scheduled, can not cancel"),
    }
}

async fn credits(State(world): State<Shared>, headers: HeaderMap) -> Response {
    if let Some(response) = admit(&world, DIALECT, Call::Status, &headers).await {
        return response;
    }
    ok(&json!({ "remains": [{ "type": "metered", "credit_remain": 1000, "concurrency_limit": 5 }] }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signed_path_is_the_one_that_the_function_sees() {
        for (url, path, query) in [
            ("http://127.0.0.1:4577/_aws/lambda-url/abc/callback/vidu/1/t", "/callback/vidu/1/t", ""),
            ("http://127.0.0.1:4577/_aws/lambda-url/abc", "/", ""),
            ("https://abc.lambda-url.eu-west-1.on.aws/callback/vidu/1/t?a=b", "/callback/vidu/1/t", "a=b"),
            ("https://example.com", "/", ""),
        ] {
            assert_eq!(function_path(url), (path.to_owned(), query.to_owned()), "{url}");
        }
    }

    /// The signing string is the worked example of its page (`platform.vidu.com/docs/callback-signature`).
    #[test]
    fn it_signs_the_path_and_the_listed_headers() {
        let date = "Tue, 06 May 2025 12:09:42 GMT";
        let nonce = ("x-request-nonce", "123e4567-e89b-12d3-a456-426614174000");
        let sign = |secret, query, signed: &[(&str, &str)]| signature(secret, "/vidu/callback", query, date, signed);
        let both = [("Date", date), nonce];
        for (secret, query, signed, expected) in [
            ("vda_test_secret", "name=james&age=36", &both[..], "NPh3qkvh2qDB3e8NbcSL4lpYvLveDSUkfJug6u/K46g="),
            ("vda_test_secret", "", &both[..], "Hx+xkVLN7fTt0KPIU7g+KzJuvtoLExuzNxuqqdDrmc0="),
            ("vda_test_secret", "", &both[1..], "QpFj0GszzzzjXjcnhCexjDTMhU2SQSQov5z1Q35FZeU="),
            ("vda_test_token", "name=james&age=36", &both[..], "UaF2428J2BgkBzPJa4M0McqJGOlQGXJ6UXuQZnsbcsk="),
        ] {
            assert_eq!(sign(secret, query, signed), expected, "{secret} {query:?}");
        }
    }
}
