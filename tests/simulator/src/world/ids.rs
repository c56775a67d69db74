//! Ids and other values that never repeat. With the same seed, every run gets the same ones.

use super::World;
use crate::media;

impl World {
    /// A pseudo-random number that never repeats.
    pub(crate) fn next(&self) -> u64 {
        let mut state = self.state();
        state.counter += 1;
        media::mix(self.seed.wrapping_add(state.counter))
    }

    /// A decimal number of `length` digits.
    pub(crate) fn digits(&self, length: usize) -> String {
        let number = format!("{:020}", self.next());
        format!("{}{}", 1 + number.as_bytes()[2] % 9, &number[number.len() - (length - 1)..])
    }

    /// A UUID of version 4.
    pub(crate) fn uuid(&self) -> String {
        let (high, low) = (self.next(), self.next());
        let text = format!("{high:016x}{low:016x}");
        format!("{}-{}-4{}-a{}-{}", &text[..8], &text[8..12], &text[13..16], &text[17..20], &text[20..])
    }

    /// Letters and digits: Crockford's alphabet if `upper`, else lower case.
    pub(crate) fn letters(&self, length: usize, upper: bool) -> String {
        let alphabet: &[u8] =
            if upper { b"0123456789ABCDEFGHJKMNPQRSTVWXYZ" } else { b"abcdefghijklmnopqrstuvwxyz0123456789" };
        let mut number = 0;
        (0..length)
            .map(|index| {
                if index % 8 == 0 {
                    number = self.next();
                }
                let letter = alphabet[usize::try_from(number % alphabet.len() as u64).unwrap_or_default()];
                number /= alphabet.len() as u64;
                char::from(letter)
            })
            .collect()
    }
}
