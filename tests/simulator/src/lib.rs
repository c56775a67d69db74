//! Simulates the providers, on a local port.
//!
//! Every provider has its own paths, envelopes, ids, status words, signatures and retries, and its links serve real, playable
//! videos. The simulator is written from the providers' documentation and shares no code with the adapters it tests.
//!
//! A submission says in its prompt what the task does, see [`script`]. A test can change that at any time.
//!
//! # Layout
//!
//! | module | contents |
//! |---|---|
//! | [`script`] | what a task can do |
//! | [`record`] | what a test can observe |
//! | [`media`] | videos and pictures, generated on the fly |
//! | [`origin`] | serving files, with and without faults |
//! | `api` | what a provider's own module implements |
//! | `example` | a call of each of its APIs, for tests |
//! | `providers` | one module per provider; its first lines say what is confirmed and what is not |
//! | `delivery` | callbacks and their retries |
//! | `world` | the state |
//!
//! # Limits
//!
//! `MaxAPI` and `APIMart` reject callback URLs on private addresses. The simulated ones accept them, because every local
//! receiver has one.

pub mod config;
pub mod media;
pub mod origin;
pub mod record;
pub mod script;

mod api;
mod clock;
mod delivery;
mod example;
mod files;
mod provider;
mod providers;
mod signature;
mod world;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    response::Response,
    routing::get,
};
use bytes::Bytes;
use http::StatusCode;
use tokio::{net::TcpListener, runtime::Runtime};

pub use crate::{
    config::{AccessKey, Account, Challenge, Config, Idempotency, Signing},
    example::Example,
    media::Content,
    provider::{Provider, Shape, Signs},
    record::{
        Call, CallFault, Callback, Delivery, DeliveryKind, FileKind, FileRequest, FileView, Phase, Refusal, Stage,
        Submission, TaskView,
    },
    script::{Outcome, Script},
};
use crate::{providers::Shared, world::World};

/// The running providers. Dropping it stops them and their threads.
pub struct Simulator {
    world: Shared,
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Simulator {
    /// Starts the providers on 127.0.0.1. They accept requests when this returns. Works inside and outside a runtime.
    ///
    /// # Errors
    ///
    /// If the port is taken, or the system refuses a socket or a thread.
    pub fn start(config: Config) -> io::Result<Self> {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // Another thread may have installed one first, which is just as good.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .user_agent("reelhook-simulator")
            .build()
            .map_err(io::Error::other)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("simulator")
            .enable_all()
            .build()?;
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, config.port))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let world = Arc::new(World::new(config, format!("http://{address}"), client));
        let application = application(Arc::clone(&world));
        // `from_std` needs to be in the runtime's context.
        let entered = runtime.enter();
        let listener = TcpListener::from_std(listener)?;
        drop(entered);
        runtime.spawn(async move { axum::serve(listener, application).await });
        Ok(Self { world, address, runtime: Some(runtime) })
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Scheme and authority: `http://127.0.0.1:PORT`.
    pub fn origin(&self) -> &str {
        &self.world.origin
    }

    /// The configuration it was started with.
    pub fn config(&self) -> &Config {
        &self.world.config
    }

    /// The base URL of a provider, for its client: `http://127.0.0.1:PORT/kling`, `.../apimart/v1`.
    pub fn base_url(&self, provider: Provider) -> String {
        format!("{}/{provider}{}", self.world.origin, provider.base_path())
    }

    /// Where a provider publishes the keys of its signatures, if it does.
    pub fn key_set_url(&self, provider: Provider) -> Option<String> {
        let publishes = provider.profile().publishes_keys;
        publishes.then(|| format!("{}{}", self.base_url(provider), api::KEY_SET_PATH))
    }

    /// Every submission, including refused ones, oldest first.
    pub fn submissions(&self) -> Vec<Submission> {
        self.world.submissions()
    }

    /// The number of submissions to a provider, including refused ones.
    pub fn submission_count(&self, provider: Provider) -> usize {
        self.world.submission_count(provider)
    }

    /// Every task, oldest first.
    pub fn tasks(&self) -> Vec<TaskView> {
        self.world.tasks()
    }

    /// The task with this provider task id.
    pub fn task(&self, task_id: &str) -> Option<TaskView> {
        self.world.task(task_id)
    }

    /// Changes what a task does from now on. Steps that are done are not repeated: see [`Self::deliver`].
    ///
    /// Returns whether the task exists.
    pub fn script(&self, task_id: &str, change: impl FnOnce(&mut Script)) -> bool {
        let changed = self.world.with_task(task_id, |task| {
            change(&mut task.script);
            task.changed.notify_one();
        });
        if changed.is_some()
            && let Some(runtime) = &self.runtime
        {
            let entered = runtime.enter();
            delivery::start(&self.world, task_id);
            drop(entered);
        }
        changed.is_some()
    }

    /// Sends the callback about the task's current phase once, whatever its script says about callbacks. `None` if the
    /// task does not exist, has no callback URL, or its provider sends no callback for this phase.
    pub async fn deliver(&self, task_id: &str) -> Option<Delivery> {
        let world = Arc::clone(&self.world);
        let delivering = self.runtime.as_ref()?.spawn(delivery::deliver(world, task_id.to_owned()));
        delivering.await.ok().flatten()
    }

    /// The callback about the task's current phase, signed but not sent, for a test that modifies it.
    pub fn callback(&self, task_id: &str) -> Option<Callback> {
        delivery::callback(&self.world, task_id)
    }

    /// A body of somebody's as the callback of a task with this id, signed with the account's secret and not sent.
    pub fn signed(&self, provider: Provider, url: &str, task_id: &str, body: impl Into<Bytes>) -> Callback {
        delivery::signed(&self.world, provider, url, task_id, body.into())
    }

    /// Applies a fault to the next `times` calls of this kind. Replaces an earlier fault; 0 clears it.
    pub fn inject_fault(&self, provider: Provider, call: Call, fault: CallFault, times: u32) {
        self.world.inject_fault(provider, call, fault, times);
    }

    /// The number of calls of this kind to a provider, including refused ones.
    pub fn calls(&self, provider: Provider, call: Call) -> u64 {
        self.world.calls(provider, call)
    }

    /// The exact bytes of the task's first video. Empty if the task does not exist.
    pub fn file(&self, task_id: &str) -> Vec<u8> {
        self.world.content(task_id, None).map(|content| content.to_vec()).unwrap_or_default()
    }

    /// What the faults `change` and `change_silently` turn [`Self::file`] into.
    pub fn changed_file(&self, task_id: &str) -> Vec<u8> {
        self.world.changed_content(task_id).map(|content| content.to_vec()).unwrap_or_default()
    }

    /// A file of a task by its name (see [`TaskView::files`]), readable in parts.
    pub fn content(&self, task_id: &str, name: &str) -> Option<Arc<Content>> {
        self.world.content(task_id, Some(name))
    }

    /// The content that the faulty origin serves under a name, see [`origin`].
    pub fn origin_file(&self, name: &str, size: Option<u64>) -> Content {
        files::origin_content(name, size)
    }

    /// Every request for a file of a task, oldest first. The empty id gives the requests for links that were never issued.
    pub fn file_requests(&self, task_id: &str) -> Vec<FileRequest> {
        self.world.file_requests(task_id)
    }

    /// Expires every link of a task issued so far.
    pub fn expire_links(&self, task_id: &str) {
        self.world.expire_links(task_id);
    }

    /// Waits until a task satisfies a condition. Returns the task in that state, or `None` after the timeout.
    pub async fn wait_for(
        &self,
        task_id: &str,
        timeout: Duration,
        condition: impl Fn(&TaskView) -> bool,
    ) -> Option<TaskView> {
        let waiting = async {
            loop {
                if let Some(task) = self.task(task_id).filter(&condition) {
                    return task;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(timeout, waiting).await.ok()
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A blocking shutdown would panic inside another runtime.
            runtime.shutdown_background();
        }
    }
}

/// A page that lists the base URLs.
async fn index_page(State(world): State<Shared>) -> Response {
    let bases = Provider::ALL
        .map(|provider| format!("{provider:<12}{}/{provider}{}\n", world.origin, provider.base_path()))
        .concat();
    let page = format!(
        "Base URLs of the simulated providers:\n\n{bases}\n\
         A task does what its prompt says, for example [simulate delay=2 outcome=fail].\n"
    );
    origin::plain(StatusCode::OK, "text/plain; charset=utf-8", page)
}

fn application(world: Shared) -> Router {
    providers::router()
        .route("/", get(index_page))
        .route("/files/{*path}", get(files::serve))
        .route("/origin/{name}", get(files::serve_origin))
        .fallback(async || -> Response { origin::plain(StatusCode::NOT_FOUND, "text/plain", "not found\n") })
        // Submissions may contain pictures in base64.
        .layer(DefaultBodyLimit::max(64 * 1024 * 1024))
        .with_state(world)
}
