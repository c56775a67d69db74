//! What a status poll means for a task. The only place that decides it: `process` and `poll` carry out what stands here.
//!
//! "Could not be polled" is never "no". A provider that is down, refuses the key or limits the rate closes no task and
//! refutes no hint; "not found" is an answer, and does, unless the status call itself was a guess.

use std::time::Duration;

use crate::backoff::seed_of;
use crate::callback::{Accepted, Raw, Reporter};
use crate::metric::Metric;
use crate::poll_schedule::PollSchedule;
use crate::provider::Provider;
use crate::providers::adapter::{PolledTask, StatusResult};
use crate::record::{Fallback, PendingHint, Record};
use crate::report::{Failure, Outcome, Reason, Report, TaskStatus};
use crate::settings::ProviderSettings;
use crate::time::Timestamp;
use crate::transfer::refresh::Refreshed;
use crate::transfer::selection::Planned;

/// How long what a provider says may be stale: a poll that contradicts a hint within this time of it ends nothing. Status
/// calls are served from caches and replicas; chosen freely, generously.
const STALE_WITHIN: Duration = Duration::from_mins(15);

/// How often in a row a provider has to say that it does not know a task, and over how long at least, before a hint about it
/// is refuted: an id may take a moment to reach every replica. Chosen freely.
const NOT_FOUND_POLLS: u32 = 3;
const NOT_FOUND_FOR: Duration = Duration::from_mins(10);

/// How long a hint that contradicts a failure is tried to be confirmed.
const REOPENED_FOR: Duration = Duration::from_hours(24);

/// How long a provider has to be silent at least before a callback is acted on unconfirmed.
const SILENT_FOR: Duration = Duration::from_mins(10);

/// How long before the end of its links such a callback is acted on: time for two more copies.
const BEFORE_EXPIRY: Duration = Duration::from_mins(10);

/// How long an outage is waited out beyond a task's deadline.
const OUTAGE_AFTER_DEADLINE: Duration = Duration::from_hours(7 * 24);

/// What came of a status poll of one task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PollResult {
    /// The provider responded.
    Response(StatusResult),
    /// It was not reached, or did not respond in time.
    NoResponse,
    /// It responded with more than is read.
    TooLong,
    /// The provider does not know the task by the status call that was guessed. Another of its calls may know it.
    NotFoundByGuess,
    /// No request was possible: no credentials, no provider task id, or no status call for this task.
    NotPollable,
}

impl PollResult {
    /// What the response to a status request says of a task. `is_guess`: see
    /// [`Adapter::guesses_status_call`](crate::providers::adapter::Adapter::guesses_status_call).
    pub fn of(status: StatusResult, is_guess: bool) -> Self {
        if is_guess && status == StatusResult::NotFound { Self::NotFoundByGuess } else { Self::Response(status) }
    }

    /// The provider said something about the task: what it is, or that there is none.
    fn is_answer(&self) -> bool {
        matches!(self, Self::Response(StatusResult::Task(_) | StatusResult::NotFound))
    }

    /// What it is, for the log.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Response(StatusResult::Task(TaskStatus::Open(_))) => "open",
            Self::Response(StatusResult::Task(TaskStatus::Finished(report))) => report.outcome().name(),
            Self::Response(StatusResult::NotFound) => "not_found",
            Self::Response(StatusResult::Refused { .. }) => "refused",
            Self::Response(StatusResult::Unreadable) => "unreadable",
            Self::NoResponse => "no_response",
            Self::TooLong => "too_long",
            Self::NotFoundByGuess => "not_found_by_guess",
            Self::NotPollable => "not_pollable",
        }
    }

    /// What else there is to know of it: the provider's code, or a status word that is not known.
    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::Response(StatusResult::Refused { failure, .. }) => failure.code.as_deref(),
            Self::Response(StatusResult::Task(TaskStatus::Open(progress))) => progress.unknown_status.as_deref(),
            _ => None,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Response(StatusResult::Refused { retry_after, .. }) => *retry_after,
            _ => None,
        }
    }

    /// How long the provider is better left alone after this: it limits the rate, or does not respond, and every further
    /// request of this run would fare the same.
    pub fn pause(&self) -> Option<Duration> {
        const SHORTEST: Duration = Duration::from_mins(1);
        match self {
            Self::NoResponse => Some(SHORTEST),
            Self::Response(StatusResult::Refused { failure, retry_after })
                if failure.reason == Reason::RateLimited || retry_after.is_some() =>
            {
                Some(retry_after.unwrap_or_default().max(SHORTEST))
            }
            _ => None,
        }
    }

    /// Whether the provider refuses further requests, so that none is to follow in this run. Silence may be one task's.
    pub fn limits_rate(&self) -> bool {
        *self != Self::NoResponse && self.pause().is_some()
    }

    /// What is counted about it.
    pub fn metric(&self) -> Option<Metric> {
        match self {
            Self::Response(StatusResult::Refused { .. } | StatusResult::Unreadable)
            | Self::NoResponse
            | Self::TooLong => Some(Metric::PollRefused),
            Self::Response(StatusResult::Task(TaskStatus::Open(progress))) => {
                progress.unknown_status.as_ref().map(|_| Metric::UnknownStatus)
            }
            Self::Response(StatusResult::Task(TaskStatus::Finished(_)) | StatusResult::NotFound)
            | Self::NotFoundByGuess
            | Self::NotPollable => None,
        }
    }
}

/// How the status of a task is polled, as far as its record tells; none without the provider's id of it.
pub fn polled_task(record: &Record) -> Option<PolledTask<'_>> {
    let provider_task_id = record.provider_task_id.as_deref()?;
    Some(PolledTask { provider_task_id, endpoint: record.endpoint.as_deref() })
}

/// The same by each status call that may know the task, the likeliest first. What a body told of the call may be forged, and a guess may
/// be wrong: only all of them together can say that there is no such task.
pub fn polled_by_every_call(record: &Record) -> Vec<PolledTask<'_>> {
    let Some(likeliest) = polled_task(record) else { return vec![] };
    let calls = record.task.provider().adapter().status_calls().iter();
    let others = calls.map(|call| PolledTask { endpoint: Some(call), ..likeliest });
    std::iter::once(likeliest).chain(others.filter(|other| *other != likeliest)).collect()
}

/// Whether a poll of several tasks at once may have failed because of one of them: an id that the provider rejects, a request
/// or a response that is too long. Rejected keys, limited rates and outages are nobody's fault, and polling one by one would
/// only make them worse.
pub fn may_be_one_tasks_fault(result: &PollResult) -> bool {
    match result {
        PollResult::Response(StatusResult::Refused { failure, .. }) => failure.reason == Reason::InvalidParameters,
        PollResult::Response(StatusResult::Unreadable) | PollResult::TooLong => true,
        _ => false,
    }
}

/// What a status poll says about another link for an artifact whose link is dead, or is a file id. The artifact in
/// [`Refreshed::Fresh`] may be a file id still.
pub fn fresh_link(result: &PollResult, planned: &Planned) -> Refreshed {
    let refreshed = match result {
        PollResult::Response(StatusResult::Task(TaskStatus::Finished(Report::Succeeded { artifacts, .. }))) => {
            let mut of_kind = artifacts.iter().filter(|artifact| artifact.kind == planned.artifact.kind);
            let same = of_kind.nth(planned.ordinal.saturating_sub(1));
            same.map_or(Refreshed::NoOtherLink, |artifact| Refreshed::Fresh(artifact.clone()))
        }
        PollResult::Response(StatusResult::Task(_) | StatusResult::NotFound)
        | PollResult::NotFoundByGuess
        | PollResult::NotPollable => Refreshed::NoOtherLink,
        PollResult::Response(StatusResult::Refused { .. } | StatusResult::Unreadable)
        | PollResult::NoResponse
        | PollResult::TooLong => Refreshed::NoResponse,
    };
    refreshed.unless_held(&planned.artifact)
}

/// What is to be done with a pending task after a status poll.
#[derive(Clone, Debug, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Step {
    /// Record the provider's report, and carry it out.
    Report(Report),
    /// The provider could not be polled while the links of its callback lived: act on the callback.
    ActOnFallback(Report),
    /// Close the task as lost.
    Close(Failure),
    /// Poll again. `hint` is what is known of the hint now; none when there is none, or it is refuted.
    Wait {
        /// When.
        due_at: Timestamp,
        /// The hint as it is to be stored.
        hint: Option<PendingHint>,
    },
    /// The hint that reopened the task is not confirmed: its failure stands.
    Restore,
    /// The provider does not know the task of a hint, and nobody registered it: forget it.
    Remove,
}

impl Step {
    /// What it is, for the log.
    pub fn name(&self) -> &'static str {
        self.into()
    }
}

/// A step and what it is counted as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What to do.
    pub step: Step,
    /// Whether a hint was refuted by it.
    pub refuted: bool,
}

/// What of the provider the decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// When to poll.
    pub schedule: PollSchedule,
    /// How long the provider's links live when nothing else is said.
    pub link_life: Duration,
    /// Whether the provider forgets a task that it cancels.
    pub forgets_cancelled: bool,
}

impl Terms {
    /// The terms of a provider under its settings.
    pub fn of(provider: Provider, settings: &ProviderSettings) -> Self {
        let adapter = provider.adapter();
        let profile = adapter.profile();
        Self {
            schedule: PollSchedule::new(profile, &settings.poll),
            link_life: profile.link_life,
            forgets_cancelled: adapter.forgets_cancelled(),
        }
    }
}

/// Decides what a status poll of a pending task means.
pub fn decide(record: &Record, result: &PollResult, terms: &Terms, now: Timestamp) -> Decision {
    let step = |step| Decision { step, refuted: false };
    if let PollResult::Response(StatusResult::Task(TaskStatus::Finished(report))) = result {
        let contradicted = record.is_reopened() && report.outcome() != Outcome::Succeeded;
        if !contradicted {
            return step(Step::Report(report.clone()));
        }
    }
    if let Some(report) = forgotten(record, result, terms) {
        return step(Step::Report(report));
    }
    let Some(hint) = record.hint else {
        return step(
            overdue(record, result, terms, now)
                .unwrap_or_else(|| Step::Wait { due_at: next_poll(record, None, result, terms, now), hint: None }),
        );
    };
    let hint = learned(hint, result, now);
    if let Some(refutation) = refuted(record, &hint, result, now) {
        let step = match refutation {
            Refutation::Restore => Step::Restore,
            Refutation::Remove => Step::Remove,
            Refutation::Forget => Step::Wait { due_at: next_poll(record, None, result, terms, now), hint: None },
        };
        return Decision { step, refuted: true };
    }
    let fallback = record.fallback.as_ref().filter(|fallback| is_usable(fallback, &hint));
    // What the provider says may be staler than the hint.
    let may_be_stale = result.is_answer() && now.since(hint.received_at) < STALE_WITHIN;
    let closed = if record.is_reopened() || may_be_stale { None } else { overdue(record, result, terms, now) };
    if let Some(fallback) = fallback.filter(|_| !result.is_answer()) {
        // Sooner than the links die when there is no more time to wait.
        let usable_at = if closed.is_some() { fallback.received_at + SILENT_FOR } else { usable_at(fallback, terms) };
        if now >= usable_at {
            return step(Step::ActOnFallback(fallback.report.clone()));
        }
        if closed.is_some() {
            return step(Step::Wait { due_at: usable_at, hint: Some(hint) });
        }
    }
    step(closed.unwrap_or_else(|| {
        let due_at = next_poll(record, Some(&hint), result, terms, now);
        // In time for acting on the callback while its links live.
        let due_at = fallback.map_or(due_at, |fallback| due_at.min(usable_at(fallback, terms).max(now)));
        Step::Wait { due_at, hint: Some(hint) }
    }))
}

/// What it means that the provider does not know a task any more whose cancellation it took, where it forgets such tasks. Not
/// after a cancellation that got no response: the task may be running, and its result is paid for.
fn forgotten(record: &Record, result: &PollResult, terms: &Terms) -> Option<Report> {
    let is_forgotten = terms.forgets_cancelled
        && record.cancel_accepted_at.is_some()
        && !record.is_reopened()
        && *result == PollResult::Response(StatusResult::NotFound);
    let message = "the provider was asked to cancel it and does not know it any more";
    is_forgotten.then(|| Report::Failed(Failure::new(Reason::Cancelled, false).message(message)))
}

/// The report that a step makes of a task, to be recorded. `raw` is what the provider responded with.
pub fn accepted(record: &Record, step: &Step, raw: &Raw) -> Option<Accepted> {
    let task = record.task.clone();
    match step {
        Step::Report(report) => {
            // Where a callback told of the task, it is reported by callback, however it was confirmed.
            let reporter = if record.raw.is_empty() { Reporter::Poll } else { Reporter::Callback };
            Some(Accepted::confirmed(task, record.provider_task_id.clone(), report.clone(), reporter, raw.clone()))
        }
        Step::ActOnFallback(report) => Some(Accepted::unconfirmed(task, report.clone(), record.raw.clone())),
        Step::Close(failure) => Some(Accepted::lost(task, failure.clone())),
        Step::Wait { .. } | Step::Restore | Step::Remove => None,
    }
}

/// The hint with what this poll taught about it.
fn learned(hint: PendingHint, result: &PollResult, now: Timestamp) -> PendingHint {
    match result {
        PollResult::Response(StatusResult::NotFound) => PendingHint {
            answered_at: Some(now),
            not_found_since: hint.not_found_since.or(Some(now)),
            not_found: hint.not_found.saturating_add(1),
            ..hint
        },
        PollResult::Response(StatusResult::Task(_)) => {
            PendingHint { answered_at: Some(now), not_found_since: None, not_found: 0, ..hint }
        }
        _ => hint,
    }
}

enum Refutation {
    Restore,
    Remove,
    Forget,
}

/// Whether what the provider says refutes a hint, and what is left then.
fn refuted(record: &Record, hint: &PendingHint, result: &PollResult, now: Timestamp) -> Option<Refutation> {
    let unknown = hint.not_found >= NOT_FOUND_POLLS
        && hint.not_found_since.is_some_and(|since| now.since(since) >= NOT_FOUND_FOR);
    let contradicted =
        matches!(result, PollResult::Response(StatusResult::Task(_))) && now.since(hint.received_at) >= STALE_WITHIN;
    if record.is_reopened() {
        let failed = matches!(result, PollResult::Response(StatusResult::Task(TaskStatus::Finished(_))));
        let given_up = now.since(hint.received_at) >= REOPENED_FOR;
        return (unknown || given_up || (failed && contradicted)).then_some(Refutation::Restore);
    }
    match (unknown, contradicted) {
        (true, _) if record.registered_at.is_none() => Some(Refutation::Remove),
        (true, _) | (_, true) => Some(Refutation::Forget),
        (false, false) => None,
    }
}

/// Whether a callback may still be acted on unconfirmed: no status poll was answered since it came.
fn is_usable(fallback: &Fallback, hint: &PendingHint) -> bool {
    hint.answered_at.is_none_or(|answered_at| answered_at < fallback.received_at)
}

/// When a callback may be acted on unconfirmed: shortly before its links die by our own clock. What the body claims may
/// shorten that, but never below [`SILENT_FOR`].
fn usable_at(fallback: &Fallback, terms: &Terms) -> Timestamp {
    let by_our_clock = fallback.received_at + terms.link_life;
    let dies_at = fallback.report.nearest_expiry().map_or(by_our_clock, |claimed| claimed.min(by_our_clock));
    (dies_at - BEFORE_EXPIRY).max(fallback.received_at + SILENT_FOR)
}

/// The conclusion that a task is lost, when it is past its deadline and the provider has nothing to say, or cannot be polled
/// for good.
fn overdue(record: &Record, result: &PollResult, terms: &Terms, now: Timestamp) -> Option<Step> {
    let deadline = record.deadline_at.unwrap_or_else(|| began_at(record, now) + terms.schedule.deadline);
    if now < deadline {
        return None;
    }
    let why = match result {
        PollResult::NotPollable if record.provider_task_id.is_none() => {
            format!("no callback until the deadline {deadline}, and without the provider's task id it cannot be polled")
        }
        PollResult::NotPollable => {
            format!("no callback until the deadline {deadline}, and the settings allow no status poll of it")
        }
        PollResult::NotFoundByGuess => format!(
            "no final state until the deadline {deadline}: no callback reported one, and the provider does not know the task by the \
             status call that was tried. Which one knows it depends on where it was submitted: register such a task with ?endpoint=…"
        ),
        answered if answered.is_answer() => {
            format!("no final state until the deadline {deadline}, neither by callback nor by polling")
        }
        // Another poll would bring as much again.
        PollResult::TooLong => format!(
            "no callback until the deadline {deadline}, and the provider's response about it is longer than reelhook reads: its result \
             may be inline, and only one behind a link can be copied"
        ),
        _ if now >= deadline + OUTAGE_AFTER_DEADLINE => {
            format!("no callback until the deadline {deadline}, and the provider could not be polled for a week since")
        }
        _ => return None,
    };
    Some(Step::Close(Failure::new(Reason::Timeout, true).message(why)))
}

fn next_poll(
    record: &Record,
    hint: Option<&PendingHint>,
    result: &PollResult,
    terms: &Terms,
    now: Timestamp,
) -> Timestamp {
    let began_at = hint.map_or_else(|| began_at(record, now), |hint| hint.received_at);
    let deadline = record.deadline_at.filter(|deadline| *deadline > now);
    let due_at = match (result, deadline) {
        // Only a callback helps, or another setting, until the deadline.
        (PollResult::NotPollable, Some(deadline)) => deadline,
        // An outage beyond the deadline.
        (_, None) if record.deadline_at.is_some() => now + terms.schedule.max_interval,
        _ => {
            let seed = seed_of(record.task.id());
            let waited = now.since(began_at);
            let delay = terms.schedule.next_delay(waited, result.retry_after(), seed);
            // An interrupted submission that the provider does not have will hardly appear later: each lookup waits for twice as long.
            let not_submitted =
                record.provider_task_id.is_none() && *result == PollResult::Response(StatusResult::NotFound);
            now + if not_submitted { delay.max(waited) } else { delay }
        }
    };
    // The task is looked at once more at its deadline.
    deadline.map_or(due_at, |deadline| due_at.min(deadline))
}

fn began_at(record: &Record, now: Timestamp) -> Timestamp {
    record.submitted_at.or(record.created_at).unwrap_or(now)
}

#[cfg(test)]
mod tests;
