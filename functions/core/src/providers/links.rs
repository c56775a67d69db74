//! The links of a result, with their kinds and expiries.

use std::time::Duration;

use serde_json::Value;
use url::Url;

use super::json::timestamp;
use crate::expiry;
use crate::redacted::SignedUrl;
use crate::report::{Artifact, Kind, Source, TaskStatus};
use crate::time::Timestamp;

/// Longest link that is accepted, in bytes. Presigned links have 1 to 2 KB; chosen freely above that.
const MAX_LINK: usize = 8 * 1024;

/// Maximum number of links of one result. Chosen freely: several times what any provider creates.
const MAX_ARTIFACTS: usize = 50;

/// What a link leads to by the file extension of its path, for providers that do not say so.
fn kind_by_extension(link: &str, otherwise: Kind) -> Kind {
    let path = link.split(['?', '#']).next().unwrap_or(link);
    let extension = path.rsplit('/').next().and_then(|file| file.rsplit_once('.')).map(|(_, extension)| extension);
    match extension.map(str::to_ascii_lowercase).as_deref() {
        Some("mp4" | "mov" | "webm" | "m4v" | "mkv" | "avi") => Kind::Video,
        Some("png" | "jpg" | "jpeg" | "webp" | "gif" | "avif" | "heic") => Kind::Image,
        Some("mp3" | "wav" | "m4a" | "aac" | "ogg" | "flac") => Kind::Audio,
        _ => otherwise,
    }
}

/// The links of a result, in the order of the body. Values that are not links are skipped, repeated links are taken once.
pub(super) struct Links {
    created_at: Timestamp,
    life: Duration,
    artifacts: Vec<Artifact>,
}

impl Links {
    /// Links created at `created_at`. They live for `life` unless the body or the link itself says otherwise.
    pub(super) fn new(created_at: Timestamp, life: Duration) -> Self {
        Self { created_at, life, artifacts: Vec::new() }
    }

    /// Adds a link or a list of links.
    pub(super) fn add(&mut self, kind: Kind, links: &Value) {
        self.add_with_life(kind, links, self.life);
    }

    /// Adds links into the provider's own API, which requires the API key.
    pub(super) fn add_authorized(&mut self, kind: Kind, links: &Value) {
        self.push(|_| kind, links, None, self.life, Source::Authorized);
    }

    /// Adds links with a usual life of their own.
    pub(super) fn add_with_life(&mut self, kind: Kind, links: &Value, life: Duration) {
        self.push(|_| kind, links, None, life, Source::Url);
    }

    /// Adds links whose expiry the body states.
    pub(super) fn add_with_expiry(&mut self, kind: Kind, links: &Value, expires_at: &Value) {
        self.push(|_| kind, links, timestamp(expires_at), self.life, Source::Url);
    }

    /// Adds links whose kind their file extension tells; a video when it does not.
    pub(super) fn add_by_extension(&mut self, links: &Value) {
        self.push(|link| kind_by_extension(link, Kind::Video), links, None, self.life, Source::Url);
    }

    fn push(
        &mut self,
        kind: impl Fn(&str) -> Kind,
        links: &Value,
        stated: Option<Timestamp>,
        life: Duration,
        source: fn(SignedUrl) -> Source,
    ) {
        let links = match links {
            Value::Array(links) => links.as_slice(),
            link => std::slice::from_ref(link),
        };
        for link in links.iter().filter_map(Value::as_str).map(str::trim).filter(|link| is_link(link)) {
            let url = SignedUrl::new(link);
            let source = source(url.clone());
            if self.artifacts.len() >= MAX_ARTIFACTS {
                return;
            }
            if self.artifacts.iter().any(|known| known.source == source) {
                continue;
            }
            let expires_at = Some(expiry::of_link(stated, &url, self.created_at + life));
            self.artifacts.push(Artifact { kind: kind(link), source, expires_at });
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.artifacts.is_empty()
    }

    pub(super) fn into_artifacts(self) -> Vec<Artifact> {
        self.artifacts
    }

    /// A success with these links as its artifacts.
    pub(super) fn into_success(self) -> TaskStatus {
        TaskStatus::succeeded(self.artifacts)
    }
}

/// Whether a text is a link that can be fetched: an absolute `http` or `https` URL of at most [`MAX_LINK`] bytes, on one
/// line. (A URL parser silently drops line breaks and tabs, wherever they are.)
fn is_link(text: &str) -> bool {
    text.len() <= MAX_LINK
        && !text.contains(|letter: char| letter.is_ascii_control())
        && Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn links_are_trimmed_and_have_to_be_on_one_line() {
        let now = Timestamp::from_seconds(0);
        let mut links = Links::new(now, Duration::from_mins(1));
        links.add(
            Kind::Video,
            &json!([" https://a.test/v.mp4\n", "https://a.test/v.mp4", "ht\ntps://a.test/w", "https://a.\ttest/w"]),
        );
        let found = links.into_artifacts();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].source, Source::Url(SignedUrl::new("https://a.test/v.mp4")));
    }
}
