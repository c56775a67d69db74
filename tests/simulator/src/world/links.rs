//! Links to files, and the requests for them.

use std::{sync::Arc, time::SystemTime};

use super::World;
use crate::{
    files,
    media::Content,
    origin::{self, Fault, FaultKind},
    provider::Provider,
    record::{FileKind, FileRequest},
    script::ExtrasFate,
};

impl World {
    /// Looks up a link, counts the request, and returns what to serve.
    pub(crate) fn open_link(&self, target: &str) -> Option<files::Found> {
        let mut guard = self.state();
        let state = &mut *guard;
        let link = state.links.get(target)?.clone();
        let task = state.tasks.get_mut(&link.task_id)?;
        let artifact = task.artifacts.get_mut(link.file)?;
        let prior_requests = artifact.requests;
        artifact.requests += 1;
        let mut fault = task.script.fault.unwrap_or_default();
        if fault.kind == FaultKind::Expires && link.works(SystemTime::now()) && prior_requests >= task.script.not_ready
        {
            if fault.hits(artifact.expired) {
                artifact.expired += 1;
                // This request is still served: `link` is a copy from before.
                if let Some(link) = state.links.get_mut(target) {
                    link.expires_at = SystemTime::UNIX_EPOCH;
                }
            } else {
                fault = Fault::default();
            }
        }
        let found = files::Found {
            dialect: task.dialect,
            prior_requests,
            not_ready: if artifact.kind != FileKind::Video && task.script.extras == ExtrasFate::Gone {
                u32::MAX
            } else {
                task.script.not_ready
            },
            fault,
            name: artifact.name.clone(),
            seed: format!("{}/{}", task.id, artifact.name),
            content: Arc::clone(&artifact.content),
            link,
        };
        Some(found)
    }

    /// Counts a request to the faulty origin. Returns how many this file had before.
    pub(crate) fn count_origin(&self, target: &str) -> u32 {
        let mut state = self.state();
        let count = state.origin_requests.entry(target.to_owned()).or_default();
        *count += 1;
        *count - 1
    }

    pub(crate) fn log_file_request(&self, request: FileRequest) {
        self.state().file_requests.push(request);
    }

    pub(crate) fn file_requests(&self, task_id: &str) -> Vec<FileRequest> {
        self.state().file_requests.iter().filter(|request| request.task_id == task_id).cloned().collect()
    }

    /// Expires every link of a task.
    pub(crate) fn expire_links(&self, task_id: &str) {
        for link in self.state().links.values_mut().filter(|link| link.task_id == task_id) {
            link.expires_at = SystemTime::UNIX_EPOCH;
        }
    }

    /// The file id behind a link, if this provider issued the link. It may be dead.
    pub(crate) fn issued(&self, provider: Provider, url: &str) -> Option<String> {
        let target = url.strip_prefix(self.file_origin())?;
        let state = self.state();
        let link = state.links.get(target)?;
        let task = state.tasks.get(&link.task_id).filter(|task| task.dialect.provider() == provider)?;
        task.artifacts.get(link.file).map(|artifact| artifact.file_id.clone())
    }

    /// What the faults `change` and `change_silently` turn a task's first video into.
    pub(crate) fn changed_content(&self, task_id: &str) -> Option<Content> {
        let state = self.state();
        let task = state.tasks.get(task_id)?;
        let video = task.artifacts.iter().find(|artifact| artifact.kind == FileKind::Video)?;
        Some(origin::changed(&video.content, &format!("{}/{}", task.id, video.name)))
    }

    /// The content of a task's file; without a name, of its first video.
    pub(crate) fn content(&self, task_id: &str, name: Option<&str>) -> Option<Arc<Content>> {
        let state = self.state();
        let task = state.tasks.get(task_id)?;
        let artifact = match name {
            Some(name) => task.artifacts.iter().find(|artifact| artifact.name == name),
            None => task.artifacts.iter().find(|artifact| artifact.kind == FileKind::Video),
        };
        artifact.map(|artifact| Arc::clone(&artifact.content))
    }
}
