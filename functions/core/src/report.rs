//! What a provider reports about a task, normalised: the only form of a result that anything after the adapters knows.

use serde::{Deserialize, Serialize};

use crate::redacted::SignedUrl;
use crate::time::Timestamp;
use crate::usage::Usage;

/// Longest text of a provider that is kept, in characters. Chosen freely: longer than every message seen.
const MAX_MESSAGE: usize = 1000;

/// Most bytes of a stored report's artifacts, as JSON. An item of the table holds 400 KB; `tests/record_size.rs` adds up what
/// else is in there.
const MAX_ARTIFACT_BYTES: usize = 80 * 1024;

/// Most artifacts of a stored report: the record holds an object's key and an unfinished upload for each. The most seen are 9.
const MAX_ARTIFACTS: usize = 50;

/// The final report about a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Report {
    /// The provider finished it. There may be no artifacts: a few models succeed with text only.
    Succeeded {
        /// The files to copy.
        artifacts: Vec<Artifact>,
        /// What it cost.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        usage: Option<Box<Usage>>,
    },
    /// The provider reports a failure.
    Failed(Failure),
    /// The result is unknown or can no longer be fetched. No provider reports this; reelhook concludes it.
    Lost(Failure),
}

impl Report {
    /// The outcome, without details.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Succeeded { .. } => Outcome::Succeeded,
            Self::Failed(_) => Outcome::Failed,
            Self::Lost(_) => Outcome::Lost,
        }
    }

    /// The same without the artifacts of a success.
    #[must_use]
    pub fn without_artifacts(&self) -> Self {
        match self {
            Self::Succeeded { usage, .. } => Self::Succeeded { artifacts: Vec::new(), usage: usage.clone() },
            Self::Failed(_) | Self::Lost(_) => self.clone(),
        }
    }

    /// Why it failed.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Succeeded { .. } => None,
            Self::Failed(failure) | Self::Lost(failure) => Some(failure),
        }
    }

    /// What it cost, as far as the provider says.
    pub fn usage(&self) -> Option<&Usage> {
        let (Self::Succeeded { usage, .. } | Self::Failed(Failure { usage, .. }) | Self::Lost(Failure { usage, .. })) =
            self;
        usage.as_deref()
    }

    /// When the first of the links expires, as far as that is known.
    pub fn nearest_expiry(&self) -> Option<Timestamp> {
        match self {
            Self::Succeeded { artifacts, .. } => artifacts.iter().filter_map(|artifact| artifact.expires_at).min(),
            Self::Failed(_) | Self::Lost(_) => None,
        }
    }
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Outcome {
    /// The provider finished it.
    Succeeded,
    /// The provider reported a failure.
    Failed,
    /// The result is unknown or can no longer be fetched.
    Lost,
}

impl Outcome {
    /// The value in the table and in `result.json`.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Whether a report with this outcome may replace one that is already held. Only a success may, and only a failure or a
    /// loss: a video that was paid for is still wanted when it arrives late, a late failure is noise.
    pub fn replaces(self, held: Self) -> bool {
        self == Self::Succeeded && held != Self::Succeeded
    }

    /// The outcome to settle where this is the result of the work and another one may be published: a success that is
    /// published is never taken back, and was complete.
    #[must_use]
    pub fn settled_beside(self, published: Option<Self>) -> Self {
        if published == Some(Self::Succeeded) { Self::Succeeded } else { self }
    }

    /// Whether a result with this outcome may take the place of one that is published. Besides a success over anything,
    /// "lost" over "failed": a success replaced the failure and could not be had, and whoever waits for it has to hear so.
    pub fn supersedes(self, published: Self) -> bool {
        self.replaces(published) || (self == Self::Lost && published == Self::Failed)
    }
}

/// A file of a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// What the file is.
    pub kind: Kind,
    /// Where to fetch it.
    #[serde(flatten)]
    pub source: Source,
    /// When the link expires. Each artifact has its own expiry: Vidu's cover lives 1 hour, its video 24.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// Where to fetch an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// At this link.
    Url(SignedUrl),
    /// At this link into the provider's own API, which requires the API key. The key is added when the file is fetched, see
    /// [`crate::credential`], and is never stored.
    Authorized(SignedUrl),
    /// At the provider, under an id that has to be resolved into a link first.
    FileId(String),
}

/// What an artifact is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Kind {
    /// The video.
    Video,
    /// The video with the provider's watermark, where the result has a version of each.
    WatermarkedVideo,
    /// An image that is a result, not a cover.
    Image,
    /// Music, a sound track or a voice.
    Audio,
    /// The cover of a video.
    Cover,
    /// The last frame of a video.
    LastFrame,
}

impl Kind {
    /// Whether the task was submitted for this file. Without its cover a result is complete, without its video it is not.
    pub fn is_essential(self) -> bool {
        matches!(self, Self::Video | Self::Image | Self::Audio)
    }

    /// The value in the settings and in `result.json`.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The name of the file in the bucket, without ordinal and extension.
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
    /// The reason, the same for all providers.
    pub reason: Reason,
    /// Whether submitting the same task again can help.
    pub retryable: bool,
    /// The provider's own code, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The provider's own message, at most 1000 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What it cost all the same. Shown beside the failure, see [`Report::usage`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Box<Usage>>,
}

impl Failure {
    /// A failure without code and message.
    pub fn new(reason: Reason, retryable: bool) -> Self {
        Self { reason, retryable, code: None, message: None, usage: None }
    }

    /// Adds the provider's own code, unless it is empty.
    #[must_use]
    pub fn code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into()).filter(|code| !code.is_empty()).map(|code| shortened(&code));
        self
    }

    /// What the provider said, for a message.
    pub fn words(&self) -> &str {
        self.message.as_deref().or(self.code.as_deref()).unwrap_or("no reason was given")
    }

    /// The same without what it cost, for a document that has that beside the failure.
    #[must_use]
    pub fn without_usage(&self) -> Self {
        Self { usage: None, ..self.clone() }
    }

    /// Adds the provider's own message, cut to 1000 characters, unless it is empty.
    #[must_use]
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into()).filter(|message| !message.is_empty()).map(|message| shortened(&message));
        self
    }
}

/// Why a task or a submission failed, the same for all providers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Reason {
    /// The prompt, an input or the result violates the provider's content policy.
    ContentModeration,
    /// The request is invalid.
    InvalidParameters,
    /// The account has no credits or quota left.
    InsufficientCredits,
    /// Too many requests or tasks at once.
    RateLimited,
    /// A fault at the provider.
    ProviderError,
    /// The provider timed out.
    Timeout,
    /// The task was cancelled.
    Cancelled,
    /// The task waited too long, or its files are gone.
    Expired,
    /// Another reason, or none was given.
    Unknown,
}

impl Reason {
    /// The value in `result.json`.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// The status of a task according to a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskStatus {
    /// Not final.
    Open(Progress),
    /// Final.
    Finished(Report),
}

impl TaskStatus {
    /// A success with these artifacts, as far as an item of the table can hold them. Surplus covers and the like are dropped
    /// before surplus results.
    pub fn succeeded(artifacts: Vec<Artifact>) -> Self {
        Self::Finished(Report::Succeeded { artifacts: bounded(artifacts), usage: None })
    }

    /// The same with what the task cost. An open task costs nothing yet.
    #[must_use]
    pub fn with_usage(mut self, cost: Usage) -> Self {
        match &mut self {
            Self::Finished(
                Report::Succeeded { usage, .. }
                | Report::Failed(Failure { usage, .. })
                | Report::Lost(Failure { usage, .. }),
            ) => *usage = Some(Box::new(cost)).filter(|cost| !cost.is_empty()),
            Self::Open(_) => {}
        }
        self
    }

    /// A failure.
    pub fn failed(failure: Failure) -> Self {
        Self::Finished(Report::Failed(failure))
    }

    /// Open, without details.
    pub fn open() -> Self {
        Self::Open(Progress::default())
    }

    /// Open, because the adapter does not know the status word: the word is counted and the task is polled further.
    pub fn unknown_status(word: &str) -> Self {
        Self::Open(Progress { percent: None, unknown_status: Some(shortened(word)) })
    }
}

/// How far an open task is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// 0 to 100, if the provider reports it.
    pub percent: Option<u8>,
    /// The status word, if the adapter does not know it.
    pub unknown_status: Option<String>,
}

/// The text, cut to [`MAX_MESSAGE`].
pub(crate) fn shortened(text: &str) -> String {
    text.chars().take(MAX_MESSAGE).collect()
}

/// The first [`MAX_ARTIFACTS`] artifacts that fit into [`MAX_ARTIFACT_BYTES`], in the same order; essential ones take
/// precedence.
fn bounded(artifacts: Vec<Artifact>) -> Vec<Artifact> {
    let (mut bytes, mut kept) = (0, 0);
    let mut keep = vec![false; artifacts.len()];
    for essential in [true, false] {
        for (artifact, keep) in artifacts.iter().zip(&mut keep) {
            if artifact.kind.is_essential() == essential {
                let size = serde_json::to_vec(artifact).map_or(usize::MAX, |json| json.len() + 1);
                if kept < MAX_ARTIFACTS && size <= MAX_ARTIFACT_BYTES - bytes {
                    *keep = true;
                    kept += 1;
                    bytes += size;
                }
            }
        }
    }
    artifacts.into_iter().zip(keep).filter(|(_, keep)| *keep).map(|(artifact, _)| artifact).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_success_replaces_and_never_a_success() {
        use Outcome::{Failed, Lost, Succeeded};
        for (new, held, replaces, supersedes) in [
            (Succeeded, Failed, true, true),
            (Succeeded, Lost, true, true),
            (Succeeded, Succeeded, false, false),
            (Failed, Lost, false, false),
            (Failed, Succeeded, false, false),
            (Failed, Failed, false, false),
            (Lost, Failed, false, true),
            (Lost, Lost, false, false),
            (Lost, Succeeded, false, false),
        ] {
            assert_eq!(new.replaces(held), replaces, "{new:?} over {held:?}");
            assert_eq!(new.supersedes(held), supersedes, "{new:?} published over {held:?}");
        }
    }

    #[test]
    fn the_artifacts_of_a_report_fit_into_an_item() {
        let artifact = |kind: Kind, number: usize| Artifact {
            kind,
            source: Source::Url(SignedUrl::new(format!("https://a/{number}?s={}", "x".repeat(8000)))),
            expires_at: None,
        };
        let count = |artifacts: Vec<Artifact>| {
            let TaskStatus::Finished(Report::Succeeded { artifacts, .. }) = TaskStatus::succeeded(artifacts) else {
                panic!("not a success")
            };
            assert!(serde_json::to_vec(&artifacts).expect("artifacts serialise").len() <= MAX_ARTIFACT_BYTES);
            let videos = artifacts.iter().filter(|artifact| artifact.kind == Kind::Video).count();
            (videos, artifacts.len() - videos)
        };
        let with_covers = (0..9).flat_map(|number| [artifact(Kind::Cover, number), artifact(Kind::Video, number)]);
        assert_eq!(count(with_covers.collect()), (9, 1));
        assert_eq!(count((0..50).map(|number| artifact(Kind::Video, number)).collect()), (10, 0));
        assert_eq!(count((0..12).map(|number| artifact(Kind::Cover, number)).collect()), (0, 10));
    }

    #[test]
    fn names_are_those_of_the_stored_form() {
        for (name, stored) in [
            (Kind::WatermarkedVideo.name(), serde_json::to_value(Kind::WatermarkedVideo)),
            (Kind::LastFrame.name(), serde_json::to_value(Kind::LastFrame)),
            (Reason::ContentModeration.name(), serde_json::to_value(Reason::ContentModeration)),
            (Outcome::Lost.name(), serde_json::to_value(Outcome::Lost)),
        ] {
            assert_eq!(stored.expect("names serialise"), name);
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
            usage: None,
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
