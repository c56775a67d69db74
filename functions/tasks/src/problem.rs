//! Responses that are no success: what happened, to which task, and what to do.

use lambda_http::http::{StatusCode, header};
use lambda_http::{Body, Response};
use reelhook_aws::table::TableError;
use reelhook_core::report::{Failure, Reason};
use serde_json::{Value, json};

/// A response that is no success.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    error: &'static str,
    message: String,
    failure: Option<Box<Failure>>,
    task: Option<Value>,
    allow: Option<&'static str>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, error: &'static str, message: impl Into<String>) -> Self {
        Self { status, error, message: message.into(), failure: None, task: None, allow: None }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", message)
    }

    /// Our own fault.
    pub(crate) fn unavailable(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "a request could not be served");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "temporarily unavailable, retry")
    }

    /// Another method than these.
    pub(crate) fn method(allow: &'static str, message: &'static str) -> Self {
        Self { allow: Some(allow), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message) }
    }

    /// The id is taken, and this is what stands there.
    pub(crate) fn conflict(error: &'static str, message: impl Into<String>, task: Value) -> Self {
        Self { task: Some(task), ..Self::new(StatusCode::CONFLICT, error, message) }
    }

    /// The provider refused, and there is no task.
    pub(crate) fn refused(message: impl Into<String>, failure: Failure) -> Self {
        let status = match failure.reason {
            Reason::InvalidParameters | Reason::ContentModeration => StatusCode::UNPROCESSABLE_ENTITY,
            Reason::InsufficientCredits => StatusCode::PAYMENT_REQUIRED,
            Reason::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::BAD_GATEWAY,
        };
        Self { failure: Some(Box::new(failure)), ..Self::new(status, "refused_by_provider", message) }
    }

    /// The same under another status.
    pub(crate) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    pub(crate) fn response(self) -> Response<Body> {
        let mut body = json!({ "error": self.error, "message": self.message });
        if let Some(failure) = self.failure {
            body["provider"] = json!(failure);
        }
        if let Some(task) = self.task {
            body["task"] = task;
        }
        let mut response = respond(self.status, &body);
        if let Some(allow) = self.allow {
            response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static(allow));
        }
        response
    }
}

impl From<TableError> for Problem {
    fn from(error: TableError) -> Self {
        Self::unavailable(&error)
    }
}

pub(crate) fn respond(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}
