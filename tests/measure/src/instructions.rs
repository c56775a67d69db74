//! Instructions of a start and of an invocation, counted by valgrind's callgrind.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use local::runtime_api::Function;
use local::workspace_root;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::process::Command;
use tokio::time::sleep;

use crate::program::{Program, Work};
use crate::world::World;
use crate::{Error, TIMEOUT, report};

/// Invocations that are counted together.
const INVOCATIONS: u64 = 20;

/// How long callgrind may take to write what it counted.
const WRITING: Duration = Duration::from_secs(20);

/// The table; empty where there is no valgrind.
pub(crate) async fn table(programs: &[Program], world: &World) -> Result<String, Error> {
    if Command::new("valgrind").arg("--version").output().await.is_err() {
        report("there is no valgrind here, so instructions are left out");
        return Ok(String::new());
    }
    let mut text = "\nmillions of instructions in the process, by callgrind\n\n\
        | | start to first /next | start to first response | new callback, warm | duplicate | refused |\n|---|---|---|---|---|---|\n"
        .to_owned();
    for program in programs.iter().filter(|program| !program.is_script) {
        let start = counted(program, world, Kind::Start).await?;
        let first = counted(program, world, Kind::First).await?;
        let mut row = vec![start, first];
        if program.work != Work::Own {
            // What comes before the counted ones is taken off again.
            let once = counted(program, world, Kind::First).await?;
            for kind in [Kind::New, Kind::Duplicate, Kind::Refused] {
                row.push(counted(program, world, kind).await?.saturating_sub(once) / INVOCATIONS);
            }
        }
        let cells: Vec<String> = row.into_iter().map(millions).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {} | {} |{}", program.name, cells.join(" | "), " - |".repeat(5 - cells.len()));
    }
    Ok(text)
}

/// What a process is given before it is stopped.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Nothing.
    Start,
    /// One event.
    First,
    /// One callback, and then new ones.
    New,
    /// One callback, and then the same again.
    Duplicate,
    /// One callback, and then forged ones.
    Refused,
}

impl Kind {
    async fn events(self, program: &Program, world: &World) -> Result<Vec<Value>, Error> {
        if matches!(self, Self::Start) {
            return Ok(vec![]);
        }
        let mut events = vec![program.first_event(world).await?];
        for _ in 0..INVOCATIONS {
            match self {
                Self::Start | Self::First => break,
                Self::New => events.push(world.new_callback().await?),
                Self::Duplicate => events.push(events[0].clone()),
                Self::Refused => events.push(world.forged_callback()),
            }
        }
        Ok(events)
    }
}

#[expect(clippy::cast_precision_loss, reason = "two digits are printed")]
fn millions(count: u64) -> String {
    format!("{:.2}", count as f64 / 1e6)
}

/// The median of three counts: under valgrind everything takes so much longer that some run into a time limit of the program.
async fn counted(program: &Program, world: &World, kind: Kind) -> Result<u64, Error> {
    let mut counts = [0; 3];
    for count in &mut counts {
        *count = count_once(program, world, kind).await?;
    }
    counts.sort_unstable();
    Ok(counts[1])
}

/// What a process executes from its start until it has responded. The profile is kept in `target/measure`, for
/// `callgrind_annotate`.
async fn count_once(program: &Program, world: &World, kind: Kind) -> Result<u64, Error> {
    let output = workspace_root().join(format!("target/measure/{}-{kind:?}.callgrind", program.name));
    fs::remove_file(&output).ok();
    let wrapper = wrapper(world, &program.path, &output)?;
    let mut environment = world.environment.clone();
    environment.push(("PATH".to_owned(), std::env::var("PATH")?));
    let mut function = Function::start(&wrapper, &environment).await?;
    function.time_to_first_next().await.ok_or_else(|| program.failed("it exited under valgrind"))?;
    for event in kind.events(program, world).await? {
        function.invoke(event, TIMEOUT).await;
    }
    let id = function.id().ok_or_else(|| program.failed("it exited under valgrind"))?;
    kill(Pid::from_raw(id.try_into()?), Signal::SIGTERM)?;
    let began = std::time::Instant::now();
    while began.elapsed() < WRITING {
        if let Some(total) = total(&output) {
            return Ok(total);
        }
        sleep(Duration::from_millis(50)).await;
    }
    Err(program.failed("callgrind counted nothing"))
}

fn wrapper(world: &World, program: &Path, output: &Path) -> Result<std::path::PathBuf, Error> {
    let path = world.directory.join("bootstrap");
    let output = output.display();
    let command = format!(
        "exec valgrind --tool=callgrind --callgrind-out-file={output} --log-file=/dev/null {}",
        program.display()
    );
    fs::write(&path, format!("#!/bin/sh\n{command}\n"))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// The sum that stands at the end of callgrind's file, once that is complete.
fn total(output: &Path) -> Option<u64> {
    let text = fs::read_to_string(output).ok()?;
    text.lines().rev().find_map(|line| line.strip_prefix("totals: "))?.trim().parse().ok()
}
