//! Acts on what was reported: confirms hints with the provider, copies the artifacts into the bucket, writes `result.json`,
//! settles the record. What anything means is decided in `reelhook-core`; this crate carries it out.
//!
//! # What is an error
//!
//! A message says only "look at this task"; the record says what is to be done, and is due again by itself. So a message
//! fails, and is delivered again, only when the table could not be reached or the message is not ours: everything else, a
//! dead link, an outage of the provider or of the bucket, is written into the record as the time of the next attempt.
//! Messages that are not ours end in the dead-letter queue, where somebody sees them. A panic costs the one task in whose
//! work it happened: its claim runs out, and `poll` queues it again.

mod confirmation;
mod copying;
mod lease;
mod publishing;
mod work;

use std::sync::Arc;
use std::time::Duration;

use aws_lambda_events::event::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent};
use reelhook_aws::bucket::Bucket;
use reelhook_aws::copy::Copier;
use reelhook_aws::provider_client::ProviderClient;
use reelhook_aws::queue::Queue;
use reelhook_aws::settings::SettingsStore;
use reelhook_aws::table::Table;
use tokio::time::{Instant, timeout_at};
use tracing::Instrument as _;

/// Time kept back at the end of an invocation: to stop copies, record how far they are, and respond.
const SHUTDOWN_RESERVE: Duration = Duration::from_secs(15);

/// When, before the end, whatever is still in flight is dropped.
const HARD_STOP: Duration = Duration::from_secs(3);

/// The timeout of the function, as `infra/template.yaml` sets it.
pub const TIMEOUT: Duration = Duration::from_mins(15);

/// What the function works with.
#[derive(Debug)]
pub struct App {
    /// The table.
    pub table: Table,
    /// The queue.
    pub queue: Queue,
    /// The bucket.
    pub bucket: Bucket,
    /// The copier.
    pub copier: Copier,
    /// The settings.
    pub settings: SettingsStore,
    /// The client for the providers.
    pub providers: ProviderClient,
}

/// Works on a batch, its messages side by side, until the invocation is about to end. The response names the messages that
/// SQS is to deliver again.
pub async fn handle(app: &Arc<App>, event: SqsEvent, deadline: Instant) -> SqsBatchResponse {
    let stop_at = deadline.checked_sub(SHUTDOWN_RESERVE).unwrap_or(deadline);
    let drop_at = deadline.checked_sub(HARD_STOP).unwrap_or(deadline);
    // A tokio task of its own for each message: a panic ends that one and nothing else.
    let working: Vec<_> = event
        .records
        .into_iter()
        .map(|message| {
            let (app, id) = (Arc::clone(app), message.message_id.unwrap_or_default());
            // Requests have time-outs of their own; together they could still outlast the invocation, and that would bring the
            // whole batch back. A message that is dropped here leaves a lease that runs out.
            let body = message.body.unwrap_or_default();
            let work = async move { timeout_at(drop_at, work::on_message(&app, &body, stop_at)).await };
            (id, tokio::spawn(work.in_current_span()))
        })
        .collect();
    let mut response = SqsBatchResponse::default();
    for (id, work) in working {
        let failed = match work.await {
            Ok(Ok(Ok(()))) => false,
            Ok(Err(_)) => {
                tracing::error!(message_id = id, "the work on a message was dropped at the end of the invocation");
                false
            }
            Ok(Ok(Err(error))) => {
                tracing::error!(message_id = id, %error, "a message failed");
                true
            }
            Err(panicked) => {
                tracing::error!(message_id = id, error = %panicked, "the work on a message panicked");
                true
            }
        };
        if failed {
            let mut failure = BatchItemFailure::default();
            failure.item_identifier = id;
            response.batch_item_failures.push(failure);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_timeout_is_that_of_the_template() {
        let (_, function) =
            include_str!("../../../infra/template.yaml").split_once("ProcessFunction:\n").expect("the function");
        let timeout = function.lines().find_map(|line| line.trim().strip_prefix("Timeout: ")).expect("its timeout");
        assert_eq!(timeout, super::TIMEOUT.as_secs().to_string());
    }
}
