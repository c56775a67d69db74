//! Points in time as whole Unix seconds, the unit of the table, of `DynamoDB`'s TTL and of most providers.

use std::fmt;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A point in time, in whole Unix seconds.
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

    /// This many seconds later. Saturates.
    #[must_use]
    pub const fn plus(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds))
    }

    /// Seconds from `earlier` to this point; negative when it lies before. Saturates.
    pub const fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Reads an RFC 3339 time such as `2026-02-26T07:42:43.378310Z`; fractions of a second are dropped.
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        OffsetDateTime::parse(text, &Rfc3339).ok().map(|time| Self(time.unix_timestamp()))
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
    fn extreme_times_neither_panic_nor_wrap() {
        let last = Timestamp::from_seconds(i64::MAX);
        assert_eq!(last.plus(1), last);
        assert_eq!(last.to_string(), i64::MAX.to_string());
        assert_eq!(Timestamp::from_seconds(i64::MIN).since(last), i64::MIN);
    }
}
