//! What happens when something between two lines does not.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use local::runtime_api::{Function, Invoked};
use local::samples;
use serde_json::{Value, json};
use simulator::Provider;
use tokio::time::sleep;

use crate::Case;
use crate::callbacks::{binary, direct_submission, event};
use crate::submissions::submissions;
use crate::world::{World, with};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("recovery::queueing_fails_after_the_record_is_written", queueing_fails),
        Case::new("recovery::a_callback_before_its_registration", callback_before_registration),
        Case::new("recovery::a_registered_task_whose_callback_is_lost", registered_and_lost),
        Case::new("recovery::a_worker_that_dies_after_its_claim", worker_dies),
        Case::new("recovery::one_bad_message_of_a_batch", bad_message),
        Case::new("recovery::writes_whose_answers_are_lost_are_known_again", lost_answers),
        Case::new("recovery::a_deadline_ends_as_lost_and_is_announced", deadline),
        Case::new("recovery::no_upload_is_left_behind", no_upload_left),
        Case::new("recovery::a_run_of_poll_stops_in_time_and_the_next_goes_on", more_than_a_run_can_do),
    ]
}

/// P1: the report is durable, so the provider gets its 200; P2: poll queues it a minute later.
async fn queueing_fails(world: Arc<World>) {
    let view = world.submit(Provider::Kling, "queue-fails", "callback=lose").await;
    let id = view["provider_task_id"].as_str().expect("an id");
    world.simulator.wait_for(id, Duration::from_secs(20), |task| task.phase.is_final()).await.expect("it finishes");
    let callback = world.simulator.callback(id).expect("a callback");
    let nowhere = world.stack.outputs().queue_url.replace("WorkQueue", "NoSuchQueue");
    assert_ne!(nowhere, world.stack.outputs().queue_url);
    let environment = with(world.environment(), "QUEUE_URL", &nowhere);
    let mut function = Function::start(&binary(&world, "callback"), &environment).await.expect("it starts");
    let Invoked::Response(answer) = function.invoke(event(&callback), Duration::from_secs(10)).await else {
        panic!("no answer")
    };
    assert_eq!(answer["statusCode"], 200, "{answer}");
    assert_eq!(world.view("kling/queue-fails").await.body["state"], "reported");
    sleep(Duration::from_secs(61)).await;
    world.poll().await;
    world.assert_archived("kling/queue-fails", "callback").await;
}

async fn callback_before_registration(world: Arc<World>) {
    let url = world.client.callback_url("kling/early").await.expect("a URL");
    let id = direct_submission(&world, &url, "").await;
    let before = world.assert_archived("kling/early", "callback").await;
    let answer =
        world.client.put(&format!("kling/early?provider_task_id={id}"), String::new()).await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.body["state"], "archived");
    assert_eq!(answer.body["artifacts"], before["artifacts"]);
    world.assert_announced("kling/early", 1).await;
}

async fn registered_and_lost(world: Arc<World>) {
    let id = direct_submission(&world, "http://127.0.0.1:9/nobody", "callback=lose").await;
    let path = format!("kling/registered?provider_task_id={id}");
    let answer = world.client.put(&path, String::new()).await.expect("an answer");
    assert_eq!(answer.status, 201, "{}", answer.body);
    let again = world.client.put(&path, String::new()).await.expect("an answer");
    assert_eq!(again.status, 200, "{}", again.body);
    let other = world.client.put("kling/registered?provider_task_id=other", String::new()).await.expect("an answer");
    assert_eq!(other.status, 409, "{}", other.body);
    sleep(Duration::from_secs(6)).await;
    world.poll().await;
    world.assert_archived("kling/registered", "poll").await;
}

/// A worker that is killed in the middle of a copy leaves a lease that runs out, and another one finishes.
async fn worker_dies(world: Arc<World>) {
    let view = world.submit(Provider::Kling, "worker-dies", "callback=lose").await;
    let id = view["provider_task_id"].as_str().expect("an id");
    world.simulator.wait_for(id, Duration::from_secs(20), |task| task.phase.is_final()).await.expect("it finishes");
    // Recorded by a callback function that cannot queue, so that no other worker takes it first.
    let callback = world.simulator.callback(id).expect("a callback");
    let nowhere = world.stack.outputs().queue_url.replace("WorkQueue", "NoSuchQueue");
    let environment = with(world.environment(), "QUEUE_URL", &nowhere);
    let mut function = Function::start(&binary(&world, "callback"), &environment).await.expect("it starts");
    function.invoke(event(&callback), Duration::from_secs(10)).await;
    // A bucket that never answers holds the worker in the copy, where it is killed.
    world.simulator.script(id, |script| script.not_ready = 1);
    let mut worker = Function::start(&binary(&world, "process"), &world.environment()).await.expect("it starts");
    let batch = batch(&[("m-1", r#"{"version":"1","task":"kling/worker-dies"}"#)]);
    let _ = tokio::time::timeout(Duration::from_millis(150), worker.invoke(batch, Duration::from_mins(1))).await;
    drop(worker);
    // Wherever it was, the task ends: by its lease (90 s) or its next attempt, whichever it had come to.
    for _ in 0..14 {
        sleep(Duration::from_secs(10)).await;
        world.poll().await;
        if world.view("kling/worker-dies").await.body["state"] == "archived" {
            break;
        }
    }
    world.assert_archived("kling/worker-dies", "callback").await;
}

fn batch(messages: &[(&str, &str)]) -> Value {
    let mut event: Value =
        serde_json::from_str(include_str!("../../events/lambda/sqs.json")).expect("the event is JSON");
    let record = event["Records"][0].clone();
    event["Records"] = messages
        .iter()
        .map(|(id, body)| {
            let mut record = record.clone();
            record["messageId"] = json!(id);
            record["body"] = json!(body);
            record
        })
        .collect();
    event
}

async fn bad_message(world: Arc<World>) {
    world.submit(Provider::Kling, "in-a-batch", "callback=lose").await;
    let mut worker = Function::start(&binary(&world, "process"), &world.environment()).await.expect("it starts");
    let batch = batch(&[
        ("bad", "not a message"),
        ("unknown", r#"{"version":"1","task":"kling/no-such-task"}"#),
        ("good", r#"{"version":"1","task":"kling/in-a-batch"}"#),
        ("newer", r#"{"version":"9","task":"kling/in-a-batch"}"#),
    ]);
    let Invoked::Response(answer) = worker.invoke(batch, Duration::from_mins(1)).await else { panic!("no answer") };
    let mut failed: Vec<_> = answer["batchItemFailures"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|item| item["itemIdentifier"].clone())
        .collect();
    failed.sort_by_key(Value::to_string);
    assert_eq!(failed, ["bad", "newer"], "{answer}");
    // The good one was worked on: the provider was asked.
    let item = world.item("kling/in-a-batch").await;
    assert_ne!(item["claim"]["N"], "0", "{item}");
}

/// A registered task that the provider never heard of is closed at its deadline, and that is announced.
async fn deadline(world: Arc<World>) {
    let path = "kling/never-heard-of?provider_task_id=no-such-task";
    assert_eq!(world.client.put(path, String::new()).await.expect("an answer").status, 201);
    // Hours pass.
    world.set_number("kling/never-heard-of", "deadline_at", 1_700_000_000).await;
    sleep(Duration::from_secs(6)).await;
    world.poll().await;
    let view = world.until_final("kling/never-heard-of").await;
    assert_eq!(view["state"], "lost", "{view}");
    assert_eq!(view["reported_by"], "deadline");
    let result = world.result("kling/never-heard-of").await;
    assert_eq!(result["outcome"], "lost");
    assert_eq!(result["failure"]["reason"], "timeout");
    world.assert_announced("kling/never-heard-of", 1).await;
}

/// A large file takes a multipart upload; afterwards the bucket has no unfinished one.
async fn no_upload_left(world: Arc<World>) {
    world.submit(Provider::Kling, "large", "size=40000000").await;
    world.assert_archived("kling/large", "callback").await;
    let answer = world.client.unfinished_uploads().await.expect("the bucket answers");
    assert!(answer.contains("<ListMultipartUploadsResult") && !answer.contains("kling/large"), "{answer}");
}

/// The stand-in, behind a line that loses the first answer to every write to the table: what was asked for is done, and the
/// SDK, which cannot know, asks again. Gives the address and how many answers were lost so far.
async fn forgetful_table(world: &World) -> (String, Arc<Mutex<HashSet<Bytes>>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let (client, endpoint) = (world.client.http().clone(), world.stack.endpoint().to_owned());
    let lost = Arc::new(Mutex::new(HashSet::new()));
    let seen = Arc::clone(&lost);
    let forward = move |method: Method, uri: Uri, mut headers: HeaderMap, body: Bytes| async move {
        let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
        let is_write = ["UpdateItem", "DeleteItem", "PutItem"].iter().any(|write| target.ends_with(write));
        headers.remove("host");
        let request = client.request(method, format!("{endpoint}{uri}")).headers(headers).body(body.clone());
        let answer = request.send().await.expect("the stand-in answers");
        if is_write && seen.lock().expect("no case has panicked with it").insert(body) {
            return (StatusCode::INTERNAL_SERVER_ERROR, HeaderMap::new(), Bytes::from_static(b"{}"));
        }
        let (status, mut headers) = (answer.status(), answer.headers().clone());
        headers.remove("transfer-encoding");
        (status, headers, answer.bytes().await.expect("the answer is whole"))
    };
    let application = axum::Router::new().fallback(forward);
    tokio::spawn(async move { axum::serve(listener, application).await });
    (url, lost)
}

/// Every write is done and its answer lost: one submission, one copy, one announcement, and nobody waits for a lease that is
/// its own. In a table that no other case's `poll` visits.
async fn lost_answers(world: Arc<World>) {
    const TASK: &str = "apimart/lost-answers";
    world.create_table("forgetful").await;
    let (url, lost) = forgetful_table(&world).await;
    let nowhere = world.stack.outputs().queue_url.replace("WorkQueue", "NoSuchQueue");
    let environment = with(with(world.environment(), "AWS_ENDPOINT_URL", &url), "QUEUE_URL", &nowhere);
    let environment = with(with(environment, "CALLBACK_BASE_URL", "http://127.0.0.1:9"), "TABLE_NAME", "forgetful");
    let limit = Duration::from_secs(20);
    let answer_of = |invoked| match invoked {
        Invoked::Response(answer) => answer,
        other => panic!("no answer: {other:?}"),
    };

    let mut tasks = Function::start(&binary(&world, "tasks"), &environment).await.expect("it starts");
    let refused = tasks.invoke(about("PUT", "apimart/refused-and-lost", "submit=balance"), limit).await;
    assert_eq!(answer_of(refused)["statusCode"], 402);
    let free = tasks.invoke(about("GET", "apimart/refused-and-lost", ""), limit).await;
    assert_eq!(answer_of(free)["statusCode"], 404, "the id is free again");
    let submitted = answer_of(tasks.invoke(about("PUT", TASK, "marker-lost-answers callback=lose"), limit).await);
    assert_eq!(submitted["statusCode"], 201, "{submitted}");
    assert_eq!(submissions(&world, "marker-lost-answers"), 1);

    let view: Value = serde_json::from_str(submitted["body"].as_str().expect("a body")).expect("JSON");
    let id = view["provider_task_id"].as_str().expect("an id");
    world.simulator.wait_for(id, limit, |task| task.phase.is_final()).await.expect("it finishes");
    let callback = world.simulator.callback(id).expect("a callback");
    let mut function = Function::start(&binary(&world, "callback"), &environment).await.expect("it starts");
    let answer = answer_of(function.invoke(event(&callback), limit).await);
    assert_eq!(answer["statusCode"], 200, "{answer}");

    let mut worker = Function::start(&binary(&world, "process"), &environment).await.expect("it starts");
    let batch = batch(&[("m-1", r#"{"version":"1","task":"apimart/lost-answers"}"#)]);
    let done = answer_of(worker.invoke(batch, limit).await);
    assert_eq!(done["batchItemFailures"], json!([]), "{done}");
    let view = answer_of(tasks.invoke(about("GET", TASK, ""), limit).await);
    let view: Value = serde_json::from_str(view["body"].as_str().expect("a body")).expect("JSON");
    assert_eq!(view["state"], "archived", "{view}");
    let key = view["artifacts"][0]["key"].as_str().expect("an artifact has a key");
    assert!(world.object(key).await.is_some_and(|stored| stored == world.simulator.file(id)), "{view}");
    world.assert_announced(TASK, 1).await;
    // Registering twice, withdrawing, noting the submission, the callback, claiming, what the provider said, settling.
    let lost = lost.lock().expect("no case has panicked with it").len();
    assert!(lost >= 8, "only {lost} answers were lost");
}

/// A Function URL event of `tasks`; `script` goes into the prompt.
fn about(method: &str, task: &str, script: &str) -> Value {
    let mut event: Value =
        serde_json::from_str(include_str!("../../events/lambda/function-url-tasks.json")).expect("the event is JSON");
    event["rawPath"] = json!(format!("/tasks/{task}"));
    event["requestContext"]["http"]["path"] = event["rawPath"].clone();
    event["requestContext"]["http"]["method"] = json!(method);
    let (marker, script) = script.split_once(' ').unwrap_or(("", script));
    let prompt = format!("{marker} [simulate {script}]");
    event["body"] = json!(samples::of(Provider::ApiMart).body(&prompt).to_string());
    event
}

/// A provider that answers every question after nine seconds, with an outage.
async fn slow_provider() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            tokio::spawn(async move {
                use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
                let mut request = [0; 4096];
                // Whatever it was, and whoever has gone away meanwhile.
                let _ = connection.read(&mut request).await;
                sleep(Duration::from_secs(9)).await;
                let answer = b"HTTP/1.1 500 Oops\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
                let _ = connection.write_all(answer).await;
            });
        }
    });
    url
}

/// More due tasks than a run can do, of a provider that is slow: the run ends before its time does, says what it
/// leaves, and the next one, with the provider well again, goes on with it.
async fn more_than_a_run_can_do(world: Arc<World>) {
    const TASKS: usize = 400;
    world.create_table("busy").await;
    for number in 0..TASKS {
        // One long overdue in a shard is read before all others of it.
        world.put_open_task("busy", &format!("kling/busy-{number}"), "no-such-task").await;
    }
    let slow = slow_provider().await;
    world.put_settings("/busy/settings", |settings| settings["providers"]["kling"]["base_url"] = json!(slow)).await;
    let environment = with(with(world.environment(), "TABLE_NAME", "busy"), "SETTINGS_PARAMETER", "/busy/settings");
    let time_limit = Duration::from_secs(24);
    let started = std::time::Instant::now();
    let mut poll = Function::start(&binary(&world, "poll"), &environment).await.expect("it starts");
    let Invoked::Response(first) = poll.invoke(json!({}), time_limit).await else { panic!("no answer") };
    assert!(started.elapsed() < time_limit, "{:?}", started.elapsed());
    assert_eq!(first["due"], TASKS, "{first}");
    let left_over = first["left_over"].as_u64().expect("a number");
    assert!(left_over > 0, "{first}");

    world.put_settings("/busy/settings", |_| {}).await;
    let mut poll = Function::start(&binary(&world, "poll"), &environment).await.expect("it starts");
    let Invoked::Response(second) = poll.invoke(json!({}), Duration::from_mins(1)).await else { panic!("no answer") };
    // What the first run has visited is due again later.
    assert_eq!(second["due"], left_over, "{first} {second}");
    assert_eq!(second["asked"], left_over, "{second}");
    assert_eq!(second["left_over"], 0, "{second}");
}
