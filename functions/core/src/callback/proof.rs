//! How a statement about a task is known, and what it may do by itself. The weaker the proof, the less.

use crate::report::Outcome;
use crate::settings::Confirm;

/// How a statement about a task is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Our own authenticated status poll, or our own conclusion.
    Provider,
    /// A signature over the body.
    Body,
    /// A signature that proves the sender only: the content may be wrong, or another customer's.
    Sender,
    /// The token in the URL alone, of a provider that offers a signature too and whose secret is not configured.
    UnverifiedUrl,
    /// The token in the URL alone: it is all the proof the provider offers.
    Url,
}

/// What a final callback may do by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Belief {
    /// It is recorded and acted on.
    Act,
    /// A status poll has to confirm it.
    Hint {
        /// Whether its own links may be used if the provider cannot be polled at all while they live.
        fallback: bool,
    },
}

impl Proof {
    /// What a callback with this proof may do. `is_pollable`: the settings allow status polls of the provider.
    ///
    /// Failures are confirmed like successes: whoever learned a URL could otherwise have the application pay for a second
    /// submission. They never fall back, because a failure that waits loses nothing. Nor does a body that a secret would have
    /// verified: during an outage it would count for more without a signature than with one.
    pub fn belief(self, outcome: Outcome, is_pollable: bool, confirm: Confirm) -> Belief {
        let acts = match self {
            Self::Provider | Self::Body => true,
            // Nobody can confirm it: acted on only at the operator's word.
            Self::Sender => !is_pollable && confirm == Confirm::Never,
            Self::UnverifiedUrl | Self::Url => !is_pollable || confirm == Confirm::Never,
        };
        if acts {
            return Belief::Act;
        }
        Belief::Hint { fallback: self == Self::Url && outcome == Outcome::Succeeded }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weaker_the_proof_the_less_it_does_by_itself() {
        use Confirm::{Never, WhenPossible};
        use Outcome::{Failed, Succeeded};
        let hint = Belief::Hint { fallback: false };
        let with_fallback = Belief::Hint { fallback: true };
        for (proof, is_pollable, confirm, success, failure) in [
            (Proof::Provider, true, WhenPossible, Belief::Act, Belief::Act),
            (Proof::Body, true, WhenPossible, Belief::Act, Belief::Act),
            (Proof::Body, false, WhenPossible, Belief::Act, Belief::Act),
            (Proof::Sender, true, WhenPossible, hint, hint),
            (Proof::Sender, true, Never, hint, hint),
            (Proof::Sender, false, WhenPossible, hint, hint),
            (Proof::Sender, false, Never, Belief::Act, Belief::Act),
            (Proof::UnverifiedUrl, true, WhenPossible, hint, hint),
            (Proof::UnverifiedUrl, true, Never, Belief::Act, Belief::Act),
            (Proof::UnverifiedUrl, false, WhenPossible, Belief::Act, Belief::Act),
            (Proof::Url, true, WhenPossible, with_fallback, hint),
            (Proof::Url, true, Never, Belief::Act, Belief::Act),
            (Proof::Url, false, WhenPossible, Belief::Act, Belief::Act),
        ] {
            let row = format!("{proof:?}, pollable {is_pollable}, confirm {confirm:?}");
            assert_eq!(proof.belief(Succeeded, is_pollable, confirm), success, "{row}");
            assert_eq!(proof.belief(Failed, is_pollable, confirm), failure, "{row}");
        }
    }
}
