//! `result.json`, then the record.

use reelhook_aws::bucket::{Bucket, Published};
use reelhook_aws::clock;
use reelhook_aws::metrics::{count, measure};
use reelhook_aws::table::{Fenced, Table, TableError};
use reelhook_core::backoff::seed_of;
use reelhook_core::callback::Reporter;
use reelhook_core::metric::Metric;
use reelhook_core::record::Record;
use reelhook_core::report::{Outcome, Report};
use reelhook_core::result::{MissingArtifact, Parts, ResultDocument, StoredArtifact};
use reelhook_core::transfer::retry::next_copy_attempt;

/// What publishing a task's result takes.
#[derive(Clone, Copy)]
pub(crate) struct Publisher<'a> {
    pub(crate) table: &'a Table,
    pub(crate) bucket: &'a Bucket,
    pub(crate) record: &'a Record,
}

impl Publisher<'_> {
    /// Publishes the result and settles the record. In this order: a worker that dies in between leaves a record that is
    /// found again, and the second publication finds the first one existing.
    pub(crate) async fn publish_and_settle(
        self,
        report: &Report,
        stored: Vec<StoredArtifact>,
        missing: Vec<MissingArtifact>,
    ) -> Result<(), TableError> {
        let Self { table, bucket, record } = self;
        let task = &record.task;
        let finished_at = clock::now();
        let document = ResultDocument::new(Parts {
            task,
            provider_task_id: record.provider_task_id.as_deref(),
            report,
            artifacts: stored.clone(),
            missing,
            annotations: &record.annotations,
            reported_by: record.reported_by.unwrap_or(Reporter::Callback),
            raw: &record.raw,
            submitted_at: record.submitted_at,
            reported_at: record.reported_at,
            finished_at,
        });
        let outcome = report.outcome();
        let published = match bucket.publish(task, outcome, &document).await {
            Ok(published) => published,
            Err(error) => {
                let at = next_copy_attempt(finished_at, record.attempts, None, seed_of(task.id()));
                tracing::error!(%task, %error, next_attempt_at = %at, "the result could not be published");
                return table.release_unfinished(record, at, None, Some(&error.to_string())).await.map(drop);
            }
        };
        let is_first = published == Published::Written;
        let (outcome, report, stored) = match (published, &record.report) {
            // A worker before us published the success and died before it was settled; by now its files cannot be had again.
            (Published::Before(standing), Some(held))
                if outcome.settled_beside(Some(standing.outcome)) == held.outcome() =>
            {
                (held.outcome(), held, standing.artifacts)
            }
            _ => (outcome, report, stored),
        };
        match table.settle(record, report, &stored, finished_at).await? {
            Fenced::Done(_) => {
                let metric = match outcome {
                    Outcome::Succeeded => Metric::TaskArchived,
                    Outcome::Failed => Metric::TaskFailed,
                    Outcome::Lost => Metric::TaskLost,
                };
                let seconds = record.reported_at.map(|reported_at| finished_at.since(reported_at).as_secs());
                if is_first {
                    count(metric, task.provider(), 1);
                    let mut figures = vec![(Metric::SecondsToSave, seconds.unwrap_or(0))];
                    if task.provider().calls_back_about(outcome) {
                        let is_rescue =
                            record.reported_by.is_some_and(|reporter| reporter.is_rescue(task.provider(), outcome));
                        figures.push((Metric::FoundByPolling, if is_rescue { 100 } else { 0 }));
                    }
                    measure(&figures);
                }
                let (outcome, artifacts) = (outcome.name(), stored.len());
                tracing::info!(%task, outcome, artifacts, seconds_since_report = seconds, is_first, "settled");
            }
            Fenced::Revised(_) | Fenced::TakenOver => {
                tracing::warn!(%task, "another worker has taken the task over before it was settled");
            }
        }
        Ok(())
    }
}
