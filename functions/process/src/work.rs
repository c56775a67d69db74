//! The work on one task, from a claim to a settled record.

use reelhook_aws::clock;
use reelhook_aws::settings::SettingsError;
use reelhook_aws::table::{Claimed, Fenced, TableError};
use reelhook_core::message::{InvalidMessage, Message};
use reelhook_core::metric::Metric;
use reelhook_core::record::{LEASE_DURATION, REQUEUE_AFTER, Record, State};
use reelhook_core::report::{Failure, Report};
use reelhook_core::settings::Settings;
use reelhook_core::transfer::outcome::CopyOutcome;
use tokio::time::Instant;

use crate::App;
use crate::confirmation;
use crate::copying::{self, CopyContext};
use crate::lease::Lease;
use crate::publishing::Publisher;

/// Why a message is delivered again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkError {
    /// Not a message of ours. No retry heals it; it ends in the dead-letter queue, where somebody sees it.
    #[error(transparent)]
    Message(#[from] InvalidMessage),
    /// Without settings nothing can be decided.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Without the table nothing can be claimed.
    #[error(transparent)]
    Table(#[from] TableError),
}

pub(crate) async fn on_message(app: &App, body: &str, deadline: Instant) -> Result<(), WorkError> {
    let message = Message::parse(body)?;
    let settings = app.settings.get().await?;
    let task = &message.task;
    let now = clock::now();
    match app.table.claim(task, now, now + LEASE_DURATION).await? {
        Claimed::Ours(record) => {
            tracing::info!(%task, attempts = record.attempts, fencing_token = record.fencing_token, "claimed");
            let mut lease = Lease::keep(&app.table, &record);
            tokio::select! {
                biased;
                worked = on_task(app, &settings, *record, deadline) => worked?,
                () = lease.taken_over() => {
                    tracing::warn!(%task, "another worker has taken the task over; this one leaves it alone");
                }
            }
        }
        Claimed::Held => tracing::info!(%task, "another worker holds the task"),
        Claimed::Final => tracing::info!(%task, "the task is final"),
        Claimed::Unknown => tracing::warn!(%task, "there is no such task"),
    }
    Ok(())
}

async fn on_task(app: &App, settings: &Settings, record: Record, deadline: Instant) -> Result<(), TableError> {
    let mut record = record;
    let own = settings.provider(record.task.provider());
    while record.state == State::Pending {
        // A task that is hinted at over and over is left to a later message.
        if Instant::now() >= deadline {
            return Ok(());
        }
        match confirmation::confirm(&app.table, &app.queue, &app.providers, own, &record).await? {
            Some(next) => record = *next,
            None => return Ok(()),
        }
    }
    act_on_report(app, settings, record, deadline).await
}

/// Acts on a report: copies, publishes, settles.
async fn act_on_report(app: &App, settings: &Settings, record: Record, deadline: Instant) -> Result<(), TableError> {
    let task = &record.task;
    let publisher = Publisher { table: &app.table, bucket: &app.bucket, record: &record };
    let (report, artifacts) = match &record.report {
        Some(report @ Report::Succeeded { artifacts, .. }) => (report, artifacts),
        Some(failed) => return publisher.publish_and_settle(failed, vec![], vec![]).await,
        None => {
            tracing::error!(%task, "the task is reported and holds no report");
            return Ok(());
        }
    };
    let own = settings.provider(task.provider());
    let context =
        CopyContext { copier: &app.copier, providers: &app.providers, settings: own, record: &record, deadline };
    match copying::copy(context, artifacts).await {
        CopyOutcome::Complete { stored, missing } => publisher.publish_and_settle(report, stored, missing).await,
        CopyOutcome::Lost { failure, stored, missing } => {
            tracing::error!(%task, reason = failure.message, "the result is lost");
            // It was paid for all the same.
            let failure = Failure { usage: report.usage().cloned().map(Box::new), ..failure };
            publisher.publish_and_settle(&Report::Lost(failure), stored, missing).await
        }
        CopyOutcome::Retry { at, checkpoints, last_error } => {
            reelhook_aws::metrics::count(Metric::CopyRetried, task.provider(), 1);
            app.table.release_unfinished(&record, at, Some(&checkpoints), Some(&last_error)).await.map(drop)
        }
        CopyOutcome::OutOfTime { checkpoints } => {
            tracing::info!(%task, "the copy resumes in another invocation");
            let due_at = clock::now() + REQUEUE_AFTER;
            let released = app.table.release_unfinished(&record, due_at, Some(&checkpoints), None).await?;
            if matches!(released, Fenced::Done(_)) {
                app.queue.send(task).await;
            }
            Ok(())
        }
    }
}
