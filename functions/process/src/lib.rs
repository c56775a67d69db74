//! Acts on what was reported: asks the provider where a report needs it, copies the artifacts into the bucket, writes
//! `result.json`, settles the record.
//!
//! # What is an error
//!
//! A message says only "look at this task"; the record says what is to be done, and is due again by itself. So a message
//! fails, and is delivered again, only when the table could not be reached or the message is not ours: everything else, a
//! dead link, an outage of the provider or of the bucket, is written into the record as the time of the next attempt.
//! Messages that are not ours end in the dead-letter queue, where somebody sees them. A panic costs the one task in whose
//! work it happened: its claim runs out, and `poll` queues it again.

mod copying;
mod lease;
mod work;

use std::sync::Arc;
use std::time::Duration;

use reelhook_aws::asking::ProviderClient;
use reelhook_aws::bucket::Bucket;
use reelhook_aws::copy::Copier;
use reelhook_aws::queue::Queue;
use reelhook_aws::settings::SettingsStore;
use reelhook_aws::table::Table;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};

/// Time kept back at the end of an invocation: to stop copies, write down how far they are, and answer.
const RESERVE: Duration = Duration::from_secs(15);

/// When, before the end, whatever is still under way is dropped.
const LAST_MOMENT: Duration = Duration::from_secs(3);

/// What the function works with.
#[derive(Debug)]
pub struct Hub {
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

/// What SQS delivers, as far as it matters. A record that lacks something fails by itself.
#[derive(Debug, Deserialize)]
pub struct Batch {
    /// The messages.
    #[serde(rename = "Records", default)]
    pub messages: Vec<Delivered>,
}

/// One message as it is delivered.
#[derive(Clone, Debug, Deserialize)]
pub struct Delivered {
    /// SQS's id of it.
    #[serde(rename = "messageId")]
    pub id: String,
    /// Its body; absent only in events somebody wrote by hand.
    #[serde(default)]
    pub body: String,
}

/// Which messages SQS is to deliver again.
#[derive(Debug, Default, Serialize)]
pub struct Answer {
    #[serde(rename = "batchItemFailures")]
    failures: Vec<Failed>,
}

#[derive(Debug, Serialize)]
struct Failed {
    #[serde(rename = "itemIdentifier")]
    id: String,
}

impl Answer {
    /// The ids of the messages that failed.
    pub fn failed_ids(&self) -> impl Iterator<Item = &str> {
        self.failures.iter().map(|failed| failed.id.as_str())
    }
}

/// Works on a batch, its messages side by side, until the invocation is about to end.
pub async fn handle(hub: &Arc<Hub>, batch: Batch, deadline: Instant) -> Answer {
    let deadline = deadline.checked_sub(RESERVE).unwrap_or(deadline);
    // A task of its own for each message: a panic ends that task and nothing else.
    let working: Vec<_> = batch
        .messages
        .into_iter()
        .map(|message| {
            let hub = Arc::clone(hub);
            let id = message.id.clone();
            // Questions and announcements have time-outs of their own; together they could still outlast the invocation, and
            // that would bring the whole batch back. A message that is dropped here leaves a lease that runs out.
            let last_moment = deadline + RESERVE - LAST_MOMENT;
            let work = async move { timeout_at(last_moment, work::on_message(&hub, &message.body, deadline)).await };
            (id, tokio::spawn(work))
        })
        .collect();
    let mut answer = Answer::default();
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
            answer.failures.push(Failed { id });
        }
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_events_and_answers_are_those_of_sqs() {
        let event = r#"{"Records":[{"messageId":"m-1","receiptHandle":"r","body":"{}","attributes":{"ApproximateReceiveCount":"1"},"eventSource":"aws:sqs"}]}"#;
        let batch: Batch = serde_json::from_str(event).expect("an event of SQS");
        assert_eq!(batch.messages[0].id, "m-1");
        let answer = Answer { failures: vec![Failed { id: "m-1".into() }] };
        let json = serde_json::to_string(&answer).expect("JSON");
        assert_eq!(json, r#"{"batchItemFailures":[{"itemIdentifier":"m-1"}]}"#);
    }
}
