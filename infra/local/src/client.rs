//! A client of a running stack, as an application is one: signed calls of the `tasks` function, and reading the bucket.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use aws_smithy_runtime_api::client::identity::Identity;
use reqwest::Method;
use serde_json::Value;

use crate::samples::Sample;
use crate::{ACCESS_KEY_ID, Error, REGION, SECRET_ACCESS_KEY, Stack};

/// The client.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    tasks_url: String,
    bucket_url: String,
}

/// An answer of the `tasks` function.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body.
    pub body: Value,
}

impl Client {
    /// A client of this stack.
    pub fn new(stack: &Stack) -> Result<Self, Error> {
        let http =
            reqwest::Client::builder().no_proxy().timeout(Duration::from_mins(1)).build().map_err(Error::http)?;
        let outputs = stack.outputs();
        Ok(Self {
            http,
            tasks_url: format!("{}/tasks", outputs.tasks_url),
            bucket_url: format!("{}/{}", stack.endpoint(), outputs.bucket_name),
        })
    }

    /// The plain HTTP client, for callbacks and whatever else needs no signature.
    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Submits a sample under an id, with this prompt.
    pub async fn submit(&self, sample: Sample, id: &str, prompt: &str) -> Result<Answer, Error> {
        let query = sample.endpoint.map(|endpoint| format!("?endpoint={endpoint}")).unwrap_or_default();
        self.put(&format!("{}/{id}{query}", sample.provider), sample.body(prompt).to_string()).await
    }

    /// `PUT /tasks/{path}`.
    pub async fn put(&self, path: &str, body: String) -> Result<Answer, Error> {
        self.signed(Method::PUT, path, body).await
    }

    /// `GET /tasks/{path}`.
    pub async fn get(&self, path: &str) -> Result<Answer, Error> {
        self.signed(Method::GET, path, String::new()).await
    }

    /// The callback URL of a task.
    pub async fn callback_url(&self, task: &str) -> Result<String, Error> {
        let answer = self.get(&format!("{task}/callback-url")).await?;
        let url = answer.body["callback_url"].as_str();
        url.map(str::to_owned).ok_or_else(|| Error::Http(format!("no callback URL in {}", answer.body)))
    }

    /// An object of the bucket; none when there is no such object.
    pub async fn object(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        // The stand-in lets anybody read.
        let answer = self.http.get(format!("{}/{}", self.bucket_url, key.replace('%', "%25"))).send().await;
        let answer = answer.map_err(Error::http)?;
        match answer.status().as_u16() {
            200 => Ok(Some(answer.bytes().await.map_err(Error::http)?.to_vec())),
            404 => Ok(None),
            status => Err(Error::Http(format!("{key}: status {status}"))),
        }
    }

    async fn signed(&self, method: Method, path: &str, body: String) -> Result<Answer, Error> {
        let url = format!("{}/{path}", self.tasks_url);
        let signing = |error: &dyn std::fmt::Display| Error::Http(format!("the call could not be signed: {error}"));
        let identity: Identity = Credentials::new(ACCESS_KEY_ID, SECRET_ACCESS_KEY, None, None, "stand-in").into();
        let parameters = SigningParams::builder()
            .identity(&identity)
            .region(REGION)
            .name("lambda")
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| signing(&error))?
            .into();
        let signable =
            SignableRequest::new(method.as_str(), &url, std::iter::empty(), SignableBody::Bytes(body.as_bytes()))
                .map_err(|error| signing(&error))?;
        let (instructions, _) = sign(signable, &parameters).map_err(|error| signing(&error))?.into_parts();
        let mut request = self.http.request(method, &url);
        for (name, value) in instructions.headers() {
            request = request.header(name, value);
        }
        let answer = request.body(body).send().await.map_err(Error::http)?;
        let status = answer.status().as_u16();
        let text = answer.text().await.map_err(Error::http)?;
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Ok(Answer { status, body })
    }
}
