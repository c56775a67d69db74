//! The quick version of the load, and that its check finds what is wrong.

use std::path::{Path, PathBuf};
use std::time::Duration;

use load::remote::{Remote, TABLE};
use load::report;
use load::run::{Load, run};
use load::system::{AwsKind, Layout, System};
use local::Progress;
use reqwest::Method;
use serde_json::json;

const TASKS: u64 = 300;

/// `poll` runs every two seconds instead of every minute, and polls a task for the first time after three. Leases and delays in the
/// functions are the real ones: with calls failing one at a time, none of them is waited for.
fn layout() -> Layout {
    Layout {
        profile: if cfg!(debug_assertions) { "dev" } else { "release" }.to_owned(),
        aws: AwsKind::Fast,
        callback: 4,
        tasks: 4,
        process: 4,
        schedule: Duration::from_secs(2),
        first_poll: Duration::from_secs(3),
        progress: Progress::Terminal,
    }
}

/// The second program: whether it is content, and what it prints.
async fn check(remote: &Remote, manifest: &Path) -> (bool, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_load"));
    command.args(["check", "--endpoint", remote.endpoint(), "--manifest"]).arg(manifest);
    let output = command.output().await.expect("the check runs");
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_task_ends_exactly_once_and_right_and_the_check_names_what_does_not() {
    let load = Load {
        tasks: TASKS,
        seed: 1,
        failing_calls: 0.01,
        late_after: Duration::from_secs(5),
        // Three failing attempts in a row, in one run of two hundred, cost a task its lease of a minute and a half.
        time_limit: Duration::from_mins(5),
    };
    let manifest = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("quick-manifest.jsonl");
    let mut system = System::start(&layout()).await.expect("it starts");
    let finished = run(&mut system, &load, &manifest).await.expect("it runs");
    let report = report::of(&system, &finished).await;
    let (is_content, printed) = check(&system.remote, &manifest).await;
    assert!(is_content && finished.errors.is_empty(), "{report}{printed}");
    damage_is_named(&system.remote, &manifest).await;
}

/// Damages table, bucket and queue, and has each damage named.
async fn damage_is_named(remote: &Remote, manifest: &Path) {
    let keys = remote.keys().await.expect("the bucket responds");
    let videos: Vec<&String> = keys.iter().filter(|key| key.ends_with("video.mp4")).collect();
    let task = |video: &str| video["tasks/".len()..].trim_end_matches("/video.mp4").to_owned();
    let [deleted, altered, rewritten, unsettled, ..] = videos[..] else { panic!("there are videos") };
    let object = async |key: &String| remote.object(key).await.expect("the bucket responds").expect("an object");
    let write =
        async |key: &str, bytes| remote.s3(Method::PUT, &format!("/{key}"), bytes).await.expect("it is written");
    let call = async |target, request| remote.call(target, &request).await.expect("it is done");

    remote.s3(Method::DELETE, &format!("/{deleted}"), vec![]).await.expect("it is deleted");
    let mut bytes = object(altered).await;
    *bytes.last_mut().expect("a byte") ^= 1;
    write(altered, bytes).await;
    write(rewritten, object(rewritten).await).await;
    write("tasks/kling/load-000000/stray.mp4", vec![0]).await;
    let number = json!({ "N": "1" });
    let stray = json!({ "task": { "S": "kling/stray" }, "due_shard": number, "due_at": number });
    call("DynamoDB_20120810.PutItem", json!({ "TableName": TABLE, "Item": stray })).await;
    let failed = json!({
        "TableName": TABLE,
        "Key": { "task": { "S": task(unsettled) } },
        "UpdateExpression": "SET #state = :failed",
        "ExpressionAttributeNames": { "#state": "state" },
        "ExpressionAttributeValues": { ":failed": { "S": "failed" } },
    });
    call("DynamoDB_20120810.UpdateItem", failed).await;
    call("AmazonSQS.SendMessage", json!({ "QueueUrl": remote.queue_url("dead"), "MessageBody": "{}" })).await;

    let (is_content, printed) = check(remote, manifest).await;
    assert!(!is_content, "{printed}");
    for problem in [
        format!("{}: {deleted} is not in the bucket", task(deleted)),
        format!("{}: {altered} is not a file of the provider", task(altered)),
        format!("{}: {rewritten} was announced 2 times", task(rewritten)),
        "tasks/kling/load-000000/stray.mp4: there is an object, and no result names it".to_owned(),
        "kling/stray: there is a record, and nobody submitted the task".to_owned(),
        "kling/stray: is still due".to_owned(),
        format!("{}: is failed, not archived", task(unsettled)),
        "the queue dead: 1 messages wait, 0 are hidden".to_owned(),
    ] {
        assert!(printed.contains(&problem), "{problem:?} is not in:\n{printed}");
    }
}
