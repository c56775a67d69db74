//! What callbacks and status polls say about a task.

use reelhook_core::Timestamp;
use reelhook_core::callback::{Accepted, Hint, Kept, Open};
use reelhook_core::record::Record;
use reelhook_core::transition::reports::{self, AfterHint, AfterReport, Due};
use reelhook_core::transition::{Applied, Transition};

use super::{Table, TableError};

/// What became of a report.
#[derive(Debug)]
pub enum Recorded {
    /// It is the first final word; the record as it is now.
    New(Box<Record>),
    /// It is a success and replaced a failure; the record as it is now.
    TookOver(Box<Record>),
    /// It says what is known. The record as it stands.
    Duplicate(Box<Record>),
    /// It contradicts the success that is held, and changed nothing. The record as it stands.
    Contradicting(Box<Record>),
    /// The record belongs to another task of the provider; nothing was written.
    OtherTask,
}

/// What became of a hint, or of news that a task is open.
#[derive(Debug)]
pub enum Noted {
    /// It is recorded; the record as it is now.
    Recorded(Box<Record>),
    /// It reopened a task that had failed.
    Reopened,
    /// The record knows as much; nothing was written.
    Known,
    /// The record belongs to another task of the provider; nothing was written.
    OtherTask,
}

impl Table {
    /// [`reports::report`], or [`reports::take_over`] where a success replaces a failure.
    pub async fn report(
        &self,
        accepted: &Accepted,
        read: Option<&Record>,
        now: Timestamp,
    ) -> Result<Recorded, TableError> {
        let held = match self.due_soon(now, |due| reports::report(accepted, read, now, due)).await? {
            Ok(record) => return Ok(Recorded::New(record)),
            Err(held) => held,
        };
        match reports::after_report(accepted, &held) {
            AfterReport::OtherTask => Ok(Recorded::OtherTask),
            AfterReport::Duplicate => Ok(Recorded::Duplicate(held)),
            AfterReport::Contradicting => Ok(Recorded::Contradicting(held)),
            AfterReport::TakeOver => {
                let take_over = reports::take_over(accepted, now);
                match self.apply(&take_over).await? {
                    Applied::Done(record) => Ok(Recorded::TookOver(self.present(&take_over, record)?)),
                    Applied::Refused(held) => Ok(Recorded::Duplicate(self.present(&take_over, held)?)),
                }
            }
        }
    }

    /// [`reports::close`].
    pub async fn close(&self, accepted: &Accepted, read: &Record, now: Timestamp) -> Result<Recorded, TableError> {
        let close = reports::close(accepted, read, now);
        Ok(match self.apply(&close).await? {
            Applied::Done(record) => Recorded::New(self.present(&close, record)?),
            Applied::Refused(held) => Recorded::Duplicate(self.present(&close, held)?),
        })
    }

    /// [`reports::note_hint`], or [`reports::reopen`] where a success is hinted at over a failure.
    pub async fn note_hint(&self, hint: &Hint, now: Timestamp, deadline_at: Timestamp) -> Result<Noted, TableError> {
        let held = match self.due_soon(now, |due| reports::note_hint(hint, now, deadline_at, due)).await? {
            Ok(record) => return Ok(Noted::Recorded(record)),
            Err(held) => held,
        };
        Ok(match reports::after_hint(hint, &held) {
            AfterHint::OtherTask => Noted::OtherTask,
            AfterHint::Known => Noted::Known,
            AfterHint::Reopen => match self.apply(&reports::reopen(hint, now)).await? {
                Applied::Done(_) => Noted::Reopened,
                // A success was reported a moment ago.
                Applied::Refused(_) => Noted::Known,
            },
        })
    }

    /// [`reports::note_open`].
    pub async fn note_open(
        &self,
        open: &Open,
        now: Timestamp,
        due_at: Timestamp,
        deadline_at: Timestamp,
    ) -> Result<Noted, TableError> {
        let note: Transition = reports::note_open(open, now, due_at, deadline_at);
        Ok(match self.apply(&note).await? {
            Applied::Done(record) => Noted::Recorded(self.present(&note, record)?),
            Applied::Refused(held) => {
                let held = self.present(&note, held)?;
                let other = reports::belongs_to_other_task(&held, open.provider_task_id.as_deref());
                if other { Noted::OtherTask } else { Noted::Known }
            }
        })
    }

    /// A write about a task that is due soon afterwards. Nearly always it is due soon anyway; only one that was put off is moved,
    /// by a second write. The record as it is now, or else the one that stood in the way.
    async fn due_soon(
        &self,
        now: Timestamp,
        write: impl Fn(Due) -> Transition,
    ) -> Result<Result<Box<Record>, Box<Record>>, TableError> {
        let mut transition = write(Due::Kept);
        let mut applied = self.apply(&transition).await?;
        if matches!(&applied, Applied::Refused(Some(held)) if Due::is_too_late(held, now)) {
            transition = write(Due::Moved);
            applied = self.apply(&transition).await?;
        }
        Ok(match applied {
            Applied::Done(record) => Ok(self.present(&transition, record)?),
            Applied::Refused(held) => Err(self.present(&transition, held)?),
        })
    }

    /// [`reports::keep`]. The same body again changes nothing.
    pub async fn keep(&self, kept: &Kept, now: Timestamp) -> Result<(), TableError> {
        self.apply(&reports::keep(&kept.key, &kept.raw, now)).await.map(drop)
    }
}
