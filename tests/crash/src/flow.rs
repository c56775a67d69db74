//! What a function is in the middle of when something breaks.

use simulator::Provider;

/// A situation, and the function whose calls are broken in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::Display, strum::VariantArray)]
#[strum(serialize_all = "kebab-case")]
pub enum Flow {
    /// `tasks` submits a task.
    Submission,
    /// `callback` receives a success that it acts on.
    NewCallback,
    /// `callback` receives it again.
    DuplicateCallback,
    /// `callback` receives a success that a status poll has to confirm.
    Hint,
    /// `process` carries out a reported success.
    Report,
    /// `process` confirms a hint and carries it out, over a file id.
    ConfirmedHint,
    /// `poll` finds out what a lost callback would have said.
    PollRecovery,
    /// `process` copies a file in several parts.
    LargeCopy,
    /// `callback` receives a success after a failure was published.
    SuccessAfterFailure,
    /// `process` carries it out.
    SuccessOverFailure,
    /// `process` carries out a success whose cover is gone.
    MissingCover,
}

impl Flow {
    /// The provider.
    pub fn provider(self) -> Provider {
        match self {
            Self::Hint => Provider::ApiMart,
            Self::ConfirmedHint => Provider::MiniMax,
            Self::MissingCover => Provider::Ark,
            _ => Provider::Kling,
        }
    }

    /// The function whose calls are broken.
    pub fn function(self) -> &'static str {
        match self {
            Self::Submission => "tasks",
            Self::NewCallback | Self::DuplicateCallback | Self::Hint | Self::SuccessAfterFailure => "callback",
            Self::PollRecovery => "poll",
            _ => "process",
        }
    }

    /// What the simulated provider does with the task. Callbacks are delivered by hand.
    pub fn script(self) -> &'static str {
        match self {
            // Two parts, and a bit.
            Self::LargeCopy => "callback=lose size=17000000",
            Self::SuccessAfterFailure | Self::SuccessOverFailure => "callback=lose outcome=fail then=succeed",
            Self::MissingCover => "callback=lose extras=gone",
            _ => "callback=lose",
        }
    }

    /// Whether a failure comes first.
    pub fn is_reconsidered(self) -> bool {
        matches!(self, Self::SuccessAfterFailure | Self::SuccessOverFailure)
    }
}
