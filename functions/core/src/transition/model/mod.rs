//! A model of the protocol, checked with `stateright`: one task, its callbacks in every order, status polls that may be stale, a
//! queue that loses messages and delivers them twice, workers, runs of `poll`, and crashes between any two steps.
//!
//! Every decision is that of the code: the transitions, [`after_report`](super::reports::after_report),
//! [`after_hint`](super::reports::after_hint), [`is_still_held`](super::leases::is_still_held),
//! [`decide`](crate::status_poll::decide), [`belief`](crate::callback::proof::Proof::belief),
//! [`supersedes`](crate::report::Outcome::supersedes). What calls them is repeated here, from `callback`, `process` and `poll`.
//!
//! | module | holds |
//! |---|---|
//! | [`scenarios`] | what the model is checked under |
//! | [`system`] | a state |
//! | [`steps`], [`workers`], [`runs`] | what may happen next |
//! | [`table`], [`writes`], [`clock`] | the record, the writes to it, time |
//! | [`promises`] | what has to hold |
//! | [`mutations`], [`exceptions`] | the transitions with a part left out, and which of these break nothing |
//!
//! # What it leaves out
//!
//! - A status poll that says "failed" is believed at once while no failure is held, also shortly after a hint that claims a
//!   success; so is a failure that is reported. There the model lets the provider say so only while it is true.
//! - A worker does not outlive the removal of the record it works on: a record that is made anew counts its claims from 1.
//! - A worker that was taken for dead may publish a success while another one settles that its files are lost.
//! - No invocation lasts from one point in time of [`clock`] to the next.
//! - [`super::ownership`], a submission that is refused, interrupted or repeated, and cancellations.
//! - A status call that is a guess, whose "not found" is no answer.

mod clock;
mod exceptions;
mod mutations;
mod promises;
mod runs;
mod scenarios;
mod steps;
mod system;
mod table;
mod workers;
mod writes;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};

use stateright::{Checker as _, HasDiscoveries, Model, Property};

use self::mutations::{Mutant, Place};
use self::scenarios::{LARGE, SCENARIOS, Scenario};
use self::steps::{Step, Steps};
use self::system::System;
use self::table::Table;

/// The protocol under one scenario.
struct Protocol {
    scenario: Scenario,
    table: Mutex<Table>,
    graph: Mutex<Graph>,
    /// The states from which no final state can be reached, once they are known.
    doomed: HashSet<u64>,
    /// The first state that breaks a promise.
    broken: OnceLock<System>,
    /// Set when the search is over, and paths are followed again.
    is_searched: AtomicBool,
}

/// Which states lead to which by themselves. `stateright` knows "always" and "sometimes"; that something stays possible from
/// every state is computed from this.
#[derive(Default)]
struct Graph {
    reached_from: HashMap<u64, Vec<u64>>,
    finished: Vec<u64>,
    states: Vec<u64>,
}

impl Graph {
    fn doomed(&self) -> HashSet<u64> {
        let mut can_finish: HashSet<u64> = self.finished.iter().copied().collect();
        let mut open: VecDeque<u64> = self.finished.iter().copied().collect();
        while let Some(state) = open.pop_front() {
            for before in self.reached_from.get(&state).into_iter().flatten() {
                if can_finish.insert(*before) {
                    open.push_back(*before);
                }
            }
        }
        self.states.iter().copied().filter(|state| !can_finish.contains(state)).collect()
    }
}

fn fingerprint(state: &System) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(state)
}

impl Protocol {
    fn new(scenario: Scenario, mutant: Option<Mutant>) -> Self {
        let table = Mutex::new(Table::new(mutant));
        Self {
            scenario,
            table,
            graph: Mutex::default(),
            doomed: HashSet::new(),
            broken: OnceLock::new(),
            is_searched: AtomicBool::new(false),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("nobody panics with it")
    }

    fn is_doomed(&self, state: &System) -> bool {
        self.doomed.contains(&fingerprint(state))
    }

    /// Whether a promise holds. The first state that breaks one counts alone, because it is reached in the fewest steps.
    fn keeps(&self, state: &System, holds: fn(&Self, &Table, &System) -> bool) -> bool {
        holds(self, &self.table(), state) || self.broken.get_or_init(|| *state) != state
    }

    /// Nothing follows from a broken promise, nor from a record that cannot be read.
    fn is_continued(&self, state: &System) -> bool {
        let table = self.table();
        (self.broken.get().is_none() || self.is_searched.load(Ordering::Relaxed))
            && state.broken.is_none()
            && state.item.is_none_or(|item| table.known(item).record.is_some())
    }
}

impl Model for Protocol {
    type State = System;
    type Action = Step;

    fn init_states(&self) -> Vec<System> {
        vec![System::new(&self.scenario)]
    }

    fn actions(&self, state: &System, actions: &mut Vec<Step>) {
        if !self.is_continued(state) {
            return;
        }
        let mut table = self.table();
        let steps = Steps { scenario: &self.scenario, table: &mut table, from: *state, found: vec![] }.all();
        let mut graph = self.graph.lock().expect("nobody panics with it");
        let from = fingerprint(state);
        graph.states.push(from);
        // Without a worker nothing is finished, and nothing of that is checked.
        if state.item.is_none() || state.is_final(&table) || self.scenario.workers == 0 {
            graph.finished.push(from);
        }
        for step in &steps {
            if step.by_itself {
                graph.reached_from.entry(fingerprint(&step.next)).or_default().push(from);
            }
        }
        actions.extend(steps);
    }

    fn next_state(&self, _: &System, step: Step) -> Option<System> {
        Some(step.next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        promises::all()
    }
}

/// A promise that is broken, and how.
#[derive(Debug)]
struct Violation {
    promise: &'static str,
    steps: Vec<&'static str>,
    last: String,
}

/// What came of checking a scenario.
struct Checked {
    states: usize,
    violation: Option<Violation>,
    table: Table,
}

fn check(scenario: Scenario, mutant: Option<&Mutant>) -> Checked {
    let (mut checked, doomed) = explore(Protocol::new(scenario, mutant.cloned()));
    if checked.violation.is_none() && !doomed.is_empty() {
        // The same again, now that these states are known: it finds the shortest way to one.
        let states = checked.states;
        (checked, _) = explore(Protocol { doomed, ..Protocol::new(scenario, mutant.cloned()) });
        checked.states = states;
        assert!(checked.violation.is_some(), "the doomed states are reached again");
    }
    checked
}

fn explore(model: Protocol) -> (Checked, HashSet<u64>) {
    let checker = model.checker().finish_when(HasDiscoveries::AnyFailures).threads(1).spawn_bfs().join();
    checker.model().is_searched.store(true, Ordering::Relaxed);
    let found = checker.discoveries().into_iter().map(|(promise, path)| (promise, path.into_vec()));
    let found = found.min_by_key(|(promise, path)| (path.len(), *promise));
    let violation = found.map(|(promise, path)| {
        let (last, _) = path.last().expect("a path has a state");
        let table = checker.model().table();
        let item = last.item.map(|item| table.known(item).item.clone());
        let last = format!("{last:?}\n{item:?}");
        Violation { promise, steps: path.iter().filter_map(|(_, step)| Some(step.as_ref()?.name)).collect(), last }
    });
    let model = checker.model();
    let doomed = model.graph.lock().expect("nobody panics with it").doomed();
    let table = std::mem::take(&mut *model.table());
    (Checked { states: checker.unique_state_count(), violation, table }, doomed)
}

#[expect(clippy::print_stdout, reason = "the figures are for `--nocapture`")]
fn check_all(scenarios: &[Scenario]) {
    let mut states = 0;
    for scenario in scenarios {
        let checked = check(*scenario, None);
        println!("{}: {} states", scenario.name, checked.states);
        if let Some(Violation { promise, steps, last }) = checked.violation {
            panic!("{}: {promise}: {steps:#?}\n{last}", scenario.name);
        }
        states += checked.states;
    }
    println!("{states} states");
}

/// Leaves out each part of each transition, and checks that a promise breaks or that an exception says why not. What breaks
/// nothing although it makes a difference takes a whole search, and only the long version makes it.
#[expect(clippy::print_stdout, reason = "the table is for `--nocapture`")]
fn check_mutants(searches_exceptions: bool) {
    // Each with the scenarios in which it makes a difference.
    let mut places: BTreeMap<Place, Vec<Scenario>> = BTreeMap::new();
    for scenario in SCENARIOS {
        let table = check(*scenario, None).table;
        let differing = table.differing();
        for place in table.places {
            let differs = differing.contains(&place);
            places.entry(place).or_default().extend(differs.then_some(*scenario));
        }
    }
    let (mut caught, mut wrong) = (0, vec![]);
    println!("| transition | left out | promise broken | scenario | steps |\n|---|---|---|---|---|");
    for (place, scenarios) in &places {
        let reason = exceptions::reason(&place.to_string());
        if reason.is_some() && !scenarios.is_empty() && !searches_exceptions {
            continue;
        }
        let mutant = Mutant { place: place.clone() };
        let found = scenarios.iter().find_map(|scenario| Some((scenario, check(*scenario, Some(&mutant)).violation?)));
        if let Some((scenario, Violation { promise, steps, .. })) = &found {
            caught += 1;
            println!("| {} | {} | {promise} | {} | {} |", place.transition, place.part, scenario.name, steps.len());
        }
        if found.is_some() == reason.is_some() {
            wrong.push(place.to_string());
        }
    }
    println!("{} mutants, {caught} break a promise", places.len());
    for (place, reason) in exceptions::ALL {
        println!("- {place}: {reason}");
    }
    let met = |place: &str| places.keys().any(|met| met.to_string() == place);
    wrong.extend(exceptions::ALL.iter().map(|(place, _)| (*place).to_owned()).filter(|place| !met(place)));
    assert!(
        wrong.is_empty(),
        "these break nothing and are no exception, or the other way round, or are gone: {wrong:#?}"
    );
}

#[test]
fn no_order_of_events_breaks_a_promise() {
    check_all(SCENARIOS);
}

#[test]
#[ignore = "the long version: minutes"]
fn no_order_of_more_events_breaks_a_promise() {
    check_all(LARGE);
}

#[test]
fn without_any_part_of_a_transition_a_promise_breaks() {
    check_mutants(false);
}

#[test]
#[ignore = "the long version: minutes"]
fn what_is_excepted_breaks_nothing() {
    check_mutants(true);
}
