//! The copier next to the tools that people use for the same by hand, against one origin and one S3, in one run:
//!
//! ```text
//! cargo run --release --package bench
//! ```
//!
//! `curl`, `aws` and `rclone` have to be installed (each is skipped if it is not); `s3s-fs` is installed from crates.io by
//! the run itself. The result is a table in Markdown on standard output. Words behind the command choose cases by their
//! letter.

mod process;
mod server;

use std::env;
use std::error::Error;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use futures_util::{StreamExt as _, TryStreamExt as _};
use reelhook_aws::clients::{Clients, RetryPolicy};
use reelhook_aws::copy::{Copier, CopyRequest, PriorAttempt};
use reelhook_aws::ssrf::OriginPolicy;
use reelhook_core::Timestamp;
use reelhook_core::redacted::SignedUrl;
use reelhook_core::report::Kind;
use reelhook_core::transfer::parts::{MAX_SINGLE_PUT, Piece, piece_size};
use tokio::time::Instant;

use self::process::{Run, Server, found, measure};

type Failure = Box<dyn Error + Send + Sync>;

const ORIGIN: &str = "127.0.0.1:19801";
const SINK: &str = "127.0.0.1:19802";
const S3: &str = "127.0.0.1:19803";
const BUCKET: &str = "films";
const KEY: &str = "benchmark0benchmark0";

/// The S3 that everything is stored in.
const S3_SERVER: (&str, &str) = ("s3s-fs", "0.14.1");

/// Where the S3 keeps what it is given, if there is such a folder: a disk would be what is measured.
const MEMORY: &str = "/dev/shm";

/// Copies and other tools at a time where there are many files. A batch of `process` has five tasks of up to three files each at
/// a time; ten is chosen freely in between.
const MAX_CONCURRENT_COPIES: usize = 10;

/// Parts on their way at a time: as many as reelhook holds in memory.
const MAX_CONCURRENT_PARTS: usize = 7;

/// Runs of each tool in each case; the best counts, because everything else on a machine makes a run only slower.
const RUNS: usize = 3;

/// A run that took longer than this is not repeated: 200 starts of the AWS command line take minutes.
const TOO_LONG_TO_REPEAT: Duration = Duration::from_secs(45);

const GIGABYTE: u64 = 1_000_000_000;

/// What is copied.
struct Case {
    letter: &'static str,
    title: &'static str,
    behaviour: &'static str,
    files: usize,
    length: u64,
}

const CASES: [Case; 6] = [
    Case { letter: "a", title: "200 files of 8 MB", behaviour: "plain", files: 200, length: 8_000_000 },
    Case { letter: "b", title: "one file of 1 GB", behaviour: "plain", files: 1, length: GIGABYTE },
    Case { letter: "A", title: "200 files of 8 MB over 1 Gbit/s", behaviour: "link", files: 200, length: 8_000_000 },
    Case { letter: "B", title: "one file of 1 GB over 1 Gbit/s", behaviour: "link", files: 1, length: GIGABYTE },
    Case {
        letter: "c",
        title: "one file of 1 GB, 40 MB/s per connection, 20 ms away",
        behaviour: "limited",
        files: 1,
        length: GIGABYTE,
    },
    Case {
        letter: "d",
        title: "one file of 1 GB, every connection dropped at 64 MB",
        behaviour: "dropping",
        files: 1,
        length: GIGABYTE,
    },
];

impl Case {
    fn links(&self) -> Vec<String> {
        (0..self.files).map(|number| format!("http://{ORIGIN}/{}/{}/{number}", self.behaviour, self.length)).collect()
    }
}

/// Who copies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tool {
    /// The raw limit of reading: the bytes are thrown away.
    Curl,
    /// The raw limit of storing: the bytes come out of memory, in the parts and requests that reelhook cuts files into.
    Store,
    Reelhook,
    CurlAws,
    Rclone,
}

impl Tool {
    const ALL: [Self; 5] = [Self::Curl, Self::Store, Self::Reelhook, Self::CurlAws, Self::Rclone];

    fn name(self) -> &'static str {
        match self {
            Self::Curl => "curl -o /dev/null",
            Self::Store => "the same parts from memory",
            Self::Reelhook => "reelhook",
            Self::CurlAws => "curl piped into aws s3 cp",
            Self::Rclone => "rclone copyurl",
        }
    }

    fn is_installed(self) -> bool {
        match self {
            Self::Reelhook | Self::Store => true,
            Self::Curl => found("curl"),
            Self::CurlAws => found("curl") && found("aws"),
            Self::Rclone => found("rclone"),
        }
    }

    /// Whether a case says anything about the tool.
    fn takes(self, case: &Case) -> bool {
        self != Self::Store || case.behaviour == "plain"
    }

    fn command(self, case: &Case) -> Result<Command, Failure> {
        let links = case.links();
        let endpoint = format!("http://{S3}");
        let at_a_time = MAX_CONCURRENT_COPIES.to_string();
        // Many files: as many processes side by side as reelhook copies files.
        let each = |script: &str| {
            let mut command = Command::new("sh");
            let numbered: Vec<String> =
                links.iter().enumerate().map(|(number, link)| format!("{link} {number}")).collect();
            command
                .arg("-c")
                .arg(format!("printf '%s\\n' \"$LINKS\" | xargs -P {at_a_time} -L 1 bash -c '{script}' each"));
            command.env("LINKS", numbered.join("\n"));
            command
        };
        let mut command = match self {
            Self::Curl => {
                let mut command = Command::new("curl");
                command.args(["-sS", "-Z", "--parallel-max", &at_a_time]);
                for link in &links {
                    command.args(["-o", "/dev/null", link]);
                }
                command
            }
            Self::Store => {
                let mut command = Command::new(env::current_exe()?);
                command.args(["store", &endpoint, &case.length.to_string(), &case.files.to_string()]);
                command
            }
            Self::Reelhook => {
                let mut command = Command::new(env::current_exe()?);
                command.args(["copy", &endpoint]).args(&links);
                command
            }
            Self::CurlAws => each(&format!(
                "set -o pipefail; curl -sSf \"$1\" | aws --endpoint-url {endpoint} s3 cp --quiet - s3://{BUCKET}/\"$2\"/video.mp4"
            )),
            Self::Rclone => each(&format!(
                "rclone copyurl \"$1\" :s3:{BUCKET}/\"$2\"/video.mp4 --s3-provider Other --s3-env-auth --s3-endpoint {endpoint} --s3-no-check-bucket"
            )),
        };
        command
            .env("AWS_ACCESS_KEY_ID", KEY)
            .env("AWS_SECRET_ACCESS_KEY", KEY)
            .env("AWS_DEFAULT_REGION", "us-east-1")
            .env("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
            // For TLS, of which there is none here; rclone stumbles over it.
            .env_remove("AWS_CA_BUNDLE")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Ok(command)
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let result = match words.first().map(String::as_str) {
        Some("origin") => server::origin(ORIGIN).map_err(Failure::from),
        Some("sink") => server::sink(SINK).map_err(Failure::from),
        Some("copy") => copy(&words[1..]),
        Some("store") => store(&words[1..]),
        _ => benchmark(&words),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("{error}"));
            ExitCode::FAILURE
        }
    }
}

/// On standard error; standard output is for the table.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

fn benchmark(chosen: &[String]) -> Result<(), Failure> {
    let program = env::current_exe()?;
    let tools = program.parent().ok_or("no folder")?.join("bench-tools");
    let s3_server = installed_s3_server(&tools)?;
    let memory = Path::new(MEMORY);
    let folder = if memory.is_dir() { memory.join("reelhook-bench") } else { tools.join("s3") };
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(folder.join(BUCKET))?;
    let origin = Server::start(Command::new(&program).arg("origin"))?;
    let sink = Server::start(Command::new(&program).arg("sink"))?;
    let s3 = Server::start(
        Command::new(&s3_server)
            .args(["--host", "127.0.0.1", "--port", S3.rsplit(':').next().unwrap_or_default()])
            .args(["--access-key", KEY, "--secret-key", KEY])
            .arg(&folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    )?;
    origin.ready(ORIGIN)?;
    sink.ready(SINK)?;
    s3.ready(S3)?;

    for tool in Tool::ALL.into_iter().filter(|tool| !tool.is_installed()) {
        say(&format!("{} is skipped: it is not installed", tool.name()));
    }
    let mut table =
        String::from("| | tool | seconds | MB/s | peak memory, MB | ends in |\n|---|---|---|---|---|---|\n");
    for case in CASES.iter().filter(|case| chosen.is_empty() || chosen.iter().any(|word| word == case.letter)) {
        for tool in Tool::ALL.into_iter().filter(|tool| tool.is_installed() && tool.takes(case)) {
            if let Some((run, end)) = best_run(case, tool, &folder.join(BUCKET))? {
                table.push_str(&row(case.title, tool.name(), run, case.length * case.files as u64, end));
            }
        }
    }
    if chosen.is_empty() || chosen.iter().any(|word| word == "m") {
        // Over the link, what the copier itself leaves of it: the S3 writes a large file twice.
        for (gigabytes, behaviour, over) in [(1, "plain", ""), (20, "plain", ""), (1, "link", " over 1 Gbit/s")] {
            let link = format!("http://{ORIGIN}/{behaviour}/{}/0", gigabytes * GIGABYTE);
            let mut command = Command::new(&program);
            command.args(["copy", &format!("http://{SINK}"), &link]).stdout(Stdio::null());
            let run = measure(&mut command)?;
            let title = format!("one file of {gigabytes} GB{over} into a bucket that swallows");
            let end = if run.succeeded { "nothing stored" } else { "broken off" };
            table.push_str(&row(&title, Tool::Reelhook.name(), run, gigabytes * GIGABYTE, end));
        }
    }
    io::stdout().write_all(table.as_bytes())?;
    Ok(())
}

/// The fastest of some runs, and what it left in the bucket.
fn best_run(case: &Case, tool: Tool, bucket: &Path) -> Result<Option<(Run, &'static str)>, Failure> {
    let mut best: Option<(Run, &str)> = None;
    for _ in 0..RUNS {
        empty(bucket)?;
        let run = measure(&mut tool.command(case)?)?;
        let end = match tool {
            Tool::Curl if run.succeeded => "nothing stored",
            Tool::Curl => "broken off",
            _ => verdict(case, bucket)?,
        };
        say(&format!("{} / {}: {:.2?}, {} bytes, {end}", case.title, tool.name(), run.time, run.peak_bytes));
        if best.as_ref().is_none_or(|(best, _)| run.time < best.time) {
            best = Some((run, end));
        }
        if run.time > TOO_LONG_TO_REPEAT {
            break;
        }
    }
    Ok(best)
}

fn row(case: &str, tool: &str, run: Run, bytes: u64, end: &str) -> String {
    let milliseconds = u64::try_from(run.time.as_millis()).unwrap_or(u64::MAX).max(1);
    let (seconds, speed) = (format!("{:.2}", run.time.as_secs_f64()), bytes / milliseconds / 1000);
    let speed = if matches!(end, "the whole" | "nothing stored") { speed.to_string() } else { "-".to_owned() };
    format!("| {case} | {tool} | {seconds} | {speed} | {} | {end} |\n", run.peak_bytes.div_ceil(1_000_000))
}

fn installed_s3_server(tools: &Path) -> Result<PathBuf, Failure> {
    let (name, version) = S3_SERVER;
    let program = tools.join("bin").join(name);
    if !program.exists() {
        say(&format!("installing {name} {version}"));
        let status = Command::new("cargo")
            .args(["install", name, "--version", version, "--features", "binary", "--locked", "--root"])
            .arg(tools)
            .status()?;
        if !status.success() {
            return Err(format!("{name} could not be installed").into());
        }
    }
    Ok(program)
}

fn empty(folder: &Path) -> io::Result<()> {
    fs::remove_dir_all(folder)?;
    fs::create_dir_all(folder)
}

/// Whether every file is there and is the film, byte for byte.
fn verdict(case: &Case, bucket: &Path) -> io::Result<&'static str> {
    let mut there = 0;
    for number in 0..case.files {
        let path = bucket.join(number.to_string()).join("video.mp4");
        let Ok(mut file) = fs::File::open(&path) else { continue };
        there += 1;
        let (mut position, mut bytes) = (0, Vec::new());
        if file.metadata()?.len() != case.length {
            return Ok("a part of the file");
        }
        while position < case.length {
            let expected = server::film(case.length, position);
            bytes.resize(expected.len(), 0);
            file.read_exact(&mut bytes)?;
            if bytes != expected {
                return Ok("another file");
            }
            position += expected.len() as u64;
        }
    }
    Ok(match there {
        0 => "absent",
        there if there == case.files => "the whole",
        _ => "some of the files",
    })
}

fn client(endpoint: &str) -> aws_sdk_s3::Client {
    let credentials = Credentials::new(KEY, KEY, None, None, "benchmark");
    Clients::new(RetryPolicy::BACKGROUND, credentials, "us-east-1".to_owned(), Some(endpoint)).s3()
}

/// What the function `process` does with the links of a batch, over the same library call.
#[tokio::main]
async fn copy(words: &[String]) -> Result<(), Failure> {
    let (endpoint, links) = words.split_first().ok_or("copy needs an endpoint and links")?;
    let policy = OriginPolicy::allowing([ORIGIN])?;
    let copier = Copier::new(client(endpoint), BUCKET, policy)?;
    let deadline = Instant::now() + Duration::from_mins(15);
    let task = &"kling/benchmark".parse()?;
    let in_flight = futures_util::stream::iter(links.iter().enumerate()).map(|(number, link)| {
        let copier = &copier;
        async move {
            let request = CopyRequest {
                task,
                link: &SignedUrl::new(link.as_str()),
                credential: None,
                key_stem: &format!("{number}/video"),
                kind: Kind::Video,
                tagging: None,
                reported_at: Timestamp::from_seconds(0),
                expires_at: None,
                deadline,
                prior: PriorAttempt::None,
                resume: None,
            };
            copier.copy(request).await
        }
    });
    let mut in_flight = std::pin::pin!(in_flight.buffer_unordered(MAX_CONCURRENT_COPIES));
    while let Some(copied) = in_flight.next().await {
        copied?;
    }
    Ok(())
}

/// What the S3 needs for the same files and the same parts if nothing has to be read, and no checksum to be computed.
#[tokio::main]
async fn store(words: &[String]) -> Result<(), Failure> {
    let [endpoint, length, files] = words else { return Err("store needs an endpoint, a length and a number".into()) };
    let (length, files): (u64, u64) = (length.parse()?, files.parse()?);
    let client = client(endpoint);
    if length <= MAX_SINGLE_PUT {
        let film = server::piece(length, 0, length);
        let puts = futures_util::stream::iter(0..files).map(|number| {
            let put = client.put_object().bucket(BUCKET).key(format!("{number}/video.mp4"));
            put.body(film.clone().into()).send()
        });
        let mut puts = std::pin::pin!(puts.buffer_unordered(MAX_CONCURRENT_COPIES));
        while let Some(put) = puts.next().await {
            put?;
        }
        return Ok(());
    }
    for number in 0..files {
        let key = format!("{number}/video.mp4");
        let upload = client.create_multipart_upload().bucket(BUCKET).key(&key).send().await?;
        let id = upload.upload_id().unwrap_or_default();
        let size = piece_size(length);
        let pieces = (0..).map_while(|piece| Some((i32::try_from(piece + 1).ok()?, Piece::of(length, size, piece)?)));
        let parts = futures_util::stream::iter(pieces).map(|(number, piece)| {
            let part = client.upload_part().bucket(BUCKET).key(&key).upload_id(id).part_number(number);
            async move {
                let body = server::piece(length, piece.start, piece.start + piece.length);
                let part = part.body(body.into()).send().await?;
                let part = CompletedPart::builder().part_number(number).set_e_tag(part.e_tag);
                Ok::<_, Failure>(part.build())
            }
        });
        let parts: Vec<_> = parts.buffered(MAX_CONCURRENT_PARTS).try_collect().await?;
        let whole = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let complete = client.complete_multipart_upload().bucket(BUCKET).key(&key).upload_id(id);
        complete.multipart_upload(whole).send().await?;
    }
    Ok(())
}
