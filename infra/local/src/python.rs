//! The Python virtual environment with the emulator and the AWS CLI.
//!
//! Created once per content of `requirements.txt`, in `.local/venv-<hash>`. A stamp file, written last, marks it complete,
//! so an interrupted installation is repeated. A lock makes concurrent runs wait for the one that installs.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::process::Command;

use crate::{Error, Progress, processes, state_directory, workspace_root};

/// The oldest Python that ministack supports.
const MIN_VERSION: (u32, u32) = (3, 10);

/// Commands to look for, the one a user expects first.
const COMMANDS: [&str; 7] = ["python3", "python3.14", "python3.13", "python3.12", "python3.11", "python3.10", "python"];

/// A complete virtual environment.
#[derive(Clone, Debug)]
pub struct Environment {
    directory: PathBuf,
}

impl Environment {
    /// Finds the environment, or creates it, which takes half a minute and needs a package index.
    pub async fn prepare(progress: Progress) -> Result<Self, Error> {
        let requirements = scripts().join("requirements.txt");
        let content =
            fs::read(&requirements).map_err(Error::system(format!("cannot read {}", requirements.display())))?;
        let state = state_directory();
        fs::create_dir_all(&state).map_err(Error::system(format!("cannot create {}", state.display())))?;
        let name = format!("venv-{}", short_hash(&content));
        let environment = Self { directory: state.join(&name) };

        let _lock = lock(&state.join(format!("{name}.lock")), progress).await?;
        let stamp = environment.directory.join("complete");
        if stamp.exists() && environment.starts().await {
            return Ok(environment);
        }
        let python = find().await?;
        progress.report("installing the local AWS emulator into .local/ (once; about half a minute)");
        if environment.directory.exists() {
            fs::remove_dir_all(&environment.directory)
                .map_err(Error::system(format!("cannot remove {}", environment.directory.display())))?;
        }
        processes::capture(Command::new(&python).args(["-m", "venv"]).arg(&environment.directory), &[])
            .await
            .map_err(Error::system(format!("cannot run {python}")))?
            .map_err(|output| Error::VirtualEnvironment { output })?;
        let mut install = Command::new(environment.python());
        install
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"])
            .arg(requirements);
        processes::capture(&mut install, &[])
            .await
            .map_err(Error::system("cannot run pip"))?
            .map_err(|output| Error::Installation { output })?;
        File::create(&stamp).map_err(Error::system(format!("cannot write {}", stamp.display())))?;
        Ok(environment)
    }

    /// Its interpreter.
    pub fn python(&self) -> PathBuf {
        self.directory.join("bin").join("python")
    }

    /// Its AWS CLI, for commands that a user copies.
    pub fn aws(&self) -> PathBuf {
        self.directory.join("bin").join("aws")
    }

    /// Runs its AWS CLI with the configuration of whoever runs this. Returns its standard output, or its last lines if it failed.
    pub async fn run_aws(&self, arguments: &[&str]) -> Result<Result<String, String>, Error> {
        let mut command = Command::new(self.aws());
        command.args(arguments).env("AWS_PAGER", "");
        processes::capture(&mut command, &[]).await.map_err(Error::system("cannot run the AWS CLI"))
    }

    /// Whether its interpreter still runs: the Python it was created from may be gone.
    async fn starts(&self) -> bool {
        let mut command = Command::new(self.python());
        command.args(["-c", ""]).stdout(Stdio::null()).stderr(Stdio::null());
        processes::run(&mut command, &[]).await.is_ok_and(|output| output.status.success())
    }
}

/// The directory of the Python scripts and their requirements.
pub(crate) fn scripts() -> PathBuf {
    workspace_root().join("infra").join("local")
}

/// Waits until no other run installs. The lock is released when the file is dropped or this process exits.
async fn lock(path: &Path, progress: Progress) -> Result<File, Error> {
    let failed = || format!("cannot lock {}", path.display());
    let file = File::create(path).map_err(Error::system(failed()))?;
    let mut reported = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(Error::system(failed())(error)),
            Err(TryLockError::WouldBlock) => {
                if !reported {
                    progress.report("waiting for another run that is installing the local AWS emulator");
                    reported = true;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// The first Python in PATH that is new enough.
async fn find() -> Result<String, Error> {
    let mut found = Vec::new();
    for command in COMMANDS {
        let mut version = Command::new(command);
        version.args(["-c", "import sys; print(*sys.version_info[:2])"]);
        let Ok(Ok(output)) = processes::capture(&mut version, &[]).await else { continue };
        match parse_version(&output) {
            Some(version) if version >= MIN_VERSION => return Ok(command.to_owned()),
            Some((major, minor)) => found.push(format!("{command} is {major}.{minor}")),
            None => {}
        }
    }
    if found.is_empty() { Err(Error::PythonMissing) } else { Err(Error::PythonTooOld { found: found.join(", ") }) }
}

/// Parses `"3 11\n"` to (3, 11), and the tuple that Python 2 prints.
fn parse_version(output: &str) -> Option<(u32, u32)> {
    let mut numbers = output.split(|character: char| !character.is_ascii_digit()).filter(|part| !part.is_empty());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Twelve hexadecimal digits, enough to tell the requirements of different branches apart.
fn short_hash(content: &[u8]) -> String {
    let number = Sha256::digest(content).iter().take(6).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    format!("{number:012x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert_eq!(parse_version("3 11\n"), Some((3, 11)));
        assert_eq!(parse_version("(2, 7)\n"), Some((2, 7)));
        assert_eq!(parse_version("command not found"), None);
        assert!((3, 9) < MIN_VERSION && (3, 10) >= MIN_VERSION && (4, 0) >= MIN_VERSION);
    }

    #[test]
    fn the_hash_depends_on_the_content() {
        assert_eq!(short_hash(b""), "e3b0c44298fc");
        assert_ne!(short_hash(b"ministack==1"), short_hash(b"ministack==2"));
    }
}
