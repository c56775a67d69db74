//! Runway, its developer API.
//!
//! There are no callbacks: tasks are only polled. `THROTTLED` is healthy and can last, because a task over the account's concurrency waits
//! instead of being refused. A link says itself when it ends, and each status response has a fresh one. That the account is empty comes as
//! HTTP 400.
//!
//! | fact | source |
//! |---|---|
//! | endpoints, `$.id`; no callback field in any of them | confirmed: runwayml/sdk-node, src/resources |
//! | `X-Runway-Version` on every call | confirmed: runwayml/sdk-node, src/client.ts |
//! | `X-Runway-On-Behalf-Of`, without which some accounts get a 400 | single observation |
//! | status words, `output`, `failure`, `failureCode`; a poll every 5 s at most | confirmed: runwayml/sdk-node, src/resources/tasks.ts |
//! | links for 24 to 48 hours, a fresh one with each response | confirmed: docs.dev.runwayml.com/assets/outputs |
//! | the end of a link in its `_jwt` | inferred: links on public pages |
//! | `DELETE /v1/tasks/{id}` stops an open task, and deletes one that has ended, with its files | confirmed: runwayml/sdk-node, src/resources/tasks.ts |
//! | a cancelled task is a 404 from then on | single observation; whether `CANCELLED` is ever said is unknown |
//! | failure codes | confirmed: docs.dev.runwayml.com/errors/task-failures |
//! | HTTP statuses | confirmed: docs.dev.runwayml.com/errors/errors; the body of an error is a single observation |
//! | `cost.credits` of a task that has ended | single observation |
//! | how long a task can be polled; the body for an unknown id | unknown |

use super::prelude::*;

pub(super) struct Runway;

const NAME: &str = "runway";

const PROFILE: Profile = Profile {
    title: "Runway",
    default_base_url: Some("https://api.dev.runwayml.com"),
    callbacks: None,
    // "24-48 hours"; the links say it more exactly.
    link_life: Duration::from_hours(24),
    // A clip of 5 s took 19 s.
    first_poll: Duration::from_secs(20),
    // Not more often than every 5 s per task; twice that, as the account's tasks share one rate.
    poll_interval: Duration::from_secs(10),
    // Nothing else reports the end. Chosen freely.
    max_poll_interval: Duration::from_mins(2),
    // Chosen freely: how long a task can be throttled is not said.
    deadline: Duration::from_hours(24),
    cancellable: Some("until it ends"),
    marker: None,
    usage: Some("credits"),
    confirmed: "endpoints; no callbacks; status words; polls every 5 s at most; links for 24 to 48 h; failure codes; cancellation",
    unconfirmed: "the end of a link in its token; the body of an error; cost; that a cancelled task is a 404; first poll, longest \
        interval and deadline",
};

/// By prefix: the last part of a code is for Runway's support.
const FAILURES: Failures = Failures {
    rules: &[
        prefix("SAFETY", Reason::ContentModeration),
        prefix("INPUT_PREPROCESSING.SAFETY", Reason::ContentModeration),
        prefix("INPUT_PREPROCESSING.INTERNAL", Reason::ProviderError).retryable(),
        prefix("INTERNAL", Reason::ProviderError).retryable(),
        prefix("ASSET.INVALID", Reason::InvalidParameters),
        prefix("THIRD_PARTY.UNAVAILABLE", Reason::ProviderError).retryable(),
        words("enough credits", Reason::InsufficientCredits),
    ],
    // No code at all. An error response has its HTTP status for one.
    later: &[code("", Reason::ProviderError).retryable()],
    otherwise: (Reason::Unknown, Retry::IsPointless),
};

const VERSION: &str = "2024-11-06";

const TASKS: &str = "/v1/tasks";

const ENDPOINTS: &[&str] = &[
    "/v1/text_to_video",
    "/v1/image_to_video",
    "/v1/video_to_video",
    "/v1/character_performance",
    "/v1/video_upscale",
    "/v1/video_to_hdr",
    "/v1/generate/video",
];

impl Adapter for Runway {
    fn profile(&self) -> &'static Profile {
        &PROFILE
    }

    fn submission(
        &self,
        submission: &Submission<'_>,
        settings: &ProviderSettings,
        _: Timestamp,
    ) -> Result<Request, InvalidSubmission> {
        let endpoint = requests::named_endpoint(submission, ENDPOINTS[0], |endpoint| ENDPOINTS.contains(&endpoint))?;
        requests::unchanged(&api(settings)?, submission, endpoint)
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
        requests::one_per_task(tasks, 0..tasks.len(), |task| api.get(&path(task)))
    }

    fn read_status(&self, response: &ProviderResponse, provider_task_id: &str, now: Timestamp) -> StatusResult {
        let Some(body) = object(&response.body) else { return responses::status_by_http_status(response) };
        if let Some(failure) = refusal(response, &body) {
            return responses::status_refused(response, failure);
        }
        if !response.is_success() || !is_about(&body, IDS, provider_task_id) {
            return responses::status_by_http_status(response);
        }
        responses::status(task_status(&body, now))
    }

    /// The same call deletes a task that has ended, with its files: one that ends between the status and this call is lost.
    fn cancellation(
        &self,
        task: &PolledTask<'_>,
        status: &ProviderResponse,
        settings: &ProviderSettings,
    ) -> Option<Request> {
        let body = object(&status.body)?;
        let is_open = has_id(&body, IDS, task.provider_task_id)
            && status_word(&body["status"]).is_some_and(|word| OPEN.contains(&word.as_str()));
        is_open.then(|| api(settings).ok().map(|api| api.delete(&path(task))))?
    }

    fn forgets_cancelled(&self) -> bool {
        true
    }

    fn read_cancellation(&self, response: &ProviderResponse) -> Option<Failure> {
        let body = object(&response.body).unwrap_or_default();
        responses::cancellation(response, refusal(response, &body))
    }

    fn status_id(&self, response: &ProviderResponse) -> Option<String> {
        first_id(&object(&response.body)?, IDS)
    }
}

const IDS: &[&str] = &["id"];

const OPEN: &[&str] = &["pending", "throttled", "running"];

fn path(task: &PolledTask<'_>) -> String {
    format!("{TASKS}/{}", encoded(task.provider_task_id))
}

fn task_status(task: &Value, now: Timestamp) -> Option<TaskStatus> {
    let task_status = match status_word(&task["status"])?.as_str() {
        open if OPEN.contains(&open) => responses::open_at(&percent(&task["progress"])),
        "succeeded" => links(task, now).into_success(),
        "failed" => TaskStatus::failed(FAILURES.of_task(text(&task["failureCode"]), text(&task["failure"]))),
        "cancelled" | "canceled" => TaskStatus::failed(Failure::new(Reason::Cancelled, false)),
        unknown => TaskStatus::unknown_status(unknown),
    };
    Some(task_status.with_usage(Usage::of_credits(&task["cost"]["credits"])))
}

/// A share of one, as a percentage.
fn percent(share: &Value) -> Value {
    json!(share.as_f64().map(|share| (share * 100.0).round()))
}

/// The files of a task, with links that this response is the origin of.
fn links(task: &Value, now: Timestamp) -> Links {
    let mut links = Links::new(now, PROFILE.link_life);
    links.add_by_extension(&task["output"]);
    links
}

/// The failure of a call. What was wrong with a body is said by the first of its issues.
fn refusal(response: &ProviderResponse, body: &Value) -> Option<Failure> {
    let error = first_text(body, &["error", "message"]).or_else(|| text(&body["error"]["message"]))?;
    let failure = FAILURES.of_response(response.status, Some(response.status.to_string()), Some(error.clone()));
    Some(match text(&body["issues"][0]["message"]) {
        Some(issue) => failure.message(format!("{error}: {issue}")),
        None => failure,
    })
}

fn api(settings: &ProviderSettings) -> Result<Api<'_>, InvalidSubmission> {
    let api = Api::new(NAME, "Bearer", &PROFILE, settings)?.with_header("x-runway-version", VERSION);
    Ok(match &settings.account_id {
        Some(user) => api.with_header("x-runway-on-behalf-of", user),
        None => api,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_reachable() {
        FAILURES.assert_every_row_is_reachable();
    }

    #[test]
    fn failed_tasks_are_classified_by_the_prefix_of_their_code() {
        for (code, failure, reason, retryable) in [
            ("SAFETY", "no", Reason::ContentModeration, false),
            ("SAFETY.INPUT.MULTIMODAL", "no", Reason::ContentModeration, false),
            ("SAFETY.OUTPUT.VIDEO", "no", Reason::ContentModeration, false),
            ("INPUT_PREPROCESSING.SAFETY.TEXT", "no", Reason::ContentModeration, false),
            ("INPUT_PREPROCESSING.INTERNAL", "no", Reason::ProviderError, true),
            ("INTERNAL", "no", Reason::ProviderError, true),
            ("INTERNAL.BAD_OUTPUT.01", "no", Reason::ProviderError, true),
            ("INTERNAL.BAD_OUTPUT.CODE01", "no", Reason::ProviderError, true),
            ("ASSET.INVALID", "no", Reason::InvalidParameters, false),
            ("THIRD_PARTY.UNAVAILABLE", "no", Reason::ProviderError, true),
            ("QUEUE.EVICTED", "no", Reason::Unknown, false),
            ("", "no", Reason::ProviderError, true),
            ("", "rejected by content moderation", Reason::ContentModeration, false),
        ] {
            let task = json!({"status": "FAILED", "failure": failure, "failureCode": code});
            let expected = TaskStatus::failed(Failure::new(reason, retryable).code(code).message(failure));
            assert_eq!(task_status(&task, Timestamp::from_seconds(0)), Some(expected), "{code} {failure}");
        }
    }

    #[test]
    fn calls_are_classified_by_their_http_status_and_words() {
        for (status, error, reason, retryable) in [
            (400, "Validation of body failed", Reason::InvalidParameters, false),
            (400, "You do not have enough credits to run this task.", Reason::InsufficientCredits, false),
            (400, "Not enough credits", Reason::InsufficientCredits, false),
            (401, "The key is not valid", Reason::Unknown, false),
            (404, "Not found", Reason::InvalidParameters, false),
            (405, "Method", Reason::InvalidParameters, false),
            (429, "The daily limit of tasks is reached", Reason::RateLimited, true),
            (502, "Load", Reason::ProviderError, true),
            (503, "Load", Reason::ProviderError, true),
            (504, "Load", Reason::Timeout, true),
        ] {
            let expected = Failure::new(reason, retryable).code(status.to_string()).message(error);
            for body in [json!({"error": error}), json!({"message": error}), json!({"error": {"message": error}})] {
                let failure = refusal(&ProviderResponse::new(status, ""), &body);
                assert_eq!(failure, Some(expected.clone()), "{status} {body}");
            }
        }
    }

    #[test]
    fn progress_is_a_share_of_one_and_may_be_anything() {
        for (progress, percent) in
            [(json!(0.4), json!(40)), (json!(1), json!(100)), (json!(null), json!(null)), (json!("?"), json!(null))]
        {
            let task = json!({"status": "RUNNING", "progress": progress});
            let expected = responses::open_at(&percent);
            assert_eq!(task_status(&task, Timestamp::from_seconds(0)), Some(expected), "{progress}");
        }
    }

    #[test]
    fn an_account_that_acts_for_others_says_for_whom_on_every_call() {
        let task = PolledTask { provider_task_id: "t-1", endpoint: None };
        for (settings, expected) in
            [(json!({"api_key": "k", "account_id": "user-1"}), Some("user-1")), (json!({"api_key": "k"}), None)]
        {
            let settings = serde_json::from_value(settings).expect("valid settings");
            let status = ProviderResponse::new(200, json!({"id": "t-1", "status": "RUNNING"}).to_string());
            let polled = Runway.status_requests(&[task], &settings, Timestamp::from_seconds(0));
            let cancelled = Runway.cancellation(&task, &status, &settings).expect("a request");
            for request in [&polled[0].request, &cancelled] {
                let mut headers = request.headers.iter();
                let sent = headers.find(|(name, _)| *name == "x-runway-on-behalf-of").map(|(_, value)| value.expose());
                assert_eq!(sent, expected);
            }
        }
    }

    #[test]
    fn only_what_is_known_to_be_open_is_cancelled() {
        let settings = serde_json::from_value(json!({"api_key": "k"})).expect("valid settings");
        let task = PolledTask { provider_task_id: "t-1", endpoint: None };
        let cancellation = |id: &str, status: &str| {
            let body = json!({"id": id, "status": status}).to_string();
            Runway.cancellation(&task, &ProviderResponse::new(200, body), &settings)
        };
        for open in ["PENDING", "THROTTLED", "RUNNING"] {
            let request = cancellation("t-1", open).expect("a request");
            assert_eq!(request.url, "https://api.dev.runwayml.com/v1/tasks/t-1");
            assert!(
                request.headers.iter().any(|(name, value)| *name == "x-runway-version" && value.expose() == VERSION)
            );
            assert_eq!(cancellation("t-2", open), None, "another task");
        }
        for other in ["SUCCEEDED", "FAILED", "CANCELLED", "MODERATING", ""] {
            assert_eq!(cancellation("t-1", other), None, "{other}");
        }
        assert_eq!(Runway.read_cancellation(&ProviderResponse::new(204, "")), None);
    }
}
