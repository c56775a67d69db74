//! The adapters, one file each, without input or output: bytes and headers in, values out. Requests to a provider are
//! described as [`Request`] values and sent by the one HTTP client of `reelhook-aws`, so every adapter can be tested from a
//! file, fuzzed, and read next to the provider's page.

use std::fmt;

use serde_json::Value;

use crate::redacted::{Secret, SignedUrl};
use crate::report::{Artifact, Failure, Statement};
use crate::request::{Authenticity, CallbackRequest, Refusal};
use crate::settings::ProviderSettings;
use crate::time::Timestamp;

mod apimart;
mod apimp;
mod ark;
mod failures;
mod kie;
mod kling;
mod maxapi;
mod minimax;
mod prelude;
mod relaydance;
#[cfg(test)]
mod tests;
mod vidu;

/// The providers reelhook speaks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Provider {
    /// `RelayDance`, relaydance.com.
    RelayDance,
    /// `MaxAPI`, docs.maxapi.io.
    MaxApi,
    /// `APIMart`, docs.apimart.ai.
    ApiMart,
    /// APIMP, doc.apimp.ai.
    Apimp,
    /// Kling (Kuaishou), directly.
    Kling,
    /// Volcengine Ark and `BytePlus` `ModelArk` (`ByteDance` Seedance), directly.
    Ark,
    /// `MiniMax` Hailuo, directly.
    MiniMax,
    /// Vidu (Shengshu), directly.
    Vidu,
    /// KIE.AI, docs.kie.ai.
    Kie,
}

impl Provider {
    /// Every provider.
    pub const ALL: [Self; 9] = [
        Self::RelayDance,
        Self::MaxApi,
        Self::ApiMart,
        Self::Apimp,
        Self::Kling,
        Self::Ark,
        Self::MiniMax,
        Self::Vidu,
        Self::Kie,
    ];

    /// The name in URLs, keys and settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::RelayDance => "relaydance",
            Self::MaxApi => "maxapi",
            Self::ApiMart => "apimart",
            Self::Apimp => "apimp",
            Self::Kling => "kling",
            Self::Ark => "ark",
            Self::MiniMax => "minimax",
            Self::Vidu => "vidu",
            Self::Kie => "kie",
        }
    }

    /// The provider with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|provider| provider.name() == name)
    }

    /// All names, for messages: `relaydance, maxapi, …`.
    pub fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// What is known about the provider.
    pub fn adapter(self) -> &'static dyn Adapter {
        match self {
            Self::RelayDance => &relaydance::RelayDance,
            Self::MaxApi => &maxapi::MaxApi,
            Self::ApiMart => &apimart::ApiMart,
            Self::Apimp => &apimp::Apimp,
            Self::Kling => &kling::Kling,
            Self::Ark => &ark::Ark,
            Self::MiniMax => &minimax::MiniMax,
            Self::Vidu => &vidu::Vidu,
            Self::Kie => &kie::Kie,
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// What is known about a provider, as code. Nothing here does input or output, reads a clock or panics on foreign bytes.
pub trait Adapter: Sync {
    /// Budgets, lives and paces.
    fn profile(&self) -> &'static Profile;

    /// Checks what the provider signed. The token of the URL has been checked before. With a signing secret configured, a
    /// missing signature is a refusal.
    fn authenticate(
        &self,
        request: &CallbackRequest<'_>,
        settings: &ProviderSettings,
        now: Timestamp,
    ) -> Result<Authenticity, Refusal>;

    /// Reads the body of a callback. `now` is the start of a link's usual life where the body says no time.
    fn read_callback(&self, body: &[u8], now: Timestamp) -> CallbackBody;

    /// The JSON answered with 200 to a callback that was taken.
    fn acknowledgement(&self) -> &'static str {
        r#"{"status":"ok"}"#
    }

    /// The submission of a task: the caller's body with the callback URL where this provider wants it. `now` is what a
    /// short-lived authorisation is made for (Kling's JWT).
    fn submission(
        &self,
        submission: &Submission<'_>,
        settings: &ProviderSettings,
        now: Timestamp,
    ) -> Result<Request, InvalidSubmission>;

    /// Reads the answer to a submission.
    fn read_submission(&self, answer: &Answer<'_>) -> SubmissionAnswer;

    /// The questions that ask after these tasks; each says which of them it covers. Where the provider takes several tasks
    /// in one call, they share one. Tasks that cannot be asked after (see [`PolledTask::endpoint`]) are left out.
    fn status_requests(
        &self,
        tasks: &[PolledTask<'_>],
        settings: &ProviderSettings,
        now: Timestamp,
    ) -> Vec<StatusRequest>;

    /// Reads what the answer to a status question says about the task with this provider id. A success that names no file
    /// where there should be one is open: the next answer may name it.
    fn read_status(&self, answer: &Answer<'_>, provider_task_id: &str, now: Timestamp) -> StatusAnswer;

    /// The id of the first task that the answer to a status question speaks of, for somebody who holds an answer and not
    /// its question. The poller knows what it asked and does not need it.
    fn status_id(&self, answer: &Answer<'_>) -> Option<String>;

    /// The question that turns a file id, or a link that is dead or dying, into a fresh link. None where only another
    /// status question can, or nothing.
    fn resolution(&self, artifact: &Artifact, settings: &ProviderSettings, now: Timestamp) -> Option<Request> {
        let _ = (artifact, settings, now);
        None
    }

    /// Reads the answer to a [`Adapter::resolution`].
    fn read_resolution(&self, answer: &Answer<'_>, now: Timestamp) -> Result<FreshLink, Failure> {
        let _ = now;
        Err(failure_of_http_status(answer.status))
    }
}

/// Numbers of a provider. All times in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// How people write it.
    pub title: &'static str,
    /// Base URL used when the settings name none. None where the provider's own host is not known.
    pub default_base_url: Option<&'static str>,
    /// Within which time a callback has to be answered.
    pub answer_budget: u32,
    /// Life of a link about which nothing else is said.
    pub link_life: i64,
    /// From submission to the first question.
    pub first_poll: u32,
    /// Between the first and the second question; later gaps grow by half.
    pub poll_interval: u32,
    /// Longest gap between two questions.
    pub longest_poll_interval: u32,
    /// From submission until a task nobody has heard of is closed as lost.
    pub deadline: u32,
    /// How a callback is verified, for people.
    pub verified: &'static str,
    /// How often the provider calls back, and again when it is not answered, for people.
    pub retries: &'static str,
    /// What the provider's own pages or SDKs confirm, for people.
    pub confirmed: &'static str,
    /// What nobody could confirm and what this adapter assumes instead, for people. Names each figure above that is inferred
    /// or chosen.
    pub doubts: &'static str,
}

/// What a callback's body says, before anybody decided how far to believe it.
#[derive(Clone, Debug, PartialEq)]
pub enum CallbackBody {
    /// A check of the URL, to be answered with this JSON. Concerns no task.
    Handshake(Value),
    /// About a task.
    Task {
        /// The provider's own id. None when the id in the body is another system's.
        provider_task_id: Option<String>,
        /// What it says.
        statement: Statement,
        /// Whether the form of the body allows to act on it.
        trust: Trust,
    },
    /// Nothing certain.
    Unreadable,
}

impl CallbackBody {
    /// A body under the provider's own id, to be acted on as far as its signature reaches.
    pub fn report(provider_task_id: impl Into<String>, statement: Statement) -> Self {
        Self::Task { provider_task_id: Some(provider_task_id.into()), statement, trust: Trust::Report }
    }
}

/// Whether the form of a body allows to act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Yes, as far as its authenticity reaches.
    Report,
    /// No: the provider has to be asked, for this reason.
    Hint(Doubt),
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

/// A submission, before the adapter makes a request of it.
#[derive(Clone, Copy, Debug)]
pub struct Submission<'a> {
    /// The provider's own request body.
    pub body: &'a Value,
    /// The path below the base URL, for providers with several; must start with a slash.
    pub endpoint: Option<&'a str>,
    /// Where the provider is to call back.
    pub callback_url: &'a str,
}

/// Why a submission cannot be made into a request. Nothing was sent.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidSubmission {
    /// The body is no JSON object.
    #[error("the body has to be a JSON object in the provider's own format")]
    NotAnObject,
    /// A field on the way to the callback field is no object.
    #[error("{0} has to be an object, because the callback URL goes into it")]
    FieldNotAnObject(&'static str),
    /// The provider has several endpoints and none was named.
    #[error("this provider has several endpoints; name one with ?endpoint=…, for example {example}")]
    EndpointMissing {
        /// One that exists.
        example: &'static str,
    },
    /// The endpoint is not one of this provider's.
    #[error("{given:?} is no endpoint of this provider for submissions; an example of one is {example}")]
    EndpointUnknown {
        /// What was asked for.
        given: String,
        /// One that exists.
        example: &'static str,
    },
    /// Nothing is configured to authenticate with.
    #[error("no API key is configured for this provider; put providers.{0}.api_key into the settings")]
    NoApiKey(&'static str),
    /// There is no base URL.
    #[error("no base URL is configured for this provider; put providers.{0}.base_url into the settings")]
    NoBaseUrl(&'static str),
}

/// An outgoing request as a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// GET or POST.
    pub method: Method,
    /// The whole URL.
    pub url: String,
    /// Headers beside `Content-Type: application/json`, which a body brings with it. Values may be secrets.
    pub headers: Vec<(&'static str, Secret)>,
    /// The body, JSON.
    pub body: Option<Vec<u8>>,
}

/// An HTTP method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET.
    Get,
    /// POST.
    Post,
}

/// The answer to a request.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// HTTP status.
    pub status: u16,
    /// The `Retry-After` header in seconds, where it is given so.
    pub retry_after: Option<u32>,
    /// The body.
    pub body: &'a [u8],
}

impl Answer<'_> {
    /// Whether the HTTP status is a 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// What the answer to a submission says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubmissionAnswer {
    /// The provider took it, under this id.
    Accepted {
        /// The provider's id of the task.
        provider_task_id: String,
    },
    /// The provider refused it, so there is no task.
    Refused(Failure),
    /// Nobody can tell: the task may exist. Repeating it could pay twice.
    Unclear(String),
}

/// A task to ask after.
#[derive(Clone, Copy, Debug)]
pub struct PolledTask<'a> {
    /// The provider's id.
    pub provider_task_id: &'a str,
    /// The endpoint it was submitted to, where that is known: some status calls depend on it.
    pub endpoint: Option<&'a str>,
}

/// A status question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusRequest {
    /// What to send.
    pub request: Request,
    /// Which of the tasks it asks after, as positions in the list that was given.
    pub tasks: Vec<usize>,
}

/// What the answer to a status question says about one task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatusAnswer {
    /// The provider's word on it.
    Task(Statement),
    /// The provider does not know the id: not yet, not any more, or never.
    NotFound,
    /// The question itself was refused and says nothing about the task: a bad key, no money, too many questions, an outage.
    Refused {
        /// Why.
        failure: Failure,
        /// Seconds the provider asks to wait.
        retry_after: Option<u32>,
    },
    /// Nothing certain.
    Unreadable,
}

/// A link that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreshLink {
    /// The link.
    pub url: SignedUrl,
    /// When it dies.
    pub expires_at: Option<Timestamp>,
}

mod common;
pub use common::failure_of_http_status;
