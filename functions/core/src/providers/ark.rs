//! Volcengine Ark (China) and `BytePlus` `ModelArk` (elsewhere): `ByteDance` Seedance, its own API.
//!
//! The body of a callback is the body of the status call. It is not signed in any documented way, and the video's link is
//! presigned and dies 24 hours after completion.
//!
//! | fact | source |
//! |---|---|
//! | `POST {base}/contents/generations/tasks`, `callback_url`, `$.id` | confirmed: volcengine.com/docs/82379/1520757, docs.byteplus.com/en/docs/ModelArk/1520757 |
//! | callback body, pushed states (not `cancelled`), answer within 5 s, three tries | confirmed: the same pages; three repeats or three in all is unclear |
//! | status body and words; `GET …/tasks/{id}`; links live 24 hours | confirmed: volcengine.com/docs/82379/1521309 |
//! | `GET …/tasks?filter.task_ids=…` for several, the last 7 days | confirmed: volcengine.com/docs/82379/1521675 |
//! | a task is given up by `execution_expires_after`: 48 hours unless set, up to 72 | confirmed: the creation page |
//! | error codes, in two envelopes; suffixes follow a dot | confirmed: volcengine.com/docs/82379/1299023; the retry column is partly inferred |
//! | no signature, token header or challenge | confirmed that the pages have none |
//! | the bytes of a callback | documented to be those of the query, and never observed |
//! | `expired` without an error; a fresh link from a later answer | inferred; unknown |
//! | bodies with only four fields, errors without a code, `error` on a task that is not failed | single observations in public logs |

use super::prelude::*;

/// Volcengine Ark and `BytePlus` `ModelArk`.
pub(super) struct Ark;

const NAME: &str = "ark";

const PROFILE: Profile = Profile {
    title: "Ark / ModelArk",
    // China. `https://ark.ap-southeast.bytepluses.com/api/v3` and `https://ark.eu-west.bytepluses.com/api/v3` elsewhere; keys
    // are bound to a region.
    default_base_url: Some("https://ark.cn-beijing.volces.com/api/v3"),
    // Documented for succeeded and failed.
    answer_budget: 5,
    // "24 h after generation, then the file is cleared." The link itself says it exactly.
    link_life: DAY as i64,
    // No limit is documented for questions. Renders take minutes; ten seconds would be the shortest sensible gap.
    first_poll: 60,
    poll_interval: 15,
    longest_poll_interval: 300,
    // `execution_expires_after` can be set up to 72 hours, and its default is 48; one hour more to hear of it.
    deadline: 73 * HOUR,
    verified: "token in the URL; signs nothing",
    retries: "three tries (three repeats or three in all is unclear)",
    confirmed: "status body; pushed states; 5 s and three tries for succeeded and failed; links for 24 h; error codes",
    doubts: "delay of the tries; time to answer and tries for other states; a cancelled task is not pushed; pace and \
        end of asking; task data is kept 7 days or 24 h, the pages disagree",
};

/// Ids in one list call. A page holds 500; 50 ids of some 22 characters keep the URL short.
const MOST_IDS: usize = 50;

/// From the error code page. The same codes stand in `$.error.code` of a failed task, with suffixes after a dot.
pub(super) const FAILURES: Failures = Failures {
    rules: &[
        // The moderation service itself failed.
        code("ContentSecurityDetectionError", Reason::ProviderError).retryable(),
        // Input, output, or neither named; a suffix says copyright, real person or deep fake.
        part("SensitiveContentDetected", Reason::ContentModeration),
        part("RiskDetection", Reason::ContentModeration),
        prefix("MissingParameter", Reason::InvalidParameters),
        prefix("InvalidParameter", Reason::InvalidParameters),
        // Closed for now.
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
        // One code for a full queue, a used-up trial and a used-up quota; only the message tells.
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
    // Said of a refused input without a code, too.
    later: &[words("real person", Reason::ContentModeration)],
    otherwise: (Reason::Unknown, Retry::IsPointless),
};

const ENDPOINTS: &[&str] = &["/contents/generations/tasks"];

impl Adapter for Ark {
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
        object(body).map_or(CallbackBody::Unreadable, |task| callback(&task, now))
    }

    fn submission(
        &self,
        submission: &Submission<'_>,
        settings: &ProviderSettings,
        _: Timestamp,
    ) -> Result<Request, InvalidSubmission> {
        let endpoint = common::endpoint(submission, ENDPOINTS)?;
        let body = with_callback_url(submission, &["callback_url"], submission.callback_url)?;
        Ok(api(settings)?.post(endpoint, &body))
    }

    fn read_submission(&self, answer: &Answer<'_>) -> SubmissionAnswer {
        let body = object(answer.body).unwrap_or_default();
        common::submission(answer, first_id(&body, &["id"]), refusal(answer, &body))
    }

    fn status_requests(
        &self,
        tasks: &[PolledTask<'_>],
        settings: &ProviderSettings,
        _: Timestamp,
    ) -> Vec<StatusRequest> {
        let Ok(api) = api(settings) else { return vec![] };
        if let [task] = tasks {
            // Knows an id for longer than the list, and says so when it does not.
            let request = api.get(&format!("{}/{}", ENDPOINTS[0], encoded(task.provider_task_id)));
            return vec![StatusRequest { request, tasks: vec![0] }];
        }
        let positions: Vec<usize> = (0..tasks.len()).collect();
        common::together(tasks, &positions, MOST_IDS, |ids| {
            let filter = common::repeated("filter.task_ids", ids);
            api.get(&format!("{}?page_num=1&page_size={}&{filter}", ENDPOINTS[0], ids.len()))
        })
    }

    fn read_status(&self, answer: &Answer<'_>, provider_task_id: &str, now: Timestamp) -> StatusAnswer {
        let Some(body) = object(answer.body) else { return common::status_by_http_alone(answer) };
        if let (true, Some(failure)) = (body["status"].is_null(), refusal(answer, &body)) {
            let unknown_id = failure.code.as_deref().is_some_and(|code| code.starts_with("NotFound"));
            return if unknown_id { StatusAnswer::NotFound } else { common::status_refused(answer, failure) };
        }
        if !answer.is_success() {
            return common::status_by_http_alone(answer);
        }
        let task = if body["items"].is_array() {
            let named = |task: &&Value| text(&task["id"]).as_deref() == Some(provider_task_id);
            match items(&body["items"]).iter().find(named) {
                Some(task) => task,
                None => return StatusAnswer::NotFound,
            }
        } else {
            &body
        };
        if !common::is_about(task, &["id"], provider_task_id) {
            return StatusAnswer::Unreadable;
        }
        common::status(statement(task, now))
    }

    fn status_id(&self, answer: &Answer<'_>) -> Option<String> {
        let body = object(answer.body)?;
        first_id(items(&body["items"]).first().unwrap_or(&body), &["id"])
    }
}

/// Reads the body of a callback; `APIMP` and `RelayDance` hand such bodies on.
pub(super) fn callback(task: &Value, now: Timestamp) -> CallbackBody {
    common::callback(first_id(task, &["id"]), statement(task, now))
}

fn statement(task: &Value, now: Timestamp) -> Option<Statement> {
    Some(match word(&task["status"])?.as_str() {
        "queued" | "running" => Statement::open(),
        "succeeded" => links(task, now).into_success(),
        "failed" => {
            let (code, message) = error(task).unwrap_or_default();
            Statement::failed(FAILURES.of_task(code, message))
        }
        // It waited longer than it was allowed to; a new one may find a shorter queue.
        "expired" => Statement::failed(ended(Failure::new(Reason::Expired, true), task)),
        "cancelled" | "canceled" => Statement::failed(ended(Failure::new(Reason::Cancelled, false), task)),
        unknown => Statement::unknown_status(unknown),
    })
}

/// With the code and words that may stand beside a status which says it all.
fn ended(failure: Failure, task: &Value) -> Failure {
    let (code, message) = error(task).unwrap_or_default();
    failure.code(code.unwrap_or_default()).message(message.unwrap_or_default())
}

/// Code and message of an error, if it has any; an older form calls that of a task `failure_reason`.
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
    let mut links = Links::new(moment(&task["updated_at"]).unwrap_or(now), PROFILE.link_life);
    links.add(Kind::Video, &task["content"]["video_url"]);
    links.add(Kind::LastFrame, &task["content"]["last_frame_url"]);
    links
}

/// The failure of a call, in either of the two envelopes.
fn refusal(answer: &Answer<'_>, body: &Value) -> Option<Failure> {
    let outer = &body["ResponseMetadata"]["Error"];
    let (code, message) =
        if outer.is_object() { (first_text(outer, &["Code", "CodeN"]), text(&outer["Message"])) } else { error(body)? };
    Some(FAILURES.of_answer(answer.status, code, message))
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

    /// The error code page, in both envelopes and as the error of a task.
    #[test]
    fn codes_are_judged_by_their_beginning() {
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
                let answer = Answer { status, retry_after: None, body: body.as_bytes() };
                assert_eq!(Ark.read_submission(&answer), SubmissionAnswer::Refused(expected.clone()), "{body}");
            }
            if code != "Whatever" {
                let task = json!({"status": "failed", "error": {"code": code, "message": message}});
                let read = statement(&task, Timestamp::from_seconds(0));
                assert_eq!(read, Some(Statement::failed(expected)), "{code}");
            }
        }
    }

    /// It once was a refusal, and the task would have been forgotten.
    #[test]
    fn an_empty_error_beside_an_id_is_none() {
        for error in [json!(null), json!({}), json!(""), json!({"code": "", "message": null})] {
            let body = json!({"id": "cgt-1", "error": error}).to_string();
            let answer = Answer { status: 200, retry_after: None, body: body.as_bytes() };
            let accepted = SubmissionAnswer::Accepted { provider_task_id: "cgt-1".to_owned() };
            assert_eq!(Ark.read_submission(&answer), accepted, "{body}");
        }
    }

    #[test]
    fn words_are_judged_where_there_is_no_code() {
        for (message, reason) in [
            ("The request failed because the input image may contain real person.", Reason::ContentModeration),
            ("The request failed because the output video may be related to copyright", Reason::ContentModeration),
            ("the task did not finish", Reason::Unknown),
        ] {
            let task = json!({"status": "failed", "error": {"message": message}});
            let expected = Statement::failed(Failure::new(reason, false).message(message));
            assert_eq!(statement(&task, Timestamp::from_seconds(0)), Some(expected));
        }
    }
}
