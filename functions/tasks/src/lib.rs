//! The application's side of the hub, on a Function URL behind IAM.
//!
//! | request | does |
//! |---|---|
//! | `PUT /tasks/{provider}/{id}` with the provider's own request body | submits the task, exactly once under this id |
//! | `PUT /tasks/{provider}/{id}?provider_task_id=…` without a body | registers a task the caller submitted itself |
//! | `GET /tasks/{provider}/{id}` | shows it |
//! | `GET /tasks/{provider}/{id}/callback-url` | hands out the callback URL, and writes nothing |
//!
//! `?endpoint=/…` names the provider's endpoint where it has several. `?interrupted=resubmit` repeats a submission of which
//! nobody knows whether it arrived; without it such a submission is never repeated, because it may be paid for already.
//!
//! The record is written before the provider is called, so a callback that is faster than the provider's answer finds it,
//! and a process that dies in between leaves a trace: a record without a provider task id.

mod view;

use std::time::Duration;

use lambda_http::http::{Method, StatusCode, header};
use lambda_http::{Body, Request, RequestExt as _, Response};
use percent_encoding::percent_decode_str;
use reelhook_aws::asking::{AskError, ProviderClient};
use reelhook_aws::settings::SettingsStore;
use reelhook_aws::table::{Registered, Registration, Table};
use reelhook_aws::telemetry::now;
use reelhook_core::providers::{Submission, SubmissionAnswer};
use reelhook_core::record::{Record, State, SubmissionMark, fingerprint};
use reelhook_core::report::{Failure, Reason};
use reelhook_core::schedule::Pace;
use reelhook_core::settings::Settings;
use reelhook_core::{Provider, TaskId, TaskKey, Timestamp};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// How long a provider may take to answer a submission. The function itself ends after 30 s, and the answer has to be
/// written down before that.
pub const SUBMIT_WITHIN: Duration = Duration::from_secs(20);

/// Seconds after which a submission without an answer counts as interrupted: [`SUBMIT_WITHIN`], and the writing down.
const UNDER_WAY: i64 = 25;

/// How long a second caller waits for the first one's submission, and how often it looks. A little shorter than the
/// function's own 30 s.
const WAIT_FOR_OTHER: Duration = Duration::from_secs(24);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What the function works with.
#[derive(Debug)]
pub struct Hub {
    /// The table.
    pub table: Table,
    /// The settings.
    pub settings: SettingsStore,
    /// The client for the providers; its time-out is [`SUBMIT_WITHIN`].
    pub providers: ProviderClient,
    /// Where providers reach the callback function, when the settings name no other place.
    pub callback_base_url: String,
}

/// An answer that is no success: what happened, to which task, and what to do.
#[derive(Debug)]
struct Problem {
    status: StatusCode,
    error: &'static str,
    message: String,
    failure: Option<Box<Failure>>,
    task: Option<Value>,
}

impl Problem {
    fn new(status: StatusCode, error: &'static str, message: impl Into<String>) -> Self {
        Self { status, error, message: message.into(), failure: None, task: None }
    }

    fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", message)
    }

    fn ours(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "a request could not be served");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the hub could not do this at the moment; try again")
    }

    fn response(self) -> Response<Body> {
        let mut body = json!({ "error": self.error, "message": self.message });
        if let Some(failure) = self.failure {
            body["provider"] = json!(failure);
        }
        if let Some(task) = self.task {
            body["task"] = task;
        }
        respond(self.status, &body)
    }
}

/// What a path asks for.
enum Wanted {
    Task,
    CallbackUrl,
}

/// Answers one request. Never fails: whatever goes wrong has a status of its own.
pub async fn handle(hub: &Hub, request: Request) -> Response<Body> {
    match serve(hub, &request).await {
        Ok(response) => response,
        Err(problem) => problem.response(),
    }
}

async fn serve(hub: &Hub, request: &Request) -> Result<Response<Body>, Problem> {
    let not_found = || {
        Problem::new(
            StatusCode::NOT_FOUND,
            "no_such_path",
            "expected /tasks/{provider}/{id} or /tasks/{provider}/{id}/callback-url",
        )
    };
    let path = request.raw_http_path().trim_end_matches('/');
    let parts: Vec<&str> = path.split('/').collect();
    let (provider, id, wanted) = match parts[..] {
        ["", "tasks", provider, id] => (provider, id, Wanted::Task),
        ["", "tasks", provider, id, "callback-url"] => (provider, id, Wanted::CallbackUrl),
        _ => return Err(not_found()),
    };
    let provider = Provider::from_name(provider).ok_or_else(|| {
        let message = format!("there is no provider {provider:?}; known are: {}", Provider::names());
        Problem::new(StatusCode::NOT_FOUND, "no_such_provider", message)
    })?;
    let settings = hub.settings.get().await.map_err(|error| Problem::ours(&error))?;
    match (request.method(), wanted) {
        (&Method::GET, Wanted::Task) => show(hub, &settings, provider, id).await,
        (&Method::GET, Wanted::CallbackUrl) => {
            let id = if id == reelhook_core::token::STATIC_ID { None } else { Some(task_id(id)?) };
            let url = hub.callback_url(&settings, provider, id.as_ref());
            Ok(respond(StatusCode::OK, &json!({ "callback_url": url })))
        }
        (&Method::PUT, Wanted::Task) => put(hub, &settings, provider, &task_id(id)?, request).await,
        (_, wanted) => {
            let (allowed, message) = match wanted {
                Wanted::Task => ("GET, PUT", "a task is put or got"),
                Wanted::CallbackUrl => ("GET", "a callback URL is got"),
            };
            let mut response = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", message).response();
            response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static(allowed));
            Ok(response)
        }
    }
}

fn task_id(text: &str) -> Result<TaskId, Problem> {
    text.parse().map_err(|error| Problem::invalid(format!("{error}")))
}

impl Hub {
    fn callback_url(&self, settings: &Settings, provider: Provider, id: Option<&TaskId>) -> String {
        let base = settings.callback_base_url.as_deref().unwrap_or(&self.callback_base_url).trim_end_matches('/');
        format!("{base}{}", settings.callback_keys.path(provider, id))
    }
}

async fn show(hub: &Hub, settings: &Settings, provider: Provider, id: &str) -> Result<Response<Body>, Problem> {
    let decoded = percent_decode_str(id).decode_utf8_lossy();
    let registered = decoded.parse::<TaskId>().ok();
    let key = match &registered {
        Some(id) => TaskKey::registered(provider, id),
        // A task nobody registered: its provider's id, as it is or as it stands in the key.
        None => format!("{provider}/{id}").parse().unwrap_or_else(|_| TaskKey::unregistered(provider, &decoded)),
    };
    let record = hub.table.get(&key).await.map_err(|error| Problem::ours(&error))?;
    let record = record.ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, "no_such_task", format!("{key} was neither put nor heard of"))
    })?;
    let callback_url = hub.callback_url(settings, provider, registered.as_ref());
    Ok(respond(StatusCode::OK, &view::of(&record, &callback_url, now())))
}

async fn put(
    hub: &Hub,
    settings: &Settings,
    provider: Provider,
    id: &TaskId,
    request: &Request,
) -> Result<Response<Body>, Problem> {
    let query = request.query_string_parameters();
    for (name, _) in query.iter() {
        if !matches!(name, "endpoint" | "provider_task_id" | "interrupted") {
            return Err(Problem::invalid(format!("{name:?} is no parameter of a PUT")));
        }
    }
    let given = |name: &str| query.first(name).filter(|value| !value.is_empty());
    let pace = Pace::new(provider.adapter().profile(), &settings.provider(provider).poll);
    let put = Put {
        hub,
        settings,
        provider,
        key: TaskKey::registered(provider, id),
        callback_url: hub.callback_url(settings, provider, Some(id)),
        endpoint: given("endpoint"),
        pace,
    };
    let body: &[u8] = request.body();
    match given("provider_task_id") {
        Some(_) if !body.is_empty() => Err(Problem::invalid(
            "a body submits a task, provider_task_id registers one that was submitted; give one of the two",
        )),
        Some(provider_task_id) => put.register(provider_task_id).await,
        None => {
            let body: Value = serde_json::from_slice(body).map_err(|error| {
                Problem::invalid(format!("the body has to be the provider's own request body as JSON: {error}"))
            })?;
            let resubmit = match given("interrupted") {
                None => false,
                Some("resubmit") => true,
                Some(other) => return Err(Problem::invalid(format!("interrupted={other:?} is not \"resubmit\""))),
            };
            put.submit(&body, resubmit).await
        }
    }
}

/// One PUT.
struct Put<'a> {
    hub: &'a Hub,
    settings: &'a Settings,
    provider: Provider,
    key: TaskKey,
    callback_url: String,
    endpoint: Option<&'a str>,
    pace: Pace,
}

impl Put<'_> {
    fn view(&self, status: StatusCode, record: &Record) -> Response<Body> {
        respond(status, &view::of(record, &self.callback_url, now()))
    }

    fn conflict(&self, error: &'static str, message: impl Into<String>, record: &Record) -> Problem {
        let mut problem = Problem::new(StatusCode::CONFLICT, error, message);
        problem.task = Some(view::of(record, &self.callback_url, now()));
        problem
    }

    async fn stored(&self) -> Result<Record, Problem> {
        let record = self.hub.table.get(&self.key).await.map_err(|error| Problem::ours(&error))?;
        record.ok_or_else(|| Problem::ours(&format!("{} vanished between two calls", self.key)))
    }

    /// A task the caller submitted itself.
    async fn register(&self, provider_task_id: &str) -> Result<Response<Body>, Problem> {
        let registration = Registration {
            task: self.key.clone(),
            provider_task_id: Some(provider_task_id.to_owned()),
            endpoint: self.endpoint.map(str::to_owned),
            submission: None,
            due_at: now().plus(self.pace.first),
            deadline_at: now().plus(self.pace.deadline),
        };
        let registered = self.hub.table.register(&registration, now()).await.map_err(|error| Problem::ours(&error))?;
        let held = match registered {
            Registered::New => return Ok(self.view(StatusCode::CREATED, &self.stored().await?)),
            Registered::Existing(held) => *held,
        };
        let record = match &held.provider_task_id {
            Some(_) => held,
            // The callback was faster, or a submission was interrupted and the caller found out what became of it.
            None => self
                .hub
                .table
                .submitted(&self.key, provider_task_id, self.endpoint, now(), now().plus(self.pace.first))
                .await
                .map_err(|error| Problem::ours(&error))?,
        };
        if record.provider_task_id.as_deref() == Some(provider_task_id) {
            return Ok(self.view(StatusCode::OK, &record));
        }
        Err(self.conflict("other_task", format!("{} is another task of the provider", self.key), &record))
    }

    /// Submits, exactly once under this id.
    async fn submit(&self, body: &Value, resubmit: bool) -> Result<Response<Body>, Problem> {
        let adapter = self.provider.adapter();
        let own = self.settings.provider(self.provider);
        let submission = Submission { body, endpoint: self.endpoint, callback_url: &self.callback_url };
        // Everything that can be wrong with the request is found before anything is written.
        let request = adapter
            .submission(&submission, own, now())
            .map_err(|error| Problem::invalid(format!("{} was not submitted: {error}", self.key)))?;
        let mark = self.mark(body);
        let registration = Registration {
            task: self.key.clone(),
            provider_task_id: None,
            endpoint: self.endpoint.map(str::to_owned),
            submission: Some(mark.clone()),
            due_at: self.first_visit(),
            deadline_at: now().plus(self.pace.deadline),
        };
        let registered = self.hub.table.register(&registration, now()).await.map_err(|error| Problem::ours(&error))?;
        let repeated = match registered {
            Registered::New => false,
            Registered::Existing(held) => match self.existing(*held, &mark, resubmit).await? {
                Some(answer) => return Ok(answer),
                None => true,
            },
        };
        match self.hub.providers.ask(&request).await {
            Ok(answered) => match adapter.read_submission(&answered.as_answer()) {
                SubmissionAnswer::Accepted { provider_task_id } => self.accepted(&provider_task_id).await,
                // A provider in trouble may have made the task before the trouble, whatever its words: only a refusal for a
                // reason of ours proves that there is none.
                SubmissionAnswer::Refused(failure) if leaves_doubt(&failure, answered.status()) => {
                    let words = failure.message.or(failure.code).unwrap_or_else(|| "no reason was given".to_owned());
                    tracing::error!(task = %self.key, http_status = answered.status(), "the provider had trouble with a submission");
                    self.left_open(mark, format!("met trouble of the provider ({words})")).await
                }
                // This one is refused, the interrupted one before it may exist.
                SubmissionAnswer::Refused(failure) if repeated => {
                    let words = failure.message.or(failure.code).unwrap_or_else(|| "no reason was given".to_owned());
                    self.left_open(mark, format!("was repeated and refused ({words}), the one before it")).await
                }
                SubmissionAnswer::Refused(failure) => self.refused(&mark, failure).await,
                SubmissionAnswer::Unclear(why) => {
                    tracing::error!(task = %self.key, http_status = answered.status(), why, "the answer to a submission is unclear");
                    self.left_open(mark, format!("was answered unclearly by the provider ({why})")).await
                }
            },
            Err(AskError::NotSent(why)) if repeated => {
                self.left_open(mark, format!("could not be repeated ({why}), the one before it")).await
            }
            Err(AskError::NotSent(why)) => {
                tracing::warn!(task = %self.key, why, "the provider could not be reached");
                self.hub.table.withdraw(&self.key, &mark).await.map_err(|error| Problem::ours(&error))?;
                let message =
                    format!("{} was not submitted: the provider could not be reached ({why}); try again", self.key);
                Err(Problem::new(StatusCode::BAD_GATEWAY, "provider_unreachable", message))
            }
            Err(AskError::NoAnswer(why)) => {
                tracing::error!(task = %self.key, why, "a submission got no answer");
                self.left_open(mark, format!("got no answer from the provider ({why})")).await
            }
        }
    }

    /// There is a record under this id. Gives back its answer, or none when its interrupted submission is to be repeated, now
    /// under the new mark.
    async fn existing(
        &self,
        held: Record,
        mark: &SubmissionMark,
        resubmit: bool,
    ) -> Result<Option<Response<Body>>, Problem> {
        let Some(theirs) = &held.submission else {
            // Known from a callback or by registration: there is a task already, and its request is unknown.
            let message = format!("{} exists and was not submitted here; choose another id for a new task", self.key);
            return Err(self.conflict("exists", message, &held));
        };
        if theirs.fingerprint != mark.fingerprint {
            let message = format!("{} was submitted with another request; choose another id", self.key);
            return Err(self.conflict("other_request", message, &held));
        }
        if held.provider_task_id.is_some() || held.state != State::Pending {
            // The same request, the same answer.
            return Ok(Some(self.view(StatusCode::OK, &held)));
        }
        if theirs.under_way_until > now() {
            // Another caller is submitting it at this moment. Its outcome is ours too; nothing is begun after waiting for it,
            // because there would be no time left to write down what came of it.
            return self.wait_for_other(theirs).await.map(Some);
        }
        if !resubmit {
            return Err(self.interrupted("was interrupted", &held));
        }
        let deadline_at = Some(now().plus(self.pace.deadline));
        let ours =
            self.hub.table.resubmit(&self.key, theirs, mark, self.endpoint, self.first_visit(), deadline_at).await;
        if !ours.map_err(|error| Problem::ours(&error))? {
            let message = format!("{} is being repeated by another request; get it in a moment", self.key);
            return Err(self.conflict("under_way", message, &held));
        }
        tracing::warn!(task = %self.key, "an interrupted submission is repeated at the caller's wish");
        Ok(None)
    }

    /// Waits for the submission another caller is making, and answers with what came of it.
    async fn wait_for_other(&self, theirs: &SubmissionMark) -> Result<Response<Body>, Problem> {
        let end = Instant::now() + WAIT_FOR_OTHER;
        loop {
            sleep(LOOK_EVERY).await;
            let record = self.hub.table.get(&self.key).await.map_err(|error| Problem::ours(&error))?;
            let Some(record) = record else {
                let message =
                    format!("{} was submitted by another request and refused by the provider; put it again", self.key);
                return Err(Problem::new(StatusCode::CONFLICT, "refused_meanwhile", message));
            };
            if record.provider_task_id.is_some() || record.state != State::Pending {
                return Ok(self.view(StatusCode::OK, &record));
            }
            if record.submission.as_ref() != Some(theirs) {
                return Err(self.interrupted("was interrupted", &record));
            }
            if Instant::now() > end {
                let message = format!("{} is being submitted by another request; get it in a moment", self.key);
                return Err(self.conflict("under_way", message, &record));
            }
        }
    }

    fn mark(&self, body: &Value) -> SubmissionMark {
        SubmissionMark { fingerprint: fingerprint(self.endpoint, body), under_way_until: now().plus(UNDER_WAY) }
    }

    /// Not before the submission has its answer or is known to have none.
    fn first_visit(&self) -> Timestamp {
        now().plus(self.pace.first.max(UNDER_WAY))
    }

    async fn accepted(&self, provider_task_id: &str) -> Result<Response<Body>, Problem> {
        tracing::info!(task = %self.key, provider_task_id, "submitted");
        match self.hub.table.submitted(&self.key, provider_task_id, None, now(), now().plus(self.pace.first)).await {
            Ok(record) => Ok(self.view(StatusCode::CREATED, &record)),
            Err(error) => {
                tracing::error!(task = %self.key, provider_task_id, %error, "the id of a submitted task could not be written down");
                let message = format!(
                    "{} was submitted and its id {provider_task_id} could not be recorded; put it again with \
                     ?provider_task_id={provider_task_id} and no body. Its callback is taken all the same",
                    self.key
                );
                Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "submitted_not_recorded", message))
            }
        }
    }

    /// The provider made no task, so the id is free again.
    async fn refused(&self, mark: &SubmissionMark, failure: Failure) -> Result<Response<Body>, Problem> {
        tracing::warn!(
            task = %self.key, reason = failure.reason.name(), code = failure.code.as_deref(), "the provider refused a submission"
        );
        let withdrawn = self.hub.table.withdraw(&self.key, mark).await.map_err(|error| Problem::ours(&error))?;
        if !withdrawn {
            // Somebody has heard of a task under this URL after all; what is known counts.
            return Ok(self.view(StatusCode::OK, &self.stored().await?));
        }
        let status = match failure.reason {
            Reason::InvalidParameters | Reason::ContentModeration => StatusCode::UNPROCESSABLE_ENTITY,
            Reason::InsufficientCredits => StatusCode::PAYMENT_REQUIRED,
            Reason::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::BAD_GATEWAY,
        };
        let words = failure.message.as_deref().or(failure.code.as_deref()).unwrap_or("no reason was given");
        let message = format!("{} was refused by the provider and is not recorded: {words}", self.key);
        Err(Problem { failure: Some(Box::new(failure)), ..Problem::new(status, "refused_by_provider", message) })
    }

    /// Nobody knows whether there is a task. The record stays, so that its callback is taken, and says so.
    async fn left_open(&self, mark: SubmissionMark, what: String) -> Result<Response<Body>, Problem> {
        // From now on it counts as interrupted, and a repeated request need not wait to be told.
        let over = SubmissionMark { under_way_until: now(), ..mark.clone() };
        if let Err(error) = self.hub.table.resubmit(&self.key, &mark, &over, None, self.first_visit(), None).await {
            tracing::warn!(task = %self.key, %error, "an interrupted submission is known as such a little later");
        }
        let record = self.stored().await?;
        if record.provider_task_id.is_some() || record.state != State::Pending {
            // The callback told us meanwhile.
            return Ok(self.view(StatusCode::OK, &record));
        }
        Err(Problem { status: StatusCode::GATEWAY_TIMEOUT, ..self.interrupted(&what, &record) })
    }

    fn interrupted(&self, what: &str, record: &Record) -> Problem {
        let message = format!(
            "the submission of {} {what}, and nobody knows whether the provider has the task. It is not repeated by itself. If \
             it exists, its callback will be taken; look it up at the provider and put it with ?provider_task_id=…, or put \
             it again with ?interrupted=resubmit, which may pay twice",
            self.key
        );
        self.conflict("interrupted", message, record)
    }
}

/// Whether a refusal leaves it open if there is a task. The provider's own trouble always does. Under a 5xx so does all but a
/// reason that lies with us: relays put the words of whatever failed behind them under it.
fn leaves_doubt(failure: &Failure, http_status: u16) -> bool {
    use Reason::{ContentModeration, InsufficientCredits, InvalidParameters, ProviderError, RateLimited, Timeout};
    match failure.reason {
        ProviderError | Timeout => true,
        ContentModeration | InvalidParameters | InsufficientCredits | RateLimited => false,
        _ => http_status >= 500,
    }
}

fn respond(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}
