//! Callbacks, from bytes to something that may be recorded.
//!
//! The types carry the order of the work: a [`Route`] comes from a path, only a route with the right token and signature
//! becomes [`Authentic`], only something authentic can be read, and only what was read becomes an [`Accepted`] report, the
//! only thing the table records. A callback that was not verified cannot be recorded because there is no way to write it.

use crate::providers::{CallbackBody, Doubt, Provider, Trust};
use crate::redacted::Secret;
use crate::report::{Failure, Outcome, Progress, Report, Statement};
use crate::request::{Authenticity, CallbackRequest, Refusal};
use crate::settings::{Confirm, Settings};
use crate::task::{TaskId, TaskKey};
use crate::time::Timestamp;
use crate::token::STATIC_ID;

/// How much of a body is kept, in bytes. An item of the table holds 400 KB; results are a few KB, so only echoes are cut.
pub const LARGEST_RAW: usize = 64 * 1024;

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
