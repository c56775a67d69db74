//! `OpenRouter`, its video API: one kind of job over many upstreams.
//!
//! A callback is an envelope around the job, sent when the job ends. It is signed only if the workspace has a signing secret. The links of
//! a result are called unsigned, yet lead into the API and require the key.
//!
//! | fact | source |
//! |---|---|
//! | `POST /api/v1/videos`, `callback_url`, `$.id`; `GET /api/v1/videos/{id}` every 10 to 30 s | confirmed: openrouter.ai/docs/guides/overview/multimodal/video-generation |
//! | envelope, its four types, final states only; the header of the signature and the string to sign | confirmed: openrouter.ai/docs/cookbook/video-generation/video-generation-webhooks |
//! | states, `usage.cost` in USD, `error` as text | confirmed: OpenRouterTeam/typescript-sdk, which declares the states open |
//! | `dead` | in OpenRouterTeam/ai-sdk-provider only, as a failure |
//! | `unsigned_urls` lead to `/api/v1/videos/{id}/content?index=…`, with the key | confirmed: the guide; links to other hosts are in tests of public clients |
//! | `urls` of the storage beside them, without a key | in one version of the guide, never observed |
//! | error codes, `metadata.reasons` of a moderated input, `metadata.raw` of an upstream | confirmed: openrouter.ai/docs/api_reference/errors; the retry column is inferred |
//! | which words in `error` mean what; a response without `id`; an error under HTTP 200 | inferred; tests and logs of public clients |
//! | life of a file, which is called short; retries and timeout of deliveries; several `v1` | unknown |
//! | cancellation, an id of ours | no page has either |

use super::adapter::{BodyTrust, HintReason};
use super::prelude::*;
use crate::signature::openrouter_hmac;

pub(super) struct OpenRouter;

const NAME: &str = "openrouter";

const PROFILE: Profile = Profile {
    title: "OpenRouter",
    default_base_url: Some("https://openrouter.ai"),
    callbacks: Some(Callbacks {
        // Not documented. The shortest timeout that any provider documents for reports, to be safe.
        response_timeout: Duration::from_secs(5),
        reports_failures: true,
        verified: "HMAC over time and body (opt-in)",
        retries: "not documented",
    }),
    // Called short, without a figure. The links are routes of the API and never change, so another poll gives no other. Chosen freely.
    link_life: Duration::from_hours(24),
    first_poll: FIRST_POLL,
    poll_interval: Duration::from_secs(15),
    max_poll_interval: Duration::from_mins(5),
    // How long a job may live is not documented. Chosen freely: hundreds of times the usual render.
    deadline: Duration::from_hours(24),
    cancellable: None,
    marker: None,
    usage: Some("an amount in USD"),
    confirmed: "submission; callbacks of final states; string to sign; states; the API's own route to a file; polls every 10 to 30 s",
    unconfirmed: "response timeout and retries; link life; urls of the storage; the state dead; which failed jobs are retryable; \
        poll schedule beyond the 10 s and deadline",
};

/// A job fails with text only. The codes of a refused call repeat the HTTP status, which decides where there is no row.
const FAILURES: Failures = Failures {
    rules: &[
        code("524", Reason::Timeout).retryable(),
        // Before the policy, which in "No endpoints found matching your data policy" is the account's own.
        words("no endpoints", Reason::InvalidParameters),
        words("policy", Reason::ContentModeration),
    ],
    later: &[
        words("insufficient", Reason::InsufficientCredits),
        words("429", Reason::RateLimited).retryable(),
        words("expired", Reason::Expired).retryable(),
    ],
    otherwise: (Reason::ProviderError, Retry::Helps),
};

const ENDPOINTS: &[&str] = &["/api/v1/videos"];

impl Adapter for OpenRouter {
    fn profile(&self) -> &'static Profile {
        &PROFILE
    }

    fn authenticate(
        &self,
        request: &CallbackRequest<'_>,
        settings: &ProviderSettings,
        now: Timestamp,
    ) -> Result<Authenticity, Refusal> {
        if settings.signing_secrets.is_empty() {
            return Ok(Authenticity::Unverified);
        }
        openrouter_hmac(&request.headers, request.body, &settings.signing_secrets, now)?;
        Ok(Authenticity::SignedBody)
    }

    fn read_callback(&self, body: &[u8], now: Timestamp) -> CallbackBody {
        let Some(body) = object(body) else { return CallbackBody::Unreadable };
        let job = in_data(&body);
        let ended_at = timestamp(&body["created_at"]).unwrap_or(now);
        match responses::callback(first_id(job, IDS), task_status(job, ended_at)) {
            CallbackBody::Task { provider_task_id, task_status, .. } if !is_consistent(&body) => {
                CallbackBody::Task { provider_task_id, task_status, trust: BodyTrust::Hint(HintReason::Unreadable) }
            }
            read => read,
        }
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
        responses::submission(response, first_id(&body, IDS), refusal(response, &body))
    }

    fn status_requests(
        &self,
        tasks: &[PolledTask<'_>],
        settings: &ProviderSettings,
        _: Timestamp,
    ) -> Vec<StatusRequest> {
        let Ok(api) = api(settings) else { return vec![] };
        requests::one_per_task(tasks, 0..tasks.len(), |task| {
            api.get(&format!("{}/{}", ENDPOINTS[0], encoded(task.provider_task_id)))
        })
    }

    fn read_status(&self, response: &ProviderResponse, provider_task_id: &str, now: Timestamp) -> StatusResult {
        let Some(body) = object(&response.body) else { return responses::status_by_http_status(response) };
        let (refusal, polled) = (refusal(response, &body), (IDS, provider_task_id));
        responses::status_in_envelope(response, &body, refusal, polled, |job| task_status(job, now))
    }

    fn status_id(&self, response: &ProviderResponse) -> Option<String> {
        first_id(in_data(&object(&response.body)?), IDS)
    }

    fn download_header(&self, settings: &ProviderSettings) -> Option<(&'static str, Secret)> {
        let key = settings.api_key.as_ref()?;
        Some(("authorization", Secret::new(format!("Bearer {}", key.expose()))))
    }
}

const IDS: &[&str] = &["id"];

/// Whether the type of a callback says of its job what the job itself does.
fn is_consistent(body: &Value) -> bool {
    let of_type = status_word(&body["type"]);
    let of_type = of_type.as_deref().and_then(|word| word.strip_prefix("video.generation."));
    of_type.is_some() && of_type == status_word(&body["data"]["status"]).as_deref()
}

fn task_status(job: &Value, ended_at: Timestamp) -> Option<TaskStatus> {
    let failure = || FAILURES.of_task(None, message(&job["error"]));
    let task_status = match status_word(&job["status"])?.as_str() {
        "pending" | "in_progress" => TaskStatus::open(),
        "completed" => links(job, ended_at).into_success(),
        "failed" | "dead" => TaskStatus::failed(failure()),
        "cancelled" => TaskStatus::failed(Failure { reason: Reason::Cancelled, retryable: false, ..failure() }),
        // The job's time to live, not that of a link.
        "expired" => TaskStatus::failed(Failure { reason: Reason::Expired, retryable: true, ..failure() }),
        unknown => TaskStatus::unknown_status(unknown),
    };
    Some(task_status.with_usage(Usage::default().with_amount(&job["usage"]["cost"], &json!("USD"))))
}

/// The videos of a job: links to the storage where there are any, else links into the API.
fn links(job: &Value, ended_at: Timestamp) -> Links {
    let mut links = Links::new(ended_at, PROFILE.link_life);
    for field in ["urls", "unsigned_urls"] {
        for link in items(&job[field]) {
            if link.as_str().is_some_and(is_content_route) {
                links.add_authorized(Kind::Video, link);
            } else {
                links.add(Kind::Video, link);
            }
        }
        if !links.is_empty() {
            break;
        }
    }
    links
}

/// Whether a link leads to the API's route that serves files. What precedes the route may be a prefix of the base URL.
fn is_content_route(link: &str) -> bool {
    let path = link.split(['?', '#']).next().unwrap_or(link);
    path.trim_end_matches('/').ends_with("/content") && path.contains("/api/v1/videos/")
}

/// The text of an error, which may be an object.
fn message(error: &Value) -> Option<String> {
    text(error).or_else(|| text(&error["message"]))
}

/// The failure of a call. A job has a status word, and its error is its own.
fn refusal(response: &ProviderResponse, body: &Value) -> Option<Failure> {
    let error = &body["error"];
    let (code, message) = (text(&error["code"]), message(error));
    if body["status"].is_string() || (code.is_none() && message.is_none()) {
        return None;
    }
    let failure = FAILURES.of_response(response.status, code, message);
    let metadata = &error["metadata"];
    // What an upstream says stands behind "Provider returned error".
    let is_moderated = !items(&metadata["reasons"]).is_empty()
        || (failure.reason == Reason::ProviderError && says_moderation(&metadata["raw"]));
    Some(if is_moderated {
        Failure { reason: Reason::ContentModeration, retryable: false, ..failure }
    } else {
        failure
    })
}

/// Whether an upstream's error, as text or JSON, is about the content.
fn says_moderation(raw: &Value) -> bool {
    FAILURES.of_task(None, Some(raw.to_string())).reason == Reason::ContentModeration
}

fn api(settings: &ProviderSettings) -> Result<Api<'_>, InvalidSubmission> {
    Ok(Api::new(NAME, "Bearer", &PROFILE, settings)?.without_suffix("/api/v1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_reachable() {
        FAILURES.assert_every_row_is_reachable();
    }

    #[test]
    fn failed_jobs_are_classified_by_their_words() {
        for (error, reason, retryable) in [
            ("The upstream's policy does not allow this", Reason::ContentModeration, false),
            ("blocked by moderation", Reason::ContentModeration, false),
            ("the safety filter", Reason::ContentModeration, false),
            ("NSFW", Reason::ContentModeration, false),
            ("No endpoints found matching your data policy", Reason::InvalidParameters, false),
            ("insufficient balance upstream", Reason::InsufficientCredits, false),
            ("rate limit", Reason::RateLimited, true),
            ("Provider returned 429", Reason::RateLimited, true),
            ("the upstream timed out", Reason::Timeout, true),
            ("the job expired", Reason::Expired, true),
            ("could not generate a moderate result", Reason::ProviderError, true),
            ("", Reason::ProviderError, true),
        ] {
            let failure = FAILURES.of_task(None, Some(error.into()));
            assert_eq!((failure.reason, failure.retryable), (reason, retryable), "{error}");
        }
    }

    #[test]
    fn calls_are_classified_by_their_code() {
        for (status, reason, retryable) in [
            (400, Reason::InvalidParameters, false),
            (401, Reason::Unknown, false),
            (402, Reason::InsufficientCredits, false),
            (403, Reason::Unknown, false),
            (404, Reason::InvalidParameters, false),
            (408, Reason::Timeout, true),
            (429, Reason::RateLimited, true),
            (500, Reason::ProviderError, true),
            (502, Reason::ProviderError, true),
            (503, Reason::ProviderError, true),
            (524, Reason::Timeout, true),
            (529, Reason::ProviderError, true),
        ] {
            let body = json!({"error": {"code": status, "message": "made-up"}});
            for http_status in [status, 200] {
                let failure = refusal(&ProviderResponse::new(http_status, ""), &body).expect("a refusal");
                assert_eq!((failure.reason, failure.retryable), (reason, retryable), "{status} under {http_status}");
            }
        }
        for nothing in
            [json!({}), json!({"error": null}), json!({"error": {}}), json!({"status": "failed", "error": "x"})]
        {
            assert_eq!(refusal(&ProviderResponse::new(200, ""), &nothing), None, "{nothing}");
        }
    }

    #[test]
    fn an_upstreams_words_count_where_openrouter_has_none() {
        for (code, raw, reason) in [
            (502, json!("{\"reason\":\"blocked: SAFETY\"}"), Reason::ContentModeration),
            (502, json!({"reason": "nsfw"}), Reason::ContentModeration),
            (502, json!("connection reset"), Reason::ProviderError),
            (429, json!("your policy allows 2 requests"), Reason::RateLimited),
        ] {
            let body = json!({"error": {"code": code, "message": "Provider returned error", "metadata": {"raw": raw}}});
            let failure = refusal(&ProviderResponse::new(code, ""), &body).expect("a refusal");
            assert_eq!(failure.reason, reason, "{body}");
        }
    }

    #[test]
    fn only_the_route_of_the_api_wants_the_key() {
        for (link, is_authorized) in [
            ("https://openrouter.ai/api/v1/videos/a/content?index=0", true),
            ("https://proxy.test/openrouter/api/v1/videos/a/content?index=1", true),
            ("https://openrouter.ai/api/v1/videos/a", false),
            ("https://files.test/a.mp4?from=/api/v1/videos/a/content", false),
            ("https://files.test/content", false),
        ] {
            let found = links(&json!({ "unsigned_urls": [link] }), Timestamp::from_seconds(0)).into_artifacts();
            assert_eq!(matches!(found[0].source, Source::Authorized(_)), is_authorized, "{link}");
        }
    }

    #[test]
    fn files_are_downloaded_with_the_key_of_the_settings() {
        let settings = ProviderSettings { api_key: Some(Secret::new("k-1")), ..ProviderSettings::default() };
        let (name, value) = OpenRouter.download_header(&settings).expect("a header");
        assert_eq!((name, value.expose()), ("authorization", "Bearer k-1"));
        assert_eq!(OpenRouter.download_header(&ProviderSettings::default()), None);
    }
}
