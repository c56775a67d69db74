//! Callbacks, from bytes to a report that may be recorded.
//!
//! The types enforce the order: a [`route::Route`] is parsed from a path, only a route with the right token and signature
//! becomes [`Authentic`], only an authentic callback can be read, and only reading it makes an [`Accepted`] report, the
//! only thing the table records. No code path can record an unverified callback.

use self::proof::{Belief, Proof};
use crate::provider::Provider;
use crate::providers::adapter::{BodyTrust, CallbackBody, HintReason};
use crate::report::{Failure, Outcome, Progress, Report, TaskStatus};
use crate::request::Authenticity;
use crate::settings::Settings;
use crate::task::{TaskId, TaskKey};
use crate::time::Timestamp;
use crate::token::without_tokens;

pub mod proof;
pub mod route;

/// How much of a body is stored, in bytes. A `DynamoDB` item holds 400 KB, and an item may hold two bodies beside a report and
/// checkpoints. Results are a few KB, so only echoed input is cut.
pub const MAX_RAW: usize = 32 * 1024;

/// A callback that came through the right URL with the right signature. Made only by
/// [`route::Route::authenticate`].
#[derive(Debug)]
pub struct Authentic<'a> {
    provider: Provider,
    id: Option<TaskId>,
    authenticity: Authenticity,
    body: &'a [u8],
}

/// What an authentic callback means.
#[derive(Debug)]
pub enum Event {
    /// A check of the URL: respond with this JSON and do nothing else.
    Handshake(serde_json::Value),
    /// A final report, to be recorded and acted on.
    Report(Accepted),
    /// To be recorded and confirmed by a status poll.
    Hint(Hint),
    /// The task is not final yet.
    Open(Open),
    /// About no task we can tell, or about another one in a way that cannot be confirmed: kept for an operator, and nothing
    /// follows from it.
    Keep(Kept),
    /// Nothing to record: an open task that is not named, or a failure that a stranger reports.
    Ignored {
        /// The provider.
        provider: Provider,
        /// Why, for the log.
        reason: &'static str,
    },
}

/// A body that is kept under its hash.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The key it is kept under.
    pub key: TaskKey,
    /// The body.
    pub raw: Raw,
}

impl Kept {
    fn new(provider: Provider, raw: Raw) -> Self {
        Self { key: TaskKey::unattributed(provider, raw.expose().as_bytes()), raw }
    }
}

/// A final report that may be recorded. Made only from an authentic callback, from the response to a status poll, or by
/// closing a task as lost.
#[derive(Clone, Debug)]
pub struct Accepted {
    pub(crate) key: TaskKey,
    pub(crate) provider_task_id: Option<String>,
    pub(crate) report: Report,
    pub(crate) reporter: Reporter,
    pub(crate) proof: Proof,
    pub(crate) raw: Raw,
}

/// Who reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Reporter {
    /// The provider's callback.
    Callback,
    /// The response to a status poll, when no callback had come.
    Poll,
    /// Nobody: reelhook closed the task.
    Deadline,
}

impl Reporter {
    /// The value in the table and in `result.json`.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Whether the provider sends a callback for such an end, and none arrived.
    pub fn is_rescue(self, provider: Provider, outcome: Outcome) -> bool {
        self == Self::Poll && provider.calls_back_about(outcome)
    }

    /// The reporter with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        name.parse().ok()
    }
}

impl Accepted {
    /// What the provider's own API says, as the response to a status poll. `reporter` is [`Reporter::Callback`] where a
    /// callback had hinted at it.
    pub fn confirmed(
        key: TaskKey,
        provider_task_id: Option<String>,
        report: Report,
        reporter: Reporter,
        raw: Raw,
    ) -> Self {
        Self { key, provider_task_id, report, reporter, proof: Proof::Provider, raw }
    }

    /// A success that came by callback, could not be confirmed and is acted on anyway; see [`Hint::fallback`].
    pub fn unconfirmed(key: TaskKey, report: Report, raw: Raw) -> Self {
        Self { key, provider_task_id: None, report, reporter: Reporter::Callback, proof: Proof::Url, raw }
    }

    /// A task that reelhook closes as lost.
    pub fn lost(key: TaskKey, failure: Failure) -> Self {
        Self {
            key,
            provider_task_id: None,
            report: Report::Lost(failure),
            reporter: Reporter::Deadline,
            proof: Proof::Provider,
            raw: Raw::default(),
        }
    }

    /// The task.
    pub fn key(&self) -> &TaskKey {
        &self.key
    }

    /// The provider's id of the task; none when the body has no id, or an upstream's.
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
}

/// A callback that is not believed by itself: a status poll has to confirm it.
#[derive(Clone, Debug)]
pub struct Hint {
    /// The task.
    pub key: TaskKey,
    /// The provider's id of the task; none when the body has no id, or an upstream's.
    pub provider_task_id: Option<String>,
    /// Why it is not a report.
    pub reason: HintReason,
    /// The outcome it claims, if any.
    pub outcome: Option<Outcome>,
    /// The report to fall back on when the provider cannot be polled and the links are about to expire. Present only where
    /// the token in the URL is all the proof the provider offers: without an API key, the report would have been acted on
    /// at once.
    pub fallback: Option<Report>,
    /// The body.
    pub raw: Raw,
    /// The endpoint that the body tells, where status calls depend on it.
    pub endpoint: Option<&'static str>,
}

/// A callback about a task that is not final. It registers an unknown task, so that polling recovers a lost final callback.
#[derive(Clone, Debug)]
pub struct Open {
    /// The task.
    pub key: TaskKey,
    /// The provider's id of the task; none when the body has no id, or an upstream's.
    pub provider_task_id: Option<String>,
    /// How far the task is.
    pub progress: Progress,
    /// The endpoint that the body tells, where status calls depend on it.
    pub endpoint: Option<&'static str>,
}

/// A body as received, cut to [`MAX_RAW`].
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Raw {
    text: String,
    received_bytes: usize,
}

impl Raw {
    /// Keeps a body. Invalid UTF-8 is replaced; what exceeds [`MAX_RAW`] is cut between characters; the tokens of callback URLs, which
    /// some providers repeat in their bodies, are left out: whoever reads a result could call back with one.
    pub fn new(body: &[u8]) -> Self {
        let mut text = String::from_utf8_lossy(&body[..body.len().min(MAX_RAW)]).into_owned();
        if text.len() > MAX_RAW {
            // A replacement character is longer than the byte it replaces.
            text.truncate(text.floor_char_boundary(MAX_RAW));
        }
        Self { text: without_tokens(text), received_bytes: body.len() }
    }

    /// A body as it was read back from the table.
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

    /// Whether there is no body.
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
    /// Reads the body and decides how far to believe it.
    pub fn read(&self, settings: &Settings, now: Timestamp) -> Event {
        let raw = Raw::new(self.body);
        let (provider_task_id, task_status, trust) = match self.provider.adapter().read_callback(self.body, now) {
            CallbackBody::Handshake(response) => return Event::Handshake(response),
            CallbackBody::Unreadable => return self.unreadable(raw),
            CallbackBody::Task { provider_task_id, task_status, trust } => (provider_task_id, task_status, trust),
        };
        let key = match (&self.id, &provider_task_id) {
            (Some(id), _) => TaskKey::registered(self.provider, id),
            (None, Some(id)) => TaskKey::unregistered(self.provider, id),
            // An upstream's body on the static URL: nothing says which task it is about.
            (None, None) => {
                return match task_status {
                    TaskStatus::Open(_) => Event::Ignored { provider: self.provider, reason: "it names no task" },
                    TaskStatus::Finished(_) => self.keep(raw),
                };
            }
        };
        // Only for what is polled: reading the body once more takes time.
        let endpoint = || self.provider.adapter().endpoint_of_callback(self.body);
        let report = match task_status {
            TaskStatus::Open(progress) => {
                return Event::Open(Open { key, provider_task_id, progress, endpoint: endpoint() });
            }
            TaskStatus::Finished(report) => report,
        };
        let proof = match self.authenticity {
            Authenticity::SignedBody => Proof::Body,
            Authenticity::SignedSender => Proof::Sender,
            Authenticity::Unverified => Proof::UnverifiedUrl,
            Authenticity::Unsigned => Proof::Url,
        };
        let own = settings.provider(self.provider);
        let belief = proof.belief(report.outcome(), self.provider.is_pollable(own), own.confirm);
        let (reason, fallback) = match (trust, belief) {
            // A form that cannot be acted on: a link has to be requested first, or there is none.
            (BodyTrust::Hint(reason @ (HintReason::FileId | HintReason::NoResult | HintReason::Unreadable)), _) => {
                (reason, None)
            }
            (_, Belief::Act) => {
                return Event::Report(Accepted {
                    key,
                    provider_task_id,
                    report,
                    reporter: Reporter::Callback,
                    proof,
                    raw,
                });
            }
            (BodyTrust::Hint(reason), Belief::Hint { fallback }) => (reason, fallback.then(|| report.clone())),
            (BodyTrust::Report, Belief::Hint { fallback }) => {
                let reason =
                    if proof == Proof::Sender { HintReason::SignatureWithoutBody } else { HintReason::Unsigned };
                (reason, fallback.then(|| report.clone()))
            }
        };
        let (outcome, endpoint) = (Some(report.outcome()), endpoint());
        Event::Hint(Hint { key, provider_task_id, reason, outcome, fallback, raw, endpoint })
    }

    fn unreadable(&self, raw: Raw) -> Event {
        let Some(id) = &self.id else { return self.keep(raw) };
        Event::Hint(Hint {
            key: TaskKey::registered(self.provider, id),
            provider_task_id: None,
            reason: HintReason::Unreadable,
            outcome: None,
            fallback: None,
            raw,
            endpoint: None,
        })
    }

    fn keep(&self, raw: Raw) -> Event {
        Event::Keep(Kept::new(self.provider, raw))
    }
}

impl Event {
    /// The task it is about and the provider's id of it, where it names both.
    pub fn subject(&self) -> Option<(&TaskKey, &str)> {
        let (key, id) = match self {
            Self::Report(accepted) => (&accepted.key, &accepted.provider_task_id),
            Self::Hint(hint) => (&hint.key, &hint.provider_task_id),
            Self::Open(open) => (&open.key, &open.provider_task_id),
            Self::Handshake(_) | Self::Keep(_) | Self::Ignored { .. } => return None,
        };
        Some((key, id.as_deref()?))
    }

    /// The same about the task under this key, to which the provider task belongs.
    #[must_use]
    pub fn about(self, key: TaskKey) -> Self {
        match self {
            Self::Report(accepted) => Self::Report(Accepted { key, ..accepted }),
            Self::Hint(hint) => Self::Hint(Hint { key, ..hint }),
            Self::Open(open) => Self::Open(Open { key, ..open }),
            other => other,
        }
    }

    /// What remains of an event whose URL belongs to another task of the provider than its body.
    ///
    /// With a signature over the body it is a report about the task in the body: somebody gave one URL to several tasks, and
    /// none of them may get lost over it. Without one it may be a stranger who learned a URL: the success is confirmed under
    /// the body's own id, or kept where nobody can be polled; everything else is ignored. An event that is under its own id
    /// already is kept or ignored, so that this ends.
    #[must_use]
    pub fn of_other_task(self, is_pollable: bool) -> Self {
        let (key, id, outcome, raw, endpoint) = match self {
            Self::Report(accepted) if accepted.proof == Proof::Body => {
                let id = accepted.provider_task_id.clone().unwrap_or_default();
                let own = TaskKey::unregistered(accepted.key.provider(), &id);
                if own == accepted.key {
                    return Self::Keep(Kept::new(own.provider(), accepted.raw));
                }
                return Self::Report(Accepted { key: own, ..accepted });
            }
            Self::Report(Accepted { key, provider_task_id, report, raw, .. }) => {
                let endpoint = key.provider().adapter().endpoint_of_callback(raw.expose().as_bytes());
                (key, provider_task_id, Some(report.outcome()), raw, endpoint)
            }
            Self::Hint(hint) => (hint.key, hint.provider_task_id, hint.outcome, hint.raw, hint.endpoint),
            Self::Open(open) => {
                let provider = open.key.provider();
                return Self::Ignored { provider, reason: "it is about another task than its URL, and open" };
            }
            other => return other,
        };
        let provider = key.provider();
        let own = id.as_deref().map(|id| TaskKey::unregistered(provider, id)).filter(|own| *own != key);
        match (outcome, own) {
            (Some(Outcome::Succeeded), Some(own)) if is_pollable => {
                let reason = HintReason::ForeignTask;
                Self::Hint(Hint { key: own, provider_task_id: id, reason, outcome, fallback: None, raw, endpoint })
            }
            (Some(Outcome::Failed | Outcome::Lost), _) => {
                Self::Ignored { provider, reason: "it reports a failure of another task than its URL" }
            }
            _ => Self::Keep(Kept::new(provider, raw)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_id_the_url_names_the_task() {
        let body = br#"{"status":"failed","error":{"code":500,"message":"upstream"}}"#;
        let settings = Settings::parse(r#"{"version":1,"callback":{"keys":["sixteen-characters"]}}"#).expect("valid");
        let read = |id: Option<TaskId>| {
            let authenticity = Authenticity::Unsigned;
            let callback = Authentic { provider: Provider::ApiMart, id, authenticity, body };
            callback.read(&settings, Timestamp::from_seconds(0))
        };
        let Event::Report(accepted) = read(Some("job-1".parse().expect("an id"))) else { panic!("not a report") };
        assert_eq!(accepted.key().to_string(), "apimart/job-1");
        assert_eq!(accepted.provider_task_id(), None);
        // Without either, nothing says which task it is about.
        let Event::Keep(kept) = read(None) else { panic!("not kept") };
        assert!(kept.key.to_string().starts_with("apimart/unattributed~"), "{}", kept.key);
    }

    fn said(proof: Proof, outcome: Outcome) -> Event {
        let report = match outcome {
            Outcome::Succeeded => Report::Succeeded { artifacts: vec![], usage: None },
            _ => Report::Failed(Failure::new(crate::report::Reason::Unknown, false)),
        };
        let key = "apimart/job-1".parse().expect("a key");
        let (reporter, raw) = (Reporter::Callback, Raw::new(b"{}"));
        Event::Report(Accepted { key, provider_task_id: Some("job-77".to_owned()), report, reporter, proof, raw })
    }

    #[test]
    fn a_url_gives_no_say_about_other_tasks() {
        use Outcome::{Failed, Succeeded};
        for (proof, outcome, is_pollable, expected) in [
            (Proof::Body, Succeeded, true, "report apimart/job-77"),
            (Proof::Body, Failed, true, "report apimart/job-77"),
            (Proof::Url, Succeeded, true, "hint apimart/job-77 without fallback"),
            (Proof::Url, Succeeded, false, "kept"),
            (Proof::Url, Failed, true, "ignored"),
            (Proof::Url, Failed, false, "ignored"),
            (Proof::Sender, Succeeded, true, "hint apimart/job-77 without fallback"),
        ] {
            let found = match said(proof, outcome).of_other_task(is_pollable) {
                Event::Report(accepted) => format!("report {}", accepted.key),
                Event::Hint(hint) if hint.fallback.is_none() => format!("hint {} without fallback", hint.key),
                Event::Keep(_) => "kept".to_owned(),
                Event::Ignored { .. } => "ignored".to_owned(),
                other => format!("{other:?}"),
            };
            assert_eq!(found, expected, "{proof:?} {outcome:?}, pollable {is_pollable}");
        }
    }

    /// It was dropped once, and the task polled by a call that does not know it.
    #[test]
    fn what_the_body_tells_of_its_status_call_goes_to_the_other_task() {
        let body = br#"{"task":{"id":"77","status":"succeeded","content":{"url":"https://a.test/v"}}}"#;
        for key in ["", r#""minimax":{"api_key":"k"}"#] {
            let settings =
                format!(r#"{{"version":1,"callback":{{"keys":["sixteen-characters"]}},"providers":{{{key}}}}}"#);
            let settings = Settings::parse(&settings).expect("valid");
            let id = Some("job-1".parse().expect("an id"));
            let callback = Authentic { provider: Provider::MiniMax, id, authenticity: Authenticity::Unsigned, body };
            let event = callback.read(&settings, Timestamp::from_seconds(0)).of_other_task(true);
            let Event::Hint(hint) = event else { panic!("not a hint: {event:?}") };
            assert_eq!((hint.key.to_string().as_str(), hint.endpoint), ("minimax/77", Some("/v2/video_generation")));
        }
    }

    #[test]
    fn what_is_nobodys_under_its_own_id_either_is_kept_or_ignored() {
        for (proof, outcome) in [
            (Proof::Body, Outcome::Succeeded),
            (Proof::Body, Outcome::Failed),
            (Proof::Url, Outcome::Succeeded),
            (Proof::Url, Outcome::Failed),
        ] {
            let event = said(proof, outcome).of_other_task(true).of_other_task(true);
            assert!(matches!(event, Event::Keep(_) | Event::Ignored { .. }), "{proof:?} {outcome:?}: {event:?}");
        }
    }

    #[test]
    fn raw_bodies_are_bounded() {
        let long = "ü".repeat(MAX_RAW);
        let raw = Raw::new(long.as_bytes());
        assert!(raw.expose().len() <= MAX_RAW);
        assert_eq!(raw.received_bytes(), 2 * MAX_RAW);
        let garbage = Raw::new(&vec![0xff; MAX_RAW]);
        assert!(garbage.expose().len() <= MAX_RAW);
        assert_eq!(format!("{raw:?}"), "[65536 bytes]");
    }
}
