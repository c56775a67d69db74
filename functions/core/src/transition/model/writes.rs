//! The writes of the model, and how the functions make the real transitions for them.

use super::clock::{self, INSTANTS};
use super::table::{ItemId, Table};
use crate::annotations::Given;
use crate::callback::proof::Proof;
use crate::callback::{Accepted, Hint, Open, Raw, Reporter};
use crate::providers::adapter::{HintReason, StatusResult};
use crate::record::{Record, SubmissionAttempt};
use crate::report::{Failure, Outcome, Progress, Reason, Report, TaskStatus};
use crate::status_poll::{self, Decision, PollResult, Step};
use crate::task::TaskKey;
use crate::transfer::checkpoint::{Checkpoint, Checkpoints};
use crate::transition::reports::Due;
use crate::transition::submissions::Registration;
use crate::transition::{Transition, leases, reports, submissions};

/// The provider's id of the task, and of another one.
const OWN: &str = "id-1";
const OTHER: &str = "id-2";

/// What came of a status poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Answer {
    Open,
    Failed,
    Succeeded,
    NotFound,
    NoResponse,
    NotPollable,
}

/// Who says that the task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Said {
    ByCallback { outcome: Outcome, of_other_task: bool },
    ByPoll { read: ItemId, answer: Answer, at: u8 },
}

/// What a hint says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Hinted {
    /// None: it cannot be read.
    pub(super) outcome: Option<Outcome>,
    pub(super) fallback: bool,
    pub(super) of_other_task: bool,
    pub(super) at: u8,
}

/// A write to the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Operation {
    Register { is_submitted: bool },
    Identify,
    NoteSubmission,
    Report(Said, Due),
    TakeOver(Said),
    Close { read: ItemId, answer: Answer, at: u8 },
    NoteHint(Hinted, Due),
    Reopen(Hinted),
    NoteOpen { of_other_task: bool },
    Restore { read: ItemId },
    Remove { read: ItemId },
    Claim { in_lease: bool },
    Renew { token: u64 },
    ReleaseOpen { read: ItemId, answer: Answer, at: u8 },
    ReleaseUnfinished { read: ItemId },
    Settle { read: ItemId, outcome: Outcome },
    Postpone { read: ItemId, to_deadline: bool },
}

impl Operation {
    /// The name of its constructor.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Register { .. } => "register",
            Self::Identify => "identify",
            Self::NoteSubmission => "note_submission",
            Self::Report(..) => "report",
            Self::TakeOver(_) => "take_over",
            Self::Close { .. } => "close",
            Self::NoteHint(..) => "note_hint",
            Self::Reopen(_) => "reopen",
            Self::NoteOpen { .. } => "note_open",
            Self::Restore { .. } => "restore",
            Self::Remove { .. } => "remove",
            Self::Claim { .. } => "claim",
            Self::Renew { .. } => "renew",
            Self::ReleaseOpen { .. } => "release_open",
            Self::ReleaseUnfinished { .. } => "release_unfinished",
            Self::Settle { .. } => "settle",
            Self::Postpone { .. } => "postpone",
        }
    }
}

pub(super) fn key() -> TaskKey {
    "kling/job-1".parse().expect("a key")
}

fn id(of_other_task: bool) -> String {
    if of_other_task { OTHER } else { OWN }.to_owned()
}

fn report_of(outcome: Outcome) -> Report {
    let failure = Failure::new(Reason::Unknown, false);
    match outcome {
        Outcome::Succeeded => Report::Succeeded { artifacts: vec![], usage: None },
        Outcome::Failed => Report::Failed(failure),
        Outcome::Lost => Report::Lost(failure),
    }
}

/// The body in which an outcome is reported.
pub(super) fn body_of(outcome: Outcome) -> &'static str {
    outcome.name()
}

pub(super) fn accepted(said: Said, table: &Table) -> Accepted {
    match said {
        Said::ByCallback { outcome, of_other_task } => Accepted {
            key: key(),
            provider_task_id: Some(id(of_other_task)),
            report: report_of(outcome),
            reporter: Reporter::Callback,
            proof: Proof::Body,
            raw: Raw::new(body_of(outcome).as_bytes()),
        },
        Said::ByPoll { read, answer, at } => {
            let body = match answer {
                Answer::Failed => body_of(Outcome::Failed),
                Answer::Succeeded => body_of(Outcome::Succeeded),
                _ => "",
            };
            let step = decide(table.record(read), answer, at).step;
            status_poll::accepted(table.record(read), &step, &Raw::new(body.as_bytes())).expect("the step is a report")
        }
    }
}

pub(super) fn hint(hinted: Hinted) -> Hint {
    Hint {
        key: key(),
        provider_task_id: Some(id(hinted.of_other_task)),
        reason: if hinted.outcome.is_some() { HintReason::Unsigned } else { HintReason::Unreadable },
        outcome: hinted.outcome,
        fallback: hinted.outcome.filter(|_| hinted.fallback).map(report_of),
        raw: Raw::new(hinted.outcome.map_or("unreadable", body_of).as_bytes()),
        endpoint: None,
    }
}

/// What a status poll means for a task as it was read.
pub(super) fn decide(record: &Record, answer: Answer, at: u8) -> Decision {
    let finished = |outcome| PollResult::Response(StatusResult::Task(TaskStatus::Finished(report_of(outcome))));
    let result = match answer {
        Answer::Open => PollResult::Response(StatusResult::Task(TaskStatus::Open(Progress::default()))),
        Answer::Failed => finished(Outcome::Failed),
        Answer::Succeeded => finished(Outcome::Succeeded),
        Answer::NotFound => PollResult::Response(StatusResult::NotFound),
        Answer::NoResponse => PollResult::NoResponse,
        Answer::NotPollable => PollResult::NotPollable,
    };
    status_poll::decide(record, &result, &clock::terms(), INSTANTS[usize::from(at)])
}

/// The real transition.
pub(super) fn transition(operation: Operation, table: &Table) -> Transition {
    let now = INSTANTS[0];
    let lease = |in_lease: bool| if in_lease { clock::IN_LEASE } else { clock::AFTER_LEASE };
    let read_by = |said: Said| match said {
        Said::ByCallback { .. } => None,
        Said::ByPoll { read, .. } => Some(table.record(read)),
    };
    match operation {
        Operation::Register { is_submitted } => submissions::register(&registration(is_submitted), now),
        Operation::Identify => submissions::identify(&key(), OWN, &Given::default(), now, Some(clock::DUE_REGISTERED)),
        Operation::NoteSubmission => submissions::note_submission(&key(), OWN, &Given::default(), now),
        Operation::Report(said, due) => reports::report(&accepted(said, table), read_by(said), now, due),
        Operation::TakeOver(said) => reports::take_over(&accepted(said, table), now),
        Operation::Close { read, answer, at } => {
            let accepted = accepted(Said::ByPoll { read, answer, at }, table);
            reports::close(&accepted, table.record(read), now)
        }
        Operation::NoteHint(hinted, due) => {
            reports::note_hint(&hint(hinted), INSTANTS[usize::from(hinted.at)], clock::DEADLINE, due)
        }
        Operation::Reopen(hinted) => reports::reopen(&hint(hinted), INSTANTS[usize::from(hinted.at)]),
        Operation::NoteOpen { of_other_task } => {
            let open = Open {
                key: key(),
                provider_task_id: Some(id(of_other_task)),
                progress: Progress::default(),
                endpoint: None,
            };
            reports::note_open(&open, now, clock::DUE_REGISTERED, clock::DEADLINE)
        }
        Operation::Restore { read } => reports::restore(table.record(read)),
        Operation::Remove { read } => reports::remove(table.record(read)),
        Operation::Claim { in_lease } => leases::claim(&key(), lease(in_lease), clock::LEASE_END),
        Operation::Renew { token } => leases::renew(&key(), token, clock::LEASE_RENEWED),
        Operation::ReleaseOpen { read, answer, at } => {
            let read = table.record(read);
            let Step::Wait { due_at, hint } = decide(read, answer, at).step else {
                unreachable!("the step is to wait")
            };
            let due_at = if due_at == clock::DEADLINE { due_at } else { clock::next_released(read.due_at) };
            leases::release_open(read, due_at, hint.as_ref())
        }
        Operation::ReleaseUnfinished { read } => {
            let read = table.record(read);
            // Named after the report, so that they are told from another one's. A failure has nothing to copy.
            let name = read.outcome().map_or("", body_of);
            let mut checkpoints = Checkpoints::default();
            checkpoints.insert(name, Checkpoint { failed_rounds: 1, ..Checkpoint::default() });
            let checkpoints = Some(&checkpoints).filter(|_| read.outcome() == Some(Outcome::Succeeded));
            leases::release_unfinished(read, clock::next_released(read.due_at), checkpoints, Some(name))
        }
        Operation::Settle { read, outcome } => {
            let read = table.record(read);
            let held = read.report.clone().filter(|held| held.outcome() == outcome);
            leases::settle(read, &held.unwrap_or_else(|| report_of(outcome)), &[], now)
        }
        Operation::Postpone { read, to_deadline } => {
            let due_at = if to_deadline { clock::DEADLINE } else { clock::DUE_POSTPONED };
            leases::postpone(table.record(read), due_at)
        }
    }
}

fn registration(is_submitted: bool) -> Registration {
    let attempt = SubmissionAttempt { fingerprint: String::new(), in_flight_until: INSTANTS[0] };
    Registration {
        task: key(),
        provider_task_id: is_submitted.then(|| OWN.to_owned()),
        given: Given::default(),
        marker: None,
        submission: Some(attempt).filter(|_| !is_submitted),
        due_at: clock::DUE_REGISTERED,
        deadline_at: clock::DEADLINE,
    }
}
