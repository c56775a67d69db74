//! What somebody can send who learned one callback URL: the provider's own bodies with other ids in them, bodies of other
//! systems, and garbage.

use std::time::SystemTime;

use serde_json::Value;
use simulator::{Callback, Provider};

use super::sandbox::Sandbox;

/// A provider's bodies, for some tasks of the attacker's own.
pub(super) struct Templates {
    bodies: Vec<Template>,
}

struct Template {
    id: String,
    callback: Callback,
}

/// A body to be posted.
#[derive(Clone, Debug)]
pub(super) struct Forgery {
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Templates {
    /// Has the provider make a success, a failure and an open task, whose callbacks nobody sends.
    pub(super) async fn make(sandbox: &mut Sandbox, prefix: &str) -> Self {
        let mut bodies = Vec::new();
        for (name, script) in [
            ("succeeded", "delay=0 callback=lose"),
            ("failed", "delay=0 callback=lose outcome=fail"),
            ("open", "delay=90000 callback=lose"),
        ] {
            let view = sandbox.submit(&format!("{prefix}-{name}"), script).await;
            let id = view["provider_task_id"].as_str().expect("an id").to_owned();
            // Some providers send no callback about an open task.
            if let Some(callback) = sandbox.simulator.callback(&id) {
                bodies.push(Template { id, callback });
            }
        }
        Self { bodies }
    }

    /// The provider's id of the task that succeeded.
    pub(super) fn succeeded(&self) -> &str {
        &self.bodies[0].id
    }

    /// Every statement about a task. Where the provider signs, also with the headers of a genuine callback.
    pub(super) fn about(&self, provider_task_id: &str) -> Vec<Forgery> {
        let mut forgeries = Vec::new();
        for Template { id, callback } in &self.bodies {
            let body = String::from_utf8_lossy(&callback.body).replace(id, provider_task_id);
            for body in [expiring_soon(&body), body] {
                forgeries.push(Forgery { headers: vec![], body: body.clone() });
                if callback.headers.len() > 1 {
                    forgeries.push(Forgery { headers: callback.headers.clone(), body });
                }
            }
        }
        forgeries
    }
}

/// The same body with links that claim to die in a minute.
fn expiring_soon(body: &str) -> String {
    let Ok(mut body) = serde_json::from_str::<Value>(body) else { return body.to_owned() };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    age(&mut body, now + 60);
    body.to_string()
}

fn age(value: &mut Value, dies_at: u64) {
    match value {
        Value::String(text) if text.starts_with("http") => {
            let separator = if text.contains('?') { '&' } else { '?' };
            *text = format!("{text}{separator}Expires={dies_at}");
        }
        Value::Array(values) => values.iter_mut().for_each(|value| age(value, dies_at)),
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                match value {
                    Value::Number(_) if name.contains("expire") => *value = dies_at.into(),
                    value => age(value, dies_at),
                }
            }
        }
        _ => {}
    }
}

/// An id of the same form that no task has.
pub(super) fn unknown_id(id: &str) -> String {
    let turned = |digit: char| match digit {
        '9' => '1',
        '0'..='8' => char::from(u8::try_from(digit).unwrap_or(b'0') + 1),
        other => other,
    };
    id.chars().map(turned).collect()
}

/// What names no task of the provider: bodies of the systems behind relays, and what is no body at all.
pub(super) fn of_other_systems(provider: Provider) -> Vec<Forgery> {
    let mut bodies: Vec<String> =
        ["", "<<not json>>", "{}", "[]", "null", "{\"status\":\"succeeded\"}"].map(str::to_owned).into();
    // For these, such a body may well be about the task of its URL: their own tests have them.
    if !matches!(provider, Provider::Apimp | Provider::RelayDance) {
        for file in [
            include_str!("../../../events/providers/apimp/callback-ark-succeeded.json"),
            include_str!("../../../events/providers/apimp/callback-ark-failed.json"),
            include_str!("../../../events/providers/apimp/callback-minimax-failed.json"),
            include_str!("../../../events/providers/apimp/callback-vidu-succeeded.json"),
            include_str!("../../../events/providers/relaydance/callback-foreign-succeeded.json"),
            include_str!("../../../events/providers/relaydance/callback-foreign-failed.json"),
        ] {
            let event: Value = serde_json::from_str(file).expect("an event is JSON");
            bodies.push(event["body"].to_string());
        }
    }
    bodies.into_iter().map(|body| Forgery { headers: vec![], body }).collect()
}
