//! Claims: who works on a task.

use reelhook_core::record::{PendingHint, Record};
use reelhook_core::report::Report;
use reelhook_core::result::StoredArtifact;
use reelhook_core::transfer::checkpoint::Checkpoints;
use reelhook_core::transition::{Applied, Transition, leases, reports};
use reelhook_core::{TaskKey, Timestamp};

use super::{Table, TableError};

/// What became of a claim.
#[derive(Debug)]
pub enum Claimed {
    /// The task is ours until the time given.
    Ours(Box<Record>),
    /// Somebody else holds it.
    Held,
    /// It is final.
    Final,
    /// There is no such task.
    Unknown,
}

/// What became of a write that only the holder of the claim may make.
#[derive(Debug)]
pub enum Fenced {
    /// It was made.
    Done(Option<Box<Record>>),
    /// More was said about the task meanwhile; it is still ours, and there is work to do.
    Revised(Box<Record>),
    /// Another worker has the task, or it is gone: everything is left to that one.
    TakenOver,
}

impl Table {
    /// [`leases::claim`].
    pub async fn claim(&self, task: &TaskKey, now: Timestamp, until: Timestamp) -> Result<Claimed, TableError> {
        let transition = leases::claim(task, now, until);
        Ok(match self.apply(&transition).await? {
            Applied::Done(record) => Claimed::Ours(self.present(&transition, record)?),
            Applied::Refused(None) => Claimed::Unknown,
            Applied::Refused(Some(held)) if held.state.is_final() => Claimed::Final,
            Applied::Refused(Some(_)) => Claimed::Held,
        })
    }

    /// [`leases::renew`]. False when the claim is lost: the work is to be dropped.
    pub async fn renew(&self, task: &TaskKey, fencing_token: u64, until: Timestamp) -> Result<bool, TableError> {
        Ok(matches!(self.apply(&leases::renew(task, fencing_token, until)).await?, Applied::Done(_)))
    }

    /// [`leases::release_open`].
    pub async fn release_open(
        &self,
        record: &Record,
        due_at: Timestamp,
        hint: Option<&PendingHint>,
    ) -> Result<Fenced, TableError> {
        self.as_holder(record, &leases::release_open(record, due_at, hint)).await
    }

    /// [`leases::release_unfinished`].
    pub async fn release_unfinished(
        &self,
        record: &Record,
        due_at: Timestamp,
        checkpoints: Option<&Checkpoints>,
        last_error: Option<&str>,
    ) -> Result<Fenced, TableError> {
        self.as_holder(record, &leases::release_unfinished(record, due_at, checkpoints, last_error)).await
    }

    /// [`leases::settle`].
    pub async fn settle(
        &self,
        record: &Record,
        report: &Report,
        artifacts: &[StoredArtifact],
        now: Timestamp,
    ) -> Result<Fenced, TableError> {
        self.as_holder(record, &leases::settle(record, report, artifacts, now)).await
    }

    /// [`reports::restore`].
    pub async fn restore(&self, record: &Record) -> Result<Fenced, TableError> {
        self.as_holder(record, &reports::restore(record)).await
    }

    /// [`reports::remove`].
    pub async fn remove(&self, record: &Record) -> Result<Fenced, TableError> {
        self.as_holder(record, &reports::remove(record)).await
    }

    async fn as_holder(&self, record: &Record, transition: &Transition) -> Result<Fenced, TableError> {
        Ok(match self.apply(transition).await? {
            Applied::Done(now) => Fenced::Done(now.map(Box::new)),
            Applied::Refused(Some(held)) if leases::is_still_held(record, &held) => Fenced::Revised(Box::new(held)),
            Applied::Refused(_) => Fenced::TakenOver,
        })
    }
}
