//! `MiniMax` Hailuo, its own API.
//!
//! Before anything else it posts a `challenge`, to be echoed within 3 s. Callbacks are unsigned. In v1 (Hailuo) a success
//! carries no link but a file id, which a second call turns into a link that lives an hour; errors come under HTTP 200. In
//! v2 (H3 models) paths and words differ, there is an envelope `task`, a direct link, and real HTTP statuses.
//!
//! | fact | source |
//! |---|---|
//! | v1 submission, callback text, challenge within 3 s, `{"status":"success"}` as the answer | confirmed: platform.minimax.io/docs/api-reference/video-generation-t2v with its sample server |
//! | when the challenge is sent, its type, and what a failed one does | unknown; any JSON value is echoed |
//! | v1 words `Success`, `Fail` in answers, `success`, `failed` in callbacks | confirmed: …/video-generation-query and the page above; compared without case |
//! | v1 failed callback and query bodies | inferred from the codes the query page lists |
//! | `GET /v1/files/retrieve?file_id=` | confirmed: …/video-generation-download |
//! | a v1 link lives 1 hour by the docs, 9 hours by the samples; a new retrieve gives a new link | contradictory; inferred. The link's own `Expires` counts, else an hour |
//! | v2 submission, query, list | confirmed: …/video-generation-v2-create, -v2-query, -v2-list |
//! | form of the v2 list's answer and of a repeated `filter.task_ids` | unknown; taken to be like Ark's, which the call resembles |
//! | `expired` in v2 | the Chinese delete page |
//! | error codes | confirmed: …/errorcode; 1024, 1033, 1041, 2045, 2056, 2061 from the official command line tool |
//! | life of a v2 link; retries and time-out of callbacks | unknown |
//! | a verdict on the task as code 1026 without a status; 2061 under HTTP 500; an unwrapped error object; a v2 success with text only | single observations |

use super::prelude::*;

/// `MiniMax`.
pub(super) struct MiniMax;

const NAME: &str = "minimax";

const PROFILE: Profile = Profile {
    title: "MiniMax",
    // International. `https://api.minimaxi.com` in China; keys are bound to a region.
    default_base_url: Some("https://api.minimax.io"),
    // Documented for the challenge; nothing is for updates.
    answer_budget: 3,
    // "1 h" by the download page; its own sample says nine.
    link_life: HOUR as i64,
    // "A 10 s interval is suggested."
    first_poll: 60,
    poll_interval: 10,
    longest_poll_interval: 120,
    // v2 forgets after 7 days, v1 says nothing. Chosen freely: a day is hundreds of renders.
    deadline: DAY,
    verified: "token in the URL and the challenge; signs nothing",
    retries: "on every status change; again: not documented",
    confirmed: "challenge within 3 s; callbacks on every status change; 10 s between questions; v1 links for 1 h; \
        error codes",
    doubts: "when the challenge is sent; time to answer and retries of updates; the body of a failed v1 callback; the \
        real life of links (9 h in v1's samples, no figure for v2); pace beyond the 10 s and end of asking",
};

/// Ids in one v2 list call; chosen so that the URL stays short.
const MOST_IDS: usize = 50;

const V1: &str = "/v1/video_generation";
const V2: &str = "/v2/video_generation";
const ENDPOINTS: &[&str] = &[V1, V2];

/// From the error code page, for `base_resp.status_code` of v1 and for the number in brackets of v2.
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
        // The plan's allowance for some hours: no retry helps before they are over.
        code("2056", Reason::InsufficientCredits),
        // The model is not in the plan. Also seen under HTTP 500.
        code("2061", Reason::InvalidParameters),
        // v2 errors without a number in brackets.
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

    fn authenticate(
        &self,
        _: &CallbackRequest<'_>,
        _: &ProviderSettings,
        _: Timestamp,
    ) -> Result<Authenticity, Refusal> {
        Ok(Authenticity::Unsigned)
    }

    fn read_callback(&self, body: &[u8], now: Timestamp) -> CallbackBody {
        object(body).map_or(CallbackBody::Unreadable, |body| callback(&body, now))
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
        let endpoint = common::endpoint(submission, ENDPOINTS)?;
        let body = with_callback_url(submission, &["callback_url"], submission.callback_url)?;
        Ok(api(settings)?.post(endpoint, &body))
    }

    fn read_submission(&self, answer: &Answer<'_>) -> SubmissionAnswer {
        let body = object(answer.body).unwrap_or_default();
        common::submission(answer, first_id(&body, &["task_id"]), refusal(answer, &body))
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
        let mut requests = common::one_by_one(tasks, v1, |task| {
            api.get(&format!("/v1/query/video_generation?task_id={}", encoded(task.provider_task_id)))
        });
        requests.extend(common::together(tasks, &v2, MOST_IDS, |ids| match ids {
            [id] => api.get(&format!("/v2/query/video_generation/{id}")),
            ids => {
                let filter = common::repeated("filter.task_ids", ids);
                api.get(&format!("/v2/query/video_generation?page_num=1&page_size={}&{filter}", ids.len()))
            }
        }));
        requests
    }

    fn read_status(&self, answer: &Answer<'_>, provider_task_id: &str, now: Timestamp) -> StatusAnswer {
        let Some(body) = object(answer.body) else { return common::status_by_http_alone(answer) };
        if let Some(tasks) = list(&body) {
            let mut tasks = tasks.iter().map(unwrapped);
            return match tasks.find(|task| id(&task["id"]).as_deref() == Some(provider_task_id)) {
                Some(task) => read_v2_status(task, now),
                None => StatusAnswer::NotFound,
            };
        }
        let (task, ids) = v2_task(&body).map_or((&body, "task_id"), |task| (task, "id"));
        if !common::is_about(task, &[ids], provider_task_id) {
            return StatusAnswer::Unreadable;
        }
        if ids == "id" {
            return read_v2_status(task, now);
        }
        // "Read status first, then the code": the code of a failed task is no failure of the question.
        if let Some(statement) = v1_statement(&body) {
            return common::status(Some(statement));
        }
        match refusal(answer, &body) {
            // The id is all that is asked with, so bad parameters mean a bad id.
            Some(failure) if failure.code.as_deref() == Some("2013") => StatusAnswer::NotFound,
            Some(failure) => common::status_refused(answer, failure),
            None => common::status_by_http_alone(answer),
        }
    }

    fn status_id(&self, answer: &Answer<'_>) -> Option<String> {
        let body = object(answer.body)?;
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
            Source::Url(_) => None,
        }
    }

    fn read_resolution(&self, answer: &Answer<'_>, now: Timestamp) -> Result<FreshLink, Failure> {
        let body = object(answer.body).unwrap_or_default();
        if let Some(failure) = refusal(answer, &body) {
            return Err(failure);
        }
        // `bytes` beside it is 0 in the official sample, so it says nothing about the length.
        let mut links = Links::new(now, PROFILE.link_life);
        links.add(Kind::Video, &body["file"]["download_url"]);
        common::fresh_link(answer, links)
    }
}

/// Reads the body of a callback, a challenge among them; `APIMP` hands such bodies on.
pub(super) fn callback(body: &Value, now: Timestamp) -> CallbackBody {
    let challenge = &body["challenge"];
    if let Some(task) = v2_task(body) {
        let statement = v2_statement(task, now);
        return match (first_id(task, &["id"]), statement) {
            (Some(id), Some(statement)) if is_text_only(task) => CallbackBody::report(id, statement),
            (id, statement) => common::callback(id, statement),
        };
    }
    match first_id(body, &["task_id"]) {
        None if body.get("challenge").is_some() => CallbackBody::Handshake(json!({ "challenge": challenge })),
        id => common::callback(id, v1_statement(body)),
    }
}

/// The task of v2, in its envelope or, told by its fields, without one.
fn v2_task(body: &Value) -> Option<&Value> {
    let is_bare = body["task_id"].is_null() && !body["id"].is_null() && !body["status"].is_null();
    if body["task"].is_object() { Some(&body["task"]) } else { is_bare.then_some(body) }
}

/// What a v1 task says. Without a status only a verdict of the moderation is certain.
fn v1_statement(body: &Value) -> Option<Statement> {
    let code = integer(&body["base_resp"]["status_code"]).filter(|code| *code != 0);
    let failed = || {
        let message = code.and_then(|_| text(&body["base_resp"]["status_msg"]));
        Statement::failed(FAILURES.of_task(code.map(|code| code.to_string()), message))
    };
    let Some(status) = word(&body["status"]) else {
        return matches!(code, Some(1026 | 1027)).then(failed);
    };
    Some(match status.as_str() {
        "preparing" | "queueing" | "processing" | "queued" | "running" => Statement::open(),
        "success" | "succeeded" => {
            let file_id = id(&body["file_id"]).filter(|id| id != "0");
            let artifacts =
                file_id.map(|id| Artifact { kind: Kind::Video, source: Source::FileId(id), expires_at: None });
            Statement::succeeded(artifacts.into_iter().collect())
        }
        "fail" | "failed" => failed(),
        unknown => Statement::unknown_status(unknown),
    })
}

fn v2_statement(task: &Value, now: Timestamp) -> Option<Statement> {
    let error = &task["error"];
    let message = text(&error["message"]);
    let code =
        text(&error["code"]).or_else(|| number_in_brackets(message.as_deref()?)).or_else(|| text(&error["type"]));
    let ended = |failure: Failure| {
        let (code, message) = (code.clone().unwrap_or_default(), message.clone().unwrap_or_default());
        Statement::failed(failure.code(code).message(message))
    };
    Some(match word(&task["status"])?.as_str() {
        "queued" | "running" => Statement::open(),
        "succeeded" | "success" => {
            // "Query again for a new link": it lives from the answer on, not from the end of the task.
            let mut links = Links::new(now, PROFILE.link_life);
            links.add_by_ending(&task["content"]["url"]);
            links.into_success()
        }
        "failed" | "fail" => Statement::failed(FAILURES.of_task(code, message)),
        "cancelled" | "canceled" => ended(Failure::new(Reason::Cancelled, false)),
        "expired" => ended(Failure::new(Reason::Expired, true)),
        unknown => Statement::unknown_status(unknown),
    })
}

/// A v2 success may be text, and then it is complete without a file.
fn is_text_only(task: &Value) -> bool {
    let text_task = word(&task["task_type"]).as_deref() == Some("h3_context_ir");
    text(&task["content"]["url"]).is_none() && (text_task || text(&task["content"]["text"]).is_some())
}

fn read_v2_status(task: &Value, now: Timestamp) -> StatusAnswer {
    match v2_statement(task, now) {
        Some(statement) if is_text_only(task) => StatusAnswer::Task(statement),
        statement => common::status(statement),
    }
}

/// The tasks of a v2 list.
fn list(body: &Value) -> Option<&[Value]> {
    ["items", "tasks", "data"].into_iter().find_map(|field| body[field].as_array()).map(Vec::as_slice)
}

fn unwrapped(task: &Value) -> &Value {
    if task["task"].is_object() { &task["task"] } else { task }
}

/// The failure of a call: `base_resp` of v1, or the error object of v2, wrapped or not. The number in brackets at the end
/// of a v2 message is the code; the type beside it is one where there is no number.
fn refusal(answer: &Answer<'_>, body: &Value) -> Option<Failure> {
    let base = &body["base_resp"];
    if let Some(code) = integer(&base["status_code"]).filter(|code| *code != 0) {
        return Some(FAILURES.of_answer(answer.status, Some(code.to_string()), text(&base["status_msg"])));
    }
    let error = if body["error"].is_object() { &body["error"] } else { body };
    let is_error = error["http_code"].is_string() || word(&error["type"]).is_some_and(|word| word.contains("error"));
    // Under a 2xx a message alone is none: a polite answer may have one, and the task that it took would be forgotten.
    let message = text(&error["message"]).filter(|_| is_error || !answer.is_success() || body["error"].is_object());
    let kind = word(&error["type"]).filter(|kind| kind.ends_with("_error"));
    if message.is_none() && kind.is_none() {
        return None;
    }
    let code = message.as_deref().and_then(number_in_brackets).or_else(|| first_text(error, &["code", "type"]));
    Some(FAILURES.of_answer(answer.status, code, message))
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

    #[test]
    fn every_row_is_reached() {
        FAILURES.assert_that_every_row_is_reached();
    }

    /// The error code page, as v1 writes it, as v2 does, and without v2's wrapper.
    #[test]
    fn codes_are_judged_in_both_generations() {
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
                let answer = Answer { status, retry_after: None, body: body.as_bytes() };
                let expected = Failure::new(reason, retryable).code(code).message(message);
                assert_eq!(MiniMax.read_submission(&answer), SubmissionAnswer::Refused(expected), "{body}");
            }
        }
    }

    #[test]
    fn types_are_judged_where_there_is_no_number() {
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
            let answer = Answer { status, retry_after: None, body: body.as_bytes() };
            let expected = Failure::new(reason, retryable).code(kind).message("words");
            assert_eq!(MiniMax.read_submission(&answer), SubmissionAnswer::Refused(expected), "{body}");
        }
    }

    #[test]
    fn a_time_out_may_have_made_a_task() {
        let body = br#"{"base_resp":{"status_code":1001,"status_msg":"timeout"}}"#;
        let answer = Answer { status: 200, retry_after: None, body };
        assert!(matches!(MiniMax.read_submission(&answer), SubmissionAnswer::Unclear(_)));
    }

    #[test]
    fn any_challenge_is_echoed_as_it_came() {
        // The last number once came back with another last digit.
        for challenge in
            [r#""c""#, "7", "null", "true", r#"{"a":["ü",1.5]}"#, "18446744073709551615", "0.9937135890470127"]
        {
            let body = format!(r#"{{"challenge":{challenge}}}"#);
            let read = MiniMax.read_callback(body.as_bytes(), Timestamp::from_seconds(0));
            let CallbackBody::Handshake(answer) = read else { panic!("{body} is read as {read:?}") };
            assert_eq!(answer.to_string(), body);
        }
        let update = json!({"challenge": "c", "task_id": "1", "status": "processing"});
        let read = callback(&update, Timestamp::from_seconds(0));
        assert_eq!(read, CallbackBody::report("1", Statement::open()));
    }

    /// The error of a failed v2 task has a code by the page. Without it, it is read as the error of a call is.
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
            assert_eq!(v2_statement(&task, Timestamp::from_seconds(0)), Some(Statement::failed(failure)), "{error}");
        }
    }

    #[test]
    fn an_error_may_come_without_words() {
        let body = br#"{"type":"error","error":{"type":"insufficient_balance_error","http_code":"402"}}"#;
        let answer = Answer { status: 402, retry_after: None, body };
        let expected = Failure::new(Reason::InsufficientCredits, false).code("insufficient_balance_error");
        assert_eq!(MiniMax.read_submission(&answer), SubmissionAnswer::Refused(expected));
    }
}
