//! `load`: runs a load and checks it. `load check`: the second program.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use load::check::check;
use load::run::{Load, run};
use load::system::{AwsKind, Layout, System};
use load::{Error, report};
use local::Progress;

/// Problems that are printed; the rest is counted.
const MAX_PRINTED: usize = 50;

/// Runs thousands of tasks with everything that goes wrong, and checks how each ended.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Tasks.
    #[arg(long, default_value_t = 20_000)]
    tasks: u64,
    /// What everything random follows from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The share of AWS calls that fail.
    #[arg(long, default_value_t = 0.01)]
    failing_calls: f64,
    /// The AWS it runs against.
    #[arg(long, value_enum, default_value_t = AwsKind::Fast)]
    aws: AwsKind,
    /// Processes of `callback`, `tasks` and `process` each.
    #[arg(long, default_value_t = 8)]
    processes: usize,
    /// The cargo profile of the functions.
    #[arg(long, default_value = "release")]
    profile: String,
    /// Where the manifest is written; in `.local/` unless named.
    #[arg(long)]
    manifest: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Checks how each task of a manifest ended.
    Check {
        /// Where AWS is.
        #[arg(long)]
        endpoint: String,
        /// The manifest.
        #[arg(long)]
        manifest: PathBuf,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.command {
        Some(Command::Check { endpoint, manifest }) => checked(endpoint, manifest).await,
        None => run_and_check(&arguments).await,
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            print(&format!("error: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

async fn run_and_check(arguments: &Arguments) -> Result<bool, Error> {
    let layout = Layout {
        profile: arguments.profile.clone(),
        aws: arguments.aws,
        callback: arguments.processes,
        tasks: arguments.processes,
        process: arguments.processes,
        schedule: Duration::from_mins(1),
        first_poll: Duration::from_secs(30),
        progress: Progress::Terminal,
    };
    let load = Load {
        tasks: arguments.tasks,
        seed: arguments.seed,
        failing_calls: arguments.failing_calls,
        // Later than two runs of `poll`.
        late_after: Duration::from_secs(150),
        time_limit: Duration::from_hours(1),
    };
    let manifest = match &arguments.manifest {
        Some(manifest) => manifest.clone(),
        None => default_manifest()?,
    };
    let mut system = System::start(&layout).await?;
    let finished = run(&mut system, &load, &manifest).await?;
    print(&report::of(&system, &finished).await);
    let program = std::env::current_exe().map_err(|error| Error::System("this program has no path", error))?;
    let status = tokio::process::Command::new(program)
        .args(["check", "--endpoint", system.remote.endpoint(), "--manifest"])
        .arg(&manifest)
        .status()
        .await
        .map_err(|error| Error::System("the check did not start", error))?;
    Ok(status.success() && finished.errors.is_empty())
}

fn default_manifest() -> Result<PathBuf, Error> {
    let directory = local::workspace_root().join(".local");
    std::fs::create_dir_all(&directory).map_err(|error| Error::System("cannot create .local", error))?;
    Ok(directory.join("load-manifest.jsonl"))
}

async fn checked(endpoint: &str, manifest: &Path) -> Result<bool, Error> {
    let verdict = check(endpoint, manifest).await?;
    let states: Vec<String> = verdict.states.iter().map(|(state, count)| format!("{count} {state}")).collect();
    print(&format!("check: {} tasks ({}), {} objects\n", verdict.tasks, states.join(", "), verdict.objects));
    for problem in verdict.problems.iter().take(MAX_PRINTED) {
        print(&format!("    {problem}\n"));
    }
    print(&match verdict.problems.len() {
        0 => "check: every task ended exactly once and right\n".to_owned(),
        count => format!("check: {count} problems\n"),
    });
    Ok(verdict.problems.is_empty())
}

/// Nobody may be listening.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
