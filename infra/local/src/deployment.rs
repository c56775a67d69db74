//! Deploys `infra/template.yaml`, unchanged, into the emulator.

use std::collections::BTreeMap;
use std::fs;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::emulator::Emulator;
use crate::functions::Functions;
use crate::{Error, processes, workspace_root};

/// A stack to deploy. One emulator holds any number of stacks with different names.
#[derive(Clone, Debug)]
pub struct DeployRequest {
    /// Name of the stack.
    pub stack_name: String,
    /// The provider settings, see [`crate::Options::settings`]. Without them nothing is stored, as after a first deployment.
    pub settings: Option<Value>,
    /// The parameters of the template that do not have their defaults.
    pub parameters: BTreeMap<&'static str, String>,
}

/// The outputs of a deployed stack, and the names of its functions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outputs {
    /// Base of all callback URLs, path-style and without a trailing slash. Host-style URLs need an HTTP client that resolves
    /// `*.localhost`.
    pub callback_url: String,
    /// Base URL of the tasks function, path-style.
    pub tasks_url: String,
    /// The bucket with the results.
    pub bucket_name: String,
    /// The table of tasks.
    pub table_name: String,
    /// URL of the work queue.
    pub queue_url: String,
    /// URL of the dead-letter queue.
    pub dead_letter_queue_url: String,
    /// Name of the secret with the settings.
    pub settings_secret: String,
    /// ARN of the topic of the alarms.
    pub alarm_topic: String,
    /// Physical names of the functions, by package name: `callback`, `process`, `poll`, `tasks`.
    pub functions: BTreeMap<String, String>,
}

/// What `deploy.py` and `stack.py` write.
#[derive(Deserialize)]
pub(crate) struct DescribedStack {
    outputs: TemplateOutputs,
    functions: BTreeMap<String, String>,
}

impl From<DescribedStack> for Outputs {
    fn from(DescribedStack { outputs, functions }: DescribedStack) -> Self {
        Self {
            callback_url: outputs.callback_url.trim_end_matches('/').to_owned(),
            tasks_url: outputs.tasks_url.trim_end_matches('/').to_owned(),
            bucket_name: outputs.bucket_name,
            table_name: outputs.table_name,
            queue_url: outputs.queue_url,
            dead_letter_queue_url: outputs.dead_letter_queue_url,
            settings_secret: outputs.settings_secret_name,
            alarm_topic: outputs.alarm_topic_arn,
            functions,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TemplateOutputs {
    callback_url: String,
    tasks_url: String,
    bucket_name: String,
    table_name: String,
    queue_url: String,
    dead_letter_queue_url: String,
    settings_secret_name: String,
    alarm_topic_arn: String,
}

/// Packages and deploys the template, applies by API what the emulator ignores in it, and stores the settings.
pub async fn deploy(emulator: &Emulator, functions: &Functions, request: DeployRequest) -> Result<Outputs, Error> {
    // The template names the binaries relative to itself. It is copied next to those of this run, so that concurrent runs do
    // not collide and no local build ends up where `sam deploy` would pick it up.
    let root = emulator.directory().join(&request.stack_name);
    let template = root.join("infra").join("template.yaml");
    fs::create_dir_all(root.join("infra"))
        .and_then(|()| fs::copy(workspace_root().join("infra").join("template.yaml"), &template))
        .map_err(Error::system(format!("cannot copy infra/template.yaml to {}", template.display())))?;
    functions.lay_out(&root.join("functions"))?;

    let input = json!({
        "stack_name": request.stack_name,
        "template": template,
        "parameters": request.parameters,
        "settings": request.settings,
    });
    let output = processes::capture(&mut emulator.script("deploy.py"), input.to_string().as_bytes())
        .await
        .map_err(Error::system("cannot run deploy.py"))?
        .map_err(|output| Error::Deployment { output })?;
    let described: DescribedStack = serde_json::from_str(&output).map_err(Error::DeploymentOutput)?;
    Ok(described.into())
}

/// The logs of a stack's functions, oldest first, each line prefixed with the name of its log group.
pub async fn logs(emulator: &Emulator, outputs: &Outputs) -> Result<String, Error> {
    processes::capture(emulator.script("logs.py").args(outputs.functions.values()), &[])
        .await
        .map_err(Error::system("cannot run logs.py"))?
        .map_err(|output| Error::Logs { output })
}
