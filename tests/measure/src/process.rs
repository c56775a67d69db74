//! What a copy takes with the processor that each size of memory brings, and what it costs then, beside the same work in Python.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use load::remote::TABLE;
use local::runtime_api::{Function, InvocationResult};
use local_aws::prices;
use serde_json::{Value, json};
use simulator::Provider;

use crate::share::Share;
use crate::system::System;
use crate::{Error, megabytes, processor_time, program, report};

/// Sizes of memory, in MB. More than 3,538 would be more than two processors.
const MEMORY: [u32; 6] = [256, 512, 768, 1024, 1769, 3008];

/// Tasks per size of memory, and the length of their videos in bytes.
const FILES: [(usize, u32); 2] = [(12, 8_000_000), (2, 200_000_000)];

/// What boto3 writes in one request. Longer files it writes in parts, without the checksum that the AWS in memory requires.
const WRITTEN_WHOLE: u32 = 8 << 20;

/// What Lambda gives one processor for, in MB.
const ONE_PROCESSOR: f64 = 1769.0;

const TIMEOUT: Duration = Duration::from_mins(15);

/// The table.
pub(crate) async fn table(process: &Path, poll: &Path, tasks: &Path, directory: &Path) -> Result<String, Error> {
    let mut text = "\none task per invocation of a warm process, from an origin without TLS to S3 over TLS 1.3, both on this machine\n\n\
        | | memory, MB | video, MB | seconds per task | of them processor time | MB/s | peak memory, MB | dollars per million tasks |\n\
        |---|---|---|---|---|---|---|---|\n"
        .to_owned();
    let python = program::copying_peer();
    for (count, length) in FILES {
        let python = python.as_deref().filter(|_| length < WRITTEN_WHOLE);
        let programs: Vec<_> =
            std::iter::once(("`process`", process)).chain(python.map(|path| ("Python, boto3", path))).collect();
        report(&format!("{count} videos of {} MB for each size of memory", length / 1_000_000));
        let system = System::start(directory).await?;
        let script = format!("callback=lose delay=0.1 size={length}");
        system.submit(tasks, count * MEMORY.len() * programs.len(), &[Provider::Kling], &script).await?;
        // It finds that they are finished, and queues them.
        let mut poll = Function::start(poll, &system.environment).await?;
        poll.invoke(json!({}), TIMEOUT).await;
        for memory in MEMORY {
            for (name, program) in &programs {
                let mut messages = vec![];
                while messages.len() < count {
                    let mut message = system.remote.receive("work").await?.ok_or("a task is not queued")?.record;
                    if *program != process {
                        message["body"] = json!(with_link(&system, &message).await?);
                    }
                    messages.push(message);
                }
                let copied = copy_all(program, &system, memory, messages).await?;
                // Writing to a String cannot fail.
                let _ = writeln!(text, "| {name} | {memory} | {} |", copied.row(memory, length, count)?);
            }
        }
    }
    Ok(text)
}

/// A message that says where the video is as well, so that nobody has to read the record.
async fn with_link(system: &System, message: &Value) -> Result<String, Error> {
    let body: Value = serde_json::from_str(message["body"].as_str().unwrap_or_default())?;
    let request = json!({ "TableName": TABLE, "Key": { "task": { "S": body["task"] } } });
    let response = system.remote.call("DynamoDB_20120810.GetItem", &request).await?;
    let provider_said: Value = serde_json::from_str(response["Item"]["raw"]["S"].as_str().unwrap_or_default())?;
    Ok(json!({ "task": body["task"], "url": provider_said["data"][0]["outputs"][0]["url"] }).to_string())
}

/// What some copies took.
struct Copied {
    elapsed: Duration,
    processor_time: Duration,
    /// Peak, in bytes.
    memory: u64,
}

impl Copied {
    fn row(&self, memory: u32, length: u32, count: usize) -> Result<String, Error> {
        let count = f64::from(u32::try_from(count)?);
        let (seconds, used) = (self.elapsed.as_secs_f64() / count, self.processor_time.as_secs_f64() / count);
        let (length, peak) = (f64::from(length) / 1e6, megabytes(self.memory));
        let (speed, dollars) = (length / seconds, 1e6 * seconds * f64::from(memory) / 1024.0 * prices::GB_SECOND);
        Ok(format!("{length:.0} | {seconds:.3} | {used:.3} | {speed:.0} | {peak:.0} | {dollars:.2}"))
    }
}

async fn copy_all(process: &Path, system: &System, memory: u32, messages: Vec<Value>) -> Result<Copied, Error> {
    let share = Share::of_processor(f64::from(memory) / ONE_PROCESSOR)?;
    let mut environment = system.environment.clone();
    environment.push(("AWS_LAMBDA_FUNCTION_MEMORY_SIZE".to_owned(), memory.to_string()));
    let mut function = Function::start(process, &environment).await?;
    function.time_to_first_next().await.ok_or("process exited at its start")?;
    share.limit(function.id().ok_or("process has exited")?)?;
    let (began, used) = (Instant::now(), processor_time(&function)?);
    for message in messages {
        let result = function.invoke(json!({ "Records": [message] }), TIMEOUT).await;
        if !matches!(&result, InvocationResult::Response(response) if response["batchItemFailures"] == json!([])) {
            return Err(format!("a task was not copied: {result:?}").into());
        }
    }
    Ok(Copied {
        elapsed: began.elapsed(),
        processor_time: processor_time(&function)?.saturating_sub(used),
        memory: function.peak_memory().unwrap_or_default() * 1024,
    })
}
