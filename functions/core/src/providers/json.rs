//! Lenient reading of JSON: providers and the gateways in front of them change types, case and envelopes without notice.

use serde_json::Value;

use crate::time::Timestamp;

/// Longest id that is accepted, in bytes. The longest ids seen have about 300 characters, and an item of the table has to
/// hold every accepted id.
const MAX_ID: usize = 1024;

/// Reads a JSON object, with or without a byte order mark. None for any other JSON, and for objects nested deeper than
/// `serde_json` allows (128 levels).
pub(super) fn object(body: &[u8]) -> Option<Value> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    serde_json::from_slice::<Value>(body).ok().filter(Value::is_object)
}

/// The text of a non-empty string or of a number: providers switch between `"7"` and `7`, and gateways turn it into `7.0`.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(integer(value).map_or_else(|| number.to_string(), |whole| whole.to_string())),
        _ => None,
    }
}

/// The [`text`] of the first of these fields that has one.
pub(super) fn first_text(value: &Value, fields: &[&str]) -> Option<String> {
    fields.iter().find_map(|field| text(&value[*field]))
}

/// An integer, also when written as text or as `7.0`.
pub(super) fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64().or_else(|| number.as_f64().and_then(whole)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// The integer in a float without a fraction, up to 2^53, where floats stop being exact.
fn whole(number: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    #[expect(clippy::cast_possible_truncation, reason = "no fraction, and at most 2^53")]
    (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i64)
}

/// The [`text`] of an id field; none if it exceeds [`MAX_ID`].
pub(super) fn id(value: &Value) -> Option<String> {
    text(value).filter(|id| id.len() <= MAX_ID)
}

/// The first of these fields that holds an [`id`].
pub(super) fn first_id(value: &Value, fields: &[&str]) -> Option<String> {
    fields.iter().find_map(|field| id(&value[*field]))
}

/// Whether one of these fields holds this id.
pub(super) fn has_id(task: &Value, fields: &[&str], provider_task_id: &str) -> bool {
    fields.iter().any(|field| id(&task[*field]).as_deref() == Some(provider_task_id))
}

/// Whether a task in a status response may be the polled one: one of these fields holds its id, or none holds any id.
pub(super) fn is_about(task: &Value, fields: &[&str], provider_task_id: &str) -> bool {
    first_id(task, fields).is_none() || has_id(task, fields, provider_task_id)
}

/// The items of a list. An object or a string in its place counts as a list of one.
pub(super) fn items(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) => items,
        Value::Object(_) | Value::String(_) => std::slice::from_ref(value),
        _ => &[],
    }
}

/// The content of a `data` envelope, an object or the first item of a list; the body itself when there is no envelope.
pub(super) fn in_data(body: &Value) -> &Value {
    match &body["data"] {
        data @ Value::Object(_) => data,
        Value::Array(tasks) if tasks.first().is_some_and(Value::is_object) => &tasks[0],
        _ => body,
    }
}

/// A status word in lower case: providers switch between `success`, `Success` and `SUCCESS`.
pub(super) fn status_word(value: &Value) -> Option<String> {
    text(value).map(|word| word.trim().to_ascii_lowercase()).filter(|word| !word.is_empty())
}

/// A point in time in Unix seconds or milliseconds, as a number or text, or in RFC 3339. None for a time without a zone.
pub(super) fn timestamp(value: &Value) -> Option<Timestamp> {
    let whole = integer(value).or_else(|| {
        #[expect(clippy::cast_possible_truncation, reason = "drops the fraction on purpose, and the cast saturates")]
        value.as_f64().map(|seconds| seconds as i64)
    });
    match whole {
        Some(seconds @ 1_000_000_000..100_000_000_000) => Some(Timestamp::from_seconds(seconds)),
        Some(milliseconds @ 1_000_000_000_000..100_000_000_000_000) => Some(Timestamp::from_milliseconds(milliseconds)),
        Some(_) => None,
        None => Timestamp::from_rfc3339(value.as_str()?),
    }
}

/// A percentage from 0 to 100, from `40`, `"40"` or `"40%"`.
pub(super) fn percent(value: &Value) -> Option<u8> {
    let percent = integer(value).or_else(|| value.as_str()?.trim().strip_suffix('%')?.trim().parse().ok())?;
    u8::try_from(percent).ok().filter(|percent| *percent <= 100)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_read_however_they_are_written() {
        for (value, expected) in [
            (json!(400), Some("400")),
            (json!(400.0), Some("400")),
            (json!("400"), Some("400")),
            (json!(-1.5), Some("-1.5")),
            (json!(1e300), Some("1e+300")),
            (json!(u64::MAX), Some("18446744073709551615")),
            (json!(""), None),
            (json!([400]), None),
        ] {
            assert_eq!(text(&value).as_deref(), expected, "{value}");
        }
        assert_eq!(integer(&json!(1027.0)), Some(1027));
        assert_eq!(integer(&json!(1027.5)), None);
        assert_eq!(integer(&json!(" 1027 ")), Some(1027));
        assert_eq!(status_word(&json!(" SUCCEED\n")).as_deref(), Some("succeed"));
        assert_eq!(status_word(&json!(" ")), None);
    }

    #[test]
    fn a_single_item_counts_as_a_list() {
        assert_eq!(items(&json!({"url": "u"})), [json!({"url": "u"})]);
        assert_eq!(items(&json!([1, 2])), [json!(1), json!(2)]);
        assert!(items(&json!(null)).is_empty());
        assert_eq!(in_data(&json!({"data": [{"id": 1}]})), &json!({"id": 1}));
        assert_eq!(in_data(&json!({"data": {"id": 1}})), &json!({"id": 1}));
        assert_eq!(in_data(&json!({"id": 1, "data": null})), &json!({"id": 1, "data": null}));
    }
}
