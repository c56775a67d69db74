//! The programs that are measured.

use std::path::{Path, PathBuf};
use std::process::Command;

use local::functions::{FUNCTIONS, build_packages};
use local::runtime_api::InvocationResult;
use local::{Progress, workspace_root};
use serde_json::{Value, json};

use crate::world::World;
use crate::{Error, report};

/// What a program does with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Nothing.
    None,
    /// That of `callback`.
    Callback,
    /// Something else.
    Own,
}

/// A program that speaks the runtime API.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) work: Work,
    /// Whether it needs a runtime beside it, which the package does not have.
    pub(crate) is_script: bool,
}

/// Builds and installs all of them; the baseline first.
pub(crate) async fn all(others: &[String], with_peers: bool) -> Result<Vec<Program>, Error> {
    let names: Vec<_> = std::iter::once("empty").chain(FUNCTIONS).collect();
    let executables = build_packages(&names, "release", Progress::Terminal).await?;
    let mut programs = vec![];
    for name in names {
        let path = executables.get(name).ok_or("a function was not built")?.clone();
        let work = match name {
            "empty" => Work::None,
            "callback" => Work::Callback,
            _ => Work::Own,
        };
        programs.push(Program { name: name.to_owned(), path, work, is_script: false });
    }
    // Other builds of `callback`, as `NAME=PATH`.
    for argument in others {
        let (name, path) = argument.split_once('=').ok_or("an argument is NAME=PATH, another build of callback")?;
        let (name, path) = (name.to_owned(), path.into());
        programs.push(Program { name, path, work: Work::Callback, is_script: false });
    }
    if with_peers {
        programs.extend(peers());
    }
    Ok(programs)
}

/// The same work in other languages; none where they cannot be installed.
fn peers() -> Vec<Program> {
    let Some(directory) = installed_peers() else { return vec![] };
    let peer = |name: &str, file: &str| {
        let path = directory.join(file);
        Program { name: name.to_owned(), path, work: Work::Callback, is_script: true }
    };
    vec![
        peer("Python, boto3", "python-plain"),
        peer("Python, boto3 and Powertools", "python-powertools"),
        peer("Node, bundled", "node-bundled"),
    ]
}

/// The work of `process` in Python; none where it cannot be installed.
pub(crate) fn copying_peer() -> Option<PathBuf> {
    Some(installed_peers()?.join("python-copying"))
}

fn installed_peers() -> Option<PathBuf> {
    let directory = workspace_root().join("target/measure");
    report("installing what Python and Node need into target/measure");
    let installed = Command::new(workspace_root().join("tests/measure/peers/install")).arg(&directory).status();
    if !installed.is_ok_and(|status| status.success()) {
        report(
            "they could not be installed, so they are left out: this needs python3, node, npm and their package indexes",
        );
        return None;
    }
    Some(directory)
}

impl Program {
    /// The event of a start.
    pub(crate) async fn first_event(&self, world: &World) -> Result<Value, Error> {
        Ok(match self.name.as_str() {
            "process" => json!({ "Records": [] }),
            "poll" => json!({}),
            "tasks" => World::status_request(),
            _ => world.new_callback().await?,
        })
    }

    /// Refuses whatever is not a success.
    pub(crate) fn check(&self, result: &InvocationResult) -> Result<(), Error> {
        match result {
            InvocationResult::Response(response) if self.work != Work::Callback || response["statusCode"] == 200 => {
                Ok(())
            }
            _ => Err(self.failed(&format!("{result:?}"))),
        }
    }

    pub(crate) fn failed(&self, what: &str) -> Error {
        format!("{}: {what}", self.name).into()
    }

    /// Size in bytes of the deployment package with this binary in it, compressed as `sam deploy` does: by Python's `zipfile`.
    pub(crate) fn zipped(&self, directory: &Path) -> Result<u64, Error> {
        let package = directory.join("package.zip");
        let arguments: [&Path; 5] = ["-m".as_ref(), "zipfile".as_ref(), "-c".as_ref(), &package, &self.path];
        let status = Command::new("python3").args(arguments).status()?;
        if !status.success() {
            return Err(self.failed("it could not be packed by python3"));
        }
        Ok(std::fs::metadata(package)?.len())
    }
}
