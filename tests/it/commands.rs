//! The commands for any deployment, given nothing but the stack's name and an endpoint, with their real output.

use std::fs;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use local::Progress;
use local::functions::build_packages;
use serde_json::{Value, json};
use simulator::Provider;
use tokio::io::AsyncWriteExt as _;
use tokio::time::sleep;

use crate::Case;
use crate::world::{World, call};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(a_task_is_submitted_awaited_shown_and_downloaded),
        case!(each_end_has_an_exit_code_of_its_own),
        case!(what_is_lost_is_copied_again_once_the_provider_confirms_it),
        case!(a_sample_callback_is_signed_and_a_replay_is_a_duplicate),
        case!(verify_says_which_part_is_wrong),
        case!(a_deployment_is_examined),
        case!(what_cannot_be_done_says_what_to_do),
    ]
}

/// What a command printed, and its exit code.
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ran {
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {} {}", self.stdout, self.stderr))
    }
}

/// Runs a command against the deployed stack.
async fn command(world: &World, arguments: &[&str], input: &[u8]) -> Ran {
    let built = build_packages(&["local"], "dev", Progress::Silent).await.expect("it is built");
    let mut command = world.stack.emulator().command(&built["local"]);
    command.args(["--stack", "reelhook-it", "--endpoint", world.stack.endpoint()]).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    child.stdin.take().expect("a pipe").write_all(input).await.expect("it is written");
    let output = child.wait_with_output().await.expect("it ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    let ran = Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) };
    world.assert_nothing_secret(&ran.stdout);
    world.assert_nothing_secret(&ran.stderr);
    ran
}

async fn a_task_is_submitted_awaited_shown_and_downloaded(world: Arc<World>) {
    let submit = ["tasks", "submit", "kling", "by-command", "--metadata", r#"{"user":7}"#, "--tag", "team=a b"];
    let submitted = command(&world, &[&submit[..], &["--json"]].concat(), b"").await;
    assert_eq!(submitted.code, Some(0), "{}", submitted.stderr);
    assert_eq!((&submitted.json()["metadata"]["user"], &submitted.json()["tags"]["team"]), (&json!(7), &json!("a b")));
    let ended = command(&world, &["tasks", "wait", "kling/by-command", "--timeout", "50s"], b"").await;
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    for line in [
        "state                            archived",
        "usage.credits                    2.5",
        "metadata.user                    7",
    ] {
        assert!(ended.stdout.lines().any(|printed| printed == line), "{line} is missing:\n{}", ended.stdout);
    }
    // A line of the log appears when its invocation has ended.
    sleep(Duration::from_secs(2)).await;
    let shown = command(&world, &["tasks", "show", "kling/by-command"], b"").await;
    let columns = "time                      function  level  what happened";
    assert!(shown.stdout.lines().any(|printed| printed == columns), "{}", shown.stdout);
    for what in [
        "tasks     INFO   submitted provider_task_id=",
        "callback  INFO   callback outcome=succeeded",
        "process   INFO   claimed attempts=1",
        "process   INFO   copy copy.bytes_per_second=",
        "process   INFO   settled artifacts=1",
    ] {
        assert!(shown.stdout.contains(what), "{what} is missing:\n{}", shown.stdout);
    }
    world.submit(Provider::ApiMart, "by-poll", "callback=lose").await;
    // When the submission can no longer be in flight. Do not wait for the schedule.
    sleep(Duration::from_secs(27)).await;
    world.poll().await;
    world.assert_archived("apimart/by-poll", "poll").await;
    sleep(Duration::from_secs(2)).await;
    let shown = command(&world, &["tasks", "show", "apimart/by-poll"], b"").await;
    assert!(shown.stdout.contains("poll      INFO   status poll result=succeeded"), "{}", shown.stdout);
    let listed = command(
        &world,
        &["tasks", "list", "--state", "archived", "--provider", "kling", "--limit", "1000", "--json"],
        b"",
    )
    .await;
    let listed = listed.json();
    assert!(listed["tasks"].as_array().expect("a list").iter().any(|task| task["task"] == "kling/by-command"));
    assert!(
        listed["totals"]["usage"].as_array().expect("a list").iter().any(|sum| sum["unit"] == "credits"),
        "{listed}"
    );
    let none = command(&world, &["tasks", "list", "--older-than", "7d"], b"").await;
    assert!(none.stdout.contains("0 tasks"), "{}", none.stdout);

    let directory = world.stack.emulator().directory().join("downloaded");
    let path = directory.to_str().expect("a path");
    let downloaded = command(&world, &["download", "kling/by-command", "--directory", path], b"").await;
    assert_eq!(downloaded.code, Some(0), "{}", downloaded.stderr);
    let video = fs::read(directory.join("video.mp4")).expect("the video");
    assert!(world.object("tasks/kling/by-command/video.mp4").await == Some(video), "it differs");
    let result: Value =
        serde_json::from_slice(&fs::read(directory.join("result.json")).expect("the result")).expect("JSON");
    assert_eq!(result["task"], "kling/by-command");
    assert_eq!(fs::read_dir(&directory).expect("the directory").count(), 2, "a part is left");
}

async fn each_end_has_an_exit_code_of_its_own(world: Arc<World>) {
    let submit = async |id: &str, script: &str| {
        let prompt = format!("a boat [simulate {script}]");
        command(&world, &["tasks", "submit", "apimart", id, "--prompt", &prompt], b"").await.code
    };
    let wait = async |id: &str, timeout: &str| {
        command(&world, &["tasks", "wait", &format!("apimart/{id}"), "--timeout", timeout], b"").await.code
    };
    assert_eq!(submit("code-failed", "outcome=moderated").await, Some(0));
    assert_eq!(wait("code-failed", "50s").await, Some(3));
    assert_eq!(submit("code-late", "delay=200 callback=lose").await, Some(0));
    assert_eq!(wait("code-late", "2s").await, Some(5));
    let cancelled = command(&world, &["tasks", "cancel", "apimart/code-late"], b"").await;
    assert_eq!(cancelled.code, Some(2), "{}", cancelled.stdout);
    assert!(
        cancelled.stdout.starts_with("impossible: apimart/code-late: APIMart has no documented call"),
        "{}",
        cancelled.stdout
    );
    assert_eq!(submit("code-refused", "submit=balance").await, Some(2));
}

async fn what_is_lost_is_copied_again_once_the_provider_confirms_it(world: Arc<World>) {
    world.submit(Provider::MaxApi, "found-again", "").await;
    world.assert_archived("maxapi/found-again", "callback").await;
    let request = json!({
        "TableName": world.stack.outputs().table_name,
        "Key": { "task": { "S": "maxapi/found-again" } },
        "UpdateExpression": "SET #state = :lost, outcome = :lost, report = :report REMOVE artifacts",
        "ExpressionAttributeNames": { "#state": "state" },
        "ExpressionAttributeValues": {
            ":lost": { "S": "lost" }, ":report": { "S": r#"{"outcome":"lost","reason":"expired","retryable":true}"# },
        },
    });
    call(&world.client, world.stack.endpoint(), "dynamodb", "DynamoDB_20120810.UpdateItem", &request).await;
    let lost = command(&world, &["tasks", "wait", "maxapi/found-again"], b"").await;
    assert_eq!(lost.code, Some(4), "{}", lost.stdout);
    let retried = command(&world, &["tasks", "retry-copy", "maxapi/found-again"], b"").await;
    assert_eq!(retried.code, Some(0), "{}", retried.stderr);
    let view = world.wait_until("maxapi/found-again", "archived again", |view| view["state"] == "archived").await;
    assert_eq!(view["artifacts"][0]["key"], "tasks/maxapi/found-again/video.mp4", "{view}");
    let again = command(&world, &["tasks", "retry-copy", "maxapi/found-again"], b"").await;
    assert_eq!(again.code, Some(2));
    assert!(again.stderr.contains("is archived: its files are in the bucket"), "{}", again.stderr);
}

async fn a_sample_callback_is_signed_and_a_replay_is_a_duplicate(world: Arc<World>) {
    let triggered = command(&world, &["trigger", "kling", "--task", "triggered", "--json"], b"").await;
    assert_eq!(triggered.json()["status"], 200, "{}", triggered.stdout);
    let view = world.wait_until_final("kling/triggered").await;
    assert_eq!((&view["state"], &view["reported_by"]), (&json!("failed"), &json!("callback")), "{view}");
    let replayed = command(&world, &["replay", "kling/triggered"], b"").await;
    assert_eq!(replayed.code, Some(0), "{}", replayed.stderr);
    assert_eq!(replayed.stdout, "kling/triggered: a duplicate, answered like the first; nothing changed\n");
    // Signed over a part of the request, and not over the body.
    for provider in ["vidu", "kie"] {
        let triggered = command(&world, &["trigger", provider, "--task", "triggered", "--json"], b"").await;
        assert_eq!(
            (&triggered.json()["status"], &triggered.json()["hint"]),
            (&json!(200), &json!(true)),
            "{}",
            triggered.stdout
        );
    }
}

async fn verify_says_which_part_is_wrong(world: Arc<World>) {
    let view = world.submit(Provider::Kling, "captured", "callback=lose").await;
    let id = view["provider_task_id"].as_str().expect("an id");
    sleep(Duration::from_secs(1)).await;
    let callback = world.simulator.callback(id).expect("a callback");
    let path = format!("/{}", callback.url.splitn(4, '/').nth(3).expect("a path"));
    let headers: String = callback.headers.iter().flat_map(|(name, value)| [name, ": ", value, "\r\n"]).collect();
    let capture =
        |path: &str, body: &[u8]| [format!("POST {path} HTTP/1.1\r\n{headers}\r\n").as_bytes(), body].concat();
    let right = command(&world, &["verify"], &capture(&path, &callback.body)).await;
    assert_eq!(right.code, Some(0), "{}{}", right.stdout, right.stderr);
    assert_eq!(
        right.stdout,
        "right  URL        a callback URL of kling\nright  token      made by callback.keys for this provider and id\nright  signature  valid\n"
    );
    let with_newline = command(&world, &["verify"], &capture(&path, &[&callback.body[..], b"\n"].concat())).await;
    assert_eq!(with_newline.code, Some(1));
    let line = "WRONG  signature  the signature is wrong. It is right for the body without the line break at its end, which an editor or `echo` adds\n";
    assert!(with_newline.stdout.ends_with(line), "{}", with_newline.stdout);
    // By a key that the provider publishes.
    let view = world.submit(Provider::Fal, "captured", "callback=lose").await;
    let fal = view["provider_task_id"].as_str().expect("an id");
    sleep(Duration::from_secs(1)).await;
    let signed = world.simulator.callback(fal).expect("a callback");
    let headers: String = signed.headers.iter().flat_map(|(name, value)| [name, ": ", value, "\r\n"]).collect();
    let path_of_fal = signed.url.splitn(4, '/').nth(3).expect("a path");
    let request = [format!("POST /{path_of_fal} HTTP/1.1\r\n{headers}\r\n").as_bytes(), &signed.body].concat();
    let by_key = command(&world, &["verify"], &request).await;
    assert!(by_key.stdout.ends_with("right  signature  valid\n"), "{}{}", by_key.stdout, by_key.stderr);
    let elsewhere =
        command(&world, &["verify", "--json"], &capture(&path.replace("/captured/", "/other/"), &callback.body)).await;
    let checks = &elsewhere.json()["checks"];
    assert_eq!((&checks[1]["right"], &checks[2]["right"]), (&json!(false), &json!(true)), "{checks}");
    let late = command(&world, &["verify", "--now", "4000000000"], &capture(&path, &callback.body)).await;
    assert!(late.stdout.contains("It was right when it was signed"), "{}", late.stdout);
    let nonsense = command(&world, &["verify"], b"hello").await;
    assert_eq!(nonsense.code, Some(2), "{}", nonsense.stdout);
}

async fn a_deployment_is_examined(world: Arc<World>) {
    let examined = command(&world, &["doctor", "--json"], b"").await;
    let findings = examined.json();
    let verdict = |check: &str| {
        let found = findings.as_array().expect("a list").iter().find(|finding| finding["check"] == check);
        found.unwrap_or_else(|| panic!("{check} was not examined: {findings}"))["verdict"].clone()
    };
    for check in ["settings", "key of kling", "key of vidu", "schedule of poll"] {
        assert_eq!(verdict(check), "right", "{findings}");
    }
    // Nobody is subscribed, and the URL leads to this machine.
    assert_eq!(
        (verdict("alarms"), verdict("callback URL"), examined.code),
        (json!("wrong"), json!("doubtful"), Some(1))
    );

    let backlog = command(&world, &["backlog", "--json"], b"").await.json();
    assert_eq!(backlog["queues"][1]["queue"], "dead letters", "{backlog}");
    world.submit(Provider::ApiMart, "tailed", "").await;
    world.assert_archived_by_any("apimart/tailed").await;
    let tailed = command(&world, &["tail", "--once", "--since", "5m", "--task", "apimart/tailed", "--json"], b"").await;
    let lines: Vec<Value> =
        tailed.stdout.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    assert!(
        lines.iter().any(|line| line["function"] == "process" && line["message"] == "settled"),
        "{}",
        tailed.stdout
    );
}

async fn what_cannot_be_done_says_what_to_do(world: Arc<World>) {
    for (arguments, words) in [
        (
            &["tasks", "show", "kling/nobody-knows"][..],
            "task not found: kling/nobody-knows; `tasks list` shows what there is",
        ),
        (&["replay", "kling/nobody-knows"], "task not found"),
        (&["tasks", "show", "nonsense"], "not a task key"),
        (&["tasks", "list", "--state", "done"], "use pending, reported"),
        (&["tasks", "wait", "kling/x", "--timeout", "soon"], "write it as 90s"),
        (&["trigger", "klingon"], "unknown provider"),
    ] {
        let refused = command(&world, arguments, b"").await;
        assert_eq!(refused.code, Some(2), "{arguments:?}: {}", refused.stderr);
        assert!(refused.stderr.contains(words), "{arguments:?}: {}", refused.stderr);
        assert_eq!(refused.stdout, "", "{arguments:?}");
    }
}
