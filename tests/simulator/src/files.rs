//! Links to result files: how long they live, what they look like, and the server behind them.

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

/// How a link carries its end and its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Nothing to see: the token is in the path, the end is the provider's secret.
    Bare,
    /// A token in the query, no end (Kling).
    CacheKey,
    /// Presigned in the manner of TOS (Ark).
    Tos,
    /// Presigned in the manner of S3 (Vidu).
    Amazon,
    /// Presigned in the manner of OSS (`MiniMax`, first API generation).
    Oss,
    /// An end and a signature (`MiniMax`, second API generation).
    Expires,
}

impl Style {
    /// Presigned for GET, so that HEAD has the wrong signature.
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

/// A link that was given out.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) task_id: String,
    /// The number of the file within the task.
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

/// What a request for a link meets.
pub(crate) struct Found {
    pub(crate) link: Link,
    /// Requests for the file before this one.
    pub(crate) earlier: u32,
    pub(crate) not_ready: u32,
    pub(crate) fault: Fault,
    pub(crate) name: String,
    pub(crate) seed: String,
    pub(crate) content: Arc<Content>,
}

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// How long a link lives when no script says otherwise; the provider files say which of these are confirmed.
pub(crate) fn life(dialect: Dialect, kind: FileKind, purpose: Purpose) -> Duration {
    match dialect {
        Dialect::KlingNew | Dialect::KlingLegacy => 30 * DAY,
        Dialect::MaxApi => 7 * DAY,
        Dialect::MiniMaxFirst => 9 * HOUR,
        Dialect::MiniMaxSecond => HOUR,
        Dialect::Vidu if kind == FileKind::Cover => HOUR,
        Dialect::KieRunway | Dialect::KieVeo | Dialect::KieMarket if purpose == Purpose::Refresh => {
            Duration::from_mins(20)
        }
        Dialect::KieRunway | Dialect::KieVeo | Dialect::KieMarket => 14 * DAY,
        Dialect::ApiMart | Dialect::Ark | Dialect::Vidu | Dialect::Apimp(_) | Dialect::RelayDance(_) => DAY,
    }
}

/// Whether a status call gives a new link for one that is there already.
pub(crate) fn renewed_by_status(dialect: Dialect, dead: bool) -> bool {
    match dialect {
        // Signed at the time of asking.
        Dialect::Vidu | Dialect::MiniMaxSecond => true,
        // KIE replaces a dead link by another call only; New API keeps the link that it read once, dead or not.
        Dialect::KieRunway | Dialect::KieVeo | Dialect::KieMarket | Dialect::RelayDance(_) => false,
        // None of the others says what happens: the simulator is kind to those who ask again.
        _ => dead,
    }
}

/// How the links of a provider look.
pub(crate) fn style(dialect: Dialect, kind: FileKind, purpose: Purpose) -> Style {
    // Where an upstream made the file, the link is the upstream's own, in the callback and in the status.
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
    life: Duration,
) -> String {
    let key = format!("{token:016x}");
    let signature = format!("{key}{:016x}", media::mix(token));
    // Rounded up: a link never says that it is dead while it works.
    let seconds = life.as_secs() + u64::from(life.subsec_nanos() > 0);
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

/// Serves what is behind a link.
pub(crate) async fn serve(State(world): State<Arc<World>>, uri: Uri, method: Method, headers: HeaderMap) -> Response {
    let target = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let (target, hop) = origin::without_hop(target);
    let found = world.open_link(target);
    let response = match &found {
        // A changed query is a wrong signature, and a wrong path is nobody's file: both are told the same way.
        None => origin::xml_error(StatusCode::FORBIDDEN, "SignatureDoesNotMatch", "The signature does not match"),
        Some(found) => answer(found, target, hop, &method, &headers),
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

fn answer(found: &Found, target: &str, hop: u32, method: &Method, headers: &HeaderMap) -> Response {
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
    if target.starts_with("/files/kie/") && !has_own_agent(headers) {
        return origin::html_error(StatusCode::FORBIDDEN);
    }
    if found.earlier < found.not_ready {
        return style.error(StatusCode::NOT_FOUND, "NoSuchKey", "The specified key does not exist.");
    }
    let earlier = match found.fault.kind {
        // Its further requests do not come here: the link has ended.
        FaultKind::Expires => 0,
        _ => found.earlier.saturating_sub(found.not_ready),
    };
    let request = origin::Request { method, headers, target, hop, earlier };
    origin::serve(&request, &found.content, &found.seed, found.fault)
}

/// KIE's file host turns away the `User-Agent` that a library sends when nobody gave it one (seen in the wild).
fn has_own_agent(headers: &HeaderMap) -> bool {
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
            return origin::plain(StatusCode::BAD_REQUEST, "text/plain", format!("unknown: {key}={value}\n"));
        }
    }
    let content = Arc::new(origin_content(name, size));
    // The redirects of one download are one request.
    let earlier = if hop == 0 { world.count_origin(target) } else { 0 };
    let request = origin::Request { method: &method, headers: &headers, target, hop, earlier };
    origin::serve(&request, &content, name, fault)
}

/// What the faulty origin has under a name.
pub(crate) fn origin_content(name: &str, size: Option<u64>) -> Content {
    match name.rsplit('.').next() {
        Some("png") => Content::png(name),
        Some("jpg" | "jpeg") => Content::jpeg(name),
        _ => Content::video(name, size),
    }
}
