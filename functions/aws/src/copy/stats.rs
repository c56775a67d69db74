//! What a copy did, for logs and metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use reelhook_core::metric::Metric;
use reelhook_core::result::StoredArtifact;
use tokio::time::Instant;

use super::request::{CopyFailure, CopyRequest};
use crate::clock;
use crate::metrics::measure;

/// Counters of one copy.
#[derive(Debug, Default)]
pub(super) struct CopyStats {
    /// Bytes that came from the origin.
    pub(super) received_bytes: Counter,
    /// Bytes that an earlier round had copied.
    pub(super) resumed_bytes: Counter,
    /// Parts that were written, a single `PutObject` among them.
    pub(super) parts: Counter,
    /// Pieces that were moved to another connection because the first was slow; each is a retry as well.
    pub(super) moves: Counter,
    /// Whatever had to be done again.
    pub(super) retries: Counter,
}

/// A number that grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl CopyStats {
    /// One line per copy, with the same fields whatever became of it, and metrics of those that succeeded.
    pub(super) fn report(
        &self,
        request: &CopyRequest<'_>,
        started: Instant,
        result: &Result<StoredArtifact, CopyFailure>,
    ) {
        let milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let received_bytes = self.received_bytes.get();
        let bytes_per_second = received_bytes.saturating_mul(1000) / milliseconds.max(1);
        let seconds_before_expiry = request.expires_at.map(|end| clock::now().until(end).as_secs());
        let (parts, retries, resumed_bytes) = (self.parts.get(), self.retries.get(), self.resumed_bytes.get());
        let (key, file_bytes, kept_parts, error) = match result {
            Ok(artifact) => (artifact.key.as_str(), Some(artifact.bytes), None, None),
            Err(failure) => {
                let kept_parts = failure.upload.as_ref().map_or(0, |upload| upload.parts.0.len());
                (request.key_stem, None, Some(kept_parts), Some(failure.fault.to_string()))
            }
        };
        tracing::info!(
            task = %request.task,
            copy.key = key,
            copy.origin = request.link.host(),
            copy.file_bytes = file_bytes,
            copy.received_bytes = received_bytes,
            copy.resumed_bytes = resumed_bytes,
            copy.bytes_per_second = bytes_per_second,
            copy.milliseconds = milliseconds,
            copy.parts = parts,
            copy.retries = retries,
            copy.seconds_before_expiry = seconds_before_expiry,
            copy.kept_parts = kept_parts,
            copy.error = error,
            "copy"
        );
        if let Some(bytes) = file_bytes {
            let mut figures = vec![
                (Metric::CopyBytes, bytes),
                (Metric::CopyBytesPerSecond, bytes_per_second),
                (Metric::CopyParts, parts),
                (Metric::CopyRetries, retries),
            ];
            figures.extend(seconds_before_expiry.map(|seconds| (Metric::CopySecondsBeforeExpiry, seconds)));
            measure(&figures);
        }
    }
}
