//! The page: a live list of a deployment's tasks, and each with its history, its files and its buttons. Served on 127.0.0.1 and to
//! nobody else.
//!
//! - [`watch`]: keeps what the list and the charts show in memory.
//! - [`pages`]: renders it; the templates are in `templates/`.
//! - [`guard`]: who may see it, and who may change anything.
//! - [`files`]: the bucket's files, by ranges.

mod charts;
mod files;
mod guard;
mod pages;
mod watch;

use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use local::Error;
use local::deployed::Deployed;
use tokio::net::TcpListener;

use self::guard::Guard;

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct Console {
    deployed: Arc<Deployed>,
    known: watch::Shared,
    guard: Arc<Guard>,
}

/// A page that is being served until it is dropped.
pub(crate) struct Served {
    /// Its URL.
    pub(crate) url: String,
    tasks: [tokio::task::JoinHandle<()>; 2],
}

impl Drop for Served {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Serves the page of a deployment at this port of 127.0.0.1; 0 picks a free one.
pub(crate) async fn serve(deployed: Deployed, port: u16, allow_writes: bool) -> Result<Served, Error> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(|error| {
        Error::Refused(format!("the page cannot be served at port {port}: {error}; choose another with --console-port"))
    })?;
    let port = listener.local_addr().map_err(|error| Error::Refused(error.to_string()))?.port();
    let console = Console {
        deployed: Arc::new(deployed),
        known: watch::Shared::default(),
        guard: Arc::new(Guard::new(port, allow_writes)?),
    };
    let watching = tokio::spawn(watch::watch(Arc::clone(&console.deployed), Arc::clone(&console.known)));
    let router = Router::new()
        .route("/", get(pages::index))
        .route("/console.js", get(pages::script))
        .route("/console.css", get(pages::style))
        .route("/tasks", get(pages::tasks))
        .route("/charts", get(pages::charts))
        .route("/task/{provider}/{id}", get(pages::task))
        .route("/history/{provider}/{id}", get(pages::history))
        .route("/file/{provider}/{id}/{name}", get(files::file))
        .route("/task/{provider}/{id}/{action}", post(pages::act))
        .route("/submit/{provider}", post(pages::submit))
        .layer(from_fn_with_state(Arc::clone(&console.guard), guard::check))
        .with_state(console);
    let serving = tokio::spawn(async move {
        // It ends with the process.
        let _ = axum::serve(listener, router).await;
    });
    Ok(Served { url: format!("http://127.0.0.1:{port}/"), tasks: [watching, serving] })
}
