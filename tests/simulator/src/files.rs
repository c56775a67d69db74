//! Links to result files: how long they live, what they look like, and how they are served.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{extract::State, response::Response};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use http::{HeaderMap, Method, StatusCode, Uri, header};

use crate::{
    clock,
    media::{self, Content},
    origin::{self, Fault, FaultKind},
    provider::{Dialect, Provider},
    record::FileRequest,
    script::LinkFate,
    world::World,
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
    /// Presigned as by OSS (Wan; `MiniMax`, first API generation).
    Oss,
    /// An expiry and a signature (`MiniMax`, second API generation).
    Expires,
    /// A JSON Web Token with the expiry (Runway).
    Token,
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
    pub(crate) dialect: Dialect,
    pub(crate) link: Link,
    /// Earlier requests for this file.
    pub(crate) prior_requests: u32,
    pub(crate) not_ready: u32,
    pub(crate) fault: Fault,
    pub(crate) name: String,
    pub(crate) seed: String,
    pub(crate) content: Arc<Content>,
}

pub(crate) const HOUR: Duration = Duration::from_hours(1);
pub(crate) const DAY: Duration = Duration::from_hours(24);

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
        Style::Token => {
            let part = |json: String| BASE64_URL_SAFE_NO_PAD.encode(json);
            let header = part(r#"{"alg":"HS256","typ":"JWT"}"#.to_owned());
            let claims = part(format!(r#"{{"keyHash":"{key}","bucket":"simulator","stage":"prod","exp":{end}}}"#));
            format!("/files/{provider}/{key}-{name}?_jwt={header}.{claims}.{}", part(signature))
        }
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
    if !found.dialect.api().serves(headers) {
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
