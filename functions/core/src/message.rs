//! What travels through the queue. Tagged with a version, so that messages survive a deployment that changes their form.

use serde::{Deserialize, Serialize};

use crate::TaskKey;

/// A message of the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "version")]
enum Versioned {
    #[serde(rename = "1")]
    V1 {
        task: String,
        #[serde(default, skip_serializing_if = "is_false")]
        ask: bool,
    },
}

/// "Look at this task." It carries nothing to be believed: the record says what is to be done, and a message that comes
/// twice, late or for a finished task does no harm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The task.
    pub task: TaskKey,
    /// Whether the provider is to be asked although the record has a final state that is no success: a callback that may
    /// not be acted on by itself said that there is a success after all.
    pub ask: bool,
}

/// Why a text is no [`Message`].
#[derive(Debug, thiserror::Error)]
#[error("not a message of reelhook: {0}")]
pub struct InvalidMessage(String);

impl Message {
    /// Asks for a look at a task.
    pub fn new(task: TaskKey) -> Self {
        Self { task, ask: false }
    }

    /// Reads a message body.
    pub fn parse(body: &str) -> Result<Self, InvalidMessage> {
        let Versioned::V1 { task, ask } =
            serde_json::from_str(body).map_err(|error| InvalidMessage(error.to_string()))?;
        Ok(Self { task: task.parse().map_err(|error| InvalidMessage(format!("{error}")))?, ask })
    }

    /// The message body.
    #[expect(clippy::missing_panics_doc, reason = "it cannot: see the words of the expectation")]
    pub fn to_json(&self) -> String {
        let versioned = Versioned::V1 { task: self.task.to_string(), ask: self.ask };
        serde_json::to_string(&versioned).expect("a message has nothing that JSON cannot say")
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_a_stable_form() {
        let message = Message::new("kling/job-1".parse().expect("a key"));
        assert_eq!(message.to_json(), r#"{"version":"1","task":"kling/job-1"}"#);
        assert_eq!(Message::parse(&message.to_json()).expect("it reads back"), message);
        let asking = Message { ask: true, ..message };
        assert_eq!(asking.to_json(), r#"{"version":"1","task":"kling/job-1","ask":true}"#);
        assert_eq!(Message::parse(&asking.to_json()).expect("it reads back"), asking);
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for body in [
            "",
            "{}",
            r#"{"version":"2","task":"kling/a"}"#,
            r#"{"version":"1","task":"nobody/a"}"#,
            r#"{"version":"1"}"#,
        ] {
            assert!(Message::parse(body).is_err(), "{body}");
        }
    }
}
