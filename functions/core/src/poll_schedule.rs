//! When to poll the status of an open task.

use std::time::Duration;

use crate::backoff::{Backoff, Growth};
use crate::providers::adapter::Profile;
use crate::settings::PollSettings;

/// The poll schedule of one provider: the adapter's own figures, with the settings over them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PollSchedule {
    /// From submission to the first status poll.
    pub first: Duration,
    /// Shortest delay between two status polls; the first one when a callback waits to be confirmed.
    pub interval: Duration,
    /// Longest delay between two.
    pub max_interval: Duration,
    /// From submission until an open task is given up.
    pub deadline: Duration,
}

impl PollSchedule {
    /// The schedule of a provider.
    pub fn new(profile: &Profile, settings: &PollSettings) -> Self {
        let interval = settings.interval.unwrap_or(profile.poll_interval);
        Self {
            first: settings.first.unwrap_or(profile.first_poll),
            interval,
            max_interval: settings.max_interval.unwrap_or(profile.max_poll_interval).max(interval),
            deadline: settings.deadline.unwrap_or(profile.deadline),
        }
    }

    /// The delay before the next status poll of a task that has been waited for this long: half of that, within the
    /// schedule's limits, so that each delay is half as long again as the one before. `seed` spreads the tasks of a burst, see
    /// [`Backoff::delay`]. It is never shorter than `retry_after`.
    pub fn next_delay(&self, waited: Duration, retry_after: Option<Duration>, seed: u64) -> Duration {
        let backoff = Backoff { first: self.interval, max: self.max_interval, growth: Growth::HalfAgain };
        backoff.delay_after(waited, seed).max(retry_after.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_longest_and_honour_the_provider() {
        let seconds = Duration::from_secs;
        let schedule = PollSchedule {
            first: seconds(30),
            interval: seconds(10),
            max_interval: seconds(60),
            deadline: seconds(3600),
        };
        for (waited, nominal) in [(0, 10), (30, 15), (60, 30), (120, 60), (86_400, 60)] {
            let delay = schedule.next_delay(seconds(waited), None, 7);
            assert!((seconds(nominal)..=seconds(nominal + nominal / 4 + 1)).contains(&delay), "{waited}: {delay:?}");
        }
        assert_eq!(schedule.next_delay(seconds(1), Some(seconds(90)), 7), seconds(90));
    }
}
