//! `cargo run -- measure`: builds `tests/measure` and runs it.

use std::process::ExitCode;

use local::functions::build_packages;
use local::{Error, Progress};
use tokio::process::Command;

const PACKAGE: &str = "measure";

/// Passes the arguments on, and returns the exit code.
pub(crate) async fn run(arguments: &[String]) -> Result<ExitCode, Error> {
    let executables = build_packages(&[PACKAGE], "bench", Progress::Terminal).await?;
    let Some(executable) = executables.get(PACKAGE) else {
        return Err(Error::Build { output: format!("cargo built no {PACKAGE}") });
    };
    let status = Command::new(executable).args(arguments).kill_on_drop(true).status().await;
    let status =
        status.map_err(|source| Error::System { what: format!("cannot run {}", executable.display()), source })?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
