//! Figures of a load.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use local_aws::control::Statistics;
use local_aws::faults::Calls;
use simulator::{DeliveryKind, Provider};

use crate::plan::Delivery;
use crate::run::{Finished, count, fails};
use crate::system::{AwsKind, System};

/// How callbacks of one provider were acknowledged.
#[derive(Clone, Debug)]
struct Acknowledgements {
    budget: Duration,
    /// Shares of the budget, sorted.
    shares: Vec<f64>,
    not_acknowledged: usize,
}

impl Acknowledgements {
    /// The smallest share that this fraction of the callbacks do not exceed.
    fn percentile(&self, fraction: f64) -> f64 {
        percentile(&self.shares, fraction)
    }
}

/// The value that a fraction of sorted values does not exceed; 0 without values.
fn percentile(sorted: &[f64], fraction: f64) -> f64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index"
    )]
    let rank = (fraction * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// The report of the first phase.
pub async fn of(system: &System, finished: &Finished) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write!(text, "{}{}", tasks(finished), acknowledgements(finished));
    let _ = write!(text, "{}", work(system, finished));
    if let Some(statistics) = statistics(system).await {
        let _ = write!(text, "{}", calls(&statistics, finished));
    }
    for error in &finished.errors {
        let _ = writeln!(text, "wrong: {error}");
    }
    text
}

/// What `local-aws` has counted; none for another AWS.
pub async fn statistics(system: &System) -> Option<Statistics> {
    if system.kind != AwsKind::Fast {
        return None;
    }
    let statistics = system.remote.control(reqwest::Method::GET, "statistics", String::new()).await.ok()?;
    serde_json::from_slice(&statistics).ok()
}

/// A number of calls, over all operations.
pub fn total(statistics: &Statistics, of: fn(&Calls) -> u64) -> u64 {
    statistics.calls.values().map(of).sum()
}

fn tasks(finished: &Finished) -> String {
    let plans = &finished.plans;
    let number = plans.len();
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let rate = |within: Duration| number as f64 / within.as_secs_f64();
    let rows = [
        ("duplicated callbacks", count(plans, |plan| plan.delivery.is_duplicated())),
        ("lost callbacks", count(plans, |plan| plan.delivery == Delivery::Lost)),
        ("late or out of order", count(plans, |plan| plan.delivery.is_late())),
        ("forged", count(plans, |plan| plan.forgery.is_some())),
        ("submitted twice at once", count(plans, |plan| plan.is_submitted_twice)),
        ("failed at the provider", count(plans, fails)),
        ("failed, then succeeded", count(plans, |plan| plan.ending == crate::plan::Ending::Reconsidered)),
    ];
    let mut text = format!(
        "{number} tasks: submitted within {:.1} s ({:.1} a second), all ended after {:.1} s ({:.1} a second)\n",
        finished.submitted_within.as_secs_f64(),
        rate(finished.submitted_within),
        finished.ended_within.as_secs_f64(),
        rate(finished.ended_within),
    );
    for (name, tasks) in rows {
        #[expect(clippy::cast_precision_loss, reason = "a share")]
        let share = 100.0 * tasks as f64 / number.max(1) as f64;
        let _ = writeln!(text, "    {name:<26}{tasks:>8}  {share:>5.1} %");
    }
    text
}

fn acknowledgements(finished: &Finished) -> String {
    let mut of_provider: BTreeMap<Provider, Acknowledgements> = BTreeMap::new();
    for task in &finished.tasks {
        let budget = reelhook_core::Provider::from_name(task.provider.name())
            .and_then(|provider| Some(provider.adapter().profile().callbacks?.response_timeout))
            .unwrap_or_default();
        let of = of_provider.entry(task.provider).or_insert(Acknowledgements {
            budget,
            shares: vec![],
            not_acknowledged: 0,
        });
        for delivery in task.deliveries.iter().filter(|delivery| delivery.kind != DeliveryKind::Challenge) {
            of.shares.push(delivery.duration.as_secs_f64() / budget.as_secs_f64());
            of.not_acknowledged += usize::from(!delivery.accepted());
        }
    }
    let mut text = "callbacks: time to the acknowledgement, as a share of the provider's response timeout\n".to_owned();
    let _ = writeln!(
        text,
        "    {:<12}{:>8}{:>11}{:>9}{:>9}{:>9}{:>9}{:>18}",
        "provider", "timeout", "callbacks", "p50", "p95", "p99", "max", "not acknowledged"
    );
    for (provider, mut of) in of_provider {
        of.shares.sort_by(f64::total_cmp);
        let shares = [0.5, 0.95, 0.99, 1.0].map(|fraction| format!("{:.2} %", 100.0 * of.percentile(fraction)));
        let _ = writeln!(
            text,
            "    {:<12}{:>6} s{:>11}{:>9}{:>9}{:>9}{:>9}{:>18}",
            provider.name(),
            of.budget.as_secs(),
            of.shares.len(),
            shares[0],
            shares[1],
            shares[2],
            shares[3],
            of.not_acknowledged
        );
    }
    text
}

fn work(system: &System, finished: &Finished) -> String {
    let counts = &system.counts;
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    format!(
        "process: {} messages, {} failed, {} delivered again because the response to the receiver was lost\n\
         poll: {} runs, {} tasks rescued, {} queued\n",
        count(&counts.messages),
        count(&counts.failed_messages),
        finished.messages_redelivered,
        count(&counts.polls),
        count(&counts.rescued),
        count(&counts.requeued),
    )
}

fn calls(statistics: &Statistics, finished: &Finished) -> String {
    let while_submitting = finished.calls_while_submitting.unwrap_or_default();
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let rate = while_submitting as f64 / finished.submitted_within.as_secs_f64();
    let mut text = format!(
        "AWS: {} calls ({rate:.0} a second while tasks were submitted), {} failed before they took effect, {} after it\n",
        total(statistics, |calls| calls.made),
        total(statistics, |calls| calls.failed_before),
        total(statistics, |calls| calls.failed_after),
    );
    for (operation, calls) in &statistics.calls {
        let _ =
            writeln!(text, "    {operation:<26}{:>8}{:>8}{:>8}", calls.made, calls.failed_before, calls.failed_after);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let sorted: Vec<f64> = (1..=100).map(f64::from).collect();
        for (fraction, expected) in [(0.5, 50.0), (0.95, 95.0), (0.99, 99.0), (1.0, 100.0)] {
            assert!((percentile(&sorted, fraction) - expected).abs() < f64::EPSILON, "{fraction}");
        }
        assert!(percentile(&[], 0.5).abs() < f64::EPSILON);
        assert!((percentile(&[3.0], 0.5) - 3.0).abs() < f64::EPSILON);
    }
}
