//! The whole of reelhook on this machine, without an AWS account: a stand-in for AWS, the function binaries that would be
//! deployed, and `infra/template.yaml` as it is, put there by the AWS CLI.
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
//! - [`python`]: the virtual environment the stand-in and the AWS CLI are installed in, once per set of requirements.
//! - [`standin`]: starts the stand-in, waits for it, and leaves nothing of it running.
//! - [`functions`]: builds the four function binaries, or takes what `cargo lambda build` wrote.
//! - [`deployment`]: deploys the template and gives back its outputs.
//! - [`runtime_api`]: one function process by itself, for measuring and for tests.
//! - [`client`]: calls a running stack as an application does.
//! - [`samples`], [`demonstration`]: a request for every provider, and what `cargo run` does with them.
//! - `deploy.py`, `standin.py`, `logs.py` beside `src/`: what has to be said in Python.
//!
//! Whatever way this process ends, the stand-in and the functions it runs end with it: by [`Drop`] when there is time, by
//! a closing pipe when there is not.

pub mod client;
pub mod demonstration;
pub mod deployment;
mod error;
pub mod functions;
mod processes;
pub mod python;
mod run_directory;
pub mod runtime_api;
pub mod samples;
pub mod standin;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

pub use crate::deployment::Outputs;
pub use crate::error::Error;
pub use crate::functions::FunctionSource;
pub use crate::standin::StandIn;

/// The region everything is deployed to.
pub const REGION: &str = "us-east-1";
/// Access key the stand-in is called with; it checks none.
pub const ACCESS_KEY_ID: &str = "test";
/// Secret key the stand-in is called with; it checks none.
pub const SECRET_ACCESS_KEY: &str = "test";

/// Where what is going on is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Progress {
    /// On standard error, one line per step, and what cargo says.
    #[default]
    Terminal,
    /// Nowhere; failures carry the output of what failed.
    Silent,
}

impl Progress {
    fn say(self, what: &str) {
        if self == Self::Terminal {
            // Nothing can be done about a closed standard error.
            let _ = writeln!(std::io::stderr(), "{what}");
        }
    }
}

/// What to start.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of the stack; the settings parameter is called `/{stack_name}/settings`.
    pub stack_name: String,
    /// Where the function binaries come from.
    pub functions: FunctionSource,
    /// The provider settings, as in SSM. Without `callback.base_url` the path form of the callback URL is put in, because
    /// the function's own URL names a host of AWS.
    pub settings: Value,
    /// `host:port` of servers that result links may name although they are plain http or private: the simulator's.
    pub allowed_origins: Vec<String>,
    /// How many copies run at the same time; the template's default without it.
    pub copy_concurrency: Option<u16>,
    /// How the stand-in is run.
    pub stand_in: standin::Options,
    /// Where what is going on is told.
    pub progress: Progress,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            stack_name: "reelhook".to_owned(),
            functions: FunctionSource::default(),
            settings: serde_json::json!({
                "version": 1,
                "callback": { "keys": ["not a secret: for the stand-in only"] },
            }),
            allowed_origins: Vec::new(),
            copy_concurrency: None,
            stand_in: standin::Options::default(),
            progress: Progress::default(),
        }
    }
}

/// A deployed stack in a stand-in of its own. Both are gone when it is dropped.
#[derive(Debug)]
pub struct Stack {
    stand_in: StandIn,
    outputs: Outputs,
    functions: functions::Functions,
}

impl Stack {
    /// Installs what is missing, builds the functions, starts the stand-in and deploys the template. Dropping the future
    /// ends whatever of it is under way.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let Options { stack_name, functions, settings, allowed_origins, copy_concurrency, stand_in, progress } =
            options;
        // Before anything that takes minutes.
        standin::free_port(stand_in.port)?;
        // One after the other: a failing installation should not have to be found in the output of cargo.
        let python = python::Environment::prepare(progress).await?;
        let functions = functions::Functions::prepare(&functions, progress).await?;
        progress.say("starting the stand-in for AWS");
        let stand_in = StandIn::start(stand_in, python).await?;
        progress.say("deploying infra/template.yaml");
        let request = deployment::Request { stack_name, settings, allowed_origins, copy_concurrency };
        let outputs = deployment::deploy(&stand_in, &functions, request).await?;
        Ok(Self { stand_in, outputs, functions })
    }

    /// The executable of a function that was deployed.
    ///
    /// # Panics
    ///
    /// If there is no such function.
    pub fn executable(&self, function: &str) -> &Path {
        self.functions.executable(function).expect("every function was built before it was deployed")
    }

    /// The stack's outputs.
    pub fn outputs(&self) -> &Outputs {
        &self.outputs
    }

    /// Where the stand-in answers, `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> &str {
        self.stand_in.endpoint()
    }

    /// The stand-in itself.
    pub fn stand_in(&self) -> &StandIn {
        &self.stand_in
    }

    /// What the functions have written so far, oldest first. An invocation's lines are there when it has ended.
    pub async fn logs(&self) -> Result<String, Error> {
        deployment::logs(&self.stand_in, &self.outputs).await
    }
}

/// The root of the workspace this was compiled in.
pub fn workspace_root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Two folders up from infra/local.
    package.ancestors().nth(2).unwrap_or(package)
}

/// What is kept between runs and what belongs to a run; git ignores it.
fn state_directory() -> PathBuf {
    workspace_root().join(".local")
}
