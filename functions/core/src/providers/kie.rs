//! KIE.AI, docs.kie.ai: three families of calls (Runway, Veo, and the Market jobs that replace them), each with its own
//! callback and status body.
//!
//! The optional signature covers the task id and a time but not the body, so a status poll confirms every result. Errors
//! come under HTTP 200 with a code that mirrors HTTP.
//!
//! | fact | source |
//! |---|---|
//! | Runway callback body, timeout of 15 s, no more retries after 3 failures in a row; files live 14 days | confirmed: docs.kie.ai/runway-api/generate-ai-video-callbacks |
//! | `{"code":200,"msg":"success"}` as the response | public notes |
//! | signature: `{taskId}.{timestamp}`, key as text | confirmed: docs.kie.ai/common-api/webhook-verification; that the key is not base64 is inferred from its code |
//! | replay window | none documented; 300 s |
//! | Veo and Market callbacks sign their `taskId` | inferred |
//! | `task_id` and `taskId` in one body | single observation; refused where they differ, because only one is signed |
//! | Veo callback and status | confirmed: docs.kie.ai/veo3-api/generate-veo-3-video-callbacks, …/get-veo-3-video-details |
//! | Market status | confirmed: docs.kie.ai/market/common/get-task-detail; its callback is documented to have the same `data` |
//! | submissions: `POST /api/v1/runway/generate`, `/api/v1/veo/generate`, `/api/v1/jobs/createTask`, `callBackUrl` | confirmed; the latter two from public notes |
//! | `POST /api/v1/common/download-url`: a fresh link for 20 minutes | confirmed: docs.kie.ai/common-api/download-url |
//! | Market links live about 24 hours | the Market page, against 14 days elsewhere |
//! | Market `resultWaterMarkUrls` beside `resultUrls` | a copy of the Sora 2 page, and public clients |
//! | the family of a task of which only the id is known | inferred from the ids in the samples |
//! | errors as HTTP 200 with another code; messages decide before codes | inferred |
//! | `failCode` of any type, words such as `MODEL_NOT_FOUND` among them, `resultJson` null; `completed`, `failed`, `pending`; `successFlag` 4 (generated, but the callback failed); callbacks without a result | single observations |

use super::prelude::*;
use crate::signature::kie_hmac;

pub(super) struct Kie;

const NAME: &str = "kie";

const PROFILE: Profile = Profile {
    title: "KIE.AI",
    default_base_url: Some("https://api.kie.ai"),
    callbacks: Some(Callbacks {
        // Documented.
        response_timeout: Duration::from_secs(15),
        reports_failures: true,
        verified: "HMAC over task id and time, not the body (opt-in), and always a status poll",
        retries: "until 3 failures in a row",
    }),
    // "Media files are deleted after 14 days."
    link_life: Duration::from_hours(336),
    // "30 s" for Runway; the Market page recommends 2 to 3 s with back-off.
    first_poll: FIRST_POLL,
    poll_interval: Duration::from_secs(30),
    max_poll_interval: Duration::from_mins(5),
    // The Market page stops after 15 minutes. Chosen freely above that, within the two months that logs are kept.
    deadline: Duration::from_hours(24),
    cancellable: None,
    marker: None,
    usage: Some("credits, on newer endpoints"),
    confirmed: "Runway: callback, 15 s, 3 failures, polls every 30 s; files for 14 days; string to sign; status bodies",
    unconfirmed: "whether the key is text; delay of retries; the failed Runway body; response timeout, retries and signed id of Veo and Market; \
        link life of Market (24 h or 14 days); poll schedule beyond Runway's 30 s and deadline",
};

/// Link life of the Market family: "about 24 h".
const MARKET_LINK_LIFE: Duration = Duration::from_hours(24);

/// Life of a link from download-url: "20 min".
const DOWNLOAD_LINK_LIFE: Duration = Duration::from_mins(20);

/// Messages decide before codes: some of those under 400 are retryable.
const FAILURES: Failures = Failures {
    rules: &[
        words("inappropriate content", Reason::ContentModeration),
        words("ai moderator", Reason::ContentModeration),
        words("incorrect image format", Reason::InvalidParameters),
        words("unsupported width", Reason::InvalidParameters),
        words("unsupported height", Reason::InvalidParameters),
        words("reached the limit for concurrent", Reason::RateLimited).retryable(),
        words("try again later", Reason::ProviderError).retryable(),
        words("upgrade membership", Reason::ProviderError).retryable(),
        words("upgrade your membership", Reason::ProviderError).retryable(),
    ],
    later: &[
        // A model that does not exist, or not in this region, also as a code such as `MODEL_NOT_FOUND`.
        words("not found", Reason::InvalidParameters),
        // Veo could not fetch an image; elsewhere 451 means moderation.
        code("451", Reason::InvalidParameters),
        // Maintenance, some minutes.
        code("455", Reason::ProviderError).retryable(),
        // The generation failed, without details.
        code("501", Reason::ProviderError).retryable(),
        // The feature is switched off.
        code("505", Reason::Unknown),
    ],
    otherwise: (Reason::ProviderError, Retry::Helps),
};

/// The families of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Runway,
    Veo,
    Market,
}

impl Family {
    const ALL: [Self; 3] = [Self::Runway, Self::Veo, Self::Market];

    /// What the path of a submission starts with.
    const fn root(self) -> &'static str {
        match self {
            Self::Runway => "/api/v1/runway/",
            Self::Veo => "/api/v1/veo/",
            Self::Market => "/api/v1/jobs/",
        }
    }

    /// The status call, below [`Self::root`].
    fn status_call(self) -> &'static str {
        match self {
            Self::Runway => "record-detail",
            Self::Veo => "record-info",
            Self::Market => "recordInfo",
        }
    }

    /// The family of a submission endpoint.
    fn of_endpoint(endpoint: &str) -> Option<Self> {
        let family = Self::ALL.into_iter().find(|family| endpoint.starts_with(family.root()))?;
        (endpoint.strip_prefix(family.root()) != Some(family.status_call())).then_some(family)
    }

    /// The family of a task of which only the id is known, judging by the samples: Runway has UUIDs, Veo `veo_task_…`, the
    /// Market everything else.
    fn of_id(id: &str) -> Self {
        if id.starts_with("veo") {
            Self::Veo
        } else if id.len() == 36 && id.split('-').map(str::len).eq([8, 4, 4, 4, 12]) {
            Self::Runway
        } else {
            Self::Market
        }
    }
}

impl Adapter for Kie {
    fn profile(&self) -> &'static Profile {
        &PROFILE
    }

    fn authenticate(
        &self,
        request: &CallbackRequest<'_>,
        settings: &ProviderSettings,
        now: Timestamp,
    ) -> Result<Authenticity, Refusal> {
        let body = object(request.body);
        if body.as_ref().is_some_and(names_two_tasks) {
            return Err(Refusal::TwoTasks);
        }
        if settings.signing_secrets.is_empty() {
            return Ok(Authenticity::Unverified);
        }
        let id = body.and_then(|body| task_id(&body));
        kie_hmac(&request.headers, id.as_deref(), &settings.signing_secrets, now)?;
        Ok(Authenticity::SignedSender)
    }

    fn read_callback(&self, body: &[u8], now: Timestamp) -> CallbackBody {
        let Some(body) = object(body) else { return CallbackBody::Unreadable };
        if names_two_tasks(&body) {
            return CallbackBody::Unreadable;
        }
        // Only the code tells the outcome of Runway and Veo.
        let by_code = || match integer(&body["code"])? {
            200 => Some(links(in_data(&body), now).into_success().with_usage(usage(in_data(&body)))),
            _ => Some(TaskStatus::failed(task_failure(&body))),
        };
        responses::callback(task_id(&body), task_status(&body, now).or_else(by_code))
    }

    fn acknowledgement(&self) -> &'static str {
        r#"{"code":200,"msg":"success"}"#
    }

    fn submission(
        &self,
        submission: &Submission<'_>,
        settings: &ProviderSettings,
        _: Timestamp,
    ) -> Result<Request, InvalidSubmission> {
        let endpoint = requests::named_endpoint(submission, "/api/v1/jobs/createTask", |endpoint| {
            Family::of_endpoint(endpoint).is_some()
        })?;
        let body = requests::with_callback_url(submission, &["callBackUrl"], submission.callback_url)?;
        Ok(api(settings)?.post(endpoint, &body))
    }

    fn read_submission(&self, response: &ProviderResponse) -> SubmissionResult {
        let body = object(&response.body).unwrap_or_default();
        responses::submission(response, task_id(&body), refusal(response, &body))
    }

    fn status_requests(
        &self,
        tasks: &[PolledTask<'_>],
        settings: &ProviderSettings,
        _: Timestamp,
    ) -> Vec<StatusRequest> {
        let Ok(api) = api(settings) else { return vec![] };
        requests::one_per_task(tasks, 0..tasks.len(), |task| {
            let family = task.endpoint.and_then(Family::of_endpoint).unwrap_or(Family::of_id(task.provider_task_id));
            api.get(&format!("{}{}?taskId={}", family.root(), family.status_call(), encoded(task.provider_task_id)))
        })
    }

    fn read_status(&self, response: &ProviderResponse, provider_task_id: &str, now: Timestamp) -> StatusResult {
        let Some(body) = object(&response.body) else { return responses::status_by_http_status(response) };
        // The state decides before any code: samples fill in `failCode` beside `wait`.
        if let Some(task_status) = task_status(&body, now) {
            if !is_about(in_data(&body), IDS, provider_task_id) {
                return StatusResult::Unreadable;
            }
            return responses::status(Some(task_status));
        }
        match refusal(response, &body) {
            // The id is the only parameter, so a failed validation means an unknown id.
            Some(failure) if matches!(failure.code.as_deref(), Some("404" | "422")) => StatusResult::NotFound,
            Some(failure) => responses::status_refused(response, failure),
            None => responses::status_by_http_status(response),
        }
    }

    fn status_calls(&self) -> &'static [&'static str] {
        const CALLS: &[&str] = &[Family::Runway.root(), Family::Veo.root(), Family::Market.root()];
        CALLS
    }

    /// The Market's body has a state, Veo's an `info`, and Runway names its task in snake case; that of a failure may have none of them.
    fn endpoint_of_callback(&self, body: &[u8]) -> Option<&'static str> {
        let body = object(body)?;
        let data = in_data(&body);
        let family = if !data["state"].is_null() {
            Family::Market
        } else if data["info"].is_object() {
            Family::Veo
        } else if !data["task_id"].is_null() {
            Family::Runway
        } else {
            return None;
        };
        Some(family.root())
    }

    fn status_id(&self, response: &ProviderResponse) -> Option<String> {
        task_id(&object(&response.body)?)
    }

    fn resolution(&self, artifact: &Artifact, settings: &ProviderSettings, _: Timestamp) -> Option<Request> {
        match &artifact.source {
            Source::Url(url) => {
                let body = json!({ "url": url.expose() });
                Some(api(settings).ok()?.post("/api/v1/common/download-url", &body))
            }
            Source::FileId(_) | Source::Authorized(_) => None,
        }
    }

    fn read_resolution(&self, response: &ProviderResponse, now: Timestamp) -> Result<FreshLink, Failure> {
        let body = object(&response.body).unwrap_or_default();
        if let Some(failure) = refusal(response, &body) {
            return Err(failure);
        }
        let mut links = Links::new(now, DOWNLOAD_LINK_LIFE);
        links.add_by_extension(&body["data"]);
        responses::fresh_link(response, links)
    }
}

const IDS: &[&str] = &["task_id", "taskId"];

/// The id of a task: `task_id` in Runway callbacks, `taskId` everywhere else.
fn task_id(body: &Value) -> Option<String> {
    first_id(in_data(body), IDS).or_else(|| first_id(body, IDS))
}

/// Whether a body names different tasks in its id fields. Only one of them can be signed, and nothing tells which is meant.
fn names_two_tasks(body: &Value) -> bool {
    let mut ids = [in_data(body), body].into_iter().flat_map(|task| IDS.iter().filter_map(|field| text(&task[*field])));
    ids.next().is_some_and(|first| ids.any(|id| id != first))
}

/// The status in `data.state` (Runway, Market, with different words) or `data.successFlag` (Veo).
fn task_status(body: &Value, now: Timestamp) -> Option<TaskStatus> {
    let data = in_data(body);
    if let Some(state) = status_word(&data["state"]) {
        let task_status = match state.as_str() {
            "wait" | "waiting" | "queueing" | "queuing" | "generating" | "pending" | "processing" => TaskStatus::open(),
            "success" | "completed" => links(data, now).into_success(),
            "fail" | "failed" => TaskStatus::failed(task_failure(body)),
            unknown => TaskStatus::unknown_status(unknown),
        };
        return Some(task_status.with_usage(usage(data)));
    }
    let task_status = match integer(&data["successFlag"])? {
        0 => TaskStatus::open(),
        1 => links(data, now).into_success(),
        2 | 3 => TaskStatus::failed(task_failure(body)),
        // Luma: generated, but the callback failed.
        4 => match links(data, now) {
            links if links.is_empty() => TaskStatus::open(),
            links => links.into_success(),
        },
        unknown => TaskStatus::unknown_status(&unknown.to_string()),
    };
    Some(task_status.with_usage(usage(data)))
}

/// What a task cost: newer bodies say so, under either name.
fn usage(data: &Value) -> Usage {
    let credits = if data["creditsConsumed"].is_null() { &data["consumeCredits"] } else { &data["creditsConsumed"] };
    Usage::of_credits(credits)
}

/// Code and message of a failed task: its own, else those of the envelope unless they mean success.
fn task_failure(body: &Value) -> Failure {
    let data = in_data(body);
    let envelope_fails = integer(&body["code"]) != Some(200);
    let envelope_code = || text(&body["code"]).filter(|_| envelope_fails);
    let envelope_message = || first_text(body, &["msg", "message"]).filter(|_| envelope_fails);
    let code = first_text(data, &["failCode", "errorCode"]).or_else(envelope_code);
    let message = first_text(data, &["failMsg", "errorMessage"]).or_else(envelope_message);
    FAILURES.of_task(code, message)
}

/// The files of any of the three families.
fn links(data: &Value, now: Timestamp) -> Links {
    let market = data.get("resultJson").is_some();
    let life = if market { MARKET_LINK_LIFE } else { PROFILE.link_life };
    let created_at = timestamp(&data["completeTime"]).unwrap_or(now);
    // "expireFlag 1": the files are gone.
    let gone = integer(&data["expireFlag"]) == Some(1);
    let mut links = Links::new(if gone { now } else { created_at }, if gone { Duration::ZERO } else { life });
    // Runway: callback, then status.
    links.add(Kind::Video, &data["video_url"]);
    links.add(Kind::Cover, &data["image_url"]);
    links.add(Kind::Video, &data["videoInfo"]["videoUrl"]);
    links.add(Kind::Cover, &data["videoInfo"]["imageUrl"]);
    // Veo: callback, then status. There are originals unless the aspect ratio is 16:9, and images with 4K.
    for result in [&data["info"], &data["response"]] {
        links.add_by_extension(&list(&result["resultUrls"]));
        links.add(Kind::Video, &list(&result["originUrls"]));
        links.add(Kind::Cover, &list(&result["imageUrls"]));
    }
    // Market: JSON in a string.
    let result = match &data["resultJson"] {
        Value::String(json) => object(json.as_bytes()).unwrap_or_default(),
        result => result.clone(),
    };
    links.add_by_extension(&list(&result["resultUrls"]));
    links.add(Kind::WatermarkedVideo, &list(&result["resultWaterMarkUrls"]));
    links
}

/// A list of links that may be a string: `["https://…"]`, or the same without quotes.
fn list(links: &Value) -> Value {
    let Some(inner) = links.as_str().and_then(|text| text.trim().strip_prefix('[')?.strip_suffix(']')) else {
        return links.clone();
    };
    inner.split(',').map(|link| link.trim().trim_matches('"')).collect()
}

/// The failure in an envelope with a code other than 200. The code mirrors HTTP, also when the HTTP status is 200.
fn refusal(response: &ProviderResponse, body: &Value) -> Option<Failure> {
    let code = integer(&body["code"]).filter(|code| *code != 200 && *code != 0)?;
    Some(FAILURES.of_response(response.status, Some(code.to_string()), first_text(body, &["msg", "message"])))
}

fn api(settings: &ProviderSettings) -> Result<Api<'_>, InvalidSubmission> {
    Api::new(NAME, "Bearer", &PROFILE, settings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Headers;

    #[test]
    fn every_row_is_reachable() {
        FAILURES.assert_every_row_is_reachable();
    }

    /// The messages of the Runway callback page, and the codes of all pages.
    #[test]
    fn messages_decide_before_codes() {
        for (code, message, reason, retryable) in [
            ("400", "Inappropriate content detected. Please replace it.", Reason::ContentModeration, false),
            ("500", "Our AI moderator did not let it pass", Reason::ContentModeration, false),
            ("400", "Incorrect image format", Reason::InvalidParameters, false),
            ("500", "Unsupported width or height", Reason::InvalidParameters, false),
            ("400", "You have reached the limit for concurrent generations.", Reason::RateLimited, true),
            ("400", "Please try again later or upgrade membership", Reason::ProviderError, true),
            ("400", "Upgrade membership", Reason::ProviderError, true),
            ("400", "quality", Reason::InvalidParameters, false),
            ("401", "key", Reason::Unknown, false),
            ("402", "credits", Reason::InsufficientCredits, false),
            ("404", "task", Reason::InvalidParameters, false),
            ("422", "validation", Reason::InvalidParameters, false),
            ("429", "rate", Reason::RateLimited, true),
            ("451", "image fetch", Reason::InvalidParameters, false),
            ("455", "maintenance", Reason::ProviderError, true),
            ("500", "server", Reason::ProviderError, true),
            ("501", "generation failed", Reason::ProviderError, true),
            ("505", "feature off", Reason::Unknown, false),
            ("PUBLIC_ERROR_UNSAFE_GENERATION", "", Reason::ContentModeration, false),
            ("MODEL_NOT_FOUND", "", Reason::InvalidParameters, false),
            ("501", "The model was not found in this region", Reason::InvalidParameters, false),
            ("", "who knows", Reason::ProviderError, true),
        ] {
            let failure = FAILURES.of_task(Some(code.into()), Some(message.into()));
            assert_eq!((failure.reason, failure.retryable), (reason, retryable), "{code} {message}");
        }
    }

    /// Only one of the two can be signed, and without a secret nothing tells which is meant either.
    #[test]
    fn a_body_that_names_two_tasks_is_refused() {
        let authenticate = |body: &Value| {
            let body = body.to_string();
            let headers = Headers::default();
            let request = CallbackRequest { path: "/", query: "", headers, body: body.as_bytes() };
            Kie.authenticate(&request, &ProviderSettings::default(), Timestamp::from_seconds(0))
        };
        for two in [
            json!({"data": {"task_id": "a", "taskId": "b"}}),
            json!({"task_id": "a", "data": {"task_id": "b"}}),
            json!({"taskId": 7, "data": [{"task_id": "8"}]}),
        ] {
            assert_eq!(authenticate(&two), Err(Refusal::TwoTasks), "{two}");
        }
        for one in [json!({"data": {"task_id": 7, "taskId": "7"}}), json!({"task_id": "", "data": {"taskId": "7"}})] {
            assert_eq!(authenticate(&one), Ok(Authenticity::Unverified), "{one}");
        }
    }

    #[test]
    fn lists_of_links_are_read_in_every_form() {
        for urls in [
            json!(["https://a.test/v.mp4", "https://a.test/w.mp4"]),
            json!("[\"https://a.test/v.mp4\", \"https://a.test/w.mp4\"]"),
            json!("[https://a.test/v.mp4,https://a.test/w.mp4]"),
        ] {
            let data = json!({"info": {"resultUrls": urls}});
            assert_eq!(links(&data, Timestamp::from_seconds(0)).into_artifacts().len(), 2, "{urls}");
        }
        let one = json!({"response": {"resultUrls": "https://a.test/v.mp4"}});
        assert_eq!(links(&one, Timestamp::from_seconds(0)).into_artifacts().len(), 1);
    }

    #[test]
    fn lumas_success_flag_is_a_success_only_with_a_link() {
        let now = Timestamp::from_seconds(0);
        let with = json!({"data": {"successFlag": 4, "response": {"resultUrls": ["https://a.test/v.mp4"]}}});
        assert!(matches!(task_status(&with, now), Some(TaskStatus::Finished(_))));
        let without = json!({"data": {"successFlag": 4}});
        assert_eq!(task_status(&without, now), Some(TaskStatus::open()));
    }

    #[test]
    fn the_body_of_a_callback_tells_the_family_of_its_task() {
        let told = |body: &Value| {
            let endpoint = Kie.endpoint_of_callback(body.to_string().as_bytes())?;
            Some(Family::of_endpoint(endpoint).expect("a family's"))
        };
        for (body, family) in [
            (json!({"code": 200, "data": {"task_id": "x", "video_url": "https://a.test/v"}}), Some(Family::Runway)),
            (json!({"code": 200, "data": {"taskId": "x", "info": {"resultUrls": []}}}), Some(Family::Veo)),
            (json!({"code": 200, "data": {"taskId": "x", "state": "success"}}), Some(Family::Market)),
            (json!({"code": 200, "data": {"taskId": "x", "task_id": "x", "state": "success"}}), Some(Family::Market)),
            (json!({"code": 500, "msg": "failed", "data": {"taskId": "x"}}), None),
            (json!({"code": 500}), None),
        ] {
            assert_eq!(told(&body), family, "{body}");
        }
    }
}
