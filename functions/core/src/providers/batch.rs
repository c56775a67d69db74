//! A response about several tasks, taken apart: what is recorded of a task, and published with it, is about no other.

use std::collections::HashSet;

use serde_json::Value;

use super::adapter::ProviderResponse;
use super::json::{object, text};

/// A list of a response, and where it stood.
struct List {
    path: Vec<String>,
    /// Each entry with every text and number in it.
    entries: Vec<(Value, HashSet<String>)>,
}

/// The response to a status request about several tasks, as it would be about each of them alone: of every list of objects only
/// the entries that name the task, and all that stands around the lists. A response that is not a success, or names none of them in
/// a list, counts for all.
pub fn split(response: &ProviderResponse, provider_task_ids: &[&str]) -> Vec<ProviderResponse> {
    let whole = || vec![response.clone(); provider_task_ids.len()];
    let Some(mut envelope) = object(&response.body).filter(|_| response.is_success()) else { return whole() };
    let mut lists = Vec::new();
    take_lists(&mut envelope, &[], &mut lists);
    let is_named = |id: &&str| lists.iter().any(|list| list.entries.iter().any(|(_, texts)| texts.contains(*id)));
    if !provider_task_ids.iter().any(is_named) {
        return whole();
    }
    let about = |id: &&str| {
        let mut body = envelope.clone();
        for List { path, entries } in &lists {
            let own = entries.iter().filter(|(_, texts)| texts.contains(*id)).map(|(entry, _)| entry.clone());
            let list = path.iter().fold(&mut body, |value, field| &mut value[field]);
            *list = own.collect();
        }
        ProviderResponse {
            status: response.status,
            retry_after: response.retry_after,
            body: body.to_string().into_bytes(),
        }
    };
    provider_task_ids.iter().map(about).collect()
}

/// Takes the lists of objects out of an object, and out of the objects in it.
fn take_lists(value: &mut Value, path: &[String], lists: &mut Vec<List>) {
    for (field, inner) in value.as_object_mut().into_iter().flatten() {
        let path = [path, std::slice::from_ref(field)].concat();
        match inner {
            Value::Array(entries) if entries.iter().any(Value::is_object) => {
                let with_texts = |entry: Value| {
                    let mut texts = HashSet::new();
                    add_texts(&entry, &mut texts);
                    (entry, texts)
                };
                lists.push(List { path, entries: std::mem::take(entries).into_iter().map(with_texts).collect() });
            }
            Value::Object(_) => take_lists(inner, &path, lists),
            _ => {}
        }
    }
}

fn add_texts(value: &Value, texts: &mut HashSet<String>) {
    match value {
        Value::Object(fields) => fields.values().for_each(|value| add_texts(value, texts)),
        Value::Array(entries) => entries.iter().for_each(|value| add_texts(value, texts)),
        scalar => texts.extend(text(scalar)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bodies(body: &Value, ids: &[&str]) -> Vec<Value> {
        let response = ProviderResponse::new(200, body.to_string());
        let bodies = split(&response, ids).into_iter().map(|one| serde_json::from_slice(&one.body).expect("JSON"));
        bodies.collect()
    }

    #[test]
    fn each_task_gets_its_own_entry_and_the_envelope() {
        let list = |entries: &[Value]| json!({"code": 0, "data": {"result": entries}, "ids": ["a", "7"]});
        let (a, seven) = (json!({"task": {"id": "a"}, "url": "https://a"}), json!({"id": 7, "url": "https://7"}));
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
            assert_eq!(split(&response, &["a", "b"]), [response.clone(), response], "{status} {body}");
        }
    }
}
