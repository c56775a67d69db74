//! Everything that runs during a load: AWS, the simulated providers, and the functions with what invokes them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use local::functions::{Functions, build_packages};
use local::runtime_api::InvocationResult;
use local::{Emulator, FunctionSource, Progress, demonstration, emulator, python};
use serde_json::{Value, json};
use simulator::{Config, Simulator};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::Error;
use crate::front::Front;
use crate::pool::Pool;
use crate::remote::{BUCKET, Remote, SECRET, TABLE};

/// Which AWS a load runs against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum AwsKind {
    /// `local-aws`, in a process of its own.
    Fast,
    /// The Python emulator of `cargo run`. It makes no calls fail and does not count events.
    Python,
}

/// How the system is laid out.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The cargo profile of the functions.
    pub profile: String,
    /// The AWS.
    pub aws: AwsKind,
    /// Processes of `callback`.
    pub callback: usize,
    /// Processes of `tasks`.
    pub tasks: usize,
    /// Processes of `process`, each of which works on one message: `CopyConcurrency`.
    pub process: usize,
    /// From one run of `poll` to the next.
    pub schedule: Duration,
    /// From the submission of a task to its first status poll.
    pub first_poll: Duration,
    /// Where progress is reported.
    pub progress: Progress,
}

/// What the schedule and the queue have done.
#[derive(Debug, Default)]
pub struct Counts {
    /// Messages that `process` was invoked with.
    pub messages: AtomicU64,
    /// Messages that failed.
    pub failed_messages: AtomicU64,
    /// Runs of `poll`.
    pub polls: AtomicU64,
    /// Tasks that `poll` found finished before any callback said so.
    pub rescued: AtomicU64,
    /// Tasks that `poll` queued.
    pub requeued: AtomicU64,
}

enum Aws {
    Fast { _process: Child },
    Python { _emulator: Box<Emulator> },
}

/// The running system. Dropping it stops everything.
pub struct System {
    // Dropped in this order: who calls before who is called.
    background: JoinSet<()>,
    _front: Front,
    /// The function `tasks`.
    pub tasks: Pool,
    /// Where callbacks go to.
    pub callback_url: String,
    /// What was done in the background.
    pub counts: Arc<Counts>,
    /// Which emulator.
    pub kind: AwsKind,
    /// The providers.
    pub simulator: Arc<Simulator>,
    /// AWS.
    pub remote: Remote,
    stopping: Arc<AtomicBool>,
    _aws: Aws,
}

impl System {
    /// Builds and starts everything.
    pub async fn start(layout: &Layout) -> Result<Self, Error> {
        let functions = FunctionSource::Build { profile: layout.profile.clone() };
        let functions = Functions::prepare(&functions, layout.progress).await?;
        let (aws, endpoint) = start_aws(layout).await?;
        let remote = Remote::new(&endpoint)?;
        // Retries follow each other twenty times as fast as at the providers, so that nobody waits for them.
        let simulator = Simulator::start(Config { time_scale: 0.05, ..Config::default() })
            .map_err(|error| Error::System("the simulator did not start", error))?;
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|error| Error::System("no free port", error))?;
        let address = listener.local_addr().map_err(|error| Error::System("no free port", error))?;
        let callback_url = format!("http://{address}");
        remote.create_everything(&settings(&simulator, &callback_url, layout)).await?;

        let environment = environment(&remote, &simulator, &callback_url);
        let start = async |function: &'static str, size, seconds| {
            let missing = || Error::Missing(format!("{function} was not built"));
            let binary = functions.executable(function).ok_or_else(missing)?;
            Pool::start(binary, &environment, size, Duration::from_secs(seconds)).await
        };
        // The time limits are those of the template.
        let callback = Arc::new(start("callback", layout.callback, 10).await?);
        let process = Arc::new(start("process", layout.process, 900).await?);
        let poll = start("poll", 1, 60).await?;
        let tasks = start("tasks", layout.tasks, 30).await?;
        let counts = Arc::<Counts>::default();
        let stopping = Arc::<AtomicBool>::default();
        let mut background = JoinSet::new();
        for _ in 0..layout.process {
            background.spawn(work_off(
                remote.clone(),
                Arc::clone(&process),
                Arc::clone(&counts),
                Arc::clone(&stopping),
            ));
        }
        background.spawn(run_schedule(poll, layout.schedule, Arc::clone(&counts), Arc::clone(&stopping)));
        Ok(Self {
            background,
            _front: Front::start(listener, callback),
            tasks,
            callback_url,
            counts,
            kind: layout.aws,
            simulator: Arc::new(simulator),
            remote,
            stopping,
            _aws: aws,
        })
    }

    /// Has this share of all AWS calls fail from now on.
    pub async fn fail_calls(&self, share: f64, seed: u64) -> Result<(), Error> {
        if self.kind == AwsKind::Fast {
            let plan = json!({ "share": share, "seed": seed }).to_string();
            self.remote.control(reqwest::Method::PUT, "faults", plan).await?;
        }
        Ok(())
    }

    /// Stops the schedule and the queue's workers, each after what it is doing.
    pub async fn stop_working(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        while self.background.join_next().await.is_some() {}
    }
}

async fn start_aws(layout: &Layout) -> Result<(Aws, String), Error> {
    if layout.aws == AwsKind::Python {
        let python = python::Environment::prepare(layout.progress).await?;
        let emulator = Emulator::start(emulator::Options::default(), python).await?;
        let endpoint = emulator.endpoint().to_owned();
        return Ok((Aws::Python { _emulator: Box::new(emulator) }, endpoint));
    }
    let built: BTreeMap<&str, PathBuf> = build_packages(&["local-aws"], &layout.profile, layout.progress).await?;
    let binary = built.get("local-aws").ok_or_else(|| Error::Missing("local-aws was not built".to_owned()))?;
    let (process, endpoint) = start_local_aws(binary).await?;
    Ok((Aws::Fast { _process: process }, endpoint))
}

async fn start_local_aws(binary: &Path) -> Result<(Child, String), Error> {
    let failed = |error| Error::System("local-aws did not start", error);
    let mut command = Command::new(binary);
    // It ends when its input does, so it does not outlive this program.
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut process = command.spawn().map_err(failed)?;
    let mut endpoint = String::new();
    if let Some(output) = process.stdout.take() {
        BufReader::new(output).read_line(&mut endpoint).await.map_err(failed)?;
    }
    Ok((process, endpoint.trim().to_owned()))
}

fn settings(simulator: &Simulator, callback_url: &str, layout: &Layout) -> Value {
    let mut settings = demonstration::settings(simulator);
    settings["callback"]["base_url"] = json!(callback_url);
    for provider in simulator::Provider::ALL {
        settings["providers"][provider.name()]["poll"]["first_seconds"] = json!(layout.first_poll.as_secs());
    }
    settings
}

fn environment(remote: &Remote, simulator: &Simulator, callback_url: &str) -> Vec<(String, String)> {
    [
        ("AWS_ENDPOINT_URL", remote.endpoint()),
        ("TABLE_NAME", TABLE),
        ("QUEUE_URL", &remote.queue_url("work")),
        ("BUCKET_NAME", BUCKET),
        ("SETTINGS_SECRET", SECRET),
        ("CALLBACK_BASE_URL", callback_url),
        ("ALLOWED_ORIGINS", &simulator.address().to_string()),
        ("LOG_LEVEL", "error"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

/// One worker of the event source mapping: batches of one message, and what fails comes back when its visibility time-out ends.
async fn work_off(remote: Remote, process: Arc<Pool>, counts: Arc<Counts>, stopping: Arc<AtomicBool>) {
    while !stopping.load(Ordering::Relaxed) {
        let Ok(Some(message)) = remote.receive("work").await else { continue };
        counts.messages.fetch_add(1, Ordering::Relaxed);
        let invoked = process.invoke(json!({ "Records": [message.record] })).await;
        let succeeded = matches!(&invoked, Ok(InvocationResult::Response(response))
            if response["batchItemFailures"].as_array().is_none_or(Vec::is_empty));
        if succeeded {
            // A message that stays is delivered again.
            let _ = remote.delete("work", &message.receipt).await;
        } else {
            counts.failed_messages.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn run_schedule(poll: Pool, every: Duration, counts: Arc<Counts>, stopping: Arc<AtomicBool>) {
    let mut next = Instant::now() + every;
    while !stopping.load(Ordering::Relaxed) {
        if Instant::now() < next {
            sleep(Duration::from_millis(100)).await;
            continue;
        }
        next += every;
        if let Ok(InvocationResult::Response(summary)) = poll.invoke(json!({})).await {
            let count = |name: &str| summary[name].as_u64().unwrap_or_default();
            counts.polls.fetch_add(1, Ordering::Relaxed);
            counts.rescued.fetch_add(count("rescued"), Ordering::Relaxed);
            counts.requeued.fetch_add(count("queued"), Ordering::Relaxed);
        }
    }
}
