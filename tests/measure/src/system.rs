//! Everything that a task goes through: an AWS over TLS, the simulated providers, and the functions that submit and poll.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use load::front::event;
use load::pool::Pool;
use load::remote::{BUCKET, Remote, SECRET, TABLE};
use local::runtime_api::InvocationResult;
use local::{demonstration, samples};
use local_aws::LocalAws;
use serde_json::{Value, json};
use simulator::{Config, Provider, Simulator};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::Error;
use crate::tls::TlsFront;

/// Processes of `tasks` that submit side by side.
const SUBMITTING: usize = 4;

/// From a submission until its first status poll is due, which is not before it counts as interrupted, and some more.
const UNTIL_DUE: Duration = Duration::from_secs(45);

/// The system. Dropping it stops it.
pub(crate) struct System {
    pub(crate) remote: Remote,
    /// The environment of every function.
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) front: TlsFront,
    pub(crate) slow: Slow,
    _simulator: Simulator,
    _aws: LocalAws,
}

impl System {
    pub(crate) async fn start(directory: &Path) -> Result<Self, Error> {
        let aws = LocalAws::start(0).await?;
        let remote = Remote::new(&aws.endpoint())?;
        let simulator = Simulator::start(Config::default())?;
        let slow = Slow::start(simulator.address().to_string()).await?;
        let settings = demonstration::settings(&simulator).to_string().replace(simulator.origin(), &slow.origin);
        let mut settings: Value = serde_json::from_str(&settings)?;
        settings["callback"]["base_url"] = json!("http://127.0.0.1:9");
        remote.create_everything(&settings).await?;
        let target = aws.endpoint().trim_start_matches("http://").parse()?;
        let front = TlsFront::start(target, directory).await?;
        let mut environment: Vec<(String, String)> = [
            ("TABLE_NAME", TABLE),
            ("QUEUE_URL", &remote.queue_url("work")),
            ("BUCKET_NAME", BUCKET),
            ("SETTINGS_SECRET", SECRET),
            ("CALLBACK_BASE_URL", "http://127.0.0.1:9"),
            ("ALLOWED_ORIGINS", &simulator.address().to_string()),
            ("LOG_LEVEL", "error"),
            ("SSL_CERT_FILE", &front.roots.display().to_string()),
            ("AWS_CA_BUNDLE", &front.roots.display().to_string()),
            ("AWS_DEFAULT_REGION", local::REGION),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        environment.extend(front.endpoint_variables());
        Ok(Self { remote, environment, front, slow, _simulator: simulator, _aws: aws })
    }

    /// Submits so many tasks to these providers in turn, as an application does, and waits until their first status poll is due.
    pub(crate) async fn submit(
        &self,
        tasks: &Path,
        count: usize,
        providers: &'static [Provider],
        script: &str,
    ) -> Result<(), Error> {
        let pool = Arc::new(Pool::start(tasks, &self.environment, SUBMITTING, Duration::from_mins(1)).await?);
        let next = Arc::<AtomicU64>::default();
        let mut submitting = JoinSet::new();
        for _ in 0..SUBMITTING {
            let (pool, next, script) = (Arc::clone(&pool), Arc::clone(&next), script.to_owned());
            submitting.spawn(async move {
                loop {
                    let number = usize::try_from(next.fetch_add(1, Ordering::Relaxed))?;
                    if number >= count {
                        return Ok::<(), Error>(());
                    }
                    submit_one(&pool, providers[number % providers.len()], number, &script).await?;
                }
            });
        }
        while let Some(submitted) = submitting.join_next().await {
            submitted??;
        }
        sleep(UNTIL_DUE).await;
        Ok(())
    }
}

async fn submit_one(pool: &Pool, provider: Provider, number: usize, script: &str) -> Result<(), Error> {
    let sample = samples::of(provider);
    let query = sample.endpoint.map(|endpoint| format!("endpoint={endpoint}")).unwrap_or_default();
    let body = sample.body(&format!("a paper boat [simulate {script}]")).to_string();
    let headers = json!({ "content-type": "application/json" });
    let path = format!("/tasks/{provider}/job-{number}");
    let submitted = pool.invoke(event("PUT", &path, &query, &headers, body.as_bytes())).await?;
    match &submitted {
        InvocationResult::Response(response) if response["statusCode"] == 201 => Ok(()),
        _ => Err(format!("{provider} did not accept a task: {submitted:?}").into()),
    }
}

/// A proxy that holds each request up, and counts them by provider.
pub(crate) struct Slow {
    origin: String,
    /// In milliseconds.
    latency: Arc<AtomicU64>,
    requests: Arc<Mutex<BTreeMap<String, u32>>>,
}

impl Slow {
    async fn start(target: String) -> Result<Self, Error> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let origin = format!("http://{}", listener.local_addr()?);
        let (latency, requests) = (Arc::<AtomicU64>::default(), Arc::default());
        let slow = Self { origin, latency: Arc::clone(&latency), requests: Arc::clone(&requests) };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (target, latency, requests) = (target.clone(), Arc::clone(&latency), Arc::clone(&requests));
                // What fails here fails for the client.
                tokio::spawn(async move { pass(client, &target, &latency, &requests).await });
            }
        });
        Ok(slow)
    }

    /// Holds requests up from now on, and counts from 0.
    pub(crate) fn begin(&self, latency: Duration) {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.latency.store(latency.as_millis().try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Requests by provider.
    pub(crate) fn requests(&self) -> BTreeMap<String, u32> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn pass(
    client: TcpStream,
    target: &str,
    latency: &AtomicU64,
    requests: &Mutex<BTreeMap<String, u32>>,
) -> std::io::Result<()> {
    let server = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let responses = tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    let mut received = vec![0; 64 * 1024];
    loop {
        let read = from_client.read(&mut received).await?;
        if read == 0 {
            responses.abort();
            return Ok(());
        }
        // `GET /kling/…`, at the beginning of a request.
        let text = String::from_utf8_lossy(&received[..read.min(64)]).into_owned();
        if let Some(provider) = text.split_once(" /").filter(|(method, _)| matches!(*method, "GET" | "POST")) {
            let name = provider.1.split('/').next().unwrap_or_default().to_owned();
            *requests.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += 1;
            sleep(Duration::from_millis(latency.load(Ordering::Relaxed))).await;
        }
        to_server.write_all(&received[..read]).await?;
    }
}
