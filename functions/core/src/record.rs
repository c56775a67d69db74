//! The record of a task, as it is read. How it changes: [`crate::transition`].

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::annotations::{Annotations, Given};
use crate::callback::{Raw, Reporter};
use crate::report::{Outcome, Report};
use crate::result::StoredArtifact;
use crate::task::TaskKey;
use crate::time::Timestamp;
use crate::transfer::checkpoint::Checkpoints;

/// Shards of the index `due`. One partition of an index takes 1,000 writes a second, and every task writes its due time a
/// few times; eight shards carry well over a thousand tasks a second. Also the number of queries a run of `poll` makes at
/// least.
pub const DUE_SHARDS: u8 = 8;

/// How long after a report was recorded it is queued again at the earliest, if nobody has settled it.
pub const REQUEUE_AFTER: Duration = Duration::from_mins(1);

/// A task is due at most this long after a report or a hint: then the next run of `poll` finds it, if its message was lost or never
/// sent. A task that is due by then keeps its time: to move it in the index would cost as much as two more writes. Far below the
/// hour that the shortest-lived links last.
pub const FOUND_WITHIN: Duration = Duration::from_mins(5);

/// Whether a task that is due has waited for longer than it should. For as long as [`FOUND_WITHIN`] it may stay due as it is while
/// every run of `poll` looks at it.
pub fn is_overdue(due_at: Timestamp, now: Timestamp) -> bool {
    due_at + FOUND_WITHIN < now
}

/// How long a claim lasts unless it is renewed. If a worker dies, another one can claim the task after this long.
pub const LEASE_DURATION: Duration = Duration::from_secs(90);

/// How often a worker renews its claim: two renewals in a row may fail before a worker that lives loses it.
pub const RENEW_INTERVAL: Duration = Duration::from_secs(30);

/// How long a final record is kept: 90 days. Longer than any provider keeps its files, so that no repeated callback finds the
/// table empty. Chosen freely beyond that.
pub const RETENTION: Duration = Duration::from_hours(90 * 24);

/// Where a task stands.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, strum::Display, strum::EnumString, strum::IntoStaticStr, strum::VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum State {
    /// Known, and no final report is held that stands.
    Pending,
    /// A final report is held and not yet carried out.
    Reported,
    /// The result is in the bucket.
    Archived,
    /// The provider failed, and that was published.
    Failed,
    /// The result cannot be had, and that was published.
    Lost,
    /// Not a task: a body about no task we can tell, kept for an operator.
    Unattributed,
}

impl State {
    /// The name in the table.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The state with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        name.parse().ok()
    }

    /// Whether nothing more happens by itself.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Pending | Self::Reported)
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
    /// Where the task stands.
    pub state: State,
    /// The provider's own id; none while a submission is in flight or was interrupted, or when nobody told us.
    pub provider_task_id: Option<String>,
    /// The endpoint the task was submitted to; some status calls depend on it.
    pub endpoint: Option<String>,
    /// The caller's own words.
    pub annotations: Annotations,
    /// The id of ours that the submission carried, by which an interrupted one is looked up.
    pub marker: Option<String>,
    /// When the provider was asked to cancel it.
    pub cancel_requested_at: Option<Timestamp>,
    /// When the provider took that; none as well when no response came.
    pub cancel_accepted_at: Option<Timestamp>,
    /// When the application made the task known; none when only callbacks did.
    pub registered_at: Option<Timestamp>,
    /// The submission this record was made for, if it was made for one.
    pub submission: Option<SubmissionAttempt>,
    /// The accepted report. A pending task that has one was reopened: it holds a failure, and a hint claims a success.
    pub report: Option<Report>,
    /// Who gave it.
    pub reported_by: Option<Reporter>,
    /// The body it came in, or the last body that could not be acted on.
    pub raw: Raw,
    /// A hint that waits to be confirmed.
    pub hint: Option<PendingHint>,
    /// What the hint said, where it may be acted on if it cannot be confirmed.
    pub fallback: Option<Fallback>,
    /// Files in the bucket.
    pub artifacts: Vec<StoredArtifact>,
    /// What a worker resumes interrupted copies from.
    pub checkpoints: Checkpoints,
    /// Why the last copy did not succeed, while another is to come.
    pub last_error: Option<String>,
    /// When to look again.
    pub due_at: Option<Timestamp>,
    /// Until when a worker has it.
    pub claimed_until: Option<Timestamp>,
    /// Grows with every claim; whoever holds an older one has lost the task.
    pub fencing_token: u64,
    /// Grows with everything that is said about the task from outside.
    pub revision: u64,
    /// Claims since the state last changed.
    pub attempts: u32,
    /// When it is given up.
    pub deadline_at: Option<Timestamp>,
    /// When the record was made.
    pub created_at: Option<Timestamp>,
    /// When the provider accepted the submission.
    pub submitted_at: Option<Timestamp>,
    /// When the accepted report came.
    pub reported_at: Option<Timestamp>,
    /// When it became final.
    pub finished_at: Option<Timestamp>,
}

impl Record {
    /// The outcome held, if there is one.
    pub fn outcome(&self) -> Option<Outcome> {
        self.report.as_ref().map(Report::outcome)
    }

    /// Whether a hint reopened the task: it holds a failure that the hint contradicts.
    pub fn is_reopened(&self) -> bool {
        self.state == State::Pending && self.report.is_some()
    }
}

/// What is remembered of a hint while it waits to be confirmed by a status poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingHint {
    /// When the first hint came.
    pub received_at: Timestamp,
    /// When the provider last answered a status poll about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_at: Option<Timestamp>,
    /// Since when the provider says that it does not know the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_found_since: Option<Timestamp>,
    /// How often in a row it has said so.
    #[serde(default)]
    pub not_found: u32,
}

impl PendingHint {
    /// A hint that came just now.
    pub fn new(received_at: Timestamp) -> Self {
        Self { received_at, answered_at: None, not_found_since: None, not_found: 0 }
    }
}

/// A success that came by callback and is acted on when it cannot be confirmed. Its body is the record's `raw`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fallback {
    /// What the callback said.
    pub report: Report,
    /// When it came.
    pub received_at: Timestamp,
}

/// Tells two submissions under one id apart, and an interrupted one from one in flight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubmissionAttempt {
    /// [`fingerprint`] of the request.
    pub fingerprint: String,
    /// Until when the submission may still be in flight; after that, without a provider task id, it was interrupted.
    pub in_flight_until: Timestamp,
}

/// Fingerprint of a submission: the same endpoint, the same JSON, whatever the order of its fields and its white space, and the same
/// annotations give the same 32 characters.
pub fn fingerprint(given: &Given, body: &serde_json::Value) -> String {
    let mut hash = Sha256::new();
    hash.update(given.endpoint.as_deref().unwrap_or_default());
    hash.update([0]);
    // serde_json keeps objects sorted by key (the `preserve_order` feature is off), so equal values print equally.
    hash.update(body.to_string());
    // Without annotations it is what earlier releases stored.
    if !given.annotations.is_empty() {
        hash.update([0]);
        hash.update(serde_json::to_vec(&given.annotations).unwrap_or_default());
    }
    hex::encode(hash.finalize())[..32].to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use strum::VariantArray as _;

    use super::*;

    #[test]
    fn every_state_has_one_name() {
        for state in State::VARIANTS {
            assert_eq!(State::from_name(state.name()), Some(*state));
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
        let none = Given::default();
        assert_eq!(fingerprint(&none, &one), fingerprint(&none, &two));
        assert_ne!(fingerprint(&none, &one), fingerprint(&none, &json!({"a": 1})));
        let elsewhere = Given { endpoint: Some("/v1".to_owned()), ..Given::default() };
        assert_ne!(fingerprint(&none, &one), fingerprint(&elsewhere, &one));
        let annotations = Annotations::new(Some("1"), []).expect("JSON");
        assert_ne!(fingerprint(&none, &one), fingerprint(&Given { annotations, ..Given::default() }, &one));
        // As stored by the first release.
        assert_eq!(fingerprint(&none, &json!({"a": 1})), "c7261463ebd776f4650b6d0fe942d9cc");
    }
}
