//! Visits due tasks on a schedule: the half of reelhook that does not depend on anybody calling back.
//!
//! A run reads the due index shard by shard, moves each due task forward before it does anything about it (so a run that
//! dies is made up for by a later one, and two runs never visit a task at once), and then
//!
//! - queues again what was reported and never settled,
//! - asks the provider after open tasks, at the provider's own pace,
//! - closes as `lost` what is past its deadline, after asking one last time.
//!
//! It stops in time when there is more than it can do, and the next run goes on with the longest overdue.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use reelhook_aws::asking::{Asked, ProviderClient};
use reelhook_aws::queue::{LARGEST_BATCH, Queue};
use reelhook_aws::settings::{SettingsError, SettingsStore};
use reelhook_aws::table::{Recorded, Table, TableError};
use reelhook_aws::telemetry::{Metric, count, now};
use reelhook_core::callback::{Accepted, Reporter};
use reelhook_core::message::Message;
use reelhook_core::providers::{PolledTask, StatusAnswer};
use reelhook_core::record::{DUE_SHARDS, REQUEUE_AFTER, Record, State};
use reelhook_core::report::{Reason, Statement};
use reelhook_core::schedule::Pace;
use reelhook_core::settings::Settings;
use reelhook_core::{Provider, TaskKey, Timestamp};
use tokio::time::{Instant, timeout_at};

/// Due tasks read per shard and round. Eight shards of this make one round; rounds follow each other until nothing is due.
const TASKS_PER_SHARD: u16 = 250;

/// Table writes under way at once. At 5 ms each this is several thousand a second, more than a run needs.
const WRITES_AT_ONCE: usize = 32;

/// Groups of tasks asked after at once, over all providers; see [`TASKS_PER_QUESTION`].
const QUESTIONS_AT_ONCE: usize = 64;

/// Tasks asked after together: in one call where the provider takes several, ten calls at a time where it does not. At 200 ms a
/// call a portion of 256 tasks takes half a second either way, and 10,000 tasks half a run.
const TASKS_PER_QUESTION: usize = 20;

/// How long before its end a run begins nothing new.
const RESERVE: Duration = Duration::from_secs(15);

/// How long before its end a run drops what is still under way. Dropping is safe at any moment: every task it holds has been
/// moved forward before and is visited again.
const LAST_MOMENT: Duration = Duration::from_secs(3);

/// What the function works with.
#[derive(Debug)]
pub struct Hub {
    /// The table.
    pub table: Table,
    /// The queue.
    pub queue: Queue,
    /// The settings.
    pub settings: SettingsStore,
    /// The client for the providers.
    pub providers: ProviderClient,
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    /// Due tasks that were found.
    pub due: usize,
    /// Reports that were queued again.
    pub queued: usize,
    /// Tasks the provider was asked after.
    pub asked: usize,
    /// Tasks that were found final before any callback said anything of them.
    pub rescued: usize,
    /// Tasks that were closed as lost.
    pub closed: usize,
    /// Due tasks that are left to the next run.
    pub left_over: usize,
}

/// Why a run could not begin.
#[derive(Debug, thiserror::Error)]
pub enum PollError {
    /// No settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// No shard of the index could be read.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// One run, until nothing is due or the time is up.
pub async fn run(hub: &Hub, deadline: Instant) -> Result<Summary, PollError> {
    let settings = hub.settings.get().await?;
    let mut summary = Summary::default();
    let last_moment = deadline.checked_sub(LAST_MOMENT).unwrap_or(deadline);
    if let Ok(finished) = timeout_at(last_moment, rounds(hub, &settings, deadline, &mut summary)).await {
        finished?;
    } else {
        tracing::warn!("the time of a run was up before its last answers came");
    }
    tracing::info!(
        due = summary.due,
        queued = summary.queued,
        asked = summary.asked,
        rescued = summary.rescued,
        closed = summary.closed,
        left_over = summary.left_over,
        "poll"
    );
    Ok(summary)
}

/// Rounds of visits, until nothing is due or no time is left for another.
async fn rounds(hub: &Hub, settings: &Settings, deadline: Instant, summary: &mut Summary) -> Result<(), TableError> {
    let pauses = Pauses::default();
    // What this run has seen. A task whose visit changed nothing is due again a minute later at the earliest, so seeing one
    // twice means that somebody else has it; it is left alone.
    let mut seen = BTreeSet::new();
    loop {
        let due = due_tasks(hub).await?;
        let fresh: Vec<_> = due.into_iter().filter(|(task, _)| seen.insert(task.to_string())).collect();
        if fresh.is_empty() {
            return Ok(());
        }
        summary.due += fresh.len();
        if !visit(hub, settings, fresh, deadline, &pauses, summary).await {
            return Ok(());
        }
    }
}

/// Providers that asked to be left alone in this run, and until when.
#[derive(Debug, Default)]
struct Pauses(Mutex<BTreeMap<Provider, Timestamp>>);

impl Pauses {
    fn until(&self, provider: Provider) -> Option<Timestamp> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&provider).copied()
    }

    fn pause(&self, provider: Provider, until: Timestamp) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(provider, until);
    }
}

/// The due tasks of all shards, the longest overdue first. One shard that cannot be read does not stop the others; when none
/// can, that is an error.
async fn due_tasks(hub: &Hub) -> Result<Vec<(TaskKey, Timestamp)>, TableError> {
    let at = now();
    let shards = stream::iter(0..DUE_SHARDS)
        .map(|shard| hub.table.due(shard, at, TASKS_PER_SHARD))
        .buffer_unordered(usize::from(DUE_SHARDS))
        .collect::<Vec<_>>()
        .await;
    let mut due = Vec::new();
    let mut first_error = None;
    let mut read = 0;
    for shard in shards {
        match shard {
            Ok(tasks) => {
                read += 1;
                due.extend(tasks);
            }
            Err(error) => {
                tracing::error!(%error, "a shard of the due index could not be read");
                first_error.get_or_insert(error);
            }
        }
    }
    match first_error {
        Some(error) if read == 0 => Err(error),
        _ => {
            due.sort_by_key(|(_, due_at)| *due_at);
            Ok(due)
        }
    }
}

/// Visits one round of due tasks. False when the time is up.
async fn visit(
    hub: &Hub,
    settings: &Settings,
    due: Vec<(TaskKey, Timestamp)>,
    deadline: Instant,
    pauses: &Pauses,
    summary: &mut Summary,
) -> bool {
    let mut left = due.into_iter();
    loop {
        let portion: Vec<_> = left.by_ref().take(QUESTIONS_AT_ONCE * 4).collect();
        if portion.is_empty() {
            return true;
        }
        if Instant::now() + RESERVE >= deadline {
            let left_over = portion.iter().chain(left.as_slice());
            let mut per_provider = BTreeMap::<Provider, u64>::new();
            for (task, _) in left_over {
                *per_provider.entry(task.provider()).or_default() += 1;
                summary.left_over += 1;
            }
            for (provider, tasks) in per_provider {
                count(Metric::PollLeftOver, provider, tasks);
            }
            return false;
        }
        let taken: Vec<Record> = stream::iter(portion)
            .map(|(task, due_at)| take(hub, task, due_at))
            .buffer_unordered(WRITES_AT_ONCE)
            .filter_map(|record| async { record })
            .collect()
            .await;
        let (open, reported): (Vec<_>, Vec<_>) =
            taken.into_iter().partition(|record| record.state == State::Pending && record.fallback.is_none());
        // What was reported, and what a callback hinted at: both are `process`'s to go on with.
        summary.queued += enqueue(hub, reported.iter().map(|record| Message::new(record.task.clone()))).await;
        ask(hub, settings, open, pauses, summary).await;
    }
}

async fn take(hub: &Hub, task: TaskKey, due_at: Timestamp) -> Option<Record> {
    let at = now();
    match hub.table.take(&task, due_at, at.plus(REQUEUE_AFTER), at).await {
        Ok(record) => record,
        Err(error) => {
            // It is still due, so the next run finds it.
            tracing::error!(%task, %error, "a due task could not be visited");
            None
        }
    }
}

/// Queues messages, ten per call. What is not taken is due again in a minute.
async fn enqueue(hub: &Hub, messages: impl Iterator<Item = Message>) -> usize {
    let messages: Vec<_> = messages.collect();
    stream::iter(messages.chunks(LARGEST_BATCH))
        .map(|batch| async move {
            match hub.queue.send_batch(batch).await {
                Ok(refused) => {
                    for task in &refused {
                        tracing::error!(%task, "the queue did not take a task; it is due again in a minute");
                        count(Metric::QueueFailed, task.provider(), 1);
                    }
                    batch.len() - refused.len()
                }
                Err(error) => {
                    tracing::error!(%error, tasks = batch.len(), "the queue took none of these tasks");
                    for message in batch {
                        count(Metric::QueueFailed, message.task.provider(), 1);
                    }
                    0
                }
            }
        })
        .buffer_unordered(WRITES_AT_ONCE)
        .fold(0, |sum, queued| async move { sum + queued })
        .await
}

/// What to do with an open task after it was asked after.
enum Next {
    /// Record and queue this.
    Report(Box<Accepted>),
    /// Look again at this time.
    Later(Timestamp),
}

/// Asks after open tasks, some of one provider at a time. What a question tells is written down as soon as it is told: a
/// provider that is slow holds up nothing but its own tasks.
async fn ask(hub: &Hub, settings: &Settings, open: Vec<Record>, pauses: &Pauses, summary: &mut Summary) {
    let mut per_provider = BTreeMap::<Provider, Vec<Record>>::new();
    for record in open {
        per_provider.entry(record.task.provider()).or_default().push(record);
    }
    let mut questions = Vec::new();
    for (provider, mut records) in per_provider {
        while !records.is_empty() {
            let rest = records.split_off(records.len().min(TASKS_PER_QUESTION));
            questions.push((provider, std::mem::replace(&mut records, rest)));
        }
    }
    let mut asked = stream::iter(questions)
        .map(|(provider, records)| ask_and_conclude(hub, settings, provider, records, pauses))
        .buffer_unordered(QUESTIONS_AT_ONCE);
    while let Some(done) = asked.next().await {
        summary.asked += done.asked;
        summary.rescued += done.rescued;
        summary.closed += done.closed;
        summary.queued += done.queued;
    }
}

async fn ask_and_conclude(
    hub: &Hub,
    settings: &Settings,
    provider: Provider,
    records: Vec<Record>,
    pauses: &Pauses,
) -> Summary {
    let visited = ask_one(hub, settings, provider, records, pauses).await;
    let asked = visited.iter().filter(|(_, _, asked)| *asked).count();
    let news: Vec<(Message, Reporter)> = stream::iter(visited)
        .map(|(record, next, _)| conclude(hub, record, next))
        .buffer_unordered(WRITES_AT_ONCE)
        .filter_map(|news| async { news })
        .collect()
        .await;
    let reported_by = |reporter: Reporter| news.iter().filter(|(_, by)| *by == reporter).count();
    let (closed, rescued) = (reported_by(Reporter::Deadline), reported_by(Reporter::Poll));
    let queued = enqueue(hub, news.into_iter().map(|(message, _)| message)).await;
    Summary { queued, asked, rescued, closed, ..Summary::default() }
}

/// Asks one provider after some tasks. With each task comes whether it was asked after.
async fn ask_one(
    hub: &Hub,
    settings: &Settings,
    provider: Provider,
    records: Vec<Record>,
    pauses: &Pauses,
) -> Vec<(Record, Next, bool)> {
    let own = settings.provider(provider);
    let pace = Pace::new(provider.adapter().profile(), &own.poll);
    if let Some(until) = pauses.until(provider) {
        let later = |record: &Record| Next::Later(record.deadline_at.map_or(until, |deadline| until.min(deadline)));
        return records
            .into_iter()
            .map(|record| (later(&record), record))
            .map(|(next, record)| (record, next, false))
            .collect();
    }
    let (askable, silent): (Vec<_>, Vec<_>) =
        records.into_iter().partition(|record| own.can_ask() && record.provider_task_id.is_some());
    let mut results: Vec<_> = silent
        .into_iter()
        .map(|record| {
            // Nobody to ask and nothing to ask after: only a callback can help, until the deadline.
            let next = match record.overdue(now()) {
                Some(lost) => Next::Report(Box::new(lost)),
                None => Next::Later(record.deadline_at.unwrap_or(now().plus(pace.longest))),
            };
            (record, next, false)
        })
        .collect();
    let tasks: Vec<PolledTask<'_>> = askable
        .iter()
        .filter_map(|record| {
            let provider_task_id = record.provider_task_id.as_deref()?;
            Some(PolledTask { provider_task_id, endpoint: record.endpoint.as_deref() })
        })
        .collect();
    let answers = hub.providers.ask_after(provider, &tasks, own, now()).await;
    for (record, asked) in askable.into_iter().zip(answers) {
        let next = decide(&record, asked.as_ref(), &pace, pauses);
        results.push((record, next, true));
    }
    results
}

/// What an answer means for an open task.
fn decide(record: &Record, asked: Option<&Asked>, pace: &Pace, pauses: &Pauses) -> Next {
    let task = &record.task;
    let provider = task.provider();
    let mut retry_after = None;
    match asked.map(|asked| &asked.answer) {
        Some(StatusAnswer::Task(Statement::Final(report))) => {
            let id = record.provider_task_id.clone().unwrap_or_default();
            let body = asked.map_or(&[][..], |asked| asked.body.body());
            // A pending task with a body has a callback that only hinted; this visit came before the worker that was queued.
            let by = if record.raw.is_empty() { Accepted::from_provider } else { Accepted::confirmed };
            return Next::Report(Box::new(by(task.clone(), id, report.clone(), body)));
        }
        Some(StatusAnswer::Task(Statement::Open(progress))) => {
            if let Some(word) = &progress.unknown_status {
                tracing::warn!(%task, word, "a status word of the provider is not known; the task counts as open");
                count(Metric::UnknownStatus, provider, 1);
            }
        }
        Some(StatusAnswer::NotFound) => tracing::warn!(%task, "the provider does not know this task"),
        Some(StatusAnswer::Refused { failure, retry_after: seconds }) => {
            let (reason, code) = (failure.reason.name(), failure.code.as_deref());
            tracing::warn!(%task, reason, code, retry_after_seconds = seconds, "the provider refused a status question");
            count(Metric::PollRefused, provider, 1);
            retry_after = *seconds;
            if failure.reason == Reason::RateLimited || seconds.is_some() {
                // Every further question of this run would be refused as well.
                let until = now().plus(i64::from(seconds.unwrap_or(0)).max(REQUEUE_AFTER));
                pauses.pause(provider, until);
            }
        }
        Some(StatusAnswer::Unreadable) => {
            tracing::error!(%task, "the provider's answer to a status question could not be read");
            count(Metric::PollRefused, provider, 1);
        }
        None => {
            count(Metric::PollRefused, provider, 1);
            // It does not answer; waiting for it again and again would use up the run.
            pauses.pause(provider, now().plus(REQUEUE_AFTER));
        }
    }
    if let Some(lost) = record.overdue(now()) {
        return Next::Report(Box::new(lost));
    }
    let next = now().plus(pace.next_gap(record.attempts, retry_after));
    // The deadline is a visit too.
    Next::Later(record.deadline_at.map_or(next, |deadline| next.min(deadline)))
}

/// Writes down what a visit found. The message to queue comes back, with what counts as having reported the task.
async fn conclude(hub: &Hub, record: Record, next: Next) -> Option<(Message, Reporter)> {
    let task = &record.task;
    match next {
        Next::Later(at) => {
            // Taking it has moved it a minute ahead already; an earlier time could not be kept by a schedule of a minute.
            if at > now().plus(REQUEUE_AFTER)
                && let Err(error) = hub.table.postpone(&record, at).await
            {
                tracing::warn!(%task, %error, "an open task could not be postponed; it is asked after sooner");
            }
            None
        }
        Next::Report(accepted) => {
            let lost = accepted.reporter() == Reporter::Deadline;
            let recorded = if lost {
                hub.table.give_up(&accepted, &record, now(), None).await
            } else {
                hub.table.report(&accepted, now(), None).await
            };
            match recorded {
                Ok(Recorded::New | Recorded::TookOver) => {
                    let outcome = accepted.report().outcome().name();
                    tracing::info!(%task, outcome, lost, "a visit found the task final");
                    if accepted.reporter() == Reporter::Poll {
                        count(Metric::PollRescued, task.provider(), 1);
                    }
                    Some((Message::new(task.clone()), accepted.reporter()))
                }
                // A callback was faster by a moment; it has queued the task.
                Ok(Recorded::Duplicate | Recorded::Contradicting) => None,
                Ok(Recorded::OtherTask) => {
                    tracing::error!(%task, "the record changed its provider task id between two reads");
                    None
                }
                Err(error) => {
                    // Due again in a minute.
                    tracing::error!(%task, %error, "a report could not be recorded");
                    None
                }
            }
        }
    }
}
