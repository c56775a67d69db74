//! Logs: one JSON object per line with a fixed message and named fields. Secrets and signed links have types that print
//! without what gives access.
//!
//! Other crates know nothing of these types: at `debug` and `trace` the Lambda runtime logs whole events, with the token of
//! the callback URL, and the SDK whole requests, with bodies and signed links. So `LOG_LEVEL` is for our own crates; of
//! others, warnings and errors are logged and never more.

use std::str::FromStr;

use tracing::Span;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::environment;

/// Our crates, whose events print secrets as their types do.
const OWN_CRATES: [&str; 6] = ["reelhook_core", "reelhook_aws", "callback", "process", "poll", "tasks"];

/// The most that is logged of other crates.
const MAX_LEVEL_OF_OTHERS: LevelFilter = LevelFilter::WARN;

/// Starts logging to standard output, as JSON, at the level of `LOG_LEVEL`.
pub fn start() {
    let level = environment::optional(environment::LOG_LEVEL)
        .and_then(|level| LevelFilter::from_str(&level).ok())
        .unwrap_or(LevelFilter::INFO);
    let lines = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        // The invocation, see below.
        .with_current_span(true)
        .with_span_list(false)
        .with_target(false)
        // CloudWatch stamps every line itself.
        .without_time();
    let filter = filter_fn(move |event| *event.level() <= level_of(event.target(), level)).with_max_level_hint(level);
    // Fails only when a subscriber is set already, which is a test that started one.
    let _ = tracing_subscriber::registry().with(lines.with_filter(filter)).try_init();
}

/// What every line of an invocation has in common: the id under which Lambda and its caller know it. Logged at every level.
pub fn invocation(request_id: &str) -> Span {
    tracing::error_span!("invocation", request_id)
}

/// Up to which level events of a target, the path of a module, are logged.
fn level_of(target: &str, level: LevelFilter) -> LevelFilter {
    let (name, _) = target.split_once("::").unwrap_or((target, ""));
    if OWN_CRATES.contains(&name) { level } else { level.min(MAX_LEVEL_OF_OTHERS) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_is_for_our_own_crates() {
        for (target, set, level) in [
            ("callback", LevelFilter::TRACE, LevelFilter::TRACE),
            ("reelhook_aws::table", LevelFilter::DEBUG, LevelFilter::DEBUG),
            ("lambda_runtime::layers::trace", LevelFilter::TRACE, LevelFilter::WARN),
            ("aws_smithy_runtime::client", LevelFilter::DEBUG, LevelFilter::WARN),
            ("polling", LevelFilter::TRACE, LevelFilter::WARN),
            ("hyper", LevelFilter::ERROR, LevelFilter::ERROR),
            ("tasks", LevelFilter::OFF, LevelFilter::OFF),
        ] {
            assert_eq!(level_of(target, set), level, "{target}");
        }
    }
}
