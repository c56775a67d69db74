//! A record as a `DynamoDB` item, and back.

use std::collections::HashMap;
use std::fmt::Display;

use aws_sdk_dynamodb::types::AttributeValue;
use reelhook_core::callback::{Fallback, Raw, Reporter};
use reelhook_core::record::{Record, State, SubmissionMark};
use reelhook_core::report::Report;
use reelhook_core::{TaskKey, Timestamp};
use serde::Serialize;

/// Names of the attributes.
pub(super) mod attribute {
    pub(in crate::table) const TASK: &str = "task";
    pub(in crate::table) const STATE: &str = "state";
    pub(in crate::table) const OUTCOME: &str = "outcome";
    pub(in crate::table) const PROVIDER_TASK_ID: &str = "provider_task_id";
    pub(in crate::table) const ENDPOINT: &str = "endpoint";
    pub(in crate::table) const FINGERPRINT: &str = "fingerprint";
    pub(in crate::table) const UNDER_WAY_UNTIL: &str = "under_way_until";
    pub(in crate::table) const REPORT: &str = "report";
    pub(in crate::table) const REPORTED_BY: &str = "reported_by";
    pub(in crate::table) const RAW: &str = "raw";
    pub(in crate::table) const RAW_BYTES: &str = "raw_bytes";
    /// The latest body that could not be read, for an operator. No function reads it.
    pub(in crate::table) const UNREADABLE: &str = "unreadable";
    pub(in crate::table) const FALLBACK: &str = "fallback";
    pub(in crate::table) const ARTIFACTS: &str = "artifacts";
    pub(in crate::table) const UPLOAD: &str = "upload";
    pub(in crate::table) const TROUBLE: &str = "trouble";
    /// The number of the latest write; see the table's own page.
    pub(in crate::table) const WRITTEN_BY: &str = "written_by";
    pub(in crate::table) const DUE_AT: &str = "due_at";
    pub(in crate::table) const DUE_SHARD: &str = "due_shard";
    pub(in crate::table) const CLAIMED_UNTIL: &str = "claimed_until";
    pub(in crate::table) const CLAIM: &str = "claim";
    pub(in crate::table) const ATTEMPTS: &str = "attempts";
    pub(in crate::table) const DEADLINE_AT: &str = "deadline_at";
    pub(in crate::table) const CREATED_AT: &str = "created_at";
    pub(in crate::table) const SUBMITTED_AT: &str = "submitted_at";
    pub(in crate::table) const REPORTED_AT: &str = "reported_at";
    pub(in crate::table) const FINISHED_AT: &str = "finished_at";
    pub(in crate::table) const EXPIRES_AT: &str = "expires_at";
}

use attribute as a;

/// An item.
pub(super) type Item = HashMap<String, AttributeValue>;

/// A text value.
pub(super) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

/// A number value.
pub(super) fn number(value: impl Display) -> AttributeValue {
    AttributeValue::N(format!("{value}"))
}

/// A value that is kept as JSON text.
pub(super) fn json(value: &(impl Serialize + ?Sized)) -> AttributeValue {
    text(serde_json::to_string(value).expect("what is kept has nothing that JSON cannot say"))
}

/// A time value: Unix seconds.
pub(super) fn time(value: Timestamp) -> AttributeValue {
    number(value.seconds())
}

/// An item that cannot be read as a record.
#[derive(Debug, thiserror::Error)]
#[error("the record of {task} is damaged: {attribute} is missing or unreadable")]
pub struct DamagedRecord {
    task: String,
    attribute: &'static str,
}

/// Reads an item.
pub(super) fn record(item: &Item) -> Result<Record, DamagedRecord> {
    let string = |name: &str| item.get(name).and_then(|value| value.as_s().ok());
    let parsed =
        |name: &str| item.get(name).and_then(|value| value.as_n().ok()).and_then(|digits| digits.parse::<i64>().ok());
    let at = |name: &str| parsed(name).map(Timestamp::from_seconds);
    let damaged = |attribute: &'static str| DamagedRecord {
        task: string(a::TASK).cloned().unwrap_or_else(|| "an unnamed task".to_owned()),
        attribute,
    };
    // An attribute that is there and cannot be read is damage; one that is not there is not.
    let json = |name: &'static str| string(name).map(|text| (text, name));
    let task: TaskKey = string(a::TASK).and_then(|task| task.parse().ok()).ok_or_else(|| damaged(a::TASK))?;
    let state = string(a::STATE).and_then(|state| State::from_name(state)).ok_or_else(|| damaged(a::STATE))?;
    let report = json(a::REPORT)
        .map(|(text, name)| serde_json::from_str::<Report>(text).map_err(|_| damaged(name)))
        .transpose()?;
    let fallback = json(a::FALLBACK)
        .map(|(text, name)| serde_json::from_str::<Report>(text).map_err(|_| damaged(name)))
        .transpose()?;
    let artifacts = json(a::ARTIFACTS)
        .map(|(text, name)| serde_json::from_str(text).map_err(|_| damaged(name)))
        .transpose()?
        .unwrap_or_default();
    let raw = Raw::from_stored(
        string(a::RAW).cloned().unwrap_or_default(),
        parsed(a::RAW_BYTES).and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or_default(),
    );
    let submission = match (string(a::FINGERPRINT), at(a::UNDER_WAY_UNTIL)) {
        (Some(fingerprint), Some(under_way_until)) => {
            Some(SubmissionMark { fingerprint: fingerprint.clone(), under_way_until })
        }
        _ => None,
    };
    Ok(Record {
        task,
        state,
        provider_task_id: string(a::PROVIDER_TASK_ID).cloned(),
        endpoint: string(a::ENDPOINT).cloned(),
        submission,
        report,
        reported_by: string(a::REPORTED_BY).and_then(|name| Reporter::from_name(name)),
        fallback: fallback.map(|report| Fallback { report, raw: raw.clone() }),
        raw,
        artifacts,
        upload: string(a::UPLOAD).cloned(),
        trouble: string(a::TROUBLE).cloned(),
        due_at: at(a::DUE_AT),
        claimed_until: at(a::CLAIMED_UNTIL),
        claim: parsed(a::CLAIM).and_then(|claim| u64::try_from(claim).ok()).unwrap_or_default(),
        attempts: parsed(a::ATTEMPTS).and_then(|attempts| u32::try_from(attempts).ok()).unwrap_or_default(),
        deadline_at: at(a::DEADLINE_AT),
        created_at: at(a::CREATED_AT),
        submitted_at: at(a::SUBMITTED_AT),
        reported_at: at(a::REPORTED_AT),
        finished_at: at(a::FINISHED_AT),
    })
}
