//! Reading a file that comes on one connection and in one go.

use bytes::Bytes;

use super::halt::Halt;
use super::incoming::{Incoming, Next};
use super::memory_pool::Buffer;
use super::stats::CopyStats;

/// A file that is being read.
#[derive(Debug)]
pub(super) struct StreamReader {
    incoming: Incoming,
    /// What was received and did not fit into the last buffer.
    rest: Bytes,
    received: u64,
}

impl StreamReader {
    /// Reads on. The connection gives up its permit: it may be read for long.
    pub(super) fn new(mut incoming: Incoming) -> Self {
        incoming.release_permit();
        Self { incoming, rest: Bytes::new(), received: 0 }
    }

    /// Bytes that came so far and were put into buffers.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Reads until a buffer holds at least this much, or the file ends.
    pub(super) async fn begin(&mut self, stats: &CopyStats, buffer: &mut Buffer, enough: u64) -> Result<(), Halt> {
        while buffer.length() < enough && self.next(stats).await? {
            self.pour(buffer);
        }
        Ok(())
    }

    /// Reads until a buffer is full or the file ends; false when it has ended. What follows a full buffer, or that nothing
    /// does, is known only when it is there: so one read more is made.
    pub(super) async fn fill(&mut self, stats: &CopyStats, buffer: &mut Buffer) -> Result<bool, Halt> {
        loop {
            self.pour(buffer);
            if !self.rest.is_empty() {
                return Ok(true);
            }
            if !self.next(stats).await? {
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
    async fn next(&mut self, stats: &CopyStats) -> Result<bool, Halt> {
        loop {
            match self.incoming.next(None).await {
                Next::Bytes(chunk) => {
                    stats.received_bytes.add(chunk.len() as u64);
                    self.rest = chunk;
                    return Ok(true);
                }
                Next::Nothing | Next::TooSlow => {}
                Next::End => return Ok(false),
                Next::Fault(fault) => return Err(Halt::Restart(fault)),
            }
        }
    }
}
