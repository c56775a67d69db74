//! What runs of `poll` do next. They read what is due, and reconcile it.

use super::clock::{DEADLINE, INSTANTS};
use super::steps::{Recorded, Steps, report};
use super::system::{Broken, Run, System};
use super::table::ItemId;
use super::workers::answers;
use super::writes::{Answer, Operation, Said, decide};
use crate::callback::{Raw, Reporter};
use crate::requeue::is_for_process;
use crate::status_poll::{self, Step};
use crate::transition::{Applied, leases};

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
                if let Some(read) = due(steps) {
                    let mut next = from;
                    next.runs[run] = Run::Read(read);
                    steps.add("a run of poll reads the task", true, next);
                }
                continue;
            }
            Run::Idle => continue,
            Run::Read(read) => reconcile(steps, run, read),
            Run::Polled { read, answer } => conclude(steps, run, read, answer, true),
        }
        let mut next = from;
        next.runs[run] = Run::Idle;
        steps.add("a run of poll dies", false, next);
    }
}

/// The record, when it is due. It may be so at any moment, and whatever lease it has may be over: a run that meets a live one does
/// nothing.
fn due(steps: &Steps<'_>) -> Option<ItemId> {
    let read = steps.from.item?;
    leases::is_due(steps.table.record(read), INSTANTS[usize::from(steps.from.clock)]).then_some(read)
}

/// A whole run, with nothing in between.
fn at_once(steps: &mut Steps<'_>) {
    let Some(read) = due(steps) else { return };
    if is_for_process(steps.table.record(read)) {
        steps.add("a run of poll queues the task", true, System { queued: true, ..steps.from });
        return;
    }
    for answer in answers(steps, read) {
        conclude(steps, 0, read, answer, steps.scenario.is_certain(answer));
    }
}

/// What was reported or hinted at is queued, unless its message is thought to be in the queue; the rest is polled.
fn reconcile(steps: &mut Steps<'_>, run: usize, read: ItemId) {
    let from = steps.from;
    if !is_for_process(steps.table.record(read)) {
        for answer in answers(steps, read) {
            let mut next = from;
            next.runs[run] = Run::Polled { read, answer };
            steps.add("a run of poll polls the provider", steps.scenario.is_certain(answer), next);
        }
        return;
    }
    let mut next = from;
    next.runs[run] = Run::Idle;
    steps.add("a run of poll queues the task", true, System { queued: true, ..next });
    postpone(steps, &mut next, read, false);
    steps.add("a run of poll queues and postpones the task", true, System { queued: true, ..next });
    steps.add("a run of poll postpones the task", false, next);
}

fn postpone(steps: &mut Steps<'_>, next: &mut System, read: ItemId, to_deadline: bool) {
    let Applied::Done(item) = steps.table.write(Operation::Postpone { read, to_deadline }, next.item) else { return };
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
    steps.add("a run of poll finds nothing new", by_itself, next);
    if let Step::Wait { due_at, .. } = step {
        postpone(steps, &mut next, read, due_at >= DEADLINE);
        steps.add("a run of poll finds nothing new and postpones the task", by_itself, next);
    }
}
