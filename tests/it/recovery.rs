//! Crashes, lost responses and lost callbacks, between any two steps.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use local::runtime_api::{Function, InvocationResult};
use local::samples;
use reelhook_aws::clock;
use serde_json::{Value, json};
use simulator::Provider;
use tokio::time::{Instant, sleep};

use crate::Case;
use crate::callbacks::{binary, direct_submission, event};
use crate::submissions::submissions;
use crate::world::{World, with};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(a_recorded_callback_is_archived_even_if_queueing_fails),
        case!(a_callback_may_arrive_before_the_registration),
        case!(a_registered_task_without_a_callback_is_recovered_by_polling),
        case!(a_task_is_polled_by_every_status_call_that_may_know_it),
        case!(a_task_survives_the_death_of_its_worker),
        case!(only_invalid_messages_of_a_batch_fail),
        case!(a_write_whose_response_is_lost_takes_effect_once),
        case!(a_hint_of_a_task_that_does_not_exist_is_removed),
        case!(a_task_past_its_deadline_is_lost_and_published),
        case!(a_large_copy_leaves_no_multipart_upload),
        case!(a_poll_run_stops_in_time_and_the_next_one_continues),
        case!(one_slow_provider_does_not_hold_up_the_others),
    ]
}

/// "Not found" by one of KIE's status calls is no answer: what a callback told of the call may be wrong.
async fn a_task_is_polled_by_every_status_call_that_may_know_it(world: Arc<World>) {
    let view = world.submit(Provider::Kie, "any-call", "callback=lose").await;
    let id = view["provider_task_id"].as_str().expect("an id");
    world.simulator.wait_for(id, Duration::from_secs(20), |task| task.phase.is_final()).await.expect("it finishes");
    let request = json!({
        "TableName": world.stack.outputs().table_name,
        "Key": { "task": { "S": "kie/any-call" } },
        "UpdateExpression": "SET endpoint = :other",
        "ConditionExpression": "NOT begins_with(endpoint, :other)",
        "ExpressionAttributeValues": { ":other": { "S": "/api/v1/veo/" } },
    });
    world.try_dynamodb("UpdateItem", &request).await;
    assert_eq!(world.item("kie/any-call").await["endpoint"]["S"], "/api/v1/veo/");
    world.set_number_attribute("kie/any-call", "due_at", 1).await;
    world.poll().await;
    world.assert_archived("kie/any-call", "poll").await;
}

/// Somebody who learned the static URL makes a task up. Three times not found within ten minutes, and nothing is left of it.
async fn a_hint_of_a_task_that_does_not_exist_is_removed(world: Arc<World>) {
    let view = world.submit(Provider::MaxApi, "genuine", "callback=lose").await;
    let id = view["provider_task_id"].as_str().expect("an id");
    world.simulator.wait_for(id, Duration::from_secs(20), |task| task.phase.is_final()).await.expect("it finishes");
    let callback = world.simulator.callback(id).expect("a callback");
    let forged = String::from_utf8(callback.body.to_vec()).expect("text").replace(id, "made-up");
    let url = world.client.callback_url("maxapi/-").await.expect("a URL");
    assert_eq!(world.post(&url, &callback.headers, forged).await.status, 200);
    assert_eq!(world.item("maxapi/made-up").await["state"]["S"], "pending");
    let end = Instant::now() + Duration::from_secs(30);
    while !world.item("maxapi/made-up").await.is_null() {
        assert!(Instant::now() < end, "it stays: {}", world.item("maxapi/made-up").await);
        // The first two answers, and ten minutes.
        let ago = |seconds: i64| clock::now().seconds() - seconds;
        let hint = json!({ "received_at": ago(700), "not_found_since": ago(650), "not_found": 2 }).to_string();
        let request = json!({
            "TableName": world.stack.outputs().table_name,
            "Key": { "task": { "S": "maxapi/made-up" } },
            "UpdateExpression": "SET hint = :hint REMOVE claimed_until",
            "ConditionExpression": "attribute_exists(hint)",
            "ExpressionAttributeValues": { ":hint": { "S": hint } },
        });
        world.try_dynamodb("UpdateItem", &request).await;
        world.enqueue("maxapi/made-up").await;
        sleep(Duration::from_secs(2)).await;
    }
    assert!(world.object("tasks/maxapi/made-up/result.json").await.is_none(), "nothing is announced");
}

/// P1: the report is durable, so the provider gets a 200. P2: poll queues the task within minutes.
async fn a_recorded_callback_is_archived_even_if_queueing_fails(world: Arc<World>) {
    let view = world.submit(Provider::Kling, "queue-fails", "callback=lose").await;
    let id = view["provider_task_id"].as_str().expect("an id");
    world.simulator.wait_for(id, Duration::from_secs(20), |task| task.phase.is_final()).await.expect("it finishes");
    let callback = world.simulator.callback(id).expect("a callback");
    let nowhere = world.stack.outputs().queue_url.replace("WorkQueue", "NoSuchQueue");
    assert_ne!(nowhere, world.stack.outputs().queue_url);
    let environment = with(world.environment(), "QUEUE_URL", &nowhere);
    let mut function = Function::start(&binary(&world, "callback"), &environment).await.expect("it starts");
    let InvocationResult::Response(response) = function.invoke(event(&callback), Duration::from_secs(10)).await else {
        panic!("no response")
    };
    assert_eq!(response["statusCode"], 200, "{response}");
    assert_eq!(world.view("kling/queue-fails").await.body["state"], "reported");
    sleep(Duration::from_secs(61)).await;
    world.poll().await;
    world.assert_archived("kling/queue-fails", "callback").await;
}

async fn a_callback_may_arrive_before_the_registration(world: Arc<World>) {
    let url = world.client.callback_url("kling/early").await.expect("a URL");
    let id = direct_submission(&world, &url, "").await;
    let before = world.assert_archived("kling/early", "callback").await;
    let response =
        world.client.put(&format!("kling/early?provider_task_id={id}"), String::new()).await.expect("a response");
    assert_eq!(response.status, 200, "{}", response.body);
    assert_eq!(response.body["state"], "archived");
    assert_eq!(response.body["artifacts"], before["artifacts"]);
    world.assert_published("kling/early", 1).await;
}

async fn a_registered_task_without_a_callback_is_recovered_by_polling(world: Arc<World>) {
    let id = direct_submission(&world, "http://127.0.0.1:9/nobody", "callback=lose").await;
    let path = format!("kling/registered?provider_task_id={id}");
    let response = world.client.put(&path, String::new()).await.expect("a response");
    assert_eq!(response.status, 201, "{}", response.body);
    let again = world.client.put(&path, String::new()).await.expect("a response");
    assert_eq!(again.status, 200, "{}", again.body);
    let other = world.client.put("kling/registered?provider_task_id=other", String::new()).await.expect("a response");
    assert_eq!(other.status, 409, "{}", other.body);
    sleep(Duration::from_secs(6)).await;
    world.poll().await;
    world.assert_archived("kling/registered", "poll").await;
}

/// A worker is killed during a copy. Its lease expires, and another worker finishes the task.
async fn a_task_survives_the_death_of_its_worker(world: Arc<World>) {
    let view = world.submit(Provider::Kling, "worker-dies", "callback=lose").await;
    let id = view["provider_task_id"].as_str().expect("an id");
    world.simulator.wait_for(id, Duration::from_secs(20), |task| task.phase.is_final()).await.expect("it finishes");
    // A callback function that cannot queue records it, so that no other worker claims it first.
    let callback = world.simulator.callback(id).expect("a callback");
    let nowhere = world.stack.outputs().queue_url.replace("WorkQueue", "NoSuchQueue");
    let environment = with(world.environment(), "QUEUE_URL", &nowhere);
    let mut function = Function::start(&binary(&world, "callback"), &environment).await.expect("it starts");
    function.invoke(event(&callback), Duration::from_secs(10)).await;
    // The file is not ready at first, so the worker is killed before it is done.
    world.simulator.script(id, |script| script.not_ready = 1);
    let mut worker = Function::start(&binary(&world, "process"), &world.environment()).await.expect("it starts");
    let batch = batch(&[("m-1", r#"{"version":"1","task":"kling/worker-dies"}"#)]);
    let _ = tokio::time::timeout(Duration::from_millis(150), worker.invoke(batch, Duration::from_mins(1))).await;
    drop(worker);
    // Wherever the worker was, poll picks the task up: when its lease expires (90 s), or when the next attempt is due.
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

async fn only_invalid_messages_of_a_batch_fail(world: Arc<World>) {
    world.submit(Provider::Kling, "in-a-batch", "callback=lose").await;
    let mut worker = Function::start(&binary(&world, "process"), &world.environment()).await.expect("it starts");
    let batch = batch(&[
        ("bad", "not a message"),
        ("unknown", r#"{"version":"1","task":"kling/no-such-task"}"#),
        ("good", r#"{"version":"1","task":"kling/in-a-batch"}"#),
        ("newer", r#"{"version":"9","task":"kling/in-a-batch"}"#),
    ]);
    let InvocationResult::Response(response) = worker.invoke(batch, Duration::from_mins(1)).await else {
        panic!("no response")
    };
    let mut failed: Vec<_> = response["batchItemFailures"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|item| item["itemIdentifier"].clone())
        .collect();
    failed.sort_by_key(Value::to_string);
    assert_eq!(failed, ["bad", "newer"], "{response}");
    // The valid message was processed: the task was claimed.
    let item = world.item("kling/in-a-batch").await;
    assert_ne!(item["fencing_token"]["N"], "0", "{item}");
}

/// A registered task that the provider does not know is closed at its deadline, and the loss is published.
async fn a_task_past_its_deadline_is_lost_and_published(world: Arc<World>) {
    let path = "kling/never-heard-of?provider_task_id=no-such-task";
    assert_eq!(world.client.put(path, String::new()).await.expect("a response").status, 201);
    // Hours pass.
    world.set_number_attribute("kling/never-heard-of", "deadline_at", 1_700_000_000).await;
    sleep(Duration::from_secs(6)).await;
    world.poll().await;
    let view = world.wait_until_final("kling/never-heard-of").await;
    assert_eq!(view["state"], "lost", "{view}");
    assert_eq!(view["reported_by"], "deadline");
    let result = world.result("kling/never-heard-of").await;
    assert_eq!(result["outcome"], "lost");
    assert_eq!(result["failure"]["reason"], "timeout");
    world.assert_published("kling/never-heard-of", 1).await;
}

/// A large file needs a multipart upload, which must be completed.
async fn a_large_copy_leaves_no_multipart_upload(world: Arc<World>) {
    world.submit(Provider::Kling, "large", "size=40000000").await;
    world.assert_archived("kling/large", "callback").await;
    let response = world.client.unfinished_uploads().await.expect("the bucket responds");
    assert!(response.contains("<ListMultipartUploadsResult") && !response.contains("kling/large"), "{response}");
}

/// A proxy in front of the emulator that loses the first response to every write to the table: the write takes effect, and the
/// SDK, which cannot know, retries it. Returns its URL and the writes whose responses were lost.
async fn lossy_proxy(world: &World) -> (String, Arc<Mutex<HashSet<Bytes>>>) {
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
        let response = request.send().await.expect("the emulator responds");
        if is_write && seen.lock().expect("no case has panicked with it").insert(body) {
            return (StatusCode::INTERNAL_SERVER_ERROR, HeaderMap::new(), Bytes::from_static(b"{}"));
        }
        let (status, mut headers) = (response.status(), response.headers().clone());
        headers.remove("transfer-encoding");
        (status, headers, response.bytes().await.expect("a complete response"))
    };
    let application = axum::Router::new().fallback(forward);
    tokio::spawn(async move { axum::serve(listener, application).await });
    (url, lost)
}

/// Every write takes effect but its response is lost. Still: one submission, one copy, one published result, and no worker
/// that waits for its own lease. Uses its own table, so that no other case polls it.
async fn a_write_whose_response_is_lost_takes_effect_once(world: Arc<World>) {
    const TASK: &str = "apimart/lost-responses";
    world.create_table("lossy").await;
    let (url, lost) = lossy_proxy(&world).await;
    let nowhere = world.stack.outputs().queue_url.replace("WorkQueue", "NoSuchQueue");
    let environment = with(with(world.environment(), "AWS_ENDPOINT_URL", &url), "QUEUE_URL", &nowhere);
    let environment = with(with(environment, "CALLBACK_BASE_URL", "http://127.0.0.1:9"), "TABLE_NAME", "lossy");
    let limit = Duration::from_secs(20);
    let response_of = |invoked| match invoked {
        InvocationResult::Response(response) => response,
        other => panic!("no response: {other:?}"),
    };

    let mut tasks = Function::start(&binary(&world, "tasks"), &environment).await.expect("it starts");
    let refused = tasks.invoke(about("PUT", "apimart/refused-and-lost", "submit=balance"), limit).await;
    assert_eq!(response_of(refused)["statusCode"], 402);
    let free = tasks.invoke(about("GET", "apimart/refused-and-lost", ""), limit).await;
    assert_eq!(response_of(free)["statusCode"], 404, "the id is free again");
    let submitted = response_of(tasks.invoke(about("PUT", TASK, "marker-lost-responses callback=lose"), limit).await);
    assert_eq!(submitted["statusCode"], 201, "{submitted}");
    assert_eq!(submissions(&world, "marker-lost-responses"), 1);

    let view: Value = serde_json::from_str(submitted["body"].as_str().expect("a body")).expect("JSON");
    let id = view["provider_task_id"].as_str().expect("an id");
    world.simulator.wait_for(id, limit, |task| task.phase.is_final()).await.expect("it finishes");
    let callback = world.simulator.callback(id).expect("a callback");
    let mut function = Function::start(&binary(&world, "callback"), &environment).await.expect("it starts");
    let response = response_of(function.invoke(event(&callback), limit).await);
    assert_eq!(response["statusCode"], 200, "{response}");

    let mut worker = Function::start(&binary(&world, "process"), &environment).await.expect("it starts");
    let batch = batch(&[("m-1", r#"{"version":"1","task":"apimart/lost-responses"}"#)]);
    let done = response_of(worker.invoke(batch, limit).await);
    assert_eq!(done["batchItemFailures"], json!([]), "{done}");
    let view = response_of(tasks.invoke(about("GET", TASK, ""), limit).await);
    let view: Value = serde_json::from_str(view["body"].as_str().expect("a body")).expect("JSON");
    assert_eq!(view["state"], "archived", "{view}");
    let key = view["artifacts"][0]["key"].as_str().expect("an artifact has a key");
    assert!(world.object(key).await.is_some_and(|stored| stored == world.simulator.file(id)), "{view}");
    world.assert_published(TASK, 1).await;
    // Two registrations, one withdrawal, the accepted submission, the callback, the claim, the status poll, the settlement.
    let lost = lost.lock().expect("no case has panicked with it").len();
    assert!(lost >= 8, "only {lost} responses were lost");
}

/// A Function URL event of `tasks`. `script` is an optional marker and the script, both for the prompt.
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

/// A provider that returns a 500 to every request, after nine seconds.
async fn slow_provider() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            tokio::spawn(async move {
                use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
                let mut request = [0; 4096];
                // Errors do not matter: the client may have hung up.
                let _ = connection.read(&mut request).await;
                sleep(Duration::from_secs(9)).await;
                let response = b"HTTP/1.1 500 Oops\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
                let _ = connection.write_all(response).await;
            });
        }
    });
    url
}

/// More due tasks than one run can poll, at a slow provider: the run ends before its deadline and reports what it leaves. The
/// next run, with the provider healthy again, polls the rest.
async fn a_poll_run_stops_in_time_and_the_next_one_continues(world: Arc<World>) {
    const TASKS: usize = 400;
    world.create_table("busy").await;
    for index in 0..TASKS {
        world.put_open_task("busy", &format!("kling/busy-{index}"), "no-such-task").await;
    }
    let slow = slow_provider().await;
    world.put_settings("/busy/settings", |settings| settings["providers"]["kling"]["base_url"] = json!(slow)).await;
    let environment = with(with(world.environment(), "TABLE_NAME", "busy"), "SETTINGS_SECRET", "/busy/settings");
    let time_limit = Duration::from_secs(24);
    let started = std::time::Instant::now();
    let mut poll = Function::start(&binary(&world, "poll"), &environment).await.expect("it starts");
    let InvocationResult::Response(first) = poll.invoke(json!({}), time_limit).await else { panic!("no response") };
    assert!(started.elapsed() < time_limit, "{:?}", started.elapsed());
    assert_eq!(first["due"], TASKS, "{first}");
    let left_over = first["left_over"].as_u64().expect("a number");
    assert!(left_over > 0, "{first}");

    world.put_settings("/busy/settings", |_| {}).await;
    let mut poll = Function::start(&binary(&world, "poll"), &environment).await.expect("it starts");
    let InvocationResult::Response(second) = poll.invoke(json!({}), Duration::from_mins(1)).await else {
        panic!("no response")
    };
    // What the first run polled is due again later.
    assert_eq!(second["due"], left_over, "{first} {second}");
    assert_eq!(second["polled"], left_over, "{second}");
    assert_eq!(second["left_over"], 0, "{second}");
}

/// A provider that responds to every status poll after this delay. Returns its URL and the tasks that were polled.
async fn provider(delay: Duration, status: StatusCode, body: &'static str) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let polled = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&polled);
    let application = axum::Router::new().fallback(move |uri: Uri| async move {
        seen.lock().expect("no case has panicked with it").push(uri.path().rsplit('/').next().unwrap_or("").to_owned());
        sleep(delay).await;
        (status, body)
    });
    tokio::spawn(async move { axum::serve(listener, application).await });
    (url, polled)
}

/// Three providers with more due tasks than one round polls: one is slow, one limits the rate, one works. All tasks of the
/// last are polled in the same run, and the second gets no request after its refusal.
async fn one_slow_provider_does_not_hold_up_the_others(world: Arc<World>) {
    const TASKS: usize = 100;
    world.create_table("uneven").await;
    for index in 0..TASKS {
        for provider in ["apimart", "relaydance", "maxapi"] {
            world.put_open_task("uneven", &format!("{provider}/{index}"), &format!("id-{index}")).await;
        }
    }
    let (slow, slow_polled) = provider(Duration::from_secs(9), StatusCode::INTERNAL_SERVER_ERROR, "{}").await;
    let (limited, limited_polled) = provider(Duration::ZERO, StatusCode::TOO_MANY_REQUESTS, "{}").await;
    let open = r#"{"code":0,"msg":"ok","data":{"status":"PROCESSING"}}"#;
    let (working, working_polled) = provider(Duration::from_millis(20), StatusCode::OK, open).await;
    let change = |settings: &mut Value| {
        for (provider, url) in [("apimart", &slow), ("relaydance", &limited), ("maxapi", &working)] {
            settings["providers"][provider]["base_url"] = json!(url);
        }
    };
    world.put_settings("/uneven/settings", change).await;
    let environment = with(with(world.environment(), "TABLE_NAME", "uneven"), "SETTINGS_SECRET", "/uneven/settings");
    let time_limit = Duration::from_secs(40);
    let started = std::time::Instant::now();
    let mut poll = Function::start(&binary(&world, "poll"), &environment).await.expect("it starts");
    let InvocationResult::Response(run) = poll.invoke(json!({}), time_limit).await else { panic!("no response") };
    assert!(started.elapsed() < time_limit, "{:?}", started.elapsed());
    assert_eq!(run["due"], 3 * TASKS, "{run}");

    let polled = |of: &Mutex<Vec<String>>| of.lock().expect("no case has panicked with it").clone();
    let distinct: HashSet<String> = polled(&working_polled).into_iter().collect();
    assert_eq!(distinct.len(), TASKS, "{run}");
    assert_eq!(polled(&working_polled).len(), TASKS, "each is polled once");
    // The refusal finds one more request in flight.
    let (limited, slow) = (polled(&limited_polled).len(), polled(&slow_polled).len());
    assert!((1..=2).contains(&limited), "{limited} requests to the provider that limits the rate: {run}");
    assert!(slow >= 2, "{slow} requests to the slow provider: {run}");
    assert_eq!(run["polled"], TASKS + limited + slow, "{run}");
    assert_eq!(run["left_over"], 2 * TASKS - limited - slow, "{run}");
}
