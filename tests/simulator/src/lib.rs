//! The nine providers, on this machine.
//!
//! A true stand-in: every provider under its own paths, with its own envelopes, ids, words for states, signatures and
//! repeats, and with real, playable videos behind its links. It was written from the providers' pages and shares no code
//! with the adapters it is there to test.
//!
//! What a task does is said in the submission itself, see [`script`], and can be changed from a test at any time.
//!
//! # Layout
//!
//! | module | has |
//! |---|---|
//! | [`script`] | what a task can be told to do |
//! | [`record`] | what a test can see |
//! | [`media`] | videos and pictures, made at run time |
//! | [`origin`] | serving files well and badly |
//! | `providers` | one module per provider; its first lines say what is confirmed and what is not |
//! | `delivery` | callbacks and their repeats |
//! | `world` | the state |
//!
//! # What it does not do
//!
//! `MaxAPI` and `APIMart` refuse callback URLs on private addresses; here every receiver is on one, so they do not.

pub mod config;
pub mod media;
pub mod origin;
pub mod record;
pub mod script;

mod clock;
mod delivery;
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
use http::StatusCode;
use tokio::{net::TcpListener, runtime::Runtime};

pub use crate::{
    config::{AccessKey, Account, Challenge, Config, Idempotency, Signing},
    media::Content,
    provider::{Provider, Shape, UnknownProvider},
    record::{
        Call, Callback, Delivery, DeliveryKind, FileKind, FileRequest, FileView, Phase, Refusal, Stage, Submission,
        TaskView, Trouble,
    },
    script::{Outcome, Script},
};
use crate::{providers::Shared, world::World};

/// The providers, running. Dropping it ends them: it has threads of its own, and nothing outlives them.
pub struct Simulator {
    world: Shared,
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Simulator {
    /// Starts on 127.0.0.1. Ready to be called when it returns. Can be called inside and outside of a runtime.
    ///
    /// # Errors
    ///
    /// When the port is taken or the machine has no room for another socket or thread.
    pub fn start(config: Config) -> io::Result<Self> {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // Somebody else may have been faster, which is as good.
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
        // Converting a listener needs the runtime's driver, not a task.
        let entered = runtime.enter();
        let listener = TcpListener::from_std(listener)?;
        drop(entered);
        runtime.spawn(async move { axum::serve(listener, application).await });
        Ok(Self { world, address, runtime: Some(runtime) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Scheme and authority: `http://127.0.0.1:PORT`.
    pub fn origin(&self) -> &str {
        &self.world.origin
    }

    /// How it was set up.
    pub fn config(&self) -> &Config {
        &self.world.config
    }

    /// What to configure as the provider's base URL: `http://127.0.0.1:PORT/kling`, `.../apimart/v1`.
    pub fn base_url(&self, provider: Provider) -> String {
        format!("{}/{provider}{}", self.world.origin, provider.base_path())
    }

    /// Every submission, refused ones too, oldest first.
    pub fn submissions(&self) -> Vec<Submission> {
        self.world.submissions()
    }

    /// How many submissions a provider had, refused ones too.
    pub fn submission_count(&self, provider: Provider) -> usize {
        self.world.submission_count(provider)
    }

    /// Every task, oldest first.
    pub fn tasks(&self) -> Vec<TaskView> {
        self.world.tasks()
    }

    /// The task with this id of its provider.
    pub fn task(&self, task_id: &str) -> Option<TaskView> {
        self.world.task(task_id)
    }

    /// Changes what a task does from now on. Steps that are done are not done again: see [`Self::deliver`].
    ///
    /// Returns whether there is such a task.
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

    /// Sends the callback about the task's present state once more, whatever its script says about callbacks. `None`
    /// when there is no such task, no callback URL, or nothing that the provider would say.
    pub async fn deliver(&self, task_id: &str) -> Option<Delivery> {
        let world = Arc::clone(&self.world);
        let delivering = self.runtime.as_ref()?.spawn(delivery::deliver(world, task_id.to_owned()));
        delivering.await.ok().flatten()
    }

    /// The callback about the task's present state, signed and not sent: for a test that wants to change it.
    pub fn callback(&self, task_id: &str) -> Option<Callback> {
        delivery::callback(&self.world, task_id)
    }

    /// Lets the next `times` calls of a kind meet trouble; replaces what was ordered before, and 0 ends it.
    pub fn trouble(&self, provider: Provider, call: Call, trouble: Trouble, times: u32) {
        self.world.schedule(provider, call, trouble, times);
    }

    /// How many calls of a kind a provider had, refused ones too.
    pub fn calls(&self, provider: Provider, call: Call) -> u64 {
        self.world.calls(provider, call)
    }

    /// The exact bytes behind the link to the task's first video. Empty when there is no such task.
    pub fn file(&self, task_id: &str) -> Vec<u8> {
        self.world.content(task_id, None).map(|content| content.to_vec()).unwrap_or_default()
    }

    /// What [`Self::file`] becomes under the faults `change` and `change_silently`.
    pub fn changed_file(&self, task_id: &str) -> Vec<u8> {
        self.world.changed_content(task_id).map(|content| content.to_vec()).unwrap_or_default()
    }

    /// A file of a task by its name (see [`TaskView::files`]), to be read in parts.
    pub fn content(&self, task_id: &str, name: &str) -> Option<Arc<Content>> {
        self.world.content(task_id, Some(name))
    }

    /// What the faulty origin serves under a name, see [`origin`].
    pub fn origin_file(&self, name: &str, size: Option<u64>) -> Content {
        files::origin_content(name, size)
    }

    /// Every request for a file of a task, oldest first; for the empty id, the requests for links that never were.
    pub fn file_requests(&self, task_id: &str) -> Vec<FileRequest> {
        self.world.file_requests(task_id)
    }

    /// Lets every link of a task that was given out so far end now.
    pub fn expire_links(&self, task_id: &str) {
        self.world.expire_links(task_id);
    }

    /// Waits until a task satisfies a condition, at most `limit`. Returns the task as it then is; `None` in the other
    /// case.
    pub async fn wait_for(
        &self,
        task_id: &str,
        limit: Duration,
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
        tokio::time::timeout(limit, waiting).await.ok()
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Allowed inside another runtime, unlike waiting.
            runtime.shutdown_background();
        }
    }
}

/// What is where, for people.
async fn front(State(world): State<Shared>) -> Response {
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
        .route("/", get(front))
        .route("/files/{*path}", get(files::serve))
        .route("/origin/{name}", get(files::serve_origin))
        .fallback(async || -> Response { origin::plain(StatusCode::NOT_FOUND, "text/plain", "nobody is here\n") })
        // Submissions carry pictures as base64.
        .layer(DefaultBodyLimit::max(64 * 1024 * 1024))
        .with_state(world)
}
