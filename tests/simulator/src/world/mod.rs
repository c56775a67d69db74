//! The state behind all providers: accounts, tasks, links, counters.
//!
//! One mutex guards it all and is never held across an await. A task's state is a function of its script and the time,
//! so a poll and a callback can never disagree about it.

mod ids;
mod links;
mod task;
mod view;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Instant, SystemTime},
};

use serde_json::Value;
use tokio::sync::{Semaphore, watch};

use self::task::Artifact;
pub(crate) use self::{
    task::{Push, Task},
    view::{Purpose, View},
};
use crate::{
    config::Config,
    files::Link,
    media,
    provider::{Dialect, Provider},
    providers,
    record::{Call, CallFault, Delivery, FileRequest, Submission, TaskView},
    script::Script,
};

/// What a provider reads from a submission.
#[derive(Default)]
pub(crate) struct Draft {
    pub(crate) action: String,
    pub(crate) model: String,
    pub(crate) callback_url: Option<String>,
    pub(crate) external_id: Option<String>,
}

struct InjectedFault {
    provider: Provider,
    call: Call,
    fault: CallFault,
    remaining: u32,
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
    faults: Vec<InjectedFault>,
}

pub(crate) struct World {
    pub(crate) config: Config,
    /// Scheme and authority of the simulator.
    pub(crate) origin: String,
    pub(crate) client: reqwest::Client,
    /// Limits concurrent deliveries, as a provider's worker pool does.
    pub(crate) delivery_permits: Semaphore,
    seed: u64,
    state: Mutex<State>,
}

/// Enough for any load test, and fewer than the open-file limit of a process. Chosen freely.
const MAX_CONCURRENT_DELIVERIES: usize = 256;

impl World {
    pub(crate) fn new(config: Config, origin: String, client: reqwest::Client) -> Self {
        let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let seed = config.seed.unwrap_or_else(|| {
            media::mix(
                u64::from(clock.subsec_nanos()) ^ clock.as_secs().rotate_left(32) ^ u64::from(std::process::id()),
            )
        });
        Self {
            config,
            origin,
            client,
            delivery_permits: Semaphore::new(MAX_CONCURRENT_DELIVERIES),
            seed,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic under the lock fails its own test; the state stays usable for the others.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // Calls.

    /// Counts a call. Returns the fault to apply to it, if a test injected one.
    pub(crate) fn count_call(&self, provider: Provider, call: Call) -> Option<CallFault> {
        let mut state = self.state();
        *state.calls.entry((provider, call)).or_default() += 1;
        let index = state.faults.iter().position(|fault| fault.provider == provider && fault.call == call)?;
        let injected = &mut state.faults[index];
        let fault = injected.fault;
        injected.remaining -= 1;
        if injected.remaining == 0 {
            state.faults.remove(index);
        }
        Some(fault)
    }

    pub(crate) fn calls(&self, provider: Provider, call: Call) -> u64 {
        self.state().calls.get(&(provider, call)).copied().unwrap_or_default()
    }

    pub(crate) fn inject_fault(&self, provider: Provider, call: Call, fault: CallFault, times: u32) {
        let mut state = self.state();
        state.faults.retain(|injected| injected.provider != provider || injected.call != call);
        if times > 0 {
            state.faults.push(InjectedFault { provider, call, fault, remaining: times });
        }
    }

    // Submissions and tasks.

    /// Records a submission and returns its index.
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

    /// The task of this provider that has the customer's id.
    pub(crate) fn task_with_external_id(&self, provider: Provider, external_id: &str) -> Option<String> {
        let state = self.state();
        state
            .tasks
            .values()
            .find(|task| task.dialect.provider() == provider && task.external_id.as_deref() == Some(external_id))
            .map(|task| task.id.clone())
    }

    /// The task created by a submission with this key.
    pub(crate) fn task_with_idempotency_key(&self, key: &str) -> Option<String> {
        self.state().idempotency.get(key).cloned()
    }

    /// Creates the task of the submission at `index` and returns its id. Does not start its driver.
    pub(crate) fn create(&self, dialect: Dialect, draft: Draft, body: Value, script: Script, index: usize) -> String {
        let submitted_at = SystemTime::now();
        // Ark's ids are a second and five letters, which collide under load.
        let id = loop {
            let id = dialect.api().id_of(self, &draft, submitted_at);
            if !self.state().tasks.contains_key(&id) {
                break id;
            }
        };
        let foreign_id = providers::foreign_id(self, dialect, &id, submitted_at);
        let artifacts = providers::files(dialect, &body, script.videos)
            .into_iter()
            .map(|(kind, name)| Artifact::new(&id, kind, name, self.digits(15), script.size))
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
            has_driver: false,
            changed: Arc::default(),
            final_step_done: watch::channel(false).0,
            pushes: HashMap::new(),
            artifacts,
            deliveries: Vec::new(),
        };
        let mut state = self.state();
        if let Some(submission) = state.submissions.get_mut(index) {
            submission.task_id = Some(id.clone());
            if let Some(key) = submission.idempotency_key.clone() {
                state.idempotency.insert(key, id.clone());
            }
        }
        state.order.push(id.clone());
        state.tasks.insert(id.clone(), task);
        id
    }

    /// Assigns an existing task to the submission at `index`.
    pub(crate) fn attribute(&self, index: usize, task_id: &str) {
        if let Some(submission) = self.state().submissions.get_mut(index) {
            submission.task_id = Some(task_id.to_owned());
        }
    }

    /// Runs an action on a task under the lock; `None` if there is no such task.
    pub(crate) fn with_task<T>(&self, id: &str, action: impl FnOnce(&mut Task) -> T) -> Option<T> {
        self.state().tasks.get_mut(id).map(action)
    }

    /// Ids of the provider's tasks that are not deleted, oldest first.
    pub(crate) fn known(&self, provider: Provider) -> Vec<String> {
        let state = self.state();
        let known =
            |id: &&String| state.tasks.get(*id).is_some_and(|task| task.dialect.provider() == provider && !task.hidden);
        state.order.iter().filter(known).cloned().collect()
    }

    /// The task that has a file with this id.
    pub(crate) fn task_with_file(&self, file_id: &str) -> Option<String> {
        let state = self.state();
        let has = |task: &&Task| !task.hidden && task.artifacts.iter().any(|artifact| artifact.file_id == file_id);
        state.tasks.values().find(has).map(|task| task.id.clone())
    }

    pub(crate) fn tasks(&self) -> Vec<TaskView> {
        let state = self.state();
        state.order.iter().filter_map(|id| state.tasks.get(id)).map(Task::to_view).collect()
    }

    pub(crate) fn task(&self, id: &str) -> Option<TaskView> {
        self.state().tasks.get(id).map(Task::to_view)
    }

    pub(crate) fn log_delivery(&self, id: &str, delivery: Delivery) {
        if let Some(task) = self.state().tasks.get_mut(id) {
            task.deliveries.push(delivery);
        }
    }
}
