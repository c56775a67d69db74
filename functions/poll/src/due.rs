//! Reads the due index.

use std::collections::{HashMap, HashSet};

use futures_util::stream::{self, StreamExt as _};
use reelhook_aws::table::{Table, TableError};
use reelhook_core::record::DUE_SHARDS;
use reelhook_core::{Provider, TaskKey, Timestamp};

/// Due tasks read per shard. Eight shards of this are more than a run can poll; what is beyond waits for the next.
const TASKS_PER_SHARD: u16 = 4000;

/// What a run has to reconcile.
#[derive(Debug, Default)]
pub(crate) struct Due {
    /// The longest overdue tasks by provider, each once, in random order: otherwise a task that stalls or panics would come first in
    /// every run, and those behind it would never be reached.
    pub(crate) tasks: HashMap<Provider, Vec<TaskKey>>,
    /// How many they are.
    pub(crate) count: usize,
    /// Whether these are all that are due.
    pub(crate) is_all: bool,
}

impl Due {
    /// Reads what is due. One shard that cannot be read does not stop the others; when none can, that is an error.
    pub(crate) async fn read(table: &Table, now: Timestamp) -> Result<Self, TableError> {
        let shards = stream::iter(0..DUE_SHARDS)
            .map(|shard| table.due(shard, now, TASKS_PER_SHARD))
            .buffer_unordered(usize::from(DUE_SHARDS))
            .collect::<Vec<_>>()
            .await;
        // A task that moves while a shard is read may be found twice. Each `HashSet` has a random order of its own.
        let mut found: HashSet<TaskKey> = HashSet::new();
        let (mut is_all, mut read, mut last_error) = (true, 0, None);
        for shard in shards {
            match shard {
                Ok(tasks) => {
                    read += 1;
                    is_all &= tasks.len() < usize::from(TASKS_PER_SHARD);
                    found.extend(tasks.into_iter().map(|(task, _)| task));
                }
                Err(error) => {
                    tracing::error!(%error, "a shard of the due index could not be read");
                    is_all = false;
                    last_error = Some(error);
                }
            }
        }
        if let Some(error) = last_error.filter(|_| read == 0) {
            return Err(error);
        }
        let mut due = Self { count: found.len(), is_all, ..Self::default() };
        for task in found {
            due.tasks.entry(task.provider()).or_default().push(task);
        }
        Ok(due)
    }
}
