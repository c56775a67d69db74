//! Multipart uploads with CRC-64/NVME over the whole object, the only kind that reelhook begins.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use axum::body::Bytes;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::{Bucket, Call, Object, checksum_of, escaped, etag_of, refused, xml};

/// Smallest part but the last, by S3.
const MIN_PART: usize = 5 << 20;

#[derive(Debug)]
pub(super) struct Upload {
    key: String,
    content_type: String,
    parts: BTreeMap<u32, Bytes>,
}

pub(super) fn create(bucket: &mut Bucket, call: &Call) -> Response {
    if call.header("x-amz-checksum-algorithm") != Some("CRC64NVME")
        || call.header("x-amz-checksum-type") != Some("FULL_OBJECT")
    {
        return refused(StatusCode::NOT_IMPLEMENTED, "NotImplemented");
    }
    bucket.uploads_so_far += 1;
    let id = format!("upload-{}", bucket.uploads_so_far);
    let upload = Upload { key: call.key.clone(), content_type: call.content_type(), parts: BTreeMap::new() };
    bucket.uploads.insert(id.clone(), upload);
    xml(&format!(
        "<InitiateMultipartUploadResult><Bucket>{}</Bucket><Key>{}</Key><UploadId>{id}</UploadId></InitiateMultipartUploadResult>",
        escaped(&call.bucket),
        escaped(&call.key)
    ))
}

pub(super) fn upload_part(bucket: &mut Bucket, call: &Call) -> Response {
    let upload = bucket.uploads.get_mut(call.parameter("uploadId")).filter(|upload| upload.key == call.key);
    let Some(upload) = upload else { return refused(StatusCode::NOT_FOUND, "NoSuchUpload") };
    let Some(number) = call.parameter("partNumber").parse().ok().filter(|number| (1..=10_000).contains(number)) else {
        return refused(StatusCode::BAD_REQUEST, "InvalidArgument");
    };
    if call.claimed_checksum().is_some_and(|claimed| claimed != checksum_of(&call.body)) {
        return refused(StatusCode::BAD_REQUEST, "BadDigest");
    }
    upload.parts.insert(number, call.body.clone());
    [(header::ETAG, etag_of(&call.body))].into_response()
}

pub(super) fn complete(bucket: &mut Bucket, call: &Call) -> Response {
    let id = call.parameter("uploadId");
    let Some(upload) = bucket.uploads.get(id).filter(|upload| upload.key == call.key) else {
        return refused(StatusCode::NOT_FOUND, "NoSuchUpload");
    };
    if let Some(refusal) = bucket.unmet_condition(call) {
        return refusal;
    }
    let whole = match put_together(upload, &String::from_utf8_lossy(&call.body)) {
        Ok(whole) => whole,
        Err(code) => return refused(StatusCode::BAD_REQUEST, code),
    };
    let claimed_size = call.header("x-amz-mp-object-size");
    if call.claimed_checksum().is_some_and(|claimed| claimed != checksum_of(&whole))
        || claimed_size.is_some_and(|claimed| claimed != whole.len().to_string())
    {
        return refused(StatusCode::BAD_REQUEST, "BadDigest");
    }
    let object = Object::new(whole.into(), upload.content_type.clone());
    let etag = escaped(&object.etag);
    bucket.create_object(&call.key, object);
    bucket.uploads.remove(id);
    xml(&format!(
        "<CompleteMultipartUploadResult><Key>{}</Key><ETag>{etag}</ETag></CompleteMultipartUploadResult>",
        escaped(&call.key)
    ))
}

/// The bytes of the parts that the request lists, or the code of the error.
fn put_together(upload: &Upload, request: &str) -> Result<Vec<u8>, &'static str> {
    let listed: Vec<&str> = request.split("<Part>").skip(1).collect();
    if listed.is_empty() {
        return Err("MalformedXML");
    }
    let (mut whole, mut last) = (Vec::new(), 0);
    for (index, part) in listed.iter().enumerate() {
        let number: u32 = inside(part, "PartNumber").and_then(|number| number.parse().ok()).unwrap_or(0);
        if number <= last {
            return Err("InvalidPartOrder");
        }
        last = number;
        let bytes = upload.parts.get(&number).ok_or("InvalidPart")?;
        let etag = inside(part, "ETag").unwrap_or_default().replace("&quot;", "\"");
        let claimed = inside(part, "ChecksumCRC64NVME");
        if etag != etag_of(bytes) || claimed.is_some_and(|claimed| claimed != checksum_of(bytes)) {
            return Err("InvalidPart");
        }
        if bytes.len() < MIN_PART && index + 1 < listed.len() {
            return Err("EntityTooSmall");
        }
        whole.extend_from_slice(bytes);
    }
    Ok(whole)
}

fn inside<'a>(text: &'a str, tag: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{tag}>"))?;
    rest.split_once(&format!("</{tag}>")).map(|(inside, _)| inside)
}

pub(super) fn abort(bucket: &mut Bucket, call: &Call) -> Response {
    match bucket.uploads.remove(call.parameter("uploadId")) {
        Some(_) => StatusCode::NO_CONTENT.into_response(),
        None => refused(StatusCode::NOT_FOUND, "NoSuchUpload"),
    }
}

pub(super) fn list(bucket: &Bucket, call: &Call) -> Response {
    let prefix = call.parameter("prefix");
    let mut uploads = String::new();
    for (id, upload) in bucket.uploads.iter().filter(|(_, upload)| upload.key.starts_with(prefix)) {
        let key = escaped(&upload.key);
        // Writing to a String cannot fail.
        let _ = write!(uploads, "<Upload><Key>{key}</Key><UploadId>{id}</UploadId></Upload>");
    }
    xml(&format!("<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>{uploads}</ListMultipartUploadsResult>"))
}
