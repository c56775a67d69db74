//! The queue under load, simulated event by event with the real transitions and the real rule for queueing again.
//!
//! Callbacks report tasks, workers receive messages, claim, renew, settle; `poll` reconciles once a minute what is due. Only the
//! clock, the queue and the time the work takes are made up. The same seed gives the same run.
//!
//! `cargo test -p reelhook-core --test backlog -- --nocapture` takes seconds and prints the figures;
//! `cargo test --release -p reelhook-core --test backlog -- --ignored --nocapture` simulates a week, a burst of 20,000, and
//! the arrangement that this one replaced.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};
use std::time::Duration;

use reelhook_core::annotations::Given;
use reelhook_core::callback::{Accepted, Raw, Reporter};
use reelhook_core::item::{Attribute, Item, Value};
use reelhook_core::record::{FOUND_WITHIN, LEASE_DURATION, RENEW_INTERVAL, REQUEUE_AFTER, Record};
use reelhook_core::report::{Failure, Reason, Report};
use reelhook_core::requeue::{Requeue, requeue};
use reelhook_core::transition::reports::{self, Due};
use reelhook_core::transition::submissions::{self, Registration};
use reelhook_core::transition::{Applied, Transition, leases};
use reelhook_core::{Provider, TaskKey, Timestamp};

/// Time in milliseconds, for what happens within a second of the table.
type Time = u64;

const MINUTE: Time = 60_000;
const HOUR: Time = 60 * MINUTE;

/// How long a worker is busy with a message whose task is held, final or unknown.
const SURPLUS_MESSAGE: Time = 100;

/// How long a copy takes that the end of the invocation interrupts.
const SLOW_WORK: Time = 885_000;

type Rule = fn(&Record, Option<u64>, Timestamp) -> Requeue;

/// The rule this one replaced: every run queues every task, every minute.
fn every_minute(_: &Record, _: Option<u64>, now: Timestamp) -> Requeue {
    Requeue { send: true, due_at: now + REQUEUE_AFTER }
}

#[derive(Clone, Copy)]
struct Setup {
    /// Concurrent invocations.
    invocations: usize,
    /// Messages an invocation takes. It ends with its slowest.
    batch: usize,
    rule: Rule,
    /// One in so many callbacks dies between the record and the queue; 0: none does.
    lost_one_in: usize,
}

const CURRENT: Setup = Setup { invocations: 25, batch: 1, rule: requeue, lost_one_in: 0 };
const REPLACED: Setup = Setup { invocations: 5, batch: 5, rule: every_minute, lost_one_in: 0 };

/// What is to be done: when each task is reported, and how long its work takes.
type Load = Vec<(Time, Time)>;

/// A generator of pseudo-random numbers: `SplitMix64`.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// An exponentially distributed time.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a random time has no exact value"
    )]
    fn exponential(&mut self, mean: Time) -> Time {
        let fraction = ((self.next() >> 11) as f64 + 1.0) / (1_u64 << 53) as f64;
        (-fraction.ln() * mean as f64) as Time
    }
}

/// Tasks whose work takes 5 s on average, but for one in a hundred, which takes [`SLOW_WORK`]. With a mean of zero between two
/// they are all reported at once.
fn load(tasks: usize, between_reports: Time) -> Load {
    let mut random = Random(7);
    let mut now = 0;
    (0..tasks)
        .map(|_| {
            now += random.exponential(between_reports);
            let work = if random.next().is_multiple_of(100) { SLOW_WORK } else { random.exponential(5000) };
            (now, work)
        })
        .collect()
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Report(usize),
    Renew(usize, u64),
    Settle(usize),
    InvocationEnds,
    Poll,
}

struct Task {
    key: TaskKey,
    item: Option<Item>,
    reported: Time,
    work: Time,
    claimed: Option<Time>,
    messages: u64,
    is_lost: bool,
}

struct Simulation {
    setup: Setup,
    tasks: Vec<Task>,
    open: BTreeSet<usize>,
    queue: VecDeque<usize>,
    free: usize,
    events: BinaryHeap<Reverse<(Time, Event)>>,
    /// What the queue said of itself a minute ago: SQS's counts are approximate for about that long.
    waiting: u64,
    /// Work that is done, by when the last was.
    finished: Time,
}

fn timestamp(now: Time) -> Timestamp {
    Timestamp::from_milliseconds(1_790_000_000_000 + i64::try_from(now).expect("a time within the simulation"))
}

impl Task {
    fn apply(&mut self, transition: &Transition) -> bool {
        match transition.evaluate(self.item.take()) {
            Applied::Done(item) => {
                self.item = item;
                true
            }
            Applied::Refused(item) => {
                self.item = item;
                false
            }
        }
    }

    fn record(&self) -> Record {
        Record::from_item(self.item.as_ref().expect("a reported task has an item")).expect("a record")
    }

    fn due_at(&self) -> Option<Timestamp> {
        match self.item.as_ref()?.get(&Attribute::DueAt)? {
            Value::Number(due_at) => Some(Timestamp::from_seconds(*due_at)),
            Value::Text(_) => None,
        }
    }
}

impl Simulation {
    fn new(setup: Setup, load: &Load) -> Self {
        let task = |(index, (reported, work)): (usize, &(Time, Time))| Task {
            key: TaskKey::unregistered(Provider::Kling, &format!("job-{index}")),
            item: None,
            reported: *reported,
            work: *work,
            claimed: None,
            messages: 0,
            is_lost: setup.lost_one_in > 0 && index % setup.lost_one_in == 0,
        };
        let reports = load.iter().enumerate().map(|(index, (at, _))| Reverse((*at, Event::Report(index))));
        Self {
            setup,
            tasks: load.iter().enumerate().map(task).collect(),
            open: BTreeSet::new(),
            queue: VecDeque::new(),
            free: setup.invocations,
            events: reports.chain([Reverse((MINUTE / 2, Event::Poll))]).collect(),
            waiting: 0,
            finished: 0,
        }
    }

    /// Runs until all tasks are settled, or until `end`.
    fn run(mut self, end: Time) -> Figures {
        let mut unsettled = self.tasks.len();
        while let Some(Reverse((now, event))) = self.events.pop()
            && now <= end
            && unsettled > 0
        {
            match event {
                Event::Report(index) => self.report(index, now),
                Event::Renew(index, fencing_token) => self.renew(index, fencing_token, now),
                Event::Settle(index) => {
                    let task = &mut self.tasks[index];
                    let (record, report) = (task.record(), failure());
                    assert!(task.apply(&leases::settle(&record, &report, &[], timestamp(now))), "{}", task.key);
                    self.open.remove(&index);
                    self.finished = now;
                    unsettled -= 1;
                }
                Event::InvocationEnds => self.free += 1,
                Event::Poll => self.poll(now),
            }
            while self.free > 0 && !self.queue.is_empty() {
                self.invoke(now);
            }
        }
        self.figures(unsettled)
    }

    fn at(&mut self, time: Time, event: Event) {
        self.events.push(Reverse((time, event)));
    }

    fn send(&mut self, index: usize) {
        self.queue.push_back(index);
        self.tasks[index].messages += 1;
    }

    fn report(&mut self, index: usize, now: Time) {
        let task = &mut self.tasks[index];
        let accepted = Accepted::confirmed(task.key.clone(), None, failure(), Reporter::Callback, Raw::new(b"{}"));
        let now = timestamp(now);
        let registration = Registration {
            task: task.key.clone(),
            provider_task_id: None,
            given: Given::default(),
            marker: None,
            submission: None,
            // Its status would be polled at any time within the next minutes.
            due_at: now + Duration::from_secs(index as u64 * 37 % FOUND_WITHIN.as_secs()),
            deadline_at: now + Duration::from_hours(24),
        };
        assert!(task.apply(&submissions::register(&registration, now)));
        assert!(task.apply(&reports::report(&accepted, None, now, Due::Kept)));
        self.open.insert(index);
        if !self.tasks[index].is_lost {
            self.send(index);
        }
    }

    /// An invocation of `process`: its messages side by side, until the slowest is done.
    fn invoke(&mut self, now: Time) {
        self.free -= 1;
        let batch = self.setup.batch.min(self.queue.len());
        let messages: Vec<usize> = self.queue.drain(..batch).collect();
        let mut ends = now;
        for index in messages {
            let task = &mut self.tasks[index];
            let until = timestamp(now) + LEASE_DURATION;
            let work = if task.apply(&leases::claim(&task.key.clone(), timestamp(now), until)) {
                let (work, fencing_token) = (task.work, task.record().fencing_token);
                assert_eq!(task.claimed.replace(now), None, "{} is worked on once", task.key);
                self.at(now + milliseconds(RENEW_INTERVAL), Event::Renew(index, fencing_token));
                self.at(now + work, Event::Settle(index));
                work
            } else {
                SURPLUS_MESSAGE
            };
            ends = ends.max(now + work);
        }
        self.at(ends, Event::InvocationEnds);
    }

    fn renew(&mut self, index: usize, fencing_token: u64, now: Time) {
        let task = &mut self.tasks[index];
        let until = timestamp(now) + LEASE_DURATION;
        if task.apply(&leases::renew(&task.key.clone(), fencing_token, until)) {
            self.at(now + milliseconds(RENEW_INTERVAL), Event::Renew(index, fencing_token));
        }
    }

    /// A run of `poll`, as `functions/poll/src/stream.rs` makes it, but with the longest overdue first.
    fn poll(&mut self, now: Time) {
        let timestamp = timestamp(now);
        let mut due: Vec<(Timestamp, usize)> = self
            .open
            .iter()
            .filter_map(|index| Some((self.tasks[*index].due_at()?, *index)))
            .filter(|(due_at, _)| *due_at <= timestamp)
            .collect();
        due.sort_unstable();
        for (_, index) in due {
            let task = &mut self.tasks[index];
            let record = task.record();
            if !leases::is_due(&record, timestamp) {
                continue;
            }
            let requeued = (self.setup.rule)(&record, Some(self.waiting), timestamp);
            if requeued.due_at > timestamp + Duration::from_millis(MINUTE) {
                assert!(task.apply(&leases::postpone(&record, requeued.due_at)));
            }
            if requeued.send {
                self.send(index);
            }
        }
        self.waiting = self.queue.len() as u64;
        self.at(now + MINUTE, Event::Poll);
    }

    fn figures(&self, unsettled: usize) -> Figures {
        let waits = |lost| {
            let waits = self.tasks.iter().filter(|task| task.is_lost == lost);
            let mut waits: Vec<Time> = waits.filter_map(|task| Some(task.claimed? - task.reported)).collect();
            waits.sort_unstable();
            waits
        };
        let (sent, lost) = (waits(false), waits(true));
        let quantile = |percent: usize| sent.get(sent.len() * percent / 100).map_or(0, |wait| wait / 1000);
        Figures {
            unsettled,
            median_wait: quantile(50),
            p99_wait: quantile(99),
            longest_wait_of_a_lost: lost.last().map_or(0, |wait| wait / 1000),
            messages: self.tasks.iter().map(|task| task.messages).sum(),
            most_messages_of_a_task: self.tasks.iter().map(|task| task.messages).max().unwrap_or(0),
            drained_after: self.finished / 1000,
        }
    }
}

/// Times in seconds.
#[derive(Debug)]
struct Figures {
    unsettled: usize,
    median_wait: u64,
    p99_wait: u64,
    longest_wait_of_a_lost: u64,
    messages: u64,
    most_messages_of_a_task: u64,
    drained_after: u64,
}

impl Figures {
    #[expect(clippy::print_stdout, reason = "the figures are what a run with --nocapture is for")]
    fn print(self, title: &str) -> Self {
        println!("{title}: {self:?}");
        self
    }
}

fn failure() -> Report {
    Report::Failed(Failure::new(Reason::Unknown, false))
}

fn milliseconds(duration: Duration) -> Time {
    u64::try_from(duration.as_millis()).expect("a short time")
}

/// How long the tasks take through the same workers when each has its one message and `poll` adds none, in seconds.
fn work_alone(load: &Load) -> u64 {
    let never: Rule = |_, _, now| Requeue { send: false, due_at: now + REQUEUE_AFTER };
    Simulation::new(Setup { rule: never, ..CURRENT }, load).run(Time::MAX).drained_after
}

fn steady(setup: Setup, hours: Time) -> Figures {
    // 0.6 reports a second.
    let tasks = usize::try_from(hours * HOUR * 6 / 10_000).expect("a number of tasks");
    Simulation::new(setup, &load(tasks, 1667)).run(hours * HOUR + HOUR)
}

fn assert_drained(burst: &Figures, alone: u64) {
    assert_eq!(burst.unsettled, 0, "{burst:?}");
    assert!(burst.drained_after * 10 <= alone * 12, "{burst:?}, the work alone {alone} s");
    assert!(burst.most_messages_of_a_task <= 3, "{burst:?}");
}

#[test]
fn a_slow_copy_holds_up_nothing_but_itself() {
    let figures = steady(CURRENT, 6).print("0.6 reports a second for 6 hours");
    assert_eq!(figures.unsettled, 0, "{figures:?}");
    assert!(figures.median_wait < 5 && figures.p99_wait < 60, "{figures:?}");
    assert!(figures.most_messages_of_a_task <= 3, "{figures:?}");
}

#[test]
fn a_burst_is_drained_in_hardly_more_time_than_its_work_takes() {
    let load = load(2000, 0);
    let alone = work_alone(&load);
    let figures = Simulation::new(CURRENT, &load).run(24 * HOUR);
    assert_drained(&figures.print(&format!("2,000 reports at once, {alone} s of work")), alone);
}

#[test]
fn a_report_whose_message_was_never_sent_is_picked_up_within_six_minutes() {
    let figures = steady(Setup { lost_one_in: 50, ..CURRENT }, 6).print("one message in 50 lost");
    assert_eq!(figures.unsettled, 0, "{figures:?}");
    // Five until it is due, and at most another until the next run.
    let longest = FOUND_WITHIN.as_secs() + 61;
    assert!((longest / 2..=longest).contains(&figures.longest_wait_of_a_lost), "{figures:?}");
    assert!(figures.p99_wait < 60, "{figures:?}");
}

/// What is simulated here is what is deployed.
#[test]
fn an_invocation_takes_one_message() {
    let template = include_str!("../../../infra/template.yaml");
    assert!(template.contains(&format!("BatchSize: {}\n", CURRENT.batch)));
}

#[test]
#[ignore = "takes a minute"]
fn the_long_version() {
    let figures = steady(CURRENT, 7 * 24).print("0.6 reports a second for a week");
    assert!(figures.median_wait < 5 && figures.p99_wait < 60 && figures.unsettled == 0, "{figures:?}");
    let load_of_20_000 = load(20_000, 0);
    let alone = work_alone(&load_of_20_000);
    let figures = Simulation::new(CURRENT, &load_of_20_000).run(24 * HOUR);
    let figures = figures.print(&format!("20,000 reports at once, {alone} s of work"));
    assert!(figures.unsettled == 0 && figures.drained_after * 10 <= alone * 12, "{figures:?}");
    assert!(figures.messages <= 6 * 20_000, "{figures:?}");
    let replaced = steady(REPLACED, 6).print("replaced: five messages an invocation, queued every minute");
    assert!(replaced.median_wait > 60, "{replaced:?}");
    let replaced = Simulation::new(REPLACED, &load(2000, 0)).run(3 * HOUR).print("replaced: 2,000 reports at once");
    assert!(replaced.messages > 40 * 2000, "{replaced:?}");
}
