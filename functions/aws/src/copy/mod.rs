//! The copier: any file of a result, from its link into the bucket, complete or not at all.
//!
//! # Layout
//!
//! | module | has |
//! |---|---|
//! | this one | the way of a copy from link to object |
//! | [`source`] | reading an origin: whole, in pieces, again |
//! | [`budget`] | the memory all copies share |
//! | [`store`] | writing to the bucket, once |
//! | [`error`] | why a copy was not finished |
//! | [`tally`] | what a copy did, for logs and metrics |
//!
//! The rules behind it (sizes of pieces, what an answer means, when to try again, what is kept) are in
//! [`reelhook_core::copy_plan`].
//!
//! # How a file travels
//!
//! The first request asks for the first 8 MiB. An origin that honours it says how long the file is, and the rest is asked for
//! in pieces side by side, each pinned to the same version of the file by `If-Range`; from one that does not, the same answer
//! is read as one stream. Up to 16 MiB go into the bucket with one request, more as a multipart upload. A piece is held in
//! memory until it is in the bucket, so that either side can be tried again alone. The CRC-64/NVME of the whole file is put
//! together from those of the pieces and sent along with the last request: S3 refuses the object if it does not match.

mod budget;
mod error;
mod source;
mod store;
mod tally;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use reelhook_core::Timestamp;
use reelhook_core::copy_plan::{
    LARGEST_HELD_PIECE, LARGEST_OBJECT, LONGEST_STREAM, MEBIBYTE, MOST_PARTS, MOST_STARTS, Opening, PIECE, Piece,
    SINGLE_PUT, SavedPart, SavedParts, SavedUpload, Source, claimed_length, piece_size, stream_part_size,
};
use reelhook_core::media::{Format, SIGNATURE_LENGTH, recognise};
use reelhook_core::redacted::SignedUrl;
use reelhook_core::report::Kind;
use reelhook_core::result::StoredArtifact;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use url::Url;

pub use self::error::{CopyError, Difference, LooksLike, Unfinished};

use self::budget::{Budget, Buffer, Content, Passing, Reservation, combined};
use self::source::{Failures, Halt, Incoming, Reading, Stream};
use self::store::{Store, Written, checksum_of};
use self::tally::Tally;
use crate::download::{Downloader, DownloaderError, OriginPolicy, Refusal, Trouble};

/// Memory for file contents, for all copies of an invocation together: seven pieces of 8 MiB, which fill a function's network
/// many times over. With it a process stays below 96 MiB; the rest are the buffers of up to 30 connections.
const MEMORY: u64 = 56 * MEBIBYTE;

/// Memory for a piece that passes through: one block being received, one waiting, one being sent, one to spare.
const PASSING_MEMORY: u64 = 4 * MEBIBYTE;

/// Pieces of one file that are on their way at a time: all that fit into [`MEMORY`].
const PIECES_IN_FLIGHT: usize = 7;

/// Connections to one origin, over all copies: as many for first requests and as many for further pieces. Browsers open six;
/// there is memory for seven pieces.
const CONNECTIONS_PER_ORIGIN: usize = 8;

/// How long before its deadline a copy asks the origin for nothing more. What has been received by then is still sent: a
/// piece takes less than that within a region.
const SENDING_TIME: Duration = Duration::from_secs(3);

/// How long before its deadline a copy stops altogether, for giving up what cannot be kept.
const PARTING_TIME: Duration = Duration::from_millis(500);

/// How long pieces that are on their way may take when another one has failed for good. Longer than a piece takes from an
/// origin that is worth waiting for.
const LAST_CALL: Duration = Duration::from_secs(5);

/// How often a long copy says how far it is. Chosen freely.
const SAYS_SO_EVERY: Duration = Duration::from_secs(10);

/// Copies files into the bucket. One per process: all copies share its memory and its connections.
#[derive(Debug)]
pub struct Copier {
    store: Store,
    downloader: Downloader,
    memory: Arc<Budget>,
    most_bytes: u64,
    origins: Mutex<HashMap<String, Arc<Places>>>,
}

/// Places for connections to one origin. First requests have their own, because they wait for memory while they hold one, and
/// pieces hold memory while they wait for one.
#[derive(Debug)]
struct Places {
    first: Arc<Semaphore>,
    pieces: Arc<Semaphore>,
}

/// What to copy.
#[derive(Debug)]
pub struct CopyRequest<'a> {
    /// From where.
    pub link: &'a SignedUrl,
    /// To where: the key without extension, `tasks/kling/job-1/video-2`. The extension follows from the file's bytes.
    pub key_stem: &'a str,
    /// What it is.
    pub kind: Kind,
    /// When the link dies, for the log.
    pub expires_at: Option<Timestamp>,
    /// When the copy must have ended. It ends by itself before.
    pub deadline: Instant,
    /// Whether an earlier copy of the same artifact may have left something.
    pub earlier: Earlier,
    /// What an earlier copy of the same artifact gave back to be kept.
    pub resume: Option<SavedUpload>,
}

/// Whether an earlier copy of the same artifact may have left parts in the bucket that nobody knows of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Earlier {
    /// No worker was at it before.
    None,
    /// A worker may have been killed over it: unfinished uploads under this key are looked for (one more request) and
    /// aborted, other than the one that is gone on with. A worker that still runs after it lost its lease is stopped by that
    /// as well.
    #[default]
    Possible,
}

impl Copier {
    /// A copier into a bucket. The client has to leave checksums to the copier
    /// (`request_checksum_calculation(WhenRequired)`) and to have no time-out over whole operations.
    pub fn new(
        client: aws_sdk_s3::Client,
        bucket: impl Into<String>,
        policy: OriginPolicy,
    ) -> Result<Self, DownloaderError> {
        Ok(Self {
            store: Store::new(client, bucket.into()),
            downloader: Downloader::new(policy)?,
            memory: Budget::new(MEMORY),
            most_bytes: LARGEST_OBJECT,
            origins: Mutex::default(),
        })
    }

    /// With a limit to the length of a file, below S3's own.
    #[must_use]
    pub fn most_bytes(mut self, bytes: u64) -> Self {
        self.most_bytes = bytes.min(LARGEST_OBJECT);
        self
    }

    /// Copies one file. Afterwards either the whole file is in the bucket, checked, or nothing that a reader of the bucket
    /// could take for it. Copies of several files may run side by side; the same file copied twice at once is stored once,
    /// and both copies succeed.
    pub async fn copy(&self, mut request: CopyRequest<'_>) -> Result<StoredArtifact, Unfinished> {
        let saved = request.resume.take();
        let started = Instant::now();
        let tally = Tally::default();
        let result = match Downloader::read_link(request.link) {
            Ok(link) => Job::new(self, &request, link, &tally).run(saved).await,
            Err(refusal) => Err(Unfinished { error: refusal.into(), upload: saved }),
        };
        tally.report(&request, started, &result);
        result
    }

    /// Gives up an upload that was kept, when the artifact will not be copied any more.
    pub async fn abandon(&self, saved: &SavedUpload) {
        self.store.abort(&saved.key, &saved.id).await;
    }

    /// The file that an earlier copy has put under this key, if one has: when a worker died between the copy and the record,
    /// and the link did too.
    pub async fn stored(&self, key_stem: &str, kind: Kind) -> Result<Option<StoredArtifact>, CopyError> {
        for key in self.store.keys(&format!("{key_stem}.")).await? {
            if let Some(standing) = self.store.standing(&key).await? {
                return Ok(Some(StoredArtifact {
                    kind,
                    key,
                    bytes: standing.bytes,
                    checksum: standing.checksum,
                    content_type: standing.content_type,
                }));
            }
        }
        Ok(None)
    }

    /// The places for connections to the origin of a URL.
    fn places(&self, url: &Url) -> Arc<Places> {
        let origin =
            format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default());
        let mut origins = self.origins.lock().unwrap_or_else(PoisonError::into_inner);
        // A warm process sees many origins over the days; those in use are kept.
        if origins.len() > 100 {
            let free = |places: &Semaphore| places.available_permits() == CONNECTIONS_PER_ORIGIN;
            origins.retain(|_, places| Arc::strong_count(places) > 1 || !free(&places.first) || !free(&places.pieces));
        }
        let places = || Arc::new(Semaphore::new(CONNECTIONS_PER_ORIGIN));
        let new = || Arc::new(Places { first: places(), pieces: places() });
        Arc::clone(origins.entry(origin).or_insert_with(new))
    }
}

/// One copy.
#[derive(Debug)]
struct Job<'a> {
    copier: &'a Copier,
    request: &'a CopyRequest<'a>,
    link: Url,
    /// Where the link leads, after redirects.
    location: Mutex<Url>,
    /// How long the pieces took so far.
    paces: Mutex<VecDeque<Duration>>,
    fetch_until: Instant,
    send_until: Instant,
    tally: &'a Tally,
}

/// A multipart upload of a file of known length and version.
#[derive(Debug)]
struct Upload {
    id: String,
    key: String,
    content_type: String,
    source: Arc<Source>,
    piece_size: u64,
    /// `ETag` and checksum of each finished part.
    parts: Vec<Option<(String, u64)>>,
}

impl Upload {
    fn new(id: String, key: String, content_type: &str, source: Arc<Source>, piece_size: u64) -> Self {
        let pieces = usize::try_from(source.length.div_ceil(piece_size)).unwrap_or(usize::MAX);
        Self { id, key, content_type: content_type.to_owned(), source, piece_size, parts: vec![None; pieces] }
    }

    /// The upload that was kept, or none when it is that of another artifact, or of a release that cut files differently.
    fn from_saved(saved: SavedUpload, key_stem: &str) -> Option<Self> {
        let extension = saved.key.strip_prefix(key_stem)?.strip_prefix('.')?;
        let sensible = !extension.is_empty()
            && saved.source.length > 0
            && saved.source.length <= LARGEST_OBJECT
            && saved.piece_size == piece_size(saved.source.length);
        let mut upload = Self::new(saved.id, saved.key, &saved.content_type, Arc::new(saved.source), saved.piece_size);
        for part in sensible.then_some(saved.parts.0)? {
            *upload.parts.get_mut(usize::from(part.piece))? = Some((part.etag_text(), part.checksum));
        }
        Some(upload)
    }

    /// What is kept of it: nothing when no part is finished.
    fn saved(&self) -> Option<SavedUpload> {
        let parts: Vec<SavedPart> = (0..)
            .zip(&self.parts)
            .filter_map(|(piece, part)| {
                let (etag, checksum) = part.as_ref()?;
                SavedPart::new(piece, *checksum, etag)
            })
            .collect();
        (!parts.is_empty()).then(|| SavedUpload {
            id: self.id.clone(),
            key: self.key.clone(),
            content_type: self.content_type.clone(),
            source: Source::clone(&self.source),
            piece_size: self.piece_size,
            parts: SavedParts(parts),
        })
    }

    /// The parts in order and the checksum of the whole, when all are finished.
    fn whole(&self) -> Option<(Vec<(String, u64)>, u64)> {
        let parts: Vec<(String, u64)> = self.parts.iter().cloned().collect::<Option<_>>()?;
        let lengths = (0..).map_while(|number| Piece::of(self.source.length, self.piece_size, number));
        // 0 is the checksum of nothing.
        let whole = parts.iter().zip(lengths).fold(0, |whole, ((_, part), piece)| combined(whole, *part, piece.length));
        Some((parts, whole))
    }
}

impl<'a> Job<'a> {
    fn new(copier: &'a Copier, request: &'a CopyRequest<'a>, link: Url, tally: &'a Tally) -> Self {
        let before = |time: Duration| request.deadline.checked_sub(time).unwrap_or(request.deadline);
        Self {
            copier,
            request,
            location: Mutex::new(link.clone()),
            link,
            paces: Mutex::default(),
            fetch_until: before(SENDING_TIME + PARTING_TIME),
            send_until: before(PARTING_TIME),
            tally,
        }
    }

    async fn run(&self, saved: Option<SavedUpload>) -> Result<StoredArtifact, Unfinished> {
        if let Some(saved) = saved
            && let Some(artifact) = self.go_on(saved).await?
        {
            return Ok(artifact);
        }
        let mut trouble = Trouble::Changing;
        let mut ranged = true;
        for start in 1..=MOST_STARTS {
            // An origin whose pieces never belong together (two servers with different tags, say) is read as one stream in
            // the end.
            ranged = ranged && start < MOST_STARTS;
            match self.anew(ranged).await? {
                Outcome::Stored(artifact) => return Ok(artifact),
                Outcome::AskWithoutRange => ranged = false,
                Outcome::Again(reason) => trouble = reason,
            }
            self.tally.retries.add(1);
        }
        Err(Unfinished { error: CopyError::Origin { trouble, retry_after: None }, upload: None })
    }

    /// Goes on with an upload that was kept. None when it cannot be gone on with; nothing is left of it then.
    async fn go_on(&self, saved: SavedUpload) -> Result<Option<StoredArtifact>, Unfinished> {
        let (key, id) = (saved.key.clone(), saved.id.clone());
        let Some(mut upload) = Upload::from_saved(saved, self.request.key_stem) else { return Ok(None) };
        let finished = (0..).zip(&upload.parts).filter(|(_, part)| part.is_some());
        let resumed = finished.filter_map(|(number, _)| Piece::of(upload.source.length, upload.piece_size, number));
        self.tally.resumed_bytes.add(resumed.map(|piece| piece.length).sum());
        match self.carry_out(&mut upload, None).await {
            Ok(artifact) => Ok(Some(artifact)),
            Err(Halt::Failed(error)) => Err(self.kept(error, &upload).await),
            Err(Halt::Again(_) | Halt::UploadGone) => {
                self.give_up(&key, &id).await;
                Ok(None)
            }
        }
    }

    /// One whole copy.
    async fn anew(&self, ranged: bool) -> Result<Outcome, Unfinished> {
        let nothing_kept = |error| Unfinished { error, upload: None };
        let opened = self.fetching(async {
            let (opening, incoming) = self.open(ranged).await?;
            // Only now, when it is known how much: an origin that does not answer keeps no memory from others.
            let first = match &opening {
                Opening::Ranged(Source { length, .. }) if *length > SINGLE_PUT => PIECE,
                Opening::Ranged(Source { length, .. }) => *length,
                Opening::Stream { length, .. } => length.unwrap_or(SINGLE_PUT).min(SINGLE_PUT),
                _ => 0,
            };
            let reservation = self.copier.memory.reserve(first).await;
            Ok((reservation, opening, incoming))
        });
        let (reservation, opening, incoming) = match opened.await {
            Ok(opened) => opened,
            Err(halt) => return Outcome::of(halt).map_err(nothing_kept),
        };
        let result = match opening {
            Opening::AskWithoutRange => return Ok(Outcome::AskWithoutRange),
            Opening::Empty => Err(CopyError::NotMedia { looks_like: LooksLike::Nothing }.into()),
            // `open` gives no other.
            Opening::Problem(_) => Err(CopyError::Origin { trouble: Trouble::Dropped, retry_after: None }.into()),
            Opening::Stream { length, framed } => self.stream(Stream::new(incoming), length, framed, reservation).await,
            Opening::Ranged(source) if source.length <= SINGLE_PUT => {
                self.small(Arc::new(source), incoming, reservation).await
            }
            Opening::Ranged(source) => return self.large(Arc::new(source), incoming, reservation).await,
        };
        match result {
            Ok(artifact) => Ok(Outcome::Stored(artifact)),
            Err(halt) => Outcome::of(halt).map_err(nothing_kept),
        }
    }

    /// A file of at most two pieces, written with one request.
    async fn small(
        &self,
        source: Arc<Source>,
        incoming: Incoming,
        mut reservation: Reservation,
    ) -> Result<StoredArtifact, Halt> {
        self.check_length(source.length)?;
        let size = piece_size(source.length);
        let content = self.fetching(async {
            let first = Piece::of(source.length, size, 0).ok_or(Halt::Again(Trouble::Changing))?;
            let mut buffer = Buffer::new(reservation.split(first.length));
            let mut reading = Reading::of_answer(Arc::clone(&source), first, incoming);
            reading.fill(self, &mut buffer, SIGNATURE_LENGTH as u64).await?;
            let format = self.recognised(&buffer)?;
            check_claim(&buffer, source.length)?;
            let second = Piece::of(source.length, size, 1);
            let second = second.map(|piece| (piece, Buffer::new(reservation)));
            let first = async {
                reading.fill(self, &mut buffer, first.length).await?;
                check_claim(&buffer, source.length)?;
                Ok(buffer.finish())
            };
            let second = async {
                let Some((piece, mut buffer)) = second else { return Ok(None) };
                Reading::new(Arc::clone(&source), piece).fill(self, &mut buffer, piece.length).await?;
                Ok::<_, Halt>(Some(buffer.finish()))
            };
            let (first, second): (Content, _) = futures_util::future::try_join(first, second).await?;
            let content = match second {
                Some(second) => first.followed_by(second),
                None => first,
            };
            Ok((format, content))
        });
        let (format, content) = content.await?;
        self.put(format, &content).await
    }

    /// A larger file, in pieces side by side.
    async fn large(
        &self,
        source: Arc<Source>,
        incoming: Incoming,
        reservation: Reservation,
    ) -> Result<Outcome, Unfinished> {
        let begun = async {
            self.check_length(source.length)?;
            let size = piece_size(source.length);
            let first = Piece::of(source.length, size, 0).ok_or(Halt::Again(Trouble::Changing))?;
            let mut buffer = Buffer::new(reservation);
            let mut reading = Reading::of_answer(Arc::clone(&source), first, incoming);
            self.fetching(reading.fill(self, &mut buffer, SIGNATURE_LENGTH as u64)).await?;
            let format = self.recognised(&buffer)?;
            check_claim(&buffer, source.length)?;
            let key = self.key(format);
            let id = self.begin(&key, format).await?;
            Ok((Upload::new(id, key, format.content_type, source, size), buffer, reading))
        };
        let (mut upload, buffer, reading) = match begun.await {
            Ok(begun) => begun,
            Err(halt) => return Outcome::of(halt).map_err(|error| Unfinished { error, upload: None }),
        };
        match self.carry_out(&mut upload, Some((buffer, reading))).await {
            Ok(artifact) => Ok(Outcome::Stored(artifact)),
            Err(Halt::Again(trouble)) => {
                self.give_up(&upload.key, &upload.id).await;
                Ok(Outcome::Again(trouble))
            }
            // It was begun a moment ago, so another worker took over and aborted it.
            Err(Halt::UploadGone) => Err(Unfinished { error: upload_gone(), upload: None }),
            Err(Halt::Failed(error)) => Err(self.kept(error, &upload).await),
        }
    }

    /// Copies the missing pieces of an upload and puts the parts together. `first` is what has come of the first piece.
    async fn carry_out(
        &self,
        upload: &mut Upload,
        mut first: Option<(Buffer, Reading)>,
    ) -> Result<StoredArtifact, Halt> {
        let missing: Vec<u64> =
            (0..).zip(&upload.parts).filter(|(_, part)| part.is_none()).map(|(number, _)| number).collect();
        let total = upload.parts.len();
        {
            // Only the list of finished parts changes while pieces are on their way.
            let mut finished = Vec::with_capacity(missing.len());
            let mut missing = missing.into_iter();
            let mut in_flight = FuturesUnordered::new();
            let mut says_so = tokio::time::interval_at(Instant::now() + SAYS_SO_EVERY, SAYS_SO_EVERY);
            let result = loop {
                while in_flight.len() < PIECES_IN_FLIGHT
                    && let Some(number) = missing.next()
                {
                    in_flight.push(self.piece(upload, number, if number == 0 { first.take() } else { None }));
                }
                tokio::select! {
                    biased;
                    piece = in_flight.next() => match piece {
                        None => break Ok(()),
                        Some(Ok(part)) => finished.push(part),
                        // No more is begun, and what is on its way is not thrown away: another try can go on with it.
                        Some(Err(Halt::Failed(error))) if error.another_try_can_help() => {
                            let last_call = self.send_until.min(Instant::now() + LAST_CALL);
                            let _ = timeout_at(last_call, async {
                                while let Some(piece) = in_flight.next().await {
                                    finished.extend(piece.ok());
                                }
                            })
                            .await;
                            break Err(Halt::Failed(error));
                        }
                        Some(Err(halt)) => break Err(halt),
                    },
                    _ = says_so.tick() => tracing::info!(
                        copy.key = upload.key,
                        copy.file_bytes = upload.source.length,
                        copy.received_bytes = self.tally.received_bytes.get(),
                        copy.finished_parts = finished.len(),
                        copy.parts = total,
                        "file is being copied"
                    ),
                }
            };
            drop(in_flight);
            for (number, etag, checksum) in finished {
                if let Some(part) = usize::try_from(number).ok().and_then(|number| upload.parts.get_mut(number)) {
                    *part = Some((etag, checksum));
                }
            }
            result?;
        }
        let Some((parts, checksum)) = upload.whole() else { return Err(Halt::Again(Trouble::Changing)) };
        let length = upload.source.length;
        self.complete(&upload.key, &upload.id, &upload.content_type, &parts, length, checksum).await
    }

    /// Copies one piece; gives back its number, `ETag` and checksum.
    async fn piece(
        &self,
        upload: &Upload,
        number: u64,
        first: Option<(Buffer, Reading)>,
    ) -> Result<(u64, String, u64), Halt> {
        let piece = Piece::of(upload.source.length, upload.piece_size, number).ok_or(Halt::Again(Trouble::Changing))?;
        if piece.length > LARGEST_HELD_PIECE {
            // What there is of it is in a buffer of another kind; it is a few kilobytes.
            drop(first);
            return self.passing_piece(upload, number, piece).await;
        }
        let content = self.fetching(async {
            let (mut buffer, mut reading) = if let Some(first) = first {
                first
            } else {
                let buffer = Buffer::new(self.copier.memory.reserve(piece.length).await);
                (buffer, Reading::new(Arc::clone(&upload.source), piece))
            };
            reading.fill(self, &mut buffer, piece.length).await?;
            if number == 0 {
                check_claim(&buffer, upload.source.length)?;
            }
            Ok(buffer.finish())
        });
        let content = content.await?;
        let etag = self.send_part(&upload.key, &upload.id, number + 1, &content).await?;
        Ok((number, etag, content.checksum()))
    }

    /// Copies a piece that is too large to be held: the part is sent while the piece is received. The SDK cannot send such a
    /// part again by itself, so the piece is copied again.
    async fn passing_piece(&self, upload: &Upload, number: u64, piece: Piece) -> Result<(u64, String, u64), Halt> {
        let mut failures = Failures::default();
        loop {
            let memory =
                self.fetching(async { Ok(self.copier.memory.reserve(PASSING_MEMORY).await.into_budget()) }).await?;
            let (sender, body) = Passing::new(piece.length);
            let receiving = self.fetching(async move {
                let mut reading = Reading::new(Arc::clone(&upload.source), piece);
                let mut whole = 0;
                while !reading.is_complete() {
                    let mut buffer = Buffer::new(memory.reserve(MEBIBYTE).await);
                    reading.fill(self, &mut buffer, MEBIBYTE).await?;
                    let content = buffer.finish();
                    whole = combined(whole, content.checksum(), content.length());
                    if sender.send(content).await.is_err() {
                        // The other half has ended, and says why.
                        return std::future::pending().await;
                    }
                }
                Ok(whole)
            });
            let sending = self.sending(async {
                let store = &self.copier.store;
                store
                    .upload_passing_part(&upload.key, &upload.id, number + 1, piece.length, body)
                    .await
                    .map_err(Halt::from)
            });
            match futures_util::future::try_join(receiving, sending).await {
                Ok((checksum, etag)) => {
                    self.tally.parts.add(1);
                    return Ok((number, etag, checksum));
                }
                Err(Halt::Failed(error @ CopyError::Storage { .. })) => failures.wait_for_storage(self, error).await?,
                Err(halt) => return Err(halt),
            }
        }
    }

    /// A file that comes on one connection, of known or unknown length.
    async fn stream(
        &self,
        mut stream: Stream,
        length: Option<u64>,
        framed: bool,
        reservation: Reservation,
    ) -> Result<StoredArtifact, Halt> {
        self.check_length(length.unwrap_or(0))?;
        if length.is_some_and(|length| length > LONGEST_STREAM) {
            return Err(Refusal::TooLarge { limit: LONGEST_STREAM }.into());
        }
        let mut buffer = Buffer::new(reservation);
        self.fetching(stream.begin(self, &mut buffer, SIGNATURE_LENGTH as u64)).await?;
        let format = self.recognised(&buffer)?;
        let mut more = self.fetching(stream.fill(self, &mut buffer)).await?;
        let claimed = claimed_length(|offset| buffer.from(offset));
        let checked = |bytes: u64| match claimed {
            Some(claimed) if claimed > bytes => Err(Halt::from(CopyError::CutOff { claimed, bytes })),
            Some(claimed) if framed || claimed == bytes => Ok(()),
            None if framed => Ok(()),
            _ => Err(Refusal::UnknownEnd.into()),
        };
        if !more {
            checked(buffer.length())?;
            return self.put(format, &buffer.finish()).await;
        }
        if let Some(length) = length {
            checked(length)?;
        }
        let key = self.key(format);
        let id = self.begin(&key, format).await?;
        let sent = async {
            let mut in_flight = FuturesUnordered::new();
            let mut parts: Vec<Option<(String, u64, u64)>> = Vec::new();
            let mut content = buffer.finish();
            loop {
                let number = parts.len() as u64 + 1;
                parts.push(None);
                let (key, id) = (&key, &id);
                in_flight.push(async move {
                    let etag = self.send_part(key, id, number, &content).await?;
                    Ok::<_, Halt>((number, etag, content.checksum(), content.length()))
                });
                if !more {
                    break;
                }
                let next = self.fetching(async {
                    let room = stream_part_size(number + 1);
                    let mut buffer = Buffer::new(self.copier.memory.reserve(room).await);
                    let more = stream.fill(self, &mut buffer).await?;
                    Ok((more, buffer))
                });
                let (still_more, buffer) = {
                    let mut next = std::pin::pin!(next);
                    loop {
                        tokio::select! {
                            Some(part) = in_flight.next() => keep(&mut parts, part?),
                            next = &mut next => break next?,
                        }
                    }
                };
                self.check_length(stream.received())?;
                if still_more && number + 1 >= MOST_PARTS {
                    return Err(Refusal::TooLarge { limit: LONGEST_STREAM }.into());
                }
                more = still_more;
                content = buffer.finish();
            }
            while let Some(part) = in_flight.next().await {
                keep(&mut parts, part?);
            }
            checked(stream.received())?;
            parts.into_iter().collect::<Option<Vec<_>>>().ok_or(Halt::Again(Trouble::Dropped))
        };
        let result = match sent.await {
            Ok(parts) => {
                let whole = parts.iter().fold(0, |whole, (_, part, length)| combined(whole, *part, *length));
                let parts: Vec<_> = parts.into_iter().map(|(etag, checksum, _)| (etag, checksum)).collect();
                self.complete(&key, &id, format.content_type, &parts, stream.received(), whole).await
            }
            Err(Halt::UploadGone) => return Err(upload_gone().into()),
            Err(halt) => Err(halt),
        };
        // A stream cannot be gone on with, so nothing of it is kept.
        if let Err(Halt::Failed(_) | Halt::Again(_)) = &result {
            self.give_up(&key, &id).await;
        }
        result
    }

    /// The format of a file, by its first bytes.
    fn recognised(&self, buffer: &Buffer) -> Result<Format, Halt> {
        let beginning = buffer.from(0);
        let beginning = &beginning[..beginning.len().min(SIGNATURE_LENGTH)];
        let looks_like = match recognise(beginning) {
            // Some stores answer with a picture that says that there is no video. GIF and WebP can be animated.
            Some(Format { content_type, .. })
                if matches!(self.request.kind, Kind::Video | Kind::WatermarkedVideo)
                    && content_type.starts_with("image/")
                    && !matches!(content_type, "image/gif" | "image/webp") =>
            {
                LooksLike::StillImage
            }
            Some(format) => return Ok(format),
            None => LooksLike::of(beginning),
        };
        Err(CopyError::NotMedia { looks_like }.into())
    }

    fn key(&self, format: Format) -> String {
        format!("{}.{}", self.request.key_stem, format.extension)
    }

    fn check_length(&self, length: u64) -> Result<(), Halt> {
        let limit = self.copier.most_bytes;
        if length > limit { Err(Refusal::TooLarge { limit }.into()) } else { Ok(()) }
    }

    /// Begins an upload, after those that others left.
    async fn begin(&self, key: &str, format: Format) -> Result<String, Halt> {
        self.sending(async {
            if self.request.earlier == Earlier::Possible {
                for (key, id) in self.copier.store.uploads(&format!("{}.", self.request.key_stem)).await? {
                    self.give_up(&key, &id).await;
                }
            }
            Ok(self.copier.store.create(key, format.content_type).await?)
        })
        .await
    }

    async fn send_part(&self, key: &str, id: &str, number: u64, content: &Content) -> Result<String, Halt> {
        let sent =
            self.sending(async { self.copier.store.upload_part(key, id, number, content).await.map_err(Halt::from) });
        let etag = sent.await?;
        self.tally.parts.add(1);
        Ok(etag)
    }

    /// Writes a small file.
    async fn put(&self, format: Format, content: &Content) -> Result<StoredArtifact, Halt> {
        let key = self.key(format);
        self.sending(async {
            let written = self.copier.store.put(&key, format.content_type, content).await?;
            self.tally.parts.add(1);
            let (bytes, checksum) = (content.length(), content.checksum());
            Ok(self.settled(written, "PutObject", &key, format.content_type, bytes, checksum).await?)
        })
        .await
    }

    /// Puts the parts of an upload together; aborts it when another object stands there.
    async fn complete(
        &self,
        key: &str,
        id: &str,
        content_type: &str,
        parts: &[(String, u64)],
        bytes: u64,
        checksum: u64,
    ) -> Result<StoredArtifact, Halt> {
        self.sending(async {
            let written = self.copier.store.complete(key, id, parts, bytes, checksum).await?;
            if written == Written::Standing {
                self.give_up(key, id).await;
            }
            let operation = "CompleteMultipartUpload";
            Ok(self.settled(written, operation, key, content_type, bytes, checksum).await?)
        })
        .await
    }

    /// What a final write came to. If something stands there already it is the same file, because the same link was copied
    /// twice, or it is somebody else's, which is left alone.
    async fn settled(
        &self,
        written: Written,
        operation: &'static str,
        key: &str,
        content_type: &str,
        bytes: u64,
        checksum: u64,
    ) -> Result<StoredArtifact, CopyError> {
        let checksum = checksum_of(checksum);
        if written == Written::Standing {
            match self.copier.store.standing(key).await? {
                Some(standing) if standing.bytes == bytes && standing.checksum == checksum => {}
                Some(standing) => {
                    let difference = Difference {
                        key: key.to_owned(),
                        standing_bytes: standing.bytes,
                        standing_checksum: standing.checksum,
                        bytes,
                        checksum,
                    };
                    return Err(Box::new(difference).into());
                }
                None => {
                    let reason = "another write was under way, and nothing stands there".to_owned();
                    return Err(CopyError::Storage { operation, reason });
                }
            }
        }
        Ok(StoredArtifact {
            kind: self.request.kind,
            key: key.to_owned(),
            bytes,
            checksum,
            content_type: content_type.to_owned(),
        })
    }

    /// Decides what is kept of an upload that was not finished: finished parts, if another try can need them.
    async fn kept(&self, error: CopyError, upload: &Upload) -> Unfinished {
        let saved = upload.saved().filter(|_| error.another_try_can_help());
        if saved.is_none() {
            self.give_up(&upload.key, &upload.id).await;
        }
        Unfinished { error, upload: saved }
    }

    /// Aborts an upload, as far as there is time; what is left then is for the lifecycle rule.
    async fn give_up(&self, key: &str, id: &str) {
        let _ = timeout_at(self.request.deadline, self.copier.store.abort(key, id)).await;
    }

    /// Ends what asks the origin when there is only time left to send.
    async fn fetching<T>(&self, work: impl Future<Output = Result<T, Halt>>) -> Result<T, Halt> {
        timeout_at(self.fetch_until, work).await.unwrap_or(Err(Halt::Failed(CopyError::OutOfTime)))
    }

    /// Ends what asks the bucket when there is no time left.
    async fn sending<T>(&self, work: impl Future<Output = Result<T, Halt>>) -> Result<T, Halt> {
        timeout_at(self.send_until, work).await.unwrap_or(Err(Halt::Failed(CopyError::OutOfTime)))
    }
}

/// What one run from the beginning came to, if it did not fail for good.
enum Outcome {
    Stored(StoredArtifact),
    AskWithoutRange,
    Again(Trouble),
}

impl Outcome {
    fn of(halt: Halt) -> Result<Self, CopyError> {
        match halt {
            Halt::Again(trouble) => Ok(Self::Again(trouble)),
            Halt::UploadGone => Err(upload_gone()),
            Halt::Failed(error) => Err(error),
        }
    }
}

fn upload_gone() -> CopyError {
    CopyError::Storage { operation: "UploadPart", reason: "NoSuchUpload: another copy took over".to_owned() }
}

fn keep(parts: &mut [Option<(String, u64, u64)>], (number, etag, checksum, length): (u64, String, u64, u64)) {
    if let Some(part) = usize::try_from(number - 1).ok().and_then(|index| parts.get_mut(index)) {
        *part = Some((etag, checksum, length));
    }
}

/// Whether a file is as long as it says.
fn check_claim(buffer: &Buffer, bytes: u64) -> Result<(), Halt> {
    match claimed_length(|offset| buffer.from(offset)) {
        Some(claimed) if claimed > bytes => Err(CopyError::CutOff { claimed, bytes }.into()),
        _ => Ok(()),
    }
}
