//! Reading a piece of a known version, over as many connections as it takes. What fails is tried again from where it stopped,
//! as long as it makes progress.

use std::sync::Arc;

use bytes::Bytes;
use reelhook_core::transfer::fault::{CopyFault, OriginFault};
use reelhook_core::transfer::parts::Piece;
use reelhook_core::transfer::ranges::SourceVersion;
use reelhook_core::transfer::retry::{FailureCount, PROGRESS_BYTES};
use tokio::time::Instant;

use super::halt::Halt;
use super::incoming::{Incoming, Next};
use super::memory_pool::Buffer;
use super::origin::OriginSession;

/// A piece that is being read.
#[derive(Debug)]
pub(super) struct PieceReader {
    source: Arc<SourceVersion>,
    piece: Piece,
    /// Bytes of the piece that were put into buffers.
    received: u64,
    incoming: Option<Incoming>,
    /// What came and did not fit into the last buffer.
    rest: Bytes,
    failures: FailureCount,
    moves: u32,
    began: Option<Instant>,
}

impl PieceReader {
    /// A piece of which nothing is there yet.
    pub(super) fn new(source: Arc<SourceVersion>, piece: Piece) -> Self {
        Self {
            source,
            piece,
            received: 0,
            incoming: None,
            rest: Bytes::new(),
            failures: FailureCount::default(),
            moves: 0,
            began: None,
        }
    }

    /// The first piece, which a response already brings.
    pub(super) fn of_response(source: Arc<SourceVersion>, piece: Piece, incoming: Incoming) -> Self {
        Self { incoming: Some(incoming), ..Self::new(source, piece) }
    }

    /// Whether the whole piece was put into buffers.
    pub(super) fn is_complete(&self) -> bool {
        self.received == self.piece.length
    }

    /// Reads until a buffer holds at least `enough`, which it must have room for, or the piece is complete.
    pub(super) async fn fill(
        &mut self,
        origin: &OriginSession<'_>,
        buffer: &mut Buffer,
        enough: u64,
    ) -> Result<(), Halt> {
        let mut mark = self.received;
        loop {
            let before = buffer.length();
            let left = buffer.add(&self.rest).len();
            self.rest = self.rest.split_off(self.rest.len() - left);
            self.received += buffer.length() - before;
            if self.is_complete() {
                // The connection is free for another piece.
                self.incoming = None;
                origin.record_duration(self.piece, self.began);
                return Ok(());
            }
            if buffer.length() >= enough {
                return Ok(());
            }
            let fault = match self.read(origin).await {
                Ok(()) => continue,
                Err(Halt::Failed(CopyFault::Origin(fault))) => fault,
                Err(halt) => return Err(halt),
            };
            self.incoming = None;
            if self.received - mark >= PROGRESS_BYTES {
                self.failures = FailureCount::default();
                origin.stats().retries.add(1);
            } else {
                origin.wait_after(&mut self.failures, fault).await?;
            }
            mark = self.received;
        }
    }

    /// Reads the next bytes, requesting what is missing if there is no response.
    async fn read(&mut self, origin: &OriginSession<'_>) -> Result<(), Halt> {
        let incoming = match &mut self.incoming {
            Some(incoming) => incoming,
            none => none.insert(origin.open_piece(&self.source, self.piece.after(self.received)).await?),
        };
        let began = *self.began.get_or_insert_with(Instant::now);
        match incoming.next(origin.slow_at(began, self.moves)).await {
            Next::Bytes(chunk) => {
                // An origin that sends more than it said is cut.
                let missing = usize::try_from(self.piece.length - self.received).unwrap_or(usize::MAX);
                self.rest = chunk.slice(..chunk.len().min(missing));
                origin.stats().received_bytes.add(self.rest.len() as u64);
                Ok(())
            }
            Next::Nothing => Ok(()),
            // Less than was requested, which an origin may send: the rest is requested.
            Next::End => Err(OriginFault::Dropped.into()),
            Next::Fault(fault) => Err(fault.into()),
            // Others of its length were much faster: the rest is requested on another connection. Unless others were moved
            // at the same time.
            Next::TooSlow => {
                if origin.slow_at(began, self.moves).is_some() {
                    self.incoming = None;
                    self.moves += 1;
                    origin.stats().moves.add(1);
                    origin.stats().retries.add(1);
                }
                Ok(())
            }
        }
    }
}
