//! Time in the model. A lease may run out and a task be due at any moment, so their times are only told apart; what a status
//! poll means depends on a few points in time.

use std::time::Duration;

use crate::poll_schedule::PollSchedule;
use crate::status_poll::Terms;
use crate::time::Timestamp;

const START: i64 = 1_000_000;
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// The points in time: the beginning; when no response is stale any more; past the deadline and a week of outage; and past
/// everything that began by then.
pub(super) const INSTANTS: [Timestamp; 4] = [
    Timestamp::from_seconds(START),
    Timestamp::from_seconds(START + 20 * 60),
    Timestamp::from_seconds(START + 10 * DAY),
    Timestamp::from_seconds(START + 20 * DAY),
];

pub(super) const DEADLINE: Timestamp = Timestamp::from_seconds(START + DAY);

/// A lease that is alive, and a claim's view of it before and after its end.
pub(super) const LEASE_END: Timestamp = Timestamp::from_seconds(20);
pub(super) const LEASE_RENEWED: Timestamp = Timestamp::from_seconds(25);
pub(super) const IN_LEASE: Timestamp = Timestamp::from_seconds(10);
pub(super) const AFTER_LEASE: Timestamp = Timestamp::from_seconds(30);

/// When a task is due, by who wrote it: a time that was written before is told from one that is written now.
pub(super) const DUE_REGISTERED: Timestamp = Timestamp::from_seconds(1);
pub(super) const DUE_POSTPONED: Timestamp = Timestamp::from_seconds(3);
const DUE_RELEASED: [Timestamp; 2] = [Timestamp::from_seconds(4), Timestamp::from_seconds(6)];
/// By what a status poll or a hint says. What nobody can poll is put off to the deadline.
const DUE_OTHERWISE: i64 = 5;

/// When a task is due that its worker gives back: another time than it was, as the clock goes on.
pub(super) fn next_released(due_at: Option<Timestamp>) -> Timestamp {
    let [one, other] = DUE_RELEASED;
    if due_at == Some(one) { other } else { one }
}

pub(super) fn due_code(time: i64) -> i64 {
    if time < START || time == DEADLINE.seconds() { time } else { DUE_OTHERWISE }
}

pub(super) fn terms() -> Terms {
    let schedule = PollSchedule {
        first: Duration::from_secs(30),
        interval: Duration::from_secs(10),
        max_interval: Duration::from_mins(10),
        deadline: Duration::from_hours(24),
    };
    Terms { schedule, link_life: Duration::from_hours(12), forgets_cancelled: false }
}
