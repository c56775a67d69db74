//! What may happen next: what the provider, its callbacks, the application, the clock and the queue do.

use super::clock::{DEADLINE, INSTANTS};
use super::runs;
use super::scenarios::Scenario;
use super::system::{Broken, Run, Second, System, Truth, Worker};
use super::table::{ItemId, Table};
use super::workers;
use super::writes::{Hinted, Operation, Said, accepted, hint};
use crate::callback::proof::Belief;
use crate::item::Attribute;
use crate::record::{Record, State};
use crate::report::Outcome;
use crate::time::Timestamp;
use crate::transition::Applied;
use crate::transition::reports::{AfterHint, AfterReport, Due, after_hint, after_report};

/// A state that follows, and what happened.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Step {
    pub(super) name: &'static str,
    /// Whether it happens without luck: crashes and what the provider does may happen or not.
    pub(super) by_itself: bool,
    pub(super) next: System,
}

/// What became of a report, as in `Table::report`.
pub(super) enum Recorded {
    New(ItemId),
    TookOver,
    Refused(AfterReport, ItemId),
    /// There is no record, and none could be made.
    NotAccepted,
}

/// What may happen next.
pub(super) struct Steps<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) table: &'a mut Table,
    pub(super) from: System,
    pub(super) found: Vec<Step>,
}

impl Steps<'_> {
    pub(super) fn all(mut self) -> Vec<Step> {
        self.provider();
        self.callbacks();
        self.application();
        self.clock_and_queue();
        workers::steps(&mut self);
        runs::steps(&mut self);
        self.found
    }

    pub(super) fn add(&mut self, name: &'static str, by_itself: bool, next: System) {
        let next = next.canonical(self.table);
        self.found.push(Step { name, by_itself, next });
    }

    /// The task may become known, fail, succeed, and succeed after it failed. What it was before is stale from then on, and a
    /// status poll may say it for a while.
    fn provider(&mut self) {
        let from = self.from;
        let may_become: &[Truth] = match from.truth {
            Truth::Unknown | Truth::Open => &[Truth::Failed, Truth::Succeeded],
            Truth::Failed if self.scenario.changes_its_mind => &[Truth::Succeeded],
            Truth::Failed | Truth::Succeeded => &[],
        };
        for truth in may_become {
            let has_failed = from.has_failed || *truth == Truth::Failed;
            let name = if *truth == Truth::Failed { "the task fails" } else { "the task succeeds" };
            // A task that was unknown for long is not made known and called unknown at once.
            let earlier = Some(from.truth).filter(|earlier| *earlier != Truth::Unknown || from.clock == 0);
            self.add(name, false, System { truth: *truth, earlier, has_failed, ..from });
        }
    }

    fn callbacks(&mut self) {
        let from = self.from;
        if let Some(second) = from.second {
            return self.second(second);
        }
        if from.clock > self.scenario.last_callbacks {
            return;
        }
        for (outcome, left, is_true) in [
            (Outcome::Succeeded, from.successes, from.truth == Truth::Succeeded),
            (Outcome::Failed, from.failures, from.has_failed),
        ] {
            // What may be made up is not acted on by itself, where anybody can be asked.
            let belief = self.scenario.belief(outcome);
            if belief == Belief::Act && outcome == Outcome::Failed && self.is_hinted() {
                continue;
            }
            if left > 0 && (is_true || (self.scenario.is_forged && belief != Belief::Act)) {
                self.callback(outcome, belief);
            }
        }
        if from.mentions > 0 {
            let next = System { mentions: from.mentions - 1, ..from };
            self.open(next);
            self.unreadable(next);
        }
        let is_identified = from.record(self.table).is_some_and(|record| record.provider_task_id.is_some());
        if self.scenario.other_task && is_identified {
            self.other_task();
        }
    }

    /// Whether a success is hinted at and no failure is held. A failure that is reported then counts, see [`super`].
    fn is_hinted(&self) -> bool {
        let record = self.from.record(self.table);
        record.is_some_and(|record| record.hint.is_some() && !record.is_reopened())
    }

    /// A callback that says how the task ended, as far as it is believed.
    fn callback(&mut self, outcome: Outcome, belief: Belief) {
        let mut next = self.from;
        let said = Said::ByCallback { outcome, of_other_task: false };
        let is_new = match belief {
            Belief::Act => match first_report(self.table, &mut next, said) {
                Recorded::New(_) => true,
                Recorded::Refused(AfterReport::TakeOver, _) => {
                    next.second = Some(Second::TakeOver(said));
                    false
                }
                Recorded::Refused(AfterReport::Duplicate | AfterReport::Contradicting, _) => false,
                Recorded::Refused(AfterReport::OtherTask, _) | Recorded::NotAccepted => {
                    next.break_promise(Broken::NotAccepted);
                    false
                }
                Recorded::TookOver => unreachable!("that is the second write"),
            },
            Belief::Hint { fallback } => {
                let hinted = Hinted { outcome: Some(outcome), fallback, of_other_task: false, at: next.clock };
                self.hinted(hinted, &mut next)
            }
        };
        if outcome == Outcome::Succeeded {
            next.successes -= 1;
            // Within one second a response and a callback are not told apart, and the response counts.
            let now = INSTANTS[usize::from(next.clock)];
            let was_answered = |record: &Record| record.hint.is_some_and(|hint| hint.answered_at == Some(now));
            next.denied &= self.from.record(self.table).is_some_and(was_answered);
        } else {
            next.failures -= 1;
        }
        self.acknowledged(next, is_new, Some(outcome));
    }

    fn hinted(&mut self, hinted: Hinted, next: &mut System) -> bool {
        let now = INSTANTS[usize::from(hinted.at)];
        let held = match due_soon(self.table, next, now, |due| Operation::NoteHint(hinted, due)) {
            Applied::Done(item) => {
                next.item = item;
                return true;
            }
            Applied::Refused(Some(held)) => held,
            Applied::Refused(None) => {
                next.break_promise(Broken::NotAccepted);
                return false;
            }
        };
        match after_hint(&hint(hinted), self.table.record(held)) {
            AfterHint::Reopen => {
                next.second = Some(Second::Reopen(hinted));
                false
            }
            AfterHint::Known | AfterHint::OtherTask => false,
        }
    }

    fn unreadable(&mut self, mut next: System) {
        let hinted = Hinted { outcome: None, fallback: false, of_other_task: false, at: next.clock };
        let is_new = self.hinted(hinted, &mut next);
        let is_kept = |id| self.table.known(id).item.contains_key(&Attribute::Unreadable);
        if is_new && !next.item.is_some_and(is_kept) {
            next.break_promise(Broken::NotRecorded);
        }
        self.acknowledged(next, is_new, None);
    }

    fn open(&mut self, mut next: System) {
        if let Applied::Done(item) = self.table.write(Operation::NoteOpen { of_other_task: false }, next.item) {
            let hinted = self.from.record(self.table).filter(|record| record.hint.is_some());
            if hinted.is_some_and(|record| item.is_none_or(|now| self.table.record(now).due_at != record.due_at)) {
                next.break_promise(Broken::PutOff);
            }
            next.item = item;
        }
        if next.item.is_none() {
            next.break_promise(Broken::NotRecorded);
        }
        self.add("a callback says that the task is open", false, next);
    }

    /// The second write of a success that contradicts a failure.
    fn second(&mut self, second: Second) {
        let mut next = System { second: None, ..self.from };
        let (operation, said) = match second {
            Second::Reopen(hinted) => (Operation::Reopen(hinted), hinted.outcome),
            Second::TakeOver(said) => (Operation::TakeOver(said), Some(Outcome::Succeeded)),
        };
        let written = self.table.write(operation, next.item);
        if let Applied::Done(item) = written {
            next.item = item;
            next.void_claims();
        }
        self.acknowledged(next, matches!(written, Applied::Done(_)), said);
    }

    /// The response is a 2xx. What was said is in the record by now, and whether it is queued makes no difference to that.
    fn acknowledged(&mut self, mut next: System, is_new: bool, said: Option<Outcome>) {
        if next.second.is_some() {
            return self.add("a callback is refused and tries again", true, next);
        }
        if said == Some(Outcome::Succeeded) {
            // What nobody can confirm is not acted on, and the settings say so.
            let is_confirmed = self.scenario.belief(Outcome::Succeeded) == Belief::Act || self.scenario.is_pollable;
            // Nor does a hint prolong another one: what was said before counts, until it is refuted.
            let now = INSTANTS[usize::from(next.clock)];
            let is_first = |id| {
                let known = self.table.known(id).record.as_ref();
                known.and_then(|record| record.hint).is_none_or(|hint| hint.received_at == now)
            };
            next.acknowledged |= next.truth == Truth::Succeeded && is_confirmed && next.item.is_some_and(is_first);
        }
        if !self.knows(&next, said) {
            next.break_promise(Broken::NotRecorded);
        }
        if is_new {
            self.add("a callback is recorded and queued", false, System { queued: true, ..next });
        }
        self.add("a callback is recorded and not queued", self.from.second.is_some(), next);
    }

    /// Whether the record knows what a callback said, or knows better.
    fn knows(&self, next: &System, said: Option<Outcome>) -> bool {
        let Some(known) = next.item.map(|item| self.table.known(item)) else { return false };
        // What is damaged is seen elsewhere.
        let Some(record) = &known.record else { return true };
        let waits = record.state == State::Pending && record.hint.is_some();
        match said {
            Some(Outcome::Succeeded) => waits || record.outcome() == Some(Outcome::Succeeded),
            Some(_) => waits || (record.outcome().is_some() && record.state != State::Pending),
            None => waits || record.state != State::Pending,
        }
    }

    /// Callbacks of another task of the provider, through the URL of this one.
    fn other_task(&mut self) {
        let from = self.from;
        let hinted = Hinted { outcome: Some(Outcome::Succeeded), fallback: false, of_other_task: true, at: from.clock };
        let said = Said::ByCallback { outcome: Outcome::Succeeded, of_other_task: true };
        for operation in [
            Operation::Report(said, Due::Moved),
            Operation::TakeOver(said),
            Operation::NoteHint(hinted, Due::Moved),
            Operation::Reopen(hinted),
            Operation::NoteOpen { of_other_task: true },
        ] {
            let mut next = from;
            if let Applied::Done(item) = self.table.write(operation, next.item) {
                next.item = item;
                next.break_promise(Broken::OtherTask);
                self.add("a callback of another task comes", false, next);
            }
        }
    }

    /// The application registers a task that it submitted, or has it submitted: then the provider's response names it later.
    fn application(&mut self) {
        let mut next = self.from;
        let Scenario { registers, submits, .. } = *self.scenario;
        if !(registers || submits) || next.registered {
            return;
        }
        if submits && next.item.is_none() {
            if let Applied::Done(item) = self.table.write(Operation::Register { is_submitted: false }, None) {
                self.add("the application submits the task", false, System { item, ..next });
            }
            return;
        }
        // Whoever registers a task that is known registers that.
        for operation in [Operation::Register { is_submitted: true }, Operation::Identify, Operation::NoteSubmission] {
            if let Applied::Done(item) = self.table.write(operation, next.item) {
                next.item = item;
                break;
            }
        }
        next.registered = true;
        self.add("the application registers the task", false, next);
    }

    fn clock_and_queue(&mut self) {
        let from = self.from;
        let later = self.scenario.instants.iter().find(|instant| **instant > from.clock);
        // An invocation ends after a quarter of an hour at the latest.
        let nobody_works = from.workers == [Worker::Idle; 2]
            && from.runs == [Run::Idle; 2]
            && from.renewal.is_none()
            && from.second.is_none();
        if let Some(later) = later.filter(|_| nobody_works) {
            self.add("time passes", true, System { clock: *later, earlier: None, ..from });
        }
        if from.queued {
            self.add("a message is lost", false, System { queued: false, ..from });
        }
    }
}

/// As `Table::due_soon` does.
fn due_soon(
    table: &mut Table,
    next: &mut System,
    now: Timestamp,
    operation: impl Fn(Due) -> Operation,
) -> Applied<ItemId> {
    let mut applied = table.write(operation(Due::Kept), next.item);
    if matches!(applied, Applied::Refused(Some(held)) if Due::is_too_late(table.record(held), now)) {
        applied = table.write(operation(Due::Moved), next.item);
    }
    if let Applied::Done(Some(item)) = applied
        && table.known(item).record.as_ref().is_some_and(|record| record.due_at >= Some(DEADLINE))
    {
        next.break_promise(Broken::PutOff);
    }
    applied
}

/// The first write of a report.
fn first_report(table: &mut Table, next: &mut System, said: Said) -> Recorded {
    match due_soon(table, next, INSTANTS[0], |due| Operation::Report(said, due)) {
        Applied::Done(item) => {
            next.item = item;
            item.map_or(Recorded::NotAccepted, Recorded::New)
        }
        Applied::Refused(None) => Recorded::NotAccepted,
        Applied::Refused(Some(held)) => {
            Recorded::Refused(after_report(&accepted(said, table), table.record(held)), held)
        }
    }
}

/// As `Table::report` does, both writes at once.
pub(super) fn report(table: &mut Table, next: &mut System, said: Said) -> Recorded {
    let recorded = first_report(table, next, said);
    let Recorded::Refused(AfterReport::TakeOver, held) = recorded else { return recorded };
    match table.write(Operation::TakeOver(said), next.item) {
        Applied::Done(item) => {
            next.item = item;
            next.void_claims();
            Recorded::TookOver
        }
        Applied::Refused(_) => Recorded::Refused(AfterReport::Duplicate, held),
    }
}
