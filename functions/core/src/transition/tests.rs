//! The transitions as tables: every one on a task in every situation, and the races between two writers.

mod due;

use super::submissions::Registration;
use super::*;
use crate::annotations::Given;
use crate::callback::{Accepted, Hint, Open, Raw, Reporter};
use crate::providers::adapter::HintReason;
use crate::record::{PendingHint, SubmissionAttempt};
use crate::redacted::SignedUrl;
use crate::report::{Artifact, Failure, Kind, Outcome, Progress, Reason, Report, Source};
use crate::time::Timestamp;

use super::leases::{claim, postpone, release_open, release_unfinished, renew, settle};
use super::reports::{Due, close, keep, note_hint, note_open, remove, reopen, report, restore, take_over};
use super::submissions::{
    CancellationResponse, correct_identity, identify, interrupt, note_cancellation, note_submission, register,
    resubmit, withdraw,
};

const NOW: Timestamp = Timestamp::from_seconds(1000);
const LEASE_END: Timestamp = Timestamp::from_seconds(1090);
/// After the end of every lease.
const LATER: Timestamp = Timestamp::from_seconds(2000);
const DEADLINE: Timestamp = Timestamp::from_seconds(9000);
const ID: &str = "id-1";
/// Of the report and of the hint.
const LINKS: [&str; 2] = ["https://a/b", "https://c/d"];

fn key() -> TaskKey {
    "kling/job-1".parse().expect("a key")
}

fn failed() -> Failure {
    Failure::new(Reason::Unknown, false)
}

fn said(report: Report) -> Accepted {
    Accepted::confirmed(key(), Some(ID.to_owned()), report, Reporter::Poll, Raw::new(b"{}"))
}

/// With a link that stands in the body.
fn succeeded(link: &str) -> Report {
    let source = Source::Url(SignedUrl::new(link));
    Report::Succeeded { artifacts: vec![Artifact { kind: Kind::Video, source, expires_at: None }], usage: None }
}

fn success() -> Accepted {
    Accepted::confirmed(
        key(),
        Some(ID.to_owned()),
        succeeded(LINKS[0]),
        Reporter::Poll,
        Raw::new(br#"{"url":"https://a/b"}"#),
    )
}

fn failure() -> Accepted {
    said(Report::Failed(failed()))
}

fn hint() -> Hint {
    Hint {
        key: key(),
        provider_task_id: Some(ID.to_owned()),
        reason: HintReason::Unsigned,
        outcome: Some(Outcome::Succeeded),
        fallback: Some(succeeded(LINKS[1])),
        raw: Raw::new(b"hint: https://c/d"),
        endpoint: None,
    }
}

fn attempt() -> SubmissionAttempt {
    SubmissionAttempt { fingerprint: "f".to_owned(), in_flight_until: LEASE_END }
}

fn registration(provider_task_id: Option<&str>) -> Registration {
    Registration {
        task: key(),
        provider_task_id: provider_task_id.map(str::to_owned),
        given: Given::default(),
        marker: None,
        submission: provider_task_id.is_none().then(attempt),
        due_at: NOW,
        deadline_at: DEADLINE,
    }
}

/// The item of one task. Nothing but transitions changes it, and after each the promises about due times hold.
#[derive(Clone, Debug, Default, PartialEq)]
struct Task(Option<Item>);

impl Task {
    fn registered() -> Self {
        Self::default().then(&register(&registration(Some(ID)), NOW))
    }

    /// Whether it was done.
    fn apply(&mut self, transition: &Transition) -> bool {
        let (done, item) = match transition.evaluate(self.0.take()) {
            Applied::Done(item) => (true, item),
            Applied::Refused(item) => (false, item),
        };
        self.0 = item;
        if let Some(item) = &self.0 {
            let state = self.record().state;
            for attribute in [Attribute::DueAt, Attribute::DueShard] {
                assert_eq!(
                    item.contains_key(&attribute),
                    !state.is_final(),
                    "{attribute} after {transition:?}: {item:?}"
                );
            }
            assert_eq!(item.contains_key(&Attribute::ExpiresAt), state.is_final(), "{transition:?}: {item:?}");
            assert!(self.links().iter().all(|link| LINKS.contains(&link.as_str())), "{transition:?}: {item:?}");
        }
        done
    }

    /// The links of the report and the fallback, which are stored as places in the body.
    fn links(&self) -> Vec<String> {
        let record = self.record();
        let reports = record.report.into_iter().chain(record.fallback.map(|fallback| fallback.report));
        let artifacts = reports.filter_map(|report| match report {
            Report::Succeeded { artifacts, .. } => Some(artifacts),
            Report::Failed(_) | Report::Lost(_) => None,
        });
        let links = artifacts.flatten().filter_map(|artifact| match artifact.source {
            Source::Url(link) => Some(link.expose().to_owned()),
            Source::Authorized(_) | Source::FileId(_) => None,
        });
        links.collect()
    }

    /// After a transition that has to be done.
    fn then(mut self, transition: &Transition) -> Self {
        assert!(self.apply(transition), "{transition:?} is refused: {self:?}");
        self
    }

    fn claimed(self, now: Timestamp) -> Self {
        self.then(&claim(&key(), now, now + crate::record::LEASE_DURATION))
    }

    /// By the worker that holds it now.
    fn settled(self) -> Self {
        let record = self.record();
        let report = record.report.clone().expect("a report is held");
        self.then(&settle(&record, &report, &[], NOW))
    }

    fn record(&self) -> Record {
        Record::from_item(self.0.as_ref().expect("there is an item")).expect("it is readable")
    }
}

/// A task in every situation it can be in, with its column in the table.
fn situations() -> Vec<(char, Task)> {
    let absent = Task::default();
    let submitting = Task::default().then(&register(&registration(None), NOW));
    let pending = Task::registered();
    let hinted = pending.clone().then(&note_hint(&hint(), NOW, DEADLINE, Due::Kept));
    let stranger = Task::default().then(&note_hint(&hint(), NOW, DEADLINE, Due::Kept)).claimed(NOW);
    let polled = pending.clone().claimed(NOW);
    let reported = pending.clone().then(&report(&success(), None, NOW, Due::Kept));
    let copied = reported.clone().claimed(NOW);
    let archived = copied.clone().settled();
    let failing = pending.clone().then(&report(&failure(), None, NOW, Due::Kept));
    let publishing = failing.clone().claimed(NOW);
    let failed_task = publishing.clone().settled();
    let closing = Accepted::lost(key(), failed());
    let lost = pending.clone().then(&close(&closing, &pending.record(), NOW)).claimed(NOW).settled();
    let reopened = failed_task.clone().then(&reopen(&hint(), NOW));
    let rechecked = reopened.clone().claimed(NOW);
    let kept = Task::default().then(&keep(&key(), &Raw::new(b"?"), NOW));
    vec![
        ('-', absent),
        ('s', submitting),
        ('p', pending),
        ('h', hinted),
        ('x', stranger),
        ('P', polled),
        ('r', reported),
        ('R', copied),
        ('A', archived),
        ('f', failing),
        ('F', publishing),
        ('D', failed_task),
        ('L', lost),
        ('o', reopened),
        ('O', rechecked),
        ('U', kept),
    ]
}

/// Every transition, as its caller makes it from the record it has read.
fn transitions(read: &Record) -> Vec<(&'static str, Transition)> {
    let task = &read.task;
    let held = read.report.clone().unwrap_or_else(|| Report::Lost(failed()));
    let open =
        Open { key: key(), provider_task_id: Some(ID.to_owned()), progress: Progress::default(), endpoint: None };
    let closing = Accepted::lost(key(), failed());
    vec![
        ("register", register(&registration(Some(ID)), NOW)),
        ("identify", identify(task, ID, &Given::default(), NOW, Some(NOW))),
        ("identify otherwise", identify(task, "id-2", &Given::default(), NOW, Some(NOW))),
        ("correct_identity", correct_identity(task, "id-2", NOW, NOW)),
        ("note_submission", note_submission(task, ID, &Given::default(), NOW)),
        ("withdraw", withdraw(task, &attempt())),
        ("resubmit", resubmit(task, &attempt(), &attempt(), None, NOW, DEADLINE)),
        ("note_cancellation", note_cancellation(task, CancellationResponse::Missing, NOW, NOW)),
        ("interrupt", interrupt(task, &attempt(), NOW)),
        ("report a success", report(&success(), None, NOW, Due::Kept)),
        ("report a failure", report(&failure(), None, NOW, Due::Kept)),
        ("report a polled failure", report(&failure(), Some(read), NOW, Due::Kept)),
        ("take_over", take_over(&success(), NOW)),
        ("close", close(&closing, read, NOW)),
        ("note_hint", note_hint(&hint(), NOW, DEADLINE, Due::Kept)),
        ("reopen", reopen(&hint(), NOW)),
        ("restore", restore(read)),
        ("remove", remove(read)),
        ("note_open", note_open(&open, NOW, NOW, DEADLINE)),
        ("keep", keep(task, &Raw::new(b"?"), NOW)),
        ("claim", claim(task, NOW, LEASE_END)),
        ("claim later", claim(task, LATER, LATER)),
        ("renew", renew(task, read.fencing_token, LATER)),
        ("release_open", release_open(read, LATER, None)),
        ("release_unfinished", release_unfinished(read, LATER, None, Some("slow"))),
        ("settle", settle(read, &held, &[], NOW)),
        ("postpone", postpone(read, LATER)),
    ]
}

/// The state afterwards by its first letter, `x` where the item is gone, and a dot where the transition is refused.
fn effect_on(task: &Task, transition: &Transition) -> char {
    let mut after = task.clone();
    if !after.apply(transition) {
        assert_eq!(after, *task, "a refusal changes nothing");
        return '.';
    }
    after.0.as_ref().map_or('x', |_| after.record().state.name().chars().next().expect("states have names"))
}

/// Columns: no item; submitting; pending; hinted; a hint of an unregistered task, claimed; pending and claimed; a success
/// reported; and claimed; archived; a failure reported; and claimed; failed; lost; reopened; and claimed; unattributed.
#[test]
fn every_transition_on_a_task_in_every_situation() {
    let situations = situations();
    let columns: String = situations.iter().map(|(column, _)| column).collect();
    assert_eq!(columns, "-sphxPrRAfFDLoOU");
    let expected = [
        ("register", "p..............."),
        ("identify", ".ppppp.......pp."),
        ("identify otherwise", ".p.............."),
        ("correct_identity", ".ppppp.......pp."),
        ("note_submission", ".ppppprrarrflppu"),
        ("withdraw", ".x.............."),
        ("resubmit", ".p.............."),
        ("note_cancellation", ".ppppp.......pp."),
        ("interrupt", ".p.............."),
        ("report a success", "rrrrrr.......rr."),
        ("report a failure", "rrrrrr.........."),
        ("report a polled failure", "rrrrrr.........."),
        ("take_over", ".........rrrr..."),
        ("close", ".rrrrr.........."),
        ("note_hint", "pppppp.......pp."),
        ("reopen", ".........pppp..."),
        ("restore", ".............rr."),
        ("remove", "....x..........."),
        ("note_open", "pp.............."),
        ("keep", "u..............."),
        ("claim", ".ppp..r..r...p.."),
        ("claim later", ".ppppprr.rr..pp."),
        ("renew", "....pp.r..r...p."),
        ("release_open", "....pp.......pp."),
        ("release_unfinished", ".......r..r....."),
        ("settle", ".......a..f....."),
        ("postpone", ".ppppprr.rr..pp."),
    ];
    for (index, (name, row)) in expected.into_iter().enumerate() {
        let effects = situations.iter().map(|(_, task)| {
            let read = if task.0.is_some() { task.record() } else { Task::registered().record() };
            let (named, transition) = &transitions(&read)[index];
            assert_eq!(*named, name);
            effect_on(task, transition)
        });
        assert_eq!(effects.collect::<String>(), row, "{name}");
    }
}

/// Two writers have read the same record. In each row the first is done; the last columns are what becomes of the second,
/// and the state in the end.
#[test]
fn of_two_writers_the_second_sees_the_first() {
    let situations = situations();
    for (column, first, second, second_is_done, state) in [
        // Of two workers, one claims it. A report does not wait for a worker.
        ('p', "claim", "claim", false, "pending"),
        ('p', "claim", "report a success", true, "reported"),
        ('p', "report a success", "claim", true, "reported"),
        ('p', "report a success", "report a failure", false, "reported"),
        ('p', "report a success", "close", false, "reported"),
        ('p', "close", "report a success", false, "reported"),
        ('p', "close", "take_over", true, "reported"),
        ('p', "note_hint", "close", false, "pending"),
        // A run of `poll` puts off only what is as it was read.
        ('p', "postpone", "postpone", false, "pending"),
        ('p', "claim", "postpone", false, "pending"),
        ('p', "note_hint", "postpone", false, "pending"),
        ('p', "report a success", "postpone", false, "reported"),
        ('s', "withdraw", "report a success", true, "reported"),
        ('s', "report a success", "withdraw", false, "reported"),
        ('s', "note_hint", "withdraw", false, "pending"),
        // A worker polls while somebody else says more.
        ('P', "note_hint", "release_open", false, "pending"),
        ('P', "note_hint", "report a polled failure", false, "pending"),
        ('P', "note_hint", "report a success", true, "reported"),
        ('P', "report a success", "release_open", false, "reported"),
        ('P', "report a success", "renew", true, "reported"),
        ('P', "claim later", "release_open", false, "pending"),
        ('P', "claim later", "renew", false, "pending"),
        ('P', "release_open", "renew", false, "pending"),
        ('x', "note_hint", "remove", false, "pending"),
        ('x', "identify", "remove", false, "pending"),
        ('x', "remove", "report a success", true, "reported"),
        // A worker publishes a failure while a success comes.
        ('F', "take_over", "settle", false, "reported"),
        ('F', "settle", "take_over", true, "reported"),
        ('F', "reopen", "settle", false, "pending"),
        ('F', "settle", "reopen", true, "pending"),
        ('F', "take_over", "reopen", false, "reported"),
        ('F', "reopen", "take_over", false, "pending"),
        ('F', "reopen", "report a success", true, "reported"),
        ('F', "take_over", "release_unfinished", false, "reported"),
        // Two workers, of whom the first was taken for dead.
        ('R', "claim later", "settle", false, "reported"),
        ('R', "claim later", "release_unfinished", false, "reported"),
        ('R', "settle", "settle", false, "archived"),
        ('R', "settle", "claim later", false, "archived"),
        ('R', "settle", "release_unfinished", false, "archived"),
        ('R', "settle", "postpone", false, "archived"),
        ('R', "release_unfinished", "renew", false, "reported"),
        // A worker rechecks a failure.
        ('O', "note_hint", "restore", false, "pending"),
        ('O', "report a success", "restore", false, "reported"),
        ('O', "restore", "report a success", false, "reported"),
        ('O', "restore", "take_over", true, "reported"),
        ('O', "claim later", "restore", false, "pending"),
    ] {
        let story = format!("{column}: {first}, {second}");
        let (_, task) = situations.iter().find(|(known, _)| *known == column).expect("a situation");
        let mut task = task.clone();
        let transitions = transitions(&task.record());
        let named = |name| &transitions.iter().find(|(known, _)| *known == name).expect("a transition").1;
        assert!(task.apply(named(first)), "{story}");
        assert_eq!(task.apply(named(second)), second_is_done, "{story}");
        assert_eq!(task.record().state.name(), state, "{story}");
    }
}

#[test]
fn a_settled_report_has_no_link() {
    let reported = Task::registered().then(&report(&success(), None, NOW, Due::Kept));
    assert_eq!(reported.links(), [LINKS[0]]);
    let settled = reported.claimed(NOW).settled();
    assert!(settled.links().is_empty(), "{settled:?}");
    assert_eq!(settled.record().outcome(), Some(Outcome::Succeeded));
}

/// Status calls depend on it, and only the submission or a body tells it.
#[test]
fn the_endpoint_of_a_body_is_recorded_where_none_is_known() {
    let (first, other) = (Some("/v2/video_generation"), Some("/v1/video_generation"));
    let open =
        |endpoint| Open { key: key(), provider_task_id: Some(ID.to_owned()), progress: Progress::default(), endpoint };
    let hint = |endpoint| Hint { endpoint, ..hint() };
    for told in [note_open(&open(first), NOW, NOW, DEADLINE), note_hint(&hint(first), NOW, DEADLINE, Due::Kept)] {
        let task = Task::default().then(&told);
        assert_eq!(task.record().endpoint.as_deref(), first);
        let again = task.then(&note_hint(&hint(other), NOW, DEADLINE, Due::Kept));
        assert_eq!(again.record().endpoint.as_deref(), first, "the first stays");
    }
    let lost = Task::registered().then(&report(&failure(), None, NOW, Due::Kept));
    let reopened = lost.then(&reopen(&hint(first), NOW));
    assert_eq!(reopened.record().endpoint.as_deref(), first, "the hint that reopens a task tells it too");
}

#[test]
fn an_older_claim_writes_nothing() {
    for (column, task) in situations() {
        let Some(_) = task.0.as_ref().filter(|item| item.contains_key(&Attribute::ClaimedUntil)) else { continue };
        let older = task.record();
        let task = task.claimed(LATER);
        for (name, transition) in transitions(&older) {
            if ["renew", "release_open", "release_unfinished", "settle", "restore", "remove"].contains(&name) {
                assert_eq!(effect_on(&task, &transition), '.', "{column}: {name}");
            }
        }
    }
}

#[test]
fn a_hint_that_comes_while_a_worker_polls_is_not_lost() {
    let mut task = Task::registered().claimed(NOW);
    let worker = task.record();
    task =
        task.then(&note_hint(&hint(), NOW, DEADLINE, Due::Kept)).then(&renew(&key(), worker.fencing_token, LEASE_END));
    assert!(!task.apply(&release_open(&worker, LATER, None)));
    let revised = task.record();
    assert!(revised.hint.is_some() && revised.fallback.is_some());
    // The worker goes by what is held now. What the poll taught about the hint stays with it, or the hint is done with.
    let waiting = PendingHint { answered_at: Some(NOW), ..PendingHint::new(NOW) };
    let kept = task.clone().then(&release_open(&revised, LATER, Some(&waiting))).record();
    assert_eq!((kept.hint, kept.fallback), (Some(waiting), revised.fallback.clone()));
    let done_with = task.then(&release_open(&revised, LATER, None)).record();
    assert_eq!((done_with.hint, done_with.fallback), (None, None));
}

#[test]
fn a_repeated_hint_prolongs_nothing() {
    let first = Task::registered().then(&note_hint(&hint(), NOW, DEADLINE, Due::Kept)).record();
    let again = Task::registered()
        .then(&note_hint(&hint(), NOW, DEADLINE, Due::Kept))
        .then(&note_hint(&Hint { fallback: None, ..hint() }, LATER, LATER, Due::Kept))
        .record();
    assert_eq!(again.hint, first.hint);
    assert_eq!(again.fallback, first.fallback);
    assert_eq!(again.deadline_at, first.deadline_at);
    assert_eq!((again.due_at, again.revision), (first.due_at, first.revision + 1));
}

/// A failure that is held, settled or not, ends as the success that replaces it, whichever way that comes.
#[test]
fn a_success_replaces_a_failure_and_nothing_replaces_a_success() {
    for (column, task) in situations().into_iter().filter(|(column, _)| "fFDL".contains(*column)) {
        let held = task.record();
        let by_report = task.clone().then(&take_over(&success(), NOW));
        let by_hint = task.then(&reopen(&hint(), NOW)).then(&report(&success(), None, NOW, Due::Kept));
        for replaced in [by_report, by_hint] {
            let record = replaced.record();
            assert_eq!((record.state, record.outcome()), (State::Reported, Some(Outcome::Succeeded)), "{column}");
            assert!(record.fencing_token > held.fencing_token && record.claimed_until.is_none(), "{column}");
            let archived = replaced.claimed(LATER).settled();
            assert_eq!(archived.record().state, State::Archived, "{column}");
            for accepted in [failure(), success(), Accepted::lost(key(), failed())] {
                for transition in [report(&accepted, None, LATER, Due::Kept), take_over(&accepted, LATER)] {
                    assert_eq!(effect_on(&archived, &transition), '.', "{column}: {accepted:?}");
                }
            }
        }
    }
}

fn pending_item() -> Item {
    Item::from([(Attribute::Task, "kling/a".into()), (Attribute::State, State::Pending.into())])
}

#[test]
fn conditions_hold_for_items_and_for_none() {
    use Condition::{All, Any, AtMost, Has, Is, Lacks};
    let item = Item::from([(Attribute::DueAt, Value::Number(5)), (Attribute::Endpoint, "/v1".into())]);
    for (condition, with_item, without) in [
        (Has(Attribute::DueAt), true, false),
        (Lacks(Attribute::DueAt), false, true),
        (Is(Attribute::Endpoint, "/v1".into()), true, false),
        (Is(Attribute::Endpoint, Value::Number(1)), false, false),
        (AtMost(Attribute::DueAt, 5), true, false),
        (AtMost(Attribute::DueAt, 4), false, false),
        (AtMost(Attribute::Endpoint, 4), false, false),
        (All(vec![Has(Attribute::DueAt), Lacks(Attribute::State)]), true, false),
        (Any(vec![Has(Attribute::State), Lacks(Attribute::State)]), true, true),
        (All(vec![]), true, true),
        (Any(vec![]), false, false),
    ] {
        assert_eq!((condition.holds(Some(&item)), condition.holds(None)), (with_item, without), "{condition:?}");
    }
}

#[test]
fn a_refused_transition_changes_nothing_and_gives_back_what_stood_in_the_way() {
    let transition = Transition {
        action: "testing",
        task: "kling/a".parse().expect("a key"),
        condition: Condition::Lacks(Attribute::Task),
        write: Write::Update(vec![Effect::Set(Attribute::State, State::Pending.into())]),
    };
    assert_eq!(transition.evaluate(None), Applied::Done(Some(pending_item())));
    assert_eq!(transition.evaluate(Some(pending_item())), Applied::Refused(Some(pending_item())));
    let deletion = Transition { condition: Condition::Has(Attribute::Task), write: Write::Delete, ..transition };
    assert_eq!(deletion.evaluate(Some(pending_item())), Applied::Done(None));
    assert_eq!(deletion.evaluate(None), Applied::Refused(None));
}
