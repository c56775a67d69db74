//! What several adapters need: reading lenient JSON, collecting links, building requests, judging errors.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use url::Url;

use super::{
    Answer, CallbackBody, Doubt, FreshLink, InvalidSubmission, Method, PolledTask, Profile, Request, StatusAnswer,
    StatusRequest, Submission, SubmissionAnswer, Trust,
};
use crate::expiry;
use crate::redacted::{Secret, SignedUrl};
use crate::report::{Artifact, Failure, Kind, Progress, Reason, Report, Source, Statement};
use crate::settings::ProviderSettings;
use crate::time::Timestamp;

/// An hour in seconds.
pub(super) const HOUR: u32 = 3600;

/// A day in seconds.
pub(super) const DAY: u32 = 24 * HOUR;

/// Longest id that is taken for one, in bytes. The longest seen in the wild have about 300 characters; an item of the table
/// has to hold whatever is taken.
const LONGEST_ID: usize = 1024;

/// Longest link that is taken for one, in bytes. Presigned links have one to two KB; chosen freely beyond that.
const LONGEST_LINK: usize = 8 * 1024;

/// Most files of one result that are taken. Chosen freely: several times what any provider makes, and few enough for one
/// item of the table.
const MOST_ARTIFACTS: usize = 50;

/// All that is percent-encoded in a path segment or a query value: everything but unreserved characters.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Reads a JSON object. Anything else, and anything nested deeper than `serde_json` allows (128), is none. A byte order mark
/// in front is passed over.
pub(super) fn object(body: &[u8]) -> Option<Value> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    serde_json::from_slice::<Value>(body).ok().filter(Value::is_object)
}

/// The text of a string or number that is not empty: providers switch between `"7"` and `7`, and gateways in between make
/// `7.0` of it.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(integer(value).map_or_else(|| number.to_string(), |whole| whole.to_string())),
        _ => None,
    }
}

/// The first of these fields that has a text; see [`text`].
pub(super) fn first_text(value: &Value, fields: &[&str]) -> Option<String> {
    fields.iter().find_map(|field| text(&value[*field]))
}

/// A whole number, also where it is written as text or as `7.0`.
pub(super) fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64().or_else(|| number.as_f64().and_then(whole)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// A number without a fraction that a float can hold exactly.
fn whole(number: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    #[expect(clippy::cast_possible_truncation, reason = "there is no fraction, and 2^53 fits")]
    (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i64)
}

/// The text of a field that may be an id: [`text`], if it is not over-long.
pub(super) fn id(value: &Value) -> Option<String> {
    text(value).filter(|id| id.len() <= LONGEST_ID)
}

/// The first of these fields that holds an id.
pub(super) fn first_id(value: &Value, fields: &[&str]) -> Option<String> {
    fields.iter().find_map(|field| id(&value[*field]))
}

/// Whether a task in an answer may be the one that was asked after: one of these fields holds its id, or none of them holds
/// any.
pub(super) fn is_about(task: &Value, fields: &[&str], provider_task_id: &str) -> bool {
    let mut ids = fields.iter().filter_map(|field| id(&task[*field])).peekable();
    ids.peek().is_none() || ids.any(|id| id == provider_task_id)
}

/// The items of a list; an object or a text in its place is its only item.
pub(super) fn items(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) => items,
        Value::Object(_) | Value::String(_) => std::slice::from_ref(value),
        _ => &[],
    }
}

/// The task in an envelope with `data`, as an object or as the first of a list, or without one.
pub(super) fn in_data(body: &Value) -> &Value {
    match &body["data"] {
        data @ Value::Object(_) => data,
        Value::Array(tasks) if tasks.first().is_some_and(Value::is_object) => &tasks[0],
        _ => body,
    }
}

/// The word of a status, in lower case: providers switch between `success`, `Success` and `SUCCESS`.
pub(super) fn word(value: &Value) -> Option<String> {
    text(value).map(|word| word.trim().to_ascii_lowercase()).filter(|word| !word.is_empty())
}

/// A point in time given as Unix seconds, Unix milliseconds, either as text, or RFC 3339. A time without a zone is none.
pub(super) fn moment(value: &Value) -> Option<Timestamp> {
    let whole = integer(value).or_else(|| {
        #[expect(clippy::cast_possible_truncation, reason = "the fraction is what is dropped, and the cast saturates")]
        value.as_f64().map(|seconds| seconds as i64)
    });
    match whole {
        Some(seconds @ 1_000_000_000..100_000_000_000) => Some(Timestamp::from_seconds(seconds)),
        Some(milliseconds @ 1_000_000_000_000..100_000_000_000_000) => Some(Timestamp::from_milliseconds(milliseconds)),
        Some(_) => None,
        None => Timestamp::from_rfc3339(value.as_str()?),
    }
}

/// Progress in percent, from `40`, `"40"` or `"40%"`.
pub(super) fn percent(value: &Value) -> Option<u8> {
    let percent = integer(value).or_else(|| value.as_str()?.trim().strip_suffix('%')?.trim().parse().ok())?;
    u8::try_from(percent).ok().filter(|percent| *percent <= 100)
}

/// Open, this far.
pub(super) fn open_at(progress: &Value) -> Statement {
    Statement::Open(Progress { percent: percent(progress), unknown_status: None })
}

/// What a link leads to by the ending of its path, for providers that do not say it.
pub(super) fn kind_of_link(link: &str, otherwise: Kind) -> Kind {
    let path = link.split(['?', '#']).next().unwrap_or(link);
    let ending = path.rsplit('/').next().and_then(|file| file.rsplit_once('.')).map(|(_, ending)| ending);
    match ending.map(str::to_ascii_lowercase).as_deref() {
        Some("mp4" | "mov" | "webm" | "m4v" | "mkv" | "avi") => Kind::Video,
        Some("png" | "jpg" | "jpeg" | "webp" | "gif" | "avif" | "heic") => Kind::Image,
        Some("mp3" | "wav" | "m4a" | "aac" | "ogg" | "flac") => Kind::Audio,
        _ => otherwise,
    }
}

/// The links of a result, in the order of the body. What is no link is passed over, a link that comes twice is taken once.
pub(super) struct Links {
    made_at: Timestamp,
    life: i64,
    artifacts: Vec<Artifact>,
}

impl Links {
    /// Links made at this time, which live this many seconds unless they say more themselves.
    pub(super) fn new(made_at: Timestamp, life: i64) -> Self {
        Self { made_at, life, artifacts: Vec::new() }
    }

    /// Takes a link, or a list of them.
    pub(super) fn add(&mut self, kind: Kind, links: &Value) {
        self.add_living(kind, links, self.life);
    }

    /// Takes links with another usual life.
    pub(super) fn add_living(&mut self, kind: Kind, links: &Value, life: i64) {
        self.take(|_| kind, links, None, life);
    }

    /// Takes links whose end is stated beside them.
    pub(super) fn add_until(&mut self, kind: Kind, links: &Value, end: &Value) {
        self.take(|_| kind, links, moment(end), self.life);
    }

    /// Takes links whose endings say what they lead to; a video where they do not.
    pub(super) fn add_by_ending(&mut self, links: &Value) {
        self.take(|link| kind_of_link(link, Kind::Video), links, None, self.life);
    }

    fn take(&mut self, kind: impl Fn(&str) -> Kind, links: &Value, end: Option<Timestamp>, life: i64) {
        let links = match links {
            Value::Array(links) => links.as_slice(),
            link => std::slice::from_ref(link),
        };
        for link in links.iter().filter_map(Value::as_str).map(str::trim).filter(|link| is_link(link)) {
            let url = SignedUrl::new(link);
            let source = Source::Url(url.clone());
            if self.artifacts.len() >= MOST_ARTIFACTS {
                return;
            }
            if self.artifacts.iter().any(|known| known.source == source) {
                continue;
            }
            let expires_at = expiry::of_link(end.map(Timestamp::seconds), &url, Some(self.made_at), Some(life));
            self.artifacts.push(Artifact { kind: kind(link), source, expires_at });
        }
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.artifacts.is_empty()
    }

    /// All of them.
    pub(super) fn into_artifacts(self) -> Vec<Artifact> {
        self.artifacts
    }

    /// The success they are the result of.
    pub(super) fn into_success(self) -> Statement {
        Statement::succeeded(self.artifacts)
    }
}

/// Whether a text can be fetched at all: an absolute `http` or `https` URL of sensible length, on one line. (A URL parser
/// leaves out line breaks and tabs without a word, wherever they stand.)
fn is_link(text: &str) -> bool {
    text.len() <= LONGEST_LINK
        && !text.contains(|letter: char| letter.is_ascii_control())
        && Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

/// Whether a success names what the task was submitted for. A cover or a last frame alone is none; a watermarked video is
/// where there is no other.
fn has_result(artifacts: &[Artifact]) -> bool {
    artifacts.iter().any(|artifact| artifact.kind.is_essential() || artifact.kind == Kind::WatermarkedVideo)
}

/// The reading of a callback under the provider's own id. Without an id or a statement nothing is certain; a success that
/// names no result, or one that has to be asked for, is a hint.
pub(super) fn callback(provider_task_id: Option<String>, statement: Option<Statement>) -> CallbackBody {
    let (Some(provider_task_id), Some(statement)) = (provider_task_id, statement) else {
        return CallbackBody::Unreadable;
    };
    let trust = match &statement {
        Statement::Final(Report::Succeeded { artifacts }) if !has_result(artifacts) => Trust::Hint(Doubt::NoResult),
        Statement::Final(Report::Succeeded { artifacts })
            if artifacts.iter().any(|artifact| matches!(artifact.source, Source::FileId(_))) =>
        {
            Trust::Hint(Doubt::FileId)
        }
        _ => Trust::Report,
    };
    CallbackBody::Task { provider_task_id: Some(provider_task_id), statement, trust }
}

/// The reading of a callback in another system's form, under that system's id. A handshake stays one.
pub(super) fn foreign(body: CallbackBody) -> CallbackBody {
    match body {
        CallbackBody::Task { statement, .. } => {
            CallbackBody::Task { provider_task_id: None, statement, trust: Trust::Hint(Doubt::ForeignBody) }
        }
        other => other,
    }
}

/// What a status answer says about its task. A success that names no result is nothing to end a task on: it stays open, and
/// the next answer may have one.
pub(super) fn status(statement: Option<Statement>) -> StatusAnswer {
    match statement {
        None => StatusAnswer::Unreadable,
        Some(Statement::Final(Report::Succeeded { artifacts })) if !has_result(&artifacts) => {
            StatusAnswer::Task(Statement::open())
        }
        Some(statement) => StatusAnswer::Task(statement),
    }
}

/// A status question that was refused: 404 is an id that is not known, everything else says nothing about the task.
pub(super) fn status_refused(answer: &Answer<'_>, failure: Failure) -> StatusAnswer {
    if answer.status == 404 {
        StatusAnswer::NotFound
    } else {
        StatusAnswer::Refused { failure, retry_after: answer.retry_after }
    }
}

/// A status answer in which the provider's form is not recognised, judged by its HTTP status alone.
pub(super) fn status_by_http_alone(answer: &Answer<'_>) -> StatusAnswer {
    if answer.is_success() {
        StatusAnswer::Unreadable
    } else {
        status_refused(answer, failure_of_http_status(answer.status))
    }
}

/// What the answer to a submission says: the id in it, or the failure the provider speaks of in its own form.
///
/// A 4xx refuses also without words, unless it is one of those that a proxy gives after the request went through. What
/// sounds like a time-out, and a 5xx or a success without either id or failure, leaves open whether there is a task.
pub(super) fn submission(
    answer: &Answer<'_>,
    provider_task_id: Option<String>,
    failure: Option<Failure>,
) -> SubmissionAnswer {
    let timed_out = matches!(answer.status, 408 | 499 | 504 | 522 | 524);
    match (provider_task_id, failure) {
        (_, Some(failure)) if timed_out || failure.reason == Reason::Timeout => {
            SubmissionAnswer::Unclear(format!("the provider ran out of time (HTTP {})", answer.status))
        }
        (_, Some(failure)) => SubmissionAnswer::Refused(failure),
        (Some(provider_task_id), None) if answer.is_success() => SubmissionAnswer::Accepted { provider_task_id },
        (_, None) if (400..500).contains(&answer.status) && !timed_out && !matches!(answer.status, 409 | 425) => {
            SubmissionAnswer::Refused(failure_of_http_status(answer.status))
        }
        (_, None) => {
            SubmissionAnswer::Unclear(format!("the answer has neither a task id nor an error (HTTP {})", answer.status))
        }
    }
}

/// The link in the answer to a resolution, else the failure of its HTTP status, else that there is none.
pub(super) fn fresh_link(answer: &Answer<'_>, links: Links) -> Result<FreshLink, Failure> {
    match links.into_artifacts().pop() {
        Some(Artifact { source: Source::Url(url), expires_at, .. }) if answer.is_success() => {
            Ok(FreshLink { url, expires_at })
        }
        _ if answer.is_success() => Err(Failure::new(Reason::Unknown, true)),
        _ => Err(failure_of_http_status(answer.status)),
    }
}

/// Where a provider's API is, and the header that opens it.
pub(super) struct Api<'a> {
    base_url: &'a str,
    authorization: Secret,
}

impl<'a> Api<'a> {
    /// The API of a provider that takes `Authorization: <scheme> <API key>`. `name` is the provider's, for the message when
    /// something is missing.
    pub(super) fn new(
        name: &'static str,
        scheme: &str,
        profile: &Profile,
        settings: &'a ProviderSettings,
    ) -> Result<Self, InvalidSubmission> {
        let key = settings.api_key.as_ref().ok_or(InvalidSubmission::NoApiKey(name))?;
        Self::authorized(name, Secret::new(format!("{scheme} {}", key.expose())), profile, settings)
    }

    /// The API of a provider, with a whole authorization header.
    pub(super) fn authorized(
        name: &'static str,
        authorization: Secret,
        profile: &Profile,
        settings: &'a ProviderSettings,
    ) -> Result<Self, InvalidSubmission> {
        let base_url =
            settings.base_url.as_deref().or(profile.default_base_url).ok_or(InvalidSubmission::NoBaseUrl(name))?;
        Ok(Self { base_url: base_url.trim_end_matches('/'), authorization })
    }

    /// The same API where the base URL was copied with the version that every path here brings along.
    pub(super) fn without_suffix(mut self, suffix: &str) -> Self {
        self.base_url = self.base_url.strip_suffix(suffix).unwrap_or(self.base_url);
        self
    }

    /// A GET of a path below the base URL.
    pub(super) fn get(&self, path: &str) -> Request {
        self.request(Method::Get, path, None)
    }

    /// A POST of JSON to a path below the base URL.
    pub(super) fn post(&self, path: &str, body: &Value) -> Request {
        self.request(Method::Post, path, Some(body.to_string().into_bytes()))
    }

    fn request(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Request {
        let url = format!("{}{path}", self.base_url);
        Request { method, url, headers: vec![("authorization", self.authorization.clone())], body }
    }
}

/// A text as it stands in a path segment or a query value.
pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// A query parameter that comes once for each id.
pub(super) fn repeated(parameter: &str, encoded_ids: &[String]) -> String {
    let pairs: Vec<String> = encoded_ids.iter().map(|id| format!("{parameter}={id}")).collect();
    pairs.join("&")
}

/// One status question per task, for providers and tasks that cannot share one.
pub(super) fn one_by_one(
    tasks: &[PolledTask<'_>],
    positions: impl IntoIterator<Item = usize>,
    question: impl Fn(&PolledTask<'_>) -> Request,
) -> Vec<StatusRequest> {
    positions
        .into_iter()
        .map(|position| StatusRequest { request: question(&tasks[position]), tasks: vec![position] })
        .collect()
}

/// One status question for so many tasks each.
pub(super) fn together(
    tasks: &[PolledTask<'_>],
    positions: &[usize],
    most: usize,
    question: impl Fn(&[String]) -> Request,
) -> Vec<StatusRequest> {
    positions
        .chunks(most)
        .map(|chunk| {
            let ids: Vec<String> = chunk.iter().map(|position| encoded(tasks[*position].provider_task_id)).collect();
            StatusRequest { request: question(&ids), tasks: chunk.to_vec() }
        })
        .collect()
}

/// The endpoint of a submission to a provider that has these; the first is the one where none is named.
pub(super) fn endpoint<'a>(
    submission: &Submission<'a>,
    known: &'static [&'static str],
) -> Result<&'a str, InvalidSubmission> {
    let example = known[0];
    match submission.endpoint {
        None => Ok(example),
        Some(given) if known.contains(&given) => Ok(given),
        Some(given) => Err(InvalidSubmission::EndpointUnknown { given: given.to_owned(), example }),
    }
}

/// The endpoint of a submission to a provider where it has to be named and pass a test.
pub(super) fn named_endpoint<'a>(
    submission: &Submission<'a>,
    example: &'static str,
    acceptable: impl Fn(&str) -> bool,
) -> Result<&'a str, InvalidSubmission> {
    match submission.endpoint {
        None => Err(InvalidSubmission::EndpointMissing { example }),
        Some(given) if is_plain_path(given) && acceptable(given) => Ok(given),
        Some(given) => Err(InvalidSubmission::EndpointUnknown { given: given.to_owned(), example }),
    }
}

/// The caller's body with the callback URL at a path of fields. Objects on the way are made where they are missing; a URL
/// that the caller put there is replaced, because the hub has to hear of the task.
pub(super) fn with_callback_url(
    submission: &Submission<'_>,
    path: &[&'static str],
    url: &str,
) -> Result<Value, InvalidSubmission> {
    let mut body = submission.body.clone();
    let (last, parents) = path.split_last().expect("an adapter names at least one field");
    let mut place = body.as_object_mut().ok_or(InvalidSubmission::NotAnObject)?;
    for field in parents {
        let entry = place.entry(*field).or_insert_with(|| Value::Object(serde_json::Map::new()));
        if entry.is_null() {
            *entry = Value::Object(serde_json::Map::new());
        }
        place = entry.as_object_mut().ok_or(InvalidSubmission::FieldNotAnObject(field))?;
    }
    place.insert((*last).to_owned(), Value::String(url.to_owned()));
    Ok(body)
}

/// Whether a path names one endpoint below a base URL and nothing else: segments of `[A-Za-z0-9._-]`, none of them `.` or
/// `..`. Keeps a caller's `?endpoint=` from leaving the provider's API or bringing its own query along.
pub(super) fn is_plain_path(path: &str) -> bool {
    let segment = |segment: &str| {
        !segment.is_empty()
            && !matches!(segment, "." | "..")
            && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
    };
    path.len() <= 256 && path.strip_prefix('/').is_some_and(|path| path.split('/').all(segment))
}

/// The failure that an HTTP status alone stands for, where the body says nothing more.
pub fn failure_of_http_status(status: u16) -> Failure {
    let (reason, retryable) = match status {
        402 => (Reason::InsufficientCredits, false),
        408 | 504 => (Reason::Timeout, true),
        429 => (Reason::RateLimited, true),
        451 => (Reason::ContentModeration, false),
        400 | 404 | 405 | 409 | 413 | 415 | 422 => (Reason::InvalidParameters, false),
        500.. => (Reason::ProviderError, true),
        // 401 and 403 among them: about the key and not about the task.
        _ => (Reason::Unknown, false),
    };
    Failure::new(reason, retryable).code(status.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_callback_url_is_put_where_it_belongs() {
        let put = |body: Value, path: &[&'static str]| {
            let submission = Submission { body: &body, endpoint: None, callback_url: "https://hub" };
            with_callback_url(&submission, path, "https://hub")
        };
        assert_eq!(put(json!({"a": 1}), &["webhook"]), Ok(json!({"a": 1, "webhook": "https://hub"})));
        assert_eq!(
            put(json!({"options": {"x": 1}}), &["options", "callback_url"]),
            Ok(json!({"options": {"x": 1, "callback_url": "https://hub"}}))
        );
        assert_eq!(
            put(json!({"input": null}), &["input", "metadata", "callback_url"]),
            Ok(json!({"input": {"metadata": {"callback_url": "https://hub"}}}))
        );
        assert_eq!(put(json!({"options": 7}), &["options", "c"]), Err(InvalidSubmission::FieldNotAnObject("options")));
        assert_eq!(put(json!([]), &["c"]), Err(InvalidSubmission::NotAnObject));
    }

    #[test]
    fn numbers_are_read_however_they_are_written() {
        for (value, expected) in [
            (json!(400), Some("400")),
            (json!(400.0), Some("400")),
            (json!("400"), Some("400")),
            (json!(-1.5), Some("-1.5")),
            (json!(1e300), Some("1e+300")),
            (json!(u64::MAX), Some("18446744073709551615")),
            (json!(""), None),
            (json!([400]), None),
        ] {
            assert_eq!(text(&value).as_deref(), expected, "{value}");
        }
        assert_eq!(integer(&json!(1027.0)), Some(1027));
        assert_eq!(integer(&json!(1027.5)), None);
        assert_eq!(integer(&json!(" 1027 ")), Some(1027));
        assert_eq!(word(&json!(" SUCCEED\n")).as_deref(), Some("succeed"));
        assert_eq!(word(&json!(" ")), None);
    }

    #[test]
    fn links_are_taken_without_the_blanks_around_them_and_on_one_line() {
        let now = Timestamp::from_seconds(0);
        let mut links = Links::new(now, 60);
        links.add(
            Kind::Video,
            &json!([" https://a.test/v.mp4\n", "https://a.test/v.mp4", "ht\ntps://a.test/w", "https://a.\ttest/w"]),
        );
        let found = links.into_artifacts();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].source, Source::Url(SignedUrl::new("https://a.test/v.mp4")));
    }

    #[test]
    fn a_list_of_one_may_come_without_its_brackets() {
        assert_eq!(items(&json!({"url": "u"})), [json!({"url": "u"})]);
        assert_eq!(items(&json!([1, 2])), [json!(1), json!(2)]);
        assert!(items(&json!(null)).is_empty());
        assert_eq!(in_data(&json!({"data": [{"id": 1}]})), &json!({"id": 1}));
        assert_eq!(in_data(&json!({"data": {"id": 1}})), &json!({"id": 1}));
        assert_eq!(in_data(&json!({"id": 1, "data": null})), &json!({"id": 1, "data": null}));
    }

    #[test]
    fn endpoints_stay_below_the_base_url() {
        for good in ["/v1/videos/text2video", "/text-to-video/kling-2.6"] {
            assert!(is_plain_path(good), "{good}");
        }
        for bad in ["", "/", "v1", "//host/path", "/a/../b", "/a?b", "/a#b", "/a%2e", "/a/", "/a@b", "/a b"] {
            assert!(!is_plain_path(bad), "{bad}");
        }
    }
}
