//! Reading many records at once, from a table that leaves some out.

use aws_credential_types::Credentials;
use axum::Router;
use reelhook_aws::clients::{Clients, RetryPolicy};
use reelhook_aws::table::Table;
use reelhook_core::{Provider, TaskKey};
use serde_json::{Value, json};

/// Most keys that `DynamoDB` takes in one request.
const MAX_KEYS: usize = 100;

/// A table in which each task is open, but for those named: one is gone, one is damaged, and for one there is no capacity.
async fn table() -> Table {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let respond = |body: String| async move {
        let request: Value = serde_json::from_str(&body).expect("JSON");
        let wanted = &request["RequestItems"]["tasks"];
        assert_eq!(wanted["ConsistentRead"], true);
        let keys = wanted["Keys"].as_array().expect("keys").clone();
        assert!((1..=MAX_KEYS).contains(&keys.len()), "{} keys", keys.len());
        let (mut items, mut unprocessed) = (vec![], vec![]);
        for key in keys {
            let state = match key["task"]["S"].as_str().expect("a key") {
                "kling/gone" => continue,
                "kling/throttled" => {
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

#[tokio::test]
async fn records_that_cannot_be_read_do_not_hide_the_others() {
    let names = ["gone", "damaged", "throttled"].into_iter().map(str::to_owned);
    let names = names.chain((0..2 * MAX_KEYS).map(|number| format!("job-{number}")));
    let tasks: Vec<_> = names.map(|name| TaskKey::unregistered(Provider::Kling, &name)).collect();
    let mut read: Vec<_> =
        table().await.records(&tasks).await.expect("it responds").into_iter().map(|it| it.task).collect();
    let mut expected = tasks[3..].to_vec();
    read.sort();
    expected.sort();
    assert_eq!(read, expected);
}
