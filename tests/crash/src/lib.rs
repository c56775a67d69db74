//! Breaks every outgoing call of every function, one at a time and in every way, and checks how the task ends.
//!
//! Each [`flow`] is run once to list the calls its function makes, to AWS and to the provider. Then each of these steps is run again
//! with each [`proxy::Fault`]: in an AWS, with a simulated provider and with processes of its own. After the fault only the queue and
//! the schedule go on, until the task is final; then [`world`] checks what is there.
//!
//! An [`outage`] lasts longer than a call: `tests/outages.rs` has one case for each row of the table in `infra/OPERATIONS.md`.
//!
//! Time passes by moving every time in the task's record back, so that nobody waits for a lease or a back-off between two
//! attempts. The waits inside of one invocation are real.

pub mod flow;
pub mod outage;
pub mod proxy;
pub mod run;
pub mod world;
