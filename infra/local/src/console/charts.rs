//! Small charts, as numbers that a template draws.

use std::collections::BTreeMap;

use reelhook_core::callback::Reporter;
use reelhook_core::record::State;

use super::watch::Known;

/// The size of a chart's drawing area.
pub(super) const WIDTH: usize = 240;
const HEIGHT: usize = 60;

/// Upper ends of the classes of the time from report to end, in seconds.
const CLASSES: [(i64, &str); 6] =
    [(1, "1 s"), (3, "3 s"), (10, "10 s"), (60, "1 min"), (600, "10 min"), (i64::MAX, "more")];

/// The open tasks over time.
pub(super) struct Backlog {
    /// Points of a line: `x,y x,y`.
    pub(super) points: String,
    pub(super) now: usize,
    pub(super) most: usize,
}

/// A bar.
pub(super) struct Bar {
    pub(super) label: String,
    /// Its length in percent of the longest possible.
    pub(super) percent: usize,
    /// What stands at its end.
    pub(super) value: String,
}

pub(super) fn backlog(known: &Known) -> Backlog {
    let most = known.backlog.iter().copied().max().unwrap_or_default();
    let last = known.backlog.len().saturating_sub(1).max(1);
    let point =
        |(index, open): (usize, &usize)| format!("{},{}", index * WIDTH / last, HEIGHT - open * HEIGHT / most.max(1));
    let points: Vec<String> = known.backlog.iter().enumerate().map(point).collect();
    Backlog { points: points.join(" "), now: known.backlog.back().copied().unwrap_or_default(), most }
}

/// How many of each provider's results were found by polling, because no callback told of them.
pub(super) fn rescued(known: &Known) -> Vec<Bar> {
    let mut providers = BTreeMap::<&str, (usize, usize)>::new();
    let ended = known.tasks.values().filter(|summary| matches!(summary.state, State::Archived | State::Failed));
    for summary in ended.filter(|summary| summary.task.provider().calls_back()) {
        let (all, polled) = providers.entry(summary.task.provider().name()).or_default();
        *all += 1;
        *polled += usize::from(summary.reported_by == Some(Reporter::Poll));
    }
    let bar = |(provider, (all, polled)): (&str, (usize, usize))| Bar {
        label: provider.to_owned(),
        percent: polled * 100 / all.max(1),
        value: format!("{polled} of {all}"),
    };
    providers.into_iter().map(bar).collect()
}

/// How long it took from a report until everything was in the bucket.
pub(super) fn time_to_saved(known: &Known) -> Vec<Bar> {
    let mut counts = [0_usize; CLASSES.len()];
    for summary in known.tasks.values().filter(|summary| summary.state == State::Archived) {
        let (Some(reported), Some(finished)) = (summary.reported_at, summary.finished_at) else { continue };
        let seconds = finished.seconds() - reported.seconds();
        let class = CLASSES.iter().position(|(end, _)| seconds <= *end).unwrap_or_default();
        counts[class] += 1;
    }
    let most = counts.iter().copied().max().unwrap_or_default().max(1);
    let bar = |((_, label), count): (&(i64, &str), usize)| Bar {
        label: (*label).to_owned(),
        percent: count * 100 / most,
        value: count.to_string(),
    };
    CLASSES.iter().zip(counts).map(bar).collect()
}
