//! The record of a task: one item, and the transitions it can take. Each transition is one conditional write; the
//! conditions are written down in `reelhook-aws`, next to the expressions that carry them out.
//!
//! ```text
//! none ──register──> pending ──report──> reported ──settle──> archived | failed | lost
//!   └───────────────report──────────────────^ └──── a success replaces a failure ────┘
//! ```

use sha2::{Digest, Sha256};

use crate::callback::{Accepted, Fallback, Raw, Reporter};
use crate::report::{Failure, Outcome, Reason, Report};
use crate::result::StoredArtifact;
use crate::task::{TaskKey, hexadecimal};
use crate::time::Timestamp;

/// Shards of the index `due`. One partition of an index takes 1,000 writes a second, and every task writes its due time a
/// few times; eight shards carry well over a thousand tasks a second. Also the number of queries a run of `poll` makes at
/// least.
pub const DUE_SHARDS: u8 = 8;

/// How long after a report was recorded it is queued again, if nobody has settled it: seconds.
pub const REQUEUE_AFTER: i64 = 60;

/// How long a claim lasts unless it is renewed, in seconds, and how often a worker renews it. A worker that dies costs its
/// task at most this long; two renewals in a row may fail before a worker that lives loses its claim.
pub const LEASE: i64 = 90;
/// Seconds between two renewals of a claim.
pub const RENEW_EVERY: u64 = 30;

/// How long a final record is kept, in seconds: 90 days. Longer than any provider keeps its files, so that no repeated
/// callback finds the table empty. Chosen freely beyond that.
pub const RETENTION: i64 = 90 * 24 * 3600;

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Known, and nothing final heard.
    Pending,
    /// A final report is held, and not acted on to the end.
    Reported,
    /// The result is in the bucket.
    Archived,
    /// The provider failed, and that was announced.
    Failed,
    /// Nothing more can be done, and that was announced.
    Lost,
}

impl State {
    /// The word in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Reported => "reported",
            Self::Archived => "archived",
            Self::Failed => "failed",
            Self::Lost => "lost",
        }
    }

    /// The state with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Pending, Self::Reported, Self::Archived, Self::Failed, Self::Lost]
            .into_iter()
            .find(|state| state.name() == name)
    }

    /// Whether nothing more happens by itself.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Archived | Self::Failed | Self::Lost)
    }

    /// The final state of an outcome.
    pub fn settled(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Succeeded => Self::Archived,
            Outcome::Failed => Self::Failed,
            Outcome::Lost => Self::Lost,
        }
    }
}

/// The shard of the index `due` in which a task stands. Depends on the key alone, so every writer finds the same.
pub fn due_shard(task: &TaskKey) -> u8 {
    Sha256::digest(task.to_string().as_bytes())[0] % DUE_SHARDS
}

/// A record as it was read.
#[derive(Clone, Debug)]
pub struct Record {
    /// The key.
    pub task: TaskKey,
    /// Where it stands.
    pub state: State,
    /// The provider's own id; none while a submission is under way or was interrupted, or when nobody told us.
    pub provider_task_id: Option<String>,
    /// The endpoint the task was submitted to; some status calls depend on it.
    pub endpoint: Option<String>,
    /// The submission this record was made for, if it was made for one.
    pub submission: Option<SubmissionMark>,
    /// The accepted report.
    pub report: Option<Report>,
    /// Who gave it.
    pub reported_by: Option<Reporter>,
    /// The body it came in, or the last body that could not be acted on.
    pub raw: Raw,
    /// A report kept aside while the provider is asked.
    pub fallback: Option<Fallback>,
    /// Files in the bucket.
    pub artifacts: Vec<StoredArtifact>,
    /// What a worker needs to go on with an interrupted copy; the copier's own form.
    pub upload: Option<String>,
    /// Why the last copy did not succeed, while another is to come.
    pub trouble: Option<String>,
    /// When to look again.
    pub due_at: Option<Timestamp>,
    /// Until when a worker has it.
    pub claimed_until: Option<Timestamp>,
    /// Fencing number; grows with every claim.
    pub claim: u64,
    /// Times the task was asked after or worked on since it last changed its state.
    pub attempts: u32,
    /// When it is given up.
    pub deadline_at: Option<Timestamp>,
    /// When the record was made.
    pub created_at: Option<Timestamp>,
    /// When the provider took the submission.
    pub submitted_at: Option<Timestamp>,
    /// When the accepted report came.
    pub reported_at: Option<Timestamp>,
    /// When it became final.
    pub finished_at: Option<Timestamp>,
}

impl Record {
    /// Whether a worker has it at this moment.
    pub fn is_claimed(&self, now: Timestamp) -> bool {
        self.claimed_until.is_some_and(|until| until > now)
    }

    /// The conclusion that the task is lost, when it is past its deadline.
    pub fn overdue(&self, now: Timestamp) -> Option<Accepted> {
        let deadline = self.deadline_at.filter(|deadline| *deadline <= now)?;
        let why = if self.provider_task_id.is_some() {
            format!("no final state until the deadline {deadline}, neither by callback nor by asking the provider")
        } else {
            format!("no callback until the deadline {deadline}, and without the provider's task id it cannot be asked")
        };
        Some(Accepted::lost(self.task.clone(), Failure::new(Reason::Timeout, true).message(why)))
    }

    /// The outcome held, if there is one.
    pub fn outcome(&self) -> Option<Outcome> {
        self.report.as_ref().map(Report::outcome)
    }
}

/// Tells two submissions under one id apart, and an interrupted one from one that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubmissionMark {
    /// [`fingerprint`] of the request.
    pub fingerprint: String,
    /// Until when the submission may still be under way; after that, without a provider id, it was interrupted.
    pub under_way_until: Timestamp,
}

/// Fingerprint of a submission: the same endpoint and the same JSON, whatever the order of its fields and its white space,
/// give the same 32 characters.
pub fn fingerprint(endpoint: Option<&str>, body: &serde_json::Value) -> String {
    let mut hash = Sha256::new();
    hash.update(endpoint.unwrap_or_default());
    hash.update([0]);
    // serde_json keeps objects sorted by key (the `preserve_order` feature is off), so equal values print equally.
    hash.update(body.to_string());
    hexadecimal(&hash.finalize())[..32].to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn every_state_has_one_name() {
        for state in [State::Pending, State::Reported, State::Archived, State::Failed, State::Lost] {
            assert_eq!(State::from_name(state.name()), Some(state));
        }
        assert_eq!(State::from_name("done"), None);
        assert_eq!(State::settled(Outcome::Succeeded), State::Archived);
    }

    #[test]
    fn shards_are_stable_and_used_evenly() {
        let key: TaskKey = "kling/job-1".parse().expect("a key");
        assert_eq!(due_shard(&key), due_shard(&key.clone()));
        let mut counts = [0; DUE_SHARDS as usize];
        for number in 0..8000 {
            let key: TaskKey = format!("kling/job-{number}").parse().expect("a key");
            counts[usize::from(due_shard(&key))] += 1;
        }
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
    }

    #[test]
    fn fingerprints_ignore_layout_and_nothing_else() {
        let one: Value = serde_json::from_str(r#"{"a":1,"b":{"c":2,"d":3}}"#).expect("JSON");
        let two: Value = serde_json::from_str("{ \"b\": {\"d\":3, \"c\":2},\n \"a\":1 }").expect("JSON");
        assert_eq!(fingerprint(None, &one), fingerprint(None, &two));
        assert_ne!(fingerprint(None, &one), fingerprint(None, &json!({"a": 1})));
        assert_ne!(fingerprint(None, &one), fingerprint(Some("/v1"), &one));
    }
}
