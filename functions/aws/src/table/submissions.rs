//! From nothing to a task that is known and can be polled.

use reelhook_core::annotations::Given;
use reelhook_core::record::{REQUEUE_AFTER, Record, State, SubmissionAttempt};
use reelhook_core::transition::submissions::{self, CancellationResponse, Registration};
use reelhook_core::transition::{Applied, Transition};
use reelhook_core::{TaskKey, Timestamp};

use super::{Table, TableError};

/// What became of a registration.
#[derive(Debug)]
pub enum Registered {
    /// It is new; the record as it is now.
    New(Box<Record>),
    /// Somebody was first; this is what is there.
    Existing(Box<Record>),
}

impl Table {
    /// [`submissions::register`].
    pub async fn register(&self, registration: &Registration, now: Timestamp) -> Result<Registered, TableError> {
        let register = submissions::register(registration, now);
        Ok(match self.apply(&register).await? {
            Applied::Done(record) => Registered::New(self.present(&register, record)?),
            Applied::Refused(held) => Registered::Existing(self.present(&register, held)?),
        })
    }

    /// The provider accepted our submission: its response says the task's id with more authority than a callback, so it
    /// replaces one that a callback named. The record may be in any state, because the callback may have come first.
    pub async fn submitted(
        &self,
        task: &TaskKey,
        provider_task_id: &str,
        now: Timestamp,
        due_at: Timestamp,
    ) -> Result<Record, TableError> {
        let record = self.identify(task, provider_task_id, &Given::default(), now, None).await?;
        if record.provider_task_id.as_deref() == Some(provider_task_id) {
            // `poll` saw the task before it had an id, and put it off for long.
            if record.state == State::Pending
                && record.due_at.is_some_and(|put_off_to| put_off_to > due_at + REQUEUE_AFTER)
            {
                self.postpone(&record, due_at).await?;
            }
            return Ok(record);
        }
        let correction = submissions::correct_identity(task, provider_task_id, now, due_at);
        match self.apply(&correction).await? {
            Applied::Done(corrected) => self.present(&correction, corrected).map(|record| *record),
            Applied::Refused(_) => Ok(record),
        }
    }

    /// The caller says which task it submitted itself. An id that is there stays; the record as it is now tells.
    pub async fn identify(
        &self,
        task: &TaskKey,
        provider_task_id: &str,
        given: &Given,
        now: Timestamp,
        due_at: Option<Timestamp>,
    ) -> Result<Record, TableError> {
        let identify = submissions::identify(task, provider_task_id, given, now, due_at);
        if let Applied::Done(record) = self.apply(&identify).await? {
            return self.present(&identify, record).map(|record| *record);
        }
        let note = submissions::note_submission(task, provider_task_id, given, now);
        match self.apply(&note).await? {
            Applied::Done(record) | Applied::Refused(record) => self.present(&note, record).map(|record| *record),
        }
    }

    /// [`submissions::withdraw`]. False when something was heard of a task: the record stays.
    pub async fn withdraw(&self, task: &TaskKey, attempt: &SubmissionAttempt) -> Result<bool, TableError> {
        Ok(match self.apply(&submissions::withdraw(task, attempt)).await? {
            // Without an item the first try removed it, and its response was lost.
            Applied::Done(_) | Applied::Refused(None) => true,
            Applied::Refused(Some(_)) => false,
        })
    }

    /// [`submissions::note_cancellation`]. None when the task was reported meanwhile.
    pub async fn note_cancellation(
        &self,
        task: &TaskKey,
        response: CancellationResponse,
        now: Timestamp,
        due_at: Timestamp,
    ) -> Result<Option<Record>, TableError> {
        let note = submissions::note_cancellation(task, response, now, due_at);
        match self.apply(&note).await? {
            Applied::Done(record) => self.present(&note, record).map(|record| Some(*record)),
            Applied::Refused(_) => Ok(None),
        }
    }

    /// [`submissions::resubmit`], [`submissions::interrupt`]: false when the attempt does not stand there any more.
    pub async fn replace_attempt(&self, transition: &Transition) -> Result<bool, TableError> {
        Ok(matches!(self.apply(transition).await?, Applied::Done(_)))
    }
}
