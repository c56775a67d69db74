//! The sparse index `due` over what is not final: `due_shard`, then `due_at`.

use reelhook_core::item::{Attribute, Item, Value};
use reelhook_core::record::{DUE_SHARDS, Record};
use reelhook_core::transition::{Applied, leases};
use reelhook_core::{TaskKey, Timestamp};

use super::render::{item, stored_value};
use super::{Table, TableError};
use crate::clients::described;

const DUE_INDEX: &str = "due";

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

    /// [`leases::claim_due`]. None when somebody else was first, a worker has the task, or it is final.
    pub async fn claim_due(
        &self,
        task: &TaskKey,
        seen_due_at: Timestamp,
        next_due_at: Timestamp,
        now: Timestamp,
    ) -> Result<Option<Record>, TableError> {
        let transition = leases::claim_due(task, seen_due_at, next_due_at, now);
        Ok(match self.apply(&transition).await? {
            Applied::Done(record) => record,
            Applied::Refused(_) => None,
        })
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
