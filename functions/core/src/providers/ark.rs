//! Volcengine Ark (China) and `BytePlus` `ModelArk` (elsewhere): `ByteDance` Seedance, its own API.
//!
//! The body of a callback is that of the status call. No signature is documented. The link to the video is presigned and
//! expires 24 hours after completion.
//!
//! | fact | source |
//! |---|---|
//! | `POST {base}/contents/generations/tasks`, `callback_url`, `$.id` | confirmed: volcengine.com/docs/82379/1520757, docs.byteplus.com/en/docs/ModelArk/1520757 |
//! | callback body, pushed states (not `cancelled`), timeout of 5 s, three attempts | confirmed: the same pages; whether three retries or three in all is unclear |
//! | status body and words; `GET …/tasks/{id}`; links live 24 hours | confirmed: volcengine.com/docs/82379/1521309 |
//! | `GET …/tasks?filter.task_ids=…` for several, the last 7 days | confirmed: volcengine.com/docs/82379/1521675 |
//! | a task expires after `execution_expires_after`: 48 hours by default, at most 72 | confirmed: the creation page |
//! | error codes, in two envelopes; suffixes follow a dot | confirmed: volcengine.com/docs/82379/1299023; the retry column is partly inferred |
//! | no signature, token header or challenge | confirmed that the pages have none |
//! | the bytes of a callback | documented as those of the query, never observed |
//! | `expired` without an error; a fresh link from a later response | inferred; unknown |
//! | bodies with only four fields, errors without a code, `error` on a task that did not fail | single observations in public logs |

use super::prelude::*;

pub(super) struct Ark;

const NAME: &str = "ark";

const PROFILE: Profile = Profile {
    title: "Ark / ModelArk",
    // China. `https://ark.ap-southeast.bytepluses.com/api/v3` and `https://ark.eu-west.bytepluses.com/api/v3` elsewhere; keys
    // are bound to a region.
    default_base_url: Some("https://ark.cn-beijing.volces.com/api/v3"),
    callbacks: Some(Callbacks {
        // Documented for succeeded and failed.
        response_timeout: Duration::from_secs(5),
        reports_failures: true,
        verified: "URL token",
        retries: "2 or 3 (the page is unclear)",
    }),
    // "24 h after generation, then the file is cleared." The link itself has the exact time.
    link_life: Duration::from_hours(24),
    // No rate limit is documented for status calls. Renders take minutes; ten seconds is the shortest sensible interval.
    first_poll: FIRST_POLL,
    poll_interval: Duration::from_secs(15),
    max_poll_interval: Duration::from_mins(5),
    // The maximum of `execution_expires_after` is 72 hours, plus one to learn of the expiry.
    deadline: Duration::from_hours(73),
    cancellable: Some("while queued"),
    marker: None,
    usage: Some("tokens"),
    confirmed: "status body; pushed states (cancelled is not one); 5 s and three attempts for succeeded and failed; links \
        for 24 h; error codes",
    unconfirmed: "delay between attempts; response timeout and attempts for other states; poll schedule and deadline; \
        whether task data is kept 7 days or 24 h (the pages disagree)",
};

/// Ids per list call. A page holds 500; 50 ids of some 22 characters keep the URL short.
const MAX_IDS: usize = 50;

/// From the error code page. The same codes occur in `$.error.code` of a failed task, with suffixes after a dot.
pub(super) const FAILURES: Failures = Failures {
    rules: &[
        // The moderation service itself failed.
        code("ContentSecurityDetectionError", Reason::ProviderError).retryable(),
        // Input, output, or neither named; a suffix says copyright, real person or deep fake.
        part("SensitiveContentDetected", Reason::ContentModeration),
        part("RiskDetection", Reason::ContentModeration),
        prefix("MissingParameter", Reason::InvalidParameters),
        prefix("InvalidParameter", Reason::InvalidParameters),
        // Temporarily closed.
        code("InvalidEndpoint.ClosedEndpoint", Reason::ProviderError).retryable(),
        prefix("InvalidEndpointOrModel", Reason::InvalidParameters),
        prefix("ModelNotOpen", Reason::InvalidParameters),
        prefix("NotFound", Reason::InvalidParameters),
        prefix("UnsupportedModel", Reason::InvalidParameters),
        prefix("AuthenticationError", Reason::Unknown),
        prefix("InvalidAccountStatus", Reason::Unknown),
        prefix("AccessDenied", Reason::Unknown),
        prefix("OperationDenied", Reason::Unknown),
        prefix("AccountOverdueError", Reason::InsufficientCredits),
        // One code for a full queue, a used-up trial and a used-up quota; only the message tells them apart.
        prefix("QuotaExceeded", Reason::RateLimited).with_words("queue").retryable(),
        prefix("QuotaExceeded", Reason::InsufficientCredits),
        // The account's own cap.
        prefix("SetLimitExceeded", Reason::InsufficientCredits),
        part("RateLimitExceeded", Reason::RateLimited).retryable(),
        prefix("ServerOverloaded", Reason::RateLimited).retryable(),
        prefix("RequestBurstTooFast", Reason::RateLimited).retryable(),
        prefix("InflightBatchsizeExceeded", Reason::RateLimited).retryable(),
        prefix("InternalServiceError", Reason::ProviderError).retryable(),
    ],
    // Also in the message of a refused input without a code.
    later: &[words("real person", Reason::ContentModeration)],
    otherwise: (Reason::Unknown, Retry::IsPointless),
};

const ENDPOINTS: &[&str] = &["/contents/generations/tasks"];

impl Adapter for Ark {
    fn profile(&self) -> &'static Profile {
        &PROFILE
    }

    fn read_callback(&self, body: &[u8], now: Timestamp) -> CallbackBody {
        object(body).map_or(CallbackBody::Unreadable, |task| callback(&task, now))
    }

    fn submission(
        &self,
        submission: &Submission<'_>,
        settings: &ProviderSettings,
        _: Timestamp,
    ) -> Result<Request, InvalidSubmission> {
        requests::submission(&api(settings)?, submission, ENDPOINTS, &["callback_url"])
    }

    fn read_submission(&self, response: &ProviderResponse) -> SubmissionResult {
        let body = object(&response.body).unwrap_or_default();
        responses::submission(response, first_id(&body, &["id"]), refusal(response, &body))
    }

    fn status_requests(
        &self,
        tasks: &[PolledTask<'_>],
        settings: &ProviderSettings,
        _: Timestamp,
    ) -> Vec<StatusRequest> {
        let Ok(api) = api(settings) else { return vec![] };
        if let [task] = tasks {
            // This call knows tasks for longer than the list does, and reports unknown ids.
            let request = api.get(&format!("{}/{}", ENDPOINTS[0], encoded(task.provider_task_id)));
            return vec![StatusRequest { request, tasks: vec![0] }];
        }
        let positions: Vec<usize> = (0..tasks.len()).collect();
        requests::batched(tasks, &positions, MAX_IDS, |ids| {
            let filter = requests::repeated("filter.task_ids", ids);
            api.get(&format!("{}?page_num=1&page_size={}&{filter}", ENDPOINTS[0], ids.len()))
        })
    }

    fn read_status(&self, response: &ProviderResponse, provider_task_id: &str, now: Timestamp) -> StatusResult {
        let Some(body) = object(&response.body) else { return responses::status_by_http_status(response) };
        if let (true, Some(failure)) = (body["status"].is_null(), refusal(response, &body)) {
            let unknown_id = failure.code.as_deref().is_some_and(|code| code.starts_with("NotFound"));
            return if unknown_id { StatusResult::NotFound } else { responses::status_refused(response, failure) };
        }
        if !response.is_success() {
            return responses::status_by_http_status(response);
        }
        match responses::find_task(body["items"].as_array(), &body, &["id"], provider_task_id) {
            Ok(task) => responses::status(task_status(task, now)),
            Err(result) => result,
        }
    }

    /// The same call deletes a task that has ended, with its links.
    fn cancellation(
        &self,
        task: &PolledTask<'_>,
        status: &ProviderResponse,
        settings: &ProviderSettings,
    ) -> Option<Request> {
        let body = object(&status.body)?;
        let is_queued =
            has_id(&body, &["id"], task.provider_task_id) && status_word(&body["status"]).as_deref() == Some("queued");
        let path = format!("{}/{}", ENDPOINTS[0], encoded(task.provider_task_id));
        is_queued.then(|| api(settings).ok().map(|api| api.delete(&path)))?
    }

    fn read_cancellation(&self, response: &ProviderResponse) -> Option<Failure> {
        let body = object(&response.body).unwrap_or_default();
        responses::cancellation(response, refusal(response, &body))
    }

    fn status_id(&self, response: &ProviderResponse) -> Option<String> {
        let body = object(&response.body)?;
        first_id(items(&body["items"]).first().unwrap_or(&body), &["id"])
    }
}

/// Reads the body of a callback, also when `APIMP` or `RelayDance` is in between.
pub(super) fn callback(task: &Value, now: Timestamp) -> CallbackBody {
    responses::callback(first_id(task, &["id"]), task_status(task, now))
}

fn task_status(task: &Value, now: Timestamp) -> Option<TaskStatus> {
    let task_status = match status_word(&task["status"])?.as_str() {
        "queued" | "running" => TaskStatus::open(),
        "succeeded" => links(task, now).into_success(),
        "failed" => {
            let (code, message) = error(task).unwrap_or_default();
            TaskStatus::failed(FAILURES.of_task(code, message))
        }
        // It waited too long in the queue; a new task may find a shorter one.
        "expired" => TaskStatus::failed(with_error(Failure::new(Reason::Expired, true), task)),
        "cancelled" | "canceled" => TaskStatus::failed(with_error(Failure::new(Reason::Cancelled, false), task)),
        unknown => TaskStatus::unknown_status(unknown),
    };
    Some(task_status.with_usage(Usage::of_tokens(&task["usage"]["total_tokens"])))
}

/// Adds the code and message that may come with a status word that is clear by itself.
fn with_error(failure: Failure, task: &Value) -> Failure {
    let (code, message) = error(task).unwrap_or_default();
    failure.code(code.unwrap_or_default()).message(message.unwrap_or_default())
}

/// Code and message of an error, if any. An older form of a task has them in `failure_reason`.
fn error(task: &Value) -> Option<(Option<String>, Option<String>)> {
    [&task["error"], &task["failure_reason"]].into_iter().find_map(|error| match error {
        Value::Object(_) => {
            let (code, message) = (text(&error["code"]), text(&error["message"]));
            (code.is_some() || message.is_some()).then_some((code, message))
        }
        error => text(error).map(|message| (None, Some(message))),
    })
}

fn links(task: &Value, now: Timestamp) -> Links {
    let mut links = Links::new(timestamp(&task["updated_at"]).unwrap_or(now), PROFILE.link_life);
    links.add(Kind::Video, &task["content"]["video_url"]);
    links.add(Kind::LastFrame, &task["content"]["last_frame_url"]);
    links
}

/// The failure of a call, in either of the two envelopes.
fn refusal(response: &ProviderResponse, body: &Value) -> Option<Failure> {
    let outer = &body["ResponseMetadata"]["Error"];
    let (code, message) =
        if outer.is_object() { (first_text(outer, &["Code", "CodeN"]), text(&outer["Message"])) } else { error(body)? };
    Some(FAILURES.of_response(response.status, code, message))
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

    /// The error code page, in both envelopes and as the error of a task.
    #[test]
    fn codes_are_classified_by_their_prefix() {
        for (status, code, message, reason, retryable) in [
            (400, "MissingParameter.Model", "m", Reason::InvalidParameters, false),
            (400, "InvalidParameter.TaskTypeConstraint", "m", Reason::InvalidParameters, false),
            (400, "SensitiveContentDetected.SevereViolation", "m", Reason::ContentModeration, false),
            (400, "InputImageSensitiveContentDetected.PrivacyInformation", "m", Reason::ContentModeration, false),
            (400, "OutputAudioSensitiveContentDetected.DeepFake", "m", Reason::ContentModeration, false),
            (400, "InputTextRiskDetection", "m", Reason::ContentModeration, false),
            (400, "ContentSecurityDetectionError", "m", Reason::ProviderError, true),
            (400, "InvalidEndpoint.ClosedEndpoint", "m", Reason::ProviderError, true),
            (401, "AuthenticationError", "m", Reason::Unknown, false),
            (403, "InvalidAccountStatus", "m", Reason::Unknown, false),
            (403, "AccessDenied", "m", Reason::Unknown, false),
            (403, "OperationDenied.ServiceNotOpen", "m", Reason::Unknown, false),
            (403, "AccountOverdueError", "m", Reason::InsufficientCredits, false),
            (404, "InvalidEndpointOrModel.NotFound", "m", Reason::InvalidParameters, false),
            (404, "ModelNotOpen", "m", Reason::InvalidParameters, false),
            (404, "UnsupportedModel", "m", Reason::InvalidParameters, false),
            (429, "RateLimitExceeded.EndpointRPMExceeded", "m", Reason::RateLimited, true),
            (429, "ModelAccountIpmRateLimitExceeded", "m", Reason::RateLimited, true),
            (429, "APIAccountRpmRateLimitExceeded", "m", Reason::RateLimited, true),
            (429, "ServerOverloaded", "m", Reason::RateLimited, true),
            (429, "RequestBurstTooFast", "m", Reason::RateLimited, true),
            (429, "InflightBatchsizeExceeded", "m", Reason::RateLimited, true),
            (429, "QuotaExceeded", "Too many queued tasks", Reason::RateLimited, true),
            (429, "QuotaExceeded", "The free trial is used up", Reason::InsufficientCredits, false),
            (429, "SetLimitExceeded", "m", Reason::InsufficientCredits, false),
            (500, "InternalServiceError", "m", Reason::ProviderError, true),
            (503, "Whatever", "m", Reason::ProviderError, true),
            (400, "Whatever", "m", Reason::InvalidParameters, false),
        ] {
            let expected = Failure::new(reason, retryable).code(code).message(message);
            for body in [
                json!({"error": {"code": code, "message": message, "type": "t"}}),
                json!({"ResponseMetadata": {"Error": {"CodeN": 1, "Code": code, "Message": message}}}),
            ] {
                let body = body.to_string();
                let response = ProviderResponse::new(status, body.as_bytes());
                assert_eq!(
                    refusal(&response, &object(&response.body).expect("an object")),
                    Some(expected.clone()),
                    "{body}"
                );
            }
            if code != "Whatever" {
                let task = json!({"status": "failed", "error": {"code": code, "message": message}});
                let read = task_status(&task, Timestamp::from_seconds(0));
                assert_eq!(read, Some(TaskStatus::failed(expected)), "{code}");
            }
        }
    }

    /// It was once read as a refusal, and the task would have been forgotten.
    #[test]
    fn an_empty_error_beside_an_id_is_not_an_error() {
        for error in [json!(null), json!({}), json!(""), json!({"code": "", "message": null})] {
            let body = json!({"id": "cgt-1", "error": error}).to_string();
            let response = ProviderResponse::new(200, body.as_bytes());
            let accepted = SubmissionResult::Accepted { provider_task_id: "cgt-1".to_owned() };
            assert_eq!(Ark.read_submission(&response), accepted, "{body}");
        }
    }

    #[test]
    fn messages_are_classified_where_there_is_no_code() {
        for (message, reason) in [
            ("The request failed because the input image may contain real person.", Reason::ContentModeration),
            ("The request failed because the output video may be related to copyright", Reason::ContentModeration),
            ("the task did not finish", Reason::Unknown),
        ] {
            let task = json!({"status": "failed", "error": {"message": message}});
            let expected = TaskStatus::failed(Failure::new(reason, false).message(message));
            assert_eq!(task_status(&task, Timestamp::from_seconds(0)), Some(expected));
        }
    }
}
