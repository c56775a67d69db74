//! The stored form of a record: named attributes with text or number values. `reelhook-aws` maps them to `DynamoDB`, the
//! evaluator of [`crate::transition`] works on them in memory.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::callback::{Raw, Reporter};
use crate::record::{Record, State, SubmissionAttempt};
use crate::stored_report;
use crate::task::TaskKey;
use crate::time::Timestamp;

/// An attribute of an item. Its name in the table is the variant's in snake case.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum Attribute {
    /// The task key; the table's primary key.
    Task,
    /// [`State`], by name.
    State,
    /// The outcome of the report held, by name. A pending task that has one was reopened by a hint.
    Outcome,
    /// The provider's own id.
    ProviderTaskId,
    /// The task that a provider task belongs to; only on the items of [`crate::transition::ownership`].
    Owner,
    /// The endpoint the task was submitted to.
    Endpoint,
    /// The caller's own words, as JSON.
    Annotations,
    /// The id of ours that the submission carried.
    Marker,
    /// When the provider was asked to cancel the task.
    CancelRequestedAt,
    /// When the provider took that.
    CancelAcceptedAt,
    /// When the application made the task known; absent when only callbacks did.
    RegisteredAt,
    /// Fingerprint of the submission's request.
    Fingerprint,
    /// Until when the submission may still be in flight.
    InFlightUntil,
    /// The report, as JSON; links of its body as their places there, see [`crate::stored_report`].
    Report,
    /// Who reported, by name.
    ReportedBy,
    /// The body of the report or of the latest hint.
    Raw,
    /// Length of that body as received, in bytes.
    RawBytes,
    /// The latest body that could not be read, for an operator. No function reads it.
    Unreadable,
    /// The hint that waits to be confirmed, as JSON.
    Hint,
    /// The report to fall back on when it cannot be confirmed, as JSON.
    Fallback,
    /// Files in the bucket, as JSON.
    Artifacts,
    /// Unfinished copies, as JSON.
    Checkpoints,
    /// Why the last copy did not succeed, while another is to come.
    LastError,
    /// Identifies the latest write, see `reelhook_aws::table`.
    WriteId,
    /// When to look at the task again. Present exactly while the state is not final.
    DueAt,
    /// The shard of the index `due`.
    DueShard,
    /// Until when a worker holds the task.
    ClaimedUntil,
    /// Grows with every claim; whoever holds an older one has lost the task.
    FencingToken,
    /// Grows with everything that is said about the task from outside.
    Revision,
    /// Claims since the state last changed.
    Attempts,
    /// When a task without a report is given up.
    DeadlineAt,
    /// When the item was made.
    CreatedAt,
    /// When the provider accepted the submission.
    SubmittedAt,
    /// When the report held came.
    ReportedAt,
    /// When the task became final.
    FinishedAt,
    /// The table's TTL; only on final items.
    ExpiresAt,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// A text.
    Text(String),
    /// A whole number.
    Number(i64),
}

impl Value {
    /// A value stored as JSON text.
    #[expect(clippy::missing_panics_doc, reason = "stored types serialise: no map keys but strings, no failing impl")]
    pub fn json(value: &(impl Serialize + ?Sized)) -> Self {
        Self::Text(serde_json::to_string(value).expect("stored types serialise"))
    }
}

impl From<Timestamp> for Value {
    fn from(time: Timestamp) -> Self {
        Self::Number(time.seconds())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

#[cfg(test)]
impl From<i32> for Value {
    fn from(number: i32) -> Self {
        Self::Number(number.into())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<State> for Value {
    fn from(state: State) -> Self {
        state.name().into()
    }
}

/// An item: what the table holds under one key.
pub type Item = BTreeMap<Attribute, Value>;

/// An item that cannot be read as a record.
#[derive(Debug, thiserror::Error)]
#[error("the record of {task} is damaged: {attribute} is missing or unreadable")]
pub struct DamagedRecord {
    task: String,
    attribute: Attribute,
}

impl DamagedRecord {
    /// The item of a task lacks an attribute, or holds something else in its place.
    pub fn new(task: impl Into<String>, attribute: Attribute) -> Self {
        Self { task: task.into(), attribute }
    }
}

/// Reads attributes of one item. An attribute that is absent is none; one that cannot be read is damage.
struct Reader<'a>(&'a Item);

impl Reader<'_> {
    fn damaged(&self, attribute: Attribute) -> DamagedRecord {
        let task = match self.0.get(&Attribute::Task) {
            Some(Value::Text(task)) => task.as_str(),
            _ => "an unnamed task",
        };
        DamagedRecord::new(task, attribute)
    }

    fn parsed<T>(
        &self,
        attribute: Attribute,
        parse: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>, DamagedRecord> {
        match self.0.get(&attribute) {
            None => Ok(None),
            Some(value) => parse(value).map(Some).ok_or_else(|| self.damaged(attribute)),
        }
    }

    fn text(&self, attribute: Attribute) -> Result<Option<String>, DamagedRecord> {
        self.parsed(attribute, |value| match value {
            Value::Text(text) => Some(text.clone()),
            Value::Number(_) => None,
        })
    }

    fn named<T>(
        &self,
        attribute: Attribute,
        from_name: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, DamagedRecord> {
        self.parsed(attribute, |value| match value {
            Value::Text(text) => from_name(text),
            Value::Number(_) => None,
        })
    }

    fn number<T: TryFrom<i64>>(&self, attribute: Attribute) -> Result<Option<T>, DamagedRecord> {
        self.parsed(attribute, |value| match value {
            Value::Number(number) => T::try_from(*number).ok(),
            Value::Text(_) => None,
        })
    }

    fn time(&self, attribute: Attribute) -> Result<Option<Timestamp>, DamagedRecord> {
        Ok(self.number(attribute)?.map(Timestamp::from_seconds))
    }

    fn json<T: DeserializeOwned>(&self, attribute: Attribute) -> Result<Option<T>, DamagedRecord> {
        self.named(attribute, |text| serde_json::from_str(text).ok())
    }
}

impl Record {
    /// Reads an item.
    ///
    /// # Errors
    /// When an attribute that has to be there is not, or one that is there cannot be read; the error names it.
    pub fn from_item(item: &Item) -> Result<Self, DamagedRecord> {
        use Attribute as A;
        let reader = Reader(item);
        let required = |attribute| move || DamagedRecord::new("an unnamed task", attribute);
        let task: TaskKey = reader.named(A::Task, |task| task.parse().ok())?.ok_or_else(required(A::Task))?;
        let state = reader.named(A::State, State::from_name)?.ok_or_else(|| reader.damaged(A::State))?;
        let raw = Raw::from_stored(reader.text(A::Raw)?.unwrap_or_default(), reader.number(A::RawBytes)?.unwrap_or(0));
        let submission = match (reader.text(A::Fingerprint)?, reader.time(A::InFlightUntil)?) {
            (Some(fingerprint), Some(in_flight_until)) => Some(SubmissionAttempt { fingerprint, in_flight_until }),
            _ => None,
        };
        Ok(Self {
            task,
            state,
            provider_task_id: reader.text(A::ProviderTaskId)?,
            endpoint: reader.text(A::Endpoint)?,
            annotations: reader.json(A::Annotations)?.unwrap_or_default(),
            marker: reader.text(A::Marker)?,
            cancel_requested_at: reader.time(A::CancelRequestedAt)?,
            cancel_accepted_at: reader.time(A::CancelAcceptedAt)?,
            registered_at: reader.time(A::RegisteredAt)?,
            submission,
            report: reader.named(A::Report, |text| stored_report::read(text, &raw))?,
            reported_by: reader.named(A::ReportedBy, Reporter::from_name)?,
            hint: reader.json(A::Hint)?,
            fallback: reader.named(A::Fallback, |text| stored_report::read(text, &raw))?,
            raw,
            artifacts: reader.json(A::Artifacts)?.unwrap_or_default(),
            checkpoints: reader.json(A::Checkpoints)?.unwrap_or_default(),
            last_error: reader.text(A::LastError)?,
            due_at: reader.time(A::DueAt)?,
            claimed_until: reader.time(A::ClaimedUntil)?,
            fencing_token: reader.number(A::FencingToken)?.unwrap_or(0),
            revision: reader.number(A::Revision)?.unwrap_or(0),
            attempts: reader.number(A::Attempts)?.unwrap_or(0),
            deadline_at: reader.time(A::DeadlineAt)?,
            created_at: reader.time(A::CreatedAt)?,
            submitted_at: reader.time(A::SubmittedAt)?,
            reported_at: reader.time(A::ReportedAt)?,
            finished_at: reader.time(A::FinishedAt)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use strum::VariantArray as _;

    use super::*;

    fn item() -> Item {
        Item::from([
            (Attribute::Task, "kling/job-1".into()),
            (Attribute::State, State::Pending.into()),
            (Attribute::DueAt, Value::Number(7)),
        ])
    }

    #[test]
    fn an_item_is_read_and_absent_attributes_are_none() {
        let record = Record::from_item(&item()).expect("a record");
        assert_eq!((record.task.to_string().as_str(), record.state), ("kling/job-1", State::Pending));
        assert_eq!(record.due_at, Some(Timestamp::from_seconds(7)));
        assert!(record.report.is_none() && record.fallback.is_none() && record.raw.is_empty());
    }

    #[test]
    fn the_error_names_the_damaged_attribute() {
        for attribute in [Attribute::State, Attribute::Report, Attribute::DueAt, Attribute::Checkpoints] {
            let mut damaged = item();
            damaged.insert(attribute, "{".into());
            let error = Record::from_item(&damaged).expect_err("it is damaged").to_string();
            assert_eq!(error, format!("the record of kling/job-1 is damaged: {attribute} is missing or unreadable"));
        }
        let mut stateless = item();
        stateless.remove(&Attribute::State);
        assert!(Record::from_item(&stateless).is_err());
    }

    #[test]
    fn attribute_names_are_unique_and_readable() {
        for attribute in Attribute::VARIANTS {
            let name: &'static str = attribute.into();
            assert_eq!(name.parse(), Ok(*attribute));
        }
    }
}
