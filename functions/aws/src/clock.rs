//! The one clock of the functions. It is read once per event; everything that decides is given the time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reelhook_core::Timestamp;
use tokio::time::Instant;

/// The current time.
pub fn now() -> Timestamp {
    Timestamp::from_seconds(i64::try_from(since_epoch().as_secs()).unwrap_or(i64::MAX))
}

/// The end of an invocation: the deadline that Lambda gave it, for a function with this timeout. If that is past already, or
/// further away than the timeout, one of the two clocks is wrong, and the timeout counts.
pub fn end_of_invocation(deadline: SystemTime, timeout: Duration) -> Instant {
    Instant::now() + time_left(deadline, SystemTime::now(), timeout)
}

fn time_left(deadline: SystemTime, now: SystemTime, timeout: Duration) -> Duration {
    deadline.duration_since(now).ok().filter(|left| *left <= timeout).unwrap_or(timeout)
}

/// The time since 1970, for the milliseconds of a metric.
pub(crate) fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_mins(1);
    const WRONG: Duration = Duration::from_mins(10);

    /// A run whose clock was ten minutes ahead took itself for over, and did nothing.
    #[test]
    fn a_wrong_clock_leaves_an_invocation_its_whole_timeout() {
        let deadline = UNIX_EPOCH + Duration::from_hours(1);
        let began = deadline - TIMEOUT;
        assert_eq!(time_left(deadline, began, TIMEOUT), TIMEOUT);
        assert_eq!(time_left(deadline, began + Duration::from_secs(20), TIMEOUT), Duration::from_secs(40));
        assert_eq!(time_left(deadline, began + WRONG, TIMEOUT), TIMEOUT);
        assert_eq!(time_left(deadline, began - WRONG, TIMEOUT), TIMEOUT);
    }
}
