//! Which task a provider task belongs to.

use reelhook_core::item::{Attribute, Item, Value};
use reelhook_core::record::Record;
use reelhook_core::transition::{Applied, ownership};
use reelhook_core::{TaskKey, Timestamp};

use super::{Table, TableError};

/// What became of claiming a provider task.
#[derive(Debug)]
pub enum Owned {
    /// It belongs to the task.
    Ours,
    /// It belongs to another one.
    Theirs {
        /// The task it belongs to.
        owner: TaskKey,
        /// Since when. Its record may be absent: it is being written, or that was interrupted.
        since: Timestamp,
    },
}

impl Table {
    /// [`ownership::own`].
    pub async fn own(&self, task: &TaskKey, provider_task_id: &str, now: Timestamp) -> Result<Owned, TableError> {
        let own = ownership::own(task.provider(), provider_task_id, task, now);
        let Applied::Refused(Some(item)) = self.apply_to_item(&own).await? else { return Ok(Owned::Ours) };
        Ok(owner(&item).map_or(Owned::Ours, |(owner, since)| Owned::Theirs { owner, since }))
    }

    /// [`ownership::reassign`].
    pub async fn reassign(
        &self,
        from: &TaskKey,
        to: &TaskKey,
        provider_task_id: &str,
        now: Timestamp,
    ) -> Result<bool, TableError> {
        let reassign = ownership::reassign(to.provider(), provider_task_id, from, to, now);
        Ok(matches!(self.apply_to_item(&reassign).await?, Applied::Done(_)))
    }

    /// [`ownership::displace`], and the provider task with it. False when the record is more than what callbacks said, when it
    /// has changed, or when somebody works on it.
    pub async fn displace(
        &self,
        record: &Record,
        successor: &TaskKey,
        provider_task_id: &str,
        now: Timestamp,
    ) -> Result<bool, TableError> {
        let displaced = matches!(self.apply_to_item(&ownership::displace(record, now)).await?, Applied::Done(_));
        if displaced {
            self.reassign(&record.task, successor, provider_task_id, now).await?;
        }
        Ok(displaced)
    }

    /// [`ownership::disown`].
    pub async fn disown(&self, task: &TaskKey, provider_task_id: &str) -> Result<(), TableError> {
        self.apply_to_item(&ownership::disown(task.provider(), provider_task_id, task)).await.map(drop)
    }
}

fn owner(item: &Item) -> Option<(TaskKey, Timestamp)> {
    match (item.get(&Attribute::Owner)?, item.get(&Attribute::CreatedAt)?) {
        (Value::Text(owner), Value::Number(since)) => Some((owner.parse().ok()?, Timestamp::from_seconds(*since))),
        _ => None,
    }
}
