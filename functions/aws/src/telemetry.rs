//! Logs and metrics. Logs are one JSON object per line with a fixed message and named fields; secrets and signed links have
//! types that print without what gives access. Metrics are lines in `CloudWatch`'s embedded metric format, so they cost no
//! call: `CloudWatch` reads them out of the log.

use std::str::FromStr;

use reelhook_core::{Provider, Timestamp};
use tracing::level_filters::LevelFilter;

use crate::environment;

/// Namespace of all metrics.
const NAMESPACE: &str = "reelhook";

/// Starts logging to standard output, as JSON, at the level of `LOG_LEVEL`.
pub fn start() {
    let level = environment::optional(environment::LOG_LEVEL)
        .and_then(|level| LevelFilter::from_str(&level).ok())
        .unwrap_or(LevelFilter::INFO);
    // Fails only when a subscriber is set already, which is a test that started one.
    let _ = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_target(false)
        .with_max_level(level)
        // CloudWatch stamps every line itself.
        .without_time()
        .try_init();
}

/// The present moment. The one clock of the functions.
pub fn now() -> Timestamp {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_seconds(i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX))
}

/// What is counted, by provider and in all. `TaskLost` has an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// A callback that was recorded as new.
    CallbackAccepted,
    /// A callback that said what was known.
    CallbackDuplicate,
    /// A callback that contradicts a success that is held.
    CallbackContradicting,
    /// A callback that was refused: token or signature.
    CallbackRefused,
    /// An authentic callback that could not be read.
    CallbackUnreadable,
    /// A status word the adapter does not know.
    UnknownStatus,
    /// A success that replaced a failure.
    SuccessAfterFailure,
    /// A callback through the URL of another task, recorded under its own id.
    ForeignUrl,
    /// A recorded report that could not be queued; `poll` does it later.
    QueueFailed,
    /// A task settled with its result in the bucket.
    TaskArchived,
    /// A task settled as failed.
    TaskFailed,
    /// A task settled as lost.
    TaskLost,
    /// A copy that did not succeed this time.
    CopyRetried,
    /// A task a poll found final: its callback was lost or late.
    PollRescued,
    /// A question a provider refused or did not answer.
    PollRefused,
    /// Due tasks a run of `poll` left to the next one.
    PollLeftOver,
}

impl Metric {
    /// The name in `CloudWatch`.
    pub fn name(self) -> &'static str {
        match self {
            Self::CallbackAccepted => "CallbackAccepted",
            Self::CallbackDuplicate => "CallbackDuplicate",
            Self::CallbackContradicting => "CallbackContradicting",
            Self::CallbackRefused => "CallbackRefused",
            Self::CallbackUnreadable => "CallbackUnreadable",
            Self::UnknownStatus => "UnknownStatus",
            Self::SuccessAfterFailure => "SuccessAfterFailure",
            Self::ForeignUrl => "ForeignUrl",
            Self::QueueFailed => "QueueFailed",
            Self::TaskArchived => "TaskArchived",
            Self::TaskFailed => "TaskFailed",
            Self::TaskLost => "TaskLost",
            Self::CopyRetried => "CopyRetried",
            Self::PollRescued => "PollRescued",
            Self::PollRefused => "PollRefused",
            Self::PollLeftOver => "PollLeftOver",
        }
    }
}

/// Adds to a count of one provider.
pub fn count(metric: Metric, provider: Provider, amount: u64) {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let line = embedded_metric(metric, provider, amount, since_epoch.as_millis());
    #[expect(clippy::print_stdout, reason = "an embedded metric is a line of standard output and no log event")]
    {
        println!("{line}");
    }
}

fn embedded_metric(metric: Metric, provider: Provider, amount: u64, milliseconds: u128) -> String {
    let name = metric.name();
    format!(
        r#"{{"_aws":{{"Timestamp":{milliseconds},"CloudWatchMetrics":[{{"Namespace":"{NAMESPACE}","Dimensions":[["Provider"],[]],"Metrics":[{{"Name":"{name}","Unit":"Count"}}]}}]}},"Provider":"{provider}","{name}":{amount}}}"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_lines_cloudwatch_reads() {
        let line = embedded_metric(Metric::TaskLost, Provider::Kling, 2, 1_772_091_763_000);
        let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(value["TaskLost"], 2);
        assert_eq!(value["Provider"], "kling");
        assert_eq!(value["_aws"]["Timestamp"], 1_772_091_763_000_u64);
        assert_eq!(value["_aws"]["CloudWatchMetrics"][0]["Metrics"][0]["Name"], "TaskLost");
    }
}
