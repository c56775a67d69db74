//! A bucket for tests: as much of S3 over HTTP as a copy uses, and as strict as S3 is. It checks what the usual emulators let
//! pass: checksums of parts and of whole objects, sizes of parts, the size of the whole, conditions. It can be told to fail.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use crc_fast::{CrcAlgorithm, checksum};

/// Smallest part but the last.
const SMALLEST_PART: usize = 5 * 1024 * 1024;

/// An object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    /// Its bytes.
    pub(crate) bytes: Bytes,
    /// Its content type.
    pub(crate) content_type: String,
    /// Its CRC-64/NVME, as S3 gives it.
    pub(crate) checksum: String,
    /// The report it belongs to, in its metadata.
    pub(crate) reported_at: Option<String>,
}

#[derive(Debug)]
struct Upload {
    key: String,
    content_type: String,
    reported_at: Option<String>,
    parts: BTreeMap<u32, Bytes>,
}

/// A call, named as S3 names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    /// The operation.
    pub(crate) operation: &'static str,
    /// The key, if it has one.
    pub(crate) key: String,
    /// The number of the part, if it is one.
    pub(crate) part: Option<u32>,
    /// How many calls of this operation there were before.
    pub(crate) earlier: usize,
}

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// It is refused with this status and code.
    Refused(u16, &'static str),
    /// It is carried out, and the response is a 500.
    ResponseLost,
    /// It takes longer.
    Slow(Duration),
}

type Faults = Box<dyn FnMut(&Call) -> Option<Fault> + Send>;

#[derive(Default)]
struct Contents {
    objects: BTreeMap<String, Object>,
    uploads: BTreeMap<String, Upload>,
    calls: Vec<Call>,
    uploads_so_far: usize,
    faults: Option<Faults>,
    shows_no_checksums: bool,
}

/// A running bucket.
#[derive(Clone)]
pub(crate) struct Bucket {
    address: SocketAddr,
    contents: Arc<Mutex<Contents>>,
}

impl Bucket {
    /// Its name.
    pub(crate) const NAME: &'static str = "films";

    /// Starts one on a free port.
    pub(crate) async fn start() -> std::io::Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let contents = Arc::new(Mutex::new(Contents::default()));
        let application =
            Router::new().fallback(serve).layer(DefaultBodyLimit::disable()).with_state(Arc::clone(&contents));
        tokio::spawn(async move { axum::serve(listener, application).await });
        Ok(Self { address, contents })
    }

    /// Where it is.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Says which calls go wrong from now on.
    pub(crate) fn fail(&self, faults: impl FnMut(&Call) -> Option<Fault> + Send + 'static) {
        self.locked().faults = Some(Box::new(faults));
    }

    /// No call goes wrong any more.
    pub(crate) fn heal(&self) {
        self.locked().faults = None;
    }

    /// Puts an object there.
    pub(crate) fn put(&self, key: &str, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        let content_type = "application/octet-stream".to_owned();
        let object = Object { checksum: checksum_of(&bytes), bytes, content_type, reported_at: None };
        self.locked().objects.insert(key.to_owned(), object);
    }

    /// An object.
    pub(crate) fn object(&self, key: &str) -> Option<Object> {
        self.locked().objects.get(key).cloned()
    }

    /// The keys of all objects.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.locked().objects.keys().cloned().collect()
    }

    /// How many parts lie in unfinished uploads, and in how many uploads.
    pub(crate) fn unfinished(&self) -> (usize, usize) {
        let contents = self.locked();
        (contents.uploads.values().map(|upload| upload.parts.len()).sum(), contents.uploads.len())
    }

    /// A part of an unfinished upload.
    pub(crate) fn part(&self, id: &str, number: u32) -> Option<Bytes> {
        self.locked().uploads.get(id)?.parts.get(&number).cloned()
    }

    /// Shows no checksums any more, as some emulators do.
    pub(crate) fn forget_checksums(&self) {
        self.locked().shows_no_checksums = true;
    }

    /// Aborts every upload, as the lifecycle rule does.
    pub(crate) fn abort_all(&self) {
        self.locked().uploads.clear();
    }

    /// Begins an upload that nobody will finish.
    pub(crate) fn leave_upload(&self, key: &str) {
        let mut contents = self.locked();
        let upload = Upload {
            key: key.to_owned(),
            content_type: String::new(),
            reported_at: None,
            parts: BTreeMap::from([(1, Bytes::from_static(b"x"))]),
        };
        contents.uploads.insert(format!("left-{key}"), upload);
    }

    /// Calls so far, by operation.
    pub(crate) fn calls(&self, operation: &str) -> usize {
        self.locked().calls.iter().filter(|call| call.operation == operation).count()
    }

    /// Calls so far.
    pub(crate) fn all_calls(&self) -> usize {
        self.locked().calls.len()
    }

    fn locked(&self) -> MutexGuard<'_, Contents> {
        locked(&self.contents)
    }
}

fn locked(contents: &Mutex<Contents>) -> MutexGuard<'_, Contents> {
    contents.lock().unwrap_or_else(PoisonError::into_inner)
}

fn checksum_of(bytes: &[u8]) -> String {
    BASE64.encode(checksum(CrcAlgorithm::Crc64Nvme, bytes).to_be_bytes())
}

/// An `ETag` of the form that S3 gives to parts. What it is made of does not matter to anybody.
fn etag_of(bytes: &[u8]) -> String {
    let value = checksum(CrcAlgorithm::Crc64Nvme, bytes);
    format!("\"{value:016x}{:016x}\"", value.rotate_left(17) ^ bytes.len() as u64)
}

fn refused(status: u16, code: &str) -> Response {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>played</Message></Error>");
    (StatusCode::from_u16(status).expect("a status"), [("content-type", "application/xml")], body).into_response()
}

fn xml(body: &str) -> Response {
    ([("content-type", "application/xml")], format!("<?xml version=\"1.0\"?>{body}")).into_response()
}

fn inside<'a>(text: &'a str, tag: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{tag}>"))?;
    rest.split_once(&format!("</{tag}>")).map(|(inside, _)| inside)
}

async fn serve(
    State(contents): State<Arc<Mutex<Contents>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let query = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
        .into_owned()
        .collect::<BTreeMap<_, _>>();
    let Ok(body) = axum::body::to_bytes(body, usize::MAX).await else { return refused(400, "IncompleteBody") };
    let key = uri.path().strip_prefix(&format!("/{}/", Bucket::NAME)).unwrap_or_default().to_owned();
    let part = query.get("partNumber").and_then(|number| number.parse().ok());
    let operation = match (&method, key.is_empty()) {
        (&Method::PUT, _) if query.contains_key("uploadId") => "UploadPart",
        (&Method::PUT, _) => "PutObject",
        (&Method::POST, _) if query.contains_key("uploads") => "CreateMultipartUpload",
        (&Method::POST, _) => "CompleteMultipartUpload",
        (&Method::DELETE, _) => "AbortMultipartUpload",
        (&Method::HEAD, _) => "HeadObject",
        (&Method::GET, true) if query.contains_key("uploads") => "ListMultipartUploads",
        (&Method::GET, true) => "ListObjectsV2",
        (&Method::GET, false) => "GetObject",
        _ => return refused(405, "MethodNotAllowed"),
    };
    let fault = {
        let mut contents = locked(&contents);
        let earlier = contents.calls.iter().filter(|call| call.operation == operation).count();
        let call = Call { operation, key: key.clone(), part, earlier };
        contents.calls.push(call.clone());
        contents.faults.as_mut().and_then(|faults| faults(&call))
    };
    match fault {
        Some(Fault::Refused(status, code)) => return refused(status, code),
        Some(Fault::Slow(time)) => tokio::time::sleep(time).await,
        Some(Fault::ResponseLost) | None => {}
    }
    let text = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
    let (prefix, upload_id) = (text("prefix"), text("uploadId"));
    let parameters = Parameters { key: &key, part, prefix, upload_id, headers: &headers };
    let response = perform(&mut locked(&contents), operation, &parameters, body);
    if matches!(fault, Some(Fault::ResponseLost)) { refused(500, "InternalError") } else { response }
}

/// What a call is about.
struct Parameters<'a> {
    key: &'a str,
    part: Option<u32>,
    prefix: &'a str,
    upload_id: &'a str,
    headers: &'a HeaderMap,
}

impl Parameters<'_> {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    fn claimed_checksum(&self) -> Option<&str> {
        self.header("x-amz-checksum-crc64nvme")
    }

    /// Whether the condition of a final write holds.
    fn is_met(&self, existing: Option<&Object>) -> bool {
        match self.header("if-match") {
            Some(etag) => existing.is_some_and(|existing| etag_of(&existing.bytes) == etag),
            None => self.header("if-none-match") != Some("*") || existing.is_none(),
        }
    }

    fn reported_at(&self) -> Option<String> {
        self.header("x-amz-meta-reported-at").map(str::to_owned)
    }

    fn content_type(&self) -> String {
        self.header("content-type").unwrap_or_default().to_owned()
    }
}

fn perform(contents: &mut Contents, operation: &str, parameters: &Parameters<'_>, body: Bytes) -> Response {
    match operation {
        "PutObject" => put_object(contents, parameters, body),
        "CreateMultipartUpload" => create_upload(contents, parameters),
        "UploadPart" => upload_part(contents, parameters, body),
        "CompleteMultipartUpload" => complete(contents, parameters, &body),
        "AbortMultipartUpload" => match contents.uploads.remove(parameters.upload_id) {
            Some(_) => StatusCode::NO_CONTENT.into_response(),
            None => refused(404, "NoSuchUpload"),
        },
        "HeadObject" | "GetObject" => read_object(contents, parameters.key),
        "ListMultipartUploads" => {
            let uploads = contents.uploads.iter().filter(|(_, upload)| upload.key.starts_with(parameters.prefix));
            let uploads = uploads
                .map(|(id, upload)| format!("<Upload><Key>{}</Key><UploadId>{id}</UploadId></Upload>", upload.key));
            xml(&format!("<ListMultipartUploadsResult>{}</ListMultipartUploadsResult>", uploads.collect::<String>()))
        }
        _ => {
            let objects = contents.objects.keys().filter(|key| key.starts_with(parameters.prefix));
            let objects = objects.map(|key| format!("<Contents><Key>{key}</Key></Contents>"));
            xml(&format!("<ListBucketResult>{}</ListBucketResult>", objects.collect::<String>()))
        }
    }
}

fn put_object(contents: &mut Contents, parameters: &Parameters<'_>, body: Bytes) -> Response {
    if parameters.claimed_checksum() != Some(checksum_of(&body).as_str()) {
        return refused(400, "BadDigest");
    }
    if !parameters.is_met(contents.objects.get(parameters.key)) {
        return refused(412, "PreconditionFailed");
    }
    let (content_type, reported_at) = (parameters.content_type(), parameters.reported_at());
    let object = Object { checksum: checksum_of(&body), bytes: body, content_type, reported_at };
    contents.objects.insert(parameters.key.to_owned(), object);
    StatusCode::OK.into_response()
}

fn create_upload(contents: &mut Contents, parameters: &Parameters<'_>) -> Response {
    if parameters.header("x-amz-checksum-algorithm") != Some("CRC64NVME")
        || parameters.header("x-amz-checksum-type") != Some("FULL_OBJECT")
    {
        return refused(400, "InvalidRequest");
    }
    contents.uploads_so_far += 1;
    let (key, id) = (parameters.key, format!("upload-{}", contents.uploads_so_far));
    let (content_type, reported_at) = (parameters.content_type(), parameters.reported_at());
    let upload = Upload { key: key.to_owned(), content_type, reported_at, parts: BTreeMap::new() };
    contents.uploads.insert(id.clone(), upload);
    xml(&format!(
        "<InitiateMultipartUploadResult><Bucket>{}</Bucket><Key>{key}</Key><UploadId>{id}</UploadId></InitiateMultipartUploadResult>",
        Bucket::NAME
    ))
}

fn upload_part(contents: &mut Contents, parameters: &Parameters<'_>, body: Bytes) -> Response {
    let upload = contents.uploads.get_mut(parameters.upload_id);
    let Some(upload) = upload.filter(|upload| upload.key == parameters.key) else {
        return refused(404, "NoSuchUpload");
    };
    if parameters.claimed_checksum().is_some_and(|claimed| claimed != checksum_of(&body)) {
        return refused(400, "BadDigest");
    }
    let etag = etag_of(&body);
    upload.parts.insert(parameters.part.expect("a part has a number"), body);
    ([("etag", etag)], "").into_response()
}

fn read_object(contents: &Contents, key: &str) -> Response {
    let Some(object) = contents.objects.get(key) else { return refused(404, "NoSuchKey") };
    let mut described = Response::builder()
        .header("content-length", object.bytes.len())
        .header("content-type", &object.content_type)
        .header("etag", etag_of(&object.bytes));
    if let Some(reported_at) = &object.reported_at {
        described = described.header("x-amz-meta-reported-at", reported_at);
    }
    if !contents.shows_no_checksums {
        described =
            described.header("x-amz-checksum-crc64nvme", &object.checksum).header("x-amz-checksum-type", "FULL_OBJECT");
    }
    described.body(Body::from(object.bytes.clone())).expect("a response")
}

fn complete(contents: &mut Contents, parameters: &Parameters<'_>, body: &[u8]) -> Response {
    let (key, id) = (parameters.key, parameters.upload_id);
    let (claimed, claimed_size) = (parameters.claimed_checksum(), parameters.header("x-amz-mp-object-size"));
    let Some(upload) = contents.uploads.get(id).filter(|upload| upload.key == key) else {
        return refused(404, "NoSuchUpload");
    };
    if !parameters.is_met(contents.objects.get(key)) {
        return refused(412, "PreconditionFailed");
    }
    let body = String::from_utf8_lossy(body);
    let mut whole = Vec::new();
    let listed: Vec<&str> = body.split("<Part>").skip(1).collect();
    for (index, part) in listed.iter().enumerate() {
        let number: u32 = inside(part, "PartNumber").and_then(|number| number.parse().ok()).unwrap_or(0);
        let Some(bytes) = upload.parts.get(&number).filter(|_| number as usize == index + 1) else {
            return refused(400, "InvalidPart");
        };
        let etag = inside(part, "ETag").unwrap_or_default().replace("&quot;", "\"");
        if etag != etag_of(bytes)
            || inside(part, "ChecksumCRC64NVME").is_some_and(|claimed| claimed != checksum_of(bytes))
        {
            return refused(400, "InvalidPart");
        }
        if bytes.len() < SMALLEST_PART && index + 1 < listed.len() {
            return refused(400, "EntityTooSmall");
        }
        whole.extend_from_slice(bytes);
    }
    if claimed != Some(checksum_of(&whole).as_str()) || claimed_size != Some(whole.len().to_string().as_str()) {
        return refused(400, "BadDigest");
    }
    let (content_type, reported_at) = (upload.content_type.clone(), upload.reported_at.clone());
    let object = Object { checksum: checksum_of(&whole), bytes: whole.into(), content_type, reported_at };
    contents.objects.insert(key.to_owned(), object);
    contents.uploads.remove(id);
    xml(&format!(
        "<CompleteMultipartUploadResult><Key>{key}</Key><ETag>\"whole\"</ETag></CompleteMultipartUploadResult>"
    ))
}
