//! Everything that somebody can do who learned one callback URL. Whatever is posted, nothing is published that the provider
//! did not say, and genuine results still arrive. What is believed without a proof, and when, is decided in
//! `reelhook_core::callback::proof`.

mod corpus;
mod forgeries;
mod links;
mod sandbox;

use std::sync::Arc;

use forgeries::{Forgery, Templates, of_other_systems, unknown_id};
use sandbox::{Availability, Sandbox, Trust, signs, signs_reports};
use serde_json::{Value, json};
use simulator::{Phase, Provider, script::Outcome};

use crate::Case;
use crate::world::{World, adapter};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = vec![
        case!(a_learned_url_announces_nothing_for_another_task),
        case!(a_learned_url_ends_no_task_as_failed),
        case!(a_static_url_that_names_no_task_is_not_issued),
        case!(a_body_that_names_two_tasks_is_refused),
        case!(a_body_of_another_system_is_carried_out_without_a_key),
        case!(a_success_over_a_failure_survives_a_lost_message_and_a_stale_poll),
        case!(a_body_that_belongs_to_another_record_is_kept),
        case!(forgeries_race_the_submission_and_the_genuine_callback),
    ];
    for provider in Provider::ALL.into_iter().filter(|provider| provider.calls_back()) {
        let trust = Trust { api_key: true, secret: true };
        cases.push(case!(nothing_is_announced_that_the_provider_did_not_say[provider](provider, trust)));
        // What names no task is about the task of its URL, and without a key it is believed.
        if provider != Provider::Apimp {
            let trust = Trust { api_key: false, secret: false };
            let name = format!("{provider} without a key");
            cases.push(case!(nothing_is_announced_that_the_provider_did_not_say[name](provider, trust)));
        }
        if signs(provider) {
            for (api_key, what) in [(true, "without a secret"), (false, "with a secret alone")] {
                let (trust, name) = (Trust { api_key, secret: !api_key }, format!("{provider} {what}"));
                cases.push(case!(nothing_is_announced_that_the_provider_did_not_say[name](provider, trust)));
            }
        }
    }
    cases.extend(corpus::cases());
    cases.extend(links::cases());
    cases
}

/// Some tasks of one provider, and what somebody knows of them.
struct Scene {
    /// The callback URL that was learned: that of the first task.
    url: String,
    /// Open until the end, and its callback URL was learned.
    own: String,
    /// Open until the end.
    other: String,
    failed: String,
    unknown: String,
    templates: Templates,
    /// Every key under which something could be published.
    keys: Vec<String>,
}

impl Scene {
    async fn set(sandbox: &mut Sandbox, prefix: &str) -> Self {
        let mut ids = Vec::new();
        let mut urls = Vec::new();
        for (name, script) in [
            ("own", "delay=90000 callback=lose"),
            ("other", "delay=90000 callback=lose"),
            ("refused", "delay=0 callback=lose outcome=fail"),
        ] {
            let view = sandbox.submit(&format!("{prefix}-{name}"), script).await;
            urls.push(view["callback_url"].as_str().expect("a URL").to_owned());
            ids.push(view["provider_task_id"].as_str().expect("an id").to_owned());
        }
        let templates = Templates::make(sandbox, prefix).await;
        let unknown = unknown_id(&ids[0]);
        let names = ["own", "other", "refused", "succeeded", "failed", "open"];
        let keys = names.iter().map(|name| format!("{}/{prefix}-{name}", sandbox.provider));
        let provider_ids = ids.iter().map(String::as_str).chain([templates.succeeded(), unknown.as_str()]);
        let keys = keys.chain(provider_ids.map(|id| sandbox.unregistered(id))).collect();
        let [own, other, failed] = ids.try_into().expect("three tasks");
        Self { url: urls.swap_remove(0), own, other, failed, unknown, templates, keys }
    }

    /// Posts everything to the learned URL, twice.
    async fn attack(&self, sandbox: &mut Sandbox, trust: Trust) {
        let is_believed = !trust.api_key && !trust.secret;
        let mut forgeries: Vec<Forgery> = vec![];
        for target in [&self.other, &self.failed, &self.unknown, self.templates.succeeded()] {
            forgeries.extend(self.templates.about(target));
        }
        if !is_believed {
            forgeries.extend(self.templates.about(&self.own));
            forgeries.extend(of_other_systems(sandbox.provider));
        }
        for forgery in forgeries.iter().chain(&forgeries) {
            let status = sandbox.post(&self.url, &forgery.headers, &forgery.body).await;
            assert!(matches!(status, 200 | 401), "{status} for {}", forgery.body);
        }
    }

    /// Nothing is published but what the simulated provider says as well.
    async fn assert_nothing_forged(&self, sandbox: &Sandbox, when: &str) {
        for key in &self.keys {
            let Some(result) = sandbox.published(key).await else { continue };
            let id = result["provider_task_id"].as_str().unwrap_or_default();
            let task = sandbox.simulator.task(id).unwrap_or_else(|| panic!("{when}: {key} is published: {result}"));
            let said = match task.phase {
                Phase::Final(Outcome::Succeed) => "succeeded",
                Phase::Final(_) => "failed",
                Phase::Open(_) => "open",
            };
            assert_eq!(result["outcome"], said, "{when}: {key}: {result}");
            assert!(*key != sandbox.unregistered(id), "{when}: {key} is published twice");
            if said == "succeeded" {
                assert_genuine_video(sandbox, key, id).await;
            }
        }
    }

    /// The tasks end, and their callbacks come or are missed.
    async fn assert_genuine_results_arrive(&self, sandbox: &mut Sandbox, prefix: &str, is_pollable: bool) {
        let callback = finish(sandbox, &self.own);
        assert_eq!(sandbox.post(&callback.url, &callback.headers, &text(&callback)).await, 200);
        finish(sandbox, &self.other);
        let mut expected = vec![(format!("{}/{prefix}-own", sandbox.provider), &self.own)];
        if is_pollable {
            expected.push((format!("{}/{prefix}-other", sandbox.provider), &self.other));
        }
        for _ in 0..4 {
            sandbox.settle().await;
            sandbox.pass(400).await;
        }
        for (key, id) in expected {
            let item = sandbox.item(&key).await;
            assert_eq!(item["state"]["S"], "archived", "{key}: {item}");
            assert_genuine_video(sandbox, &key, id).await;
        }
    }
}

/// Ends a task at the provider. Returns its callback, which nobody has sent.
fn finish(sandbox: &Sandbox, id: &str) -> simulator::Callback {
    sandbox.simulator.script(id, |script| script.delay = std::time::Duration::ZERO);
    sandbox.simulator.callback(id).expect("a callback")
}

fn text(callback: &simulator::Callback) -> String {
    String::from_utf8_lossy(&callback.body).into_owned()
}

async fn assert_genuine_video(sandbox: &Sandbox, key: &str, id: &str) {
    let result = sandbox.published(key).await.unwrap_or_else(|| panic!("{key} has no result.json"));
    let video = result["artifacts"].as_array().into_iter().flatten().find(|artifact| artifact["kind"] == "video");
    let stored = match video.and_then(|video| video["key"].as_str()) {
        Some(stored) => sandbox.world.object(stored).await,
        None => panic!("{key} has no video: {result}"),
    };
    assert!(
        stored.as_deref() == Some(&sandbox.simulator.file(id)[..]),
        "{key}: it is not the provider's video: {result}"
    );
}

/// Every forgery, in every availability of the provider.
async fn nothing_is_announced_that_the_provider_did_not_say(world: Arc<World>, provider: Provider, trust: Trust) {
    use Availability::{Failing, Forgetful, Slow, Unreachable, Up};
    let mut sandbox = Sandbox::start(world, provider, trust).await;
    let availabilities = if trust.api_key { &[Up, Unreachable, Failing, Slow, Forgetful][..] } else { &[Up] };
    for availability in availabilities.iter().copied() {
        // A name of its own for each case, because all share one bucket.
        let prefix = format!("{availability:?}-{}{}", u8::from(trust.api_key), u8::from(trust.secret)).to_lowercase();
        sandbox.set(Up).await;
        let scene = Scene::set(&mut sandbox, &prefix).await;
        sandbox.set(availability).await;
        scene.attack(&mut sandbox, trust).await;
        // Less than ten minutes: after those, an outage makes an unsigned success count once its links are about to die.
        let mut steps = vec![0, 250, 250];
        if signs(provider) || availability == Forgetful {
            steps.extend([400, 400]);
        }
        for step in steps {
            sandbox.pass(step).await;
            sandbox.settle().await;
            scene.assert_nothing_forged(&sandbox, &format!("{availability:?} for {step} s more")).await;
        }
        sandbox.set(Up).await;
        for step in [60, 400, 400, 400] {
            sandbox.pass(step).await;
            sandbox.settle().await;
            scene.assert_nothing_forged(&sandbox, &format!("up again after {availability:?}")).await;
        }
        // Nobody registered it, and the provider does not know it.
        assert_eq!(sandbox.item(&sandbox.unregistered(&scene.unknown)).await, Value::Null);
        // A callback whose sender alone is proved needs somebody who confirms it.
        let is_signed = trust.secret && signs(provider) || sandbox.simulator.key_set_url(provider).is_some();
        let is_proved = trust.secret && signs_reports(provider);
        // Some serve their files only with the key, and MiniMax names its file by an id.
        let with_key = serde_json::from_str(r#"{"api_key":"k"}"#).expect("valid settings");
        let needs_key = provider == Provider::MiniMax || adapter(provider).download_header(&with_key).is_some();
        let is_confirmable = trust.api_key || !(is_signed && !is_proved || needs_key);
        if is_confirmable {
            scene.assert_genuine_results_arrive(&mut sandbox, &prefix, trust.api_key).await;
        }
    }
}

/// The attack: a success of another task, and of one that does not exist, posted to the URL of a task.
async fn a_learned_url_announces_nothing_for_another_task(world: Arc<World>) {
    for api_key in [true, false] {
        let trust = Trust { api_key, secret: false };
        let mut sandbox = Sandbox::start(Arc::clone(&world), Provider::ApiMart, trust).await;
        let prefix = format!("another-{}", u8::from(api_key));
        let scene = Scene::set(&mut sandbox, &prefix).await;
        for target in [&scene.other, &scene.unknown] {
            for forgery in scene.templates.about(target) {
                assert_eq!(sandbox.post(&scene.url, &[], &forgery.body).await, 200);
            }
        }
        let other = sandbox.item(&format!("apimart/{prefix}-other")).await;
        assert_eq!(other["state"]["S"], "pending", "{other}");
        assert_eq!(other["outcome"], Value::Null, "{other}");
        for step in [0, 400, 400, 400] {
            sandbox.pass(step).await;
            sandbox.settle().await;
            scene.assert_nothing_forged(&sandbox, "another task").await;
        }
        assert_eq!(sandbox.item(&sandbox.unregistered(&scene.unknown)).await, Value::Null);
    }
}

/// The attack: a failure posted to the URL of a task that is open, so that the application pays for a second one.
async fn a_learned_url_ends_no_task_as_failed(world: Arc<World>) {
    let trust = Trust { api_key: true, secret: false };
    for (provider, prefix) in [(Provider::ApiMart, "ended"), (Provider::Ark, "ended"), (Provider::Kie, "ended")] {
        let mut sandbox = Sandbox::start(Arc::clone(&world), provider, trust).await;
        let scene = Scene::set(&mut sandbox, prefix).await;
        for forgery in scene.templates.about(&scene.own) {
            assert_eq!(sandbox.post(&scene.url, &[], &forgery.body).await, 200);
        }
        for step in [0, 400, 400, 400] {
            sandbox.pass(step).await;
            sandbox.settle().await;
            let own = sandbox.item(&format!("{provider}/{prefix}-own")).await;
            assert_eq!(own["state"]["S"], "pending", "{own}");
        }
        scene.assert_genuine_results_arrive(&mut sandbox, prefix, true).await;
    }
}

/// `APIMP` passes the bodies of its upstreams on, which name tasks of the upstream.
async fn a_static_url_that_names_no_task_is_not_issued(world: Arc<World>) {
    let trust = Trust { api_key: true, secret: false };
    let mut sandbox = Sandbox::start(world, Provider::Apimp, trust).await;
    let (status, body) = sandbox.request("GET", "apimp/-/callback-url", "", "").await;
    assert_eq!(status, 400, "{body}");
    // Not even with a token: one URL for several tasks would make a record of every body.
    for body in ["{}", r#"{"id":"cgt-1","status":"succeeded","content":{"video_url":"https://a.test/v.mp4"}}"#] {
        assert_eq!(sandbox.post("https://hooks.example.com/callback/apimp/-/token", &[], body).await, 404);
    }
    assert!(sandbox.items().await.is_empty());
}

/// KIE's signature covers one id, so a second one could be anybody's.
async fn a_body_that_names_two_tasks_is_refused(world: Arc<World>) {
    for secret in [true, false] {
        let mut sandbox = Sandbox::start(Arc::clone(&world), Provider::Kie, Trust { api_key: true, secret }).await;
        let scene = Scene::set(&mut sandbox, &format!("two-ids-{}", u8::from(secret))).await;
        let before = sandbox.items().await.len();
        for forgery in scene.templates.about(&scene.own) {
            let mut body: Value = serde_json::from_str(&forgery.body).expect("a callback is JSON");
            body["data"]["taskId"] = json!(scene.own);
            body["data"]["task_id"] = json!(scene.other);
            assert_eq!(sandbox.post(&scene.url, &forgery.headers, &body.to_string()).await, 401, "{body}");
        }
        assert_eq!(sandbox.items().await.len(), before);
    }
}

/// The body of an upstream names its own task, so nothing but the URL says which task it is about. Without a key it is
/// believed like any other, and its link is used while it lives.
async fn a_body_of_another_system_is_carried_out_without_a_key(world: Arc<World>) {
    let trust = Trust { api_key: false, secret: false };
    let mut sandbox = Sandbox::start(world, Provider::Apimp, trust).await;
    let view = sandbox.submit("upstreams", "delay=0 callback=lose").await;
    let id = view["provider_task_id"].as_str().expect("an id").to_owned();
    let callback = sandbox.simulator.callback(&id).expect("a callback");
    assert!(!text(&callback).contains(&id), "{}", text(&callback));
    assert_eq!(sandbox.post(&callback.url, &callback.headers, &text(&callback)).await, 200);
    sandbox.settle().await;
    let item = sandbox.item("apimp/upstreams").await;
    assert_eq!(item["state"]["S"], "archived", "{item}");
    assert_genuine_video(&sandbox, "apimp/upstreams", &id).await;
}

/// A success contradicts a failure that is published. Its message is lost, and the provider's status call still says failed.
async fn a_success_over_a_failure_survives_a_lost_message_and_a_stale_poll(world: Arc<World>) {
    let trust = Trust { api_key: true, secret: false };
    let mut sandbox = Sandbox::start(world, Provider::ApiMart, trust).await;
    let view = sandbox.submit("reconsidered", "delay=0 callback=lose outcome=fail").await;
    let id = view["provider_task_id"].as_str().expect("an id").to_owned();
    let failure = sandbox.simulator.callback(&id).expect("a callback");
    assert_eq!(sandbox.post(&failure.url, &failure.headers, &text(&failure)).await, 200);
    sandbox.settle().await;
    assert_eq!(sandbox.item("apimart/reconsidered").await["state"]["S"], "failed");
    let becomes = |outcome| sandbox.simulator.script(&id, |script| script.outcome = outcome);
    becomes(Outcome::Succeed);
    let success = sandbox.simulator.callback(&id).expect("a callback");
    becomes(Outcome::Fail);
    assert_eq!(sandbox.post(&success.url, &success.headers, &text(&success)).await, 200);
    sandbox.lose_messages().await;
    for _ in 0..2 {
        sandbox.pass(120).await;
        sandbox.settle().await;
        let item = sandbox.item("apimart/reconsidered").await;
        assert_eq!((&item["state"]["S"], &item["hint"].is_object()), (&json!("pending"), &true), "{item}");
        assert_eq!(sandbox.published("apimart/reconsidered").await.expect("a result")["outcome"], "failed");
    }
    sandbox.simulator.script(&id, |script| script.outcome = Outcome::Succeed);
    sandbox.pass(400).await;
    sandbox.settle().await;
    assert_eq!(sandbox.item("apimart/reconsidered").await["state"]["S"], "archived");
    assert_genuine_video(&sandbox, "apimart/reconsidered", &id).await;
}

/// The caller named a task like the provider names another one. What is said about the other one is kept, not lost.
async fn a_body_that_belongs_to_another_record_is_kept(world: Arc<World>) {
    let trust = Trust { api_key: false, secret: false };
    let mut sandbox = Sandbox::start(world, Provider::ApiMart, trust).await;
    let scene = Scene::set(&mut sandbox, "kept").await;
    let body = &scene.templates.about(&scene.other)[0].body;
    for _ in 0..2 {
        assert_eq!(sandbox.post(&scene.url, &[], body).await, 200);
    }
    let items = sandbox.items().await;
    let kept: Vec<_> = items.iter().filter(|item| item["state"]["S"] == "unattributed").collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(kept[0]["raw"]["S"], body.as_str());
}

/// Forgeries arrive while the submission is in flight and while the genuine callback is delivered, over and over.
async fn forgeries_race_the_submission_and_the_genuine_callback(world: Arc<World>) {
    use futures_util::future::{join, join_all};
    let template = world.submit(Provider::ApiMart, "race-template", "outcome=fail callback=lose").await;
    let template = template["provider_task_id"].as_str().expect("an id").to_owned();
    let finished = |id: String| {
        let world = Arc::clone(&world);
        async move {
            let timeout = std::time::Duration::from_secs(20);
            world.simulator.wait_for(&id, timeout, |task| task.phase.is_final()).await.expect("it finishes");
        }
    };
    finished(template.clone()).await;
    let body = text(&world.simulator.callback(&template).expect("a callback"));
    join_all((0..5).map(|index| {
        let (world, body) = (Arc::clone(&world), body.clone());
        async move {
            let id = format!("raced-{index}");
            let url = world.client.callback_url(&format!("apimart/{id}")).await.expect("a URL");
            let forge = async {
                // What is posted before the submission begins takes the id: the submission is refused, and nothing is paid.
                while world.view(&format!("apimart/{id}")).await.status != 200 {}
                for round in 0..20 {
                    // About a task that nobody knows, and about none.
                    let forged = body.replace("task_", &format!("task_{round}"));
                    let response = world.post(&url, &[], forged).await;
                    assert_eq!(response.status, 200, "{}", response.body);
                    let response = world.post(&url, &[], r#"{"status":"failed","error":{"message":"forged"}}"#).await;
                    assert_eq!(response.status, 200, "{}", response.body);
                }
            };
            let (submitted, ()) = join(world.submit(Provider::ApiMart, &id, "early delay=1 deliveries=3"), forge).await;
            let view = world.assert_archived_by_any(&format!("apimart/{id}")).await;
            assert_eq!(view["provider_task_id"], submitted["provider_task_id"], "{view}");
        }
    }))
    .await;
}
