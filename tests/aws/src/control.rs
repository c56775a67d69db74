//! What AWS does not have, below `/_local/`.
//!
//! | request | does |
//! |---|---|
//! | `PUT faults` `{"share": 0.01, "seed": 7}` | has this share of the calls fail from now on, see [`crate::faults`] |
//! | `POST redeliver` | makes every message that was received and not deleted visible again, as if its receiver had died long ago |
//! | `GET statistics` | returns a [`Statistics`] |

use std::collections::BTreeMap;

use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};

use crate::dynamodb::Units;
use crate::faults::{Calls, FaultPlan};
use crate::{Aws, json_response};

/// What happened so far.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Statistics {
    /// The calls, by operation.
    pub calls: BTreeMap<String, Calls>,
    /// What the table would be charged for.
    #[serde(default)]
    pub units: Units,
    /// How many "Object Created" events each object had, by `{bucket}/{key}`.
    pub created: BTreeMap<String, u64>,
}

pub(crate) fn serve(aws: &Aws, method: &Method, path: &str, body: &[u8]) -> Response {
    match (method, path) {
        (&Method::PUT, "faults") => match serde_json::from_slice::<FaultPlan>(body) {
            Ok(plan) => {
                aws.faults.plan(plan);
                StatusCode::NO_CONTENT.into_response()
            }
            Err(error) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
        },
        (&Method::POST, "redeliver") => json_response(StatusCode::OK, aws.queues.redeliver().to_string()),
        (&Method::GET, "statistics") => {
            let statistics =
                Statistics { calls: aws.faults.calls(), units: aws.tables.units(), created: aws.buckets.created() };
            match serde_json::to_string(&statistics) {
                Ok(body) => json_response(StatusCode::OK, body),
                Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
            }
        }
        _ => (StatusCode::NOT_FOUND, "use PUT faults, POST redeliver or GET statistics").into_response(),
    }
}
