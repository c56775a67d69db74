//! Links to result files: how long they live, what they look like, and how they are served.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{extract::State, response::Response};
use http::{HeaderMap, Method, StatusCode, Uri, header};

use crate::{
    clock,
    media::{self, Content},
    origin::{self, Fault, FaultKind},
    provider::{Dialect, Provider},
    record::{FileKind, FileRequest},
    script::LinkFate,
    world::{Purpose, World},
};

/// Where a link carries its expiry and its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// A token in the path; the link does not show its expiry.
    Bare,
    /// A token in the query, no expiry (Kling).
    CacheKey,
    /// Presigned as by TOS (Ark).
    Tos,
    /// Presigned as by S3 (Vidu).
    Amazon,
    /// Presigned as by OSS (`MiniMax`, first API generation).
    Oss,
    /// An expiry and a signature (`MiniMax`, second API generation).
    Expires,
}

impl Style {
    /// Whether the link is presigned for GET only, so that HEAD fails the signature check.
    const fn refuses_head(self) -> bool {
        matches!(self, Self::Tos | Self::Amazon | Self::Oss)
    }

    fn error(self, status: StatusCode, code: &str, message: &str) -> Response {
        match self {
            Self::Tos | Self::Amazon | Self::Oss => origin::xml_error(status, code, message),
            _ => origin::html_error(status),
        }
    }
}

/// An issued link.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) task_id: String,
    /// The index of the file within the task.
    pub(crate) file: usize,
    pub(crate) fate: LinkFate,
    pub(crate) style: Style,
    pub(crate) expires_at: SystemTime,
}

impl Link {
    pub(crate) fn works(&self, now: SystemTime) -> bool {
        self.fate == LinkFate::Alive && now < self.expires_at
    }
}

/// What to serve for a link.
pub(crate) struct Found {
    pub(crate) link: Link,
    /// Earlier requests for this file.
    pub(crate) prior_requests: u32,
    pub(crate) not_ready: u32,
    pub(crate) fault: Fault,
    pub(crate) name: String,
    pub(crate) seed: String,
    pub(crate) content: Arc<Content>,
}

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// How long a link lives, unless the script says otherwise. The provider modules say which of these are confirmed.
pub(crate) fn ttl(dialect: Dialect, kind: FileKind, purpose: Purpose) -> Duration {
    match dialect {
        Dialect::KlingNew | Dialect::KlingLegacy => 30 * DAY,
        Dialect::MaxApi | Dialect::WaveSpeed => 7 * DAY,
        Dialect::MiniMaxFirst => 9 * HOUR,
        Dialect::MiniMaxSecond | Dialect::Replicate => HOUR,
        Dialect::Vidu if kind == FileKind::Cover => HOUR,
        Dialect::KieRunway | Dialect::KieVeo | Dialect::KieMarket if purpose == Purpose::Refresh => {
            Duration::from_mins(20)
        }
        Dialect::KieRunway | Dialect::KieVeo | Dialect::KieMarket => 14 * DAY,
        Dialect::ApiMart | Dialect::Ark | Dialect::Vidu | Dialect::Apimp(_) | Dialect::RelayDance(_) => DAY,
    }
}

/// Whether a status response replaces an existing link.
pub(crate) fn renewed_by_status(dialect: Dialect, dead: bool) -> bool {
    match dialect {
        // Presigned on every request.
        Dialect::Vidu | Dialect::MiniMaxSecond => true,
        // KIE replaces a dead link in a separate call only; New API caches the first link that it reads, dead or not.
        // Replicate deletes the file.
        Dialect::KieRunway | Dialect::KieVeo | Dialect::KieMarket | Dialect::RelayDance(_) | Dialect::Replicate => {
            false
        }
        // Not documented for the others: the simulator replaces dead links.
        _ => dead,
    }
}

/// What the provider's links look like.
pub(crate) fn style(dialect: Dialect, kind: FileKind, purpose: Purpose) -> Style {
    // If an upstream makes the file, callbacks and status responses have the upstream's own link.
    match dialect.of_callback() {
        Dialect::KlingNew | Dialect::KlingLegacy => Style::CacheKey,
        Dialect::Ark => Style::Tos,
        Dialect::Vidu => Style::Amazon,
        Dialect::MiniMaxFirst => Style::Oss,
        Dialect::MiniMaxSecond => Style::Expires,
        Dialect::KieRunway | Dialect::KieVeo | Dialect::KieMarket
            if purpose == Purpose::Refresh && kind == FileKind::Video =>
        {
            Style::Expires
        }
        _ => Style::Bare,
    }
}

/// Path and query of a new link.
pub(crate) fn target(
    provider: Provider,
    style: Style,
    token: u64,
    name: &str,
    now: SystemTime,
    ttl: Duration,
) -> String {
    let key = format!("{token:016x}");
    let signature = format!("{key}{:016x}", media::mix(token));
    // Rounded up, so that no link works past the expiry it shows.
    let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
    let date = clock::compact(now);
    let end = clock::seconds(clock::later(now, Duration::from_secs(seconds)));
    match style {
        Style::Bare => {
            let (stem, extension) = name.rsplit_once('.').unwrap_or((name, "mp4"));
            let day = clock::without_zone(now).replace('-', "/");
            format!("/files/{provider}/{}/{signature}-{stem}.{extension}", &day[..10])
        }
        Style::CacheKey => format!("/files/{provider}/ksc2/{key}/{name}?cacheKey={signature}"),
        Style::Tos => format!(
            "/files/{provider}/{key}/{name}?X-Tos-Algorithm=TOS4-HMAC-SHA256&X-Tos-Credential=simulator%2F{}%2Fcn-beijing\
             %2Ftos%2Frequest&X-Tos-Date={date}&X-Tos-Expires={seconds}&X-Tos-SignedHeaders=host&X-Tos-Signature={signature}",
            &date[..8]
        ),
        Style::Amazon => format!(
            "/files/{provider}/{key}/creation-01/{name}?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=simulator%2F{}\
             %2Fcn-northwest-1%2Fs3%2Faws4_request&X-Amz-Date={date}&X-Amz-Expires={seconds}&X-Amz-SignedHeaders=host\
             &X-Amz-Signature={signature}",
            &date[..8]
        ),
        Style::Oss => format!(
            "/files/{provider}/inference_output%2Fvideo%2F{key}%2F{name}?Expires={end}&OSSAccessKeyId=simulator\
             &Signature={signature}"
        ),
        Style::Expires => format!("/files/{provider}/{key}/{name}?Expires={end}&Signature={signature}"),
    }
}

/// Serves the file behind a link.
pub(crate) async fn serve(State(world): State<Arc<World>>, uri: Uri, method: Method, headers: HeaderMap) -> Response {
    let target = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let (target, hop) = origin::without_hop(target);
    let found = world.open_link(target);
    let response = match &found {
        // A changed query fails the signature check; an unknown path gets the same response.
        None => origin::xml_error(StatusCode::FORBIDDEN, "SignatureDoesNotMatch", "The signature does not match"),
        Some(found) => respond(found, target, hop, &method, &headers),
    };
    world.log_file_request(FileRequest {
        task_id: found.as_ref().map(|found| found.link.task_id.clone()).unwrap_or_default(),
        name: found.map_or_else(|| uri.path().to_owned(), |found| found.name),
        method: method.to_string(),
        range: headers.get(header::RANGE).and_then(|value| value.to_str().ok()).map(str::to_owned),
        status: response.status().as_u16(),
        at: SystemTime::now(),
    });
    response
}

fn respond(found: &Found, target: &str, hop: u32, method: &Method, headers: &HeaderMap) -> Response {
    let Link { style, fate, expires_at, .. } = found.link;
    if method == Method::HEAD && style.refuses_head() {
        return style.error(StatusCode::FORBIDDEN, "SignatureDoesNotMatch", "The link is signed for GET");
    }
    match fate {
        LinkFate::Gone => return style.error(StatusCode::NOT_FOUND, "NoSuchKey", "The specified key does not exist."),
        LinkFate::Dead | LinkFate::Lost => {
            return style.error(StatusCode::FORBIDDEN, "AccessDenied", "Request has expired");
        }
        LinkFate::Alive => {}
    }
    if SystemTime::now() >= expires_at {
        return style.error(StatusCode::FORBIDDEN, "AccessDenied", "Request has expired");
    }
    if target.starts_with("/files/kie/") && !has_custom_user_agent(headers) {
        return origin::html_error(StatusCode::FORBIDDEN);
    }
    if found.prior_requests < found.not_ready {
        return style.error(StatusCode::NOT_FOUND, "NoSuchKey", "The specified key does not exist.");
    }
    let prior_requests = match found.fault.kind {
        // Later requests do not get here: the link has expired.
        FaultKind::Expires => 0,
        _ => found.prior_requests.saturating_sub(found.not_ready),
    };
    let request = origin::Request { method, headers, target, hop, prior_requests };
    origin::serve(&request, &found.content, &found.seed, found.fault)
}

/// KIE's file host rejects the default `User-Agent` of HTTP libraries (seen in the wild).
fn has_custom_user_agent(headers: &HeaderMap) -> bool {
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let libraries = ["python-", "reqwest", "Go-http-client", "okhttp", "hyper", "aws-sdk", "Java/", "node"];
    !agent.is_empty() && !libraries.iter().any(|library| agent.starts_with(library))
}

/// Serves a file of the faulty origin.
pub(crate) async fn serve_origin(
    State(world): State<Arc<World>>,
    uri: Uri,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let target = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let (target, hop) = origin::without_hop(target);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let name = path.rsplit('/').next().unwrap_or_default();
    let mut fault = Fault::default();
    let mut size = None;
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let known = match &*key {
            "size" => value.parse().map(|number| size = Some(number)).ok(),
            key => fault.set(key, &value),
        };
        if known.is_none() {
            return origin::plain(
                StatusCode::BAD_REQUEST,
                "text/plain",
                format!("unknown key or value: {key}={value}\n"),
            );
        }
    }
    let content = Arc::new(origin_content(name, size));
    // A download counts once, however often it is redirected.
    let prior_requests = if hop == 0 { world.count_origin(target) } else { 0 };
    let request = origin::Request { method: &method, headers: &headers, target, hop, prior_requests };
    origin::serve(&request, &content, name, fault)
}

/// The content that the faulty origin serves under a name.
pub(crate) fn origin_content(name: &str, size: Option<u64>) -> Content {
    match name.rsplit('.').next() {
        Some("png") => Content::png(name),
        Some("jpg" | "jpeg") => Content::jpeg(name),
        _ => Content::video(name, size),
    }
}
