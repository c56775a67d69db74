//! Processes that are measured: how long they take, and how much memory they and all they start hold at their peak.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

/// How often memory is sampled. A tool that holds a gigabyte does so for longer.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(10);

/// No tool may take longer: none of them does.
const MAX_RUN_TIME: Duration = Duration::from_mins(15);

/// A run of a tool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) time: Duration,
    /// Resident memory of all its processes together, at its peak.
    pub(crate) peak_bytes: u64,
    pub(crate) succeeded: bool,
}

/// Runs a command to its end.
pub(crate) fn measure(command: &mut Command) -> io::Result<Run> {
    let began = Instant::now();
    let mut child = command.spawn()?;
    let mut peak_bytes = 0;
    loop {
        let memory = memory_of_all(child.id());
        peak_bytes = peak_bytes.max(memory);
        if let Some(status) = child.try_wait()? {
            return Ok(Run { time: began.elapsed(), peak_bytes, succeeded: status.success() });
        }
        if began.elapsed() > MAX_RUN_TIME {
            child.kill()?;
        }
        thread::sleep(SAMPLE_INTERVAL);
    }
}

/// Resident memory of a process and of all its descendants.
fn memory_of_all(root: u32) -> u64 {
    let mut parents: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        if let Some(parent) = field(&status, "PPid:").and_then(|parent| u32::try_from(parent).ok()) {
            parents.entry(parent).or_default().push(id);
        }
    }
    let (mut waiting, mut seen, mut bytes) = (vec![root], BTreeSet::new(), 0);
    while let Some(id) = waiting.pop() {
        if seen.insert(id) {
            bytes += resident(id, if id == root { "VmHWM:" } else { "VmRSS:" });
            waiting.extend(parents.remove(&id).unwrap_or_default());
        }
    }
    bytes
}

fn resident(id: u32, which: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    field(&status, which).unwrap_or(0) * 1024
}

fn field(status: &str, name: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// A server that ends with this value.
pub(crate) struct Server(Child);

impl Server {
    pub(crate) fn start(command: &mut Command) -> io::Result<Self> {
        command.spawn().map(Self)
    }

    /// Waits until it can be connected to.
    pub(crate) fn ready(&self, address: &str) -> io::Result<()> {
        for _ in 0..100 {
            if std::net::TcpStream::connect(address).is_ok() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Err(io::Error::other(format!("nothing answers at {address} (process {})", self.0.id())))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The path of a program, if it is installed.
pub(crate) fn found(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| Path::new(&folder).join(program).is_file()))
}
