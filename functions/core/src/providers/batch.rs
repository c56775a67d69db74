//! A response about several tasks, taken apart: what is recorded of a task, and published with it, is about no other.

use std::collections::HashSet;

use serde_json::Value;

use super::adapter::ProviderResponse;
use super::json::{object, text};

/// The fields that name a task, at all providers that take several.
const IDS: &[&str] = &["id", "task_id", "external_id", "external_task_id"];

/// A list of a response, and where it stood.
struct List {
    path: Vec<String>,
    /// Each entry with its [`ids`].
    entries: Vec<(Value, HashSet<String>)>,
}

/// The response to a status request about several tasks, as it would be about each of them alone: of every list of objects only
/// the entries that name the task, and all that stands around the lists. None where the whole response counts for all: it is not a
/// success, or names none of them in a list.
pub fn split(response: &ProviderResponse, provider_task_ids: &[&str]) -> Option<Vec<ProviderResponse>> {
    let mut envelope = object(&response.body).filter(|_| response.is_success())?;
    let mut lists = Vec::new();
    take_lists(&mut envelope, &[], &mut lists);
    let is_named = |id: &&str| lists.iter().any(|list| list.entries.iter().any(|(_, ids)| ids.contains(*id)));
    if !provider_task_ids.iter().any(is_named) {
        return None;
    }
    let about = |id: &&str| {
        let mut body = envelope.clone();
        for List { path, entries } in &lists {
            let own = entries.iter().filter(|(_, ids)| ids.contains(*id)).map(|(entry, _)| entry.clone());
            let list = path.iter().fold(&mut body, |value, field| &mut value[field]);
            *list = own.collect();
        }
        ProviderResponse {
            status: response.status,
            retry_after: response.retry_after,
            body: body.to_string().into_bytes(),
        }
    };
    Some(provider_task_ids.iter().map(about).collect())
}

/// Takes the lists of objects out of an object, and out of the objects in it.
fn take_lists(value: &mut Value, path: &[String], lists: &mut Vec<List>) {
    for (field, inner) in value.as_object_mut().into_iter().flatten() {
        let path = [path, std::slice::from_ref(field)].concat();
        match inner {
            Value::Array(entries) if entries.iter().any(Value::is_object) => {
                let with_ids = |entry: Value| {
                    let ids = ids(&entry);
                    (entry, ids)
                };
                lists.push(List { path, entries: std::mem::take(entries).into_iter().map(with_ids).collect() });
            }
            Value::Object(_) => take_lists(inner, &path, lists),
            _ => {}
        }
    }
}

/// The ids under which an entry may be polled. Others that it mentions are of tasks that it was made from.
fn ids(entry: &Value) -> HashSet<String> {
    let envelopes = [entry, &entry["task"], &entry["task_info"]];
    envelopes.into_iter().flat_map(|envelope| IDS.iter().filter_map(|field| text(&envelope[*field]))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bodies(body: &Value, ids: &[&str]) -> Vec<Value> {
        let response = ProviderResponse::new(200, body.to_string());
        let split = split(&response, ids).expect("it is about several").into_iter();
        let bodies = split.map(|one| serde_json::from_slice(&one.body).expect("JSON"));
        bodies.collect()
    }

    #[test]
    fn each_task_gets_its_own_entry_and_the_envelope() {
        let list = |entries: &[Value]| json!({"code": 0, "data": {"result": entries}, "ids": ["a", "7"]});
        let a = json!({"task": {"id": "a"}, "url": "https://a"});
        // Made from the other: that one's record is not to have its link.
        let seven = json!({"id": 7, "draft_task_id": "a", "url": "https://7"});
        let split = bodies(&list(&[a.clone(), seven.clone()]), &["a", "7", "gone"]);
        assert_eq!(split, [list(&[a]), list(&[seven]), list(&[])]);
    }

    #[test]
    fn what_has_no_list_is_about_all() {
        for (status, body) in [
            (200, r#"{"id":"a"}"#),
            (200, r#"{"data":{"id":"a","outputs":[{"url":"https://a"}]}}"#),
            (200, "[]"),
            (200, "<html>"),
            (400, r#"{"data":[{"id":"a"}]}"#),
        ] {
            let response = ProviderResponse::new(status, body);
            assert_eq!(split(&response, &["a", "b"]), None, "{status} {body}");
        }
    }
}
