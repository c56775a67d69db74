//! What travels through the queue. Tagged with a version, so that messages survive a deployment that changes their form.

use serde::{Deserialize, Serialize};

use crate::TaskKey;

/// A message of the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "version")]
enum Versioned {
    #[serde(rename = "1")]
    V1 { task: String },
}

/// "Look at this task." It carries nothing to be believed: the record says what is to be done, and a message that comes
/// twice, late or for a finished task does no harm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The task.
    pub task: TaskKey,
}

/// Why a text is no [`Message`].
#[derive(Debug, thiserror::Error)]
#[error("not a message of reelhook: {0}")]
pub struct InvalidMessage(String);

impl Message {
    /// Reads a message body. Unknown fields are ignored.
    pub fn parse(body: &str) -> Result<Self, InvalidMessage> {
        let Versioned::V1 { task } = serde_json::from_str(body).map_err(|error| InvalidMessage(error.to_string()))?;
        Ok(Self { task: task.parse().map_err(|error| InvalidMessage(format!("{error}")))? })
    }

    /// The message body.
    #[expect(clippy::missing_panics_doc, reason = "a struct of one string serialises")]
    pub fn to_json(&self) -> String {
        let versioned = Versioned::V1 { task: self.task.to_string() };
        serde_json::to_string(&versioned).expect("a struct of one string serialises")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_a_stable_form() {
        let message = Message { task: "kling/job-1".parse().expect("a key") };
        assert_eq!(message.to_json(), r#"{"version":"1","task":"kling/job-1"}"#);
        assert_eq!(Message::parse(&message.to_json()).expect("it reads back"), message);
        let of_another_release = r#"{"version":"1","task":"kling/job-1","confirm":true}"#;
        assert_eq!(Message::parse(of_another_release).expect("it reads back"), message);
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
