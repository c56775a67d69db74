//! What a caller sees of a record: the response to `GET /tasks/{provider}/{id}`, and what the command line and the page show.

use serde_json::{Map, Value, json};

use crate::callback::Reporter;
use crate::record::{Record, State};
use crate::report::{Outcome, Report};
use crate::time::Timestamp;

/// The record as JSON. Fields that have no value are absent. Nothing in it gives access to anything but the callback URL.
pub fn of(record: &Record, callback_url: Option<&str>, now: Timestamp) -> Value {
    let mut view = Map::new();
    view.insert("task".into(), json!(record.task.to_string()));
    view.insert("provider".into(), json!(record.task.provider().name()));
    view.insert("id".into(), json!(record.task.id()));
    view.insert("state".into(), json!(record.state.name()));
    let mut add = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            view.insert(name.to_owned(), value);
        }
    };
    // A URL that nobody calls would only mislead.
    let is_polled_only = !record.task.provider().calls_back();
    add("polled_only", is_polled_only.then_some(Value::Bool(true)));
    add("callback_url", callback_url.filter(|_| !is_polled_only).map(Value::from));
    add("provider_task_id", record.provider_task_id.as_deref().map(Value::from));
    add("endpoint", record.endpoint.as_deref().map(Value::from));
    add("metadata", record.annotations.metadata.clone());
    add("tags", (!record.annotations.tags.is_empty()).then(|| json!(record.annotations.tags)));
    add("submission", submission(record, now).map(Value::from));
    add("outcome", record.outcome().map(Outcome::name).map(Value::from));
    let report = record.report.as_ref();
    add("failure", report.and_then(Report::failure).map(|failure| json!(failure.without_usage())));
    add("usage", report.and_then(Report::usage).map(|usage| json!(usage)));
    add("last_error", record.last_error.as_deref().map(Value::from));
    add("reported_by", record.reported_by.map(Reporter::name).map(Value::from));
    add("result", record.state.is_final().then(|| json!(format!("{}result.json", record.task.prefix()))));
    view.insert("artifacts".into(), json!(record.artifacts));
    view.insert("times".into(), times(record));
    Value::Object(view)
}

/// How the submission stands, for a task that was submitted here.
fn submission(record: &Record, now: Timestamp) -> Option<&'static str> {
    let attempt = record.submission.as_ref()?;
    Some(if record.provider_task_id.is_some() || record.state != State::Pending {
        "accepted"
    } else if attempt.in_flight_until > now {
        "in_flight"
    } else {
        "interrupted"
    })
}

fn times(record: &Record) -> Value {
    let times = [
        ("created_at", record.created_at),
        ("submitted_at", record.submitted_at),
        ("cancel_requested_at", record.cancel_requested_at),
        ("cancel_accepted_at", record.cancel_accepted_at),
        ("reported_at", record.reported_at),
        ("finished_at", record.finished_at),
        ("due_at", record.due_at),
        ("deadline_at", record.deadline_at),
    ];
    let known = times.into_iter().filter_map(|(name, time)| Some((name.to_owned(), json!(time?.to_string()))));
    Value::Object(known.collect())
}
