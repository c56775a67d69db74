//! What runs of `poll` do next. They read the index, claim what is due, and reconcile it.

use super::clock::next_due;
use super::steps::{Recorded, Steps, report};
use super::system::{Broken, Run, System, Worker};
use super::table::ItemId;
use super::workers::answers;
use super::writes::{Answer, Operation, Said, decide};
use crate::callback::{Raw, Reporter};
use crate::requeue::is_for_process;
use crate::status_poll::{self, Step};
use crate::time::Timestamp;
use crate::transition::Applied;

pub(super) fn steps(steps: &mut Steps<'_>) {
    let from = steps.from;
    if steps.scenario.runs == 0 {
        return at_once(steps);
    }
    let busy = from.runs.iter().filter(|run| **run != Run::Idle).count();
    let free = from.runs.iter().position(|run| *run == Run::Idle).filter(|_| busy < steps.scenario.runs);
    for run in 0..from.runs.len() {
        match from.runs[run] {
            Run::Idle if free == Some(run) => {
                let due = from.record(steps.table).and_then(|record| record.due_at);
                if let Some(due) = due {
                    let mut next = from;
                    next.runs[run] = Run::Seen { due: due.seconds() };
                    steps.add("a run of poll reads the index", true, next);
                }
                continue;
            }
            Run::Idle => continue,
            Run::Seen { due } => claim(steps, run, due),
            Run::Claimed { read, due } => reconcile(steps, run, read, due),
            Run::Polled { read, answer, .. } => conclude(steps, run, read, answer, true),
        }
        let mut next = from;
        next.runs[run] = Run::Idle;
        steps.add("a run of poll dies", false, next);
    }
}

/// A whole run, with nothing in between.
fn at_once(steps: &mut Steps<'_>) {
    let from = steps.from;
    let Some(due) = from.record(steps.table).and_then(|record| record.due_at) else { return };
    let seen = due.seconds();
    let operation = Operation::ClaimDue { seen, next: next_due(&[seen]), in_lease: false };
    let Applied::Done(Some(read)) = steps.table.write(operation, from.item) else { return };
    let claimed = System { item: Some(read), ..from };
    if is_for_process(steps.table.record(read)) {
        steps.add("a run of poll queues the task", true, System { queued: true, ..claimed });
        return;
    }
    steps.from = claimed;
    for answer in answers(steps, read) {
        conclude(steps, 0, read, answer, steps.scenario.is_certain(answer));
    }
    steps.from = from;
}

fn claim(steps: &mut Steps<'_>, run: usize, due: i64) {
    // The time is a minute ahead: nobody has written it before.
    let mut others = vec![due];
    others.extend(steps.from.record(steps.table).and_then(|record| record.due_at).map(Timestamp::seconds));
    for other in steps.from.runs {
        if let Run::Claimed { read, .. } | Run::Polled { read, .. } = other {
            others.extend(steps.table.record(read).due_at.map(Timestamp::seconds));
        }
    }
    for in_lease in [false, true] {
        let mut next = steps.from;
        next.runs[run] = Run::Idle;
        let is_worked_on = next.workers.iter().any(|worker| matches!(worker, Worker::At { is_latest: true, .. }));
        if let Applied::Done(Some(item)) =
            steps.table.write(Operation::ClaimDue { seen: due, next: next_due(&others), in_lease }, next.item)
        {
            if in_lease && is_worked_on {
                next.break_promise(Broken::Shared);
            }
            if is_reconciled_by_other(steps, due) {
                next.break_promise(Broken::ReconciledTwice);
            }
            next.item = Some(item);
            next.runs[run] = Run::Claimed { read: item, due };
        }
        steps.add("a run of poll claims the task", true, next);
    }
}

/// Whether another run has claimed the same entry, and nobody has written another time since.
fn is_reconciled_by_other(steps: &Steps<'_>, found: i64) -> bool {
    let due = steps.from.record(steps.table).and_then(|record| record.due_at).map(Timestamp::seconds);
    steps.from.runs.iter().any(|run| match run {
        Run::Claimed { read, due: seen } | Run::Polled { read, due: seen, .. } => {
            *seen == found && due == steps.table.record(*read).due_at.map(Timestamp::seconds)
        }
        Run::Idle | Run::Seen { .. } => false,
    })
}

/// What was reported or hinted at is queued, unless its message is thought to be in the queue; the rest is polled.
fn reconcile(steps: &mut Steps<'_>, run: usize, read: ItemId, due: i64) {
    let from = steps.from;
    if !is_for_process(steps.table.record(read)) {
        for answer in answers(steps, read) {
            let mut next = from;
            next.runs[run] = Run::Polled { read, due, answer };
            steps.add("a run of poll polls the provider", steps.scenario.is_certain(answer), next);
        }
        return;
    }
    let mut next = from;
    next.runs[run] = Run::Idle;
    steps.add("a run of poll queues the task", true, System { queued: true, ..next });
    postpone(steps, &mut next, read);
    steps.add("a run of poll queues and postpones the task", true, System { queued: true, ..next });
    steps.add("a run of poll postpones the task", false, next);
}

fn postpone(steps: &mut Steps<'_>, next: &mut System, read: ItemId) {
    let Applied::Done(item) = steps.table.write(Operation::Postpone { read }, next.item) else { return };
    let is_as_read = next.record(steps.table).is_some_and(|now| {
        let read = steps.table.record(read);
        (now.state, now.hint, now.due_at) == (read.state, read.hint, read.due_at)
    });
    if !is_as_read {
        next.break_promise(Broken::PutOff);
    }
    next.item = item;
}

/// As `stream::conclude` does.
fn conclude(steps: &mut Steps<'_>, run: usize, read: ItemId, answer: Answer, by_itself: bool) {
    let at = steps.from.clock;
    let mut next = steps.from;
    next.runs[run] = Run::Idle;
    let step = decide(steps.table.record(read), answer, at).step;
    if let Some(accepted) = status_poll::accepted(steps.table.record(read), &step, &Raw::default()) {
        let is_new = if accepted.reporter() == Reporter::Deadline {
            let closed = steps.table.write(Operation::Close { read, answer, at }, next.item);
            if let Applied::Done(item) = closed {
                next.item = item;
            }
            matches!(closed, Applied::Done(_))
        } else {
            let recorded = report(steps.table, &mut next, Said::ByPoll { read, answer, at });
            matches!(recorded, Recorded::New(_) | Recorded::TookOver)
        };
        if is_new {
            steps.add("a run of poll reports and queues the task", by_itself, System { queued: true, ..next });
        }
        steps.add("a run of poll reports the task", by_itself && !is_new, next);
        return;
    }
    if matches!(step, Step::Wait { .. }) {
        postpone(steps, &mut next, read);
    }
    steps.add("a run of poll finds nothing new", by_itself, next);
}
