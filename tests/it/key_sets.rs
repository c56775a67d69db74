//! Callbacks of a provider that publishes the keys of its signatures, at the real binary: when the keys are fetched, and when not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use local::runtime_api::{Function, InvocationResult};
use serde_json::{Value, json};
use simulator::{Callback, Provider};
use tokio::net::TcpListener;

use crate::Case;
use crate::callbacks::{binary, event};
use crate::world::{World, with};

/// A key that signs nothing here: RFC 8032, section 7.1, test 2.
const OTHER_KEY: &str = "PUAXw-hDiVqStwqnTRt-vJyYLM8uxJaMwM1V8Sr0Zgw";

/// Where nobody listens.
const NOWHERE: &str = "http://127.0.0.1:1/keys";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(keys_in_the_settings_are_not_fetched),
        case!(a_new_key_is_accepted_at_once),
        case!(without_keys_the_provider_is_told_to_try_again),
        case!(no_other_providers_callback_waits_for_keys),
        case!(a_request_of_another_customer_is_refused),
        case!(a_task_is_registered_with_the_endpoint_that_polling_needs),
    ]
}

/// A callback of a finished task, which nobody has sent.
async fn unsent(world: &World, provider: Provider, id: &str) -> Callback {
    let view = world.submit(provider, id, "callback=lose").await;
    let id = view["provider_task_id"].as_str().expect("an id");
    let done = world.simulator.wait_for(id, Duration::from_secs(20), |task| task.phase.is_final()).await;
    done.expect("the task finishes");
    world.simulator.callback(id).expect("a callback")
}

/// The function `callback`, freshly started, with these settings of fal.
async fn function(world: &World, own: Value) -> Function {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("/key-sets/{}", COUNT.fetch_add(1, Ordering::Relaxed));
    world.put_settings(&name, |settings| settings["providers"]["fal"] = own).await;
    let environment = with(world.environment(), "SETTINGS_SECRET", &name);
    Function::start(&binary(world, "callback"), &environment).await.expect("it starts")
}

async fn status(function: &mut Function, callback: &Callback) -> Value {
    let InvocationResult::Response(response) = function.invoke(event(callback), Duration::from_secs(20)).await else {
        panic!("no response")
    };
    response["statusCode"].clone()
}

/// The key that the simulated provider signs with.
async fn published_key(world: &World) -> Value {
    let url = world.simulator.key_set_url(Provider::Fal).expect("it publishes its keys");
    let keys: Value = world.client.http().get(url).send().await.expect("a response").json().await.expect("JSON");
    keys["keys"][0]["x"].clone()
}

fn account() -> Option<&'static str> {
    Provider::Fal.account_id()
}

async fn keys_in_the_settings_are_not_fetched(world: Arc<World>) {
    let callback = unsent(&world, Provider::Fal, "pinned").await;
    let own = json!({
        "public_keys": [OTHER_KEY, published_key(&world).await], "key_set_url": NOWHERE, "account_id": account(),
    });
    let mut function = function(&world, own).await;
    assert_eq!(status(&mut function, &callback).await, 200);
    assert_eq!(world.assert_archived("fal/pinned", "callback").await["state"], "archived");
}

/// The settings hold the key from before a rotation.
async fn a_new_key_is_accepted_at_once(world: Arc<World>) {
    let callback = unsent(&world, Provider::Fal, "rotated").await;
    let url = world.simulator.key_set_url(Provider::Fal);
    let own = json!({ "public_keys": [OTHER_KEY], "key_set_url": url, "account_id": account() });
    let mut function = function(&world, own).await;
    assert_eq!(status(&mut function, &callback).await, 200);
}

/// Nobody can say whether the signature is wrong, and a 4xx might be final.
async fn without_keys_the_provider_is_told_to_try_again(world: Arc<World>) {
    let callback = unsent(&world, Provider::Fal, "keyless").await;
    for public_keys in [json!([]), json!([OTHER_KEY])] {
        let own = json!({ "public_keys": public_keys, "key_set_url": NOWHERE, "account_id": account() });
        let mut function = function(&world, own).await;
        for _ in 0..2 {
            assert_eq!(status(&mut function, &callback).await, 503, "{public_keys}");
        }
        // Without a signature there is nothing that a key could verify.
        let unsigned = Callback { headers: vec![], ..callback.clone() };
        assert_eq!(status(&mut function, &unsigned).await, 401);
    }
    assert_eq!(world.view("fal/keyless").await.body["state"], "pending");
}

async fn no_other_providers_callback_waits_for_keys(world: Arc<World>) {
    // It takes connections and never responds.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/keys", silent.local_addr().expect("an address"));
    let (kling, fal) =
        (unsent(&world, Provider::Kling, "beside-keys").await, unsent(&world, Provider::Fal, "silent").await);
    let mut function = function(&world, json!({ "key_set_url": url })).await;
    let started = Instant::now();
    assert_eq!(status(&mut function, &kling).await, 200);
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    // The provider whose keys they are is told in time.
    let started = Instant::now();
    assert_eq!(status(&mut function, &fal).await, 503);
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
}

/// The key signs for all customers of the provider, and any of them can have it call our URL.
async fn a_request_of_another_customer_is_refused(world: Arc<World>) {
    let callback = unsent(&world, Provider::Fal, "other-customer").await;
    let url = world.simulator.key_set_url(Provider::Fal);
    let mut function = function(&world, json!({ "key_set_url": url, "account_id": "somebody else" })).await;
    assert_eq!(status(&mut function, &callback).await, 401);
    assert_eq!(world.view("fal/other-customer").await.body["state"], "pending");
}

/// Without it nothing could confirm what a callback says.
async fn a_task_is_registered_with_the_endpoint_that_polling_needs(world: Arc<World>) {
    let path = "fal/registered?provider_task_id=7c1f0e52-9f0a-4d0a-8a3f-1f1d7c0e9b01";
    let refused = world.client.put(path, String::new()).await.expect("a response");
    assert_eq!(refused.status, 400, "{}", refused.body);
    assert!(refused.body["message"].as_str().is_some_and(|message| message.contains("?endpoint=")), "{}", refused.body);
    let with_endpoint = format!("{path}&endpoint=/fal-ai/veo3");
    let registered = world.client.put(&with_endpoint, String::new()).await.expect("a response");
    assert_eq!((registered.status, &registered.body["endpoint"]), (201, &json!("/fal-ai/veo3")), "{}", registered.body);
    let no_static = world.client.get("fal/-/callback-url").await.expect("a response");
    assert_eq!(no_static.status, 400, "{}", no_static.body);
}
