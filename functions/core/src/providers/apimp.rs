//! APIMP, doc.apimp.ai.
//!
//! APIMP sends no callbacks of its own. It hands the callback URL to the upstream, and the upstream posts *its* body under
//! *its* id with *its* signature. So this adapter asks, and takes four upstreams' bodies as hints: the URL alone says which
//! task one is about. Upstream signatures are made with APIMP's keys and cannot be checked here.
//!
//! | fact | source |
//! |---|---|
//! | `POST /api/generate/submit`, `input.metadata.callback_url`, `$.data.task_id` | confirmed: doc.apimp.ai/en/docs/common-api/task/webhook, …/generate/video-api |
//! | any other key at the top of `input` is refused | confirmed: …/generate/video-api |
//! | upstream bodies through the callback URL: Kling, Ark, `MiniMax` with its challenge, Vidu | confirmed: the webhook page; each body's own source is in that adapter |
//! | no way from an upstream's id to APIMP's | inferred: the page gives none |
//! | `GET /api/generate/status/{task_id}`, `not_started`, `finished`, `data.files[]` | confirmed: the same pages; `running`, `failed`, `error_message`, `progress` are inferred from an older service with the same calls |
//! | `file_type` is always `image` | confirmed: …/generate/video-api; the link's ending decides |
//! | HTTP statuses and error body | inferred from that older service |
//! | API host; life of links; rate limits; retries | unknown |

use super::prelude::*;
use super::{ark, kling, minimax, vidu};

/// APIMP.
pub(super) struct Apimp;

const NAME: &str = "apimp";

const PROFILE: Profile = Profile {
    title: "APIMP",
    // Only the host of the documentation is known.
    default_base_url: None,
    // `MiniMax`'s challenge comes through this URL too, and it is the tightest.
    answer_budget: 3,
    // Unknown. The shortest life that a page names for an upstream's link: nine hours (`MiniMax`).
    link_life: 9 * HOUR as i64,
    // No figure is documented; 15 to 30 s with back-off was advised for the older service.
    first_poll: 60,
    poll_interval: 15,
    longest_poll_interval: 300,
    // Unknown. The longest that an upstream takes by its own page: Vidu's 48 hours off-peak, and two more.
    deadline: 50 * HOUR,
    verified: "token in the URL; bodies are other systems', always confirmed by asking",
    retries: "the upstream's",
    confirmed: "submission; callbacks are the upstreams' own; the status call with not_started, finished and files",
    doubts: "API host; time to answer, retries, life of links, pace and end of asking; the status words running and \
        failed; the error body",
};

/// No codes are published: `error_message` is free text, and HTTP statuses are what they are everywhere.
const FAILURES: Failures = Failures { rules: &[], later: &[], otherwise: (Reason::ProviderError, Retry::IsPointless) };

const ENDPOINTS: &[&str] = &["/api/generate/submit"];

impl Adapter for Apimp {
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
        if body["data"].is_object() {
            // APIMP's own form; it says that it does not send it.
            return common::callback(first_id(&body["data"], IDS), statement(&body["data"], now));
        }
        common::foreign(upstream(&body, now))
    }

    /// The one `MiniMax` wants; the other upstreams want none.
    fn acknowledgement(&self) -> &'static str {
        r#"{"status":"success"}"#
    }

    fn submission(
        &self,
        submission: &Submission<'_>,
        settings: &ProviderSettings,
        _: Timestamp,
    ) -> Result<Request, InvalidSubmission> {
        let endpoint = common::endpoint(submission, ENDPOINTS)?;
        let body = with_callback_url(submission, &["input", "metadata", "callback_url"], submission.callback_url)?;
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
            api.get(&format!("/api/generate/status/{}", encoded(task.provider_task_id)))
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

const IDS: &[&str] = &["task_id"];

/// Reads the body of whichever upstream it is, told apart by the fields that only one of them has.
fn upstream(body: &Value, now: Timestamp) -> CallbackBody {
    let has = |field: &str| body.get(field).is_some();
    if has("task_status") || has("outputs") || has("create_time") {
        kling::callback(body, now)
    } else if has("state") || has("creations") || has("err_code") {
        vidu::callback(body, now)
    } else if ["challenge", "base_resp", "file_id", "task", "task_id"].into_iter().any(has)
        || !body["content"]["url"].is_null()
    {
        minimax::callback(body, now)
    } else {
        ark::callback(body, now)
    }
}

fn statement(task: &Value, now: Timestamp) -> Option<Statement> {
    Some(match word(&task["status"])?.as_str() {
        "not_started" | "running" | "queued" | "processing" => common::open_at(&task["progress"]),
        "finished" => {
            let mut links = Links::new(now, PROFILE.link_life);
            for file in items(&task["files"]) {
                links.add_by_ending(&file["file_url"]);
            }
            links.into_success()
        }
        "failed" => Statement::failed(FAILURES.of_task(None, text(&task["error_message"]))),
        unknown => Statement::unknown_status(unknown),
    })
}

/// The failure in `error`, or in an envelope whose code is no 2xx.
fn refusal(answer: &Answer<'_>, body: &Value) -> Option<Failure> {
    let error = &body["error"];
    let code = integer(&body["code"]).filter(|code| *code != 0 && !(200..300).contains(code));
    if code.is_none() && !error.is_object() {
        return None;
    }
    let code = code.map(|code| code.to_string()).or_else(|| first_text(error, &["code", "type"]));
    let message = text(&error["message"]).or_else(|| text(error)).or_else(|| first_text(body, &["message", "msg"]));
    Some(FAILURES.of_answer(answer.status, code, message))
}

fn api(settings: &ProviderSettings) -> Result<Api<'_>, InvalidSubmission> {
    Api::new(NAME, "Bearer", &PROFILE, settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_tasks_are_judged_by_their_words() {
        for (message, reason, retryable) in [
            ("content policy violation", Reason::ContentModeration, false),
            ("insufficient balance", Reason::InsufficientCredits, false),
            ("upstream timeout", Reason::Timeout, true),
            ("no idea", Reason::ProviderError, false),
        ] {
            let failure = FAILURES.of_task(None, Some(message.into()));
            assert_eq!((failure.reason, failure.retryable), (reason, retryable), "{message}");
        }
    }

    #[test]
    fn calls_are_judged_by_their_status() {
        for (status, reason, retryable) in [
            (400, Reason::InvalidParameters, false),
            (401, Reason::Unknown, false),
            (402, Reason::InsufficientCredits, false),
            (403, Reason::Unknown, false),
            (429, Reason::RateLimited, true),
            (500, Reason::ProviderError, true),
            (502, Reason::ProviderError, true),
        ] {
            let body = json!({"code": status, "error": {"message": "words", "type": "t"}}).to_string();
            let answer = Answer { status, retry_after: None, body: body.as_bytes() };
            let expected = Failure::new(reason, retryable).code(status.to_string()).message("words");
            assert_eq!(Apimp.read_submission(&answer), SubmissionAnswer::Refused(expected));
        }
    }
}
