//! Child processes that leave nothing behind.

use std::io;
use std::process::{Output, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// A process group that is killed when this is dropped: the process that leads it and whatever that one started.
#[derive(Debug)]
pub(crate) struct Group {
    leader: Option<Pid>,
}

impl Group {
    /// Guards the group that the process `id` leads.
    pub(crate) fn of(id: Option<u32>) -> Self {
        Self { leader: id.and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw) }
    }

    /// Kills all of it now.
    pub(crate) fn kill(&mut self) {
        if let Some(leader) = self.leader.take() {
            // The only failure is that nobody is left.
            let _ = killpg(leader, Signal::SIGKILL);
        }
    }

    /// Leaves it alone from now on: its leader has been waited for, and its number may belong to others.
    pub(crate) fn forget(mut self) {
        self.leader = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a command to its end in a process group of its own, which is killed when the future is dropped. The caller chooses
/// what standard output and error are; `input` is written to standard input.
pub(crate) async fn run(command: &mut Command, input: &[u8]) -> io::Result<Output> {
    let mut child = command.process_group(0).stdin(Stdio::piped()).spawn()?;
    let group = Group::of(child.id());
    if let Some(mut stdin) = child.stdin.take() {
        // A process that ends without reading says why in its output; the broken pipe does not.
        let _ = stdin.write_all(input).await;
    }
    let output = child.wait_with_output().await?;
    group.forget();
    Ok(output)
}

/// Runs a command as [`run`] does, captures both its outputs and gives back standard output, or the end of what it said
/// when it failed.
pub(crate) async fn captured(command: &mut Command, input: &[u8]) -> io::Result<Result<String, String>> {
    let output = run(command.stdout(Stdio::piped()).stderr(Stdio::piped()), input).await?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(Ok(stdout));
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let both = format!("{stdout}{stderr}");
    let said = both.trim();
    Ok(Err(if said.is_empty() {
        format!("it ended with {} and said nothing", output.status)
    } else {
        last_lines(said)
    }))
}

/// The end of a long text; 40 lines, chosen freely.
pub(crate) fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
