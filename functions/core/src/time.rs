//! Points in time as whole Unix seconds, the unit of the table, of `DynamoDB`'s TTL and of most providers.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A point in time, in whole Unix seconds. Arithmetic saturates; a fraction of a second rounds up, so that a wait is
/// never cut short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// A point in time from Unix seconds.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds)
    }

    /// A point in time from Unix milliseconds, rounded down.
    pub const fn from_milliseconds(milliseconds: i64) -> Self {
        Self(milliseconds.div_euclid(1000))
    }

    /// Unix seconds.
    pub const fn seconds(self) -> i64 {
        self.0
    }

    /// The time from this point to `later`; zero when `later` lies before.
    pub fn until(self, later: Self) -> Duration {
        Duration::from_secs(u64::try_from(later.0.saturating_sub(self.0)).unwrap_or_default())
    }

    /// The time from `earlier` to this point; zero when `earlier` lies after.
    pub fn since(self, earlier: Self) -> Duration {
        earlier.until(self)
    }

    /// Reads an RFC 3339 time such as `2026-02-26T07:42:43.378310Z`; fractions of a second are dropped.
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        OffsetDateTime::parse(text, &Rfc3339).ok().map(|time| Self(time.unix_timestamp()))
    }
}

/// Whole seconds, rounded up.
fn seconds_of(duration: Duration) -> i64 {
    let up = u64::from(duration.subsec_nanos() > 0);
    i64::try_from(duration.as_secs().saturating_add(up)).unwrap_or(i64::MAX)
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(seconds_of(duration)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(seconds_of(duration)))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC, `2026-02-26T07:42:43Z`; plain seconds for a year that RFC 3339 cannot write.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match OffsetDateTime::from_unix_timestamp(self.0).ok().and_then(|time| time.format(&Rfc3339).ok()) {
            Some(text) => formatter.write_str(&text),
            None => write!(formatter, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_goes_both_ways() {
        let time = Timestamp::from_rfc3339("2026-02-26T07:42:43.378310Z").expect("a valid time");
        assert_eq!(time.seconds(), 1_772_091_763);
        assert_eq!(time.to_string(), "2026-02-26T07:42:43Z");
    }

    #[test]
    fn arithmetic_neither_panics_nor_wraps_nor_cuts_a_wait_short() {
        let last = Timestamp::from_seconds(i64::MAX);
        assert_eq!(last + Duration::MAX, last);
        assert_eq!(last.to_string(), i64::MAX.to_string());
        assert_eq!(last.until(Timestamp::from_seconds(i64::MIN)), Duration::ZERO);
        let zero = Timestamp::from_seconds(0);
        assert_eq!(zero + Duration::from_millis(1), Timestamp::from_seconds(1));
        assert_eq!((zero + Duration::from_secs(7)).since(zero), Duration::from_secs(7));
    }
}
