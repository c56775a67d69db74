//! When a task is looked at again.

use std::time::Duration;

use super::*;
use crate::record::{FOUND_WITHIN, REQUEUE_AFTER};
use crate::transition::leases::is_due;

/// What is said about a task is found within five minutes, whatever becomes of its message, and a task that is due by then costs
/// no write to the index.
#[test]
fn what_is_said_of_a_task_is_due_soon() {
    let put_off_to = |due_at: Timestamp| Task::registered().then(&postpone(&Task::registered().record(), due_at));
    for (due_at, is_kept) in [
        (NOW + Duration::from_secs(1), true),
        (NOW + FOUND_WITHIN, true),
        (NOW + FOUND_WITHIN + Duration::from_secs(1), false),
        (DEADLINE, false),
    ] {
        let task = put_off_to(due_at);
        for (write, moved_to) in [
            (&(|due| report(&success(), None, NOW, due)) as &dyn Fn(Due) -> Transition, NOW + REQUEUE_AFTER),
            (&|due| note_hint(&hint(), NOW, DEADLINE, due), NOW),
        ] {
            assert_eq!(task.clone().apply(&write(Due::Kept)), is_kept, "{due_at}");
            assert_eq!(Due::is_too_late(&task.record(), NOW), !is_kept, "{due_at}");
            if is_kept {
                assert_eq!(task.clone().then(&write(Due::Kept)).record().due_at, Some(due_at));
            }
            assert_eq!(task.clone().then(&write(Due::Moved)).record().due_at, Some(moved_to));
        }
    }
    // Nobody knew of it, or nothing was to be done about it any more.
    let unknown = Task::default().then(&report(&success(), None, NOW, Due::Kept)).record();
    assert_eq!(unknown.due_at, Some(NOW + REQUEUE_AFTER));
    let failed = Task::registered().then(&report(&failure(), None, NOW, Due::Kept)).claimed(NOW).settled();
    assert_eq!(failed.clone().then(&take_over(&success(), LATER)).record().due_at, Some(LATER + REQUEUE_AFTER));
    assert_eq!(failed.then(&reopen(&hint(), LATER)).record().due_at, Some(LATER));
}

#[test]
fn a_run_of_poll_reconciles_what_is_due_and_held_by_nobody() {
    let task = Task::registered();
    let due_at = task.record().due_at.expect("it is due");
    assert!(is_due(&task.record(), due_at));
    assert!(!is_due(&task.record(), due_at - Duration::from_secs(1)));
    let held = task.claimed(due_at).record();
    let until = held.claimed_until.expect("it is held");
    assert!(!is_due(&held, until - Duration::from_secs(1)));
    assert!(is_due(&held, until), "its worker died");
    let failed = Task::registered().then(&report(&failure(), None, NOW, Due::Kept)).claimed(NOW).settled();
    assert!(!is_due(&failed.record(), LATER));
}
