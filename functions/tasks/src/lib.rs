//! The application's side, on a Function URL behind IAM.
//!
//! | request | does |
//! |---|---|
//! | `PUT /tasks/{provider}/{id}` with the provider's own request body | submits the task, exactly once under this id |
//! | `PUT /tasks/{provider}/{id}?provider_task_id=…` without a body | registers a task the caller submitted itself |
//! | `GET /tasks/{provider}/{id}` | shows it; with `?wait=20` once it is final, or after so many seconds |
//! | `DELETE /tasks/{provider}/{id}` | asks the provider to cancel it |
//! | `GET /tasks/{provider}/{id}/callback-url` | returns the callback URL, and writes nothing |
//!
//! `?endpoint=/…` names the provider's endpoint where it has several. `?interrupted=resubmit` repeats a submission of which
//! nobody knows whether it arrived; without it such a submission is never repeated, because it may be paid for already.
//!
//! The record is written before the provider is called, so a callback that is faster than the provider's response finds it,
//! and a process that dies in between leaves a trace: a record without a provider task id.

mod cancel;
mod problem;
mod put;
mod submit;

use std::time::Duration;

use lambda_http::http::{Method, StatusCode};
use lambda_http::{Body, Request, RequestExt as _, Response};
use percent_encoding::percent_decode_str;
use reelhook_aws::clock;
use reelhook_aws::provider_client::ProviderClient;
use reelhook_aws::settings::SettingsStore;
use reelhook_aws::table::Table;
use reelhook_core::record::Record;
use reelhook_core::settings::Settings;
use reelhook_core::token::STATIC_ID;
use reelhook_core::{Provider, TaskId, TaskKey, Timestamp, view};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::problem::{Problem, respond};

/// Longest `?wait=`, in seconds: a little shorter than the function's own 30 s.
const MAX_WAIT: u64 = 25;

/// How often a task is read that a caller waits for: half a read unit each.
const READ_INTERVAL: Duration = Duration::from_secs(1);

/// What the function works with.
#[derive(Debug)]
pub struct App {
    /// The table.
    pub table: Table,
    /// The settings.
    pub settings: SettingsStore,
    /// The client for the providers; its time-out is [`reelhook_core::submission::SUBMIT_TIMEOUT`].
    pub providers: ProviderClient,
    /// Where providers reach the callback function, when the settings name no other place.
    pub callback_base_url: String,
}

/// What a path names.
enum Resource {
    Task,
    CallbackUrl,
}

/// Serves one request. Never fails: whatever goes wrong has a status of its own.
pub async fn handle(app: &App, request: Request) -> Response<Body> {
    serve(app, &request, clock::now()).await.unwrap_or_else(Problem::response)
}

async fn serve(app: &App, request: &Request, now: Timestamp) -> Result<Response<Body>, Problem> {
    let (provider, id, resource) = resource(request.raw_http_path())?;
    let settings = app.settings.get().await.map_err(|error| Problem::unavailable(&error))?;
    match (request.method(), resource) {
        (&Method::GET, Resource::Task) => show(app, &settings, provider, id, wait(request)?).await,
        (&Method::GET, Resource::CallbackUrl) => {
            if !provider.calls_back() {
                return Err(Problem::invalid(format!("{provider} sends no callbacks; its tasks are polled")));
            }
            let id = if id == STATIC_ID { None } else { Some(task_id(id)?) };
            if id.is_none() && !provider.has_static_url() {
                return Err(Problem::invalid(format!(
                    "{provider} has no static callback URL: its callbacks do not say enough about the task; use a URL per task"
                )));
            }
            let url = callback_url(app, &settings, provider, id.as_ref());
            Ok(respond(StatusCode::OK, &json!({ "callback_url": url })))
        }
        (&Method::PUT, Resource::Task) => {
            let id = task_id(id)?;
            let callback_url = callback_url(app, &settings, provider, Some(&id));
            put::put(app, &settings, TaskKey::registered(provider, &id), callback_url, request, now).await
        }
        (&Method::DELETE, Resource::Task) => {
            let (key, registered) = key_of(provider, id);
            let callback_url = callback_url(app, &settings, provider, registered.as_ref());
            cancel::cancel(app, &settings, &key, &callback_url).await
        }
        (_, Resource::Task) => Err(Problem::method("GET, PUT, DELETE", "use GET, PUT or DELETE")),
        (_, Resource::CallbackUrl) => Err(Problem::method("GET", "use GET")),
    }
}

fn resource(path: &str) -> Result<(Provider, &str, Resource), Problem> {
    let parts: Vec<&str> = path.trim_end_matches('/').split('/').collect();
    let (provider, id, resource) = match parts[..] {
        ["", "tasks", provider, id] => (provider, id, Resource::Task),
        ["", "tasks", provider, id, "callback-url"] => (provider, id, Resource::CallbackUrl),
        _ => {
            let expected = "expected /tasks/{provider}/{id} or /tasks/{provider}/{id}/callback-url";
            return Err(Problem::new(StatusCode::NOT_FOUND, "no_such_path", expected));
        }
    };
    let provider = Provider::from_name(provider).ok_or_else(|| {
        let message = format!("there is no provider {provider:?}; use one of: {}", Provider::names());
        Problem::new(StatusCode::NOT_FOUND, "no_such_provider", message)
    })?;
    Ok((provider, id, resource))
}

fn task_id(text: &str) -> Result<TaskId, Problem> {
    text.parse().map_err(|error| Problem::invalid(format!("{error}")))
}

fn callback_url(app: &App, settings: &Settings, provider: Provider, id: Option<&TaskId>) -> String {
    let base = settings.callback_base_url.as_deref().unwrap_or(&app.callback_base_url).trim_end_matches('/');
    format!("{base}{}", settings.callback_keys.path(provider, id))
}

/// How long a caller waits for the end of the task.
fn wait(request: &Request) -> Result<Duration, Problem> {
    let query = request.query_string_parameters();
    if let Some((other, _)) = query.iter().find(|(name, _)| *name != "wait") {
        return Err(Problem::invalid(format!("unknown parameter {other:?}; use wait")));
    }
    let Some(wait) = query.first("wait") else { return Ok(Duration::ZERO) };
    let seconds = wait.parse().ok().filter(|seconds| *seconds <= MAX_WAIT);
    seconds
        .map(Duration::from_secs)
        .ok_or_else(|| Problem::invalid(format!("wait={wait:?} is not a whole number of seconds from 0 to {MAX_WAIT}")))
}

/// The key of the task that a path names, and the caller's own id, where it is one.
fn key_of(provider: Provider, id: &str) -> (TaskKey, Option<TaskId>) {
    let decoded = percent_decode_str(id).decode_utf8_lossy();
    let registered = decoded.parse::<TaskId>().ok();
    let key = match &registered {
        Some(id) => TaskKey::registered(provider, id),
        // A task nobody registered: its provider's id, as it is or as it stands in the key.
        None => format!("{provider}/{id}").parse().unwrap_or_else(|_| TaskKey::unregistered(provider, &decoded)),
    };
    (key, registered)
}

/// The record of a task.
pub(crate) async fn existing(app: &App, key: &TaskKey) -> Result<Record, Problem> {
    let record = app.table.get(key).await?;
    record.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "no_such_task", format!("task not found: {key}")))
}

async fn show(
    app: &App,
    settings: &Settings,
    provider: Provider,
    id: &str,
    wait: Duration,
) -> Result<Response<Body>, Problem> {
    let end = Instant::now() + wait;
    let (key, registered) = key_of(provider, id);
    loop {
        let record = existing(app, &key).await?;
        if record.state.is_final() || Instant::now() + READ_INTERVAL > end {
            let callback_url = callback_url(app, settings, provider, registered.as_ref());
            return Ok(respond(StatusCode::OK, &view::of(&record, Some(&callback_url), clock::now())));
        }
        sleep(READ_INTERVAL).await;
    }
}
