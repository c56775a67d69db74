//! How a file gets from an origin into the bucket: in which pieces, what an origin's answer means, when to try again, and
//! what of an unfinished copy is kept. Without input or output; the copier in `reelhook-aws` carries it out.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// 1 MiB.
pub const MEBIBYTE: u64 = 1 << 20;

/// Smallest piece, and what the first request asks for. S3 takes no part under 5 MiB but the last; 8 MiB is what the AWS
/// command line uses, and it lets seven pieces share the copier's memory.
pub const PIECE: u64 = 8 * MEBIBYTE;

/// Up to this length a file is written with one `PutObject`: twice a piece. A multipart upload would take two further round
/// trips and four requests instead of one, for a file that is there within a second.
pub const SINGLE_PUT: u64 = 2 * PIECE;

/// Most pieces of a file whose length is known. S3 takes 10,000 parts; finished ones are kept in the record of the task at
/// 36 bytes each, and an item of the table holds 400 KB.
pub const MOST_PIECES: u64 = 4_000;

/// Largest piece that is held in memory as a whole. A file above [`MOST_PIECES`] times this (62.5 GiB) has larger pieces,
/// which pass through instead.
pub const LARGEST_HELD_PIECE: u64 = 16 * MEBIBYTE;

/// Largest object: 5 TiB, what any S3 takes.
pub const LARGEST_OBJECT: u64 = 5 << 40;

/// Most parts of an upload, by S3.
pub const MOST_PARTS: u64 = 10_000;

/// Parts of a stream that have the size of a [`PIECE`]; later ones are of [`LARGEST_HELD_PIECE`]. Chosen so that a stream
/// below 16 GiB is cut like any other file.
const SMALL_PARTS_OF_A_STREAM: u64 = 2_000;

/// Longest stream that can be stored when it cannot be read in pieces: 140 GiB. It has to come within one invocation, and in
/// 15 minutes that would take 160 MiB a second, twice what a function's network gives.
pub const LONGEST_STREAM: u64 =
    SMALL_PARTS_OF_A_STREAM * PIECE + (MOST_PARTS - SMALL_PARTS_OF_A_STREAM) * LARGEST_HELD_PIECE;

/// Size of part `number` (from 1) of a file that comes as one stream.
pub fn stream_part_size(number: u64) -> u64 {
    if number <= SMALL_PARTS_OF_A_STREAM { PIECE } else { LARGEST_HELD_PIECE }
}

/// Size of the pieces of a file of this length: the smallest that stays within [`MOST_PIECES`], in whole MiB.
pub fn piece_size(length: u64) -> u64 {
    length.div_ceil(MOST_PIECES).next_multiple_of(MEBIBYTE).max(PIECE)
}

/// A range of bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where it begins.
    pub start: u64,
    /// How long it is; never 0.
    pub length: u64,
}

impl Piece {
    /// The piece with this number (from 0) of a file, or none behind its end.
    pub fn of(length: u64, piece_size: u64, number: u64) -> Option<Self> {
        let start = number.checked_mul(piece_size).filter(|start| *start < length)?;
        Some(Self { start, length: piece_size.min(length - start) })
    }

    /// The first byte behind it.
    pub fn end(self) -> u64 {
        self.start + self.length
    }

    /// What is missing of it after this many bytes.
    #[must_use]
    pub fn after(self, received: u64) -> Self {
        let received = received.min(self.length);
        Self { start: self.start + received, length: self.length - received }
    }

    /// As a `Range` header.
    pub fn range_header(self) -> String {
        format!("bytes={}-{}", self.start, self.end().saturating_sub(1))
    }
}

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
const LONGEST_VALIDATOR: usize = 256;

impl Validator {
    /// The best validator an answer gives. A weak `ETag` vouches for the meaning of a file and not for its bytes, so it does
    /// not count ([RFC 9110, 13.1.5](https://www.rfc-editor.org/rfc/rfc9110#section-13.1.5)).
    pub fn from_headers(etag: Option<&str>, last_modified: Option<&str>) -> Option<Self> {
        let strong = etag.map(str::trim).filter(|etag| etag.len() > 2 && etag.starts_with('"') && etag.ends_with('"'));
        match strong {
            Some(etag) => Some(Self::Etag(etag.to_owned())),
            None => last_modified.map(|date| Self::Modified(date.trim().to_owned())),
        }
        .filter(|validator| !validator.text().is_empty() && validator.text().len() <= LONGEST_VALIDATOR)
    }

    /// As an `If-Range` header.
    pub fn text(&self) -> &str {
        match self {
            Self::Etag(text) | Self::Modified(text) => text,
        }
    }
}

/// One version of a file at its origin, of which pieces can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Its length.
    pub length: u64,
    /// What tells it from another version.
    pub validator: Validator,
}

/// The part of an origin's answer that decides what it means.
#[derive(Clone, Copy, Debug, Default)]
pub struct Head<'a> {
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
    /// `Retry-After` in seconds.
    pub retry_after: Option<u32>,
}

impl Head<'_> {
    fn validator(&self) -> Option<Validator> {
        Validator::from_headers(self.etag, self.last_modified)
    }

    fn is_encoded(&self) -> bool {
        self.content_encoding.is_some_and(|encoding| !matches!(encoding.trim(), "" | "identity"))
    }
}

/// What the answer to the first request means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// The first piece comes, and the others can be asked for side by side.
    Ranged(Source),
    /// The whole file comes on this connection.
    Stream {
        /// Its length, where the origin says it.
        length: Option<u64>,
        /// Whether its end can be told from a dropped connection.
        framed: bool,
    },
    /// There is a file of no bytes.
    Empty,
    /// The origin made something of the range that cannot be used: the same has to be asked without one.
    AskWithoutRange,
    /// Nothing to read.
    Problem(Problem),
}

/// What the answer to a request for a piece means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PieceAnswer {
    /// The piece comes.
    Good,
    /// It is another version of the file, or the origin does not honour the range any more: what was read so far is void.
    Changed,
    /// Nothing to read.
    Problem(Problem),
}

/// Why there is nothing to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Not there, or not for us: not yet, or no longer. The age of the link decides which, not the status: object stores
    /// answer 403 to a signature that ran out as well as to a file that does not exist yet.
    NotThere(u16),
    /// The origin has trouble, and may be asked again after this many seconds.
    Later {
        /// HTTP status.
        status: u16,
        /// What it asked for.
        retry_after: Option<u32>,
    },
    /// The body is compressed although it was asked not to be: neither its length nor its bytes are the file's.
    Encoded,
    /// An answer that makes no sense here.
    Unexpected(u16),
}

/// Reads the answer to the first request, which asked for the first [`PIECE`] (`ranged`) or for the whole file.
pub fn opening(head: &Head<'_>, ranged: bool) -> Opening {
    match head.status {
        200 | 203 if head.is_encoded() => Opening::Problem(Problem::Encoded),
        200 | 203 if head.content_length == Some(0) => Opening::Empty,
        200 | 203 => Opening::Stream { length: head.content_length, framed: head.framed },
        206 if !ranged => Opening::Problem(Problem::Unexpected(206)),
        206 if head.is_encoded() => Opening::Problem(Problem::Encoded),
        206 => match (head.content_range.and_then(ContentRange::parse), head.validator()) {
            (Some(ContentRange { start: 0, length, total: Some(total) }), Some(validator)) if length <= PIECE => {
                Opening::Ranged(Source { length: total, validator })
            }
            (Some(ContentRange { start: 0, length, total: Some(total) }), _) if length == total => {
                Opening::Stream { length: Some(total), framed: head.framed }
            }
            // A wrong range, a missing length, or nothing that tells two versions of the file apart.
            _ => Opening::AskWithoutRange,
        },
        204 => Opening::Empty,
        416 if head.content_range.is_some_and(|range| range.trim() == "bytes */0") => Opening::Empty,
        // 416 for the first byte of a file, 400 and 501: an origin that stumbles over the header itself.
        400 | 416 | 501 if ranged => Opening::AskWithoutRange,
        status => Opening::Problem(problem(status, head.retry_after)),
    }
}

/// Reads the answer to a request for `piece` of `source`, sent with `If-Range`.
pub fn piece_answer(head: &Head<'_>, source: &Source, piece: Piece) -> PieceAnswer {
    match head.status {
        206 if head.is_encoded() => PieceAnswer::Problem(Problem::Encoded),
        206 => {
            let range = head.content_range.and_then(ContentRange::parse);
            let same = range.is_some_and(|range| {
                // An origin may give less than was asked for; the rest is asked for again.
                range.start == piece.start && range.length <= piece.length && range.total == Some(source.length)
            });
            // Origins that do not know If-Range send the piece of whatever is there now: its validator tells.
            let other_version = match (head.validator(), &source.validator) {
                (Some(Validator::Etag(now)), Validator::Etag(then))
                | (Some(Validator::Modified(now)), Validator::Modified(then)) => now != *then,
                // Caches that leave one of the two headers out of a 206: nothing to compare.
                _ => false,
            };
            if same && !other_version { PieceAnswer::Good } else { PieceAnswer::Changed }
        }
        // 200: If-Range did not match. 412: likewise, from origins that take it for If-Match. 416: the file shrank.
        200 | 203 | 412 | 416 => PieceAnswer::Changed,
        status => PieceAnswer::Problem(problem(status, head.retry_after)),
    }
}

/// What a status without a file means. Redirects are followed before this.
fn problem(status: u16, retry_after: Option<u32>) -> Problem {
    match status {
        // 202: being made. 451 and 402: withheld; no different to us.
        202 | 401 | 402 | 403 | 404 | 410 | 451 => Problem::NotThere(status),
        408 | 425 | 429 | 500..=599 => Problem::Later { status, retry_after },
        _ => Problem::Unexpected(status),
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

/// Seconds of a `Retry-After` header: a number, or a date that is compared with `now` in Unix seconds.
pub fn retry_after_seconds(text: &str, now: i64) -> Option<u32> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Some(seconds);
    }
    let date = httpdate::parse_http_date(text).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    let seconds = i64::try_from(date.as_secs()).ok()?.saturating_sub(now);
    Some(u32::try_from(seconds.max(0)).unwrap_or(u32::MAX))
}

/// Failures in a row, without progress between them, after which an origin is given up for this invocation. With the waits
/// of [`wait_before_retry`] they take about four seconds, longer than a fail-over of an object store takes.
pub const MOST_FAILURES: u32 = 5;

/// Bytes that count as progress: a connection that brings as much before it drops is no failure. 64 KiB a round trip is
/// still a file of 100 MB in a minute.
pub const PROGRESS: u64 = 64 * 1024;

/// Longest wait an origin may ask for (`Retry-After`) and get within the invocation; a longer one is left to the queue, which
/// waits at no cost.
pub const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// How long to wait before the next try after this many failures in a row, or none when this invocation should give up: the
/// failures are too many, or the origin asks for more than [`LONGEST_WAIT`].
pub fn wait_before_retry(failures: u32, retry_after: Option<u32>) -> Option<Duration> {
    if failures >= MOST_FAILURES {
        return None;
    }
    // 250 ms, doubled each time: chosen freely, a few round trips.
    let own = Duration::from_millis(250 << failures.saturating_sub(1).min(8));
    let asked = Duration::from_secs(retry_after.unwrap_or(0).into());
    (asked <= LONGEST_WAIT).then(|| own.max(asked))
}

/// How often a file may turn out to be another one while it is read.
pub const MOST_STARTS: u32 = 3;

/// What is kept of a copy that was not finished: enough to go on with the next delivery, where the origin still has the same
/// version of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedUpload {
    /// Id of the multipart upload.
    pub id: String,
    /// Key of the object.
    pub key: String,
    /// Content type of the object, recognised when its first bytes were seen.
    pub content_type: String,
    /// The version of the file at its origin.
    pub source: Source,
    /// Size of every piece but the last.
    pub piece_size: u64,
    /// Finished parts, by number.
    pub parts: SavedParts,
}

/// A finished part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavedPart {
    /// Number of the piece, from 0. The part's number is one more.
    pub piece: u16,
    /// CRC-64/NVME of its bytes.
    pub checksum: u64,
    /// Its `ETag`: 32 hexadecimal digits in every S3 there is, kept as bytes.
    pub etag: [u8; 16],
}

/// Bytes of a part in the stored form.
const SAVED_PART_LENGTH: usize = 2 + 8 + 16;

/// Finished parts; stored as one Base64 text of 26 bytes a part, so that 4,000 of them stay below 140 KB.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SavedParts(pub Vec<SavedPart>);

impl Serialize for SavedParts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::with_capacity(self.0.len() * SAVED_PART_LENGTH);
        for part in &self.0 {
            bytes.extend_from_slice(&part.piece.to_be_bytes());
            bytes.extend_from_slice(&part.checksum.to_be_bytes());
            bytes.extend_from_slice(&part.etag);
        }
        serializer.serialize_str(&BASE64.encode(bytes))
    }
}

impl<'de> Deserialize<'de> for SavedParts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let text = String::deserialize(deserializer)?;
        let bytes = BASE64.decode(text).map_err(|_| Error::custom("finished parts are not Base64"))?;
        let (parts, rest) = bytes.as_chunks::<SAVED_PART_LENGTH>();
        if !rest.is_empty() {
            return Err(Error::custom("finished parts are cut off"));
        }
        let parts = parts.iter().map(|bytes| {
            let mut part = SavedPart { piece: u16::from_be_bytes([bytes[0], bytes[1]]), checksum: 0, etag: [0; 16] };
            let mut checksum = [0; 8];
            checksum.copy_from_slice(&bytes[2..10]);
            part.checksum = u64::from_be_bytes(checksum);
            part.etag.copy_from_slice(&bytes[10..]);
            part
        });
        Ok(Self(parts.collect()))
    }
}

impl SavedPart {
    /// A part, or none when its `ETag` has another form than 32 hexadecimal digits: it is then copied again.
    pub fn new(piece: u64, checksum: u64, etag: &str) -> Option<Self> {
        let digits = etag.trim_matches('"').as_bytes();
        if digits.len() != 32 {
            return None;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self { piece: u16::try_from(piece).ok()?, checksum, etag: bytes })
    }

    /// Its `ETag` as S3 wants it back.
    pub fn etag_text(&self) -> String {
        format!("\"{}\"", crate::task::hexadecimal(&self.etag))
    }
}

/// Boxes that stand at the top level of an ISO base media file; a walk ends at anything else.
const TOP_LEVEL_BOXES: [&[u8; 4]; 14] = [
    b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"moof", b"mfra", b"sidx", b"styp", b"meta", b"uuid",
    b"pdin", b"emsg",
];

/// The length an MP4, MOV or RIFF file claims for itself, as far as can be seen: the end of the last top-level box whose
/// header can be read. None when it says nothing. A file that is shorter was cut off before it came to us.
///
/// `read` gives what it has of the file from an offset on; 16 bytes are enough, and fewer than 8 end the search.
pub fn claimed_length<'a>(read: impl Fn(u64) -> &'a [u8]) -> Option<u64> {
    let beginning = read(0);
    if beginning.starts_with(b"RIFF") {
        let size = u32::from_le_bytes(beginning.get(4..8)?.try_into().ok()?);
        // Encoders that write to a pipe leave the size at 0 or at its maximum.
        return (!matches!(size, 0 | u32::MAX)).then(|| u64::from(size) + 8);
    }
    let mut end = None;
    // A box is at least 8 bytes, so the walk ends; files have a handful of them.
    loop {
        let header = read(end.unwrap_or(0));
        if header.len() < 8 || !TOP_LEVEL_BOXES.iter().any(|name| header[4..8] == name[..]) {
            return end;
        }
        let size = match u32::from_be_bytes([header[0], header[1], header[2], header[3]]) {
            // To the end of the file.
            0 => return end,
            1 => match header.get(8..16) {
                Some(size) => u64::from_be_bytes(size.try_into().ok()?),
                None => return end,
            },
            size => size.into(),
        };
        if size < 8 {
            return end;
        }
        end = Some(end.unwrap_or(0).checked_add(size)?);
    }
}

/// Finished pieces whose speed is known before any is called slow.
const PIECES_TO_COMPARE: usize = 3;

/// A piece that takes this many times as long as the middle one is asked for again, from where it stands, on another
/// connection. Chosen freely: far outside the spread of healthy connections to one origin.
const SLOW: u32 = 3;

/// No piece is called slow before this time: setting up another connection takes a few round trips itself.
const NEVER_SLOW_BEFORE: Duration = Duration::from_secs(1);

/// How long a piece may take, given how long others of its length took; none when too few are known.
pub fn patience(others: &[Duration]) -> Option<Duration> {
    if others.len() < PIECES_TO_COMPARE {
        return None;
    }
    let mut sorted = others.to_vec();
    let middle = sorted.len() / 2;
    let (_, median, _) = sorted.select_nth_unstable(middle);
    Some((*median * SLOW).max(NEVER_SLOW_BEFORE))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIBIBYTE: u64 = 1 << 30;

    #[test]
    fn pieces_cover_a_file_of_any_length_within_the_limits_of_s3() {
        for (length, size, pieces) in [
            (1, 8, 1),
            (PIECE, 8, 1),
            (PIECE + 1, 8, 2),
            (20 * GIBIBYTE, 8, 2560),
            (MOST_PIECES * PIECE, 8, 4000),
            (MOST_PIECES * PIECE + 1, 9, 3556),
            (MOST_PIECES * LARGEST_HELD_PIECE, 16, 4000),
            (MOST_PIECES * LARGEST_HELD_PIECE + 1, 17, 3765),
            (LARGEST_OBJECT, 1311, 4000),
        ] {
            let in_pieces = piece_size(length);
            assert_eq!(in_pieces, size * MEBIBYTE, "{length}");
            assert_eq!(length.div_ceil(in_pieces), pieces, "{length}");
            assert!(pieces <= MOST_PIECES && in_pieces <= 5 * GIBIBYTE);
            let mut position = 0;
            for piece in (0..).map_while(|number| Piece::of(length, in_pieces, number)) {
                assert_eq!(piece.start, position);
                assert!(piece.length > 0);
                position = piece.end();
            }
            assert_eq!(position, length);
        }
        assert_eq!(Piece::of(0, PIECE, 0), None);
        assert_eq!(Piece::of(u64::MAX, PIECE, u64::MAX), None);
    }

    #[test]
    fn streams_fit_into_the_parts_of_an_upload() {
        assert_eq!((1..=MOST_PARTS).map(stream_part_size).sum::<u64>(), LONGEST_STREAM);
        const { assert!(LONGEST_STREAM > 140 * GIBIBYTE) };
    }

    #[test]
    fn ranges_are_inclusive() {
        let piece = Piece { start: 100, length: 50 };
        assert_eq!(piece.range_header(), "bytes=100-149");
        assert_eq!(piece.after(20).range_header(), "bytes=120-149");
        assert_eq!(piece.after(70).length, 0);
    }

    fn ranged(content_range: &str) -> Head<'_> {
        Head { status: 206, content_range: Some(content_range), framed: true, etag: Some("\"a\""), ..Head::default() }
    }

    #[test]
    fn first_answers_mean_what_they_can_be_used_for() {
        let source = |length| Opening::Ranged(Source { length, validator: Validator::Etag("\"a\"".into()) });
        let stream = |length, framed| Opening::Stream { length, framed };
        let plain = |status| Head { status, content_length: Some(5), framed: true, ..Head::default() };
        let unpinned = |range| Head { etag: Some("W/\"a\""), ..ranged(range) };
        for (head, ranged, expected) in [
            (ranged("bytes 0-8388607/45000000"), true, source(45_000_000)),
            (ranged("bytes 0-99/100"), true, source(100)),
            // Shorter than what was asked for, and more to come: still a beginning.
            (ranged("bytes 0-99/45000000"), true, source(45_000_000)),
            // More than what was asked for.
            (ranged("bytes 0-44999999/45000000"), true, stream(Some(45_000_000), true)),
            (ranged("bytes 0-9999999/45000000"), true, Opening::AskWithoutRange),
            (unpinned("bytes 0-8388607/45000000"), true, Opening::AskWithoutRange),
            (unpinned("bytes 0-99/100"), true, stream(Some(100), true)),
            (ranged("bytes 1-8388608/45000000"), true, Opening::AskWithoutRange),
            (ranged("bytes 0-8388607/*"), true, Opening::AskWithoutRange),
            (ranged("bytes 5-1/45000000"), true, Opening::AskWithoutRange),
            (ranged("bytes 0-100/100"), true, Opening::AskWithoutRange),
            (ranged("items 0-99/100"), true, Opening::AskWithoutRange),
            (ranged("bytes 0-18446744073709551615/18446744073709551615"), true, Opening::AskWithoutRange),
            (Head { content_range: None, ..ranged("") }, true, Opening::AskWithoutRange),
            (ranged("bytes 0-99/100"), false, Opening::Problem(Problem::Unexpected(206))),
            (plain(200), true, stream(Some(5), true)),
            (plain(203), false, stream(Some(5), true)),
            (Head { content_length: None, ..plain(200) }, true, stream(None, true)),
            (Head { content_length: None, framed: false, ..plain(200) }, true, stream(None, false)),
            (Head { content_length: Some(0), ..plain(200) }, true, Opening::Empty),
            (plain(204), true, Opening::Empty),
            (Head { content_range: Some("bytes */0"), ..plain(416) }, true, Opening::Empty),
            (plain(416), true, Opening::AskWithoutRange),
            (plain(416), false, Opening::Problem(Problem::Unexpected(416))),
            (plain(400), true, Opening::AskWithoutRange),
            (plain(400), false, Opening::Problem(Problem::Unexpected(400))),
            (plain(501), false, Opening::Problem(Problem::Later { status: 501, retry_after: None })),
            (Head { content_encoding: Some("gzip"), ..plain(200) }, true, Opening::Problem(Problem::Encoded)),
            (Head { content_encoding: Some("identity"), ..plain(200) }, true, stream(Some(5), true)),
            (Head { content_encoding: Some("br"), ..ranged("bytes 0-9/10") }, true, Opening::Problem(Problem::Encoded)),
            (plain(404), true, Opening::Problem(Problem::NotThere(404))),
            (plain(304), true, Opening::Problem(Problem::Unexpected(304))),
            (
                Head { retry_after: Some(7), ..plain(429) },
                true,
                Opening::Problem(Problem::Later { status: 429, retry_after: Some(7) }),
            ),
        ] {
            assert_eq!(opening(&head, ranged), expected, "{head:?}");
        }
    }

    #[test]
    fn a_piece_is_good_only_if_it_is_the_one_of_that_version() {
        use PieceAnswer::{Changed, Good, Problem as Bad};
        let source = Source { length: 1000, validator: Validator::Etag("\"a\"".into()) };
        let piece = Piece { start: 100, length: 100 };
        for (head, expected) in [
            (ranged("bytes 100-199/1000"), Good),
            (ranged("bytes 100-149/1000"), Good),
            (ranged("bytes 100-200/1000"), Changed),
            (ranged("bytes 99-199/1000"), Changed),
            (ranged("bytes 100-199/1001"), Changed),
            (ranged("bytes 100-199/*"), Changed),
            (Head { content_range: None, ..ranged("") }, Changed),
            (Head { etag: Some("\"b\""), ..ranged("bytes 100-199/1000") }, Changed),
            (Head { etag: None, last_modified: Some("then"), ..ranged("bytes 100-199/1000") }, Good),
            (Head { content_encoding: Some("gzip"), ..ranged("bytes 100-199/1000") }, Bad(Problem::Encoded)),
            (Head { status: 200, ..Head::default() }, Changed),
            (Head { status: 412, ..Head::default() }, Changed),
            (Head { status: 416, ..Head::default() }, Changed),
            (Head { status: 403, ..Head::default() }, Bad(Problem::NotThere(403))),
            (Head { status: 500, ..Head::default() }, Bad(Problem::Later { status: 500, retry_after: None })),
            (Head { status: 302, ..Head::default() }, Bad(Problem::Unexpected(302))),
        ] {
            assert_eq!(piece_answer(&head, &source, piece), expected, "{head:?}");
        }
    }

    #[test]
    fn validators_are_strong_tags_or_dates() {
        let date = "Wed, 21 Oct 2026 07:28:00 GMT";
        let etag = |text: &str| Some(Validator::Etag(text.into()));
        let modified = Some(Validator::Modified(date.into()));
        let long = format!("\"{}\"", "x".repeat(LONGEST_VALIDATOR));
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

    #[test]
    fn waits_grow_and_give_up() {
        let waits: Vec<_> = (1..=5).map(|failures| wait_before_retry(failures, None)).collect();
        let milliseconds = |wait| Some(Duration::from_millis(wait));
        assert_eq!(waits, [milliseconds(250), milliseconds(500), milliseconds(1000), milliseconds(2000), None]);
        assert_eq!(wait_before_retry(1, Some(3)), Some(Duration::from_secs(3)));
        assert_eq!(wait_before_retry(1, Some(10)), Some(Duration::from_secs(10)));
        assert_eq!(wait_before_retry(1, Some(11)), None);
        assert_eq!(wait_before_retry(u32::MAX, None), None);
    }

    #[test]
    fn retry_after_is_a_number_or_a_date() {
        let now = 1_792_567_680;
        for (text, expected) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Wed, 21 Oct 2026 07:28:30 GMT", Some(30)),
            ("Wed, 21 Oct 2015 07:28:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
            ("1.5", None),
        ] {
            assert_eq!(retry_after_seconds(text, now), expected, "{text}");
        }
    }

    #[test]
    fn a_piece_is_slow_only_compared_with_others() {
        let seconds = |all: &[u64]| all.iter().map(|one| Duration::from_secs(*one)).collect::<Vec<_>>();
        assert_eq!(patience(&seconds(&[1, 1])), None);
        assert_eq!(patience(&seconds(&[9, 1, 2])), Some(Duration::from_secs(6)));
        assert_eq!(patience(&[Duration::from_millis(5); 9]), Some(NEVER_SLOW_BEFORE));
    }

    #[test]
    fn a_kept_upload_has_a_compact_stored_form() {
        let upload = SavedUpload {
            id: "upload".into(),
            key: "tasks/kling/job-1/video.mp4".into(),
            content_type: "video/mp4".into(),
            source: Source { length: 45_000_000, validator: Validator::Etag("\"a\"".into()) },
            piece_size: PIECE,
            parts: SavedParts(vec![
                SavedPart::new(0, 1, "\"0123456789abcdef0123456789ABCDEF\"").expect("a part"),
                SavedPart::new(3999, u64::MAX, "ffffffffffffffffffffffffffffffff").expect("a part"),
            ]),
        };
        let text = serde_json::to_string(&upload).expect("it serialises");
        assert_eq!(
            text,
            r#"{"id":"upload","key":"tasks/kling/job-1/video.mp4","content_type":"video/mp4","source":{"length":45000000,"validator":{"etag":"\"a\""}},"piece_size":8388608,"parts":"AAAAAAAAAAAAAQEjRWeJq83vASNFZ4mrze8Pn////////////////////////////////w=="}"#
        );
        assert_eq!(serde_json::from_str::<SavedUpload>(&text).expect("it reads back"), upload);
        assert_eq!(upload.parts.0[0].etag_text(), "\"0123456789abcdef0123456789abcdef\"");
        for parts in ["AAA=", "?", "AAAA"] {
            let text = text.replace("AAAAAAAAAAAAAQEjRWeJq83vASNFZ4mrze8Pn////////////////////////////////w==", parts);
            serde_json::from_str::<SavedUpload>(&text).expect_err(parts);
        }
    }

    #[test]
    fn a_kept_upload_of_the_most_pieces_fits_into_a_record() {
        let part = |piece| SavedPart::new(piece, u64::MAX, &"f".repeat(32)).expect("a part");
        let parts = SavedParts((0..MOST_PIECES).map(part).collect());
        assert!(serde_json::to_string(&parts).expect("it serialises").len() < 140_000);
    }

    #[test]
    fn other_etags_are_not_kept() {
        for etag in
            ["", "\"0123456789abcdef0123456789abcdef-2\"", "0123456789abcdef0123456789abcdeg", "ä".repeat(16).as_str()]
        {
            assert_eq!(SavedPart::new(0, 0, etag), None, "{etag}");
        }
        assert_eq!(SavedPart::new(1 << 16, 0, &"f".repeat(32)), None);
    }

    #[test]
    fn files_say_how_long_they_are() {
        let header = |size: u32, name: &[u8; 4]| [&size.to_be_bytes()[..], name].concat();
        let large = [&header(1, b"mdat")[..], &5_000_000_000_u64.to_be_bytes()].concat();
        let padded = |header: Vec<u8>, length: usize| [header, vec![0; length - 8]].concat();
        let riff = |size: u32| [b"RIFF", &size.to_le_bytes()[..], b"WAVE"].concat();
        for (name, file, claimed) in [
            ("two boxes", [padded(header(24, b"ftyp"), 24), header(1000, b"mdat")].concat(), Some(1024)),
            ("a large box", [padded(header(24, b"ftyp"), 24), large.clone()].concat(), Some(5_000_000_024)),
            ("a box to the end", [padded(header(24, b"ftyp"), 24), header(0, b"mdat")].concat(), Some(24)),
            ("something unknown behind", [padded(header(24, b"ftyp"), 24), header(9, b"????")].concat(), Some(24)),
            ("a box too small for itself", [padded(header(24, b"ftyp"), 24), header(7, b"free")].concat(), Some(24)),
            ("a header cut off", [padded(header(24, b"ftyp"), 24), vec![0, 0, 1]].concat(), Some(24)),
            ("a large box cut off", [padded(header(24, b"ftyp"), 24), large[..12].to_vec()].concat(), Some(24)),
            ("a size beyond all", [header(1, b"mdat"), u64::MAX.to_be_bytes().to_vec()].concat(), Some(u64::MAX)),
            ("a RIFF file", riff(100), Some(108)),
            ("a RIFF file from a pipe", riff(u32::MAX), None),
            ("a RIFF file cut off", b"RIFF\x01".to_vec(), None),
            ("a PNG", b"\x89PNG\r\n\x1a\n".to_vec(), None),
            ("nothing", vec![], None),
        ] {
            let read = |offset: u64| usize::try_from(offset).ok().and_then(|at| file.get(at..)).unwrap_or_default();
            assert_eq!(claimed_length(read), claimed, "{name}");
        }
    }
}
