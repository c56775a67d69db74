//! What the deployed adapters read from a body, for an operator, a support case, or the author of a new adapter.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::provider::Provider;
use crate::providers::adapter::{BodyTrust, CallbackBody, FreshLink, ProviderResponse, StatusResult, SubmissionResult};
use crate::report::{Artifact, Failure, Kind, Reason, Report, Source, TaskStatus};
use crate::request::{Authenticity, CallbackRequest, Headers};
use crate::settings::{ProviderSettings, Settings};
use crate::time::Timestamp;
use crate::usage::Usage;

/// What a body belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BodyKind {
    /// The body of a callback.
    Callback,
    /// The response to a status request.
    Status,
    /// The response to a submission.
    Submission,
    /// The response to a call that makes a link out of a file id or a dead link.
    File,
}

/// A body with the request or response it came in.
#[derive(Clone, Debug)]
pub struct ReceivedBody<'a> {
    /// The provider it is from.
    pub provider: Provider,
    /// What it belongs to.
    pub kind: BodyKind,
    /// The body.
    pub body: &'a [u8],
    /// HTTP status of a response.
    pub http_status: u16,
    /// The id that was polled. Without it, the first task of a status response is explained.
    pub requested_id: Option<&'a str>,
    /// The headers of a callback. With headers or settings, its signature is verified.
    pub headers: Option<Headers>,
    /// The path of a callback.
    pub path: &'a str,
    /// The query of a callback, without `?`.
    pub query: &'a str,
    /// The provider's settings.
    pub settings: Option<&'a ProviderSettings>,
    /// When it was received.
    pub now: Timestamp,
}

/// What reelhook reads from a body. An invalid signature does not change `outcome`, which is about the body alone.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// What it says.
    pub outcome: Verdict,
    /// The provider's id of the task. None if the body has no id, or an upstream's.
    pub provider_task_id: Option<String>,
    /// The files of a success.
    pub artifacts: Vec<Artifact>,
    /// Why the task or the request failed.
    pub reason: Option<Reason>,
    /// Whether a retry can help.
    pub retryable: Option<bool>,
    /// The provider's own code.
    pub code: Option<String>,
    /// The provider's own message.
    pub message: Option<String>,
    /// What it cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// The response to a handshake.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response: Option<Value>,
    /// Whether the signature is valid: `true`, `false`, or `"unsigned"` if nothing is signed or no secret is configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentic: Option<Value>,
    /// Why it is not valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentic_reason: Option<String>,
}

/// What a body says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The task is open. Of a submission: it was accepted.
    Open,
    /// The task succeeded.
    Succeeded,
    /// The task failed. Of a submission: it was refused.
    Failed,
    /// The provider does not know the task: not yet, no longer, or it never did.
    NotFound,
    /// A check of the URL that expects [`Explanation::response`].
    Handshake,
    /// The task ended, but a status poll has to confirm it.
    Hint,
    /// Not understood. With a reason: the request was refused, which says nothing about the task.
    Unparseable,
}

impl Explanation {
    fn new(outcome: Verdict) -> Self {
        Self {
            outcome,
            provider_task_id: None,
            artifacts: vec![],
            reason: None,
            retryable: None,
            code: None,
            message: None,
            usage: None,
            response: None,
            authentic: None,
            authentic_reason: None,
        }
    }

    fn of_failure(outcome: Verdict, failure: Failure) -> Self {
        Self {
            reason: Some(failure.reason),
            retryable: Some(failure.retryable),
            code: failure.code,
            message: failure.message,
            ..Self::new(outcome)
        }
    }

    fn of_status(task_status: TaskStatus) -> Self {
        let TaskStatus::Finished(report) = task_status else { return Self::new(Verdict::Open) };
        let usage = report.usage().cloned();
        match report {
            Report::Succeeded { artifacts, .. } => Self { artifacts, usage, ..Self::new(Verdict::Succeeded) },
            Report::Failed(failure) | Report::Lost(failure) => {
                Self { usage, ..Self::of_failure(Verdict::Failed, failure) }
            }
        }
    }

    fn about(self, provider_task_id: Option<String>) -> Self {
        Self { provider_task_id, ..self }
    }
}

/// Explains a body.
pub fn explain(received: &ReceivedBody<'_>) -> Explanation {
    let adapter = received.provider.adapter();
    let response = ProviderResponse::new(received.http_status, received.body);
    match received.kind {
        BodyKind::Callback => {
            verify_signature(received, explain_callback(adapter.read_callback(received.body, received.now)))
        }
        BodyKind::Status => {
            let id = received.requested_id.map(str::to_owned).or_else(|| adapter.status_id(&response));
            let status = adapter.read_status(&response, id.as_deref().unwrap_or_default(), received.now);
            explain_status(status).about(id)
        }
        BodyKind::Submission => match adapter.read_submission(&response) {
            SubmissionResult::Accepted { provider_task_id } => {
                Explanation::new(Verdict::Open).about(Some(provider_task_id))
            }
            SubmissionResult::Refused(failure) => Explanation::of_failure(Verdict::Failed, failure),
            SubmissionResult::Unclear(_) => Explanation::new(Verdict::Unparseable),
        },
        BodyKind::File => match adapter.read_resolution(&response, received.now) {
            Ok(FreshLink { url, expires_at }) => {
                let artifact = Artifact { kind: Kind::Video, source: Source::Url(url), expires_at };
                Explanation { artifacts: vec![artifact], ..Explanation::new(Verdict::Succeeded) }
            }
            Err(failure) => Explanation::of_failure(Verdict::Unparseable, failure),
        },
    }
}

fn explain_callback(body: CallbackBody) -> Explanation {
    match body {
        CallbackBody::Handshake(response) => {
            Explanation { response: Some(response), ..Explanation::new(Verdict::Handshake) }
        }
        CallbackBody::Unreadable => Explanation::new(Verdict::Unparseable),
        CallbackBody::Task { provider_task_id, task_status, trust } => {
            let explanation = Explanation::of_status(task_status).about(provider_task_id);
            match (trust, explanation.outcome) {
                // An open task needs no confirmation.
                (BodyTrust::Hint(_), Verdict::Succeeded | Verdict::Failed) => {
                    Explanation { outcome: Verdict::Hint, ..explanation }
                }
                _ => explanation,
            }
        }
    }
}

fn explain_status(status: StatusResult) -> Explanation {
    match status {
        StatusResult::Task(task_status) => Explanation::of_status(task_status),
        StatusResult::Refused { failure, .. } => Explanation::of_failure(Verdict::Unparseable, failure),
        StatusResult::NotFound => Explanation::new(Verdict::NotFound),
        StatusResult::Unreadable => Explanation::new(Verdict::Unparseable),
    }
}

/// Adds whether the signature is valid, if there are headers or settings.
fn verify_signature(received: &ReceivedBody<'_>, explanation: Explanation) -> Explanation {
    if received.headers.is_none() && received.settings.is_none() {
        return explanation;
    }
    let request = CallbackRequest {
        path: received.path,
        query: received.query,
        headers: received.headers.clone().unwrap_or_default(),
        body: received.body,
    };
    let settings = received.settings.map_or_else(|| Cow::Owned(ProviderSettings::default()), Cow::Borrowed);
    match received.provider.adapter().authenticate(&request, &settings, received.now) {
        Ok(Authenticity::SignedBody | Authenticity::SignedSender) => {
            Explanation { authentic: Some(Value::Bool(true)), ..explanation }
        }
        Ok(Authenticity::Unverified | Authenticity::Unsigned) => {
            Explanation { authentic: Some("unsigned".into()), ..explanation }
        }
        Err(refusal) => Explanation {
            authentic: Some(Value::Bool(false)),
            authentic_reason: Some(refusal.to_string()),
            ..explanation
        },
    }
}

/// Why a line cannot be explained.
#[derive(Debug, thiserror::Error)]
pub enum InvalidLine {
    /// Not JSON, or without a required field.
    #[error("the line is not a JSON object with provider, kind, and body or raw: {0}")]
    Json(#[from] serde_json::Error),
    /// The name of a provider that does not exist.
    #[error("unknown provider {0:?}; use one of {known}", known = Provider::names())]
    Provider(String),
    /// Neither `body` nor `raw`.
    #[error("the line has neither body nor raw; add one of them")]
    NoBody,
}

/// The input line.
#[derive(Deserialize)]
struct Line<'a> {
    provider: String,
    kind: BodyKind,
    /// As JSON, byte for byte as in the line.
    #[serde(borrow, default, deserialize_with = "as_written")]
    body: Option<&'a RawValue>,
    /// As text.
    #[serde(default)]
    raw: Option<String>,
    #[serde(default)]
    http_status: Option<u16>,
    #[serde(default)]
    requested_id: Option<String>,
    #[serde(default)]
    headers: Option<Vec<(String, String)>>,
    #[serde(default)]
    path: Option<String>,
    #[serde(default)]
    query: Option<String>,
    /// Settings of the provider, instead of those in the document.
    #[serde(default)]
    settings: Option<ProviderSettings>,
    /// Instead of the current time.
    #[serde(default)]
    now: Option<Timestamp>,
}

/// Distinguishes a `null` body from a missing one.
fn as_written<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Explains one line: a JSON object with `provider`, `kind`, `body` as JSON or `raw` as text, and optionally `http_status`,
/// `requested_id`, `headers` as a list of pairs, `path`, `query`, `settings` of the provider and `now`.
pub fn explain_line(line: &str, settings: Option<&Settings>, now: Timestamp) -> Result<Explanation, InvalidLine> {
    let line: Line<'_> = serde_json::from_str(line)?;
    let provider = Provider::from_name(&line.provider).ok_or(InvalidLine::Provider(line.provider))?;
    let body = line.raw.as_deref().or(line.body.map(RawValue::get)).ok_or(InvalidLine::NoBody)?;
    Ok(explain(&ReceivedBody {
        provider,
        kind: line.kind,
        body: body.as_bytes(),
        http_status: line.http_status.unwrap_or(200),
        requested_id: line.requested_id.as_deref(),
        headers: line.headers.map(|pairs| Headers::new(pairs.iter().map(|(name, value)| (&**name, &**value)))),
        path: line.path.as_deref().unwrap_or_default(),
        query: line.query.as_deref().unwrap_or_default(),
        settings: line.settings.as_ref().or(settings.map(|settings| settings.provider(provider))),
        now: line.now.unwrap_or(now),
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_781_080_794);

    fn line(line: &Value, settings: Option<&Settings>) -> Value {
        let explanation = explain_line(&line.to_string(), settings, NOW).expect("a valid line");
        serde_json::to_value(explanation).expect("an explanation serialises")
    }

    #[test]
    fn an_explanation_has_every_field() {
        let input = json!({"provider": "kling", "kind": "submission", "http_status": 429, "body": {"code": 1102}});
        let expected = json!({
            "outcome": "failed", "provider_task_id": null, "artifacts": [], "reason": "insufficient_credits",
            "retryable": false, "code": "1102", "message": null,
        });
        assert_eq!(line(&input, None), expected);
    }

    #[test]
    fn bodies_come_as_json_or_as_text() {
        for (body, outcome) in [
            (json!({"body": {"challenge": 1}}), "handshake"),
            (json!({"raw": "{\"challenge\":1}"}), "handshake"),
            (json!({"raw": "{\"challenge\":"}), "unparseable"),
            (json!({"body": null}), "unparseable"),
            (json!({"raw": ""}), "unparseable"),
        ] {
            let mut input = json!({"provider": "minimax", "kind": "callback"});
            input.as_object_mut().expect("an object").extend(body.as_object().expect("an object").clone());
            assert_eq!(line(&input, None)["outcome"], outcome, "{input}");
        }
    }

    #[test]
    fn an_invalid_line_is_refused() {
        for (received, words) in [
            (json!({"provider": "kling", "kind": "callback"}), "neither body nor raw"),
            (json!({"provider": "klingon", "kind": "callback", "body": {}}), "\"klingon\""),
            (json!({"provider": "kling", "kind": "guess", "body": {}}), "not a JSON object with"),
            (json!(["kling"]), "not a JSON object with"),
        ] {
            let error = explain_line(&received.to_string(), None, NOW).expect_err("an invalid line").to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn signatures_are_verified_if_there_are_headers_or_settings() {
        let body = r#"{"id":"1234567890","status":"succeeded","message":"","create_time":1781080778802,"update_time":1781080794151}"#;
        let signature = "v1,UsKlJP00XoQyOn410NM9xv34sP+Gl0jnOO9Lcpr7NJ4=";
        let input = |signature: &str| {
            json!({
                "provider": "kling", "kind": "callback", "raw": body,
                "headers": [["Webhook-Id", "9876543210"], ["Webhook-Timestamp", "1781080794"], ["Webhook-Signature", signature]],
            })
        };
        let settings = r#"{"version":1,"callback":{"keys":["sixteen-characters"]},"providers":{"kling":{"signing_secrets":["whsec_dGVzdHNlY3JldHRlc3RzZWNyZXR0ZXN0c2VjcmV0MTI="]}}}"#;
        let settings = Settings::parse(settings).expect("valid settings");
        assert_eq!(line(&input(signature), Some(&settings))["authentic"], true);
        let forged = line(&input("v1,AAAA"), Some(&settings));
        assert_eq!(forged["authentic"], false);
        assert_eq!(forged["authentic_reason"], "the signature is wrong");
        assert_eq!(line(&input(signature), None)["authentic"], "unsigned");
        let bare = json!({"provider": "kling", "kind": "callback", "raw": body});
        assert_eq!(line(&bare, None).get("authentic"), None);
    }
}
