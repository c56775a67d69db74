//! The work queue. It only makes things fast: whatever is not queued, `poll` finds in the table.

use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use reelhook_core::TaskKey;
use reelhook_core::message::Message;

use crate::clients::described;

/// The queue.
#[derive(Clone, Debug)]
pub struct Queue {
    client: aws_sdk_sqs::Client,
    url: String,
}

/// A message that was not queued.
#[derive(Debug, thiserror::Error)]
#[error("queueing failed: {reason}")]
pub struct QueueError {
    reason: String,
}

/// Most messages SQS takes in one call.
pub const LARGEST_BATCH: usize = 10;

impl Queue {
    /// A queue at a URL.
    pub fn new(client: aws_sdk_sqs::Client, url: String) -> Self {
        Self { client, url }
    }

    /// Queues one message.
    pub async fn send(&self, message: &Message) -> Result<(), QueueError> {
        let sent = self.client.send_message().queue_url(&self.url).message_body(message.to_json()).send().await;
        sent.map(drop).map_err(|error| QueueError { reason: described(&error) })
    }

    /// Queues up to [`LARGEST_BATCH`] messages in one call and returns the tasks that were not taken.
    pub async fn send_batch(&self, messages: &[Message]) -> Result<Vec<TaskKey>, QueueError> {
        let entries = messages
            .iter()
            .enumerate()
            .map(|(index, message)| {
                SendMessageBatchRequestEntry::builder().id(index.to_string()).message_body(message.to_json()).build()
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| QueueError { reason: error.to_string() })?;
        let answer = self
            .client
            .send_message_batch()
            .queue_url(&self.url)
            .set_entries(Some(entries))
            .send()
            .await
            .map_err(|error| QueueError { reason: described(&error) })?;
        let failed = answer.failed().iter().filter_map(|entry| entry.id().parse::<usize>().ok());
        Ok(failed.filter_map(|index| messages.get(index)).map(|message| message.task.clone()).collect())
    }
}
