//! The one HTTP client for the providers' APIs. It sends what an adapter describes and returns the response, bounded in time
//! and size. It follows no redirect: an API that moves is a matter for the settings, and a redirect could carry the API key
//! to another host.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use reelhook_core::callback::Raw;
use reelhook_core::providers::adapter::{
    LookupResult, Method, PolledTask, ProviderResponse, Request, StatusRequest, StatusResult,
};
use reelhook_core::providers::batch;
use reelhook_core::record::Record;
use reelhook_core::report::TaskStatus;
use reelhook_core::settings::ProviderSettings;
use reelhook_core::status_poll::{self, PollResult};
use reelhook_core::{Provider, Timestamp, retry_after};
use tokio::time::Instant;

use crate::tls;

/// Longest response that is read, in bytes. A list of 50 tasks with long prompts is far below it, and as many as are in
/// flight at once fit into the smallest function.
const MAX_RESPONSE: usize = 1024 * 1024;

/// How long a provider may take to be connected.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an idle connection is kept: most providers and proxies close theirs after a minute or so.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest `Retry-After` of a provider that is honoured; a longer one is cut to it, because links die and deadlines pass.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

/// Whether a client keeps connections between requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    /// For status polls, of which many follow each other. One that fails on a stale connection is repeated.
    Kept,
    /// For submissions. A frozen function does not notice that the provider closed a connection, and a submission that fails
    /// on one after it was sent is interrupted: nobody knows whether it arrived. A handshake each costs less.
    Fresh,
}

/// The client.
#[derive(Clone, Debug)]
pub struct ProviderClient {
    http: reqwest::Client,
}

/// A request without a usable response.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Nothing was sent: the provider was not reached at all.
    #[error("the provider could not be reached: {0}")]
    NotSent(String),
    /// It may have been received: time ran out, or the connection broke.
    #[error("the provider gave no complete response: {0}")]
    NoResponse(String),
    /// It was received, and the response is longer than [`MAX_RESPONSE`].
    #[error("the provider's response is longer than {MAX_RESPONSE} bytes")]
    TooLong,
}

impl From<RequestError> for PollResult {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::TooLong => Self::TooLong,
            RequestError::NotSent(_) | RequestError::NoResponse(_) => Self::NoResponse,
        }
    }
}

/// What came of looking up the task of an interrupted submission.
#[derive(Clone, Debug)]
pub enum LookedUp {
    /// The provider has it.
    Found {
        /// The provider's id of the task.
        provider_task_id: String,
    },
    /// It is not known, or the provider could not be asked: as a status poll that said so.
    Unknown(PolledStatus),
}

/// What came of polling one task, and the response that said so.
#[derive(Clone, Debug)]
pub struct PolledStatus {
    /// What it means.
    pub result: PollResult,
    /// The body of the response, of what is no longer open: what it says about this task and no other. Empty without one.
    pub raw: Raw,
    /// The response, where this task alone was polled: of hundreds in one run they would not fit into memory.
    pub response: Option<ProviderResponse>,
}

impl PolledStatus {
    /// No request was possible.
    pub fn not_pollable() -> Self {
        Self::without_response(PollResult::NotPollable)
    }

    fn without_response(result: PollResult) -> Self {
        Self { result, raw: Raw::default(), response: None }
    }

    /// Whether a request was sent.
    pub fn was_sent(&self) -> bool {
        self.result != PollResult::NotPollable
    }

    fn of_response(result: PollResult, response: &ProviderResponse) -> Self {
        let is_open = matches!(result, PollResult::Response(StatusResult::Task(TaskStatus::Open(_))));
        let raw = if is_open { Raw::default() } else { Raw::new(&response.body) };
        Self { result, raw, response: None }
    }
}

/// How far polling several tasks may go.
#[derive(Clone, Copy, Debug)]
pub struct PollLimits {
    /// Requests in flight at once; 0 counts as 1.
    pub concurrency: usize,
    /// When no further request is sent. Those in flight are waited for.
    pub stop_at: Option<Instant>,
}

impl PollLimits {
    /// For a single task.
    pub const ONE_TASK: Self = Self { concurrency: 1, stop_at: None };

    /// Whether no further request is sent.
    pub fn is_over(&self) -> bool {
        self.stop_at.is_some_and(|stop_at| Instant::now() >= stop_at)
    }
}

impl ProviderClient {
    /// A client whose responses are complete within this time.
    pub fn new(response_timeout: Duration, connections: Connections) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::client_config(tls::public_roots()))
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(response_timeout)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(if connections == Connections::Kept { usize::MAX } else { 0 })
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .user_agent(concat!("reelhook/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { http })
    }

    /// Sends a request once.
    pub async fn send(&self, request: &Request, now: Timestamp) -> Result<ProviderResponse, RequestError> {
        let method = match request.method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
            Method::Delete => reqwest::Method::DELETE,
        };
        let mut sending = self.http.request(method, &request.url);
        for (name, value) in &request.headers {
            sending = sending.header(*name, value.expose());
        }
        if let Some(body) = &request.body {
            sending = sending.header(reqwest::header::CONTENT_TYPE, "application/json").body(body.clone());
        }
        let mut response = sending.send().await.map_err(|error| {
            // `without_url`: WaveSpeed takes the callback URL, with its token, in the query.
            if error.is_connect() || error.is_builder() {
                RequestError::NotSent(described(&error.without_url()))
            } else {
                RequestError::NoResponse(described(&error.without_url()))
            }
        })?;
        let status = response.status().as_u16();
        let retry_after = response.headers().get(reqwest::header::RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| retry_after::parse(value.to_str().ok()?, now));
        let retry_after = retry_after.map(|wait| wait.min(MAX_RETRY_AFTER));
        let mut body = Vec::new();
        while let Some(chunk) =
            response.chunk().await.map_err(|error| RequestError::NoResponse(described(&error.without_url())))?
        {
            if body.len() + chunk.len() > MAX_RESPONSE {
                return Err(RequestError::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(ProviderResponse { status, retry_after, body })
    }

    /// Polls the status of one task, by the calls that may know it until one does. Where the time is up before all were tried, "not
    /// found" is that of a guess.
    pub async fn poll_task(
        &self,
        record: &Record,
        settings: &ProviderSettings,
        limits: PollLimits,
        now: Timestamp,
    ) -> PolledStatus {
        let mut result = PolledStatus::not_pollable();
        for task in status_poll::polled_by_every_call(record) {
            if limits.is_over() {
                return PolledStatus::without_response(PollResult::NotFoundByGuess);
            }
            let polled = self.poll_status(record.task.provider(), &[task], settings, PollLimits::ONE_TASK, now).await;
            result = polled.into_iter().flatten().next().unwrap_or_else(PolledStatus::not_pollable);
            if result.result != PollResult::Response(StatusResult::NotFound) {
                break;
            }
        }
        result
    }

    /// Polls the status of tasks of one provider, several in one request where the provider takes several. The results stand
    /// in the order of the tasks; one that is missing was not polled: the time was up, or the provider limits the rate and
    /// gets no further request.
    ///
    /// A request that fails for what one of its tasks may be to blame for is split, down to single tasks, so that one bad id
    /// does not hide the others.
    pub async fn poll_status(
        &self,
        provider: Provider,
        tasks: &[PolledTask<'_>],
        settings: &ProviderSettings,
        limits: PollLimits,
        now: Timestamp,
    ) -> Vec<Option<PolledStatus>> {
        let mut results = vec![Some(PolledStatus::not_pollable()); tasks.len()];
        if !provider.is_pollable(settings) {
            return results;
        }
        let mut waiting = provider.adapter().status_requests(tasks, settings, now);
        for index in waiting.iter().flat_map(|request| &request.tasks) {
            results[*index] = None;
        }
        let mut in_flight = FuturesUnordered::new();
        loop {
            while in_flight.len() < limits.concurrency.max(1)
                && !limits.is_over()
                && let Some(request) = waiting.pop()
            {
                in_flight.push(async move {
                    let polled = self.poll_together(provider, tasks, &request, now).await;
                    (request, polled)
                });
            }
            let Some((request, polled)) = in_flight.next().await else { return results };
            if polled.iter().any(|polled| polled.result.limits_rate()) {
                waiting.clear();
            }
            let (first, second) = request.tasks.split_at(request.tasks.len() / 2);
            if !first.is_empty() && polled.iter().all(|polled| status_poll::may_be_one_tasks_fault(&polled.result)) {
                for half in [first, second] {
                    let of_half: Vec<_> = half.iter().map(|index| tasks[*index]).collect();
                    let requests = provider.adapter().status_requests(&of_half, settings, now);
                    waiting.extend(requests.into_iter().map(|request| StatusRequest {
                        tasks: request.tasks.iter().map(|index| half[*index]).collect(),
                        ..request
                    }));
                }
                continue;
            }
            for (index, polled) in request.tasks.into_iter().zip(polled) {
                results[index] = Some(polled);
            }
        }
    }

    /// Looks up the task of an interrupted submission by the id of ours that it carried. None where there is no call for it.
    pub async fn look_up(&self, record: &Record, settings: &ProviderSettings, now: Timestamp) -> Option<LookedUp> {
        let (adapter, marker) = (record.task.provider().adapter(), record.marker.as_deref()?);
        let request = adapter.lookup(marker, record.endpoint.as_deref(), settings, now)?;
        Some(match self.send(&request, now).await {
            Ok(response) => match adapter.read_lookup(&response, marker, now) {
                LookupResult::Found { provider_task_id } => LookedUp::Found { provider_task_id },
                LookupResult::Unknown(status) => {
                    LookedUp::Unknown(PolledStatus::of_response(PollResult::Response(status), &response))
                }
            },
            Err(error) => {
                tracing::warn!(task = %record.task, %error, "a submission could not be looked up");
                LookedUp::Unknown(PolledStatus::without_response(error.into()))
            }
        })
    }

    /// One status request, and what it says about each of its tasks.
    async fn poll_together(
        &self,
        provider: Provider,
        tasks: &[PolledTask<'_>],
        request: &StatusRequest,
        now: Timestamp,
    ) -> Vec<PolledStatus> {
        match self.send(&request.request, now).await {
            Ok(response) => {
                let of_request: Vec<_> = request.tasks.iter().map(|index| tasks[*index]).collect();
                // A panic over one response costs those in it one poll. They are polled one by one then, as after any response
                // that cannot be read.
                let reading = AssertUnwindSafe(|| read(provider, &of_request, &response, now));
                let mut polled = catch_unwind(reading).unwrap_or_else(|_| {
                    let unreadable = PollResult::Response(StatusResult::Unreadable);
                    vec![PolledStatus::of_response(unreadable, &response); of_request.len()]
                });
                if let ([only], 1) = (polled.as_mut_slice(), tasks.len()) {
                    only.response = Some(response);
                }
                polled
            }
            Err(error) => {
                tracing::warn!(%provider, %error, tasks = request.tasks.len(), "a status poll got no response");
                vec![PolledStatus::without_response(error.into()); request.tasks.len()]
            }
        }
    }
}

/// What a response says about each of the tasks that were polled by it.
fn read(
    provider: Provider,
    tasks: &[PolledTask<'_>],
    response: &ProviderResponse,
    now: Timestamp,
) -> Vec<PolledStatus> {
    let ids: Vec<_> = tasks.iter().map(|task| task.provider_task_id).collect();
    let parts = if ids.len() > 1 { batch::split(response, &ids) } else { None };
    let read = |(index, task): (usize, &PolledTask<'_>)| {
        let part = parts.as_ref().map_or(response, |parts| &parts[index]);
        let status = provider.adapter().read_status(part, task.provider_task_id, now);
        let result = PollResult::of(status, provider.adapter().guesses_status_call(task));
        PolledStatus::of_response(result, part)
    };
    tasks.iter().enumerate().map(read).collect()
}

/// An error with its causes; `reqwest` itself prints only the outermost.
fn described(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
