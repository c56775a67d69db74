//! The stand-in for AWS: ministack, as a child process on a port of this machine.

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

/// It answers after a quarter of a second; the first start compiles its Python files, on a busy machine for long.
const START_SECONDS: u64 = 60;

/// How often another free port is tried when somebody else was faster; chosen freely.
const ATTEMPTS: u32 = 5;

/// Whether the roles of the template bind the functions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Permissions {
    /// Every call is allowed.
    #[default]
    Ignored,
    /// A function may do what the policies of its role say and nothing else, as on AWS. Costs the stand-in time at every
    /// call.
    Enforced,
}

/// How the stand-in is run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The port it listens on; a free one without it.
    pub port: Option<u16>,
    /// What functions are given as the address of AWS, when that is not the stand-in itself: a proxy in front of it that
    /// makes calls fail, for example.
    pub function_endpoint: Option<String>,
    /// Whether the roles of the template bind the functions.
    pub permissions: Permissions,
    /// More environment variables for the stand-in and all functions, `RUST_LOG` for example. Nothing else of this process's
    /// environment reaches them: credentials of real accounts stay out.
    pub environment: Vec<(String, String)>,
}

/// A running stand-in. Dropping it kills it and every function process.
#[derive(Debug)]
pub struct StandIn {
    // Dropped in this order: first the processes, then what they write to.
    process: Process,
    run: RunDirectory,
    python: Environment,
    port: u16,
    endpoint: String,
}

impl StandIn {
    /// Starts it and waits until it answers.
    pub async fn start(options: Options, python: Environment) -> Result<Self, Error> {
        let mut attempt = 1;
        loop {
            let port = free_port(options.port)?;
            match Self::start_on(port, &options, &python).await {
                // Another program took the free port between the moment it was found and the moment it was used.
                Err(Error::PortTaken { .. }) if options.port.is_none() && attempt < ATTEMPTS => attempt += 1,
                result => return result,
            }
        }
    }

    async fn start_on(port: u16, options: &Options, python: &Environment) -> Result<Self, Error> {
        let run = RunDirectory::create()?;
        let endpoint = format!("http://127.0.0.1:{port}");
        let log_path = run.path().join("stand-in.log");
        let log = File::create(&log_path).map_err(Error::system(format!("cannot create {}", log_path.display())))?;
        let errors = log.try_clone().map_err(Error::system("cannot duplicate a file handle"))?;
        let mut command = Command::new(python.python());
        command
            .arg(python::scripts().join("standin.py"))
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
            // Queue URLs name it; without this they say localhost, which may be ::1.
            .env("MINISTACK_HOST", "127.0.0.1")
            .env("GATEWAY_PORT", port.to_string())
            .env("MINISTACK_REGION", REGION)
            // Functions get it from here: the stand-in hands its own environment down.
            .env("AWS_ENDPOINT_URL", options.function_endpoint.as_deref().unwrap_or(&endpoint))
            .env("AWS_DEFAULT_REGION", REGION)
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID)
            .env("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)
            .env("AUTH", if options.permissions == Permissions::Enforced { "true" } else { "false" })
            // Lambda always gives one; ministack would give an empty one, which SDKs sign with or stumble over.
            .env("AWS_SESSION_TOKEN", "test")
            .envs(options.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(errors)
            .process_group(0);
        let child = command.spawn().map_err(Error::system(format!("cannot run {}", python.python().display())))?;
        let mut stand_in = Self { process: Process::of(child), run, python: python.clone(), port, endpoint };
        stand_in.wait_until_healthy(&log_path).await?;
        Ok(stand_in)
    }

    async fn wait_until_healthy(&mut self, log: &Path) -> Result<(), Error> {
        let started = Instant::now();
        while !is_healthy(self.port).await {
            let ended = self
                .process
                .child
                .try_wait()
                .map_err(Error::system("cannot ask for the state of the stand-in"))?
                .is_some();
            if ended {
                let log = end_of(log);
                let taken = log.contains("already in use");
                return Err(if taken { Error::PortTaken { port: self.port } } else { Error::StandInEnded { log } });
            }
            if started.elapsed() > Duration::from_secs(START_SECONDS) {
                return Err(Error::StandInSilent { seconds: START_SECONDS, log: end_of(log) });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Where it answers, `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The virtual environment it runs in, with an AWS CLI.
    pub fn python(&self) -> &Environment {
        &self.python
    }

    /// The end of its own log; what functions write is not in it.
    pub fn log(&self) -> String {
        end_of(&self.run.path().join("stand-in.log"))
    }

    /// A directory of this run, gone with it.
    pub(crate) fn directory(&self) -> &Path {
        self.run.path()
    }

    /// A command that calls the stand-in: a script of this package, with the environment the AWS SDK for Python reads.
    pub(crate) fn script(&self, name: &str) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(self.python.python());
        // No variable and no file of the user's may lead it to a real account.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AWS_")) {
            command.env_remove(name);
        }
        command
            .arg(python::scripts().join(name))
            .env("TMPDIR", self.run.path().join("temporary"))
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .env("AWS_ENDPOINT_URL", &self.endpoint)
            .env("AWS_DEFAULT_REGION", REGION)
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID)
            .env("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)
            // A proxy of the user's network cannot reach this machine's loopback.
            .env("NO_PROXY", "127.0.0.1")
            .env("no_proxy", "127.0.0.1");
        command
    }
}

/// The process and the group it leads. Its standard input stays open as long as this lives: see `standin.py`.
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
        // Nothing of its state is kept, so there is nothing to end in order. Waiting frees the port for the next one.
        self.group.kill();
        let _ = self.child.wait();
    }
}

/// The chosen port if nobody listens on it, or any that is free.
pub(crate) fn free_port(chosen: Option<u16>) -> Result<u16, Error> {
    let port = chosen.unwrap_or(0);
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).and_then(|listener| listener.local_addr()) {
        Ok(address) => Ok(address.port()),
        Err(error) if error.kind() == ErrorKind::AddrInUse => Err(Error::PortTaken { port }),
        Err(error) => Err(Error::system(format!("cannot listen on port {port} of 127.0.0.1"))(error)),
    }
}

/// Whether its health page answers with 200. By hand, because a whole HTTP client brings its own TLS set-up along.
async fn is_healthy(port: u16) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.write_all(b"GET /_ministack/health HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n").await?;
        let mut status = [0; "HTTP/1.1 200".len()];
        stream.read_exact(&mut status).await?;
        std::io::Result::Ok(status.ends_with(b" 200"))
    };
    matches!(tokio::time::timeout(Duration::from_secs(2), ask).await, Ok(Ok(true)))
}

/// The last lines of a log file, or nothing.
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
    fn a_taken_port_is_named_with_a_way_out() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("some port is free");
        let port = listener.local_addr().expect("it listens").port();
        let error = free_port(Some(port)).expect_err("it is taken").to_string();
        assert!(error.contains(&format!("port {port} of 127.0.0.1 is taken")), "{error}");
        assert!(error.contains("--port"), "{error}");
    }

    #[test]
    fn without_a_choice_any_free_port_will_do() {
        assert_ne!(free_port(None).expect("some port is free"), 0);
    }
}
