//! What callbacks and status polls say about a task, and what follows from it.

use super::{Condition, Effect, Transition, Write};
use crate::callback::{Accepted, Hint, Open, Raw};
use crate::item::{Attribute as A, Value};
use crate::providers::adapter::HintReason;
use crate::record::{FOUND_WITHIN, Fallback, PendingHint, REQUEUE_AFTER, RETENTION, Record, State, due_shard};
use crate::report::Outcome;
use crate::stored_report;
use crate::task::TaskKey;
use crate::time::Timestamp;

/// When a task about which something was said is looked at again, if its message is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Due {
    /// When it is due anyway. Refused where that is later than [`FOUND_WITHIN`].
    Kept,
    /// At the time that is given with the write, whenever it was due before.
    Moved,
}

impl Due {
    /// Whether [`Due::Kept`] may have been refused because the task is due too late; then [`Due::Moved`] is tried.
    pub fn is_too_late(held: &Record, now: Timestamp) -> bool {
        held.state == State::Pending && held.due_at.is_none_or(|due_at| due_at > now + FOUND_WITHIN)
    }

    fn condition(self, now: Timestamp) -> Option<Condition> {
        (self == Self::Kept).then(|| Condition::AtMost(A::DueAt, (now + FOUND_WITHIN).seconds()))
    }

    fn effect(self, due_at: Timestamp) -> Effect {
        match self {
            Self::Kept => Effect::SetOnce(A::DueAt, due_at.into()),
            Self::Moved => Effect::Set(A::DueAt, due_at.into()),
        }
    }
}

/// report: none, pending -> reported. The report is written due, and only then may it be queued: if that fails, or the
/// process dies in between, `poll` queues it.
///
/// A worker that is polling the provider right now keeps its claim and its lease: it finds the task reported when it comes
/// back, and continues with this report. A task that a hint reopened holds a failure, and only a success reports it again.
///
/// `read` is the record that a status poll was about. A failure that the poll found is refused when a hint came since the
/// record was read: the provider may have said so before it said what the hint says, and a report ends the hint.
pub fn report(accepted: &Accepted, read: Option<&Record>, now: Timestamp, due: Due) -> Transition {
    let mut pending = vec![Condition::Is(A::State, State::Pending.into())];
    pending.extend(due.condition(now));
    if accepted.report().outcome() != Outcome::Succeeded {
        pending.push(Condition::Lacks(A::Outcome));
        pending.extend(read.map(Condition::unrevised));
    }
    let condition = Condition::Any(vec![Condition::Lacks(A::Task), Condition::All(pending)]);
    Transition {
        action: "recording the report",
        task: accepted.key().clone(),
        condition: same_provider_task(accepted.key(), accepted.provider_task_id(), condition),
        write: Write::Update(reported(accepted, now, due)),
    }
}

/// A success replaces a failure that is held, settled or not. The same write raises the fencing token and clears the lease:
/// a worker still busy with the failure would otherwise settle it over the success. Whoever loses this race sees a success
/// and is a duplicate.
pub fn take_over(accepted: &Accepted, now: Timestamp) -> Transition {
    let condition = holds_a_failure(&[State::Reported, State::Failed, State::Lost]);
    let mut effects = reported(accepted, now, Due::Moved);
    effects.extend([
        Effect::Increment(A::FencingToken),
        Effect::Remove(A::ClaimedUntil),
        Effect::Remove(A::FinishedAt),
        Effect::Remove(A::ExpiresAt),
    ]);
    Transition {
        action: "recording the report",
        task: accepted.key().clone(),
        condition: same_provider_task(accepted.key(), accepted.provider_task_id(), condition),
        write: Write::Update(effects),
    }
}

/// close: pending -> reported, as lost. Only while nothing was said about the task since it was read: what a callback has
/// just said is not closed. It is due when it was, at its deadline.
pub fn close(accepted: &Accepted, read: &Record, now: Timestamp) -> Transition {
    Transition {
        action: "closing the task",
        task: accepted.key().clone(),
        condition: Condition::All(vec![
            Condition::Is(A::State, State::Pending.into()),
            Condition::Lacks(A::Outcome),
            Condition::unrevised(read),
        ]),
        write: Write::Update(reported(accepted, now, Due::Kept)),
    }
}

/// A hint: none, pending -> pending and due soon. What may not be acted on by itself is kept with it, for the worker that
/// confirms it and for an operator.
pub fn note_hint(hint: &Hint, now: Timestamp, deadline_at: Timestamp, due: Due) -> Transition {
    let id = hint.provider_task_id.as_deref();
    let mut effects = known(&hint.key, id, now, deadline_at);
    effects.extend(hinted(hint, now, due));
    let mut pending = vec![Condition::Is(A::State, State::Pending.into())];
    pending.extend(due.condition(now));
    let condition = Condition::Any(vec![Condition::Lacks(A::Task), Condition::All(pending)]);
    Transition {
        action: "recording the hint",
        task: hint.key.clone(),
        condition: same_provider_task(&hint.key, id, condition),
        write: Write::Update(effects),
    }
}

/// reopen: a hint says that a task with a failure succeeded after all. The failure stays in the record, to be restored if the
/// provider does not confirm the success. As in [`take_over`], a worker busy with the failure loses the task.
pub fn reopen(hint: &Hint, now: Timestamp) -> Transition {
    let mut effects = vec![
        Effect::Set(A::State, State::Pending.into()),
        Effect::Set(A::DueShard, u64::from(due_shard(&hint.key)).into()),
        Effect::Increment(A::FencingToken),
        Effect::Remove(A::ClaimedUntil),
        Effect::Remove(A::FinishedAt),
        Effect::Remove(A::ExpiresAt),
    ];
    effects.extend(hinted(hint, now, Due::Moved));
    Transition {
        action: "reopening the task",
        task: hint.key.clone(),
        condition: same_provider_task(
            &hint.key,
            hint.provider_task_id.as_deref(),
            holds_a_failure(&[State::Reported, State::Failed, State::Lost]),
        ),
        write: Write::Update(effects),
    }
}

/// restore: the hint that reopened a task was not confirmed; the failure it holds stands, and is settled again. Only by the
/// worker whose claim it is, and while no other hint came.
pub fn restore(record: &Record) -> Transition {
    let mut effects = vec![
        Effect::Set(A::State, State::Reported.into()),
        Effect::Set(A::Attempts, Value::Number(0)),
        Effect::Remove(A::Hint),
        Effect::Remove(A::Fallback),
    ];
    if record.fallback.is_some() {
        // The body is the hint's: it took the place of the failure's, and is not announced with it.
        effects.extend([Effect::Remove(A::Raw), Effect::Remove(A::RawBytes)]);
    }
    Transition {
        action: "restoring the failure",
        task: record.task.clone(),
        condition: Condition::All(vec![
            Condition::Is(A::State, State::Pending.into()),
            Condition::Has(A::Outcome),
            Condition::still_claimed(record),
            Condition::unrevised(record),
        ]),
        write: Write::Update(effects),
    }
}

/// remove: the provider does not know the task of a hint, and nobody registered it. Only by the worker whose claim it is, and
/// while nothing else was said about it.
pub fn remove(record: &Record) -> Transition {
    Transition {
        action: "removing the refuted task",
        task: record.task.clone(),
        condition: Condition::All(vec![
            Condition::Is(A::State, State::Pending.into()),
            Condition::Lacks(A::Outcome),
            Condition::Lacks(A::RegisteredAt),
            Condition::still_claimed(record),
            Condition::unrevised(record),
        ]),
        write: Write::Delete,
    }
}

/// News that a task is open: none -> pending, or a submission whose response never came gets its provider task id. A known
/// task does not change.
pub fn note_open(open: &Open, now: Timestamp, due_at: Timestamp, deadline_at: Timestamp) -> Transition {
    let mut effects = known(&open.key, open.provider_task_id.as_deref(), now, deadline_at);
    // A record without an id may have been put off to its deadline; now it can be polled.
    effects.push(Effect::Set(A::DueAt, due_at.into()));
    effects.extend(Effect::set_once_some(A::Endpoint, open.endpoint));
    let condition = Condition::Any(vec![
        Condition::Lacks(A::Task),
        Condition::All(vec![Condition::Is(A::State, State::Pending.into()), Condition::Lacks(A::ProviderTaskId)]),
    ]);
    Transition {
        action: "recording the open task",
        task: open.key.clone(),
        condition: same_provider_task(&open.key, open.provider_task_id.as_deref(), condition),
        write: Write::Update(effects),
    }
}

/// keep: an authentic body that is about no task we can tell is kept under its hash, for an operator. Nothing follows from it,
/// and it expires like a final record. The same body again finds itself.
pub fn keep(key: &TaskKey, raw: &Raw, now: Timestamp) -> Transition {
    Transition {
        action: "keeping the body",
        task: key.clone(),
        condition: Condition::Lacks(A::Task),
        write: Write::Update(vec![
            Effect::Set(A::State, State::Unattributed.into()),
            Effect::Set(A::CreatedAt, now.into()),
            Effect::Set(A::FinishedAt, now.into()),
            Effect::Set(A::ExpiresAt, (now + RETENTION).into()),
            Effect::Set(A::Raw, raw.expose().into()),
            Effect::Set(A::RawBytes, raw_bytes(raw)),
        ]),
    }
}

/// The record does not belong to another task of the provider. A record without a provider task id may be anybody's: it is
/// this task's only if the URL said so. Where the key was made of the id in the body, such a record is left alone, or whoever
/// holds one URL could write into the task that somebody else calls by that name.
fn same_provider_task(key: &TaskKey, provider_task_id: Option<&str>, condition: Condition) -> Condition {
    let Some(id) = provider_task_id else { return condition };
    let nobodys = if key.is_named_after(id) { A::Task } else { A::ProviderTaskId };
    Condition::All(vec![
        condition,
        Condition::Any(vec![Condition::Lacks(nobodys), Condition::Is(A::ProviderTaskId, id.into())]),
    ])
}

/// Why a report was refused, and what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterReport {
    /// It is a success over a failure: [`take_over`] is to be tried.
    TakeOver,
    /// It says what is known.
    Duplicate,
    /// It contradicts the success that is held.
    Contradicting,
    /// The record belongs to another task of the provider.
    OtherTask,
}

/// What a report means for the record that refused it.
pub fn after_report(accepted: &Accepted, held: &Record) -> AfterReport {
    if belongs_to_other_task(held, accepted.provider_task_id()) {
        return AfterReport::OtherTask;
    }
    let new = accepted.report().outcome();
    match held.outcome() {
        Some(old) if new.replaces(old) => AfterReport::TakeOver,
        Some(Outcome::Succeeded) if new != Outcome::Succeeded => AfterReport::Contradicting,
        _ => AfterReport::Duplicate,
    }
}

/// Why a hint was refused, and what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterHint {
    /// It claims a success over a failure: [`reopen`] is to be tried.
    Reopen,
    /// The record knows as much.
    Known,
    /// The record belongs to another task of the provider.
    OtherTask,
}

/// What a hint means for the record that refused it.
pub fn after_hint(hint: &Hint, held: &Record) -> AfterHint {
    if belongs_to_other_task(held, hint.provider_task_id.as_deref()) {
        return AfterHint::OtherTask;
    }
    let says_more = hint.outcome.is_some_and(|said| held.outcome().is_some_and(|held| said.replaces(held)));
    if says_more { AfterHint::Reopen } else { AfterHint::Known }
}

/// Whether a record belongs to another task of the provider than this; the condition of every report and hint, in reverse.
pub fn belongs_to_other_task(held: &Record, provider_task_id: Option<&str>) -> bool {
    match (&held.provider_task_id, provider_task_id) {
        (Some(held), Some(given)) => held != given,
        (None, Some(given)) => held.task.is_named_after(given),
        (_, None) => false,
    }
}

fn holds_a_failure(states: &[State]) -> Condition {
    let failures = [Outcome::Failed, Outcome::Lost].map(|outcome| outcome.name().into());
    Condition::All(vec![Condition::state_in(states), Condition::one_of(A::Outcome, failures)])
}

fn reported(accepted: &Accepted, now: Timestamp, due: Due) -> Vec<Effect> {
    let mut effects = vec![
        Effect::Set(A::State, State::Reported.into()),
        Effect::Set(A::Outcome, accepted.report().outcome().name().into()),
        Effect::Set(A::Report, stored_report::stored(accepted.report(), accepted.report(), accepted.raw())),
        Effect::Set(A::ReportedBy, accepted.reporter().name().into()),
        Effect::Set(A::ReportedAt, now.into()),
        Effect::Set(A::Raw, accepted.raw().expose().into()),
        Effect::Set(A::RawBytes, raw_bytes(accepted.raw())),
        due.effect(now + REQUEUE_AFTER),
        Effect::Set(A::DueShard, u64::from(due_shard(accepted.key())).into()),
        Effect::Set(A::Attempts, Value::Number(0)),
        Effect::SetOnce(A::CreatedAt, now.into()),
        Effect::Remove(A::Hint),
        Effect::Remove(A::Fallback),
        // Those of the report before, if there was one.
        Effect::Remove(A::Artifacts),
        Effect::Remove(A::Checkpoints),
        Effect::Remove(A::LastError),
    ];
    effects.extend(Effect::set_once_some(A::ProviderTaskId, accepted.provider_task_id()));
    effects
}

/// The effects of making a task known from a callback.
fn known(key: &TaskKey, provider_task_id: Option<&str>, now: Timestamp, deadline_at: Timestamp) -> Vec<Effect> {
    let mut effects = vec![
        Effect::Set(A::State, State::Pending.into()),
        Effect::Set(A::DueShard, u64::from(due_shard(key)).into()),
        Effect::SetOnce(A::CreatedAt, now.into()),
        Effect::SetOnce(A::DeadlineAt, deadline_at.into()),
    ];
    effects.extend(Effect::set_once_some(A::ProviderTaskId, provider_task_id));
    effects
}

fn hinted(hint: &Hint, now: Timestamp, due: Due) -> Vec<Effect> {
    let mut effects = vec![
        due.effect(now),
        Effect::Set(A::Attempts, Value::Number(0)),
        Effect::Increment(A::Revision),
        // The first of several counts: repeating a hint prolongs nothing.
        Effect::SetOnce(A::Hint, Value::json(&PendingHint::new(now))),
    ];
    effects.extend(Effect::set_once_some(A::Endpoint, hint.endpoint));
    if let Some(report) = &hint.fallback {
        let fallback = Fallback { report: report.clone(), received_at: now };
        effects.extend([
            Effect::Set(A::Fallback, stored_report::stored(&fallback, report, &hint.raw)),
            Effect::Set(A::Raw, hint.raw.expose().into()),
            Effect::Set(A::RawBytes, raw_bytes(&hint.raw)),
        ]);
    } else {
        // The body of an earlier fallback stays with it.
        effects.extend([
            Effect::SetOnce(A::Raw, hint.raw.expose().into()),
            Effect::SetOnce(A::RawBytes, raw_bytes(&hint.raw)),
        ]);
    }
    if hint.reason == HintReason::Unreadable {
        // Beside `raw`, which the provider's response will replace.
        effects.push(Effect::Set(A::Unreadable, hint.raw.expose().into()));
    }
    effects
}

fn raw_bytes(raw: &Raw) -> Value {
    u64::try_from(raw.received_bytes()).unwrap_or(u64::MAX).into()
}
