//! The one writer of metrics. They are lines in `CloudWatch`'s embedded metric format, so they cost no call: `CloudWatch`
//! reads them out of the log.

use std::fmt::Write as _;
use std::sync::LazyLock;

use reelhook_core::Provider;
use reelhook_core::metric::Metric;

use crate::clock;
use crate::environment::{STACK_NAME, optional};

/// Namespace of all metrics.
const NAMESPACE: &str = "reelhook";

/// The stack, so that two in one account do not count together.
static STACK: LazyLock<String> = LazyLock::new(|| optional(STACK_NAME).unwrap_or_else(|| "reelhook".to_owned()));

/// Adds to a count of the stack, and of one provider where [`Metric::by_provider`] says so.
pub fn count(metric: Metric, provider: Provider, amount: u64) {
    write(Some(provider).filter(|_| metric.by_provider()), &[(metric, amount)]);
}

/// Writes figures that belong together, in one line.
pub fn measure(figures: &[(Metric, u64)]) {
    write(None, figures);
}

fn write(provider: Option<Provider>, figures: &[(Metric, u64)]) {
    let line = embedded(&STACK, provider, figures, clock::since_epoch().as_millis());
    #[expect(clippy::print_stdout, reason = "an embedded metric is a line of standard output and no log event")]
    {
        println!("{line}");
    }
}

fn embedded(stack: &str, provider: Option<Provider>, figures: &[(Metric, u64)], milliseconds: u128) -> String {
    let dimensions = if provider.is_some() { r#"["Stack"],["Stack","Provider"]"# } else { r#"["Stack"]"# };
    let (mut metrics, mut values) = (String::new(), String::new());
    for (metric, value) in figures {
        let (name, unit) = (metric.name(), metric.unit().name());
        let separator = if metrics.is_empty() { "" } else { "," };
        // Writing to a String cannot fail.
        let _ = write!(metrics, r#"{separator}{{"Name":"{name}","Unit":"{unit}"}}"#);
        let _ = write!(values, r#","{name}":{value}"#);
    }
    let provider = provider.map_or_else(String::new, |provider| format!(r#","Provider":"{provider}""#));
    format!(
        r#"{{"_aws":{{"Timestamp":{milliseconds},"CloudWatchMetrics":[{{"Namespace":"{NAMESPACE}","Dimensions":[{dimensions}],"Metrics":[{metrics}]}}]}},"Stack":"{stack}"{provider}{values}}}"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_lines_cloudwatch_reads() {
        let line = embedded("mine", Some(Provider::Kling), &[(Metric::PollRescued, 2)], 1_772_091_763_000);
        let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(
            value,
            serde_json::json!({
                "_aws": {"Timestamp": 1_772_091_763_000_u64, "CloudWatchMetrics": [{
                    "Namespace": "reelhook", "Dimensions": [["Stack"], ["Stack", "Provider"]],
                    "Metrics": [{"Name": "PollRescued", "Unit": "Count"}],
                }]},
                "Stack": "mine", "Provider": "kling", "PollRescued": 2,
            })
        );
        let line = embedded("mine", None, &[(Metric::CopyBytes, 5), (Metric::CopyParts, 1)], 7);
        let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!((&value["CopyBytes"], &value["CopyParts"]), (&5.into(), &1.into()));
        assert_eq!(value["_aws"]["CloudWatchMetrics"][0]["Dimensions"], serde_json::json!([["Stack"]]));
    }
}
