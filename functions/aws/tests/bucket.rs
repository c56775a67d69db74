//! `result.json` over a connection that goes wrong.

use std::time::{Duration, Instant};

use aws_credential_types::Credentials;
use aws_sdk_s3::Client;
use reelhook_aws::bucket::{Bucket, BucketError};
use reelhook_aws::clients::{Clients, RetryPolicy};
use reelhook_core::annotations::Annotations;
use reelhook_core::callback::{Raw, Reporter};
use reelhook_core::report::{Failure, Outcome, Reason, Report};
use reelhook_core::result::{Parts, ResultDocument};
use reelhook_core::{Provider, TaskKey, Timestamp};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// A client as the copier has it: without time limits.
fn client(endpoint: &str) -> Client {
    let credentials = Credentials::new("key", "secret", None, None, "test");
    Clients::new(RetryPolicy::BACKGROUND, credentials, "us-east-1".to_owned(), Some(endpoint)).s3()
}

/// A server that reads requests and sends what is given, and then no more.
async fn silent(response: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                while connection.read(&mut request).await.is_ok_and(|read| read > 0) {
                    let is_get = request.starts_with(b"GET");
                    let refused = &b"HTTP/1.1 412 Precondition Failed\r\ncontent-length: 0\r\n\r\n"[..];
                    let response = if is_get || response.is_empty() { response } else { refused };
                    if connection.write_all(response).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    endpoint
}

async fn publish(endpoint: &str) -> Result<(), BucketError> {
    let policy = RetryPolicy {
        attempt: Duration::from_millis(200),
        operation: Duration::from_millis(900),
        attempts: 3,
        ..RetryPolicy::CALLBACK
    };
    let bucket = Bucket::new(&client(endpoint), "results".to_owned(), policy);
    let task = TaskKey::unregistered(Provider::Kling, "job-1");
    let document = ResultDocument::new(Parts {
        task: &task,
        provider_task_id: None,
        report: &Report::Failed(Failure::new(Reason::Unknown, false)),
        artifacts: vec![],
        missing: vec![],
        annotations: &Annotations::default(),
        reported_by: Reporter::Callback,
        raw: &Raw::default(),
        submitted_at: None,
        reported_at: None,
        finished_at: Timestamp::from_seconds(1_790_000_000),
    });
    bucket.publish(&task, Outcome::Failed, &document).await.map(drop)
}

/// The calls once had no time limit at all, and a task was held until its invocation ended.
#[tokio::test]
async fn a_connection_that_goes_silent_ends_with_an_error_in_time() {
    for response in ["", "HTTP/1.1 200 OK\r\ncontent-length: 100\r\netag: \"a\"\r\n\r\n{"] {
        let endpoint = silent(response.as_bytes()).await;
        let started = Instant::now();
        let error = tokio::time::timeout(Duration::from_secs(10), publish(&endpoint)).await.expect("an end in time");
        let error = error.expect_err("nothing was published");
        assert!(matches!(error, BucketError::Call { .. }), "{error}");
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}: {error}", started.elapsed());
    }
}
