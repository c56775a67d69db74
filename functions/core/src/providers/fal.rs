//! fal, the queue of model endpoints.
//!
//! The model is the path, its input the body, and the callback URL a query parameter. Only the call for the result is used: it responds
//! with the model's raw output, the reason of a failure, or an error that says that the request is still in progress. The status call
//! would need a second one, because a `COMPLETED` task may have failed.
//!
//! Two traps: fal's key signs for all of its customers, so a signature proves the account only together with the user id that it covers;
//! and a stored result may be gone minutes after the end, while its files live on.
//!
//! | fact | source |
//! |---|---|
//! | `POST /{model}?fal_webhook=…`, `Authorization: Key`, `$.request_id` | confirmed: fal.ai/docs (queue), fal-ai/fal-js |
//! | callback body, `OK` and `ERROR`, `payload_error` | confirmed: fal.ai/docs (webhooks) |
//! | string to sign, Ed25519, key set kept for at most a day, 300 s | confirmed: fal.ai/docs (webhooks) |
//! | `GET /{owner}/{app}/requests/{id}`: 200 with the output, 422 with `detail` | confirmed: fal.ai/docs (queue, errors), fal-ai/fal-js |
//! | too early: an error whose text says that the request is in progress | vercel/ai, not fal's own pages |
//! | owner and app without what follows them in the path of a request | fal-ai/fal-js; other pages print the whole model |
//! | types of errors | confirmed: fal.ai/docs (errors); the retry column is inferred |
//! | `PUT …/cancel`: 202, 400 when it is too late, 404 | confirmed: fal.ai/docs (queue) |
//! | the stored result lives for an hour, one above 10 KB for about six minutes | fal.ai/docs (webhooks), one version of the page |
//! | 15 s for a delivery; 10 retries in two hours, or up to 31 | fal.ai/docs (webhooks), whose versions differ |
//! | life of files; what a 4xx does; which 5xx of the call are the task's own | unknown |

use super::prelude::*;
use crate::signature::fal_ed25519;

pub(super) struct Fal;

const NAME: &str = "fal";

const PROFILE: Profile = Profile {
    title: "fal",
    default_base_url: Some("https://queue.fal.run"),
    callbacks: Some(Callbacks {
        response_timeout: Duration::from_secs(15),
        reports_failures: true,
        verified: "Ed25519 over the body and the account",
        retries: "10 or more in about 2 hours",
    }),
    // Not settled: "at least 7 days" and "kept". Files without a setting of the account were purged, so a day is assumed.
    link_life: Duration::from_hours(24),
    // A stored result may be gone after six minutes, and with it what a lost callback said: time for two more polls.
    first_poll: Duration::from_mins(3),
    poll_interval: Duration::from_secs(10),
    max_poll_interval: Duration::from_mins(2),
    // Chosen freely: a request above the account's concurrency waits in the queue.
    deadline: Duration::from_hours(24),
    cancellable: Some("until it ends, perhaps too late"),
    marker: None,
    usage: None,
    confirmed: "submission; callback bodies; string to sign; error types; cancellation",
    unconfirmed: "response timeout and retries (versions of the page differ); what a 4xx does; link life; a poll that is too early; which \
        failed tasks are retryable; poll schedule and deadline",
};

const FAILURES: Failures = Failures {
    rules: &[
        code("content_policy_violation", Reason::ContentModeration),
        // It can hide a safety block.
        code("no_media_generated", Reason::ProviderError).retryable(),
        code("file_download_error", Reason::InvalidParameters).retryable(),
        code("generation_timeout", Reason::Timeout).retryable(),
        code("request_timeout", Reason::Timeout).retryable(),
        code("startup_timeout", Reason::Timeout).retryable(),
        code("internal_server_error", Reason::ProviderError).retryable(),
        code("internal_error", Reason::ProviderError).retryable(),
        code("concurrent_requests_limit", Reason::RateLimited).retryable(),
        prefix("downstream_service_", Reason::ProviderError).retryable(),
        prefix("runner_", Reason::ProviderError).retryable(),
        prefix("client_", Reason::Cancelled),
        words("exhausted balance", Reason::InsufficientCredits),
        words("user is locked", Reason::InsufficientCredits),
    ],
    later: &[
        code("missing", Reason::InvalidParameters),
        code("value_error", Reason::InvalidParameters),
        code("literal_error", Reason::InvalidParameters),
        code("greater_than", Reason::InvalidParameters),
        code("less_than", Reason::InvalidParameters),
        code("one_of", Reason::InvalidParameters),
        code("feature_not_supported", Reason::InvalidParameters),
        code("face_detection_error", Reason::InvalidParameters),
        prefix("sequence_too_", Reason::InvalidParameters),
        prefix("image_", Reason::InvalidParameters),
        prefix("file_", Reason::InvalidParameters),
        prefix("video_", Reason::InvalidParameters),
        prefix("unsupported_", Reason::InvalidParameters),
    ],
    otherwise: (Reason::ProviderError, Retry::Helps),
};

impl Adapter for Fal {
    fn profile(&self) -> &'static Profile {
        &PROFILE
    }

    fn authenticate(
        &self,
        request: &CallbackRequest<'_>,
        settings: &ProviderSettings,
        now: Timestamp,
    ) -> Result<Authenticity, Refusal> {
        fal_ed25519(&request.headers, request.body, &settings.public_keys, now)?;
        match &settings.account_id {
            // Any customer of fal can have it call this URL about a request of theirs.
            None => Ok(Authenticity::SignedSender),
            Some(own) if request.headers.get("x-fal-webhook-user-id") == Some(own) => Ok(Authenticity::SignedBody),
            Some(_) => Err(Refusal::OtherAccount),
        }
    }

    fn key_set_url(&self) -> Option<&'static str> {
        Some("https://rest.fal.ai/.well-known/jwks.json")
    }

    fn needs_endpoint(&self) -> bool {
        true
    }

    fn read_callback(&self, body: &[u8], now: Timestamp) -> CallbackBody {
        let Some(body) = object(body) else { return CallbackBody::Unreadable };
        let task_status = match status_word(&body["status"]).as_deref() {
            // Without a payload the result has to be fetched.
            Some("ok") => Some(links(&body["payload"], now).into_success()),
            Some("error") => Some(TaskStatus::failed(failed(&body))),
            Some(unknown) => Some(TaskStatus::unknown_status(unknown)),
            None => None,
        };
        responses::callback(first_id(&body, IDS), task_status)
    }

    fn submission(
        &self,
        submission: &Submission<'_>,
        settings: &ProviderSettings,
        _: Timestamp,
    ) -> Result<Request, InvalidSubmission> {
        let endpoint = requests::named_endpoint(submission, "/fal-ai/kling-video/v3/pro/text-to-video", |endpoint| {
            application(endpoint).is_some() && !endpoint.contains("/requests/")
        })?;
        let path = format!("{endpoint}?fal_webhook={}", encoded(submission.callback_url));
        requests::unchanged(&api(settings)?, submission, &path)
    }

    fn read_submission(&self, response: &ProviderResponse) -> SubmissionResult {
        let body = object(&response.body).unwrap_or_default();
        responses::submission(response, first_id(&body, IDS), refusal(response, &body))
    }

    fn status_requests(
        &self,
        tasks: &[PolledTask<'_>],
        settings: &ProviderSettings,
        _: Timestamp,
    ) -> Vec<StatusRequest> {
        let Ok(api) = api(settings) else { return vec![] };
        let known = tasks.iter().enumerate().filter_map(|(position, task)| Some((position, request_path(task)?)));
        known.map(|(position, path)| StatusRequest { request: api.get(&path), tasks: vec![position] }).collect()
    }

    fn read_status(&self, response: &ProviderResponse, _: &str, now: Timestamp) -> StatusResult {
        let Some(body) = object(&response.body) else { return responses::status_by_http_status(response) };
        if response.status == 202 {
            return StatusResult::Task(TaskStatus::open());
        }
        if response.is_success() {
            return completed(&body, now);
        }
        if is_in_progress(response, &body) {
            return StatusResult::Task(TaskStatus::open());
        }
        if response.status == 422 || is_of_the_run(response, &body) {
            return StatusResult::Task(TaskStatus::failed(failed(&body)));
        }
        match refusal(response, &body) {
            Some(failure) => responses::status_refused(response, failure),
            None => responses::status_by_http_status(response),
        }
    }

    fn cancellation(
        &self,
        task: &PolledTask<'_>,
        _: &ProviderResponse,
        settings: &ProviderSettings,
    ) -> Option<Request> {
        Some(api(settings).ok()?.put(&format!("{}/cancel", request_path(task)?)))
    }

    fn read_cancellation(&self, response: &ProviderResponse) -> Option<Failure> {
        let body = object(&response.body).unwrap_or_default();
        let too_late = text(&body["status"]).filter(|_| !response.is_success());
        let failure = too_late.map(|status| Failure::new(Reason::InvalidParameters, false).code(status));
        responses::cancellation(response, failure.or_else(|| refusal(response, &body)))
    }

    fn status_id(&self, response: &ProviderResponse) -> Option<String> {
        first_id(&object(&response.body)?, IDS)
    }
}

const IDS: &[&str] = &["request_id"];

/// Owner and app of an endpoint, with the namespace before them that two kinds have: what the path of a request begins with.
fn application(endpoint: &str) -> Option<String> {
    let segments: Vec<&str> = endpoint.strip_prefix('/')?.split('/').collect();
    let length = if matches!(segments[0], "workflows" | "comfy") { 3 } else { 2 };
    Some(format!("/{}", segments.get(..length)?.join("/")))
}

fn request_path(task: &PolledTask<'_>) -> Option<String> {
    let endpoint = task.endpoint.filter(|endpoint| requests::is_plain_path(endpoint))?;
    Some(format!("{}/requests/{}", application(endpoint)?, encoded(task.provider_task_id)))
}

/// What a success of the call says: the output, in an envelope on some pages, or the status of the request, which has none.
fn completed(body: &Value, now: Timestamp) -> StatusResult {
    let output = if body["response"].is_object() { &body["response"] } else { body };
    let links = links(output, now);
    if !links.is_empty() {
        return responses::status(Some(links.into_success()));
    }
    match status_word(&body["status"]).as_deref() {
        _ if text(&body["error"]).is_some() => StatusResult::Task(TaskStatus::failed(failed(body))),
        Some("in_queue" | "in_progress") => StatusResult::Task(TaskStatus::open()),
        // It has ended, and where its output is this does not say.
        Some(_) if !body["response"].is_object() => StatusResult::Unreadable,
        _ => {
            let failure = Failure::new(Reason::ProviderError, false).message("the model returned no file");
            StatusResult::Task(TaskStatus::failed(failure))
        }
    }
}

/// The files of an output, by the fields that models use. Beside a video only its thumbnail counts, as the cover.
fn links(output: &Value, now: Timestamp) -> Links {
    let mut links = Links::new(now, PROFILE.link_life);
    let mut add = |kind, field: &str| {
        for file in items(&output[field]) {
            links.add(kind, if file.is_object() { &file["url"] } else { file });
        }
    };
    // The first that there is: a later one may echo an input.
    let video = ["video", "videos", "video_url"].into_iter().find(|field| !output[*field].is_null());
    if let Some(field) = video {
        add(Kind::Video, field);
        add(Kind::Cover, "thumbnail");
    } else {
        add(Kind::Image, "image");
        add(Kind::Image, "images");
        add(Kind::Audio, "audio");
    }
    links
}

/// Type and text of an error: of the model's, a list of them under `detail`, or of the platform's, a text there.
fn error_of(body: &Value) -> (Option<String>, Option<String>) {
    // Where there are several, the one about the content says more than the one about a field.
    let details = items(&body["detail"]);
    let is_moderation = |detail: &&Value| detail["type"] == "content_policy_violation";
    match details.iter().find(is_moderation).or(details.first()) {
        Some(detail) if detail.is_object() => (text(&detail["type"]), text(&detail["msg"])),
        Some(detail) => (text(&body["error_type"]), text(detail)),
        None => (text(&body["error_type"]), None),
    }
}

/// The failure of a task, out of a callback's payload, an error that holds the detail, or a response.
fn failed(body: &Value) -> Failure {
    let places = [&body["payload"], &body["error"], body];
    let place = places.into_iter().find(|place| !place["detail"].is_null()).unwrap_or(body);
    let (kind, message) = error_of(place);
    let summary = text(&body["error"]);
    let status =
        summary.as_ref().and_then(|summary| summary.strip_prefix("Invalid status code: ")?.trim().parse().ok());
    match (&kind, status) {
        (None, Some(status)) => FAILURES.of_response(status, None, message.or(summary)),
        _ => FAILURES.of_task(kind, message.or(summary)),
    }
}

/// The failure of a call.
fn refusal(response: &ProviderResponse, body: &Value) -> Option<Failure> {
    let (kind, message) = error_of(body);
    let message = message.or_else(|| first_text(&body["error"], &["message"])).or_else(|| text(&body["error"]));
    let is_error = !response.is_success() && (kind.is_some() || message.is_some());
    is_error.then(|| FAILURES.of_response(response.status, kind, message))
}

/// Whether the result was requested too early. Texts about a task may quote its input, so only a plain text counts.
fn is_in_progress(response: &ProviderResponse, body: &Value) -> bool {
    let plain = body["detail"].as_str().filter(|_| response.status != 422 && error_of(body).0.is_none());
    plain
        .map(str::to_ascii_lowercase)
        .is_some_and(|text| text.contains("still in progress") || text.contains("in queue"))
}

/// Whether an error is how the run ended: one of the model's, or of the platform about its runner or a cancellation. Others are the
/// call's own: a 504 was seen of a result that came a moment later.
fn is_of_the_run(response: &ProviderResponse, body: &Value) -> bool {
    let is_models = response.status >= 499 && items(&body["detail"]).iter().any(|detail| detail["type"].is_string());
    let kind = text(&body["error_type"]).unwrap_or_default();
    is_models || kind.starts_with("runner_") || ["startup_timeout", "client_cancelled"].contains(&kind.as_str())
}

fn api(settings: &ProviderSettings) -> Result<Api<'_>, InvalidSubmission> {
    Api::new(NAME, "Key", &PROFILE, settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_reachable() {
        FAILURES.assert_every_row_is_reachable();
    }

    #[test]
    fn model_errors_are_classified_by_their_type() {
        for (kind, message, reason, retryable) in [
            ("content_policy_violation", "blocked by the checker", Reason::ContentModeration, false),
            ("no_media_generated", "no output", Reason::ProviderError, true),
            ("missing", "field required", Reason::InvalidParameters, false),
            ("image_too_small", "too small", Reason::InvalidParameters, false),
            ("unsupported_video_format", "avi", Reason::InvalidParameters, false),
            ("video_duration_too_long", "61 s", Reason::InvalidParameters, false),
            ("file_download_error", "download failed", Reason::InvalidParameters, true),
            ("generation_timeout", "slow", Reason::Timeout, true),
            ("downstream_service_unavailable", "down", Reason::ProviderError, true),
            ("client_cancelled", "cancelled", Reason::Cancelled, false),
            // A vendor's refusal under a type that says nothing of it.
            ("value_error", "The prompt was rejected by the safety system", Reason::ContentModeration, false),
            ("", "boom", Reason::ProviderError, true),
        ] {
            let failure = failed(&json!({"detail": [{"loc": ["body"], "msg": message, "type": kind}]}));
            assert_eq!((failure.reason, failure.retryable), (reason, retryable), "{kind} {message}");
        }
    }

    #[test]
    fn calls_are_classified_by_type_words_and_status() {
        for (status, body, reason, retryable) in [
            (403, json!({"detail": "User is locked. Reason: Exhausted balance."}), Reason::InsufficientCredits, false),
            (403, json!({"detail": "Forbidden"}), Reason::Unknown, false),
            (401, json!({"detail": "No user found for Key ID and Secret"}), Reason::Unknown, false),
            (429, json!({"detail": "busy", "error_type": "concurrent_requests_limit"}), Reason::RateLimited, true),
            (504, json!({"detail": "late", "error_type": "startup_timeout"}), Reason::Timeout, true),
            (500, json!({"error": {"message": "upstream", "code": 1}}), Reason::ProviderError, true),
        ] {
            let failure = refusal(&ProviderResponse::new(status, ""), &body).expect("a refusal");
            assert_eq!((failure.reason, failure.retryable), (reason, retryable), "{status} {body}");
        }
    }

    #[test]
    fn requests_are_below_owner_and_app() {
        for (endpoint, path) in [
            ("/fal-ai/kling-video/v3/pro/text-to-video", Some("/fal-ai/kling-video")),
            ("/fal-ai/veo3", Some("/fal-ai/veo3")),
            ("/workflows/somebody/film", Some("/workflows/somebody/film")),
            ("/comfy/somebody/film/run", Some("/comfy/somebody/film")),
            ("/workflows/somebody", None),
            ("/veo3", None),
            ("veo3", None),
        ] {
            assert_eq!(application(endpoint).as_deref(), path, "{endpoint}");
        }
    }

    #[test]
    fn a_signature_of_another_account_proves_nothing_about_ours() {
        let body = br#"{"error": "Invalid status code: 422", "gateway_request_id": "7c1f0e52-9f0a-4d0a-8a3f-1f1d7c0e9a02", "payload": {"detail": [{"loc": ["body", "prompt"], "msg": "flagged", "type": "content_policy_violation"}]}, "request_id": "7c1f0e52-9f0a-4d0a-8a3f-1f1d7c0e9a01", "status": "ERROR"}"#;
        let headers = [
            ("X-Fal-Webhook-Request-Id", "7c1f0e52-9f0a-4d0a-8a3f-1f1d7c0e9a01"),
            ("X-Fal-Webhook-User-Id", "auth0|made-up"),
            ("X-Fal-Webhook-Timestamp", "1790000000"),
            (
                "X-Fal-Webhook-Signature",
                "ab43e016e77383457ab1e0500e2ae00b1616be6d9e8b182c8c6fb9ca8d706b21770f9e359ffd727a55c8c973c4be793531b9743dbb70e7d7804541a0c1f25b0e",
            ),
        ];
        let headers = crate::request::Headers::new(headers);
        let request = CallbackRequest { path: "/", query: "", headers, body };
        let authenticity = |settings: Value| {
            let settings = serde_json::from_value(settings).expect("valid settings");
            Fal.authenticate(&request, &settings, Timestamp::from_seconds(1_790_000_000))
        };
        let keys = json!(["Kay64UG8yvCyLhqU000LxzYeUm0L_hLIl5S8kyKWbdc"]);
        let other = json!(["A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg"]);
        for (settings, expected) in [
            (json!({"public_keys": keys}), Ok(Authenticity::SignedSender)),
            (json!({"public_keys": keys, "account_id": "auth0|made-up"}), Ok(Authenticity::SignedBody)),
            (json!({"public_keys": keys, "account_id": "auth0|another"}), Err(Refusal::OtherAccount)),
            (json!({"public_keys": other, "account_id": "auth0|made-up"}), Err(Refusal::UnknownKey)),
            (json!({}), Err(Refusal::UnknownKey)),
        ] {
            assert_eq!(authenticity(settings.clone()), expected, "{settings}");
        }
    }

    #[test]
    fn files_are_found_by_the_fields_that_models_use() {
        let kinds = |output: Value| -> Vec<Kind> {
            let found = links(&output, Timestamp::from_seconds(0)).into_artifacts();
            found.into_iter().map(|artifact| artifact.kind).collect()
        };
        let file = |name: &str| json!({"url": format!("https://v3.fal.media/files/b/{name}"), "file_size": 1});
        assert_eq!(kinds(json!({"video": file("v.mp4"), "seed": 1})), [Kind::Video]);
        assert_eq!(kinds(json!({"videos": [file("1.mp4"), file("2.mp4")]})), [Kind::Video, Kind::Video]);
        assert_eq!(kinds(json!({"video_url": "https://v3.fal.media/files/b/v.mp4"})), [Kind::Video]);
        assert_eq!(
            kinds(json!({"video": file("v.mp4"), "thumbnail": file("t.png"), "images": [file("i.png")]})),
            [Kind::Video, Kind::Cover]
        );
        assert_eq!(kinds(json!({"images": [file("i.png")], "config_file": file("c.json")})), [Kind::Image]);
        assert_eq!(kinds(json!({"audio": file("a.mp3")})), [Kind::Audio]);
        assert_eq!(kinds(json!({"prompt": "https://a.test/v.mp4"})), []);
    }
}
