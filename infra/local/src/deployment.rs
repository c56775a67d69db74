//! Deploys `infra/template.yaml`, as it is, into the stand-in.

use std::collections::BTreeMap;
use std::fs;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::functions::{self, Functions};
use crate::standin::StandIn;
use crate::{Error, processes, workspace_root};

/// One stack to deploy. Several with different names fit into one stand-in.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its name; the settings parameter is called `/{stack_name}/settings`.
    pub stack_name: String,
    /// The provider settings, see [`crate::Options::settings`].
    pub settings: Value,
    /// The parameter `DangerousAllowedOrigins`.
    pub allowed_origins: Vec<String>,
    /// The parameter `CopyConcurrency`; its default without it.
    pub copy_concurrency: Option<u16>,
}

/// What the stack says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outputs {
    /// Base of all callback URLs, in the stand-in's path form and without a slash at the end. The form with a host name
    /// of its own would ask of every HTTP client that it resolves `*.localhost`.
    pub callback_url: String,
    /// Base URL of the tasks function, in the same form.
    pub tasks_url: String,
    /// The bucket.
    pub bucket_name: String,
    /// The table.
    pub table_name: String,
    /// The work queue.
    pub queue_url: String,
    /// The dead-letter queue.
    pub dead_letter_queue_url: String,
    /// The command that stores the settings.
    pub settings_command: String,
    /// Name of the SSM parameter with the settings.
    pub settings_parameter: String,
    /// The functions' names in the stand-in, by ours: `callback`, `process`, `poll`, `tasks`.
    pub functions: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Answer {
    outputs: TemplateOutputs,
    functions: BTreeMap<String, String>,
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
    settings_command: String,
}

/// Packages and deploys the template, does by API what the stand-in leaves out of it, and stores the settings.
pub async fn deploy(stand_in: &StandIn, functions: &Functions, request: Request) -> Result<Outputs, Error> {
    // The template finds the binaries relative to itself. It is copied next to the ones of this run, so that runs do not
    // disturb each other and never leave a binary of this machine where `sam deploy` would pick it up.
    let root = stand_in.directory().join(&request.stack_name);
    let template = root.join("infra").join("template.yaml");
    fs::create_dir_all(root.join("infra"))
        .and_then(|()| fs::copy(workspace_root().join("infra").join("template.yaml"), &template))
        .map_err(Error::system(format!("cannot copy infra/template.yaml to {}", template.display())))?;
    functions.lay_out(&root.join("target").join("lambda"))?;

    let settings_parameter = format!("/{}/settings", request.stack_name);
    let mut parameters = json!({
        "Architecture": functions::architecture(),
        "SettingsParameter": settings_parameter,
        "DangerousAllowedOrigins": request.allowed_origins.join(","),
    });
    if let Some(copies) = request.copy_concurrency {
        parameters["CopyConcurrency"] = copies.into();
    }
    let input = json!({
        "endpoint": stand_in.endpoint(),
        "stack_name": request.stack_name,
        "template": template,
        "parameters": parameters,
        "settings": request.settings,
    });
    let answer = processes::captured(&mut stand_in.script("deploy.py"), input.to_string().as_bytes())
        .await
        .map_err(Error::system("cannot run deploy.py"))?
        .map_err(|output| Error::Deployment { output })?;
    let Answer { outputs, functions } = serde_json::from_str(&answer).map_err(Error::DeploymentAnswer)?;
    Ok(Outputs {
        callback_url: outputs.callback_url,
        tasks_url: outputs.tasks_url,
        bucket_name: outputs.bucket_name,
        table_name: outputs.table_name,
        queue_url: outputs.queue_url,
        dead_letter_queue_url: outputs.dead_letter_queue_url,
        settings_command: outputs.settings_command,
        settings_parameter,
        functions,
    })
}

/// What the functions of a stack have written, oldest first, each line after the name of its log group.
pub async fn logs(stand_in: &StandIn, outputs: &Outputs) -> Result<String, Error> {
    processes::captured(stand_in.script("logs.py").args(outputs.functions.values()), &[])
        .await
        .map_err(Error::system("cannot run logs.py"))?
        .map_err(|output| Error::Logs { output })
}
