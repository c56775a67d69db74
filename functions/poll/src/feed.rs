//! Reads the due index once and hands every due task to the stream of its provider.

use std::collections::BTreeMap;

use futures_util::stream::{self, StreamExt as _};
use reelhook_aws::table::{Table, TableError};
use reelhook_core::record::DUE_SHARDS;
use reelhook_core::{Provider, TaskKey, Timestamp};
use tokio::sync::mpsc;

/// Due tasks read per shard. Eight shards of this are more than a run can poll; what is beyond waits for the next.
const TASKS_PER_SHARD: u16 = 4000;

/// The due tasks, the longest overdue first. One shard that cannot be read does not stop the others; when none can, that is an
/// error.
pub(crate) async fn due(table: &Table, now: Timestamp) -> Result<Vec<TaskKey>, TableError> {
    let shards = stream::iter(0..DUE_SHARDS)
        .map(|shard| table.due(shard, now, TASKS_PER_SHARD))
        .buffer_unordered(usize::from(DUE_SHARDS))
        .collect::<Vec<_>>()
        .await;
    let mut due: Vec<(TaskKey, Timestamp)> = Vec::new();
    let (mut first_error, mut read) = (None, 0);
    for shard in shards {
        match shard {
            Ok(tasks) => {
                read += 1;
                due.extend(tasks);
            }
            Err(error) => {
                tracing::error!(%error, "a shard of the due index could not be read");
                first_error.get_or_insert(error);
            }
        }
    }
    if let Some(error) = first_error.filter(|_| read == 0) {
        return Err(error);
    }
    due.sort_by_key(|(_, due_at)| *due_at);
    Ok(due.into_iter().map(|(task, _)| task).collect())
}

/// Hands out the due tasks and returns how many there are. Dropping the senders at the end tells the streams that no more comes.
pub(crate) async fn feed(
    table: &Table,
    streams: BTreeMap<Provider, mpsc::UnboundedSender<TaskKey>>,
    now: Timestamp,
) -> Result<usize, TableError> {
    let due = due(table, now).await?;
    let found = due.len();
    for task in due {
        if let Some(stream) = streams.get(&task.provider()) {
            // A stream that has ended has no time for more; the task stays due.
            let _ = stream.send(task);
        }
    }
    Ok(found)
}
