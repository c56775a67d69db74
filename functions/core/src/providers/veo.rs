//! Google Veo over the Gemini API, as long-running operations.
//!
//! A submission returns the name of an operation, a path, which is the id of the task as it stands. The operation is polled until it is
//! done, and done is not success: it may have an error, or no video because a filter took it. The link to a video leads into the API,
//! which requires the key and redirects to a URL that needs none.
//!
//! There are webhooks, but none for a failure, and whether those of a video reach the URL of a request, what `data.id` is then, and where
//! the link stands, is not settled. So a callback is a hint, whoever signed it, and polling stays the base.
//!
//! | fact | source |
//! |---|---|
//! | `POST /v1beta/models/{model}:predictLongRunning`, `x-goog-api-key`, `$.name` | confirmed: google-gemini/cookbook (Veo over REST), googleapis/python-genai |
//! | `webhookConfig.uris` beside `instances` | confirmed: googleapis/python-genai; the page prints `webhook_config` |
//! | `GET /v1beta/{name}`: an open operation has no `done` | confirmed: the cookbook's printed answers |
//! | `video.generated` and its envelope, no event for a failure; deliveries repeated for 24 h, a few seconds each | confirmed: ai.google.dev/gemini-api/docs/webhooks |
//! | `v1` signatures by the secret of a webhook of the whole project | confirmed: the same page |
//! | `v1a` (Ed25519) signatures for the URL of a request, keys without `kid` | two independent reports, one in googleapis/python-genai, issue 2927; the page has an RS256 JWT |
//! | `generatedSamples[].video.uri`, filtered successes and their reasons | confirmed: bodies in googleapis/js-genai, issue 1272, and in other public issues |
//! | base64 or `gs://` in place of a link, `response.generatedVideos`, a link without `:download` | single observations in public clients; the first two confirmed for Vertex AI |
//! | files are kept for 2 days, a video takes 11 s to 6 min | confirmed: ai.google.dev/gemini-api/docs/video |
//! | gRPC codes of failed operations, `RetryInfo`, errors in a list of one | confirmed: googleapis/python-genai; the reasons they mean are partly inferred |
//! | that a 5xx may have started a task; the codes that a repeat helps against | inferred |
//! | cancellation, an id of ours, what a task cost | none documented |

use super::adapter::{BodyTrust, HintReason};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::prelude::*;
use crate::signature::{standard_webhooks, standard_webhooks_ed25519};

pub(super) struct Veo;

const NAME: &str = "veo";

const PROFILE: Profile = Profile {
    title: "Veo (Gemini API)",
    default_base_url: Some("https://generativelanguage.googleapis.com"),
    callbacks: Some(Callbacks {
        // "Within a few seconds."
        response_timeout: Duration::from_secs(5),
        reports_failures: false,
        verified: "Standard Webhooks over the body, by secret or by Google's published keys, and always a status poll",
        retries: "with growing delays for up to 24 h",
    }),
    // "Stored on the server for 2 days."
    link_life: Duration::from_hours(48),
    // 11 s to 6 min by the page, and polling is what finds a failure.
    first_poll: Duration::from_mins(1),
    // As in all samples.
    poll_interval: Duration::from_secs(10),
    max_poll_interval: Duration::from_mins(2),
    // Chosen freely: hundreds of times the longest render, and half the life of the files.
    deadline: Duration::from_hours(24),
    cancellable: None,
    marker: None,
    usage: None,
    confirmed: "submission and status bodies; filtered successes; polls every 10 s; files for 2 days; webhooks with `v1` signatures, \
        repeated for 24 h; no event for a failure",
    unconfirmed: "response timeout; that `v1a` signatures stay; what `data.id` of a callback is; whether callbacks of videos reach the \
        URL of a request; which failed tasks are retryable; poll schedule and deadline",
};

const KEY_HEADER: &str = "x-goog-api-key";

/// Codes of failed operations are gRPC's as numbers. Those of refused calls are their names, and most follow from the HTTP status.
const FAILURES: Failures = Failures {
    rules: &[
        words("support code", Reason::ContentModeration),
        words("responsible ai", Reason::ContentModeration),
        code("3", Reason::ContentModeration).with_words("policy"),
        code("INVALID_ARGUMENT", Reason::ContentModeration).with_words("policy"),
        // `API_KEY_INVALID` under HTTP 400: about the key, not about the task.
        words("api key", Reason::Unknown),
        words("prepay", Reason::InsufficientCredits),
        code("BILLING_DISABLED", Reason::InsufficientCredits),
        code("FAILED_PRECONDITION", Reason::InsufficientCredits),
    ],
    later: &[
        code("1", Reason::Cancelled),
        code("3", Reason::InvalidParameters),
        code("4", Reason::Timeout).retryable(),
        code("8", Reason::RateLimited).retryable(),
        code("9", Reason::InvalidParameters),
        code("13", Reason::ProviderError).retryable(),
        code("14", Reason::ProviderError).retryable(),
    ],
    otherwise: (Reason::ProviderError, Retry::Helps),
};

const MODELS: &str = "/v1beta/models/";
const METHOD: &str = ":predictLongRunning";

impl Adapter for Veo {
    fn profile(&self) -> &'static Profile {
        &PROFILE
    }

    fn authenticate(
        &self,
        request: &CallbackRequest<'_>,
        settings: &ProviderSettings,
        now: Timestamp,
    ) -> Result<Authenticity, Refusal> {
        let signature = request.headers.required(SIGNATURE)?;
        let has = |version| signature.split(' ').any(|entry| entry.starts_with(version));
        if has("v1a,") {
            standard_webhooks_ed25519(&request.headers, request.body, &settings.public_keys, now)?;
        } else if has("v1,") && !settings.signing_secrets.is_empty() {
            standard_webhooks(&request.headers, request.body, &settings.signing_secrets, now)?;
        } else if signature.split(' ').any(is_hmac) || signature.split('.').count() == 3 {
            // There is no secret, or it is a JWT, which is not known to cover the body.
            return Ok(Authenticity::Unverified);
        } else {
            return Err(Refusal::Malformed(SIGNATURE));
        }
        Ok(Authenticity::SignedBody)
    }

    fn key_set_url(&self) -> Option<&'static str> {
        Some("https://generativelanguage.googleapis.com/.well-known/jwks.json")
    }

    fn read_callback(&self, body: &[u8], now: Timestamp) -> CallbackBody {
        let Some(event) = object(body) else { return CallbackBody::Unreadable };
        match responses::callback_with_optional_id(operation_name(&event["data"]["id"]), event_status(&event, now)) {
            CallbackBody::Task { provider_task_id, task_status, .. } => {
                CallbackBody::Task { provider_task_id, task_status, trust: BodyTrust::Hint(HintReason::NoResult) }
            }
            other => other,
        }
    }

    fn submission(
        &self,
        submission: &Submission<'_>,
        settings: &ProviderSettings,
        _: Timestamp,
    ) -> Result<Request, InvalidSubmission> {
        let example = "/v1beta/models/veo-3.1-generate-preview:predictLongRunning";
        let endpoint = requests::named_endpoint(submission, example, |endpoint| {
            let model = endpoint.strip_prefix(MODELS).and_then(|model| model.strip_suffix(METHOD));
            model.is_some_and(|model| !model.is_empty() && !model.contains(['/', ':']))
        })?;
        let mut body = submission.body.clone();
        *requests::field(&mut body, &["webhookConfig", "uris"])? = json!([submission.callback_url]);
        Ok(api(settings)?.post(endpoint, &body))
    }

    fn read_submission(&self, response: &ProviderResponse) -> SubmissionResult {
        let body = response_body(response).unwrap_or_default();
        responses::submission(response, first_id(&body, IDS), refusal(response, &body))
    }

    fn status_requests(
        &self,
        tasks: &[PolledTask<'_>],
        settings: &ProviderSettings,
        _: Timestamp,
    ) -> Vec<StatusRequest> {
        let Ok(api) = api(settings) else { return vec![] };
        requests::one_per_task(tasks, 0..tasks.len(), |task| {
            api.get(&format!("/v1beta{}", requests::path_of(task.provider_task_id)))
        })
    }

    fn read_status(&self, response: &ProviderResponse, provider_task_id: &str, now: Timestamp) -> StatusResult {
        let Some(body) = response_body(response) else { return responses::status_by_http_status(response) };
        if let Some(failure) = refusal(response, &body) {
            return match responses::status_refused(response, failure) {
                StatusResult::Refused { failure, retry_after } => {
                    StatusResult::Refused { failure, retry_after: retry_after.or_else(|| retry_info(&body)) }
                }
                other => other,
            };
        }
        if !response.is_success() || !is_about(&body, IDS, provider_task_id) {
            return responses::status_by_http_status(response);
        }
        responses::status(task_status(&body, now))
    }

    fn status_id(&self, response: &ProviderResponse) -> Option<String> {
        first_id(&response_body(response)?, IDS)
    }

    fn download_header(&self, settings: &ProviderSettings) -> Option<(&'static str, Secret)> {
        Some((KEY_HEADER, settings.api_key.clone()?))
    }
}

const IDS: &[&str] = &["name"];
const SIGNATURE: &str = "webhook-signature";

/// The body of a response. Errors also come in a list of one.
fn response_body(response: &ProviderResponse) -> Option<Value> {
    object(&response.body).or_else(|| {
        let [only] = serde_json::from_slice::<[Value; 1]>(&response.body).ok()?;
        only.is_object().then_some(only)
    })
}

/// An id in a callback, if it is the name of an operation and not only the last part of one.
fn operation_name(value: &Value) -> Option<String> {
    id(value).filter(|name| name.contains("/operations/"))
}

/// What an event says. Only `video.generated` is known to be about a video; the rest are those of other long tasks.
fn event_status(event: &Value, now: Timestamp) -> Option<TaskStatus> {
    let (name, data) = (status_word(&event["type"])?, &event["data"]);
    Some(match name.rsplit('.').next()? {
        "generated" | "completed" | "succeeded" => {
            let mut links = Links::new(timestamp(&event["timestamp"]).unwrap_or(now), PROFILE.link_life);
            for field in ["output_file_uri", "video_uri"] {
                add_file(&mut links, &data[field]);
            }
            links.into_success()
        }
        "failed" => TaskStatus::failed(FAILURES.of_task(text(&data["error_code"]), text(&data["error_message"]))),
        "cancelled" => TaskStatus::failed(Failure::new(Reason::Cancelled, false)),
        "expired" => TaskStatus::failed(Failure::new(Reason::Expired, true)),
        _ => TaskStatus::unknown_status(&name),
    })
}

fn task_status(operation: &Value, now: Timestamp) -> Option<TaskStatus> {
    if operation["done"] != Value::Bool(true) {
        return text(&operation["name"]).map(|_| TaskStatus::open());
    }
    let error = &operation["error"];
    let (code, message) = (text(&error["code"]), text(&error["message"]));
    if code.is_some() || message.is_some() {
        return Some(TaskStatus::failed(FAILURES.of_task(code, message)));
    }
    let result = match &operation["response"] {
        response if response["generateVideoResponse"].is_object() => &response["generateVideoResponse"],
        response => response,
    };
    let videos = ["generatedSamples", "generatedVideos", "videos"].iter().flat_map(|field| items(&result[*field]));
    let videos: Vec<&Value> =
        videos.map(|sample| if sample["video"].is_object() { &sample["video"] } else { sample }).collect();
    let mut links = Links::new(now, PROFILE.link_life);
    for video in &videos {
        add_file(&mut links, &video["uri"]);
    }
    // A filter may take some of several: what is left is a success.
    Some(if links.is_empty() { TaskStatus::failed(without_link(result, &videos)) } else { links.into_success() })
}

/// Why a result has no link. What was paid for and comes in another form is named, and is in the record as far as that keeps a body.
fn without_link(result: &Value, videos: &[&Value]) -> Failure {
    let has = |field: &str| videos.iter().any(|video| text(&video[field]).is_some());
    let in_bucket =
        videos.iter().find_map(|video| first_text(video, &["gcsUri", "uri"]).filter(|uri| uri.starts_with("gs://")));
    if let Some(uri) = in_bucket {
        let message =
            format!("the video is in Cloud Storage, at {uri}; reelhook cannot fetch it there and needs an https link");
        return Failure::new(Reason::Unknown, false).message(message);
    }
    if has("encodedVideo") || has("bytesBase64Encoded") {
        let message =
            "the video came inline, as base64; reelhook needs a link, and keeps no more than the beginning of the body";
        return Failure::new(Reason::Unknown, false).message(message);
    }
    let reasons: Vec<String> = items(&result["raiMediaFilteredReasons"]).iter().filter_map(text).collect();
    let count = integer(&result["raiMediaFilteredCount"]).unwrap_or_default();
    if reasons.is_empty() && count <= 0 {
        return Failure::new(Reason::ProviderError, true)
            .message("the operation is done, without a video and without a reason");
    }
    Failure::new(Reason::ContentModeration, false).message(reasons.join("; "))
}

/// Adds the file of a video. A link to what is known of a file, without a method, becomes one to its content.
fn add_file(links: &mut Links, uri: &Value) {
    let Some(uri) = uri.as_str() else { return };
    let is_bare = uri.rsplit_once("/files/").is_some_and(|(_, id)| id.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    let uri = if is_bare { format!("{uri}:download?alt=media") } else { uri.to_owned() };
    links.add_authorized(Kind::Video, &uri.into());
}

/// The error of a call. An operation has a name or is done, and its error is the task's.
fn refusal(response: &ProviderResponse, body: &Value) -> Option<Failure> {
    let error = &body["error"];
    if text(&body["name"]).is_some() || body["done"] == Value::Bool(true) {
        return None;
    }
    let reason = items(&error["details"]).iter().find_map(|detail| text(&detail["reason"]));
    let (code, message) = (reason.or_else(|| first_text(error, &["status", "code"])), text(&error["message"]));
    (code.is_some() || message.is_some()).then(|| FAILURES.of_response(response.status, code, message))
}

/// How long Google asks to wait, in the details of an error: seconds with an `s`. At most an hour, as with the header.
fn retry_info(body: &Value) -> Option<Duration> {
    let mut details = items(&body["error"]["details"]).iter();
    let seconds = details.find_map(|detail| detail["retryDelay"].as_str()?.strip_suffix('s')?.parse::<f64>().ok())?;
    Duration::try_from_secs_f64(seconds.min(3600.0)).ok()
}

fn api(settings: &ProviderSettings) -> Result<Api<'_>, InvalidSubmission> {
    let key = settings.api_key.clone().ok_or(InvalidSubmission::NoApiKey(NAME))?;
    Ok(Api::authorized(NAME, key, &PROFILE, settings)?.in_header(KEY_HEADER).without_suffix("/v1beta"))
}

/// Whether an entry has the form of a signature by a secret.
fn is_hmac(entry: &str) -> bool {
    let signature = entry.strip_prefix("v1,").and_then(|signature| STANDARD.decode(signature).ok());
    signature.is_some_and(|signature| signature.len() == 32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Report;
    use crate::request::Headers;

    const NOW: Timestamp = Timestamp::from_seconds(1_790_330_400);
    const ID: &str = "models/veo-3.1-generate-preview/operations/ab12cd34ef56";

    fn read(status: u16, body: &Value) -> StatusResult {
        Veo.read_status(&ProviderResponse::new(status, body.to_string()), ID, NOW)
    }

    fn done(response: &Value) -> TaskStatus {
        task_status(&json!({"name": ID, "done": true, "response": response}), NOW).expect("a status")
    }

    fn failure(status: TaskStatus) -> Failure {
        let TaskStatus::Finished(Report::Failed(failure)) = status else { panic!("not a failure: {status:?}") };
        failure
    }

    #[test]
    fn every_row_is_reachable() {
        FAILURES.assert_every_row_is_reachable();
    }

    #[test]
    fn failed_operations_are_classified_by_their_grpc_code() {
        for (code, message, reason, retryable) in [
            (1, "The operation was stopped", Reason::Cancelled, false),
            (2, "unknown", Reason::ProviderError, true),
            (3, "Support codes: 29310472", Reason::ContentModeration, false),
            (3, "The prompt goes against our policy", Reason::ContentModeration, false),
            (3, "blocked by Responsible AI practices", Reason::ContentModeration, false),
            (3, "durationSeconds is out of bounds", Reason::InvalidParameters, false),
            (4, "deadline", Reason::Timeout, true),
            (8, "quota", Reason::RateLimited, true),
            (9, "the image could not be read", Reason::InvalidParameters, false),
            (13, "Internal error encountered.", Reason::ProviderError, true),
            (14, "The service is overloaded.", Reason::ProviderError, true),
        ] {
            let error = json!({"name": ID, "done": true, "error": {"code": code, "message": message}});
            let failure = failure(task_status(&error, NOW).expect("a status"));
            assert_eq!((failure.reason, failure.retryable), (reason, retryable), "{code} {message}");
            assert_eq!(failure.code, Some(code.to_string()));
        }
    }

    #[test]
    fn calls_are_classified_by_reason_status_and_words() {
        for (http, status, reason, message, expected, retryable) in [
            (400, "INVALID_ARGUMENT", "", "`seed` isn't supported by this model", Reason::InvalidParameters, false),
            (400, "INVALID_ARGUMENT", "", "Support codes: 58061214", Reason::ContentModeration, false),
            (400, "INVALID_ARGUMENT", "", "violates the usage policy", Reason::ContentModeration, false),
            (400, "INVALID_ARGUMENT", "API_KEY_INVALID", "API key not valid.", Reason::Unknown, false),
            (400, "FAILED_PRECONDITION", "", "Please enable billing", Reason::InsufficientCredits, false),
            (401, "UNAUTHENTICATED", "", "no credentials", Reason::Unknown, false),
            (403, "PERMISSION_DENIED", "", "no access", Reason::Unknown, false),
            (403, "PERMISSION_DENIED", "BILLING_DISABLED", "billing", Reason::InsufficientCredits, false),
            (404, "NOT_FOUND", "", "models/x is not found for API version v1beta", Reason::InvalidParameters, false),
            (
                429,
                "RESOURCE_EXHAUSTED",
                "",
                "Your prepayment credits are depleted.",
                Reason::InsufficientCredits,
                false,
            ),
            (429, "RESOURCE_EXHAUSTED", "", "quota, check your plan and billing details", Reason::RateLimited, true),
            (503, "UNAVAILABLE", "", "The model is overloaded.", Reason::ProviderError, true),
            (504, "DEADLINE_EXCEEDED", "", "slow", Reason::Timeout, true),
        ] {
            let details = json!([{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}]);
            let body = json!({"error": {"code": http, "status": status, "message": message, "details": details}});
            let failure = refusal(&ProviderResponse::new(http, ""), &body).expect("a refusal");
            assert_eq!((failure.reason, failure.retryable), (expected, retryable), "{http} {status} {message}");
            let submitted = Veo.read_submission(&ProviderResponse::new(http, json!([body]).to_string()));
            assert_eq!(matches!(submitted, SubmissionResult::Refused(_)), http < 500, "{http}");
        }
    }

    /// A video that was paid for and comes in a form that cannot be copied is said to be there, and not that there is none.
    #[test]
    fn a_video_without_a_link_is_named() {
        for (video, words) in [
            (json!({"video": {"encodedVideo": "AAAA"}}), "inline"),
            (json!({"video": {"bytesBase64Encoded": "AAAA", "mimeType": "video/mp4"}}), "inline"),
            (json!({"bytesBase64Encoded": "AAAA"}), "inline"),
            (json!({"gcsUri": "gs://bucket/v.mp4"}), "gs://bucket/v.mp4"),
            (json!({"video": {"uri": "gs://bucket/v.mp4"}}), "gs://bucket/v.mp4"),
        ] {
            let failure = failure(done(&json!({"videos": [video], "raiMediaFilteredCount": 1})));
            assert_eq!((failure.reason, failure.retryable), (Reason::Unknown, false), "{video}");
            assert!(failure.message.as_ref().is_some_and(|message| message.contains(words)), "{failure:?}");
        }
    }

    #[test]
    fn a_link_leads_to_the_content_of_a_file() {
        let file = "https://generativelanguage.googleapis.com/v1beta/files/ab12";
        let content = format!("{file}:download?alt=media");
        let elsewhere = "https://relay.test/files/a.mp4?x=1";
        for (uri, link) in [(file, &*content), (&content, &content), (elsewhere, elsewhere)] {
            let expected = Artifact {
                kind: Kind::Video,
                source: Source::Authorized(crate::redacted::SignedUrl::new(link)),
                expires_at: Some(NOW + Duration::from_hours(48)),
            };
            assert_eq!(
                done(&json!({"generatedSamples": [{"video": {"uri": uri}}]})),
                TaskStatus::succeeded(vec![expected])
            );
        }
    }

    #[test]
    fn the_wait_that_google_asks_for_is_kept() {
        let wait = |delay: &str| {
            let details = json!([{"reason": "X"}, {"retryDelay": delay}]);
            let body = json!([{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": details}}]);
            let StatusResult::Refused { retry_after, .. } = read(429, &body) else { panic!("not refused: {body}") };
            retry_after
        };
        assert_eq!(wait("31s"), Some(Duration::from_secs(31)));
        assert_eq!(wait("1.5s"), Some(Duration::from_millis(1500)));
        assert_eq!(wait("99999999s"), Some(Duration::from_hours(1)));
        assert_eq!([wait("soon"), wait("-1s")], [None, None]);
    }

    #[test]
    fn what_is_no_operation_says_nothing_about_the_task() {
        let of_another = json!({"name": "models/veo/operations/other", "done": true, "error": {"code": 13}});
        assert_eq!(read(200, &of_another), StatusResult::Unreadable);
        assert_eq!(read(200, &json!({})), StatusResult::Unreadable);
        let refused = read(200, &json!({"error": {"code": 403, "status": "PERMISSION_DENIED"}}));
        assert!(matches!(refused, StatusResult::Refused { .. }), "{refused:?}");
    }

    #[test]
    fn the_form_of_a_signature_decides_how_it_is_verified() {
        let settings: ProviderSettings =
            serde_json::from_value(json!({"signing_secrets": ["whsec_c2VjcmV0"]})).expect("valid settings");
        let authenticate = |signature: &str, settings: &ProviderSettings| {
            let headers =
                [("webhook-id", "msg_1"), ("webhook-timestamp", "1790330400"), ("webhook-signature", signature)];
            let request = CallbackRequest { path: "/", query: "", headers: Headers::new(headers), body: b"{}" };
            Veo.authenticate(&request, settings, NOW)
        };
        let without = ProviderSettings::default();
        for (signature, with_secret, without_secret) in [
            ("v1,AAAA", Err(Refusal::WrongSignature), Err(Refusal::Malformed(SIGNATURE))),
            (
                "v1,HSHxpHZzv35L4M/HaoSCWCcbVCrUQJYknRBmqYOvKXc=",
                Err(Refusal::WrongSignature),
                Ok(Authenticity::Unverified),
            ),
            ("v1a,AAAA", Err(Refusal::UnknownKey), Err(Refusal::UnknownKey)),
            // Not by a secret that stands beside it: a webhook is signed in one way.
            ("v1,AAAA v1a,AAAA", Err(Refusal::UnknownKey), Err(Refusal::UnknownKey)),
            ("eyJh.eyJh.AAAA", Ok(Authenticity::Unverified), Ok(Authenticity::Unverified)),
            ("v2,AAAA", Err(Refusal::Malformed(SIGNATURE)), Err(Refusal::Malformed(SIGNATURE))),
            ("", Err(Refusal::Malformed(SIGNATURE)), Err(Refusal::Malformed(SIGNATURE))),
        ] {
            assert_eq!(authenticate(signature, &settings), with_secret, "{signature}");
            assert_eq!(authenticate(signature, &without), without_secret, "{signature}");
        }
        let unsigned = CallbackRequest { path: "/", query: "", headers: Headers::default(), body: b"{}" };
        assert_eq!(Veo.authenticate(&unsigned, &without, NOW), Err(Refusal::Missing(SIGNATURE)));
    }

    #[test]
    fn no_callback_is_more_than_a_hint() {
        for event in ["video.generated", "interaction.failed", "batch.cancelled", "batch.expired", "video.rendering"] {
            let body = json!({"type": event, "data": {"id": ID, "error_message": "words"}}).to_string();
            let CallbackBody::Task { provider_task_id, trust, .. } = Veo.read_callback(body.as_bytes(), NOW) else {
                panic!("not read: {event}")
            };
            assert_eq!(trust, BodyTrust::Hint(HintReason::NoResult), "{event}");
            assert_eq!(provider_task_id.as_deref(), Some(ID), "{event}");
        }
        let body = json!({"type": "something.else", "data": {"id": "ab12"}}).to_string();
        assert_eq!(Veo.read_callback(body.as_bytes(), NOW), CallbackBody::Unreadable);
    }
}
