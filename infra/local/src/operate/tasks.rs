//! `tasks`: what there is, what happened to one, and what is done with it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use local::deployed::Deployed;
use local::{Error, samples};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reelhook_aws::clock;
use reelhook_core::callback::{Hint, Raw};
use reelhook_core::providers::adapter::HintReason;
use reelhook_core::record::{Record, State, is_overdue};
use reelhook_core::report::{Outcome, Report};
use reelhook_core::transition::{Applied, reports};
use reelhook_core::{Provider, TaskId, TaskKey, Timestamp, view};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::output::{age, seconds, span, table};
use super::{Code, Output, history, record, refused};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List tasks, the newest first, with what they cost in all. Open ones come from the index `due`; any other state reads the
    /// whole table.
    List(List),
    /// Show all that is known of a task, with what the functions logged about it.
    Show {
        /// The task, PROVIDER/ID.
        task: TaskKey,
    },
    /// Submit a task. On the local system the simulated provider makes a video; anywhere else it may cost money.
    Submit(Submit),
    /// Copy the files of a task again: one that is being copied at once, one that ended as lost or failed after the provider
    /// confirmed that it succeeded.
    RetryCopy {
        /// The task, PROVIDER/ID.
        task: TaskKey,
    },
    /// Ask the provider to cancel a task.
    Cancel {
        /// The task, PROVIDER/ID.
        task: TaskKey,
    },
    /// Wait until a task is final. Exits with 3 when it failed, with 4 when it is lost, with 5 when the time is up.
    Wait {
        /// The task, PROVIDER/ID.
        task: TaskKey,
        /// For how long, such as 90s, 15m or 2h.
        #[arg(long, value_parser = seconds, default_value = "1h")]
        timeout: i64,
    },
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only this state: pending, reported, archived, failed, lost or unattributed. May be repeated.
    #[arg(long, value_parser = state)]
    state: Vec<State>,
    /// Only this provider.
    #[arg(long, value_parser = crate::explain::provider)]
    provider: Option<Provider>,
    /// Only tasks made longer ago than this, such as 90s, 15m, 2h or 7d.
    #[arg(long, value_parser = seconds, value_name = "SPAN")]
    older_than: Option<i64>,
    /// Only open tasks that should have been looked at more than five minutes ago.
    #[arg(long)]
    overdue: bool,
    /// At most so many rows. The totals count all.
    #[arg(long, default_value_t = 50)]
    limit: usize,
}

#[derive(Debug, Args)]
pub(crate) struct Submit {
    /// The provider.
    #[arg(value_parser = crate::explain::provider)]
    provider: Provider,
    /// Your id of the task.
    id: TaskId,
    /// A file with the provider's own request body; - is standard input. Without it a small sample is submitted.
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    body: Option<PathBuf>,
    /// The prompt of the sample.
    #[arg(long, default_value = "a paper boat on a rainy street")]
    prompt: String,
    /// The provider's endpoint, where it has several. The sample brings its own.
    #[arg(long, value_name = "PATH")]
    provider_endpoint: Option<String>,
    /// JSON of yours that comes back in result.json.
    #[arg(long, value_name = "JSON")]
    metadata: Option<String>,
    /// A tag for the task's objects. May be repeated.
    #[arg(long = "tag", value_name = "NAME=VALUE", value_parser = tag)]
    tags: Vec<(String, String)>,
}

fn state(name: &str) -> Result<State, String> {
    let known = "use pending, reported, archived, failed, lost or unattributed";
    State::from_name(name).ok_or_else(|| known.to_owned())
}

fn tag(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

pub(super) async fn run(command: Command, deployed: &Deployed, output: Output) -> Result<Code, Error> {
    match command {
        Command::List(arguments) => list(&arguments, deployed, output).await,
        Command::Show { task } => show(&task, deployed, output).await,
        Command::Submit(arguments) => submit(&arguments, deployed, output).await,
        Command::RetryCopy { task } => {
            let message = retry_copy(&task, deployed).await?;
            output.print(&json!({ "task": task.to_string(), "message": message }), || message.clone());
            Ok(Code::Done)
        }
        Command::Cancel { task } => {
            let Cancelled { cancellation, message, document } = cancel(&task, deployed).await?;
            output.print(&document, || format!("{cancellation}: {message}"));
            Ok(if cancellation == "impossible" { Code::Refused } else { Code::Done })
        }
        Command::Wait { task, timeout } => wait(&task, timeout, deployed, output).await,
    }
}

async fn list(arguments: &List, deployed: &Deployed, output: Output) -> Result<Code, Error> {
    let now = clock::now();
    let mut records = read(arguments, deployed).await?;
    records.retain(|record| arguments.takes(record, now));
    records.sort_by_key(|record| std::cmp::Reverse(record.created_at));
    let totals = Totals::of(&records);
    let shown = &records[..records.len().min(arguments.limit)];
    let document = json!({
        "tasks": shown.iter().map(|record| view::of(record, None, now)).collect::<Vec<_>>(),
        "totals": totals.to_json(),
    });
    output.print(&document, || {
        let mut text = table(
            &["task", "state", "age", "next attempt", "provider's id", "failure or error", "cost"],
            shown.iter().map(|record| row(record, now)),
        );
        let _ = write!(text, "\n{totals}");
        if shown.len() < records.len() {
            let _ = write!(text, "\n{} more: raise --limit", records.len() - shown.len());
        }
        text
    });
    Ok(Code::Done)
}

/// Reads no more of the table than the filters need.
async fn read(arguments: &List, deployed: &Deployed) -> Result<Vec<Record>, Error> {
    let only_open = !arguments.state.is_empty() && arguments.state.iter().all(|state| !state.is_final());
    if only_open || arguments.overdue {
        let open = deployed.table.open(u16::MAX).await.map_err(refused)?;
        let tasks: Vec<TaskKey> = open.into_iter().map(|(task, _)| task).collect();
        return deployed.table.records(&tasks).await.map_err(refused);
    }
    let (mut records, mut start) = (Vec::new(), None);
    loop {
        let page = deployed.table.page(start.as_ref()).await.map_err(refused)?;
        records.extend(page.records);
        start = page.next;
        if start.is_none() {
            return Ok(records);
        }
    }
}

impl List {
    fn takes(&self, record: &Record, now: Timestamp) -> bool {
        let is_older = |span| record.created_at.is_some_and(|created| now.seconds() - created.seconds() > span);
        (self.state.is_empty() || self.state.contains(&record.state))
            && self.provider.is_none_or(|provider| record.task.provider() == provider)
            && self.older_than.is_none_or(is_older)
            && (!self.overdue || record.due_at.is_some_and(|due| is_overdue(due, now)))
    }
}

fn row(record: &Record, now: Timestamp) -> Vec<String> {
    let report = record.report.as_ref();
    let failure = report.and_then(Report::failure).map(|failure| failure.reason.name().to_owned());
    let next = record.due_at.map(|due| next_attempt(due, now));
    let dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    vec![
        record.task.to_string(),
        record.state.to_string(),
        age(record.created_at, now),
        dash(next),
        dash(record.provider_task_id.clone()),
        dash(record.last_error.clone().or(failure)),
        dash(report.and_then(Report::usage).map(cost)),
    ]
}

/// When a task is looked at next, in words.
pub(crate) fn next_attempt(due: Timestamp, now: Timestamp) -> String {
    match due.seconds() - now.seconds() {
        late if is_overdue(due, now) => format!("overdue by {}", span(-late)),
        ..=0 => "next run".to_owned(),
        wait => format!("in {}", span(wait)),
    }
}

/// What a task cost, in words.
pub(crate) fn cost(usage: &reelhook_core::usage::Usage) -> String {
    let amount = usage.amount.as_ref().map(|amount| {
        usage
            .currency
            .as_ref()
            .map_or_else(|| format!("{amount} (no currency)"), |currency| format!("{amount} {currency}"))
    });
    let with =
        |number: &Option<serde_json::Number>, unit: &str| number.as_ref().map(|number| format!("{number} {unit}"));
    let all = [with(&usage.credits, "credits"), with(&usage.tokens, "tokens"), with(&usage.seconds, "seconds"), amount];
    all.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// How many tasks there are in each state, and what those of each provider cost.
struct Totals {
    states: BTreeMap<&'static str, usize>,
    /// By provider and unit.
    usage: BTreeMap<(&'static str, String), f64>,
}

impl Totals {
    fn of(records: &[Record]) -> Self {
        let (mut states, mut usage) = (BTreeMap::new(), BTreeMap::<_, f64>::new());
        for record in records {
            *states.entry(record.state.name()).or_default() += 1;
            let Some(charged) = record.report.as_ref().and_then(Report::usage) else { continue };
            let money = charged.currency.clone().unwrap_or_else(|| "(no currency)".to_owned());
            for (number, unit) in [
                (&charged.credits, "credits".to_owned()),
                (&charged.tokens, "tokens".to_owned()),
                (&charged.seconds, "seconds".to_owned()),
                (&charged.amount, money),
            ] {
                if let Some(number) = number.as_ref().and_then(serde_json::Number::as_f64) {
                    *usage.entry((record.task.provider().name(), unit)).or_default() += number;
                }
            }
        }
        Self { states, usage }
    }

    fn to_json(&self) -> Value {
        let usage: Vec<Value> = self
            .usage
            .iter()
            .map(|((provider, unit), sum)| json!({ "provider": provider, "unit": unit, "sum": rounded(*sum) }))
            .collect();
        json!({ "states": self.states, "usage": usage })
    }
}

impl std::fmt::Display for Totals {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let states: Vec<String> = self.states.iter().map(|(state, count)| format!("{count} {state}")).collect();
        let usage: Vec<String> =
            self.usage.iter().map(|((provider, unit), sum)| format!("{provider} {} {unit}", rounded(*sum))).collect();
        write!(formatter, "{} tasks: {}", self.states.values().sum::<usize>(), states.join(", "))?;
        if usage.is_empty() { Ok(()) } else { write!(formatter, "\ncost: {}", usage.join(", ")) }
    }
}

/// A sum of what has at most six decimals.
fn rounded(sum: f64) -> f64 {
    (sum * 1e6).round() / 1e6
}

async fn show(task: &TaskKey, deployed: &Deployed, output: Output) -> Result<Code, Error> {
    let record = record(deployed, task).await?;
    let now = clock::now();
    let since = record.created_at.map_or(0, Timestamp::seconds) * 1000;
    let lines = history::lines(deployed, since, Some(&task.to_string())).await?;
    let mut document = view::of(&record, None, now);
    document["history"] = lines.iter().map(history::Line::to_json).collect();
    output.print(&document, || {
        let mut text = details(&document);
        if !lines.is_empty() {
            let rows = lines.iter().map(|line| {
                vec![
                    history::time(line.time),
                    line.function.to_owned(),
                    line.level.clone(),
                    format!("{} {}", line.message, line.detail()),
                ]
            });
            let _ = write!(text, "\n{}", table(&["time", "function", "level", "what happened"], rows));
        }
        text
    });
    Ok(Code::Done)
}

/// The fields of a view, one per line; nested ones with a dot.
fn details(view: &Value) -> String {
    fn flatten(prefix: &str, value: &Value, rows: &mut Vec<Vec<String>>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields.iter().filter(|(name, _)| *name != "history") {
                    flatten(&if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") }, value, rows);
                }
            }
            Value::Array(values) => {
                for (index, value) in values.iter().enumerate() {
                    flatten(&format!("{prefix}[{index}]"), value, rows);
                }
            }
            Value::String(text) => rows.push(vec![prefix.to_owned(), text.clone()]),
            value => rows.push(vec![prefix.to_owned(), value.to_string()]),
        }
    }
    let mut rows = Vec::new();
    flatten("", view, &mut rows);
    table(&["", ""], rows).trim_start_matches('\n').to_owned()
}

async fn submit(arguments: &Submit, deployed: &Deployed, output: Output) -> Result<Code, Error> {
    let provider = arguments.provider;
    let sample = sample_of(provider)?;
    let body = match &arguments.body {
        None => sample.body(&arguments.prompt).to_string(),
        Some(path) => read_text(path)?,
    };
    let own_endpoint = sample.endpoint.filter(|_| arguments.body.is_none());
    let mut query: Vec<String> = Vec::new();
    query.extend(
        arguments
            .provider_endpoint
            .as_deref()
            .or(own_endpoint)
            .map(|endpoint| format!("endpoint={}", encoded(endpoint))),
    );
    query.extend(arguments.metadata.as_deref().map(|metadata| format!("metadata={}", encoded(metadata))));
    query.extend(arguments.tags.iter().map(|(name, value)| format!("tag.{}={}", encoded(name), encoded(value))));
    let path = format!("{provider}/{}?{}", arguments.id.as_str(), query.join("&"));
    let response = deployed.client.put(path.trim_end_matches('?'), body).await?;
    if !matches!(response.status, 200 | 201) {
        return Err(refusal(&response));
    }
    let view = without_url(response.body);
    output.print(&view, || details(&view));
    Ok(Code::Done)
}

/// A view without the callback URL: whoever has it may speak about the task, and terminals are logged.
fn without_url(mut view: Value) -> Value {
    if let Some(fields) = view.as_object_mut() {
        fields.remove("callback_url");
    }
    view
}

/// What the tasks function says about a request that it refuses.
fn refusal(response: &local::client::HttpResponse) -> Error {
    let message = response.body["message"].as_str().or(response.body["Message"].as_str());
    Error::Refused(message.map_or_else(|| format!("{} {}", response.status, response.body), str::to_owned))
}

fn read_text(path: &PathBuf) -> Result<String, Error> {
    let mut text = String::new();
    if path.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text).map_err(refused)?;
        return Ok(text);
    }
    std::fs::read_to_string(path).map_err(|error| Error::Refused(format!("cannot read {}: {error}", path.display())))
}

/// Has the files of a task copied again. Returns what follows, in a sentence.
pub(crate) async fn retry_copy(task: &TaskKey, deployed: &Deployed) -> Result<String, Error> {
    let record = record(deployed, task).await?;
    let message = match record.state {
        State::Reported => format!("{task} is queued; `tasks wait {task}` shows its end"),
        State::Lost | State::Failed => {
            reopen(deployed, &record).await?;
            format!("{task} is polled once more; if the provider says that it succeeded, its files are copied")
        }
        State::Archived => return Err(Error::Refused(format!("{task} is archived: its files are in the bucket"))),
        State::Pending => return Err(Error::Refused(format!("{task} has no result yet: `tasks show {task}`"))),
        State::Unattributed => return Err(Error::Refused(format!("{task} is a body about no known task"))),
    };
    deployed.queue.send(task).await;
    Ok(message)
}

/// As if a callback had said that the task succeeded: the provider has to confirm it before anything follows from it.
async fn reopen(deployed: &Deployed, record: &Record) -> Result<(), Error> {
    let task = &record.task;
    let settings = deployed.settings().await?;
    if record.provider_task_id.is_none() || !task.provider().is_pollable(settings.provider(task.provider())) {
        let why = "it cannot be polled: its provider task id or the provider's API key is missing";
        return Err(Error::Refused(format!("{task} cannot be copied again, {why}")));
    }
    let hint = Hint {
        key: task.clone(),
        provider_task_id: record.provider_task_id.clone(),
        reason: HintReason::NoResult,
        outcome: Some(Outcome::Succeeded),
        fallback: None,
        raw: Raw::new(record.raw.expose().as_bytes()),
        endpoint: None,
    };
    match deployed.table.apply_to_item(&reports::reopen(&hint, clock::now())).await.map_err(refused)? {
        Applied::Done(_) => Ok(()),
        Applied::Refused(_) => Err(Error::Refused(format!("{task} changed at the same moment: `tasks show {task}`"))),
    }
}

/// What became of asking the provider to cancel a task.
pub(crate) struct Cancelled {
    /// `requested`, `confirmed` or `impossible`.
    pub(crate) cancellation: String,
    /// In a sentence.
    pub(crate) message: String,
    document: Value,
}

/// Asks the provider to cancel a task.
pub(crate) async fn cancel(task: &TaskKey, deployed: &Deployed) -> Result<Cancelled, Error> {
    let response = deployed.client.delete(&task.to_string().replace('%', "%25")).await?;
    let Some(cancellation) = response.body["cancellation"].as_str().map(str::to_owned) else {
        return Err(refusal(&response));
    };
    let mut document = response.body;
    document["task"] = without_url(document["task"].take());
    Ok(Cancelled { cancellation, message: document["message"].as_str().unwrap_or_default().to_owned(), document })
}

/// Submits the sample of a provider.
pub(crate) async fn submit_sample(
    provider: Provider,
    id: &TaskId,
    prompt: &str,
    deployed: &Deployed,
) -> Result<(), Error> {
    let sample = sample_of(provider)?;
    let query = sample.endpoint.map(|endpoint| format!("?endpoint={}", encoded(endpoint))).unwrap_or_default();
    let path = format!("{provider}/{}{query}", id.as_str());
    let response = deployed.client.put(&path, sample.body(prompt).to_string()).await?;
    if matches!(response.status, 200 | 201) { Ok(()) } else { Err(refusal(&response)) }
}

fn sample_of(provider: Provider) -> Result<samples::Sample, Error> {
    let sample = samples::SAMPLES.iter().find(|sample| sample.provider.name() == provider.name());
    sample.copied().ok_or_else(|| Error::Refused(format!("there is no sample of {provider}; give --body")))
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

async fn wait(task: &TaskKey, timeout: i64, deployed: &Deployed, output: Output) -> Result<Code, Error> {
    let end = Instant::now() + Duration::from_secs(timeout.unsigned_abs());
    // On standard error, and only where that is a terminal.
    let progress = ProgressBar::new_spinner().with_style(
        ProgressStyle::with_template("{spinner} {msg} ({elapsed})")
            .unwrap_or_else(|_| ProgressStyle::default_spinner()),
    );
    progress.enable_steady_tick(Duration::from_millis(200));
    loop {
        let left = end.saturating_duration_since(Instant::now()).as_secs();
        let path = format!("{}?wait={}", task.to_string().replace('%', "%25"), left.min(20));
        let response = deployed.client.get(&path).await?;
        let view = &response.body;
        let Some(state) = view["state"].as_str().and_then(State::from_name) else { return Err(refusal(&response)) };
        let why = view["last_error"].as_str().map(|error| format!(": {error}")).unwrap_or_default();
        progress.set_message(format!("{task} is {state}{why}"));
        if state.is_final() || left == 0 {
            progress.finish_and_clear();
            let view = without_url(response.body);
            output.print(&view, || details(&view));
            return Ok(match state {
                State::Failed => Code::TaskFailed,
                State::Lost => Code::TaskLost,
                State::Archived | State::Unattributed => Code::Done,
                State::Pending | State::Reported => Code::TimeUp,
            });
        }
    }
}
