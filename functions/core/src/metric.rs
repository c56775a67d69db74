//! Everything that is counted or measured, with what it means. `reelhook-aws` writes it; the table in
//! `infra/OPERATIONS.md` is generated from here.

use strum::EnumMessage as _;

/// A metric in the namespace `reelhook`. Its name in `CloudWatch` is the variant's, its meaning there is the variant's comment
/// here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::EnumMessage, strum::IntoStaticStr, strum::VariantArray)]
pub enum Metric {
    /// A callback was recorded as new: a report, or a hint that a status poll is to confirm.
    CallbackAccepted,
    /// A callback said what was known already.
    CallbackDuplicate,
    /// A callback contradicted a success that is held, and changed nothing.
    CallbackContradicting,
    /// A callback was refused: token or signature.
    CallbackRefused,
    /// An authentic callback could not be read.
    CallbackUnreadable,
    /// A callback could not be recorded, by our fault: the provider got a 503.
    CallbackUnavailable,
    /// How much of the time that the provider waits had passed when a callback was answered, without the network.
    AcknowledgedWithin,
    /// An authentic callback was about no task we can tell, and is kept for an operator.
    CallbackKept,
    /// A callback came through the URL of another task.
    ForeignUrl,
    /// A hint was refuted by the provider: a mistake, or somebody who learned a callback URL.
    HintRefuted,
    /// A callback was acted on unconfirmed, because the provider could not be polled while its links lived.
    FallbackUsed,
    /// A status word the adapter does not know.
    UnknownStatus,
    /// A success replaced a failure.
    SuccessAfterFailure,
    /// A recorded task could not be queued; `poll` queues it within minutes.
    QueueFailed,
    /// A task ended with its result in the bucket.
    TaskArchived,
    /// A task ended as failed.
    TaskFailed,
    /// A task ended as lost.
    TaskLost,
    /// From the report to the result in the bucket.
    SecondsToSave,
    /// 100 for a task whose callback never came, 0 for one whose callback did: the average is the share of lost callbacks.
    FoundByPolling,
    /// A round of copies left a file to a later round.
    CopyRetried,
    /// A status poll found that a task had ended whose callback never came.
    PollRescued,
    /// A provider refused a status poll, or did not respond.
    PollRefused,
    /// A due task that a run of `poll` left to the next one.
    PollLeftOver,
    /// Length of a file that was copied.
    CopyBytes,
    /// Speed of its copy.
    CopyBytesPerSecond,
    /// Parts it was written in; 1 for a single request.
    CopyParts,
    /// Requests that were repeated for it.
    CopyRetries,
    /// How much of its link's life was left when it was copied.
    CopySecondsBeforeExpiry,
}

/// The unit of a metric, in `CloudWatch`'s words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// How often.
    Count,
    /// Bytes.
    Bytes,
    /// Bytes per second.
    BytesPerSecond,
    /// Seconds.
    Seconds,
    /// Of a hundred.
    Percent,
}

impl Metric {
    /// The name in `CloudWatch`.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// What it counts or measures.
    pub fn meaning(self) -> &'static str {
        self.get_documentation().unwrap_or_default()
    }

    /// Whether it is written with the provider as well. Each provider is a series of its own, at 0.30 USD a month, so only what
    /// the dashboard tells apart.
    pub fn by_provider(self) -> bool {
        matches!(
            self,
            Self::CallbackAccepted
                | Self::CallbackDuplicate
                | Self::CallbackRefused
                | Self::CallbackUnreadable
                | Self::PollRescued
                | Self::PollRefused
        )
    }

    /// The unit.
    pub fn unit(self) -> Unit {
        match self {
            Self::CopyBytes => Unit::Bytes,
            Self::CopyBytesPerSecond => Unit::BytesPerSecond,
            Self::CopySecondsBeforeExpiry | Self::SecondsToSave => Unit::Seconds,
            Self::AcknowledgedWithin | Self::FoundByPolling => Unit::Percent,
            _ => Unit::Count,
        }
    }
}

impl Unit {
    /// The name in `CloudWatch`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Count => "Count",
            Self::Bytes => "Bytes",
            Self::BytesPerSecond => "Bytes/Second",
            Self::Seconds => "Seconds",
            Self::Percent => "Percent",
        }
    }
}
