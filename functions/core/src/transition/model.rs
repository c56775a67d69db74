//! An exhaustive search over the transitions: one task, two workers, callbacks that come twice and late, a poller, and crashes
//! between any two steps. A lease may run out and a task be due at any moment, so time is not part of a state.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::rc::Rc;

use super::leases::{claim, claim_due, release_open, release_unfinished, settle};
use super::reports::{AfterHint, AfterReport, after_hint, after_report, note_hint, reopen, report, restore, take_over};
use super::submissions::{Registration, register};
use super::{Applied, Transition};
use crate::callback::{Accepted, Hint, Raw, Reporter};
use crate::item::{Attribute, Item, Value};
use crate::providers::adapter::HintReason;
use crate::record::{Record, State};
use crate::report::{Failure, Outcome, Reason, Report};
use crate::task::TaskKey;
use crate::time::Timestamp;

const NOW: Timestamp = Timestamp::from_seconds(100);
const LEASE_END: Timestamp = Timestamp::from_seconds(200);
const AFTER_LEASE: Timestamp = Timestamp::from_seconds(300);

/// Claims that are explored, which bounds the fencing token.
const MAX_CLAIMS: i64 = 3;

/// What conditions and workers read. The rest would only make more states.
const READ: [Attribute; 10] = [
    Attribute::Task,
    Attribute::State,
    Attribute::Outcome,
    Attribute::RegisteredAt,
    Attribute::Report,
    Attribute::Hint,
    Attribute::DueAt,
    Attribute::ClaimedUntil,
    Attribute::FencingToken,
    Attribute::Revision,
];

/// How callbacks are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Callbacks {
    Reports,
    Hints,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Worker {
    Idle,
    /// Holds the task as it was read.
    Holding(Item),
    /// A status poll says how the task ended, or nothing.
    Polled(Item, Option<Outcome>),
    /// `result.json` is published.
    Published(Item),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Model {
    item: Option<Item>,
    /// What a status poll says.
    truth: Option<Outcome>,
    /// Callbacks that may still come.
    successes: u8,
    failures: u8,
    /// Whether a callback with a success was acknowledged.
    acknowledged: bool,
    queued: bool,
    workers: [Worker; 2],
    /// The outcome in `result.json`.
    published: Option<Outcome>,
    archived: u8,
}

/// A state that follows, and what happened. Crashes and what the provider does may happen or not; the rest goes on by itself.
struct Step {
    name: &'static str,
    by_itself: bool,
    next: Model,
}

fn key() -> TaskKey {
    "kling/job-1".parse().expect("a key")
}

fn record(item: &Item) -> Record {
    Record::from_item(item).expect("it is readable")
}

fn said(outcome: Outcome) -> Accepted {
    let report = match outcome {
        Outcome::Succeeded => Report::Succeeded { artifacts: vec![] },
        _ => Report::Failed(Failure::new(Reason::Unknown, false)),
    };
    Accepted::confirmed(key(), None, report, Reporter::Poll, b"{}")
}

fn hinted(outcome: Outcome) -> Hint {
    let reason = HintReason::Unsigned;
    Hint { key: key(), provider_task_id: None, reason, outcome: Some(outcome), fallback: None, raw: Raw::new(b"{}") }
}

impl Model {
    fn new(is_registered: bool) -> Self {
        let mut model = Self {
            item: None,
            truth: None,
            successes: 2,
            failures: 0,
            acknowledged: false,
            queued: false,
            workers: [Worker::Idle, Worker::Idle],
            published: None,
            archived: 0,
        };
        if is_registered {
            let registration = Registration {
                task: key(),
                provider_task_id: None,
                endpoint: None,
                submission: None,
                due_at: NOW,
                deadline_at: AFTER_LEASE,
            };
            model.write(&register(&registration, NOW));
        }
        model
    }

    fn write(&mut self, transition: &Transition) -> Applied<Item> {
        let mut applied = transition.evaluate(self.item.clone());
        if let Applied::Done(item) = &mut applied {
            if let Some(item) = item {
                item.retain(|attribute, _| READ.contains(attribute));
            }
            self.item.clone_from(item);
        }
        applied
    }

    fn state(&self) -> Option<State> {
        match self.item.as_ref()?.get(&Attribute::State)? {
            Value::Text(name) => State::from_name(name),
            Value::Number(_) => None,
        }
    }

    fn token(&self) -> i64 {
        match self.item.as_ref().and_then(|item| item.get(&Attribute::FencingToken)) {
            Some(Value::Number(token)) => *token,
            _ => 0,
        }
    }

    /// As `Table::report` does. Whether there is something to queue, and the record where it says what is known.
    fn report(&mut self, outcome: Outcome, read: Option<&Record>) -> (bool, Option<Item>) {
        let accepted = said(outcome);
        let Applied::Refused(held) = self.write(&report(&accepted, read, NOW, NOW)) else {
            return (true, self.item.clone());
        };
        let held = held.expect("a report is refused over a record");
        match after_report(&accepted, &record(&held)) {
            AfterReport::TakeOver => (matches!(self.write(&take_over(&accepted, NOW, NOW)), Applied::Done(_)), None),
            AfterReport::Duplicate => (false, Some(held)),
            AfterReport::Contradicting | AfterReport::OtherTask => (false, None),
        }
    }

    fn hint(&mut self, outcome: Outcome) -> bool {
        let hint = hinted(outcome);
        let Applied::Refused(held) = self.write(&note_hint(&hint, NOW, AFTER_LEASE)) else { return true };
        match after_hint(&hint, &record(&held.expect("a hint is refused over a record"))) {
            AfterHint::Reopen => matches!(self.write(&reopen(&hint, NOW)), Applied::Done(_)),
            AfterHint::Known | AfterHint::OtherTask => false,
        }
    }

    fn steps(&self, callbacks: Callbacks) -> Vec<Step> {
        let mut steps = vec![];
        self.provider_steps(callbacks, &mut steps);
        self.poller_steps(&mut steps);
        for worker in 0..self.workers.len() {
            self.worker_steps(worker, &mut steps);
        }
        steps
    }

    fn provider_steps(&self, callbacks: Callbacks, steps: &mut Vec<Step>) {
        let mut add = |name, next| steps.push(Step { name, by_itself: false, next });
        if self.truth.is_none() {
            add("the task fails", Self { truth: Some(Outcome::Failed), failures: 1, ..self.clone() });
        }
        if self.truth != Some(Outcome::Succeeded) {
            add("the task succeeds", Self { truth: Some(Outcome::Succeeded), ..self.clone() });
        }
        let success = self.truth == Some(Outcome::Succeeded) && self.successes > 0;
        for (comes, outcome) in [(success, Outcome::Succeeded), (self.failures > 0, Outcome::Failed)] {
            if !comes {
                continue;
            }
            let mut next = self.clone();
            if outcome == Outcome::Succeeded {
                next.successes -= 1;
                next.acknowledged = true;
            } else {
                next.failures -= 1;
            }
            let is_new = match callbacks {
                Callbacks::Reports => next.report(outcome, None).0,
                Callbacks::Hints => next.hint(outcome),
            };
            if is_new {
                add("a callback is recorded and queued", Self { queued: true, ..next.clone() });
            }
            add("a callback is recorded and not queued", next);
        }
    }

    fn poller_steps(&self, steps: &mut Vec<Step>) {
        let Some(Value::Number(due_at)) = self.item.as_ref().and_then(|item| item.get(&Attribute::DueAt)) else {
            return;
        };
        let mut next = self.clone();
        let seen = Timestamp::from_seconds(*due_at);
        if matches!(next.write(&claim_due(&key(), seen, LEASE_END, AFTER_LEASE)), Applied::Done(_)) {
            steps.push(Step { name: "the poller dies", by_itself: false, next: next.clone() });
            steps.push(Step { name: "the poller queues", by_itself: true, next: Self { queued: true, ..next } });
        }
    }

    fn worker_steps(&self, worker: usize, steps: &mut Vec<Step>) {
        let mut add = |name, change: &dyn Fn(&mut Self) -> Worker| {
            let mut next = self.clone();
            next.workers[worker] = change(&mut next);
            steps.push(Step { name, by_itself: true, next });
        };
        match &self.workers[worker] {
            Worker::Idle if self.queued => {
                for now in [NOW, AFTER_LEASE] {
                    add("a worker claims", &|next| {
                        next.queued = false;
                        if next.token() >= MAX_CLAIMS {
                            return Worker::Idle;
                        }
                        match next.write(&claim(&key(), now, LEASE_END)) {
                            Applied::Done(Some(item)) => Worker::Holding(item),
                            _ => Worker::Idle,
                        }
                    });
                }
                return;
            }
            Worker::Idle => return,
            Worker::Holding(item) if record(item).state == State::Pending => {
                add("a poll says nothing", &|_| Worker::Polled(item.clone(), None));
                if self.truth.is_some() {
                    add("a poll says the end", &|next| Worker::Polled(item.clone(), next.truth));
                }
            }
            Worker::Holding(item) => {
                add("a worker publishes", &|next| {
                    let outcome = record(item).outcome();
                    if next.published != Some(Outcome::Succeeded) {
                        next.published = outcome;
                    }
                    Worker::Published(item.clone())
                });
                add("a worker runs out of time", &|next| {
                    next.write(&release_unfinished(&record(item), NOW, None, None));
                    Worker::Idle
                });
            }
            Worker::Polled(item, outcome) => {
                add("a worker waits", &|next| {
                    let read = record(item);
                    let released = next.write(&release_open(&read, NOW, read.hint.as_ref()));
                    if matches!(released, Applied::Done(_)) { Worker::Idle } else { held_by(&read, released) }
                });
                if *outcome == Some(Outcome::Failed) && record(item).is_reopened() {
                    add("a worker restores", &|next| {
                        let read = record(item);
                        let restored = next.write(&restore(&read, LEASE_END));
                        held_by(&read, restored)
                    });
                } else if let Some(outcome) = *outcome {
                    add("a worker reports", &|next| match next.report(outcome, Some(&record(item))) {
                        (_, Some(held)) => held_by(&record(item), Applied::Refused(Some(held))),
                        (took_over, None) => {
                            next.queued |= took_over;
                            Worker::Idle
                        }
                    });
                }
            }
            Worker::Published(item) => add("a worker settles", &|next| {
                let read = record(item);
                let report = read.report.clone().expect("a report is held");
                if matches!(next.write(&settle(&read, &report, &[], NOW)), Applied::Done(_)) {
                    next.archived += u8::from(report.outcome() == Outcome::Succeeded);
                }
                Worker::Idle
            }),
        }
        let mut next = self.clone();
        next.workers[worker] = Worker::Idle;
        steps.push(Step { name: "a worker dies", by_itself: false, next });
    }

    /// The promise that does not hold, if one does not.
    fn violation(&self) -> Option<&'static str> {
        let item = self.item.as_ref();
        let state = self.state();
        let is_final = state.is_some_and(State::is_final);
        if self.archived > 1 {
            Some("a success is settled twice")
        } else if is_final && self.acknowledged && state != Some(State::Archived) {
            Some("an acknowledged success ends as a failure")
        } else if self.acknowledged && item.is_none() {
            Some("an acknowledged success is nowhere")
        } else if is_final && self.published != item.and_then(|item| record(item).outcome()) {
            Some("what is settled is not what is published")
        } else if self.archived > 0 && state != Some(State::Archived) {
            Some("a settled success is undone")
        } else if item.is_some_and(|item| item.contains_key(&Attribute::DueAt) == is_final) {
            Some("an open task is never due, or a final one is")
        } else {
            None
        }
    }

    /// Which worker is the first makes no difference.
    fn sorted(mut self) -> Self {
        let hash = |worker: &Worker| BuildHasherDefault::<DefaultHasher>::default().hash_one(worker);
        self.workers.sort_by_cached_key(hash);
        self
    }

    fn is_finished(&self) -> bool {
        self.state().is_some_and(State::is_final)
    }
}

/// What a worker that read the record does next: it continues with what is held while its claim is the latest.
fn held_by(read: &Record, applied: Applied<Item>) -> Worker {
    let (Applied::Done(held) | Applied::Refused(held)) = applied;
    match held {
        Some(held) if record(&held).fencing_token == read.fencing_token && !record(&held).state.is_final() => {
            Worker::Holding(held)
        }
        _ => Worker::Idle,
    }
}

/// Visits every state, and returns how many there are: a few means that the search does not get going.
fn explore(callbacks: Callbacks, is_registered: bool) -> usize {
    let start = Rc::new(Model::new(is_registered));
    let mut indices = HashMap::from([(Rc::clone(&start), 0)]);
    // Where each state was reached from, and how.
    let mut states = vec![(start, 0, "")];
    let mut predecessors: Vec<Vec<usize>> = vec![vec![]];
    let mut next = 0;
    while next < states.len() {
        let model = Rc::clone(&states[next].0);
        if let Some(violation) = model.violation() {
            panic!("{violation}: {:#?}", path(&states, next));
        }
        for step in model.steps(callbacks) {
            let reached = Rc::new(step.next.sorted());
            let index = *indices.entry(Rc::clone(&reached)).or_insert(states.len());
            if index == states.len() {
                states.push((reached, next, step.name));
                predecessors.push(vec![]);
            }
            if step.by_itself {
                predecessors[index].push(next);
            }
        }
        next += 1;
    }
    let mut can_finish: HashSet<usize> = (0..states.len()).filter(|index| states[*index].0.is_finished()).collect();
    let mut open: VecDeque<usize> = can_finish.iter().copied().collect();
    while let Some(index) = open.pop_front() {
        for predecessor in &predecessors[index] {
            if can_finish.insert(*predecessor) {
                open.push_back(*predecessor);
            }
        }
    }
    for (index, (model, ..)) in states.iter().enumerate() {
        // The last claims are cut off, not stuck: a report may take the task over, and then one worker is needed.
        if model.token() + 2 <= MAX_CLAIMS
            && model.truth.is_some()
            && model.item.is_some()
            && !can_finish.contains(&index)
        {
            panic!("no way leads to a final state: {:#?}\n{model:#?}", path(&states, index));
        }
    }
    states.len()
}

fn path(states: &[(Rc<Model>, usize, &'static str)], mut index: usize) -> Vec<&'static str> {
    let mut steps = vec![];
    while index > 0 {
        steps.push(states[index].2);
        index = states[index].1;
    }
    steps.reverse();
    steps
}

#[test]
fn no_order_of_events_breaks_a_promise_where_callbacks_are_reports() {
    assert!(explore(Callbacks::Reports, true) > 10_000);
    assert!(explore(Callbacks::Reports, false) > 1_000);
}

#[test]
fn no_order_of_events_breaks_a_promise_where_callbacks_are_hints() {
    assert!(explore(Callbacks::Hints, true) > 10_000);
    assert!(explore(Callbacks::Hints, false) > 1_000);
}
