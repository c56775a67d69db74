//! A task: its script, its files and what was delivered about it.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::{Notify, watch};

use crate::{
    clock,
    media::Content,
    provider::Dialect,
    record::{Delivery, FileKind, FileView, Phase, Stage, TaskView},
    script::{Outcome, Script, Then},
};

/// A callback. Every attempt sends the same body and message id, with a new time and signature.
#[derive(Clone, Debug)]
pub(crate) struct Push {
    pub(crate) phase: Phase,
    pub(crate) message_id: String,
    pub(crate) body: Bytes,
}

/// A file of a task and the newest link to it.
pub(super) struct Artifact {
    pub(super) kind: FileKind,
    pub(super) name: String,
    pub(super) file_id: String,
    pub(super) content: Arc<Content>,
    pub(super) link: Option<String>,
    pub(super) links: u32,
    pub(super) requests: u32,
    /// Links that expired while they were read, because of the fault `expires`.
    pub(super) expired: u32,
}

pub(crate) struct Task {
    pub(crate) id: String,
    pub(crate) foreign_id: String,
    pub(crate) dialect: Dialect,
    pub(crate) request: Arc<Value>,
    pub(crate) action: String,
    pub(crate) model: String,
    pub(crate) callback_url: Option<String>,
    pub(crate) external_id: Option<String>,
    pub(crate) script: Script,
    pub(crate) submitted: Instant,
    pub(crate) submitted_at: SystemTime,
    /// Deleted at its provider.
    pub(crate) hidden: bool,
    /// Gets no callbacks: the receiver failed `MiniMax`'s challenge.
    pub(crate) muted: bool,
    /// Steps of the script that are done.
    pub(crate) cursor: usize,
    /// Whether a driver runs the script.
    pub(crate) has_driver: bool,
    pub(crate) changed: Arc<Notify>,
    /// Becomes true once the first attempt of the final callback is over, or the script suppresses it.
    pub(crate) final_step_done: watch::Sender<bool>,
    pub(super) pushes: HashMap<Phase, Push>,
    pub(super) artifacts: Vec<Artifact>,
    pub(super) deliveries: Vec<Delivery>,
}

impl Task {
    /// Time from the submission until the failure turns into a success.
    pub(crate) fn reversal_delay(&self) -> Duration {
        // At least 200 ms after the failure, so that the two callbacks never coincide.
        self.script.delay + self.script.delay.max(Duration::from_millis(200))
    }

    pub(crate) fn phase(&self) -> Phase {
        let elapsed = self.submitted.elapsed();
        let delay = self.script.delay;
        if elapsed >= delay {
            if self.fails_first() && elapsed >= self.reversal_delay() {
                return Phase::Final(Outcome::Succeed);
            }
            return Phase::Final(self.script.outcome);
        }
        Phase::Open(if elapsed < delay / 3 {
            Stage::Accepted
        } else if elapsed < delay / 3 * 2 {
            Stage::Waiting
        } else {
            Stage::Running
        })
    }

    /// Whether the script makes the task fail first and succeed later.
    pub(crate) fn fails_first(&self) -> bool {
        self.script.then == Then::Succeed && self.script.outcome != Outcome::Succeed
    }

    /// When it entered this phase.
    pub(super) fn since(&self, phase: Phase) -> SystemTime {
        let delay = self.script.delay;
        let after = match phase {
            Phase::Open(Stage::Accepted) => Duration::ZERO,
            Phase::Open(Stage::Waiting) => delay / 3,
            Phase::Open(Stage::Running) => delay / 3 * 2,
            Phase::Final(Outcome::Succeed) if self.fails_first() => self.reversal_delay(),
            Phase::Final(_) => delay,
        };
        clock::later(self.submitted_at, after)
    }

    /// The task as a test sees it.
    pub(super) fn to_view(&self) -> TaskView {
        TaskView {
            id: self.id.clone(),
            provider: self.dialect.provider(),
            model: self.model.clone(),
            callback_url: self.callback_url.clone(),
            external_id: self.external_id.clone(),
            foreign_id: self.foreign_id.clone(),
            phase: self.phase(),
            script: self.script.clone(),
            deliveries: self.deliveries.clone(),
            files: self
                .artifacts
                .iter()
                .map(|artifact| FileView {
                    kind: artifact.kind,
                    name: artifact.name.clone(),
                    file_id: artifact.file_id.clone(),
                    length: artifact.content.length(),
                    content_type: artifact.content.content_type(),
                    links: artifact.links,
                    requests: artifact.requests,
                })
                .collect(),
            submitted_at: self.submitted_at,
        }
    }
}

impl Artifact {
    /// The file `name` of the task `id`. Its bytes depend on both names only; `size` is that of a video.
    pub(super) fn new(id: &str, kind: FileKind, name: String, file_id: String, size: Option<u64>) -> Self {
        let seed = format!("{id}/{name}");
        let content = match name.rsplit('.').next() {
            Some("png") => Content::png(&seed),
            Some("jpeg" | "jpg") => Content::jpeg(&seed),
            _ => Content::video(&seed, size),
        };
        Self { kind, name, file_id, content: Arc::new(content), link: None, links: 0, requests: 0, expired: 0 }
    }
}
