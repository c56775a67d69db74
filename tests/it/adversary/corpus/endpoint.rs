//! Stands between a function and the emulator, and counts what the function asks of AWS.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// An AWS endpoint that passes every call on.
pub(super) struct CountingEndpoint {
    url: String,
    calls: Arc<Mutex<BTreeMap<String, usize>>>,
    server: JoinHandle<()>,
}

impl CountingEndpoint {
    pub(super) async fn start(emulator: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let calls = Arc::new(Mutex::new(BTreeMap::new()));
        let (counted, emulator) = (Arc::clone(&calls), emulator.to_owned());
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let forward = move |method: Method, uri: Uri, mut headers: HeaderMap, body: Bytes| async move {
            let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or("another call");
            *counted.lock().unwrap_or_else(PoisonError::into_inner).entry(target.to_owned()).or_default() += 1;
            headers.remove("host");
            let response = client.request(method, format!("{emulator}{uri}")).headers(headers).body(body).send().await;
            let response = response.expect("the emulator responds");
            let (status, mut headers): (StatusCode, HeaderMap) = (response.status(), response.headers().clone());
            headers.remove("transfer-encoding");
            (status, headers, response.bytes().await.expect("a complete response"))
        };
        let application = Router::new().fallback(forward);
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, application).await;
        });
        Self { url, calls, server }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Takes the counts since the last time.
    pub(super) fn take(&self) -> Calls {
        let calls = std::mem::take(&mut *self.calls.lock().unwrap_or_else(PoisonError::into_inner));
        let count =
            |service: &str| calls.iter().filter(|(target, _)| target.starts_with(service)).map(|(_, n)| n).sum();
        let (table, queue, settings) = (count("DynamoDB"), count("AmazonSQS"), count("secretsmanager.GetSecretValue"));
        Calls { table, queue, settings, other: calls.values().sum::<usize>() - table - queue - settings }
    }
}

impl Drop for CountingEndpoint {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// How often AWS was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Calls {
    pub(super) table: usize,
    pub(super) queue: usize,
    pub(super) settings: usize,
    pub(super) other: usize,
}
