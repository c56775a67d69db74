//! What a task costs. The requests, the units of the table and the log are measured, with the real binaries against an AWS in
//! memory; the prices are lists, and what no machine here can measure is an assumption that stands below.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use crash::world::{Error, World};
use load::remote::{Remote, SECRET};
use local::functions::Functions;
use local::runtime_api::{InvocationResult, keep_output_in};
use local::{FunctionSource, Progress};
use local_aws::control::Statistics;
use local_aws::prices;
use reqwest::Method;
use serde_json::{Value, json};
use simulator::Provider;

/// Seconds that a call to AWS takes in a region; here it takes none.
const AWS_CALL: f64 = 0.005;
/// Seconds that a provider takes for a submission or a status poll.
const PROVIDER_CALL: f64 = 0.3;
/// Seconds for a file of 8 MB at 40 MB/s.
const COPY: f64 = 0.2;
/// A long render: the schedule looks at its task this often, once a minute, before the callback comes.
const LOOKS: u32 = 3;

/// What one task used.
#[derive(Debug, Default)]
struct Used {
    written: f64,
    read: f64,
    queue_requests: u64,
    object_writes: u64,
    object_reads: u64,
    events: u64,
    invocations: u64,
    gb_seconds: f64,
    log_bytes: u64,
}

impl Used {
    /// To SQS, S3 and Lambda.
    fn requests(&self) -> u64 {
        self.queue_requests + self.object_writes + self.object_reads + self.invocations
    }

    /// Dollars per million tasks: for the table, for the functions, for objects and their events, for queue and log.
    fn prices(&self) -> [f64; 4] {
        let count = |count: u64| u32::try_from(count).map_or(0.0, f64::from);
        [
            self.written * prices::WRITE_UNIT + self.read * prices::READ_UNIT,
            count(self.invocations) * prices::INVOCATION + self.gb_seconds * prices::GB_SECOND,
            count(self.object_writes) * prices::OBJECT_WRITE
                + count(self.object_reads) * prices::OBJECT_READ
                + count(self.events) * prices::EVENT,
            count(self.queue_requests) * prices::QUEUE_REQUEST + count(self.log_bytes) * prices::LOG_BYTE,
        ]
        .map(|dollars| 1e6 * dollars)
    }
}

/// Gigabytes of a function, as in the template, and the seconds that it waits for others.
fn lambda(function: &str) -> (f64, f64) {
    match function {
        "process" => (0.5, PROVIDER_CALL + COPY),
        "tasks" => (0.25, PROVIDER_CALL),
        // One run serves every due task: a poll waits as long as one of them.
        _ => (0.25, 0.0),
    }
}

async fn statistics(remote: &Remote) -> Result<Statistics, Error> {
    Ok(serde_json::from_slice(&remote.control(Method::GET, "statistics", String::new()).await?)?)
}

/// Invokes a function and adds what it used. Returns whether it is done with its event.
async fn invoke(world: &World, used: &mut Used, logs: &Path, function: &str, event: Value) -> Result<bool, Error> {
    let logged = logged_by(function, logs)?;
    let before = statistics(&world.remote).await?;
    let mut process = world.function(function).await?;
    process.time_to_first_next().await.ok_or("it does not start")?;
    let began = Instant::now();
    let invoked = process.invoke(event, World::time_limit(function)).await;
    let seconds = began.elapsed().as_secs_f64();
    let after = statistics(&world.remote).await?;
    let calls = |name: &str| {
        let of = |statistics: &Statistics| statistics.calls.get(name).map_or(0, |calls| calls.made);
        of(&after) - of(&before)
    };
    used.written += after.units.written - before.units.written;
    used.queue_requests += ["SendMessage", "SendMessageBatch"].map(calls).iter().sum::<u64>();
    let writes = ["PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "ListObjectsV2"];
    used.object_writes += writes.map(calls).iter().sum::<u64>() + calls("ListMultipartUploads");
    used.object_reads += ["GetObject", "HeadObject"].map(calls).iter().sum::<u64>();
    used.events += after.created.values().sum::<u64>() - before.created.values().sum::<u64>();
    let made = |statistics: &Statistics| statistics.calls.values().map(|calls| calls.made).sum::<u64>();
    let aws_calls = u32::try_from(made(&after) - made(&before))?;
    let (gigabytes, waiting) = lambda(function);
    used.log_bytes += logged_by(function, logs)? - logged;
    // A run of `poll` reads the index and the queue whatever is due; that is in the fixed costs.
    if function != "poll" {
        used.read += after.units.read - before.units.read;
        used.invocations += 1;
        used.gb_seconds += gigabytes * (seconds + waiting + AWS_CALL * f64::from(aws_calls));
    }
    Ok(
        matches!(&invoked, InvocationResult::Response(response) if response["batchItemFailures"].as_array().is_none_or(Vec::is_empty)),
    )
}

/// Runs one task of a provider from its submission to its result.
async fn task(provider: Provider, looks: u32, functions: Arc<Functions>, logs: &Path) -> Result<Used, Error> {
    let http = reqwest::Client::builder().no_proxy();
    let script = if looks == 0 { "callback=lose" } else { "callback=lose delay=8" };
    let mut world = World::start(provider, script, functions, &http.build()?).await?;
    world.environment.retain(|(name, _)| name != "LOG_LEVEL");
    keep_to_the_schedule(&world).await?;
    let mut used = Used::default();
    invoke(&world, &mut used, logs, "tasks", world.submission()).await?;
    for _ in 0..looks {
        world.let_seconds_pass(60).await?;
        invoke(&world, &mut used, logs, "poll", json!({})).await?;
    }
    match world.finished(false).await {
        Ok(callback) => {
            invoke(&world, &mut used, logs, "callback", callback).await?;
        }
        // It has none, and polling finds how the task ended.
        Err(_) if !provider.calls_back() => {}
        Err(error) => return Err(error),
    }
    for _ in 0..10 {
        while world.remote.messages("work").await?.0 > 0 {
            let message = world.remote.receive("work").await?.ok_or("nothing is queued")?;
            // The event source receives it and deletes it.
            used.queue_requests += 2;
            if invoke(&world, &mut used, logs, "process", json!({ "Records": [message.record] })).await? {
                world.remote.delete("work", &message.receipt).await?;
            }
        }
        let item = world.item().await?.ok_or("there is no record")?;
        if item["state"]["S"] == "archived" {
            return Ok(used);
        }
        world.let_time_pass().await?;
        invoke(&world, &mut used, logs, "poll", json!({})).await?;
    }
    let item = world.item().await?.unwrap_or_default();
    Err(format!("{provider} has no result: {item}").into())
}

/// The settings of a world poll sooner than a deployment does.
async fn keep_to_the_schedule(world: &World) -> Result<(), Error> {
    let secret = world.remote.call("secretsmanager.GetSecretValue", &json!({ "SecretId": SECRET })).await?;
    let mut settings: Value = serde_json::from_str(secret["SecretString"].as_str().ok_or("there are no settings")?)?;
    for provider in settings["providers"].as_object_mut().into_iter().flat_map(|providers| providers.values_mut()) {
        provider.as_object_mut().map(|provider| provider.remove("poll"));
    }
    let changed = json!({ "SecretId": SECRET, "SecretString": settings.to_string() });
    world.remote.call("secretsmanager.PutSecretValue", &changed).await?;
    Ok(())
}

/// Bytes that a function logs. A run of `poll` writes a line and metrics whatever is due; what it writes about a task is counted.
fn logged_by(function: &str, directory: &Path) -> Result<u64, Error> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        let text = std::fs::read_to_string(entry?.path())?;
        let counted = text.split_inclusive('\n').filter(|line| function != "poll" || line.contains(r#""task":"#));
        bytes += counted.map(|line| line.len() as u64).sum::<u64>();
    }
    Ok(bytes)
}

/// The providers named on the command line; all without any.
fn providers() -> Result<Vec<Provider>, Error> {
    let named = std::env::args().skip(1).map(|name| {
        let known = Provider::ALL.into_iter().find(|provider| provider.to_string() == name);
        known.ok_or_else(|| format!("{name} is no provider").into())
    });
    let named = named.collect::<Result<Vec<_>, Error>>()?;
    Ok(if named.is_empty() { Provider::ALL.to_vec() } else { named })
}

async fn run() -> Result<String, Error> {
    let build = FunctionSource::Build { profile: "dev".to_owned() };
    let functions = Arc::new(Functions::prepare(&build, Progress::Terminal).await?);
    let _ = rustls::crypto::ring::default_provider().install_default();
    let logs = std::env::temp_dir().join(format!("reelhook-cost-{}", std::process::id()));
    std::fs::create_dir_all(&logs)?;
    keep_output_in(logs.clone());
    let header = "| provider | write units, quick | of 200 s | other requests | log bytes \
        | dollars per million, quick: table | functions | objects | queue and log | in all | of 200 s |";
    let mut lines = vec![header.to_owned(), "|---|---|---|---|---|---|---|---|---|---|---|".to_owned()];
    for provider in providers()? {
        let quick = task(provider, 0, Arc::clone(&functions), &logs).await?;
        let long = task(provider, LOOKS, Arc::clone(&functions), &logs).await?;
        let (written, other, bytes) = (quick.written, quick.requests(), quick.log_bytes);
        let [table, functions, objects, rest] = quick.prices();
        let [total, total_of_long] = [&quick, &long].map(|used| used.prices().iter().sum::<f64>());
        lines.push(format!(
            "| {provider} | {written:.0} | {:.0} | {other} | {bytes} | {table:.2} | {functions:.2} | {objects:.2} | {rest:.2} \
             | {total:.2} | {total_of_long:.2} |",
            long.written
        ));
    }
    std::fs::remove_dir_all(logs)?;
    Ok(lines.join("\n") + "\n")
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(table) => {
            let _ = std::io::stdout().write_all(table.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}
