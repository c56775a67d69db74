//! Replicate, the predictions API.
//!
//! A callback's body is the prediction object itself, as the status call returns it, signed with Standard Webhooks over the body. Two
//! traps: everything of a prediction is deleted one hour after its end, and without a filter intermediate bodies arrive as well.
//!
//! | fact | source |
//! |---|---|
//! | `POST /v1/predictions`, `/v1/models/{owner}/{name}/predictions`, `/v1/deployments/{owner}/{name}/predictions` | confirmed: replicate.com/docs/reference/http |
//! | `webhook`, `webhook_events_filter` | confirmed: replicate.com/docs/topics/webhooks/setup-webhook |
//! | body and states; Standard Webhooks with a secret per account; the vector of both SDKs | confirmed: replicate.com/docs/topics/webhooks, replicate/replicate-javascript |
//! | `aborted` after a deadline of one's own | confirmed: replicate.com/changelog, 2025-10-16 |
//! | output, input and logs are deleted after an hour | confirmed: replicate.com/docs/topics/predictions/data-retention |
//! | `POST /v1/predictions/{id}/cancel` | confirmed: replicate.com/docs/reference/http |
//! | a success whose output was removed is a null output and `data_removed` | inferred |
//! | which words in `error` mean what | inferred from public logs; only some codes are documented |
//! | number, spacing and timeout of repeated callbacks; what a 4xx does | unknown |
//! | what a prediction cost | not in the body: seconds of computing, without a price |

use super::prelude::*;
use crate::signature::standard_webhooks;

pub(super) struct Replicate;

const NAME: &str = "replicate";

const PROFILE: Profile = Profile {
    title: "Replicate",
    default_base_url: Some("https://api.replicate.com"),
    callbacks: Some(Callbacks {
        // "Within a few seconds."
        response_timeout: Duration::from_secs(5),
        reports_failures: true,
        verified: "Standard Webhooks over the body (opt-in)",
        retries: "yes, number not documented",
    }),
    // Deleted one hour after the end.
    link_life: Duration::from_hours(1),
    first_poll: FIRST_POLL,
    poll_interval: Duration::from_secs(20),
    // A lost callback has to be found while the file lives.
    max_poll_interval: Duration::from_mins(5),
    // A run is ended after 30 minutes; how long it may wait for one is not said. Chosen freely above that.
    deadline: Duration::from_hours(24),
    cancellable: Some("until it ends"),
    marker: None,
    usage: None,
    confirmed: "endpoints; bodies and states; signature with test vector; everything deleted an hour after the end; cancellation",
    unconfirmed: "response timeout, retries and order; error words; poll schedule and deadline",
};

/// A prediction fails with text only, by the model's author or the platform. The codes in brackets belong to the models.
const FAILURES: Failures = Failures {
    rules: &[
        words("(e005)", Reason::ContentModeration),
        words("input validation", Reason::InvalidParameters),
        words("could not fetch", Reason::InvalidParameters),
        words("must be", Reason::InvalidParameters),
        words("out of memory", Reason::ProviderError).retryable(),
        words("interrupted", Reason::ProviderError).retryable(),
        words("unexpected error", Reason::ProviderError).retryable(),
        words("high demand", Reason::RateLimited).retryable(),
    ],
    later: &[],
    otherwise: (Reason::ProviderError, Retry::Helps),
};

const PREDICTIONS: &str = "/v1/predictions";

impl Adapter for Replicate {
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
        standard_webhooks(&request.headers, request.body, &settings.signing_secrets, now)?;
        Ok(Authenticity::SignedBody)
    }

    fn read_callback(&self, body: &[u8], now: Timestamp) -> CallbackBody {
        let Some(task) = object(body) else { return CallbackBody::Unreadable };
        responses::callback(first_id(&task, IDS), task_status(&task, now))
    }

    fn submission(
        &self,
        submission: &Submission<'_>,
        settings: &ProviderSettings,
        _: Timestamp,
    ) -> Result<Request, InvalidSubmission> {
        let endpoint = match submission.endpoint {
            // The version of the model is in the body.
            None => PREDICTIONS,
            Some(_) => requests::named_endpoint(submission, "/v1/models/kwaivgi/kling-v2.1/predictions", |endpoint| {
                let segments: Vec<&str> = endpoint.split('/').collect();
                endpoint == PREDICTIONS
                    || matches!(segments[..], ["", "v1", "models" | "deployments", _, _, "predictions"])
            })?,
        };
        let mut body = requests::with_callback_url(submission, &["webhook"], submission.callback_url)?;
        // Without a filter each piece of output is a callback of its own.
        *requests::field(&mut body, &["webhook_events_filter"])? = json!(["completed"]);
        Ok(api(settings)?.post(endpoint, &body))
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
            api.get(&format!("{PREDICTIONS}/{}", encoded(task.provider_task_id)))
        })
    }

    fn read_status(&self, response: &ProviderResponse, provider_task_id: &str, now: Timestamp) -> StatusResult {
        let Some(body) = object(&response.body) else { return responses::status_by_http_status(response) };
        if let Some(failure) = refusal(response, &body) {
            return responses::status_refused(response, failure);
        }
        if !response.is_success() || !is_about(&body, IDS, provider_task_id) {
            return responses::status_by_http_status(response);
        }
        responses::status(task_status(&body, now))
    }

    fn cancellation(
        &self,
        task: &PolledTask<'_>,
        _: &ProviderResponse,
        settings: &ProviderSettings,
    ) -> Option<Request> {
        let path = format!("{PREDICTIONS}/{}/cancel", encoded(task.provider_task_id));
        Some(api(settings).ok()?.post(&path, &json!({})))
    }

    fn read_cancellation(&self, response: &ProviderResponse) -> Option<Failure> {
        let body = object(&response.body).unwrap_or_default();
        responses::cancellation(response, refusal(response, &body))
    }

    fn status_id(&self, response: &ProviderResponse) -> Option<String> {
        first_id(&object(&response.body)?, IDS)
    }
}

const IDS: &[&str] = &["id"];

fn task_status(task: &Value, now: Timestamp) -> Option<TaskStatus> {
    Some(match status_word(&task["status"])?.as_str() {
        "starting" | "processing" | "queued" => TaskStatus::open(),
        "succeeded" => succeeded(task, now),
        "failed" => TaskStatus::failed(FAILURES.of_task(None, text(&task["error"]))),
        "canceled" | "cancelled" => TaskStatus::failed(ended(Reason::Cancelled, false, task)),
        // A deadline of the caller's own passed before it started.
        "aborted" => TaskStatus::failed(ended(Reason::Timeout, true, task)),
        unknown => TaskStatus::unknown_status(unknown),
    })
}

/// A success says so for ever, and has its files for an hour. A model may also return nothing.
fn succeeded(task: &Value, now: Timestamp) -> TaskStatus {
    let links = links(task, now);
    let is_removed = task["data_removed"] == Value::Bool(true);
    match (links.is_empty(), is_removed) {
        (false, _) => links.into_success(),
        (true, true) => {
            let message = "Replicate has removed the output, an hour after the end";
            TaskStatus::failed(Failure::new(Reason::Expired, true).message(message))
        }
        (true, false) => {
            TaskStatus::failed(Failure::new(Reason::ProviderError, true).message("the model returned no file"))
        }
    }
}

fn ended(reason: Reason, retryable: bool, task: &Value) -> Failure {
    Failure::new(reason, retryable).message(text(&task["error"]).unwrap_or_default())
}

/// The files of an output, which is a link, a list of links, or an object with links, as the model's schema says.
fn links(task: &Value, now: Timestamp) -> Links {
    let mut links = Links::new(timestamp(&task["completed_at"]).unwrap_or(now), PROFILE.link_life);
    match &task["output"] {
        Value::Object(files) => {
            for (name, file) in files {
                let is_cover = ["cover", "thumbnail", "poster", "preview"].iter().any(|word| name.contains(word));
                if is_cover { links.add(Kind::Cover, file) } else { add(&mut links, file) }
            }
        }
        output => items(output).iter().for_each(|file| add(&mut links, file)),
    }
    links
}

/// Adds a link, or a list of links. What is no media by its name, as subtitles and logs, is passed over.
fn add(links: &mut Links, file: &Value) {
    for file in items(file) {
        let name = file.as_str().map(|link| link.split(['?', '#']).next().unwrap_or_default().to_ascii_lowercase());
        let is_text =
            |name: &String| [".json", ".txt", ".srt", ".vtt", ".zip", ".csv"].iter().any(|end| name.ends_with(end));
        if !name.as_ref().is_some_and(is_text) {
            links.add_by_extension(file);
        }
    }
}

/// A problem object, or the same without a title.
fn refusal(response: &ProviderResponse, body: &Value) -> Option<Failure> {
    // A prediction has a status word.
    let status = integer(&body["status"])?;
    let message = first_text(body, &["detail", "title"]);
    Some(FAILURES.of_response(response.status, Some(status.to_string()), message))
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

    #[test]
    fn failed_predictions_are_classified_by_their_words() {
        for (error, reason, retryable) in [
            ("The output was flagged as sensitive. (E005) (aBcDeF0123)", Reason::ContentModeration, false),
            (
                "Prediction failed: Async prediction failed: ModelError: no. (E005) (x)",
                Reason::ContentModeration,
                false,
            ),
            ("NSFW content detected", Reason::ContentModeration, false),
            ("Input validation error: duration", Reason::InvalidParameters, false),
            ("Could not fetch start_image", Reason::InvalidParameters, false),
            ("duration must be one of 5, 10", Reason::InvalidParameters, false),
            ("CUDA out of memory", Reason::ProviderError, true),
            ("Prediction interrupted; please retry (code: PA)", Reason::ProviderError, true),
            ("An unexpected error occurred", Reason::ProviderError, true),
            ("Service is in high demand", Reason::RateLimited, true),
            ("Prediction timed out", Reason::Timeout, true),
            ("boom", Reason::ProviderError, true),
        ] {
            let failure = FAILURES.of_task(None, Some(error.into()));
            assert_eq!((failure.reason, failure.retryable), (reason, retryable), "{error}");
        }
    }

    #[test]
    fn calls_are_classified_by_their_http_status() {
        for (status, detail, reason, retryable) in [
            (401, "Unauthenticated", Reason::Unknown, false),
            (402, "Insufficient credit", Reason::InsufficientCredits, false),
            (404, "Not found", Reason::InvalidParameters, false),
            (422, "- input.duration: wrong", Reason::InvalidParameters, false),
            (429, "Request was throttled. Your rate limit resets in ~5s.", Reason::RateLimited, true),
            (500, "Internal", Reason::ProviderError, true),
        ] {
            let response = ProviderResponse::new(status, "");
            let failure = refusal(&response, &json!({"status": status, "detail": detail})).expect("a refusal");
            assert_eq!((failure.reason, failure.retryable), (reason, retryable), "{status}");
        }
    }

    #[test]
    fn files_are_found_in_every_form_of_output() {
        let kinds = |output: Value| -> Vec<Kind> {
            let found = links(&json!({ "output": output }), Timestamp::from_seconds(0)).into_artifacts();
            found.into_iter().map(|artifact| artifact.kind).collect()
        };
        assert_eq!(kinds(json!("https://replicate.delivery/a/v.mp4")), [Kind::Video]);
        assert_eq!(
            kinds(json!(["https://replicate.delivery/a/v.mp4", "https://replicate.delivery/a/i.png"])),
            [Kind::Video, Kind::Image]
        );
        let object = json!({"video": "https://replicate.delivery/a/v.mp4", "thumbnail": "https://replicate.delivery/a/t.jpg", "log": "https://replicate.delivery/a/l.txt"});
        assert_eq!(kinds(object), [Kind::Cover, Kind::Video]);
        assert_eq!(kinds(json!("data:video/mp4;base64,AAAA")), []);
        assert_eq!(kinds(json!(null)), []);
    }
}
