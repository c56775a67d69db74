//! A part of `cargo run -p crash` that takes half a minute: a process that dies right after a call took effect, at every step.

use crash::flow::Flow;
use crash::proxy::Fault;
use crash::run::every;
use strum::VariantArray as _;

#[tokio::test(flavor = "multi_thread")]
async fn a_process_may_die_after_any_of_its_calls() {
    let outcomes = every(Flow::VARIANTS, &[Fault::KilledAfter], 8).await.expect("everything runs");
    assert!(outcomes.steps.values().sum::<usize>() > 50, "{outcomes}");
    assert!(outcomes.are_right(), "{outcomes}");
}
