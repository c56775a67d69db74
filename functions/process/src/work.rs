//! The work on one task, from a claim to a settled record.

use reelhook_aws::bucket::Announced;
use reelhook_aws::settings::SettingsError;
use reelhook_aws::table::{Claimed, Recorded, Released, Settled, TableError};
use reelhook_aws::telemetry::{Metric, count, now};
use reelhook_core::callback::{Accepted, Reporter};
use reelhook_core::message::{InvalidMessage, Message};
use reelhook_core::providers::{PolledTask, StatusAnswer};
use reelhook_core::record::{LEASE, REQUEUE_AFTER, Record, State};
use reelhook_core::report::{Outcome, Report, Statement};
use reelhook_core::result::{MissingArtifact, Parts, ResultDocument, StoredArtifact};
use reelhook_core::schedule::{Pace, next_copy_attempt};
use reelhook_core::settings::Settings;
use reelhook_core::{TaskKey, Timestamp};
use tokio::time::Instant;

use crate::Hub;
use crate::copying::{self, Copied};
use crate::lease::Lease;

/// Questions that may go without a useful answer before a report is acted on that nothing but the URL's token vouches for.
/// With the usual pace that is some minutes; chosen freely.
const QUESTIONS_BEFORE_FALLBACK: u32 = 5;

/// How near the end of a link may come before such a report is acted on at once, in seconds: time for two more tries.
const FALLBACK_BEFORE_EXPIRY: i64 = 600;

/// Why a message is delivered again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkError {
    /// Not a message of ours. No retry heals it; it ends in the dead-letter queue, where somebody sees it.
    #[error(transparent)]
    Message(#[from] InvalidMessage),
    /// Without settings nothing can be asked or decided.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Without the table nothing can be claimed.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A hint said that a failed task succeeded, and the provider has not told yet. The message is all there is of the hint.
    #[error("{0} may have succeeded after all, and the provider could not be asked yet")]
    NotAskedYet(TaskKey),
}

pub(crate) async fn on_message(hub: &Hub, body: &str, deadline: Instant) -> Result<(), WorkError> {
    let message = Message::parse(body)?;
    let settings = hub.settings.get().await?;
    let task = &message.task;
    match hub.table.claim(task, now(), now().plus(LEASE)).await? {
        Claimed::Ours(record) => {
            let mut lease = Lease::keep(&hub.table, &record);
            tokio::select! {
                biased;
                worked = on_task(hub, &settings, *record, deadline) => worked?,
                () = lease.taken_over() => {
                    tracing::warn!(%task, "another worker has taken the task over; this one leaves it alone");
                }
            }
            // The failure that was held when the hint came is settled now, or on its way; the hint is still to be followed.
            if message.ask
                && let Some(record) = hub.table.get(task).await?
            {
                ask_again(hub, &settings, &record).await?;
            }
        }
        Claimed::Held if message.ask => return Err(WorkError::NotAskedYet(task.clone())),
        Claimed::Held => tracing::info!(%task, "somebody else is at it"),
        Claimed::Final(record) if message.ask => ask_again(hub, &settings, &record).await?,
        Claimed::Final(_) => tracing::info!(%task, "it is done"),
        Claimed::Unknown => tracing::warn!(%task, "there is no such task"),
    }
    Ok(())
}

async fn on_task(hub: &Hub, settings: &Settings, record: Record, deadline: Instant) -> Result<(), TableError> {
    let mut record = record;
    while record.state == State::Pending {
        match ask(hub, settings, &record).await? {
            Some(reported) => record = reported,
            None => return Ok(()),
        }
    }
    act(hub, settings, record, deadline).await
}

/// Asks the provider after a task of which only a hint is known. Gives back the task as reported, or none when it was given
/// back: still open, not to be asked at the moment, or somebody else's.
async fn ask(hub: &Hub, settings: &Settings, record: &Record) -> Result<Option<Record>, TableError> {
    let task = &record.task;
    let provider = task.provider();
    let own = settings.provider(provider);
    let mut retry_after = None;
    let mut answered = false;
    let fallback_expires = record.fallback.as_ref().and_then(|fallback| fallback.report.nearest_expiry());
    if let (true, Some(id)) = (own.can_ask(), &record.provider_task_id) {
        let polled = PolledTask { provider_task_id: id, endpoint: record.endpoint.as_deref() };
        let asked = hub.providers.ask_after(provider, &[polled], own, now()).await.into_iter().flatten().next();
        match asked {
            None => tracing::warn!(%task, "the provider could not be asked"),
            Some(asked) => match asked.answer {
                StatusAnswer::Task(Statement::Final(report)) => {
                    let accepted = Accepted::confirmed(task.clone(), id.clone(), report, asked.body.body());
                    return record_report(hub, record, &accepted).await;
                }
                StatusAnswer::Task(Statement::Open(_)) => answered = true,
                StatusAnswer::NotFound => tracing::warn!(%task, "the provider does not know this task"),
                StatusAnswer::Refused { failure, retry_after: seconds } => {
                    retry_after = seconds;
                    let (reason, code) = (failure.reason.name(), failure.code.as_deref());
                    tracing::warn!(%task, reason, code, "the provider refused a status question");
                    count(Metric::PollRefused, provider, 1);
                }
                StatusAnswer::Unreadable => {
                    tracing::error!(%task, "the provider's answer to a status question could not be read");
                    count(Metric::PollRefused, provider, 1);
                }
            },
        }
    }
    if let Some(fallback) = record.fallback.as_ref().filter(|_| !answered) {
        let dies_soon = fallback_expires.is_some_and(|end| end.since(now()) < FALLBACK_BEFORE_EXPIRY);
        if !own.can_ask() || dies_soon || record.attempts >= QUESTIONS_BEFORE_FALLBACK {
            tracing::warn!(%task, attempts = record.attempts, "the provider cannot be asked; its callback is acted on unconfirmed");
            let accepted = Accepted::from_fallback(task.clone(), fallback.clone());
            return record_report(hub, record, &accepted).await;
        }
    }
    if let Some(lost) = record.overdue(now()) {
        return record_report(hub, record, &lost).await;
    }
    let pace = Pace::new(provider.adapter().profile(), &own.poll);
    let deadline = record.deadline_at.unwrap_or(now().plus(pace.longest));
    let next = if record.provider_task_id.is_some() && own.can_ask() {
        // In time for the deadline, and for acting on the callback while its links live.
        let gap = now().plus(pace.next_gap(record.attempts, retry_after)).min(deadline);
        fallback_expires.map_or(gap, |end| gap.min(end.plus(-FALLBACK_BEFORE_EXPIRY).max(now().plus(1))))
    } else {
        // Nobody to ask: only another callback helps, until the deadline.
        deadline
    };
    match hub.table.release(record, next, None, None).await? {
        Released::Free => {
            tracing::info!(%task, due_at = %next, "the task is open");
            Ok(None)
        }
        Released::NewsCame(held) => Ok(Some(*held)),
        Released::TakenOver => Ok(None),
    }
}

/// Records what the provider said about a task that this worker holds, and goes on with whatever is held now.
async fn record_report(hub: &Hub, record: &Record, accepted: &Accepted) -> Result<Option<Record>, TableError> {
    let task = &record.task;
    let lease_ends = record.claimed_until.unwrap_or(now().plus(REQUEUE_AFTER));
    let recorded = if accepted.reporter() == Reporter::Deadline {
        hub.table.give_up(accepted, record, now(), Some(lease_ends)).await?
    } else {
        hub.table.report(accepted, now(), Some(lease_ends)).await?
    };
    match recorded {
        Recorded::New => Ok(Some(Record {
            state: State::Reported,
            report: Some(accepted.report().clone()),
            reported_by: Some(accepted.reporter()),
            raw: accepted.raw().clone(),
            reported_at: Some(now()),
            fallback: None,
            attempts: 1,
            ..record.clone()
        })),
        // A callback was faster by a moment, or this success has just taken the task over from it.
        recorded => {
            let held = hub.table.get(task).await?;
            let held = held.filter(|held| held.claim == record.claim && !held.state.is_final());
            if held.is_none() && matches!(recorded, Recorded::TookOver) {
                enqueue(hub, record).await;
            }
            Ok(held)
        }
    }
}

/// A hint said that a task with a final failure succeeded after all. There is nothing to claim: if the provider confirms it,
/// the report takes the task over and is queued like any other.
///
/// Whatever keeps the provider from saying so now, the message comes again.
async fn ask_again(hub: &Hub, settings: &Settings, record: &Record) -> Result<(), WorkError> {
    let task = &record.task;
    if record.outcome() == Some(Outcome::Succeeded) {
        return Ok(());
    }
    let own = settings.provider(task.provider());
    let Some(id) = record.provider_task_id.as_deref().filter(|_| own.can_ask()) else {
        tracing::warn!(%task, "a hint says that the task succeeded after all, and nobody can be asked");
        return Ok(());
    };
    let polled = PolledTask { provider_task_id: id, endpoint: record.endpoint.as_deref() };
    let asked = hub.providers.ask_after(task.provider(), &[polled], own, now()).await.into_iter().flatten().next();
    if let Some(asked) = asked
        && let StatusAnswer::Task(Statement::Final(report)) = asked.answer
    {
        let accepted = Accepted::confirmed(task.clone(), id.to_owned(), report, asked.body.body());
        if matches!(hub.table.report(&accepted, now(), None).await?, Recorded::TookOver) {
            count(Metric::SuccessAfterFailure, task.provider(), 1);
            enqueue(hub, record).await;
        }
        return Ok(());
    }
    Err(WorkError::NotAskedYet(task.clone()))
}

/// Carries a report out: copies, announces, settles.
async fn act(hub: &Hub, settings: &Settings, record: Record, deadline: Instant) -> Result<(), TableError> {
    let Some(report) = record.report.clone() else {
        tracing::error!(task = %record.task, "the task is reported and holds no report");
        return Ok(());
    };
    if let Report::Failed(_) | Report::Lost(_) = &report {
        return announce_and_settle(hub, &record, report, vec![], vec![]).await;
    }
    match copying::copy(hub, settings, &record, deadline).await {
        Copied::All { stored, missing } => announce_and_settle(hub, &record, report, stored, missing).await,
        Copied::Lost { failure, stored, missing } => {
            tracing::error!(task = %record.task, reason = failure.message, "the result is lost");
            announce_and_settle(hub, &record, Report::Lost(failure), stored, missing).await
        }
        Copied::Later { at, upload, trouble } => {
            count(Metric::CopyRetried, record.task.provider(), 1);
            hub.table.release(&record, at, upload.as_deref(), Some(&trouble)).await.map(drop)
        }
        Copied::OutOfTime { upload } => {
            tracing::info!(task = %record.task, "the copy goes on in another invocation");
            let released = hub.table.release(&record, now().plus(REQUEUE_AFTER), upload.as_deref(), None).await?;
            if matches!(released, Released::Free) {
                enqueue(hub, &record).await;
            }
            Ok(())
        }
    }
}

/// `result.json`, then the record. In this order: a worker that dies in between leaves a record that is visited again, and
/// the second announcement finds the first one standing.
async fn announce_and_settle(
    hub: &Hub,
    record: &Record,
    report: Report,
    stored: Vec<StoredArtifact>,
    missing: Vec<MissingArtifact>,
) -> Result<(), TableError> {
    let task = &record.task;
    let document = ResultDocument::new(Parts {
        task,
        provider_task_id: record.provider_task_id.as_deref(),
        report: &report,
        artifacts: stored.clone(),
        missing,
        reported_by: record.reported_by.unwrap_or(Reporter::Callback),
        raw: &record.raw,
        submitted_at: record.submitted_at,
        reported_at: record.reported_at,
        finished_at: now(),
    });
    let announced = match hub.bucket.announce(task, report.outcome(), &document).await {
        Ok(announced) => announced,
        Err(error) => {
            let at = next_copy_attempt(now(), record.attempts, None);
            tracing::error!(%task, %error, next_attempt_at = %at, "the result could not be announced");
            return hub.table.release(record, at, None, Some(&error.to_string())).await.map(drop);
        }
    };
    match hub.table.settle(record, &report, &stored, now()).await? {
        Settled::Final => {
            let outcome = report.outcome();
            let metric = match outcome {
                Outcome::Succeeded => Metric::TaskArchived,
                Outcome::Failed => Metric::TaskFailed,
                Outcome::Lost => Metric::TaskLost,
            };
            count(metric, task.provider(), 1);
            let seconds = record.reported_at.map(|at: Timestamp| now().since(at));
            let first = announced == Announced::Written;
            let (outcome, artifacts) = (outcome.name(), stored.len());
            tracing::info!(%task, outcome, artifacts, seconds_since_report = seconds, first, "settled");
        }
        Settled::TakenOver => tracing::warn!(%task, "another worker has taken the task over before it was settled"),
    }
    Ok(())
}

/// Queues the task. If that fails, it is due again in a minute all the same.
async fn enqueue(hub: &Hub, record: &Record) {
    if let Err(error) = hub.queue.send(&Message::new(record.task.clone())).await {
        tracing::error!(task = %record.task, %error, "the task is recorded and was not queued");
        count(Metric::QueueFailed, record.task.provider(), 1);
    }
}
