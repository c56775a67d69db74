//! Child processes that are killed together with everything they started.

use std::io;
use std::process::{Output, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// A process group, killed on drop: its leader and every process the leader started.
#[derive(Debug)]
pub(crate) struct Group {
    leader: Option<Pid>,
}

impl Group {
    /// The group that the process `id` leads.
    pub(crate) fn of(id: Option<u32>) -> Self {
        Self { leader: id.and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw) }
    }

    /// Kills the whole group now.
    pub(crate) fn kill(&mut self) {
        if let Some(leader) = self.leader.take() {
            // Fails only if no process is left.
            let _ = killpg(leader, Signal::SIGKILL);
        }
    }

    /// Kills nothing on drop. For a leader that has been waited for: the system may reuse its process id.
    pub(crate) fn forget(mut self) {
        self.leader = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a command to completion in its own process group, which is killed when the future is dropped. Writes `input` to
/// standard input; the caller chooses standard output and error.
pub(crate) async fn run(command: &mut Command, input: &[u8]) -> io::Result<Output> {
    let mut child = command.process_group(0).stdin(Stdio::piped()).spawn()?;
    let group = Group::of(child.id());
    if let Some(mut stdin) = child.stdin.take() {
        // If the process exits without reading, its output says why; the broken pipe does not.
        let _ = stdin.write_all(input).await;
    }
    let output = child.wait_with_output().await?;
    group.forget();
    Ok(output)
}

/// Runs a command as [`run`] does and returns its standard output, or the last lines of both outputs if it failed.
pub(crate) async fn capture(command: &mut Command, input: &[u8]) -> io::Result<Result<String, String>> {
    let output = run(command.stdout(Stdio::piped()).stderr(Stdio::piped()), input).await?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(Ok(stdout));
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let both = format!("{stdout}{stderr}");
    let printed = both.trim();
    Ok(Err(if printed.is_empty() { format!("no output, {}", output.status) } else { last_lines(printed) }))
}

/// The last 40 lines of a text; the number is chosen freely.
pub(crate) fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
