//! `doctor`: whether a deployment can do its work.

use std::time::Duration;

use local::Error;
use local::deployed::Deployed;
use reelhook_aws::clock;
use reelhook_aws::provider_client::{Connections, PollLimits, ProviderClient};
use reelhook_core::Provider;
use reelhook_core::providers::adapter::{PolledTask, StatusResult};
use reelhook_core::report::Reason;
use reelhook_core::settings::Settings;
use reelhook_core::status_poll::PollResult;
use serde_json::{Value, json};

use super::output::table;
use super::{Code, Output};

/// Begins the name of the schedule of every stack, in the template.
const SCHEDULE: &str = "reelhook-poll-";

/// A task that no provider has.
const NO_TASK: &str = "reelhook-doctor";

#[derive(Clone, Copy, PartialEq, Eq, strum::Display)]
#[strum(serialize_all = "snake_case")]
enum Verdict {
    Right,
    /// It can be meant so.
    Doubtful,
    Wrong,
}

struct Finding {
    what: String,
    verdict: Verdict,
    detail: String,
}

impl Finding {
    fn new(what: impl Into<String>, verdict: Verdict, detail: impl Into<String>) -> Self {
        Self { what: what.into(), verdict, detail: detail.into() }
    }
}

pub(super) async fn run(deployed: &Deployed, output: Output) -> Result<Code, Error> {
    let mut findings = Vec::new();
    match deployed.settings().await {
        Err(error) => findings.push(Finding::new("settings", Verdict::Wrong, error.to_string())),
        Ok(settings) => {
            findings.push(Finding::new("settings", Verdict::Right, "stored, and valid"));
            let client = ProviderClient::new(Duration::from_secs(10), Connections::Fresh).map_err(super::refused)?;
            let listed = Provider::ALL.into_iter().filter(|provider| settings.lists(*provider));
            for provider in listed {
                findings.push(key(&client, &settings, provider).await);
            }
            findings.push(callback_url(deployed, &settings).await);
        }
    }
    findings.push(schedule(deployed).await);
    findings.push(alarms(deployed).await);
    let document: Value = findings
        .iter()
        .map(|finding| json!({ "check": finding.what, "verdict": finding.verdict.to_string(), "detail": finding.detail }))
        .collect();
    output.print(&document, || {
        let row = |finding: &Finding| vec![finding.verdict.to_string(), finding.what.clone(), finding.detail.clone()];
        table(&["", "check", "what was found"], findings.iter().map(row))
    });
    let is_right = findings.iter().all(|finding| finding.verdict != Verdict::Wrong);
    Ok(if is_right { Code::Done } else { Code::Failure })
}

/// Whether a provider accepts its API key: it is asked about a task that it does not have.
async fn key(client: &ProviderClient, settings: &Settings, provider: Provider) -> Finding {
    let what = format!("key of {provider}");
    let own = settings.provider(provider);
    if !provider.is_pollable(own) {
        let detail = "none: callbacks are accepted on their own proof, and what they miss is never polled";
        return Finding::new(what, Verdict::Doubtful, detail);
    }
    let task = PolledTask { provider_task_id: NO_TASK, endpoint: None };
    let polled = client.poll_status(provider, &[task], own, PollLimits::ONE_TASK, clock::now()).await;
    let Some(polled) = polled.into_iter().flatten().next() else {
        return Finding::new(what, Verdict::Doubtful, "no status poll is possible without an endpoint");
    };
    let status = polled.response.as_ref().map(|response| response.status);
    match polled.result {
        PollResult::Response(StatusResult::Refused { failure, .. }) => {
            let said = failure.message.or(failure.code).unwrap_or_else(|| format!("HTTP status {status:?}"));
            match failure.reason {
                // About the task and not the key.
                Reason::InvalidParameters => Finding::new(what, Verdict::Right, "accepted"),
                Reason::RateLimited => {
                    Finding::new(what, Verdict::Doubtful, format!("the provider limits the rate: {said}"))
                }
                _ => Finding::new(what, Verdict::Wrong, format!("refused: {said}")),
            }
        }
        PollResult::Response(StatusResult::NotFound | StatusResult::Task(_)) | PollResult::NotFoundByGuess => {
            Finding::new(what, Verdict::Right, "accepted")
        }
        PollResult::Response(StatusResult::Unreadable) | PollResult::TooLong => {
            Finding::new(what, Verdict::Doubtful, "the response was not understood: is base_url right?")
        }
        PollResult::NoResponse => Finding::new(what, Verdict::Wrong, "the provider could not be reached from here"),
        PollResult::NotPollable => Finding::new(what, Verdict::Doubtful, "no status poll is possible"),
    }
}

/// Whether the callback function responds at the URL that providers get. From here, which may see more than a provider.
async fn callback_url(deployed: &Deployed, settings: &Settings) -> Finding {
    let what = "callback URL";
    let base = settings.callback_base_url.as_deref().unwrap_or(&deployed.outputs.callback_url).trim_end_matches('/');
    // A wrong token: what is right must not be sent about. Refused as unauthorized by nobody but the callback function.
    let url = format!("{base}/callback/{}/{NO_TASK}/AAAAAAAAAAAAAAAAAAAAAA", Provider::ALL[0]);
    match deployed.client.http().post(url).body("{}").send().await {
        Ok(response) if response.status() == 401 => {
            let is_local = ["http://", "https://127.", "https://localhost"].iter().any(|start| base.starts_with(start));
            let (verdict, note) = if is_local {
                (Verdict::Doubtful, ", at an address that no provider reaches")
            } else {
                (Verdict::Right, " from here")
            };
            Finding::new(what, verdict, format!("the callback function responds{note}: {base}"))
        }
        Ok(response) => {
            let status = response.status();
            Finding::new(
                what,
                Verdict::Wrong,
                format!("{base} responds with {status}, which is not reelhook's 401 for a wrong token"),
            )
        }
        Err(error) => Finding::new(what, Verdict::Wrong, format!("{base} cannot be reached: {}", error.without_url())),
    }
}

async fn schedule(deployed: &Deployed) -> Finding {
    let what = "schedule of poll";
    let arguments = ["scheduler", "list-schedules", "--output", "json", "--name-prefix", SCHEDULE];
    let listed = match deployed.aws(&arguments).await {
        Ok(text) => serde_json::from_str::<Value>(&text).unwrap_or_default(),
        Err(error) => return Finding::new(what, Verdict::Doubtful, error.to_string()),
    };
    let function = deployed.outputs.functions.get("poll").map_or("", String::as_str);
    let of_poll =
        listed["Schedules"].as_array().into_iter().flatten().find(|schedule| {
            schedule["Target"]["Arn"].as_str().is_some_and(|arn| arn.ends_with(&format!(":{function}")))
        });
    match of_poll.map(|schedule| schedule["State"].as_str().unwrap_or_default()) {
        Some("ENABLED") => Finding::new(what, Verdict::Right, "enabled"),
        Some(state) => Finding::new(what, Verdict::Wrong, format!("{state}: lost callbacks are not found; enable it")),
        None => {
            Finding::new(what, Verdict::Wrong, "there is none: lost callbacks are not found; deploy the stack again")
        }
    }
}

async fn alarms(deployed: &Deployed) -> Finding {
    let what = "alarms";
    let topic = &deployed.outputs.alarm_topic;
    let arguments = ["sns", "list-subscriptions-by-topic", "--output", "json", "--topic-arn", topic];
    match deployed.aws(&arguments).await {
        Err(error) => Finding::new(what, Verdict::Doubtful, error.to_string()),
        Ok(text) => {
            let list = serde_json::from_str::<Value>(&text).unwrap_or_default();
            let subscriptions = list["Subscriptions"].as_array().map(Vec::as_slice).unwrap_or_default();
            let is_pending = |one: &&Value| one["SubscriptionArn"] == "PendingConfirmation";
            let pending = subscriptions.iter().filter(is_pending).count();
            match subscriptions.len() - pending {
                0 if pending > 0 => Finding::new(
                    what,
                    Verdict::Wrong,
                    "nobody has confirmed the subscription yet: follow the link in the e-mail",
                ),
                0 => Finding::new(
                    what,
                    Verdict::Wrong,
                    format!("nobody is told: subscribe to {topic}, or deploy with AlarmEmail"),
                ),
                told => Finding::new(what, Verdict::Right, format!("{told} subscribed")),
            }
        }
    }
}
