//! When `poll` queues again what was reported or hinted at and is not settled.
//!
//! A message tells a worker only to look at a task, so a second one does no harm by itself. Tens of thousands do: one a minute
//! for each task that waits makes 80,000 of a burst of 2,000 reports, and they keep the workers from the work (the simulation
//! in `tests/backlog.rs`). Most tasks that look forgotten wait their turn. So nothing is queued again while its message must
//! still be in the queue:
//!
//! | the queue | queued again |
//! |---|---|
//! | has hardly a message | whenever it is reconciled, a minute after the report at the earliest: the message was lost, or never sent |
//! | is backed up | from a quarter of an hour after the report, because a message may be lost there as well |
//! | either | what a worker has given back: its message is gone |
//!
//! A task is reconciled the more rarely the longer it has waited. `SQS` delivers a message again by itself when its receiver dies, so the
//! only messages that are lost are those that were never sent: the process died between the record and the queue, or the
//! queue refused.

use std::time::Duration;

use crate::backoff::{Backoff, Growth, seed_of};
use crate::record::{REQUEUE_AFTER, Record, State};
use crate::time::Timestamp;

/// Most messages in a queue that its workers keep up with. They receive a message as soon as one of them is free, so a queue
/// that is not backed up shows the few that came since. Chosen freely; when it is wrong by some, every task that is due is
/// queued once too often.
const MAX_IDLE_MESSAGES: u64 = 10;

/// How long a task of a queue that is backed up is trusted to have its message in there.
const TRUSTED_FOR: Duration = Duration::from_mins(15);

/// How often a task is reconciled while the queue has hardly a message. At most a quarter of an hour apart: in an outage of the
/// workers this adds a message for each task every time, and after it the tasks whose messages went to the dead-letter queue wait this long.
const IDLE: Backoff = Backoff { first: REQUEUE_AFTER, max: Duration::from_mins(15), growth: Growth::Double };

/// The same while the queue is backed up. It adds a message every time, so the longest interval is the longest that still serves
/// a link of a day several times.
const BACKED_UP: Backoff = Backoff { first: REQUEUE_AFTER, max: Duration::from_hours(4), growth: Growth::Double };

/// What `poll` does about a task that is `process`'s to act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requeue {
    /// Whether it is queued now.
    pub send: bool,
    /// When the task is reconciled next, unless a worker claims the task before.
    pub due_at: Timestamp,
}

/// Whether a task is `process`'s to act on: it was reported, or a callback hinted at its end.
pub fn is_for_process(record: &Record) -> bool {
    record.state == State::Reported || record.hint.is_some()
}

/// What `poll` does about a task that is reported or hinted at, due and held by nobody. `waiting` is the number of messages in
/// the queue that no worker has received; none when it is unknown, which counts as none waiting: losing a task is worse than
/// a message too many.
pub fn requeue(record: &Record, waiting: Option<u64>, now: Timestamp) -> Requeue {
    let said_at = record.hint.map(|hint| hint.received_at).or(record.reported_at).unwrap_or(now);
    let waited = now.since(said_at);
    // Not `attempts`: they begin again with the report that a worker itself confirms, and its copy may fail right after.
    let was_claimed = record.fencing_token > 0;
    if !was_claimed && waited < REQUEUE_AFTER {
        // It was due anyway, and its message is on the way.
        return Requeue { send: false, due_at: said_at + REQUEUE_AFTER };
    }
    let is_backed_up = waiting.is_some_and(|waiting| waiting > MAX_IDLE_MESSAGES);
    let interval = if is_backed_up { BACKED_UP } else { IDLE };
    let send = was_claimed || !is_backed_up || waited >= TRUSTED_FOR;
    Requeue { send, due_at: now + interval.delay_after(waited, seed_of(record.task.id())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::{Attribute, Item, Value};
    use crate::record::PendingHint;

    const REPORTED_AT: Timestamp = Timestamp::from_seconds(1_790_000_000);

    fn reported(claims: i64) -> Record {
        let item = Item::from([
            (Attribute::Task, "kling/job-1".into()),
            (Attribute::State, State::Reported.into()),
            (Attribute::ReportedAt, REPORTED_AT.into()),
            (Attribute::FencingToken, Value::Number(claims)),
        ]);
        Record::from_item(&item).expect("a record")
    }

    /// Minutes from the report to every time within a day that the task is queued. `poll` runs every minute.
    fn sends(waiting: Option<u64>, claims: i64) -> Vec<u64> {
        let record = reported(claims);
        let (mut sends, mut due_at) = (Vec::new(), REPORTED_AT + REQUEUE_AFTER);
        for minute in 1..=1440 {
            let now = REPORTED_AT + Duration::from_mins(minute);
            if now >= due_at {
                let requeued = requeue(&record, waiting, now);
                assert!(requeued.due_at >= now + REQUEUE_AFTER, "{requeued:?}");
                sends.extend(requeued.send.then_some(minute));
                due_at = requeued.due_at;
            }
        }
        sends
    }

    #[test]
    fn a_lost_message_is_sent_again_after_a_minute_when_the_queue_is_idle() {
        for waiting in [None, Some(0), Some(MAX_IDLE_MESSAGES)] {
            let sends = sends(waiting, 0);
            assert_eq!(sends[0], 1, "{sends:?}");
            assert!(sends.windows(2).all(|pair| pair[1] - pair[0] <= 19), "{sends:?}");
        }
    }

    #[test]
    fn a_task_that_waits_its_turn_is_hardly_queued_again() {
        let sends = sends(Some(MAX_IDLE_MESSAGES + 1), 0);
        assert!(sends[0] >= 15 && sends.len() <= 9, "{sends:?}");
        assert!(sends.iter().filter(|minute| **minute <= 60).count() <= 2, "{sends:?}");
    }

    /// Also where the worker itself reported the task, by confirming a hint, and its copy failed right after.
    #[test]
    fn what_a_worker_gave_back_is_queued_when_it_is_due() {
        for waiting in [Some(0), Some(5000)] {
            assert_eq!(sends(waiting, 1)[0], 1);
        }
        let soon = REPORTED_AT + Duration::from_secs(20);
        assert!(requeue(&reported(1), Some(5000), soon).send);
    }

    /// The task may be due when a hint comes, and the message arrives before the next run.
    #[test]
    fn a_hint_that_came_just_now_is_not_queued_twice() {
        let hint = Some(PendingHint::new(REPORTED_AT));
        let record = Record { state: State::Pending, hint, reported_at: None, ..reported(0) };
        let requeued = requeue(&record, Some(0), REPORTED_AT + Duration::from_secs(5));
        assert_eq!(requeued, Requeue { send: false, due_at: REPORTED_AT + REQUEUE_AFTER });
        assert!(requeue(&record, Some(0), requeued.due_at).send);
        assert!(is_for_process(&record) && is_for_process(&reported(0)));
        assert!(!is_for_process(&Record { hint: None, ..record }));
    }
}
