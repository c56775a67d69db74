//! Kling (Kuaishou), its own API.
//!
//! Two generations exist side by side, and their callbacks differ. New: the model is in the path, the id is `id`, a success
//! is `succeeded`, results are in `outputs[]`. Legacy: `model_name` in the body, `task_id`, `succeed`, `task_result`. Both
//! are flat JSON and posted on every status change.
//!
//! | fact | source |
//! |---|---|
//! | submission, both generations; `options.callback_url` and `callback_url` | confirmed: klingai.com/document-api/api/video/2-6/text-to-video; the legacy manual at docs.qingque.cn |
//! | callback bodies, status words, Standard Webhooks, the test vector | confirmed: klingai.com/document-api/api/get-started/callbacks |
//! | legacy bodies are signed the same way | inferred: the signing page lists both bodies |
//! | authorization by API key, or by JWT from access and secret key (legacy only) | confirmed: klingai.com/document-api/api/get-started/authentication |
//! | `GET /tasks?task_ids=a,b`; legacy `GET /v1/videos/{action}/{id}` | confirmed: the pages of the two generations |
//! | files live 30 days | confirmed: the callbacks page and the legacy manual; whether a link with its anti-leech token does is unknown |
//! | error codes | confirmed: kling.ai/document-api/api/get-started/error-codes; the retry column is inferred |
//! | retries, time-out and order of callbacks | unknown |
//! | `url_mp3`, `url_wav` and `series_images` in `task_result` | single observation: a public client |
//! | an unknown id is `data: []`, or 1201 with `data: []`; refusals under HTTP 200 with `data: null`; times in seconds or as text | single observations in public logs |

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::prelude::*;
use crate::signature::{hmac_sha256, standard_webhooks};

/// Kling.
pub(super) struct Kling;

const NAME: &str = "kling";

const PROFILE: Profile = Profile {
    title: "Kling",
    // Outside China. `https://api-beijing.klingai.com` inside; `https://api.klingai.com` is the host these replaced.
    default_base_url: Some("https://api-singapore.klingai.com"),
    // Not documented. The tightest budget that is documented anywhere for reports, so that nothing is lost to a guess.
    answer_budget: 5,
    // "Files are cleared after 30 days."
    link_life: 30 * DAY as i64,
    // Nothing is documented but that questions cost no concurrency. The sample task took two minutes.
    first_poll: 60,
    poll_interval: 20,
    longest_poll_interval: 300,
    // Chosen freely: hundreds of times the usual render, well inside the 30 days.
    deadline: 24 * HOUR,
    verified: "Standard Webhooks over the body (opt-in)",
    retries: "on every status change; again: not documented",
    confirmed: "both callback bodies, on every status change; signature with test vector; files for 30 days; error \
        codes",
    doubts: "time to answer, retries and order; whether links live as long as files; pace and end of asking; legacy \
        bodies are taken to be signed like new ones",
};

/// Ids in one status question. The page names no limit; chosen so that the URL stays short.
const MOST_IDS: usize = 50;

/// How long a JWT is good for, and how far it is dated back against clocks that differ: the figures of Kling's own sample.
const JWT_LIFE: (i64, i64) = (1800, 5);

/// From the error code page. Failed tasks carry free text and no code; two texts were seen, and both are among the words
/// that mean the same everywhere. 1003 and 1004 are about the JWT's clock, and a new one is made for every call.
const FAILURES: Failures = Failures {
    rules: &[
        code("1000", Reason::Unknown),
        code("1001", Reason::Unknown),
        code("1002", Reason::Unknown),
        code("1003", Reason::Unknown).retryable(),
        code("1004", Reason::Unknown).retryable(),
        // Account abnormal, arrears, pack used up: under HTTP 429, and yet no retry helps.
        code("1100", Reason::InsufficientCredits),
        code("1101", Reason::InsufficientCredits),
        code("1102", Reason::InsufficientCredits),
        code("1103", Reason::Unknown),
        code("1200", Reason::InvalidParameters),
        code("1201", Reason::InvalidParameters),
        code("1202", Reason::InvalidParameters),
        code("1203", Reason::InvalidParameters),
        code("1300", Reason::ContentModeration),
        code("1301", Reason::ContentModeration),
        code("1302", Reason::RateLimited).retryable(),
        code("1303", Reason::RateLimited).retryable(),
        // The address list of the account, also under 429.
        code("1304", Reason::Unknown),
        code("5000", Reason::ProviderError).retryable(),
        code("5001", Reason::ProviderError).retryable(),
        code("5002", Reason::Timeout).retryable(),
    ],
    later: &[],
    otherwise: (Reason::ProviderError, Retry::IsPointless),
};

impl Adapter for Kling {
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
            return Ok(Authenticity::Unsigned);
        }
        standard_webhooks(&request.headers, request.body, &settings.signing_secrets, now)?;
        Ok(Authenticity::SignedBody)
    }

    fn read_callback(&self, body: &[u8], now: Timestamp) -> CallbackBody {
        object(body).map_or(CallbackBody::Unreadable, |body| callback(task(&body), now))
    }

    fn submission(
        &self,
        submission: &Submission<'_>,
        settings: &ProviderSettings,
        now: Timestamp,
    ) -> Result<Request, InvalidSubmission> {
        // `POST /tasks` is the list of the new generation.
        let endpoint = common::named_endpoint(submission, "/text-to-video/kling-2.6", |endpoint| endpoint != "/tasks")?;
        let place: &[&'static str] = if is_legacy(endpoint) { &["callback_url"] } else { &["options", "callback_url"] };
        let body = with_callback_url(submission, place, submission.callback_url)?;
        Ok(api(settings, is_legacy(endpoint), now)?.post(endpoint, &body))
    }

    fn read_submission(&self, answer: &Answer<'_>) -> SubmissionAnswer {
        let body = object(answer.body).unwrap_or_default();
        common::submission(answer, first_id(task(&body), &["id", "task_id"]), refusal(answer, &body))
    }

    fn status_requests(
        &self,
        tasks: &[PolledTask<'_>],
        settings: &ProviderSettings,
        now: Timestamp,
    ) -> Vec<StatusRequest> {
        let legacy_endpoint =
            |task: &PolledTask<'_>| task.endpoint.filter(|endpoint| is_legacy(endpoint)).map(str::to_owned);
        let (legacy, new): (Vec<usize>, Vec<usize>) =
            (0..tasks.len()).partition(|position| legacy_endpoint(&tasks[*position]).is_some());
        let mut requests = Vec::new();
        if let Ok(api) = api(settings, true, now) {
            requests.extend(common::one_by_one(tasks, legacy, |task| {
                let endpoint = legacy_endpoint(task).unwrap_or_default();
                api.get(&format!("{endpoint}/{}", encoded(task.provider_task_id)))
            }));
        }
        if let Ok(api) = api(settings, false, now) {
            requests.extend(common::together(tasks, &new, MOST_IDS, |ids| {
                api.get(&format!("/tasks?task_ids={}", ids.join(",")))
            }));
        }
        requests
    }

    fn read_status(&self, answer: &Answer<'_>, provider_task_id: &str, now: Timestamp) -> StatusAnswer {
        let Some(body) = object(answer.body) else { return common::status_by_http_alone(answer) };
        if let Some(failure) = refusal(answer, &body) {
            let nothing_found = failure.code.as_deref() == Some("1201") && body["data"] == Value::Array(vec![]);
            if nothing_found || failure.code.as_deref() == Some("1203") {
                return StatusAnswer::NotFound;
            }
            return common::status_refused(answer, failure);
        }
        if !answer.is_success() {
            return common::status_by_http_alone(answer);
        }
        // Tasks can be asked after by the caller's own id, too.
        let is_named = |task: &&Value| {
            [&task["id"], &task["task_id"], &task["external_id"], &task["task_info"]["external_task_id"]]
                .into_iter()
                .any(|id| text(id).as_deref() == Some(provider_task_id))
        };
        let task = match list(&body) {
            Some(tasks) => match tasks.iter().find(is_named) {
                Some(task) => task,
                None => return StatusAnswer::NotFound,
            },
            None => task(&body),
        };
        if !is_named(&task) && !common::is_about(task, &["id", "task_id"], provider_task_id) {
            return StatusAnswer::Unreadable;
        }
        match statement(task, now) {
            Some(statement) if is_without_files(task) => StatusAnswer::Task(statement),
            statement => common::status(statement),
        }
    }

    fn status_id(&self, answer: &Answer<'_>) -> Option<String> {
        let body = object(answer.body)?;
        first_id(task(&body), &["id", "task_id"])
    }
}

/// The task in the envelope of an answer, or without one: callbacks come bare.
fn task(body: &Value) -> &Value {
    match list(body) {
        Some([task, ..]) => task,
        _ if says_a_status(body) => body,
        _ => in_data(body),
    }
}

/// The tasks of an answer that has several: a list, or a page of one (`POST /tasks`).
fn list(body: &Value) -> Option<&[Value]> {
    let tasks = body["data"].as_array().or_else(|| body["data"]["result"].as_array())?;
    (!says_a_status(body)).then_some(tasks)
}

fn says_a_status(body: &Value) -> bool {
    !body["status"].is_null() || !body["task_status"].is_null()
}

/// Reads the body of a callback; `APIMP` hands such bodies on.
pub(super) fn callback(task: &Value, now: Timestamp) -> CallbackBody {
    let id = if task["task_status"].is_null() { "id" } else { "task_id" };
    match (first_id(task, &[id]), statement(task, now)) {
        (Some(id), Some(statement)) if is_without_files(task) => CallbackBody::report(id, statement),
        (id, statement) => common::callback(id, statement),
    }
}

/// Elements and voices are made for later submissions; a task that made nothing else is complete without a file.
fn is_without_files(task: &Value) -> bool {
    let outputs = items(&task["outputs"]);
    let is_for_later = |output: &Value| matches!(word(&output["type"]).as_deref(), Some("element" | "voice"));
    !outputs.is_empty() && outputs.iter().all(is_for_later)
}

/// What a task says, in a callback of either generation or in an answer.
fn statement(task: &Value, now: Timestamp) -> Option<Statement> {
    let (status, message, updated_at) = if task["task_status"].is_null() {
        (&task["status"], &task["message"], &task["update_time"])
    } else {
        (&task["task_status"], &task["task_status_msg"], &task["updated_at"])
    };
    Some(match word(status)?.as_str() {
        "submitted" | "processing" => Statement::open(),
        "succeeded" | "succeed" => links(task, moment(updated_at).unwrap_or(now)).into_success(),
        "failed" => Statement::failed(FAILURES.of_task(None, text(message))),
        unknown => Statement::unknown_status(unknown),
    })
}

/// The files of a task: `outputs[]` of the new generation, `task_result` of the legacy one.
fn links(task: &Value, made_at: Timestamp) -> Links {
    let mut links = Links::new(made_at, PROFILE.link_life);
    for output in items(&task["outputs"]) {
        match word(&output["type"]).as_deref() {
            Some("video") => add(&mut links, Kind::Video, output),
            Some("image") => add(&mut links, Kind::Image, output),
            Some("audio" | "voice") => add(&mut links, Kind::Audio, output),
            _ => links.add_by_ending(&output["url"]),
        }
    }
    let result = &task["task_result"];
    for (field, kind) in
        [("videos", Kind::Video), ("images", Kind::Image), ("series_images", Kind::Image), ("audios", Kind::Audio)]
    {
        for file in items(&result[field]) {
            add(&mut links, kind, file);
        }
    }
    links
}

fn add(links: &mut Links, kind: Kind, file: &Value) {
    links.add(kind, &file["url"]);
    match kind {
        Kind::Video => links.add(Kind::WatermarkedVideo, &file["watermark_url"]),
        Kind::Audio => {
            // The new generation's names, then the legacy one's.
            for field in ["mp3_url", "wav_url", "url_mp3", "url_wav"] {
                links.add(kind, &file[field]);
            }
        }
        // A watermarked image has no kind of its own; it is the result where there is no other.
        Kind::Image if text(&file["url"]).is_none() => links.add(kind, &file["watermark_url"]),
        _ => {}
    }
}

/// The failure in an envelope; none where its code is 0, or there is none, or a gateway wrote its own 200 over it.
fn refusal(answer: &Answer<'_>, body: &Value) -> Option<Failure> {
    let code = integer(&body["code"]).filter(|code| *code != 0 && !(*code == 200 && answer.is_success()))?;
    Some(FAILURES.of_answer(answer.status, Some(code.to_string()), first_text(body, &["message", "msg"])))
}

fn is_legacy(endpoint: &str) -> bool {
    endpoint.starts_with("/v1/")
}

/// The API key opens both generations, the older pair of keys only the legacy one.
fn api(settings: &ProviderSettings, legacy: bool, now: Timestamp) -> Result<Api<'_>, InvalidSubmission> {
    match (&settings.api_key, &settings.access_key, &settings.secret_key) {
        (None, Some(access_key), Some(secret_key)) if legacy => {
            let authorization = Secret::new(format!("Bearer {}", jwt(access_key, secret_key, now)));
            Api::authorized(NAME, authorization, &PROFILE, settings)
        }
        _ => Api::new(NAME, "Bearer", &PROFILE, settings),
    }
}

/// The JWT of the older pair of keys: HS256, the access key as issuer. The claims stand in the order of Kling's sample.
fn jwt(access_key: &Secret, secret_key: &Secret, now: Timestamp) -> String {
    let (life, back) = JWT_LIFE;
    let issuer = Value::String(access_key.expose().to_owned());
    let claims =
        format!(r#"{{"iss":{issuer},"exp":{},"nbf":{}}}"#, now.plus(life).seconds(), now.plus(-back).seconds());
    let signed =
        format!("{}.{}", URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#), URL_SAFE_NO_PAD.encode(claims));
    let signature = hmac_sha256(secret_key.expose().as_bytes(), &[signed.as_bytes()]);
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

    #[test]
    fn every_row_is_reached() {
        FAILURES.assert_that_every_row_is_reached();
    }

    /// The error code page: HTTP status, codes, reason, retry.
    #[test]
    fn refusals_are_judged_by_their_code() {
        for (status, codes, reason, retryable) in [
            (401, vec![1000, 1001, 1002], Reason::Unknown, false),
            (401, vec![1003, 1004], Reason::Unknown, true),
            (429, vec![1100, 1101, 1102], Reason::InsufficientCredits, false),
            (403, vec![1103], Reason::Unknown, false),
            (400, vec![1200, 1201], Reason::InvalidParameters, false),
            (404, vec![1202, 1203], Reason::InvalidParameters, false),
            (400, vec![1300, 1301], Reason::ContentModeration, false),
            (429, vec![1302, 1303], Reason::RateLimited, true),
            (429, vec![1304], Reason::Unknown, false),
            (500, vec![5000], Reason::ProviderError, true),
            (503, vec![5001], Reason::ProviderError, true),
        ] {
            for code in codes {
                let body = json!({"code": code, "message": "words", "request_id": "r"}).to_string();
                for status in [status, 200] {
                    let answer = Answer { status, retry_after: None, body: body.as_bytes() };
                    let expected = Failure::new(reason, retryable).code(code.to_string()).message("words");
                    assert_eq!(Kling.read_submission(&answer), SubmissionAnswer::Refused(expected));
                }
            }
        }
    }

    #[test]
    fn a_time_out_may_have_made_a_task() {
        let answer = Answer { status: 504, retry_after: None, body: br#"{"code":5002,"message":"timeout"}"# };
        assert!(matches!(Kling.read_submission(&answer), SubmissionAnswer::Unclear(_)));
    }

    #[test]
    fn a_task_that_made_an_element_is_complete_without_a_file() {
        let task = json!({"id": "1", "status": "succeeded", "outputs": [{"type": "element", "id": "2"}]});
        let success = Statement::succeeded(vec![]);
        assert_eq!(callback(&task, NOW), CallbackBody::report("1", success.clone()));
        let body = json!({"code": 0, "data": [task]}).to_string();
        let answer = Answer { status: 200, retry_after: None, body: body.as_bytes() };
        assert_eq!(Kling.read_status(&answer, "1", NOW), StatusAnswer::Task(success));
    }

    #[test]
    fn failed_tasks_are_judged_by_their_words() {
        for (message, reason) in [
            ("Failure to pass the risk control system", Reason::ContentModeration),
            ("The resolution or aspect ratio of the input image is invalid. Try another", Reason::InvalidParameters),
            ("something else", Reason::ProviderError),
            ("", Reason::ProviderError),
        ] {
            let failure = FAILURES.of_task(None, Some(message.to_owned()));
            assert_eq!((failure.reason, failure.retryable), (reason, false), "{message}");
        }
    }

    #[test]
    fn the_older_pair_of_keys_signs_a_token() {
        let token = jwt(&Secret::new("ak-test"), &Secret::new("sk-test"), NOW);
        let expected = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJhay10ZXN0IiwiZXhwIjoxNzY3MjI3NDAwLCJuYmYiOjE3NjcyMjU1OTV9.dDxpWSVSj5kNmv3WvJxz25pk9735kQ4OjYPb-MoIoH0";
        assert_eq!(token, expected);
    }

    #[test]
    fn the_older_pair_of_keys_opens_the_legacy_generation_only() {
        let settings = ProviderSettings {
            access_key: Some(Secret::new("ak-test")),
            secret_key: Some(Secret::new("sk-test")),
            ..ProviderSettings::default()
        };
        let submit = |endpoint| {
            let submission = Submission { body: &json!({}), endpoint: Some(endpoint), callback_url: "https://hub" };
            Kling.submission(&submission, &settings, NOW)
        };
        let request = submit("/v1/videos/text2video").expect("a good submission");
        assert!(request.headers[0].1.expose().starts_with("Bearer eyJ"));
        assert_eq!(submit("/text-to-video/kling-2.6"), Err(InvalidSubmission::NoApiKey(NAME)));
        let tasks = [
            PolledTask { provider_task_id: "1", endpoint: None },
            PolledTask { provider_task_id: "2", endpoint: Some("/v1/videos/text2video") },
        ];
        let asked: Vec<_> =
            Kling.status_requests(&tasks, &settings, NOW).into_iter().map(|request| request.tasks).collect();
        assert_eq!(asked, [vec![1]]);
    }

    #[test]
    fn a_page_of_tasks_is_a_list() {
        let task = |id: &str, status: &str| json!({"id": id, "status": status, "message": "words"});
        let tasks = [task("1", "processing"), task("2", "failed")];
        let body = json!({"code": 0, "data": {"result": tasks, "count": 2, "has_more": false}}).to_string();
        let answer = Answer { status: 200, retry_after: None, body: body.as_bytes() };
        assert_eq!(Kling.status_id(&answer).as_deref(), Some("1"));
        assert_eq!(Kling.read_status(&answer, "1", NOW), StatusAnswer::Task(Statement::open()));
        let failed = Statement::failed(Failure::new(Reason::ProviderError, false).message("words"));
        assert_eq!(Kling.read_status(&answer, "2", NOW), StatusAnswer::Task(failed));
        assert_eq!(Kling.read_status(&answer, "3", NOW), StatusAnswer::NotFound);
    }

    #[test]
    fn tasks_are_known_by_the_callers_own_id_too() {
        let new = json!([{"id": "1", "external_id": "job-1", "status": "processing"}]);
        let legacy = json!({"task_id": "1", "task_info": {"external_task_id": "job-1"}, "task_status": "processing"});
        for data in [new, legacy] {
            let body = json!({"code": 0, "data": data}).to_string();
            let answer = Answer { status: 200, retry_after: None, body: body.as_bytes() };
            for id in ["1", "job-1"] {
                assert_eq!(Kling.read_status(&answer, id, NOW), StatusAnswer::Task(Statement::open()), "{id} {body}");
            }
            assert!(!matches!(Kling.read_status(&answer, "job-2", NOW), StatusAnswer::Task(_)), "{body}");
        }
    }

    #[test]
    fn sounds_and_pictures_of_either_generation_are_found() {
        let result = json!({
            "images": [{"url": "", "watermark_url": "https://a.test/marked.png"}],
            "series_images": [{"url": "https://a.test/1.png", "watermark_url": "https://a.test/1-marked.png"}],
            "audios": [{"id": "1", "url_mp3": "https://a.test/s.mp3", "url_wav": "https://a.test/s.wav"}],
        });
        let task = json!({"task_id": "1", "task_status": "succeed", "task_result": result});
        let found: Vec<_> = links(&task, NOW).into_artifacts();
        let found: Vec<_> = found
            .iter()
            .map(|artifact| match &artifact.source {
                Source::Url(url) => (artifact.kind, url.expose()),
                Source::FileId(id) => (artifact.kind, id.as_str()),
            })
            .collect();
        assert_eq!(
            found,
            [
                (Kind::Image, "https://a.test/marked.png"),
                (Kind::Image, "https://a.test/1.png"),
                (Kind::Audio, "https://a.test/s.mp3"),
                (Kind::Audio, "https://a.test/s.wav"),
            ]
        );
    }
}
