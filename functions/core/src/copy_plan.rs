//! How a file gets from an origin into the bucket: in which pieces, what an origin's answer means, when to try again, and
//! what of an unfinished copy is kept. Without input or output; the copier in `reelhook-aws` carries it out.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// 1 MiB.
pub const MEBIBYTE: u64 = 1 << 20;

/// Smallest piece, and what the first request asks for. S3 takes no part under 5 MiB but the last; 8 MiB is what the AWS
/// command line uses, and it lets eight pieces share the copier's memory.
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
