//! Which connection is so much slower than others to the same origin that another one takes over its piece.

use std::time::Duration;

/// Finished pieces whose speed is known before any is called slow.
const PIECES_TO_COMPARE: usize = 3;

/// A piece that takes this many times as long as the middle one is requested again, from where it stopped, on another
/// connection. Chosen freely: far outside the spread of healthy connections to one origin.
const SLOW: u32 = 3;

/// No piece is called slow before this time: setting up another connection takes a few round trips itself.
const NEVER_SLOW_BEFORE: Duration = Duration::from_secs(1);

/// How long a piece may take, given how long others of its length took; none when too few are known.
pub fn straggler_timeout(others: &[Duration]) -> Option<Duration> {
    if others.len() < PIECES_TO_COMPARE {
        return None;
    }
    let mut sorted = others.to_vec();
    let middle = sorted.len() / 2;
    let (_, median, _) = sorted.select_nth_unstable(middle);
    Some((*median * SLOW).max(NEVER_SLOW_BEFORE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_slow_only_compared_with_others() {
        let seconds = |all: &[u64]| all.iter().map(|one| Duration::from_secs(*one)).collect::<Vec<_>>();
        assert_eq!(straggler_timeout(&seconds(&[1, 1])), None);
        assert_eq!(straggler_timeout(&seconds(&[9, 1, 2])), Some(Duration::from_secs(6)));
        assert_eq!(straggler_timeout(&[Duration::from_millis(5); 9]), Some(NEVER_SLOW_BEFORE));
    }
}
