//! Commands for any deployment: what happened to a task, and what can be done about it. Exit codes: [`Code`].

mod backlog;
mod doctor;
mod download;
pub(crate) mod history;
pub(crate) mod output;
mod tail;
pub(crate) mod tasks;
pub(crate) mod trigger;
mod verify;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use local::Error;
use local::deployed::{Deployed, Target};
use reelhook_core::TaskKey;
use reelhook_core::record::Record;

pub(crate) use self::output::Output;

/// What a command ends with. 2 is also what a wrong command line ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// It is done, or the task succeeded.
    Done = 0,
    /// Something did not work, or a check failed.
    Failure = 1,
    /// It was refused, and nothing changed.
    Refused = 2,
    /// The task ended as `failed`.
    TaskFailed = 3,
    /// The task ended as `lost`.
    TaskLost = 4,
    /// The time was up before the task's end.
    TimeUp = 5,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// Which deployment, and how to print.
#[derive(Debug, Args)]
pub(crate) struct Where {
    /// Operate this stack, with the profile and region of the AWS CLI, instead of the system on this machine.
    #[arg(long, value_name = "NAME", global = true)]
    pub(crate) stack: Option<String>,
    /// URL of an AWS that is not Amazon's.
    #[arg(long, value_name = "URL", global = true)]
    endpoint: Option<String>,
    /// Print JSON, for programs.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

impl Where {
    pub(crate) fn target(&self, port: u16) -> Target {
        match &self.stack {
            Some(name) => Target::Stack { name: name.clone(), endpoint: self.endpoint.clone() },
            None => Target::Local { port },
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List, show, submit, cancel and await tasks.
    #[command(subcommand)]
    Tasks(tasks::Command),
    /// Download the files of a task, with its result.json.
    Download(download::Arguments),
    /// Send a sample callback to the deployment, signed as the provider signs it.
    Trigger(trigger::Trigger),
    /// Send the body that is kept of a task to its callback URL once more.
    Replay {
        /// The task, PROVIDER/ID.
        task: TaskKey,
    },
    /// Say which part of a captured callback's authentication is wrong. Reads an HTTP request from standard input.
    Verify(verify::Arguments),
    /// Print the log lines of all functions as they come, until Ctrl-C.
    Tail(tail::Arguments),
    /// Print what waits: open and overdue tasks of each provider, and messages in the queues.
    Backlog,
    /// Check settings, keys, callback URL, schedule and alarms of a deployment.
    Doctor,
}

pub(crate) async fn run(command: Command, target: Target, output: Output) -> Result<Code, Error> {
    if let Command::Verify(arguments) = &command
        && let Some(file) = &arguments.settings
    {
        return verify::run(arguments, &verify::read_settings(file)?, output).await;
    }
    let deployed = Deployed::find(target).await?;
    match command {
        Command::Tasks(command) => tasks::run(command, &deployed, output).await,
        Command::Download(arguments) => download::run(&arguments, &deployed, output).await,
        Command::Trigger(arguments) => trigger::trigger(&arguments, &deployed, output).await,
        Command::Replay { task } => Ok(trigger::replay(&task, &deployed).await?.print(output)),
        Command::Tail(arguments) => tail::run(&arguments, &deployed, output).await,
        Command::Backlog => backlog::run(&deployed, output).await,
        Command::Doctor => doctor::run(&deployed, output).await,
        Command::Verify(arguments) => verify::run(&arguments, &*deployed.settings().await?, output).await,
    }
}

/// For `map_err`: what AWS or the deployment says, as it is.
fn refused(error: impl std::fmt::Display) -> Error {
    Error::Refused(error.to_string())
}

/// The record of a task.
pub(crate) async fn record(deployed: &Deployed, task: &TaskKey) -> Result<Record, Error> {
    let record = deployed.table.get(task).await.map_err(refused)?;
    record.ok_or_else(|| Error::Refused(format!("task not found: {task}; `tasks list` shows what there is")))
}
