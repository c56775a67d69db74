//! The one clock of the functions. It is read once per event; everything that decides is given the time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reelhook_core::Timestamp;

/// The current time.
pub fn now() -> Timestamp {
    Timestamp::from_seconds(i64::try_from(since_epoch().as_secs()).unwrap_or(i64::MAX))
}

/// The time since 1970, for the milliseconds of a metric.
pub(crate) fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
