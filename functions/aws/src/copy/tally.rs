//! What a copy did, for logs and metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use reelhook_core::result::StoredArtifact;
use tokio::time::Instant;

use super::{CopyRequest, Unfinished};
use crate::telemetry;

/// Counters of one copy.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Bytes that came from the origin.
    pub(super) received_bytes: Counter,
    /// Bytes that an earlier copy had brought.
    pub(super) resumed_bytes: Counter,
    /// Parts that were written, a single `PutObject` among them.
    pub(super) parts: Counter,
    /// Pieces that were moved to another connection because the first was slow. Each is a retry as well.
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

impl Tally {
    /// One line per copy, with the same fields whatever became of it, and metrics of those that succeeded.
    pub(super) fn report(
        &self,
        request: &CopyRequest<'_>,
        started: Instant,
        result: &Result<StoredArtifact, Unfinished>,
    ) {
        let milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let received_bytes = self.received_bytes.get();
        let bytes_per_second = received_bytes.saturating_mul(1000) / milliseconds.max(1);
        let seconds_before_expiry = request.expires_at.map(|end| end.since(telemetry::now()));
        let (parts, retries, resumed_bytes) = (self.parts.get(), self.retries.get(), self.resumed_bytes.get());
        let origin = request.link.host();
        match result {
            Ok(artifact) => {
                tracing::info!(
                    copy.key = artifact.key,
                    copy.origin = origin,
                    copy.file_bytes = artifact.bytes,
                    copy.received_bytes = received_bytes,
                    copy.resumed_bytes = resumed_bytes,
                    copy.bytes_per_second = bytes_per_second,
                    copy.milliseconds = milliseconds,
                    copy.parts = parts,
                    copy.retries = retries,
                    copy.seconds_before_expiry = seconds_before_expiry,
                    "file copied"
                );
                let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let line = embedded_metrics(
                    since_epoch.as_millis(),
                    &[
                        ("CopyBytes", "Bytes", Some(artifact.bytes)),
                        ("CopyBytesPerSecond", "Bytes/Second", Some(bytes_per_second)),
                        ("CopyParts", "Count", Some(parts)),
                        ("CopyRetries", "Count", Some(retries)),
                        (
                            "CopySecondsBeforeExpiry",
                            "Seconds",
                            seconds_before_expiry.map(|seconds| u64::try_from(seconds).unwrap_or(0)),
                        ),
                    ],
                );
                #[expect(
                    clippy::print_stdout,
                    reason = "an embedded metric is a line of standard output and no log event"
                )]
                {
                    println!("{line}");
                }
            }
            Err(unfinished) => tracing::warn!(
                copy.key = request.key_stem,
                copy.origin = origin,
                copy.received_bytes = received_bytes,
                copy.resumed_bytes = resumed_bytes,
                copy.bytes_per_second = bytes_per_second,
                copy.milliseconds = milliseconds,
                copy.parts = parts,
                copy.retries = retries,
                copy.seconds_before_expiry = seconds_before_expiry,
                copy.kept_parts = unfinished.upload.as_ref().map_or(0, |upload| upload.parts.0.len()),
                copy.error = %unfinished.error,
                "file not copied"
            ),
        }
    }
}

/// A line in the embedded metric format, without dimensions: the hosts of origins are too many for one.
fn embedded_metrics(milliseconds: u128, figures: &[(&str, &str, Option<u64>)]) -> String {
    let known = || figures.iter().filter_map(|(name, unit, value)| Some((name, unit, (*value)?)));
    let metrics: Vec<String> =
        known().map(|(name, unit, _)| format!(r#"{{"Name":"{name}","Unit":"{unit}"}}"#)).collect();
    let values: Vec<String> = known().map(|(name, _, value)| format!(r#""{name}":{value}"#)).collect();
    format!(
        r#"{{"_aws":{{"Timestamp":{milliseconds},"CloudWatchMetrics":[{{"Namespace":"reelhook","Dimensions":[[]],"Metrics":[{}]}}]}},{}}}"#,
        metrics.join(","),
        values.join(",")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_name_only_what_is_known() {
        let line =
            embedded_metrics(7, &[("CopyBytes", "Bytes", Some(5)), ("CopySecondsBeforeExpiry", "Seconds", None)]);
        let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(value["CopyBytes"], 5);
        assert_eq!(value["_aws"]["Timestamp"], 7);
        let metrics = &value["_aws"]["CloudWatchMetrics"][0]["Metrics"];
        assert_eq!(*metrics, serde_json::json!([{"Name": "CopyBytes", "Unit": "Bytes"}]));
    }
}
