//! xAI's Grok Imagine, the video API.
//!
//! There are no callbacks: tasks are only polled. Three habits of the status call: an open task may be an empty 202; a video that
//! moderation rejected may be `done` with `respect_moderation: false`; and a task may end with HTTP 400, which says so once and for all.
//!
//! | fact | source |
//! |---|---|
//! | `POST /v1/videos/generations`, `/v1/videos/edits`, `/v1/videos/extensions`, `$.request_id` | confirmed: docs.x.ai/developers/model-capabilities/video/generation, vercel/ai packages/xai |
//! | no callback field | confirmed: xai-org/xai-sdk-python, the definitions of its messages |
//! | `GET /v1/videos/{request_id}`, whose response does not repeat the id; status words; a poll every 5 s | confirmed: docs.x.ai/developers/model-capabilities/video/generation |
//! | 202 for an open task | confirmed: vercel/ai, pull request 17887 |
//! | `respect_moderation: false` with any link or none; a video without a status word | inferred: tests of vercel/ai and of QuantumNous/new-api |
//! | HTTP 400 for a task that failed | inferred: tests of QuantumNous/new-api; whether it is ever transient is unknown |
//! | error codes of tasks | confirmed: docs.x.ai/developers/model-capabilities/video/generation, a newer version |
//! | forms and texts of other errors | inferred: public issues, and tests of vercel/ai and QuantumNous/new-api |
//! | links for 24 hours | inferred: a text in xai-org/xai-sdk-python; the page only calls them temporary |
//! | `usage.cost_in_usd_ticks`, 10^10 to the dollar | confirmed: xai-org/xai-sdk-python |
//! | cancellation, an id of ours, the response for an unknown id, a fresh link with another poll | unknown |
//! | the response where the file went to `output.upload_url` | unknown: without a link it counts as open |

use super::prelude::*;

pub(super) struct Grok;

const NAME: &str = "grok";

const PROFILE: Profile = Profile {
    title: "Grok Imagine",
    default_base_url: Some("https://api.x.ai"),
    callbacks: None,
    link_life: Duration::from_hours(24),
    // How long a video takes is not said. Chosen freely.
    first_poll: Duration::from_secs(30),
    // The page waits 5 s. Twice that, because two requests per second were seen as an account's limit.
    poll_interval: Duration::from_secs(10),
    // Nothing else reports the end. Chosen freely.
    max_poll_interval: Duration::from_mins(2),
    // The SDK gives up after 10 minutes. Chosen freely, and as long as a link lives.
    deadline: Duration::from_hours(24),
    cancellable: None,
    marker: None,
    usage: Some("an amount in USD"),
    confirmed: "endpoints; no callbacks; status words; 202 for an open task; polls every 5 s; error codes of tasks; cost",
    unconfirmed: "HTTP 400 as the end of a task; link life (24 h by the SDK's text); what an unknown id gives; texts of errors; first \
        poll, longest interval and deadline",
};

const FAILURES: Failures = Failures {
    rules: &[
        // Whatever else is said: a text about moderation may quote the prompt.
        words("moderation", Reason::ContentModeration),
        words("content policy", Reason::ContentModeration),
        words("safety", Reason::ContentModeration),
        words("api key", Reason::Unknown),
        // Under 403 and 429, with the codes of a missing permission and of a limited rate.
        words("credits", Reason::InsufficientCredits),
        words("spending limit", Reason::InsufficientCredits),
        words("free usage", Reason::InsufficientCredits),
    ],
    // Moderation is told by the text, whatever the code is.
    later: &[
        code("invalid_argument", Reason::InvalidParameters),
        code("failed_precondition", Reason::InvalidParameters),
        code("permission_denied", Reason::Unknown),
        code("service_unavailable", Reason::ProviderError).retryable(),
        code("internal_error", Reason::ProviderError).retryable(),
        code("resource-exhausted", Reason::RateLimited).retryable(),
    ],
    otherwise: (Reason::Unknown, Retry::IsPointless),
};

const VIDEOS: &str = "/v1/videos";

const ENDPOINTS: &[&str] = &["/v1/videos/generations", "/v1/videos/edits", "/v1/videos/extensions"];

impl Adapter for Grok {
    fn profile(&self) -> &'static Profile {
        &PROFILE
    }

    fn submission(
        &self,
        submission: &Submission<'_>,
        settings: &ProviderSettings,
        _: Timestamp,
    ) -> Result<Request, InvalidSubmission> {
        if !submission.body["output"]["upload_url"].is_null() {
            return Err(InvalidSubmission::NotSupported {
                field: "output.upload_url",
                why: "the video would go there, and reelhook copies it from a link",
            });
        }
        requests::unchanged(&api(settings)?, submission, requests::endpoint(submission, ENDPOINTS)?)
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
        requests::one_per_task(tasks, 0..tasks.len(), |task| {
            api.get(&format!("{VIDEOS}/{}", encoded(task.provider_task_id)))
        })
    }

    fn read_status(&self, response: &ProviderResponse, provider_task_id: &str, now: Timestamp) -> StatusResult {
        let body = object(&response.body).unwrap_or_default();
        if !is_about(&body, IDS, provider_task_id) {
            return responses::status_by_http_status(response);
        }
        match (response.status, refusal(response, &body)) {
            (200, _) => responses::status(task_status(&body, now)),
            (202, _) => responses::status(Some(task_status(&body, now).unwrap_or_else(TaskStatus::open))),
            (400, Some(failure)) if is_about_the_task(&failure) => {
                StatusResult::Task(TaskStatus::failed(of_the_task(failure)).with_usage(usage(&body)))
            }
            (_, Some(failure)) => responses::status_refused(response, failure),
            (_, None) => responses::status_by_http_status(response),
        }
    }

    fn status_id(&self, response: &ProviderResponse) -> Option<String> {
        first_id(&object(&response.body)?, IDS)
    }
}

/// In a submission's response only.
const IDS: &[&str] = &["request_id"];

fn task_status(task: &Value, now: Timestamp) -> Option<TaskStatus> {
    let failed = || {
        let (code, message) = error(task).unwrap_or_default();
        TaskStatus::failed(FAILURES.of_task(code, message))
    };
    let task_status = match status_word(&task["status"]).as_deref() {
        Some("pending") => responses::open_at(&task["progress"]),
        Some("done") => done(task, now),
        Some("failed") => failed(),
        Some("expired") => TaskStatus::failed(Failure::new(Reason::Expired, false)),
        Some(unknown) => TaskStatus::unknown_status(unknown),
        None if error(task).is_some() => failed(),
        None if task["video"].is_object() => done(task, now),
        None => return None,
    };
    Some(task_status.with_usage(usage(task)))
}

/// A video that moderation rejected is no success, whatever link comes with it.
fn done(task: &Value, now: Timestamp) -> TaskStatus {
    if task["video"]["respect_moderation"] == Value::Bool(false) {
        let message = "xAI says that the video does not respect moderation";
        return TaskStatus::failed(Failure::new(Reason::ContentModeration, false).message(message));
    }
    let mut links = Links::new(now, PROFILE.link_life);
    links.add(Kind::Video, &task["video"]["url"]);
    links.into_success()
}

/// What it cost, in dollars: the quotient of two whole numbers that a float holds exactly is the float that prints as their quotient.
fn usage(task: &Value) -> Usage {
    const TICKS_PER_DOLLAR: f64 = 1e10;
    let ticks = task["usage"]["cost_in_usd_ticks"].as_f64();
    Usage::default().with_amount(&json!(ticks.map(|ticks| ticks / TICKS_PER_DOLLAR)), &json!("USD"))
}

/// Code and message of an error: an object, or a text with a code beside it.
fn error(body: &Value) -> Option<(Option<String>, Option<String>)> {
    let error = &body["error"];
    let (code, message) = if error.is_object() { (&error["code"], &error["message"]) } else { (&body["code"], error) };
    text(message).or_else(|| text(code)).map(|_| (text(code), text(message)))
}

/// The failure of a call, and of the task where a status call says so.
fn refusal(response: &ProviderResponse, body: &Value) -> Option<Failure> {
    let (code, message) = error(body)?;
    Some(FAILURES.of_response(response.status, code, message))
}

/// Whether a status call with HTTP 400 failed because of the task, and not of the key or the account.
fn is_about_the_task(failure: &Failure) -> bool {
    !matches!(failure.reason, Reason::Unknown | Reason::InsufficientCredits)
}

/// A limited rate is a 429; what a 400 calls too many is the task's.
fn of_the_task(failure: Failure) -> Failure {
    match failure.reason {
        Reason::RateLimited => Failure { reason: Reason::InvalidParameters, retryable: false, ..failure },
        _ => failure,
    }
}

fn api(settings: &ProviderSettings) -> Result<Api<'_>, InvalidSubmission> {
    Api::new(NAME, "Bearer", &PROFILE, settings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Report;

    const NOW: Timestamp = Timestamp::from_seconds(1_790_000_000);

    fn polled(status: u16, body: &Value) -> StatusResult {
        Grok.read_status(&ProviderResponse::new(status, body.to_string()), "r-1", NOW)
    }

    #[test]
    fn what_a_400_says_of_the_task_ends_it_whatever_words_it_uses() {
        for (error, reason) in [
            ("Too many reference images", Reason::InvalidParameters),
            ("The prompt 'roll the end credits' was rejected by the safety system", Reason::ContentModeration),
            ("'api key' violates our content policy", Reason::ContentModeration),
        ] {
            let read = polled(400, &json!({"code": "invalid-argument", "error": error}));
            let StatusResult::Task(TaskStatus::Finished(Report::Failed(failure))) = read else {
                panic!("{error}: {read:?}")
            };
            assert_eq!((failure.reason, failure.retryable), (reason, false), "{error}");
        }
    }

    #[test]
    fn every_row_is_reachable() {
        FAILURES.assert_every_row_is_reachable();
    }

    #[test]
    fn failed_tasks_are_classified_by_their_text_then_their_code() {
        for (code, message, reason, retryable) in [
            ("invalid_argument", "no", Reason::InvalidParameters, false),
            ("invalid_argument", "blocked by content moderation", Reason::ContentModeration, false),
            ("failed_precondition", "no", Reason::InvalidParameters, false),
            ("permission_denied", "no", Reason::Unknown, false),
            ("permission_denied", "against our content policy", Reason::ContentModeration, false),
            ("service_unavailable", "no", Reason::ProviderError, true),
            ("internal_error", "no", Reason::ProviderError, true),
            ("internal_error", "the safety system said no", Reason::ContentModeration, false),
            ("else", "no", Reason::Unknown, false),
        ] {
            let task = json!({"status": "failed", "error": {"code": code, "message": message}});
            let expected = TaskStatus::failed(Failure::new(reason, retryable).code(code).message(message));
            assert_eq!(polled(200, &task), StatusResult::Task(expected), "{code} {message}");
        }
    }

    #[test]
    fn a_video_that_goes_elsewhere_is_not_submitted() {
        let body = json!({"prompt": "p", "output": {"upload_url": "https://bucket.example.com/?X-Amz-Signature=s"}});
        let submission = Submission { body: &body, endpoint: None, callback_url: "", marker: "m" };
        let settings = serde_json::from_value(json!({"api_key": "k"})).expect("valid settings");
        let refused = Grok.submission(&submission, &settings, NOW).expect_err("nothing would be copied");
        assert!(matches!(refused, InvalidSubmission::NotSupported { field: "output.upload_url", .. }), "{refused}");
    }

    /// The same statuses and codes mean many things.
    #[test]
    fn calls_are_classified_by_their_text_then_their_http_status() {
        for (status, code, message, reason, retryable) in [
            (400, "invalid-argument", "duration", Reason::InvalidParameters, false),
            (400, "invalid-argument", "Incorrect API key provided", Reason::Unknown, false),
            (400, "invalid-argument", "rejected by content moderation", Reason::ContentModeration, false),
            (400, "invalid-argument", "Invalid API key", Reason::Unknown, false),
            (400, "invalid-argument", "'end credits' was rejected by moderation", Reason::ContentModeration, false),
            (401, "unauthenticated", "no key", Reason::Unknown, false),
            (403, "unauthenticated:bad-credentials", "no key", Reason::Unknown, false),
            (403, "permission-denied", "Your team has used all its credits", Reason::InsufficientCredits, false),
            (403, "permission-denied", "monthly spending limit reached", Reason::InsufficientCredits, false),
            (403, "permission-denied", "this model", Reason::Unknown, false),
            (404, "not-found", "The model does not exist", Reason::InvalidParameters, false),
            (429, "resource-exhausted", "too many requests", Reason::RateLimited, true),
            (429, "resource-exhausted", "The model is at capacity", Reason::RateLimited, true),
            (429, "resource-exhausted", "All free usage is gone", Reason::InsufficientCredits, false),
            (500, "internal", "oops", Reason::ProviderError, true),
        ] {
            let expected = Some(Failure::new(reason, retryable).code(code).message(message));
            for body in [
                json!({"code": code, "error": message}),
                json!({"error": {"message": message, "type": "t", "param": null, "code": code}}),
            ] {
                assert_eq!(refusal(&ProviderResponse::new(status, ""), &body), expected, "{status} {body}");
            }
        }
    }

    #[test]
    fn a_400_ends_a_task_unless_it_is_about_the_key_or_the_account() {
        for (error, is_final) in [
            (json!("the prompt is missing"), true),
            (json!("rejected by moderation"), true),
            (json!("it timed out"), true),
            (json!("Incorrect API key provided"), false),
            (json!("no credits left"), false),
            (json!(null), false),
        ] {
            let read = polled(400, &json!({"error": error}));
            assert_eq!(matches!(read, StatusResult::Task(TaskStatus::Finished(_))), is_final, "{error}: {read:?}");
            assert_eq!(matches!(read, StatusResult::Refused { .. }), !is_final, "{error}: {read:?}");
        }
    }

    #[test]
    fn a_rejected_video_is_no_success_with_any_link_or_none() {
        for url in [json!(""), json!(null), json!("https://vidgen.x.ai/v.mp4")] {
            for status in [json!("done"), json!(null)] {
                let task = json!({"status": status, "video": {"url": url, "respect_moderation": false}});
                let StatusResult::Task(TaskStatus::Finished(report)) = polled(200, &task) else { panic!("{task}") };
                let reason = report.failure().map(|failure| failure.reason);
                assert_eq!(reason, Some(Reason::ContentModeration), "{task}");
            }
        }
    }

    #[test]
    fn costs_are_exact() {
        let amount = |ticks: Value| json!(usage(&json!({"usage": {"cost_in_usd_ticks": ticks}})).amount);
        for (ticks, dollars) in [
            (json!(0), "0.0"),
            (json!(1), "1e-10"),
            (json!(3_000_000_000_u64), "0.3"),
            (json!(4_000_000_000_u64), "0.4"),
            (json!(7_000_000_001_u64), "0.7000000001"),
            (json!(123_456_789_012_345_u64), "12345.6789012345"),
            (json!(10_000_000_000_u64), "1.0"),
            (json!(null), "null"),
            (json!(-1), "null"),
        ] {
            assert_eq!(amount(ticks.clone()).to_string(), dollars, "{ticks}");
        }
    }
}
