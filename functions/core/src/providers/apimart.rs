//! `APIMart`, docs.apimart.ai.
//!
//! It appends `/callback` to the URL it is given, calls it once the task is final, and gives up for good on any 4xx. The
//! body is that of the status call.
//!
//! | fact | source |
//! |---|---|
//! | `POST /v1/videos/generations`, `$.data[0].task_id`; an older page has `$.data.id` | confirmed: docs.apimart.ai/en/api-reference/videos/sora2/generation, …/veo3/generation |
//! | `webhook` is a base URL, `/callback` is appended | confirmed by a public client's test; the webhook page itself could not be read |
//! | 10 s, up to 3 more tries after 10, 30 and 60 s, and none after a 4xx | from a copy of the webhook page's text |
//! | status body, status words, `url` as a list (older: a string), `expires_at` | confirmed: docs.apimart.ai/en/api-reference/tasks/status |
//! | `data.error` with code and message; links live 24 hours | public clients, and the sample's `expires_at` agrees |
//! | whether the pushed body keeps its `{code, data}` envelope | unknown: both forms are read |
//! | retries of failed tasks | inferred from codes that look like HTTP |
//! | `result.thumbnail_url`; links relative to the host; HTTP 202 with a list that says `processing` | single observations |
//!
//! Image results may list the reference picture first; nothing tells it from a result, so it is copied too.

use url::Url;

use super::prelude::*;

/// `APIMart`.
pub(super) struct ApiMart;

const NAME: &str = "apimart";

/// The host that links without one belong to.
const HOST: &str = "https://api.apimart.ai";

const PROFILE: Profile = Profile {
    title: "APIMart",
    // The docs write it with `/v1`, which every path here brings along; white labels and mainland twins exist.
    default_base_url: Some(HOST),
    // "On time-out (about 10 s)."
    answer_budget: 10,
    // A public client's notes; the documented sample's `expires_at` is 86,400 s after completion.
    link_life: DAY as i64,
    // No official figure. A render takes 40 to 300 s, and a public client asks every 5 s.
    first_poll: 45,
    poll_interval: 15,
    longest_poll_interval: 120,
    // Nothing is documented. Within a day the links of a task that ended unheard would be dead anyway.
    deadline: DAY,
    verified: "token in the URL; signs nothing",
    retries: "3 more within about 2 minutes, none after a 4xx",
    confirmed: "submission; status body and words; expires_at, 24 h ahead in the samples",
    doubts: "time to answer and retries (from a copy of the webhook page); whether the pushed body has its envelope; \
        life of links without expires_at; pace and end of asking; retries of failed tasks are inferred",
};

/// Codes of failed tasks look like HTTP statuses, or are names such as `invalid_duration`; there is no published list.
const FAILURES: Failures = Failures {
    rules: &[
        // About the key, also where it is the key that expired.
        code("401", Reason::Unknown),
        code("authentication_error", Reason::Unknown),
        // A reference picture or video whose link died: it has to be hosted again first.
        words("expired", Reason::InvalidParameters),
    ],
    later: &[prefix("invalid_", Reason::InvalidParameters), code("payment_required", Reason::InsufficientCredits)],
    otherwise: (Reason::ProviderError, Retry::Helps),
};

const ENDPOINTS: &[&str] = &["/v1/videos/generations", "/v1/images/generations"];

impl Adapter for ApiMart {
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
        let task = in_data(&body);
        common::callback(first_id(task, IDS), statement(task, now))
    }

    fn submission(
        &self,
        submission: &Submission<'_>,
        settings: &ProviderSettings,
        _: Timestamp,
    ) -> Result<Request, InvalidSubmission> {
        let endpoint = common::endpoint(submission, ENDPOINTS)?;
        // A base: it collapses a trailing slash and appends `/callback` itself.
        let base = submission.callback_url.trim_end_matches('/');
        let body = with_callback_url(submission, &["webhook"], base)?;
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
            api.get(&format!("/v1/tasks/{}?language=en", encoded(task.provider_task_id)))
        })
    }

    fn read_status(&self, answer: &Answer<'_>, provider_task_id: &str, now: Timestamp) -> StatusAnswer {
        let Some(body) = object(answer.body) else { return common::status_by_http_alone(answer) };
        let task = in_data(&body);
        if let (true, None) = (task["status"].is_null(), text(&task["task_id"])) {
            return match refusal(answer, &body) {
                Some(failure) if failure.code.as_deref() == Some("404") => StatusAnswer::NotFound,
                Some(failure) => common::status_refused(answer, failure),
                None => common::status_by_http_alone(answer),
            };
        }
        if !answer.is_success() || !common::is_about(task, IDS, provider_task_id) {
            return common::status_by_http_alone(answer);
        }
        common::status(statement(task, now))
    }

    fn status_id(&self, answer: &Answer<'_>) -> Option<String> {
        first_id(in_data(&object(answer.body)?), IDS)
    }
}

const IDS: &[&str] = &["id", "task_id"];

fn statement(task: &Value, now: Timestamp) -> Option<Statement> {
    Some(match word(&task["status"])?.as_str() {
        "pending" | "processing" | "submitted" | "queued" | "in_progress" => common::open_at(&task["progress"]),
        "completed" => links(task, now).into_success(),
        "failed" => {
            let (code, message) = error(task);
            Statement::failed(FAILURES.of_task(code, message))
        }
        "cancelled" | "canceled" => {
            let (code, message) = error(task);
            let failure = Failure::new(Reason::Cancelled, false).code(code.unwrap_or_default());
            Statement::failed(failure.message(message.unwrap_or_default()))
        }
        unknown => Statement::unknown_status(unknown),
    })
}

/// Code and message of `error`, which may be the message alone.
fn error(body: &Value) -> (Option<String>, Option<String>) {
    match &body["error"] {
        error @ Value::Object(_) => (first_text(error, &["code", "type"]), text(&error["message"])),
        error => (None, text(error)),
    }
}

fn links(task: &Value, now: Timestamp) -> Links {
    let mut links = Links::new(moment(&task["completed"]).unwrap_or(now), PROFILE.link_life);
    let result = &task["result"];
    for (field, kind) in [("videos", Kind::Video), ("images", Kind::Image), ("audios", Kind::Audio)] {
        for file in items(&result[field]) {
            match if file.is_string() { file } else { &file["url"] } {
                Value::Array(urls) => {
                    for url in urls {
                        links.add_until(kind, &absolute(url), &file["expires_at"]);
                    }
                }
                url => links.add_until(kind, &absolute(url), &file["expires_at"]),
            }
        }
    }
    links.add(Kind::Cover, &absolute(&result["thumbnail_url"]));
    links
}

/// The link with the API's host where it has none, such as `/f/video/clip.mp4`.
fn absolute(link: &Value) -> Value {
    match link.as_str() {
        Some(path) if path.starts_with('/') && !path.starts_with("//") => {
            let joined = Url::parse(HOST).and_then(|host| host.join(path));
            joined.map_or(Value::Null, |url| Value::String(url.into()))
        }
        _ => link.clone(),
    }
}

/// The failure in `error`, or in an envelope whose code is no 2xx.
fn refusal(answer: &Answer<'_>, body: &Value) -> Option<Failure> {
    let (code, message) = error(body);
    if body["error"].is_object() || (message.is_some() && !answer.is_success()) {
        return Some(FAILURES.of_answer(answer.status, code, message));
    }
    let code = integer(&body["code"]).filter(|code| *code != 0 && !(200..300).contains(code))?;
    Some(FAILURES.of_answer(answer.status, Some(code.to_string()), first_text(body, &["message", "msg"])))
}

fn api(settings: &ProviderSettings) -> Result<Api<'_>, InvalidSubmission> {
    Ok(Api::new(NAME, "Bearer", &PROFILE, settings)?.without_suffix("/v1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_reached() {
        FAILURES.assert_that_every_row_is_reached();
    }

    #[test]
    fn words_decide_before_codes() {
        for (code, message, reason, retryable) in [
            ("400", "bad size", Reason::InvalidParameters, false),
            ("invalid_duration", "duration must be 5 or 10", Reason::InvalidParameters, false),
            ("500", "content policy", Reason::ContentModeration, false),
            ("400", "Prompt violates our guidelines", Reason::ContentModeration, false),
            ("401", "Invalid token", Reason::Unknown, false),
            ("401", "Your token has expired", Reason::Unknown, false),
            ("402", "Insufficient balance", Reason::InsufficientCredits, false),
            ("403", "model not allowed", Reason::Unknown, false),
            ("429", "slow down", Reason::RateLimited, true),
            ("500", "", Reason::ProviderError, true),
            ("503", "busy", Reason::ProviderError, true),
            ("400", "image url expired", Reason::InvalidParameters, false),
            ("", "who knows", Reason::ProviderError, true),
        ] {
            let failure = FAILURES.of_task(Some(code.into()), Some(message.into()));
            assert_eq!((failure.reason, failure.retryable), (reason, retryable), "{code} {message}");
        }
    }
}
