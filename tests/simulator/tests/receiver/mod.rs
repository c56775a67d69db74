//! A receiver of callbacks on a port of its own, whose answers a test chooses.

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
    /// The path with its query.
    pub(crate) path: String,
    headers: HeaderMap,
    /// The body, byte for byte.
    pub(crate) body: Bytes,
}

impl Received {
    /// The value of a header; empty without it.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

#[derive(Default)]
struct Seen {
    received: Vec<Received>,
    answers: VecDeque<u16>,
}

type Shared = Arc<Mutex<Seen>>;

fn locked(shared: &Shared) -> MutexGuard<'_, Seen> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A receiver that answers 200, gives challenges back, and keeps what it gets.
pub(crate) struct Receiver {
    origin: String,
    seen: Shared,
    server: tokio::task::JoinHandle<()>,
}

impl Receiver {
    /// Starts one.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let origin = format!("http://{}", listener.local_addr().expect("an address"));
        let seen = Shared::default();
        let application = Router::new().fallback(receive).with_state(Arc::clone(&seen));
        let server = tokio::spawn(async move { axum::serve(listener, application).await.expect("serves") });
        Self { origin, seen, server }
    }

    /// Its address with a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    /// Lets the next requests be answered with these statuses.
    pub(crate) fn answer_with(&self, statuses: &[u16]) {
        locked(&self.seen).answers.extend(statuses);
    }

    /// What has come so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        locked(&self.seen).received.clone()
    }

    /// Waits until so many have come.
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
    let challenged = serde_json::from_slice::<Value>(&body).is_ok_and(|body| !body["challenge"].is_null());
    let answer = if challenged { Body::from(body.clone()) } else { Body::empty() };
    seen.received.push(Received { path: uri.to_string(), headers, body });
    let mut response = Response::new(answer);
    let status = seen.answers.pop_front().unwrap_or(200);
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    response
}
