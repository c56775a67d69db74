//! `tail`: the logs of all functions as they come.

use std::collections::HashSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use local::Error;
use local::deployed::Deployed;
use reelhook_core::TaskKey;

use super::history::{self, Line};
use super::output::{line, seconds};
use super::{Code, Output};

/// Between two reads. A read costs nothing, and `CloudWatch` shows lines after some seconds.
const INTERVAL: Duration = Duration::from_secs(2);

/// How far back each read begins: a line may appear that much later than its own time.
const OVERLAP: i64 = 30_000;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Only lines about this task, PROVIDER/ID.
    #[arg(long)]
    task: Option<TaskKey>,
    /// Begin this long ago, such as 90s, 15m or 2h.
    #[arg(long, value_parser = seconds, default_value = "1m")]
    since: i64,
    /// Print what there is, and end.
    #[arg(long)]
    once: bool,
}

pub(super) async fn run(arguments: &Arguments, deployed: &Deployed, output: Output) -> Result<Code, Error> {
    let task = arguments.task.as_ref().map(ToString::to_string);
    let mut since = milliseconds() - arguments.since * 1000;
    let mut printed = HashSet::new();
    loop {
        let began = milliseconds();
        for found in history::lines(deployed, since, task.as_deref()).await? {
            if printed.insert((found.time, found.function, found.to_json().to_string())) {
                print(&found, output);
            }
        }
        if arguments.once {
            return Ok(Code::Done);
        }
        since = began - OVERLAP;
        printed.retain(|(time, ..)| *time >= since);
        tokio::time::sleep(INTERVAL).await;
    }
}

fn print(found: &Line, output: Output) {
    match output {
        Output::Programs => line(&found.to_json().to_string()),
        Output::People => {
            let (time, level) = (history::time(found.time), &found.level);
            line(&format!("{time} {:<8} {level:<5} {} {}", found.function, found.message, found.detail()));
        }
    }
}

fn milliseconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
