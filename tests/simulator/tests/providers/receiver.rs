//! A receiver of callbacks on its own port, whose responses a test chooses.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{Router, body::Body, extract::State, response::Response};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Uri};
use serde_json::Value;
use tokio::net::TcpListener;

/// A callback as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// Path and query.
    pub(crate) path: String,
    headers: HeaderMap,
    /// The body, byte for byte.
    pub(crate) body: Bytes,
}

impl Received {
    /// The value of a header; empty if it is missing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

#[derive(Default)]
struct Seen {
    received: Vec<Received>,
    statuses: VecDeque<u16>,
}

type Shared = Arc<Mutex<Seen>>;

fn locked(shared: &Shared) -> MutexGuard<'_, Seen> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A receiver that returns 200, echoes challenges, and records what it receives.
pub(crate) struct Receiver {
    origin: String,
    seen: Shared,
    server: tokio::task::JoinHandle<()>,
}

impl Receiver {
    /// Starts a receiver.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let origin = format!("http://{}", listener.local_addr().expect("an address"));
        let seen = Shared::default();
        let application = Router::new().fallback(receive).with_state(Arc::clone(&seen));
        let server = tokio::spawn(async move { axum::serve(listener, application).await.expect("serves") });
        Self { origin, seen, server }
    }

    /// A URL of the receiver.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    /// Responds to the next requests with these statuses.
    pub(crate) fn respond_with(&self, statuses: &[u16]) {
        locked(&self.seen).statuses.extend(statuses);
    }

    /// The callbacks so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        locked(&self.seen).received.clone()
    }

    /// Waits for this many callbacks.
    pub(crate) async fn wait_for(&self, count: usize) -> Vec<Received> {
        for _ in 0..1000 {
            let received = self.received();
            if received.len() >= count {
                return received;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} of {count} callbacks: {:?}", self.received().len(), self.received());
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn receive(State(seen): State<Shared>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let mut seen = locked(&seen);
    let is_challenge = serde_json::from_slice::<Value>(&body).is_ok_and(|body| !body["challenge"].is_null());
    let response_body = if is_challenge { Body::from(body.clone()) } else { Body::empty() };
    seen.received.push(Received { path: uri.to_string(), headers, body });
    let mut response = Response::new(response_body);
    let status = seen.statuses.pop_front().unwrap_or(200);
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    response
}
