//! What a test can see: submissions, tasks, deliveries, requests for files.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use bytes::Bytes;

use crate::{
    provider::Provider,
    script::{Outcome, Script},
};

/// How far an open task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Taken.
    Accepted,
    /// In the provider's queue.
    Waiting,
    /// Being made.
    Running,
}

/// Where a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Not done.
    Open(Stage),
    /// Done.
    Final(Outcome),
}

impl Phase {
    /// Whether the task is done.
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
    /// Makes a task.
    Submit,
    /// Asks for one task or several.
    Status,
    /// Asks for a link: `MiniMax`'s file retrieval, KIE's download URL.
    Link,
    /// Cancels or deletes a task.
    Cancel,
}

/// Why a provider refuses a call, in the words of none: each provider says it in its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Wrong or missing fields.
    Parameters,
    /// No key or a wrong one.
    Unauthorized,
    /// No credit.
    Balance,
    /// Content moderation.
    Moderated,
    /// No such task or path.
    NotFound,
    /// Too much at once.
    RateLimited,
    /// The task is not in a state for this.
    Conflict,
    /// The provider's own trouble.
    Server,
}

/// Trouble with calls, ordered by a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// HTTP 429 with `Retry-After` and the provider's body.
    RateLimited {
        /// The value of `Retry-After`.
        retry_after_seconds: u32,
    },
    /// This HTTP status with the provider's body for its own trouble.
    Status(u16),
    /// The provider's own refusal, with the HTTP status that it takes (which may be 200).
    Refused(Refusal),
    /// No answer.
    Hang,
}

/// A submission as it arrived.
#[derive(Clone, Debug)]
pub struct Submission {
    /// To whom.
    pub provider: Provider,
    /// The path behind the provider's name.
    pub path: String,
    /// `Idempotency-Key`, if it came with one.
    pub idempotency_key: Option<String>,
    /// The body, byte for byte.
    pub body: Bytes,
    /// The task it made; none when it was refused.
    pub task_id: Option<String>,
    /// When.
    pub at: SystemTime,
}

/// What a delivery was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryKind {
    /// `MiniMax`'s check of the callback URL.
    Challenge,
    /// A push about an open task.
    Intermediate,
    /// A push about a final task.
    Final,
    /// Asked for by a test.
    OnDemand,
}

/// One attempt to deliver a callback.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// What for.
    pub kind: DeliveryKind,
    /// The state it told of; none for a challenge.
    pub phase: Option<Phase>,
    /// 1 for the first attempt of a push.
    pub attempt: u32,
    /// Where to.
    pub url: String,
    /// What was sent.
    pub headers: Vec<(String, String)>,
    /// What was sent.
    pub body: Bytes,
    /// The HTTP status of the answer; none when there was none.
    pub status: Option<u16>,
    /// The body of the answer, at most 64 KiB of it.
    pub answer: Bytes,
    /// Why there was no answer.
    pub error: Option<String>,
    /// When it was sent.
    pub at: SystemTime,
    /// How long the answer took.
    pub took: Duration,
}

impl Delivery {
    /// Whether it was answered with a 2xx.
    pub fn accepted(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }
}

/// A callback ready to be sent: for tests that want to send a changed one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callback {
    /// Where to.
    pub url: String,
    /// `Content-Type` and whatever signs it.
    pub headers: Vec<(String, String)>,
    /// What.
    pub body: Bytes,
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// The result.
    Video,
    /// The result with the provider's mark on it.
    Watermarked,
    /// A picture for it.
    Cover,
    /// Its last picture.
    LastFrame,
}

/// A file of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileView {
    /// What it is.
    pub kind: FileKind,
    /// Its name within the task.
    pub name: String,
    /// The provider's id for it, where there is one.
    pub file_id: String,
    /// Its length in bytes.
    pub length: u64,
    /// Its media type.
    pub content_type: &'static str,
    /// How many links were issued for it.
    pub links: u32,
    /// How many requests it had, whatever the answer.
    pub requests: u32,
}

/// A request for a file, as it was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRequest {
    /// Whose file; empty when nobody's.
    pub task_id: String,
    /// Its name within the task; the path when the link is nobody's.
    pub name: String,
    /// GET or HEAD.
    pub method: String,
    /// The `Range` header.
    pub range: Option<String>,
    /// The HTTP status of the answer.
    pub status: u16,
    /// When.
    pub at: SystemTime,
}

/// A task as it is at this moment.
#[derive(Clone, Debug)]
pub struct TaskView {
    /// The provider's id.
    pub id: String,
    /// Whose.
    pub provider: Provider,
    /// The model it was submitted for; empty where none is named.
    pub model: String,
    /// Where callbacks go, as submitted.
    pub callback_url: Option<String>,
    /// The customer's own id, as submitted.
    pub external_id: Option<String>,
    /// The id that an upstream gives it in callbacks; equal to `id` where the provider sends them itself.
    pub foreign_id: String,
    /// Where it is.
    pub phase: Phase,
    /// What it is told to do.
    pub script: Script,
    /// Every attempt to deliver a callback.
    pub deliveries: Vec<Delivery>,
    /// Its files, whether it is done or not.
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
