use std::io;
use std::path::PathBuf;

/// Why the system does not run. Each message says what happened and, where possible, what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// PATH has no Python.
    #[error(
        "python3 was not found in PATH. The local AWS emulator is a Python program: install Python 3.10 or newer and make \
         sure that `python3` is in PATH"
    )]
    PythonMissing,
    /// PATH has only Pythons that are too old.
    #[error(
        "the local AWS emulator needs Python 3.10 or newer; PATH has only this: {found}. Install a newer Python and make \
         sure that `python3` or, for example, `python3.11` is in PATH"
    )]
    PythonTooOld {
        /// The commands that were found, with their versions.
        found: String,
    },
    /// `python3 -m venv` failed.
    #[error(
        "Python could not create a virtual environment. On Debian and Ubuntu, run `apt install python3-venv` first.\n{output}"
    )]
    VirtualEnvironment {
        /// The output of Python.
        output: String,
    },
    /// `pip install` failed.
    #[error(
        "pip could not install infra/local/requirements.txt. The first run needs a package index: allow access to PyPI, or \
         set PIP_INDEX_URL.\n{output}"
    )]
    Installation {
        /// The output of pip.
        output: String,
    },
    /// Another program listens on the port.
    #[error("port {port} of 127.0.0.1 is already in use. Stop the program that uses it, or choose another port: `--port {}`", other(*port))]
    PortTaken {
        /// The port.
        port: u16,
    },
    /// The emulator exited before it was healthy.
    #[error("the local AWS emulator exited during startup; the end of its log:\n{log}")]
    EmulatorExited {
        /// The end of its log.
        log: String,
    },
    /// The emulator runs but does not get healthy.
    #[error("the local AWS emulator was not healthy within {seconds} seconds; the end of its log:\n{log}")]
    EmulatorUnresponsive {
        /// The start timeout.
        seconds: u64,
        /// The end of its log.
        log: String,
    },
    /// `cargo build` failed.
    #[error("the functions could not be built; see the output of cargo{}{output}", if output.is_empty() { " above" } else { ":\n" })]
    Build {
        /// The output of cargo, unless it went to the terminal.
        output: String,
    },
    /// A function has no executable.
    #[error("no executable of the function {function} in {}: {hint}", directory.display())]
    FunctionMissing {
        /// The function.
        function: &'static str,
        /// Where it should be.
        directory: PathBuf,
        /// What to do.
        hint: &'static str,
    },
    /// The template could not be deployed.
    #[error("infra/template.yaml could not be deployed:\n{output}")]
    Deployment {
        /// The output of the AWS CLI, and the reasons in the stack's events.
        output: String,
    },
    /// `deploy.py` printed something unexpected.
    #[error("deploy.py printed something other than the stack outputs: {0}")]
    DeploymentOutput(#[source] serde_json::Error),
    /// The logs could not be read.
    #[error("the logs of the functions could not be read:\n{output}")]
    Logs {
        /// The output of `logs.py`.
        output: String,
    },
    /// Nothing runs on this machine.
    #[error(
        "no reelhook runs on port {port} of this machine: start it with `cargo run -- up`, or name a deployed stack with --stack"
    )]
    NotRunning {
        /// The emulator's port.
        port: u16,
    },
    /// The stack is not there, or nobody may read it.
    #[error("the stack {name} cannot be read: {output}")]
    StackNotFound {
        /// Its name.
        name: String,
        /// What AWS says.
        output: String,
    },
    /// The stack is another's.
    #[error("the stack {name} does not have the outputs of reelhook's template: is it a stack of reelhook?")]
    NotReelhook {
        /// Its name.
        name: String,
    },
    /// What was wanted is not possible; the text says why and what to do.
    #[error("{0}")]
    Refused(String),
    /// An HTTP request to the running stack failed.
    #[error("a request to the running stack failed: {0}")]
    Http(String),
    /// The provider simulator did not start.
    #[error("the provider simulator could not start on port {port} of 127.0.0.1: {source}. Choose another port: `--simulator-port {}`", other(*port))]
    Simulator {
        /// The port; 0 for any.
        port: u16,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A system call failed.
    #[error("{what}: {source}")]
    System {
        /// What failed, such as "cannot create <path>".
        what: String,
        /// The error of the operating system.
        source: io::Error,
    },
}

impl Error {
    /// For `map_err`: a failed HTTP request.
    #[expect(clippy::needless_pass_by_value, reason = "`map_err` passes the error by value")]
    pub(crate) fn http(error: reqwest::Error) -> Self {
        Self::Http(error.to_string())
    }

    /// For `map_err`: an error of the operating system, with what failed.
    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }
}

/// Another port, to suggest.
fn other(port: u16) -> u16 {
    if port < u16::MAX { port + 1 } else { 4566 }
}
