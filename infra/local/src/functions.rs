//! The four function binaries.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::Deserialize;
use tokio::process::Command;

use crate::{Error, Progress, processes, workspace_root};

/// The functions, by the names of their packages, binaries and directories below `target/lambda/`.
pub const FUNCTIONS: [&str; 4] = ["callback", "process", "poll", "tasks"];

/// Where the binaries come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FunctionSource {
    /// Built now, by cargo, for this machine. `CARGO_TARGET_DIR` and all else that cargo reads is honoured.
    Build {
        /// The cargo profile: `dev`, `release`.
        profile: String,
    },
    /// Taken as they are from `<directory>/<function>/bootstrap`, which is what `cargo lambda build` writes below
    /// `target/lambda/`. They have to be for this machine's processor.
    Directory(PathBuf),
}

impl Default for FunctionSource {
    fn default() -> Self {
        Self::Build { profile: "dev".to_owned() }
    }
}

/// An executable for each function.
#[derive(Clone, Debug)]
pub struct Functions {
    executables: BTreeMap<&'static str, PathBuf>,
}

impl Functions {
    /// Builds or finds the binaries.
    pub async fn prepare(source: &FunctionSource, progress: Progress) -> Result<Self, Error> {
        match source {
            FunctionSource::Build { profile } => build(profile, progress).await,
            FunctionSource::Directory(directory) => take(directory),
        }
    }

    /// The executable of a function.
    pub fn executable(&self, function: &str) -> Option<&Path> {
        self.executables.get(function).map(PathBuf::as_path)
    }

    /// Lays the binaries out as `cargo lambda build` does, `<directory>/<function>/bootstrap`.
    pub(crate) fn lay_out(&self, directory: &Path) -> Result<(), Error> {
        for (function, executable) in &self.executables {
            let folder = directory.join(function);
            let bootstrap = folder.join("bootstrap");
            fs::create_dir_all(&folder)
                // A link is enough; across file systems it takes a copy. Both keep the executable bit.
                .and_then(|()| {
                    fs::hard_link(executable, &bootstrap).or_else(|_| fs::copy(executable, &bootstrap).map(drop))
                })
                .map_err(Error::system(format!("cannot put {} at {}", executable.display(), bootstrap.display())))?;
        }
        Ok(())
    }
}

/// The `Architecture` parameter of the template for this machine.
pub(crate) fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" }
}

async fn build(profile: &str, progress: Progress) -> Result<Functions, Error> {
    let executables = build_packages(&FUNCTIONS, profile, progress).await?;
    complete(executables, workspace_root(), "its package has to have a binary of its name")
}

/// Builds packages of the workspace, and gives back the executable of each that has one of its own name.
pub async fn build_packages(
    packages: &[&'static str],
    profile: &str,
    progress: Progress,
) -> Result<BTreeMap<&'static str, PathBuf>, Error> {
    progress.say(&format!("building {} (profile {profile})", packages.join(", ")));
    // Inside `cargo run` and `cargo test` this is the cargo that runs them.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // What the cargo that started this process says about its own package. A build script that reads it (ring's) would be
    // run again at every change between being built from a shell and from here.
    let of_this_package = |name: &str| {
        ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"].iter().any(|prefix| name.starts_with(prefix))
    };
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(of_this_package)) {
        command.env_remove(name);
    }
    command
        .current_dir(workspace_root())
        .args(["build", "--profile", profile, "--message-format", "json-render-diagnostics"])
        .args(packages.iter().flat_map(|package| ["--bin", package]));
    if profile == "dev" {
        // Cargo unites the features that the selected packages ask of their dependencies. With the whole workspace selected,
        // as in `cargo test --workspace`, these are the same, and nothing is built twice: the SDK takes minutes.
        command.arg("--workspace");
    } else {
        // What is deployed has the features of the functions and nothing of the tools around them.
        command.args(packages.iter().flat_map(|package| ["--package", package]));
    }
    command.stdout(Stdio::piped()).stderr(if progress == Progress::Terminal {
        Stdio::inherit()
    } else {
        Stdio::piped()
    });
    let output = processes::run(&mut command, &[]).await.map_err(Error::system("cannot run cargo"))?;
    if !output.status.success() {
        return Err(Error::Build { output: processes::last_lines(String::from_utf8_lossy(&output.stderr).trim()) });
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let mut executables = BTreeMap::new();
    for (name, executable) in messages.lines().filter_map(executable_of) {
        if let Some(package) = packages.iter().find(|package| **package == name) {
            executables.insert(*package, executable);
        }
    }
    Ok(executables)
}

fn take(directory: &Path) -> Result<Functions, Error> {
    let bootstrap = |function| (function, directory.join(function).join("bootstrap"));
    let executables = FUNCTIONS.into_iter().map(bootstrap).filter(|(_, path)| path.is_file()).collect();
    complete(executables, directory, "run `cargo lambda build --release -p callback -p process -p poll -p tasks` first")
}

fn complete(
    executables: BTreeMap<&'static str, PathBuf>,
    directory: &Path,
    hint: &'static str,
) -> Result<Functions, Error> {
    match FUNCTIONS.into_iter().find(|function| !executables.contains_key(function)) {
        None => Ok(Functions { executables }),
        Some(function) => Err(Error::FunctionMissing { function, directory: directory.to_owned(), hint }),
    }
}

/// The name and the executable that a line of cargo's JSON output reports, if it reports one.
fn executable_of(line: &str) -> Option<(String, PathBuf)> {
    #[derive(Deserialize)]
    struct Message {
        target: Target,
        executable: Option<PathBuf>,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
    }
    let message: Message = serde_json::from_str(line).ok()?;
    Some((message.target.name, message.executable?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_are_found_among_cargo_messages() {
        let binary =
            r#"{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"poll"},"executable":"/t/debug/poll"}"#;
        let library = r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"poll"},"executable":null}"#;
        let end = r#"{"reason":"build-finished","success":true}"#;
        assert_eq!(executable_of(binary), Some(("poll".to_owned(), PathBuf::from("/t/debug/poll"))));
        assert_eq!(executable_of(library), None);
        assert_eq!(executable_of(end), None);
    }

    #[test]
    fn a_missing_function_is_named_with_what_to_do() {
        let error = take(Path::new("/nowhere/lambda")).expect_err("nothing is there").to_string();
        assert!(error.contains("callback in /nowhere/lambda: run `cargo lambda build"), "{error}");
    }
}
