//! Vidu (Shengshu), its own API.
//!
//! Callbacks are signed over method, path, query and some headers, and not over the body: a good signature says who sent
//! it and where to, not what is in it. So what a callback says is always confirmed by asking.
//!
//! | fact | source |
//! |---|---|
//! | signature scheme and a worked string to sign | confirmed: platform.vidu.com/docs/callback-signature; the page publishes no signature for it |
//! | which token is the secret | the one that created the task, by the page; a client says otherwise; see `authenticate` |
//! | whether `Date` reaches a Lambda unchanged | unknown: `x-amzn-remapped-date` is read where it is not there |
//! | a window of freshness | none is documented; 300 s |
//! | `POST /ent/v2/text2video` and others, `Authorization: Token`, `callback_url`, `$.task_id` | confirmed: platform.vidu.com/docs/text-to-video, …/image-to-video |
//! | success and failed are sent again up to three times | confirmed: the same pages; delays and time-out are unknown |
//! | `id` in callbacks, `task_id` in the submission's answer | the query page and a public handler; both are read |
//! | `GET /ent/v2/tasks/{id}/creations`, list with `task_ids` | confirmed: …/get-generation, …/tasks-list; that `task_ids` is repeated for several is inferred |
//! | off-peak tasks may take 48 hours | confirmed: …/text-to-video |
//! | links live 24 hours | confirmed: …/get-generation; an older version said one hour |
//! | covers live one hour | five logged answers, `X-Amz-Expires=3600` |
//! | error names, for calls and tasks alike | confirmed: …/error-code; the retry column is inferred |
//! | links are signed when they are asked for | inferred from one link younger than its file |
//! | `status` for `state`; the state `scheduled`; the error's name in `code` | single observations |

use super::prelude::*;
use crate::signature::signed_route;

/// Vidu.
pub(super) struct Vidu;

const NAME: &str = "vidu";

const PROFILE: Profile = Profile {
    title: "Vidu",
    // International. `https://api.vidu.cn` in China.
    default_base_url: Some("https://api.vidu.com"),
    // Not documented. The tightest budget that is documented anywhere for reports.
    answer_budget: 5,
    // "24 h". Counted from the answer: links look signed when they are asked for.
    link_life: DAY as i64,
    // No figure is documented. A render takes a minute or a few.
    first_poll: 60,
    poll_interval: 15,
    longest_poll_interval: 600,
    // Off-peak tasks take up to 48 hours and are cancelled then; two hours more to hear of it.
    deadline: 50 * HOUR,
    verified: "HMAC over method, path, query and headers, not the body; always confirmed by asking",
    retries: "up to 3 more for success and failed",
    confirmed: "string to sign; three retries of success and failed; links for 24 h; off-peak takes up to 48 h",
    doubts: "which token signs; time to answer and delays; whether the Date header reaches a Lambda unchanged; life of \
        covers (1 h seen); pace and end of asking",
};

/// Life of a cover, in seconds: `X-Amz-Expires=3600` in every logged answer.
const COVER_LIFE: i64 = HOUR as i64;

/// Ids in one list call. A page holds 100; 50 ids of 18 digits keep the URL short.
const MOST_IDS: usize = 50;

/// From the error code page: `reason` of a call and `err_code` of a task share one list.
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
        // The host of the picture may have been slow.
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
    // Names that may be added beside those listed.
    later: &[prefix("Field", Reason::InvalidParameters), prefix("Image", Reason::InvalidParameters)],
    otherwise: (Reason::Unknown, Retry::IsPointless),
};

impl Adapter for Vidu {
    fn profile(&self) -> &'static Profile {
        &PROFILE
    }

    /// With signing secrets configured, every callback has to carry a good signature. With only an API key, a good
    /// signature by it is taken for what it is, and everything else for unsigned: the key may not be the one that signs,
    /// `Date` may not survive the way here, and whoever wants to be taken for unsigned need only leave the headers away.
    /// Either way the provider is asked before a result is believed.
    fn authenticate(
        &self,
        request: &CallbackRequest<'_>,
        settings: &ProviderSettings,
        now: Timestamp,
    ) -> Result<Authenticity, Refusal> {
        if !settings.signing_secrets.is_empty() {
            signed_route(request, ACCESS_KEY, &settings.signing_secrets, now)?;
            return Ok(Authenticity::SignedSender);
        }
        let key = settings.api_key.as_slice();
        let signed = !key.is_empty() && signed_route(request, ACCESS_KEY, key, now).is_ok();
        Ok(if signed { Authenticity::SignedSender } else { Authenticity::Unsigned })
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
        let endpoint = common::named_endpoint(submission, "/ent/v2/text2video", |endpoint| {
            let name = endpoint.strip_prefix("/ent/v2/").unwrap_or_default();
            !name.is_empty() && !name.contains('/') && !matches!(name, "tasks" | "credits")
        })?;
        let body = with_callback_url(submission, &["callback_url"], submission.callback_url)?;
        Ok(api(settings)?.post(endpoint, &body))
    }

    fn read_submission(&self, answer: &Answer<'_>) -> SubmissionAnswer {
        let body = object(answer.body).unwrap_or_default();
        common::submission(answer, first_id(&body, &["task_id", "id"]), refusal(answer, &body))
    }

    fn status_requests(
        &self,
        tasks: &[PolledTask<'_>],
        settings: &ProviderSettings,
        _: Timestamp,
    ) -> Vec<StatusRequest> {
        let Ok(api) = api(settings) else { return vec![] };
        let positions: Vec<usize> = (0..tasks.len()).collect();
        common::together(tasks, &positions, MOST_IDS, |ids| match ids {
            // Says so when it does not know an id, and knows older ones than the list.
            [id] => api.get(&format!("/ent/v2/tasks/{id}/creations")),
            ids => {
                let filter = common::repeated("task_ids", ids);
                api.get(&format!("/ent/v2/tasks?{filter}&pager.pagesz={}", ids.len()))
            }
        })
    }

    fn read_status(&self, answer: &Answer<'_>, provider_task_id: &str, now: Timestamp) -> StatusAnswer {
        let Some(body) = object(answer.body) else { return common::status_by_http_alone(answer) };
        if let Some(failure) = refusal(answer, &body) {
            let unknown_id = matches!(failure.code.as_deref(), Some("TaskNotFound" | "NotFound" | "CreationNotFound"));
            return if unknown_id { StatusAnswer::NotFound } else { common::status_refused(answer, failure) };
        }
        if !answer.is_success() {
            return common::status_by_http_alone(answer);
        }
        let task = if body["tasks"].is_array() {
            let named = |task: &&Value| IDS.iter().any(|field| id(&task[*field]).as_deref() == Some(provider_task_id));
            match items(&body["tasks"]).iter().find(named) {
                Some(task) => task,
                None => return StatusAnswer::NotFound,
            }
        } else {
            &body
        };
        // The English page leaves the id out of the answer.
        if !common::is_about(task, IDS, provider_task_id) {
            return StatusAnswer::Unreadable;
        }
        common::status(statement(task, now))
    }

    fn status_id(&self, answer: &Answer<'_>) -> Option<String> {
        let body = object(answer.body)?;
        first_id(items(&body["tasks"]).first().unwrap_or(&body), IDS)
    }
}

const IDS: &[&str] = &["id", "task_id"];

/// The access key in every string to sign.
const ACCESS_KEY: &str = "vidu";

/// Reads the body of a callback; `APIMP` hands such bodies on.
pub(super) fn callback(task: &Value, now: Timestamp) -> CallbackBody {
    common::callback(first_id(task, IDS), statement(task, now))
}

fn statement(task: &Value, now: Timestamp) -> Option<Statement> {
    Some(match word(&task["state"]).or_else(|| word(&task["status"]))?.as_str() {
        "created" | "queueing" | "scheduled" | "processing" => Statement::open(),
        "success" => links(task, now).into_success(),
        "failed" => {
            Statement::failed(FAILURES.of_task(text(&task["err_code"]), first_text(task, &["err_msg", "message"])))
        }
        unknown => Statement::unknown_status(unknown),
    })
}

fn links(task: &Value, now: Timestamp) -> Links {
    let mut links = Links::new(now, PROFILE.link_life);
    for creation in items(&task["creations"]) {
        links.add_by_ending(&creation["url"]);
        links.add_living(Kind::Cover, &creation["cover_url"], COVER_LIFE);
        links.add(Kind::WatermarkedVideo, &creation["watermarked_url"]);
    }
    links
}

/// The failure of a call. Its name is in `reason`, and now and then in `code`.
fn refusal(answer: &Answer<'_>, body: &Value) -> Option<Failure> {
    if first_text(body, &["state", "task_id"]).is_some() || !items(&body["creations"]).is_empty() {
        return None;
    }
    let code = first_text(body, &["reason", "code"])?;
    // What a gateway writes over an answer that it passes on is no name of Vidu's.
    if answer.is_success() && matches!(code.as_str(), "0" | "200") {
        return None;
    }
    Some(FAILURES.of_answer(answer.status, Some(code), text(&body["message"])))
}

fn api(settings: &ProviderSettings) -> Result<Api<'_>, InvalidSubmission> {
    Api::new(NAME, "Token", &PROFILE, settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_reached() {
        FAILURES.assert_that_every_row_is_reached();
    }

    /// The error code page: calls and tasks share one list.
    #[test]
    fn names_are_judged_in_calls_and_tasks() {
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
                let read = statement(&task, Timestamp::from_seconds(0));
                assert_eq!(read, Some(Statement::failed(expected.clone())), "{name}");
                let body = json!({"code": status, "reason": name, "message": "words"}).to_string();
                let answer = Answer { status, retry_after: None, body: body.as_bytes() };
                if status != 499 {
                    let expected = SubmissionAnswer::Refused(expected.message("words"));
                    assert_eq!(Vidu.read_submission(&answer), expected, "{name}");
                }
            }
        }
    }

    #[test]
    fn a_name_nobody_listed_is_judged_by_its_http_status() {
        let body = br#"{"code":500,"reason":"VendorTrouble","message":"words"}"#;
        let answer = Answer { status: 500, retry_after: None, body };
        let expected = Failure::new(Reason::ProviderError, true).code("VendorTrouble").message("words");
        assert_eq!(Vidu.read_submission(&answer), SubmissionAnswer::Refused(expected));
    }

    /// It once was judged by its HTTP status alone, without the provider's words.
    #[test]
    fn a_refusal_may_have_an_empty_task_in_it() {
        let body =
            br#"{"code":400,"reason":"CreditInsufficient","message":"words","task_id":"","state":"","creations":[]}"#;
        let answer = Answer { status: 400, retry_after: None, body };
        let expected = Failure::new(Reason::InsufficientCredits, false).code("CreditInsufficient").message("words");
        assert_eq!(Vidu.read_submission(&answer), SubmissionAnswer::Refused(expected));
    }
}
