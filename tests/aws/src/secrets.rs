//! Secrets of Secrets Manager, without versions.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use crate::Refusal;

/// All secrets, by name.
#[derive(Debug, Default)]
pub(crate) struct Secrets {
    values: Mutex<BTreeMap<String, String>>,
}

impl Secrets {
    pub(crate) fn call(&self, operation: &str, request: &Value) -> Result<Value, Refusal> {
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        let text = |field: &str| request[field].as_str().unwrap_or_default().to_owned();
        let unknown = |name: &str| Refusal::new("ResourceNotFoundException", format!("there is no secret {name:?}"));
        let name = text(if operation == "CreateSecret" { "Name" } else { "SecretId" });
        match operation {
            "CreateSecret" if values.contains_key(&name) => {
                return Err(Refusal::new("ResourceExistsException", format!("there is a secret {name:?}")));
            }
            "PutSecretValue" if !values.contains_key(&name) => return Err(unknown(&name)),
            "CreateSecret" | "PutSecretValue" => {
                values.insert(name.clone(), text("SecretString"));
            }
            "GetSecretValue" => {}
            _ => return Err(Refusal::new("UnknownOperationException", format!("{operation} is not supported"))),
        }
        let value = values.get(&name).ok_or_else(|| unknown(&name))?;
        let arn = format!("arn:aws:secretsmanager:us-east-1:000000000000:secret:{name}-000000");
        Ok(json!({ "ARN": arn, "Name": name, "SecretString": value }))
    }
}
