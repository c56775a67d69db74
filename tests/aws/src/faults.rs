//! Calls that fail. Half of them fail before they take effect, the other half after it: then only the response is lost, which a
//! client cannot tell apart.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

/// What goes wrong with a call. The client sees a 500 either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing was done.
    BeforeEffect,
    /// It was carried out, and its response is lost.
    AfterEffect,
}

/// How many calls fail.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct FaultPlan {
    /// The share of calls that fail, 0 to 1.
    pub share: f64,
    /// Which ones.
    #[serde(default)]
    pub seed: u64,
}

/// Calls of one operation.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct Calls {
    /// All, failed ones included.
    pub made: u64,
    /// Those that failed before they took effect.
    pub failed_before: u64,
    /// Those whose response was lost.
    pub failed_after: u64,
}

/// Decides about every call, and counts them.
#[derive(Debug, Default)]
pub struct Faults {
    state: Mutex<(FaultPlan, u64, BTreeMap<String, Calls>)>,
}

impl Faults {
    /// Replaces the plan.
    pub fn plan(&self, plan: FaultPlan) {
        self.locked().0 = plan;
    }

    /// What happens to the next call.
    pub fn next(&self, operation: &str) -> Option<Fault> {
        let mut state = self.locked();
        let (plan, number, calls) = &mut *state;
        *number += 1;
        let fault = draw(*plan, *number);
        let counted = calls.entry(operation.to_owned()).or_default();
        counted.made += 1;
        match fault {
            Some(Fault::BeforeEffect) => counted.failed_before += 1,
            Some(Fault::AfterEffect) => counted.failed_after += 1,
            None => {}
        }
        fault
    }

    /// The calls so far, by operation.
    pub fn calls(&self) -> BTreeMap<String, Calls> {
        self.locked().2.clone()
    }

    fn locked(&self) -> MutexGuard<'_, (FaultPlan, u64, BTreeMap<String, Calls>)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn draw(plan: FaultPlan, number: u64) -> Option<Fault> {
    let random = split_mix(plan.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    // 32 bits decide whether, one other bit decides when.
    let fraction = f64::from(u32::try_from(random >> 32).unwrap_or(u32::MAX)) / f64::from(u32::MAX);
    (fraction < plan.share).then_some(if random & 1 == 0 { Fault::BeforeEffect } else { Fault::AfterEffect })
}

/// [SplitMix64](https://prng.di.unimi.it/splitmix64.c).
fn split_mix(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_calls_fail_as_planned_half_of_them_after_their_effect() {
        let faults = Faults::default();
        assert_eq!(faults.next("PutItem"), None);
        faults.plan(FaultPlan { share: 0.01, seed: 7 });
        for _ in 0..100_000 {
            faults.next("GetItem");
        }
        let calls = faults.calls()["GetItem"];
        assert_eq!(calls.made, 100_000);
        assert!((400..600).contains(&calls.failed_before), "{calls:?}");
        assert!((400..600).contains(&calls.failed_after), "{calls:?}");
    }
}
