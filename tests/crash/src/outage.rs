//! What AWS and a provider respond while they are down.

use std::time::{Duration, SystemTime};

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::json;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

/// What does not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// `DynamoDB` throttles every call.
    TableThrottled,
    /// SQS responds with a 503.
    QueueUnavailable,
    /// S3 responds with a 503 and "slow down".
    BucketUnavailable,
    /// Secrets Manager throttles every call.
    SettingsThrottled,
    /// The provider's API and the host of its files respond with a 503.
    Provider,
    /// AWS checks the time of each signature, and the clock of the function is wrong.
    SignaturesOfAnotherTime,
}

/// How far the time of a signature may be from that of AWS.
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/signature-v4-troubleshooting.html>
const SIGNATURE_VALID_FOR: Duration = Duration::from_mins(5);

impl Outage {
    /// The response to a call that is part of the outage.
    pub fn response(self, headers: &HeaderMap) -> Option<Response> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let target = text("x-amz-target");
        let is_aws = text("authorization").starts_with("AWS4-HMAC-SHA256");
        let is_s3 = is_aws && target.is_empty();
        match self {
            Self::TableThrottled => target.starts_with("DynamoDB_").then(|| {
                let message = "The level of configured provisioned throughput for the table was exceeded.";
                refused(StatusCode::BAD_REQUEST, "ProvisionedThroughputExceededException", message)
            }),
            Self::QueueUnavailable => target.starts_with("AmazonSQS").then(|| {
                refused(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", "Service is unable to handle request.")
            }),
            Self::SettingsThrottled => target
                .starts_with("secretsmanager")
                .then(|| refused(StatusCode::BAD_REQUEST, "ThrottlingException", "Rate exceeded")),
            Self::BucketUnavailable => is_s3.then(|| {
                let body = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
                (StatusCode::SERVICE_UNAVAILABLE, [(header::CONTENT_TYPE, "application/xml")], body).into_response()
            }),
            Self::Provider => (!is_aws).then(|| StatusCode::SERVICE_UNAVAILABLE.into_response()),
            // S3 allows a quarter of an hour.
            Self::SignaturesOfAnotherTime => (is_aws && !is_s3 && !is_of_now(text("x-amz-date"))).then(|| {
                let message = "Signature expired or not yet current.";
                refused(StatusCode::BAD_REQUEST, "InvalidSignatureException", message)
            }),
        }
    }
}

/// Whether the time of a signature is close enough to now.
fn is_of_now(signed_at: &str) -> bool {
    let format = format_description!("[year][month][day]T[hour][minute][second]Z");
    let Ok(signed_at) = PrimitiveDateTime::parse(signed_at, format) else { return false };
    let now = OffsetDateTime::from(SystemTime::now());
    (now - signed_at.assume_utc()).unsigned_abs() < SIGNATURE_VALID_FOR
}

/// As the JSON protocols have it. `axum` adds the `Date` by which an SDK may correct its clock.
fn refused(status: StatusCode, code: &str, message: &str) -> Response {
    let body = json!({ "__type": code, "message": message }).to_string();
    (status, [(header::CONTENT_TYPE, "application/x-amz-json-1.0")], body).into_response()
}
