//! What a start and a callback cost: the deployed functions beside one that does nothing and beside the same work in Python and
//! JavaScript, all in one run, because absolute times differ between machines and drift.
//!
//! Each program speaks the Lambda runtime API, as on Lambda, and calls an AWS of its own over TLS 1.3. A start is measured to the
//! response of its first event: that is what is billed, and what a provider waits for.
//!
//! | module | contents |
//! |---|---|
//! | [`program`] | what is measured |
//! | [`world`] | the AWS that it calls, and the events that it gets |
//! | [`tls`] | TLS in front of that AWS |
//! | [`share`] | a share of a processor |
//! | [`poll`] | a run of `poll` over thousands of tasks |
//! | [`scale`] | callbacks at rates, and a run of `poll` over more and more open tasks |
//! | [`process`] | copies with the processor that each size of memory brings |
//! | [`system`] | everything that a task goes through, for these |
//! | [`instructions`] | counting instructions, which do not depend on the machine's other work |

mod instructions;
mod poll;
mod process;
mod program;
mod scale;
mod share;
mod system;
mod tls;
mod world;

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use local::runtime_api::{Function, InvocationResult};
use local_aws::prices;
use nix::sys::time::TimeValLike as _;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use serde_json::Value;

use crate::program::{Program, Work};
use crate::share::Share;
use crate::world::World;

/// Why there is no table.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// Starts per program. They are interleaved, so that a slow phase of the machine affects all of them alike.
const STARTS: usize = 21;

/// Invocations of each kind in a warm process.
const INVOCATIONS: usize = 200;

/// What Lambda gives 256 MB: 1,769 MB are one processor.
const SHARE: f64 = 256.0 / 1769.0;

/// The deadline that a function sees.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What the starts of one program took.
#[derive(Default)]
struct Starts {
    to_next: Vec<Duration>,
    to_next_alone: Vec<Duration>,
    to_response: Vec<Duration>,
    processor_time: Vec<Duration>,
    with_share: Vec<Duration>,
    memory: Vec<u64>,
    handshakes: u64,
    calls: u64,
}

/// What a warm invocation takes of a processor, in the process itself.
#[derive(Clone, Copy, Default)]
struct Warm {
    new: Duration,
    duplicate: Duration,
    refused: Duration,
    calls: u64,
}

async fn run() -> Result<String, Error> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let only = arguments.pop_if(|last| ["poll", "process", "scale"].contains(&last.as_str()));
    let programs = program::all(&arguments, only.is_none()).await?;
    let path = |name: &str| {
        let program = programs.iter().find(|program| program.name == name);
        program.map(|program| program.path.as_path()).ok_or("a function is missing")
    };
    let world = World::start(path("tasks")?).await?;
    match only.as_deref() {
        Some("poll") => return poll::table(path("poll")?, path("tasks")?, &world.directory).await,
        Some("scale") => {
            let functions = [path("callback")?, path("poll")?, path("tasks")?];
            return scale::table(functions, &world, &world.directory).await;
        }
        Some(_) => return process::table(path("process")?, path("poll")?, path("tasks")?, &world.directory).await,
        None => {}
    }
    let has_share = match Share::of_processor(SHARE) {
        Ok(_) => true,
        Err(error) => {
            report(&format!("no share of a processor can be set here, so these times are left out: {error}"));
            false
        }
    };
    let mut starts: Vec<Starts> = programs.iter().map(|_| Starts::default()).collect();
    report(&format!("{STARTS} starts of {} programs", programs.len()));
    for _ in 0..STARTS {
        for (program, starts) in programs.iter().zip(&mut starts) {
            start(program, &world, starts).await?;
            if !program.is_script {
                starts.to_next_alone.push(start_alone(program, &world).await?);
            }
            if has_share {
                starts.with_share.push(start_with_share(program, &world).await?);
            }
        }
    }
    report(&format!("{INVOCATIONS} warm invocations of each kind"));
    let mut table = table_of_starts(&programs, &mut starts, &world)?;
    let mut rows = vec![];
    for program in programs.iter().filter(|program| program.work != Work::Own) {
        rows.push((program, warm_invocations(program, &world).await?));
    }
    table.push_str(&table_of_invocations(&rows));
    report("instructions");
    table.push_str(&instructions::table(&programs, &world).await?);
    Ok(table)
}

async fn start(program: &Program, world: &World, starts: &mut Starts) -> Result<(), Error> {
    let event = program.first_event(world).await?;
    let (calls, handshakes) = (world.calls().await?, world.handshakes());
    let mut function = Function::start(&program.path, &world.environment).await?;
    let to_next = function.time_to_first_next().await.ok_or_else(|| program.failed("it exited at its start"))?;
    program.check(&function.invoke(event, TIMEOUT).await)?;
    starts.to_response.push(function.started().elapsed());
    starts.to_next.push(to_next);
    starts.processor_time.push(processor_time(&function)?);
    starts.memory.extend(function.peak_memory());
    starts.handshakes = world.handshakes() - handshakes;
    starts.calls = world.calls().await? - calls;
    Ok(())
}

/// To the first `/next` when nothing can be reached: without connections.
async fn start_alone(program: &Program, world: &World) -> Result<Duration, Error> {
    let mut environment = world.environment.clone();
    for (name, value) in &mut environment {
        if name.starts_with("AWS_ENDPOINT_URL") {
            "https://127.0.0.1:9".clone_into(value);
        }
    }
    let mut function = Function::start(&program.path, &environment).await?;
    function.time_to_first_next().await.ok_or_else(|| program.failed("it exited at its start"))
}

/// The same as [`start`] with the share of a processor that Lambda gives from the first event on. Before it there is a whole one.
async fn start_with_share(program: &Program, world: &World) -> Result<Duration, Error> {
    let event = program.first_event(world).await?;
    // One of its own: what the exit of a process takes would be missing for the next.
    let share = Share::of_processor(SHARE)?;
    let mut function = Function::start(&program.path, &world.environment).await?;
    function.time_to_first_next().await.ok_or_else(|| program.failed("it exited at its start"))?;
    // The kernel takes some milliseconds for it, in which the process waits for its event.
    let limiting = Instant::now();
    share.limit(function.id().ok_or_else(|| program.failed("it exited at its start"))?)?;
    let limiting = limiting.elapsed();
    program.check(&function.invoke(event, TIMEOUT).await)?;
    Ok(function.started().elapsed().saturating_sub(limiting))
}

async fn warm_invocations(program: &Program, world: &World) -> Result<Warm, Error> {
    let mut function = Function::start(&program.path, &world.environment).await?;
    for _ in 0..20 {
        program.check(&function.invoke(world.new_callback().await?, TIMEOUT).await)?;
    }
    let mut warm = Warm::default();
    let (mut news, mut refused) = (vec![], vec![]);
    for _ in 0..INVOCATIONS {
        news.push(world.new_callback().await?);
        refused.push(world.forged_callback());
    }
    let calls = world.calls().await?;
    warm.new = average(program, &mut function, &news).await?;
    warm.calls = (world.calls().await? - calls) / INVOCATIONS as u64;
    warm.duplicate = average(program, &mut function, &news).await?;
    warm.refused = average(program, &mut function, &refused).await?;
    Ok(warm)
}

async fn average(program: &Program, function: &mut Function, events: &[Value]) -> Result<Duration, Error> {
    let before = processor_time(function)?;
    for event in events {
        let result = function.invoke(event.clone(), TIMEOUT).await;
        if !matches!(result, InvocationResult::Response(_)) {
            return Err(program.failed(&format!("{result:?}")));
        }
    }
    Ok(processor_time(function)?.saturating_sub(before) / u32::try_from(events.len())?)
}

/// What the process has used of processors, in all its threads.
fn processor_time(function: &Function) -> Result<Duration, Error> {
    let id = function.id().ok_or("the process has exited")?;
    let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(id.try_into()?))?;
    Ok(Duration::from_nanos(clock_gettime(clock)?.num_nanoseconds().try_into()?))
}

fn table_of_starts(programs: &[Program], starts: &mut [Starts], world: &World) -> Result<String, Error> {
    let mut text = format!(
        "medians of {STARTS} interleaved starts on {}, warm page cache\n\n\
         | | start to first response, ms | processor time of its own until then | with {SHARE:.3} of a processor from the first event on \
         | start to first /next | the same without connections | handshakes, calls | peak memory, MB | zip, MB | dollars per million cold callbacks |\n|---|---|---|---|---|---|---|---|---|---|\n",
        processor()
    );
    for (program, starts) in programs.iter().zip(starts) {
        let zip = if program.is_script {
            "-".to_owned()
        } else {
            format!("{:.2}", megabytes(program.zipped(&world.directory)?))
        };
        let with_share = median(&mut starts.with_share);
        let dollars = with_share.filter(|_| program.work != Work::Own);
        let dollars = dollars.map_or_else(|| "-".to_owned(), |time| format!("{:.2}", dollars_per_million(time)));
        let with_share = with_share.map_or_else(|| "-".to_owned(), milliseconds);
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {with_share} | {} | {} | {}, {} | {:.1} | {zip} | {dollars} |",
            program.name,
            median(&mut starts.to_response).map_or_else(String::new, milliseconds),
            median(&mut starts.processor_time).map_or_else(String::new, milliseconds),
            median(&mut starts.to_next).map_or_else(String::new, milliseconds),
            median(&mut starts.to_next_alone).map_or_else(|| "-".to_owned(), milliseconds),
            starts.handshakes,
            starts.calls,
            megabytes(median(&mut starts.memory).unwrap_or_default() * 1024),
        );
    }
    Ok(text)
}

/// What Lambda charges for a million invocations of 256 MB that take this long, in US dollars. The start is charged as well.
fn dollars_per_million(time: Duration) -> f64 {
    1e6 * (prices::INVOCATION + 0.25 * time.as_secs_f64() * prices::GB_SECOND)
}

fn table_of_invocations(rows: &[(&Program, Warm)]) -> String {
    let mut text = format!(
        "\nown processor time of a warm invocation in microseconds, averages of {INVOCATIONS}\n\n\
         | | new callback | duplicate | refused | calls of a new one |\n|---|---|---|---|---|\n"
    );
    for (program, warm) in rows {
        let of = |time: Duration| format!("{:.0}", time.as_secs_f64() * 1e6);
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            program.name,
            of(warm.new),
            of(warm.duplicate),
            of(warm.refused),
            warm.calls
        );
    }
    text
}

fn median<T: Copy + Ord>(values: &mut [T]) -> Option<T> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1e3)
}

#[expect(clippy::cast_precision_loss, reason = "two digits are printed")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// The name of the processor.
fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{count} x {}", name.map_or("an unknown processor", |(_, name)| name))
}

fn report(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[tokio::main]
async fn main() -> ExitCode {
    let began = Instant::now();
    match run().await {
        Ok(table) => {
            let _ = std::io::stdout().write_all(table.as_bytes());
            report(&format!("done in {} s", began.elapsed().as_secs()));
            ExitCode::SUCCESS
        }
        Err(error) => {
            report(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}
