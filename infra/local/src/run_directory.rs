//! The directory of one run: the emulator's temporary files and log, and the template next to the binaries.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::{Error, state_directory};

/// A directory that is removed on drop. What a killed run leaves, the next run removes.
#[derive(Debug)]
pub(crate) struct RunDirectory {
    path: PathBuf,
    /// Locked while the run lives. The system releases the lock however the run ends.
    _lock: File,
}

impl RunDirectory {
    pub(crate) fn create() -> Result<Self, Error> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let state = state_directory();
        fs::create_dir_all(&state).map_err(Error::system(format!("cannot create {}", state.display())))?;
        // Held until this run has its own lock: without it, another run could take the new directory for an abandoned one.
        let runs = state.join("runs.lock");
        let _runs = File::create(&runs)
            .and_then(|file| file.lock().map(|()| file))
            .map_err(Error::system(format!("cannot lock {}", runs.display())))?;
        remove_abandoned(&state);

        let serial = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = state.join(format!("run-{}-{serial}", std::process::id()));
        let cannot_create = || format!("cannot create {}", path.display());
        fs::create_dir_all(path.join("temporary")).map_err(Error::system(cannot_create()))?;
        let lock = File::create(path.join("lock")).map_err(Error::system(cannot_create()))?;
        lock.lock().map_err(Error::system(cannot_create()))?;
        Ok(Self { path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for RunDirectory {
    fn drop(&mut self) {
        // What cannot be removed now, the next run removes.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes the directories of dead runs, as far as possible.
fn remove_abandoned(state: &Path) {
    let entries = fs::read_dir(state).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("run-")) {
        let alive = File::open(entry.path().join("lock")).is_ok_and(|lock| lock.try_lock().is_err());
        if !alive {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
