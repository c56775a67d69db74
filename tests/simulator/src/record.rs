//! What a test can observe: submissions, tasks, deliveries, requests for files.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use bytes::Bytes;

use crate::{
    provider::Provider,
    script::{Outcome, Script},
};

/// The stage of an open task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Submitted, for the first third of the delay.
    Accepted,
    /// In the provider's queue, for the second third.
    Waiting,
    /// Generating, for the last third.
    Running,
}

/// The phase of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Not finished.
    Open(Stage),
    /// Finished.
    Final(Outcome),
}

impl Phase {
    /// Whether the task is finished.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Final(_))
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(stage) => write!(formatter, "open ({})", format!("{stage:?}").to_lowercase()),
            Self::Final(outcome) => write!(formatter, "final ({})", format!("{outcome:?}").to_lowercase()),
        }
    }
}

/// A kind of call to a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    /// Submits a task.
    Submit,
    /// Requests the status of one task or several.
    Status,
    /// Requests a link: `MiniMax`'s file retrieval, KIE's download URL.
    Link,
    /// Cancels or deletes a task.
    Cancel,
}

/// Why a provider refuses a call. Each provider's module maps this to its own errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Invalid or missing fields.
    Parameters,
    /// A missing or wrong API key.
    Unauthorized,
    /// Insufficient credits.
    Balance,
    /// Content moderation.
    Moderated,
    /// An unknown task or path.
    NotFound,
    /// Rate limit or concurrency limit.
    RateLimited,
    /// The state of the task does not allow the call.
    Conflict,
    /// An internal error.
    Server,
}

/// A fault of a provider's API, injected by a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallFault {
    /// HTTP 429 with `Retry-After` and the provider's body.
    RateLimited {
        /// The value of `Retry-After`.
        retry_after_seconds: u32,
    },
    /// This HTTP status with the body of the provider's internal error.
    Status(u16),
    /// The provider's error for this refusal, with the provider's HTTP status (which may be 200).
    Refused(Refusal),
    /// The response never arrives.
    Hang,
}

/// A submission as it arrived.
#[derive(Clone, Debug)]
pub struct Submission {
    /// The provider that received it.
    pub provider: Provider,
    /// The path after the provider's name.
    pub path: String,
    /// The header `Idempotency-Key`.
    pub idempotency_key: Option<String>,
    /// The body, byte for byte.
    pub body: Bytes,
    /// The task it created; `None` if it was refused.
    pub task_id: Option<String>,
    /// When it arrived.
    pub at: SystemTime,
}

/// What a delivery is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryKind {
    /// `MiniMax`'s challenge of the callback URL.
    Challenge,
    /// An open task.
    Intermediate,
    /// A finished task.
    Final,
    /// The current phase, because a test called [`crate::Simulator::deliver`].
    OnDemand,
}

/// One attempt to deliver a callback.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// What it is about.
    pub kind: DeliveryKind,
    /// The phase it reports; `None` for a challenge.
    pub phase: Option<Phase>,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// The URL it went to.
    pub url: String,
    /// The headers sent.
    pub headers: Vec<(String, String)>,
    /// The body sent.
    pub body: Bytes,
    /// The HTTP status of the response; `None` if there was no response.
    pub status: Option<u16>,
    /// The body of the response, at most 64 KiB.
    pub response: Bytes,
    /// Why there was no response.
    pub error: Option<String>,
    /// When it was sent.
    pub at: SystemTime,
    /// Time until the response was complete.
    pub duration: Duration,
}

impl Delivery {
    /// Whether the receiver returned a 2xx.
    pub fn accepted(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }
}

/// A callback that is ready to send, for tests that modify it first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callback {
    /// The URL that the provider would post to.
    pub url: String,
    /// `Content-Type` and the headers of the signature.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

/// The kind of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// The video.
    Video,
    /// The video with the provider's watermark.
    Watermarked,
    /// A cover picture.
    Cover,
    /// The last frame, as a picture.
    LastFrame,
}

/// A file of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileView {
    /// What it is.
    pub kind: FileKind,
    /// Its name, unique within the task.
    pub name: String,
    /// The provider's id for it, used only by providers that have file ids.
    pub file_id: String,
    /// Its length in bytes.
    pub length: u64,
    /// Its media type.
    pub content_type: &'static str,
    /// The number of links issued for it.
    pub links: u32,
    /// The number of requests for it, whatever the response.
    pub requests: u32,
}

/// A request for a file, and the status it got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRequest {
    /// The task of the file; empty if the link was never issued.
    pub task_id: String,
    /// The name of the file; the path if the link was never issued.
    pub name: String,
    /// GET or HEAD.
    pub method: String,
    /// The `Range` header.
    pub range: Option<String>,
    /// The HTTP status of the response.
    pub status: u16,
    /// When the response began.
    pub at: SystemTime,
}

/// A snapshot of a task.
#[derive(Clone, Debug)]
pub struct TaskView {
    /// The provider's id.
    pub id: String,
    /// The provider it was submitted to.
    pub provider: Provider,
    /// The model in the submission; empty if it names none.
    pub model: String,
    /// The callback URL, as submitted.
    pub callback_url: Option<String>,
    /// The customer's id, as submitted.
    pub external_id: Option<String>,
    /// The task's id in callbacks of an upstream; equal to `id` if the provider sends the callbacks itself.
    pub foreign_id: String,
    /// Its phase.
    pub phase: Phase,
    /// What it does.
    pub script: Script,
    /// Every delivery attempt.
    pub deliveries: Vec<Delivery>,
    /// Its files, whether it is finished or not.
    pub files: Vec<FileView>,
    /// When it was submitted.
    pub submitted_at: SystemTime,
}

impl TaskView {
    /// Deliveries of one kind.
    pub fn deliveries_of(&self, kind: DeliveryKind) -> impl Iterator<Item = &Delivery> {
        self.deliveries.iter().filter(move |delivery| delivery.kind == kind)
    }
}
