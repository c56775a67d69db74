//! The one HTTP client for the providers' APIs. It sends what an adapter described, and gives back what came, bounded in
//! time and size. It follows no redirect: an API that moves is a matter for the settings, and a redirect could carry the API
//! key to another host.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use reelhook_core::providers::{Answer, Method, PolledTask, Request, StatusAnswer};
use reelhook_core::settings::ProviderSettings;
use reelhook_core::{Provider, Timestamp};

/// Longest answer that is read, in bytes. A list of 500 tasks is far below it.
const LARGEST_ANSWER: usize = 4 * 1024 * 1024;

/// How long a provider may take to be connected, and to answer in full.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Questions to one provider under way at once, within one call of [`ProviderClient::ask_after`]. Chosen freely; no provider
/// documents a limit for questions.
const QUESTIONS_AT_ONCE: usize = 10;

/// Longest wait a provider may ask for, in seconds. What it asks beyond that is not believed: links die and deadlines pass.
const LONGEST_RETRY_AFTER: u32 = 3600;

/// The client.
#[derive(Clone, Debug)]
pub struct ProviderClient {
    http: reqwest::Client,
}

/// An answer that was read to its end.
#[derive(Clone, Debug)]
pub struct Answered {
    status: u16,
    retry_after: Option<u32>,
    body: Vec<u8>,
}

/// A question without an answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nothing was sent: the provider was not reached at all.
    #[error("the provider could not be reached: {0}")]
    NotSent(String),
    /// It may have been received: time ran out, the connection broke, or the answer was too long.
    #[error("the provider gave no complete answer: {0}")]
    NoAnswer(String),
}

impl Answered {
    /// As an adapter reads it.
    pub fn as_answer(&self) -> Answer<'_> {
        Answer { status: self.status, retry_after: self.retry_after, body: &self.body }
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.status
    }
}

impl ProviderClient {
    /// A client whose answers are complete within this time.
    pub fn new(answer_within: Duration) -> Result<Self, reqwest::Error> {
        // Another part of the process may have installed it already, and it is the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_WITHIN)
            .timeout(answer_within)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .user_agent(concat!("reelhook/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { http })
    }

    /// Sends a request once.
    pub async fn ask(&self, request: &Request) -> Result<Answered, AskError> {
        let method = match request.method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
        };
        let mut sending = self.http.request(method, &request.url);
        for (name, value) in &request.headers {
            sending = sending.header(*name, value.expose());
        }
        if let Some(body) = &request.body {
            sending = sending.header(reqwest::header::CONTENT_TYPE, "application/json").body(body.clone());
        }
        let mut answer = sending.send().await.map_err(|error| {
            // `without_url`: status URLs carry task ids only, but what an operator configured as base is theirs.
            if error.is_connect() || error.is_builder() {
                AskError::NotSent(described(&error.without_url()))
            } else {
                AskError::NoAnswer(described(&error.without_url()))
            }
        })?;
        let status = answer.status().as_u16();
        let retry_after = answer
            .headers()
            .get(reqwest::header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.trim().parse().ok())
            .map(|seconds: u32| seconds.min(LONGEST_RETRY_AFTER));
        let mut body = Vec::new();
        while let Some(chunk) =
            answer.chunk().await.map_err(|error| AskError::NoAnswer(described(&error.without_url())))?
        {
            if body.len() + chunk.len() > LARGEST_ANSWER {
                return Err(AskError::NoAnswer(format!("the answer is longer than {LARGEST_ANSWER} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answered { status, retry_after, body })
    }
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

/// What a provider says about one task, and the body it said it in.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The answer.
    pub answer: StatusAnswer,
    /// The body.
    pub body: Arc<Answered>,
}

impl ProviderClient {
    /// Asks a provider after some of its tasks, several in one call where it can. The answers stand in the order of the
    /// tasks; one that cannot be asked after has none, and neither has one whose question got no answer.
    pub async fn ask_after(
        &self,
        provider: Provider,
        tasks: &[PolledTask<'_>],
        settings: &ProviderSettings,
        now: Timestamp,
    ) -> Vec<Option<Asked>> {
        let adapter = provider.adapter();
        let mut answers = vec![None; tasks.len()];
        let questions = adapter.status_requests(tasks, settings, now);
        let mut asked = stream::iter(questions)
            .map(|question| async move { (self.ask(&question.request).await, question.tasks) })
            .buffer_unordered(QUESTIONS_AT_ONCE);
        while let Some((answer, covered)) = asked.next().await {
            match answer {
                Ok(answered) => {
                    let body = Arc::new(answered);
                    for index in covered {
                        let Some(task) = tasks.get(index) else { continue };
                        let answer = adapter.read_status(&body.as_answer(), task.provider_task_id, now);
                        answers[index] = Some(Asked { answer, body: Arc::clone(&body) });
                    }
                }
                Err(error) => {
                    tracing::warn!(%provider, %error, tasks = covered.len(), "a status question got no answer");
                }
            }
        }
        answers
    }
}
