//! What a provider says about a task, normalised: the only form in which anything downstream of an adapter knows a result.

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::redacted::SignedUrl;

/// Longest text of a provider that is kept, in characters. Chosen freely: long enough for every message seen.
const LONGEST_MESSAGE: usize = 1000;

/// A final word about a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Report {
    /// The provider made it. The artifacts may be none: a few models succeed with text only.
    Succeeded {
        /// What there is to copy.
        artifacts: Vec<Artifact>,
    },
    /// The provider gave up on it.
    Failed(Failure),
    /// Nobody knows, or nobody can fetch it any more. No provider says this; reelhook concludes it.
    Lost(Failure),
}

impl Report {
    /// The outcome without the details.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Succeeded { .. } => Outcome::Succeeded,
            Self::Failed(_) => Outcome::Failed,
            Self::Lost(_) => Outcome::Lost,
        }
    }

    /// When the first of the links dies, if any has a known end.
    pub fn nearest_expiry(&self) -> Option<Timestamp> {
        match self {
            Self::Succeeded { artifacts } => artifacts.iter().filter_map(|artifact| artifact.expires_at).min(),
            Self::Failed(_) | Self::Lost(_) => None,
        }
    }
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The provider made it.
    Succeeded,
    /// The provider gave up on it.
    Failed,
    /// Nobody knows, or nobody can fetch it any more.
    Lost,
}

impl Outcome {
    /// The word in the table and in `result.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Lost => "lost",
        }
    }

    /// The outcome with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Succeeded, Self::Failed, Self::Lost].into_iter().find(|outcome| outcome.name() == name)
    }

    /// Whether a report with this outcome may take the place of one that is already held. Only a success may, and only of
    /// something that is no success: a video that was paid for and arrives late is still wanted, a late failure is noise.
    pub fn replaces(self, held: Self) -> bool {
        self == Self::Succeeded && held != Self::Succeeded
    }
}

/// One file of a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// What it is.
    pub kind: Kind,
    /// Where it is.
    #[serde(flatten)]
    pub source: Source,
    /// When the link dies. Each artifact has its own: Vidu's cover lives 1 hour, its video 24.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// Where an artifact is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Behind a link.
    Url(SignedUrl),
    /// At the provider, under an id that has to be turned into a link first.
    FileId(String),
}

/// What an artifact is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The video.
    Video,
    /// The video with the provider's watermark, where both are given.
    WatermarkedVideo,
    /// An image that is a result of its own.
    Image,
    /// A sound track or voice.
    Audio,
    /// The cover of a video.
    Cover,
    /// The last frame of a video.
    LastFrame,
}

impl Kind {
    /// Every kind, in the order in which files are copied when nothing else decides.
    pub const ALL: [Self; 6] =
        [Self::Video, Self::Image, Self::Audio, Self::LastFrame, Self::Cover, Self::WatermarkedVideo];

    /// Whether the task was submitted for it. A result without its cover is a result; one without its video is none.
    pub fn is_essential(self) -> bool {
        matches!(self, Self::Video | Self::Image | Self::Audio)
    }

    /// The word in settings and `result.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Video => "video",
            Self::WatermarkedVideo => "watermarked_video",
            Self::Image => "image",
            Self::Audio => "audio",
            Self::Cover => "cover",
            Self::LastFrame => "last_frame",
        }
    }

    /// The name of its file in the bucket, without number and extension.
    pub fn file_stem(self) -> &'static str {
        match self {
            Self::Video => "video",
            Self::WatermarkedVideo => "video-watermarked",
            Self::Image => "image",
            Self::Audio => "audio",
            Self::Cover => "cover",
            Self::LastFrame => "last-frame",
        }
    }
}

/// Why a task or a submission failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// One word of the one taxonomy.
    pub reason: Reason,
    /// Whether submitting the same again can help.
    pub retryable: bool,
    /// The provider's own code, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The provider's own words, at most 1000 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl Failure {
    /// A failure with a reason and nothing else said.
    pub fn new(reason: Reason, retryable: bool) -> Self {
        Self { reason, retryable, code: None, message: None }
    }

    /// With the provider's own code; an empty one is none.
    #[must_use]
    pub fn code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into()).filter(|code| !code.is_empty()).map(|code| shortened(&code));
        self
    }

    /// With the provider's own words; empty ones are none, over-long ones are cut.
    #[must_use]
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into()).filter(|message| !message.is_empty()).map(|message| shortened(&message));
        self
    }
}

/// The one taxonomy of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The prompt, the input or the result was judged not allowed.
    ContentModeration,
    /// The request itself is wrong.
    InvalidParameters,
    /// The account has no money or quota left.
    InsufficientCredits,
    /// Too many requests or tasks at once.
    RateLimited,
    /// The provider's own trouble.
    ProviderError,
    /// The provider ran out of time.
    Timeout,
    /// Somebody cancelled it.
    Cancelled,
    /// It waited too long, or its files are gone.
    Expired,
    /// None of these, or nothing was said.
    Unknown,
}

impl Reason {
    /// The word in `result.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::ContentModeration => "content_moderation",
            Self::InvalidParameters => "invalid_parameters",
            Self::InsufficientCredits => "insufficient_credits",
            Self::RateLimited => "rate_limited",
            Self::ProviderError => "provider_error",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Unknown => "unknown",
        }
    }
}

/// What a body says about a task: still open, or a final report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// Not final.
    Open(Progress),
    /// Final.
    Final(Report),
}

impl Statement {
    /// A success with these artifacts.
    pub fn succeeded(artifacts: Vec<Artifact>) -> Self {
        Self::Final(Report::Succeeded { artifacts })
    }

    /// A failure.
    pub fn failed(failure: Failure) -> Self {
        Self::Final(Report::Failed(failure))
    }

    /// Open under a status word that the adapter knows.
    pub fn open() -> Self {
        Self::Open(Progress::default())
    }

    /// Open because the status word is none that the adapter knows: the word is counted and the task stays pollable.
    pub fn unknown_status(word: &str) -> Self {
        Self::Open(Progress { percent: None, unknown_status: Some(shortened(word)) })
    }
}

/// How far an open task is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// 0 to 100, where the provider says it.
    pub percent: Option<u8>,
    /// The status word, when the adapter does not know it.
    pub unknown_status: Option<String>,
}

/// The text, cut to what is kept of a provider's words. Cuts between characters.
fn shortened(text: &str) -> String {
    text.chars().take(LONGEST_MESSAGE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_success_replaces_and_never_a_success() {
        use Outcome::{Failed, Lost, Succeeded};
        for (new, held, replaces) in [
            (Succeeded, Failed, true),
            (Succeeded, Lost, true),
            (Succeeded, Succeeded, false),
            (Failed, Lost, false),
            (Failed, Succeeded, false),
            (Failed, Failed, false),
            (Lost, Failed, false),
            (Lost, Succeeded, false),
        ] {
            assert_eq!(new.replaces(held), replaces, "{new:?} over {held:?}");
        }
    }

    #[test]
    fn reports_have_a_stable_stored_form() {
        let report = Report::Succeeded {
            artifacts: vec![
                Artifact {
                    kind: Kind::Video,
                    source: Source::Url(SignedUrl::new("https://a/v.mp4?s=1")),
                    expires_at: Some(Timestamp::from_seconds(5)),
                },
                Artifact { kind: Kind::Cover, source: Source::FileId("7".into()), expires_at: None },
            ],
        };
        let text = serde_json::to_string(&report).expect("reports serialise");
        assert_eq!(
            text,
            r#"{"outcome":"succeeded","artifacts":[{"kind":"video","url":"https://a/v.mp4?s=1","expires_at":5},{"kind":"cover","file_id":"7"}]}"#
        );
        assert_eq!(serde_json::from_str::<Report>(&text).expect("it reads back"), report);
        assert_eq!(report.nearest_expiry(), Some(Timestamp::from_seconds(5)));

        let failed = Report::Failed(Failure::new(Reason::ContentModeration, false).code("1301").message(""));
        let text = serde_json::to_string(&failed).expect("reports serialise");
        assert_eq!(text, r#"{"outcome":"failed","reason":"content_moderation","retryable":false,"code":"1301"}"#);
        assert_eq!(serde_json::from_str::<Report>(&text).expect("it reads back"), failed);
    }
}
