//! Records what an authentic callback says, in one conditional write where the URL is the task's own.

use reelhook_aws::metrics::count;
use reelhook_aws::table::{Noted, Owned, Recorded, Table, TableError};
use reelhook_core::callback::{Accepted, Event, Hint, Kept, Open};
use reelhook_core::metric::Metric;
use reelhook_core::poll_schedule::PollSchedule;
use reelhook_core::providers::adapter::HintReason;
use reelhook_core::record::Record;
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
    /// It is recorded. The record is there where it is new or has news.
    Recorded(AfterRecord, Option<Box<Record>>),
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
    let mut is_owners = false;
    // At most a few rounds: as it came, about the task that the provider task belongs to, under its own id, and kept.
    loop {
        // Once: a record that contradicts its ownership is not followed in a circle.
        if !is_owners && let Some(owner) = owner(table, &event, now).await? {
            event = event.about(owner);
            is_owners = true;
        }
        let attempt = match &event {
            Event::Handshake(_) => return Ok(AfterRecord::Done),
            Event::Report(accepted) => report(table, accepted, now).await?,
            Event::Hint(hint) => note_hint(table, hint, now, now + schedule.deadline).await?,
            Event::Open(open) => note_open(table, open, &schedule, now).await?,
            Event::Keep(kept) => return keep(table, kept, now).await,
            Event::Ignored { reason, .. } => return Ok(ignored(provider, reason)),
        };
        match attempt {
            Attempt::Recorded(after, record) => {
                if !gave_way(table, record.as_deref(), now).await? {
                    return Ok(after);
                }
                event = event.of_other_task(provider.is_pollable(own));
            }
            Attempt::OtherTask => {
                count(Metric::ForeignUrl, provider, 1);
                tracing::warn!(%provider, "a callback came through the URL of another task");
                event = event.of_other_task(provider.is_pollable(own));
            }
        }
    }
}

/// The task that registered the provider task of an event which came without a task's own URL, if one did.
async fn owner(table: &Table, event: &Event, now: Timestamp) -> Result<Option<TaskKey>, TableError> {
    let Some((key, id)) = event.subject().filter(|(key, id)| key.is_named_after(id)) else { return Ok(None) };
    match table.own(key, id, now).await? {
        Owned::Ours => Ok(None),
        Owned::Theirs { owner, .. } => Ok(Some(owner)),
    }
}

/// A task that only its own callbacks made known claims its provider task, so that it is not recorded under another key as
/// well. If another task has claimed it before, the record that was just written gives way again, and the event is still to
/// be recorded: it came through the URL of another task. The response waits for that, so a crash in between loses nothing.
///
/// After the write: for a registered task, which has claimed it before, this would be one write too many.
async fn gave_way(table: &Table, record: Option<&Record>, now: Timestamp) -> Result<bool, TableError> {
    let Some(record) = record.filter(|record| record.registered_at.is_none()) else { return Ok(false) };
    let Some(id) = record.provider_task_id.as_deref().filter(|id| !record.task.is_named_after(id)) else {
        return Ok(false);
    };
    let Owned::Theirs { owner, .. } = table.own(&record.task, id, now).await? else { return Ok(false) };
    let displaced = table.displace(record, &owner, id, now).await?;
    tracing::warn!(task = %record.task, known_as = %owner, displaced, "a provider task is known under another key");
    Ok(displaced)
}

async fn report(table: &Table, accepted: &Accepted, now: Timestamp) -> Result<Attempt, TableError> {
    let task = accepted.key();
    let (metric, after, record) = match table.report(accepted, None, now).await? {
        Recorded::New(record) => (Metric::CallbackAccepted, AfterRecord::Queue(task.clone()), Some(record)),
        Recorded::TookOver(_) => (Metric::SuccessAfterFailure, AfterRecord::Queue(task.clone()), None),
        Recorded::Duplicate(_) => (Metric::CallbackDuplicate, AfterRecord::Done, None),
        Recorded::Contradicting(_) => (Metric::CallbackContradicting, AfterRecord::Done, None),
        Recorded::OtherTask => return Ok(Attempt::OtherTask),
    };
    tracing::info!(%task, outcome = accepted.report().outcome().name(), result = metric.name(), "callback");
    count(metric, task.provider(), 1);
    Ok(Attempt::Recorded(after, record))
}

async fn note_hint(table: &Table, hint: &Hint, now: Timestamp, deadline_at: Timestamp) -> Result<Attempt, TableError> {
    let task = &hint.key;
    let noted = table.note_hint(hint, now, deadline_at).await?;
    if hint.reason == HintReason::Unreadable {
        tracing::error!(%task, "an authentic callback could not be read; its body is kept in the record");
        count(Metric::CallbackUnreadable, task.provider(), 1);
    }
    let reopened = matches!(noted, Noted::Reopened);
    let (metric, after, record) = match noted {
        Noted::Recorded(record) => (Metric::CallbackAccepted, AfterRecord::Queue(task.clone()), Some(record)),
        Noted::Reopened => (Metric::CallbackAccepted, AfterRecord::Queue(task.clone()), None),
        Noted::Known => (Metric::CallbackDuplicate, AfterRecord::Done, None),
        Noted::OtherTask => return Ok(Attempt::OtherTask),
    };
    tracing::info!(%task, hint = hint.reason.name(), reopened, result = metric.name(), "callback");
    count(metric, task.provider(), 1);
    Ok(Attempt::Recorded(after, record))
}

async fn note_open(table: &Table, open: &Open, schedule: &PollSchedule, now: Timestamp) -> Result<Attempt, TableError> {
    let task = &open.key;
    if let Some(status_word) = &open.progress.unknown_status {
        tracing::warn!(%task, status_word, "a status word of the provider is not known; the task counts as open");
        count(Metric::UnknownStatus, task.provider(), 1);
    }
    let record = match table.note_open(open, now, now + schedule.first, now + schedule.deadline).await? {
        Noted::OtherTask => return Ok(Attempt::OtherTask),
        Noted::Recorded(record) => Some(record),
        Noted::Reopened | Noted::Known => None,
    };
    tracing::info!(%task, percent = open.progress.percent, is_new = record.is_some(), "the task is open");
    Ok(Attempt::Recorded(AfterRecord::Done, record))
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
