//! What an origin's responses to range requests mean.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fault::OriginFault;
use super::parts::{MIN_PIECE, Piece};

/// What tells two versions of a file at its origin apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Validator {
    /// A strong `ETag`, with its quotes.
    Etag(String),
    /// `Last-Modified`, word for word.
    Modified(String),
}

/// Longest validator that is kept: it goes into the record. The longest `ETag` seen has 66 characters.
const MAX_VALIDATOR_LENGTH: usize = 256;

impl Validator {
    /// The best validator a response has. A weak `ETag` vouches for the meaning of a file and not for its bytes, so it does
    /// not count ([RFC 9110, 13.1.5](https://www.rfc-editor.org/rfc/rfc9110#section-13.1.5)).
    pub fn from_headers(etag: Option<&str>, last_modified: Option<&str>) -> Option<Self> {
        let strong = etag.map(str::trim).filter(|etag| etag.len() > 2 && etag.starts_with('"') && etag.ends_with('"'));
        match strong {
            Some(etag) => Some(Self::Etag(etag.to_owned())),
            None => last_modified.map(|date| Self::Modified(date.trim().to_owned())),
        }
        .filter(|validator| !validator.text().is_empty() && validator.text().len() <= MAX_VALIDATOR_LENGTH)
    }

    /// As an `If-Range` header.
    pub fn text(&self) -> &str {
        match self {
            Self::Etag(text) | Self::Modified(text) => text,
        }
    }
}

/// One version of a file at its origin, of which pieces can be requested.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceVersion {
    /// Its length.
    pub length: u64,
    /// What tells it from another version.
    pub validator: Validator,
}

/// The part of an origin's response that decides what it means.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResponseHead<'a> {
    /// HTTP status.
    pub status: u16,
    /// `Content-Length`, if it is a number.
    pub content_length: Option<u64>,
    /// `Content-Range`.
    pub content_range: Option<&'a str>,
    /// `Content-Encoding`.
    pub content_encoding: Option<&'a str>,
    /// Whether the end of the body can be told from a dropped connection: it has a length, or comes in chunks.
    pub framed: bool,
    /// `ETag`.
    pub etag: Option<&'a str>,
    /// `Last-Modified`.
    pub last_modified: Option<&'a str>,
    /// `Retry-After`, as long as the origin made it.
    pub retry_after: Option<Duration>,
}

impl ResponseHead<'_> {
    fn validator(&self) -> Option<Validator> {
        Validator::from_headers(self.etag, self.last_modified)
    }

    fn is_encoded(&self) -> bool {
        self.content_encoding.is_some_and(|encoding| !matches!(encoding.trim(), "" | "identity"))
    }
}

/// What the response to the first request means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirstResponse {
    /// The first piece comes, and the others can be requested side by side.
    Ranged(SourceVersion),
    /// The whole file comes on this connection.
    Stream {
        /// Its length, where the origin says it.
        length: Option<u64>,
        /// Whether its end can be told from a dropped connection.
        framed: bool,
    },
    /// There is a file of no bytes.
    Empty,
    /// The origin made something of the range that cannot be used: the file has to be requested without one.
    RetryWithoutRange,
}

/// What the response to a request for a piece means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PieceResponse {
    /// The piece comes.
    Good,
    /// It is another version of the file, or the origin does not honour the range any more: what was read so far is void.
    Changed,
}

/// Reads the response to the first request, which was for the first [`MIN_PIECE`] (`ranged`) or for the whole file.
pub fn first_response(head: &ResponseHead<'_>, ranged: bool) -> Result<FirstResponse, OriginFault> {
    Ok(match head.status {
        200 | 203 if head.is_encoded() => return Err(OriginFault::Encoded),
        200 | 203 if head.content_length == Some(0) => FirstResponse::Empty,
        200 | 203 => FirstResponse::Stream { length: head.content_length, framed: head.framed },
        206 if !ranged => return Err(OriginFault::Unexpected { status: 206 }),
        206 if head.is_encoded() => return Err(OriginFault::Encoded),
        206 => match (head.content_range.and_then(ContentRange::parse), head.validator()) {
            (Some(ContentRange { start: 0, length, total: Some(total) }), Some(validator)) if length <= MIN_PIECE => {
                FirstResponse::Ranged(SourceVersion { length: total, validator })
            }
            (Some(ContentRange { start: 0, length, total: Some(total) }), _) if length == total => {
                FirstResponse::Stream { length: Some(total), framed: head.framed }
            }
            // A wrong range, a missing length, or nothing that tells two versions of the file apart.
            _ => FirstResponse::RetryWithoutRange,
        },
        204 => FirstResponse::Empty,
        416 if head.content_range.is_some_and(|range| range.trim() == "bytes */0") => FirstResponse::Empty,
        // 416 for the first byte of a file, 400 and 501: an origin that fails on the header itself.
        400 | 416 | 501 if ranged => FirstResponse::RetryWithoutRange,
        status => return Err(OriginFault::of_status(status, head.retry_after)),
    })
}

/// Reads the response to a request for `piece` of `source`, sent with `If-Range`.
pub fn piece_response(
    head: &ResponseHead<'_>,
    source: &SourceVersion,
    piece: Piece,
) -> Result<PieceResponse, OriginFault> {
    match head.status {
        206 if head.is_encoded() => Err(OriginFault::Encoded),
        206 => {
            let range = head.content_range.and_then(ContentRange::parse);
            let same = range.is_some_and(|range| {
                // An origin may send less than was requested; the rest is requested again.
                range.start == piece.start && range.length <= piece.length && range.total == Some(source.length)
            });
            // Origins that do not know If-Range send the piece of whatever is there now: its validator tells.
            let other_version = match (head.validator(), &source.validator) {
                (Some(Validator::Etag(now)), Validator::Etag(then))
                | (Some(Validator::Modified(now)), Validator::Modified(then)) => now != *then,
                // Caches that omit one of the two headers from a 206: nothing to compare.
                _ => false,
            };
            Ok(if same && !other_version { PieceResponse::Good } else { PieceResponse::Changed })
        }
        // 200: If-Range did not match. 412: likewise, from origins that take it for If-Match. 416: the file shrank.
        200 | 203 | 412 | 416 => Ok(PieceResponse::Changed),
        status => Err(OriginFault::of_status(status, head.retry_after)),
    }
}

/// A `Content-Range` header with a range in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ContentRange {
    start: u64,
    length: u64,
    total: Option<u64>,
}

impl ContentRange {
    /// Reads `bytes 0-99/1000` and `bytes 0-99/*`; none for anything else, or a range that lies behind its own end.
    fn parse(text: &str) -> Option<Self> {
        let (range, total) = text.trim().strip_prefix("bytes ")?.trim().split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let (start, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        let total = match total.trim() {
            "*" => None,
            total => Some(total.parse().ok()?),
        };
        if last < start || last == u64::MAX || total.is_some_and(|total| last >= total) {
            return None;
        }
        Some(Self { start, length: last - start + 1, total })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranged(content_range: &str) -> ResponseHead<'_> {
        ResponseHead {
            status: 206,
            content_range: Some(content_range),
            framed: true,
            etag: Some("\"a\""),
            ..ResponseHead::default()
        }
    }

    #[test]
    fn first_responses_mean_what_they_can_be_used_for() {
        let source =
            |length| Ok(FirstResponse::Ranged(SourceVersion { length, validator: Validator::Etag("\"a\"".into()) }));
        let stream = |length, framed| Ok(FirstResponse::Stream { length, framed });
        let plain = |status| ResponseHead { status, content_length: Some(5), framed: true, ..ResponseHead::default() };
        let unpinned = |range| ResponseHead { etag: Some("W/\"a\""), ..ranged(range) };
        for (head, ranged, expected) in [
            (ranged("bytes 0-8388607/45000000"), true, source(45_000_000)),
            (ranged("bytes 0-99/100"), true, source(100)),
            // Shorter than requested, and more to come: still a beginning.
            (ranged("bytes 0-99/45000000"), true, source(45_000_000)),
            // More than was requested.
            (ranged("bytes 0-44999999/45000000"), true, stream(Some(45_000_000), true)),
            (ranged("bytes 0-9999999/45000000"), true, Ok(FirstResponse::RetryWithoutRange)),
            (unpinned("bytes 0-8388607/45000000"), true, Ok(FirstResponse::RetryWithoutRange)),
            (unpinned("bytes 0-99/100"), true, stream(Some(100), true)),
            (ranged("bytes 1-8388608/45000000"), true, Ok(FirstResponse::RetryWithoutRange)),
            (ranged("bytes 0-8388607/*"), true, Ok(FirstResponse::RetryWithoutRange)),
            (ranged("bytes 5-1/45000000"), true, Ok(FirstResponse::RetryWithoutRange)),
            (ranged("bytes 0-100/100"), true, Ok(FirstResponse::RetryWithoutRange)),
            (ranged("items 0-99/100"), true, Ok(FirstResponse::RetryWithoutRange)),
            (ranged("bytes 0-18446744073709551615/18446744073709551615"), true, Ok(FirstResponse::RetryWithoutRange)),
            (ResponseHead { content_range: None, ..ranged("") }, true, Ok(FirstResponse::RetryWithoutRange)),
            (ranged("bytes 0-99/100"), false, Err(OriginFault::Unexpected { status: 206 })),
            (plain(200), true, stream(Some(5), true)),
            (plain(203), false, stream(Some(5), true)),
            (ResponseHead { content_length: None, ..plain(200) }, true, stream(None, true)),
            (ResponseHead { content_length: None, framed: false, ..plain(200) }, true, stream(None, false)),
            (ResponseHead { content_length: Some(0), ..plain(200) }, true, Ok(FirstResponse::Empty)),
            (plain(204), true, Ok(FirstResponse::Empty)),
            (ResponseHead { content_range: Some("bytes */0"), ..plain(416) }, true, Ok(FirstResponse::Empty)),
            (plain(416), true, Ok(FirstResponse::RetryWithoutRange)),
            (plain(416), false, Err(OriginFault::Unexpected { status: 416 })),
            (plain(400), true, Ok(FirstResponse::RetryWithoutRange)),
            (plain(400), false, Err(OriginFault::Unexpected { status: 400 })),
            (plain(501), false, Err(OriginFault::Status { status: 501, retry_after: None })),
            (ResponseHead { content_encoding: Some("gzip"), ..plain(200) }, true, Err(OriginFault::Encoded)),
            (ResponseHead { content_encoding: Some("identity"), ..plain(200) }, true, stream(Some(5), true)),
            (ResponseHead { content_encoding: Some("br"), ..ranged("bytes 0-9/10") }, true, Err(OriginFault::Encoded)),
            (plain(404), true, Err(OriginFault::NotThere { status: 404 })),
            (plain(304), true, Err(OriginFault::Unexpected { status: 304 })),
            (
                ResponseHead { retry_after: Some(Duration::from_secs(7)), ..plain(429) },
                true,
                Err(OriginFault::Status { status: 429, retry_after: Some(Duration::from_secs(7)) }),
            ),
        ] {
            assert_eq!(first_response(&head, ranged), expected, "{head:?}");
        }
    }

    #[test]
    fn a_piece_is_good_only_if_it_is_the_one_of_that_version() {
        use PieceResponse::{Changed, Good};
        let source = SourceVersion { length: 1000, validator: Validator::Etag("\"a\"".into()) };
        let piece = Piece { start: 100, length: 100 };
        for (head, expected) in [
            (ranged("bytes 100-199/1000"), Ok(Good)),
            (ranged("bytes 100-149/1000"), Ok(Good)),
            (ranged("bytes 100-200/1000"), Ok(Changed)),
            (ranged("bytes 99-199/1000"), Ok(Changed)),
            (ranged("bytes 100-199/1001"), Ok(Changed)),
            (ranged("bytes 100-199/*"), Ok(Changed)),
            (ResponseHead { content_range: None, ..ranged("") }, Ok(Changed)),
            (ResponseHead { etag: Some("\"b\""), ..ranged("bytes 100-199/1000") }, Ok(Changed)),
            (ResponseHead { etag: None, last_modified: Some("then"), ..ranged("bytes 100-199/1000") }, Ok(Good)),
            (
                ResponseHead { content_encoding: Some("gzip"), ..ranged("bytes 100-199/1000") },
                Err(OriginFault::Encoded),
            ),
            (ResponseHead { status: 200, ..ResponseHead::default() }, Ok(Changed)),
            (ResponseHead { status: 412, ..ResponseHead::default() }, Ok(Changed)),
            (ResponseHead { status: 416, ..ResponseHead::default() }, Ok(Changed)),
            (ResponseHead { status: 403, ..ResponseHead::default() }, Err(OriginFault::NotThere { status: 403 })),
            (
                ResponseHead { status: 500, ..ResponseHead::default() },
                Err(OriginFault::Status { status: 500, retry_after: None }),
            ),
            (ResponseHead { status: 302, ..ResponseHead::default() }, Err(OriginFault::Unexpected { status: 302 })),
        ] {
            assert_eq!(piece_response(&head, &source, piece), expected, "{head:?}");
        }
    }

    #[test]
    fn validators_are_strong_tags_or_dates() {
        let date = "Wed, 21 Oct 2026 07:28:00 GMT";
        let etag = |text: &str| Some(Validator::Etag(text.into()));
        let modified = Some(Validator::Modified(date.into()));
        let long = format!("\"{}\"", "x".repeat(MAX_VALIDATOR_LENGTH));
        for (tag, last_modified, expected) in [
            (Some("\"a\""), Some(date), etag("\"a\"")),
            (Some("W/\"a\""), Some(date), modified.clone()),
            (Some("a"), Some(date), modified.clone()),
            (Some("\"\""), None, None),
            (Some(long.as_str()), None, None),
            (None, Some(date), modified),
            (None, Some(" "), None),
            (None, None, None),
        ] {
            assert_eq!(Validator::from_headers(tag, last_modified), expected, "{tag:?} {last_modified:?}");
        }
    }
}
