//! Who works on a task, and when to look at it again.

use super::{Condition, Effect, Transition, Write};
use crate::item::{Attribute as A, Value};
use crate::record::{PendingHint, RETENTION, Record, State};
use crate::report::Report;
use crate::result::StoredArtifact;
use crate::task::TaskKey;
use crate::time::Timestamp;
use crate::transfer::checkpoint::Checkpoints;

const OPEN: [State; 2] = [State::Pending, State::Reported];

/// claim: not final, and no live lease. The fencing token makes every earlier claim void. Of two workers at the same moment,
/// one is told that the task is held. When the task is due stays as it is, because to move it would cost as much as two writes,
/// and most work ends before the first renewal; what is due and held, `poll` leaves alone until the lease is over
/// ([`is_due`]).
pub fn claim(task: &TaskKey, now: Timestamp, until: Timestamp) -> Transition {
    Transition {
        action: "claiming",
        task: task.clone(),
        condition: Condition::All(vec![Condition::state_in(&OPEN), no_live_lease(now)]),
        write: Write::Update(vec![
            Effect::Increment(A::FencingToken),
            Effect::Increment(A::Attempts),
            Effect::Set(A::ClaimedUntil, until.into()),
        ]),
    }
}

/// Extends a lease. Refused when another worker has the task, when it is final, or when the lease was given back: a renewal
/// that was in flight does not take it again.
pub fn renew(task: &TaskKey, fencing_token: u64, until: Timestamp) -> Transition {
    Transition {
        action: "renewing the claim",
        task: task.clone(),
        condition: Condition::All(vec![
            Condition::Is(A::FencingToken, fencing_token.into()),
            Condition::state_in(&OPEN),
            Condition::Has(A::ClaimedUntil),
        ]),
        // From the first renewal on, the task is due when the lease ends: a worker that is stopped after its 15 minutes gets its
        // message back while its lease lives, and drops it.
        write: Write::Update(vec![Effect::Set(A::ClaimedUntil, until.into()), Effect::Set(A::DueAt, until.into())]),
    }
}

/// Gives back a claimed task that is still open, with what a status poll taught about its hint.
///
/// A task about which more was said since it was claimed is not given back: nobody else could take it before the lease runs
/// out, so the worker continues with what is held now.
pub fn release_open(record: &Record, due_at: Timestamp, hint: Option<&PendingHint>) -> Transition {
    let mut effects = vec![Effect::Set(A::DueAt, due_at.into()), Effect::Remove(A::ClaimedUntil)];
    match hint {
        Some(hint) => effects.push(Effect::Set(A::Hint, Value::json(hint))),
        None => effects.extend([Effect::Remove(A::Hint), Effect::Remove(A::Fallback)]),
    }
    Transition {
        action: "releasing",
        task: record.task.clone(),
        condition: Condition::All(vec![
            Condition::Is(A::State, State::Pending.into()),
            Condition::still_claimed(record),
            Condition::unrevised(record),
        ]),
        write: Write::Update(effects),
    }
}

/// Gives back a claimed task whose result is not whole yet: what a later worker resumes from, and why there has to be one.
pub fn release_unfinished(
    record: &Record,
    due_at: Timestamp,
    checkpoints: Option<&Checkpoints>,
    last_error: Option<&str>,
) -> Transition {
    let mut effects = vec![Effect::Set(A::DueAt, due_at.into()), Effect::Remove(A::ClaimedUntil)];
    effects.extend(checkpoints.map(|checkpoints| {
        if checkpoints.is_empty() {
            Effect::Remove(A::Checkpoints)
        } else {
            Effect::Set(A::Checkpoints, Value::json(checkpoints))
        }
    }));
    effects.extend(Effect::set_some(A::LastError, last_error));
    Transition {
        action: "releasing",
        task: record.task.clone(),
        condition: Condition::All(vec![
            Condition::Is(A::State, State::Reported.into()),
            Condition::still_claimed(record),
        ]),
        write: Write::Update(effects),
    }
}

/// settle: reported -> final, while the claim is still ours. `report` is what was published: the report held, or the
/// conclusion that its result is lost. A success is kept without its links, which only its body holds from here on: the files
/// are in `artifacts`, and most records stay below the kilobyte that one write unit pays for.
pub fn settle(record: &Record, report: &Report, artifacts: &[StoredArtifact], now: Timestamp) -> Transition {
    let outcome = report.outcome();
    Transition {
        action: "settling",
        task: record.task.clone(),
        condition: Condition::All(vec![
            Condition::Is(A::State, State::Reported.into()),
            Condition::still_claimed(record),
        ]),
        write: Write::Update(vec![
            Effect::Set(A::State, State::settled(outcome).into()),
            Effect::Set(A::Outcome, outcome.name().into()),
            Effect::Set(A::Report, Value::json(&report.without_artifacts())),
            Effect::Set(A::Artifacts, Value::json(artifacts)),
            Effect::Set(A::FinishedAt, now.into()),
            Effect::Set(A::ExpiresAt, (now + RETENTION).into()),
            Effect::Remove(A::DueAt),
            Effect::Remove(A::DueShard),
            Effect::Remove(A::ClaimedUntil),
            Effect::Remove(A::Checkpoints),
            Effect::Remove(A::LastError),
        ]),
    }
}

/// Whether `poll` reconciles a task that it found in the index: it is not final, it is due by its record too, and no worker has
/// it. Nothing is written before: two runs at once poll a task twice, which does no harm, and a write that moves a task costs as
/// much as three.
pub fn is_due(record: &Record, now: Timestamp) -> bool {
    let is_held = record.claimed_until.is_some_and(|until| until > now);
    !record.state.is_final() && !is_held && record.due_at.is_some_and(|due_at| due_at <= now)
}

/// Moves a task that `poll` reconciles to another time, unless something happened to it since.
pub fn postpone(record: &Record, due_at: Timestamp) -> Transition {
    let unchanged = match record.due_at {
        Some(seen) => Condition::Is(A::DueAt, seen.into()),
        None => Condition::Lacks(A::DueAt),
    };
    Transition {
        action: "postponing",
        task: record.task.clone(),
        // What is final is never due again.
        condition: Condition::All(vec![
            Condition::state_in(&OPEN),
            Condition::Is(A::State, record.state.into()),
            unchanged,
            // Whoever claimed it meanwhile may die, and then it is due when it was.
            Condition::unclaimed_since(record),
            // A hint leaves it due when it was, too.
            Condition::unrevised(record),
        ]),
        write: Write::Update(vec![Effect::Set(A::DueAt, due_at.into())]),
    }
}

/// Whether a worker that read a record goes on with what is held now: its claim is the latest still, and there is work to do.
/// A report is recorded whoever holds the task, so this is asked after one as well: the record that comes back may be
/// another worker's by now.
pub fn is_still_held(read: &Record, held: &Record) -> bool {
    held.fencing_token == read.fencing_token && !held.state.is_final()
}

fn no_live_lease(now: Timestamp) -> Condition {
    Condition::Any(vec![Condition::Lacks(A::ClaimedUntil), Condition::AtMost(A::ClaimedUntil, now.seconds())])
}
