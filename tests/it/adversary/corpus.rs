//! Forged callbacks, thousands for each provider, made of genuine ones. All of them go to the real binary, whose calls to AWS
//! are counted: none is accepted, none writes, and the response tells nothing.
//!
//! What is posted by somebody who learned a callback URL and is accepted, as a hint, is in [`super`], end to end.

mod bodies;
mod endpoint;
mod request;
mod routes;
mod signatures;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use endpoint::{Calls, CountingEndpoint};
use local::runtime_api::{Function, InvocationResult};
use request::{Forgery, Request};
use serde_json::Value;
use signatures::Material;
use simulator::Provider;
use tokio::sync::OwnedSemaphorePermit;

use super::sandbox::{Sandbox, Trust, signs, signs_body, signs_reports};
use crate::Case;
use crate::callbacks::binary;
use crate::world::{World, print_error, with};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for provider in Provider::ALL.into_iter().filter(|provider| provider.calls_back()) {
        cases.push(case!(no_forgery_is_accepted[provider](provider)));
        if !signs_body(provider) {
            cases.push(case!(a_made_up_body_is_a_hint_and_no_more[provider](provider)));
        }
    }
    cases
}

/// Longest time for one request, which a debug build on a busy machine needs for none of them: as long as most providers wait.
const MAX_TIME: Duration = Duration::from_secs(5);

/// The callback function under attack, with its own counted way to AWS.
struct Target {
    sandbox: Sandbox,
    endpoint: CountingEndpoint,
    function: Function,
    slowest: Duration,
    _turn: OwnedSemaphorePermit,
}

impl Target {
    async fn start(world: &Arc<World>, provider: Provider) -> Self {
        let turn = Arc::clone(&world.busy_cases).acquire_owned().await.expect("it is never closed");
        let sandbox =
            Sandbox::start(Arc::clone(world), provider, Trust { api_key: true, secret: signs(provider) }).await;
        let endpoint = CountingEndpoint::start(world.stack.endpoint()).await;
        let environment = with(sandbox.environment.clone(), "AWS_ENDPOINT_URL", endpoint.url());
        let function = Function::start(&binary(world, "callback"), &environment).await.expect("it starts");
        Self { sandbox, endpoint, function, slowest: Duration::ZERO, _turn: turn }
    }

    /// Submits a task that succeeds, and returns its callback, which nobody sends, with the provider's id.
    async fn genuine(&mut self, id: &str) -> (Request, String) {
        let view = self.sandbox.submit(id, "delay=0 callback=lose").await;
        let id = view["provider_task_id"].as_str().expect("an id").to_owned();
        (Request::genuine(&self.sandbox.simulator.callback(&id).expect("a callback")), id)
    }

    /// Sends a request. Returns the status and the whole response.
    async fn send(&mut self, name: &str, request: &Request) -> (u64, Value) {
        let started = Instant::now();
        let result = self.function.invoke(request.event(), Duration::from_secs(10)).await;
        self.slowest = self.slowest.max(started.elapsed());
        let InvocationResult::Response(response) = result else { panic!("{name}: {result:?}") };
        (response["statusCode"].as_u64().expect("a status"), response)
    }

    /// Every item of the table, in an order that does not change.
    async fn items(&self) -> BTreeSet<String> {
        self.sandbox.items().await.iter().map(Value::to_string).collect()
    }
}

fn forgeries(material: &Material) -> Vec<Forgery> {
    let mut forgeries = signatures::forgeries(material);
    forgeries.extend(routes::forgeries(&material.genuine, &material.other));
    forgeries.extend(bodies::behind_a_wrong_token(&material.genuine));
    forgeries
}

async fn no_forgery_is_accepted(world: Arc<World>, provider: Provider) {
    let mut target = Target::start(&world, provider).await;
    let (genuine, id) = target.genuine("forged").await;
    let (other, _) = target.genuine("another").await;
    let account = target.sandbox.simulator.config().account(provider);
    let secret = account.signing_secret.unwrap_or_else(|| account.api_key.clone());
    let material = Material { provider, genuine, id, other, secret, api_key: account.api_key };
    let before = target.items().await;
    target.endpoint.take();

    let started = Instant::now();
    let forgeries = forgeries(&material);
    let mut refusals = BTreeSet::new();
    for Forgery { name, request, refused_as } in &forgeries {
        let (status, response) = target.send(name, request).await;
        assert!(refused_as.contains(&status), "{provider}, {name}: {response}");
        if status == 401 {
            refusals.insert(response.to_string());
        }
    }
    let (calls, took) = (target.endpoint.take(), started.elapsed());
    // Whatever is wrong, and whether or not there is such a task.
    assert_eq!(refusals.len(), 1, "a refusal tells what was wrong: {refusals:?}");
    assert_eq!(Calls { settings: 0, ..calls }, Calls { table: 0, queue: 0, settings: 0, other: 0 });
    // Once at the start, and at most every half minute after that.
    let allowed = 2 + took.as_secs() / 30;
    assert!(calls.settings as u64 <= allowed, "{} reads of the settings in {took:?}", calls.settings);
    assert_eq!(target.items().await, before);
    assert!(target.slowest < MAX_TIME, "a response took {:?}", target.slowest);
    print_error(&format!(
        "{provider}: {} forgeries, 0 accepted, {} calls to the table, {} to the queue, {} reads of the settings, {:.1} s, slowest {} ms",
        forgeries.len(),
        calls.table,
        calls.queue,
        calls.settings,
        took.as_secs_f64(),
        target.slowest.as_millis()
    ));
    genuine_callbacks_still_work(&mut target, &material, &before).await;
}

/// The same process still accepts what is genuine, and the counters and the table show it.
async fn genuine_callbacks_still_work(target: &mut Target, material: &Material, before: &BTreeSet<String>) {
    let callback = target.sandbox.simulator.callback(&material.id).expect("a callback");
    let (status, response) = target.send("the genuine callback", &Request::genuine(&callback)).await;
    assert_eq!(status, 200, "{response}");
    let calls = target.endpoint.take();
    assert!(calls.table > 0 && calls.queue > 0, "{calls:?}");
    let after = target.items().await;
    assert_ne!(after, *before);
    // Sent again it is no forgery but a duplicate: acknowledged, and nothing changes. A hint is looked at once more.
    let (status, response) = target.send("the genuine callback again", &Request::genuine(&callback)).await;
    assert_eq!(status, 200, "{response}");
    let calls = target.endpoint.take();
    if signs_reports(material.provider) {
        assert_eq!((calls.table, calls.queue), (1, 0), "{calls:?}");
        assert_eq!(target.items().await, after);
    } else {
        assert_eq!((calls.table, calls.queue), (1, 1), "{calls:?}");
        assert_eq!(target.items().await.len(), before.len());
    }
}

/// Who learned a URL, and a signature that does not cover the body, can send any body. Each is a hint and no more: one write to
/// the record, which stays open, and one message. What follows from hints, end to end, is tested in [`super`].
async fn a_made_up_body_is_a_hint_and_no_more(world: Arc<World>, provider: Provider) {
    let mut target = Target::start(&world, provider).await;
    let (genuine, _) = target.genuine("hinted").await;
    target.endpoint.take();
    let bodies = bodies::swapped(&genuine);
    let mut accepted = 0;
    for (name, body) in &bodies {
        let request = Request { body: body.clone(), ..genuine.clone() };
        let (status, response) = target.send(name, &request).await;
        let calls = target.endpoint.take();
        if status == 200 {
            accepted += 1;
            assert!(calls.table <= 1 && calls.queue <= 1, "{provider}, {name}: {calls:?}");
        } else {
            // A body without the id that KIE's signature covers is refused.
            assert!(status == 401 && provider == Provider::Kie, "{provider}, {name}: {response}");
            assert_eq!((calls.table, calls.queue), (0, 0), "{provider}, {name}");
        }
        let item = target.sandbox.item(&format!("{provider}/hinted")).await;
        assert_eq!(item["state"]["S"], "pending", "{provider}, {name}: {item}");
        assert_eq!(item["outcome"], Value::Null, "{provider}, {name}: {item}");
        assert_eq!(item["hint"].is_object(), accepted > 0, "{provider}, {name}: {item}");
    }
    assert!(accepted > 0 && target.items().await.len() == 2, "{accepted} accepted");
}
