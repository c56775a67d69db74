//! What the workers of `process` do next, step by step. Between any two steps everything else may happen, and they may die.

use super::clock;
use super::steps::{Recorded, Steps, report};
use super::system::{Broken, Doing, Renewal, System, Truth, Worker};
use super::table::ItemId;
use super::writes::{Answer, Operation, Said, decide};
use crate::callback::{Raw, Reporter};
use crate::item::Attribute;
use crate::record::State;
use crate::report::Outcome;
use crate::status_poll::{self, Step};
use crate::transition::Applied;
use crate::transition::leases::is_still_held;
use crate::transition::reports::AfterReport;

pub(super) fn steps(steps: &mut Steps<'_>) {
    let workers = steps.from.workers;
    let busy = workers.iter().filter(|worker| **worker != Worker::Idle).count();
    let free = workers.iter().position(|worker| *worker == Worker::Idle).filter(|_| busy < steps.scenario.workers);
    for (worker, at) in workers.into_iter().enumerate() {
        match at {
            Worker::Idle if free == Some(worker) => claim(steps, worker),
            Worker::Idle => {}
            Worker::At { read, is_latest, doing } => {
                Work { steps, worker, read, is_latest }.next(doing);
                if steps.scenario.crashes {
                    let mut next = steps.from;
                    next.workers[worker] = Worker::Idle;
                    steps.add("a worker dies", false, next);
                }
            }
        }
    }
    renewal(steps);
}

/// A message is delivered, and perhaps another time later. The lease that stands in the way may have run out or not.
fn claim(steps: &mut Steps<'_>, worker: usize) {
    if !steps.from.queued {
        return;
    }
    for in_lease in [false, true] {
        for queued in [false, true] {
            let mut next = System { queued, ..steps.from };
            let is_worked_on = next.workers.iter().any(|worker| matches!(worker, Worker::At { is_latest: true, .. }));
            if let Applied::Done(Some(item)) = steps.table.write(Operation::Claim { in_lease }, next.item) {
                if in_lease && is_worked_on {
                    next.break_promise(Broken::Shared);
                }
                next.item = Some(item);
                let (before, record) = (steps.from.record(steps.table), steps.table.record(item));
                if record.claimed_until != Some(clock::LEASE_END)
                    || before.is_some_and(|before| before.due_at != record.due_at)
                {
                    next.break_promise(Broken::NotRenewed);
                }
                next.void_claims();
                next.workers[worker] = Worker::At { read: item, is_latest: true, doing: Doing::Claimed };
            }
            steps.add("a message is delivered", true, next);
        }
    }
}

/// A renewal that was sent arrives, however late.
fn renewal(steps: &mut Steps<'_>) {
    let Some(Renewal { token, is_latest }) = steps.from.renewal else { return };
    let mut next = System { renewal: None, ..steps.from };
    match steps.table.write(Operation::Renew { token }, next.item) {
        Applied::Done(item) => {
            next.item = item;
            if !is_latest {
                next.break_promise(Broken::Fenced);
            }
            let until = Some(clock::LEASE_RENEWED);
            if next.record(steps.table).is_some_and(|record| record.claimed_until != until || record.due_at != until) {
                next.break_promise(Broken::NotRenewed);
            }
        }
        // Its worker, if it is still there, leaves the task alone.
        Applied::Refused(_) => {
            for worker in &mut next.workers {
                if let Worker::At { read, .. } = worker
                    && steps.table.record(*read).fencing_token == token
                {
                    *worker = Worker::Idle;
                }
            }
        }
    }
    steps.add("a renewal arrives", true, next);
}

struct Work<'a, 'b> {
    steps: &'a mut Steps<'b>,
    worker: usize,
    read: ItemId,
    is_latest: bool,
}

impl Work<'_, '_> {
    fn next(mut self, doing: Doing) {
        let is_pending = self.steps.table.record(self.read).state == State::Pending;
        match doing {
            Doing::Claimed if is_pending => self.poll(),
            Doing::Claimed => {
                self.publish();
                self.release_unfinished();
            }
            Doing::Polled(answer) => self.conclude(answer),
            Doing::Published(outcome) => self.settle(outcome),
        }
        if self.steps.scenario.renewals && self.steps.from.renewal.is_none() {
            let token = self.steps.table.record(self.read).fencing_token;
            let renewal = Some(Renewal { token, is_latest: self.is_latest });
            let next = System { renewal, ..self.steps.from };
            self.steps.add("a worker sends a renewal", false, next);
        }
    }

    fn add(&mut self, name: &'static str, by_itself: bool, mut next: System, worker: Worker) {
        next.workers[self.worker] = worker;
        self.steps.add(name, by_itself, next);
    }

    fn poll(&mut self) {
        for answer in answers(self.steps, self.read) {
            let doing = Doing::Polled(answer);
            let worker = Worker::At { read: self.read, is_latest: self.is_latest, doing };
            self.add("a worker polls the provider", self.steps.scenario.is_certain(answer), self.steps.from, worker);
        }
    }

    /// As `confirmation::confirm` does.
    fn conclude(&mut self, answer: Answer) {
        let (read, at) = (self.read, self.steps.from.clock);
        let mut next = self.steps.from;
        let decision = decide(self.steps.table.record(read), answer, at);
        let operation = match decision.step {
            Step::Report(_) | Step::ActOnFallback(_) | Step::Close(_) => return self.report(answer),
            Step::Restore => Operation::Restore { read },
            Step::Remove => Operation::Remove { read },
            Step::Wait { .. } => Operation::ReleaseOpen { read, answer, at },
        };
        let worker = match self.steps.table.write(operation, next.item) {
            Applied::Done(item) => {
                self.wrote_as_holder(&mut next);
                next.item = item;
                if item.is_none() {
                    next.workers = [Worker::Idle; 2];
                }
                let record = self.steps.table.record(read);
                let heard_all =
                    self.steps.from.record(self.steps.table).is_some_and(|held| held.revision == record.revision);
                next.denied |= is_answer(answer) && record.hint.is_some() && heard_all;
                let is_hinted =
                    |item| self.steps.table.known(item).record.as_ref().is_some_and(|now| now.hint.is_some());
                if !heard_all && !item.is_some_and(is_hinted) {
                    // A callback came that this worker has not read, and what it said is gone.
                    next.break_promise(Broken::NotRecorded);
                }
                match (item, operation) {
                    (Some(item), Operation::Restore { .. }) => self.continuing(item),
                    _ => Worker::Idle,
                }
            }
            Applied::Refused(held) => self.held_by_us(held),
        };
        self.add("a worker concludes", true, next, worker);
    }

    fn report(&mut self, answer: Answer) {
        let (read, at) = (self.read, self.steps.from.clock);
        let mut next = self.steps.from;
        let said = Said::ByPoll { read, answer, at };
        let step = decide(self.steps.table.record(read), answer, at).step;
        let accepted =
            status_poll::accepted(self.steps.table.record(read), &step, &Raw::default()).expect("it is a report");
        let recorded = if accepted.reporter() == Reporter::Deadline {
            match self.steps.table.write(Operation::Close { read, answer, at }, next.item) {
                Applied::Done(item) => {
                    next.item = item;
                    item.map_or(Recorded::NotAccepted, Recorded::New)
                }
                Applied::Refused(held) => {
                    held.map_or(Recorded::NotAccepted, |held| Recorded::Refused(AfterReport::Duplicate, held))
                }
            }
        } else {
            report(self.steps.table, &mut next, said)
        };
        let worker = match recorded {
            Recorded::TookOver => {
                next.queued = true;
                Worker::Idle
            }
            Recorded::New(held) | Recorded::Refused(AfterReport::Duplicate | AfterReport::Contradicting, held) => {
                self.held_by_us(Some(held))
            }
            Recorded::Refused(..) | Recorded::NotAccepted => Worker::Idle,
        };
        self.add("a worker reports", true, next, worker);
    }

    /// The worker goes on with what is held now, under the claim that it has.
    fn continuing(&self, read: ItemId) -> Worker {
        Worker::At { read, is_latest: self.is_latest, doing: Doing::Claimed }
    }

    /// The worker goes on with what is held while its claim is the latest.
    fn held_by_us(&self, held: Option<ItemId>) -> Worker {
        let record = |id: ItemId| self.steps.table.record(id);
        match held {
            Some(held) if is_still_held(record(self.read), record(held)) => self.continuing(held),
            _ => Worker::Idle,
        }
    }

    /// Only the holder of the latest claim may do this.
    fn wrote_as_holder(&self, next: &mut System) {
        if !self.is_latest {
            next.break_promise(Broken::Fenced);
        }
    }

    /// The copy is complete, or its files are lost; then `result.json` is written, as `Bucket::publish` does.
    fn publish(&mut self) {
        let Some(held) = self.steps.table.record(self.read).outcome() else { return };
        let lost = (held == Outcome::Succeeded && self.steps.scenario.files_may_be_lost).then_some(Outcome::Lost);
        for outcome in [Some(held), lost].into_iter().flatten() {
            let mut next = self.steps.from;
            next.given_up |= outcome != held;
            if next.published.is_none_or(|published| outcome.supersedes(published)) {
                if next.published == Some(Outcome::Succeeded) {
                    next.break_promise(Broken::Twice);
                }
                next.outrun |= !self.is_latest && next.published == Some(Outcome::Lost);
                next.published = Some(outcome);
                self.is_confirmed(held, &mut next);
            }
            let outcome_settled = outcome.settled_beside(next.published);
            let doing = Doing::Published(outcome_settled);
            let worker = Worker::At { read: self.read, is_latest: self.is_latest, doing };
            self.add("a worker publishes", outcome == held, next, worker);
        }
    }

    /// What is announced was said by the provider itself, or nobody could ask it.
    fn is_confirmed(&self, outcome: Outcome, next: &mut System) {
        let scenario = self.steps.scenario;
        let is_true = match outcome {
            Outcome::Succeeded => next.truth == Truth::Succeeded,
            Outcome::Failed => next.has_failed,
            Outcome::Lost => true,
        };
        if !is_true && ((scenario.is_pollable && !scenario.outages) || next.denied) {
            next.break_promise(Broken::Unconfirmed);
        }
    }

    fn settle(&mut self, outcome: Outcome) {
        let mut next = self.steps.from;
        let was_final = next.is_final(self.steps.table);
        if let Applied::Done(item) = self.steps.table.write(Operation::Settle { read: self.read, outcome }, next.item) {
            self.wrote_as_holder(&mut next);
            if was_final || (outcome == Outcome::Succeeded && next.archived) {
                next.break_promise(Broken::Twice);
            }
            next.item = item;
            next.archived |= outcome == Outcome::Succeeded;
        }
        self.add("a worker settles", true, next, Worker::Idle);
    }

    /// The copy is not complete and is resumed later: by a message that the worker sends, or that `poll` does.
    fn release_unfinished(&mut self) {
        let mut next = self.steps.from;
        if let Applied::Done(item) = self.steps.table.write(Operation::ReleaseUnfinished { read: self.read }, next.item)
        {
            self.wrote_as_holder(&mut next);
            let is_kept =
                |attribute| item.is_some_and(|item| self.steps.table.known(item).item.contains_key(&attribute));
            let copies = self.steps.table.record(self.read).outcome() == Some(Outcome::Succeeded);
            if !is_kept(Attribute::LastError) || (copies && !is_kept(Attribute::Checkpoints)) {
                next.break_promise(Broken::NotKept);
            }
            next.item = item;
        }
        self.add("a worker runs out of time", true, next, Worker::Idle);
    }
}

/// Whether the provider said something about the task.
fn is_answer(answer: Answer) -> bool {
    !matches!(answer, Answer::NoResponse | Answer::NotPollable)
}

/// What a status poll may say now about a task as it was read. It may be what was true before: a task that is still said to be
/// open, and a failure that a hint has contradicted. That a task failed which holds no failure is believed at once, see
/// [`decide`], so there it has to be true.
pub(super) fn answers(steps: &Steps<'_>, read: ItemId) -> Vec<Answer> {
    if !steps.scenario.is_pollable || steps.table.record(read).provider_task_id.is_none() {
        return vec![Answer::NotPollable];
    }
    let said = |truth| match truth {
        Truth::Unknown => Answer::NotFound,
        Truth::Open => Answer::Open,
        Truth::Failed => Answer::Failed,
        Truth::Succeeded => Answer::Succeeded,
    };
    let mut answers = vec![said(steps.from.truth)];
    let is_reopened = steps.table.record(read).is_reopened();
    answers.extend(steps.from.earlier.filter(|earlier| *earlier != Truth::Failed || is_reopened).map(said));
    answers.extend(steps.scenario.outages.then_some(Answer::NoResponse));
    answers
}
