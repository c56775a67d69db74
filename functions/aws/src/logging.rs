//! Logs: one JSON object per line with a fixed message and named fields. Secrets and signed links have types that print
//! without what gives access.

use std::str::FromStr;

use tracing::level_filters::LevelFilter;

use crate::environment;

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
