//! The first phase.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use local::samples;
use serde_json::{Value, json};
use simulator::{Callback, Provider, TaskView};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::Error;
use crate::forge::{Templates, Victim};
use crate::front::{answer, event};
use crate::manifest;
use crate::plan::{Delivery, Ending, TaskPlan, calling_back, marked};
use crate::report;
use crate::system::{AwsKind, System};

/// Submissions pause while more messages than this wait for `process`, so that a task is not reported long before it is worked on.
const MAX_WAITING: u64 = 100;

/// How often a client repeats a request that got a 5xx.
const ATTEMPTS: u32 = 20;

/// What a load consists of.
#[derive(Clone, Debug)]
pub struct Load {
    /// Tasks, beside two per provider that the forger makes templates of.
    pub tasks: u64,
    /// What everything random follows from.
    pub seed: u64,
    /// The share of AWS calls that fail.
    pub failing_calls: f64,
    /// How long after the end of its task a late callback comes.
    pub late_after: Duration,
    /// When the load is broken off although tasks are open.
    pub time_limit: Duration,
}

/// What the first phase leaves.
#[derive(Debug)]
pub struct Finished {
    /// The tasks, as the providers have them.
    pub tasks: Vec<TaskView>,
    /// The plan of each.
    pub plans: Vec<TaskPlan>,
    /// What must not have happened.
    pub errors: Vec<String>,
    /// From the first submission to the last.
    pub submitted_within: Duration,
    /// From the first submission until no task was open.
    pub ended_within: Duration,
    /// AWS calls until the last submission; none where they are not counted.
    pub calls_while_submitting: Option<u64>,
    /// Messages that were delivered again because the response to their receiver was lost.
    pub messages_redelivered: u64,
}

/// What was submitted.
struct Submitted {
    errors: Vec<String>,
    within: Duration,
    calls: Option<u64>,
}

struct Runner<'a> {
    system: &'a System,
    load: &'a Load,
    templates: Templates,
    http: reqwest::Client,
    errors: Mutex<Vec<String>>,
    follow_ups: Mutex<JoinSet<()>>,
    backed_up: AtomicBool,
}

/// Runs the load until no task is open, and writes the manifest.
pub async fn run(system: &mut System, load: &Load, manifest: &Path) -> Result<Finished, Error> {
    let templates = templates(system).await?;
    let plans: Vec<TaskPlan> = (0..load.tasks).map(|number| TaskPlan::new(load.seed, number)).collect();
    let started = Instant::now();
    system.fail_calls(load.failing_calls, load.seed).await?;
    let Submitted { errors, within: submitted_within, calls: calls_while_submitting } =
        submit_all(system, load, templates, &plans).await?;
    let messages_redelivered = wait_for_the_end(system, started + load.time_limit).await?;
    let ended_within = started.elapsed();
    system.stop_working().await;
    system.fail_calls(0.0, 0).await?;
    let keys: Vec<String> = template_keys().chain(plans.iter().map(TaskPlan::key)).collect();
    let tasks = system.simulator.tasks();
    let expected = manifest::expectations(&system.simulator, &tasks, &keys);
    manifest::write(manifest, system.kind == AwsKind::Fast, &expected)?;
    Ok(Finished { tasks, plans, errors, submitted_within, ended_within, calls_while_submitting, messages_redelivered })
}

/// Submits everything, and waits until nothing more is sent by anybody but the providers.
async fn submit_all(
    system: &System,
    load: &Load,
    templates: Templates,
    plans: &[TaskPlan],
) -> Result<Submitted, Error> {
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_mins(1)).build()?;
    let runner = Arc::new(Runner {
        system,
        load,
        templates,
        http,
        errors: Mutex::default(),
        follow_ups: Mutex::default(),
        backed_up: AtomicBool::new(false),
    });
    let started = Instant::now();
    let submitting = async {
        // Some more than `tasks` has processes, so that none is idle.
        stream::iter(plans).for_each_concurrent(16, |plan| runner.submit(plan)).await;
        started.elapsed()
    };
    let within = tokio::select! {
        within = submitting => within,
        () = runner.watch_queue() => started.elapsed(),
    };
    let calls = report::statistics(system).await.map(|statistics| report::total(&statistics, |calls| calls.made));
    let follow_ups = std::mem::take(&mut *runner.follow_ups.lock().await);
    follow_ups.join_all().await;
    // The last callbacks: a task ends within three seconds, and a provider changes its mind within three more.
    sleep(Duration::from_secs(4)).await;
    let errors = runner.errors.lock().await.clone();
    Ok(Submitted { errors, within, calls })
}

/// Waits until no task is due and no message is left. Returns how many messages had to be delivered again because the response
/// to whoever received them was lost.
async fn wait_for_the_end(system: &System, until: Instant) -> Result<u64, Error> {
    let mut redelivered = 0;
    while Instant::now() < until {
        let (waiting, hidden) = system.remote.messages("work").await?;
        let due = system.remote.due().await?.len();
        if waiting == 0 && hidden == 0 && due == 0 {
            break;
        }
        if waiting == 0 && hidden > 0 && due == 0 || is_quiet(system).await? {
            redelivered += redeliver(system).await?;
        }
        sleep(Duration::from_millis(500)).await;
    }
    Ok(redelivered)
}

/// Whether nothing has happened to the queue for a moment, so that whatever is hidden has no receiver.
async fn is_quiet(system: &System) -> Result<bool, Error> {
    let before = (system.counts.messages.load(Ordering::Relaxed), system.remote.messages("work").await?);
    sleep(Duration::from_secs(2)).await;
    let after = (system.counts.messages.load(Ordering::Relaxed), system.remote.messages("work").await?);
    Ok(before == after && after.1.0 == 0 && after.1.1 > 0)
}

async fn redeliver(system: &System) -> Result<u64, Error> {
    if system.kind == AwsKind::Python {
        return Ok(0);
    }
    let count = system.remote.control(reqwest::Method::POST, "redeliver", String::new()).await?;
    Ok(String::from_utf8_lossy(&count).trim().parse().unwrap_or_default())
}

/// The forger's own tasks.
fn template_keys() -> impl Iterator<Item = String> {
    calling_back()
        .into_iter()
        .flat_map(|provider| ["template-success", "template-failure"].map(|id| format!("{provider}/{id}")))
}

/// Has every provider make a success and a failure whose callbacks are lost.
async fn templates(system: &System) -> Result<Templates, Error> {
    let mut templates = Templates::default();
    for provider in calling_back() {
        let success = template(system, provider, "template-success", "delay=0 callback=lose").await?;
        let failure = template(system, provider, "template-failure", "delay=0 callback=lose outcome=fail").await?;
        templates.add(provider, success, failure);
    }
    Ok(templates)
}

async fn template(system: &System, provider: Provider, id: &str, script: &str) -> Result<(String, Callback), Error> {
    let (status, view) = put(system, provider, id, &marked(&format!("{provider}/{id}"), script)).await;
    let missing = || Error::Missing(format!("{provider}/{id} was not created: {status} {view}"));
    let task_id = view["provider_task_id"].as_str().ok_or_else(missing)?.to_owned();
    let callback = system.simulator.callback(&task_id).ok_or_else(missing)?;
    Ok((task_id, callback))
}

/// Submits a sample as an application does that repeats what got a 5xx.
async fn put(system: &System, provider: Provider, id: &str, prompt: &str) -> (u64, Value) {
    let sample = samples::of(provider);
    let query = sample.endpoint.map(|endpoint| format!("endpoint={endpoint}")).unwrap_or_default();
    let headers = json!({ "content-type": "application/json" });
    let body = sample.body(prompt).to_string();
    let event = event("PUT", &format!("/tasks/{provider}/{id}"), &query, &headers, body.as_bytes());
    let mut attempt = 1;
    loop {
        let (status, view) = answer(system.tasks.invoke(event.clone()).await);
        // 504: nobody knows whether the submission arrived; its callback tells.
        if status < 500 || status == 504 || attempt == ATTEMPTS {
            return (status, view);
        }
        attempt += 1;
        sleep(Duration::from_millis(100)).await;
    }
}

impl Runner<'_> {
    async fn submit(&self, plan: &TaskPlan) {
        while self.backed_up.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(50)).await;
        }
        let prompt = plan.prompt();
        let put = || put(self.system, plan.provider, &plan.id, &prompt);
        let (status, view) = if plan.is_submitted_twice {
            let (first, second) = tokio::join!(put(), put());
            if first.0 == 201 { first } else { second }
        } else {
            put().await
        };
        let (Some(id), Some(url)) = (view["provider_task_id"].as_str(), view["callback_url"].as_str()) else {
            return self.errors.lock().await.push(format!("{}: submission returned {status} {view}", plan.key()));
        };
        let victim = Victim { provider: plan.provider, provider_task_id: id.to_owned(), callback_url: url.to_owned() };
        if let Some(forgery) = plan.forgery
            && let Err(error) = self.templates.post(&self.http, forgery, &victim).await
        {
            self.errors.lock().await.push(format!("{}: {error}", plan.key()));
        }
        if plan.delivery == Delivery::Late {
            let (simulator, id) = (Arc::clone(&self.system.simulator), victim.provider_task_id);
            let after = plan.delay + self.load.late_after;
            self.follow_ups.lock().await.spawn(async move {
                sleep(after).await;
                simulator.deliver(&id).await;
            });
        }
    }

    /// Looks at the queue until it is dropped. Never ends by itself.
    async fn watch_queue(&self) {
        loop {
            let waiting = self.system.remote.messages("work").await.map_or(0, |(waiting, _)| waiting);
            self.backed_up.store(waiting > MAX_WAITING, Ordering::Relaxed);
            sleep(Duration::from_millis(200)).await;
        }
    }
}

/// How many tasks of a plan satisfy a condition.
pub fn count(plans: &[TaskPlan], holds: impl Fn(&TaskPlan) -> bool) -> usize {
    plans.iter().filter(|plan| holds(plan)).count()
}

/// Whether a task fails at its provider for good.
pub fn fails(plan: &TaskPlan) -> bool {
    matches!(plan.ending, Ending::Failed | Ending::Moderated)
}
