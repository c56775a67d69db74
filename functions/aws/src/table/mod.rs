//! The table `tasks`: the truth. Every transition of a record is one conditional write that returns the old item when its
//! condition fails, so no read comes before it and two writers can never both believe that they were first.
//!
//! A write whose answer is lost is repeated by the SDK, and then it is our own write that the condition fails over. So each
//! write leaves a number of its own in the item (`written_by`), and a repeated one knows it.

mod item;

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure};
use reelhook_core::callback::{Accepted, Hint, Open};
use reelhook_core::providers::Doubt;
use reelhook_core::record::{REQUEUE_AFTER, RETENTION, Record, State, SubmissionMark, due_shard};
use reelhook_core::report::{Outcome, Report};
use reelhook_core::result::StoredArtifact;
use reelhook_core::{TaskKey, Timestamp};

use crate::clients::{described, described_service};
pub use item::DamagedRecord;
use item::{Item, attribute as a, json, number, text, time};

/// Name of the sparse index over what is not final: `due_shard`, then `due_at`.
const DUE_INDEX: &str = "due";

/// The table.
#[derive(Clone, Debug)]
pub struct Table {
    client: aws_sdk_dynamodb::Client,
    name: String,
}

/// Why a call did not work. Nothing is known to be written.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The table did not answer, or refused.
    #[error("{action} of {task} failed: {reason}")]
    Call {
        /// What was tried.
        action: &'static str,
        /// The task.
        task: String,
        /// What the SDK says.
        reason: String,
    },
    /// An item that cannot be read.
    #[error(transparent)]
    Damaged(#[from] DamagedRecord),
}

/// A task that is to be made known.
#[derive(Clone, Debug)]
pub struct Registration {
    /// The task.
    pub task: TaskKey,
    /// The provider's own id, where the caller submitted it and knows.
    pub provider_task_id: Option<String>,
    /// The endpoint of the submission.
    pub endpoint: Option<String>,
    /// The submission that is about to be made, where reelhook makes it.
    pub submission: Option<SubmissionMark>,
    /// When to look first.
    pub due_at: Timestamp,
    /// When to give up.
    pub deadline_at: Timestamp,
}

/// What became of a registration.
#[derive(Debug)]
pub enum Registered {
    /// It is new.
    New,
    /// Somebody was first; this is what is there.
    Existing(Box<Record>),
}

/// What became of a report.
#[derive(Debug)]
pub enum Recorded {
    /// It is the first final word.
    New,
    /// It is a success and took the place of a failure.
    TookOver,
    /// It says what is known.
    Duplicate,
    /// It contradicts the success that is held, and changed nothing.
    Contradicting,
    /// The record belongs to another task of the provider; nothing was written.
    OtherTask,
}

/// What became of a hint or of news that a task is open.
#[derive(Debug)]
pub enum Noted {
    /// It is recorded.
    Recorded,
    /// The record knows as much; nothing was written.
    Known(Box<Record>),
    /// The record belongs to another task of the provider; nothing was written.
    OtherTask,
}

/// What became of a claim.
#[derive(Debug)]
pub enum Claimed {
    /// The task is ours until the time given.
    Ours(Box<Record>),
    /// Somebody else is at it.
    Held,
    /// It is final.
    Final(Box<Record>),
    /// There is no such task.
    Unknown,
}

/// What became of giving a task back.
#[derive(Debug)]
pub enum Released {
    /// It is free, and due at the time given.
    Free,
    /// It was reported or hinted at meanwhile; it is still ours, and there is work to do.
    NewsCame(Box<Record>),
    /// Another worker has it.
    TakenOver,
}

/// What became of settling a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It is final.
    Final,
    /// Another worker has it, and everything is left to that one.
    TakenOver,
}

/// One conditional update in the making.
struct Update<'a> {
    action: &'static str,
    task: &'a TaskKey,
    set: Vec<String>,
    remove: Vec<&'static str>,
    condition: String,
    names: HashMap<String, String>,
    values: HashMap<String, AttributeValue>,
}

/// What a conditional update found.
enum Updated {
    /// The condition held; the item as it is now.
    Done(Item),
    /// It did not; the item as it was, if there is one.
    Refused(Option<Item>),
}

impl<'a> Update<'a> {
    fn new(action: &'static str, task: &'a TaskKey) -> Self {
        let empty = Self {
            action,
            task,
            set: vec![],
            remove: vec![],
            condition: String::new(),
            names: HashMap::new(),
            values: HashMap::new(),
        };
        // `state` is a reserved word of DynamoDB's expressions; so are a few others, so all attributes go by `#name`.
        empty.name(a::TASK).name(a::STATE)
    }

    fn name(mut self, name: &str) -> Self {
        self.names.insert(format!("#{name}"), name.to_owned());
        self
    }

    /// Sets an attribute.
    fn set(mut self, name: &'static str, value: AttributeValue) -> Self {
        self.set.push(format!("#{name} = :{name}"));
        self.values.insert(format!(":{name}"), value);
        self.name(name)
    }

    /// Sets an attribute that is to have a value; leaves it alone without one.
    fn set_some(self, name: &'static str, value: Option<AttributeValue>) -> Self {
        match value {
            Some(value) => self.set(name, value),
            None => self,
        }
    }

    /// Sets an attribute unless it is there.
    fn set_once(mut self, name: &'static str, value: Option<AttributeValue>) -> Self {
        let Some(value) = value else { return self };
        self.set.push(format!("#{name} = if_not_exists(#{name}, :{name})"));
        self.values.insert(format!(":{name}"), value);
        self.name(name)
    }

    /// Adds one to a number that may not be there yet.
    fn increment(mut self, name: &'static str) -> Self {
        self.set.push(format!("#{name} = if_not_exists(#{name}, :zero) + :one"));
        self.values.insert(":zero".to_owned(), number(0));
        self.values.insert(":one".to_owned(), number(1));
        self.name(name)
    }

    fn remove(mut self, names: &[&'static str]) -> Self {
        self.remove.extend(names);
        names.iter().fold(self, |update, name| update.name(name))
    }

    /// The condition, over `#attribute` names and `:values`. All names it uses are made known here.
    fn when(mut self, condition: impl Into<String>, names: &[&'static str], values: &[(&str, AttributeValue)]) -> Self {
        self.condition = condition.into();
        for (name, value) in values {
            self.values.insert((*name).to_owned(), value.clone());
        }
        names.iter().fold(self, |update, name| update.name(name))
    }

    /// Adds to the condition that the record does not belong to another task of the provider. A record without a provider's
    /// id may be anybody's: it is this task's only if the URL said so. Where the key was made of the id in the body, such a
    /// record is left alone, or whoever holds one URL could write into the task that somebody else calls by that name.
    fn same_provider_task(mut self, provider_task_id: Option<&str>) -> Self {
        let Some(id) = provider_task_id else { return self };
        let addressed_by_id = *self.task == TaskKey::unregistered(self.task.provider(), id);
        let nobodys = if addressed_by_id { a::TASK } else { a::PROVIDER_TASK_ID };
        self.condition = format!(
            "({}) AND (attribute_not_exists(#{nobodys}) OR #{id_name} = :same_id)",
            self.condition,
            id_name = a::PROVIDER_TASK_ID
        );
        self.values.insert(":same_id".to_owned(), text(id));
        self.name(a::PROVIDER_TASK_ID)
    }
}

impl Update<'_> {
    /// Adds to the condition that nothing has made the task due at another time since it was seen.
    fn still_due_at(mut self, seen: Option<Timestamp>) -> Self {
        let Some(seen) = seen else { return self };
        self.condition = format!("({}) AND #{name} = :seen_due_at", self.condition, name = a::DUE_AT);
        self.values.insert(":seen_due_at".to_owned(), time(seen));
        self.name(a::DUE_AT)
    }
}

impl Table {
    /// A table by name.
    pub fn new(client: aws_sdk_dynamodb::Client, name: String) -> Self {
        Self { client, name }
    }

    /// register: none -> pending. One write. Of two at the same moment one is new, and the other sees what it wrote.
    pub async fn register(&self, registration: &Registration, now: Timestamp) -> Result<Registered, TableError> {
        let task = &registration.task;
        let update = Update::new("registering", task)
            .set(a::STATE, text(State::Pending.name()))
            .set_some(a::PROVIDER_TASK_ID, registration.provider_task_id.clone().map(text))
            .set_some(a::ENDPOINT, registration.endpoint.clone().map(text))
            .set_some(a::FINGERPRINT, registration.submission.as_ref().map(|mark| text(&mark.fingerprint)))
            .set_some(a::UNDER_WAY_UNTIL, registration.submission.as_ref().map(|mark| time(mark.under_way_until)))
            .set_some(a::SUBMITTED_AT, registration.provider_task_id.as_ref().map(|_| time(now)))
            .set(a::CREATED_AT, time(now))
            .set(a::DEADLINE_AT, time(registration.deadline_at))
            .set(a::DUE_AT, time(registration.due_at))
            .set(a::DUE_SHARD, number(due_shard(task)))
            .set(a::CLAIM, number(0))
            .set(a::ATTEMPTS, number(0))
            .when("attribute_not_exists(#task)", &[], &[]);
        match self.apply(update).await? {
            Updated::Done(_) => Ok(Registered::New),
            Updated::Refused(old) => Ok(Registered::Existing(Box::new(self.seen("registering", task, old)?))),
        }
    }

    /// The provider took the submission, or the caller tells which task it submitted itself. From `due_at` on the provider can
    /// be asked: the record may have been put off to its deadline while nobody knew what to ask after.
    ///
    /// The record may be in any state, because the callback may have come first. An id that is there stays.
    pub async fn submitted(
        &self,
        task: &TaskKey,
        provider_task_id: &str,
        endpoint: Option<&str>,
        now: Timestamp,
        due_at: Timestamp,
    ) -> Result<Record, TableError> {
        let noting = || {
            Update::new("noting the submission", task)
                .set_once(a::PROVIDER_TASK_ID, Some(text(provider_task_id)))
                .set_once(a::ENDPOINT, endpoint.map(text))
                .set_once(a::SUBMITTED_AT, Some(time(now)))
        };
        let pending = noting().set(a::DUE_AT, time(due_at)).when(
            "#state = :pending AND attribute_not_exists(#provider_task_id)",
            &[],
            &[(":pending", text(State::Pending.name()))],
        );
        if let Updated::Done(item) = self.apply(pending).await? {
            return Ok(item::record(&item)?);
        }
        // Reported already, or the id is known: nothing becomes due by this.
        match self.apply(noting().when("attribute_exists(#task)", &[], &[])).await? {
            Updated::Done(item) => Ok(item::record(&item)?),
            Updated::Refused(old) => self.seen("noting the submission", task, old),
        }
    }

    /// The provider refused the submission, so there is no task and the id is free again. Only the submission with this mark
    /// is taken back, and only while nobody has heard of a task. False when something was heard: the record stays.
    pub async fn withdraw(&self, task: &TaskKey, mark: &SubmissionMark) -> Result<bool, TableError> {
        let deleted = self
            .client
            .delete_item()
            .table_name(&self.name)
            .key(a::TASK, text(task.to_string()))
            .condition_expression(
                "#state = :pending AND attribute_not_exists(#id) AND attribute_not_exists(#raw) \
                 AND #fingerprint = :fingerprint AND #until = :until",
            )
            .expression_attribute_names("#state", a::STATE)
            .expression_attribute_names("#id", a::PROVIDER_TASK_ID)
            .expression_attribute_names("#raw", a::RAW)
            .expression_attribute_names("#fingerprint", a::FINGERPRINT)
            .expression_attribute_names("#until", a::UNDER_WAY_UNTIL)
            .expression_attribute_values(":pending", text(State::Pending.name()))
            .expression_attribute_values(":fingerprint", text(&mark.fingerprint))
            .expression_attribute_values(":until", time(mark.under_way_until))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        match deleted {
            Ok(_) => Ok(true),
            Err(SdkError::ServiceError(error)) => match error.into_err() {
                // Without an item it was deleted by the first try, whose answer was lost.
                DeleteItemError::ConditionalCheckFailedException(refused) => Ok(refused.item.is_none()),
                other => Err(TableError::Call {
                    action: "withdrawing the submission",
                    task: task.to_string(),
                    reason: described_service(&other),
                }),
            },
            Err(error) => Err(failed("withdrawing the submission", task, &error)),
        }
    }

    /// A submission that was interrupted is made again, at the caller's express wish. One write, of which only one of two at
    /// the same moment succeeds: the mark of the interrupted one has to be there still.
    pub async fn resubmit(
        &self,
        task: &TaskKey,
        interrupted: &SubmissionMark,
        mark: &SubmissionMark,
        endpoint: Option<&str>,
        due_at: Timestamp,
        deadline_at: Option<Timestamp>,
    ) -> Result<bool, TableError> {
        let update = Update::new("submitting again", task)
            .set_some(a::DEADLINE_AT, deadline_at.map(time))
            .set(a::FINGERPRINT, text(&mark.fingerprint))
            .set(a::UNDER_WAY_UNTIL, time(mark.under_way_until))
            .set_some(a::ENDPOINT, endpoint.map(text))
            .set(a::DUE_AT, time(due_at))
            .when(
                "#state = :pending AND attribute_not_exists(#provider_task_id) AND #fingerprint = :old_fingerprint \
                 AND #under_way_until = :old_until",
                &[a::PROVIDER_TASK_ID],
                &[
                    (":pending", text(State::Pending.name())),
                    (":old_fingerprint", text(&interrupted.fingerprint)),
                    (":old_until", time(interrupted.under_way_until)),
                ],
            );
        Ok(matches!(self.apply(update).await?, Updated::Done(_)))
    }

    /// report: none, pending -> reported; or a success takes the place of something that is none. The report is due again in
    /// a minute, and only then may it be queued: if that fails, or the process dies in between, `poll` does it.
    ///
    /// `due_at` is when to look again if nobody settled it: a minute ahead, or the end of the lease of the worker who
    /// reports and goes on itself.
    pub async fn report(
        &self,
        accepted: &Accepted,
        now: Timestamp,
        due_at: Option<Timestamp>,
    ) -> Result<Recorded, TableError> {
        self.report_unless_changed(accepted, now, due_at, None).await
    }

    /// The same for a task that is given up: only while it is due at the time at which it was seen. A hint makes it due at
    /// once, and what a callback has just said is not closed as lost.
    pub async fn give_up(
        &self,
        accepted: &Accepted,
        seen: &Record,
        now: Timestamp,
        due_at: Option<Timestamp>,
    ) -> Result<Recorded, TableError> {
        self.report_unless_changed(accepted, now, due_at, Some(seen)).await
    }

    async fn report_unless_changed(
        &self,
        accepted: &Accepted,
        now: Timestamp,
        due_at: Option<Timestamp>,
        seen: Option<&Record>,
    ) -> Result<Recorded, TableError> {
        let due_at = due_at.unwrap_or(now.plus(REQUEUE_AFTER));
        // First the common case. A worker that is asking the provider right now keeps its claim and its lease: it finds the
        // task reported when it comes back, and goes on with this report.
        let first = reporting(accepted, now, due_at)
            .set_once(a::CLAIM, Some(number(0)))
            .when("attribute_not_exists(#task) OR #state = :pending", &[], &[(":pending", text(State::Pending.name()))])
            .same_provider_task(accepted.provider_task_id())
            .still_due_at(seen.and_then(|seen| seen.due_at));
        let held = match self.apply(first).await? {
            Updated::Done(_) => return Ok(Recorded::New),
            Updated::Refused(old) => self.seen("recording the report", accepted.key(), old)?,
        };
        if held.state == State::Pending && seen.is_some() {
            return Ok(Recorded::Duplicate);
        }
        if belongs_to_other_task(&held, accepted.provider_task_id()) {
            return Ok(Recorded::OtherTask);
        }
        let (new, old) = (accepted.report().outcome(), held.outcome());
        if !old.is_some_and(|old| new.replaces(old)) {
            return Ok(if old == Some(Outcome::Succeeded) && new != Outcome::Succeeded {
                Recorded::Contradicting
            } else {
                Recorded::Duplicate
            });
        }
        // A success takes the task over. The same write raises the claim and clears the lease: a worker still busy with the
        // failure would otherwise settle it over the success. Whoever loses this race sees a success and is a duplicate.
        let takeover = reporting(accepted, now, due_at)
            .increment(a::CLAIM)
            .remove(&[a::CLAIMED_UNTIL, a::FINISHED_AT, a::EXPIRES_AT, a::ARTIFACTS, a::UPLOAD, a::TROUBLE])
            .when(
                "#state <> :pending AND #outcome <> :succeeded",
                &[],
                &[(":pending", text(State::Pending.name())), (":succeeded", text(Outcome::Succeeded.name()))],
            )
            .same_provider_task(accepted.provider_task_id());
        match self.apply(takeover).await? {
            Updated::Done(_) => Ok(Recorded::TookOver),
            Updated::Refused(_) => Ok(Recorded::Duplicate),
        }
    }

    /// A hint: none, pending -> pending and due now. What may not be acted on by itself is kept with it, for the worker that
    /// asks and for an operator.
    pub async fn note_hint(&self, hint: &Hint, now: Timestamp, deadline_at: Timestamp) -> Result<Noted, TableError> {
        let update = noting("recording the hint", &hint.key, hint.provider_task_id.as_deref(), now, deadline_at)
            .set(a::DUE_AT, time(now))
            .set(a::RAW, text(hint.raw.expose()))
            .set(a::RAW_BYTES, number(hint.raw.received_bytes()))
            // Beside `raw`, which the provider's answer will take the place of in a moment.
            .set_some(a::UNREADABLE, (hint.why == Doubt::Unreadable).then(|| text(hint.raw.expose())))
            .set_some(a::FALLBACK, hint.fallback.as_ref().map(json))
            // From here on attempts are questions about this hint.
            .set(a::ATTEMPTS, number(0))
            .when("attribute_not_exists(#task) OR #state = :pending", &[], &[(":pending", text(State::Pending.name()))])
            .same_provider_task(hint.provider_task_id.as_deref());
        self.note(update, &hint.key, hint.provider_task_id.as_deref()).await
    }

    /// News that a task is open: none -> pending, or a submission whose answer never came gets its provider's id. A task that
    /// is known changes in nothing.
    pub async fn note_open(
        &self,
        open: &Open,
        now: Timestamp,
        due_at: Timestamp,
        deadline_at: Timestamp,
    ) -> Result<Noted, TableError> {
        let update = noting("recording an open task", &open.key, open.provider_task_id.as_deref(), now, deadline_at)
            // A record that had no id yet may have been put off to its deadline; now there is somebody to ask after.
            .set(a::DUE_AT, time(due_at))
            .when(
                "attribute_not_exists(#task) OR (#state = :pending AND attribute_not_exists(#provider_task_id))",
                &[a::PROVIDER_TASK_ID],
                &[(":pending", text(State::Pending.name()))],
            );
        self.note(update, &open.key, open.provider_task_id.as_deref()).await
    }

    async fn note(
        &self,
        update: Update<'_>,
        task: &TaskKey,
        provider_task_id: Option<&str>,
    ) -> Result<Noted, TableError> {
        let action = update.action;
        match self.apply(update).await? {
            Updated::Done(_) => Ok(Noted::Recorded),
            Updated::Refused(old) => {
                let held = self.seen(action, task, old)?;
                let other = belongs_to_other_task(&held, provider_task_id);
                Ok(if other { Noted::OtherTask } else { Noted::Known(Box::new(held)) })
            }
        }
    }

    /// claim: not final, and no live lease. The claim's number fences: whoever claims later makes every earlier claim void.
    /// Of two at the same moment, one is told that the task is held.
    pub async fn claim(&self, task: &TaskKey, now: Timestamp, until: Timestamp) -> Result<Claimed, TableError> {
        let update = Update::new("claiming", task)
            .increment(a::CLAIM)
            .increment(a::ATTEMPTS)
            .set(a::CLAIMED_UNTIL, time(until))
            // A worker that dies leaves a lease that runs out when the task is due again: the same moment.
            .set(a::DUE_AT, time(until))
            .when(
                "#state IN (:pending, :reported) AND (attribute_not_exists(#claimed_until) OR #claimed_until <= :now)",
                &[],
                &[
                    (":pending", text(State::Pending.name())),
                    (":reported", text(State::Reported.name())),
                    (":now", time(now)),
                ],
            );
        match self.apply(update).await? {
            Updated::Done(item) => Ok(Claimed::Ours(Box::new(item::record(&item)?))),
            Updated::Refused(None) => Ok(Claimed::Unknown),
            Updated::Refused(Some(old)) => {
                let held = item::record(&old)?;
                Ok(if held.state.is_final() { Claimed::Final(Box::new(held)) } else { Claimed::Held })
            }
        }
    }

    /// Keeps a claim for longer. False when another worker has it, or the task is final: the work is to be dropped.
    pub async fn renew(&self, task: &TaskKey, claim: u64, until: Timestamp) -> Result<bool, TableError> {
        let update = Update::new("renewing the claim", task)
            .set(a::CLAIMED_UNTIL, time(until))
            .set(a::DUE_AT, time(until))
            .when(
                // A lease that was given back is not taken again by a renewal that was under way.
                "#claim = :claim AND #state IN (:pending, :reported) AND attribute_exists(#claimed_until)",
                &[a::CLAIM],
                &[
                    (":claim", number(claim)),
                    (":pending", text(State::Pending.name())),
                    (":reported", text(State::Reported.name())),
                ],
            );
        Ok(matches!(self.apply(update).await?, Updated::Done(_)))
    }

    /// Gives a claimed task back, due at a time. `upload` is what a later worker needs to go on with a copy, `trouble` is why
    /// there has to be one, for people; either is left as it stands when there is nothing new.
    ///
    /// A task that was pending when it was claimed, and of which a callback has said more since, is not given back: nobody else
    /// could take it before the lease runs out, so the worker goes on with what is held now.
    pub async fn release(
        &self,
        record: &Record,
        due_at: Timestamp,
        upload: Option<&str>,
        trouble: Option<&str>,
    ) -> Result<Released, TableError> {
        let update = Update::new("giving back", &record.task)
            .set(a::DUE_AT, time(due_at))
            .set_some(a::UPLOAD, upload.map(text))
            .set_some(a::TROUBLE, trouble.map(text))
            .remove(&[a::CLAIMED_UNTIL])
            .when(
                // A claim makes both times the same; a hint that came since has made the task due at once.
                "#claim = :claim AND #state = :state AND (#state = :reported OR #due_at = #claimed_until)",
                &[a::CLAIM],
                &[
                    (":claim", number(record.claim)),
                    (":state", text(record.state.name())),
                    (":reported", text(State::Reported.name())),
                ],
            );
        match self.apply(update).await? {
            Updated::Done(_) => Ok(Released::Free),
            Updated::Refused(old) => {
                let held = self.seen("giving back", &record.task, old)?;
                let still_ours = held.claim == record.claim && !held.state.is_final();
                Ok(if still_ours { Released::NewsCame(Box::new(held)) } else { Released::TakenOver })
            }
        }
    }

    /// settle: reported -> final, while the claim is still ours. `report` is what was announced: the report held, or the
    /// conclusion that its result is lost.
    pub async fn settle(
        &self,
        record: &Record,
        report: &Report,
        artifacts: &[StoredArtifact],
        now: Timestamp,
    ) -> Result<Settled, TableError> {
        let outcome = report.outcome();
        let update = Update::new("settling", &record.task)
            .set(a::STATE, text(State::settled(outcome).name()))
            .set(a::OUTCOME, text(outcome.name()))
            .set(a::REPORT, json(report))
            .set(a::ARTIFACTS, json(artifacts))
            .set(a::FINISHED_AT, time(now))
            .set(a::EXPIRES_AT, time(now.plus(RETENTION)))
            .remove(&[a::DUE_AT, a::DUE_SHARD, a::CLAIMED_UNTIL, a::UPLOAD, a::TROUBLE])
            .when(
                "#claim = :claim AND #state = :reported",
                &[a::CLAIM],
                &[(":claim", number(record.claim)), (":reported", text(State::Reported.name()))],
            );
        match self.apply(update).await? {
            Updated::Done(_) => Ok(Settled::Final),
            Updated::Refused(_) => Ok(Settled::TakenOver),
        }
    }

    /// Takes a due task for a visit by `poll`: moves it forward, so that it is found again if the visit comes to nothing, and
    /// no other run visits it meanwhile. None when somebody else was first, a worker has it, or it is final.
    pub async fn take(
        &self,
        task: &TaskKey,
        seen_due_at: Timestamp,
        next_due_at: Timestamp,
        now: Timestamp,
    ) -> Result<Option<Record>, TableError> {
        let update = Update::new("visiting", task).set(a::DUE_AT, time(next_due_at)).increment(a::ATTEMPTS).when(
            "#state IN (:pending, :reported) AND #due_at = :seen \
                 AND (attribute_not_exists(#claimed_until) OR #claimed_until <= :now)",
            &[a::CLAIMED_UNTIL],
            &[
                (":pending", text(State::Pending.name())),
                (":reported", text(State::Reported.name())),
                (":seen", time(seen_due_at)),
                (":now", time(now)),
            ],
        );
        match self.apply(update).await? {
            Updated::Done(item) => Ok(Some(item::record(&item)?)),
            Updated::Refused(_) => Ok(None),
        }
    }

    /// Moves an open task to another time, unless something happened to it since it was taken.
    pub async fn postpone(&self, record: &Record, due_at: Timestamp) -> Result<(), TableError> {
        let Some(seen) = record.due_at else { return Ok(()) };
        let update = Update::new("postponing", &record.task).set(a::DUE_AT, time(due_at)).when(
            "#state = :pending AND #due_at = :seen",
            &[],
            &[(":pending", text(State::Pending.name())), (":seen", time(seen))],
        );
        self.apply(update).await.map(drop)
    }

    /// The tasks of a shard that are due, the longest overdue first, at most `limit` of them.
    pub async fn due(&self, shard: u8, now: Timestamp, limit: u16) -> Result<Vec<(TaskKey, Timestamp)>, TableError> {
        let failed = |reason: String| TableError::Call {
            action: "reading the due tasks",
            task: format!("shard {shard}"),
            reason,
        };
        let mut due = Vec::new();
        let mut start = None;
        loop {
            let page = self
                .client
                .query()
                .table_name(&self.name)
                .index_name(DUE_INDEX)
                .key_condition_expression("due_shard = :shard AND due_at <= :now")
                .expression_attribute_values(":shard", number(shard))
                .expression_attribute_values(":now", time(now))
                .limit(i32::from(limit))
                .set_exclusive_start_key(start)
                .send()
                .await
                .map_err(|error| failed(described(&error)))?;
            for item in page.items() {
                let task = item.get(a::TASK).and_then(|task| task.as_s().ok()).and_then(|task| task.parse().ok());
                let at = item.get(a::DUE_AT).and_then(|at| at.as_n().ok()).and_then(|at| at.parse().ok());
                if let (Some(task), Some(at)) = (task, at) {
                    due.push((task, Timestamp::from_seconds(at)));
                } else {
                    tracing::error!(shard, "a due record has no readable key and is passed over");
                }
            }
            // A page ends at 1 MB, at `limit`, or for no reason at all; only a missing key says that there is no more.
            start = page.last_evaluated_key().cloned();
            if start.is_none() || due.len() >= usize::from(limit) {
                return Ok(due);
            }
        }
    }

    /// A record, read consistently.
    pub async fn get(&self, task: &TaskKey) -> Result<Option<Record>, TableError> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.name)
            .key(a::TASK, text(task.to_string()))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| failed("reading", task, &error))?;
        Ok(answer.item().map(item::record).transpose()?)
    }

    async fn apply(&self, update: Update<'_>) -> Result<Updated, TableError> {
        let own = text(write_number());
        let update = update.set(a::WRITTEN_BY, own.clone());
        let mut expression = format!("SET {}", update.set.join(", "));
        if !update.remove.is_empty() {
            let names: Vec<String> = update.remove.iter().map(|name| format!("#{name}")).collect();
            expression.push_str(" REMOVE ");
            expression.push_str(&names.join(", "));
        }
        // DynamoDB refuses names and values that no expression uses.
        let used = |name: &str| mentions(&expression, name) || mentions(&update.condition, name);
        let names = update.names.into_iter().filter(|(name, _)| used(name)).collect();
        let values = update.values.into_iter().filter(|(name, _)| used(name)).collect();
        let answer = self
            .client
            .update_item()
            .table_name(&self.name)
            .key(a::TASK, text(update.task.to_string()))
            .update_expression(&expression)
            .condition_expression(&update.condition)
            .set_expression_attribute_names(Some(names))
            .set_expression_attribute_values(Some(values))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        match answer {
            Ok(answer) => Ok(Updated::Done(answer.attributes.unwrap_or_default())),
            Err(SdkError::ServiceError(error)) => match error.into_err() {
                UpdateItemError::ConditionalCheckFailedException(refused) => Ok(match refused.item {
                    // The first try was written and its answer lost. Whoever wrote in between has left their own number;
                    // then this write counts as refused, which every caller copes with.
                    Some(item) if item.get(a::WRITTEN_BY) == Some(&own) => Updated::Done(item),
                    item => Updated::Refused(item),
                }),
                other => Err(TableError::Call {
                    action: update.action,
                    task: update.task.to_string(),
                    reason: described_service(&other),
                }),
            },
            Err(error) => Err(failed(update.action, update.task, &error)),
        }
    }

    /// The item that made a condition fail. There is one whenever the condition allows for none.
    fn seen(&self, action: &'static str, task: &TaskKey, old: Option<Item>) -> Result<Record, TableError> {
        match old {
            Some(item) => Ok(item::record(&item)?),
            None => Err(TableError::Call {
                action,
                task: task.to_string(),
                reason: format!("the table {} holds no such task", self.name),
            }),
        }
    }
}

fn reporting(accepted: &Accepted, now: Timestamp, due_at: Timestamp) -> Update<'_> {
    Update::new("recording the report", accepted.key())
        .set(a::STATE, text(State::Reported.name()))
        .set(a::OUTCOME, text(accepted.report().outcome().name()))
        .set(a::REPORT, json(accepted.report()))
        .set(a::REPORTED_BY, text(accepted.reporter().name()))
        .set(a::REPORTED_AT, time(now))
        .set(a::RAW, text(accepted.raw().expose()))
        .set(a::RAW_BYTES, number(accepted.raw().received_bytes()))
        .set(a::DUE_AT, time(due_at))
        .set(a::DUE_SHARD, number(due_shard(accepted.key())))
        .set(a::ATTEMPTS, number(0))
        .set_once(a::PROVIDER_TASK_ID, accepted.provider_task_id().map(text))
        .set_once(a::CREATED_AT, Some(time(now)))
        .remove(&[a::FALLBACK])
}

fn noting<'a>(
    action: &'static str,
    task: &'a TaskKey,
    provider_task_id: Option<&str>,
    now: Timestamp,
    deadline_at: Timestamp,
) -> Update<'a> {
    Update::new(action, task)
        .set(a::STATE, text(State::Pending.name()))
        .set(a::DUE_SHARD, number(due_shard(task)))
        .set_once(a::PROVIDER_TASK_ID, provider_task_id.map(text))
        .set_once(a::CREATED_AT, Some(time(now)))
        .set_once(a::DEADLINE_AT, Some(time(deadline_at)))
        .set_once(a::CLAIM, Some(number(0)))
        .set_once(a::ATTEMPTS, Some(number(0)))
}

/// A number that no other write has: that of the process, and a count.
fn write_number() -> String {
    static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one("write"));
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{:016x}-{}", *PROCESS, COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Whether an expression has exactly this `#name` or `:value`, not one that begins with it.
fn mentions(expression: &str, name: &str) -> bool {
    expression.match_indices(name).any(|(at, _)| {
        !expression[at + name.len()..].starts_with(|next: char| next.is_ascii_alphanumeric() || next == '_')
    })
}

/// Whether the record is another task's; see [`Update::same_provider_task`].
fn belongs_to_other_task(held: &Record, provider_task_id: Option<&str>) -> bool {
    match (&held.provider_task_id, provider_task_id) {
        (Some(held), Some(given)) => held != given,
        (None, Some(given)) => held.task == TaskKey::unregistered(held.task.provider(), given),
        (_, None) => false,
    }
}

fn failed<E: ProvideErrorMetadata, R>(action: &'static str, task: &TaskKey, error: &SdkError<E, R>) -> TableError {
    TableError::Call { action, task: task.to_string(), reason: described(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_writes_have_one_number() {
        let numbers: std::collections::HashSet<_> = (0..1000).map(|_| write_number()).collect();
        assert_eq!(numbers.len(), 1000);
    }

    #[test]
    fn names_are_found_whole() {
        assert!(mentions("#claim = :claim", ":claim"));
        assert!(!mentions("#claimed_until <= :now", "#claim"));
        assert!(mentions("#claimed_until <= :now AND #claim = :c", "#claim"));
    }
}
