//! `MiniMax` Hailuo, its own API.
//!
//! First it posts a `challenge` that has to be echoed within 3 s. Callbacks are unsigned. In v1 (Hailuo) a success has a file
//! id, which a second call turns into a link that lives an hour; errors come under HTTP 200. In v2 (H3 models) paths and
//! status words differ, and there are a `task` envelope, a direct link, and real HTTP statuses.
//!
//! | fact | source |
//! |---|---|
//! | v1 submission, callback text, challenge within 3 s, `{"status":"success"}` as the response | confirmed: platform.minimax.io/docs/api-reference/video-generation-t2v with its sample server |
//! | when the challenge is sent, its type, and what a failed one does | unknown; any JSON value is echoed |
//! | v1 status words `Success`, `Fail` in responses, `success`, `failed` in callbacks | confirmed: …/video-generation-query and the page above; compared without case |
//! | v1 failed callback and query bodies | inferred from the codes the query page lists |
//! | `GET /v1/files/retrieve?file_id=` | confirmed: …/video-generation-download |
//! | v1 links live 1 hour in the docs, 9 hours in the samples; another retrieve gives a new link | contradictory; inferred. The link's own `Expires` counts, else an hour |
//! | v2 submission, query, list | confirmed: …/video-generation-v2-create, -v2-query, -v2-list |
//! | form of the v2 list's response and of a repeated `filter.task_ids` | unknown; assumed to be as Ark's, whose call looks alike |
//! | `expired` in v2 | the Chinese delete page |
//! | error codes | confirmed: …/errorcode; 1024, 1033, 1041, 2045, 2056, 2061 from the official command line tool |
//! | life of a v2 link; retries and timeout of callbacks | unknown |
//! | a moderation verdict as code 1026 without a status; 2061 under HTTP 500; an unwrapped error object; a v2 success with text only; v2 bodies with v1's status words, also without an id | single observations |

use super::prelude::*;

pub(super) struct MiniMax;

const NAME: &str = "minimax";

const PROFILE: Profile = Profile {
    title: "MiniMax",
    // International. `https://api.minimaxi.com` in China; keys are bound to a region.
    default_base_url: Some("https://api.minimax.io"),
    callbacks: Some(Callbacks {
        // Documented for the challenge only.
        response_timeout: Duration::from_secs(3),
        reports_failures: true,
        verified: "URL token",
        retries: "not documented",
    }),
    // "1 h" on the download page, whose own sample has nine.
    link_life: Duration::from_hours(1),
    // "A 10 s interval is suggested."
    first_poll: FIRST_POLL,
    poll_interval: Duration::from_secs(10),
    max_poll_interval: Duration::from_mins(2),
    // v2 forgets tasks after 7 days, v1 is not documented. Chosen freely: a day is hundreds of renders.
    deadline: Duration::from_hours(24),
    cancellable: Some("v2, while queued"),
    marker: None,
    usage: Some("v2: seconds, tokens"),
    confirmed: "challenge within 3 s; callbacks on every status change; polls every 10 s; v1 links for 1 h; error codes",
    unconfirmed: "when the challenge is sent; response timeout and retries of updates; the body of a failed v1 callback; real \
        link life (9 h in v1's samples, no figure for v2); poll schedule beyond the 10 s and deadline",
};

/// Ids per v2 list call; chosen so that the URL stays short.
const MAX_IDS: usize = 50;

const V1: &str = "/v1/video_generation";
const V2: &str = "/v2/video_generation";
const ENDPOINTS: &[&str] = &[V1, V2];

/// From the error code page: `base_resp.status_code` of v1, the number in brackets of v2.
const FAILURES: Failures = Failures {
    rules: &[
        code("1000", Reason::ProviderError).retryable(),
        code("1001", Reason::Timeout).retryable(),
        code("1002", Reason::RateLimited).retryable(),
        code("1004", Reason::Unknown),
        code("1008", Reason::InsufficientCredits),
        code("1013", Reason::ProviderError).retryable(),
        code("1024", Reason::ProviderError).retryable(),
        code("1026", Reason::ContentModeration),
        code("1027", Reason::ContentModeration),
        code("1033", Reason::ProviderError).retryable(),
        code("1039", Reason::RateLimited).retryable(),
        code("1041", Reason::RateLimited).retryable(),
        code("1042", Reason::InvalidParameters),
        code("2013", Reason::InvalidParameters),
        code("2045", Reason::RateLimited).retryable(),
        code("2049", Reason::Unknown),
        // The plan's limit for a window of hours. Retries fail until it is over.
        code("2056", Reason::InsufficientCredits),
        // The model is not part of the plan. Also seen under HTTP 500.
        code("2061", Reason::InvalidParameters),
        // v2 errors without a number.
        code("authorized_error", Reason::Unknown),
        code("bad_request_error", Reason::InvalidParameters),
        code("insufficient_balance_error", Reason::InsufficientCredits),
        code("unprocessable_entity_error", Reason::ContentModeration),
        code("rate_limit_error", Reason::RateLimited).retryable(),
        code("overloaded_error", Reason::ProviderError).retryable(),
        code("server_error", Reason::ProviderError).retryable(),
    ],
    later: &[],
    otherwise: (Reason::ProviderError, Retry::IsPointless),
};

impl Adapter for MiniMax {
    fn profile(&self) -> &'static Profile {
        &PROFILE
    }

    fn read_callback(&self, body: &[u8], now: Timestamp) -> CallbackBody {
        object(body).map_or(CallbackBody::Unreadable, |body| callback(&body, now))
    }

    fn status_calls(&self) -> &'static [&'static str] {
        ENDPOINTS
    }

    fn endpoint_of_callback(&self, body: &[u8]) -> Option<&'static str> {
        v2_task(&object(body)?).map(|_| V2)
    }

    fn acknowledgement(&self) -> &'static str {
        r#"{"status":"success"}"#
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
        responses::submission(response, first_id(&body, &["task_id"]), refusal(response, &body))
    }

    fn status_requests(
        &self,
        tasks: &[PolledTask<'_>],
        settings: &ProviderSettings,
        _: Timestamp,
    ) -> Vec<StatusRequest> {
        let Ok(api) = api(settings) else { return vec![] };
        let (v2, v1): (Vec<usize>, Vec<usize>) =
            (0..tasks.len()).partition(|position| tasks[*position].endpoint == Some(V2));
        let mut requests = requests::one_per_task(tasks, v1, |task| {
            api.get(&format!("/v1/query/video_generation?task_id={}", encoded(task.provider_task_id)))
        });
        requests.extend(requests::batched(tasks, &v2, MAX_IDS, |ids| match ids {
            [id] => api.get(&format!("/v2/query/video_generation/{id}")),
            ids => {
                let filter = requests::repeated("filter.task_ids", ids);
                api.get(&format!("/v2/query/video_generation?page_num=1&page_size={}&{filter}", ids.len()))
            }
        }));
        requests
    }

    fn read_status(&self, response: &ProviderResponse, provider_task_id: &str, now: Timestamp) -> StatusResult {
        let Some(body) = object(&response.body) else { return responses::status_by_http_status(response) };
        if let Some(tasks) = list(&body) {
            let mut tasks = tasks.iter().map(unwrapped);
            return match tasks.find(|task| has_id(task, &["id"], provider_task_id)) {
                Some(task) => read_v2_status(task, now),
                None => StatusResult::NotFound,
            };
        }
        let (task, ids) = v2_task(&body).map_or((&body, "task_id"), |task| (task, "id"));
        if !is_about(task, &[ids], provider_task_id) {
            return StatusResult::Unreadable;
        }
        if ids == "id" {
            return read_v2_status(task, now);
        }
        // The status comes before the code: a failed task has a code, and the request did not fail.
        if let Some(task_status) = v1_status(&body) {
            return responses::status(Some(task_status));
        }
        match refusal(response, &body) {
            // The id is the only parameter, so bad parameters mean an unknown id.
            Some(failure) if failure.code.as_deref() == Some("2013") => StatusResult::NotFound,
            Some(failure) => responses::status_refused(response, failure),
            None => responses::status_by_http_status(response),
        }
    }

    /// The same call deletes a task that has ended, with its link. v1 has none.
    fn cancellation(
        &self,
        task: &PolledTask<'_>,
        status: &ProviderResponse,
        settings: &ProviderSettings,
    ) -> Option<Request> {
        let body = object(&status.body)?;
        let polled = v2_task(&body).filter(|polled| has_id(polled, &["id"], task.provider_task_id))?;
        let is_queued = status_word(&polled["status"]).as_deref() == Some("queued");
        let path = format!("{V2}/{}", encoded(task.provider_task_id));
        is_queued.then(|| api(settings).ok().map(|api| api.delete(&path)))?
    }

    fn read_cancellation(&self, response: &ProviderResponse) -> Option<Failure> {
        let body = object(&response.body).unwrap_or_default();
        responses::cancellation(response, refusal(response, &body))
    }

    fn status_id(&self, response: &ProviderResponse) -> Option<String> {
        let body = object(&response.body)?;
        match list(&body) {
            Some(tasks) => first_id(unwrapped(tasks.first()?), &["id"]),
            None => match v2_task(&body) {
                Some(task) => first_id(task, &["id"]),
                None => first_id(&body, &["task_id"]),
            },
        }
    }

    fn resolution(&self, artifact: &Artifact, settings: &ProviderSettings, _: Timestamp) -> Option<Request> {
        match &artifact.source {
            Source::FileId(id) => Some(api(settings).ok()?.get(&format!("/v1/files/retrieve?file_id={}", encoded(id)))),
            Source::Url(_) | Source::Authorized(_) => None,
        }
    }

    fn read_resolution(&self, response: &ProviderResponse, now: Timestamp) -> Result<FreshLink, Failure> {
        let body = object(&response.body).unwrap_or_default();
        if let Some(failure) = refusal(response, &body) {
            return Err(failure);
        }
        // `bytes` is 0 in the official sample, so it is not the length.
        let mut links = Links::new(now, PROFILE.link_life);
        links.add(Kind::Video, &body["file"]["download_url"]);
        responses::fresh_link(response, links)
    }
}

/// Reads the body of a callback or a challenge, also when `APIMP` is in between.
pub(super) fn callback(body: &Value, now: Timestamp) -> CallbackBody {
    let challenge = &body["challenge"];
    if let Some(task) = v2_task(body) {
        let task_status = v2_status(task, now);
        return match (first_id(task, &["id"]), task_status) {
            (Some(id), Some(task_status)) if is_text_only(task) => responses::complete_callback(id, task_status),
            (id, task_status) => responses::callback_with_optional_id(id, task_status),
        };
    }
    match first_id(body, &["task_id"]) {
        None if body.get("challenge").is_some() => CallbackBody::Handshake(json!({ "challenge": challenge })),
        id => responses::callback(id, v1_status(body)),
    }
}

/// The task of v2: in its envelope, or without one, recognised by its fields.
fn v2_task(body: &Value) -> Option<&Value> {
    let has_v2_field = !body["id"].is_null() || !body["content"]["url"].is_null();
    let is_bare = body["task_id"].is_null() && !body["status"].is_null() && has_v2_field;
    if body["task"].is_object() { Some(&body["task"]) } else { is_bare.then_some(body) }
}

/// The status of a v1 task. Without a status word, only a moderation verdict is certain.
fn v1_status(body: &Value) -> Option<TaskStatus> {
    let code = integer(&body["base_resp"]["status_code"]).filter(|code| *code != 0);
    let failed = || {
        let message = code.and_then(|_| text(&body["base_resp"]["status_msg"]));
        TaskStatus::failed(FAILURES.of_task(code.map(|code| code.to_string()), message))
    };
    let Some(status) = status_word(&body["status"]) else {
        return matches!(code, Some(1026 | 1027)).then(failed);
    };
    Some(match status.as_str() {
        "preparing" | "queueing" | "processing" | "queued" | "running" => TaskStatus::open(),
        "success" | "succeeded" => {
            let file_id = id(&body["file_id"]).filter(|id| id != "0");
            let artifacts =
                file_id.map(|id| Artifact { kind: Kind::Video, source: Source::FileId(id), expires_at: None });
            TaskStatus::succeeded(artifacts.into_iter().collect())
        }
        "fail" | "failed" => failed(),
        unknown => TaskStatus::unknown_status(unknown),
    })
}

fn v2_status(task: &Value, now: Timestamp) -> Option<TaskStatus> {
    let error = &task["error"];
    let message = text(&error["message"]);
    let code =
        text(&error["code"]).or_else(|| number_in_brackets(message.as_deref()?)).or_else(|| text(&error["type"]));
    let ended = |failure: Failure| {
        let (code, message) = (code.clone().unwrap_or_default(), message.clone().unwrap_or_default());
        TaskStatus::failed(failure.code(code).message(message))
    };
    let task_status = match status_word(&task["status"])?.as_str() {
        "queued" | "running" | "preparing" | "queueing" | "processing" => TaskStatus::open(),
        "succeeded" | "success" => {
            // "Query again for a new link": its life starts with the response, not with the end of the task.
            let mut links = Links::new(now, PROFILE.link_life);
            links.add_by_extension(&task["content"]["url"]);
            links.into_success()
        }
        "failed" | "fail" => TaskStatus::failed(FAILURES.of_task(code, message)),
        "cancelled" | "canceled" => ended(Failure::new(Reason::Cancelled, false)),
        "expired" => ended(Failure::new(Reason::Expired, true)),
        unknown => TaskStatus::unknown_status(unknown),
    };
    let usage = &task["usage"];
    Some(task_status.with_usage(Usage::of_tokens(&usage["total_tokens"]).with_seconds(&usage["total_seconds"])))
}

/// Whether a v2 task is text, which is complete without a file.
fn is_text_only(task: &Value) -> bool {
    let text_task = status_word(&task["task_type"]).as_deref() == Some("h3_context_ir");
    text(&task["content"]["url"]).is_none() && (text_task || text(&task["content"]["text"]).is_some())
}

fn read_v2_status(task: &Value, now: Timestamp) -> StatusResult {
    match v2_status(task, now) {
        Some(task_status) if is_text_only(task) => StatusResult::Task(task_status),
        task_status => responses::status(task_status),
    }
}

/// The tasks of a v2 list.
fn list(body: &Value) -> Option<&[Value]> {
    ["items", "tasks", "data"].into_iter().find_map(|field| body[field].as_array()).map(Vec::as_slice)
}

fn unwrapped(task: &Value) -> &Value {
    if task["task"].is_object() { &task["task"] } else { task }
}

/// The failure of a call: `base_resp` of v1, or the error object of v2, wrapped or not. The code of v2 is the number in
/// brackets at the end of the message, else the error type.
fn refusal(response: &ProviderResponse, body: &Value) -> Option<Failure> {
    let base = &body["base_resp"];
    if let Some(code) = integer(&base["status_code"]).filter(|code| *code != 0) {
        return Some(FAILURES.of_response(response.status, Some(code.to_string()), text(&base["status_msg"])));
    }
    let error = if body["error"].is_object() { &body["error"] } else { body };
    let is_error =
        error["http_code"].is_string() || status_word(&error["type"]).is_some_and(|kind| kind.contains("error"));
    // Under a 2xx, a message alone is not an error: the task of a submission with a polite message would be forgotten.
    let message = text(&error["message"]).filter(|_| is_error || !response.is_success() || body["error"].is_object());
    let kind = status_word(&error["type"]).filter(|kind| kind.ends_with("_error"));
    if message.is_none() && kind.is_none() {
        return None;
    }
    let code = message.as_deref().and_then(number_in_brackets).or_else(|| first_text(error, &["code", "type"]));
    Some(FAILURES.of_response(response.status, code, message))
}

/// The code at the end of a v2 message: `1002` of `rate limit exceeded (1002)`.
fn number_in_brackets(message: &str) -> Option<String> {
    let (_, number) = message.strip_suffix(')')?.rsplit_once('(')?;
    (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then(|| number.to_owned())
}

fn api(settings: &ProviderSettings) -> Result<Api<'_>, InvalidSubmission> {
    Api::new(NAME, "Bearer", &PROFILE, settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The older call does not know the tasks of the newer interface, and its "unknown" would refute their callbacks.
    #[test]
    fn a_callback_tells_the_interface_that_is_polled() {
        let endpoint = |body: &Value| MiniMax.endpoint_of_callback(body.to_string().as_bytes());
        let task = json!({"id": "x", "status": "succeeded", "content": {"url": "https://a/b"}});
        assert_eq!(endpoint(&json!({ "task": task })), Some(V2));
        assert_eq!(endpoint(&task), Some(V2));
        assert_eq!(endpoint(&json!({"task_id": "x", "status": "success", "file_id": "1"})), None);
    }

    #[test]
    fn every_row_is_reachable() {
        FAILURES.assert_every_row_is_reachable();
    }

    /// The error code page, in the form of v1, of v2, and of v2 without its wrapper.
    #[test]
    fn codes_are_classified_in_both_generations() {
        for (code, reason, retryable) in [
            ("1000", Reason::ProviderError, true),
            ("1002", Reason::RateLimited, true),
            ("1004", Reason::Unknown, false),
            ("1008", Reason::InsufficientCredits, false),
            ("1013", Reason::ProviderError, true),
            ("1024", Reason::ProviderError, true),
            ("1026", Reason::ContentModeration, false),
            ("1027", Reason::ContentModeration, false),
            ("1033", Reason::ProviderError, true),
            ("1039", Reason::RateLimited, true),
            ("1041", Reason::RateLimited, true),
            ("1042", Reason::InvalidParameters, false),
            ("2013", Reason::InvalidParameters, false),
            ("2045", Reason::RateLimited, true),
            ("2049", Reason::Unknown, false),
            ("2056", Reason::InsufficientCredits, false),
            ("2061", Reason::InvalidParameters, false),
        ] {
            let number: i64 = code.parse().expect("a number");
            let words = format!("words ({code})");
            let error = json!({"type": "some_error", "message": words, "http_code": "500"});
            for (status, body, message) in [
                (200, json!({"task_id": "", "base_resp": {"status_code": number, "status_msg": "words"}}), "words"),
                (500, json!({"type": "error", "error": error, "request_id": "r"}), &*words),
                (500, error.clone(), &*words),
            ] {
                let body = body.to_string();
                let response = ProviderResponse::new(status, body.as_bytes());
                let expected = Failure::new(reason, retryable).code(code).message(message);
                assert_eq!(refusal(&response, &object(&response.body).expect("an object")), Some(expected), "{body}");
            }
        }
    }

    #[test]
    fn types_are_classified_where_there_is_no_number() {
        for (status, kind, reason, retryable) in [
            (401, "authorized_error", Reason::Unknown, false),
            (400, "bad_request_error", Reason::InvalidParameters, false),
            (402, "insufficient_balance_error", Reason::InsufficientCredits, false),
            (422, "unprocessable_entity_error", Reason::ContentModeration, false),
            (429, "rate_limit_error", Reason::RateLimited, true),
            (529, "overloaded_error", Reason::ProviderError, true),
            (500, "server_error", Reason::ProviderError, true),
        ] {
            let body = json!({"type": "error", "error": {"type": kind, "message": "words"}}).to_string();
            let response = ProviderResponse::new(status, body.as_bytes());
            let expected = Failure::new(reason, retryable).code(kind).message("words");
            assert_eq!(refusal(&response, &object(&response.body).expect("an object")), Some(expected), "{body}");
        }
    }

    #[test]
    fn a_time_out_may_have_created_a_task() {
        let body = br#"{"base_resp":{"status_code":1001,"status_msg":"timeout"}}"#;
        let response = ProviderResponse::new(200, body);
        assert!(matches!(MiniMax.read_submission(&response), SubmissionResult::Unclear(_)));
    }

    #[test]
    fn any_challenge_is_echoed_as_it_came() {
        // The last number once came back with a different last digit.
        for challenge in
            [r#""c""#, "7", "null", "true", r#"{"a":["ü",1.5]}"#, "18446744073709551615", "0.9937135890470127"]
        {
            let body = format!(r#"{{"challenge":{challenge}}}"#);
            let read = MiniMax.read_callback(body.as_bytes(), Timestamp::from_seconds(0));
            let CallbackBody::Handshake(response) = read else { panic!("{body} is read as {read:?}") };
            assert_eq!(response.to_string(), body);
        }
        let update = json!({"challenge": "c", "task_id": "1", "status": "processing"});
        let read = callback(&update, Timestamp::from_seconds(0));
        assert_eq!(read, responses::complete_callback("1", TaskStatus::open()));
    }

    /// The page shows a code in the error of a failed v2 task. Without it, the error is read like that of a call.
    #[test]
    fn the_error_of_a_task_may_look_like_that_of_a_call() {
        for (error, code, reason) in [
            (json!({"code": 1026, "message": "words"}), "1026", Reason::ContentModeration),
            (json!({"message": "words (1026)"}), "1026", Reason::ContentModeration),
            (json!({"type": "server_error", "message": "words (2061)"}), "2061", Reason::InvalidParameters),
            (json!({"type": "unprocessable_entity_error"}), "unprocessable_entity_error", Reason::ContentModeration),
        ] {
            let task = json!({"id": "1", "status": "failed", "error": error});
            let failure = Failure::new(reason, false).code(code).message(text(&error["message"]).unwrap_or_default());
            assert_eq!(v2_status(&task, Timestamp::from_seconds(0)), Some(TaskStatus::failed(failure)), "{error}");
        }
    }

    #[test]
    fn an_error_may_come_without_a_message() {
        let body = br#"{"type":"error","error":{"type":"insufficient_balance_error","http_code":"402"}}"#;
        let response = ProviderResponse::new(402, body);
        let expected = Failure::new(Reason::InsufficientCredits, false).code("insufficient_balance_error");
        assert_eq!(MiniMax.read_submission(&response), SubmissionResult::Refused(expected));
    }
}
