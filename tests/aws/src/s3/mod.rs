//! Buckets, as strict as S3 where it matters: checksums of objects, of parts and of the whole, sizes of parts and of the whole,
//! conditions on final writes. Requests are path-style.

mod multipart;
mod objects;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use axum::body::Bytes;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use crc_fast::{CrcAlgorithm, checksum};
use percent_encoding::percent_decode_str;

use self::multipart::Upload;

/// An operation, named as S3 names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    CreateBucket,
    PutObject,
    GetObject,
    HeadObject,
    ListObjectsV2,
    CreateMultipartUpload,
    UploadPart,
    CompleteMultipartUpload,
    AbortMultipartUpload,
    ListMultipartUploads,
    DeleteObject,
}

impl Operation {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::CreateBucket => "CreateBucket",
            Self::PutObject => "PutObject",
            Self::GetObject => "GetObject",
            Self::HeadObject => "HeadObject",
            Self::ListObjectsV2 => "ListObjectsV2",
            Self::CreateMultipartUpload => "CreateMultipartUpload",
            Self::UploadPart => "UploadPart",
            Self::CompleteMultipartUpload => "CompleteMultipartUpload",
            Self::AbortMultipartUpload => "AbortMultipartUpload",
            Self::ListMultipartUploads => "ListMultipartUploads",
            Self::DeleteObject => "DeleteObject",
        }
    }
}

/// A request.
#[derive(Debug)]
pub(crate) struct Call {
    method: Method,
    bucket: String,
    /// Empty for a request about the bucket.
    key: String,
    query: BTreeMap<String, String>,
    headers: HeaderMap,
    body: Bytes,
}

impl Call {
    pub(crate) fn new(parts: &Parts, body: Bytes) -> Self {
        let path = parts.uri.path().trim_start_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let query = url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes());
        Self {
            method: parts.method.clone(),
            bucket: bucket.to_owned(),
            key: percent_decode_str(key).decode_utf8_lossy().into_owned(),
            query: query.into_owned().collect(),
            headers: parts.headers.clone(),
            body,
        }
    }

    /// What is asked for; none if that is nothing this S3 has.
    pub(crate) fn operation(&self) -> Option<Operation> {
        // A body in chunks with signatures or checksums of their own.
        if self.header("content-encoding").is_some_and(|encoding| encoding.contains("aws-chunked")) {
            return None;
        }
        let is_about_upload = self.query.contains_key("uploadId");
        Some(match (self.method.as_str(), self.key.is_empty()) {
            ("PUT", true) => Operation::CreateBucket,
            ("PUT", false) if is_about_upload => Operation::UploadPart,
            ("PUT", false) => Operation::PutObject,
            ("GET", true) if self.query.contains_key("uploads") => Operation::ListMultipartUploads,
            ("GET", true) => Operation::ListObjectsV2,
            ("GET", false) => Operation::GetObject,
            ("HEAD", false) => Operation::HeadObject,
            ("POST", false) if self.query.contains_key("uploads") => Operation::CreateMultipartUpload,
            ("POST", false) if is_about_upload => Operation::CompleteMultipartUpload,
            ("DELETE", false) if is_about_upload => Operation::AbortMultipartUpload,
            ("DELETE", false) => Operation::DeleteObject,
            _ => return None,
        })
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    fn parameter(&self, name: &str) -> &str {
        self.query.get(name).map(String::as_str).unwrap_or_default()
    }

    /// The checksum that the client has computed.
    fn claimed_checksum(&self) -> Option<&str> {
        self.header("x-amz-checksum-crc64nvme")
    }

    fn content_type(&self) -> String {
        self.header("content-type").unwrap_or("binary/octet-stream").to_owned()
    }
}

/// An object.
#[derive(Clone, Debug)]
struct Object {
    bytes: Bytes,
    content_type: String,
    checksum: String,
    etag: String,
}

impl Object {
    fn new(bytes: Bytes, content_type: String) -> Self {
        Self { content_type, checksum: checksum_of(&bytes), etag: etag_of(&bytes), bytes }
    }
}

#[derive(Debug, Default)]
struct Bucket {
    objects: BTreeMap<String, Object>,
    uploads: BTreeMap<String, Upload>,
    uploads_so_far: u64,
    /// "Object Created" events, by key.
    created: BTreeMap<String, u64>,
}

impl Bucket {
    /// Why a final write under this key is refused, if it is.
    fn unmet_condition(&self, call: &Call) -> Option<Response> {
        let existing = self.objects.get(&call.key);
        match (call.header("if-none-match"), call.header("if-match")) {
            (Some("*"), _) if existing.is_some() => {
                Some(refused(StatusCode::PRECONDITION_FAILED, "PreconditionFailed"))
            }
            (_, Some(etag)) => match existing {
                None => Some(refused(StatusCode::NOT_FOUND, "NoSuchKey")),
                Some(object) if object.etag != etag => {
                    Some(refused(StatusCode::PRECONDITION_FAILED, "PreconditionFailed"))
                }
                Some(_) => None,
            },
            _ => None,
        }
    }

    fn create_object(&mut self, key: &str, object: Object) {
        self.objects.insert(key.to_owned(), object);
        *self.created.entry(key.to_owned()).or_default() += 1;
    }
}

/// All buckets, by name.
#[derive(Debug, Default)]
pub(crate) struct Buckets {
    buckets: Mutex<BTreeMap<String, Bucket>>,
}

impl Buckets {
    pub(crate) fn call(&self, operation: Operation, call: &Call) -> Response {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if operation == Operation::CreateBucket {
            buckets.entry(call.bucket.clone()).or_default();
            return StatusCode::OK.into_response();
        }
        let Some(bucket) = buckets.get_mut(&call.bucket) else {
            return refused(StatusCode::NOT_FOUND, "NoSuchBucket");
        };
        match operation {
            Operation::CreateBucket => StatusCode::OK.into_response(),
            Operation::PutObject => objects::put(bucket, call),
            Operation::GetObject | Operation::HeadObject => objects::get(bucket, call),
            Operation::ListObjectsV2 => objects::list(bucket, call),
            Operation::DeleteObject => {
                bucket.objects.remove(&call.key);
                StatusCode::NO_CONTENT.into_response()
            }
            Operation::CreateMultipartUpload => multipart::create(bucket, call),
            Operation::UploadPart => multipart::upload_part(bucket, call),
            Operation::CompleteMultipartUpload => multipart::complete(bucket, call),
            Operation::AbortMultipartUpload => multipart::abort(bucket, call),
            Operation::ListMultipartUploads => multipart::list(bucket, call),
        }
    }

    /// How many "Object Created" events each object had, by bucket and key.
    pub(crate) fn created(&self) -> BTreeMap<String, u64> {
        let buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let of_bucket = |(name, bucket): (&String, &Bucket)| -> Vec<(String, u64)> {
            bucket.created.iter().map(|(key, count)| (format!("{name}/{key}"), *count)).collect()
        };
        buckets.iter().flat_map(of_bucket).collect()
    }
}

/// An error response of S3.
pub(crate) fn refused(status: StatusCode, code: &str) -> Response {
    let body =
        format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>refused by local-aws</Message></Error>");
    (status, [(header::CONTENT_TYPE, "application/xml")], body).into_response()
}

fn xml(body: &str) -> Response {
    ([(header::CONTENT_TYPE, "application/xml")], format!("<?xml version=\"1.0\"?>{body}")).into_response()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn checksum_of(bytes: &[u8]) -> String {
    BASE64.encode(checksum(CrcAlgorithm::Crc64Nvme, bytes).to_be_bytes())
}

/// A tag that tells contents apart. S3 uses the MD5 of an object written in one go; clients must not rely on it.
fn etag_of(bytes: &[u8]) -> String {
    let value = checksum(CrcAlgorithm::Crc64Nvme, bytes);
    format!("\"{value:016x}{:016x}\"", value.rotate_left(17) ^ bytes.len() as u64)
}
