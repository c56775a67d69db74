//! `cargo run -- measure`: size, memory and startup time of the deployed functions, compared with a function that does
//! nothing in the same run. Absolute times differ between machines and drift; ratios within a run do not.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use local::functions::{FUNCTIONS, build_packages};
use local::runtime_api::Function;
use local::{Error, Progress};

/// Starts per function. They are interleaved, so that a slow phase of the machine affects all of them alike.
const STARTS: usize = 21;

/// The baseline: a function that does nothing.
const EMPTY: &str = "empty";

struct Measurement {
    name: &'static str,
    binary: PathBuf,
    starts: Vec<Duration>,
    memory: Vec<u64>,
}

/// Builds the release binaries, measures them, and returns the table.
pub(crate) async fn run() -> Result<String, Error> {
    let names: Vec<_> = std::iter::once(EMPTY).chain(FUNCTIONS).collect();
    let executables = build_packages(&names, "release", Progress::Terminal).await?;
    let mut all: Vec<Measurement> = executables
        .into_iter()
        .map(|(name, binary)| Measurement { name, binary, starts: vec![], memory: vec![] })
        .collect();
    // The baseline first, then by name.
    all.sort_by_key(|measurement| (measurement.name != EMPTY, measurement.name));
    // The functions call nothing before the first event, so none of these has to exist.
    let environment: Vec<_> = [
        ("TABLE_NAME", "tasks"),
        ("QUEUE_URL", "http://127.0.0.1:9/queue"),
        ("BUCKET_NAME", "bucket"),
        ("SETTINGS_SECRET", "reelhook/settings"),
        ("CALLBACK_BASE_URL", "http://127.0.0.1:9"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    for _ in 0..STARTS {
        for measurement in &mut all {
            let mut function = Function::start(&measurement.binary, &environment).await?;
            let Some(duration) = function.time_to_first_next().await else {
                return Err(Error::FunctionExited { function: measurement.name });
            };
            measurement.starts.push(duration);
            measurement.memory.extend(function.peak_memory());
        }
    }
    table(&mut all)
}

fn table(all: &mut [Measurement]) -> Result<String, Error> {
    let mut text = format!(
        "\nmedians of {STARTS} interleaved starts, warm page cache\n\n\
         | function | zip | start to first /next | relative to empty | peak memory |\n|---|---|---|---|---|\n"
    );
    let baseline = median(&mut all[0].starts);
    for measurement in all {
        let zip = zipped(&measurement.binary)?;
        let start = median(&mut measurement.starts);
        let memory = median(&mut measurement.memory);
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {} | {:.2} MB | {:.1} ms | {:.2} | {:.1} MB |",
            measurement.name,
            megabytes(zip),
            start.as_secs_f64() * 1e3,
            start.as_secs_f64() / baseline.as_secs_f64(),
            megabytes(memory * 1024),
        );
    }
    Ok(text)
}

fn median<T: Copy + Ord + Default>(values: &mut [T]) -> T {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "two digits are printed")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// Size in bytes of the deployment package with this binary as its `bootstrap`, compressed as `sam deploy` does (level 6).
fn zipped(binary: &Path) -> Result<u64, Error> {
    let failed = |what: &str| {
        let what = format!("cannot {what} {}", binary.display());
        move |source: std::io::Error| Error::System { what, source }
    };
    let bytes = std::fs::read(binary).map_err(failed("read"))?;
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_level(Some(6));
    archive.start_file("bootstrap", options).map_err(|error| failed("compress")(error.into()))?;
    std::io::Write::write_all(&mut archive, &bytes).map_err(failed("compress"))?;
    let archive = archive.finish().map_err(|error| failed("compress")(error.into()))?;
    Ok(archive.into_inner().len() as u64)
}
