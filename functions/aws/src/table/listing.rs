//! Many records at once, for the command line and the page. No function reads the table like this.

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use reelhook_core::item::Attribute;
use reelhook_core::record::{DUE_SHARDS, Record};
use reelhook_core::{TaskKey, Timestamp};

use super::render::item;
use super::{Table, TableError, key, record};
use crate::clients::described;

/// Reads in flight at once.
const CONCURRENT_READS: usize = 15;

/// A page of the table.
#[derive(Debug)]
pub struct Page {
    /// The records, in no order.
    pub records: Vec<Record>,
    /// Items that could not be read as records.
    pub damaged: usize,
    /// Where the next page begins; none after the last.
    pub next: Option<TaskKey>,
}

impl Table {
    /// A page of all records, of up to 1 MB in the table.
    pub async fn page(&self, start: Option<&TaskKey>) -> Result<Page, TableError> {
        let start_key = start.map(|start| [(Attribute::Task.to_string(), key(start))].into());
        let response = self
            .client
            .scan()
            .table_name(&self.name)
            // Not the items that say which task a provider task belongs to.
            .filter_expression("attribute_exists(#state)")
            .expression_attribute_names("#state", Attribute::State.to_string())
            .set_exclusive_start_key(start_key)
            .send()
            .await
            .map_err(|error| TableError::Call {
                action: "listing the tasks",
                task: "the table".to_owned(),
                reason: described(&error),
            })?;
        let next = response.last_evaluated_key().and_then(|last| last.get(&Attribute::Task.to_string())?.as_s().ok());
        let next = next.and_then(|next| next.parse().ok());
        let stored = response.items.unwrap_or_default().into_iter();
        let read: Vec<_> = stored.map(|stored| record(&item(stored))).collect();
        let damaged = read.iter().filter(|read| read.is_err()).count();
        Ok(Page { records: read.into_iter().flatten().collect(), damaged, next })
    }

    /// The tasks that are not final, with the time of each one's next attempt, from the index `due`. At most about `limit` in each
    /// of its shards.
    pub async fn open(&self, limit: u16) -> Result<Vec<(TaskKey, Timestamp)>, TableError> {
        let ever = Timestamp::from_seconds(i64::from(u32::MAX));
        let shards = stream::iter(0..DUE_SHARDS).map(|shard| self.due(shard, ever, limit));
        Ok(shards.buffer_unordered(CONCURRENT_READS).try_collect::<Vec<_>>().await?.concat())
    }
}
