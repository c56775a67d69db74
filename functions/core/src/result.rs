//! `result.json`, the document that consumers read. It is written for every final state, once per outcome, after every
//! artifact is in the bucket. So one S3 event rule on `result.json` is all a consumer needs. Its JSON Schema is
//! `events/result.schema.json`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::annotations::Annotations;
use crate::callback::{Raw, Reporter};
use crate::report::{Failure, Kind, Outcome, Report};
use crate::task::TaskKey;
use crate::time::Timestamp;
use crate::usage::Usage;

/// Version of the document. Adding fields keeps it; any other change raises it.
pub const VERSION: u32 = 1;

/// An artifact in the bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredArtifact {
    /// What the file is.
    pub kind: Kind,
    /// S3 key.
    pub key: String,
    /// Length of the file.
    pub bytes: u64,
    /// Checksum of the whole object.
    pub checksum: Checksum,
    /// Content type, detected from the first bytes of the file.
    pub content_type: String,
}

/// An artifact that is part of the report but could not be copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingArtifact {
    /// What the file is.
    pub kind: Kind,
    /// Why, for people.
    pub reason: String,
}

/// A checksum of a whole object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksum {
    /// `CRC64NVME`, as S3 calls it.
    pub algorithm: String,
    /// Base64, as S3 gives it.
    pub value: String,
}

/// The content of `result.json`.
#[derive(Clone, Debug, Serialize)]
pub struct ResultDocument {
    version: u32,
    task: String,
    provider: &'static str,
    id: String,
    provider_task_id: Option<String>,
    outcome: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<Failure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
    artifacts: Vec<StoredArtifact>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<MissingArtifact>,
    #[serde(flatten)]
    annotations: Annotations,
    times: Times,
    reported_by: &'static str,
    raw: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw_cut_from_bytes: Option<usize>,
}

/// Times in RFC 3339, UTC; absent if unknown.
#[derive(Clone, Debug, Serialize)]
#[expect(clippy::struct_field_names, reason = "these are the field names of the document")]
struct Times {
    #[serde(skip_serializing_if = "Option::is_none")]
    submitted_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reported_at: Option<String>,
    finished_at: String,
}

/// The input of a [`ResultDocument`].
#[derive(Clone, Debug)]
pub struct Parts<'a> {
    /// The task.
    pub task: &'a TaskKey,
    /// The provider's id of the task.
    pub provider_task_id: Option<&'a str>,
    /// The final report.
    pub report: &'a Report,
    /// The files in the bucket.
    pub artifacts: Vec<StoredArtifact>,
    /// The files that could not be copied.
    pub missing: Vec<MissingArtifact>,
    /// The caller's own words.
    pub annotations: &'a Annotations,
    /// Who reported it.
    pub reported_by: Reporter,
    /// The body the report came in.
    pub raw: &'a Raw,
    /// When the provider accepted the submission.
    pub submitted_at: Option<Timestamp>,
    /// When the report was received.
    pub reported_at: Option<Timestamp>,
    /// When the task became final: now.
    pub finished_at: Timestamp,
}

impl ResultDocument {
    /// Builds the document.
    pub fn new(parts: Parts<'_>) -> Self {
        let text = |time: Option<Timestamp>| time.map(|time| time.to_string());
        Self {
            version: VERSION,
            task: parts.task.to_string(),
            provider: parts.task.provider().name(),
            id: parts.task.id().to_owned(),
            provider_task_id: parts.provider_task_id.map(str::to_owned),
            outcome: parts.report.outcome(),
            failure: parts.report.failure().map(Failure::without_usage),
            usage: parts.report.usage().cloned(),
            artifacts: parts.artifacts,
            missing: parts.missing,
            annotations: parts.annotations.clone(),
            times: Times {
                submitted_at: text(parts.submitted_at),
                reported_at: text(parts.reported_at),
                finished_at: parts.finished_at.to_string(),
            },
            reported_by: parts.reported_by.name(),
            raw: raw_value(parts.raw),
            raw_cut_from_bytes: (parts.raw.received_bytes() > parts.raw.expose().len())
                .then(|| parts.raw.received_bytes()),
        }
    }

    /// The tags of the object, as S3's header has them.
    pub fn tagging(&self) -> Option<String> {
        self.annotations.tagging()
    }

    /// The document as it is stored in the bucket.
    #[expect(clippy::missing_panics_doc, reason = "it never panics, see the message of the expect")]
    pub fn to_json(&self) -> String {
        let mut json = serde_json::to_string_pretty(self).expect("a result document has only types that serialise");
        json.push('\n');
        json
    }
}

/// The body as JSON if it is JSON, else as text; null if there is none.
fn raw_value(raw: &Raw) -> Value {
    if raw.is_empty() {
        return Value::Null;
    }
    serde_json::from_str(raw.expose()).unwrap_or_else(|_| Value::String(raw.expose().to_owned()))
}

/// What a `result.json` of any version says that is published already.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct PublishedResult {
    /// How the task ended.
    pub outcome: Outcome,
    /// The files in the bucket.
    #[serde(default)]
    pub artifacts: Vec<StoredArtifact>,
}

impl PublishedResult {
    /// Reads a document. None when it is no result of reelhook.
    pub fn read(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Reason;

    #[test]
    fn a_document_has_the_outcome_with_its_failure_and_times() {
        let task: TaskKey = "kling/job-1".parse().expect("a key");
        let report = Report::Failed(Failure::new(Reason::ContentModeration, false).message("risk control"));
        let document = ResultDocument::new(Parts {
            task: &task,
            provider_task_id: Some("8"),
            report: &report,
            artifacts: vec![],
            missing: vec![],
            annotations: &Annotations::new(Some("{\"user\":7}"), [("team", "film")]).expect("valid annotations"),
            reported_by: Reporter::Callback,
            raw: &Raw::new(br#"{"id":"8"}"#),
            submitted_at: None,
            reported_at: Some(Timestamp::from_seconds(1_772_091_763)),
            finished_at: Timestamp::from_seconds(1_772_091_765),
        });
        let json = document.to_json();
        let published = PublishedResult::read(json.as_bytes()).expect("a result");
        assert_eq!((published.outcome, published.artifacts), (Outcome::Failed, vec![]));
        let value: Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(
            value,
            serde_json::json!({
                "version": 1, "task": "kling/job-1", "provider": "kling", "id": "job-1", "provider_task_id": "8",
                "outcome": "failed",
                "failure": {"reason": "content_moderation", "retryable": false, "message": "risk control"},
                "artifacts": [], "metadata": {"user": 7}, "tags": {"team": "film"},
                "times": {"reported_at": "2026-02-26T07:42:43Z", "finished_at": "2026-02-26T07:42:45Z"},
                "reported_by": "callback", "raw": {"id": "8"}
            })
        );
    }

    #[test]
    fn a_body_that_is_not_json_is_kept_as_text() {
        assert_eq!(raw_value(&Raw::new(b"hello")), Value::String("hello".into()));
        assert_eq!(raw_value(&Raw::default()), Value::Null);
    }
}
