//! The local AWS emulator: ministack, as a child process on a port of 127.0.0.1.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::processes::{Group, last_lines};
use crate::python::{self, Environment};
use crate::run_directory::RunDirectory;
use crate::{ACCESS_KEY_ID, Error, REGION, SECRET_ACCESS_KEY};

/// Usually a quarter of a second. The first start compiles its Python files, which takes long on a busy machine.
const START_TIMEOUT: Duration = Duration::from_mins(1);

/// Free ports to try when another program takes one first; chosen freely.
const MAX_ATTEMPTS: u32 = 5;

/// Whether the emulator enforces the roles of the template.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Permissions {
    /// Every call is allowed.
    #[default]
    Ignored,
    /// A function may make only the calls that its role allows, as on AWS. Every call costs the emulator extra time.
    Enforced,
}

/// How the emulator runs.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The port it listens on. `None` picks a free one.
    pub port: Option<u16>,
    /// `AWS_ENDPOINT_URL` of the functions, if other than the emulator: a proxy in front of it that makes calls fail, for
    /// example.
    pub function_endpoint: Option<String>,
    /// Whether the emulator enforces the roles of the template.
    pub permissions: Permissions,
    /// Extra environment variables for the emulator and all functions, such as `RUST_LOG`. They inherit nothing else from
    /// this process, so credentials of real accounts never reach them.
    pub environment: Vec<(String, String)>,
}

/// A running emulator. Dropping it kills it and every function process.
#[derive(Debug)]
pub struct Emulator {
    // Dropped in this order: the processes before the directory they write to.
    process: Process,
    run: RunDirectory,
    python: Environment,
    port: u16,
    endpoint: String,
}

impl Emulator {
    /// Starts it and waits until it is healthy.
    pub async fn start(options: Options, python: Environment) -> Result<Self, Error> {
        let mut attempt = 1;
        loop {
            let port = free_port(options.port)?;
            match Self::start_on(port, &options, &python).await {
                // Another program took the free port after it was found and before it was used.
                Err(Error::PortTaken { .. }) if options.port.is_none() && attempt < MAX_ATTEMPTS => attempt += 1,
                result => return result,
            }
        }
    }

    async fn start_on(port: u16, options: &Options, python: &Environment) -> Result<Self, Error> {
        let run = RunDirectory::create()?;
        let endpoint = format!("http://127.0.0.1:{port}");
        let log_path = run.path().join("emulator.log");
        let log = File::create(&log_path).map_err(Error::system(format!("cannot create {}", log_path.display())))?;
        let errors = log.try_clone().map_err(Error::system("cannot duplicate a file handle"))?;
        let mut command = Command::new(python.python());
        command
            .arg(python::scripts().join("emulator.py"))
            .current_dir(run.path())
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("LANG", "C.UTF-8")
            .env("HOME", run.path())
            .env("TMPDIR", run.path().join("temporary"))
            .env("STATE_DIR", run.path().join("state"))
            .env("S3_DATA_DIR", run.path().join("s3"))
            .env("PYTHONUNBUFFERED", "1")
            .env("BIND_HOST", "127.0.0.1")
            // The host in queue URLs. The default is localhost, which may resolve to ::1.
            .env("MINISTACK_HOST", "127.0.0.1")
            .env("GATEWAY_PORT", port.to_string())
            .env("MINISTACK_REGION", REGION)
            // For the functions, which inherit the emulator's environment.
            .env("AWS_ENDPOINT_URL", options.function_endpoint.as_deref().unwrap_or(&endpoint))
            .env("AWS_DEFAULT_REGION", REGION)
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID)
            .env("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)
            .env("AUTH", if options.permissions == Permissions::Enforced { "true" } else { "false" })
            // Lambda always sets one. ministack would set an empty one, which some SDKs sign with and others reject.
            .env("AWS_SESSION_TOKEN", "test")
            .envs(options.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(errors)
            .process_group(0);
        let child = command.spawn().map_err(Error::system(format!("cannot run {}", python.python().display())))?;
        let mut emulator = Self { process: Process::of(child), run, python: python.clone(), port, endpoint };
        emulator.wait_until_healthy(&log_path).await?;
        Ok(emulator)
    }

    async fn wait_until_healthy(&mut self, log: &Path) -> Result<(), Error> {
        let started = Instant::now();
        while !is_healthy(self.port).await {
            let exited =
                self.process.child.try_wait().map_err(Error::system("cannot check the emulator process"))?.is_some();
            if exited {
                let log = end_of(log);
                let taken = log.contains("already in use");
                return Err(if taken { Error::PortTaken { port: self.port } } else { Error::EmulatorExited { log } });
            }
            if started.elapsed() > START_TIMEOUT {
                return Err(Error::EmulatorUnresponsive { seconds: START_TIMEOUT.as_secs(), log: end_of(log) });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Its endpoint, `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The virtual environment it runs in. It has an AWS CLI, too.
    pub fn python(&self) -> &Environment {
        &self.python
    }

    /// The last lines of its own log. The functions log elsewhere.
    pub fn log(&self) -> String {
        end_of(&self.run.path().join("emulator.log"))
    }

    /// The directory of this run, removed when the emulator is dropped.
    pub fn directory(&self) -> &Path {
        self.run.path()
    }

    /// One of the scripts next to `src/`, with its interpreter.
    pub(crate) fn script(&self, name: &str) -> tokio::process::Command {
        let mut command = self.command(self.python.python());
        command.arg(python::scripts().join(name));
        command
    }

    /// A command whose AWS is this one, whatever the configuration of whoever runs it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(program);
        // No variable or file of the user may point it at a real account.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AWS_")) {
            command.env_remove(name);
        }
        command
            .env("TMPDIR", self.run.path().join("temporary"))
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .env("AWS_ENDPOINT_URL", &self.endpoint)
            .env("AWS_PAGER", "")
            .env("AWS_REGION", REGION)
            .env("AWS_DEFAULT_REGION", REGION)
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID)
            .env("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)
            // That of the emulator, without which it takes no signed link.
            .env("AWS_SESSION_TOKEN", "test")
            // The user's HTTP proxy cannot reach this machine's loopback.
            .env("NO_PROXY", "127.0.0.1")
            .env("no_proxy", "127.0.0.1");
        command
    }
}

/// The process and the group it leads. Keeps its standard input open, because `emulator.py` exits when it closes.
#[derive(Debug)]
struct Process {
    child: Child,
    group: Group,
}

impl Process {
    fn of(child: Child) -> Self {
        let group = Group::of(Some(child.id()));
        Self { child, group }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // None of its state is kept, so it needs no orderly shutdown. Waiting frees the port for the next one.
        self.group.kill();
        let _ = self.child.wait();
    }
}

/// The chosen port if it is free, or any free one.
pub(crate) fn free_port(chosen: Option<u16>) -> Result<u16, Error> {
    let port = chosen.unwrap_or(0);
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).and_then(|listener| listener.local_addr()) {
        Ok(address) => Ok(address.port()),
        Err(error) if error.kind() == ErrorKind::AddrInUse => Err(Error::PortTaken { port }),
        Err(error) => Err(Error::system(format!("cannot listen on port {port} of 127.0.0.1"))(error)),
    }
}

/// Whether its health check returns 200. Raw sockets, because an HTTP client would bring its own TLS setup along.
async fn is_healthy(port: u16) -> bool {
    let request = async {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.write_all(b"GET /_ministack/health HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n").await?;
        let mut status = [0; "HTTP/1.1 200".len()];
        stream.read_exact(&mut status).await?;
        std::io::Result::Ok(status.ends_with(b" 200"))
    };
    matches!(tokio::time::timeout(Duration::from_secs(2), request).await, Ok(Ok(true)))
}

/// The last lines of a log file; empty if it cannot be read.
fn end_of(log: &Path) -> String {
    let mut text = Vec::new();
    let read = fs::File::open(log).and_then(|mut file| file.read_to_end(&mut text));
    if read.is_err() {
        return String::new();
    }
    last_lines(&String::from_utf8_lossy(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_about_a_taken_port_suggests_another_one() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let error = free_port(Some(port)).expect_err("the port is taken").to_string();
        assert!(error.contains(&format!("port {port} of 127.0.0.1 is already in use")), "{error}");
        assert!(error.contains("--port"), "{error}");
    }

    #[test]
    fn without_a_chosen_port_a_free_one_is_picked() {
        assert_ne!(free_port(None).expect("a free port"), 0);
    }
}
