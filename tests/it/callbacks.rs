//! What comes in at the public URL: the right, the repeated, the forged and the broken.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use local::runtime_api::{Function, Invoked};
use serde_json::{Value, json};
use simulator::{Callback, Provider};

use crate::Case;
use crate::world::{World, with};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("callbacks::twenty_at_once_are_one", twenty_at_once),
        Case::new("callbacks::one_byte_changed_is_refused", one_byte_changed),
        Case::new("callbacks::the_unauthentic_changes_nothing", unauthentic),
        Case::new("callbacks::the_malformed_is_refused_clearly", malformed),
        Case::new("callbacks::garbage_behind_the_right_token_is_kept", garbage),
        Case::new("callbacks::a_task_nobody_registered_is_taken", unregistered),
        Case::new("callbacks::one_url_for_several_tasks_loses_none", shared_url),
        Case::new("callbacks::a_challenge_is_echoed_and_writes_nothing", challenge),
        Case::new("callbacks::headers_of_any_case_and_base64_bodies", base64_body),
        Case::new("callbacks::no_table_is_a_503", no_table),
        Case::new("callbacks::a_silent_table_is_a_503_in_time", silent_table),
    ]
}

/// A finished task of Kling whose callback was not sent, and that callback, signed.
async fn unsent(world: &World, id: &str) -> Callback {
    let view = world.submit(Provider::Kling, id, "callback=lose").await;
    let provider_task_id = view["provider_task_id"].as_str().expect("an id");
    let done = world.simulator.wait_for(provider_task_id, Duration::from_secs(20), |task| task.phase.is_final()).await;
    done.expect("the provider finishes");
    world.simulator.callback(provider_task_id).expect("there is something to say")
}

async fn twenty_at_once(world: Arc<World>) {
    let callback = unsent(&world, "twenty").await;
    let answers = join_all((0..20).map(|_| world.post(&callback.url, &callback.headers, callback.body.clone()))).await;
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    let view = world.assert_archived("kling/twenty", "callback").await;
    // One copy: the file was fetched once.
    let id = view["provider_task_id"].as_str().expect("an id");
    let fetched: Vec<_> =
        world.simulator.file_requests(id).into_iter().filter(|request| request.status < 300).collect();
    assert_eq!(fetched.len(), 1, "{fetched:?}");
    let again = world.post(&callback.url, &callback.headers, callback.body.clone()).await;
    assert_eq!(again.status, 200);
    assert_eq!(world.view("kling/twenty").await.body, view);
}

async fn one_byte_changed(world: Arc<World>) {
    let callback = unsent(&world, "forged").await;
    let before = world.item("kling/forged").await;
    let mut body = callback.body.to_vec();
    let last = body.len() - 2;
    body[last] ^= 1;
    let answer = world.post(&callback.url, &callback.headers, body).await;
    assert_eq!(answer.status, 401, "{}", answer.body);
    assert_eq!(world.item("kling/forged").await, before);
}

async fn unauthentic(world: Arc<World>) {
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
        let answer = world.post(&url, &headers, callback.body.clone()).await;
        assert_eq!(answer.status, 401, "{what}: {}", answer.body);
    }
    assert_eq!(world.item("kling/unauthentic").await, before);
    assert_eq!(world.item("kling/authentic").await, Value::Null);
}

async fn malformed(world: Arc<World>) {
    let base = &world.stack.outputs().callback_url;
    let url = world.client.callback_url("maxapi/malformed").await.expect("a URL");
    for (what, url, status) in [
        ("an unknown provider", url.replace("/maxapi/", "/nobody/"), 404),
        ("no callback URL", format!("{base}/"), 404),
        ("half a callback URL", format!("{base}/callback/maxapi"), 404),
        ("an id that is none", url.replace("malformed", "mal%2Fformed"), 404),
    ] {
        let answer = world.post(&url, &[], "{}").await;
        assert_eq!(answer.status, status, "{what}: {}", answer.body);
        assert!(answer.body["error"].is_string(), "{what}: {}", answer.body);
    }
    let got = world.client.http().get(&url).send().await.expect("an answer");
    assert_eq!(got.status(), 405);
    assert_eq!(got.headers()["allow"], "POST");
    let answer = world.post(&url, &[], vec![b' '; 3 * 1024 * 1024]).await;
    assert_eq!(answer.status, 413, "{}", answer.body);
    assert_eq!(world.item("maxapi/malformed").await, Value::Null);
}

/// Authentic and not understood: never a 4xx, never lost. The task stays pollable, and the body is kept.
async fn garbage(world: Arc<World>) {
    let view = world.submit(Provider::MaxApi, "garbage", "callback=lose").await;
    let id = view["provider_task_id"].as_str().expect("an id");
    world.simulator.wait_for(id, Duration::from_secs(20), |task| task.phase.is_final()).await.expect("it finishes");
    let url = view["callback_url"].as_str().expect("a URL");
    let answer = world.post(url, &[], "<<not json>>").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    // It was taken as a hint: the provider is asked, and knows.
    world.assert_archived("maxapi/garbage", "callback").await;
    assert_eq!(world.item("maxapi/garbage").await["unreadable"]["S"], "<<not json>>");

    // Nothing says which task this is about; it is kept under its own hash.
    let url = world.client.callback_url("maxapi/-").await.expect("a URL");
    let answer = world.post(&url, &[], "<<not json either>>").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

async fn unregistered(world: Arc<World>) {
    let url = world.client.callback_url("kling/-").await.expect("a URL");
    let id = direct_submission(&world, &url, "").await;
    world.assert_archived(&format!("kling/{id}"), "callback").await;
}

/// Somebody hands one callback URL to two tasks. Both results arrive.
async fn shared_url(world: Arc<World>) {
    let url = world.client.callback_url("kling/shared").await.expect("a URL");
    let first = direct_submission(&world, &url, "").await;
    world.until("kling/shared", "known", |view| view["provider_task_id"] == first.as_str()).await;
    let second = direct_submission(&world, &url, "").await;
    world.assert_archived("kling/shared", "callback").await;
    world.assert_archived(&format!("kling/{second}"), "callback").await;
}

/// Submits to the provider itself, as an application does that only wants the callback URL. Gives back the provider's id.
pub(crate) async fn direct_submission(world: &World, callback_url: &str, script: &str) -> String {
    let sample = local::samples::of(Provider::Kling);
    let mut body = sample.body(&format!("a paper boat [simulate {script}]"));
    body["options"] = json!({ "callback_url": callback_url });
    let url = format!("{}{}", world.simulator.base_url(Provider::Kling), sample.endpoint.expect("Kling has endpoints"));
    let key = world.simulator.config().account(Provider::Kling).api_key;
    let answer = world.client.http().post(url).bearer_auth(key).json(&body).send().await.expect("the provider answers");
    let answer: Value = answer.json().await.expect("it answers in JSON");
    answer["data"]["id"].as_str().unwrap_or_else(|| panic!("no id in {answer}")).to_owned()
}

async fn challenge(world: Arc<World>) {
    let url = world.client.callback_url("minimax/challenged").await.expect("a URL");
    for challenge in [json!("c-0123456789"), json!(7), json!({ "nested": [1, "ü"] })] {
        let started = Instant::now();
        let answer = world.post(&url, &[], json!({ "challenge": challenge }).to_string()).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.body, json!({ "challenge": challenge }));
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    }
    assert_eq!(world.item("minimax/challenged").await, Value::Null);
}

/// The binary of a function, as the deployment built it.
pub(crate) fn binary(world: &World, function: &str) -> PathBuf {
    world.stack.executable(function).to_owned()
}

/// A Function URL event for a callback.
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

async fn base64_body(world: Arc<World>) {
    let callback = unsent(&world, "base64").await;
    let mut event = event(&callback);
    // `hello` of the function URL: what AWS does with a body whose content type it takes for binary.
    let encoded = base64(&callback.body);
    event["body"] = json!(encoded);
    event["isBase64Encoded"] = json!(true);
    let headers = event["headers"].as_object().expect("headers").clone();
    event["headers"] = headers.into_iter().map(|(name, value)| (name.to_uppercase(), value)).collect();
    let mut function = Function::start(&binary(&world, "callback"), &world.environment()).await.expect("it starts");
    let Invoked::Response(answer) = function.invoke(event, TIME_LIMIT).await else { panic!("no answer") };
    assert_eq!(answer["statusCode"], 200, "{answer}");
    world.assert_archived("kling/base64", "callback").await;
}

/// Standard base64; the test needs no crate for it.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = (0..3).fold(0_u32, |group, at| group << 8 | u32::from(chunk.get(at).copied().unwrap_or_default()));
        for at in 0..4 {
            let index = usize::try_from(group >> (18 - 6 * at) & 63).expect("six bits");
            text.push(if at <= chunk.len() { char::from(ALPHABET[index]) } else { '=' });
        }
    }
    text
}

async fn no_table(world: Arc<World>) {
    let callback = unsent(&world, "no-table").await;
    let environment = with(world.environment(), "TABLE_NAME", "no-such-table");
    let mut function = Function::start(&binary(&world, "callback"), &environment).await.expect("it starts");
    let Invoked::Response(answer) = function.invoke(event(&callback), TIME_LIMIT).await else { panic!("no answer") };
    assert_eq!(answer["statusCode"], 503, "{answer}");
}

/// The table does not answer at all: our own 5xx goes out before a provider with five seconds of patience hangs up.
async fn silent_table(world: Arc<World>) {
    let callback = unsent(&world, "silent-table").await;
    // Reads the settings from the stand-in first, then finds that every new connection hangs.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", silent.local_addr().expect("an address"));
    let environment = with(world.environment(), "AWS_ENDPOINT_URL", &endpoint);
    let mut function = Function::start(&binary(&world, "callback"), &environment).await.expect("it starts");
    let started = Instant::now();
    let Invoked::Response(answer) = function.invoke(event(&callback), TIME_LIMIT).await else { panic!("no answer") };
    assert_eq!(answer["statusCode"], 503, "{answer}");
    assert!(started.elapsed() < Duration::from_millis(4_800), "{:?}", started.elapsed());
}
