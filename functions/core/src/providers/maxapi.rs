//! `MaxAPI`, docs.maxapi.io.
//!
//! One endpoint for all models, one envelope `{code, msg, data}` for callbacks and status alike. It signs nothing and never
//! repeats a callback: after one lost POST, only polling finds the result.
//!
//! | fact | source |
//! |---|---|
//! | callback body, 5 s, no retry; links live 7 days | confirmed: docs.maxapi.io/api-reference/webhook |
//! | `POST /api/v1/task/submit`, `callBackUrl`, `$.data.taskId` | confirmed: docs.maxapi.io/api-reference/submit-task |
//! | `GET /api/v1/task/{taskId}` returns the callback's body | confirmed: docs.maxapi.io/api-reference/query-task |
//! | status words | confirmed: docs.maxapi.io/api-reference/introduction |
//! | renders take 2 minutes to 4 hours; continuous polling is discouraged | confirmed: docs.maxapi.io/api-reference/seedance-video/text-to-video |
//! | refusal before submission with `data.flagged` | confirmed: docs.maxapi.io/api-reference/seedance-video/moderation-and-penalty |
//! | a null `failure_reason` and `TIMEOUT` are retryable, `CANCELLED` is not | inferred |
//! | HTTP status of an error envelope; rate limits; a fresh link from a later response | unknown |
//! | `failReason`, `FAILED`, `FAIL`; an error envelope without `data` | accepted by public clients |

use super::prelude::*;

pub(super) struct MaxApi;

const NAME: &str = "maxapi";

const PROFILE: Profile = Profile {
    title: "MaxAPI",
    default_base_url: Some("https://api.maxapi.io"),
    callbacks: Some(Callbacks {
        // Documented. A late response loses the callback.
        response_timeout: Duration::from_secs(5),
        reports_failures: true,
        verified: "URL token",
        retries: "none",
    }),
    // "URLs last 7 days from generation." A link presigned by an upstream states its own, shorter life.
    link_life: Duration::from_hours(168),
    // "2 minutes to 4 hours", "avoid continuous polling": first after 5 minutes, then every 5 to 10.
    first_poll: Duration::from_mins(5),
    poll_interval: Duration::from_mins(5),
    max_poll_interval: Duration::from_mins(10),
    // The 4 hours plus one.
    deadline: Duration::from_hours(5),
    cancellable: None,
    marker: None,
    usage: None,
    confirmed: "callback body; status words; 5 s; no retry; links for 7 days; Seedance takes up to 4 h",
    unconfirmed: "HTTP status of error envelopes; that a null failure_reason is retryable; whether links to an upstream's \
        host live as long; poll schedule and deadline",
};

/// From the webhook and the moderation page. `failure_reason` is the only detail; unlisted values are not retryable.
const FAILURES: Failures = Failures {
    rules: &[
        code("CONTENT_MODERATION", Reason::ContentModeration),
        code("INVALID_PARAMETERS", Reason::InvalidParameters),
        code("INSUFFICIENT_POINTS", Reason::InsufficientCredits),
    ],
    later: &[],
    otherwise: (Reason::Unknown, Retry::IsPointless),
};

const ENDPOINTS: &[&str] = &["/api/v1/task/submit"];

impl Adapter for MaxApi {
    fn profile(&self) -> &'static Profile {
        &PROFILE
    }

    fn read_callback(&self, body: &[u8], now: Timestamp) -> CallbackBody {
        let Some(body) = object(body) else { return CallbackBody::Unreadable };
        let task = in_data(&body);
        responses::callback(first_id(task, IDS), task_status(task, now))
    }

    fn submission(
        &self,
        submission: &Submission<'_>,
        settings: &ProviderSettings,
        _: Timestamp,
    ) -> Result<Request, InvalidSubmission> {
        requests::submission(&api(settings)?, submission, ENDPOINTS, &["callBackUrl"])
    }

    fn read_submission(&self, response: &ProviderResponse) -> SubmissionResult {
        let body = object(&response.body).unwrap_or_default();
        responses::submission(response, first_id(in_data(&body), IDS), refusal(response, &body))
    }

    fn status_requests(
        &self,
        tasks: &[PolledTask<'_>],
        settings: &ProviderSettings,
        _: Timestamp,
    ) -> Vec<StatusRequest> {
        let Ok(api) = api(settings) else { return vec![] };
        requests::one_per_task(tasks, 0..tasks.len(), |task| {
            api.get(&format!("/api/v1/task/{}", encoded(task.provider_task_id)))
        })
    }

    fn read_status(&self, response: &ProviderResponse, provider_task_id: &str, now: Timestamp) -> StatusResult {
        let Some(body) = object(&response.body) else { return responses::status_by_http_status(response) };
        let (refusal, polled) = (refusal(response, &body), (IDS, provider_task_id));
        responses::status_in_envelope(response, &body, refusal, polled, |task| task_status(task, now))
    }

    fn status_id(&self, response: &ProviderResponse) -> Option<String> {
        first_id(in_data(&object(&response.body)?), IDS)
    }
}

const IDS: &[&str] = &["taskId", "task_id"];

fn task_status(task: &Value, now: Timestamp) -> Option<TaskStatus> {
    Some(match status_word(&task["status"])?.as_str() {
        "pending" | "processing" | "submitted" => TaskStatus::open(),
        "success" => links(task, now).into_success(),
        "failure" | "failed" | "fail" => TaskStatus::failed(match reason(task) {
            // A reason is given where the caller has to act on it, so the same submission fails again, whatever the words.
            Some(reason) => Failure { retryable: false, ..FAILURES.of_task(Some(reason), None) },
            // Transient, a time-out, or anything else: a retry can help.
            None => Failure::new(Reason::Unknown, true),
        }),
        "timeout" => TaskStatus::failed(Failure::new(Reason::Timeout, true).code(reason(task).unwrap_or_default())),
        "cancelled" | "canceled" => {
            TaskStatus::failed(Failure::new(Reason::Cancelled, false).code(reason(task).unwrap_or_default()))
        }
        unknown => TaskStatus::unknown_status(unknown),
    })
}

fn reason(task: &Value) -> Option<String> {
    first_text(task, &["failure_reason", "failReason"])
}

fn links(task: &Value, now: Timestamp) -> Links {
    let created_at = timestamp(&task["updated_at"]).unwrap_or(now);
    let mut links = Links::new(created_at, PROFILE.link_life);
    let result = &task["result"];
    match status_word(&result["type"]).as_deref() {
        Some("video") => links.add(Kind::Video, &result["urls"]),
        Some("image") => links.add(Kind::Image, &result["urls"]),
        _ => links.add_by_extension(&result["urls"]),
    }
    links
}

/// The failure in an envelope with a code other than 0. Unless the code is like an HTTP status, `msg` says more.
fn refusal(response: &ProviderResponse, body: &Value) -> Option<Failure> {
    let code = integer(&body["code"]).filter(|code| *code != 0)?;
    let message = first_text(body, &["msg", "message"]);
    if body["data"]["flagged"] == Value::Bool(true) {
        let failure = Failure::new(Reason::ContentModeration, false).code(code.to_string());
        return Some(failure.message(message.unwrap_or_default()));
    }
    Some(FAILURES.of_response(response.status, Some(code.to_string()), message))
}

fn api(settings: &ProviderSettings) -> Result<Api<'_>, InvalidSubmission> {
    Api::new(NAME, "Bearer", &PROFILE, settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_reachable() {
        FAILURES.assert_every_row_is_reachable();
    }

    #[test]
    fn statuses_and_reasons_are_classified() {
        for (status, why, reason, retryable) in [
            ("FAILURE", Some("CONTENT_MODERATION"), Reason::ContentModeration, false),
            ("FAILURE", Some("INVALID_PARAMETERS"), Reason::InvalidParameters, false),
            ("FAILURE", Some("INSUFFICIENT_POINTS"), Reason::InsufficientCredits, false),
            ("FAILURE", Some("NEWS_TO_US"), Reason::Unknown, false),
            ("FAILURE", Some("INTERNAL_NEWS"), Reason::ProviderError, false),
            ("FAILURE", Some("UPSTREAM_TIMEOUT"), Reason::Timeout, false),
            ("FAILURE", None, Reason::Unknown, true),
            ("FAILED", None, Reason::Unknown, true),
            ("fail", None, Reason::Unknown, true),
            ("TIMEOUT", None, Reason::Timeout, true),
            ("CANCELLED", None, Reason::Cancelled, false),
        ] {
            let task = json!({"status": status, "failure_reason": why});
            let expected = Failure::new(reason, retryable).code(why.unwrap_or_default());
            let read = task_status(&task, Timestamp::from_seconds(0));
            assert_eq!(read, Some(TaskStatus::failed(expected)), "{status} {why:?}");
        }
    }

    #[test]
    fn refusals_are_read_with_and_without_data() {
        for (body, reason, retryable) in [
            (json!({"code": 400, "msg": "no", "data": {"flagged": true}}), Reason::ContentModeration, false),
            (json!({"code": 400, "msg": "bad ratio"}), Reason::InvalidParameters, false),
            (json!({"code": 402, "msg": "no points"}), Reason::InsufficientCredits, false),
            (json!({"code": 429, "msg": "slow down"}), Reason::RateLimited, true),
            (json!({"code": 500, "msg": "oops"}), Reason::ProviderError, true),
        ] {
            let text = body.to_string();
            let response = ProviderResponse::new(200, text.as_bytes());
            let failure = refusal(&response, &object(&response.body).expect("an object")).expect("a refusal");
            assert_eq!((failure.reason, failure.retryable), (reason, retryable), "{text}");
        }
    }
}
