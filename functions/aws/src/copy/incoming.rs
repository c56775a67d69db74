//! A response that is being read.

use std::time::Duration;

use bytes::Bytes;
use reelhook_core::transfer::fault::OriginFault;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

use super::origin_client::OriginResponse;

/// A connection that brings nothing for this long is given up. Origins that fetch a file while they send it pause for a few
/// seconds.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that brings less than [`MIN_WINDOW_BYTES`] in this time counts as stalled: a byte now and then would hold an
/// invocation to its end. 2 KB/s is no origin of videos.
const RATE_WINDOW: Duration = Duration::from_secs(30);
const MIN_WINDOW_BYTES: usize = 64 * 1024;

/// How often a quiet connection is compared with what others have achieved meanwhile.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// A response that is being read, with its permit among the connections to its origin.
#[derive(Debug)]
pub(super) struct Incoming {
    response: OriginResponse,
    permit: Option<OwnedSemaphorePermit>,
    /// How long bytes have been waited for since there were any. Only waiting counts: while the bucket is slow, nobody listens.
    quiet: Duration,
    /// The same since the present [`RATE_WINDOW`] began, and how many bytes came in it.
    window: (Duration, usize),
}

/// What comes next on a connection.
pub(super) enum Next {
    /// Some bytes.
    Bytes(Bytes),
    /// Nothing yet, but it is time to look whether that is too slow.
    Nothing,
    /// The end of the response.
    End,
    /// It broke, or brings next to nothing.
    Fault(OriginFault),
    /// It is slower than others by now.
    TooSlow,
}

impl Incoming {
    pub(super) fn new(response: OriginResponse, permit: Option<OwnedSemaphorePermit>) -> Self {
        Self { response, permit, quiet: Duration::ZERO, window: (Duration::ZERO, 0) }
    }

    pub(super) fn response(&self) -> &OriginResponse {
        &self.response
    }

    /// Frees the permit, for a connection that may be read for long.
    pub(super) fn release_permit(&mut self) {
        self.permit = None;
    }

    /// Waits for the next bytes, at most a second. `slow_at` is when this connection counts as too slow.
    pub(super) async fn next(&mut self, slow_at: Option<Instant>) -> Next {
        let waiting_since = Instant::now();
        let until = slow_at.unwrap_or(waiting_since + CHECK_INTERVAL).min(waiting_since + CHECK_INTERVAL);
        let chunk = timeout_at(until, self.response.chunk()).await;
        let now = Instant::now();
        self.quiet += now - waiting_since;
        self.window.0 += now - waiting_since;
        let next = match chunk {
            Ok(Ok(Some(chunk))) => {
                self.quiet = Duration::ZERO;
                self.window.1 += chunk.len();
                Next::Bytes(chunk)
            }
            Ok(Ok(None)) => Next::End,
            Ok(Err(fault)) => Next::Fault(fault),
            Err(_) if self.quiet >= STALL_TIMEOUT => Next::Fault(OriginFault::Stalled),
            Err(_) if slow_at.is_some_and(|slow_at| slow_at <= now) => Next::TooSlow,
            Err(_) => Next::Nothing,
        };
        if self.window.0 >= RATE_WINDOW {
            if self.window.1 < MIN_WINDOW_BYTES && matches!(next, Next::Bytes(_) | Next::Nothing) {
                return Next::Fault(OriginFault::Stalled);
            }
            self.window = (Duration::ZERO, 0);
        }
        next
    }
}
