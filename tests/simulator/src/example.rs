//! A call of every API of every provider, as a table. Each provider's module has its rows.

use serde_json::{Value, json};

use crate::provider::{Provider, Shape};

/// An API that submits tasks: a submission, and what the calls and callbacks after it look like. `{url}` in the body or the path stands
/// for the callback URL, `{script}` for the prompt with the script, and `{id}` in a path for the task's id. Fields of bodies are given as
/// JSON pointers.
pub struct Example {
    /// The provider.
    pub provider: Provider,
    /// The header with the API key, and what precedes the key.
    pub credential: (&'static str, &'static str),
    /// Another header of every call.
    pub header: Option<(&'static str, &'static str)>,
    /// The path of a submission.
    pub submit: &'static str,
    /// The body of a submission.
    pub body: Value,
    /// The id in the submission response.
    pub id: &'static str,
    /// The path of a status call.
    pub status: &'static str,
    /// The HTTP status of a call without credentials.
    pub anonymous: u16,
    /// The status word in a status response, and its value for a success; empty for any value.
    pub final_status: (&'static str, &'static str),
    /// The outcomes that the status call reports as an HTTP error.
    pub http_errors: &'static [&'static str],
    /// The link in a status response.
    pub link: &'static str,
    /// The status word in a callback, and its value for a success.
    pub callback_status: (&'static str, Value),
    /// The id in a callback; empty if callbacks have the upstream's id.
    pub callback_id: &'static str,
    /// The number of callbacks, including the final one. 0 if the provider can only be polled.
    pub callbacks: usize,
    /// The path of callbacks for the callback URL `/hook`.
    pub target: &'static str,
    /// The number of attempts if the receiver never accepts.
    pub attempts: usize,
    /// The shape of `RelayDance`'s responses; for the others the default one.
    pub shape: Shape,
}

impl Example {
    /// What most have in common.
    pub(crate) fn of(provider: Provider) -> Self {
        Self {
            provider,
            credential: ("authorization", "Bearer "),
            header: None,
            submit: "",
            body: Value::Null,
            id: "/data/task_id",
            status: "",
            anonymous: 401,
            final_status: ("", ""),
            http_errors: &[],
            link: "",
            callback_status: ("", Value::Null),
            callback_id: "",
            callbacks: 1,
            target: "/hook",
            attempts: 1,
            shape: Shape::A,
        }
    }

    /// The path of a submission.
    pub fn path(&self, callback_url: &str) -> String {
        self.submit.replace("{url}", callback_url)
    }

    /// Whether a status response reports a success.
    pub fn is_success(&self, body: &Value) -> bool {
        let (field, value) = self.final_status;
        body.pointer(field).is_some_and(|found| value.is_empty() || *found == json!(value))
    }

    /// The body of a submission with this callback URL, and this prompt with a script.
    ///
    /// # Panics
    ///
    /// If one of them makes it invalid JSON.
    pub fn body_with(&self, url: &str, script: &str) -> Value {
        let text = self.body.to_string().replace("{url}", url).replace("{script}", script);
        serde_json::from_str(&text).expect("still JSON")
    }
}
