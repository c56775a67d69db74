//! Serves files as an object store does, and with every fault that a store, a network or an attacker can cause.
//!
//! `GET /origin/{name}?fault=...` serves a generated file of that name (`size` as in a script; `.png` and `.jpg` give
//! pictures, any other name gives a video). The same keys in a task's script apply the fault to the task's own links.
//!
//! | `fault` | what happens | `at` | `times` |
//! |---|---|---|---|
//! | `none` | nothing | | |
//! | `no_range` | `Range` is ignored: always 200 and the whole file, no `Accept-Ranges` | | |
//! | `wrong_range` | the range starts `at` bytes late, and `Content-Range` says so | shift, 1 | |
//! | `lying_range` | the range starts `at` bytes late, but `Content-Range` names the requested one | shift, 1 | |
//! | `wrong_total` | the total in `Content-Range` is `at` bytes too large | 1 | |
//! | `slow` | `rate` bytes per second (1,000) | | hits |
//! | `stall` | `at` bytes, then nothing; the connection stays open | half | hits |
//! | `drop` | `at` bytes, then the connection is closed | half | hits |
//! | `truncated` | the file ends after `at` bytes, and the headers agree | half | hits |
//! | `long_length` | `Content-Length` is `at` bytes too large | 1 | hits |
//! | `no_length` | no `Content-Length`, chunked | | hits |
//! | `change` | after `times` requests (1), another file of the same length, with another `ETag` | | before |
//! | `change_silently` | the same, but with the same `ETag` | | before |
//! | `no_etag` | no `ETag` and no `Last-Modified` | | |
//! | `html` | an HTML error page with status 200 and `text/html` | | hits |
//! | `html_as_video` | an HTML error page with status 200 and the file's media type | | hits |
//! | `json` | a JSON error with status 200 and the file's media type | | hits |
//! | `empty` | 200 and an empty body | | hits |
//! | `gzip` | the file with an unrequested `Content-Encoding: gzip` | | hits |
//! | `redirect` | `hops` redirects (1), then the file | | |
//! | `redirect_loop` | an endless chain of redirects | | |
//! | `redirect_private` | a redirect to the cloud metadata address; over HTTPS, so that only the address gives it away | | |
//! | `redirect_local` | a redirect to port 1 of `localhost` | | |
//! | `redirect_scheme` | a redirect to a `file:` URL | | |
//! | `too_many` | 429 with `Retry-After: 1` | | hits |
//! | `unavailable` | 503 with `Retry-After: 1` | | hits |
//! | `forbidden` | 403: what a store without list permission returns for a file that does not exist yet | | hits |
//! | `not_found` | 404 | | hits |
//! | `expires` | the first request gets `at` bytes and a closed connection, later ones 403 | half | links |
//!
//! What `times` counts: *hits*, the requests that see the fault (default: all); *before*, the requests that come before it;
//! *links*, the links to a task's file that expire this way (default: all). Links issued after those work.

use std::{io, sync::Arc, time::Duration};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use crate::media::{self, Content};

/// What goes wrong with a file. The table in the documentation of this module describes each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FaultKind {
    /// `none`
    #[default]
    None,
    /// `no_range`
    NoRange,
    /// `wrong_range`
    WrongRange,
    /// `lying_range`
    LyingRange,
    /// `wrong_total`
    WrongTotal,
    /// `slow`
    Slow,
    /// `stall`
    Stall,
    /// `drop`
    Drop,
    /// `truncated`
    Truncated,
    /// `long_length`
    LongLength,
    /// `no_length`
    NoLength,
    /// `change`
    Change,
    /// `change_silently`
    ChangeSilently,
    /// `no_etag`
    NoEtag,
    /// `html`
    Html,
    /// `html_as_video`
    HtmlAsVideo,
    /// `json`
    Json,
    /// `empty`
    Empty,
    /// `gzip`
    Gzip,
    /// `redirect`
    Redirect,
    /// `redirect_loop`
    RedirectLoop,
    /// `redirect_private`
    RedirectPrivate,
    /// `redirect_local`
    RedirectLocal,
    /// `redirect_scheme`
    RedirectScheme,
    /// `too_many`
    TooMany,
    /// `unavailable`
    Unavailable,
    /// `forbidden`
    Forbidden,
    /// `not_found`
    NotFound,
    /// `expires`
    Expires,
}

impl FaultKind {
    /// Every fault with its name in scripts, for tests that must cover all of them.
    pub const NAMES: [(&'static str, Self); 29] = [
        ("none", Self::None),
        ("no_range", Self::NoRange),
        ("wrong_range", Self::WrongRange),
        ("lying_range", Self::LyingRange),
        ("wrong_total", Self::WrongTotal),
        ("slow", Self::Slow),
        ("stall", Self::Stall),
        ("drop", Self::Drop),
        ("truncated", Self::Truncated),
        ("long_length", Self::LongLength),
        ("no_length", Self::NoLength),
        ("change", Self::Change),
        ("change_silently", Self::ChangeSilently),
        ("no_etag", Self::NoEtag),
        ("html", Self::Html),
        ("html_as_video", Self::HtmlAsVideo),
        ("json", Self::Json),
        ("empty", Self::Empty),
        ("gzip", Self::Gzip),
        ("redirect", Self::Redirect),
        ("redirect_loop", Self::RedirectLoop),
        ("redirect_private", Self::RedirectPrivate),
        ("redirect_local", Self::RedirectLocal),
        ("redirect_scheme", Self::RedirectScheme),
        ("too_many", Self::TooMany),
        ("unavailable", Self::Unavailable),
        ("forbidden", Self::Forbidden),
        ("not_found", Self::NotFound),
        ("expires", Self::Expires),
    ];
}

/// A fault with its parameters. The table is in the documentation of this module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// What goes wrong.
    pub kind: FaultKind,
    /// The byte of the response at which it happens, or a number of bytes.
    pub at: Option<u64>,
    /// Bytes per second.
    pub rate: Option<u64>,
    /// How many requests see it, or do not.
    pub times: Option<u32>,
    /// Number of redirects.
    pub hops: Option<u32>,
}

impl Fault {
    /// Sets a key of a script or query; `None` if the key or value is unknown.
    pub(crate) fn set(&mut self, key: &str, value: &str) -> Option<()> {
        match key {
            "fault" => self.kind = FaultKind::NAMES.iter().find(|(name, _)| *name == value)?.1,
            "at" => self.at = Some(value.parse().ok()?),
            "rate" => self.rate = Some(value.parse().ok().filter(|rate| *rate > 0)?),
            "times" => self.times = Some(value.parse().ok()?),
            "hops" => self.hops = Some(value.parse().ok()?),
            _ => return None,
        }
        Some(())
    }

    pub(crate) fn hits(&self, prior_requests: u32) -> bool {
        self.times.is_none_or(|times| prior_requests < times)
    }
}

/// A request for a file.
pub(crate) struct Request<'a> {
    pub(crate) method: &'a Method,
    pub(crate) headers: &'a HeaderMap,
    /// Path and query without the `hop` that a redirect adds.
    pub(crate) target: &'a str,
    /// Redirects so far.
    pub(crate) hop: u32,
    /// Earlier requests for this file.
    pub(crate) prior_requests: u32,
}

/// The query parameter that counts redirects.
const HOP: &str = "hop=";

/// Splits the redirect counter off a target.
pub(crate) fn without_hop(target: &str) -> (&str, u32) {
    target
        .rsplit_once(['?', '&'])
        .and_then(|(target, last)| Some((target, last.strip_prefix(HOP)?.parse().ok()?)))
        .unwrap_or((target, 0))
}

fn with_hop(target: &str, hop: u32) -> String {
    let mark = if target.contains('?') { '&' } else { '?' };
    format!("{target}{mark}{HOP}{hop}")
}

const PAGE: &str = "<!DOCTYPE html>\n<html><head><title>Error</title></head><body><h1>Something went wrong</h1>\
                    <p>Please try again later.</p></body></html>\n";

const JSON: &str = "{\"code\":500,\"message\":\"Something went wrong. Please try again later.\"}\n";

/// The other file, of the same length, that a file turns into when it changes.
pub(crate) fn changed(content: &Content, seed: &str) -> Content {
    Content::video(&format!("{seed} changed"), Some(content.length()))
}

/// Serves `content` with a fault. `seed` determines its `ETag`, and the file that it turns into when it changes.
pub(crate) fn serve(request: &Request<'_>, content: &Arc<Content>, seed: &str, fault: Fault) -> Response {
    let hit = fault.hits(request.prior_requests);
    let length = content.length();
    match fault.kind {
        FaultKind::Redirect if request.hop < fault.hops.unwrap_or(1) => {
            redirect(&with_hop(request.target, request.hop + 1))
        }
        FaultKind::RedirectLoop => redirect(&with_hop(request.target, request.hop + 1)),
        FaultKind::RedirectPrivate => redirect("https://169.254.169.254/latest/meta-data/iam/security-credentials/"),
        FaultKind::RedirectLocal => redirect("https://localhost:1/internal"),
        FaultKind::RedirectScheme => redirect("file:///etc/hostname"),
        FaultKind::TooMany if hit => try_later(StatusCode::TOO_MANY_REQUESTS),
        FaultKind::Unavailable if hit => try_later(StatusCode::SERVICE_UNAVAILABLE),
        FaultKind::Forbidden if hit => xml_error(StatusCode::FORBIDDEN, "AccessDenied", "Access Denied"),
        FaultKind::NotFound if hit => {
            xml_error(StatusCode::NOT_FOUND, "NoSuchKey", "The specified key does not exist.")
        }
        FaultKind::Expires if request.prior_requests > 0 => {
            xml_error(StatusCode::FORBIDDEN, "AccessDenied", "Request has expired")
        }
        FaultKind::Html if hit => plain(StatusCode::OK, "text/html; charset=utf-8", PAGE),
        FaultKind::HtmlAsVideo if hit => plain(StatusCode::OK, content.content_type(), PAGE),
        FaultKind::Json if hit => plain(StatusCode::OK, content.content_type(), JSON),
        FaultKind::Empty if hit => plain(StatusCode::OK, content.content_type(), ""),
        FaultKind::Gzip if hit => {
            let mut response = plain(StatusCode::OK, content.content_type(), media::gzip(&content.to_vec()));
            response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            response
        }
        FaultKind::Truncated if hit => {
            let end = fault.at.unwrap_or(length / 2).min(length);
            let mut bytes = vec![0; usize::try_from(end).unwrap_or_default()];
            content.read_at(0, &mut bytes);
            plain(StatusCode::OK, content.content_type(), bytes)
        }
        FaultKind::Change | FaultKind::ChangeSilently if request.prior_requests >= fault.times.unwrap_or(1) => {
            let changed = Arc::new(changed(content, seed));
            let tag = if fault.kind == FaultKind::Change { format!("{seed} changed") } else { seed.to_owned() };
            part(request, &changed, &tag, Fault::default(), true)
        }
        _ => part(request, content, seed, fault, hit),
    }
}

/// The whole file or the requested range, with the faults that affect headers and flow.
fn part(request: &Request<'_>, content: &Arc<Content>, seed: &str, fault: Fault, hit: bool) -> Response {
    let length = content.length();
    let etag = format!("\"{:016x}\"", media::digest(&format!("{seed} {length}")));
    let modified = "Thu, 01 Jan 2026 00:00:00 GMT";
    let given = |name| request.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());

    if given(header::IF_MATCH).is_some_and(|wanted| wanted != "*" && !wanted.split(',').any(|tag| tag.trim() == etag)) {
        return xml_error(StatusCode::PRECONDITION_FAILED, "PreconditionFailed", "The object has changed");
    }
    let same = given(header::IF_RANGE).is_none_or(|wanted| wanted == etag || wanted == modified);
    let requested = given(header::RANGE).filter(|_| same && fault.kind != FaultKind::NoRange);
    let (status, start, end) = match requested.map(|range| parse_range(range, length)) {
        None | Some(Range::Ignored) => (StatusCode::OK, 0, length),
        Some(Range::Part(start, end)) => (StatusCode::PARTIAL_CONTENT, start, end),
        Some(Range::Unsatisfiable) => {
            let mut response =
                xml_error(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange", "The range cannot be satisfied");
            insert(&mut response, header::CONTENT_RANGE, &format!("bytes */{length}"));
            return response;
        }
    };

    let shift = fault.at.unwrap_or(1);
    let is_part = status == StatusCode::PARTIAL_CONTENT;
    let shifted =
        if is_part && matches!(fault.kind, FaultKind::WrongRange | FaultKind::LyingRange) { shift } else { 0 };
    let flow = match fault.kind {
        FaultKind::Slow if hit => Flow::Slow(fault.rate.unwrap_or(1000)),
        FaultKind::Stall if hit => Flow::Stall(fault.at.unwrap_or(length / 2)),
        FaultKind::Drop if hit => Flow::Drop(fault.at.unwrap_or(length / 2)),
        // The connection must close where the promised bytes are missing.
        FaultKind::LongLength if hit => Flow::Drop(end - start),
        FaultKind::Expires => Flow::Drop(fault.at.unwrap_or(length / 2)),
        _ => Flow::Free,
    };
    let (from, to) = ((start + shifted).min(length), (end + shifted).min(length));
    let body = if request.method == Method::HEAD { Body::empty() } else { flowing(content, from, to, flow) };

    let mut response = Response::new(body);
    *response.status_mut() = status;
    insert(&mut response, header::CONTENT_TYPE, content.content_type());
    if is_part {
        let named = if fault.kind == FaultKind::WrongRange { (from, to) } else { (start, end) };
        let total = if fault.kind == FaultKind::WrongTotal { length + shift } else { length };
        insert(
            &mut response,
            header::CONTENT_RANGE,
            &format!("bytes {}-{}/{total}", named.0, named.1.saturating_sub(1)),
        );
    }
    if fault.kind != FaultKind::NoRange {
        insert(&mut response, header::ACCEPT_RANGES, "bytes");
    }
    if fault.kind != FaultKind::NoEtag {
        insert(&mut response, header::ETAG, &etag);
        insert(&mut response, header::LAST_MODIFIED, modified);
    }
    if !(fault.kind == FaultKind::NoLength && hit) {
        let extra = if fault.kind == FaultKind::LongLength && hit { shift } else { 0 };
        insert(&mut response, header::CONTENT_LENGTH, &(to - from + extra).to_string());
    }
    response
}

/// A parsed `Range` header; the end is exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Range {
    /// Not a single byte range: the response is the whole file.
    Ignored,
    Part(u64, u64),
    Unsatisfiable,
}

fn parse_range(text: &str, length: u64) -> Range {
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|range| range.trim().split_once('-')) else {
        return Range::Ignored;
    };
    match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first > last => Range::Ignored,
        (Ok(first), _) if first >= length => Range::Unsatisfiable,
        (Ok(first), Ok(last)) => Range::Part(first, (last + 1).min(length)),
        (Ok(first), Err(_)) if last.is_empty() => Range::Part(first, length),
        (Err(_), Ok(0)) if first.is_empty() => Range::Unsatisfiable,
        (Err(_), Ok(last)) if first.is_empty() => Range::Part(length.saturating_sub(last), length),
        _ => Range::Ignored,
    }
}

/// How the bytes of a response are sent.
#[derive(Clone, Copy, Debug)]
enum Flow {
    Free,
    /// This many bytes per second.
    Slow(u64),
    /// This many bytes, then nothing.
    Stall(u64),
    /// This many bytes, then the connection closes.
    Drop(u64),
}

/// Bytes written at once: large enough to be fast, small enough that thousands of downloads fit in memory.
const PIECE: u64 = 64 * 1024;

fn flowing(content: &Arc<Content>, from: u64, to: u64, flow: Flow) -> Body {
    let content = Arc::clone(content);
    Body::from_stream(stream::unfold(from, move |position| {
        let content = Arc::clone(&content);
        async move {
            let mut piece = PIECE.min(to - position);
            let sent = position - from;
            match flow {
                Flow::Free => {}
                Flow::Slow(rate) => {
                    // Ten pieces per second, so that the flow is even at any rate.
                    piece = piece.min(rate.div_ceil(10));
                    if piece > 0 {
                        let pause = Duration::from_secs(1).mul_f64(f64_of(piece) / f64_of(rate));
                        tokio::time::sleep(pause).await;
                    }
                }
                Flow::Stall(limit) if sent >= limit => std::future::pending().await,
                Flow::Drop(limit) if sent >= limit => {
                    let error = io::Error::new(io::ErrorKind::ConnectionReset, "dropped by the fault");
                    // Without the pause, the server may close the connection before its buffer is sent.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    return Some((Err(error), position));
                }
                Flow::Stall(limit) | Flow::Drop(limit) => piece = piece.min(limit - sent),
            }
            if piece == 0 {
                return None;
            }
            let mut bytes = vec![0; usize::try_from(piece).unwrap_or_default()];
            let length = content.read_at(position, &mut bytes);
            bytes.truncate(length);
            Some((Ok(Bytes::from(bytes)), position + length as u64))
        }
    }))
}

fn f64_of(value: u64) -> f64 {
    f64::from(u32::try_from(value).unwrap_or(u32::MAX))
}

fn insert(response: &mut Response, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

fn redirect(location: &str) -> Response {
    let mut response = plain(StatusCode::FOUND, "text/plain", "");
    insert(&mut response, header::LOCATION, location);
    response
}

fn try_later(status: StatusCode) -> Response {
    let mut response = xml_error(status, "SlowDown", "Please reduce your request rate.");
    insert(&mut response, header::RETRY_AFTER, "1");
    response
}

pub(crate) fn plain(status: StatusCode, content_type: &str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    insert(&mut response, header::CONTENT_TYPE, content_type);
    response
}

/// An error page of an object store.
pub(crate) fn xml_error(status: StatusCode, code: &str, message: &str) -> Response {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message>\
         <RequestId>0A49CE4060975EAC</RequestId></Error>\n"
    );
    plain(status, "application/xml", body)
}

/// An error page of a CDN.
pub(crate) fn html_error(status: StatusCode) -> Response {
    let body = format!(
        "<html>\r\n<head><title>{status}</title></head>\r\n<body>\r\n<center><h1>{status}</h1></center>\r\n<hr>\
         <center>nginx</center>\r\n</body>\r\n</html>\r\n"
    );
    plain(status, "text/html", body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_parsed_as_the_rfc_says() {
        for (text, expected) in [
            ("bytes=0-9", Range::Part(0, 10)),
            ("bytes=90-", Range::Part(90, 100)),
            ("bytes=90-1000", Range::Part(90, 100)),
            ("bytes=-10", Range::Part(90, 100)),
            ("bytes=-1000", Range::Part(0, 100)),
            ("bytes=-0", Range::Unsatisfiable),
            ("bytes=100-", Range::Unsatisfiable),
            ("bytes=100-200", Range::Unsatisfiable),
            ("bytes=9-0", Range::Ignored),
            ("bytes=0-1,5-6", Range::Ignored),
            ("bytes=x-y", Range::Ignored),
            ("bytes=-", Range::Ignored),
            ("lines=1-2", Range::Ignored),
        ] {
            assert_eq!(parse_range(text, 100), expected, "{text}");
        }
    }

    #[test]
    fn the_redirect_counter_is_the_last_parameter_of_the_target() {
        for target in ["/files/a.mp4", "/files/a.mp4?token=1", "/origin/a?fault=redirect&hops=2"] {
            assert_eq!(without_hop(target), (target, 0));
            assert_eq!(without_hop(&with_hop(target, 3)), (target, 3));
        }
    }

    #[test]
    fn every_fault_has_a_unique_name() {
        for (name, kind) in FaultKind::NAMES {
            let mut fault = Fault::default();
            assert_eq!(fault.set("fault", name), Some(()));
            assert_eq!(fault.kind, kind);
        }
        assert_eq!(Fault::default().set("fault", "other"), None);
        assert_eq!(Fault::default().set("rate", "0"), None);
    }
}
