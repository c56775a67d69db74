//! When to look at a task again.

use crate::providers::Profile;
use crate::settings::PollSettings;
use crate::time::Timestamp;

/// The pace at which one provider is asked, with the settings applied over the adapter's own numbers. All in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// From submission to the first question.
    pub first: i64,
    /// Between the first and the second question.
    pub interval: i64,
    /// Longest gap.
    pub longest: i64,
    /// From submission until the task is given up.
    pub deadline: i64,
}

impl Pace {
    /// The pace of a provider.
    pub fn new(profile: &Profile, settings: &PollSettings) -> Self {
        let pick = |set: Option<u32>, own: u32| i64::from(set.unwrap_or(own).max(1));
        let interval = pick(settings.interval_seconds, profile.poll_interval);
        Self {
            first: pick(settings.first_seconds, profile.first_poll),
            interval,
            longest: pick(settings.longest_interval_seconds, profile.longest_poll_interval).max(interval),
            deadline: pick(settings.deadline_seconds, profile.deadline),
        }
    }

    /// Seconds until the next question after this many: each gap is half as long again as the one before, up to the
    /// longest. A provider that asks to wait is given at least that.
    pub fn next_gap(&self, questions: u32, retry_after: Option<u32>) -> i64 {
        let mut gap = self.interval;
        for _ in 1..questions {
            if gap >= self.longest {
                break;
            }
            gap = gap + gap / 2 + 1;
        }
        gap.min(self.longest).max(retry_after.map_or(0, i64::from))
    }
}

/// Shortest and longest wait before a copy is tried again, in seconds. The shortest is about what an object store needs to
/// show a file that a provider announced too early; the longest leaves several tries within the shortest link life there
/// is, 20 minutes (KIE's download-url).
const COPY_RETRY: (i64, i64) = (10, 240);

/// When to try a copy again after this many attempts: the wait doubles, and no wait goes past the moment at which most of
/// the link's remaining life would be gone.
pub fn next_copy_attempt(now: Timestamp, attempts: u32, link_dies_at: Option<Timestamp>) -> Timestamp {
    let wait = (COPY_RETRY.0 << attempts.saturating_sub(1).min(16)).min(COPY_RETRY.1);
    let wait = match link_dies_at {
        Some(end) if end > now => wait.min((end.since(now) / 4).max(1)),
        _ => wait,
    };
    now.plus(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_grow_to_the_longest_and_honour_the_provider() {
        let pace = Pace { first: 30, interval: 10, longest: 60, deadline: 3600 };
        let gaps: Vec<i64> = (1..8).map(|questions| pace.next_gap(questions, None)).collect();
        assert_eq!(gaps, [10, 16, 25, 38, 58, 60, 60]);
        assert_eq!(pace.next_gap(u32::MAX, None), 60);
        assert_eq!(pace.next_gap(1, Some(90)), 90);
    }

    #[test]
    fn copies_are_tried_more_often_when_the_link_is_about_to_die() {
        let now = Timestamp::from_seconds(1_000);
        let waits: Vec<i64> = (1..8).map(|attempts| next_copy_attempt(now, attempts, None).since(now)).collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 240, 240]);
        assert_eq!(next_copy_attempt(now, 6, Some(now.plus(100))).since(now), 25);
        assert_eq!(next_copy_attempt(now, u32::MAX, Some(now.plus(-5))).since(now), 240);
    }
}
