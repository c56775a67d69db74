//! `trigger` and `replay`: callbacks as the provider would send them.

use std::time::Duration;

use clap::{Args, ValueEnum};
use local::client::HttpResponse;
use local::deployed::Deployed;
use local::{Error, samples};
use reelhook_aws::provider_client::{Connections, ProviderClient};
use reelhook_aws::unique_id::unique_id;
use reelhook_core::providers::adapter::Submission;
use reelhook_core::record::State;
use reelhook_core::settings::ProviderSettings;
use reelhook_core::{Provider, TaskId, TaskKey};
use serde_json::{Value, json};
use simulator::{Callback, Config, Simulator};

use super::{Code, Output, record, refused};

#[derive(Debug, Args)]
pub(crate) struct Trigger {
    /// The provider.
    #[arg(value_parser = crate::explain::provider)]
    provider: Provider,
    /// Your id of the task. A new one unless given.
    #[arg(long, value_name = "ID")]
    task: Option<TaskId>,
    /// How the sample task ended. The links of a sample lead to this machine: a deployment in an account refuses them and ends
    /// the task as lost, which raises its alarm.
    #[arg(long, value_enum, default_value_t = Ending::Failed)]
    outcome: Ending,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Ending {
    Failed,
    Succeeded,
}

impl Ending {
    /// As the simulator's script has it.
    fn script(self) -> &'static str {
        match self {
            Self::Failed => "fail",
            Self::Succeeded => "succeed",
        }
    }
}

pub(super) async fn trigger(arguments: &Trigger, deployed: &Deployed, output: Output) -> Result<Code, Error> {
    let provider = arguments.provider;
    let settings = deployed.settings().await?;
    let id = match &arguments.task {
        Some(id) => id.clone(),
        None => format!("trigger-{}", unique_id()).parse().map_err(refused)?,
    };
    let task = TaskKey::registered(provider, &id);
    let url = deployed.callback_url(&settings, &task);
    let (simulator, simulated) = simulator(provider, settings.provider(provider))?;
    let sample = samples::of(simulated);
    let script = format!("a sample callback [simulate outcome={} callback=lose delay=0]", arguments.outcome.script());
    let body = sample.body(&script);
    let own: ProviderSettings = serde_json::from_value(json!({
        "api_key": simulator.config().account(simulated).api_key, "base_url": simulator.base_url(simulated),
    }))
    .map_err(refused)?;
    let submission = Submission { body: &body, endpoint: sample.endpoint, callback_url: &url, marker: id.as_str() };
    let now = reelhook_aws::clock::now();
    let request = provider.adapter().submission(&submission, &own, now).map_err(refused)?;
    let client = ProviderClient::new(Duration::from_secs(10), Connections::Fresh).map_err(refused)?;
    client.send(&request, now).await.map_err(refused)?;
    let submitted = simulator.tasks().pop().ok_or_else(|| Error::Refused("the sample was not submitted".to_owned()))?;
    let callback = simulator.callback(&submitted.id).ok_or_else(|| Error::Refused(format!("{provider} sends none")))?;
    send(deployed, &task, &callback).await.map(|sent| sent.print(output))
}

/// A callback that was sent, and what the deployment made of it.
pub(crate) struct Sent {
    /// In a sentence.
    pub(crate) message: String,
    /// Whether it was taken.
    is_taken: bool,
    document: Value,
}

impl Sent {
    pub(super) fn print(&self, output: Output) -> Code {
        output.print(&self.document, || self.message.clone());
        if self.is_taken { Code::Done } else { Code::Failure }
    }
}

/// Sends the body that is kept of a task to its callback URL once more.
pub(crate) async fn replay(task: &TaskKey, deployed: &Deployed) -> Result<Sent, Error> {
    let record = record(deployed, task).await?;
    if record.raw.is_empty() {
        return Err(Error::Refused(format!("no body is kept of {task}: nothing has said anything about it yet")));
    }
    if record.raw.received_bytes() > record.raw.expose().len() {
        return Err(Error::Refused(format!("the body of {task} was cut when it was stored, and cannot be sent again")));
    }
    let settings = deployed.settings().await?;
    let url = deployed.callback_url(&settings, task);
    let (simulator, simulated) = simulator(task.provider(), settings.provider(task.provider()))?;
    let body = record.raw.expose().as_bytes().to_vec();
    let id = record.provider_task_id.unwrap_or_default();
    let callback = simulator.signed(simulated, &url, &id, body);
    send(deployed, task, &callback).await
}

/// The simulated provider with the account's signing secret.
fn simulator(provider: Provider, own: &ProviderSettings) -> Result<(Simulator, simulator::Provider), Error> {
    if !provider.calls_back() {
        return Err(Error::Refused(format!("{provider} sends no callbacks; its tasks are polled")));
    }
    // A simulated provider has keys of its own, which the settings name by `key_set_url`.
    if provider.adapter().key_set_url().is_some() && own.key_set_url.is_none() {
        return Err(Error::Refused(format!("only {provider} itself can sign its callbacks: it keeps the private key")));
    }
    let simulated = simulator::Provider::ALL.into_iter().find(|known| known.name() == provider.name());
    let simulated = simulated.ok_or_else(|| Error::Refused(format!("{provider} is not simulated")))?;
    let mut config = Config { minimax_challenge: simulator::Challenge::Skipped, ..Config::default() };
    if provider.adapter().key_set_url().is_none() {
        let secret = own.signing_secrets.first().map(|secret| secret.expose().to_owned());
        if secret.is_none() {
            config.signing = simulator::Signing::Unsigned;
        }
        config = config.with_signing_secret(simulated, secret);
    }
    let simulator = Simulator::start(config).map_err(|source| Error::Simulator { port: 0, source })?;
    Ok((simulator, simulated))
}

/// Sends a callback.
async fn send(deployed: &Deployed, task: &TaskKey, callback: &Callback) -> Result<Sent, Error> {
    let before = deployed.table.get(task).await.map_err(refused)?.map(|record| record.state);
    let mut request = deployed.client.http().post(&callback.url).body(callback.body.clone());
    for (name, value) in &callback.headers {
        request = request.header(name, value);
    }
    // The URL is a secret: whoever has it may speak about the task.
    let response = request.send().await.map_err(|error| refused(error.without_url()))?;
    let status = response.status().as_u16();
    let text = response.text().await.map_err(|error| refused(error.without_url()))?;
    let response = HttpResponse { status, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) };
    let after = deployed.table.get(task).await.map_err(refused)?;
    let state = after.as_ref().map(|record| record.state);
    let hinted = after.as_ref().is_some_and(|record| record.hint.is_some());
    let duplicate = before.is_some_and(State::is_final) && before == state;
    let message = match (status, duplicate, hinted) {
        (200..300, true, _) => format!("{task}: a duplicate, answered like the first; nothing changed"),
        (200..300, false, true) => format!("{task}: taken for a hint, which a status poll has to confirm"),
        (200..300, false, false) => format!("{task}: recorded; its state is {}", name(state)),
        (401, ..) => format!("{task}: refused; `verify` says which part of the authentication is wrong"),
        _ => format!("{task}: the response is {status} {}", response.body),
    };
    let document = json!({
        "task": task.to_string(), "status": status, "response": response.body, "duplicate": duplicate,
        "hint": hinted, "state": state.map(State::name), "message": message,
    });
    Ok(Sent { message, is_taken: (200..300).contains(&status), document })
}

fn name(state: Option<State>) -> &'static str {
    state.map_or("unknown", State::name)
}
