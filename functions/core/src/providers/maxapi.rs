//! `MaxAPI`, docs.maxapi.io.
//!
//! One endpoint for all models, one envelope `{code, msg, data}` for callback and status alike. It never repeats a callback
//! and signs nothing: one lost POST means that the result is known by asking only.
//!
//! | fact | source |
//! |---|---|
//! | callback body, 5 s, no retry; links live 7 days | confirmed: docs.maxapi.io/api-reference/webhook |
//! | `POST /api/v1/task/submit`, `callBackUrl`, `$.data.taskId` | confirmed: docs.maxapi.io/api-reference/submit-task |
//! | `GET /api/v1/task/{taskId}` answers with the callback's body | confirmed: docs.maxapi.io/api-reference/query-task |
//! | status words | confirmed: docs.maxapi.io/api-reference/introduction |
//! | renders take 2 minutes to 4 hours, not to be asked after all the time | confirmed: docs.maxapi.io/api-reference/seedance-video/text-to-video |
//! | refusal before submission with `data.flagged` | confirmed: docs.maxapi.io/api-reference/seedance-video/moderation-and-penalty |
//! | a null `failure_reason` is worth a retry, `TIMEOUT` too, `CANCELLED` not | inferred |
//! | HTTP status of an error envelope; rate limits; a fresh link from a later answer | unknown |
//! | `failReason`, `FAILED`, `FAIL`; an error envelope without `data` | accepted by public clients |

use super::prelude::*;

/// `MaxAPI`.
pub(super) struct MaxApi;

const NAME: &str = "maxapi";

const PROFILE: Profile = Profile {
    title: "MaxAPI",
    default_base_url: Some("https://api.maxapi.io"),
    // Documented, and a late answer is a lost callback.
    answer_budget: 5,
    // "URLs last 7 days from generation." A link that is presigned by an upstream says a shorter life itself.
    link_life: 7 * DAY as i64,
    // "2 minutes to 4 hours", "avoid continuous polling": first after 5 minutes, then every 5 to 10.
    first_poll: 300,
    poll_interval: 300,
    longest_poll_interval: 600,
    // The 4 hours and one more.
    deadline: 5 * HOUR,
    verified: "token in the URL; signs nothing",
    retries: "once; never again",
    confirmed: "callback body; status words; 5 s; no retry; links for 7 days; Seedance takes up to 4 h",
    doubts: "HTTP status of error envelopes; a null failure_reason is taken to be worth a retry; whether links to an \
        upstream's host live as long; pace and end of asking",
};

/// From the webhook and the moderation page. `failure_reason` is all there is; other words than these are taken as final.
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
        let task = in_data(&body);
        common::callback(first_id(task, IDS), statement(task, now))
    }

    fn submission(
        &self,
        submission: &Submission<'_>,
        settings: &ProviderSettings,
        _: Timestamp,
    ) -> Result<Request, InvalidSubmission> {
        let endpoint = common::endpoint(submission, ENDPOINTS)?;
        let body = with_callback_url(submission, &["callBackUrl"], submission.callback_url)?;
        Ok(api(settings)?.post(endpoint, &body))
    }

    fn read_submission(&self, answer: &Answer<'_>) -> SubmissionAnswer {
        let body = object(answer.body).unwrap_or_default();
        common::submission(answer, first_id(in_data(&body), IDS), refusal(answer, &body))
    }

    fn status_requests(
        &self,
        tasks: &[PolledTask<'_>],
        settings: &ProviderSettings,
        _: Timestamp,
    ) -> Vec<StatusRequest> {
        let Ok(api) = api(settings) else { return vec![] };
        common::one_by_one(tasks, 0..tasks.len(), |task| {
            api.get(&format!("/api/v1/task/{}", encoded(task.provider_task_id)))
        })
    }

    fn read_status(&self, answer: &Answer<'_>, provider_task_id: &str, now: Timestamp) -> StatusAnswer {
        let Some(body) = object(answer.body) else { return common::status_by_http_alone(answer) };
        if let Some(failure) = refusal(answer, &body) {
            let unknown_id = failure.code.as_deref() == Some("404");
            return if unknown_id { StatusAnswer::NotFound } else { common::status_refused(answer, failure) };
        }
        let task = in_data(&body);
        if !answer.is_success() || !common::is_about(task, IDS, provider_task_id) {
            return common::status_by_http_alone(answer);
        }
        common::status(statement(task, now))
    }

    fn status_id(&self, answer: &Answer<'_>) -> Option<String> {
        first_id(in_data(&object(answer.body)?), IDS)
    }
}

const IDS: &[&str] = &["taskId", "task_id"];

fn statement(task: &Value, now: Timestamp) -> Option<Statement> {
    Some(match word(&task["status"])?.as_str() {
        "pending" | "processing" | "submitted" => Statement::open(),
        "success" => links(task, now).into_success(),
        "failure" | "failed" | "fail" => Statement::failed(match reason(task) {
            // A reason is given where somebody has to act on it, so the same again fails again, whatever it sounds like.
            Some(reason) => Failure { retryable: false, ..FAILURES.of_task(Some(reason), None) },
            // Transient, a time-out, or anything else: worth another try.
            None => Failure::new(Reason::Unknown, true),
        }),
        "timeout" => Statement::failed(Failure::new(Reason::Timeout, true).code(reason(task).unwrap_or_default())),
        "cancelled" | "canceled" => {
            Statement::failed(Failure::new(Reason::Cancelled, false).code(reason(task).unwrap_or_default()))
        }
        unknown => Statement::unknown_status(unknown),
    })
}

fn reason(task: &Value) -> Option<String> {
    first_text(task, &["failure_reason", "failReason"])
}

fn links(task: &Value, now: Timestamp) -> Links {
    let made_at = moment(&task["updated_at"]).unwrap_or(now);
    let mut links = Links::new(made_at, PROFILE.link_life);
    let result = &task["result"];
    match word(&result["type"]).as_deref() {
        Some("video") => links.add(Kind::Video, &result["urls"]),
        Some("image") => links.add(Kind::Image, &result["urls"]),
        _ => links.add_by_ending(&result["urls"]),
    }
    links
}

/// The failure in an envelope whose code is not 0. Unless it is a number like an HTTP status, `msg` says more than `code`.
fn refusal(answer: &Answer<'_>, body: &Value) -> Option<Failure> {
    let code = integer(&body["code"]).filter(|code| *code != 0)?;
    let message = first_text(body, &["msg", "message"]);
    if body["data"]["flagged"] == Value::Bool(true) {
        let failure = Failure::new(Reason::ContentModeration, false).code(code.to_string());
        return Some(failure.message(message.unwrap_or_default()));
    }
    Some(FAILURES.of_answer(answer.status, Some(code.to_string()), message))
}

fn api(settings: &ProviderSettings) -> Result<Api<'_>, InvalidSubmission> {
    Api::new(NAME, "Bearer", &PROFILE, settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_reached() {
        FAILURES.assert_that_every_row_is_reached();
    }

    #[test]
    fn statuses_and_reasons_are_judged() {
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
            let read = statement(&task, Timestamp::from_seconds(0));
            assert_eq!(read, Some(Statement::failed(expected)), "{status} {why:?}");
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
            let answer = Answer { status: 200, retry_after: None, body: text.as_bytes() };
            let SubmissionAnswer::Refused(failure) = MaxApi.read_submission(&answer) else { panic!("{text}") };
            assert_eq!((failure.reason, failure.retryable), (reason, retryable), "{text}");
        }
    }
}
