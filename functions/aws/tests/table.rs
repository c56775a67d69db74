//! Reading many records at once, from a table that leaves some out.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_credential_types::Credentials;
use axum::Router;
use reelhook_aws::clients::{Clients, RetryPolicy};
use reelhook_aws::table::{Table, TableError};
use reelhook_core::{Provider, TaskKey};
use serde_json::{Value, json};

/// Most keys that `DynamoDB` takes in one request.
const MAX_KEYS: usize = 100;

/// A table in which each task is open, but for those named: one is gone, one is damaged, and for one there is no capacity at first.
async fn table(capacity_after: usize) -> Table {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let requests = Arc::new(AtomicUsize::new(0));
    let respond = move |body: String| async move {
        let is_short = requests.fetch_add(1, Ordering::Relaxed) < capacity_after;
        let request: Value = serde_json::from_str(&body).expect("JSON");
        let wanted = &request["RequestItems"]["tasks"];
        assert_eq!(wanted["ConsistentRead"], true);
        let keys = wanted["Keys"].as_array().expect("keys").clone();
        assert!((1..=MAX_KEYS).contains(&keys.len()), "{} keys", keys.len());
        let (mut items, mut unprocessed) = (vec![], vec![]);
        for key in keys {
            let state = match key["task"]["S"].as_str().expect("a key") {
                "kling/gone" => continue,
                "kling/throttled" if is_short => {
                    unprocessed.push(key);
                    continue;
                }
                "kling/damaged" => "asleep",
                _ => "pending",
            };
            items.push(json!({ "task": key["task"], "state": { "S": state } }));
        }
        let unprocessed = if unprocessed.is_empty() { json!({}) } else { json!({ "tasks": { "Keys": unprocessed } }) };
        json!({ "Responses": { "tasks": items }, "UnprocessedKeys": unprocessed }).to_string()
    };
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(respond)).await });
    let credentials = Credentials::new("key", "secret", None, None, "test");
    let clients = Clients::new(RetryPolicy::POLL, credentials, "us-east-1".to_owned(), Some(&endpoint));
    Table::new(clients.dynamodb(), "tasks".to_owned())
}

async fn read(capacity_after: usize) -> Result<Vec<TaskKey>, TableError> {
    // Twice, as a task that moves while its shard is read is found twice.
    let names = ["gone", "damaged", "throttled", "throttled"].into_iter().map(str::to_owned);
    let names = names.chain((0..2 * MAX_KEYS).map(|number| format!("job-{number:03}")));
    let tasks: Vec<_> = names.map(|name| TaskKey::unregistered(Provider::Kling, &name)).collect();
    let mut read: Vec<_> =
        table(capacity_after).await.records(&tasks).await?.into_iter().map(|record| record.task).collect();
    read.sort();
    Ok(read)
}

#[tokio::test]
async fn records_that_cannot_be_read_do_not_hide_the_others() {
    let jobs = (0..2 * MAX_KEYS).map(|number| format!("job-{number:03}"));
    let expected: Vec<_> =
        jobs.chain(["throttled".to_owned()]).map(|name| TaskKey::unregistered(Provider::Kling, &name)).collect();
    for capacity_after in [0, 4] {
        assert_eq!(read(capacity_after).await.expect("it has capacity in the end"), expected);
    }
    let error = read(usize::MAX).await.expect_err("it never has");
    assert!(error.to_string().contains("the table left out 1 of them"), "{error}");
}
