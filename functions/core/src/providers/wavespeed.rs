//! `WaveSpeed` AI.
//!
//! The callback URL is a query parameter of the submission. A callback's body is flat, submission and status have the same in an envelope,
//! whose code stays 200 for a task that failed. The signature has the headers of Standard Webhooks and is none: see
//! [`wavespeed_hmac`].
//!
//! | fact | source |
//! |---|---|
//! | `POST /api/v3/{model}?webhook=…`, `$.data.id` | confirmed: wavespeed.ai/docs/how-to-use-webhooks, the models' pages |
//! | flat callback for `completed` and `failed`; up to three retries | confirmed: wavespeed.ai/docs/how-to-use-webhooks |
//! | string to sign, hexadecimal, `v3`, the secret as text; 300 s | confirmed: wavespeed.ai/docs/verify-webhooks; the worked example on that page does not verify |
//! | `GET /api/v3/predictions/{id}/result`; predictions can be read for 7 days | confirmed: wavespeed.ai/docs/get-result |
//! | codes of failed tasks | confirmed: wavespeed.ai/docs/error-codes; the retry column is inferred |
//! | `pending`, `cancelled`, `timeout`, `deleted` | in the vendor's SDKs only |
//! | files live as long as predictions | inferred |
//! | timeout of a delivery, what a 4xx does, the status of an unknown id | unknown |

use super::prelude::*;
use crate::signature::wavespeed_hmac;

pub(super) struct WaveSpeed;

const NAME: &str = "wavespeed";

const PROFILE: Profile = Profile {
    title: "WaveSpeed",
    default_base_url: Some("https://api.wavespeed.ai"),
    callbacks: Some(Callbacks {
        // Not documented. The shortest timeout that any provider documents for reports, to be safe.
        response_timeout: Duration::from_secs(5),
        reports_failures: true,
        verified: "HMAC over the body, not Standard Webhooks (opt-in)",
        retries: "up to 3",
    }),
    // The prediction's own life: an upper bound.
    link_life: Duration::from_hours(168),
    first_poll: FIRST_POLL,
    poll_interval: Duration::from_secs(20),
    max_poll_interval: Duration::from_mins(5),
    // Chosen freely: hundreds of times the usual render, well within the 7 days.
    deadline: Duration::from_hours(24),
    cancellable: None,
    marker: None,
    usage: None,
    confirmed: "submission; callback and status bodies; string to sign; three retries; failure codes; predictions for 7 days",
    unconfirmed: "response timeout; link life; what a 4xx does; which failed tasks are retryable; poll schedule and deadline",
};

const FAILURES: Failures = Failures {
    rules: &[
        code("1200", Reason::ContentModeration),
        code("1400", Reason::InvalidParameters),
        code("1401", Reason::InvalidParameters),
        code("1402", Reason::InvalidParameters),
        code("1403", Reason::ProviderError).retryable(),
        code("1405", Reason::ProviderError).retryable(),
        code("5000", Reason::ProviderError).retryable(),
        code("5003", Reason::ProviderError).retryable(),
        code("5004", Reason::Timeout).retryable(),
        words("balance", Reason::InsufficientCredits),
        words("top up", Reason::InsufficientCredits),
        words("top-up", Reason::InsufficientCredits),
    ],
    later: &[],
    otherwise: (Reason::ProviderError, Retry::Helps),
};

const MODELS: &str = "/api/v3/";

impl Adapter for WaveSpeed {
    fn profile(&self) -> &'static Profile {
        &PROFILE
    }

    fn authenticate(
        &self,
        request: &CallbackRequest<'_>,
        settings: &ProviderSettings,
        now: Timestamp,
    ) -> Result<Authenticity, Refusal> {
        if settings.signing_secrets.is_empty() {
            return Ok(Authenticity::Unverified);
        }
        wavespeed_hmac(&request.headers, request.body, &settings.signing_secrets, now)?;
        Ok(Authenticity::SignedBody)
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
        let endpoint =
            requests::named_endpoint(submission, "/api/v3/kwaivgi/kling-v2.5-turbo-pro/text-to-video", |endpoint| {
                let model = endpoint.strip_prefix(MODELS);
                model.is_some_and(|model| {
                    model.contains('/') && !["predictions/", "webhook/"].iter().any(|own| model.starts_with(own))
                })
            })?;
        let path = format!("{endpoint}?webhook={}", encoded(submission.callback_url));
        requests::unchanged(&api(settings)?, submission, &path)
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
            api.get(&format!("{MODELS}predictions/{}/result", encoded(task.provider_task_id)))
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

const IDS: &[&str] = &["id"];

fn task_status(task: &Value, now: Timestamp) -> Option<TaskStatus> {
    let failure = || FAILURES.of_task(text(&task["code"]).filter(|code| code != "0"), text(&task["error"]));
    Some(match status_word(&task["status"])?.as_str() {
        "created" | "pending" | "processing" | "queued" => TaskStatus::open(),
        "completed" => links(task, now).into_success(),
        "failed" => TaskStatus::failed(failure()),
        "cancelled" | "canceled" => {
            TaskStatus::failed(Failure { reason: Reason::Cancelled, retryable: false, ..failure() })
        }
        "timeout" => TaskStatus::failed(Failure { reason: Reason::Timeout, retryable: true, ..failure() }),
        "deleted" => TaskStatus::failed(Failure { reason: Reason::Expired, retryable: true, ..failure() }),
        unknown => TaskStatus::unknown_status(unknown),
    })
}

/// The files of a task: links, or objects with one. Where base64 was asked for there is no link.
fn links(task: &Value, now: Timestamp) -> Links {
    let mut links = Links::new(timestamp(&task["created_at"]).unwrap_or(now), PROFILE.link_life);
    for output in items(&task["outputs"]) {
        links.add_by_extension(if output.is_object() { &output["url"] } else { output });
    }
    links
}

/// The failure of a call. The code of an envelope repeats the HTTP status; that of a task stands inside.
fn refusal(response: &ProviderResponse, body: &Value) -> Option<Failure> {
    let code = integer(&body["code"]).filter(|code| !matches!(code, 0 | 200));
    // An envelope with a task is about the task.
    if code.is_none() || in_data(body)["status"].is_string() {
        return None;
    }
    Some(FAILURES.of_response(
        response.status,
        code.map(|code| code.to_string()),
        first_text(body, &["message", "msg"]),
    ))
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
    fn failed_tasks_are_classified_by_code_then_words() {
        for (code, error, reason, retryable) in [
            ("1200", "input did not pass the content check", Reason::ContentModeration, false),
            ("1400", "prompt is missing", Reason::InvalidParameters, false),
            ("1401", "duration", Reason::InvalidParameters, false),
            ("1402", "media could not be read", Reason::InvalidParameters, false),
            ("1403", "execution", Reason::ProviderError, true),
            ("1405", "task", Reason::ProviderError, true),
            ("5000", "internal", Reason::ProviderError, true),
            ("5003", "unavailable", Reason::ProviderError, true),
            ("5004", "slow", Reason::Timeout, true),
            ("", "nsfw content", Reason::ContentModeration, false),
            ("", "the job timeout was reached", Reason::Timeout, true),
            ("", "boom", Reason::ProviderError, true),
        ] {
            let failure =
                FAILURES.of_task(Some(code.into()).filter(|code: &String| !code.is_empty()), Some(error.into()));
            assert_eq!((failure.reason, failure.retryable), (reason, retryable), "{code} {error}");
        }
    }

    #[test]
    fn calls_are_classified_by_their_http_status_and_words() {
        for (status, message, reason, retryable) in [
            (400, "bad", Reason::InvalidParameters, false),
            (401, "Invalid API key", Reason::Unknown, false),
            (403, "Please top up your account", Reason::InsufficientCredits, false),
            (403, "A top-up is needed", Reason::InsufficientCredits, false),
            (403, "No balance", Reason::InsufficientCredits, false),
            (403, "no access", Reason::Unknown, false),
            (429, "Too many requests, please slow down", Reason::RateLimited, true),
            (500, "oops", Reason::ProviderError, true),
        ] {
            let body = json!({"code": status, "message": message});
            let failure = refusal(&ProviderResponse::new(status, ""), &body).expect("a refusal");
            assert_eq!((failure.reason, failure.retryable), (reason, retryable), "{status} {message}");
        }
        // A wait that timed out: the task still runs.
        let body = json!({"code": 5004, "message": "timeout", "data": {"id": "a", "status": "processing"}});
        assert_eq!(refusal(&ProviderResponse::new(200, ""), &body), None);
    }
}
