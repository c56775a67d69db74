//! A state of the model: the record, the queue, the bucket, the provider, and everybody who is at work.

use super::scenarios::Scenario;
use super::table::{ItemId, Table};
use super::writes::{Answer, Hinted, Said};
use crate::record::{Record, State};
use crate::report::Outcome;

/// What the provider knows of the task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Truth {
    /// There is no such task.
    Unknown,
    Open,
    Failed,
    Succeeded,
}

/// A worker of `process`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Worker {
    Idle,
    At {
        /// The record as it was read.
        read: ItemId,
        /// Whether nobody has claimed the task or taken it over since.
        is_latest: bool,
        doing: Doing,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Doing {
    /// About to act on the record.
    Claimed,
    Polled(Answer),
    /// A result with this outcome is in the bucket: the report's, or that its files are lost.
    Published(Outcome),
}

impl Worker {
    /// Orders workers, by anything that differs between them.
    fn order(self) -> Option<(ItemId, bool, Option<Answer>, Option<u8>)> {
        match self {
            Self::Idle => None,
            Self::At { read, is_latest, doing: Doing::Claimed } => Some((read, is_latest, None, None)),
            Self::At { read, is_latest, doing: Doing::Polled(answer) } => Some((read, is_latest, Some(answer), None)),
            Self::At { read, is_latest, doing: Doing::Published(outcome) } => {
                Some((read, is_latest, None, Some(outcome as u8)))
            }
        }
    }
}

/// A renewal of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Renewal {
    pub(super) token: u64,
    /// Whether the claim is the latest still.
    pub(super) is_latest: bool,
}

/// The second write of a callback: a success over a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Second {
    Reopen(Hinted),
    TakeOver(Said),
}

/// A run of `poll`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Run {
    Idle,
    /// Has read the record of a task that is due.
    Read(ItemId),
    Polled {
        read: ItemId,
        answer: Answer,
    },
}

/// A promise that a step has broken. The rest is seen in the state itself, see [`super::promises`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Broken {
    /// A callback got a 2xx, and the record does not know what it said.
    NotRecorded,
    /// An authentic callback cannot be recorded.
    NotAccepted,
    /// A result is settled or announced a second time.
    Twice,
    /// What no status poll confirmed is announced.
    Unconfirmed,
    /// Somebody wrote over the work of a later claim.
    Fenced,
    /// Somebody got the task during another one's lease.
    Shared,
    /// Something new was put off by one who had not read it, or is not due soon.
    PutOff,
    /// A callback of another task of the provider changed the record.
    OtherTask,
    /// A worker was told that its lease is longer, and it is not.
    NotRenewed,
    /// What a later worker resumes from is not kept.
    NotKept,
}

/// A state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "each is one thing that happened or not")]
pub(super) struct System {
    pub(super) item: Option<ItemId>,
    /// The index of the point in time.
    pub(super) clock: u8,
    pub(super) truth: Truth,
    /// What a status poll may still say instead.
    pub(super) earlier: Option<Truth>,
    /// Whether the provider has ever said that the task failed.
    pub(super) has_failed: bool,
    /// Callbacks that may still come.
    pub(super) successes: u8,
    pub(super) failures: u8,
    pub(super) mentions: u8,
    /// Whether a message is in the queue.
    pub(super) queued: bool,
    pub(super) workers: [Worker; 2],
    /// A renewal that is on its way.
    pub(super) renewal: Option<Renewal>,
    pub(super) runs: [Run; 2],
    /// A callback between its first write, which was refused, and its second.
    pub(super) second: Option<Second>,
    /// The outcome in `result.json`.
    pub(super) published: Option<Outcome>,
    /// Whether a success was settled.
    pub(super) archived: bool,
    /// Whether the application registered the task.
    pub(super) registered: bool,
    /// Whether a callback with a true success got a 2xx.
    pub(super) acknowledged: bool,
    /// Whether the provider was asked about the last claim of a success, and did not confirm it.
    pub(super) denied: bool,
    /// Whether the files of a success were found to be lost.
    pub(super) given_up: bool,
    /// Whether a worker that was taken for dead published a success after all, while another one gave up.
    pub(super) outrun: bool,
    pub(super) broken: Option<Broken>,
}

impl System {
    pub(super) fn new(scenario: &Scenario) -> Self {
        Self {
            item: None,
            clock: scenario.instants[0],
            truth: scenario.truth,
            earlier: None,
            has_failed: false,
            successes: scenario.successes,
            failures: scenario.failures,
            mentions: scenario.mentions,
            queued: false,
            workers: [Worker::Idle; 2],
            renewal: None,
            runs: [Run::Idle; 2],
            second: None,
            published: None,
            archived: false,
            registered: false,
            acknowledged: false,
            denied: false,
            given_up: false,
            outrun: false,
            broken: None,
        }
    }

    pub(super) fn record<'a>(&self, table: &'a Table) -> Option<&'a Record> {
        self.item.map(|item| table.record(item))
    }

    pub(super) fn state(&self, table: &Table) -> Option<State> {
        self.record(table).map(|record| record.state)
    }

    pub(super) fn is_final(&self, table: &Table) -> bool {
        self.state(table).is_some_and(State::is_final)
    }

    /// The first promise that is broken counts.
    pub(super) fn break_promise(&mut self, broken: Broken) {
        self.broken.get_or_insert(broken);
    }

    /// From now on nobody's claim is the latest.
    pub(super) fn void_claims(&mut self) {
        for worker in &mut self.workers {
            if let Worker::At { is_latest, .. } = worker {
                *is_latest = false;
            }
        }
        if let Some(renewal) = &mut self.renewal {
            renewal.is_latest = false;
        }
    }

    /// The same state as each of those that differ from it only in names: which worker is which makes no difference, nor does
    /// by how much a fencing token is larger than another.
    pub(super) fn canonical(mut self, table: &mut Table) -> Self {
        self.renumber(table);
        self.workers.sort_unstable_by_key(|worker| worker.order());
        self.runs.sort_unstable();
        self
    }

    fn renumber(&mut self, table: &mut Table) {
        let Some(item) = self.item.filter(|item| table.known(*item).record.is_some()) else { return };
        let token = |table: &Table, id: ItemId| table.record(id).fencing_token;
        let latest = token(table, item);
        let mut held: Vec<u64> = self.renewal.map(|renewal| renewal.token).into_iter().chain([latest]).collect();
        for worker in self.workers {
            if let Worker::At { read, .. } = worker {
                held.push(token(table, read));
            }
        }
        for run in self.runs {
            if let Run::Read(read) | Run::Polled { read, .. } = run {
                held.push(token(table, read));
            }
        }
        held.retain(|token| *token > 0);
        held.sort_unstable();
        held.dedup();
        // A record that was removed begins anew, and may meet claims on the one before: these stay as they are.
        if held.last() != Some(&latest) {
            return;
        }
        let rank = |token: u64| held.iter().position(|held| *held == token).map_or(0, |position| position as u64 + 1);
        let mut renumbered = |id: ItemId| {
            let old = token(table, id);
            if rank(old) == old { id } else { table.with_token(id, rank(old)) }
        };
        self.item = Some(renumbered(item));
        for worker in &mut self.workers {
            if let Worker::At { read, .. } = worker {
                *read = renumbered(*read);
            }
        }
        for run in &mut self.runs {
            if let Run::Read(read) | Run::Polled { read, .. } = run {
                *read = renumbered(*read);
            }
        }
        self.renewal = self.renewal.map(|renewal| Renewal { token: rank(renewal.token), ..renewal });
    }
}
