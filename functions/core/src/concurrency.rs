//! How many status polls of one provider may be in flight at once: slow start, less after silence, none after a refusal.

use std::time::Duration;

use crate::status_poll::PollResult;

/// Where a run starts with each provider, and how far it goes. A provider that responds within 200 ms is polled 80 times a
/// second at the limit. Chosen freely; no provider documents a limit for status polls.
const FIRST: usize = 2;
const MAX: usize = 16;

/// The concurrency of one provider within a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concurrency {
    /// So many polls at once.
    Limit(usize),
    /// No more in this run: the provider limits the rate, or nothing responds.
    Stopped {
        /// How long the provider is better left alone.
        pause: Duration,
    },
}

impl Default for Concurrency {
    fn default() -> Self {
        Self::Limit(FIRST)
    }
}

impl Concurrency {
    /// The concurrency after some polls: doubled when all were responded to, halved when some were not, stopped at the first
    /// that limits the rate or when none was responded to.
    #[must_use]
    pub fn after<'a>(self, results: impl IntoIterator<Item = &'a PollResult>) -> Self {
        let Self::Limit(limit) = self else { return self };
        let (mut polled, mut silent, mut pause) = (0, 0, Duration::ZERO);
        for result in results {
            polled += usize::from(*result != PollResult::NotPollable);
            if let Some(wanted) = result.pause() {
                if result.limits_rate() {
                    return Self::Stopped { pause: wanted };
                }
                silent += 1;
                pause = pause.max(wanted);
            }
        }
        match silent {
            0 => Self::Limit((limit * 2).min(MAX)),
            silent if silent < polled => Self::Limit((limit / 2).max(1)),
            _ => Self::Stopped { pause },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::adapter::StatusResult;
    use crate::report::{Failure, Reason, TaskStatus};

    #[test]
    fn a_run_starts_slowly_and_stops_at_the_first_refusal() {
        let open = PollResult::Response(StatusResult::Task(TaskStatus::open()));
        let refused = |reason, seconds: Option<u64>| {
            let retry_after = seconds.map(Duration::from_secs);
            PollResult::Response(StatusResult::Refused { failure: Failure::new(reason, true), retry_after })
        };
        let stopped = |seconds| Concurrency::Stopped { pause: Duration::from_secs(seconds) };
        for (before, results, after) in [
            (2, vec![open.clone(), open.clone()], Concurrency::Limit(4)),
            (16, vec![open.clone()], Concurrency::Limit(16)),
            (2, vec![], Concurrency::Limit(4)),
            (2, vec![PollResult::NotPollable], Concurrency::Limit(4)),
            (8, vec![open.clone(), PollResult::NoResponse], Concurrency::Limit(4)),
            (1, vec![open.clone(), PollResult::NoResponse], Concurrency::Limit(1)),
            (8, vec![PollResult::NoResponse, PollResult::NotPollable], stopped(60)),
            (8, vec![open.clone(), refused(Reason::RateLimited, None), open.clone()], stopped(60)),
            (8, vec![refused(Reason::ProviderError, Some(90))], stopped(90)),
            // A refused key concerns no rate, and the other tasks may be another account's.
            (8, vec![open, refused(Reason::Unknown, None)], Concurrency::Limit(16)),
        ] {
            assert_eq!(Concurrency::Limit(before).after(&results), after, "{before} {results:?}");
        }
    }
}
