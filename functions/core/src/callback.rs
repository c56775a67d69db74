//! Callbacks, from bytes to something that may be recorded.
//!
//! The types carry the order of the work: a [`Route`] comes from a path, only a route with the right token and signature
//! becomes [`Authentic`], only something authentic can be read, and only what was read becomes an [`Accepted`] report, the
//! only thing the table records. A callback that was not verified cannot be recorded because there is no way to write it.

use crate::providers::{CallbackBody, Provider, Trust};
use crate::redacted::Secret;
use crate::report::{Failure, Outcome, Progress, Report, Statement};
use crate::settings::{Confirm, Settings};
use crate::task::{TaskId, TaskKey};
use crate::time::Timestamp;
use crate::token::STATIC_ID;

/// Largest body of a callback, in bytes. The largest documented one is Vidu's, which echoes up to 1,048,576 characters of the
/// caller's own `payload`.
pub const LARGEST_BODY: usize = 2 * 1024 * 1024;

/// How much of a body is kept, in bytes. An item of the table holds 400 KB; results are a few KB, so only echoes are cut.
pub const LARGEST_RAW: usize = 64 * 1024;

/// Request headers. Names are compared without case.
#[derive(Clone, Debug, Default)]
pub struct Headers(Vec<(String, Secret)>);

impl Headers {
    /// Takes headers in, in any case.
    pub fn new<'a>(headers: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self(headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), Secret::new(value))).collect())
    }

    /// The first value under a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value.expose())
    }

    /// The first value under a name, or the refusal that it is missing.
    pub fn required(&self, name: &'static str) -> Result<&str, Refusal> {
        self.get(name).ok_or(Refusal::Missing(name))
    }
}

/// A callback request, as far as anything may depend on it. The method is POST. Prints without its path, which holds the
/// token.
#[derive(Clone)]
pub struct CallbackRequest<'a> {
    /// The path as it was sent, still encoded.
    pub path: &'a str,
    /// The query as it was sent, without `?`.
    pub query: &'a str,
    /// The headers.
    pub headers: Headers,
    /// The body as it was sent, base64 undone.
    pub body: &'a [u8],
}

impl std::fmt::Debug for CallbackRequest<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "[callback of {} bytes]", self.body.len())
    }
}

/// Where a callback wants to go: `/callback/{provider}/{id}/{token}`.
#[derive(Clone, Debug)]
pub struct Route {
    provider: Provider,
    id: Option<TaskId>,
    token: Secret,
}

/// Why a path leads nowhere. No retry heals it, so it is a 404.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NoRoute {
    /// Not of the form of a callback URL.
    #[error("not a callback URL: expected /callback/{{provider}}/{{id}}/{{token}}")]
    Form,
    /// The provider does not exist.
    #[error("there is no such provider; known are: {}", Provider::names())]
    Provider,
    /// The id cannot be one.
    #[error("the id in the URL is neither \"-\" nor a task id")]
    Id,
}

impl Route {
    /// Reads the path of a callback URL. A trailing slash and a trailing `/callback` are accepted: `APIMart` appends the
    /// latter to the URL it is given.
    pub fn parse(path: &str) -> Result<Self, NoRoute> {
        let path = path.trim_end_matches('/');
        let path = path.strip_suffix("/callback").unwrap_or(path).trim_end_matches('/');
        let parts: Vec<&str> = path.split('/').collect();
        let ["", "callback", provider, id, token] = parts[..] else { return Err(NoRoute::Form) };
        let provider = Provider::from_name(provider).ok_or(NoRoute::Provider)?;
        let id = if id == STATIC_ID { None } else { Some(id.parse().map_err(|_| NoRoute::Id)?) };
        Ok(Self { provider, id, token: Secret::new(token) })
    }

    /// The provider the URL was given to.
    pub fn provider(&self) -> Provider {
        self.provider
    }

    /// Checks the token, then what the provider itself signed.
    pub fn authenticate<'a>(
        &self,
        request: &CallbackRequest<'a>,
        settings: &Settings,
        now: Timestamp,
    ) -> Result<Authentic<'a>, Refusal> {
        if !settings.callback_keys.accept(self.provider, self.id.as_ref(), self.token.expose()) {
            return Err(Refusal::WrongToken);
        }
        let authenticity = self.provider.adapter().authenticate(request, settings.provider(self.provider), now)?;
        Ok(Authentic { provider: self.provider, id: self.id.clone(), authenticity, body: request.body })
    }
}

/// What vouches for a callback beyond the token in its URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authenticity {
    /// A valid signature over the body.
    SignedBody,
    /// A valid signature that does not cover the body: the sender is right, the content may not be.
    SignedSender,
    /// Nothing: the provider does not sign, or no secret is configured.
    Unsigned,
}

/// Why a request is not believed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refusal {
    /// The token is not that of this URL.
    #[error("the token in the URL is wrong")]
    WrongToken,
    /// A header that has to be there is not. With a secret configured, leaving headers away must not open the door.
    #[error("the header {0} is missing")]
    Missing(&'static str),
    /// A header cannot be read.
    #[error("the header {0} is malformed")]
    Malformed(&'static str),
    /// The signature is not by any of the configured secrets.
    #[error("the signature is wrong")]
    WrongSignature,
    /// The signature is too old or from the future.
    #[error("the signature is {seconds} s old; at most 300 s either way are accepted")]
    Stale {
        /// Age in seconds; negative when it comes from the future.
        seconds: i64,
    },
    /// A configured secret cannot be used. This is our own mistake and may be mended while the provider retries, so unlike
    /// all others it is answered with a 5xx.
    #[error("a signing secret in the settings cannot be used")]
    UnusableSecret,
}

impl Refusal {
    /// Whether the fault is ours and a retry may succeed.
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::UnusableSecret)
    }
}

/// A callback that came through the right URL with the right signature. Made only by [`Route::authenticate`].
#[derive(Debug)]
pub struct Authentic<'a> {
    provider: Provider,
    id: Option<TaskId>,
    authenticity: Authenticity,
    body: &'a [u8],
}

/// What an authentic callback asks for.
#[derive(Debug)]
pub enum Event {
    /// To be answered with this JSON, and nothing else.
    Handshake(serde_json::Value),
    /// A final report, to be recorded and acted on.
    Report(Accepted),
    /// Something to be recorded, and the provider to be asked.
    Hint(Hint),
    /// The task is under way.
    Open(Open),
}

/// A final report that may be recorded. Made only from an authentic callback, from a provider's own answer, or by closing
/// a task as lost.
#[derive(Clone, Debug)]
pub struct Accepted {
    pub(crate) key: TaskKey,
    pub(crate) provider_task_id: Option<String>,
    pub(crate) report: Report,
    pub(crate) reporter: Reporter,
    pub(crate) raw: Raw,
}

/// Who reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reporter {
    /// The provider's callback.
    Callback,
    /// The provider's answer to a question of ours, no callback having come.
    Poll,
    /// Nobody: reelhook closed the task.
    Deadline,
}

impl Reporter {
    /// The word in the table and in `result.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Callback => "callback",
            Self::Poll => "poll",
            Self::Deadline => "deadline",
        }
    }

    /// The reporter with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Callback, Self::Poll, Self::Deadline].into_iter().find(|reporter| reporter.name() == name)
    }
}

impl Accepted {
    /// The answer of the provider to a question that nobody's callback gave rise to.
    pub fn from_provider(key: TaskKey, provider_task_id: String, report: Report, body: &[u8]) -> Self {
        Self { key, provider_task_id: Some(provider_task_id), report, reporter: Reporter::Poll, raw: Raw::new(body) }
    }

    /// The answer of the provider to the question that a callback gave rise to: the callback's news, in the provider's own
    /// authenticated words.
    pub fn confirmed(key: TaskKey, provider_task_id: String, report: Report, body: &[u8]) -> Self {
        Self { reporter: Reporter::Callback, ..Self::from_provider(key, provider_task_id, report, body) }
    }

    /// A success that came by callback, could not be confirmed and is acted on all the same; see [`Hint::fallback`].
    pub fn from_fallback(key: TaskKey, fallback: Fallback) -> Self {
        Self { key, provider_task_id: None, report: fallback.report, reporter: Reporter::Callback, raw: fallback.raw }
    }

    /// A task that reelhook gives up.
    pub fn lost(key: TaskKey, failure: Failure) -> Self {
        let raw = Raw::default();
        Self { key, provider_task_id: None, report: Report::Lost(failure), reporter: Reporter::Deadline, raw }
    }

    /// The task.
    pub fn key(&self) -> &TaskKey {
        &self.key
    }

    /// The provider's own id, where the body has one that is the provider's.
    pub fn provider_task_id(&self) -> Option<&str> {
        self.provider_task_id.as_deref()
    }

    /// What is reported.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Who reported it.
    pub fn reporter(&self) -> Reporter {
        self.reporter
    }

    /// The body.
    pub fn raw(&self) -> &Raw {
        &self.raw
    }

    /// The same report under the provider's own id. For a callback that came through the URL of another task: somebody gave
    /// one URL to several tasks, and none of them may be lost over it. None when the body names no task.
    #[must_use]
    pub fn under_own_id(&self) -> Option<Self> {
        let key = TaskKey::unregistered(self.key.provider(), self.provider_task_id()?);
        Some(Self { key, ..self.clone() })
    }
}

/// A callback that says where to look and is not to be believed by itself.
#[derive(Clone, Debug)]
pub struct Hint {
    /// The task.
    pub key: TaskKey,
    /// The provider's own id, where the body has one that is the provider's.
    pub provider_task_id: Option<String>,
    /// Why it is no report.
    pub why: Doubt,
    /// What it says the outcome is, if it says so.
    pub outcome: Option<Outcome>,
    /// The report to fall back on when the provider cannot be asked and its links are about to die. Only there where the
    /// token in the URL is all the authenticity the provider offers: it would have been acted on without a question had no
    /// API key been configured.
    pub fallback: Option<Report>,
    /// The body.
    pub raw: Raw,
}

/// A report that was kept aside while the provider was asked.
#[derive(Clone, Debug)]
pub struct Fallback {
    /// What the callback said.
    pub report: Report,
    /// Its body.
    pub raw: Raw,
}

/// Why a callback is only a hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// The signature does not cover the body.
    SignatureWithoutBody,
    /// The body is another system's, under that system's id.
    ForeignBody,
    /// There is an id to be turned into a link.
    FileId,
    /// It says that something ended, and not how.
    NoResult,
    /// Nothing is signed, and the provider can be asked.
    Unsigned,
    /// It could not be read.
    Unreadable,
}

impl Doubt {
    /// The word in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::SignatureWithoutBody => "signature_without_body",
            Self::ForeignBody => "foreign_body",
            Self::FileId => "file_id",
            Self::NoResult => "no_result",
            Self::Unsigned => "unsigned",
            Self::Unreadable => "unreadable",
        }
    }
}

/// A callback about a task that is not final. It makes an unknown task known, so that a lost final callback is found.
#[derive(Clone, Debug)]
pub struct Open {
    /// The task.
    pub key: TaskKey,
    /// The provider's own id, where the body has one that is the provider's.
    pub provider_task_id: Option<String>,
    /// How far it is.
    pub progress: Progress,
}

/// A body as received, cut to [`LARGEST_RAW`].
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Raw {
    text: String,
    received_bytes: usize,
}

impl Raw {
    /// Keeps a body. What is no UTF-8 is replaced, what is too long is cut between characters.
    pub fn new(body: &[u8]) -> Self {
        let mut text = String::from_utf8_lossy(&body[..body.len().min(LARGEST_RAW)]).into_owned();
        if text.len() > LARGEST_RAW {
            // Replacement characters are longer than the bytes they stand for.
            text.truncate(text.floor_char_boundary(LARGEST_RAW));
        }
        Self { text, received_bytes: body.len() }
    }

    /// A body as it was stored.
    pub fn from_stored(text: String, received_bytes: usize) -> Self {
        Self { text, received_bytes }
    }

    /// The text. It may contain signed links: for the record and `result.json` only.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// How long the body was, in bytes.
    pub fn received_bytes(&self) -> usize {
        self.received_bytes
    }

    /// Whether there was none.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }
}

impl std::fmt::Debug for Raw {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "[{} bytes]", self.received_bytes)
    }
}

impl Authentic<'_> {
    /// Reads the body and decides how far it is to be believed.
    pub fn read(&self, settings: &Settings, now: Timestamp) -> Event {
        let adapter = self.provider.adapter();
        let raw = Raw::new(self.body);
        let (provider_task_id, statement, trust) = match adapter.read_callback(self.body, now) {
            CallbackBody::Handshake(answer) => return Event::Handshake(answer),
            CallbackBody::Unreadable => {
                let key = match &self.id {
                    Some(id) => TaskKey::registered(self.provider, id),
                    None => TaskKey::unreadable(self.provider, self.body),
                };
                let why = Doubt::Unreadable;
                return Event::Hint(Hint { key, provider_task_id: None, why, outcome: None, fallback: None, raw });
            }
            CallbackBody::Task { provider_task_id, statement, trust } => (provider_task_id, statement, trust),
        };
        let key = match (&self.id, &provider_task_id) {
            (Some(id), _) => TaskKey::registered(self.provider, id),
            (None, Some(id)) => TaskKey::unregistered(self.provider, id),
            // A body of another system on the static URL: nothing says which task it is.
            (None, None) => TaskKey::unreadable(self.provider, self.body),
        };
        let report = match statement {
            Statement::Open(progress) => return Event::Open(Open { key, provider_task_id, progress }),
            Statement::Final(report) => report,
        };
        let settings = settings.provider(self.provider);
        let doubt = match (trust, self.authenticity, &report) {
            (Trust::Hint(doubt), _, _) => Some(doubt),
            (Trust::Report, Authenticity::SignedSender, _) => Some(Doubt::SignatureWithoutBody),
            (Trust::Report, Authenticity::Unsigned, Report::Succeeded { .. })
                if settings.can_ask() && settings.confirm == Confirm::WhenPossible =>
            {
                Some(Doubt::Unsigned)
            }
            (Trust::Report, _, _) => None,
        };
        match doubt {
            None => Event::Report(Accepted { key, provider_task_id, report, reporter: Reporter::Callback, raw }),
            Some(why) => Event::Hint(Hint {
                key,
                provider_task_id,
                why,
                outcome: Some(report.outcome()),
                fallback: (why == Doubt::Unsigned).then_some(report),
                raw,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callback_urls_are_read_in_every_form_a_provider_makes_of_them() {
        for path in [
            "/callback/apimart/job-1/tok",
            "/callback/apimart/job-1/tok/",
            "/callback/apimart/job-1/tok/callback",
            "/callback/apimart/job-1/tok/callback/",
        ] {
            let route = Route::parse(path).expect("a callback URL");
            assert_eq!(route.provider, Provider::ApiMart);
            assert_eq!(route.id.as_ref().map(TaskId::as_str), Some("job-1"));
            assert_eq!(route.token.expose(), "tok");
        }
        assert!(Route::parse("/callback/kling/-/tok").expect("a callback URL").id.is_none());
    }

    #[test]
    fn other_paths_lead_nowhere() {
        for (path, why) in [
            ("/", NoRoute::Form),
            ("/callback", NoRoute::Form),
            ("/callback/kling/job-1", NoRoute::Form),
            ("/callback/kling/job-1/tok/more", NoRoute::Form),
            ("/other/kling/job-1/tok", NoRoute::Form),
            ("callback/kling/job-1/tok", NoRoute::Form),
            ("/callback/klingon/job-1/tok", NoRoute::Provider),
            ("/callback/Kling/job-1/tok", NoRoute::Provider),
            ("/callback/kling/job%2F1/tok", NoRoute::Id),
            ("/callback/kling/../tok", NoRoute::Id),
        ] {
            assert_eq!(Route::parse(path).expect_err("no callback URL"), why, "{path}");
        }
    }

    #[test]
    fn raw_bodies_are_bounded() {
        let long = "ü".repeat(LARGEST_RAW);
        let raw = Raw::new(long.as_bytes());
        assert!(raw.expose().len() <= LARGEST_RAW);
        assert_eq!(raw.received_bytes(), 2 * LARGEST_RAW);
        let garbage = Raw::new(&vec![0xff; LARGEST_RAW]);
        assert!(garbage.expose().len() <= LARGEST_RAW);
        assert_eq!(format!("{raw:?}"), "[131072 bytes]");
    }
}
