//! The state behind all providers: accounts, tasks, links, counters.
//!
//! One mutex guards it all and is never held across an await. A task's state is a function of its script and the time,
//! so a poll and a callback can never disagree about it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::{Notify, Semaphore, watch};

use crate::{
    clock,
    config::Config,
    files::{self, Link},
    media::{self, Content},
    origin::{self, Fault, FaultKind},
    provider::{Dialect, Provider, Shape},
    providers,
    record::{Call, Delivery, FileKind, FileRequest, FileView, Phase, Stage, Submission, TaskView, Trouble},
    script::{LinkFate, Outcome, Script, Then},
};

/// A callback with what identifies it in every repeat: body and message id stay, time and signature do not.
#[derive(Clone, Debug)]
pub(crate) struct Push {
    pub(crate) phase: Phase,
    pub(crate) message_id: String,
    pub(crate) body: Bytes,
}

/// A file of a task and the newest link to it.
struct Artifact {
    kind: FileKind,
    name: String,
    file_id: String,
    content: Arc<Content>,
    link: Option<String>,
    links: u32,
    requests: u32,
    /// How many links ended while they were read, as their fault asks.
    expired: u32,
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
    /// Deleted or otherwise unknown to its provider by now.
    pub(crate) hidden: bool,
    /// The receiver failed `MiniMax`'s check.
    pub(crate) muted: bool,
    /// How many steps of the script are done.
    pub(crate) cursor: usize,
    /// Whether somebody is following the script.
    pub(crate) driven: bool,
    pub(crate) changed: Arc<Notify>,
    /// Becomes true when the final callback has been tried, or is not to be sent.
    pub(crate) told: watch::Sender<bool>,
    pushes: HashMap<Phase, Push>,
    artifacts: Vec<Artifact>,
    deliveries: Vec<Delivery>,
}

impl Task {
    /// How long after the end a failure turns into a success.
    pub(crate) fn second_end(&self) -> Duration {
        // At least a moment, so that the two never come at once.
        self.script.delay + self.script.delay.max(Duration::from_millis(200))
    }

    pub(crate) fn phase(&self) -> Phase {
        let elapsed = self.submitted.elapsed();
        let delay = self.script.delay;
        if elapsed >= delay {
            if self.turns() && elapsed >= self.second_end() {
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

    pub(crate) fn turns(&self) -> bool {
        self.script.then == Then::Succeed && self.script.outcome != Outcome::Succeed
    }

    /// When it came into this phase.
    fn since(&self, phase: Phase) -> SystemTime {
        let delay = self.script.delay;
        let after = match phase {
            Phase::Open(Stage::Accepted) => Duration::ZERO,
            Phase::Open(Stage::Waiting) => delay / 3,
            Phase::Open(Stage::Running) => delay / 3 * 2,
            Phase::Final(Outcome::Succeed) if self.turns() => self.second_end(),
            Phase::Final(_) => delay,
        };
        clock::later(self.submitted_at, after)
    }
}

/// What becomes of the links when a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A callback carries the newest links, whatever has become of them.
    Callback,
    /// A status call replaces dead ones, where the provider does that.
    Status,
    /// A call made for nothing else always gives new ones.
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

/// A task as its provider tells of it at one moment.
#[derive(Clone, Debug)]
pub(crate) struct View {
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
    /// Files with links; empty unless it succeeded.
    pub(crate) files: Vec<FileLink>,
    /// Ids of files without links, for providers that give links in another call.
    pub(crate) file_ids: Vec<String>,
}

impl View {
    pub(crate) fn succeeded(&self) -> bool {
        self.phase == Phase::Final(Outcome::Succeed)
    }

    pub(crate) fn files_of(&self, kind: FileKind) -> impl Iterator<Item = &FileLink> {
        self.files.iter().filter(move |file| file.kind == kind)
    }

    /// The link to the first file of a kind; empty without one.
    pub(crate) fn url(&self, kind: FileKind) -> String {
        self.files_of(kind).next().map(|file| file.url.clone()).unwrap_or_default()
    }

    pub(crate) fn word(&self, words: [&'static str; 3]) -> &'static str {
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

    /// As its upstream tells of it.
    pub(crate) fn foreign(&self) -> Self {
        Self { id: self.foreign_id.clone(), external_id: None, ..self.clone() }
    }
}

/// What a submission comes to.
#[derive(Default)]
pub(crate) struct Draft {
    pub(crate) action: String,
    pub(crate) model: String,
    pub(crate) callback_url: Option<String>,
    pub(crate) external_id: Option<String>,
}

struct Scheduled {
    provider: Provider,
    call: Call,
    trouble: Trouble,
    left: u32,
}

#[derive(Default)]
struct State {
    counter: u64,
    tasks: HashMap<String, Task>,
    order: Vec<String>,
    submissions: Vec<Submission>,
    idempotency: HashMap<String, String>,
    links: HashMap<String, Link>,
    file_requests: Vec<FileRequest>,
    origin_requests: HashMap<String, u32>,
    calls: BTreeMap<(Provider, Call), u64>,
    troubles: Vec<Scheduled>,
}

pub(crate) struct World {
    pub(crate) config: Config,
    /// Scheme and authority of the server itself.
    pub(crate) origin: String,
    pub(crate) client: reqwest::Client,
    /// Bounds what is being delivered at once, as a provider's own workers do.
    pub(crate) senders: Semaphore,
    seed: u64,
    state: Mutex<State>,
}

/// Deliveries under way at once: enough for any load test, fewer than a process may have sockets. Chosen freely.
const SENDERS: usize = 256;

impl World {
    pub(crate) fn new(config: Config, origin: String, client: reqwest::Client) -> Self {
        let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let seed = config.seed.unwrap_or_else(|| {
            media::mix(
                u64::from(clock.subsec_nanos()) ^ clock.as_secs().rotate_left(32) ^ u64::from(std::process::id()),
            )
        });
        Self { config, origin, client, senders: Semaphore::new(SENDERS), seed, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves nothing half-written here that matters to a test.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Numbers that never come twice.
    pub(crate) fn next(&self) -> u64 {
        let mut state = self.state();
        state.counter += 1;
        media::mix(self.seed.wrapping_add(state.counter))
    }

    /// A decimal number of `length` digits.
    pub(crate) fn digits(&self, length: usize) -> String {
        let number = format!("{:020}", self.next());
        format!("{}{}", 1 + number.as_bytes()[2] % 9, &number[number.len() - (length - 1)..])
    }

    /// A UUID of version 4.
    pub(crate) fn uuid(&self) -> String {
        let (high, low) = (self.next(), self.next());
        let text = format!("{high:016x}{low:016x}");
        format!("{}-{}-4{}-a{}-{}", &text[..8], &text[8..12], &text[13..16], &text[17..20], &text[20..])
    }

    /// Letters and digits: Crockford's alphabet for `upper`, all lower-case ones otherwise.
    pub(crate) fn letters(&self, length: usize, upper: bool) -> String {
        let alphabet: &[u8] =
            if upper { b"0123456789ABCDEFGHJKMNPQRSTVWXYZ" } else { b"abcdefghijklmnopqrstuvwxyz0123456789" };
        let mut number = 0;
        (0..length)
            .map(|index| {
                if index % 8 == 0 {
                    number = self.next();
                }
                let letter = alphabet[usize::try_from(number % alphabet.len() as u64).unwrap_or_default()];
                number /= alphabet.len() as u64;
                char::from(letter)
            })
            .collect()
    }

    // Calls.

    /// Counts a call and says which trouble is ordered for it.
    pub(crate) fn count(&self, provider: Provider, call: Call) -> Option<Trouble> {
        let mut state = self.state();
        *state.calls.entry((provider, call)).or_default() += 1;
        let index = state.troubles.iter().position(|trouble| trouble.provider == provider && trouble.call == call)?;
        let scheduled = &mut state.troubles[index];
        let trouble = scheduled.trouble;
        scheduled.left -= 1;
        if scheduled.left == 0 {
            state.troubles.remove(index);
        }
        Some(trouble)
    }

    pub(crate) fn calls(&self, provider: Provider, call: Call) -> u64 {
        self.state().calls.get(&(provider, call)).copied().unwrap_or_default()
    }

    pub(crate) fn schedule(&self, provider: Provider, call: Call, trouble: Trouble, times: u32) {
        let mut state = self.state();
        state.troubles.retain(|scheduled| scheduled.provider != provider || scheduled.call != call);
        if times > 0 {
            state.troubles.push(Scheduled { provider, call, trouble, left: times });
        }
    }

    // Submissions and tasks.

    /// Keeps a submission and returns its number.
    pub(crate) fn record(&self, submission: Submission) -> usize {
        let mut state = self.state();
        state.submissions.push(submission);
        state.submissions.len() - 1
    }

    pub(crate) fn submissions(&self) -> Vec<Submission> {
        self.state().submissions.clone()
    }

    pub(crate) fn submission_count(&self, provider: Provider) -> usize {
        self.state().submissions.iter().filter(|submission| submission.provider == provider).count()
    }

    /// Whether a task of this provider has the customer's id.
    pub(crate) fn task_with_external_id(&self, provider: Provider, external_id: &str) -> Option<String> {
        let state = self.state();
        state
            .tasks
            .values()
            .find(|task| task.dialect.provider() == provider && task.external_id.as_deref() == Some(external_id))
            .map(|task| task.id.clone())
    }

    /// The task that a submission with this key made.
    pub(crate) fn task_with_idempotency_key(&self, key: &str) -> Option<String> {
        self.state().idempotency.get(key).cloned()
    }

    /// Makes a task of a submission and returns its id. Its driver has still to be started.
    pub(crate) fn create(&self, dialect: Dialect, draft: Draft, body: Value, script: Script, number: usize) -> String {
        let submitted_at = SystemTime::now();
        // Five letters behind a second, as Ark has them, do come twice under load.
        let id = loop {
            let id = providers::new_id(self, dialect, submitted_at);
            if !self.state().tasks.contains_key(&id) {
                break id;
            }
        };
        let foreign_id = providers::foreign_id(self, dialect, &id, submitted_at);
        let artifacts = providers::files(dialect, &body, script.videos)
            .into_iter()
            .map(|(kind, name)| {
                let seed = format!("{id}/{name}");
                let content = match name.rsplit('.').next() {
                    Some("png") => Content::png(&seed),
                    Some("jpeg" | "jpg") => Content::jpeg(&seed),
                    _ => Content::video(&seed, script.size),
                };
                let file_id = self.digits(15);
                Artifact {
                    kind,
                    name,
                    file_id,
                    content: Arc::new(content),
                    link: None,
                    links: 0,
                    requests: 0,
                    expired: 0,
                }
            })
            .collect();
        let task = Task {
            id: id.clone(),
            foreign_id,
            dialect,
            request: Arc::new(body),
            action: draft.action,
            model: draft.model,
            callback_url: draft.callback_url,
            external_id: draft.external_id,
            script,
            submitted: Instant::now(),
            submitted_at,
            hidden: false,
            muted: false,
            cursor: 0,
            driven: false,
            changed: Arc::default(),
            told: watch::channel(false).0,
            pushes: HashMap::new(),
            artifacts,
            deliveries: Vec::new(),
        };
        let mut state = self.state();
        if let Some(submission) = state.submissions.get_mut(number) {
            submission.task_id = Some(id.clone());
            if let Some(key) = submission.idempotency_key.clone() {
                state.idempotency.insert(key, id.clone());
            }
        }
        state.order.push(id.clone());
        state.tasks.insert(id.clone(), task);
        id
    }

    /// Gives a submission the task that an earlier one made.
    pub(crate) fn attribute(&self, number: usize, task_id: &str) {
        if let Some(submission) = self.state().submissions.get_mut(number) {
            submission.task_id = Some(task_id.to_owned());
        }
    }

    /// Does something with a task under the lock.
    pub(crate) fn with_task<T>(&self, id: &str, action: impl FnOnce(&mut Task) -> T) -> Option<T> {
        self.state().tasks.get_mut(id).map(action)
    }

    /// The ids of a provider's tasks that it still knows, oldest first.
    pub(crate) fn known(&self, provider: Provider) -> Vec<String> {
        let state = self.state();
        let known =
            |id: &&String| state.tasks.get(*id).is_some_and(|task| task.dialect.provider() == provider && !task.hidden);
        state.order.iter().filter(known).cloned().collect()
    }

    /// The task that has a file of this id.
    pub(crate) fn task_with_file(&self, file_id: &str) -> Option<String> {
        let state = self.state();
        let has = |task: &&Task| !task.hidden && task.artifacts.iter().any(|artifact| artifact.file_id == file_id);
        state.tasks.values().find(has).map(|task| task.id.clone())
    }

    pub(crate) fn tasks(&self) -> Vec<TaskView> {
        let state = self.state();
        state.order.iter().filter_map(|id| state.tasks.get(id)).map(task_view).collect()
    }

    pub(crate) fn task(&self, id: &str) -> Option<TaskView> {
        self.state().tasks.get(id).map(task_view)
    }

    pub(crate) fn log_delivery(&self, id: &str, delivery: Delivery) {
        if let Some(task) = self.state().tasks.get_mut(id) {
            task.deliveries.push(delivery);
        }
    }

    /// The task as its provider tells of it now, in the dialects that `wanted` accepts; `None` when there is none such.
    pub(crate) fn view(&self, id: &str, purpose: Purpose, wanted: impl Fn(Dialect) -> bool) -> Option<View> {
        let mut state = self.state();
        let task = state.tasks.get(id).filter(|task| !task.hidden && wanted(task.dialect))?;
        let phase = task.phase();
        self.view_in(&mut state, id, phase, purpose)
    }

    /// The task as it was when it was made: no file has a link yet.
    pub(crate) fn beginning(&self, id: &str) -> Option<View> {
        self.view_in(&mut self.state(), id, Phase::Open(Stage::Accepted), Purpose::Callback)
    }

    fn view_in(&self, state: &mut State, id: &str, phase: Phase, purpose: Purpose) -> Option<View> {
        let task = state.tasks.get_mut(id)?;
        let mut view = View {
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
        // A status that names files by id issues no link.
        if task.dialect == Dialect::MiniMaxFirst && purpose != Purpose::Refresh {
            return Some(view);
        }
        let now = SystemTime::now();
        for index in 0..task.artifacts.len() {
            let artifact = &mut task.artifacts[index];
            let current = artifact.link.as_ref().and_then(|target| state.links.get(target));
            let renew = match (purpose, current) {
                (_, None) | (Purpose::Refresh, _) => true,
                (Purpose::Callback, Some(_)) => false,
                (Purpose::Status, Some(link)) => files::renewed_by_status(task.dialect, !link.works(now)),
            };
            if renew {
                let life = task.script.link_life.unwrap_or_else(|| files::life(task.dialect, artifact.kind, purpose));
                let fate = match task.script.link {
                    LinkFate::Dead | LinkFate::Gone if artifact.links > 0 => LinkFate::Alive,
                    fate => fate,
                };
                state.counter += 1;
                let token = media::mix(self.seed.wrapping_add(state.counter));
                let style = files::style(task.dialect, artifact.kind, purpose);
                let target = files::target(task.dialect.provider(), style, token, &artifact.name, now, life);
                artifact.links += 1;
                artifact.link = Some(target.clone());
                let link =
                    Link { task_id: id.to_owned(), file: index, fate, style, expires_at: clock::later(now, life) };
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

    /// The push about a phase: the same bytes and message id every time. `None` when the provider has nothing to say.
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

    // Files.

    /// Looks up a link for a request, counts the request and says what it meets.
    pub(crate) fn open_link(&self, target: &str) -> Option<files::Found> {
        let mut guard = self.state();
        let state = &mut *guard;
        let link = state.links.get(target)?.clone();
        let task = state.tasks.get_mut(&link.task_id)?;
        let artifact = task.artifacts.get_mut(link.file)?;
        let earlier = artifact.requests;
        artifact.requests += 1;
        let mut fault = task.script.fault.unwrap_or_default();
        if fault.kind == FaultKind::Expires && link.works(SystemTime::now()) && earlier >= task.script.not_ready {
            if fault.hits(artifact.expired) {
                artifact.expired += 1;
                // This request is still served, by the link as it was.
                if let Some(link) = state.links.get_mut(target) {
                    link.expires_at = SystemTime::UNIX_EPOCH;
                }
            } else {
                fault = Fault::default();
            }
        }
        let found = files::Found {
            earlier,
            not_ready: task.script.not_ready,
            fault,
            name: artifact.name.clone(),
            seed: format!("{}/{}", task.id, artifact.name),
            content: Arc::clone(&artifact.content),
            link,
        };
        Some(found)
    }

    /// The requests that a file of the faulty origin had before this one.
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

    /// Ends the life of every link of a task.
    pub(crate) fn expire_links(&self, task_id: &str) {
        for link in self.state().links.values_mut().filter(|link| link.task_id == task_id) {
            link.expires_at = SystemTime::UNIX_EPOCH;
        }
    }

    /// Whether this is a link that was issued by a provider, working or not, and for which file id.
    pub(crate) fn issued(&self, provider: Provider, url: &str) -> Option<String> {
        let target = url.strip_prefix(self.file_origin())?;
        let state = self.state();
        let link = state.links.get(target)?;
        let task = state.tasks.get(&link.task_id).filter(|task| task.dialect.provider() == provider)?;
        task.artifacts.get(link.file).map(|artifact| artifact.file_id.clone())
    }

    /// What a task's first video becomes under a fault that changes it.
    pub(crate) fn changed_content(&self, task_id: &str) -> Option<Content> {
        let state = self.state();
        let task = state.tasks.get(task_id)?;
        let video = task.artifacts.iter().find(|artifact| artifact.kind == FileKind::Video)?;
        Some(origin::changed(&video.content, &format!("{}/{}", task.id, video.name)))
    }

    /// The content of a task's file; of its first video without a name.
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

fn task_view(task: &Task) -> TaskView {
    TaskView {
        id: task.id.clone(),
        provider: task.dialect.provider(),
        model: task.model.clone(),
        callback_url: task.callback_url.clone(),
        external_id: task.external_id.clone(),
        foreign_id: task.foreign_id.clone(),
        phase: task.phase(),
        script: task.script.clone(),
        deliveries: task.deliveries.clone(),
        files: task
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
        submitted_at: task.submitted_at,
    }
}

/// The dialect of a `RelayDance` task.
pub(crate) fn relaydance(config: &Config, script: &Script) -> Dialect {
    let shape: Shape = script.shape.unwrap_or(config.relaydance_shape);
    Dialect::RelayDance(shape)
}
