//! What the functions logged.

use futures_util::future::try_join_all;
use local::Error;
use local::deployed::Deployed;
use local::functions::FUNCTIONS;
use serde_json::{Map, Value, json};

/// A line of a log.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    /// Milliseconds since 1970.
    pub(crate) time: i64,
    pub(crate) function: &'static str,
    pub(crate) level: String,
    pub(crate) message: String,
    /// Its other fields.
    pub(crate) fields: Map<String, Value>,
}

/// Fields that say nothing about what happened, or are told otherwise.
const PASSED_OVER: [&str; 7] = ["level", "message", "span", "task", "timestamp", "target", "_aws"];

impl Line {
    /// Reads a line. None for metrics, and for what the runtime writes.
    fn read(function: &'static str, time: i64, text: &str) -> Option<Self> {
        let Value::Object(mut fields) = serde_json::from_str(text).ok()? else { return None };
        if fields.contains_key("_aws") {
            return None;
        }
        let text = |name| Some(fields.get(name)?.as_str()?.to_owned());
        let (level, message) = (text("level")?, text("message")?);
        fields.retain(|name, _| !PASSED_OVER.contains(&name.as_str()));
        Some(Self { time, function, level, message, fields })
    }

    /// Its time in RFC 3339.
    pub(crate) fn time_text(&self) -> String {
        time(self.time)
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "time": time(self.time), "function": self.function, "level": self.level, "message": self.message,
            "fields": self.fields,
        })
    }

    /// Its fields, as `name=value`.
    pub(crate) fn detail(&self) -> String {
        let field = |(name, value): (&String, &Value)| match value {
            Value::String(text) => format!("{name}={text}"),
            value => format!("{name}={value}"),
        };
        self.fields.iter().map(field).collect::<Vec<_>>().join(" ")
    }
}

/// Milliseconds since 1970 in RFC 3339, to the millisecond.
pub(crate) fn time(milliseconds: i64) -> String {
    let seconds = reelhook_core::Timestamp::from_milliseconds(milliseconds).to_string();
    format!("{}.{:03}Z", seconds.trim_end_matches('Z'), milliseconds.rem_euclid(1000))
}

/// The lines since a time, in milliseconds, oldest first; of all functions, and about one task where one is given.
pub(crate) async fn lines(deployed: &Deployed, since: i64, task: Option<&str>) -> Result<Vec<Line>, Error> {
    let of_functions = FUNCTIONS.map(|function| of_function(deployed, function, since, task));
    let mut lines: Vec<Line> = try_join_all(of_functions).await?.concat();
    lines.sort_by_key(|line| line.time);
    Ok(lines)
}

async fn of_function(
    deployed: &Deployed,
    function: &'static str,
    since: i64,
    task: Option<&str>,
) -> Result<Vec<Line>, Error> {
    let mut request = json!({ "logGroupName": deployed.log_group(function), "startTime": since });
    if let Some(task) = task {
        request["filterPattern"] = json!(format!("\"{task}\""));
    }
    let mut lines = Vec::new();
    loop {
        let page = match deployed.client.call("logs", "Logs_20140328.FilterLogEvents", &request).await {
            // A function that never ran has no log group in the emulator.
            Err(Error::Http(text)) if text.contains("ResourceNotFoundException") => return Ok(lines),
            page => page?,
        };
        for event in page["events"].as_array().into_iter().flatten() {
            let text = event["message"].as_str().unwrap_or_default();
            // The filter takes the text anywhere: `kling/job-1` is part of `kling/job-10`.
            let is_about = |task| serde_json::from_str::<Value>(text).is_ok_and(|line| line["task"] == task);
            if task.is_none_or(is_about) {
                lines.extend(Line::read(function, event["timestamp"].as_i64().unwrap_or_default(), text));
            }
        }
        match &page["nextToken"] {
            Value::String(token) => request["nextToken"] = json!(token),
            _ => return Ok(lines),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_and_what_is_not_ours_are_passed_over() {
        let read = |text: &str| Line::read("poll", 1_772_091_763_042, text);
        assert_eq!(read("START RequestId: 1"), None);
        assert_eq!(read(r#"{"_aws":{},"level":"INFO","message":"m"}"#), None);
        let line = read(r#"{"level":"INFO","message":"settled","task":"kling/a","outcome":"failed","n":1,"span":{}}"#);
        let line = line.expect("a line");
        assert_eq!(
            (line.detail().as_str(), time(line.time).as_str()),
            ("n=1 outcome=failed", "2026-02-26T07:42:43.042Z")
        );
    }
}
