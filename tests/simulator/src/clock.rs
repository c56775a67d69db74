//! The timestamp formats of the providers.

use std::time::{Duration, SystemTime};

use time::{OffsetDateTime, UtcOffset, macros::format_description};

pub(crate) fn seconds(time: SystemTime) -> i64 {
    OffsetDateTime::from(time).unix_timestamp()
}

pub(crate) fn milliseconds(time: SystemTime) -> i64 {
    seconds(time) * 1000 + i64::from(OffsetDateTime::from(time).millisecond())
}

/// `2026-02-26T07:42:43.378310Z`
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");
    OffsetDateTime::from(time).format(format).unwrap_or_default()
}

/// `2026-06-14T10:30:00`, without a time zone.
pub(crate) fn without_zone(time: SystemTime) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");
    OffsetDateTime::from(time).format(format).unwrap_or_default()
}

/// `2023-08-15 14:30:45`
pub(crate) fn with_space(time: SystemTime) -> String {
    without_zone(time).replace('T', " ")
}

/// `20260514T103704Z`, as in presigned URLs.
pub(crate) fn compact(time: SystemTime) -> String {
    let format = format_description!("[year][month][day]T[hour][minute][second]Z");
    OffsetDateTime::from(time).format(format).unwrap_or_default()
}

/// `20260514183217`, in UTC+8.
pub(crate) fn beijing(time: SystemTime) -> String {
    let zone = UtcOffset::from_hms(8, 0, 0).unwrap_or(UtcOffset::UTC);
    let format = format_description!("[year][month][day][hour][minute][second]");
    OffsetDateTime::from(time).to_offset(zone).format(format).unwrap_or_default()
}

/// `time` plus `duration`, capped: a script may contain any number.
pub(crate) fn later(time: SystemTime, duration: Duration) -> SystemTime {
    // A hundred years: every provider's timestamp format can express the result.
    time + duration.min(Duration::from_hours(100 * 365 * 24))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_have_the_providers_formats() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_micros(1_778_754_737_378_310);
        assert_eq!(seconds(time), 1_778_754_737);
        assert_eq!(milliseconds(time), 1_778_754_737_378);
        assert_eq!(rfc3339(time), "2026-05-14T10:32:17.378310Z");
        assert_eq!(without_zone(time), "2026-05-14T10:32:17");
        assert_eq!(with_space(time), "2026-05-14 10:32:17");
        assert_eq!(compact(time), "20260514T103217Z");
        assert_eq!(beijing(time), "20260514183217");
    }
}
