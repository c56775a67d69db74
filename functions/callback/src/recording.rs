//! Records what an authentic callback says, in one conditional write where the URL is the task's own.

use reelhook_aws::metrics::count;
use reelhook_aws::table::{Noted, Recorded, Table, TableError};
use reelhook_core::callback::{Accepted, Event, Hint, Kept, Open};
use reelhook_core::metric::Metric;
use reelhook_core::poll_schedule::PollSchedule;
use reelhook_core::providers::adapter::HintReason;
use reelhook_core::record::REQUEUE_AFTER;
use reelhook_core::settings::Settings;
use reelhook_core::{Provider, TaskKey, Timestamp};

/// What is left to do for a callback that was recorded.
pub(crate) enum AfterRecord {
    /// Nothing.
    Done,
    /// Queue this, to be fast. If that fails, the record is due again by itself.
    Queue(TaskKey),
}

/// What one write came to.
enum Attempt {
    Recorded(AfterRecord),
    /// The record of the URL belongs to another task of the provider.
    OtherTask,
}

/// Records an event. Where its URL belongs to another task of the provider, what remains of it is recorded under its own.
pub(crate) async fn record(
    table: &Table,
    settings: &Settings,
    provider: Provider,
    event: Event,
    now: Timestamp,
) -> Result<AfterRecord, TableError> {
    let own = settings.provider(provider);
    let schedule = PollSchedule::new(provider.adapter().profile(), &own.poll);
    let mut event = event;
    // At most three rounds: as it came, under its own id, and kept.
    loop {
        let attempt = match &event {
            Event::Handshake(_) => return Ok(AfterRecord::Done),
            Event::Report(accepted) => report(table, accepted, now).await?,
            Event::Hint(hint) => note_hint(table, hint, now, now + schedule.deadline).await?,
            Event::Open(open) => note_open(table, open, &schedule, now).await?,
            Event::Keep(kept) => return keep(table, kept, now).await,
            Event::Ignored { reason, .. } => return Ok(ignored(provider, reason)),
        };
        match attempt {
            Attempt::Recorded(after) => return Ok(after),
            Attempt::OtherTask => {
                count(Metric::ForeignUrl, provider, 1);
                tracing::warn!(%provider, "a callback came through the URL of another task");
                event = event.of_other_task(provider.is_pollable(own));
            }
        }
    }
}

async fn report(table: &Table, accepted: &Accepted, now: Timestamp) -> Result<Attempt, TableError> {
    let task = accepted.key();
    let (metric, after) = match table.report(accepted, now, now + REQUEUE_AFTER).await? {
        Recorded::New(_) => (Metric::CallbackAccepted, AfterRecord::Queue(task.clone())),
        Recorded::TookOver(_) => (Metric::SuccessAfterFailure, AfterRecord::Queue(task.clone())),
        Recorded::Duplicate(_) => (Metric::CallbackDuplicate, AfterRecord::Done),
        Recorded::Contradicting => (Metric::CallbackContradicting, AfterRecord::Done),
        Recorded::OtherTask => return Ok(Attempt::OtherTask),
    };
    tracing::info!(%task, outcome = accepted.report().outcome().name(), result = metric.name(), "callback");
    count(metric, task.provider(), 1);
    Ok(Attempt::Recorded(after))
}

async fn note_hint(table: &Table, hint: &Hint, now: Timestamp, deadline_at: Timestamp) -> Result<Attempt, TableError> {
    let task = &hint.key;
    let noted = table.note_hint(hint, now, deadline_at).await?;
    if hint.reason == HintReason::Unreadable {
        tracing::error!(%task, "an authentic callback could not be read; its body is kept in the record");
        count(Metric::CallbackUnreadable, task.provider(), 1);
    }
    let (metric, after) = match noted {
        Noted::Recorded | Noted::Reopened => (Metric::CallbackAccepted, AfterRecord::Queue(task.clone())),
        Noted::Known => (Metric::CallbackDuplicate, AfterRecord::Done),
        Noted::OtherTask => return Ok(Attempt::OtherTask),
    };
    let reopened = matches!(noted, Noted::Reopened);
    tracing::info!(%task, hint = hint.reason.name(), reopened, result = metric.name(), "callback");
    count(metric, task.provider(), 1);
    Ok(Attempt::Recorded(after))
}

async fn note_open(table: &Table, open: &Open, schedule: &PollSchedule, now: Timestamp) -> Result<Attempt, TableError> {
    let task = &open.key;
    if let Some(status_word) = &open.progress.unknown_status {
        tracing::warn!(%task, status_word, "a status word of the provider is not known; the task counts as open");
        count(Metric::UnknownStatus, task.provider(), 1);
    }
    let noted = table.note_open(open, now, now + schedule.first, now + schedule.deadline).await?;
    if matches!(noted, Noted::OtherTask) {
        return Ok(Attempt::OtherTask);
    }
    let is_new = matches!(noted, Noted::Recorded);
    tracing::info!(%task, percent = open.progress.percent, is_new, "the task is open");
    Ok(Attempt::Recorded(AfterRecord::Done))
}

async fn keep(table: &Table, kept: &Kept, now: Timestamp) -> Result<AfterRecord, TableError> {
    table.keep(kept, now).await?;
    tracing::error!(kept_as = %kept.key, "an authentic callback is about no task we can tell; its body is kept");
    count(Metric::CallbackKept, kept.key.provider(), 1);
    Ok(AfterRecord::Done)
}

fn ignored(provider: Provider, reason: &'static str) -> AfterRecord {
    tracing::warn!(%provider, reason, "a callback was ignored");
    AfterRecord::Done
}
