//! Vidu (Shengshu), its own API.
//!
//! The signature of a callback covers method, path, query and some headers but not the body: it proves the sender, not the
//! content. So a status poll confirms every result.
//!
//! | fact | source |
//! |---|---|
//! | signature scheme, with an example of a string to sign | confirmed: platform.vidu.com/docs/callback-signature, which has no signature for it |
//! | which token is the secret | the one that created the task, according to the page; a client contradicts; see `authenticate` |
//! | whether `Date` reaches a Lambda function unchanged | unknown; `x-amzn-remapped-date` is the fallback |
//! | replay window | none documented; 300 s |
//! | `POST /ent/v2/text2video` and others, `Authorization: Token`, `callback_url`, `$.task_id` | confirmed: platform.vidu.com/docs/text-to-video, …/image-to-video |
//! | success and failed are retried up to three times | confirmed: the same pages; delays and timeout are unknown |
//! | `id` in callbacks, `task_id` in the submission's response | the query page and a public handler; both are read |
//! | `GET /ent/v2/tasks/{id}/creations`, list with `task_ids` | confirmed: …/get-generation, …/tasks-list; that `task_ids` is repeated for several is inferred |
//! | off-peak tasks may take 48 hours | confirmed: …/text-to-video |
//! | links live 24 hours | confirmed: …/get-generation; an older version said one hour |
//! | covers live one hour | five logged responses, `X-Amz-Expires=3600` |
//! | error names, for calls and tasks alike | confirmed: …/error-code; the retry column is inferred |
//! | links are signed when the response is built | inferred from one link younger than its file |
//! | `status` for `state`; the state `scheduled`; the error's name in `code` | single observations |

use super::prelude::*;
use crate::signature::apisix_hmac;

pub(super) struct Vidu;

const NAME: &str = "vidu";

const PROFILE: Profile = Profile {
    title: "Vidu",
    // International. `https://api.vidu.cn` in China.
    default_base_url: Some("https://api.vidu.com"),
    callbacks: Some(Callbacks {
        // Not documented. The shortest timeout that any provider documents for reports.
        response_timeout: Duration::from_secs(5),
        reports_failures: true,
        verified: "HMAC over route and headers, not the body, and always a status poll",
        retries: "up to 3 for success and failed",
    }),
    // "24 h". Counted from the response, when links seem to be signed.
    link_life: Duration::from_hours(24),
    // Not documented. A render takes one to a few minutes.
    first_poll: FIRST_POLL,
    poll_interval: Duration::from_secs(15),
    max_poll_interval: Duration::from_mins(10),
    // Off-peak tasks take up to 48 hours and are cancelled then, plus two to learn of it.
    deadline: Duration::from_hours(50),
    cancellable: Some("until it is scheduled"),
    marker: None,
    usage: Some("credits"),
    confirmed: "string to sign; three retries of success and failed; links for 24 h; off-peak takes up to 48 h",
    unconfirmed: "which token signs; response timeout and delay of retries; whether the Date header reaches a Lambda function \
        unchanged; link life of covers (1 h seen); poll schedule and deadline",
};

/// Link life of a cover: `X-Amz-Expires=3600` in every logged response.
const COVER_LIFE: Duration = Duration::from_hours(1);

/// Ids per list call. A page holds 100; 50 ids of 18 digits keep the URL short.
const MAX_IDS: usize = 50;

/// From the error code page, which has one list for the `reason` of a call and the `err_code` of a task.
const FAILURES: Failures = Failures {
    rules: &[
        code("TaskPromptPolicyViolation", Reason::ContentModeration),
        code("AuditSubmitIllegal", Reason::ContentModeration),
        code("CreationPolicyViolation", Reason::ContentModeration),
        code("BadRequest", Reason::InvalidParameters),
        code("FieldLacking", Reason::InvalidParameters),
        code("FieldUnwanted", Reason::InvalidParameters),
        code("FieldItemCountOutOfRange", Reason::InvalidParameters),
        code("FieldInvalid", Reason::InvalidParameters),
        code("PageSizeOutOfRange", Reason::InvalidParameters),
        code("ImageFormatInvalid", Reason::InvalidParameters),
        code("ImageCheckBodyJointsFailed", Reason::InvalidParameters),
        code("ImageCheckFaceFailed", Reason::InvalidParameters),
        code("ImageObjectsUndetected", Reason::InvalidParameters),
        // The image's host may have been slow.
        code("ImageDownloadFailure", Reason::InvalidParameters).retryable(),
        code("OperationInProcess", Reason::RateLimited).retryable(),
        code("CreditInsufficient", Reason::InsufficientCredits),
        code("ModelUnavailable", Reason::InvalidParameters),
        code("UserCancelled", Reason::Cancelled),
        code("Canceled", Reason::Cancelled),
        code("Unauthorized", Reason::Unknown),
        code("Forbidden", Reason::Unknown),
        code("TaskNotFound", Reason::InvalidParameters),
        code("CreationNotFound", Reason::InvalidParameters),
        code("NotFound", Reason::InvalidParameters),
        code("Conflict", Reason::InvalidParameters),
        code("QuotaExceeded", Reason::RateLimited).retryable(),
        code("TooManyRequests", Reason::RateLimited).retryable(),
        code("SystemThrottling", Reason::RateLimited).retryable(),
        code("InternalServiceFailure", Reason::ProviderError).retryable(),
    ],
    // For names that may be added later.
    later: &[prefix("Field", Reason::InvalidParameters), prefix("Image", Reason::InvalidParameters)],
    otherwise: (Reason::Unknown, Retry::IsPointless),
};

impl Adapter for Vidu {
    fn profile(&self) -> &'static Profile {
        &PROFILE
    }

    /// With signing secrets configured, every callback needs a valid signature. With only an API key, a valid signature by
    /// it counts, and everything else is unsigned instead of refused: the key may not be the one that signs, and `Date` may
    /// not arrive unchanged. An attacker gains nothing, because omitting the headers has the same effect. Either way a
    /// status poll confirms a result before it is believed.
    fn authenticate(
        &self,
        request: &CallbackRequest<'_>,
        settings: &ProviderSettings,
        now: Timestamp,
    ) -> Result<Authenticity, Refusal> {
        if !settings.signing_secrets.is_empty() {
            apisix_hmac(request, ACCESS_KEY, &settings.signing_secrets, now)?;
            return Ok(Authenticity::SignedSender);
        }
        let key = settings.api_key.as_slice();
        let signed = !key.is_empty() && apisix_hmac(request, ACCESS_KEY, key, now).is_ok();
        Ok(if signed { Authenticity::SignedSender } else { Authenticity::Unverified })
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
        let endpoint = requests::named_endpoint(submission, "/ent/v2/text2video", |endpoint| {
            let name = endpoint.strip_prefix("/ent/v2/").unwrap_or_default();
            !name.is_empty() && !name.contains('/') && !matches!(name, "tasks" | "credits")
        })?;
        let body = requests::with_callback_url(submission, &["callback_url"], submission.callback_url)?;
        Ok(api(settings)?.post(endpoint, &body))
    }

    fn read_submission(&self, response: &ProviderResponse) -> SubmissionResult {
        let body = object(&response.body).unwrap_or_default();
        responses::submission(response, first_id(&body, &["task_id", "id"]), refusal(response, &body))
    }

    fn status_requests(
        &self,
        tasks: &[PolledTask<'_>],
        settings: &ProviderSettings,
        _: Timestamp,
    ) -> Vec<StatusRequest> {
        let Ok(api) = api(settings) else { return vec![] };
        let positions: Vec<usize> = (0..tasks.len()).collect();
        requests::batched(tasks, &positions, MAX_IDS, |ids| match ids {
            // This call reports unknown ids, and knows older tasks than the list does.
            [id] => api.get(&format!("/ent/v2/tasks/{id}/creations")),
            ids => {
                let filter = requests::repeated("task_ids", ids);
                api.get(&format!("/ent/v2/tasks?{filter}&pager.pagesz={}", ids.len()))
            }
        })
    }

    fn read_status(&self, response: &ProviderResponse, provider_task_id: &str, now: Timestamp) -> StatusResult {
        let Some(body) = object(&response.body) else { return responses::status_by_http_status(response) };
        if let Some(failure) = refusal(response, &body) {
            let unknown_id = matches!(failure.code.as_deref(), Some("TaskNotFound" | "NotFound" | "CreationNotFound"));
            return if unknown_id { StatusResult::NotFound } else { responses::status_refused(response, failure) };
        }
        if !response.is_success() {
            return responses::status_by_http_status(response);
        }
        // The response on the English page has no id.
        match responses::find_task(body["tasks"].as_array(), &body, IDS, provider_task_id) {
            Ok(task) => responses::status(task_status(task, now)),
            Err(result) => result,
        }
    }

    fn cancellation(
        &self,
        task: &PolledTask<'_>,
        _: &ProviderResponse,
        settings: &ProviderSettings,
    ) -> Option<Request> {
        let path = format!("/ent/v2/tasks/{}/cancel", encoded(task.provider_task_id));
        Some(api(settings).ok()?.post(&path, &json!({ "id": task.provider_task_id })))
    }

    fn read_cancellation(&self, response: &ProviderResponse) -> Option<Failure> {
        let body = object(&response.body).unwrap_or_default();
        responses::cancellation(response, refusal(response, &body))
    }

    fn status_id(&self, response: &ProviderResponse) -> Option<String> {
        let body = object(&response.body)?;
        first_id(items(&body["tasks"]).first().unwrap_or(&body), IDS)
    }
}

const IDS: &[&str] = &["id", "task_id"];

/// The access key in every string to sign.
const ACCESS_KEY: &str = "vidu";

/// Reads the body of a callback, also when `APIMP` is in between.
pub(super) fn callback(task: &Value, now: Timestamp) -> CallbackBody {
    responses::callback(first_id(task, IDS), task_status(task, now))
}

fn task_status(task: &Value, now: Timestamp) -> Option<TaskStatus> {
    let task_status = match status_word(&task["state"]).or_else(|| status_word(&task["status"]))?.as_str() {
        "created" | "queueing" | "scheduled" | "processing" => TaskStatus::open(),
        "success" => links(task, now).into_success(),
        "failed" => {
            TaskStatus::failed(FAILURES.of_task(text(&task["err_code"]), first_text(task, &["err_msg", "message"])))
        }
        unknown => TaskStatus::unknown_status(unknown),
    };
    Some(task_status.with_usage(Usage::of_credits(&task["credits"])))
}

fn links(task: &Value, now: Timestamp) -> Links {
    let mut links = Links::new(now, PROFILE.link_life);
    for creation in items(&task["creations"]) {
        links.add_by_extension(&creation["url"]);
        links.add_with_life(Kind::Cover, &creation["cover_url"], COVER_LIFE);
        links.add(Kind::WatermarkedVideo, &creation["watermarked_url"]);
    }
    links
}

/// The failure of a call. Its name is in `reason`, sometimes in `code`.
fn refusal(response: &ProviderResponse, body: &Value) -> Option<Failure> {
    if first_text(body, &["state", "task_id"]).is_some() || !items(&body["creations"]).is_empty() {
        return None;
    }
    let code = first_text(body, &["reason", "code"])?;
    // A gateway's own code around a response is not a name of Vidu's.
    if response.is_success() && matches!(code.as_str(), "0" | "200") {
        return None;
    }
    Some(FAILURES.of_response(response.status, Some(code), text(&body["message"])))
}

fn api(settings: &ProviderSettings) -> Result<Api<'_>, InvalidSubmission> {
    Api::new(NAME, "Token", &PROFILE, settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_reachable() {
        FAILURES.assert_every_row_is_reachable();
    }

    /// The error code page: calls and tasks share one list.
    #[test]
    fn names_are_classified_in_calls_and_tasks() {
        let rows: [(u16, &[&str], Reason, bool); 12] = [
            (
                400,
                &["BadRequest", "FieldLacking", "FieldUnwanted", "FieldItemCountOutOfRange", "FieldInvalid"],
                Reason::InvalidParameters,
                false,
            ),
            (
                400,
                &["PageSizeOutOfRange", "ImageFormatInvalid", "ImageCheckFaceFailed", "ImageObjectsUndetected"],
                Reason::InvalidParameters,
                false,
            ),
            (400, &["ImageDownloadFailure"], Reason::InvalidParameters, true),
            (400, &["OperationInProcess"], Reason::RateLimited, true),
            (
                400,
                &["TaskPromptPolicyViolation", "AuditSubmitIllegal", "CreationPolicyViolation"],
                Reason::ContentModeration,
                false,
            ),
            (400, &["CreditInsufficient"], Reason::InsufficientCredits, false),
            (400, &["ModelUnavailable"], Reason::InvalidParameters, false),
            (400, &["UserCancelled"], Reason::Cancelled, false),
            (401, &["Unauthorized", "Forbidden"], Reason::Unknown, false),
            (429, &["QuotaExceeded", "TooManyRequests", "SystemThrottling"], Reason::RateLimited, true),
            (499, &["Canceled"], Reason::Cancelled, false),
            (500, &["InternalServiceFailure"], Reason::ProviderError, true),
        ];
        for (status, names, reason, retryable) in rows {
            for name in names {
                let expected = Failure::new(reason, retryable).code(*name);
                let task = json!({"id": "1", "state": "failed", "err_code": name});
                let read = task_status(&task, Timestamp::from_seconds(0));
                assert_eq!(read, Some(TaskStatus::failed(expected.clone())), "{name}");
                let body = json!({"code": status, "reason": name, "message": "words"}).to_string();
                let response = ProviderResponse::new(status, body.as_bytes());
                if status != 499 {
                    let expected = Some(expected.message("words"));
                    assert_eq!(refusal(&response, &object(&response.body).expect("an object")), expected, "{name}");
                }
            }
        }
    }

    #[test]
    fn an_unlisted_name_is_classified_by_its_http_status() {
        let body = br#"{"code":500,"reason":"VendorFault","message":"words"}"#;
        let response = ProviderResponse::new(500, body);
        let expected = Failure::new(Reason::ProviderError, true).code("VendorFault").message("words");
        assert_eq!(refusal(&response, &object(&response.body).expect("an object")), Some(expected));
    }

    /// It was once classified by its HTTP status alone, without the provider's message.
    #[test]
    fn a_refusal_may_contain_an_empty_task() {
        let body =
            br#"{"code":400,"reason":"CreditInsufficient","message":"words","task_id":"","state":"","creations":[]}"#;
        let response = ProviderResponse::new(400, body);
        let expected = Failure::new(Reason::InsufficientCredits, false).code("CreditInsufficient").message("words");
        assert_eq!(Vidu.read_submission(&response), SubmissionResult::Refused(expected));
    }
}
