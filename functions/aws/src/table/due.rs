//! The sparse index `due` over what is not final: `due_shard`, then `due_at`.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes};
use reelhook_core::item::{Attribute, Item, Value};
use reelhook_core::record::{DUE_SHARDS, Record};
use reelhook_core::transition::leases;
use reelhook_core::{TaskKey, Timestamp};
use tokio::time::sleep;

use super::render::{StoredItem, item, stored_value};
use super::{Table, TableError, key, record};
use crate::clients::described;

const DUE_INDEX: &str = "due";

/// Most keys of a `BatchGetItem`.
const MAX_KEYS: usize = 100;

/// How often what a table leaves out is asked for, and how long apart. Each time gives 16 MB at least, or what the table has
/// capacity for.
const MAX_READS: usize = 5;
const READ_INTERVAL: Duration = Duration::from_millis(100);

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

    /// The records of some tasks, read consistently, in no order; of those that exist. A damaged one is left out, with a line in the
    /// log.
    pub async fn records(&self, tasks: &[TaskKey]) -> Result<Vec<Record>, TableError> {
        // A key that is named twice would be refused.
        let tasks: Vec<_> = tasks.iter().collect::<BTreeSet<_>>().into_iter().collect();
        let mut records = Vec::with_capacity(tasks.len());
        for some in tasks.chunks(MAX_KEYS) {
            for stored in self.batch(some.iter().map(|task| key(task)).collect()).await? {
                match record(&item(stored)) {
                    Ok(record) => records.push(record),
                    Err(error) => tracing::error!(%error, "a record is left out"),
                }
            }
        }
        Ok(records)
    }

    /// Reads items. What the table leaves out, because it is short of capacity or they are too long together, is asked for again.
    async fn batch(&self, mut keys: Vec<AttributeValue>) -> Result<Vec<StoredItem>, TableError> {
        let of = keys.len();
        let failed = |reason| TableError::Call { action: "reading", task: format!("{of} tasks"), reason };
        let mut items = Vec::with_capacity(of);
        for _ in 0..MAX_READS {
            let named = keys.into_iter().map(|key| StoredItem::from([(Attribute::Task.to_string(), key)]));
            let wanted = KeysAndAttributes::builder().set_keys(Some(named.collect())).consistent_read(true).build();
            let wanted = wanted.map_err(|error| failed(error.to_string()))?;
            let batch = self.client.batch_get_item().request_items(&self.name, wanted).send().await;
            let batch = batch.map_err(|error| failed(described(&error)))?;
            items.extend(batch.responses.into_iter().flatten().flat_map(|(_, items)| items));
            let unread = batch.unprocessed_keys.into_iter().flatten().flat_map(|(_, left)| left.keys);
            keys = unread.filter_map(|mut key| key.remove(&Attribute::Task.to_string())).collect();
            if keys.is_empty() {
                return Ok(items);
            }
            sleep(READ_INTERVAL).await;
        }
        Err(failed(format!("the table left out {} of them", keys.len())))
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
