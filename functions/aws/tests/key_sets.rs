//! The keys that a provider publishes, from a server that counts who asks for them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, LOCATION};
use axum::response::{IntoResponse as _, Response};
use reelhook_aws::key_sets::KeySets;
use reelhook_core::Provider;
use reelhook_core::key_set::{self, MAX_BYTES, PublicKey};
use tokio::net::TcpListener;
use tokio::time::{advance, pause, resume, sleep};

const OLD: &str = "Kay64UG8yvCyLhqU000LxzYeUm0L_hLIl5S8kyKWbdc";
const NEW: &str = "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg";

fn document(key: &str) -> String {
    format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","x":"{key}"}}]}}"#)
}

fn keys(key: &str) -> Vec<PublicKey> {
    key_set::parse(document(key).as_bytes()).expect("a key set")
}

/// How the server responds.
#[derive(Clone)]
enum Manner {
    Publishes(&'static str, &'static str),
    Fails,
    RedirectsTo(String),
    Says(String),
    IsSilent,
}

struct Server {
    url: String,
    manner: Arc<Mutex<Manner>>,
    requests: Arc<AtomicUsize>,
}

impl Server {
    async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/keys", listener.local_addr().expect("an address"));
        let (manner, requests) = (Arc::new(Mutex::new(manner)), Arc::new(AtomicUsize::new(0)));
        let (served, counted) = (Arc::clone(&manner), Arc::clone(&requests));
        let router = Router::new().fallback(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            respond(served.lock().expect("nobody panics").clone())
        });
        tokio::spawn(async { axum::serve(listener, router).await });
        Self { url, manner, requests }
    }

    fn becomes(&self, manner: Manner) {
        *self.manner.lock().expect("nobody panics") = manner;
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

async fn respond(manner: Manner) -> Response {
    match manner {
        Manner::Publishes(key, cache) => ([(CACHE_CONTROL, cache)], document(key)).into_response(),
        Manner::Fails => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Manner::RedirectsTo(url) => (StatusCode::FOUND, [(LOCATION, url)]).into_response(),
        Manner::Says(text) => text.into_response(),
        Manner::IsSilent => {
            sleep(Duration::from_mins(1)).await;
            StatusCode::OK.into_response()
        }
    }
}

/// Time passes for nobody but the store.
async fn let_pass(seconds: u64) {
    pause();
    advance(Duration::from_secs(seconds)).await;
    resume();
}

#[tokio::test]
async fn keys_are_fetched_once_in_their_life() {
    let server = Server::start(Manner::Publishes(OLD, "max-age=600")).await;
    let store = KeySets::default();
    assert_eq!(server.requests(), 0, "nobody needed one yet");
    for _ in 0..3 {
        assert_eq!(store.current(Provider::Kling, &server.url).await, keys(OLD));
    }
    assert_eq!(server.requests(), 1);
    server.becomes(Manner::Publishes(NEW, "max-age=600"));
    let_pass(599).await;
    assert_eq!(store.current(Provider::Kling, &server.url).await, keys(OLD));
    let_pass(2).await;
    assert_eq!(store.current(Provider::Kling, &server.url).await, keys(NEW));
    assert_eq!(server.requests(), 2);
}

/// Whoever posts forged signatures drives one request every 15 seconds.
#[tokio::test]
async fn unknown_signatures_fetch_them_again_at_intervals() {
    let server = Server::start(Manner::Publishes(OLD, "max-age=86400")).await;
    let store = KeySets::default();
    assert_eq!(store.current(Provider::Kling, &server.url).await, keys(OLD));
    server.becomes(Manner::Publishes(NEW, "max-age=86400"));
    for _ in 0..50 {
        assert_eq!(store.refresh(Provider::Kling, &server.url).await.expect("the last attempt went well"), keys(OLD));
    }
    assert_eq!(server.requests(), 1);
    let_pass(61).await;
    for _ in 0..50 {
        assert_eq!(store.refresh(Provider::Kling, &server.url).await.expect("it can be had"), keys(NEW));
    }
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn old_keys_stay_in_use_while_new_ones_cannot_be_had() {
    let server = Server::start(Manner::Publishes(OLD, "max-age=60")).await;
    let store = KeySets::default();
    assert_eq!(store.current(Provider::Kling, &server.url).await, keys(OLD));
    server.becomes(Manner::Fails);
    let_pass(3600).await;
    for _ in 0..10 {
        assert_eq!(store.current(Provider::Kling, &server.url).await, keys(OLD));
    }
    assert_eq!(server.requests(), 2, "an outage is not made worse");
    // Whether a signature that they do not fit is wrong, nobody can say now.
    let error = store.refresh(Provider::Kling, &server.url).await.expect_err("the last attempt failed").to_string();
    assert_eq!(error, "the provider's public keys cannot be fetched: HTTP 500");
    server.becomes(Manner::Publishes(NEW, "max-age=60"));
    let_pass(61).await;
    assert_eq!(store.current(Provider::Kling, &server.url).await, keys(NEW));
}

/// The invocation ends while the keys are awaited. Afterwards nobody can say whether a signature is wrong.
#[tokio::test]
async fn an_interrupted_attempt_is_a_failed_one() {
    let server = Server::start(Manner::IsSilent).await;
    let store = KeySets::default();
    let fetching = store.current(Provider::Kling, &server.url);
    tokio::time::timeout(Duration::from_millis(500), fetching).await.expect_err("it is silent");
    assert_eq!(store.current(Provider::Kling, &server.url).await, []);
    let error = store.refresh(Provider::Kling, &server.url).await.expect_err("it was interrupted").to_string();
    assert!(error.ends_with("the attempt was interrupted"), "{error}");
}

#[tokio::test]
async fn what_is_no_key_set_gives_no_keys() {
    let elsewhere = Server::start(Manner::Publishes(OLD, "")).await;
    for (manner, reason) in [
        (Manner::Fails, "HTTP 500"),
        (Manner::RedirectsTo(elsewhere.url.clone()), "HTTP 302"),
        (Manner::Says(format!("{}{}", document(OLD), " ".repeat(MAX_BYTES))), "more than 65536 bytes"),
        (Manner::Says("<html>".to_owned()), "it is not a JSON Web Key Set with an Ed25519 key"),
        (Manner::IsSilent, "no response in time"),
    ] {
        let server = Server::start(manner).await;
        let store = KeySets::default();
        assert_eq!(store.current(Provider::Kling, &server.url).await, [], "{reason}");
        let error = store.refresh(Provider::Kling, &server.url).await.expect_err("it failed").to_string();
        assert!(error.ends_with(reason), "{error}");
        assert_eq!(server.requests(), 1, "{reason}");
    }
    assert_eq!(elsewhere.requests(), 0, "redirects are not followed");
}
