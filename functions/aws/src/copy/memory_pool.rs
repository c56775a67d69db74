//! The memory of all copies of an invocation: blocks of 1 MiB, lent out under one ceiling and used again. A piece reserves
//! all it can need before it requests anything from the origin, and nothing that holds a reservation waits for another, so copies
//! wait for each other but never in a circle.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use http_body::{Body, Frame, SizeHint};
use reelhook_core::transfer::parts::MEBIBYTE;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Bytes of a block. A piece is some of them; 1 MiB wastes at most that much for a small file.
const BLOCK: usize = 1 << 20;

/// Memory for file contents, in blocks.
#[derive(Debug)]
pub(super) struct MemoryPool {
    blocks: Arc<Semaphore>,
    /// Blocks that were used and are free again, so that a long copy does not take fresh pages from the system all the time.
    free: Mutex<Vec<Vec<u8>>>,
    /// What it was cut out of, if it is a part of a larger pool.
    _held: Option<Reservation>,
}

impl MemoryPool {
    /// A pool of this many bytes, rounded down to whole blocks.
    pub(super) fn new(bytes: u64) -> Arc<Self> {
        let blocks = usize::try_from(bytes / MEBIBYTE).unwrap_or(usize::MAX).clamp(1, Semaphore::MAX_PERMITS);
        Arc::new(Self { blocks: Arc::new(Semaphore::new(blocks)), free: Mutex::default(), _held: None })
    }

    /// Waits for room for this many bytes. First come, first served.
    pub(super) async fn reserve(self: &Arc<Self>, bytes: u64) -> Reservation {
        let blocks = u32::try_from(bytes.div_ceil(MEBIBYTE)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.blocks).acquire_many_owned(blocks).await;
        Reservation { permit: permit.expect("the semaphore is never closed"), pool: Arc::clone(self) }
    }
}

/// Room for some blocks.
#[derive(Debug)]
pub(super) struct Reservation {
    permit: OwnedSemaphorePermit,
    pool: Arc<MemoryPool>,
}

impl Reservation {
    /// Room for this many bytes out of it, or for what is left.
    pub(super) fn split(&mut self, bytes: u64) -> Self {
        let blocks = usize::try_from(bytes.div_ceil(MEBIBYTE)).unwrap_or(usize::MAX).min(self.permit.num_permits());
        let permit = self.permit.split(blocks).expect("it is no more than there is");
        Self { permit, pool: Arc::clone(&self.pool) }
    }

    /// A pool of its own out of it: for bytes that are streamed through and whose blocks are used over and over.
    pub(super) fn into_pool(self) -> Arc<MemoryPool> {
        let blocks = Arc::new(Semaphore::new(self.permit.num_permits()));
        Arc::new(MemoryPool { blocks, free: Mutex::default(), _held: Some(self) })
    }

    fn block(&mut self) -> Option<Block> {
        let permit = self.permit.split(1)?;
        let memory = self.pool.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Some(Block {
            memory: memory.unwrap_or_else(|| Vec::with_capacity(BLOCK)),
            pool: Arc::clone(&self.pool),
            _permit: permit,
        })
    }
}

/// A block in use. Goes back to the pool when the last reader of its bytes is gone.
#[derive(Debug)]
struct Block {
    memory: Vec<u8>,
    pool: Arc<MemoryPool>,
    // Released after `drop` below has given the memory back, so that there are never more blocks than permits.
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        &self.memory
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let mut memory = std::mem::take(&mut self.memory);
        memory.clear();
        self.pool.free.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
    }
}

/// Bytes that are being received, with the checksum of what is there.
#[derive(Debug)]
pub(super) struct Buffer {
    /// Blocks that are reserved and empty. They are taken at once and not one by one, so that the memory of a long copy is
    /// that of a short one from its first pieces on.
    spare: Vec<Block>,
    blocks: Vec<Block>,
    length: u64,
    digest: Digest,
}

impl Buffer {
    /// An empty buffer. It takes as much as is reserved.
    pub(super) fn new(mut reservation: Reservation) -> Self {
        let spare = std::iter::from_fn(|| reservation.block()).collect();
        Self { spare, blocks: Vec::new(), length: 0, digest: Digest::new(CrcAlgorithm::Crc64Nvme) }
    }

    /// Bytes in it.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Adds bytes, and gives back those that did not fit into what is reserved.
    pub(super) fn add<'a>(&mut self, mut bytes: &'a [u8]) -> &'a [u8] {
        while !bytes.is_empty() {
            if self.blocks.last().is_none_or(|block| block.memory.len() == BLOCK) {
                match self.spare.pop() {
                    Some(block) => self.blocks.push(block),
                    None => break,
                }
            }
            let block = self.blocks.last_mut().expect("there is one with room");
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK - block.memory.len()));
            block.memory.extend_from_slice(now);
            self.digest.update(now);
            self.length += now.len() as u64;
            bytes = later;
        }
        bytes
    }

    /// What there is from an offset on, up to the end of a block.
    pub(super) fn from(&self, offset: u64) -> &[u8] {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        self.blocks.get(offset / BLOCK).and_then(|block| block.memory.get(offset % BLOCK..)).unwrap_or_default()
    }

    /// Closes it.
    pub(super) fn finish(self) -> Content {
        let checksum = self.digest.finalize();
        let blocks = self.blocks.into_iter().map(Bytes::from_owner).collect();
        Content { blocks, length: self.length, checksum }
    }
}

/// Received bytes, ready to be sent as often as it takes.
#[derive(Clone, Debug)]
pub(super) struct Content {
    blocks: VecDeque<Bytes>,
    length: u64,
    checksum: u64,
}

impl Content {
    /// Bytes in it.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// CRC-64/NVME of them.
    pub(super) fn checksum(&self) -> u64 {
        self.checksum
    }

    /// This and what follows it.
    pub(super) fn followed_by(mut self, next: Self) -> Self {
        self.checksum = combined(self.checksum, next.checksum, next.length);
        self.blocks.extend(next.blocks);
        self.length += next.length;
        self
    }

    /// As the body of a request. Can be sent again without a copy.
    pub(super) fn body(&self) -> ByteStream {
        let blocks = self.blocks.clone();
        ByteStream::new(SdkBody::retryable(move || SdkBody::from_body_1_x(Blocks(blocks.clone()))))
    }
}

/// The body of a part that is sent while it is received: blocks as they come, together of a known length.
#[derive(Debug)]
pub(super) struct StreamingBody {
    blocks: mpsc::Receiver<Content>,
    current: VecDeque<Bytes>,
    left: u64,
}

impl StreamingBody {
    /// A body of this length, and where its blocks are put in.
    pub(super) fn new(length: u64) -> (mpsc::Sender<Content>, Self) {
        // One block on its way besides those being received and sent.
        let (sender, blocks) = mpsc::channel(1);
        (sender, Self { blocks, current: VecDeque::new(), left: length })
    }

    /// As the body of a request. It can be sent once.
    pub(super) fn body(self) -> ByteStream {
        ByteStream::new(SdkBody::from_body_1_x(self))
    }
}

/// A part whose other half broke off.
#[derive(Debug, thiserror::Error)]
#[error("the origin's bytes ended early")]
pub(super) struct EndedEarly;

impl Body for StreamingBody {
    type Data = Bytes;
    type Error = EndedEarly;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        loop {
            if let Some(block) = self.current.pop_front() {
                self.left = self.left.saturating_sub(block.len() as u64);
                return Poll::Ready(Some(Ok(Frame::data(block))));
            }
            match ready!(self.blocks.poll_recv(context)) {
                Some(received) => self.current = received.blocks,
                None if self.left > 0 => return Poll::Ready(Some(Err(EndedEarly))),
                None => return Poll::Ready(None),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// CRC-64/NVME of two stretches of bytes, from those of each and the length of the second.
pub(super) fn combined(first: u64, second: u64, second_length: u64) -> u64 {
    crc_fast::checksum_combine(CrcAlgorithm::Crc64Nvme, first, second, second_length)
}

/// A body of known length made of blocks.
struct Blocks(VecDeque<Bytes>);

impl Body for Blocks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Poll::Ready(self.0.pop_front().map(|block| Ok(Frame::data(block))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|block| block.len() as u64).sum())
    }
}
