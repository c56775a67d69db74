//! The one back-off of everything that waits before it tries again: polls, copies, re-queues.

use std::time::Duration;

use sha2::{Digest, Sha256};

/// By how much a delay grows from one attempt to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// Twice the delay before: for failures, where every further attempt is less likely to help.
    Double,
    /// One and a half times the delay before: for polls, which wait for something that is expected to happen.
    HalfAgain,
}

/// A delay that grows with each attempt up to a limit. Tasks that fail together are spread out by jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Nominal delay after the first attempt.
    pub first: Duration,
    /// Longest nominal delay. Jitter comes on top of it.
    pub max: Duration,
    /// How the delay grows.
    pub growth: Growth,
}

impl Backoff {
    /// The delay after attempt number `attempt`, from 1; 0 counts as 1. Never less than the nominal delay and at most a
    /// quarter more, so that a promised minimum holds. Pure: the jitter follows from `seed` (see [`seed_of`]) and `attempt`.
    pub fn delay(&self, attempt: u32, seed: u64) -> Duration {
        jittered(self.nominal(attempt), seed ^ u64::from(attempt))
    }

    /// The delay when this long was waited already, for what is tried without counting attempts: it grows as if each attempt
    /// had come on time. Jitter as in [`Backoff::delay`].
    pub fn delay_after(&self, waited: Duration, seed: u64) -> Duration {
        let nominal = match self.growth {
            Growth::Double => waited,
            Growth::HalfAgain => waited / 2,
        };
        jittered(nominal.clamp(self.first.min(self.max), self.max), seed ^ waited.as_secs())
    }

    fn nominal(&self, attempt: u32) -> Duration {
        let mut delay = self.first.min(self.max);
        for _ in 1..attempt {
            // A delay of zero never grows.
            if delay >= self.max || delay.is_zero() {
                break;
            }
            delay = match self.growth {
                Growth::Double => delay.saturating_mul(2),
                // At least a nanosecond more, so that the loop ends.
                Growth::HalfAgain => delay.saturating_add((delay / 2).max(Duration::from_nanos(1))),
            }
            .min(self.max);
        }
        delay
    }
}

/// A delay with up to a quarter more.
fn jittered(nominal: Duration, seed: u64) -> Duration {
    // A 16-bit fraction of a quarter. A `Duration` divided and multiplied stays exact to a few nanoseconds.
    let fraction = u32::from(u16::try_from(split_mix(seed) >> 48).unwrap_or(u16::MAX));
    nominal.saturating_add((nominal / 4 / (1 << 16)).saturating_mul(fraction))
}

/// A seed for [`Backoff::delay`] from what the waiting one is called, a task key for example: the same in every process.
pub fn seed_of(text: &str) -> u64 {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(8).fold(0, |seed, byte| (seed << 8) | u64::from(*byte))
}

/// [SplitMix64](https://prng.di.unimi.it/splitmix64.c): spreads neighbouring seeds over all 64 bits.
fn split_mix(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn nominal_seconds(backoff: Backoff) -> Vec<u64> {
        (1..=7).map(|attempt| backoff.nominal(attempt).as_secs()).collect()
    }

    #[test]
    fn delays_grow_to_their_limit() {
        let double = Backoff { first: 10 * SECOND, max: 240 * SECOND, growth: Growth::Double };
        assert_eq!(nominal_seconds(double), [10, 20, 40, 80, 160, 240, 240]);
        let half_again = Backoff { first: 10 * SECOND, max: 60 * SECOND, growth: Growth::HalfAgain };
        assert_eq!(nominal_seconds(half_again), [10, 15, 22, 33, 50, 60, 60]);
        assert_eq!(double.nominal(0), 10 * SECOND);
        assert_eq!(double.nominal(u32::MAX), 240 * SECOND);
    }

    #[test]
    fn delays_follow_the_time_waited() {
        let half_again = Backoff { first: 10 * SECOND, max: 60 * SECOND, growth: Growth::HalfAgain };
        for (waited, nominal) in [(0, 10), (20, 10), (60, 30), (90, 45), (1000, 60)] {
            let delay = half_again.delay_after(Duration::from_secs(waited), 3);
            let nominal = Duration::from_secs(nominal);
            assert!(delay >= nominal && delay <= nominal + nominal / 4, "{waited}: {delay:?}");
        }
    }

    #[test]
    fn jitter_adds_up_to_a_quarter_and_takes_nothing_away() {
        let backoff = Backoff { first: 10 * SECOND, max: 240 * SECOND, growth: Growth::Double };
        for attempt in 0..20 {
            for seed in 0..200 {
                let nominal = backoff.nominal(attempt);
                let delay = backoff.delay(attempt, seed);
                assert!(delay >= nominal && delay <= nominal + nominal / 4, "{attempt} {seed}: {delay:?}");
            }
        }
    }

    #[test]
    fn tasks_that_fail_together_come_back_spread_out() {
        let backoff = Backoff { first: 100 * SECOND, max: 100 * SECOND, growth: Growth::Double };
        let mut per_second = [0; 26];
        for number in 0..1000 {
            let delay = backoff.delay(1, seed_of(&format!("kling/job-{number}")));
            per_second[usize::try_from(delay.as_secs() - 100).expect("a few seconds")] += 1;
        }
        assert!(per_second[..25].iter().all(|count| (15..=80).contains(count)), "{per_second:?}");
        let of_one: Vec<_> = (1..=4).map(|attempt| backoff.delay(attempt, seed_of("kling/job-1"))).collect();
        assert!(of_one.windows(2).all(|pair| pair[0] != pair[1]), "{of_one:?}");
        assert_eq!(of_one[0], backoff.delay(1, seed_of("kling/job-1")));
    }

    #[test]
    fn extremes_neither_panic_nor_hang() {
        let nothing = Backoff { first: Duration::ZERO, max: SECOND, growth: Growth::HalfAgain };
        assert_eq!(nothing.delay(u32::MAX, 1), Duration::ZERO);
        let endless = Backoff { first: Duration::MAX, max: Duration::MAX, growth: Growth::Double };
        assert_eq!(endless.delay(u32::MAX, u64::MAX), Duration::MAX);
        let reversed = Backoff { first: 10 * SECOND, max: SECOND, growth: Growth::Double };
        assert_eq!(reversed.nominal(1), SECOND);
    }
}
