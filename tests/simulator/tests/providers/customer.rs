//! A customer of a simulated provider.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;
use simulator::{Config, Example, Provider, Simulator};

use crate::receiver::Received;

pub(crate) fn start(config: Config) -> Simulator {
    Simulator::start(config).expect("the simulator starts")
}

/// A customer of one provider.
pub(crate) struct Customer<'a> {
    simulator: &'a Simulator,
    provider: Provider,
    case: Example,
    pub(crate) client: reqwest::Client,
}

impl<'a> Customer<'a> {
    pub(crate) fn new(simulator: &'a Simulator, provider: Provider) -> Self {
        let client = reqwest::Client::builder().user_agent("reelhook-test/1").build().expect("a client");
        let case = provider.examples().swap_remove(0);
        Self { simulator, provider, case, client }
    }

    /// Adds the API key, and what else every call has.
    pub(crate) fn authorized(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        let (header, scheme) = self.case.credential;
        let request = self.case.header.into_iter().fold(request, |request, (name, value)| request.header(name, value));
        request.header(header, format!("{scheme}{}", self.simulator.config().account(self.provider).api_key))
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.simulator.base_url(self.provider))
    }

    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> (u16, Value) {
        let response = request.send().await.expect("an response");
        let status = response.status().as_u16();
        let body = response.bytes().await.expect("a body");
        // Grok says nothing about a task that has not started.
        let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).expect("JSON") };
        (status, body)
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.send(self.authorized(self.client.post(self.url(path))).json(body)).await
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        self.send(self.authorized(self.client.get(self.url(path)))).await
    }

    /// Downloads a file, with the API key if the link leads into the API.
    pub(crate) async fn download(&self, url: &str) -> (u16, Vec<u8>) {
        let request = self.client.get(url);
        let request = if url.starts_with(&self.url("/")) { self.authorized(request) } else { request };
        let response = request.send().await.expect("an response");
        (response.status().as_u16(), response.bytes().await.expect("a body").to_vec())
    }
}

/// The JSON body of a callback.
pub(crate) fn body_of(callback: &Received) -> Value {
    serde_json::from_slice(&callback.body).expect("callbacks are JSON")
}

pub(crate) fn hmac(key: &[u8], text: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
    mac.update(text);
    BASE64_STANDARD.encode(mac.finalize().into_bytes())
}
