//! What reelhook needs to know about a provider, as a trait, with the values that go in and out.

use std::time::Duration;

use serde_json::Value;

use super::failures::failure_of_http_status;
use crate::record::FOUND_WITHIN;
use crate::redacted::{Secret, SignedUrl};
use crate::report::{Artifact, Failure, TaskStatus};
use crate::request::{Authenticity, CallbackRequest, Refusal};
use crate::settings::ProviderSettings;
use crate::time::Timestamp;

/// Everything specific to one provider. Implementations do no input or output, read no clock, and never panic, whatever
/// bytes they are given.
pub trait Adapter: Sync {
    /// Time-outs, link life and poll schedule.
    fn profile(&self) -> &'static Profile;

    /// Verifies the provider's own signature, after the token in the URL was checked. Once a signing secret is configured,
    /// a missing signature is a refusal. The default is for providers that sign nothing.
    fn authenticate(
        &self,
        request: &CallbackRequest<'_>,
        settings: &ProviderSettings,
        now: Timestamp,
    ) -> Result<Authenticity, Refusal> {
        let _ = (request, settings, now);
        Ok(Authenticity::Unsigned)
    }

    /// Where the provider publishes the public keys that verify its callbacks. None by default. They are fetched into
    /// [`ProviderSettings::public_keys`], which is where [`Adapter::authenticate`] looks.
    fn key_set_url(&self) -> Option<&'static str> {
        None
    }

    /// Whether the bodies of callbacks name their task. Where they do not, the static callback URL is of no use.
    fn names_its_tasks(&self) -> bool {
        true
    }

    /// Whether a status poll needs the endpoint that the task was submitted to. Then a task is registered with it, and the static
    /// callback URL, which does not tell it, is of no use either. The default is no.
    fn needs_endpoint(&self) -> bool {
        false
    }

    /// Reads the body of a callback. The life of a link starts at `now` where the body has no time. The default is for providers
    /// that send no callbacks.
    fn read_callback(&self, body: &[u8], now: Timestamp) -> CallbackBody {
        let _ = (body, now);
        CallbackBody::Unreadable
    }

    /// The JSON body of the 200 that acknowledges a callback.
    fn acknowledgement(&self) -> &'static str {
        r#"{"status":"ok"}"#
    }

    /// The request that submits a task: the caller's body, with the callback URL in the provider's own field. Short-lived
    /// credentials (Kling's JWT) are issued for `now`.
    fn submission(
        &self,
        submission: &Submission<'_>,
        settings: &ProviderSettings,
        now: Timestamp,
    ) -> Result<Request, InvalidSubmission>;

    /// Reads the response to a submission.
    fn read_submission(&self, response: &ProviderResponse) -> SubmissionResult;

    /// The requests that poll the status of these tasks, several tasks per request where the provider allows it. Every
    /// task is in exactly one request, or in none where the provider needs an endpoint and it is not known; there are no requests at
    /// all without credentials.
    fn status_requests(
        &self,
        tasks: &[PolledTask<'_>],
        settings: &ProviderSettings,
        now: Timestamp,
    ) -> Vec<StatusRequest>;

    /// Reads what the response to a status request says about the task with this provider id. A success without a file
    /// counts as open, because a later response may have it.
    fn read_status(&self, response: &ProviderResponse, provider_task_id: &str, now: Timestamp) -> StatusResult;

    /// The id that the caller's own body has where [`Submission::marker`] would stand, and keeps. The default is none.
    fn marker_in(&self, body: &Value, endpoint: Option<&str>) -> Option<String> {
        let _ = (body, endpoint);
        None
    }

    /// The request that looks up the task of a submission by the id of ours that it carried ([`Submission::marker`]). None where the
    /// provider has no such call, and the default.
    fn lookup(
        &self,
        marker: &str,
        endpoint: Option<&str>,
        settings: &ProviderSettings,
        now: Timestamp,
    ) -> Option<Request> {
        let _ = (marker, endpoint, settings, now);
        None
    }

    /// Reads the response to a [`Adapter::lookup`].
    fn read_lookup(&self, response: &ProviderResponse, marker: &str, now: Timestamp) -> LookupResult {
        let _ = (marker, now);
        LookupResult::Unknown(StatusResult::Refused {
            failure: failure_of_http_status(response.status),
            retry_after: response.retry_after,
        })
    }

    /// The request that cancels a task, given the response to a status poll of this moment: some providers' call deletes a task
    /// that is not queued any more. None where the provider has no such call, the task cannot be cancelled any more, and the
    /// default. [`Profile::cancellable`] says which tasks can.
    fn cancellation(
        &self,
        task: &PolledTask<'_>,
        status: &ProviderResponse,
        settings: &ProviderSettings,
    ) -> Option<Request> {
        let _ = (task, status, settings);
        None
    }

    /// Reads the response to a [`Adapter::cancellation`]: why it was refused, if it was.
    fn read_cancellation(&self, response: &ProviderResponse) -> Option<Failure> {
        (!response.is_success()).then(|| failure_of_http_status(response.status))
    }

    /// Whether the provider forgets a task that it cancels, so that an unknown id confirms a cancellation that it took. The default
    /// is no.
    fn forgets_cancelled(&self) -> bool {
        false
    }

    /// The endpoint that the body of a callback tells, where status calls depend on it and the submission is not known. The default is
    /// none.
    fn endpoint_of_callback(&self, body: &[u8]) -> Option<&'static str> {
        let _ = body;
        None
    }

    /// An endpoint for each of the status calls of which one knows a task, where only its submission says which. The default is none: one
    /// call knows every task.
    fn status_calls(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether the status call of a task is a guess, because nothing says which of several it needs, and not all of them are
    /// known: then an unknown id says nothing of the task. The default is no.
    fn guesses_status_call(&self, task: &PolledTask<'_>) -> bool {
        let _ = task;
        false
    }

    /// The id of the first task in the response to a status request, for a reader that does not know the request. The
    /// poller does not need it.
    fn status_id(&self, response: &ProviderResponse) -> Option<String>;

    /// The header that the provider's API wants for the file of a [`Source::Authorized`](crate::report::Source::Authorized). None
    /// without a key, and the default.
    fn download_header(&self, settings: &ProviderSettings) -> Option<(&'static str, Secret)> {
        let _ = settings;
        None
    }

    /// The request that turns a file id, or a link that is dead or about to expire, into a fresh link. None where only
    /// another status poll can help, or nothing.
    fn resolution(&self, artifact: &Artifact, settings: &ProviderSettings, now: Timestamp) -> Option<Request> {
        let _ = (artifact, settings, now);
        None
    }

    /// Reads the response to a [`Adapter::resolution`].
    fn read_resolution(&self, response: &ProviderResponse, now: Timestamp) -> Result<FreshLink, Failure> {
        let _ = now;
        Err(failure_of_http_status(response.status))
    }
}

/// When most tasks are first polled whose provider calls back. Chosen: most callbacks have come by then, a task whose callback came is
/// not polled, and a lost one is found while the shortest-lived links last an hour. Not later than
/// [`FOUND_WITHIN`], or a callback that is quick would have to move its task in the index.
pub const FIRST_POLL: Duration = Duration::from_mins(4);
const _: () = assert!(FIRST_POLL.as_secs() <= FOUND_WITHIN.as_secs(), "see above");

/// Facts and figures about a provider. The texts are cells of the tables in `README.md` and `events/providers/README.md`.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// The provider's name as people write it.
    pub title: &'static str,
    /// Base URL of the API unless the settings have one. None where the provider's host is not known.
    pub default_base_url: Option<&'static str>,
    /// How the provider calls back. None where it does not: then it gets no callback URL, and its tasks are only polled.
    pub callbacks: Option<Callbacks>,
    /// How long a link lives when neither the body nor the link itself says so.
    pub link_life: Duration,
    /// From submission to the first status poll. [`FIRST_POLL`] unless there is no callback to wait for, or the provider's pages
    /// suggest otherwise.
    pub first_poll: Duration,
    /// Shortest delay between two status polls; the first one when a callback waits to be confirmed.
    pub poll_interval: Duration,
    /// Longest delay between two status polls.
    pub max_poll_interval: Duration,
    /// From submission until a task without a final report is closed as lost.
    pub deadline: Duration,
    /// Which tasks the provider's API cancels. None where it has no call for it.
    pub cancellable: Option<&'static str>,
    /// How a submission is kept from being paid twice: what of ours it carries. None where the provider takes nothing of the kind.
    pub marker: Option<&'static str>,
    /// What the provider says of a task's cost. None where it says nothing.
    pub usage: Option<&'static str>,
    /// What the provider's own pages or SDKs confirm.
    pub confirmed: &'static str,
    /// What no source confirms. Names every figure above that is inferred or chosen.
    pub unconfirmed: &'static str,
}

/// How a provider calls back.
#[derive(Clone, Copy, Debug)]
pub struct Callbacks {
    /// How long the provider waits for the response.
    pub response_timeout: Duration,
    /// Whether it sends one about a failure too. A success is always reported.
    pub reports_failures: bool,
    /// How a callback is verified.
    pub verified: &'static str,
    /// How often the provider repeats a callback that was not acknowledged.
    pub retries: &'static str,
}

/// What the body of a callback says, before its authenticity is taken into account.
#[derive(Clone, Debug, PartialEq)]
pub enum CallbackBody {
    /// A check of the URL that expects this JSON as the response. It is about no task.
    Handshake(Value),
    /// A statement about a task.
    Task {
        /// The provider's id of the task. None when the body has no id, so that only the callback URL names the task; also
        /// none when its id is an upstream's, and then the trust is [`HintReason::ForeignBody`].
        provider_task_id: Option<String>,
        /// The reported status.
        task_status: TaskStatus,
        /// Whether a body of this form may be acted on.
        trust: BodyTrust,
    },
    /// Not understood.
    Unreadable,
}

/// Whether the form of a body allows acting on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyTrust {
    /// Yes, as far as the callback is authentic.
    Report,
    /// No: a status poll has to confirm it, for this reason.
    Hint(HintReason),
}

/// Why a callback is only a hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum HintReason {
    /// The signature proves the sender only.
    SignatureWithoutBody,
    /// The body is an upstream's, under the upstream's id.
    ForeignBody,
    /// The result is a file id that has to be resolved into a link.
    FileId,
    /// It reports the end of a task without its result, or with one that only a status poll can vouch for.
    NoResult,
    /// It is not signed, and the provider can be polled.
    Unsigned,
    /// It could not be read.
    Unreadable,
    /// It is about another task than its URL.
    ForeignTask,
}

impl HintReason {
    /// The value in logs and metrics.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// A submission as the caller sent it.
#[derive(Clone, Copy, Debug)]
pub struct Submission<'a> {
    /// The provider's own request body.
    pub body: &'a Value,
    /// The path below the base URL, with a leading slash. Required by providers with several endpoints.
    pub endpoint: Option<&'a str>,
    /// Where the provider has to send its callbacks.
    pub callback_url: &'a str,
    /// An id of ours, the same whenever this submission is repeated, for providers that take one.
    pub marker: &'a str,
}

/// Why a submission cannot be turned into a request. Nothing was sent. The texts are shown to the caller.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidSubmission {
    /// The body is not a JSON object.
    #[error("the body is not a JSON object; send the provider's own request body")]
    NotAnObject,
    /// A field on the way to the callback field is not an object.
    #[error("the field {0} has to be an object, because the callback URL goes into it; make it one or omit it")]
    FieldNotAnObject(&'static str),
    /// A field that the provider knows and reelhook cannot serve.
    #[error("the field {field} is not supported: {why}; omit it")]
    NotSupported {
        /// The field.
        field: &'static str,
        /// Why not.
        why: &'static str,
    },
    /// The provider has several endpoints and the caller named none.
    #[error("this provider has several endpoints; choose one with ?endpoint=…, for example ?endpoint={example}")]
    EndpointMissing {
        /// An existing endpoint.
        example: &'static str,
    },
    /// The provider has no such endpoint for submissions.
    #[error("{given:?} is not a submission endpoint of this provider; use one like ?endpoint={example}")]
    EndpointUnknown {
        /// The endpoint in the request.
        given: String,
        /// An existing endpoint.
        example: &'static str,
    },
    /// The settings have no credentials for this provider.
    #[error("no API key is configured for this provider; set providers.{0}.api_key in the settings")]
    NoApiKey(&'static str),
    /// Neither the settings nor the adapter have a base URL.
    #[error("no base URL is known for this provider; set providers.{0}.base_url in the settings")]
    NoBaseUrl(&'static str),
}

/// An HTTP request to a provider, as a value. Its `Debug` output omits the query and the body, either of which may have the
/// callback URL with its token.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Absolute, including the query.
    pub url: String,
    /// Headers in addition to `Content-Type: application/json`, which every request with a body has.
    pub headers: Vec<(&'static str, Secret)>,
    /// JSON.
    pub body: Option<Vec<u8>>,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let url = self.url.split('?').next().unwrap_or_default();
        write!(formatter, "[{:?} {url}, a body of {} bytes]", self.method, self.body.as_ref().map_or(0, Vec::len))
    }
}

/// The HTTP methods that adapters use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say everything")]
pub enum Method {
    Get,
    Post,
    Put,
    Delete,
}

/// A provider's response to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderResponse {
    /// The HTTP status.
    pub status: u16,
    /// The `Retry-After` header, capped by the client.
    pub retry_after: Option<Duration>,
    /// The body, in any format.
    pub body: Vec<u8>,
}

impl ProviderResponse {
    /// A response without a `Retry-After` header.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, retry_after: None, body: body.into() }
    }

    /// Whether the HTTP status is a 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// The result of a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubmissionResult {
    /// The provider accepted the task.
    Accepted {
        /// The provider's id of the task.
        provider_task_id: String,
    },
    /// The provider refused the submission, so there is no task.
    Refused(Failure),
    /// The task may or may not exist, for this reason. Submitting again could pay twice.
    Unclear(String),
}

/// A task whose status is polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolledTask<'a> {
    /// The provider's id of the task.
    pub provider_task_id: &'a str,
    /// The endpoint it was submitted to, if known: some status calls depend on it.
    pub endpoint: Option<&'a str>,
}

/// A request that polls the status of one or several tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusRequest {
    /// The request to send.
    pub request: Request,
    /// The tasks it covers, as indices into the slice given to [`Adapter::status_requests`].
    pub tasks: Vec<usize>,
}

/// The result of looking a submission up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookupResult {
    /// The provider has the task.
    Found {
        /// The provider's id of the task.
        provider_task_id: String,
    },
    /// It is not known, for this reason. That the provider does not know it is no proof that it never will.
    Unknown(StatusResult),
}

/// The result of a status poll for one task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatusResult {
    /// The status of the task.
    Task(TaskStatus),
    /// The provider does not know the id: not yet, no longer, or it never did.
    NotFound,
    /// The request was refused, which says nothing about the task: a bad key, no credits, a rate limit, an outage.
    Refused {
        /// Why.
        failure: Failure,
        /// The `Retry-After` of the response.
        retry_after: Option<Duration>,
    },
    /// The response was not understood.
    Unreadable,
}

/// The link in the response to a [`Adapter::resolution`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreshLink {
    /// Replaces the old link or the file id.
    pub url: SignedUrl,
    /// When the link expires.
    pub expires_at: Option<Timestamp>,
}
