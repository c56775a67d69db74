//! A Lambda runtime API for one function process: starts a function binary as Lambda would, notes when it asks for its first
//! event, and hands it events. For measuring a start, and for tests that give one process an environment of its own.

use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
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

/// A function process and the runtime API it was started against. Both end when it is dropped.
#[derive(Debug)]
pub struct Function {
    process: Child,
    serving: tokio::task::JoinHandle<()>,
    events: mpsc::UnboundedSender<Event>,
    first_next: watch::Receiver<Option<Instant>>,
    started: Instant,
}

/// How an invocation ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Invoked {
    /// The function answered.
    Response(Value),
    /// The function reported an error.
    Error(Value),
    /// The process ended without an answer.
    Died,
}

#[derive(Debug)]
struct Event {
    payload: Value,
    time_limit: Duration,
    done: oneshot::Sender<Invoked>,
}

#[derive(Debug)]
struct Served {
    events: tokio::sync::Mutex<mpsc::UnboundedReceiver<Event>>,
    open: Mutex<HashMap<String, oneshot::Sender<Invoked>>>,
    first_next: watch::Sender<Option<Instant>>,
}

impl Function {
    /// Starts a binary with nothing in its environment but what is given and what the runtime needs.
    pub async fn start(binary: &Path, environment: &[(String, String)]) -> Result<Self, Error> {
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(Error::system("cannot listen on 127.0.0.1"))?;
        let address = listener.local_addr().map_err(Error::system("cannot listen on 127.0.0.1"))?;
        let (events, receiver) = mpsc::unbounded_channel();
        let (first_next_sender, first_next) = watch::channel(None);
        let served = Arc::new(Served {
            events: tokio::sync::Mutex::new(receiver),
            open: Mutex::default(),
            first_next: first_next_sender,
        });
        let application = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(response))
            .route("/2018-06-01/runtime/invocation/{id}/error", post(error))
            .with_state(served);
        let serving = tokio::spawn(async move {
            // Ends with the task; a failure shows as an invocation without an answer.
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
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(Error::system(format!("cannot start {}", binary.display())))?;
        Ok(Self { process, serving, events, first_next, started })
    }

    /// Waits until the process asks for its first event, and gives back how long that took from its start.
    pub async fn time_to_first_next(&mut self) -> Option<Duration> {
        let at = tokio::select! {
            asked = self.first_next.wait_for(Option::is_some) => asked.ok().and_then(|at| *at),
            _ = self.process.wait() => None,
        };
        at.map(|at| at.duration_since(self.started))
    }

    /// Highest resident memory of the process so far, in KiB.
    pub fn peak_memory(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()?)).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }

    /// Hands the process an event and waits for its answer. One event at a time, as Lambda does.
    pub async fn invoke(&mut self, payload: Value, time_limit: Duration) -> Invoked {
        let (done, answer) = oneshot::channel();
        if self.events.send(Event { payload, time_limit, done }).is_err() {
            return Invoked::Died;
        }
        tokio::select! {
            answer = answer => answer.unwrap_or(Invoked::Died),
            _ = self.process.wait() => Invoked::Died,
        }
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn next(State(served): State<Arc<Served>>) -> Result<(HeaderMap, String), StatusCode> {
    served.first_next.send_if_modified(|first| {
        let is_first = first.is_none();
        first.get_or_insert_with(Instant::now);
        is_first
    });
    let event = served.events.lock().await.recv().await.ok_or(StatusCode::GONE)?;
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let id = format!("{:032x}", since_epoch.as_nanos());
    let deadline = (since_epoch + event.time_limit).as_millis().to_string();
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("lambda-runtime-aws-request-id", id.as_str()),
        ("lambda-runtime-deadline-ms", deadline.as_str()),
        ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:us-east-1:000000000000:function:function"),
        ("content-type", "application/json"),
    ] {
        headers.insert(name, value.parse().map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?);
    }
    served.open.lock().unwrap_or_else(PoisonError::into_inner).insert(id, event.done);
    Ok((headers, event.payload.to_string()))
}

async fn response(State(served): State<Arc<Served>>, Parameter(id): Parameter<String>, body: String) -> StatusCode {
    served.finish(&id, Invoked::Response(serde_json::from_str(&body).unwrap_or(Value::String(body))))
}

async fn error(State(served): State<Arc<Served>>, Parameter(id): Parameter<String>, body: String) -> StatusCode {
    served.finish(&id, Invoked::Error(serde_json::from_str(&body).unwrap_or(Value::String(body))))
}

impl Served {
    fn finish(&self, id: &str, invoked: Invoked) -> StatusCode {
        match self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(id) {
            Some(done) => {
                // Whoever waited may have given up.
                let _ = done.send(invoked);
                StatusCode::ACCEPTED
            }
            None => StatusCode::NOT_FOUND,
        }
    }
}
