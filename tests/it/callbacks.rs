//! Requests to the public URL: valid, repeated, forged and malformed ones.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::join_all;
use local::runtime_api::{Function, InvocationResult};
use serde_json::{Value, json};
use simulator::{Callback, Provider};

use crate::Case;
use crate::world::{World, with};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(twenty_concurrent_duplicates_are_archived_once),
        case!(a_modified_body_is_rejected),
        case!(unauthenticated_callbacks_write_nothing),
        case!(invalid_requests_get_a_clear_4xx),
        case!(an_unreadable_body_with_a_valid_token_is_acknowledged_and_kept),
        case!(a_callback_for_an_unregistered_task_is_accepted),
        case!(tasks_that_share_a_callback_url_are_all_archived),
        case!(a_challenge_is_echoed_and_writes_nothing),
        case!(header_case_and_base64_encoding_do_not_matter),
        case!(a_missing_table_returns_503),
        case!(an_unresponsive_table_returns_503_before_the_provider_times_out),
        case!(no_log_level_logs_a_secret),
    ]
}

/// Submits a Kling task whose callback the simulator does not send, and returns that callback, signed.
async fn unsent(world: &World, id: &str) -> Callback {
    let view = world.submit(Provider::Kling, id, "callback=lose").await;
    let provider_task_id = view["provider_task_id"].as_str().expect("an id");
    let done = world.simulator.wait_for(provider_task_id, Duration::from_secs(20), |task| task.phase.is_final()).await;
    done.expect("the task finishes");
    world.simulator.callback(provider_task_id).expect("a callback")
}

async fn twenty_concurrent_duplicates_are_archived_once(world: Arc<World>) {
    let callback = unsent(&world, "twenty").await;
    let responses =
        join_all((0..20).map(|_| world.post(&callback.url, &callback.headers, callback.body.clone()))).await;
    assert!(responses.iter().all(|response| response.status == 200), "{responses:?}");
    let view = world.assert_archived("kling/twenty", "callback").await;
    // One copy, so one download.
    let id = view["provider_task_id"].as_str().expect("an id");
    let fetched: Vec<_> =
        world.simulator.file_requests(id).into_iter().filter(|request| request.status < 300).collect();
    assert_eq!(fetched.len(), 1, "{fetched:?}");
    let again = world.post(&callback.url, &callback.headers, callback.body.clone()).await;
    assert_eq!(again.status, 200);
    assert_eq!(world.view("kling/twenty").await.body, view);
}

async fn a_modified_body_is_rejected(world: Arc<World>) {
    let callback = unsent(&world, "forged").await;
    let before = world.item("kling/forged").await;
    let mut body = callback.body.to_vec();
    let last = body.len() - 2;
    body[last] ^= 1;
    let response = world.post(&callback.url, &callback.headers, body).await;
    assert_eq!(response.status, 401, "{}", response.body);
    assert_eq!(world.item("kling/forged").await, before);
}

async fn unauthenticated_callbacks_write_nothing(world: Arc<World>) {
    let callback = unsent(&world, "unauthentic").await;
    let before = world.item("kling/unauthentic").await;
    let token = callback.url.rsplit('/').next().expect("a URL has a last part");
    let other_token = if token.starts_with('A') { "B" } else { "A" }.to_owned() + &token[1..];
    let unsigned: Vec<_> = callback.headers.iter().filter(|(name, _)| !name.starts_with("webhook-")).cloned().collect();
    let without_signature: Vec<_> =
        callback.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("webhook-signature")).cloned().collect();
    let stale: Vec<_> = callback
        .headers
        .iter()
        .map(|(name, value)| {
            let is_time = name.eq_ignore_ascii_case("webhook-timestamp");
            (name.clone(), if is_time { "1767225721".to_owned() } else { value.clone() })
        })
        .collect();
    for (what, url, headers) in [
        ("a wrong token", callback.url.replace(token, &other_token), callback.headers.clone()),
        ("an empty token", callback.url.replace(token, "-"), callback.headers.clone()),
        ("the token of another task", callback.url.replace("unauthentic", "authentic"), callback.headers.clone()),
        ("no signature at all", callback.url.clone(), unsigned),
        ("no signature header", callback.url.clone(), without_signature),
        ("an old time", callback.url.clone(), stale),
    ] {
        let response = world.post(&url, &headers, callback.body.clone()).await;
        assert_eq!(response.status, 401, "{what}: {}", response.body);
    }
    assert_eq!(world.item("kling/unauthentic").await, before);
    assert_eq!(world.item("kling/authentic").await, Value::Null);
}

async fn invalid_requests_get_a_clear_4xx(world: Arc<World>) {
    let base = &world.stack.outputs().callback_url;
    let url = world.client.callback_url("maxapi/malformed").await.expect("a URL");
    for (what, url, status) in [
        ("an unknown provider", url.replace("/maxapi/", "/nobody/"), 404),
        ("no callback URL", format!("{base}/"), 404),
        ("half a callback URL", format!("{base}/callback/maxapi"), 404),
        ("an invalid id", url.replace("malformed", "mal%2Fformed"), 404),
    ] {
        let response = world.post(&url, &[], "{}").await;
        assert_eq!(response.status, status, "{what}: {}", response.body);
        assert!(response.body["error"].is_string(), "{what}: {}", response.body);
    }
    let got = world.client.http().get(&url).send().await.expect("a response");
    assert_eq!(got.status(), 405);
    assert_eq!(got.headers()["allow"], "POST");
    let response = world.post(&url, &[], vec![b' '; 3 * 1024 * 1024]).await;
    assert_eq!(response.status, 413, "{}", response.body);
    assert_eq!(world.item("maxapi/malformed").await, Value::Null);
}

/// An authenticated but unreadable callback never gets a 4xx. Its body is kept, and the task is polled.
async fn an_unreadable_body_with_a_valid_token_is_acknowledged_and_kept(world: Arc<World>) {
    let view = world.submit(Provider::MaxApi, "garbage", "callback=lose").await;
    let id = view["provider_task_id"].as_str().expect("an id");
    world.simulator.wait_for(id, Duration::from_secs(20), |task| task.phase.is_final()).await.expect("it finishes");
    let url = view["callback_url"].as_str().expect("a URL");
    let response = world.post(url, &[], "<<not json>>").await;
    assert_eq!(response.status, 200, "{}", response.body);
    // It counts as a hint, which a status poll confirms.
    world.assert_archived("maxapi/garbage", "callback").await;
    assert_eq!(world.item("maxapi/garbage").await["unreadable"]["S"], "<<not json>>");

    // On the static URL nothing names the task; the body is kept under its hash.
    let url = world.client.callback_url("maxapi/-").await.expect("a URL");
    let response = world.post(&url, &[], "<<not json either>>").await;
    assert_eq!(response.status, 200, "{}", response.body);
}

async fn a_callback_for_an_unregistered_task_is_accepted(world: Arc<World>) {
    let url = world.client.callback_url("kling/-").await.expect("a URL");
    let id = direct_submission(&world, &url, "").await;
    world.assert_archived(&format!("kling/{id}"), "callback").await;
}

/// Two tasks use the callback URL of one. Both results arrive.
async fn tasks_that_share_a_callback_url_are_all_archived(world: Arc<World>) {
    let url = world.client.callback_url("kling/shared").await.expect("a URL");
    let first = direct_submission(&world, &url, "").await;
    world.wait_until("kling/shared", "known", |view| view["provider_task_id"] == first.as_str()).await;
    let second = direct_submission(&world, &url, "").await;
    world.assert_archived("kling/shared", "callback").await;
    world.assert_archived(&format!("kling/{second}"), "callback").await;
}

/// Submits to the provider directly, as an application does that uses only the callback URL. Returns the provider's id.
pub(crate) async fn direct_submission(world: &World, callback_url: &str, script: &str) -> String {
    let sample = local::samples::of(Provider::Kling);
    let mut body = sample.body(&format!("a paper boat [simulate {script}]"));
    body["options"] = json!({ "callback_url": callback_url });
    let url = format!("{}{}", world.simulator.base_url(Provider::Kling), sample.endpoint.expect("Kling has endpoints"));
    let key = world.simulator.config().account(Provider::Kling).api_key;
    let response =
        world.client.http().post(url).bearer_auth(key).json(&body).send().await.expect("the provider responds");
    let response: Value = response.json().await.expect("it responds in JSON");
    response["data"]["id"].as_str().unwrap_or_else(|| panic!("no id in {response}")).to_owned()
}

async fn a_challenge_is_echoed_and_writes_nothing(world: Arc<World>) {
    let url = world.client.callback_url("minimax/challenged").await.expect("a URL");
    for challenge in [json!("c-0123456789"), json!(7), json!({ "nested": [1, "ü"] })] {
        let started = Instant::now();
        let response = world.post(&url, &[], json!({ "challenge": challenge }).to_string()).await;
        assert_eq!(response.status, 200);
        assert_eq!(response.body, json!({ "challenge": challenge }));
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    }
    assert_eq!(world.item("minimax/challenged").await, Value::Null);
}

/// The binary of a deployed function.
pub(crate) fn binary(world: &World, function: &str) -> PathBuf {
    world.stack.executable(function).to_owned()
}

/// The Function URL event of a callback.
pub(crate) fn event(callback: &Callback) -> Value {
    let path =
        callback.url.split_once("/callback/").map(|(_, rest)| format!("/callback/{rest}")).expect("a callback URL");
    let mut event: Value = serde_json::from_str(include_str!("../../events/lambda/function-url-callback.json"))
        .expect("the event is JSON");
    event["rawPath"] = json!(path);
    event["requestContext"]["http"]["path"] = json!(path);
    event["body"] = json!(String::from_utf8_lossy(&callback.body));
    event["isBase64Encoded"] = json!(false);
    for (name, value) in &callback.headers {
        event["headers"][name] = json!(value);
    }
    event
}

const TIME_LIMIT: Duration = Duration::from_secs(10);

async fn header_case_and_base64_encoding_do_not_matter(world: Arc<World>) {
    let callback = unsent(&world, "base64").await;
    let mut event = event(&callback);
    // AWS base64-encodes the body if the content type looks binary.
    let encoded = STANDARD.encode(&callback.body);
    event["body"] = json!(encoded);
    event["isBase64Encoded"] = json!(true);
    let headers = event["headers"].as_object().expect("headers").clone();
    event["headers"] = headers.into_iter().map(|(name, value)| (name.to_uppercase(), value)).collect();
    let mut function = Function::start(&binary(&world, "callback"), &world.environment()).await.expect("it starts");
    let InvocationResult::Response(response) = function.invoke(event, TIME_LIMIT).await else { panic!("no response") };
    assert_eq!(response["statusCode"], 200, "{response}");
    world.assert_archived("kling/base64", "callback").await;
}

async fn a_missing_table_returns_503(world: Arc<World>) {
    let callback = unsent(&world, "no-table").await;
    let environment = with(world.environment(), "TABLE_NAME", "no-such-table");
    let mut function = Function::start(&binary(&world, "callback"), &environment).await.expect("it starts");
    let InvocationResult::Response(response) = function.invoke(event(&callback), TIME_LIMIT).await else {
        panic!("no response")
    };
    assert_eq!(response["statusCode"], 503, "{response}");
}

/// The table does not respond at all: our 503 is sent before a provider with a timeout of five seconds hangs up.
async fn an_unresponsive_table_returns_503_before_the_provider_times_out(world: Arc<World>) {
    let callback = unsent(&world, "silent-table").await;
    // Every connection to this endpoint hangs.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", silent.local_addr().expect("an address"));
    let environment = with(world.environment(), "AWS_ENDPOINT_URL", &endpoint);
    let mut function = Function::start(&binary(&world, "callback"), &environment).await.expect("it starts");
    let started = Instant::now();
    let InvocationResult::Response(response) = function.invoke(event(&callback), TIME_LIMIT).await else {
        panic!("no response")
    };
    assert_eq!(response["statusCode"], 503, "{response}");
    assert!(started.elapsed() < Duration::from_millis(4_800), "{:?}", started.elapsed());
}

/// Runs a function at the highest log level on one event, and returns all it wrote.
async fn logged(world: &World, function: &str, event: Value) -> String {
    let log = std::env::temp_dir().join(format!("reelhook-{}-{function}.log", std::process::id()));
    let file = std::fs::File::create(&log).expect("a file");
    let errors = file.try_clone().expect("a second handle");
    let environment = with(world.environment(), "LOG_LEVEL", "trace");
    let started = Function::start_with_output(&binary(world, function), &environment, file.into(), errors.into()).await;
    let mut started = started.expect("it starts");
    let result = started.invoke(event, Duration::from_mins(1)).await;
    assert!(matches!(result, InvocationResult::Response(_)), "{result:?}");
    let text = std::fs::read_to_string(&log).expect("it is text");
    std::fs::remove_file(&log).expect("it is there");
    text
}

/// At `trace` the Lambda runtime once logged the whole event, and the SDK its requests.
async fn no_log_level_logs_a_secret(world: Arc<World>) {
    let mut callback = unsent(&world, "logged").await;
    let body = String::from_utf8_lossy(&callback.body).into_owned();
    let token = callback.url.rsplit('/').next().expect("a URL has a last part").to_owned();
    let link = body.split('"').find(|text| text.starts_with("http") && text.contains('?')).expect("a signed link");
    let query = link.split_once('?').expect("a query").1.to_owned();
    callback.headers.push(("x-marker".to_owned(), "marker-of-a-header".to_owned()));
    let api_key = world.simulator.config().account(Provider::Kling).api_key;
    let message = json!({ "version": "1", "task": "kling/logged" }).to_string();
    let mut batch: Value = serde_json::from_str(include_str!("../../events/lambda/sqs.json")).expect("JSON");
    batch["Records"][0]["body"] = json!(message);
    batch["Records"].as_array_mut().expect("records").truncate(1);

    for (function, event) in [("callback", event(&callback)), ("process", batch)] {
        let log = logged(&world, function, event).await;
        assert!(log.contains("kling/logged"), "{function} logs what it does: {log}");
        for secret in [&token, &query, &api_key, "marker-of-a-header", &body[..40]] {
            let escaped = json!(secret).to_string();
            let escaped = escaped.trim_matches('"');
            assert!(!log.contains(secret) && !log.contains(escaped), "{function} logs {secret}");
        }
    }
}
