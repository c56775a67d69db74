//! `cargo run`: all of reelhook, locally.

mod console;
mod explain;
mod introduction;
mod measure;
mod operate;
mod settings;
mod stage;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use local::deployed::{Deployed, Target};
use local::{Error, FunctionSource, Options, Progress, Stack, demonstration, emulator, workspace_root};
use simulator::{Config, Simulator};
use tokio::signal::unix::{SignalKind, signal};

/// Runs all of reelhook locally, without an AWS account. Without a command: runs tasks of every provider end to end, prints a
/// table, and exits with 0 if every task ends as expected.
#[derive(Debug, Parser)]
#[command(name = "local", version)]
struct Arguments {
    #[command(flatten)]
    system: System,
    #[command(flatten)]
    operated: operate::Where,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Args)]
struct System {
    /// Port of the local AWS emulator.
    #[arg(long, default_value_t = 4566, global = true)]
    port: u16,
    /// Port of the provider simulator; 0 picks a free one.
    #[arg(long, default_value_t = 0, global = true)]
    simulator_port: u16,
    /// Cargo profile of the functions. `release` is the one to deploy; its build takes some minutes longer.
    #[arg(long, default_value = "dev", conflicts_with = "functions", global = true)]
    profile: String,
    /// Use the functions that `cargo lambda build` wrote to this directory (`target/lambda`) instead of building them.
    #[arg(long, global = true)]
    functions: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the system, print its endpoints, and serve until Ctrl-C, with a page of its tasks.
    Up {
        /// Port of the page on 127.0.0.1; 0 picks a free one.
        #[arg(long, default_value_t = 4577)]
        console_port: u16,
    },
    /// Serve a page of a deployment's tasks on 127.0.0.1, until Ctrl-C. It shows and plays; it changes nothing.
    Console {
        /// Port of the page; 0 picks a free one.
        #[arg(long, default_value_t = 4577)]
        console_port: u16,
        /// Let the page submit samples, replay callbacks, cancel tasks and copy again.
        #[arg(long)]
        allow_writes: bool,
    },
    /// Read a provider's body from standard input and print as JSON how reelhook interprets it. Starts nothing.
    Explain(explain::Arguments),
    /// Write, check and store the provider settings.
    #[command(subcommand)]
    Settings(settings::Command),
    /// Put the functions of `cargo lambda build` beside the template, for `sam deploy` without `sam build`. Refuses those that are
    /// built for another architecture than the template's.
    Stage,
    #[command(flatten)]
    Operate(operate::Command),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Build the release binaries and print what a start and a callback cost, beside a function that does nothing and the same
    /// work in Python and JavaScript.
    Measure {
        /// `poll`: a run of poll over thousands of tasks. `scale`: callbacks at rates, and poll over up to 100,000 tasks.
        /// `process`: copies by memory. NAME=PATH: another build of callback, beside the others.
        arguments: Vec<String>,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Dropping the future stops everything it started: the emulator, its functions, the simulator, cargo, pip.
    let result = tokio::select! {
        // Poll `run` first: `explain` blocks on standard input without yielding, and must do so before the handler for
        // Ctrl-C is installed.
        biased;
        result = run(arguments) => result,
        result = interrupted() => result.map(|()| ExitCode::from(130)),
    };
    result.unwrap_or_else(|error| {
        print_error(&format!("error: {error}\n"));
        ExitCode::FAILURE
    })
}

async fn run(arguments: Arguments) -> Result<ExitCode, Error> {
    match arguments.command {
        None => {
            let (stack, simulator) = start(arguments.system).await?;
            let outcome = demonstration::run(&stack, &simulator, Progress::Terminal).await?;
            print(&outcome.table);
            if outcome.passed {
                print("\n`cargo run -- up` keeps the system running and prints its endpoints.\n");
                return Ok(ExitCode::SUCCESS);
            }
            print_error(&format!("\nlogs of the functions:\n{}\n", stack.logs().await.unwrap_or_default()));
            Ok(ExitCode::FAILURE)
        }
        Some(Command::Up { console_port }) => {
            let port = arguments.system.port;
            let (stack, simulator) = start(arguments.system).await?;
            let console = console::serve(Deployed::find(Target::Local { port }).await?, console_port, true).await?;
            print(&introduction::text(&stack, &simulator, &console.url).await?);
            std::future::pending().await
        }
        Some(Command::Console { console_port, allow_writes }) => {
            let deployed = Deployed::find(arguments.operated.target(arguments.system.port)).await?;
            let console = console::serve(deployed, console_port, allow_writes).await?;
            print(&format!("the page is at {}; Ctrl-C ends it\n", console.url));
            std::future::pending().await
        }
        Some(Command::Explain(arguments)) => Ok(exit_code(explain::run(&arguments))),
        Some(Command::Stage) => {
            let functions = arguments.system.functions.unwrap_or_else(|| workspace_root().join("target/lambda"));
            Ok(exit_code(stage::run(functions).await.map(|text| print(&text))))
        }
        Some(Command::Settings(command)) => {
            let stack = arguments.operated.stack.as_deref();
            Ok(exit_code(settings::run(command, stack).await.map(|text| print(&text))))
        }
        Some(Command::Operate(command)) => {
            let output = if arguments.operated.json { operate::Output::Programs } else { operate::Output::People };
            let target = arguments.operated.target(arguments.system.port);
            match operate::run(command, target, output).await {
                // What it says is what to do.
                Err(Error::Refused(message)) => {
                    print_error(&format!("error: {message}\n"));
                    Ok(operate::Code::Refused.into())
                }
                ended => ended.map(ExitCode::from),
            }
        }
        Some(Command::Completions { shell }) => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "local", &mut script);
            print(&String::from_utf8_lossy(&script));
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Measure { arguments }) => measure::run(&arguments).await,
    }
}

/// 2 for what the user has to change, and says what.
fn exit_code<E: std::fmt::Display>(result: Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(&format!("error: {error}\n"));
            ExitCode::from(2)
        }
    }
}

/// Starts the simulator and deploys the stack. Both stop when dropped.
async fn start(system: System) -> Result<(Stack, Simulator), Error> {
    let System { port, simulator_port, profile, functions } = system;
    let functions = match functions {
        Some(directory) => FunctionSource::Directory(directory),
        None => FunctionSource::Build { profile },
    };
    let simulator = Simulator::start(Config { port: simulator_port, ..Config::default() })
        .map_err(|source| Error::Simulator { port: simulator_port, source })?;
    let options = Options {
        functions,
        settings: demonstration::settings(&simulator),
        allowed_origins: vec![simulator.address().to_string()],
        emulator: emulator::Options { port: Some(port), ..emulator::Options::default() },
        ..Options::default()
    };
    Ok((Stack::start(options).await?, simulator))
}

fn print(text: &str) {
    // Nobody reads a closed standard output.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn print_error(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Returns on SIGINT, SIGTERM or SIGHUP.
async fn interrupted() -> Result<(), Error> {
    let listen =
        |kind| signal(kind).map_err(|source| Error::System { what: "cannot listen for signals".to_owned(), source });
    let (mut interrupt, mut terminate, mut hang_up) =
        (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?, listen(SignalKind::hangup())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hang_up.recv() => {}
    }
    print_error("\ninterrupted: stopping everything\n");
    Ok(())
}
