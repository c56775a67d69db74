//! `cargo run`: the whole of reelhook on this machine.

mod explain;
mod introduction;
mod measure;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use local::{Error, FunctionSource, Options, Progress, Stack, demonstration, standin};
use simulator::{Config, Simulator};
use tokio::signal::unix::{SignalKind, signal};

/// The whole of reelhook on this machine, without an AWS account. Without a command: takes tasks of every provider all the
/// way, prints a table, and ends with 0 if every task ended as it should.
#[derive(Debug, Parser)]
#[command(name = "local", version)]
struct Arguments {
    #[command(flatten)]
    system: System,
    #[command(subcommand)]
    command: Option<Command>,
}

/// How the system is started.
#[derive(Debug, Args)]
struct System {
    /// Port of the stand-in for AWS.
    #[arg(long, default_value_t = 4566, global = true)]
    port: u16,
    /// Port of the simulated providers; 0 takes a free one.
    #[arg(long, default_value_t = 0, global = true)]
    simulator_port: u16,
    /// Cargo profile the functions are built with; `release` is what is deployed, and takes some minutes longer.
    #[arg(long, default_value = "dev", conflicts_with = "functions", global = true)]
    profile: String,
    /// Takes the functions from a directory that `cargo lambda build` wrote, `target/lambda`, instead of building them.
    #[arg(long, global = true)]
    functions: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts the system, prints where everything is, and serves until Ctrl-C.
    Up,
    /// Reads a provider's body on standard input and prints as JSON what reelhook makes of it. Starts nothing.
    Explain(explain::Arguments),
    /// Builds the release binaries and prints their size, memory and time to start, beside a function that does nothing.
    Measure,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Dropping what runs ends it: the stand-in, its functions, the simulator, cargo, pip.
    let result = tokio::select! {
        // `run` goes first: `explain` waits for standard input without yielding, and nobody may have taken Ctrl-C by then.
        biased;
        result = run(arguments) => result,
        result = interrupted() => result.map(|()| ExitCode::from(130)),
    };
    result.unwrap_or_else(|error| {
        say(&format!("error: {error}\n"));
        ExitCode::FAILURE
    })
}

async fn run(arguments: Arguments) -> Result<ExitCode, Error> {
    match arguments.command {
        None => {
            let (stack, simulator) = start(arguments.system).await?;
            let (table, passed) = demonstration::run(&stack, &simulator, Progress::Terminal).await?;
            print(&table);
            if passed {
                print("\n`cargo run -- up` stays up and prints where everything is.\n");
                return Ok(ExitCode::SUCCESS);
            }
            say(&format!("\nwhat the functions wrote:\n{}\n", stack.logs().await.unwrap_or_default()));
            Ok(ExitCode::FAILURE)
        }
        Some(Command::Up) => {
            let (stack, simulator) = start(arguments.system).await?;
            print(&introduction::text(&stack, &simulator).await?);
            std::future::pending().await
        }
        Some(Command::Explain(arguments)) => Ok(explain::run(&arguments).map_or_else(
            |error| {
                say(&format!("error: {error}\n"));
                ExitCode::from(2)
            },
            |()| ExitCode::SUCCESS,
        )),
        Some(Command::Measure) => {
            print(&measure::run().await?);
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Starts the providers and the deployed stack. Both end when they are dropped.
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
        stand_in: standin::Options { port: Some(port), ..standin::Options::default() },
        ..Options::default()
    };
    Ok((Stack::start(options).await?, simulator))
}

fn print(text: &str) {
    // Nothing can be done about a closed standard output.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Returns at Ctrl-C, and when the terminal or the system asks for an end.
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
    say("\ninterrupted: everything that was started is being ended\n");
    Ok(())
}
