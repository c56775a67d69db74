//! APIMP, doc.apimp.ai.
//!
//! APIMP sends no callbacks of its own. It passes the callback URL to the upstream, which posts *its* body under *its* id
//! with *its* signature. So the bodies of four upstreams are read as hints: only the URL says which task they are about, and
//! a status poll has to confirm them. Upstreams sign with APIMP's keys, so their signatures cannot be verified here.
//!
//! | fact | source |
//! |---|---|
//! | `POST /api/generate/submit`, `input.metadata.callback_url`, `$.data.task_id` | confirmed: doc.apimp.ai/en/docs/common-api/task/webhook, …/generate/video-api |
//! | any other key at the top of `input` is refused | confirmed: …/generate/video-api |
//! | upstream bodies through the callback URL: Kling, Ark, `MiniMax` with its challenge, Vidu | confirmed: the webhook page; each body's own source is in that adapter |
//! | no way to get from an upstream's id to APIMP's | inferred: the page has none |
//! | `GET /api/generate/status/{task_id}`, `not_started`, `finished`, `data.files[]` | confirmed: the same pages; `running`, `failed`, `error_message`, `progress` are inferred from an older service with the same calls |
//! | `file_type` is always `image` | confirmed: …/generate/video-api; the file extension decides |
//! | HTTP statuses and error body | inferred from that older service |
//! | API host; link life; rate limits; retries | unknown |

use super::prelude::*;
use super::{ark, kling, minimax, vidu};

pub(super) struct Apimp;

const NAME: &str = "apimp";

const PROFILE: Profile = Profile {
    title: "APIMP",
    // Only the documentation's host is known.
    default_base_url: None,
    callbacks: Some(Callbacks {
        // `MiniMax`'s challenge uses this URL too and has the shortest timeout.
        response_timeout: Duration::from_secs(3),
        reports_failures: true,
        verified: "URL token, and always a status poll",
        retries: "as the upstream",
    }),
    // Unknown. The shortest life that samples of an upstream show: nine hours (`MiniMax`).
    link_life: Duration::from_hours(9),
    // Not documented. The older service recommended 15 to 30 s with back-off.
    first_poll: FIRST_POLL,
    poll_interval: Duration::from_secs(15),
    max_poll_interval: Duration::from_mins(5),
    // Unknown. The longest that an upstream documents, Vidu's 48 hours off-peak, plus two.
    deadline: Duration::from_hours(50),
    cancellable: None,
    marker: None,
    usage: None,
    confirmed: "submission; callbacks are the upstreams' own; the status call with not_started, finished and files",
    unconfirmed: "API host; response timeout, retries, link life, poll schedule and deadline; the status words running and \
        failed; the error body",
};

/// No codes are published: `error_message` is free text, and HTTP statuses have their usual meaning.
const FAILURES: Failures = Failures { rules: &[], later: &[], otherwise: (Reason::ProviderError, Retry::IsPointless) };

const ENDPOINTS: &[&str] = &["/api/generate/submit"];

impl Adapter for Apimp {
    fn profile(&self) -> &'static Profile {
        &PROFILE
    }

    fn names_its_tasks(&self) -> bool {
        // They are the upstreams' own, under the upstreams' ids.
        false
    }

    fn read_callback(&self, body: &[u8], now: Timestamp) -> CallbackBody {
        let Some(body) = object(body) else { return CallbackBody::Unreadable };
        if body["data"].is_object() {
            // APIMP's own form. Its page says that it never sends it.
            return responses::callback(first_id(&body["data"], IDS), task_status(&body["data"], now));
        }
        responses::foreign(upstream(&body, now))
    }

    /// The body that `MiniMax` expects; the other upstreams expect none.
    fn acknowledgement(&self) -> &'static str {
        r#"{"status":"success"}"#
    }

    fn submission(
        &self,
        submission: &Submission<'_>,
        settings: &ProviderSettings,
        _: Timestamp,
    ) -> Result<Request, InvalidSubmission> {
        requests::submission(&api(settings)?, submission, ENDPOINTS, &["input", "metadata", "callback_url"])
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
            api.get(&format!("/api/generate/status/{}", encoded(task.provider_task_id)))
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

const IDS: &[&str] = &["task_id"];

/// Reads the body of an upstream, told apart by the fields that only one of them has.
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

fn task_status(task: &Value, now: Timestamp) -> Option<TaskStatus> {
    Some(match status_word(&task["status"])?.as_str() {
        "not_started" | "running" | "queued" | "processing" => responses::open_at(&task["progress"]),
        "finished" => {
            let mut links = Links::new(now, PROFILE.link_life);
            for file in items(&task["files"]) {
                links.add_by_extension(&file["file_url"]);
            }
            links.into_success()
        }
        "failed" => TaskStatus::failed(FAILURES.of_task(None, text(&task["error_message"]))),
        unknown => TaskStatus::unknown_status(unknown),
    })
}

/// The failure in `error`, or in an envelope with a code other than 2xx.
fn refusal(response: &ProviderResponse, body: &Value) -> Option<Failure> {
    let error = &body["error"];
    let code = integer(&body["code"]).filter(|code| *code != 0 && !(200..300).contains(code));
    if code.is_none() && !error.is_object() {
        return None;
    }
    let code = code.map(|code| code.to_string()).or_else(|| first_text(error, &["code", "type"]));
    let message = text(&error["message"]).or_else(|| text(error)).or_else(|| first_text(body, &["message", "msg"]));
    Some(FAILURES.of_response(response.status, code, message))
}

fn api(settings: &ProviderSettings) -> Result<Api<'_>, InvalidSubmission> {
    Api::new(NAME, "Bearer", &PROFILE, settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_tasks_are_classified_by_their_message() {
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
    fn calls_are_classified_by_their_http_status() {
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
            let response = ProviderResponse::new(status, body.as_bytes());
            let expected = Failure::new(reason, retryable).code(status.to_string()).message("words");
            assert_eq!(refusal(&response, &object(&response.body).expect("an object")), Some(expected));
        }
    }
}
