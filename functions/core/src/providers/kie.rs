//! KIE.AI, docs.kie.ai: three families of calls (Runway, Veo, and the Market jobs that replace them), each with its own
//! callback and status body.
//!
//! The optional signature covers the task id and a time, and not the body, so what a callback says is always confirmed by
//! asking. Errors come under HTTP 200 with a code that mirrors HTTP.
//!
//! | fact | source |
//! |---|---|
//! | Runway callback body, 15 s, retries end after 3 failures in a row; files live 14 days | confirmed: docs.kie.ai/runway-api/generate-ai-video-callbacks |
//! | `{"code":200,"msg":"success"}` as the answer | public notes |
//! | signature: `{taskId}.{timestamp}`, key as text | confirmed: docs.kie.ai/common-api/webhook-verification; that the key is not base64 is inferred from its code |
//! | a window of freshness; that Veo and Market bodies sign their `taskId` | none is documented, 300 s; inferred |
//! | Veo callback and status | confirmed: docs.kie.ai/veo3-api/generate-veo-3-video-callbacks, …/get-veo-3-video-details |
//! | Market status | confirmed: docs.kie.ai/market/common/get-task-detail; its callback is documented to be the same `data` |
//! | submissions: `POST /api/v1/runway/generate`, `/api/v1/veo/generate`, `/api/v1/jobs/createTask`, `callBackUrl` | confirmed; the latter two from public notes |
//! | `POST /api/v1/common/download-url`: a fresh link for 20 minutes | confirmed: docs.kie.ai/common-api/download-url |
//! | Market links live about 24 hours | the Market page, against 14 days elsewhere |
//! | Market `resultWaterMarkUrls` beside `resultUrls` | a copy of the Sora 2 page, and public clients |
//! | which family a task belongs to when only its id is known | inferred from the form of the ids in the samples |
//! | errors as HTTP 200 with another code; texts decide before codes | inferred |
//! | `failCode` of any type, `resultJson` null; `completed`, `failed`, `pending`; `successFlag` 4 (generated, but the callback failed); callbacks without a result | single observations |

use super::prelude::*;
use crate::signature::signed_id;

/// KIE.AI.
pub(super) struct Kie;

const NAME: &str = "kie";

const PROFILE: Profile = Profile {
    title: "KIE.AI",
    default_base_url: Some("https://api.kie.ai"),
    // Documented.
    answer_budget: 15,
    // "Media files are deleted after 14 days."
    link_life: 14 * DAY as i64,
    // "30 s" for Runway; the Market page starts at 2 to 3 s with back-off.
    first_poll: 60,
    poll_interval: 30,
    longest_poll_interval: 300,
    // The Market page stops after 15 minutes; chosen freely above that, inside the two months logs are kept.
    deadline: DAY,
    verified: "HMAC over task id and time, not the body (optional); always confirmed by asking",
    retries: "until 3 failures in a row; spacing not documented",
    confirmed: "Runway's callback, 15 s, 3 failures, 30 s pace; files for 14 days; string to sign; status bodies",
    doubts: "whether the key is text; the failed Runway body; time to answer, retries and signed id of Veo and Market; \
        the life of Market links (24 h or 14 days); pace beyond Runway's 30 s and end of asking",
};

/// Life of a link of the Market family, in seconds: "about 24 h".
const MARKET_LINK_LIFE: i64 = DAY as i64;

/// Life of a link from download-url, in seconds: "20 min".
const DOWNLOAD_LINK_LIFE: i64 = 20 * 60;

/// Texts decide before codes: some of those under 400 are worth a retry.
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
        // An image that Veo could not fetch; elsewhere 451 means moderation.
        code("451", Reason::InvalidParameters),
        // Maintenance, for minutes.
        code("455", Reason::ProviderError).retryable(),
        // The generation failed, and no more is said.
        code("501", Reason::ProviderError).retryable(),
        // The feature is switched off.
        code("505", Reason::Unknown),
    ],
    otherwise: (Reason::ProviderError, Retry::Helps),
};

/// The families, with what a submission's path begins with and the call that asks after a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Runway,
    Veo,
    Market,
}

impl Family {
    const ALL: [Self; 3] = [Self::Runway, Self::Veo, Self::Market];

    fn root(self) -> &'static str {
        match self {
            Self::Runway => "/api/v1/runway/",
            Self::Veo => "/api/v1/veo/",
            Self::Market => "/api/v1/jobs/",
        }
    }

    fn status_call(self) -> &'static str {
        match self {
            Self::Runway => "record-detail",
            Self::Veo => "record-info",
            Self::Market => "recordInfo",
        }
    }

    /// The family of an endpoint for submissions.
    fn of_endpoint(endpoint: &str) -> Option<Self> {
        let family = Self::ALL.into_iter().find(|family| endpoint.starts_with(family.root()))?;
        (endpoint.strip_prefix(family.root()) != Some(family.status_call())).then_some(family)
    }

    /// The family of a task of which only the id is known, by the samples: Runway has UUIDs, Veo `veo_task_…`, the Market
    /// everything else. A wrong guess is answered with 404 or 422 and costs a question.
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
        if settings.signing_secrets.is_empty() {
            return Ok(Authenticity::Unsigned);
        }
        let id = object(request.body).and_then(|body| task_id(&body));
        signed_id(&request.headers, id.as_deref(), &settings.signing_secrets, now)?;
        Ok(Authenticity::SignedSender)
    }

    fn read_callback(&self, body: &[u8], now: Timestamp) -> CallbackBody {
        let Some(body) = object(body) else { return CallbackBody::Unreadable };
        // Runway and Veo say by the code alone how it went.
        let by_code = || match integer(&body["code"])? {
            200 => Some(links(in_data(&body), now).into_success()),
            _ => Some(Statement::failed(task_failure(&body))),
        };
        common::callback(task_id(&body), statement(&body, now).or_else(by_code))
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
        let endpoint = common::named_endpoint(submission, "/api/v1/jobs/createTask", |endpoint| {
            Family::of_endpoint(endpoint).is_some()
        })?;
        let body = with_callback_url(submission, &["callBackUrl"], submission.callback_url)?;
        Ok(api(settings)?.post(endpoint, &body))
    }

    fn read_submission(&self, answer: &Answer<'_>) -> SubmissionAnswer {
        let body = object(answer.body).unwrap_or_default();
        common::submission(answer, task_id(&body), refusal(answer, &body))
    }

    fn status_requests(
        &self,
        tasks: &[PolledTask<'_>],
        settings: &ProviderSettings,
        _: Timestamp,
    ) -> Vec<StatusRequest> {
        let Ok(api) = api(settings) else { return vec![] };
        common::one_by_one(tasks, 0..tasks.len(), |task| {
            let family = task.endpoint.and_then(Family::of_endpoint).unwrap_or(Family::of_id(task.provider_task_id));
            api.get(&format!("{}{}?taskId={}", family.root(), family.status_call(), encoded(task.provider_task_id)))
        })
    }

    fn read_status(&self, answer: &Answer<'_>, provider_task_id: &str, now: Timestamp) -> StatusAnswer {
        let Some(body) = object(answer.body) else { return common::status_by_http_alone(answer) };
        // The state decides before any code: samples fill in `failCode` beside `wait`.
        if let Some(statement) = statement(&body, now) {
            if !common::is_about(in_data(&body), IDS, provider_task_id) {
                return StatusAnswer::Unreadable;
            }
            return common::status(Some(statement));
        }
        match refusal(answer, &body) {
            // The id is all that is asked with, so a validation that fails means a bad id.
            Some(failure) if matches!(failure.code.as_deref(), Some("404" | "422")) => StatusAnswer::NotFound,
            Some(failure) => common::status_refused(answer, failure),
            None => common::status_by_http_alone(answer),
        }
    }

    fn status_id(&self, answer: &Answer<'_>) -> Option<String> {
        task_id(&object(answer.body)?)
    }

    fn resolution(&self, artifact: &Artifact, settings: &ProviderSettings, _: Timestamp) -> Option<Request> {
        match &artifact.source {
            Source::Url(url) => {
                let body = json!({ "url": url.expose() });
                Some(api(settings).ok()?.post("/api/v1/common/download-url", &body))
            }
            Source::FileId(_) => None,
        }
    }

    fn read_resolution(&self, answer: &Answer<'_>, now: Timestamp) -> Result<FreshLink, Failure> {
        let body = object(answer.body).unwrap_or_default();
        if let Some(failure) = refusal(answer, &body) {
            return Err(failure);
        }
        let mut links = Links::new(now, DOWNLOAD_LINK_LIFE);
        links.add_by_ending(&body["data"]);
        common::fresh_link(answer, links)
    }
}

const IDS: &[&str] = &["task_id", "taskId"];

/// The id of a task: `task_id` in Runway callbacks, `taskId` everywhere else.
fn task_id(body: &Value) -> Option<String> {
    first_id(in_data(body), IDS).or_else(|| first_id(body, IDS))
}

/// What `data.state` (Runway, Market) or `data.successFlag` (Veo) says. The two families spell their words differently.
fn statement(body: &Value, now: Timestamp) -> Option<Statement> {
    let data = in_data(body);
    if let Some(state) = word(&data["state"]) {
        return Some(match state.as_str() {
            "wait" | "waiting" | "queueing" | "queuing" | "generating" | "pending" | "processing" => Statement::open(),
            "success" | "completed" => links(data, now).into_success(),
            "fail" | "failed" => Statement::failed(task_failure(body)),
            unknown => Statement::unknown_status(unknown),
        });
    }
    Some(match integer(&data["successFlag"])? {
        0 => Statement::open(),
        1 => links(data, now).into_success(),
        2 | 3 => Statement::failed(task_failure(body)),
        // Luma: generated, but the callback failed.
        4 => match links(data, now) {
            links if links.is_empty() => Statement::open(),
            links => links.into_success(),
        },
        unknown => Statement::unknown_status(&unknown.to_string()),
    })
}

/// Code and words of a failed task: its own where it has them, else those of the envelope unless they speak of success.
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
    let made_at = moment(&data["completeTime"]).unwrap_or(now);
    // "expireFlag 1": the files are gone.
    let gone = integer(&data["expireFlag"]) == Some(1);
    let mut links = Links::new(if gone { now } else { made_at }, if gone { 0 } else { life });
    // Runway: the callback, then the status.
    links.add(Kind::Video, &data["video_url"]);
    links.add(Kind::Cover, &data["image_url"]);
    links.add(Kind::Video, &data["videoInfo"]["videoUrl"]);
    links.add(Kind::Cover, &data["videoInfo"]["imageUrl"]);
    // Veo: the callback, then the status. Originals are there when the aspect is not 16:9, images with 4K.
    for result in [&data["info"], &data["response"]] {
        links.add_by_ending(&list(&result["resultUrls"]));
        links.add(Kind::Video, &list(&result["originUrls"]));
        links.add(Kind::Cover, &list(&result["imageUrls"]));
    }
    // Market: JSON in a string.
    let result = match &data["resultJson"] {
        Value::String(json) => object(json.as_bytes()).unwrap_or_default(),
        result => result.clone(),
    };
    links.add_by_ending(&list(&result["resultUrls"]));
    links.add(Kind::WatermarkedVideo, &list(&result["resultWaterMarkUrls"]));
    links
}

/// A list of links that may be written into a text: `["https://…"]`, or the same without quotes.
fn list(links: &Value) -> Value {
    let Some(inner) = links.as_str().and_then(|text| text.trim().strip_prefix('[')?.strip_suffix(']')) else {
        return links.clone();
    };
    inner.split(',').map(|link| link.trim().trim_matches('"')).collect()
}

/// The failure in an envelope whose code is not 200; its code mirrors HTTP, also where HTTP says 200.
fn refusal(answer: &Answer<'_>, body: &Value) -> Option<Failure> {
    let code = integer(&body["code"]).filter(|code| *code != 200 && *code != 0)?;
    Some(FAILURES.of_answer(answer.status, Some(code.to_string()), first_text(body, &["msg", "message"])))
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

    /// The texts of the Runway callback page, and the codes of all pages.
    #[test]
    fn texts_decide_before_codes() {
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
            ("", "who knows", Reason::ProviderError, true),
        ] {
            let failure = FAILURES.of_task(Some(code.into()), Some(message.into()));
            assert_eq!((failure.reason, failure.retryable), (reason, retryable), "{code} {message}");
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
    fn a_flag_of_luma_is_a_success_if_there_is_a_link() {
        let now = Timestamp::from_seconds(0);
        let with = json!({"data": {"successFlag": 4, "response": {"resultUrls": ["https://a.test/v.mp4"]}}});
        assert!(matches!(statement(&with, now), Some(Statement::Final(_))));
        let without = json!({"data": {"successFlag": 4}});
        assert_eq!(statement(&without, now), Some(Statement::open()));
    }
}
