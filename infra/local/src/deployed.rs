//! A deployment that somebody operates: the local system, or any stack of the template in any account.

use aws_credential_types::Credentials;
use reelhook_aws::clients::{Clients, RetryPolicy};
use reelhook_aws::queue::Queue;
use reelhook_aws::settings::SettingsStore;
use reelhook_aws::table::Table;
use reelhook_core::TaskKey;
use reelhook_core::settings::Settings;
use serde::Deserialize;
use tokio::process::Command;

use crate::client::{Client, Identity};
use crate::deployment::DescribedStack;
use crate::python::{self, Environment};
use crate::{ACCESS_KEY_ID, Error, Outputs, Progress, REGION, SECRET_ACCESS_KEY, processes};

/// Name of the stack that `cargo run -- up` deploys.
pub const LOCAL_STACK: &str = "reelhook";

/// Which deployment.
#[derive(Clone, Debug)]
pub enum Target {
    /// The system that `cargo run -- up` runs on this machine, at this port.
    Local {
        /// Port of the emulator.
        port: u16,
    },
    /// A stack in the account and region of the AWS CLI's configuration.
    Stack {
        /// Its name.
        name: String,
        /// An AWS that is not Amazon's.
        endpoint: Option<String>,
    },
}

/// A deployment with the credentials of whoever operates it.
#[derive(Debug)]
pub struct Deployed {
    /// Name of the stack.
    pub name: String,
    /// Its outputs.
    pub outputs: Outputs,
    /// Signed HTTP.
    pub client: Client,
    /// Its table.
    pub table: Table,
    /// Its work queue.
    pub queue: Queue,
    /// Its bucket's client.
    pub s3: aws_sdk_s3::Client,
    /// The client of its queues.
    pub sqs: aws_sdk_sqs::Client,
    settings: SettingsStore,
    python: Environment,
    target: Target,
}

/// What `stack.py` writes.
#[derive(Deserialize)]
struct Found {
    #[serde(flatten)]
    stack: DescribedStack,
    region: String,
    credentials: FoundCredentials,
}

#[derive(Deserialize)]
struct FoundCredentials {
    access_key: String,
    secret_key: String,
    token: Option<String>,
}

impl Deployed {
    /// Finds a deployment by its stack's outputs.
    pub async fn find(target: Target) -> Result<Self, Error> {
        let python = Environment::prepare(Progress::Terminal).await?;
        let name = match &target {
            Target::Local { .. } => LOCAL_STACK,
            Target::Stack { name, .. } => name,
        };
        let mut command = Command::new(python.python());
        command.arg(python::scripts().join("stack.py")).arg(name);
        let endpoint = configure(&mut command, &target);
        let output = processes::capture(&mut command, &[]).await.map_err(Error::system("cannot run stack.py"))?;
        let output = output.map_err(|output| match target {
            Target::Local { port } => Error::NotRunning { port },
            Target::Stack { .. } => Error::StackNotFound { name: name.to_owned(), output },
        })?;
        let found: Found = serde_json::from_str(&output).map_err(|_| Error::NotReelhook { name: name.to_owned() })?;
        let FoundCredentials { access_key, secret_key, token } = found.credentials;
        let credentials = Credentials::new(access_key, secret_key, token, None, "the AWS CLI's configuration");
        let clients =
            Clients::new(RetryPolicy::BACKGROUND, credentials.clone(), found.region.clone(), endpoint.as_deref());
        let outputs = Outputs::from(found.stack);
        let identity = Identity { credentials, region: found.region };
        Ok(Self {
            name: name.to_owned(),
            client: Client::of_account(identity, endpoint.as_deref(), &outputs)?,
            table: Table::new(clients.dynamodb(), outputs.table_name.clone()),
            queue: Queue::new(clients.sqs(), outputs.queue_url.clone()),
            s3: clients.s3(),
            sqs: clients.sqs(),
            settings: SettingsStore::new(clients.secrets(), outputs.settings_secret.clone()),
            outputs,
            python,
            target,
        })
    }

    /// The provider settings that its functions use.
    pub async fn settings(&self) -> Result<std::sync::Arc<Settings>, Error> {
        self.settings.get().await.map_err(|error| Error::Refused(error.to_string()))
    }

    /// The callback URL of a task, or of the provider where the key is one that only a provider's id makes.
    pub fn callback_url(&self, settings: &Settings, task: &TaskKey) -> String {
        let base = settings.callback_base_url.as_deref().unwrap_or(&self.outputs.callback_url).trim_end_matches('/');
        format!("{base}{}", settings.callback_keys.path(task.provider(), task.id().parse().ok().as_ref()))
    }

    /// The log group of a function.
    pub fn log_group(&self, function: &str) -> String {
        format!("/aws/lambda/{}-{function}", self.name)
    }

    /// Runs the AWS CLI with the same configuration. Returns what it prints.
    pub async fn aws(&self, arguments: &[&str]) -> Result<String, Error> {
        let mut command = Command::new(self.python.aws());
        configure(&mut command, &self.target);
        command.args(arguments).env("AWS_PAGER", "");
        let output = processes::capture(&mut command, &[]).await.map_err(Error::system("cannot run the AWS CLI"))?;
        output.map_err(|output| Error::Refused(format!("aws {} failed: {output}", arguments[..2].join(" "))))
    }
}

/// Leads a command to the target's AWS. Returns its endpoint.
fn configure(command: &mut Command, target: &Target) -> Option<String> {
    match target {
        Target::Local { port } => {
            let endpoint = format!("http://127.0.0.1:{port}");
            command
                .env_remove("AWS_PROFILE")
                .env("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID)
                .env("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)
                .env("AWS_SESSION_TOKEN", "test")
                .env("AWS_REGION", REGION)
                .env("AWS_DEFAULT_REGION", REGION)
                .env("AWS_MAX_ATTEMPTS", "1")
                .env("NO_PROXY", "127.0.0.1")
                .env("no_proxy", "127.0.0.1")
                .env("AWS_ENDPOINT_URL", &endpoint);
            Some(endpoint)
        }
        Target::Stack { endpoint: Some(endpoint), .. } => {
            command.env("AWS_ENDPOINT_URL", endpoint);
            Some(endpoint.clone())
        }
        Target::Stack { endpoint: None, .. } => std::env::var("AWS_ENDPOINT_URL").ok(),
    }
}
