//! The Function URL of `callback`: HTTP in, an event for one of its processes.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use local::runtime_api::InvocationResult;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::Error;
use crate::pool::Pool;

/// A running front. Dropping it stops it.
#[derive(Debug)]
pub struct Front {
    server: JoinHandle<()>,
}

impl Front {
    /// Serves on this listener.
    pub fn start(listener: TcpListener, callback: Arc<Pool>) -> Self {
        let application = Router::new().fallback(serve).with_state(callback);
        let server = tokio::spawn(async move {
            // Stops with this task. An error shows up as callbacks without a response.
            let _ = axum::serve(listener, application).await;
        });
        Self { server }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(State(pool): State<Arc<Pool>>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let headers: serde_json::Map<String, Value> =
        headers.iter().filter_map(|(name, value)| Some((name.to_string(), json!(value.to_str().ok()?)))).collect();
    let event = event(method.as_str(), uri.path(), uri.query().unwrap_or_default(), &Value::Object(headers), &body);
    match pool.invoke(event).await {
        Ok(InvocationResult::Response(response)) => http_response(&response),
        // As Lambda does for a function that fails.
        _ => StatusCode::BAD_GATEWAY.into_response(),
    }
}

/// A Function URL event.
pub fn event(method: &str, path: &str, query: &str, headers: &Value, body: &[u8]) -> Value {
    let (body, is_encoded) = match std::str::from_utf8(body) {
        Ok(text) => (text.to_owned(), false),
        Err(_) => (BASE64.encode(body), true),
    };
    json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": headers,
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "load",
            "domainName": "load.lambda-url.us-east-1.on.aws",
            "domainPrefix": "load",
            "http": {
                "method": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "127.0.0.1",
                "userAgent": "load",
            },
            "requestId": "load",
            "routeKey": "$default",
            "stage": "$default",
            "time": "21/Nov/2026:09:49:05 +0000",
            "timeEpoch": 1_795_254_545_123_u64,
        },
        "body": body,
        "isBase64Encoded": is_encoded,
    })
}

fn http_response(response: &Value) -> Response {
    let status = response["statusCode"].as_u64().and_then(|status| StatusCode::from_u16(status.try_into().ok()?).ok());
    let body = response["body"].as_str().unwrap_or_default().to_owned();
    (status.unwrap_or(StatusCode::BAD_GATEWAY), [("content-type", "application/json")], body).into_response()
}

/// The status and body of what a function returned. 502 if it failed.
pub fn answer(invoked: Result<InvocationResult, Error>) -> (u64, Value) {
    match invoked {
        Ok(InvocationResult::Response(response)) => {
            let body = response["body"].as_str().unwrap_or_default();
            let body = serde_json::from_str(body).unwrap_or_else(|_| Value::String(body.to_owned()));
            (response["statusCode"].as_u64().unwrap_or(502), body)
        }
        _ => (502, Value::Null),
    }
}
