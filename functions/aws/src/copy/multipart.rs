//! A file of known length and version, in pieces side by side.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use reelhook_core::result::StoredArtifact;
use reelhook_core::transfer::checkpoint::{SavedPart, SavedParts, SavedUpload};
use reelhook_core::transfer::fault::{CopyFault, OriginFault};
use reelhook_core::transfer::media::SIGNATURE_LENGTH;
use reelhook_core::transfer::parts::{MAX_HELD_PIECE, MAX_OBJECT_BYTES, MEBIBYTE, Piece, piece_size};
use reelhook_core::transfer::ranges::SourceVersion;
use reelhook_core::transfer::retry::FailureCount;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::halt::Halt;
use super::incoming::Incoming;
use super::memory_pool::{Buffer, Content, MemoryPool, Reservation, StreamingBody, combined};
use super::piece_reader::PieceReader;
use super::request::CopyFailure;
use super::session::{CopySession, check_claim};
use super::store::Sent;

/// Memory for a piece that is sent while it is received: one block being received, one waiting, one being sent, one to spare.
const STREAMED_PIECE_BYTES: u64 = 4 * MEBIBYTE;

/// Pieces of one file that are on their way at a time: all that fit into the memory of the copier.
const MAX_PIECES_IN_FLIGHT: usize = 7;

/// How long pieces that are on their way may take when another one has failed for good. Longer than a piece takes from an
/// origin that is worth waiting for.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a long copy logs its progress. Chosen freely.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

/// A multipart upload.
#[derive(Debug)]
struct Upload {
    id: String,
    key: String,
    content_type: String,
    source: Arc<SourceVersion>,
    piece_size: u64,
    /// `ETag` and checksum of each finished part.
    parts: Vec<Option<(String, u64)>>,
}

/// A part that was written: number of its piece, `ETag`, checksum.
type Part = (u64, String, u64);

impl Upload {
    fn new(id: String, key: String, content_type: &str, source: Arc<SourceVersion>, piece_size: u64) -> Self {
        let pieces = usize::try_from(source.length.div_ceil(piece_size)).unwrap_or(usize::MAX);
        Self { id, key, content_type: content_type.to_owned(), source, piece_size, parts: vec![None; pieces] }
    }

    /// The upload that was kept. None when it is that of another artifact, or of a release that cut files differently.
    fn from_saved(saved: SavedUpload, key_stem: &str) -> Option<Self> {
        let extension = saved.key.strip_prefix(key_stem)?.strip_prefix('.')?;
        let sensible = !extension.is_empty()
            && saved.source.length > 0
            && saved.source.length <= MAX_OBJECT_BYTES
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
            source: SourceVersion::clone(&self.source),
            piece_size: self.piece_size,
            parts: SavedParts(parts),
        })
    }

    fn piece(&self, number: u64) -> Option<Piece> {
        Piece::of(self.source.length, self.piece_size, number)
    }

    /// Numbers of the pieces that are not finished.
    fn missing(&self) -> Vec<u64> {
        (0..).zip(&self.parts).filter(|(_, part)| part.is_none()).map(|(number, _)| number).collect()
    }

    /// Bytes of the finished parts.
    fn finished_bytes(&self) -> u64 {
        let finished = (0..).zip(&self.parts).filter(|(_, part)| part.is_some());
        finished.filter_map(|(number, _)| self.piece(number)).map(|piece| piece.length).sum()
    }

    fn finish(&mut self, parts: impl IntoIterator<Item = Part>) {
        for (number, etag, checksum) in parts {
            if let Some(part) = usize::try_from(number).ok().and_then(|number| self.parts.get_mut(number)) {
                *part = Some((etag, checksum));
            }
        }
    }

    /// The parts in order and the checksum of the whole, when all are finished.
    fn whole(&self) -> Option<(Vec<(String, u64)>, u64)> {
        let parts: Vec<(String, u64)> = self.parts.iter().cloned().collect::<Option<_>>()?;
        let pieces = (0..).map_while(|number| self.piece(number));
        // 0 is the checksum of nothing.
        let whole = parts.iter().zip(pieces).fold(0, |whole, ((_, part), piece)| combined(whole, *part, piece.length));
        Some((parts, whole))
    }
}

/// Resumes an upload that was kept. None when it cannot be resumed; nothing is left of it then.
pub(super) async fn resume(
    session: &CopySession<'_>,
    saved: SavedUpload,
) -> Result<Option<StoredArtifact>, CopyFailure> {
    let Some(mut upload) = Upload::from_saved(saved, session.request.key_stem) else { return Ok(None) };
    session.stats.resumed_bytes.add(upload.finished_bytes());
    match transfer(session, &mut upload, None).await {
        Ok(artifact) => Ok(Some(artifact)),
        Err(Halt::Failed(fault)) => {
            let upload = kept(session, &fault, &upload).await;
            Err(CopyFailure { fault, upload })
        }
        Err(Halt::Restart(_) | Halt::UploadGone) => {
            session.abort_upload(&upload.key, &upload.id).await;
            Ok(None)
        }
    }
}

/// Copies a file of which the first response is here. An error comes with what was kept.
pub(super) async fn start(
    session: &CopySession<'_>,
    source: SourceVersion,
    incoming: Incoming,
    reservation: Reservation,
) -> Result<StoredArtifact, (Halt, Option<SavedUpload>)> {
    let source = Arc::new(source);
    let begun = begin(session, &source, incoming, reservation).await;
    let (mut upload, buffer, reader) = begun.map_err(|halt| (halt, None))?;
    match transfer(session, &mut upload, Some((buffer, reader))).await {
        Ok(artifact) => Ok(artifact),
        Err(Halt::Failed(fault)) => {
            let upload = kept(session, &fault, &upload).await;
            Err((Halt::Failed(fault), upload))
        }
        Err(halt) => {
            session.abort_upload(&upload.key, &upload.id).await;
            Err((halt, None))
        }
    }
}

/// Recognises the file and creates the upload. Gives what came of the first piece meanwhile.
async fn begin(
    session: &CopySession<'_>,
    source: &Arc<SourceVersion>,
    incoming: Incoming,
    reservation: Reservation,
) -> Result<(Upload, Buffer, PieceReader), Halt> {
    session.check_length(source.length)?;
    let size = piece_size(source.length);
    let first = Piece::of(source.length, size, 0).ok_or(Halt::Restart(OriginFault::Changing))?;
    let mut buffer = Buffer::new(reservation);
    let mut reader = PieceReader::of_response(Arc::clone(source), first, incoming);
    session.fetching(reader.fill(session.origin, &mut buffer, SIGNATURE_LENGTH as u64)).await?;
    let format = session.format(&buffer)?;
    check_claim(&buffer, source.length)?;
    let key = session.key(format);
    let id = session.create_upload(&key, format).await?;
    Ok((Upload::new(id, key, format.content_type, Arc::clone(source), size), buffer, reader))
}

/// Decides what is kept of an upload that was not finished: finished parts, if another round can need them.
async fn kept(session: &CopySession<'_>, fault: &CopyFault, upload: &Upload) -> Option<SavedUpload> {
    let saved = upload.saved().filter(|_| fault.is_resumable());
    if saved.is_none() {
        session.abort_upload(&upload.key, &upload.id).await;
    }
    saved
}

/// Copies the missing pieces of an upload and puts the parts together. `first` is what has come of the first piece.
async fn transfer(
    session: &CopySession<'_>,
    upload: &mut Upload,
    first: Option<(Buffer, PieceReader)>,
) -> Result<StoredArtifact, Halt> {
    let (finished, result) = copy_missing(session, upload, first).await;
    upload.finish(finished);
    result?;
    let Some((parts, checksum)) = upload.whole() else { return Err(Halt::Restart(OriginFault::Changing)) };
    let (bytes, content_type) = (upload.source.length, upload.content_type.as_str());
    session.complete(&upload.id, &parts, Sent { key: &upload.key, content_type, bytes, checksum }).await
}

/// Copies the missing pieces, some at a time. Gives the parts that were finished, even if one failed.
async fn copy_missing(
    session: &CopySession<'_>,
    upload: &Upload,
    mut first: Option<(Buffer, PieceReader)>,
) -> (Vec<Part>, Result<(), Halt>) {
    let mut missing = upload.missing().into_iter();
    let mut finished = Vec::with_capacity(missing.len());
    let mut in_flight = FuturesUnordered::new();
    let mut progress = tokio::time::interval_at(Instant::now() + PROGRESS_INTERVAL, PROGRESS_INTERVAL);
    let result = loop {
        while in_flight.len() < MAX_PIECES_IN_FLIGHT
            && let Some(number) = missing.next()
        {
            in_flight.push(copy_piece(session, upload, number, if number == 0 { first.take() } else { None }));
        }
        tokio::select! {
            biased;
            piece = in_flight.next() => match piece {
                None => break Ok(()),
                Some(Ok(part)) => finished.push(part),
                // No more is begun, and what is on its way is not thrown away: another round can resume it.
                Some(Err(Halt::Failed(fault))) if fault.is_resumable() => {
                    let drain_until = session.send_until.min(Instant::now() + DRAIN_TIMEOUT);
                    let _ = timeout_at(drain_until, async {
                        while let Some(piece) = in_flight.next().await {
                            finished.extend(piece.ok());
                        }
                    })
                    .await;
                    break Err(Halt::Failed(fault));
                }
                Some(Err(halt)) => break Err(halt),
            },
            _ = progress.tick() => tracing::info!(
                task = %session.request.task,
                copy.key = upload.key,
                copy.file_bytes = upload.source.length,
                copy.received_bytes = session.stats.received_bytes.get(),
                copy.finished_parts = finished.len(),
                copy.parts = upload.parts.len(),
                "copy in progress"
            ),
        }
    };
    drop(in_flight);
    (finished, result)
}

/// Copies one piece.
async fn copy_piece(
    session: &CopySession<'_>,
    upload: &Upload,
    number: u64,
    first: Option<(Buffer, PieceReader)>,
) -> Result<Part, Halt> {
    let piece = upload.piece(number).ok_or(Halt::Restart(OriginFault::Changing))?;
    if piece.length > MAX_HELD_PIECE {
        // What there is of it is in a buffer of another kind; it is a few kilobytes.
        drop(first);
        return copy_streamed_piece(session, upload, number, piece).await;
    }
    let content = session.fetching(async {
        let (mut buffer, mut reader) = if let Some(first) = first {
            first
        } else {
            let buffer = Buffer::new(session.memory.reserve(piece.length).await);
            (buffer, PieceReader::new(Arc::clone(&upload.source), piece))
        };
        reader.fill(session.origin, &mut buffer, piece.length).await?;
        if number == 0 {
            check_claim(&buffer, upload.source.length)?;
        }
        Ok(buffer.finish())
    });
    let content = content.await?;
    let etag = session.send_part(&upload.key, &upload.id, number + 1, &content).await?;
    Ok((number, etag, content.checksum()))
}

/// Copies a piece that is too large to be held: the part is sent while the piece is received. The SDK cannot send such a part
/// again by itself, so the piece is copied again.
async fn copy_streamed_piece(
    session: &CopySession<'_>,
    upload: &Upload,
    number: u64,
    piece: Piece,
) -> Result<Part, Halt> {
    let mut failures = FailureCount::default();
    loop {
        let memory =
            session.fetching(async { Ok(session.memory.reserve(STREAMED_PIECE_BYTES).await.into_pool()) }).await?;
        let (sender, body) = StreamingBody::new(piece.length);
        let receiving = session.fetching(receive_blocks(session, &upload.source, piece, memory, sender));
        let sending = session.sending(async {
            let store = session.store;
            let sent = store.upload_streamed_part(&upload.key, &upload.id, number + 1, piece.length, body);
            sent.await.map_err(Halt::from)
        });
        match futures_util::future::try_join(receiving, sending).await {
            Ok((checksum, etag)) => {
                session.stats.parts.add(1);
                return Ok((number, etag, checksum));
            }
            Err(Halt::Failed(fault @ CopyFault::Storage { .. })) => {
                session.origin.wait_after_storage(&mut failures, fault).await?;
            }
            Err(halt) => return Err(halt),
        }
    }
}

/// Receives a piece block by block. Gives its checksum.
async fn receive_blocks(
    session: &CopySession<'_>,
    source: &Arc<SourceVersion>,
    piece: Piece,
    memory: Arc<MemoryPool>,
    sender: mpsc::Sender<Content>,
) -> Result<u64, Halt> {
    let mut reader = PieceReader::new(Arc::clone(source), piece);
    let mut whole = 0;
    while !reader.is_complete() {
        let mut buffer = Buffer::new(memory.reserve(MEBIBYTE).await);
        reader.fill(session.origin, &mut buffer, MEBIBYTE).await?;
        let content = buffer.finish();
        whole = combined(whole, content.checksum(), content.length());
        if sender.send(content).await.is_err() {
            // The other half has ended, and says why.
            return std::future::pending().await;
        }
    }
    Ok(whole)
}
