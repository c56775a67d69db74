//! Links to this machine, through every way by which a link reaches the copier: the body of a callback, a status poll, the link
//! behind a file id, and the refreshed link for a dead one. A listener stays silent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use simulator::Provider;
use tokio::net::TcpListener;

use super::sandbox::{Sandbox, Trust, signs};
use super::text;
use crate::Case;
use crate::world::World;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![case!(a_refreshed_link_to_this_machine_is_not_followed)];
    for provider in Provider::ALL {
        cases.push(case!(a_polled_link_to_this_machine_is_not_followed[provider](provider)));
        // MiniMax's callbacks have a file id for a link, and fal's and Veo's are always signed.
        if provider.calls_back() && !matches!(provider, Provider::MiniMax | Provider::Fal | Provider::Veo) {
            cases.push(case!(a_link_to_this_machine_in_a_body_is_not_followed[provider](provider)));
        }
    }
    cases
}

/// A listener that counts who comes.
struct Listener {
    port: u16,
    connections: Arc<AtomicUsize>,
}

impl Listener {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        tokio::spawn(async move {
            // Counted before it hangs up, which is what the client sees.
            while let Ok(_connection) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { port, connections }
    }

    /// A way to name it in a link. The providers take turns.
    fn authority(&self, provider: Provider) -> String {
        let hosts = ["127.0.0.1", "localhost", "2130706433", "[::ffff:7f00:1]", "user:password@0.0.0.0"];
        let host = hosts[provider as usize % hosts.len()];
        format!("{host}:{}", self.port)
    }

    /// Nobody came, and somebody who follows such links is heard.
    async fn assert_silent(&self) {
        assert_eq!(self.connections.load(Ordering::Relaxed), 0, "somebody came");
        let careless =
            reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().expect("a client");
        for (heard, provider) in Provider::ALL.into_iter().enumerate() {
            let authority = self.authority(provider);
            // The listener hangs up.
            careless.get(format!("http://{authority}/v")).send().await.expect_err("nothing is sent back");
            assert_eq!(self.connections.load(Ordering::Relaxed), heard + 1, "{authority}");
        }
    }
}

/// Submits the task of a case. Returns the provider's id.
async fn submit(sandbox: &mut Sandbox, script: &str) -> String {
    let view = sandbox.submit("inside", script).await;
    view["provider_task_id"].as_str().expect("an id").to_owned()
}

/// The task is known to have succeeded, and its file was not copied because of its link.
async fn assert_not_copied(sandbox: &Sandbox) {
    let key = format!("{}/inside", sandbox.provider);
    let item = sandbox.item(&key).await;
    assert_eq!(item["outcome"]["S"], "succeeded", "{key}: {item}");
    assert_ne!(item["state"]["S"], "archived", "{key}: {item}");
    assert_eq!(item["artifacts"], Value::Null, "{key}: {item}");
    let error = item["last_error"]["S"].as_str().unwrap_or_default();
    assert!(error.ends_with("the link leads to an address that is not public"), "{key}: {item}");
}

async fn a_link_to_this_machine_in_a_body_is_not_followed(world: Arc<World>, provider: Provider) {
    let mut sandbox = Sandbox::start(world, provider, Trust { api_key: false, secret: false }).await;
    let (listener, id) = (Listener::start().await, submit(&mut sandbox, "delay=0 callback=lose").await);
    let callback = sandbox.simulator.callback(&id).expect("a callback");
    let body = sandbox.with_links_to(&listener.authority(provider), &text(&callback));
    assert_eq!(sandbox.post(&callback.url, &[], &body).await, 200);
    sandbox.settle().await;
    assert_not_copied(&sandbox).await;
    listener.assert_silent().await;
}

async fn a_polled_link_to_this_machine_is_not_followed(world: Arc<World>, provider: Provider) {
    let mut sandbox = Sandbox::start(world, provider, Trust { api_key: true, secret: signs(provider) }).await;
    let listener = Listener::start().await;
    submit(&mut sandbox, "delay=0 callback=lose").await;
    sandbox.divert_links(&listener.authority(provider));
    sandbox.pass(60).await;
    sandbox.settle().await;
    assert_not_copied(&sandbox).await;
    listener.assert_silent().await;
}

/// Kling's callback is acted on at once; its link is dead, and the provider gives another.
async fn a_refreshed_link_to_this_machine_is_not_followed(world: Arc<World>) {
    let mut sandbox = Sandbox::start(world, Provider::Kling, Trust { api_key: true, secret: true }).await;
    let (listener, id) = (Listener::start().await, submit(&mut sandbox, "delay=0 callback=lose link=dead").await);
    let callback = sandbox.simulator.callback(&id).expect("a callback");
    sandbox.divert_links(&listener.authority(Provider::Vidu));
    assert_eq!(sandbox.post(&callback.url, &callback.headers, &text(&callback)).await, 200);
    sandbox.settle().await;
    assert!(!sandbox.simulator.file_requests(&id).is_empty(), "the dead link was tried");
    assert_not_copied(&sandbox).await;
    listener.assert_silent().await;
}
