//! Stands between a function and what it calls: names each call, and breaks one of them.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use futures_util::future::pending;
use futures_util::stream;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::outage::Outage;

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::Display, strum::VariantArray)]
#[strum(serialize_all = "kebab-case")]
pub enum Fault {
    /// It gets a 500 and has no effect, and so has each repetition of it.
    Refused,
    /// It takes effect, and the connection breaks before the response is complete. The next attempt gets through.
    LostOnce,
    /// The same for each repetition of it: the function never learns what came of it.
    Lost,
    /// It takes effect only after all others have finished the task, long after every lease.
    Stalled,
    /// The process is killed, and the call has no effect.
    KilledBefore,
    /// The process is killed once the call has taken effect.
    KilledAfter,
}

/// A step: a call, and its number among the calls of the same name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Step {
    call: String,
    number: usize,
}

impl Step {
    /// Whether this is the submission itself, at the provider. AWS calls of its function are named by their action.
    pub fn is_submission(&self) -> bool {
        self.call.starts_with("POST /")
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} #{}", self.call, self.number)
    }
}

/// Watches the calls of one function while it is armed.
#[derive(Debug, Default)]
pub struct Injector {
    state: Mutex<Watched>,
    outage: Mutex<Option<Outage>>,
    /// The fault is under way: the process is to be killed, or the others are to go on without it.
    pub reached: Notify,
    /// A stalled call may go on.
    pub go_on: Notify,
    /// It has taken effect, whether or not its caller still waits for it.
    pub took_effect: Notify,
}

#[derive(Debug, Default)]
struct Watched {
    is_armed: bool,
    target: Option<(Step, Fault)>,
    /// The body and path of the broken call, by which its repetitions are known.
    broken: Option<(String, Bytes)>,
    counts: HashMap<String, usize>,
    steps: Vec<Step>,
}

impl Injector {
    fn state(&self) -> MutexGuard<'_, Watched> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins an outage, or ends it.
    pub fn set_outage(&self, outage: Option<Outage>) {
        *self.outage.lock().unwrap_or_else(PoisonError::into_inner) = outage;
    }

    /// The response to a call that is part of an outage.
    fn outage(&self, headers: &HeaderMap) -> Option<Response> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner).and_then(|outage| outage.response(headers))
    }

    /// Begins to watch, and to break `target` if there is one.
    pub fn arm(&self, target: Option<(Step, Fault)>) {
        *self.state() = Watched { is_armed: true, target, ..Watched::default() };
    }

    /// Stops watching. Returns the steps seen, and whether the target was among them.
    pub fn disarm(&self) -> (Vec<Step>, bool) {
        let mut state = self.state();
        state.is_armed = false;
        (state.steps.clone(), state.broken.is_some())
    }

    /// What is to happen to a call.
    fn fault(&self, call: &str, path: &str, body: &Bytes) -> Option<Fault> {
        let mut state = self.state();
        if !state.is_armed {
            return None;
        }
        let this = (path.to_owned(), body.clone());
        if let (Some((_, fault)), Some(broken)) = (&state.target, &state.broken) {
            let goes_on = matches!(fault, Fault::Refused | Fault::Lost) && *broken == this;
            return goes_on.then_some(*fault);
        }
        let number = state.counts.entry(call.to_owned()).and_modify(|count| *count += 1).or_insert(1);
        let step = Step { call: call.to_owned(), number: *number };
        state.steps.push(step.clone());
        let fault = state.target.as_ref().filter(|(target, _)| *target == step).map(|(_, fault)| *fault);
        if fault.is_some() {
            state.broken = Some(this);
        }
        fault
    }
}

/// A proxy on a port of 127.0.0.1. Dropping it stops it.
#[derive(Debug)]
pub struct Proxy {
    /// `http://127.0.0.1:PORT`.
    pub origin: String,
    server: JoinHandle<()>,
}

struct Forwarding {
    injector: Arc<Injector>,
    http: reqwest::Client,
    target: String,
}

impl Proxy {
    /// Forwards what comes to the listener to `target`, an origin.
    pub fn start(
        listener: TcpListener,
        target: &str,
        injector: Arc<Injector>,
        http: reqwest::Client,
    ) -> io::Result<Self> {
        let origin = format!("http://{}", listener.local_addr()?);
        let forwarding = Arc::new(Forwarding { injector, http, target: target.to_owned() });
        let limit = axum::extract::DefaultBodyLimit::disable();
        let application = Router::new().fallback(forward).layer(limit).with_state(forwarding);
        let server = tokio::spawn(async move {
            // Stops with this task. An error shows up as calls without a response.
            let _ = axum::serve(listener, application).await;
        });
        Ok(Self { origin, server })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn forward(
    State(proxy): State<Arc<Forwarding>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Some(response) = proxy.injector.outage(&headers) {
        return response;
    }
    let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let call = name(&method, &path, &headers);
    let fault = proxy.injector.fault(&call, &path, &body);
    let injector = Arc::clone(&proxy.injector);
    let pass = async move { proxy.pass(method, &path, headers, body).await };
    match fault {
        None => carried_out(pass).await,
        Some(Fault::Refused) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Some(Fault::LostOnce | Fault::Lost) => {
            carried_out(pass).await;
            let broken: Result<Bytes, io::Error> = Err(io::Error::other("the connection breaks"));
            Response::new(Body::from_stream(stream::iter([broken])))
        }
        Some(Fault::Stalled) => {
            let stalled = async move {
                injector.reached.notify_one();
                injector.go_on.notified().await;
                let response = pass.await;
                injector.took_effect.notify_one();
                response
            };
            carried_out(stalled).await
        }
        Some(Fault::KilledBefore) => {
            injector.reached.notify_one();
            pending().await
        }
        Some(Fault::KilledAfter) => {
            carried_out(pass).await;
            injector.reached.notify_one();
            pending().await
        }
    }
}

/// Goes on when the caller hangs up, as a request does that is on its way: axum drops only what waits here.
async fn carried_out(call: impl Future<Output = Response> + Send + 'static) -> Response {
    tokio::spawn(call).await.unwrap_or_else(|_| StatusCode::BAD_GATEWAY.into_response())
}

impl Forwarding {
    async fn pass(&self, method: Method, path: &str, mut headers: HeaderMap, body: Bytes) -> Response {
        headers.remove("host");
        let request = self.http.request(method, format!("{}{path}", self.target)).headers(headers).body(body);
        let Ok(response) = request.send().await else { return StatusCode::BAD_GATEWAY.into_response() };
        let (status, mut headers) = (response.status(), response.headers().clone());
        headers.remove("transfer-encoding");
        match response.bytes().await {
            Ok(body) => (status, headers, body).into_response(),
            // The origin broke off, so this does.
            Err(error) => Response::new(Body::from_stream(stream::iter([Err::<Bytes, _>(error)]))),
        }
    }
}

/// Names a call without what differs between two runs: ids, tokens, signatures.
fn name(method: &Method, path: &str, headers: &HeaderMap) -> String {
    if let Some(target) = headers.get("x-amz-target").and_then(|target| target.to_str().ok()) {
        return target.rsplit('.').next().unwrap_or(target).to_owned();
    }
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let is_id = |segment: &str| segment.len() > 9 && segment.bytes().any(|byte| byte.is_ascii_digit());
    let path: Vec<&str> = path.split('/').map(|segment| if is_id(segment) { "*" } else { segment }).collect();
    let part = query.split('&').find(|pair| pair.starts_with("partNumber=") || pair.starts_with("uploads"));
    let part = part.map(|part| format!("?{part}")).unwrap_or_default();
    let range = headers.get("range").and_then(|range| range.to_str().ok()).unwrap_or_default();
    format!("{method} {}{part} {range}", path.join("/")).trim_end().to_owned()
}
