//! The four function binaries.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::Deserialize;
use tokio::process::Command;

use crate::{Error, Progress, processes, workspace_root};

/// The functions, by package name, which is also the name of the binary and of the directory in `target/lambda/`.
pub const FUNCTIONS: [&str; 4] = ["callback", "process", "poll", "tasks"];

/// Where the binaries come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FunctionSource {
    /// Built by cargo for this machine. `CARGO_TARGET_DIR` and cargo's other settings apply.
    Build {
        /// The cargo profile, `dev` or `release`.
        profile: String,
    },
    /// Taken from `<directory>/<function>/bootstrap`, the layout that `cargo lambda build` writes to `target/lambda/`. They
    /// must be built for this machine's architecture.
    Directory(PathBuf),
}

impl Default for FunctionSource {
    fn default() -> Self {
        Self::Build { profile: "dev".to_owned() }
    }
}

/// The executable of every function.
#[derive(Clone, Debug)]
pub struct Functions {
    executables: BTreeMap<&'static str, PathBuf>,
}

impl Functions {
    /// Builds the binaries or finds them.
    pub async fn prepare(source: &FunctionSource, progress: Progress) -> Result<Self, Error> {
        match source {
            FunctionSource::Build { profile } => build(profile, progress).await,
            FunctionSource::Directory(directory) => find_in(directory),
        }
    }

    /// The executable of a function.
    pub fn executable(&self, function: &str) -> Option<&Path> {
        self.executables.get(function).map(PathBuf::as_path)
    }

    /// Lays the binaries out as `cargo lambda build` does: `<directory>/<function>/bootstrap`.
    pub fn lay_out(&self, directory: &Path) -> Result<(), Error> {
        for (function, executable) in &self.executables {
            let folder = directory.join(function);
            let bootstrap = folder.join("bootstrap");
            fs::create_dir_all(&folder)
                // A hard link if possible; across file systems, a copy. Both keep the executable bit.
                .and_then(|()| {
                    fs::hard_link(executable, &bootstrap).or_else(|_| fs::copy(executable, &bootstrap).map(drop))
                })
                .map_err(Error::system(format!("cannot copy {} to {}", executable.display(), bootstrap.display())))?;
        }
        Ok(())
    }
}

async fn build(profile: &str, progress: Progress) -> Result<Functions, Error> {
    let executables = build_packages(&FUNCTIONS, profile, progress).await?;
    complete(executables, workspace_root(), "give its package a binary of the same name")
}

/// Builds packages of the workspace. Returns the executable of each package that has a binary of the same name.
pub async fn build_packages(
    packages: &[&'static str],
    profile: &str,
    progress: Progress,
) -> Result<BTreeMap<&'static str, PathBuf>, Error> {
    progress.report(&format!("building {} (profile {profile})", packages.join(", ")));
    // Set by `cargo run` and `cargo test`: the cargo that runs them.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // The outer cargo describes this package in its environment. A build script that reads it (ring's) would rerun whenever
    // builds alternate between a shell and here.
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
        // Cargo unifies the features of the selected packages' dependencies. Selecting the whole workspace, as
        // `cargo test --workspace` does, gives the same features, so nothing is built twice: the SDK takes minutes.
        command.arg("--workspace");
    } else {
        // Deployed binaries must not pick up features that only the tools in the workspace need.
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

fn find_in(directory: &Path) -> Result<Functions, Error> {
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

/// The target name and executable in a line of cargo's JSON output, if the line reports one.
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
    fn executables_are_found_in_cargos_messages() {
        let binary =
            r#"{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"poll"},"executable":"/t/debug/poll"}"#;
        let library = r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"poll"},"executable":null}"#;
        let end = r#"{"reason":"build-finished","success":true}"#;
        assert_eq!(executable_of(binary), Some(("poll".to_owned(), PathBuf::from("/t/debug/poll"))));
        assert_eq!(executable_of(library), None);
        assert_eq!(executable_of(end), None);
    }

    #[test]
    fn the_error_about_a_missing_function_says_how_to_build_it() {
        let error = find_in(Path::new("/nowhere/lambda")).expect_err("the directory does not exist").to_string();
        assert!(error.contains("callback in /nowhere/lambda: run `cargo lambda build"), "{error}");
    }
}
