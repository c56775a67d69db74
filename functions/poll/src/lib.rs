//! Reconciles due tasks on a schedule: the half of reelhook that does not depend on callbacks.
//!
//! A run reads the due index, then the records of what is due there, and
//!
//! - queues again what was reported or hinted at and never settled, unless its message still waits in the queue
//!   ([`reelhook_core::requeue`]),
//! - polls the status of open tasks, each provider in a stream of its own with its own limit, so that a slow provider holds
//!   up nothing but its own tasks,
//! - closes as `lost` what is past its deadline, after one last poll.
//!
//! Only what it finds is written. A task stays due until something follows from it, so a run that dies is repeated by the next
//! one, and a task that is still open and due again by the next run costs no write. A run takes the longest overdue in random
//! order, and stops in time if there are too many; the next one continues.

mod due;
mod stream;

use std::panic::AssertUnwindSafe;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures_util::future::{FutureExt as _, join_all};
use reelhook_aws::clock;
use reelhook_aws::metrics::count;
use reelhook_aws::provider_client::ProviderClient;
use reelhook_aws::queue::Queue;
use reelhook_aws::settings::{SettingsError, SettingsStore};
use reelhook_aws::table::{Table, TableError};
use reelhook_core::Provider;
use reelhook_core::metric::Metric;
use tokio::time::{Instant, timeout_at};

use crate::due::Due;
use crate::stream::Stream;

/// Table writes that one provider's stream has under way or waiting for a connection. How many there are of all streams together
/// is limited by [`RetryPolicy::POLL`](reelhook_aws::clients::RetryPolicy::POLL).
const MAX_CONCURRENT_WRITES: usize = 32;

/// How long before its end a run begins nothing new.
const SHUTDOWN_RESERVE: Duration = Duration::from_secs(15);

/// How long before its end a run drops what is still in flight. Dropping is safe at any moment: every task it holds is due
/// still.
const HARD_STOP: Duration = Duration::from_secs(3);

/// The timeout of the function, as `infra/template.yaml` sets it.
pub const TIMEOUT: Duration = Duration::from_mins(1);

/// The template's schedule.
const BETWEEN_RUNS: Duration = Duration::from_mins(1);

/// What the function works with.
#[derive(Debug)]
pub struct App {
    /// The table.
    pub table: Table,
    /// The queue.
    pub queue: Queue,
    /// The settings.
    pub settings: SettingsStore,
    /// The client for the providers.
    pub providers: ProviderClient,
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    /// Due tasks that were found.
    pub due: usize,
    /// Tasks that were queued.
    pub queued: usize,
    /// Tasks whose status was polled.
    pub polled: usize,
    /// Tasks that were found final before any callback said anything of them.
    pub rescued: usize,
    /// Tasks that were closed as lost.
    pub closed: usize,
    /// Due tasks that are left to the next run.
    pub left_over: usize,
}

impl Summary {
    fn add(&mut self, other: Self) {
        self.due += other.due;
        self.queued += other.queued;
        self.polled += other.polled;
        self.rescued += other.rescued;
        self.closed += other.closed;
        self.left_over += other.left_over;
    }
}

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub enum PollError {
    /// No settings, and something is due.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// No shard of the index could be read.
    #[error(transparent)]
    Table(#[from] TableError),
    /// What was done about one of a provider's tasks panicked; this is one of them. The tasks of the others were reconciled.
    #[error("reconciling the tasks of {0} panicked; what the panic said is in the log, and the next run tries again")]
    Panicked(Provider),
}

/// One run, until nothing is due or the time is up.
pub async fn run(app: &App, deadline: Instant) -> Result<Summary, PollError> {
    let began_at = clock::now();
    let settings = app.settings.get().await;
    let due = Due::read(&app.table, began_at).await?;
    let settings = match settings {
        Ok(settings) => settings,
        // As after the first deployment. Without settings there can be no task, and nobody is to be alarmed.
        Err(error) if due.count == 0 => {
            tracing::warn!(%error, "there are no settings, and nothing is due");
            return Ok(Summary::default());
        }
        Err(error) => return Err(error.into()),
    };
    let stop_at = deadline.checked_sub(SHUTDOWN_RESERVE).unwrap_or(deadline);
    let drop_at = deadline.checked_sub(HARD_STOP).unwrap_or(deadline);
    let waiting = app.queue.waiting().await;
    // What stays due would be read again in place of what was not read at all.
    let stays_until = if due.is_all { began_at + BETWEEN_RUNS } else { began_at };
    let streams = due.tasks.into_iter().map(|(provider, tasks)| {
        let settings = settings.provider(provider);
        let App { table, queue, providers, .. } = app;
        let stream = Stream {
            table,
            queue,
            providers,
            provider,
            settings,
            waiting,
            stays_until,
            stop_at,
            is_limited: AtomicBool::new(false),
            is_queue_refusing: AtomicBool::new(false),
        };
        // A panic over one task costs those of its provider the rest of the run.
        let reconciling = AssertUnwindSafe(stream.reconcile_all(tasks)).catch_unwind();
        async move { (provider, timeout_at(drop_at, reconciling).await) }
    });
    let mut summary = Summary { due: due.count, ..Summary::default() };
    let mut panicked = None;
    for (provider, ended) in join_all(streams).await {
        // Of a stream that did not end, nobody knows how many it left; one, at least.
        let reconciled = ended.unwrap_or_else(|_| {
            tracing::warn!(%provider, "the run ended before the provider's last responses came");
            Ok(Summary { left_over: 1, ..Summary::default() })
        });
        let reconciled = reconciled.unwrap_or_else(|_| {
            panicked = Some(provider);
            Summary { left_over: 1, ..Summary::default() }
        });
        summary.add(reconciled);
        if reconciled.left_over > 0 {
            count(Metric::PollLeftOver, provider, reconciled.left_over as u64);
        }
    }
    let Summary { due, queued, polled, rescued, closed, left_over } = summary;
    tracing::info!(due, queued, polled, rescued, closed, left_over, "poll");
    panicked.map_or(Ok(summary), |provider| Err(PollError::Panicked(provider)))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_times_are_those_of_the_template() {
        let (_, function) =
            include_str!("../../../infra/template.yaml").split_once("PollFunction:\n").expect("the function");
        let timeout = function.lines().find_map(|line| line.trim().strip_prefix("Timeout: ")).expect("its timeout");
        assert_eq!(timeout, super::TIMEOUT.as_secs().to_string());
        assert_eq!(super::BETWEEN_RUNS.as_secs(), 60);
        assert!(function.contains("ScheduleExpression: rate(1 minute)"));
    }
}
