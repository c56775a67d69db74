//! Kling (Kuaishou), its own API.
//!
//! Two generations of the API exist side by side, and their callbacks differ. New: the model is in the path, the id in `id`,
//! a success is `succeeded`, results are in `outputs[]`. Legacy: `model_name` in the body, `task_id`, `succeed`,
//! `task_result`. Both are flat JSON, posted on every status change.
//!
//! | fact | source |
//! |---|---|
//! | submission, both generations; `options.callback_url` and `callback_url` | confirmed: klingai.com/document-api/api/video/2-6/text-to-video; the legacy manual at docs.qingque.cn |
//! | callback bodies, status words, Standard Webhooks, the test vector | confirmed: klingai.com/document-api/api/get-started/callbacks |
//! | legacy bodies are signed the same way | inferred: the signing page lists both bodies |
//! | authorization by API key, or by JWT from access and secret key (legacy only) | confirmed: klingai.com/document-api/api/get-started/authentication |
//! | `GET /tasks?task_ids=a,b`; legacy `GET /v1/videos/{action}/{id}` | confirmed: the pages of the two generations |
//! | files live 30 days | confirmed: the callbacks page and the legacy manual; whether links with an anti-leech token do is unknown |
//! | error codes | confirmed: kling.ai/document-api/api/get-started/error-codes; the retry column is inferred |
//! | retries, timeout and order of callbacks | unknown |
//! | `url_mp3`, `url_wav` and `series_images` in `task_result` | single observation: a public client |
//! | an unknown id gives `data: []`, or 1201 with `data: []`; refusals under HTTP 200 with `data: null`; times in seconds or as text | single observations in public logs |

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::prelude::*;
use crate::signature::{hmac_sha256, standard_webhooks};

pub(super) struct Kling;

const NAME: &str = "kling";

const PROFILE: Profile = Profile {
    title: "Kling",
    // Outside China; `https://api-beijing.klingai.com` inside. Both replaced `https://api.klingai.com`.
    default_base_url: Some("https://api-singapore.klingai.com"),
    callbacks: Some(Callbacks {
        // Not documented. The shortest timeout that any provider documents for reports, to be safe.
        response_timeout: Duration::from_secs(5),
        reports_failures: true,
        verified: "Standard Webhooks over the body (opt-in)",
        retries: "not documented",
    }),
    // "Files are cleared after 30 days."
    link_life: Duration::from_hours(720),
    // Only documented that status calls do not count as concurrency. The sample task took two minutes.
    first_poll: FIRST_POLL,
    poll_interval: Duration::from_secs(20),
    max_poll_interval: Duration::from_mins(5),
    // Chosen freely: hundreds of times the usual render, well within the 30 days.
    deadline: Duration::from_hours(24),
    cancellable: None,
    marker: Some("an own id (`external_task_id`), by which an interrupted submission is looked up"),
    usage: Some("units of a resource pack, or money"),
    confirmed: "both callback bodies, on every status change; signature with test vector; files for 30 days; error \
        codes",
    unconfirmed: "response timeout, retries and order; whether links live as long as files; poll schedule and deadline; that \
        legacy bodies are signed like new ones",
};

/// Where the new generation lists tasks, whatever made them.
const TASKS: &str = "/tasks";

/// Ids per status request. No limit is documented; chosen so that the URL stays short.
const MAX_IDS: usize = 50;

/// How long a JWT is valid, as in Kling's sample.
const JWT_LIFE: Duration = Duration::from_mins(30);

/// How far `nbf` is backdated to allow for clock skew, as in Kling's sample.
const JWT_BACKDATE: Duration = Duration::from_secs(5);

/// From the error code page. Failed tasks have a message and no code. 1003 and 1004 mean that the JWT is not valid yet or
/// expired; retryable, because every call gets a new one.
const FAILURES: Failures = Failures {
    rules: &[
        code("1000", Reason::Unknown),
        code("1001", Reason::Unknown),
        code("1002", Reason::Unknown),
        code("1003", Reason::Unknown).retryable(),
        code("1004", Reason::Unknown).retryable(),
        // Account abnormal, arrears, pack used up: under HTTP 429, but not retryable.
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
        // Not on the account's IP allowlist; also under 429.
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
            return Ok(Authenticity::Unverified);
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
        // `POST /tasks` lists tasks.
        let endpoint = requests::named_endpoint(submission, "/text-to-video/kling-2.6", |endpoint| endpoint != TASKS)?;
        let field: &[&'static str] = if is_legacy(endpoint) { &["callback_url"] } else { &["options", "callback_url"] };
        let mut body = requests::with_callback_url(submission, field, submission.callback_url)?;
        let own_id = requests::field(&mut body, own_id(endpoint))?;
        if text(own_id).is_none() {
            *own_id = submission.marker.into();
        }
        Ok(api(settings, is_legacy(endpoint), now)?.post(endpoint, &body))
    }

    fn read_submission(&self, response: &ProviderResponse) -> SubmissionResult {
        let body = object(&response.body).unwrap_or_default();
        responses::submission(response, first_id(task(&body), &["id", "task_id"]), refusal(response, &body))
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
            requests.extend(requests::one_per_task(tasks, legacy, |task| {
                let endpoint = legacy_endpoint(task).unwrap_or_default();
                api.get(&format!("{endpoint}/{}", encoded(task.provider_task_id)))
            }));
        }
        if let Ok(api) = api(settings, false, now) {
            requests.extend(requests::batched(tasks, &new, MAX_IDS, |ids| {
                api.get(&format!("{TASKS}?task_ids={}", ids.join(",")))
            }));
        }
        requests
    }

    fn read_status(&self, response: &ProviderResponse, provider_task_id: &str, now: Timestamp) -> StatusResult {
        let Some(body) = object(&response.body) else { return responses::status_by_http_status(response) };
        if let Some(failure) = refusal(response, &body) {
            let nothing_found = failure.code.as_deref() == Some("1201") && body["data"] == Value::Array(vec![]);
            if nothing_found || failure.code.as_deref() == Some("1203") {
                return StatusResult::NotFound;
            }
            return responses::status_refused(response, failure);
        }
        if !response.is_success() {
            return responses::status_by_http_status(response);
        }
        let Some(task) = task_named(&body, provider_task_id) else { return StatusResult::NotFound };
        if !is_named(task, provider_task_id) && !is_about(task, &["id", "task_id"], provider_task_id) {
            return StatusResult::Unreadable;
        }
        match task_status(task, now) {
            Some(task_status) if is_without_files(task) => StatusResult::Task(task_status),
            task_status => responses::status(task_status),
        }
    }

    /// What a task was submitted to says which generation knows it, and the legacy one has a call for each action.
    fn guesses_status_call(&self, task: &PolledTask<'_>) -> bool {
        task.endpoint.is_none()
    }

    /// Only the new generation has one call for all its tasks.
    fn endpoint_of_callback(&self, body: &[u8]) -> Option<&'static str> {
        let body = object(body)?;
        let is_new = task(&body)["task_status"].is_null() && first_id(task(&body), &["id"]).is_some();
        is_new.then_some(TASKS)
    }

    fn marker_in(&self, body: &Value, endpoint: Option<&str>) -> Option<String> {
        text(own_id(endpoint?).iter().fold(body, |value, field| &value[*field]))
    }

    fn lookup(
        &self,
        marker: &str,
        endpoint: Option<&str>,
        settings: &ProviderSettings,
        now: Timestamp,
    ) -> Option<Request> {
        Some(match endpoint.filter(|endpoint| is_legacy(endpoint)) {
            Some(endpoint) => api(settings, true, now).ok()?.get(&format!("{endpoint}/{}", encoded(marker))),
            None => api(settings, false, now).ok()?.get(&format!("{TASKS}?external_task_ids={}", encoded(marker))),
        })
    }

    fn read_lookup(&self, response: &ProviderResponse, marker: &str, now: Timestamp) -> LookupResult {
        let status = self.read_status(response, marker, now);
        let body = object(&response.body).unwrap_or_default();
        let provider_task_id = task_named(&body, marker).and_then(|task| first_id(task, &["id", "task_id"]));
        match (&status, provider_task_id) {
            (StatusResult::Task(_), Some(provider_task_id)) => LookupResult::Found { provider_task_id },
            _ => LookupResult::Unknown(status),
        }
    }

    fn status_id(&self, response: &ProviderResponse) -> Option<String> {
        let body = object(&response.body)?;
        first_id(task(&body), &["id", "task_id"])
    }
}

/// Where a body has an id of the caller's own.
fn own_id(endpoint: &str) -> &'static [&'static str] {
    if is_legacy(endpoint) { &["external_task_id"] } else { &["options", "external_task_id"] }
}

/// The task in the envelope of a response, or without one: callbacks have none.
fn task(body: &Value) -> &Value {
    match list(body) {
        Some([task, ..]) => task,
        _ if has_status(body) => body,
        _ => in_data(body),
    }
}

/// The task with this id in a response about one or several.
fn task_named<'a>(body: &'a Value, id: &str) -> Option<&'a Value> {
    match list(body) {
        Some(tasks) => tasks.iter().find(|task| is_named(task, id)),
        None => Some(task(body)),
    }
}

/// Tasks can also be polled by the caller's own id.
fn is_named(task: &Value, id: &str) -> bool {
    [&task["id"], &task["task_id"], &task["external_id"], &task["task_info"]["external_task_id"]]
        .into_iter()
        .any(|named| text(named).as_deref() == Some(id))
}

/// The tasks of a response with several: a list, or a page of `POST /tasks`.
fn list(body: &Value) -> Option<&[Value]> {
    let tasks = body["data"].as_array().or_else(|| body["data"]["result"].as_array())?;
    (!has_status(body)).then_some(tasks)
}

fn has_status(body: &Value) -> bool {
    !body["status"].is_null() || !body["task_status"].is_null()
}

/// Reads the body of a callback, also when `APIMP` is in between.
pub(super) fn callback(task: &Value, now: Timestamp) -> CallbackBody {
    let id = if task["task_status"].is_null() { "id" } else { "task_id" };
    match (first_id(task, &[id]), task_status(task, now)) {
        (Some(id), Some(task_status)) if is_without_files(task) => responses::complete_callback(id, task_status),
        (id, task_status) => responses::callback(id, task_status),
    }
}

/// Whether a task created only elements or voices. They are used in later submissions and have no file.
fn is_without_files(task: &Value) -> bool {
    let outputs = items(&task["outputs"]);
    let has_no_file = |output: &Value| matches!(status_word(&output["type"]).as_deref(), Some("element" | "voice"));
    !outputs.is_empty() && outputs.iter().all(has_no_file)
}

/// The status of a task of either generation, in a callback or a response.
fn task_status(task: &Value, now: Timestamp) -> Option<TaskStatus> {
    let (status, message, updated_at) = if task["task_status"].is_null() {
        (&task["status"], &task["message"], &task["update_time"])
    } else {
        (&task["task_status"], &task["task_status_msg"], &task["updated_at"])
    };
    let task_status = match status_word(status)?.as_str() {
        "submitted" | "processing" => TaskStatus::open(),
        "succeeded" | "succeed" => links(task, timestamp(updated_at).unwrap_or(now)).into_success(),
        "failed" => TaskStatus::failed(FAILURES.of_task(None, text(message))),
        unknown => TaskStatus::unknown_status(unknown),
    };
    Some(task_status.with_usage(usage(task)))
}

/// What a task cost: `billing[]` of the new generation, in units of a resource pack or in money; the units of the legacy one.
fn usage(task: &Value) -> Usage {
    let charges = |kind: &str| {
        let of_kind = items(&task["billing"]).iter().filter(move |charge| charge["charge_type"] == kind);
        of_kind.collect::<Vec<_>>()
    };
    let amount = |charges: &[&Value]| usage::sum(charges.iter().map(|charge| &charge["amount"]));
    let (units, cash) = (charges("unit"), charges("cash"));
    let currency = cash.first().map_or(&Value::Null, |charge| &charge["currency"]);
    let same_currency = cash.iter().all(|charge| charge["currency"] == *currency);
    let units = if units.is_empty() { task["final_unit_deduction"].clone() } else { amount(&units) };
    let cash = if same_currency { amount(&cash) } else { Value::Null };
    Usage::of_credits(&units).with_amount(&cash, currency)
}

/// The files of a task: `outputs[]` of the new generation, `task_result` of the legacy one.
fn links(task: &Value, created_at: Timestamp) -> Links {
    let mut links = Links::new(created_at, PROFILE.link_life);
    for output in items(&task["outputs"]) {
        match status_word(&output["type"]).as_deref() {
            Some("video") => add(&mut links, Kind::Video, output),
            Some("image") => add(&mut links, Kind::Image, output),
            Some("audio" | "voice") => add(&mut links, Kind::Audio, output),
            _ => links.add_by_extension(&output["url"]),
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
            // New names, then legacy ones.
            for field in ["mp3_url", "wav_url", "url_mp3", "url_wav"] {
                links.add(kind, &file[field]);
            }
        }
        // Watermarked images have no kind of their own. Without an unmarked one, it is the result.
        Kind::Image if text(&file["url"]).is_none() => links.add(kind, &file["watermark_url"]),
        _ => {}
    }
}

/// The failure in an envelope. A missing code, 0, and a gateway's own 200 mean success.
fn refusal(response: &ProviderResponse, body: &Value) -> Option<Failure> {
    let code = integer(&body["code"]).filter(|code| *code != 0 && !(*code == 200 && response.is_success()))?;
    Some(FAILURES.of_response(response.status, Some(code.to_string()), first_text(body, &["message", "msg"])))
}

fn is_legacy(endpoint: &str) -> bool {
    endpoint.starts_with("/v1/")
}

/// The API with the account's credentials: an API key is valid for both generations, the older key pair only for legacy.
fn api(settings: &ProviderSettings, legacy: bool, now: Timestamp) -> Result<Api<'_>, InvalidSubmission> {
    match (&settings.api_key, &settings.access_key, &settings.secret_key) {
        (None, Some(access_key), Some(secret_key)) if legacy => {
            let authorization = Secret::new(format!("Bearer {}", jwt(access_key, secret_key, now)));
            Api::authorized(NAME, authorization, &PROFILE, settings)
        }
        _ => Api::new(NAME, "Bearer", &PROFILE, settings),
    }
}

/// The JWT of the older key pair: HS256, issued by the access key, with the claims in the order of Kling's sample.
/// No JWT library: this is an HMAC that is there anyway, and it takes the time it is given.
fn jwt(access_key: &Secret, secret_key: &Secret, now: Timestamp) -> String {
    let issuer = Value::String(access_key.expose().to_owned());
    let claims =
        format!(r#"{{"iss":{issuer},"exp":{},"nbf":{}}}"#, (now + JWT_LIFE).seconds(), (now - JWT_BACKDATE).seconds());
    let signed =
        format!("{}.{}", URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#), URL_SAFE_NO_PAD.encode(claims));
    let signature = hmac_sha256(secret_key.expose().as_bytes(), &[signed.as_bytes()]);
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[cfg(test)]
mod tests;
