//! Tables: dynoxide behind the `DynamoDB` protocol.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use axum::http::StatusCode;
use axum::response::Response;
use dynoxide::{Database, DynoxideError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{Refusal, json_response};

/// All tables.
pub(crate) struct Tables {
    database: Database,
    units: Mutex<Units>,
}

/// What AWS would charge for, on demand. Dynoxide counts it by rules that were taken from AWS, indexes included.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct Units {
    /// Write request units. A write whose condition does not hold counts as one.
    pub written: f64,
    /// Read request units.
    pub read: f64,
}

impl fmt::Debug for Tables {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tables").finish_non_exhaustive()
    }
}

impl Tables {
    pub(crate) fn new() -> Result<Self, DynoxideError> {
        Ok(Self { database: Database::memory()?, units: Mutex::default() })
    }

    /// Carries out a call. Everything is in memory, so it does not leave the thread.
    pub(crate) fn call(&self, operation: &str, body: &[u8]) -> Response {
        let database = &self.database;
        match operation {
            "CreateTable" => answer(body, |request| database.create_table(request)),
            "GetItem" => self.read(body, |request| database.get_item(request)),
            "PutItem" => self.write(body, |request| database.put_item(request)),
            "UpdateItem" => self.write(body, |request| database.update_item(request)),
            "DeleteItem" => self.write(body, |request| database.delete_item(request)),
            "BatchGetItem" => self.read(body, |request| database.batch_get_item(request)),
            "BatchWriteItem" => self.write(body, |request| database.batch_write_item(request)),
            "Query" => self.read(body, |request| database.query(request)),
            "Scan" => self.read(body, |request| database.scan(request)),
            _ => Refusal::new("UnknownOperationException", format!("{operation} is not supported")).response(),
        }
    }

    /// The units until now.
    pub(crate) fn units(&self) -> Units {
        *self.units.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<Request: DeserializeOwned, Answer: Serialize>(
        &self,
        body: &[u8],
        carry_out: impl FnOnce(Request) -> dynoxide::Result<Answer>,
    ) -> Response {
        self.counted(body, carry_out, |units, used| units.read += used.unwrap_or_default())
    }

    fn write<Request: DeserializeOwned, Answer: Serialize>(
        &self,
        body: &[u8],
        carry_out: impl FnOnce(Request) -> dynoxide::Result<Answer>,
    ) -> Response {
        self.counted(body, carry_out, |units, used| units.written += used.unwrap_or(1.0))
    }

    /// Carries out a call and counts the units that it used.
    fn counted<Request: DeserializeOwned, Answer: Serialize>(
        &self,
        body: &[u8],
        carry_out: impl FnOnce(Request) -> dynoxide::Result<Answer>,
        count: impl FnOnce(&mut Units, Option<f64>),
    ) -> Response {
        let mut request: Value = serde_json::from_slice(body).unwrap_or_default();
        let is_asked_for = request.get("ReturnConsumedCapacity").is_some();
        if let Some(fields) = request.as_object_mut().filter(|_| !is_asked_for) {
            fields.insert("ReturnConsumedCapacity".to_owned(), json!("TOTAL"));
        }
        let mut used = None;
        let response = answer(request.to_string().as_bytes(), |request| {
            let mut answer = serde_json::to_value(carry_out(request)?).unwrap_or_default();
            let capacity = if is_asked_for {
                answer["ConsumedCapacity"].clone()
            } else {
                answer.as_object_mut().and_then(|fields| fields.remove("ConsumedCapacity")).unwrap_or_default()
            };
            // One for a table, or a list of them.
            let of_tables = capacity.as_array().into_iter().flatten().chain([&capacity]);
            used = Some(of_tables.filter_map(|table| table["CapacityUnits"].as_f64()).sum());
            Ok(answer)
        });
        count(&mut self.units.lock().unwrap_or_else(PoisonError::into_inner), used);
        response
    }
}

fn answer<Request: DeserializeOwned, Answer: Serialize>(
    body: &[u8],
    carry_out: impl FnOnce(Request) -> dynoxide::Result<Answer>,
) -> Response {
    let request = match serde_json::from_slice(body) {
        Ok(request) => request,
        Err(error) => return Refusal::new("SerializationException", error.to_string()).response(),
    };
    match carry_out(request) {
        Ok(answer) => json_response(StatusCode::OK, serde_json::to_vec(&answer).unwrap_or_default()),
        Err(error) => {
            let status = StatusCode::from_u16(error.status_code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            json_response(status, error.to_json())
        }
    }
}

/// The request that creates a table with the keys and the index of the template.
pub fn create_table_request(name: &str) -> Value {
    let attribute = |name: &str, kind: &str| json!({ "AttributeName": name, "AttributeType": kind });
    let key = |name: &str, kind: &str| json!({ "AttributeName": name, "KeyType": kind });
    json!({
        "TableName": name,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [attribute("task", "S"), attribute("due_shard", "N"), attribute("due_at", "N")],
        "KeySchema": [key("task", "HASH")],
        "GlobalSecondaryIndexes": [{
            "IndexName": "due",
            "KeySchema": [key("due_shard", "HASH"), key("due_at", "RANGE")],
            "Projection": { "ProjectionType": "KEYS_ONLY" },
        }],
    })
}
