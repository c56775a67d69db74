//! Settings of many cold starts at once, from a store that limits the rate.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_credential_types::Credentials;
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::retry::RetryPartition;
use axum::Router;
use axum::http::StatusCode;
use futures_util::future::join_all;
use reelhook_aws::clients::{Clients, RetryPolicy};
use reelhook_aws::settings::SettingsStore;
use serde_json::json;
use tokio::time::timeout;

const COLD_STARTS: usize = 500;

/// What the tightest provider leaves for a callback: 5 s without what the network takes.
const TIGHTEST: Duration = Duration::from_millis(3500);

/// A store that gives so many reads a second, and as many at once after a pause, as the services of AWS do.
async fn store(reads_per_second: u32) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let rate = f64::from(reads_per_second);
    let bucket = Arc::new(Mutex::new((Instant::now(), rate)));
    let application = Router::new().fallback(move || async move {
        let mut bucket = bucket.lock().expect("no panic");
        let tokens = (bucket.1 + bucket.0.elapsed().as_secs_f64() * rate).min(rate);
        if tokens < 1.0 {
            *bucket = (Instant::now(), tokens);
            let error = json!({ "__type": "ThrottlingException", "message": "Rate exceeded" });
            return (StatusCode::BAD_REQUEST, error.to_string());
        }
        *bucket = (Instant::now(), tokens - 1.0);
        let settings = json!({ "version": 1, "callback": { "keys": ["sixteen-characters"] } }).to_string();
        (StatusCode::OK, json!({ "Name": "settings", "SecretString": settings }).to_string())
    });
    tokio::spawn(async move { axum::serve(listener, application).await });
    endpoint
}

/// How many of the cold starts have settings in time. Each is a process of its own, so none shares the SDK's budget for
/// retries with another.
async fn have_settings(reads_per_second: u32, within: Duration) -> usize {
    let endpoint = store(reads_per_second).await;
    let credentials = Credentials::new("key", "secret", None, None, "test");
    let clients = Clients::new(RetryPolicy::CALLBACK, credentials, "us-east-1".to_owned(), Some(&endpoint));
    let stores: Vec<_> = (0..COLD_STARTS)
        .map(|index| {
            let partition = RetryPartition::new(format!("process-{index}"));
            let config = clients.secrets().config().to_builder().retry_partition(partition).build();
            SettingsStore::new(Client::from_conf(config), "settings".to_owned())
        })
        .collect();
    let reads = stores.iter().map(|store| timeout(within, store.get()));
    join_all(reads).await.into_iter().filter(|read| matches!(read, Ok(Ok(_)))).count()
}

/// One after the other, because they measure time.
#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_cold_starts_at_once_have_settings_in_time() {
    assert_eq!(have_settings(10_000, TIGHTEST).await, COLD_STARTS, "the rate of Secrets Manager");
    // Reads are retried until the callback has to be answered. Three tries in two seconds were too few.
    assert_eq!(have_settings(250, TIGHTEST).await, COLD_STARTS, "a store that others use as well");
    // Why settings are not in Parameter Store: 40 at once, 40 in each second, and no more.
    let served = have_settings(40, TIGHTEST).await;
    assert!((100..COLD_STARTS / 2).contains(&served), "{served} at the rate of Parameter Store");
    print(served);
}

#[expect(clippy::print_stdout, reason = "a figure for whoever runs it with --nocapture")]
fn print(served: usize) {
    println!("{served} of {COLD_STARTS} have settings within {TIGHTEST:?} at 40 reads a second");
}
