//! `APIMart`, docs.apimart.ai.
//!
//! It appends `/callback` to the URL it is given, calls it when the task is final, and never retries after a 4xx. The body
//! is that of the status call.
//!
//! | fact | source |
//! |---|---|
//! | `POST /v1/videos/generations`, `$.data[0].task_id`; an older page has `$.data.id` | confirmed: docs.apimart.ai/en/api-reference/videos/sora2/generation, …/veo3/generation |
//! | `webhook` is a base URL, `/callback` is appended | confirmed by a public client's test; the webhook page could not be read |
//! | timeout of 10 s; 3 retries after 10, 30 and 60 s, none after a 4xx | from a copy of the webhook page's text |
//! | status body, status words, `url` as a list (older: a string), `expires_at` | confirmed: docs.apimart.ai/en/api-reference/tasks/status |
//! | `data.error` with code and message; links live 24 hours | public clients; the sample's `expires_at` agrees |
//! | whether the pushed body keeps its `{code, data}` envelope | unknown; both forms are read |
//! | which failed tasks are retryable | inferred from codes that look like HTTP |
//! | `result.thumbnail_url`; host-relative links, on the file host; HTTP 202 with a list that says `processing`; final bodies without an id | single observations |
//!
//! Image results may list the reference image first. Nothing tells it from a result, so it is copied too.

use super::prelude::*;

pub(super) struct ApiMart;

const NAME: &str = "apimart";

/// The host of files, against which clients resolve host-relative links. A guess, as no page says so.
const FILE_HOST: &str = "https://upload.apimart.ai";

const PROFILE: Profile = Profile {
    title: "APIMart",
    // The docs write it with `/v1`, which every path here includes. White labels and mainland twins exist.
    default_base_url: Some("https://api.apimart.ai"),
    callbacks: Some(Callbacks {
        // "On time-out (about 10 s)."
        response_timeout: Duration::from_secs(10),
        reports_failures: true,
        verified: "URL token",
        retries: "3 within about 2 minutes, none after a 4xx",
    }),
    // A public client's notes; the documented sample's `expires_at` is 86,400 s after completion.
    link_life: Duration::from_hours(24),
    // No official figure. A render takes 40 to 300 s, and a public client polls every 5 s.
    first_poll: FIRST_POLL,
    poll_interval: Duration::from_secs(15),
    max_poll_interval: Duration::from_mins(2),
    // Not documented. After a day, the links of a task whose end was missed would be dead anyway.
    deadline: Duration::from_hours(24),
    cancellable: None,
    marker: Some("`Idempotency-Key`, not confirmed"),
    usage: Some("an amount without a currency, credits"),
    confirmed: "submission; status body and words; expires_at, 24 h ahead in the samples",
    unconfirmed: "response timeout and retries (from a copy of the webhook page); whether the pushed body has its envelope; \
        link life without expires_at; poll schedule and deadline; which failed tasks are retryable",
};

/// Codes of failed tasks look like HTTP statuses or are names such as `invalid_duration`. There is no published list.
const FAILURES: Failures = Failures {
    rules: &[
        // About the key, even when the message says that it expired.
        code("401", Reason::Unknown),
        code("authentication_error", Reason::Unknown),
        // A reference image or video whose link is dead: it has to be hosted again first.
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

    fn read_callback(&self, body: &[u8], now: Timestamp) -> CallbackBody {
        let Some(body) = object(body) else { return CallbackBody::Unreadable };
        let task = in_data(&body);
        responses::callback_with_optional_id(first_id(task, IDS), task_status(task, now))
    }

    fn submission(
        &self,
        submission: &Submission<'_>,
        settings: &ProviderSettings,
        _: Timestamp,
    ) -> Result<Request, InvalidSubmission> {
        let endpoint = requests::endpoint(submission, ENDPOINTS)?;
        // A base URL: APIMart drops a trailing slash and appends `/callback`.
        let base = submission.callback_url.trim_end_matches('/');
        let body = requests::with_callback_url(submission, &["webhook"], base)?;
        let mut request = api(settings)?.post(endpoint, &body);
        request.headers.push(("idempotency-key", Secret::new(submission.marker)));
        Ok(request)
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
            api.get(&format!("/v1/tasks/{}?language=en", encoded(task.provider_task_id)))
        })
    }

    fn read_status(&self, response: &ProviderResponse, provider_task_id: &str, now: Timestamp) -> StatusResult {
        let Some(body) = object(&response.body) else { return responses::status_by_http_status(response) };
        let task = in_data(&body);
        if let (true, None) = (task["status"].is_null(), text(&task["task_id"])) {
            return match refusal(response, &body) {
                Some(failure) if failure.code.as_deref() == Some("404") => StatusResult::NotFound,
                Some(failure) => responses::status_refused(response, failure),
                None => responses::status_by_http_status(response),
            };
        }
        if !response.is_success() || !is_about(task, IDS, provider_task_id) {
            return responses::status_by_http_status(response);
        }
        responses::status(task_status(task, now))
    }

    fn status_id(&self, response: &ProviderResponse) -> Option<String> {
        first_id(in_data(&object(&response.body)?), IDS)
    }
}

const IDS: &[&str] = &["id", "task_id"];

fn task_status(task: &Value, now: Timestamp) -> Option<TaskStatus> {
    let task_status = match status_word(&task["status"])?.as_str() {
        "pending" | "processing" | "submitted" | "queued" | "in_progress" => responses::open_at(&task["progress"]),
        "completed" => links(task, now).into_success(),
        "failed" => {
            let (code, message) = error(task);
            TaskStatus::failed(FAILURES.of_task(code, message))
        }
        "cancelled" | "canceled" => {
            let (code, message) = error(task);
            let failure = Failure::new(Reason::Cancelled, false).code(code.unwrap_or_default());
            TaskStatus::failed(failure.message(message.unwrap_or_default()))
        }
        unknown => TaskStatus::unknown_status(unknown),
    };
    // `cost` names no currency.
    Some(task_status.with_usage(Usage::of_credits(&task["credits_cost"]).with_amount(&task["cost"], &Value::Null)))
}

/// Code and message of `error`, which may be a message only.
fn error(body: &Value) -> (Option<String>, Option<String>) {
    match &body["error"] {
        error @ Value::Object(_) => (first_text(error, &["code", "type"]), text(&error["message"])),
        error => (None, text(error)),
    }
}

/// The links of a task. Host-relative ones come last, because their host is a guess.
fn links(task: &Value, now: Timestamp) -> Links {
    let mut links = Links::new(timestamp(&task["completed"]).unwrap_or(now), PROFILE.link_life);
    let result = &task["result"];
    for is_guess in [false, true] {
        for (field, kind) in [("videos", Kind::Video), ("images", Kind::Image), ("audios", Kind::Audio)] {
            for file in items(&result[field]) {
                for url in items(if file.is_string() { file } else { &file["url"] }) {
                    if is_host_relative(url) == is_guess {
                        links.add_with_expiry(kind, &absolute(url), &file["expires_at"]);
                    }
                }
            }
        }
    }
    links.add(Kind::Cover, &absolute(&result["thumbnail_url"]));
    links
}

/// Whether a link has no host, such as `/f/video/clip.mp4`.
fn is_host_relative(link: &Value) -> bool {
    link.as_str().is_some_and(|link| link.starts_with('/') && !link.starts_with("//"))
}

/// The link, on the file host if it has no host.
fn absolute(link: &Value) -> Value {
    match link.as_str() {
        Some(path) if is_host_relative(link) => Value::String(format!("{FILE_HOST}{path}")),
        _ => link.clone(),
    }
}

/// The failure in `error`, or in an envelope with a code other than 2xx.
fn refusal(response: &ProviderResponse, body: &Value) -> Option<Failure> {
    let (code, message) = error(body);
    if body["error"].is_object() || (message.is_some() && !response.is_success()) {
        return Some(FAILURES.of_response(response.status, code, message));
    }
    let code = integer(&body["code"]).filter(|code| *code != 0 && !(200..300).contains(code))?;
    Some(FAILURES.of_response(response.status, Some(code.to_string()), first_text(body, &["message", "msg"])))
}

fn api(settings: &ProviderSettings) -> Result<Api<'_>, InvalidSubmission> {
    Ok(Api::new(NAME, "Bearer", &PROFILE, settings)?.without_suffix("/v1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_reachable() {
        FAILURES.assert_every_row_is_reachable();
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
