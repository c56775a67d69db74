//! A share of a processor, as Lambda gives it by memory: a control group of the kernel with a quota.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// In microseconds. Lambda's own period, as far as it can be seen from outside.
const PERIOD: f64 = 20_000.0;

/// A control group. Dropping it removes it; its processes have to be gone by then.
pub(crate) struct Share {
    directory: PathBuf,
}

impl Share {
    /// A group whose processes get this share of one processor together.
    ///
    /// # Errors
    /// If this process may not create one: that takes root, or a part of the hierarchy of one's own.
    pub(crate) fn of_processor(share: f64) -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("reelhook-measure-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let quota = format!("{:.0}", share * PERIOD);
        let first = Path::new("/sys/fs/cgroup/cpu");
        if first.is_dir() {
            let group = Self::create(first.join(name))?;
            fs::write(group.directory.join("cpu.cfs_period_us"), format!("{PERIOD}"))?;
            fs::write(group.directory.join("cpu.cfs_quota_us"), quota)?;
            return Ok(group);
        }
        let second = Path::new("/sys/fs/cgroup");
        fs::write(second.join("cgroup.subtree_control"), "+cpu")?;
        let group = Self::create(second.join(name))?;
        fs::write(group.directory.join("cpu.max"), format!("{quota} {PERIOD}"))?;
        Ok(group)
    }

    fn create(directory: PathBuf) -> io::Result<Self> {
        fs::create_dir(&directory)?;
        Ok(Self { directory })
    }

    /// Puts a process into the group.
    pub(crate) fn limit(&self, process: u32) -> io::Result<()> {
        fs::write(self.directory.join("cgroup.procs"), process.to_string())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        // The kernel needs a moment after the last process.
        for _ in 0..50 {
            if fs::remove_dir(&self.directory).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}
