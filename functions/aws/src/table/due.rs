//! The sparse index `due` over what is not final: `due_shard`, then `due_at`.

use aws_sdk_dynamodb::types::KeysAndAttributes;
use reelhook_core::item::{Attribute, Item, Value};
use reelhook_core::record::{DUE_SHARDS, Record};
use reelhook_core::transition::leases;
use reelhook_core::{TaskKey, Timestamp};

use super::render::{StoredItem, item, stored_value};
use super::{Table, TableError, key, record};
use crate::clients::described;

const DUE_INDEX: &str = "due";

/// Most keys of a `BatchGetItem`.
const MAX_KEYS: usize = 100;

impl Table {
    /// The tasks of a shard that are due, the longest overdue first, at most about `limit` of them.
    pub async fn due(&self, shard: u8, now: Timestamp, limit: u16) -> Result<Vec<(TaskKey, Timestamp)>, TableError> {
        debug_assert!(shard < DUE_SHARDS);
        let mut due = Vec::new();
        let mut start = None;
        loop {
            let page = self
                .client
                .query()
                .table_name(&self.name)
                .index_name(DUE_INDEX)
                .key_condition_expression("due_shard = :shard AND due_at <= :now")
                .expression_attribute_values(":shard", stored_value(&u64::from(shard).into()))
                .expression_attribute_values(":now", stored_value(&now.into()))
                .limit(i32::from(limit))
                .set_exclusive_start_key(start)
                .send()
                .await
                .map_err(|error| TableError::Call {
                    action: "reading the due tasks",
                    task: format!("shard {shard}"),
                    reason: described(&error),
                })?;
            // A page ends at 1 MB, at `limit`, or for no reason at all; only a missing key says that there is no more.
            start = page.last_evaluated_key;
            for stored in page.items.unwrap_or_default() {
                if let Some(task) = due_task(&item(stored)) {
                    due.push(task);
                } else {
                    tracing::error!(shard, "a due record has no readable key and is passed over");
                }
            }
            if start.is_none() || due.len() >= usize::from(limit) {
                return Ok(due);
            }
        }
    }

    /// The records of some tasks, read consistently, in no order; of those that exist. What cannot be read is left out, with a line
    /// in the log.
    pub async fn records(&self, tasks: &[TaskKey]) -> Result<Vec<Record>, TableError> {
        let mut records = Vec::with_capacity(tasks.len());
        for some in tasks.chunks(MAX_KEYS) {
            let failed = |reason| TableError::Call {
                action: "reading the records",
                task: format!("{} tasks", some.len()),
                reason,
            };
            let keys = some.iter().map(|task| StoredItem::from([(Attribute::Task.to_string(), key(task))]));
            let wanted = KeysAndAttributes::builder().set_keys(Some(keys.collect())).consistent_read(true).build();
            let wanted = wanted.map_err(|error| failed(error.to_string()))?;
            let batch = self.client.batch_get_item().request_items(&self.name, wanted).send().await;
            let batch = batch.map_err(|error| failed(described(&error)))?;
            let unread: usize = batch.unprocessed_keys.iter().flatten().map(|(_, left)| left.keys.len()).sum();
            if unread > 0 {
                tracing::warn!(
                    tasks = unread,
                    "the table left out records: it is short of capacity, or they are too long"
                );
            }
            for stored in batch.responses.into_iter().flatten().flat_map(|(_, items)| items) {
                match record(&item(stored)) {
                    Ok(record) => records.push(record),
                    Err(error) => tracing::error!(%error, "a record is left out"),
                }
            }
        }
        Ok(records)
    }

    /// [`leases::postpone`].
    pub async fn postpone(&self, record: &Record, due_at: Timestamp) -> Result<(), TableError> {
        self.apply(&leases::postpone(record, due_at)).await.map(drop)
    }
}

fn due_task(item: &Item) -> Option<(TaskKey, Timestamp)> {
    match (item.get(&Attribute::Task)?, item.get(&Attribute::DueAt)?) {
        (Value::Text(task), Value::Number(due_at)) => Some((task.parse().ok()?, Timestamp::from_seconds(*due_at))),
        _ => None,
    }
}
