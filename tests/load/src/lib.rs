//! A load in two phases. The first submits tasks to all simulated providers through the real functions, with everything that goes
//! wrong in a year: callbacks twice, late, lost and forged, AWS calls that fail before and after they take effect. It writes down
//! how each task must end, as the providers know it. The second, a program of its own, reads every record and every object and
//! says which task did not end exactly once and right.
//!
//! | module | contents |
//! |---|---|
//! | [`plan`] | what happens to each task |
//! | [`system`] | everything that runs: AWS, providers, functions, queue, schedule |
//! | [`run`] | the first phase |
//! | [`forge`] | what somebody posts who is not the provider |
//! | [`manifest`] | how each task must end |
//! | [`check`] | the second phase |
//! | [`report`] | figures |

pub mod check;
mod error;
pub mod forge;
pub mod front;
pub mod manifest;
pub mod plan;
pub mod pool;
pub mod remote;
pub mod report;
pub mod run;
pub mod system;

pub use crate::error::Error;
