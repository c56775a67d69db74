//! Reading an origin: the first answer, pieces of a known version, and streams. What fails is tried again from where it
//! stands, as long as it makes progress.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue, IF_RANGE, RANGE};
use reelhook_core::copy_plan::{
    MOST_FAILURES, Opening, PIECE, PROGRESS, Piece, PieceAnswer, Problem, Source, opening, patience, piece_answer,
    wait_before_retry,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout_at};
use url::Url;

use super::Job;
use super::budget::Buffer;
use super::error::CopyError;
use super::store::PartError;
use crate::download::{Answer, FetchError, Refusal, Trouble};
use crate::telemetry;

/// A connection that brings nothing for this long is given up. Origins that fetch a file while they send it pause for a few
/// seconds.
const STALLED_AFTER: Duration = Duration::from_secs(10);

/// A connection that brings less than [`LEAST_IN_A_SPAN`] in this time counts as stalled: a byte now and then would hold an
/// invocation to its end. 2 KB/s is no origin of videos.
const SPAN: Duration = Duration::from_secs(30);
const LEAST_IN_A_SPAN: usize = 64 * 1024;

/// How often a quiet connection is compared with what others have achieved meanwhile.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How often a piece is moved to another connection for being slow. If the second is no faster, the origin is.
const MOST_MOVES: u32 = 2;

/// Finished parts for each piece that may be moved, besides the first: outliers are fewer.
const PARTS_PER_MOVE: u64 = 8;

/// Finished pieces that others are compared with: the latest ones, so that a copy follows an origin that changes its pace.
const PACES: usize = 32;

/// Why reading or writing stopped.
#[derive(Debug)]
pub(super) enum Halt {
    /// What was read so far is void: another version of the file, or a stream that broke off.
    Again(Trouble),
    /// The upload is not there any more.
    UploadGone,
    /// The copy ends.
    Failed(CopyError),
}

impl From<PartError> for Halt {
    fn from(error: PartError) -> Self {
        match error {
            PartError::UploadGone => Self::UploadGone,
            PartError::Storage(error) => Self::Failed(error),
        }
    }
}

impl From<CopyError> for Halt {
    fn from(error: CopyError) -> Self {
        Self::Failed(error)
    }
}

impl From<Refusal> for Halt {
    fn from(refusal: Refusal) -> Self {
        Self::Failed(refusal.into())
    }
}

/// An answer that is being read, with its place among the connections to its origin.
#[derive(Debug)]
pub(super) struct Incoming {
    answer: Answer,
    place: Option<OwnedSemaphorePermit>,
    /// How long bytes have been waited for since there were any. Only waiting counts: while the bucket is slow, nobody listens.
    quiet: Duration,
    /// The same since the present [`SPAN`] began, and how many bytes came in it.
    span: (Duration, usize),
}

/// What comes next on a connection.
enum Next {
    /// Some bytes.
    Bytes(Bytes),
    /// Nothing yet, but it is time to look whether that is too slow.
    Nothing,
    /// The end of the answer.
    End,
    /// It broke, or brings next to nothing.
    Trouble(Trouble),
    /// The moment has come at which it is called slow.
    TooSlow,
}

impl Incoming {
    fn new(answer: Answer, place: Option<OwnedSemaphorePermit>) -> Self {
        Self { answer, place, quiet: Duration::ZERO, span: (Duration::ZERO, 0) }
    }

    /// Waits for the next bytes, at most a second.
    async fn next(&mut self, slow_at: Option<Instant>) -> Next {
        let asked_at = Instant::now();
        let until = slow_at.unwrap_or(asked_at + LOOK_AGAIN).min(asked_at + LOOK_AGAIN);
        let chunk = timeout_at(until, self.answer.chunk()).await;
        let now = Instant::now();
        self.quiet += now - asked_at;
        self.span.0 += now - asked_at;
        let next = match chunk {
            Ok(Ok(Some(chunk))) => {
                self.quiet = Duration::ZERO;
                self.span.1 += chunk.len();
                Next::Bytes(chunk)
            }
            Ok(Ok(None)) => Next::End,
            Ok(Err(trouble)) => Next::Trouble(trouble),
            Err(_) if self.quiet >= STALLED_AFTER => Next::Trouble(Trouble::Stalled),
            Err(_) if slow_at.is_some_and(|slow_at| slow_at <= now) => Next::TooSlow,
            Err(_) => Next::Nothing,
        };
        if self.span.0 >= SPAN {
            if self.span.1 < LEAST_IN_A_SPAN && matches!(next, Next::Bytes(_) | Next::Nothing) {
                return Next::Trouble(Trouble::Stalled);
            }
            self.span = (Duration::ZERO, 0);
        }
        next
    }
}

/// Trouble with an origin, after which it may be tried again.
#[derive(Clone, Copy, Debug)]
struct Setback {
    trouble: Trouble,
    /// Seconds that the origin asks for.
    retry_after: Option<u32>,
}

impl From<Trouble> for Setback {
    fn from(trouble: Trouble) -> Self {
        Self { trouble, retry_after: None }
    }
}

impl Setback {
    fn status(status: u16, retry_after: Option<u32>) -> Self {
        Self { trouble: Trouble::Status(status), retry_after }
    }
}

/// Failures in a row.
#[derive(Debug, Default)]
pub(super) struct Failures(u32);

impl Failures {
    /// Counts one more and waits before the next try, or says that there is none.
    async fn wait(&mut self, job: &Job<'_>, Setback { trouble, retry_after }: Setback) -> Result<(), CopyError> {
        // Silence has cost a lot of time already; twice as much is enough.
        self.0 += if trouble == Trouble::Silent { MOST_FAILURES.div_ceil(3) } else { 1 };
        let Some(wait) = wait_before_retry(self.0, retry_after) else {
            return Err(CopyError::Origin { trouble, retry_after });
        };
        job.tally.retries.add(1);
        sleep(wait).await;
        Ok(())
    }

    /// The same for trouble with the bucket.
    pub(super) async fn wait_for_storage(&mut self, job: &Job<'_>, error: CopyError) -> Result<(), CopyError> {
        self.0 += 1;
        let Some(wait) = wait_before_retry(self.0, None) else { return Err(error) };
        job.tally.retries.add(1);
        sleep(wait).await;
        Ok(())
    }
}

impl Job<'_> {
    /// Asks for the first piece, or for the whole file, and reads what the answer means. Gives no [`Opening::Problem`].
    pub(super) async fn open(&self, ranged: bool) -> Result<(Opening, Incoming), Halt> {
        let mut headers = HeaderMap::new();
        if ranged {
            headers.insert(RANGE, header(&Piece { start: 0, length: PIECE }.range_header()));
        }
        let mut failures = Failures::default();
        loop {
            let places = Arc::clone(&self.copier.places(&self.link).first);
            let incoming = match self.ask(&self.link, &headers, places).await {
                Ok(incoming) => incoming,
                Err(FetchError::Refused(refusal)) => return Err(refusal.into()),
                Err(FetchError::Trouble(trouble)) => {
                    failures.wait(self, trouble.into()).await?;
                    continue;
                }
            };
            match opening(&incoming.answer.head(telemetry::now().seconds()), ranged) {
                Opening::Problem(Problem::Later { status, retry_after }) => {
                    drop(incoming);
                    failures.wait(self, Setback::status(status, retry_after)).await?;
                }
                Opening::Problem(problem) => return Err(failed(problem).into()),
                opening => {
                    self.moved_to(incoming.answer.url());
                    return Ok((opening, incoming));
                }
            }
        }
    }

    /// Asks for a piece of a known version. The inner error may pass.
    async fn ask_for(&self, source: &Source, piece: Piece) -> Result<Result<Incoming, Setback>, Halt> {
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, header(&piece.range_header()));
        headers.insert(IF_RANGE, header(source.validator.text()));
        let location = self.location();
        let places = Arc::clone(&self.copier.places(&location).pieces);
        let incoming = match self.ask(&location, &headers, places).await {
            Ok(incoming) => incoming,
            Err(FetchError::Refused(refusal)) => return Err(refusal.into()),
            Err(FetchError::Trouble(trouble)) => return Ok(Err(trouble.into())),
        };
        match piece_answer(&incoming.answer.head(telemetry::now().seconds()), source, piece) {
            PieceAnswer::Good => {
                self.moved_to(incoming.answer.url());
                Ok(Ok(incoming))
            }
            PieceAnswer::Changed => Err(Halt::Again(Trouble::Changing)),
            PieceAnswer::Problem(Problem::Later { status, retry_after }) => {
                Ok(Err(Setback::status(status, retry_after)))
            }
            // Where the link was redirected to may live shorter than the link itself.
            PieceAnswer::Problem(Problem::NotThere(_)) if location != self.link => {
                self.moved_to(&self.link);
                Ok(Err(Trouble::Dropped.into()))
            }
            PieceAnswer::Problem(problem) => Err(failed(problem).into()),
        }
    }

    /// Sends a request when there is a place among the connections to its origin.
    async fn ask(&self, url: &Url, headers: &HeaderMap, places: Arc<Semaphore>) -> Result<Incoming, FetchError> {
        let place = places.acquire_owned().await.ok();
        Ok(Incoming::new(self.copier.downloader.get(url, headers).await?, place))
    }

    fn location(&self) -> Url {
        self.location.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn moved_to(&self, url: &Url) {
        let mut location = self.location.lock().unwrap_or_else(PoisonError::into_inner);
        if *location != *url {
            *location = url.clone();
        }
    }

    fn took(&self, piece: Piece, began: Option<Instant>) {
        if let Some(began) = began.filter(|_| piece.length >= PIECE) {
            let mut paces = self.paces.lock().unwrap_or_else(PoisonError::into_inner);
            paces.push_back(began.elapsed());
            if paces.len() > PACES {
                paces.pop_front();
            }
        }
    }

    /// When a piece is called slow that began at some time: never, if there is nothing to compare it with yet, if it has been
    /// moved often enough, or if so many were moved that it is the link that has become slow: other copies have begun.
    fn slow_at(&self, began: Instant, moves: u32) -> Option<Instant> {
        if moves >= MOST_MOVES || self.tally.moves.get() > self.tally.parts.get() / PARTS_PER_MOVE {
            return None;
        }
        let paces: Vec<Duration> = self.paces.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
        // Each move gives it as much time again.
        Some(began + patience(&paces)? * (moves + 1))
    }
}

/// A piece of a known version that is being read, over as many connections as it takes.
#[derive(Debug)]
pub(super) struct Reading {
    source: Arc<Source>,
    piece: Piece,
    /// Bytes of the piece that were put into buffers.
    received: u64,
    incoming: Option<Incoming>,
    /// What came and did not fit into the last buffer.
    rest: Bytes,
    failures: Failures,
    moves: u32,
    /// When it began.
    began: Option<Instant>,
}

impl Reading {
    /// A piece of which nothing is there yet.
    pub(super) fn new(source: Arc<Source>, piece: Piece) -> Self {
        Self {
            source,
            piece,
            received: 0,
            incoming: None,
            rest: Bytes::new(),
            failures: Failures::default(),
            moves: 0,
            began: None,
        }
    }

    /// The first piece, which an answer already brings.
    pub(super) fn of_answer(source: Arc<Source>, piece: Piece, incoming: Incoming) -> Self {
        Self { incoming: Some(incoming), ..Self::new(source, piece) }
    }

    /// Whether the whole piece was put into buffers.
    pub(super) fn is_complete(&self) -> bool {
        self.received == self.piece.length
    }

    /// Reads until a buffer holds at least `enough`, which it must have room for, or the piece is complete.
    pub(super) async fn fill(&mut self, job: &Job<'_>, buffer: &mut Buffer, enough: u64) -> Result<(), Halt> {
        let mut mark = self.received;
        loop {
            let before = buffer.length();
            let left = buffer.add(&self.rest).len();
            self.rest = self.rest.split_off(self.rest.len() - left);
            self.received += buffer.length() - before;
            if self.is_complete() {
                // The connection is free for another piece.
                self.incoming = None;
                job.took(self.piece, self.began);
                return Ok(());
            }
            if buffer.length() >= enough {
                return Ok(());
            }
            let Err(setback) = self.read(job).await? else { continue };
            self.incoming = None;
            if self.received - mark >= PROGRESS {
                self.failures = Failures::default();
                job.tally.retries.add(1);
            } else {
                self.failures.wait(job, setback).await?;
            }
            mark = self.received;
        }
    }

    /// Reads the next bytes, asking for what is missing if there is no answer. The inner error may pass.
    async fn read(&mut self, job: &Job<'_>) -> Result<Result<(), Setback>, Halt> {
        let incoming = match &mut self.incoming {
            Some(incoming) => incoming,
            none => match job.ask_for(&self.source, self.piece.after(self.received)).await? {
                Ok(incoming) => none.insert(incoming),
                Err(setback) => return Ok(Err(setback)),
            },
        };
        let began = *self.began.get_or_insert_with(Instant::now);
        match incoming.next(job.slow_at(began, self.moves)).await {
            Next::Bytes(chunk) => {
                // An origin that sends more than it said is cut.
                let missing = usize::try_from(self.piece.length - self.received).unwrap_or(usize::MAX);
                self.rest = chunk.slice(..chunk.len().min(missing));
                job.tally.received_bytes.add(self.rest.len() as u64);
                Ok(Ok(()))
            }
            Next::Nothing => Ok(Ok(())),
            // Less than was asked for, which an origin may send: the rest is asked for.
            Next::End => Ok(Err(Trouble::Dropped.into())),
            Next::Trouble(trouble) => Ok(Err(trouble.into())),
            // Others of its length were much faster: the rest is asked for on another connection. Unless others were moved
            // at the same moment.
            Next::TooSlow => {
                if job.slow_at(began, self.moves).is_some() {
                    self.incoming = None;
                    self.moves += 1;
                    job.tally.moves.add(1);
                    job.tally.retries.add(1);
                }
                Ok(Ok(()))
            }
        }
    }
}

/// A file that comes on one connection and in one go.
#[derive(Debug)]
pub(super) struct Stream {
    incoming: Incoming,
    /// What was received and did not fit into the last buffer.
    rest: Bytes,
    received: u64,
}

impl Stream {
    /// Reads on. The connection gives up its place among those to its origin: it may be read for long.
    pub(super) fn new(mut incoming: Incoming) -> Self {
        incoming.place = None;
        Self { incoming, rest: Bytes::new(), received: 0 }
    }

    /// Bytes that came so far and were put into buffers.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Reads until a buffer holds at least this much, or the file ends.
    pub(super) async fn begin(&mut self, job: &Job<'_>, buffer: &mut Buffer, enough: u64) -> Result<(), Halt> {
        while buffer.length() < enough && self.next(job).await? {
            self.pour(buffer);
        }
        Ok(())
    }

    /// Reads until a buffer is full or the file ends; false when it has ended. What follows a full buffer, or that nothing
    /// does, is known only when it is there: so one read more is made.
    pub(super) async fn fill(&mut self, job: &Job<'_>, buffer: &mut Buffer) -> Result<bool, Halt> {
        loop {
            self.pour(buffer);
            if !self.rest.is_empty() {
                return Ok(true);
            }
            if !self.next(job).await? {
                return Ok(false);
            }
        }
    }

    fn pour(&mut self, buffer: &mut Buffer) {
        let before = buffer.length();
        let left = buffer.add(&self.rest).len();
        self.rest = self.rest.split_off(self.rest.len() - left);
        self.received += buffer.length() - before;
    }

    /// Reads the next bytes; false at the end of the file.
    async fn next(&mut self, job: &Job<'_>) -> Result<bool, Halt> {
        loop {
            match self.incoming.next(None).await {
                Next::Bytes(chunk) => {
                    job.tally.received_bytes.add(chunk.len() as u64);
                    self.rest = chunk;
                    return Ok(true);
                }
                Next::Nothing | Next::TooSlow => {}
                Next::End => return Ok(false),
                Next::Trouble(trouble) => return Err(Halt::Again(trouble)),
            }
        }
    }
}

fn failed(problem: Problem) -> CopyError {
    match problem {
        Problem::NotThere(status) => CopyError::NotThere { status },
        Problem::Encoded => Refusal::Encoded.into(),
        Problem::Later { status, retry_after } => CopyError::Origin { trouble: Trouble::Status(status), retry_after },
        Problem::Unexpected(status) => CopyError::Origin { trouble: Trouble::Status(status), retry_after: None },
    }
}

/// As a header. Validators come out of a header, and ranges are digits.
fn header(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}
