//! A Lambda runtime API for one function process: starts a function binary as Lambda would, records when it requests its
//! first event, and invokes it. For startup measurements, and for tests that give a process its own environment.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::{Path as Parameter, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{Error, REGION};

/// A function process and its runtime API. Dropping it stops both.
#[derive(Debug)]
pub struct Function {
    process: Child,
    server: tokio::task::JoinHandle<()>,
    events: mpsc::UnboundedSender<Event>,
    first_next: watch::Receiver<Option<Instant>>,
    started: Instant,
}

/// How an invocation ended.
#[derive(Clone, Debug, PartialEq)]
pub enum InvocationResult {
    /// The function returned this.
    Response(Value),
    /// The function reported this error.
    Error(Value),
    /// The process exited before it responded.
    Exited,
}

#[derive(Debug)]
struct Event {
    payload: Value,
    timeout: Duration,
    done: oneshot::Sender<InvocationResult>,
}

#[derive(Debug)]
struct RuntimeState {
    events: tokio::sync::Mutex<mpsc::UnboundedReceiver<Event>>,
    in_flight: Mutex<HashMap<String, oneshot::Sender<InvocationResult>>>,
    first_next: watch::Sender<Option<Instant>>,
}

impl Function {
    /// Starts a binary with this environment and what the runtime needs, and nothing else. Its output is dropped, unless
    /// [`keep_output_in`] said where to keep it.
    pub async fn start(binary: &Path, environment: &[(String, String)]) -> Result<Self, Error> {
        let (output, errors) = kept_output(binary).map_err(Error::system("cannot keep the output of a function"))?;
        Self::start_with_output(binary, environment, output, errors).await
    }

    /// The same with its standard output and its standard error sent elsewhere.
    pub async fn start_with_output(
        binary: &Path,
        environment: &[(String, String)],
        output: Stdio,
        errors: Stdio,
    ) -> Result<Self, Error> {
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(Error::system("cannot listen on 127.0.0.1"))?;
        let address = listener.local_addr().map_err(Error::system("cannot listen on 127.0.0.1"))?;
        let (events, receiver) = mpsc::unbounded_channel();
        let (first_next_sender, first_next) = watch::channel(None);
        let state = Arc::new(RuntimeState {
            events: tokio::sync::Mutex::new(receiver),
            in_flight: Mutex::default(),
            first_next: first_next_sender,
        });
        let application = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(response))
            .route("/2018-06-01/runtime/invocation/{id}/error", post(error))
            .with_state(state);
        let server = tokio::spawn(async move {
            // Stops with this task. An error shows up as an invocation without a response.
            let _ = axum::serve(listener, application).await;
        });
        let started = Instant::now();
        let process = Command::new(binary)
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", "function")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/function")
            .env("AWS_LAMBDA_LOG_STREAM_NAME", "stream")
            .env("AWS_REGION", REGION)
            .env("AWS_ACCESS_KEY_ID", crate::ACCESS_KEY_ID)
            .env("AWS_SECRET_ACCESS_KEY", crate::SECRET_ACCESS_KEY)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .kill_on_drop(true)
            .spawn()
            .map_err(Error::system(format!("cannot start {}", binary.display())))?;
        Ok(Self { process, server, events, first_next, started })
    }

    /// Waits until the process requests its first event. Returns the time since its start, or `None` if it exits first.
    pub async fn time_to_first_next(&mut self) -> Option<Duration> {
        let at = tokio::select! {
            requested = self.first_next.wait_for(Option::is_some) => requested.ok().and_then(|at| *at),
            _ = self.process.wait() => None,
        };
        at.map(|at| at.duration_since(self.started))
    }

    /// When the process was started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The id of the process; none when it has exited.
    pub fn id(&self) -> Option<u32> {
        self.process.id()
    }

    /// Peak resident memory of the process so far, in KiB.
    pub fn peak_memory(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()?)).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }

    /// Invokes the function and waits for its result. One event at a time, as on Lambda. The `timeout` sets the deadline
    /// that the function sees; it is not enforced.
    pub async fn invoke(&mut self, payload: Value, timeout: Duration) -> InvocationResult {
        let (done, result) = oneshot::channel();
        if self.events.send(Event { payload, timeout, done }).is_err() {
            return InvocationResult::Exited;
        }
        tokio::select! {
            result = result => result.unwrap_or(InvocationResult::Exited),
            _ = self.process.wait() => InvocationResult::Exited,
        }
    }
}

/// Where the output of functions is kept.
static OUTPUT: OnceLock<PathBuf> = OnceLock::new();

/// Keeps the output of every function that this process starts from now on, each in a file of its own in this directory. Only
/// the first call counts.
pub fn keep_output_in(directory: PathBuf) {
    let _ = OUTPUT.set(directory);
}

fn kept_output(binary: &Path) -> std::io::Result<(Stdio, Stdio)> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let Some(directory) = OUTPUT.get() else { return Ok((Stdio::null(), Stdio::null())) };
    let name = binary.file_name().unwrap_or_default().to_string_lossy();
    let file = File::create(directory.join(format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed))))?;
    Ok((file.try_clone()?.into(), file.into()))
}

impl Drop for Function {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn next(State(state): State<Arc<RuntimeState>>) -> Result<(HeaderMap, String), StatusCode> {
    state.first_next.send_if_modified(|first| {
        let is_first = first.is_none();
        first.get_or_insert_with(Instant::now);
        is_first
    });
    let event = state.events.lock().await.recv().await.ok_or(StatusCode::GONE)?;
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let id = format!("{:032x}", since_epoch.as_nanos());
    let deadline = (since_epoch + event.timeout).as_millis().to_string();
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("lambda-runtime-aws-request-id", id.as_str()),
        ("lambda-runtime-deadline-ms", deadline.as_str()),
        ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:us-east-1:000000000000:function:function"),
        ("content-type", "application/json"),
    ] {
        headers.insert(name, value.parse().map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?);
    }
    state.in_flight.lock().unwrap_or_else(PoisonError::into_inner).insert(id, event.done);
    Ok((headers, event.payload.to_string()))
}

async fn response(
    State(state): State<Arc<RuntimeState>>,
    Parameter(id): Parameter<String>,
    body: String,
) -> StatusCode {
    state.finish(&id, InvocationResult::Response(serde_json::from_str(&body).unwrap_or(Value::String(body))))
}

async fn error(State(state): State<Arc<RuntimeState>>, Parameter(id): Parameter<String>, body: String) -> StatusCode {
    state.finish(&id, InvocationResult::Error(serde_json::from_str(&body).unwrap_or(Value::String(body))))
}

impl RuntimeState {
    fn finish(&self, id: &str, result: InvocationResult) -> StatusCode {
        match self.in_flight.lock().unwrap_or_else(PoisonError::into_inner).remove(id) {
            Some(done) => {
                // The caller may have stopped waiting.
                let _ = done.send(result);
                StatusCode::ACCEPTED
            }
            None => StatusCode::NOT_FOUND,
        }
    }
}
