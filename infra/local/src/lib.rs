//! Runs all of reelhook locally, without an AWS account: a local AWS emulator, the function binaries that would be deployed,
//! and `infra/template.yaml` unchanged, deployed by the AWS CLI.
//!
//! ```no_run
//! # async fn example() -> Result<(), local::Error> {
//! let stack = local::Stack::start(local::Options::default()).await?;
//! println!("callbacks go to {}", stack.outputs().callback_url);
//! # Ok(())
//! # }
//! ```
//!
//! # Layout
//!
//! - [`python`]: the virtual environment with the emulator and the AWS CLI, one per set of requirements.
//! - [`emulator`]: starts the emulator, waits until it is healthy, and kills everything it started.
//! - [`functions`]: builds the four function binaries, or takes the output of `cargo lambda build`.
//! - [`deployment`]: deploys the template and returns the stack outputs.
//! - [`runtime_api`]: a single function process, for measurements and tests.
//! - [`deployed`]: a deployment that somebody operates, here or in an account.
//! - [`client`]: calls a running stack as an application does.
//! - [`samples`], [`demonstration`]: a request for every provider, and what `cargo run` does with them.
//! - `deploy.py`, `stack.py`, `emulator.py`, `logs.py` next to `src/`: what needs the AWS CLI and ministack as Python libraries.
//!
//! However this process exits, the emulator and its functions exit with it: [`Drop`] kills them, and if the process dies
//! first, a closed pipe does.

pub mod client;
pub mod demonstration;
pub mod deployed;
pub mod deployment;
pub mod emulator;
mod error;
pub mod functions;
mod processes;
pub mod python;
mod run_directory;
pub mod runtime_api;
pub mod samples;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

pub use crate::deployment::{DeployRequest, Outputs};
pub use crate::emulator::Emulator;
pub use crate::error::Error;
pub use crate::functions::FunctionSource;

/// The region of every deployed resource.
pub const REGION: &str = "us-east-1";
/// Access key id for calls to the emulator, which verifies no signature.
pub const ACCESS_KEY_ID: &str = "test";
/// Secret access key for calls to the emulator, which verifies no signature.
pub const SECRET_ACCESS_KEY: &str = "test";

/// Where progress is reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Progress {
    /// On standard error: one line per step, and the output of cargo.
    #[default]
    Terminal,
    /// Nowhere. Errors carry the output of the command that failed.
    Silent,
}

impl Progress {
    fn report(self, step: &str) {
        if self == Self::Terminal {
            // Nobody reads a closed standard error.
            let _ = writeln!(std::io::stderr(), "{step}");
        }
    }
}

/// What to start.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of the stack.
    pub stack_name: String,
    /// Where the function binaries come from.
    pub functions: FunctionSource,
    /// The provider settings, as in Secrets Manager. Without `callback.base_url`, the path-style callback URL is filled in, because the
    /// function's own URL names an AWS host.
    pub settings: Value,
    /// `host:port` of servers that result links may name despite plain HTTP or a private address: the simulator's.
    pub allowed_origins: Vec<String>,
    /// How the emulator runs.
    pub emulator: emulator::Options,
    /// Where progress is reported.
    pub progress: Progress,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            stack_name: "reelhook".to_owned(),
            functions: FunctionSource::default(),
            settings: serde_json::json!({
                "version": 1,
                "callback": { "keys": ["no-secret:local-use-only"] },
            }),
            allowed_origins: Vec::new(),
            emulator: emulator::Options::default(),
            progress: Progress::default(),
        }
    }
}

/// A deployed stack in its own emulator. Dropping it removes both.
#[derive(Debug)]
pub struct Stack {
    emulator: Emulator,
    outputs: Outputs,
    functions: functions::Functions,
}

impl Stack {
    /// Installs missing dependencies, builds the functions, starts the emulator and deploys the template. Dropping the future
    /// cancels all of it.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let Options { stack_name, functions, settings, allowed_origins, emulator, progress } = options;
        // Fail before the steps that take minutes.
        emulator::free_port(emulator.port)?;
        // Not concurrently: the error of a failed installation would get lost in the output of cargo.
        let python = python::Environment::prepare(progress).await?;
        let functions = functions::Functions::prepare(&functions, progress).await?;
        progress.report("starting the local AWS emulator");
        let emulator = Emulator::start(emulator, python).await?;
        progress.report("deploying infra/template.yaml");
        let parameters = [("DangerousAllowedOrigins", allowed_origins.join(","))].into();
        let request = DeployRequest { stack_name, settings: Some(settings), parameters };
        let outputs = deployment::deploy(&emulator, &functions, request).await?;
        Ok(Self { emulator, outputs, functions })
    }

    /// Deploys the template once more into the same emulator.
    pub async fn deploy_another(&self, request: DeployRequest) -> Result<Outputs, Error> {
        deployment::deploy(&self.emulator, &self.functions, request).await
    }

    /// The executable of a deployed function.
    ///
    /// # Panics
    ///
    /// If the stack has no such function.
    pub fn executable(&self, function: &str) -> &Path {
        self.functions.executable(function).expect("every function was built before it was deployed")
    }

    /// The stack's outputs.
    pub fn outputs(&self) -> &Outputs {
        &self.outputs
    }

    /// The endpoint of the emulator, `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> &str {
        self.emulator.endpoint()
    }

    /// The emulator that the stack runs in.
    pub fn emulator(&self) -> &Emulator {
        &self.emulator
    }

    /// The logs of the functions, oldest first. An invocation's lines appear when it ends.
    pub async fn logs(&self) -> Result<String, Error> {
        deployment::logs(&self.emulator, &self.outputs).await
    }
}

/// The workspace root at compile time.
pub fn workspace_root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Two levels up from infra/local.
    package.ancestors().nth(2).unwrap_or(package)
}

/// Where virtual environments and run directories live. Git ignores it.
fn state_directory() -> PathBuf {
    workspace_root().join(".local")
}
