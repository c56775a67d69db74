//! What `cargo run` does: real tasks of every provider, all the way, and a look at whether each ended as it should.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use simulator::{Provider, Simulator};

use crate::client::Client;
use crate::samples::{self, SAMPLES};
use crate::{Error, Progress, Stack};

/// How long all tasks together may take. The longest way is that of a lost callback: half a minute until the first visit is
/// due, and up to a minute until the schedule makes it.
const TIME_LIMIT: Duration = Duration::from_mins(4);

/// How often the tasks are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(400);

/// What happens to a task, and how it has to end.
#[derive(Clone, Copy, Debug)]
struct Scenario {
    name: &'static str,
    script: &'static str,
    state: &'static str,
    reported_by: &'static str,
}

/// What every provider's tasks go through.
const SCENARIOS: [Scenario; 4] = [
    Scenario { name: "success", script: "outcome=succeed", state: "archived", reported_by: "callback" },
    Scenario { name: "failure", script: "outcome=moderated", state: "failed", reported_by: "callback" },
    Scenario { name: "duplicated", script: "deliveries=5", state: "archived", reported_by: "callback" },
    Scenario { name: "lost-callback", script: "callback=lose", state: "archived", reported_by: "poll" },
];

/// One task of the demonstration.
#[derive(Debug)]
struct Shown {
    provider: Provider,
    scenario: Scenario,
    started: Instant,
    state: String,
    ended: Option<(Duration, Value)>,
    problem: Option<String>,
}

impl Shown {
    fn key(&self) -> String {
        format!("{}/{}", self.provider, self.scenario.name)
    }

    fn passed(&self) -> bool {
        self.problem.is_none() && self.ended.is_some()
    }
}

/// The settings for a stack whose providers are simulated: their base URLs, keys and secrets, and a pace at which nobody has
/// to wait.
pub fn settings(simulator: &Simulator) -> Value {
    let mut providers = BTreeMap::new();
    for provider in Provider::ALL {
        let account = simulator.config().account(provider);
        let mut own = json!({
            "api_key": account.api_key,
            "base_url": simulator.base_url(provider),
            "poll": { "first_seconds": 5, "interval_seconds": 5, "longest_interval_seconds": 60 },
        });
        if let Some(secret) = account.signing_secret {
            own["signing_secrets"] = json!([secret]);
        }
        providers.insert(provider.to_string(), own);
    }
    json!({
        "version": 1,
        "callback": { "keys": ["not a secret: for the stand-in only"] },
        "providers": providers,
    })
}

/// Submits the tasks, watches them, compares what is in the bucket with what the provider served, and gives back the table.
/// The flag says whether every task ended as it should.
pub async fn run(stack: &Stack, simulator: &Simulator, progress: Progress) -> Result<(String, bool), Error> {
    let client = Client::new(stack)?;
    progress.say(&format!("submitting {} tasks to {} providers", SAMPLES.len() * SCENARIOS.len(), SAMPLES.len()));
    let mut tasks = Vec::new();
    for scenario in SCENARIOS {
        for provider in Provider::ALL {
            tasks.push(submit(&client, provider, scenario).await);
        }
    }
    watch(&client, simulator, &mut tasks, progress).await;
    Ok((table(&tasks), tasks.iter().all(Shown::passed)))
}

async fn submit(client: &Client, provider: Provider, scenario: Scenario) -> Shown {
    let prompt = format!("a paper boat on a rainy street [simulate {}]", scenario.script);
    let started = Instant::now();
    let problem = match client.submit(samples::of(provider), scenario.name, &prompt).await {
        Ok(answer) if answer.status == 201 => None,
        Ok(answer) => Some(format!("submission: {} {}", answer.status, answer.body)),
        Err(error) => Some(format!("submission: {error}")),
    };
    Shown { provider, scenario, started, state: "submitted".to_owned(), ended: None, problem }
}

async fn watch(client: &Client, simulator: &Simulator, tasks: &mut [Shown], progress: Progress) {
    let until = Instant::now() + TIME_LIMIT;
    let mut told_of_schedule = false;
    loop {
        for task in tasks.iter_mut().filter(|task| task.problem.is_none() && task.ended.is_none()) {
            let Ok(answer) = client.get(&task.key()).await else { continue };
            let view = answer.body;
            let state = view["state"].as_str().unwrap_or("unknown").to_owned();
            if state == task.state {
                continue;
            }
            task.state.clone_from(&state);
            let after = task.started.elapsed();
            progress.say(&format!("  {:>6.1} s  {:<24} {state}", after.as_secs_f32(), task.key()));
            if matches!(state.as_str(), "archived" | "failed" | "lost") {
                task.problem = check(client, simulator, task, &view).await.err();
                task.ended = Some((after, view));
            }
        }
        let open: Vec<_> = tasks.iter().filter(|task| task.problem.is_none() && task.ended.is_none()).collect();
        if open.is_empty() {
            return;
        }
        if !told_of_schedule && open.iter().all(|task| task.scenario.reported_by == "poll") {
            told_of_schedule = true;
            progress.say("  what is left has lost its callback: the schedule runs poll every minute");
        }
        if Instant::now() > until {
            for task in tasks.iter_mut().filter(|task| task.problem.is_none() && task.ended.is_none()) {
                task.problem = Some(format!("still {} after {} s", task.state, TIME_LIMIT.as_secs()));
            }
            return;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Whether a task that ended did so as it should: state, reporter, `result.json`, and every byte of the video.
async fn check(client: &Client, simulator: &Simulator, task: &Shown, view: &Value) -> Result<(), String> {
    let expected = [("state", task.scenario.state), ("reported_by", task.scenario.reported_by)];
    for (field, expected) in expected {
        if view[field] != expected {
            return Err(format!("{field} is {} instead of {expected}", view[field]));
        }
    }
    let result = object(client, view["result"].as_str().unwrap_or_default()).await?;
    let result: Value = serde_json::from_slice(&result).map_err(|error| format!("result.json: {error}"))?;
    if result["outcome"] != view["outcome"] || result["artifacts"] != view["artifacts"] {
        return Err("result.json says something else than the record".to_owned());
    }
    if task.scenario.state != "archived" {
        return Ok(());
    }
    let video = view["artifacts"].as_array().into_iter().flatten().find(|artifact| artifact["kind"] == "video");
    let key = video.and_then(|video| video["key"].as_str()).ok_or("no video is in the bucket")?;
    let served = simulator.file(view["provider_task_id"].as_str().unwrap_or_default());
    if object(client, key).await? != served {
        return Err(format!("{key} is not byte for byte what the provider served"));
    }
    Ok(())
}

async fn object(client: &Client, key: &str) -> Result<Vec<u8>, String> {
    let object = client.object(key).await.map_err(|error| error.to_string())?;
    object.ok_or_else(|| format!("{key} is not in the bucket"))
}

fn table(tasks: &[Shown]) -> String {
    let mut table = format!(
        "\n{:<26} {:<9} {:<12} {:>5} {:>11} {:>8}  {}\n",
        "task", "state", "reported by", "files", "bytes", "seconds", "as it should"
    );
    let mut sorted: Vec<_> = tasks.iter().collect();
    sorted.sort_by_key(|task| task.provider.to_string());
    for task in sorted {
        let view = task.ended.as_ref().map_or(&Value::Null, |(_, view)| view);
        let artifacts = view["artifacts"].as_array().map(Vec::as_slice).unwrap_or_default();
        let bytes: u64 = artifacts.iter().filter_map(|artifact| artifact["bytes"].as_u64()).sum();
        let seconds =
            task.ended.as_ref().map_or_else(|| "-".to_owned(), |(after, _)| format!("{:.1}", after.as_secs_f32()));
        let verdict = task.problem.as_deref().unwrap_or("yes");
        // Writing to a String cannot fail.
        let _ = writeln!(
            table,
            "{:<26} {:<9} {:<12} {:>5} {:>11} {:>8}  {verdict}",
            task.key(),
            task.state,
            view["reported_by"].as_str().unwrap_or("-"),
            artifacts.len(),
            bytes,
            seconds,
        );
    }
    let passed = tasks.iter().filter(|task| task.passed()).count();
    let _ = writeln!(table, "\n{passed} of {} tasks ended as they should", tasks.len());
    table
}
