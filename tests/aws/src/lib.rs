//! The parts of AWS that reelhook uses, in memory and fast: `DynamoDB`, SQS, S3 and Secrets Manager over their own HTTP
//! protocols, at one address.
//!
//! The Python emulator that `cargo run` starts knows all of AWS and deploys the template, at a few hundred calls a second. This one
//! is for what needs more: a load, a table with thousands of due tasks, starts side by side. It shares no code with the
//! functions: `DynamoDB` is [dynoxide](https://github.com/nubo-db/dynoxide), which parses and evaluates expressions itself, and
//! the comparison of transitions in `tests/it` runs against both emulators.
//!
//! | module | contents |
//! |---|---|
//! | [`dynamodb`] | tables |
//! | [`sqs`] | queues, with visibility time-outs and dead-letter queues |
//! | [`s3`] | buckets, as strict as S3 about checksums, parts and conditions |
//! | [`secrets`] | secrets |
//! | [`faults`] | calls that fail, before or after they take effect |
//! | [`control`] | what AWS does not have: faults, statistics, dead receivers |
//! | [`prices`] | what AWS charges for them |
//!
//! # Limits
//!
//! Signatures and permissions are not checked, nothing is encrypted, and nothing expires: neither items by their TTL, nor
//! messages, nor uploads. What reelhook does not use is refused with a 501.

pub mod control;
pub mod dynamodb;
pub mod faults;
pub mod prices;
pub mod s3;
pub mod secrets;
pub mod sqs;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::faults::{Fault, Faults};

/// Larger than any part of an upload that reelhook sends.
const MAX_BODY: usize = 64 << 20;

/// A running AWS. Dropping it stops it.
#[derive(Debug)]
pub struct LocalAws {
    address: SocketAddr,
    server: JoinHandle<io::Result<()>>,
}

/// All state.
struct Aws {
    tables: dynamodb::Tables,
    queues: sqs::Queues,
    buckets: s3::Buckets,
    secrets: secrets::Secrets,
    faults: Faults,
}

impl LocalAws {
    /// Starts it on a port of 127.0.0.1; 0 picks a free one. It is empty.
    ///
    /// # Errors
    /// If the port is taken, or there is no memory for the tables.
    pub async fn start(port: u16) -> io::Result<Self> {
        let aws = Arc::new(Aws {
            tables: dynamodb::Tables::new().map_err(io::Error::other)?,
            queues: sqs::Queues::default(),
            buckets: s3::Buckets::default(),
            secrets: secrets::Secrets::default(),
            faults: Faults::default(),
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let address = listener.local_addr()?;
        let application = Router::new().fallback(serve).with_state(aws);
        let server = tokio::spawn(async move { axum::serve(listener, application).await });
        Ok(Self { address, server })
    }

    /// `http://127.0.0.1:PORT`, for `AWS_ENDPOINT_URL`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for LocalAws {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// An error as the JSON protocols have it.
#[derive(Debug)]
struct Refusal {
    code: &'static str,
    message: String,
}

impl Refusal {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    fn response(&self) -> Response {
        let body = json!({ "__type": self.code, "message": self.message });
        json_response(StatusCode::BAD_REQUEST, body.to_string())
    }
}

fn json_response(status: StatusCode, body: impl Into<Body>) -> Response {
    (status, [(header::CONTENT_TYPE, "application/x-amz-json-1.0")], body.into()).into_response()
}

async fn serve(State(aws): State<Arc<Aws>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, MAX_BODY).await else {
        return (StatusCode::BAD_REQUEST, "the body broke off or is too long").into_response();
    };
    if let Some(path) = parts.uri.path().strip_prefix("/_local/") {
        return control::serve(&aws, &parts.method, path, &body);
    }
    let target = parts.headers.get("x-amz-target").and_then(|target| target.to_str().ok());
    let Some((service, operation)) = target.and_then(|target| target.split_once('.')) else {
        return serve_s3(&aws, &parts, body);
    };
    let fault = aws.faults.next(operation);
    if fault == Some(Fault::BeforeEffect) {
        return internal_error();
    }
    let response = serve_json(&aws, service, operation, &parts, &body).await;
    if fault == Some(Fault::AfterEffect) { internal_error() } else { response }
}

async fn serve_json(aws: &Aws, service: &str, operation: &str, parts: &Parts, body: &Bytes) -> Response {
    if service.starts_with("DynamoDB") {
        return aws.tables.call(operation, body);
    }
    let Ok(request) = serde_json::from_slice::<Value>(body) else {
        return Refusal::new("SerializationException", "the body is not JSON").response();
    };
    let result = match service {
        "AmazonSQS" => aws.queues.call(operation, &request, host(parts)).await,
        "secretsmanager" => aws.secrets.call(operation, &request),
        _ => Err(Refusal::new("UnknownOperationException", format!("there is no {service} here"))),
    };
    match result {
        Ok(response) => json_response(StatusCode::OK, response.to_string()),
        Err(refusal) => refusal.response(),
    }
}

fn serve_s3(aws: &Aws, parts: &Parts, body: Bytes) -> Response {
    let call = s3::Call::new(parts, body);
    let Some(operation) = call.operation() else {
        return s3::refused(StatusCode::NOT_IMPLEMENTED, "NotImplemented");
    };
    let fault = aws.faults.next(operation.name());
    let lost = || s3::refused(StatusCode::INTERNAL_SERVER_ERROR, "InternalError");
    if fault == Some(Fault::BeforeEffect) {
        return lost();
    }
    let response = aws.buckets.call(operation, &call);
    if fault == Some(Fault::AfterEffect) { lost() } else { response }
}

fn internal_error() -> Response {
    let body = json!({ "__type": "InternalServerError", "message": "an injected fault" });
    json_response(StatusCode::INTERNAL_SERVER_ERROR, body.to_string())
}

fn host(parts: &Parts) -> &str {
    parts.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("127.0.0.1")
}
