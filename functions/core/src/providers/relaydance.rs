//! `RelayDance`, relaydance.com: a New API (`QuantumNous`/new-api) deployment in front of Ark.
//!
//! Its page promises its own task JSON, and clients see four shapes; where the gateway hands `metadata.callback_url` to Ark,
//! Ark posts its own body under its own `cgt-…` id, and only the URL says which task that is about.
//!
//! | fact | source |
//! |---|---|
//! | `POST /v1/video/generations`, `metadata.callback_url`, `$.task_id` | confirmed: relaydance.com/docs/video, …/docs/api-reference/generate-video |
//! | shape A (flat), posted on a final state and retried on failure; `GET /v1/video/generations/{task_id}` | confirmed: …/docs/api-reference/get-prediction |
//! | shape B (`completed`, `metadata.url`), shape C (`{code, message, data}`, `SUCCESS`) | public clients and new-api's source |
//! | shape D: Ark's own body | new-api's source hands the whole `metadata` to Ark; which of the two happens in practice is unknown |
//! | failed body of shape A | inferred: New API's `error` object |
//! | HTTP errors `{"error":{message,type}}` | confirmed: …/docs/errors |
//! | moderation is final, other failures are worth one retry | inferred |
//! | retries, time-out, rate limits; life of links | unknown; Ark's 24 hours are taken |
//! | `SUCCESS` without a link yet, `unknown` after creation, no status, `error` on a queued task: all open. Double envelopes; `data.id` a row number; HTTP 451 with an error as a JSON string | seen on New API deployments |
//!
//! `fail_reason` is read of failures only: old records keep the link of a success in it.

use super::ark;
use super::prelude::*;

/// `RelayDance`.
pub(super) struct RelayDance;

const NAME: &str = "relaydance";

const PROFILE: Profile = Profile {
    title: "RelayDance",
    // The docs write it with `/v1`, which every path here brings along.
    default_base_url: Some("https://relaydance.com"),
    // Not documented; Ark's, which may be the sender.
    answer_budget: 5,
    // Not documented; Ark's.
    link_life: DAY as i64,
    // "Every few seconds." A client reports about 150 s for a render.
    first_poll: 60,
    poll_interval: 10,
    longest_poll_interval: 120,
    // Not documented. Ark's own default until it gives up is 48 hours.
    deadline: 2 * DAY,
    verified: "token in the URL; signs nothing",
    retries: "retried on failure; how often is not documented",
    confirmed: "submission; status words; the flat body of a success; that failed deliveries are repeated; HTTP errors",
    doubts: "whether Ark's own body arrives instead; time to answer, number of retries, life of links, pace and end of \
        asking; failed bodies of the documented shape",
};

/// No codes are published. Ark's codes come through in some shapes, so its table stands in front; see [`judge`]. The two
/// about quota are from new-api's source, which gives them with HTTP 403.
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

    fn authenticate(
        &self,
        _: &CallbackRequest<'_>,
        _: &ProviderSettings,
        _: Timestamp,
    ) -> Result<Authenticity, Refusal> {
        Ok(Authenticity::Unsigned)
    }

    fn read_callback(&self, body: &[u8], now: Timestamp) -> CallbackBody {
        let Some(body) = object(body) else { return CallbackBody::Unreadable };
        let task = task(&body);
        let id = task_id(task);
        if id.as_deref().is_some_and(is_foreign) {
            return common::foreign(ark::callback(task, now));
        }
        common::callback(id, Some(statement(task, now)))
    }

    fn submission(
        &self,
        submission: &Submission<'_>,
        settings: &ProviderSettings,
        _: Timestamp,
    ) -> Result<Request, InvalidSubmission> {
        let endpoint = common::endpoint(submission, ENDPOINTS)?;
        let body = with_callback_url(submission, &["metadata", "callback_url"], submission.callback_url)?;
        Ok(api(settings)?.post(endpoint, &body))
    }

    fn read_submission(&self, answer: &Answer<'_>) -> SubmissionAnswer {
        let body = object(answer.body).unwrap_or_default();
        let id = task_id(task(&body));
        // An `error` beside an id is a queued task's, unless the call itself was refused.
        let refusal = if id.is_some() && answer.is_success() { None } else { refusal(answer, &body) };
        common::submission(answer, id, refusal)
    }

    fn status_requests(
        &self,
        tasks: &[PolledTask<'_>],
        settings: &ProviderSettings,
        _: Timestamp,
    ) -> Vec<StatusRequest> {
        let Ok(api) = api(settings) else { return vec![] };
        common::one_by_one(tasks, 0..tasks.len(), |task| {
            api.get(&format!("/v1/video/generations/{}", encoded(task.provider_task_id)))
        })
    }

    /// Of the ids in the answer only `task_id` is compared, and not where it is Ark's: `id` may be the number of a row.
    fn read_status(&self, answer: &Answer<'_>, provider_task_id: &str, now: Timestamp) -> StatusAnswer {
        let Some(body) = object(answer.body) else { return common::status_by_http_alone(answer) };
        let task = task(&body);
        if task_id(task).is_none() && task["status"].is_null() {
            return match refusal(answer, &body) {
                // `task_not_exist` comes under HTTP 400.
                Some(failure) if failure.code.as_deref().is_some_and(|code| code.contains("not_exist")) => {
                    StatusAnswer::NotFound
                }
                Some(failure) => common::status_refused(answer, failure),
                None => common::status_by_http_alone(answer),
            };
        }
        if !answer.is_success() {
            return common::status_by_http_alone(answer);
        }
        let other = |id: String| id != provider_task_id && !is_foreign(&id);
        if id(&task["task_id"]).is_some_and(other) {
            return StatusAnswer::Unreadable;
        }
        common::status(Some(statement(task, now)))
    }

    fn status_id(&self, answer: &Answer<'_>) -> Option<String> {
        task_id(task(&object(answer.body)?)).filter(|id| !is_foreign(id))
    }
}

/// Whether an id is Ark's.
fn is_foreign(id: &str) -> bool {
    id.starts_with("cgt-")
}

/// The task in its envelopes: `data` is opened as long as the outside says nothing about a task itself.
fn task(body: &Value) -> &Value {
    let mut task = body;
    for _ in 0..3 {
        if !task["status"].is_null() || !task["task_id"].is_null() {
            break;
        }
        task = in_data(task);
    }
    task
}

/// `task_id`, else an `id` that is a text: as a number it is the row of New API's own table.
fn task_id(task: &Value) -> Option<String> {
    id(&task["task_id"]).or_else(|| id(&task["id"]).filter(|_| task["id"].is_string()))
}

fn statement(task: &Value, now: Timestamp) -> Statement {
    let Some(status) = word(&task["status"]) else { return Statement::open() };
    match status.as_str() {
        "submitted" | "running" | "queued" | "in_progress" | "not_start" | "processing" | "pending" | "unknown" => {
            common::open_at(&task["progress"])
        }
        // New API's own word can come before the link does: ask again.
        "success" if links(task, now).is_empty() => Statement::open(),
        "succeeded" | "completed" | "success" => links(task, now).into_success(),
        "failed" | "failure" => Statement::failed(failure(task)),
        "cancelled" | "canceled" => {
            Statement::failed(Failure { reason: Reason::Cancelled, retryable: false, ..failure(task) })
        }
        "expired" => Statement::failed(Failure { reason: Reason::Expired, retryable: true, ..failure(task) }),
        unknown => Statement::unknown_status(unknown),
    }
}

/// The one video of a task. The shapes put it in different places, and some in several.
fn links(task: &Value, now: Timestamp) -> Links {
    let made_at = ["completed_at", "finish_time", "updated_at"].into_iter().find_map(|field| moment(&task[field]));
    let upstream = &task["data"];
    let places = [
        &task["url"],
        &task["result_url"],
        &task["metadata"]["url"],
        &task["content"]["video_url"],
        &upstream["content"]["video_url"],
    ];
    let mut links = Links::new(made_at.unwrap_or(now), PROFILE.link_life);
    for place in places {
        if links.is_empty() {
            links.add(Kind::Video, place);
        }
    }
    for content in [&task["content"], &upstream["content"]] {
        links.add(Kind::LastFrame, &content["last_frame_url"]);
    }
    links
}

/// What a failed task says: `error` in shapes A, B and D, `fail_reason` in C, where a generic one can hide Ark's own code
/// and words: both are judged, and the outer words are told.
fn failure(task: &Value) -> Failure {
    let (code, message) = error(task).or_else(|| error(&task["data"])).unwrap_or_default();
    match (text(&task["fail_reason"]), message) {
        (Some(outer), Some(inner)) => judge(None, code, Some(format!("{outer} {inner}"))).message(outer),
        (outer, inner) => judge(None, code, outer.or(inner)),
    }
}

/// Code and message of an `error`, which may be an object, a text, or an object in a text.
fn error(task: &Value) -> Option<(Option<String>, Option<String>)> {
    let read = |error: &Value| {
        let code = text(&error["code"]).or_else(|| text(&error["type"]));
        (code, text(&error["message"]))
    };
    let said = |error: &(Option<String>, Option<String>)| error.0.is_some() || error.1.is_some();
    match &task["error"] {
        error @ Value::Object(_) => Some(read(error)).filter(said),
        Value::String(json) => match object(json.as_bytes()) {
            Some(error) if error["error"].is_object() => Some(read(&error["error"])),
            Some(error) => Some(read(&error)),
            None => text(&task["error"]).map(|message| (None, Some(message))),
        },
        _ => None,
    }
}

/// The failure of a call: `error`, or an envelope whose code is a word other than `success`.
fn refusal(answer: &Answer<'_>, body: &Value) -> Option<Failure> {
    if let Some((code, message)) = error(body) {
        return Some(judge(Some(answer.status), code, message));
    }
    let code = text(&body["code"]).filter(|code| !matches!(code.as_str(), "success" | "0" | "200"))?;
    Some(judge(Some(answer.status), Some(code), text(&body["message"])))
}

/// Ark's code where it is one, else New API's code and words.
fn judge(status: Option<u16>, code: Option<String>, message: Option<String>) -> Failure {
    let failures =
        if code.as_deref().is_some_and(|code| ark::FAILURES.knows(code)) { &ark::FAILURES } else { &FAILURES };
    match status {
        Some(status) => failures.of_answer(status, code, message),
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
    fn every_row_is_reached() {
        FAILURES.assert_that_every_row_is_reached();
    }

    #[test]
    fn failed_tasks_are_judged_by_ark_codes_then_words() {
        for (code, message, reason, retryable) in [
            ("400", "content rejected by upstream", Reason::ContentModeration, false),
            ("blocked", "no", Reason::ContentModeration, false),
            ("OutputVideoSensitiveContentDetected", "task failed", Reason::ContentModeration, false),
            ("QuotaExceeded", "too many queued tasks", Reason::RateLimited, true),
            ("", "the render node went away", Reason::ProviderError, true),
        ] {
            let failure = judge(None, Some(code.into()), Some(message.into()));
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
    fn calls_are_judged_by_their_status_and_words() {
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
            let answer = Answer { status, retry_after: None, body: body.as_bytes() };
            let expected = Failure::new(reason, retryable).code("t").message(message);
            assert_eq!(RelayDance.read_submission(&answer), SubmissionAnswer::Refused(expected), "{body}");
        }
    }
}
