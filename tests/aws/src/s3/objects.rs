//! Whole objects.

use std::fmt::Write as _;

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::{Bucket, Call, Object, checksum_of, escaped, refused, xml};

/// Most keys in one response, by S3.
const MAX_KEYS: usize = 1000;

pub(super) fn put(bucket: &mut Bucket, call: &Call) -> Response {
    if call.claimed_checksum().is_some_and(|claimed| claimed != checksum_of(&call.body)) {
        return refused(StatusCode::BAD_REQUEST, "BadDigest");
    }
    if let Some(refusal) = bucket.unmet_condition(call) {
        return refusal;
    }
    let object = Object::new(call.body.clone(), call.content_type());
    let etag = object.etag.clone();
    bucket.create_object(&call.key, object);
    [(header::ETAG, etag)].into_response()
}

/// Also the response to `HEAD`, whose body the server leaves out.
pub(super) fn get(bucket: &Bucket, call: &Call) -> Response {
    let Some(object) = bucket.objects.get(&call.key) else { return refused(StatusCode::NOT_FOUND, "NoSuchKey") };
    let length = object.bytes.len();
    let mut response = Response::builder()
        .header(header::CONTENT_TYPE, &object.content_type)
        .header(header::ETAG, &object.etag)
        .header(header::ACCEPT_RANGES, "bytes");
    let range = match call.header("range").map(|range| parsed_range(range, length)) {
        None => None,
        Some(Some(range)) => Some(range),
        Some(None) => return refused(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange"),
    };
    let bytes = if let Some((first, last)) = range {
        let range = format!("bytes {first}-{last}/{length}");
        response = response.status(StatusCode::PARTIAL_CONTENT).header(header::CONTENT_RANGE, range);
        object.bytes.slice(first..=last)
    } else {
        response = response.header("x-amz-checksum-crc64nvme", &object.checksum);
        response = response.header("x-amz-checksum-type", "FULL_OBJECT");
        object.bytes.clone()
    };
    let response = response.header(header::CONTENT_LENGTH, bytes.len()).body(Body::from(bytes));
    response.unwrap_or_else(|_| refused(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"))
}

/// The first and the last byte of `bytes=a-b`, `bytes=a-` or `bytes=-n`. None if there is no such byte.
fn parsed_range(range: &str, length: usize) -> Option<(usize, usize)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let (first, last) = match (first.parse::<usize>().ok(), last.parse::<usize>().ok()) {
        (Some(first), Some(last)) => (first, last.min(length.checked_sub(1)?)),
        (Some(first), None) => (first, length.checked_sub(1)?),
        (None, Some(tail)) => (length.saturating_sub(tail), length.checked_sub(1)?),
        (None, None) => return None,
    };
    (first <= last).then_some((first, last))
}

pub(super) fn list(bucket: &Bucket, call: &Call) -> Response {
    let prefix = call.parameter("prefix");
    // A token is the last key of the page before.
    let after = match call.parameter("continuation-token") {
        "" => call.parameter("start-after"),
        token => token,
    };
    let most = call.parameter("max-keys").parse().unwrap_or(MAX_KEYS).min(MAX_KEYS);
    let mut found = bucket
        .objects
        .range(prefix.to_owned()..)
        .take_while(|(key, _)| key.starts_with(prefix))
        .filter(|(key, _)| key.as_str() > after);
    let page: Vec<_> = found.by_ref().take(most).collect();
    let next = if found.next().is_some() { page.last().map(|(key, _)| escaped(key)) } else { None };
    let mut contents = String::new();
    for (key, object) in &page {
        let (key, etag, size) = (escaped(key), escaped(&object.etag), object.bytes.len());
        // Writing to a String cannot fail.
        let _ = write!(contents, "<Contents><Key>{key}</Key><ETag>{etag}</ETag><Size>{size}</Size></Contents>");
    }
    let truncated = next.is_some();
    let next = next.map(|key| format!("<NextContinuationToken>{key}</NextContinuationToken>")).unwrap_or_default();
    let count = page.len();
    xml(&format!(
        "<ListBucketResult><KeyCount>{count}</KeyCount><IsTruncated>{truncated}</IsTruncated>{next}{contents}</ListBucketResult>"
    ))
}
