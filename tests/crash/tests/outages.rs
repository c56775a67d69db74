//! One case for each row of the table of outages in `infra/OPERATIONS.md`: the real binaries, an AWS or a provider that is down,
//! and what became of the task in the end.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crash::outage::Outage;
use crash::world::World;
use futures_util::future::join_all;
use load::front::{answer, event};
use load::remote::{SECRET, TABLE};
use local::functions::Functions;
use local::runtime_api::InvocationResult;
use local::{FunctionSource, Progress};
use reqwest::Method;
use serde_json::{Value, json};
use simulator::Provider;
use tokio::sync::OnceCell;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// How long Kling and `MaxAPI` wait for the response to a callback.
const BUDGET: Duration = Duration::from_secs(5);

static FUNCTIONS: OnceCell<Arc<Functions>> = OnceCell::const_new();

/// A world whose provider loses its callback; they are delivered by hand.
async fn world(provider: Provider) -> World {
    scripted(provider, "callback=lose").await
}

async fn scripted(provider: Provider, script: &str) -> World {
    let functions = FUNCTIONS
        .get_or_init(async || {
            let profile = if cfg!(debug_assertions) { "dev" } else { "release" }.to_owned();
            let build = FunctionSource::Build { profile };
            Arc::new(Functions::prepare(&build, Progress::Terminal).await.expect("the functions are built"))
        })
        .await;
    let http = reqwest::Client::builder().no_proxy();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = http.build().expect("a client");
    World::start(provider, script, Arc::clone(functions), &http).await.expect("a world")
}

/// Submits the task and waits until the provider has finished it. Returns its callback.
async fn submitted(world: &World) -> Value {
    let (status, view) = invoke(world, "tasks", world.submission()).await;
    assert_eq!(status, 201, "{view}");
    world.finished(false).await.expect("the provider finishes")
}

/// The status and body of what a function responds. A function that fails has the status 502.
async fn invoke(world: &World, function: &str, event: Value) -> (u64, Value) {
    let invoked = world.invoke(function, event).await.expect("the process starts");
    answer(Ok(invoked))
}

/// Delivers a callback. Returns the status of the response, which came in time.
async fn deliver(world: &World, callback: &Value) -> u64 {
    let mut process = world.function("callback").await.expect("the process starts");
    process.time_to_first_next().await.expect("it is ready");
    let began = Instant::now();
    let invoked = process.invoke(callback.clone(), World::time_limit("callback")).await;
    assert!(began.elapsed() < BUDGET, "the provider has hung up after {:?}", began.elapsed());
    answer(Ok(invoked)).0
}

async fn poll(world: &World) -> InvocationResult {
    world.invoke("poll", json!({})).await.expect("the process starts")
}

/// Works on a message that was received before. Returns whether it is done with it.
async fn process(world: &World, message: &Value) -> bool {
    let invoked = world.invoke("process", message.clone()).await.expect("the process starts");
    matches!(invoked, InvocationResult::Response(response) if response["batchItemFailures"] == json!([]))
}

async fn state(world: &World) -> String {
    let item = world.item().await.expect("the table responds").expect("there is a record");
    item["state"]["S"].as_str().expect("a state").to_owned()
}

/// The queue and the schedule run on until the task is final, and everything is as it has to be.
async fn assert_recovers(world: &World, announcements: u64) {
    let before = world.passed();
    world.recover().await.expect("it goes on");
    assert!(world.passed() - before <= DAY, "it took {} hours", (world.passed() - before) / HOUR);
    let problems = world.problems(announcements).await.expect("everything can be checked");
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(state(world).await, "archived");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_table_is_our_fault_and_ends_nothing() {
    let world = world(Provider::Kling).await;
    let callback = submitted(&world).await;
    world.injector.set_outage(Some(Outage::TableThrottled));
    assert_eq!(deliver(&world, &callback).await, 503);
    assert_eq!(invoke(&world, "tasks", world.submission()).await.0, 503);
    assert!(matches!(poll(&world).await, InvocationResult::Error(_)), "a run that could read nothing has failed");
    world.injector.set_outage(None);
    assert_eq!(deliver(&world, &callback).await, 200);
    let message = world.message().await.expect("it is queued");
    world.injector.set_outage(Some(Outage::TableThrottled));
    assert!(!process(&world, &message).await, "the message comes again");
    world.injector.set_outage(None);
    assert_recovers(&world, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_queue_the_table_remembers_what_is_to_be_done() {
    let world = world(Provider::Kling).await;
    let callback = submitted(&world).await;
    world.injector.set_outage(Some(Outage::QueueUnavailable));
    assert_eq!(deliver(&world, &callback).await, 200, "it is recorded");
    for _ in 0..5 {
        world.let_seconds_pass(MINUTE).await.expect("time passes");
        poll(&world).await;
        assert_eq!(state(&world).await, "reported");
    }
    world.injector.set_outage(None);
    assert_recovers(&world, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unavailable_bucket_postpones_the_copy() {
    let world = world(Provider::Kling).await;
    let callback = submitted(&world).await;
    assert_eq!(deliver(&world, &callback).await, 200);
    let message = world.message().await.expect("it is queued");
    world.injector.set_outage(Some(Outage::BucketUnavailable));
    process(&world, &message).await;
    assert_eq!(state(&world).await, "reported");
    // An hour of it: whoever looks at the task finds out why it waits.
    world.let_seconds_pass(HOUR).await.expect("time passes");
    process(&world, &message).await;
    let item = world.item().await.expect("the table responds").expect("there is a record");
    let error = item["last_error"]["S"].as_str().unwrap_or_default();
    assert!(error.contains("SlowDown"), "{error:?}");
    world.injector.set_outage(None);
    assert_recovers(&world, 1).await;
}

/// The provider is down from before the end of the task on; its callback is lost.
async fn provider_down(for_seconds: i64) -> World {
    let world = world(Provider::Kling).await;
    submitted(&world).await;
    world.injector.set_outage(Some(Outage::Provider));
    let mut passed = 0;
    while passed < for_seconds {
        let step = (for_seconds - passed).min(12 * HOUR);
        world.let_seconds_pass(step).await.expect("time passes");
        passed += step;
        poll(&world).await;
        assert_eq!(state(&world).await, "pending", "after {passed} s");
    }
    world.injector.set_outage(None);
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_down_for_an_hour_ends_nothing() {
    let world = provider_down(HOUR).await;
    assert_recovers(&world, 1).await;
}

/// Three days are past Kling's deadline of one; silence is no answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_down_for_three_days_ends_nothing() {
    let world = provider_down(3 * DAY).await;
    assert_recovers(&world, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_down_for_good_ends_as_lost_and_a_late_callback_mends_it() {
    let world = world(Provider::Kling).await;
    let callback = submitted(&world).await;
    world.injector.set_outage(Some(Outage::Provider));
    world.let_seconds_pass(9 * DAY).await.expect("time passes");
    world.recover().await.expect("it goes on");
    assert_eq!(state(&world).await, "lost");
    world.injector.set_outage(None);
    assert_eq!(deliver(&world, &callback).await, 200);
    // Its loss was announced, and so is its success.
    assert_recovers(&world, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_whose_files_are_down_keeps_the_task_reported() {
    let world = world(Provider::Kling).await;
    let callback = submitted(&world).await;
    assert_eq!(deliver(&world, &callback).await, 200);
    let message = world.message().await.expect("it is queued");
    world.injector.set_outage(Some(Outage::Provider));
    process(&world, &message).await;
    assert_eq!(state(&world).await, "reported");
    world.injector.set_outage(None);
    assert_recovers(&world, 1).await;
}

/// Nothing can be authenticated, so nothing is refused: a 401 would be final for some providers.
async fn assert_settings_are_our_fault(world: &World, callback: &Value) {
    assert_eq!(deliver(world, callback).await, 503);
    let (status, body) = invoke(world, "tasks", world.submission()).await;
    assert_eq!(status, 503, "{body}");
    world.let_time_pass().await.expect("time passes");
    assert!(matches!(poll(world).await, InvocationResult::Error(_)), "a run without settings has failed");
    assert_eq!(state(world).await, "pending");
}

#[tokio::test(flavor = "multi_thread")]
async fn throttled_settings_are_our_fault() {
    let world = world(Provider::Kling).await;
    let callback = submitted(&world).await;
    world.injector.set_outage(Some(Outage::SettingsThrottled));
    assert_settings_are_our_fault(&world, &callback).await;
    world.injector.set_outage(None);
    assert_recovers(&world, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_and_malformed_settings_are_our_fault() {
    let mut world = world(Provider::Kling).await;
    let malformed = json!({ "Name": "malformed", "SecretString": "{\"version\": 1," });
    world.remote.call("secretsmanager.CreateSecret", &malformed).await.expect("it is stored");
    let callback = submitted(&world).await;
    for secret in ["missing", "malformed"] {
        set(&mut world, "SETTINGS_SECRET", secret);
        assert_settings_are_our_fault(&world, &callback).await;
    }
    set(&mut world, "SETTINGS_SECRET", SECRET);
    assert_recovers(&world, 1).await;
}

/// Sets a variable of every process that is started from now on.
fn set(world: &mut World, name: &str, value: &str) {
    world.environment.retain(|(known, _)| known != name);
    world.environment.push((name.to_owned(), value.to_owned()));
}

/// A library that moves the clock of a process.
fn clock() -> PathBuf {
    static BUILT: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let library = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("libclock.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/clock.rs");
        let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        rustc.args(["--edition=2024", "--crate-type=cdylib", "-Copt-level=2", source, "-o"]).arg(&library);
        assert!(rustc.status().expect("rustc runs").success(), "{source} compiles");
        library
    });
    built.clone()
}

/// Every process that is started from now on has a wrong clock.
fn move_clock(world: &mut World, seconds: i64) {
    set(world, "LD_PRELOAD", &clock().display().to_string());
    set(world, "CLOCK_OFFSET", &seconds.to_string());
    world.clock = seconds;
}

/// AWS refuses signatures of another time, and its SDK corrects its clock by the refusal. A callback with a signature of its
/// provider is refused, and a status poll finds its result; the task of a provider that does not sign notices nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_ten_minutes_off_costs_a_signed_callback_and_no_result() {
    let cases = [-10 * MINUTE, 10 * MINUTE].into_iter().flat_map(|seconds| {
        [(Provider::Kling, 401), (Provider::MaxApi, 200)].map(|(provider, status)| (seconds, provider, status))
    });
    let case = async |(seconds, provider, status)| {
        let mut world = world(provider).await;
        world.injector.set_outage(Some(Outage::SignaturesOfAnotherTime));
        move_clock(&mut world, seconds);
        let callback = submitted(&world).await;
        assert_eq!(deliver(&world, &callback).await, status, "{provider} {seconds}");
        assert_recovers(&world, 1).await;
    };
    join_all(cases.map(case)).await;
}

/// Two workers whose clocks differ: the second takes a lease over that is not over, and one of them settles.
#[tokio::test(flavor = "multi_thread")]
async fn workers_whose_clocks_differ_store_one_result() {
    let mut world = scripted(Provider::Kling, "callback=lose fault=slow rate=200000").await;
    let callback = submitted(&world).await;
    assert_eq!(deliver(&world, &callback).await, 200);
    let message = world.message().await.expect("it is queued");
    let mut slow = world.function("process").await.expect("the process starts");
    move_clock(&mut world, 10 * MINUTE);
    let mut fast = world.function("process").await.expect("the process starts");
    fast.time_to_first_next().await.expect("it is ready");
    let limit = World::time_limit("process");
    let claims = async || {
        let item = world.item().await.expect("the table responds").expect("there is a record");
        item["fencing_token"]["N"].as_str().map(str::to_owned)
    };
    let second = async {
        while claims().await.as_deref() != Some("1") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        fast.invoke(message.clone(), limit).await
    };
    // The file comes slowly, so the first still copies when the second takes over.
    tokio::join!(slow.invoke(message.clone(), limit), second);
    assert_eq!(claims().await.as_deref(), Some("2"), "the second took over");
    move_clock(&mut world, 0);
    assert_recovers(&world, 1).await;
}

/// The table is what it was an hour ago, the bucket is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_an_hour_ago_announces_nothing_twice() {
    let world = world(Provider::Kling).await;
    let callback = submitted(&world).await;
    let an_hour_ago = world.item().await.expect("the table responds").expect("there is a record");
    assert_eq!(deliver(&world, &callback).await, 200);
    assert_recovers(&world, 1).await;
    world.put_item(&an_hour_ago).await.expect("it is restored");
    world.let_seconds_pass(HOUR).await.expect("time passes");
    assert_eq!(state(&world).await, "pending");
    // Its end is found by a status poll, and `result.json` shows that it was announced.
    assert_recovers(&world, 1).await;
}

/// What was announced before the table was restored: nothing, a success, and a loss that a success replaces.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_a_restored_table_takes_back_ends_as_before() {
    let copied = async {
        let world = world(Provider::Kling).await;
        let callback = submitted(&world).await;
        assert_eq!(deliver(&world, &callback).await, 200);
        let reported = world.item().await.expect("the table responds").expect("there is a record");
        assert_recovers(&world, 1).await;
        world.put_item(&reported).await.expect("it is restored");
        assert_eq!(state(&world).await, "reported");
        assert_recovers(&world, 1).await;
    };
    let lost = async {
        let world = world(Provider::Kling).await;
        submitted(&world).await;
        world.injector.set_outage(Some(Outage::Provider));
        world.let_seconds_pass(9 * DAY).await.expect("time passes");
        let overdue = world.item().await.expect("the table responds").expect("there is a record");
        world.recover().await.expect("it goes on");
        assert_eq!(state(&world).await, "lost");
        world.injector.set_outage(None);
        world.put_item(&overdue).await.expect("it is restored");
        assert_recovers(&world, 2).await;
    };
    tokio::join!(copied, lost);
}

/// The table does not know the task; the application does, by the provider's id.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_of_the_lost_hour_comes_back_when_it_is_registered() {
    let world = world(Provider::Kling).await;
    submitted(&world).await;
    forget(&world).await;
    let id = world.provider_task_id().expect("the provider has it");
    let path = format!("/tasks/{}", world.task);
    let registration = event("PUT", &path, &format!("provider_task_id={id}"), &json!({}), b"");
    let (status, view) = invoke(&world, "tasks", registration).await;
    assert_eq!(status, 201, "{view}");
    assert_recovers(&world, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_of_the_lost_hour_comes_back_by_its_callback() {
    for provider in [Provider::Kling, Provider::MaxApi] {
        let world = world(provider).await;
        let callback = submitted(&world).await;
        forget(&world).await;
        assert_eq!(deliver(&world, &callback).await, 200);
        assert_recovers(&world, 1).await;
    }
}

async fn forget(world: &World) {
    let record = json!({ "TableName": TABLE, "Key": { "task": { "S": world.task } } });
    world.remote.call("DynamoDB_20120810.DeleteItem", &record).await.expect("it is gone");
}

/// Lambda hands every message of the queue to the function, in one batch, until it is done with them or they are received no more.
async fn deliver_until_dead(world: &World) {
    while {
        let mut messages = Vec::new();
        while world.remote.messages("work").await.expect("the queue responds").0 > 0 {
            messages.extend(world.remote.receive("work").await.expect("the queue responds"));
        }
        let records: Vec<&Value> = messages.iter().map(|message| &message.record).collect();
        let invoked = world.invoke("process", json!({ "Records": records })).await.expect("the process starts");
        let InvocationResult::Response(response) = invoked else { panic!("the whole batch failed: {invoked:?}") };
        let failures = response["batchItemFailures"].as_array().expect("a list of failures");
        let failed: Vec<&Value> = failures.iter().map(|failure| &failure["itemIdentifier"]).collect();
        for message in messages.iter().filter(|message| !failed.contains(&&message.record["messageId"])) {
            world.remote.delete("work", &message.receipt).await.expect("it is deleted");
        }
        world.remote.control(Method::POST, "redeliver", String::new()).await.expect("an hour passes");
        !messages.is_empty()
    } {}
}

async fn dead_letters(world: &World) -> u64 {
    world.remote.messages("dead").await.expect("the queue responds").0
}

async fn send(world: &World, body: &str) {
    let message = json!({ "QueueUrl": world.remote.queue_url("work"), "MessageBody": body });
    world.remote.call("AmazonSQS.SendMessage", &message).await.expect("it is queued");
}

/// As SQS does: the body is sent again, and counts from nothing.
async fn redrive(world: &World) {
    while dead_letters(world).await > 0 {
        let message = world.remote.receive("dead").await.expect("the queue responds").expect("there is one");
        send(world, message.record["body"].as_str().expect("a body")).await;
        world.remote.delete("dead", &message.receipt).await.expect("it is deleted");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_nobody_can_read_hold_up_no_other() {
    let world = world(Provider::Kling).await;
    let callback = submitted(&world).await;
    let huge = "[".repeat(1_000_000);
    let unreadable = [
        "no message of reelhook",
        "{}",
        "null",
        "\u{1F4FC}",
        r#"{"version":"0","task":"kling/job-1"}"#,
        r#"{"version":"99","task":"kling/job-1"}"#,
        r#"{"version":1,"task":"kling/job-1"}"#,
        r#"{"version":"1","task":["kling/job-1"]}"#,
        r#"{"version":"1","task":"kling/../job-1"}"#,
        r#"{"version":"1","task":"nobody/job-1"}"#,
        &huge,
    ];
    for body in unreadable {
        send(&world, body).await;
    }
    assert_eq!(deliver(&world, &callback).await, 200);
    deliver_until_dead(&world).await;
    assert_eq!(dead_letters(&world).await, unreadable.len() as u64);
    assert_eq!(state(&world).await, "archived");
    redrive(&world).await;
    deliver_until_dead(&world).await;
    assert_eq!(dead_letters(&world).await, unreadable.len() as u64, "no cause was fixed");
    assert_recovers(&world, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_of_an_outage_are_redriven() {
    let world = world(Provider::Kling).await;
    let callback = submitted(&world).await;
    assert_eq!(deliver(&world, &callback).await, 200);
    world.injector.set_outage(Some(Outage::TableThrottled));
    deliver_until_dead(&world).await;
    world.injector.set_outage(None);
    assert_eq!((dead_letters(&world).await, state(&world).await.as_str()), (1, "reported"));
    redrive(&world).await;
    // Without the schedule.
    deliver_until_dead(&world).await;
    assert_eq!((dead_letters(&world).await, state(&world).await.as_str()), (0, "archived"));
    // Once more, of a task that is final.
    send(&world, &json!({ "version": "1", "task": world.task }).to_string()).await;
    deliver_until_dead(&world).await;
    assert_recovers(&world, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_without_the_schedule_delays_what_no_callback_told() {
    let told = world(Provider::Kling).await;
    let callback = submitted(&told).await;
    assert_eq!(deliver(&told, &callback).await, 200);
    let message = told.message().await.expect("it is queued");
    assert!(process(&told, &message).await);
    assert_eq!(state(&told).await, "archived", "nothing waits for the schedule");

    let untold = world(Provider::Kling).await;
    submitted(&untold).await;
    untold.let_seconds_pass(DAY).await.expect("time passes");
    assert_recovers(&untold, 1).await;
}
