//! Alibaba Wan, by `DashScope` (Model Studio): asynchronous video tasks.
//!
//! A submission cannot name a callback URL. A rule of an account's `EventBridge` can push an event when any of its tasks ends, which
//! reelhook does not use: the event has no link, and a status poll is needed all the same. Task and link live 24 hours.
//!
//! | fact | source |
//! |---|---|
//! | `POST /api/v1/services/aigc/video-generation/video-synthesis`, older models `…/image2video/video-synthesis`; hosts by region | confirmed: Model Studio's API reference of text- and image-to-video |
//! | `X-DashScope-Async: enable`, without which it is a 403 | confirmed: the same |
//! | `$.output.task_id`; states; link and task for 24 hours, then `UNKNOWN`; 20 calls per second; a poll every 15 s | confirmed: the same and Model Studio's page on managing asynchronous tasks |
//! | cancellation while `PENDING` only | confirmed: that page |
//! | `usage.duration` is what is charged, in seconds, of successes only | confirmed: the API reference; older models have `usage.video_duration`, inferred |
//! | no callback URL in a submission; the event without a link | confirmed: help.aliyun.com/en/model-studio/async-task-api |
//! | codes, one list for calls and tasks | confirmed: Model Studio's error codes; the retry column is inferred |
//! | `Expires` in the link is its end; times have no zone and are not read | links in public logs; UTC+8 by the pages, outside Beijing unknown |
//! | `CANCELLED`; the HTTP status of `UNKNOWN`, 200 in all samples | inferred |

use super::prelude::*;

pub(super) struct Wan;

const NAME: &str = "wan";

const PROFILE: Profile = Profile {
    title: "Wan (DashScope)",
    // Outside China; `https://dashscope.aliyuncs.com` in Beijing, `https://dashscope-us.aliyuncs.com` in the US. Key, model and host are
    // of one region.
    default_base_url: Some("https://dashscope-intl.aliyuncs.com"),
    callbacks: None,
    // The link itself has the exact time.
    link_life: Duration::from_hours(24),
    // "1 to 5 minutes", and nothing else reports the end.
    first_poll: Duration::from_mins(1),
    poll_interval: Duration::from_secs(15),
    max_poll_interval: Duration::from_mins(2),
    // Then the provider has forgotten the task.
    deadline: Duration::from_hours(24),
    cancellable: Some("while pending"),
    marker: None,
    usage: Some("seconds"),
    confirmed: "submission; no callbacks by request; states; polls every 15 s; tasks and links for 24 h; cancellation; charged \
        seconds; error codes",
    unconfirmed: "HTTP status of an unknown id; which failed tasks are retryable; first poll and longest interval",
};

const FAILURES: Failures = Failures {
    rules: &[
        // The media could not be fetched for the check.
        code("InvalidParameter.DataInspection", Reason::InvalidParameters),
        prefix("DataInspectionFailed", Reason::ContentModeration),
        prefix("IPInfringementSuspect", Reason::ContentModeration),
        prefix("InvalidParameter", Reason::InvalidParameters),
        prefix("InvalidImage", Reason::InvalidParameters),
        prefix("InvalidVideo", Reason::InvalidParameters),
        prefix("InvalidURL", Reason::InvalidParameters),
        prefix("ModelNotFound", Reason::InvalidParameters),
        // Of the key, the workspace or the model.
        prefix("InvalidApiKey", Reason::Unknown),
        part("AccessDenied", Reason::Unknown),
        prefix("Arrearage", Reason::InsufficientCredits),
        prefix("AllocationQuota", Reason::InsufficientCredits),
        prefix("Throttling", Reason::RateLimited).retryable(),
        prefix("InternalError", Reason::ProviderError).retryable(),
        prefix("SystemError", Reason::ProviderError).retryable(),
        prefix("RequestTimeOut", Reason::Timeout).retryable(),
    ],
    later: &[],
    // Only successes are charged.
    otherwise: (Reason::Unknown, Retry::Helps),
};

const ENDPOINTS: &[&str] = &[
    "/api/v1/services/aigc/video-generation/video-synthesis",
    // Older models.
    "/api/v1/services/aigc/image2video/video-synthesis",
];

const TASKS: &str = "/api/v1/tasks";

impl Adapter for Wan {
    fn profile(&self) -> &'static Profile {
        &PROFILE
    }

    fn submission(
        &self,
        submission: &Submission<'_>,
        settings: &ProviderSettings,
        _: Timestamp,
    ) -> Result<Request, InvalidSubmission> {
        let mut request = requests::unchanged(&api(settings)?, submission, requests::endpoint(submission, ENDPOINTS)?)?;
        request.headers.push(("x-dashscope-async", Secret::new("enable")));
        // Files that were uploaded to DashScope's own temporary storage, which it reads only when told so.
        if names_an_upload(submission.body) {
            request.headers.push(("x-dashscope-ossresourceresolve", Secret::new("enable")));
        }
        Ok(request)
    }

    fn read_submission(&self, response: &ProviderResponse) -> SubmissionResult {
        let body = object(&response.body).unwrap_or_default();
        responses::submission(response, first_id(&body["output"], IDS), refusal(response, &body))
    }

    fn status_requests(
        &self,
        tasks: &[PolledTask<'_>],
        settings: &ProviderSettings,
        _: Timestamp,
    ) -> Vec<StatusRequest> {
        let Ok(api) = api(settings) else { return vec![] };
        requests::one_per_task(tasks, 0..tasks.len(), |task| {
            api.get(&format!("{TASKS}/{}", encoded(task.provider_task_id)))
        })
    }

    fn read_status(&self, response: &ProviderResponse, provider_task_id: &str, now: Timestamp) -> StatusResult {
        let Some(body) = object(&response.body) else { return responses::status_by_http_status(response) };
        if let Some(failure) = refusal(response, &body) {
            return responses::status_refused(response, failure);
        }
        let task = &body["output"];
        if !response.is_success() || !is_about(task, IDS, provider_task_id) {
            return responses::status_by_http_status(response);
        }
        match status_word(&task["task_status"]).as_deref() {
            // There is no such task, or it is older than a day.
            Some("unknown") => StatusResult::NotFound,
            _ => responses::status(task_status(&body, now)),
        }
    }

    fn cancellation(
        &self,
        task: &PolledTask<'_>,
        status: &ProviderResponse,
        settings: &ProviderSettings,
    ) -> Option<Request> {
        let polled = &object(&status.body)?["output"];
        let is_pending = has_id(polled, IDS, task.provider_task_id)
            && status_word(&polled["task_status"]).as_deref() == Some("pending");
        let path = format!("{TASKS}/{}/cancel", encoded(task.provider_task_id));
        is_pending.then(|| api(settings).ok().map(|api| api.post(&path, &json!({}))))?
    }

    fn read_cancellation(&self, response: &ProviderResponse) -> Option<Failure> {
        let body = object(&response.body).unwrap_or_default();
        responses::cancellation(response, refusal(response, &body))
    }

    fn status_id(&self, response: &ProviderResponse) -> Option<String> {
        first_id(&object(&response.body)?["output"], IDS)
    }
}

const IDS: &[&str] = &["task_id"];

/// Whether a field anywhere in the body is an `oss://` URL.
fn names_an_upload(value: &Value) -> bool {
    match value {
        Value::String(text) => text.starts_with("oss://"),
        Value::Array(values) => values.iter().any(names_an_upload),
        Value::Object(fields) => fields.values().any(names_an_upload),
        _ => false,
    }
}

fn task_status(body: &Value, now: Timestamp) -> Option<TaskStatus> {
    let task = &body["output"];
    let failure = || FAILURES.of_task(text(&task["code"]), text(&task["message"]));
    let task_status = match status_word(&task["task_status"])?.as_str() {
        "pending" | "running" => TaskStatus::open(),
        "succeeded" => {
            let mut links = Links::new(now, PROFILE.link_life);
            links.add(Kind::Video, &task["video_url"]);
            links.into_success()
        }
        "failed" => TaskStatus::failed(failure()),
        "canceled" | "cancelled" => {
            TaskStatus::failed(Failure { reason: Reason::Cancelled, retryable: false, ..failure() })
        }
        unknown => TaskStatus::unknown_status(unknown),
    };
    let usage = &body["usage"];
    let charged = ["duration", "video_duration"].into_iter().map(|field| &usage[field]).find(|value| !value.is_null());
    Some(task_status.with_usage(Usage::default().with_seconds(charged.unwrap_or(&Value::Null))))
}

/// The failure of a call, whose code stands outside of the output. On a poll it says nothing about the task.
fn refusal(response: &ProviderResponse, body: &Value) -> Option<Failure> {
    if !body["output"]["task_status"].is_null() {
        return None;
    }
    Some(FAILURES.of_response(response.status, Some(text(&body["code"])?), text(&body["message"])))
}

fn api(settings: &ProviderSettings) -> Result<Api<'_>, InvalidSubmission> {
    Ok(Api::new(NAME, "Bearer", &PROFILE, settings)?.without_suffix("/api/v1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_790_330_400);

    #[test]
    fn every_row_is_reachable() {
        FAILURES.assert_every_row_is_reachable();
    }

    /// One list for the error of a call and that of a task.
    #[test]
    fn codes_are_classified_in_calls_and_tasks() {
        for (status, code, reason, retryable) in [
            (400, "DataInspectionFailed", Reason::ContentModeration, false),
            (400, "IPInfringementSuspect", Reason::ContentModeration, false),
            (400, "InvalidParameter.DataInspection", Reason::InvalidParameters, false),
            (400, "InvalidParameter", Reason::InvalidParameters, false),
            (400, "InvalidParameter.Sample", Reason::InvalidParameters, false),
            (400, "InvalidImage.Resolution", Reason::InvalidParameters, false),
            (400, "InvalidVideoDuration", Reason::InvalidParameters, false),
            (400, "InvalidURL", Reason::InvalidParameters, false),
            (404, "ModelNotFound", Reason::InvalidParameters, false),
            (403, "AccessDenied", Reason::Unknown, false),
            (403, "Model.AccessDenied", Reason::Unknown, false),
            (403, "Workspace.AccessDenied", Reason::Unknown, false),
            (401, "InvalidApiKey", Reason::Unknown, false),
            (400, "Arrearage", Reason::InsufficientCredits, false),
            (403, "AllocationQuota.FreeTierOnly", Reason::InsufficientCredits, false),
            (429, "Throttling", Reason::RateLimited, true),
            (400, "Throttling.RateQuota", Reason::RateLimited, true),
            (429, "Throttling.BurstRate", Reason::RateLimited, true),
            (429, "Throttling.Concurrency", Reason::RateLimited, true),
            (429, "Throttling.AllocationQuota", Reason::RateLimited, true),
            (500, "InternalError", Reason::ProviderError, true),
            (500, "InternalError.Algo", Reason::ProviderError, true),
            (500, "SystemError", Reason::ProviderError, true),
        ] {
            let expected = Failure::new(reason, retryable).code(code).message("sample");
            let body = json!({"code": code, "message": "sample", "request_id": "r"}).to_string();
            let response = ProviderResponse::new(status, body);
            assert_eq!(
                refusal(&response, &object(&response.body).expect("an object")),
                Some(expected.clone()),
                "{code}"
            );
            let task = json!({"output": {"task_status": "FAILED", "code": code, "message": "sample"}});
            assert_eq!(task_status(&task, NOW), Some(TaskStatus::failed(expected)), "{code}");
        }
    }

    #[test]
    fn a_time_out_may_have_created_a_task() {
        let response = ProviderResponse::new(500, r#"{"code":"RequestTimeOut","message":"m","request_id":"r"}"#);
        assert!(matches!(Wan.read_submission(&response), SubmissionResult::Unclear(_)));
        let task = json!({"output": {"task_status": "FAILED", "code": "RequestTimeOut"}});
        let failure = Failure::new(Reason::Timeout, true).code("RequestTimeOut");
        assert_eq!(task_status(&task, NOW), Some(TaskStatus::failed(failure)));
    }

    #[test]
    fn a_throttled_poll_says_nothing_about_the_task() {
        for status in [200, 400, 429] {
            let response = ProviderResponse::new(status, r#"{"code":"Throttling.RateQuota","message":"m"}"#);
            let read = Wan.read_status(&response, "1", NOW);
            let failure = Failure::new(Reason::RateLimited, true).code("Throttling.RateQuota").message("m");
            assert_eq!(read, StatusResult::Refused { failure, retry_after: None }, "{status}");
        }
    }

    /// The vendor's SDK prints the fields of an error beside a task, empty.
    #[test]
    fn an_empty_code_is_no_error() {
        let output = json!({"task_id": "1", "task_status": "PENDING"});
        let body = json!({"status_code": 200, "code": "", "message": "", "output": output}).to_string();
        let response = ProviderResponse::new(200, body);
        assert_eq!(Wan.read_status(&response, "1", NOW), StatusResult::Task(TaskStatus::open()));
        let accepted = SubmissionResult::Accepted { provider_task_id: "1".to_owned() };
        assert_eq!(Wan.read_submission(&response), accepted);
    }

    #[test]
    fn a_submission_asks_for_a_task_instead_of_waiting() {
        let settings = ProviderSettings { api_key: Some(Secret::new("k")), ..ProviderSettings::default() };
        for (body, headers) in [
            (json!({"input": {"prompt": "about oss://x"}}), &["x-dashscope-async"][..]),
            (
                json!({"input": {"media": [{"url": "oss://dashscope-instant/x/y.png"}]}}),
                &["x-dashscope-async", "x-dashscope-ossresourceresolve"][..],
            ),
        ] {
            let submission = Submission { body: &body, endpoint: None, callback_url: "", marker: "" };
            let request = Wan.submission(&submission, &settings, NOW).expect("a request");
            let switched_on = request.headers.iter().filter(|(_, value)| value.expose() == "enable");
            assert_eq!(switched_on.map(|(name, _)| *name).collect::<Vec<_>>(), headers, "{body}");
        }
    }
}
