//! What `cargo run` does: runs tasks of every provider end to end and checks how each one ends.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use simulator::{Outcome, Provider, Simulator};

use crate::client::Client;
use crate::samples::{self, SAMPLES};
use crate::{Error, Progress, Stack};

/// Limit for all tasks together. A lost callback takes longest: half a minute until the first poll is due, and up to a
/// minute until the schedule runs it.
const TIMEOUT: Duration = Duration::from_mins(4);

/// How often the states of the tasks are read.
const READ_INTERVAL: Duration = Duration::from_millis(400);

/// What the simulator does with a task, and how the task must end.
#[derive(Clone, Copy, Debug)]
struct Scenario {
    name: &'static str,
    script: &'static str,
    state: &'static str,
    reported_by: &'static str,
}

impl Scenario {
    /// The scenario as it applies to a provider, if it does. One that sends no callbacks is polled, and can neither lose nor repeat any.
    /// One that sends none for failures is polled for those.
    fn with(self, provider: Provider) -> Option<Self> {
        if self.state == "failed" && !provider.calls_back_about(Outcome::Moderated) {
            return Some(Self { reported_by: "poll", ..self });
        }
        if provider.calls_back() {
            return Some(self);
        }
        self.script.starts_with("outcome=").then_some(Self { reported_by: "poll", ..self })
    }
}

/// Every provider runs through all of these that apply to it.
const SCENARIOS: [Scenario; 4] = [
    Scenario { name: "success", script: "outcome=succeed", state: "archived", reported_by: "callback" },
    Scenario { name: "failure", script: "outcome=moderated", state: "failed", reported_by: "callback" },
    Scenario { name: "duplicated", script: "deliveries=5", state: "archived", reported_by: "callback" },
    Scenario { name: "lost-callback", script: "callback=lose", state: "archived", reported_by: "poll" },
];

/// What a run prints, and whether it passed.
#[derive(Clone, Debug)]
pub struct RunOutcome {
    /// One line per task, for the terminal.
    pub table: String,
    /// Whether every task ended as expected.
    pub passed: bool,
}

#[derive(Debug)]
struct DemoTask {
    provider: Provider,
    scenario: Scenario,
    started: Instant,
    state: String,
    /// Time to the final state, and the record in that state.
    finished: Option<(Duration, Value)>,
    error: Option<String>,
}

impl DemoTask {
    fn key(&self) -> String {
        format!("{}/{}", self.provider, self.scenario.name)
    }

    fn passed(&self) -> bool {
        self.error.is_none() && self.finished.is_some()
    }
}

/// The settings of a stack with simulated providers: their base URLs, keys and secrets, and a poll schedule of a few seconds.
pub fn settings(simulator: &Simulator) -> Value {
    let mut providers = BTreeMap::new();
    for provider in Provider::ALL {
        let account = simulator.config().account(provider);
        let mut own = json!({
            "api_key": account.api_key,
            "base_url": simulator.base_url(provider),
            "poll": { "first_seconds": 5, "interval_seconds": 5, "max_interval_seconds": 60 },
        });
        if let Some(url) = simulator.key_set_url(provider) {
            own["key_set_url"] = json!(url);
            own["account_id"] = json!(provider.account_id());
        } else if let Some(secret) = account.signing_secret {
            own["signing_secrets"] = json!([secret]);
        }
        providers.insert(provider.to_string(), own);
    }
    json!({
        "version": 1,
        "callback": { "keys": ["no-secret:local-use-only"] },
        "providers": providers,
    })
}

/// Submits the tasks, waits until they end, and compares the bucket with what the provider served.
pub async fn run(stack: &Stack, simulator: &Simulator, progress: Progress) -> Result<RunOutcome, Error> {
    let client = Client::new(stack)?;
    let planned: Vec<(Provider, Scenario)> = SCENARIOS
        .iter()
        .flat_map(|scenario| Provider::ALL.map(|provider| Some((provider, scenario.with(provider)?))))
        .flatten()
        .collect();
    progress.report(&format!("submitting {} tasks to {} providers", planned.len(), SAMPLES.len()));
    let mut tasks = Vec::new();
    for (provider, scenario) in planned {
        tasks.push(submit(&client, provider, scenario).await);
    }
    watch(&client, simulator, &mut tasks, progress).await;
    Ok(RunOutcome { table: table(&tasks), passed: tasks.iter().all(DemoTask::passed) })
}

async fn submit(client: &Client, provider: Provider, scenario: Scenario) -> DemoTask {
    let prompt = format!("a paper boat on a rainy street [simulate {}]", scenario.script);
    let started = Instant::now();
    let error = match client.submit(samples::of(provider), scenario.name, &prompt).await {
        Ok(response) if response.status == 201 => None,
        Ok(response) => Some(format!("submission failed: {} {}", response.status, response.body)),
        Err(error) => Some(format!("submission failed: {error}")),
    };
    DemoTask { provider, scenario, started, state: "submitted".to_owned(), finished: None, error }
}

async fn watch(client: &Client, simulator: &Simulator, tasks: &mut [DemoTask], progress: Progress) {
    let deadline = Instant::now() + TIMEOUT;
    let mut explained_wait = false;
    loop {
        for task in tasks.iter_mut().filter(|task| task.error.is_none() && task.finished.is_none()) {
            let Ok(response) = client.get(&task.key()).await else { continue };
            let view = response.body;
            let state = view["state"].as_str().unwrap_or("unknown").to_owned();
            if state == task.state {
                continue;
            }
            task.state.clone_from(&state);
            let elapsed = task.started.elapsed();
            progress.report(&format!("  {:>6.1} s  {:<24} {state}", elapsed.as_secs_f64(), task.key()));
            if matches!(state.as_str(), "archived" | "failed" | "lost") {
                task.error = check(client, simulator, task, &view).await.err();
                task.finished = Some((elapsed, view));
            }
        }
        let open: Vec<_> = tasks.iter().filter(|task| task.error.is_none() && task.finished.is_none()).collect();
        if open.is_empty() {
            return;
        }
        if !explained_wait && open.iter().all(|task| task.scenario.reported_by == "poll") {
            explained_wait = true;
            progress.report("  the remaining tasks get no callbacks and wait for poll, which runs every minute");
        }
        if Instant::now() > deadline {
            for task in tasks.iter_mut().filter(|task| task.error.is_none() && task.finished.is_none()) {
                task.error = Some(format!("still {} after {} s", task.state, TIMEOUT.as_secs()));
            }
            return;
        }
        tokio::time::sleep(READ_INTERVAL).await;
    }
}

/// Checks a finished task: state, reporter, `result.json`, and every byte of the video.
async fn check(client: &Client, simulator: &Simulator, task: &DemoTask, view: &Value) -> Result<(), String> {
    let expected = [("state", task.scenario.state), ("reported_by", task.scenario.reported_by)];
    for (field, expected) in expected {
        if view[field] != expected {
            return Err(format!("{field} is {}, expected {expected}", view[field]));
        }
    }
    let result = object(client, view["result"].as_str().unwrap_or_default()).await?;
    let result: Value = serde_json::from_slice(&result).map_err(|error| format!("result.json: {error}"))?;
    if result["outcome"] != view["outcome"] || result["artifacts"] != view["artifacts"] {
        return Err("result.json differs from the record".to_owned());
    }
    if task.scenario.state != "archived" {
        return Ok(());
    }
    let video = view["artifacts"].as_array().into_iter().flatten().find(|artifact| artifact["kind"] == "video");
    let key = video.and_then(|video| video["key"].as_str()).ok_or("the record has no video")?;
    let served = simulator.file(view["provider_task_id"].as_str().unwrap_or_default());
    if object(client, key).await? != served {
        return Err(format!("{key} differs from the file that the provider served"));
    }
    Ok(())
}

async fn object(client: &Client, key: &str) -> Result<Vec<u8>, String> {
    let object = client.object(key).await.map_err(|error| error.to_string())?;
    object.ok_or_else(|| format!("{key} is not in the bucket"))
}

fn table(tasks: &[DemoTask]) -> String {
    let mut table = format!(
        "\n{:<26} {:<9} {:<12} {:>5} {:>11} {:>8}  {}\n",
        "task", "state", "reported by", "files", "bytes", "seconds", "check"
    );
    let mut sorted: Vec<_> = tasks.iter().collect();
    sorted.sort_by_key(|task| task.provider.to_string());
    for task in sorted {
        let view = task.finished.as_ref().map_or(&Value::Null, |(_, view)| view);
        let artifacts = view["artifacts"].as_array().map(Vec::as_slice).unwrap_or_default();
        let bytes: u64 = artifacts.iter().filter_map(|artifact| artifact["bytes"].as_u64()).sum();
        let seconds =
            task.finished.as_ref().map_or_else(|| "-".to_owned(), |(time, _)| format!("{:.1}", time.as_secs_f64()));
        let check = task.error.as_deref().unwrap_or("ok");
        // Writing to a String cannot fail.
        let _ = writeln!(
            table,
            "{:<26} {:<9} {:<12} {:>5} {:>11} {:>8}  {check}",
            task.key(),
            task.state,
            view["reported_by"].as_str().unwrap_or("-"),
            artifacts.len(),
            bytes,
            seconds,
        );
    }
    let passed = tasks.iter().filter(|task| task.passed()).count();
    let _ = writeln!(table, "\n{passed} of {} tasks passed", tasks.len());
    table
}
