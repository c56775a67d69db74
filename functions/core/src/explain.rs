//! What reelhook makes of a body, by the very adapter that is deployed: for an operator's question, a support case, or a
//! provider that is being added.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::providers::{Answer, CallbackBody, StatusAnswer, SubmissionAnswer, Trust};
use crate::report::{Artifact, Failure, Reason, Report, Statement};
use crate::request::{Authenticity, CallbackRequest, Headers};
use crate::settings::{ProviderSettings, Settings};
use crate::{Provider, Timestamp};

/// What kind of body it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The body of a callback.
    Callback,
    /// The answer to a status question.
    Status,
    /// The answer to a submission.
    Submission,
}

/// A body and what is known about how it came.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// Whose it is.
    pub provider: Provider,
    /// What kind it is.
    pub kind: Kind,
    /// The body.
    pub body: &'a [u8],
    /// HTTP status of an answer.
    pub http_status: u16,
    /// The id that was asked after; without it, the first task in a status answer is meant.
    pub requested_id: Option<&'a str>,
    /// The headers of a callback; with these or with settings its signature is judged.
    pub headers: Option<Headers>,
    /// The path a callback was sent to.
    pub path: &'a str,
    /// The query a callback was sent with.
    pub query: &'a str,
    /// The provider's settings.
    pub settings: Option<&'a ProviderSettings>,
    /// The time it came.
    pub now: Timestamp,
}

/// What reelhook makes of a body. `outcome` is what the body says; whether the signature is good stands beside it and does
/// not change it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// What it says in one word.
    pub outcome: Outcome,
    /// The provider's own id of the task. None where the body has none, or another system's.
    pub provider_task_id: Option<String>,
    /// The files it names.
    pub artifacts: Vec<Artifact>,
    /// Why the task, the submission or the question failed.
    pub reason: Option<Reason>,
    /// Whether the same again can help.
    pub retryable: Option<bool>,
    /// The provider's own code.
    pub code: Option<String>,
    /// The provider's own words.
    pub message: Option<String>,
    /// What a handshake is answered with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<Value>,
    /// Whether the signature is good: `true`, `false`, or `"unsigned"` where there is nothing to judge by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentic: Option<Value>,
    /// Why it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentic_reason: Option<String>,
}

/// What a body says, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The task is under way; of a submission: it was taken.
    Open,
    /// The provider made it.
    Succeeded,
    /// The provider gave up on it; of a submission: it was refused.
    Failed,
    /// A check of the URL, to be answered with [`Explanation::answer`].
    Handshake,
    /// It ended, and the provider has to be asked before anything of it is believed.
    Hint,
    /// Nothing certain. With a reason, it is the question that was refused and not the task that failed.
    Unparseable,
}

impl Explanation {
    fn new(outcome: Outcome) -> Self {
        Self {
            outcome,
            provider_task_id: None,
            artifacts: vec![],
            reason: None,
            retryable: None,
            code: None,
            message: None,
            answer: None,
            authentic: None,
            authentic_reason: None,
        }
    }

    fn of_failure(outcome: Outcome, failure: Failure) -> Self {
        Self {
            reason: Some(failure.reason),
            retryable: Some(failure.retryable),
            code: failure.code,
            message: failure.message,
            ..Self::new(outcome)
        }
    }

    fn of_statement(statement: Statement) -> Self {
        match statement {
            Statement::Open(_) => Self::new(Outcome::Open),
            Statement::Final(Report::Succeeded { artifacts }) => Self { artifacts, ..Self::new(Outcome::Succeeded) },
            Statement::Final(Report::Failed(failure) | Report::Lost(failure)) => {
                Self::of_failure(Outcome::Failed, failure)
            }
        }
    }

    fn about(self, provider_task_id: Option<String>) -> Self {
        Self { provider_task_id, ..self }
    }
}

/// Says what reelhook makes of a body.
pub fn explain(question: &Question<'_>) -> Explanation {
    let adapter = question.provider.adapter();
    let answer = Answer { status: question.http_status, retry_after: None, body: question.body };
    match question.kind {
        Kind::Callback => {
            judge_signature(question, explain_callback(adapter.read_callback(question.body, question.now)))
        }
        Kind::Status => {
            let id = question.requested_id.map(str::to_owned).or_else(|| adapter.status_id(&answer));
            let status = adapter.read_status(&answer, id.as_deref().unwrap_or_default(), question.now);
            explain_status(status).about(id)
        }
        Kind::Submission => match adapter.read_submission(&answer) {
            SubmissionAnswer::Accepted { provider_task_id } => {
                Explanation::new(Outcome::Open).about(Some(provider_task_id))
            }
            SubmissionAnswer::Refused(failure) => Explanation::of_failure(Outcome::Failed, failure),
            SubmissionAnswer::Unclear(_) => Explanation::new(Outcome::Unparseable),
        },
    }
}

fn explain_callback(body: CallbackBody) -> Explanation {
    match body {
        CallbackBody::Handshake(answer) => Explanation { answer: Some(answer), ..Explanation::new(Outcome::Handshake) },
        CallbackBody::Unreadable => Explanation::new(Outcome::Unparseable),
        CallbackBody::Task { provider_task_id, statement, trust } => {
            let explanation = Explanation::of_statement(statement).about(provider_task_id);
            match (trust, explanation.outcome) {
                // What is under way is under way, whoever says so.
                (Trust::Hint(_), Outcome::Succeeded | Outcome::Failed) => {
                    Explanation { outcome: Outcome::Hint, ..explanation }
                }
                _ => explanation,
            }
        }
    }
}

fn explain_status(status: StatusAnswer) -> Explanation {
    match status {
        StatusAnswer::Task(statement) => Explanation::of_statement(statement),
        StatusAnswer::Refused { failure, .. } => Explanation::of_failure(Outcome::Unparseable, failure),
        StatusAnswer::NotFound | StatusAnswer::Unreadable => Explanation::new(Outcome::Unparseable),
    }
}

/// Adds whether the signature is good, where there are headers or settings to judge by.
fn judge_signature(question: &Question<'_>, explanation: Explanation) -> Explanation {
    if question.headers.is_none() && question.settings.is_none() {
        return explanation;
    }
    let request = CallbackRequest {
        path: question.path,
        query: question.query,
        headers: question.headers.clone().unwrap_or_default(),
        body: question.body,
    };
    let settings = question.settings.map_or_else(|| Cow::Owned(ProviderSettings::default()), Cow::Borrowed);
    match question.provider.adapter().authenticate(&request, &settings, question.now) {
        Ok(Authenticity::SignedBody | Authenticity::SignedSender) => {
            Explanation { authentic: Some(Value::Bool(true)), ..explanation }
        }
        Ok(Authenticity::Unsigned) => Explanation { authentic: Some("unsigned".into()), ..explanation },
        Err(refusal) => Explanation {
            authentic: Some(Value::Bool(false)),
            authentic_reason: Some(refusal.to_string()),
            ..explanation
        },
    }
}

/// Why a line is no question.
#[derive(Debug, thiserror::Error)]
pub enum InvalidLine {
    /// Not JSON, or not of this form.
    #[error("the line is not a JSON object with provider, kind, and body or raw: {0}")]
    Json(#[from] serde_json::Error),
    /// A name that is no provider.
    #[error("there is no provider {0:?}; known are: {known}", known = Provider::names())]
    Provider(String),
    /// Neither `body` nor `raw`.
    #[error("the line has neither body nor raw")]
    NoBody,
}

/// A question on one line.
#[derive(Deserialize)]
struct Line<'a> {
    provider: String,
    kind: Kind,
    /// As JSON, taken exactly as it is written.
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
    /// Of the provider; in place of those in the document.
    #[serde(default)]
    settings: Option<ProviderSettings>,
    /// In place of the time of the run.
    #[serde(default)]
    now: Option<Timestamp>,
}

/// A body that is JSON `null` is a body, too.
fn as_written<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Answers one line: a JSON object with `provider`, `kind`, `body` as JSON or `raw` as text, and optionally `http_status`,
/// `requested_id`, `headers` as a list of pairs, `path`, `query`, `settings` of the provider and `now`.
pub fn explain_line(line: &str, settings: Option<&Settings>, now: Timestamp) -> Result<Explanation, InvalidLine> {
    let line: Line<'_> = serde_json::from_str(line)?;
    let provider = Provider::from_name(&line.provider).ok_or(InvalidLine::Provider(line.provider))?;
    let body = line.raw.as_deref().or(line.body.map(RawValue::get)).ok_or(InvalidLine::NoBody)?;
    Ok(explain(&Question {
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
        let explanation = explain_line(&line.to_string(), settings, NOW).expect("a good line");
        serde_json::to_value(explanation).expect("it has nothing that JSON cannot say")
    }

    #[test]
    fn a_line_is_answered_with_every_field() {
        let question = json!({"provider": "kling", "kind": "submission", "http_status": 429, "body": {"code": 1102}});
        let expected = json!({
            "outcome": "failed", "provider_task_id": null, "artifacts": [], "reason": "insufficient_credits",
            "retryable": false, "code": "1102", "message": null,
        });
        assert_eq!(line(&question, None), expected);
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
            let mut question = json!({"provider": "minimax", "kind": "callback"});
            question.as_object_mut().expect("an object").extend(body.as_object().expect("an object").clone());
            assert_eq!(line(&question, None)["outcome"], outcome, "{question}");
        }
    }

    #[test]
    fn what_is_no_question_is_refused() {
        for (question, words) in [
            (json!({"provider": "kling", "kind": "callback"}), "neither body nor raw"),
            (json!({"provider": "klingon", "kind": "callback", "body": {}}), "\"klingon\""),
            (json!({"provider": "kling", "kind": "guess", "body": {}}), "not a JSON object with"),
            (json!(["kling"]), "not a JSON object with"),
        ] {
            let error = explain_line(&question.to_string(), None, NOW).expect_err("no question").to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn signatures_are_judged_where_there_is_something_to_judge_by() {
        let body = r#"{"id":"1234567890","status":"succeeded","message":"","create_time":1781080778802,"update_time":1781080794151}"#;
        let signature = "v1,UsKlJP00XoQyOn410NM9xv34sP+Gl0jnOO9Lcpr7NJ4=";
        let question = |signature: &str| {
            json!({
                "provider": "kling", "kind": "callback", "raw": body,
                "headers": [["Webhook-Id", "9876543210"], ["Webhook-Timestamp", "1781080794"], ["Webhook-Signature", signature]],
            })
        };
        let settings = r#"{"version":1,"callback":{"keys":["sixteen-characters"]},"providers":{"kling":{"signing_secrets":["whsec_dGVzdHNlY3JldHRlc3RzZWNyZXR0ZXN0c2VjcmV0MTI="]}}}"#;
        let settings = Settings::parse(settings).expect("valid settings");
        assert_eq!(line(&question(signature), Some(&settings))["authentic"], true);
        let forged = line(&question("v1,AAAA"), Some(&settings));
        assert_eq!(forged["authentic"], false);
        assert_eq!(forged["authentic_reason"], "the signature is wrong");
        assert_eq!(line(&question(signature), None)["authentic"], "unsigned");
        let bare = json!({"provider": "kling", "kind": "callback", "raw": body});
        assert_eq!(line(&bare, None).get("authentic"), None);
    }
}
