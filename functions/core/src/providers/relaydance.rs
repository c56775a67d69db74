//! `RelayDance`, relaydance.com: a New API (`QuantumNous`/new-api) deployment in front of Ark.
//!
//! Its page documents one task JSON, but clients see four shapes. If the gateway passes `metadata.callback_url` on to Ark,
//! Ark posts its own body under its own `cgt-…` id, and only the URL says which task that is about.
//!
//! | fact | source |
//! |---|---|
//! | `POST /v1/video/generations`, `metadata.callback_url`, `$.task_id` | confirmed: relaydance.com/docs/video, …/docs/api-reference/generate-video |
//! | shape A (flat), posted on a final state, retried on failure; `GET /v1/video/generations/{task_id}` | confirmed: …/docs/api-reference/get-prediction |
//! | shape B (`completed`, `metadata.url`), shape C (`{code, message, data}`, `SUCCESS`) | public clients and new-api's source |
//! | shape D: Ark's own body | new-api's source hands the whole `metadata` to Ark; which of the two happens in practice is unknown |
//! | failed body of shape A | inferred: New API's `error` object |
//! | HTTP errors `{"error":{message,type}}` | confirmed: …/docs/errors |
//! | moderation is final, other failures are retryable | inferred |
//! | retries, timeout, rate limits; link life | unknown; for links, Ark's 24 hours |
//! | `SUCCESS` without a link yet, `unknown` after creation, no status, `error` on a queued task: all open. Double envelopes, also inside a task behind two gateways; `data.id` a row number; HTTP 451 with an error as a JSON string; final bodies without an id; the link of a success in `fail_reason` | seen on New API deployments |

use super::ark;
use super::prelude::*;

pub(super) struct RelayDance;

const NAME: &str = "relaydance";

const PROFILE: Profile = Profile {
    title: "RelayDance",
    // The docs write it with `/v1`, which every path here includes.
    default_base_url: Some("https://relaydance.com"),
    callbacks: Some(Callbacks {
        // Not documented; Ark's, which may be the sender.
        response_timeout: Duration::from_secs(5),
        reports_failures: true,
        verified: "URL token",
        retries: "yes, number not documented",
    }),
    // Not documented; Ark's.
    link_life: Duration::from_hours(24),
    // "Every few seconds." A client reports about 150 s for a render.
    first_poll: FIRST_POLL,
    poll_interval: Duration::from_secs(10),
    max_poll_interval: Duration::from_mins(2),
    // Not documented. Ark's tasks expire after 48 hours by default.
    deadline: Duration::from_hours(48),
    cancellable: None,
    marker: None,
    usage: Some("tokens, where the upstream gives them"),
    confirmed: "submission; status words; the flat body of a success; that failed deliveries are retried; HTTP errors",
    unconfirmed: "whether Ark's own body arrives instead; response timeout, number of retries, link life, poll schedule and \
        deadline; failed bodies of the documented shape",
};

/// No codes are published. Some shapes carry Ark's codes, so Ark's table comes first; see [`classify`]. The two quota codes
/// are from new-api's source, which sends them with HTTP 403.
const FAILURES: Failures = Failures {
    rules: &[
        code("blocked", Reason::ContentModeration),
        code("pre_consume_token_quota_failed", Reason::InsufficientCredits),
        code("quota_not_enough", Reason::InsufficientCredits),
    ],
    later: &[],
    otherwise: (Reason::ProviderError, Retry::Helps),
};

const ENDPOINTS: &[&str] = &["/v1/video/generations"];

impl Adapter for RelayDance {
    fn profile(&self) -> &'static Profile {
        &PROFILE
    }

    fn read_callback(&self, body: &[u8], now: Timestamp) -> CallbackBody {
        let Some(body) = object(body) else { return CallbackBody::Unreadable };
        let task = task(&body);
        let id = task_id(task);
        if id.as_deref().is_some_and(is_foreign) {
            return responses::foreign(ark::callback(task, now));
        }
        match status_word(&task["status"]) {
            // Open, unless the body is about no task at all.
            None => responses::callback(id, Some(TaskStatus::open())),
            Some(_) => responses::callback_with_optional_id(id, Some(task_status(task, now))),
        }
    }

    fn submission(
        &self,
        submission: &Submission<'_>,
        settings: &ProviderSettings,
        _: Timestamp,
    ) -> Result<Request, InvalidSubmission> {
        requests::submission(&api(settings)?, submission, ENDPOINTS, &["metadata", "callback_url"])
    }

    fn read_submission(&self, response: &ProviderResponse) -> SubmissionResult {
        let body = object(&response.body).unwrap_or_default();
        let id = task_id(task(&body));
        // With an id, `error` is that of a queued task, unless the call itself was refused.
        let refusal = if id.is_some() && response.is_success() { None } else { refusal(response, &body) };
        responses::submission(response, id, refusal)
    }

    fn status_requests(
        &self,
        tasks: &[PolledTask<'_>],
        settings: &ProviderSettings,
        _: Timestamp,
    ) -> Vec<StatusRequest> {
        let Ok(api) = api(settings) else { return vec![] };
        requests::one_per_task(tasks, 0..tasks.len(), |task| {
            api.get(&format!("/v1/video/generations/{}", encoded(task.provider_task_id)))
        })
    }

    /// Only `task_id` is compared, and only if it is not Ark's: `id` may be a row number.
    fn read_status(&self, response: &ProviderResponse, provider_task_id: &str, now: Timestamp) -> StatusResult {
        let Some(body) = object(&response.body) else { return responses::status_by_http_status(response) };
        let task = task(&body);
        if task_id(task).is_none() && task["status"].is_null() {
            return match refusal(response, &body) {
                // `task_not_exist` comes under HTTP 400.
                Some(failure) if failure.code.as_deref().is_some_and(|code| code.contains("not_exist")) => {
                    StatusResult::NotFound
                }
                Some(failure) => responses::status_refused(response, failure),
                None => responses::status_by_http_status(response),
            };
        }
        if !response.is_success() {
            return responses::status_by_http_status(response);
        }
        let other = |id: String| id != provider_task_id && !is_foreign(&id);
        if id(&task["task_id"]).is_some_and(other) {
            return StatusResult::Unreadable;
        }
        responses::status(Some(task_status(task, now)))
    }

    fn status_id(&self, response: &ProviderResponse) -> Option<String> {
        task_id(task(&object(&response.body)?)).filter(|id| !is_foreign(id))
    }
}

/// Whether an id is Ark's.
fn is_foreign(id: &str) -> bool {
    id.starts_with("cgt-")
}

/// How many envelopes are opened. Two gateways in a row make four.
const MAX_ENVELOPES: usize = 6;

/// The task in its envelopes: the outermost level with a status or a task id.
fn task(body: &Value) -> &Value {
    let is_task = |level: &&Value| !level["status"].is_null() || !level["task_id"].is_null();
    let mut levels = levels(body);
    levels.find(is_task).unwrap_or(body)
}

/// A body and what is in its `data`, in that one's `data`, and so on: a gateway keeps the body of its upstream there, which
/// may be a gateway too.
fn levels(body: &Value) -> impl Iterator<Item = &Value> {
    std::iter::successors(Some(body), |level| Some(in_data(level)).filter(|inner| !std::ptr::eq(*inner, *level)))
        .take(MAX_ENVELOPES)
}

/// `task_id`, else an `id` that is a string: as a number it is a row of New API's own table.
fn task_id(task: &Value) -> Option<String> {
    id(&task["task_id"]).or_else(|| id(&task["id"]).filter(|_| task["id"].is_string()))
}

fn task_status(task: &Value, now: Timestamp) -> TaskStatus {
    let Some(status) = status_word(&task["status"]) else { return TaskStatus::open() };
    let task_status = match status.as_str() {
        "submitted" | "running" | "queued" | "in_progress" | "not_start" | "processing" | "pending" | "unknown" => {
            responses::open_at(&task["progress"])
        }
        // New API sets its own status word before the link is there.
        "success" if links(task, now).is_empty() => TaskStatus::open(),
        "succeeded" | "completed" | "success" => links(task, now).into_success(),
        "failed" | "failure" => TaskStatus::failed(failure(task)),
        "cancelled" | "canceled" => {
            TaskStatus::failed(Failure { reason: Reason::Cancelled, retryable: false, ..failure(task) })
        }
        "expired" => TaskStatus::failed(Failure { reason: Reason::Expired, retryable: true, ..failure(task) }),
        unknown => TaskStatus::unknown_status(unknown),
    };
    task_status.with_usage(Usage::of_tokens(&task["usage"]["total_tokens"]))
}

/// The one video of a task, with its last frame. The shapes have it in different places, and some in several: the task's own
/// link comes first, then the innermost upstream's. Old records have the link of a success in `fail_reason` only.
fn links(task: &Value, now: Timestamp) -> Links {
    let created_at =
        ["completed_at", "finish_time", "updated_at"].into_iter().find_map(|field| timestamp(&task[field]));
    let mut links = Links::new(created_at.unwrap_or(now), PROFILE.link_life);
    let mut upstreams: Vec<&Value> = levels(task).skip(1).collect();
    upstreams.reverse();
    let levels: Vec<&Value> = std::iter::once(task).chain(upstreams).collect();
    let places = levels.iter().flat_map(|level| {
        [
            &level["url"],
            &level["result_url"],
            &level["video_url"],
            &level["metadata"]["url"],
            &level["content"]["video_url"],
        ]
    });
    let fail_reasons = levels.iter().map(|level| &level["fail_reason"]);
    for place in places.chain(fail_reasons) {
        if links.is_empty() {
            links.add(Kind::Video, place);
        }
    }
    for level in &levels {
        links.add(Kind::LastFrame, &level["content"]["last_frame_url"]);
    }
    links
}

/// The failure of a failed task: `error` in shapes A, B and D, `fail_reason` in C. A generic `fail_reason` can hide Ark's own
/// code and message further in: both are classified, and the outer message is kept.
fn failure(task: &Value) -> Failure {
    let (code, message) = levels(task).find_map(error).unwrap_or_default();
    match (text(&task["fail_reason"]), message) {
        (Some(outer), Some(inner)) => classify(None, code, Some(format!("{outer} {inner}"))).message(outer),
        (outer, inner) => classify(None, code, outer.or(inner)),
    }
}

/// Code and message of an error, if any.
type Error = (Option<String>, Option<String>);

/// The `error` of a level: an object, a message, or an object in a string.
fn error(level: &Value) -> Option<Error> {
    match &level["error"] {
        Value::Object(_) => Some(code_and_message(&level["error"])).filter(|error| *error != (None, None)),
        Value::String(json) => {
            error_in_string(json).or_else(|| text(&level["error"]).map(|message| (None, Some(message))))
        }
        _ => None,
    }
}

/// The error in a string of JSON, wrapped in `error` or not.
fn error_in_string(json: &str) -> Option<Error> {
    let error = object(json.as_bytes())?;
    Some(code_and_message(if error["error"].is_object() { &error["error"] } else { &error }))
}

/// The code of an error is in `code` or `type`; if one of them is Ark's, it is that one.
fn code_and_message(error: &Value) -> Error {
    const FIELDS: &[&str] = &["code", "type"];
    let codes = FIELDS.iter().filter_map(|field| text(&error[*field]));
    let arks = codes.into_iter().find(|code| ark::FAILURES.knows(code));
    (arks.or_else(|| first_text(error, FIELDS)), text(&error["message"]))
}

/// The failure of a call: `error`, or an envelope with another code than `success`, whose message may be the upstream's error
/// as a string of JSON.
fn refusal(response: &ProviderResponse, body: &Value) -> Option<Failure> {
    let (code, message) = if let Some(error) = error(body) {
        error
    } else {
        let code = text(&body["code"]).filter(|code| !matches!(code.as_str(), "success" | "0" | "200"))?;
        (Some(code), text(&body["message"]))
    };
    let (code, message) = match message.as_deref().and_then(error_in_string) {
        Some((inner_code, inner_message)) => (inner_code.or(code), inner_message.or(message)),
        None => (code, message),
    };
    Some(classify(Some(response.status), code, message))
}

/// By Ark's table if it has the code, else by New API's codes and words.
fn classify(status: Option<u16>, code: Option<String>, message: Option<String>) -> Failure {
    let failures =
        if code.as_deref().is_some_and(|code| ark::FAILURES.knows(code)) { &ark::FAILURES } else { &FAILURES };
    match status {
        Some(status) => failures.of_response(status, code, message),
        None => failures.of_task(code, message),
    }
}

fn api(settings: &ProviderSettings) -> Result<Api<'_>, InvalidSubmission> {
    Ok(Api::new(NAME, "Bearer", &PROFILE, settings)?.without_suffix("/v1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_reachable() {
        FAILURES.assert_every_row_is_reachable();
    }

    #[test]
    fn failed_tasks_are_classified_by_ark_codes_then_words() {
        for (code, message, reason, retryable) in [
            ("400", "content rejected by upstream", Reason::ContentModeration, false),
            ("blocked", "no", Reason::ContentModeration, false),
            ("OutputVideoSensitiveContentDetected", "task failed", Reason::ContentModeration, false),
            ("QuotaExceeded", "too many queued tasks", Reason::RateLimited, true),
            ("", "the render node went away", Reason::ProviderError, true),
        ] {
            let failure = classify(None, Some(code.into()), Some(message.into()));
            assert_eq!((failure.reason, failure.retryable), (reason, retryable), "{code} {message}");
        }
    }

    #[test]
    fn an_empty_error_hides_nothing() {
        let upstream = json!({"error": {"code": "OutputVideoSensitiveContentDetected", "message": "words"}});
        let task = json!({"status": "failed", "error": {}, "data": upstream});
        let code = "OutputVideoSensitiveContentDetected";
        assert_eq!(failure(&task), Failure::new(Reason::ContentModeration, false).code(code).message("words"));
    }

    /// The error page: `{"error":{message,type}}` under each status.
    #[test]
    fn calls_are_classified_by_their_status_and_words() {
        for (status, message, reason, retryable) in [
            (400, "missing field", Reason::InvalidParameters, false),
            (401, "The API key provided is invalid.", Reason::Unknown, false),
            (403, "user quota is not enough", Reason::InsufficientCredits, false),
            (403, "model not allowed", Reason::Unknown, false),
            (404, "unknown model", Reason::InvalidParameters, false),
            (429, "slow down", Reason::RateLimited, true),
            (500, "upstream", Reason::ProviderError, true),
            (503, "gateway", Reason::ProviderError, true),
        ] {
            let body = json!({"error": {"message": message, "type": "t"}}).to_string();
            let response = ProviderResponse::new(status, body.as_bytes());
            let expected = Failure::new(reason, retryable).code("t").message(message);
            assert_eq!(refusal(&response, &object(&response.body).expect("an object")), Some(expected), "{body}");
        }
    }
}
