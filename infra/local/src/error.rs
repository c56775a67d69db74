use std::io;
use std::path::PathBuf;

/// Why the system does not run. Each message says what happened and, where it is known, what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No Python at all.
    #[error(
        "there is no python3 on this machine. The stand-in for AWS is a Python program: install Python 3.10 or newer, so \
         that `python3` is found in PATH"
    )]
    PythonMissing,
    /// Only older Pythons.
    #[error(
        "the stand-in for AWS needs Python 3.10 or newer, and only this was found: {found}. Install a newer one, so that \
         `python3` or `python3.11`, for example, is found in PATH"
    )]
    PythonTooOld {
        /// The versions that were found, with the commands that answered.
        found: String,
    },
    /// `python3 -m venv` failed.
    #[error(
        "Python could not create a virtual environment. On Debian and Ubuntu that takes `apt install python3-venv`.\n{output}"
    )]
    VirtualEnvironment {
        /// What Python said.
        output: String,
    },
    /// `pip install` failed.
    #[error(
        "pip could not install infra/local/requirements.txt. The first run needs a package index: PyPI, or another one named \
         by PIP_INDEX_URL.\n{output}"
    )]
    Installation {
        /// What pip said.
        output: String,
    },
    /// The port belongs to somebody else.
    #[error("port {port} of 127.0.0.1 is taken by another program. End that one, or choose another port: `--port {}`", other(*port))]
    PortTaken {
        /// The port.
        port: u16,
    },
    /// The stand-in ended before it answered.
    #[error("the stand-in for AWS ended before it answered; its last words were:\n{log}")]
    StandInEnded {
        /// The end of its log.
        log: String,
    },
    /// The stand-in runs and does not answer.
    #[error("the stand-in for AWS did not answer within {seconds} seconds; its last words were:\n{log}")]
    StandInSilent {
        /// How long it was waited for.
        seconds: u64,
        /// The end of its log.
        log: String,
    },
    /// `cargo build` failed.
    #[error("the functions could not be built; cargo says why{}{output}", if output.is_empty() { " above" } else { ":\n" })]
    Build {
        /// What cargo said, where it was not shown already.
        output: String,
    },
    /// A function has no executable.
    #[error("there is no executable of the function {function} in {}: {hint}", directory.display())]
    FunctionMissing {
        /// The function.
        function: &'static str,
        /// Where it was looked for.
        directory: PathBuf,
        /// What to do.
        hint: &'static str,
    },
    /// The template could not be deployed.
    #[error("infra/template.yaml could not be deployed:\n{output}")]
    Deployment {
        /// What the AWS CLI and the stack's events said.
        output: String,
    },
    /// The deployment gave back something else than expected.
    #[error("deploy.py answered with something else than the outputs of the stack: {0}")]
    DeploymentAnswer(#[source] serde_json::Error),
    /// The logs could not be read.
    #[error("the logs of the functions could not be read:\n{output}")]
    Logs {
        /// What was said.
        output: String,
    },
    /// An HTTP call to the running system failed.
    #[error("the running system could not be called: {0}")]
    Http(String),
    /// The simulator of the providers could not be started.
    #[error("the simulator of the providers could not be started on port {port} of 127.0.0.1: {source}. Choose another port: `--simulator-port {}`", other(*port))]
    Simulator {
        /// The port; 0 for any.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// The operating system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    /// For `map_err`: a failed call, without its URL.
    #[expect(clippy::needless_pass_by_value, reason = "the form `map_err` wants")]
    pub(crate) fn http(error: reqwest::Error) -> Self {
        Self::Http(error.to_string())
    }

    /// For `map_err`: an operating system error and what was tried.
    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }
}

/// Another port, for the advice.
fn other(port: u16) -> u16 {
    if port < u16::MAX { port + 1 } else { 4566 }
}
