//! What a status poll means, as tables: a story, the record, the poll, the step.

use super::*;
use crate::item::{Attribute, Item, Value};
use crate::redacted::SignedUrl;
use crate::report::{Artifact, Kind, Source};
use crate::transfer::selection::plan;

/// When the task was submitted, or its hint came. The tables count seconds from here.
const START: i64 = 1_000_000;
const MINUTE: i64 = 60;
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(START + seconds)
}

fn terms() -> Terms {
    let seconds = Duration::from_secs;
    let schedule = PollSchedule {
        first: seconds(30),
        interval: seconds(10),
        max_interval: seconds(300),
        deadline: seconds(10_800),
    };
    Terms { schedule, link_life: Duration::from_hours(24), forgets_cancelled: false }
}

/// A pending task, registered, polled under an id, with a deadline in three hours; changed by some attributes.
fn record(changes: &[(Attribute, Option<Value>)]) -> Record {
    let mut item = Item::from([
        (Attribute::Task, "kling/job-1".into()),
        (Attribute::State, "pending".into()),
        (Attribute::ProviderTaskId, "p-1".into()),
        (Attribute::CreatedAt, at(0).into()),
        (Attribute::RegisteredAt, at(0).into()),
        (Attribute::SubmittedAt, at(0).into()),
        (Attribute::DeadlineAt, at(3 * HOUR).into()),
    ]);
    for (attribute, value) in changes {
        match value {
            Some(value) => item.insert(*attribute, value.clone()),
            None => item.remove(attribute),
        };
    }
    Record::from_item(&item).expect("a record")
}

fn success(expires_at: Option<Timestamp>) -> Report {
    let source = Source::Url(SignedUrl::new("https://cdn.example.com/v.mp4"));
    Report::Succeeded { artifacts: vec![Artifact { kind: Kind::Video, source, expires_at }], usage: None }
}

fn failure() -> Report {
    Report::Failed(Failure::new(Reason::ContentModeration, false))
}

fn hint(changes: impl FnOnce(&mut PendingHint)) -> (Attribute, Option<Value>) {
    let mut hint = PendingHint::new(at(0));
    changes(&mut hint);
    (Attribute::Hint, Some(Value::json(&hint)))
}

fn fallback(claimed_end: Option<i64>) -> (Attribute, Option<Value>) {
    let fallback = Fallback { report: success(claimed_end.map(at)), received_at: at(0) };
    (Attribute::Fallback, Some(Value::json(&fallback)))
}

fn unregistered() -> (Attribute, Option<Value>) {
    (Attribute::RegisteredAt, None)
}

/// The failure that a reopened task holds.
fn holds_failure() -> [(Attribute, Option<Value>); 2] {
    [(Attribute::Outcome, Some("failed".into())), (Attribute::Report, Some(Value::json(&failure())))]
}

fn finished(report: Report) -> PollResult {
    PollResult::Response(StatusResult::Task(TaskStatus::Finished(report)))
}

fn open() -> PollResult {
    PollResult::Response(StatusResult::Task(TaskStatus::open()))
}

fn not_found() -> PollResult {
    PollResult::Response(StatusResult::NotFound)
}

fn refused(reason: Reason) -> PollResult {
    PollResult::Response(StatusResult::Refused { failure: Failure::new(reason, true), retry_after: None })
}

fn unreadable() -> PollResult {
    PollResult::Response(StatusResult::Unreadable)
}

fn step(changes: &[(Attribute, Option<Value>)], result: &PollResult, seconds: i64) -> Step {
    decide(&record(changes), result, &terms(), at(seconds)).step
}

fn name(step: &Step) -> &'static str {
    step.name()
}

#[test]
fn what_the_provider_says_is_final() {
    assert_eq!(step(&[], &finished(success(None)), 60), Step::Report(success(None)));
    assert_eq!(step(&[], &finished(failure()), 60), Step::Report(failure()));
    let with_hint = [hint(|_| {}), fallback(None)];
    assert_eq!(step(&with_hint, &finished(failure()), 60), Step::Report(failure()));
}

#[test]
fn an_open_task_is_polled_again_on_schedule_and_at_its_deadline() {
    for (story, result, seconds, earliest, latest) in [
        ("half of the time waited", open(), 100, 150, 163),
        ("at most the longest delay", open(), 2 * HOUR, 2 * HOUR + 300, 2 * HOUR + 376),
        ("not past the deadline", open(), 3 * HOUR - 20, 3 * HOUR, 3 * HOUR),
        ("after an outage likewise", PollResult::NoResponse, 100, 150, 163),
        ("without a request possible, only the deadline is left", PollResult::NotPollable, 100, 3 * HOUR, 3 * HOUR),
    ] {
        let Step::Wait { due_at, hint: None } = step(&[], &result, seconds) else { panic!("{story}") };
        assert!((at(earliest)..=at(latest)).contains(&due_at), "{story}: {}", due_at.seconds() - START);
    }
}

/// "Could not ask" is never "no": an outage is waited out past the deadline.
#[test]
fn an_interrupted_submission_is_looked_up_less_and_less_often() {
    let interrupted =
        [(Attribute::ProviderTaskId, None), (Attribute::SubmittedAt, None), (Attribute::Marker, Some("m".into()))];
    for (result, seconds, due) in [
        (not_found(), 30 * MINUTE, Some(HOUR)),
        (not_found(), 2 * HOUR, Some(3 * HOUR)),
        (not_found(), 3 * HOUR, None),
        (refused(Reason::ProviderError), 30 * MINUTE, Some(35 * MINUTE)),
        (PollResult::NoResponse, 3 * HOUR, Some(3 * HOUR + 5 * MINUTE)),
    ] {
        let due = due.map(|due| Step::Wait { due_at: at(due), hint: None });
        match (step(&interrupted, &result, seconds), due) {
            (Step::Close(_), None) => {}
            (Step::Wait { due_at, .. }, Some(Step::Wait { due_at: expected, .. })) => {
                // The schedule's own delays have jitter.
                let off = due_at.seconds().abs_diff(expected.seconds());
                assert!(off <= 60, "{result:?} after {seconds} s: {off} s off");
            }
            (found, due) => panic!("{result:?} after {seconds} s: {found:?}, not {due:?}"),
        }
    }
}

#[test]
fn a_task_is_lost_only_by_an_answer_or_when_nobody_can_be_polled() {
    let past = 3 * HOUR + 1;
    for (story, result, seconds, expected) in [
        ("before the deadline", open(), 3 * HOUR - 1, "wait"),
        ("the provider still renders", open(), past, "close"),
        ("the provider does not know it", not_found(), past, "close"),
        ("an outage closes nothing", PollResult::NoResponse, past, "wait"),
        ("a refused key closes nothing", refused(Reason::Unknown), past, "wait"),
        ("a limited rate closes nothing", refused(Reason::RateLimited), past, "wait"),
        ("an error page closes nothing", unreadable(), past, "wait"),
        ("a week of outage does", PollResult::NoResponse, past + 7 * DAY, "close"),
        ("nobody can be polled", PollResult::NotPollable, past, "close"),
        ("a result that comes inline is not fetched again and again", PollResult::TooLong, past, "close"),
        ("before the deadline it may be a mistake", PollResult::TooLong, 3 * HOUR - 1, "wait"),
    ] {
        assert_eq!(name(&step(&[], &result, seconds)), expected, "{story}");
    }
    let Step::Wait { due_at, .. } = step(&[], &PollResult::NoResponse, past) else { panic!("it waits") };
    assert_eq!(due_at, at(past) + terms().schedule.max_interval);
}

#[test]
fn a_callback_is_acted_on_unconfirmed_only_in_an_outage_until_its_links_die() {
    let end = DAY - 10 * MINUTE;
    for (story, changes, result, seconds, expected) in [
        ("a short outage", vec![fallback(None)], PollResult::NoResponse, 5 * MINUTE, "wait"),
        ("a long outage, the links live", vec![fallback(None)], PollResult::NoResponse, 20 * HOUR, "wait"),
        ("a long outage, the links die", vec![fallback(None)], PollResult::NoResponse, end, "act_on_fallback"),
        ("a refused key, the links die", vec![fallback(None)], refused(Reason::Unknown), end, "act_on_fallback"),
        ("an interrupted submission", vec![fallback(None)], PollResult::NotPollable, end, "act_on_fallback"),
        ("the body claims a minute", vec![fallback(Some(60))], PollResult::NoResponse, 9 * MINUTE, "wait"),
        ("but ten minutes it waits", vec![fallback(Some(60))], PollResult::NoResponse, 10 * MINUTE, "act_on_fallback"),
        ("the body claims a year", vec![fallback(Some(365 * DAY))], PollResult::NoResponse, end, "act_on_fallback"),
        ("the provider says it is open", vec![fallback(Some(60))], open(), 10 * MINUTE, "wait"),
        ("the provider does not know it", vec![fallback(Some(60))], not_found(), 10 * MINUTE, "wait"),
    ] {
        let mut changes = changes;
        // A deadline beyond all of this.
        changes.extend([hint(|_| {}), (Attribute::DeadlineAt, Some(at(3 * DAY).into()))]);
        assert_eq!(name(&step(&changes, &result, seconds)), expected, "{story}");
    }
    // A link in hand is not lost to a deadline: neither where nobody can be polled, nor after a week of outage.
    let changes = [hint(|_| {}), fallback(None)];
    let past = 3 * HOUR + 1;
    assert_eq!(name(&step(&changes, &PollResult::NotPollable, past)), "act_on_fallback");
    assert_eq!(name(&step(&changes, &PollResult::NoResponse, past)), "wait");
    // Ten minutes it waits even then.
    let mut overdue = changes.to_vec();
    overdue.push((Attribute::DeadlineAt, Some(at(0).into())));
    let Step::Wait { due_at, hint: Some(_) } = step(&overdue, &PollResult::NotPollable, 60) else { panic!("it waits") };
    assert_eq!(due_at, at(10 * MINUTE));
    let mut ancient = terms();
    ancient.link_life = Duration::from_hours(30 * 24);
    let late = decide(&record(&changes), &PollResult::NoResponse, &ancient, at(past + 7 * DAY));
    assert_eq!(name(&late.step), "act_on_fallback");
    // Once the provider has answered, nothing but the provider says what became of the task.
    let answered = [hint(|hint| hint.answered_at = Some(at(30))), fallback(Some(60))];
    assert_eq!(name(&step(&answered, &PollResult::NoResponse, DAY)), "wait");
}

#[test]
fn three_times_not_found_over_ten_minutes_refute_a_hint() {
    let seen = |times: u32, since: i64| {
        hint(move |hint| {
            hint.not_found = times;
            hint.not_found_since = Some(at(since));
        })
    };
    for (story, changes, seconds, expected) in [
        ("the first time", vec![hint(|_| {}), unregistered()], 11 * MINUTE, "wait"),
        ("the third within seconds", vec![seen(2, 0), unregistered()], 30, "wait"),
        ("the second after ten minutes", vec![seen(1, 0), unregistered()], 10 * MINUTE, "wait"),
        ("the third, and nobody registered it", vec![seen(2, 0), unregistered()], 10 * MINUTE, "remove"),
        ("the third, of a registered task", vec![seen(2, 0)], 10 * MINUTE, "wait"),
    ] {
        let decision = decide(&record(&changes), &not_found(), &terms(), at(seconds));
        assert_eq!(name(&decision.step), expected, "{story}");
        let is_forgotten = matches!(decision.step, Step::Remove | Step::Wait { hint: None, .. });
        assert_eq!(decision.refuted, is_forgotten, "{story}");
    }
    // A response in between starts the count again.
    let Step::Wait { hint: Some(hint), .. } = step(&[seen(2, 0)], &open(), 60) else { panic!("it waits") };
    assert_eq!((hint.not_found, hint.not_found_since, hint.answered_at), (0, None, Some(at(60))));
}

#[test]
fn a_hint_about_a_task_that_stays_open_is_dropped_after_a_quarter_of_an_hour() {
    let changes = [hint(|_| {}), fallback(None)];
    assert!(matches!(step(&changes, &open(), 14 * MINUTE), Step::Wait { hint: Some(_), .. }));
    let decision = decide(&record(&changes), &open(), &terms(), at(15 * MINUTE));
    assert!(decision.refuted && matches!(decision.step, Step::Wait { hint: None, .. }), "{decision:?}");
}

/// The model found it: the task succeeded after its deadline, its callback came, and a response from before closed it as lost.
#[test]
fn a_late_hint_is_not_closed_over_by_a_response_that_may_be_stale() {
    let overdue = [hint(|_| {}), (Attribute::DeadlineAt, Some(at(-HOUR).into()))];
    for (story, result, seconds, expected) in [
        ("open, maybe stale", open(), 14 * MINUTE, "wait"),
        ("unknown, maybe stale", not_found(), 14 * MINUTE, "wait"),
        ("confirmed", finished(success(None)), 60, "report"),
        ("nobody can be polled", PollResult::NotPollable, 60, "close"),
    ] {
        assert_eq!(name(&step(&overdue, &result, seconds)), expected, "{story}");
    }
    let Step::Wait { hint: None, .. } = step(&overdue, &open(), 15 * MINUTE) else { panic!("the hint is dropped") };
    assert_eq!(name(&step(&overdue[1..], &open(), 16 * MINUTE)), "close");
}

#[test]
fn a_success_hinted_at_over_a_failure_is_confirmed_for_a_day() {
    for (story, result, seconds, expected) in [
        ("confirmed", finished(success(None)), 60, "report"),
        ("the provider still says failed, maybe stale", finished(failure()), 14 * MINUTE, "wait"),
        ("it says so after a quarter of an hour", finished(failure()), 15 * MINUTE, "restore"),
        ("an outage ends nothing", PollResult::NoResponse, 20 * HOUR, "wait"),
        ("an outage of a day", PollResult::NoResponse, DAY, "restore"),
        ("past the deadline of the task", PollResult::NoResponse, 4 * HOUR, "wait"),
        ("open again, for a day", open(), 20 * HOUR, "wait"),
    ] {
        let mut changes = vec![hint(|_| {})];
        changes.extend(holds_failure());
        assert_eq!(name(&step(&changes, &result, seconds)), expected, "{story}");
    }
}

#[test]
fn a_rate_limit_pauses_the_provider_and_an_impossible_request_does_not() {
    let limited = StatusResult::Refused {
        failure: Failure::new(Reason::RateLimited, true),
        retry_after: Some(Duration::from_secs(90)),
    };
    for (result, pause) in [
        (PollResult::Response(limited), Some(90)),
        (refused(Reason::RateLimited), Some(60)),
        (refused(Reason::Unknown), None),
        (PollResult::NoResponse, Some(60)),
        (PollResult::NotPollable, None),
        (PollResult::TooLong, None),
        (open(), None),
    ] {
        assert_eq!(result.pause(), pause.map(Duration::from_secs), "{result:?}");
    }
}

#[test]
fn only_what_one_task_may_be_to_blame_for_splits_a_group() {
    for (result, splits) in [
        (refused(Reason::InvalidParameters), true),
        (unreadable(), true),
        (PollResult::TooLong, true),
        (refused(Reason::RateLimited), false),
        (refused(Reason::ProviderError), false),
        (refused(Reason::Unknown), false),
        (PollResult::NoResponse, false),
        (open(), false),
        (not_found(), false),
    ] {
        assert_eq!(may_be_one_tasks_fault(&result), splits, "{result:?}");
    }
}

#[test]
fn a_status_gives_the_link_of_the_same_file_or_none() {
    let video =
        |link: &str| Artifact { kind: Kind::Video, source: Source::Url(SignedUrl::new(link)), expires_at: None };
    let planned = plan("", &[video("https://a/1"), video("https://a/2")], None).pop().expect("the second");
    let succeeded = |links: &[&str]| {
        finished(Report::Succeeded { artifacts: links.iter().map(|link| video(link)).collect(), usage: None })
    };
    for (story, result, expected) in [
        (
            "the second video has a new link",
            succeeded(&["https://b/1", "https://b/2"]),
            Refreshed::Fresh(video("https://b/2")),
        ),
        ("the same link again", succeeded(&["https://b/1", "https://a/2"]), Refreshed::NoOtherLink),
        ("fewer files than before", succeeded(&["https://b/1"]), Refreshed::NoOtherLink),
        ("open again", open(), Refreshed::NoOtherLink),
        ("failed after all", finished(failure()), Refreshed::NoOtherLink),
        ("the task is unknown by now", not_found(), Refreshed::NoOtherLink),
        ("nobody can be polled", PollResult::NotPollable, Refreshed::NoOtherLink),
        ("the key is refused", refused(Reason::Unknown), Refreshed::NoResponse),
        ("an error page", unreadable(), Refreshed::NoResponse),
        ("an outage", PollResult::NoResponse, Refreshed::NoResponse),
    ] {
        assert_eq!(fresh_link(&result, &planned), expected, "{story}");
    }
}

/// Runway's call deletes what it cancels. A 404 alone never ends a task.
#[test]
fn a_task_that_is_forgotten_with_its_cancellation_is_cancelled() {
    // Without a response nobody knows whether it arrived, and a 404 may be a passing one.
    let asked = [(Attribute::CancelRequestedAt, Some(at(60).into()))];
    let accepted =
        [(Attribute::CancelRequestedAt, Some(at(60).into())), (Attribute::CancelAcceptedAt, Some(at(60).into()))];
    let forgetful = Terms { forgets_cancelled: true, ..terms() };
    let open = PollResult::Response(StatusResult::Task(TaskStatus::open()));
    for (changes, result, terms, is_cancelled) in [
        (&accepted[..], not_found(), forgetful, true),
        (&accepted[..], not_found(), terms(), false),
        (&accepted[..], open, forgetful, false),
        (&accepted[..], PollResult::NoResponse, forgetful, false),
        (&asked[..], not_found(), forgetful, false),
        (&[], not_found(), forgetful, false),
    ] {
        let step = decide(&record(changes), &result, &terms, at(70)).step;
        let found = matches!(&step, Step::Report(Report::Failed(failure)) if failure.reason == Reason::Cancelled);
        assert_eq!(found, is_cancelled, "{changes:?} {result:?}: {step:?}");
    }
}

/// A true callback of a task that nobody registered was once forgotten, because the provider did not know its id by the only status
/// call that could be guessed.
#[test]
fn not_found_by_a_guessed_call_refutes_nothing() {
    let result = |is_guess| PollResult::of(StatusResult::NotFound, is_guess);
    let unknown = [hint(|hint| (hint.not_found, hint.not_found_since) = (5, Some(at(0)))), unregistered()];
    assert_eq!(name(&step(&unknown, &result(false), HOUR)), "remove");
    let waiting = [hint(|_| {}), unregistered()];
    for minutes in [0, 15, 60, 120] {
        let Step::Wait { hint: Some(kept), .. } = step(&waiting, &result(true), minutes * MINUTE) else {
            panic!("it was dropped after {minutes} minutes")
        };
        assert_eq!(kept.not_found, 0);
    }
    let closed = step(&waiting, &result(true), 3 * HOUR);
    assert!(matches!(&closed, Step::Close(failure) if failure.reason == Reason::Timeout), "{closed:?}");
    assert_eq!(PollResult::of(StatusResult::Unreadable, true), unreadable());
    assert_eq!(name(&step(&[], &result(true), HOUR)), "wait");
    let reopened = [&holds_failure()[..], &[hint(|_| {})]].concat();
    assert_eq!([HOUR, 25 * HOUR].map(|seconds| name(&step(&reopened, &result(true), seconds))), ["wait", "restore"]);
}

/// A forged body once chose the call for good, and the true task was forgotten: the call did not know it.
#[test]
fn every_call_that_may_know_a_task_is_made() {
    let kie = ["/api/v1/runway/", "/api/v1/veo/", "/api/v1/jobs/"];
    for (task, told, calls) in [
        ("kie/veo_1", Some(kie[2]), &[kie[2], kie[0], kie[1]][..]),
        ("kie/veo_1", None, &["", kie[0], kie[1], kie[2]]),
        ("minimax/1", Some("/v2/video_generation"), &["/v2/video_generation", "/v1/video_generation"]),
        ("kling/1", Some("/tasks"), &["/tasks"]),
    ] {
        let record = record(&[
            (Attribute::Task, Some(task.into())),
            (Attribute::Endpoint, told.map(Value::from)),
            unregistered(),
        ]);
        let made: Vec<_> =
            polled_by_every_call(&record).iter().map(|polled| polled.endpoint.unwrap_or_default().to_owned()).collect();
        assert_eq!(made, calls, "{task} {told:?}");
    }
    assert_eq!(polled_by_every_call(&record(&[(Attribute::ProviderTaskId, None)])), []);
}
