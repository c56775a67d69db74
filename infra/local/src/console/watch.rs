//! What the page shows, kept in memory: the whole table is read once and then rarely; in between only what the index `due` says
//! has moved.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use local::Error;
use local::deployed::Deployed;
use reelhook_aws::clock;
use reelhook_core::callback::Reporter;
use reelhook_core::record::{Record, State};
use reelhook_core::report::{Kind, Report};
use reelhook_core::{TaskKey, Timestamp};
use tokio::time::{Instant, sleep};

use crate::operate::tasks::cost;

/// Between two looks at the index `due`: eight queries.
const LOOK: Duration = Duration::from_secs(1);

/// Between two reads of the whole table, of which each finds the tasks that began and ended between two looks. A table of one page
/// is read as often as costs next to nothing.
const READ_SMALL: Duration = Duration::from_secs(3);
const READ_LARGE: Duration = Duration::from_mins(5);

/// How many looks back the backlog is drawn.
const BACKLOG_LOOKS: usize = 120;

/// What of a record the list and the charts show.
#[derive(Clone, Debug)]
pub(crate) struct Summary {
    pub(crate) task: TaskKey,
    pub(crate) state: State,
    pub(crate) created_at: Option<Timestamp>,
    pub(crate) due_at: Option<Timestamp>,
    pub(crate) reported_at: Option<Timestamp>,
    pub(crate) finished_at: Option<Timestamp>,
    pub(crate) reported_by: Option<Reporter>,
    /// When the first link dies, of a task whose files are not all in the bucket.
    pub(crate) expires_at: Option<Timestamp>,
    /// The failure's reason, or the last error.
    pub(crate) error: Option<String>,
    pub(crate) cost: Option<String>,
    pub(crate) has_video: bool,
}

impl Summary {
    #[cfg(test)]
    pub(super) fn of_test(task: &TaskKey) -> Self {
        let item = [
            (reelhook_core::item::Attribute::Task, task.to_string().as_str().into()),
            (reelhook_core::item::Attribute::State, State::Pending.into()),
        ];
        Self::of(&Record::from_item(&item.into()).expect("a record"))
    }

    fn of(record: &Record) -> Self {
        let report = record.report.as_ref();
        let failure = report.and_then(Report::failure).map(|failure| failure.reason.name().to_owned());
        Self {
            task: record.task.clone(),
            state: record.state,
            created_at: record.created_at,
            due_at: record.due_at,
            reported_at: record.reported_at,
            finished_at: record.finished_at,
            reported_by: record.reported_by,
            expires_at: report.filter(|_| !record.state.is_final()).and_then(Report::nearest_expiry),
            error: record.last_error.clone().or(failure),
            cost: report.and_then(Report::usage).map(cost),
            has_video: record.artifacts.iter().any(|artifact| artifact.kind == Kind::Video),
        }
    }
}

/// Everything that is known.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) tasks: BTreeMap<String, Summary>,
    /// How many tasks were open at each look, the newest last.
    pub(crate) backlog: VecDeque<usize>,
    /// Whether the whole table was read.
    pub(crate) is_complete: bool,
    /// Why the last look failed.
    pub(crate) error: Option<String>,
}

/// Shared by the watcher and the pages.
pub(crate) type Shared = Arc<Mutex<Known>>;

/// Runs an action on what is known.
pub(crate) fn with<T>(shared: &Shared, action: impl FnOnce(&mut Known) -> T) -> T {
    action(&mut shared.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Keeps what is known up to date, until it is dropped.
pub(crate) async fn watch(deployed: Arc<Deployed>, shared: Shared) {
    let (mut read_at, mut seen) = (None::<Instant>, BTreeMap::new());
    let mut read_every = READ_SMALL;
    loop {
        if read_at.is_none_or(|at| at.elapsed() >= read_every) {
            match read_all(&deployed, &shared).await {
                Ok(pages) => read_every = if pages <= 1 { READ_SMALL } else { READ_LARGE },
                Err(error) => with(&shared, |known| known.error = Some(error.to_string())),
            }
            read_at = Some(Instant::now());
        }
        let looked = look(&deployed, &shared, &mut seen).await;
        with(&shared, |known| known.error = looked.err().map(|error| error.to_string()));
        sleep(LOOK).await;
    }
}

/// Reads the whole table. Returns how many pages it has.
async fn read_all(deployed: &Deployed, shared: &Shared) -> Result<usize, Error> {
    let (mut start, mut pages) = (None, 0);
    loop {
        let page = deployed.table.page(start.as_ref()).await.map_err(|error| Error::Refused(error.to_string()))?;
        pages += 1;
        start = page.next;
        with(shared, |known| {
            known.tasks.extend(page.records.iter().map(|record| (record.task.to_string(), Summary::of(record))));
            known.is_complete |= start.is_none();
        });
        if start.is_none() {
            return Ok(pages);
        }
    }
}

/// Reads again what has moved in the index, or has left it. `seen` is when each task was due at the last look.
async fn look(deployed: &Deployed, shared: &Shared, seen: &mut BTreeMap<TaskKey, Timestamp>) -> Result<(), Error> {
    let open = deployed.table.open(u16::MAX).await.map_err(|error| Error::Refused(error.to_string()))?;
    let open: BTreeMap<TaskKey, Timestamp> = open.into_iter().collect();
    let moved = open.iter().filter(|(task, due)| seen.get(*task) != Some(*due)).map(|(task, _)| task.clone());
    let left = seen.keys().filter(|task| !open.contains_key(*task)).cloned();
    // What ended between two looks without having moved before: it is open as far as is known.
    let taken_for_open = with(shared, |known| {
        let is_gone = |summary: &&Summary| !summary.state.is_final() && !open.contains_key(&summary.task);
        known.tasks.values().filter(is_gone).map(|summary| summary.task.clone()).collect::<Vec<_>>()
    });
    let mut again: Vec<TaskKey> = moved.chain(left).chain(taken_for_open).collect();
    again.sort();
    again.dedup();
    let records = deployed.table.records(&again).await.map_err(|error| Error::Refused(error.to_string()))?;
    with(shared, |known| {
        for task in &again {
            known.tasks.remove(&task.to_string());
        }
        known.tasks.extend(records.iter().map(|record| (record.task.to_string(), Summary::of(record))));
        known.backlog.push_back(open.len());
        if known.backlog.len() > BACKLOG_LOOKS {
            known.backlog.pop_front();
        }
    });
    *seen = open;
    Ok(())
}

/// Seconds from now to a time; negative when it is past.
pub(crate) fn seconds_to(time: Timestamp) -> i64 {
    time.seconds() - clock::now().seconds()
}
