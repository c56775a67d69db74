//! The work queue. It only makes things fast: whatever is not queued, `poll` finds in the table. So sending is one thing for
//! all: send, log and count what was not accepted, and carry on.

use std::time::Duration;

use aws_sdk_sqs::types::{QueueAttributeName, SendMessageBatchRequestEntry};
use futures_util::stream::{self, StreamExt as _};
use reelhook_core::TaskKey;
use reelhook_core::message::Message;
use reelhook_core::metric::Metric;
use tokio::time::{Instant, timeout, timeout_at};

use crate::clients::described;
use crate::metrics::count;

/// Most messages SQS accepts in one call.
const MAX_BATCH: usize = 10;

/// Calls in flight at once.
const MAX_CONCURRENT_SENDS: usize = 32;

/// How long the queue may take to say how many messages it holds.
const COUNT_TIMEOUT: Duration = Duration::from_secs(3);

/// The queue.
#[derive(Clone, Debug)]
pub struct Queue {
    client: aws_sdk_sqs::Client,
    url: String,
}

impl Queue {
    /// A queue at a URL.
    pub fn new(client: aws_sdk_sqs::Client, url: String) -> Self {
        Self { client, url }
    }

    /// Queues one task.
    pub async fn send(&self, task: &TaskKey) {
        let body = Message { task: task.clone() }.to_json();
        if let Err(error) = self.client.send_message().queue_url(&self.url).message_body(body).send().await {
            not_queued(task, &described(&error));
        }
    }

    /// Queues one task before a deadline.
    pub async fn send_before(&self, task: &TaskKey, deadline: Instant) {
        if timeout_at(deadline, self.send(task)).await.is_err() {
            not_queued(task, "out of time");
        }
    }

    /// Queues tasks, several per call. Returns how many were accepted.
    pub async fn send_all(&self, tasks: &[TaskKey]) -> usize {
        stream::iter(tasks.chunks(MAX_BATCH))
            .map(|batch| self.send_batch(batch))
            .buffer_unordered(MAX_CONCURRENT_SENDS)
            .fold(0, |sum, accepted| async move { sum + accepted })
            .await
    }

    /// About how many messages wait to be received; none when that cannot be learned. `SQS` counts with a delay of up to a
    /// minute.
    pub async fn waiting(&self) -> Option<u64> {
        const WAITING: QueueAttributeName = QueueAttributeName::ApproximateNumberOfMessages;
        let counting = self.client.get_queue_attributes().queue_url(&self.url).attribute_names(WAITING).send();
        let reason = match timeout(COUNT_TIMEOUT, counting).await {
            Ok(Ok(response)) => {
                let count = response.attributes().and_then(|attributes| attributes.get(&WAITING));
                return count.and_then(|count| count.parse().ok());
            }
            Ok(Err(error)) => described(&error),
            Err(_) => "out of time".to_owned(),
        };
        tracing::warn!(reason, "the messages in the queue could not be counted");
        None
    }

    async fn send_batch(&self, tasks: &[TaskKey]) -> usize {
        let entries: Vec<_> = (0..)
            .zip(tasks)
            .filter_map(|(index, task): (usize, &TaskKey)| {
                let body = Message { task: task.clone() }.to_json();
                // Fails only without id or body.
                SendMessageBatchRequestEntry::builder().id(index.to_string()).message_body(body).build().ok()
            })
            .collect();
        match self.client.send_message_batch().queue_url(&self.url).set_entries(Some(entries)).send().await {
            Ok(response) => {
                let refused: Vec<_> = response
                    .failed()
                    .iter()
                    .filter_map(|entry| Some((tasks.get(entry.id().parse::<usize>().ok()?)?, entry.code())))
                    .collect();
                for (task, code) in &refused {
                    not_queued(task, code);
                }
                tasks.len() - refused.len()
            }
            Err(error) => {
                let reason = described(&error);
                for task in tasks {
                    not_queued(task, &reason);
                }
                0
            }
        }
    }
}

fn not_queued(task: &TaskKey, reason: &str) {
    tracing::error!(%task, reason, "the task is recorded and was not queued; poll queues it within minutes");
    count(Metric::QueueFailed, task.provider(), 1);
}
