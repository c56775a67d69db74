//! Tables: dynoxide behind the `DynamoDB` protocol.

use std::fmt;

use axum::http::StatusCode;
use axum::response::Response;
use dynoxide::{Database, DynoxideError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{Refusal, json_response};

/// All tables.
pub(crate) struct Tables {
    database: Database,
}

impl fmt::Debug for Tables {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tables").finish_non_exhaustive()
    }
}

impl Tables {
    pub(crate) fn new() -> Result<Self, DynoxideError> {
        Ok(Self { database: Database::memory()? })
    }

    /// Carries out a call. Everything is in memory, so it does not leave the thread.
    pub(crate) fn call(&self, operation: &str, body: &[u8]) -> Response {
        let database = &self.database;
        match operation {
            "CreateTable" => answer(body, |request| database.create_table(request)),
            "GetItem" => answer(body, |request| database.get_item(request)),
            "PutItem" => answer(body, |request| database.put_item(request)),
            "UpdateItem" => answer(body, |request| database.update_item(request)),
            "DeleteItem" => answer(body, |request| database.delete_item(request)),
            "BatchGetItem" => answer(body, |request| database.batch_get_item(request)),
            "BatchWriteItem" => answer(body, |request| database.batch_write_item(request)),
            "Query" => answer(body, |request| database.query(request)),
            "Scan" => answer(body, |request| database.scan(request)),
            _ => Refusal::new("UnknownOperationException", format!("{operation} is not supported")).response(),
        }
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
