//! What holds in every state. The names are those of the promises in `README.md`, in more words.

use stateright::Property;

use super::Protocol;
use super::system::{Broken, System, Worker};
use super::table::{Known, Table};
use super::writes::body_of;
use crate::callback::Reporter;
use crate::item::{Attribute, Value};
use crate::record::{Record, State};
use crate::report::Outcome;

pub(super) const CAN_FINISH: &str = "a final state can be reached from every state";

/// The promises, by name.
pub(super) fn all() -> Vec<Property<Protocol>> {
    vec![
        Property::always("no 2xx without a record", |model, state| model.keeps(state, said_is_recorded)),
        Property::always("an acknowledged success never ends as a failure", |model, state| {
            model.keeps(state, success_stays)
        }),
        Property::always("one settle wins, and nothing is announced twice", |model, state| {
            model.keeps(state, settled_once)
        }),
        Property::always("what the provider can confirm is never announced unconfirmed", |model, state| {
            model.keeps(state, |_, _, state| state.broken != Some(Broken::Unconfirmed))
        }),
        Property::always("what is settled is what is published", |model, state| {
            model.keeps(state, settled_is_published)
        }),
        Property::always("what is not final is due, and never expires", |model, state| {
            model.keeps(state, due_until_final)
        }),
        Property::always("only the latest claim works and writes, and it has the lease", |model, state| {
            model.keeps(state, lease_is_held)
        }),
        Property::always("nothing new is put off", |model, state| {
            model.keeps(state, |_, _, state| state.broken != Some(Broken::PutOff))
        }),
        Property::always("a callback of another task writes nothing", |model, state| {
            model.keeps(state, |_, _, state| state.broken != Some(Broken::OtherTask))
        }),
        Property::always("a registered task is never forgotten", |model, state| model.keeps(state, registered_stays)),
        Property::always("a record is whole", |model, state| model.keeps(state, record_is_whole)),
        Property::always(CAN_FINISH, |model, state| model.keeps(state, |model, _, state| !model.is_doomed(state))),
    ]
}

fn said_is_recorded(_: &Protocol, _: &Table, state: &System) -> bool {
    !matches!(state.broken, Some(Broken::NotRecorded | Broken::NotAccepted))
        && (!state.acknowledged || state.item.is_some())
}

fn known<'a>(table: &'a Table, state: &System) -> Option<(&'a Known, &'a Record)> {
    let known = table.known(state.item?);
    Some((known, known.record.as_ref()?))
}

fn success_stays(_: &Protocol, table: &Table, state: &System) -> bool {
    let Some((_, record)) = known(table, state).filter(|_| state.acknowledged) else { return true };
    match record.state {
        State::Failed => false,
        // Its links are lost, or the provider said otherwise before it fell silent.
        State::Lost => state.given_up || state.denied,
        _ => true,
    }
}

fn settled_once(_: &Protocol, table: &Table, state: &System) -> bool {
    state.broken != Some(Broken::Twice)
        && (!state.archived || known(table, state).is_none_or(|(_, record)| record.state == State::Archived))
}

fn settled_is_published(_: &Protocol, table: &Table, state: &System) -> bool {
    let Some((_, record)) = known(table, state).filter(|(_, record)| record.state.is_final()) else { return true };
    state.published == record.outcome() || (record.state == State::Lost && state.outrun)
}

fn due_until_final(_: &Protocol, table: &Table, state: &System) -> bool {
    let Some((known, record)) = known(table, state) else { return true };
    let has = |attribute| known.item.contains_key(&attribute);
    let is_final = record.state.is_final();
    has(Attribute::DueAt) != is_final && has(Attribute::DueShard) != is_final && has(Attribute::ExpiresAt) == is_final
}

fn lease_is_held(model: &Protocol, table: &Table, state: &System) -> bool {
    if matches!(state.broken, Some(Broken::Fenced | Broken::Shared | Broken::NotRenewed)) {
        return false;
    }
    let Some((_, record)) = known(table, state) else { return true };
    let works = state.workers.iter().any(|worker| matches!(worker, Worker::At { is_latest: true, .. }));
    let is_leased = record.claimed_until.is_some();
    if record.state.is_final() {
        return !is_leased;
    }
    (!works || is_leased) && (works || !is_leased || model.scenario.crashes)
}

fn registered_stays(_: &Protocol, table: &Table, state: &System) -> bool {
    if !state.registered {
        return true;
    }
    state.item.is_some()
        && known(table, state).is_none_or(|(_, record)| record.registered_at.is_some() && record.submitted_at.is_some())
}

fn record_is_whole(model: &Protocol, table: &Table, state: &System) -> bool {
    if state.broken == Some(Broken::NotKept) {
        return false;
    }
    let Some(id) = state.item else { return true };
    let known = table.known(id);
    let Some(record) = &known.record else { return false };
    let has = |attribute| known.item.contains_key(&attribute);
    let is_final = record.state.is_final();
    let outcome = record.outcome();
    let named = match known.item.get(&Attribute::Outcome) {
        Some(Value::Text(name)) => Some(name.as_str()),
        _ => None,
    };
    let reported = [Attribute::ReportedBy, Attribute::ReportedAt].into_iter().all(has);
    has(Attribute::CreatedAt)
        && (has(Attribute::ProviderTaskId) || (model.scenario.submits && !state.registered))
        && named == outcome.map(Outcome::name)
        && outcome.is_some() == reported
        && (outcome == Some(Outcome::Lost) || record.reported_by != Some(Reporter::Deadline))
        && (record.state == State::Pending || outcome.is_some())
        && (!is_final || outcome.is_some_and(|outcome| record.state == State::settled(outcome)))
        && has(Attribute::FinishedAt) == is_final
        && (!is_final || has(Attribute::Artifacts))
        && !(record.state == State::Reported && outcome == Some(Outcome::Succeeded) && has(Attribute::Artifacts))
        && (record.state != State::Pending || outcome.is_some() || record.deadline_at.is_some())
        && hints_wait(record)
        && (record.hint.is_none() || has(Attribute::Raw))
        && bodies_fit(record)
        && copies_are_of_the_report(known, record)
}

/// Only a pending task has a hint, and only a hint a fallback.
fn hints_wait(record: &Record) -> bool {
    let is_hinted = record.hint.is_some();
    (!is_hinted || record.state == State::Pending) && (is_hinted || record.fallback.is_none())
}

/// What was reported is kept with the body that said so.
fn bodies_fit(record: &Record) -> bool {
    let raw = record.raw.expose();
    raw.len() == record.raw.received_bytes()
        && (record.state == State::Pending
            || match record.outcome() {
                Some(Outcome::Succeeded) => raw == body_of(Outcome::Succeeded),
                // None, where a hint came in between that was not confirmed.
                Some(Outcome::Failed) => raw.is_empty() || raw == body_of(Outcome::Failed),
                _ => true,
            })
}

/// What is kept of an unfinished copy is of the report that is held.
fn copies_are_of_the_report(known: &Known, record: &Record) -> bool {
    let name = record.outcome().map_or("", body_of);
    let checkpoints = match known.item.get(&Attribute::Checkpoints) {
        Some(Value::Text(checkpoints)) => Some(checkpoints.contains(name)),
        _ => None,
    };
    let error = record.last_error.as_deref().map(|error| error == name);
    match record.state {
        State::Reported => checkpoints.unwrap_or(true) && error.unwrap_or(true),
        State::Pending => true,
        _ => checkpoints.is_none() && error.is_none(),
    }
}
