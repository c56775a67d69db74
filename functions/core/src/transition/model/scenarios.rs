//! What the model is checked under: who calls back, what may go wrong, and how many are at work.

use super::system::Truth;
use super::writes::Answer;
use crate::callback::proof::{Belief, Proof};
use crate::report::Outcome;
use crate::settings::Confirm;

/// One arrangement. The smaller ones leave out what another one has.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is one thing that may happen or not")]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    /// How callbacks are proven, and whether the settings allow status polls: the two decide what a callback may do.
    pub(super) proof: Proof,
    pub(super) is_pollable: bool,
    /// Whether a success is only a hint whatever its proof: its body has a file id for a link.
    pub(super) has_file_ids: bool,
    /// Whether callbacks come of what never happened: somebody has learned the URL.
    pub(super) is_forged: bool,
    /// Whether callbacks come that are about another task of the provider.
    pub(super) other_task: bool,
    pub(super) truth: Truth,
    /// Whether a task that failed may succeed after all.
    pub(super) changes_its_mind: bool,
    /// Whether status polls may get no response.
    pub(super) outages: bool,
    /// Callbacks that come at most.
    pub(super) successes: u8,
    pub(super) failures: u8,
    /// Callbacks that the task is open, or that cannot be read.
    pub(super) mentions: u8,
    /// Whether the application registers the task, at any time.
    pub(super) registers: bool,
    /// Whether reelhook submits it instead, so that its id is not known at first.
    pub(super) submits: bool,
    /// Whether the files of a success may be lost.
    pub(super) files_may_be_lost: bool,
    pub(super) workers: usize,
    pub(super) crashes: bool,
    pub(super) renewals: bool,
    pub(super) runs: usize,
    /// The points in time that are visited.
    pub(super) instants: &'static [u8],
    /// The last one at which callbacks come: what waits for a quarter of an hour needs another one.
    pub(super) last_callbacks: u8,
}

impl Scenario {
    /// What a callback may do.
    pub(super) fn belief(&self, outcome: Outcome) -> Belief {
        if self.has_file_ids && outcome == Outcome::Succeeded {
            return Belief::Hint { fallback: false };
        }
        self.proof.belief(outcome, self.is_pollable, Confirm::default())
    }

    /// Whether this is what a status poll says when nothing goes well.
    pub(super) fn is_certain(&self, answer: Answer) -> bool {
        !self.outages || answer == Answer::NoResponse
    }
}

const REPORTS: Scenario = Scenario {
    name: "signed callbacks",
    proof: Proof::Body,
    is_pollable: true,
    has_file_ids: false,
    is_forged: false,
    other_task: false,
    truth: Truth::Open,
    changes_its_mind: true,
    outages: false,
    successes: 2,
    failures: 1,
    mentions: 0,
    registers: true,
    submits: false,
    files_may_be_lost: false,
    workers: 2,
    crashes: true,
    renewals: false,
    runs: 0,
    instants: &[0, 2],
    last_callbacks: 2,
};

const HINTS: Scenario = Scenario { name: "hints", proof: Proof::Sender, successes: 1, ..REPORTS };

/// Callbacks come that somebody made up, and the provider may be out of reach.
const FORGED: Scenario = Scenario {
    name: "forged callbacks",
    proof: Proof::Url,
    is_forged: true,
    changes_its_mind: false,
    outages: true,
    successes: 2,
    failures: 0,
    registers: false,
    workers: 1,
    instants: &[0, 1, 2, 3],
    last_callbacks: 1,
    ..REPORTS
};

/// The provider does not know the task, or not yet.
const UNKNOWN: Scenario = Scenario {
    name: "unknown tasks",
    proof: Proof::Body,
    has_file_ids: true,
    truth: Truth::Unknown,
    outages: false,
    failures: 1,
    registers: true,
    instants: &[0, 1, 3],
    last_callbacks: 1,
    ..FORGED
};

/// Those of every run of the tests, the smallest first.
pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "other tasks",
        workers: 1,
        other_task: true,
        registers: false,
        mentions: 1,
        last_callbacks: 0,
        ..REPORTS
    },
    Scenario {
        name: "submissions",
        workers: 1,
        other_task: true,
        registers: false,
        submits: true,
        mentions: 1,
        successes: 1,
        changes_its_mind: false,
        last_callbacks: 0,
        ..REPORTS
    },
    Scenario {
        name: "live workers",
        crashes: false,
        renewals: true,
        failures: 0,
        registers: false,
        last_callbacks: 0,
        ..HINTS
    },
    Scenario { name: "live workers, signed callbacks", crashes: false, successes: 1, registers: false, ..REPORTS },
    Scenario {
        name: "lost files",
        files_may_be_lost: true,
        changes_its_mind: false,
        failures: 0,
        registers: false,
        ..REPORTS
    },
    Scenario {
        name: "two runs of poll",
        workers: 0,
        runs: 2,
        successes: 1,
        registers: false,
        mentions: 1,
        last_callbacks: 0,
        ..HINTS
    },
    UNKNOWN,
    Scenario { name: "unknown tasks, two workers", successes: 1, failures: 0, workers: 2, registers: false, ..UNKNOWN },
    Scenario { name: "file ids", proof: Proof::Body, has_file_ids: true, workers: 1, last_callbacks: 0, ..HINTS },
    Scenario { name: "mentions", mentions: 1, workers: 1, last_callbacks: 0, ..HINTS },
    Scenario { name: "nobody to poll", is_pollable: false, proof: Proof::Url, workers: 1, ..REPORTS },
    Scenario { name: "nobody to confirm", is_pollable: false, workers: 1, last_callbacks: 0, ..HINTS },
    REPORTS,
    Scenario {
        name: "late hints",
        workers: 1,
        successes: 2,
        is_forged: true,
        registers: false,
        instants: &[0, 1, 3],
        last_callbacks: 1,
        ..HINTS
    },
    Scenario { name: "reports, and poll in steps", workers: 1, runs: 1, ..REPORTS },
    FORGED,
    Scenario {
        name: "hints, and poll in steps",
        workers: 1,
        runs: 1,
        failures: 0,
        mentions: 1,
        registers: false,
        instants: &[2, 3],
        ..HINTS
    },
    Scenario {
        name: "hints, and two workers",
        changes_its_mind: false,
        is_forged: true,
        registers: false,
        last_callbacks: 0,
        ..HINTS
    },
];

/// Those of the long version.
pub(super) const LARGE: &[Scenario] = &[
    Scenario { name: "signed callbacks, and poll in steps", workers: 2, runs: 1, registers: false, ..REPORTS },
    Scenario { name: "hints, and poll in steps", workers: 1, runs: 1, mentions: 1, instants: &[0, 2, 3], ..HINTS },
];
