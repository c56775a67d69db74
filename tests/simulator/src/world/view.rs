//! A task as its provider describes it, with the links issued for its files.

use std::{sync::Arc, time::SystemTime};

use serde_json::Value;

use super::{Push, State, World};
use crate::{
    clock,
    files::{self, Link},
    media::{self, Content},
    provider::Dialect,
    providers,
    record::{FileKind, Phase, Stage},
    script::{LinkFate, Outcome},
};

/// Why a body is written, which decides whether it gets new links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A callback has the latest links, dead or not.
    Callback,
    /// A status response replaces dead links, if the provider does that.
    Status,
    /// A request for a link always gets a new one.
    Refresh,
}

/// A file as it appears in a body.
#[derive(Clone, Debug)]
pub(crate) struct FileLink {
    pub(crate) kind: FileKind,
    pub(crate) file_id: String,
    pub(crate) url: String,
    pub(crate) expires_at: SystemTime,
    pub(crate) content: Arc<Content>,
}

/// A snapshot of a task, from which its provider's bodies are written.
#[derive(Clone, Debug)]
pub(crate) struct View {
    /// Scheme and authority of the API, for links into a provider's API.
    pub(crate) origin: String,
    pub(crate) id: String,
    pub(crate) foreign_id: String,
    pub(crate) dialect: Dialect,
    pub(crate) request: Arc<Value>,
    pub(crate) action: String,
    pub(crate) model: String,
    pub(crate) external_id: Option<String>,
    pub(crate) phase: Phase,
    pub(crate) created: SystemTime,
    pub(crate) updated: SystemTime,
    /// Files with links; empty unless the task succeeded.
    pub(crate) files: Vec<FileLink>,
    /// Ids of the files, for providers that issue links in a separate call.
    pub(crate) file_ids: Vec<String>,
}

impl View {
    pub(crate) fn succeeded(&self) -> bool {
        self.phase == Phase::Final(Outcome::Succeed)
    }

    pub(crate) fn files_of(&self, kind: FileKind) -> impl Iterator<Item = &FileLink> {
        self.files.iter().filter(move |file| file.kind == kind)
    }

    /// The link to the first file of a kind; empty if there is none.
    pub(crate) fn url(&self, kind: FileKind) -> String {
        self.files_of(kind).next().map(|file| file.url.clone()).unwrap_or_default()
    }

    /// Picks the provider's status word for an accepted, a waiting and a running task.
    pub(crate) fn status_word(&self, words: [&'static str; 3]) -> &'static str {
        match self.phase {
            Phase::Open(Stage::Accepted) => words[0],
            Phase::Open(Stage::Waiting) => words[1],
            Phase::Open(Stage::Running) | Phase::Final(_) => words[2],
        }
    }

    pub(crate) fn progress(&self) -> u8 {
        match self.phase {
            Phase::Open(Stage::Accepted) => 0,
            Phase::Open(Stage::Waiting) => 10,
            Phase::Open(Stage::Running) => 60,
            Phase::Final(_) => 100,
        }
    }

    /// The same task under the upstream's id.
    pub(crate) fn foreign(&self) -> Self {
        Self { id: self.foreign_id.clone(), external_id: None, ..self.clone() }
    }
}

impl World {
    /// The task as it is now; `None` if its dialect is not wanted, or the provider has no such task.
    pub(crate) fn view(&self, id: &str, purpose: Purpose, wanted: impl Fn(Dialect) -> bool) -> Option<View> {
        let mut state = self.state();
        let task = state.tasks.get(id).filter(|task| !task.hidden && wanted(task.dialect))?;
        let phase = task.phase();
        self.view_in(&mut state, id, phase, purpose)
    }

    /// The task as it was on submission, without links.
    pub(crate) fn initial_view(&self, id: &str) -> Option<View> {
        self.view_in(&mut self.state(), id, Phase::Open(Stage::Accepted), Purpose::Callback)
    }

    fn view_in(&self, state: &mut State, id: &str, phase: Phase, purpose: Purpose) -> Option<View> {
        let task = state.tasks.get_mut(id)?;
        let mut view = View {
            origin: self.config.api_origin.as_ref().unwrap_or(&self.origin).clone(),
            id: task.id.clone(),
            foreign_id: task.foreign_id.clone(),
            dialect: task.dialect,
            request: Arc::clone(&task.request),
            action: task.action.clone(),
            model: task.model.clone(),
            external_id: task.external_id.clone(),
            phase,
            created: task.submitted_at,
            updated: task.since(phase),
            files: Vec::new(),
            file_ids: Vec::new(),
        };
        if !view.succeeded() {
            return Some(view);
        }
        view.file_ids = task.artifacts.iter().map(|artifact| artifact.file_id.clone()).collect();
        let api = task.dialect.api();
        if api.names_files_by_id() && purpose != Purpose::Refresh {
            return Some(view);
        }
        let now = SystemTime::now();
        for index in 0..task.artifacts.len() {
            let artifact = &mut task.artifacts[index];
            let current = artifact.link.as_ref().and_then(|target| state.links.get(target));
            let renew = match (purpose, current) {
                (_, None) | (Purpose::Refresh, _) => true,
                (Purpose::Callback, Some(_)) => false,
                (Purpose::Status, Some(link)) => api.renewed_by_status(!link.works(now)),
            };
            if renew {
                let ttl = task.script.link_ttl.unwrap_or_else(|| api.link_life(artifact.kind, purpose));
                let fate = match task.script.link {
                    LinkFate::Dead | LinkFate::Gone if artifact.links > 0 => LinkFate::Alive,
                    fate => fate,
                };
                state.counter += 1;
                let token = media::mix(self.seed.wrapping_add(state.counter));
                // If an upstream makes the file, callbacks and status responses have the upstream's own link.
                let style = task.dialect.api().sender().link_style(artifact.kind, purpose);
                let target = files::target(api.provider(), style, token, &artifact.name, now, ttl);
                artifact.links += 1;
                artifact.link = Some(target.clone());
                let link =
                    Link { task_id: id.to_owned(), file: index, fate, style, expires_at: clock::later(now, ttl) };
                state.links.insert(target, link);
            }
            let Some((target, link)) =
                artifact.link.as_ref().and_then(|target| Some((target, state.links.get(target)?)))
            else {
                continue;
            };
            view.files.push(FileLink {
                kind: artifact.kind,
                file_id: artifact.file_id.clone(),
                url: format!("{}{target}", self.file_origin()),
                expires_at: link.expires_at,
                content: Arc::clone(&artifact.content),
            });
        }
        Some(view)
    }

    pub(crate) fn file_origin(&self) -> &str {
        self.config.file_origin.as_deref().unwrap_or(&self.origin)
    }

    /// The callback about a phase: the same bytes and message id every time. `None` if the provider sends none.
    pub(crate) fn push(&self, id: &str, phase: Phase) -> Option<Push> {
        let message_id = self.uuid();
        let mut state = self.state();
        if let Some(push) = state.tasks.get(id)?.pushes.get(&phase) {
            return Some(push.clone());
        }
        let view = self.view_in(&mut state, id, phase, Purpose::Callback)?;
        let body = providers::callback_body(&view)?;
        let push = Push { phase, message_id, body: body.to_string().into() };
        state.tasks.get_mut(id)?.pushes.insert(phase, push.clone());
        Some(push)
    }
}
