//! Confirms what a callback hinted at with a status poll, and does what [`reelhook_core::status_poll`] makes of it.

use reelhook_aws::clock;
use reelhook_aws::metrics::count;
use reelhook_aws::provider_client::{PollLimits, ProviderClient};
use reelhook_aws::queue::Queue;
use reelhook_aws::table::{Fenced, Recorded, Table, TableError};
use reelhook_core::callback::Reporter;
use reelhook_core::metric::Metric;
use reelhook_core::record::Record;
use reelhook_core::settings::ProviderSettings;
use reelhook_core::status_poll::{self, Step, Terms};
use reelhook_core::transition::leases::is_still_held;

/// Polls a pending task that this worker holds. Returns the task as it is to be carried out or confirmed again; none when it
/// was given back, removed, or is somebody else's.
pub(crate) async fn confirm(
    table: &Table,
    queue: &Queue,
    providers: &ProviderClient,
    own: &ProviderSettings,
    record: &Record,
) -> Result<Option<Box<Record>>, TableError> {
    let task = &record.task;
    let provider = task.provider();
    let polled = providers.poll_task(record, own, PollLimits::ONE_TASK, clock::now()).await;
    let now = clock::now();
    let decision = status_poll::decide(record, &polled.result, &Terms::of(provider, own), now);
    if let Some(metric) = polled.result.metric() {
        count(metric, provider, 1);
    }
    if decision.refuted {
        tracing::warn!(%task, "the provider refutes what a callback hinted at");
        count(Metric::HintRefuted, provider, 1);
    }
    tracing::info!(%task, result = polled.result.name(), detail = polled.result.detail(), step = decision.step.name(), "status poll");
    if let Some(accepted) = status_poll::accepted(record, &decision.step, &polled.raw) {
        if matches!(decision.step, Step::ActOnFallback(_)) {
            tracing::warn!(%task, "the provider could not be polled; its callback is acted on unconfirmed");
            count(Metric::FallbackUsed, provider, 1);
        }
        let recorded = if accepted.reporter() == Reporter::Deadline {
            table.close(&accepted, record, now).await?
        } else {
            table.report(&accepted, Some(record), now).await?
        };
        return Ok(match recorded {
            // Ours, or a callback was faster by a moment. If another worker has claimed the task meanwhile, it continues.
            Recorded::New(held) | Recorded::Duplicate(held) | Recorded::Contradicting(held) => {
                Some(held).filter(|held| is_still_held(record, held))
            }
            // Our success replaced a failure that was reported meanwhile, and took the task from whoever holds it: us too.
            Recorded::TookOver(_) => {
                count(Metric::SuccessAfterFailure, provider, 1);
                queue.send(task).await;
                None
            }
            Recorded::OtherTask => None,
        });
    }
    let fenced = match &decision.step {
        Step::Restore => table.restore(record).await?,
        Step::Remove => table.remove(record).await?,
        Step::Wait { due_at, hint } => match table.release_open(record, *due_at, hint.as_ref()).await? {
            Fenced::Done(_) => return Ok(None),
            other => other,
        },
        Step::Report(_) | Step::ActOnFallback(_) | Step::Close(_) => return Ok(None),
    };
    Ok(match fenced {
        Fenced::Done(record) => record,
        Fenced::Revised(held) => Some(held),
        Fenced::TakenOver => None,
    })
}
