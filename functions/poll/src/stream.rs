//! The due tasks of one provider: read and polled with a limit of their own, and what each poll tells is recorded at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use reelhook_aws::clock;
use reelhook_aws::metrics::count;
use reelhook_aws::provider_client::{LookedUp, PollLimits, PolledStatus, ProviderClient};
use reelhook_aws::queue::Queue;
use reelhook_aws::table::{Recorded, Table};
use reelhook_core::callback::{Accepted, Reporter};
use reelhook_core::concurrency::Concurrency;
use reelhook_core::metric::Metric;
use reelhook_core::providers::adapter::{PolledTask, StatusResult};
use reelhook_core::record::{Record, is_overdue};
use reelhook_core::requeue::{is_for_process, requeue};
use reelhook_core::settings::ProviderSettings;
use reelhook_core::status_poll::{self, PollResult, Step, Terms};
use reelhook_core::transition::leases;
use reelhook_core::{Provider, TaskKey, Timestamp};
use tokio::time::Instant;

use crate::{BETWEEN_RUNS, MAX_CONCURRENT_WRITES, Summary};

/// Tasks polled together per request in flight: enough to fill the requests of providers that take several tasks in one, and
/// to keep those busy that do not.
const TASKS_PER_REQUEST: usize = 20;

/// Tasks read together when there is nothing to poll: what was reported is queued although its provider is down.
const READ_WITHOUT_POLLING: usize = 256;

/// What a stream works with.
pub(crate) struct Stream<'a> {
    pub(crate) table: &'a Table,
    pub(crate) queue: &'a Queue,
    pub(crate) providers: &'a ProviderClient,
    pub(crate) provider: Provider,
    /// Those of the provider.
    pub(crate) settings: &'a ProviderSettings,
    /// Messages in the queue when the run began, if that is known.
    pub(crate) waiting: Option<u64>,
    /// A task that is to be reconciled again by then stays due as it is: a write that moves one costs three units.
    pub(crate) stays_until: Timestamp,
    /// When nothing new is begun.
    pub(crate) stop_at: Instant,
    /// Whether the provider has limited the rate: it gets no further request in this run.
    pub(crate) is_limited: AtomicBool,
    /// Whether the queue has refused messages: to wait for it again would cost the other tasks the run.
    pub(crate) is_queue_refusing: AtomicBool,
}

/// An open task that is due.
struct OpenTask {
    record: Record,
    /// What the provider said of an interrupted submission that it does not have.
    looked_up: Option<PolledStatus>,
}

impl Stream<'_> {
    /// Reconciles what is due until there is no more or the time is up. What it does not reach stays due, for the next run.
    pub(crate) async fn reconcile_all(self, due: Vec<TaskKey>) -> Summary {
        let mut summary = Summary::default();
        let terms = Terms::of(self.provider, self.settings);
        let mut concurrency = Concurrency::default();
        let mut rest = due.as_slice();
        while Instant::now() < self.stop_at && !rest.is_empty() {
            let together = match concurrency {
                Concurrency::Limit(limit) => limit * TASKS_PER_REQUEST,
                Concurrency::Stopped { .. } => READ_WITHOUT_POLLING,
            };
            let tasks;
            (tasks, rest) = rest.split_at(together.min(rest.len()));
            let Ok(records) = self.table.records(tasks).await.inspect_err(|error| {
                let provider = self.provider;
                tracing::error!(%provider, %error, "due tasks could not be read; the next run finds them");
            }) else {
                summary.left_over += tasks.len();
                continue;
            };
            // The index may be behind its table.
            let now = clock::now();
            let is_due = |record: &Record| leases::is_due(record, now);
            let (for_process, open): (Vec<_>, Vec<_>) = records.into_iter().filter(is_due).partition(is_for_process);
            summary.queued += self.requeue_all(&for_process).await;
            let limit = match concurrency {
                Concurrency::Limit(limit) => limit,
                Concurrency::Stopped { pause } => {
                    summary.left_over += open.len();
                    self.postpone_all(open.iter().map(|record| (record, now + pause))).await;
                    continue;
                }
            };
            let limits = PollLimits { concurrency: limit, stop_at: Some(self.stop_at) };
            let to_poll = open.len();
            let open = self.look_up_interrupted(open, limits).await;
            summary.left_over += to_poll - open.len();
            let polled = self.poll(&open, limits).await;
            let polled = self.poll_by_every_call(&open, polled, limits).await;
            concurrency = concurrency.after(polled.iter().flatten().map(|polled| &polled.result));
            let mut until_next = Duration::ZERO;
            if let Concurrency::Stopped { pause } = concurrency {
                let (provider, seconds) = (self.provider, pause.as_secs());
                tracing::warn!(%provider, seconds, "the provider is left alone for the rest of the run");
                until_next = pause;
            }
            let (polled, not_polled): (Vec<_>, Vec<_>) =
                open.into_iter().map(|open| open.record).zip(polled).partition(|(_, polled)| polled.is_some());
            summary.left_over += not_polled.len();
            let now = clock::now();
            self.postpone_all(not_polled.iter().map(|(record, _)| (record, now + until_next))).await;
            let polled = polled.into_iter().filter_map(|(record, polled)| Some((record, polled?)));
            summary.add(self.conclude_all(&terms, polled.collect()).await);
        }
        summary.left_over += rest.len();
        summary
    }

    /// Queues again what is `process`'s to act on, as far as [`requeue`] says so, and postpones it. Returns how many tasks
    /// were queued.
    async fn requeue_all(&self, records: &[Record]) -> usize {
        let now = clock::now();
        let requeues: Vec<_> = records.iter().map(|record| (record, requeue(record, self.waiting, now))).collect();
        let to_send: Vec<TaskKey> =
            requeues.iter().filter(|(_, requeue)| requeue.send).map(|(record, _)| record.task.clone()).collect();
        let queued = self.send_all(&to_send).await;
        // What the queue refused is still due.
        let all_queued = queued == to_send.len();
        let postponed = requeues.into_iter().filter(|(_, requeue)| all_queued || !requeue.send);
        self.postpone_all(postponed.map(|(record, requeue)| (record, requeue.due_at))).await;
        queued
    }

    /// Queues tasks, unless the queue has refused some before. Returns how many were queued.
    async fn send_all(&self, tasks: &[TaskKey]) -> usize {
        if self.is_queue_refusing.load(Ordering::Relaxed) {
            return 0;
        }
        let queued = self.queue.send_all(tasks).await;
        self.is_queue_refusing.store(queued < tasks.len(), Ordering::Relaxed);
        queued
    }

    /// Whether another request may be sent: the provider did not limit the rate, and there is time.
    fn may_send(&self) -> bool {
        !self.is_limited.load(Ordering::Relaxed) && Instant::now() < self.stop_at
    }

    /// Remembers when the provider limits the rate.
    fn note_limit(&self, polled: &PolledStatus) {
        self.is_limited.fetch_or(polled.result.limits_rate(), Ordering::Relaxed);
    }

    /// Moves tasks to their next time, but for those that stay due as they are: not for so long that they seem to be overdue.
    async fn postpone_all(&self, later: impl Iterator<Item = (&Record, Timestamp)>) {
        // The next run may take its time until it is at the task.
        let then = self.stays_until + BETWEEN_RUNS;
        let seems_overdue = |record: &Record| record.due_at.is_some_and(|due_at| is_overdue(due_at, then));
        stream::iter(later.filter(|(record, due_at)| *due_at > self.stays_until || seems_overdue(record)))
            .for_each_concurrent(MAX_CONCURRENT_WRITES, |(record, due_at)| async move {
                if let Err(error) = self.table.postpone(record, due_at).await {
                    tracing::warn!(task = %record.task, %error, "a task could not be postponed; it is reconciled sooner");
                }
            })
            .await;
    }

    /// Looks up at the provider what has no provider task id, because its submission was interrupted. What is found is recorded,
    /// and polled like any other; for the rest, what the provider said stands for a status poll. What could not be looked up, or not
    /// be recorded, is left out.
    async fn look_up_interrupted(&self, records: Vec<Record>, limits: PollLimits) -> Vec<OpenTask> {
        stream::iter(records)
            .map(|record| async move {
                if record.provider_task_id.is_some() {
                    return Some(OpenTask { record, looked_up: None });
                }
                if !self.may_send() {
                    return None;
                }
                let now = clock::now();
                let provider_task_id = match self.providers.look_up(&record, self.settings, now).await {
                    Some(LookedUp::Found { provider_task_id }) => provider_task_id,
                    Some(LookedUp::Unknown(polled)) => {
                        self.note_limit(&polled);
                        return Some(OpenTask { record, looked_up: Some(polled) });
                    }
                    None => return Some(OpenTask { record, looked_up: None }),
                };
                let task = &record.task;
                tracing::info!(%task, provider_task_id, "the provider has the task of an interrupted submission");
                let due_at = record.due_at.unwrap_or(now);
                // As after a submission: whoever else has it by a callback keeps what it has.
                let identified = async {
                    self.table.own(task, &provider_task_id, now).await?;
                    self.table.submitted(task, &provider_task_id, now, due_at).await
                };
                match identified.await {
                    Ok(identified) => Some(OpenTask { record: identified, looked_up: None }),
                    Err(error) => {
                        tracing::error!(%task, %error, "the id of an interrupted submission could not be recorded");
                        None
                    }
                }
            })
            .buffer_unordered(limits.concurrency)
            .filter_map(|open| async { open })
            .collect()
            .await
    }

    /// Polls some open tasks. The results stand in the order of the tasks; one that is missing was not polled.
    async fn poll(&self, open: &[OpenTask], limits: PollLimits) -> Vec<Option<PolledStatus>> {
        let (positions, tasks): (Vec<usize>, Vec<PolledTask<'_>>) = open
            .iter()
            .enumerate()
            .filter_map(|(position, OpenTask { record, .. })| Some((position, status_poll::polled_task(record)?)))
            .unzip();
        let polled = if self.may_send() {
            self.providers.poll_status(self.provider, &tasks, self.settings, limits, clock::now()).await
        } else {
            vec![None; tasks.len()]
        };
        polled.iter().flatten().for_each(|polled| self.note_limit(polled));
        let looked_up = |open: &OpenTask| Some(open.looked_up.clone().unwrap_or_else(PolledStatus::not_pollable));
        let mut results: Vec<_> = open.iter().map(looked_up).collect();
        for (position, polled) in positions.into_iter().zip(polled) {
            results[position] = polled;
        }
        results
    }

    /// Polls by every status call what one call does not know: which one knows it may have been guessed, or told by a callback. What
    /// no request may be sent about any more counts as not polled.
    async fn poll_by_every_call(
        &self,
        open: &[OpenTask],
        polled: Vec<Option<PolledStatus>>,
        limits: PollLimits,
    ) -> Vec<Option<PolledStatus>> {
        let not_found = PollResult::Response(StatusResult::NotFound);
        stream::iter(open.iter().zip(polled))
            .map(|(OpenTask { record, .. }, polled)| {
                let is_unknown = polled.as_ref().is_some_and(|polled| polled.result == not_found);
                let has_others = || status_poll::polled_by_every_call(record).len() > 1;
                async move {
                    if !is_unknown || !has_others() {
                        return polled;
                    }
                    if !self.may_send() {
                        return None;
                    }
                    let polled = self.providers.poll_task(record, self.settings, limits, clock::now()).await;
                    self.note_limit(&polled);
                    Some(polled)
                }
            })
            .buffered(limits.concurrency)
            .collect()
            .await
    }

    /// Records what some polls found, and queues what is to be carried out.
    async fn conclude_all(&self, terms: &Terms, polled: Vec<(Record, PolledStatus)>) -> Summary {
        let sent = polled.iter().filter(|(_, polled)| polled.was_sent()).count();
        let now = clock::now();
        let (mut final_ones, mut open) = (Vec::new(), Vec::new());
        for (record, polled) in &polled {
            let step = conclude(record, polled, terms, now);
            if let Some(accepted) = status_poll::accepted(record, &step, &polled.raw) {
                final_ones.push((record, accepted));
            } else if let Step::Wait { due_at, .. } = step {
                // Steps about hints do not occur here: hints are queued.
                open.push((record, due_at));
            }
        }
        let found: Vec<Found> = stream::iter(&final_ones)
            .map(|(record, accepted)| record_report(self.table, record, accepted, now))
            .buffer_unordered(MAX_CONCURRENT_WRITES)
            .filter_map(|found| async { found })
            .collect()
            .await;
        let closed = found.iter().filter(|found| found.reporter == Reporter::Deadline).count();
        let rescued = found.iter().filter(|found| found.is_rescue).count();
        let tasks: Vec<TaskKey> = found.into_iter().map(|found| found.task).collect();
        let queued = self.send_all(&tasks).await;
        self.postpone_all(open.into_iter()).await;
        Summary { queued, polled: sent, rescued, closed, ..Summary::default() }
    }
}

/// A task that a poll found final.
struct Found {
    task: TaskKey,
    reporter: Reporter,
    is_rescue: bool,
}

/// What one poll means for its task.
fn conclude(record: &Record, polled: &PolledStatus, terms: &Terms, now: Timestamp) -> Step {
    let task = &record.task;
    let step = status_poll::decide(record, &polled.result, terms, now).step;
    let result = polled.result.name();
    if let Some(metric) = polled.result.metric() {
        tracing::warn!(%task, result, detail = polled.result.detail(), step = step.name(), "status poll");
        count(metric, task.provider(), 1);
    } else {
        tracing::info!(%task, result, step = step.name(), "status poll");
    }
    step
}

/// Records what a poll found. Returns the task when it is to be queued, with what counts as having reported it.
async fn record_report(table: &Table, record: &Record, accepted: &Accepted, now: Timestamp) -> Option<Found> {
    let task = &record.task;
    let reporter = accepted.reporter();
    let recorded = if reporter == Reporter::Deadline {
        table.close(accepted, record, now).await
    } else {
        table.report(accepted, Some(record), now).await
    };
    match recorded {
        Ok(Recorded::New(_) | Recorded::TookOver(_)) => {
            tracing::info!(%task, outcome = accepted.report().outcome().name(), reported_by = reporter.name(), "the task was found final");
            let is_rescue = reporter.is_rescue(task.provider(), accepted.report().outcome());
            if is_rescue {
                count(Metric::PollRescued, task.provider(), 1);
            }
            Some(Found { task: task.clone(), reporter, is_rescue })
        }
        // A callback was faster by a moment; it has queued the task.
        Ok(Recorded::Duplicate(_) | Recorded::Contradicting(_)) => None,
        Ok(Recorded::OtherTask) => {
            tracing::error!(%task, "the record changed its provider task id between two reads");
            None
        }
        Err(error) => {
            // It is due again.
            tracing::error!(%task, %error, "a report could not be recorded");
            None
        }
    }
}
