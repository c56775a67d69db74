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
    /// It belongs to this one.
    Theirs(Box<Record>),
}

impl Table {
    /// [`ownership::own`]. An owner whose record is gone loses it. Two tasks that find this at the same moment both try, and
    /// one of them is told of the other.
    pub async fn own(&self, task: &TaskKey, provider_task_id: &str, now: Timestamp) -> Result<Owned, TableError> {
        let provider = task.provider();
        let own = ownership::own(provider, provider_task_id, task, now);
        let Applied::Refused(Some(item)) = self.apply_to_item(&own).await? else { return Ok(Owned::Ours) };
        let Some(owner) = owner(&item) else { return Ok(Owned::Ours) };
        if let Some(record) = self.get(&owner).await? {
            return Ok(Owned::Theirs(Box::new(record)));
        }
        let reassign = ownership::reassign(provider, provider_task_id, &owner, task, now);
        self.apply_to_item(&reassign).await?;
        Ok(Owned::Ours)
    }

    /// [`ownership::displace`], and the provider task with it. False when the record is more than what callbacks said, or
    /// somebody works on it.
    pub async fn displace(
        &self,
        record: &Record,
        successor: &TaskKey,
        provider_task_id: &str,
        now: Timestamp,
    ) -> Result<bool, TableError> {
        let displaced = matches!(self.apply_to_item(&ownership::displace(record, now)).await?, Applied::Done(_));
        if displaced {
            let provider = successor.provider();
            let reassign = ownership::reassign(provider, provider_task_id, &record.task, successor, now);
            self.apply_to_item(&reassign).await?;
        }
        Ok(displaced)
    }

    /// [`ownership::disown`].
    pub async fn disown(&self, task: &TaskKey, provider_task_id: &str) -> Result<(), TableError> {
        self.apply_to_item(&ownership::disown(task.provider(), provider_task_id, task)).await.map(drop)
    }
}

fn owner(item: &Item) -> Option<TaskKey> {
    match item.get(&Attribute::Owner)? {
        Value::Text(owner) => owner.parse().ok(),
        Value::Number(_) => None,
    }
}
