//! The `Retry-After` header of an HTTP response ([RFC 9110, 10.2.3](https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3)).

use std::time::{Duration, UNIX_EPOCH};

use crate::Timestamp;

/// How long a `Retry-After` header wants the client to wait: whole seconds, or an HTTP date compared with `now` (a date in the
/// past means no wait). None when it is neither. The sender decides the length, so the caller caps it.
pub fn parse(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are a very long wait, and not none.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(value).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(now.until(Timestamp::from_seconds(i64::try_from(date.as_secs()).ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_number_of_seconds_or_a_date() {
        let now = Timestamp::from_rfc3339("2026-10-21T07:28:00Z").expect("a time");
        for (value, expected) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("Wed, 21 Oct 2026 07:28:30 GMT", Some(30)),
            ("Wed, 21 Oct 2015 07:28:00 GMT", Some(0)),
            ("soon", None),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
        ] {
            assert_eq!(parse(value, now), expected.map(Duration::from_secs), "{value:?}");
        }
    }
}
