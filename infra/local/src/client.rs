//! A client of a running stack, as an application would use it: signed calls to the `tasks` function and to S3.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode,
    sign,
};
use aws_sigv4::sign::v4::SigningParams;
use reqwest::{Method, Response};
use serde_json::Value;

use crate::samples::Sample;
use crate::{ACCESS_KEY_ID, Error, Outputs, REGION, SECRET_ACCESS_KEY, Stack};

/// Who signs, where.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The credentials.
    pub credentials: Credentials,
    /// The region.
    pub region: String,
}

impl Identity {
    /// For the local emulator, which verifies no signature. It takes no signed link without its own session token.
    pub fn local() -> Self {
        let token = Some("test".to_owned());
        let credentials = Credentials::new(ACCESS_KEY_ID, SECRET_ACCESS_KEY, token, None, "local");
        Self { credentials, region: REGION.to_owned() }
    }
}

/// Calls one stack. Clones share its connections.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    identity: Identity,
    /// Of an AWS that is not Amazon's.
    endpoint: Option<String>,
    tasks_url: String,
    bucket_url: String,
}

/// A response of a function URL.
#[derive(Clone, Debug)]
pub struct HttpResponse {
    /// The HTTP status.
    pub status: u16,
    /// The body; a JSON string if it is not JSON.
    pub body: Value,
}

impl Client {
    /// A client for this stack. Requests time out after a minute.
    pub fn new(stack: &Stack) -> Result<Self, Error> {
        Self::of(stack.endpoint(), stack.outputs())
    }

    /// A client for a stack with these outputs, in the AWS at this endpoint.
    pub fn of(endpoint: &str, outputs: &Outputs) -> Result<Self, Error> {
        Self::of_account(Identity::local(), Some(endpoint), outputs)
    }

    /// A client for a stack with these outputs in somebody's account. Without an endpoint it is Amazon's.
    pub fn of_account(identity: Identity, endpoint: Option<&str>, outputs: &Outputs) -> Result<Self, Error> {
        // Somebody else may have installed one first, which is just as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut http = reqwest::Client::builder().timeout(Duration::from_mins(1));
        if endpoint.is_some() {
            http = http.no_proxy();
        }
        let http = http.build().map_err(Error::http)?;
        let bucket = &outputs.bucket_name;
        let bucket_url = match endpoint {
            Some(endpoint) => format!("{endpoint}/{bucket}"),
            None => format!("https://{bucket}.s3.{}.amazonaws.com", identity.region),
        };
        let tasks_url = format!("{}/tasks", outputs.tasks_url);
        Ok(Self { http, identity, endpoint: endpoint.map(str::to_owned), tasks_url, bucket_url })
    }

    /// Calls an AWS service that speaks JSON 1.1.
    pub async fn call(&self, service: &str, target: &str, request: &Value) -> Result<Value, Error> {
        let url = match &self.endpoint {
            Some(endpoint) => format!("{endpoint}/"),
            None => format!("https://{service}.{}.amazonaws.com/", self.identity.region),
        };
        let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target)];
        let response = self.send_with(service, Method::POST, &url, &headers, request.to_string()).await?;
        let status = response.status();
        let text = response.text().await.map_err(Error::http)?;
        if status.is_success() {
            serde_json::from_str(&text).map_err(|error| Error::Http(format!("{target}: {error}")))
        } else {
            Err(Error::Http(format!("{target} returned {status}: {text}")))
        }
    }

    /// The plain HTTP client, for callbacks and other unsigned requests.
    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Submits a sample under this id, with this prompt.
    pub async fn submit(&self, sample: Sample, id: &str, prompt: &str) -> Result<HttpResponse, Error> {
        let query = sample.endpoint.map(|endpoint| format!("?endpoint={endpoint}")).unwrap_or_default();
        self.put(&format!("{}/{id}{query}", sample.provider), sample.body(prompt).to_string()).await
    }

    /// `PUT /tasks/{path}`.
    pub async fn put(&self, path: &str, body: String) -> Result<HttpResponse, Error> {
        self.call_tasks(Method::PUT, path, body).await
    }

    /// `DELETE /tasks/{path}`.
    pub async fn delete(&self, path: &str) -> Result<HttpResponse, Error> {
        self.call_tasks(Method::DELETE, path, String::new()).await
    }

    /// `GET /tasks/{path}`.
    pub async fn get(&self, path: &str) -> Result<HttpResponse, Error> {
        self.call_tasks(Method::GET, path, String::new()).await
    }

    /// The callback URL of a task, `{provider}/{id}`. The task need not exist.
    pub async fn callback_url(&self, task: &str) -> Result<String, Error> {
        let response = self.get(&format!("{task}/callback-url")).await?;
        let url = response.body["callback_url"].as_str();
        url.map(str::to_owned)
            .ok_or_else(|| Error::Http(format!("the response has no callback_url: {}", response.body)))
    }

    /// An object in the bucket; `None` if it does not exist.
    pub async fn object(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        let url = format!("{}/{}", self.bucket_url, key.replace('%', "%25"));
        let response = self.send("s3", Method::GET, &url, String::new()).await?;
        match response.status().as_u16() {
            200 => Ok(Some(response.bytes().await.map_err(Error::http)?.to_vec())),
            404 => Ok(None),
            status => Err(Error::Http(format!("GET {key} returned status {status}"))),
        }
    }

    /// The keys in the bucket with this prefix; at most 1000.
    pub async fn keys(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let url = format!("{}?list-type=2&prefix={}", self.bucket_url, prefix.replace('/', "%2F"));
        let response = self.send("s3", Method::GET, &url, String::new()).await?;
        let list = response.error_for_status().map_err(Error::http)?.text().await.map_err(Error::http)?;
        let keys = list.split("<Key>").skip(1).filter_map(|rest| Some(rest.split_once("</Key>")?.0.to_owned()));
        Ok(keys.collect())
    }

    /// The bucket's multipart uploads in progress, as S3's XML.
    pub async fn unfinished_uploads(&self) -> Result<String, Error> {
        let url = format!("{}?uploads=", self.bucket_url);
        let response = self.send("s3", Method::GET, &url, String::new()).await?;
        response.error_for_status().map_err(Error::http)?.text().await.map_err(Error::http)
    }

    async fn call_tasks(&self, method: Method, path: &str, body: String) -> Result<HttpResponse, Error> {
        let service = if self.tasks_url.contains(".execute-api.") { "execute-api" } else { "lambda" };
        let response = self.send(service, method, &format!("{}/{path}", self.tasks_url), body).await?;
        let status = response.status().as_u16();
        let text = response.text().await.map_err(Error::http)?;
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Ok(HttpResponse { status, body })
    }

    async fn send(&self, service: &str, method: Method, url: &str, body: String) -> Result<Response, Error> {
        self.send_with(service, method, url, &[], body).await
    }

    /// Signs a request for a service and sends it.
    async fn send_with(
        &self,
        service: &str,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Result<Response, Error> {
        let signing = |error: &dyn std::fmt::Display| Error::Http(format!("cannot sign the request: {error}"));
        let identity = self.identity.credentials.clone().into();
        let mut settings = SigningSettings::default();
        if service == "s3" {
            settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
            settings.percent_encoding_mode = PercentEncodingMode::Single;
            settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        }
        let parameters = SigningParams::builder()
            .identity(&identity)
            .region(&self.identity.region)
            .name(service)
            .time(SystemTime::now())
            .settings(settings)
            .build()
            .map_err(|error| signing(&error))?
            .into();
        let content = SignableBody::Bytes(body.as_bytes());
        let signable = SignableRequest::new(method.as_str(), url, headers.iter().copied(), content);
        let signed = sign(signable.map_err(|error| signing(&error))?, &parameters).map_err(|error| signing(&error))?;
        let (instructions, _) = signed.into_parts();
        let mut request = self.http.request(method, url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        for (name, value) in instructions.headers() {
            request = request.header(name, value);
        }
        request.body(body).send().await.map_err(Error::http)
    }
}
