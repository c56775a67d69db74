//! One run of `poll` over thousands of due tasks of every provider, with the share of a processor that it has on Lambda, providers
//! that take 200 ms for each response, and an AWS over TLS.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use local::runtime_api::{Function, InvocationResult};
use serde_json::json;
use simulator::Provider;

use crate::share::Share;
use crate::system::System;
use crate::{Error, SHARE, megabytes, processor_time, report};

/// Tasks that are due, of all providers together.
const TASKS: usize = 20_000;

/// What a prompt says of a task that stays open.
pub(crate) const OPEN: &str = "callback=lose delay=100000";

/// How long a provider takes for a response.
const LATENCY: Duration = Duration::from_millis(200);

/// How long Lambda lets a run take.
const TIMEOUT: Duration = Duration::from_mins(1);

/// What runs over tasks that are still open, and over tasks that are finished, came to.
pub(crate) async fn table(poll: &Path, tasks: &Path, directory: &Path) -> Result<String, Error> {
    let mut text = heading();
    for (name, script) in [("open", OPEN), ("finished", "callback=lose delay=0.1")] {
        report(&format!("submitting {TASKS} tasks that are {name} when they are polled"));
        let row = run(TASKS, script, poll, tasks, directory).await?;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {TASKS}, {name} | {row} |");
    }
    Ok(text)
}

pub(crate) fn heading() -> String {
    format!(
        "\none run of poll, with {SHARE:.3} of a processor and {} ms for each response of a provider\n\n\
         | due tasks | polled | queued | left to the next run | seconds | of them processor time \
         | connections to AWS | peak memory, MB | status requests per task |\n|---|---|---|---|---|---|---|---|---|\n",
        LATENCY.as_millis()
    )
}

/// One run over so many tasks whose prompts say this to the simulator. Returns its row.
pub(crate) async fn run(
    count: usize,
    script: &str,
    poll: &Path,
    tasks: &Path,
    directory: &Path,
) -> Result<String, Error> {
    let system = System::start(directory).await?;
    system.submit(tasks, count, &Provider::ALL, script).await?;
    system.slow.begin(LATENCY);
    let share = Share::of_processor(SHARE)?;
    let mut function = Function::start(poll, &system.environment).await?;
    function.time_to_first_next().await.ok_or("poll exited at its start")?;
    share.limit(function.id().ok_or("poll has exited")?)?;
    let handshakes = system.front.handshakes();
    let began = Instant::now();
    let InvocationResult::Response(summary) = function.invoke(json!({}), TIMEOUT).await else {
        return Err("poll failed".into());
    };
    let seconds = began.elapsed().as_secs_f64();
    let requests = system.slow.requests();
    let tasks_each = f64::from(u32::try_from(count / Provider::ALL.len())?);
    let per_task = Provider::ALL.map(|provider| {
        let sent = requests.get(provider.name()).copied().unwrap_or_default();
        format!("{provider} {:.2}", f64::from(sent) / tasks_each)
    });
    let number = |name: &str| summary[name].as_u64().unwrap_or_default();
    Ok(format!(
        "{} | {} | {} | {seconds:.1} | {:.1} | {} | {:.1} | {}",
        number("polled"),
        number("queued"),
        number("left_over"),
        processor_time(&function)?.as_secs_f64(),
        system.front.handshakes() - handshakes,
        megabytes(function.peak_memory().unwrap_or_default() * 1024),
        per_task.join(", "),
    ))
}
