//! A deployment of its own for one attack: a table, settings, a queue, a simulated provider behind a gateway that can fail,
//! and one process for each function. Time passes only when a case says so.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use local::runtime_api::{Function, InvocationResult};
use local::samples;
use reelhook_core::TaskKey;
use serde_json::{Value, json};
use simulator::{Config, Provider, Signs, Simulator};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::callbacks::binary;
use crate::world::{World, call, with};

const TIME_LIMIT: Duration = Duration::from_mins(1);

/// What the provider's API does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Availability {
    /// Responds.
    Up,
    /// Refuses connections.
    Unreachable,
    /// Responds to everything with a 503.
    Failing,
    /// Responds a second late.
    Slow,
    /// Knows no task any more.
    Forgetful,
}

/// How the sandbox is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trust {
    /// Whether there is an API key, so that the provider can be polled.
    pub(super) api_key: bool,
    /// Whether there is a signing secret; of no meaning for providers that sign nothing.
    pub(super) secret: bool,
}

pub(super) struct Sandbox {
    pub(super) world: Arc<World>,
    pub(super) provider: Provider,
    pub(super) simulator: Simulator,
    /// The environment of the functions under attack.
    pub(super) environment: Vec<(String, String)>,
    table: String,
    queue: String,
    gateway: Gateway,
    callback: Function,
    process: Function,
    poll: Function,
    tasks: Function,
}

impl Sandbox {
    pub(super) async fn start(world: Arc<World>, provider: Provider, trust: Trust) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("adversary-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        // Links into the provider's API lead where the settings say that it is.
        let api_origin = Some(format!("http://{}", listener.local_addr().expect("an address")));
        let config = Config { time_scale: 0.05, api_origin, ..Config::default() };
        let start = || Simulator::start(config.clone()).expect("it starts");
        let (simulator, forgetful) = (start(), start());
        let gateway = Gateway::start(listener, simulator.address().to_string(), forgetful);
        world.create_table(&name).await;
        let request = json!({ "QueueName": name });
        let queue = call(&world.client, world.stack.endpoint(), "sqs", "AmazonSQS.CreateQueue", &request).await;
        let queue = queue["QueueUrl"].as_str().expect("a queue has a URL").to_owned();
        let base_url = simulator.base_url(provider).replace(&simulator.address().to_string(), &gateway.address());
        let account = simulator.config().account(provider);
        // Vidu signs with the API key where the account has no other secret.
        let secret = account.signing_secret.clone().or_else(|| signs(provider).then(|| account.api_key.clone()));
        // The application submits with a key even where the functions under attack have none.
        let (attacked, full) = (format!("/{name}/attacked"), format!("/{name}/full"));
        for (secret_name, trust) in [(&attacked, trust), (&full, Trust { api_key: true, secret: false })] {
            let mut own = json!({
                "base_url": base_url,
                "poll": { "first_seconds": 5, "interval_seconds": 5, "max_interval_seconds": 60 },
            });
            if trust.api_key {
                own["api_key"] = json!(account.api_key);
            }
            if let Some(url) = simulator.key_set_url(provider) {
                own["key_set_url"] = json!(url);
                // What a secret is elsewhere: it ties a signature to this account.
                own["account_id"] = json!(provider.account_id().filter(|_| trust.secret));
            } else if let Some(secret) = secret.as_ref().filter(|_| trust.secret) {
                own["signing_secrets"] = json!([secret]);
            }
            let change = |settings: &mut Value| settings["providers"] = json!({ provider.to_string(): own });
            world.put_settings(secret_name, change).await;
        }
        let environment = with(world.environment(), "TABLE_NAME", &name);
        let environment = with(environment, "QUEUE_URL", &queue);
        let environment = with(environment, "SETTINGS_SECRET", &attacked);
        let origins = format!("{},{}", simulator.address(), gateway.address());
        let environment = with(environment, "ALLOWED_ORIGINS", &origins);
        let environment = with(environment, "CALLBACK_BASE_URL", "https://hooks.example.com");
        let function = async |name: &str, environment: &[(String, String)]| {
            Function::start(&binary(&world, name), environment).await.expect("it starts")
        };
        Self {
            callback: function("callback", &environment).await,
            process: function("process", &environment).await,
            poll: function("poll", &environment).await,
            tasks: function("tasks", &with(environment.clone(), "SETTINGS_SECRET", &full)).await,
            environment,
            world,
            provider,
            simulator,
            table: name,
            queue,
            gateway,
        }
    }

    pub(super) async fn set(&mut self, availability: Availability) {
        self.gateway.set(availability).await;
    }

    /// A body whose links lead to another authority.
    pub(super) fn with_links_to(&self, authority: &str, body: &str) -> String {
        let own = [self.simulator.address().to_string(), self.gateway.address()];
        own.iter().fold(body.to_owned(), |body, own| body.replace(own, authority))
    }

    /// Has every link in the responses of the provider's API lead to another authority from now on.
    pub(super) fn divert_links(&self, authority: &str) {
        *self.gateway.diverted.lock().unwrap_or_else(PoisonError::into_inner) = Some(authority.to_owned());
    }

    /// Submits a task with a script. Returns its view.
    pub(super) async fn submit(&mut self, id: &str, script: &str) -> Value {
        let sample = samples::of(self.provider);
        let query = sample.endpoint.map(|endpoint| format!("endpoint={endpoint}")).unwrap_or_default();
        let body = sample.body(&format!("a paper boat [simulate {script}]")).to_string();
        let (status, view) = self.request("PUT", &format!("{}/{id}", self.provider), &query, &body).await;
        assert_eq!(status, 201, "{}/{id}: {view}", self.provider);
        view
    }

    /// Calls `tasks`.
    pub(super) async fn request(&mut self, method: &str, path: &str, query: &str, body: &str) -> (u64, Value) {
        let mut event: Value = serde_json::from_str(include_str!("../../../events/lambda/function-url-tasks.json"))
            .expect("the event is JSON");
        let path = format!("/tasks/{path}");
        event["rawPath"] = json!(path);
        event["rawQueryString"] = json!(query);
        event["requestContext"]["http"]["path"] = json!(path);
        event["requestContext"]["http"]["method"] = json!(method);
        event["body"] = json!(body);
        event["isBase64Encoded"] = json!(false);
        respond(self.tasks.invoke(event, TIME_LIMIT).await)
    }

    /// Posts a body to a callback URL. Returns the status of the response.
    pub(super) async fn post(&mut self, url: &str, headers: &[(String, String)], body: &str) -> u64 {
        let callback =
            simulator::Callback { url: url.to_owned(), headers: headers.to_vec(), body: Bytes::from(body.to_owned()) };
        respond(self.callback.invoke(crate::callbacks::event(&callback), TIME_LIMIT).await).0
    }

    /// Runs the schedule and then the queue, until there is nothing more to do now.
    pub(super) async fn settle(&mut self) {
        for _ in 0..4 {
            let summary = self.poll.invoke(json!({}), TIME_LIMIT).await;
            assert!(matches!(summary, InvocationResult::Response(_)), "{summary:?}");
            if self.work_off().await == 0 {
                return;
            }
        }
    }

    /// Carries out what is queued. Returns how many messages there were.
    async fn work_off(&mut self) -> usize {
        let mut count = 0;
        loop {
            let request = json!({ "QueueUrl": self.queue, "MaxNumberOfMessages": 10 });
            let received = self.aws("sqs", "AmazonSQS.ReceiveMessage", &request).await;
            let Some(messages) = received["Messages"].as_array().filter(|messages| !messages.is_empty()) else {
                return count;
            };
            for message in messages {
                let mut event: Value =
                    serde_json::from_str(include_str!("../../../events/lambda/sqs.json")).expect("the event is JSON");
                event["Records"] = json!([event["Records"][0].clone()]);
                event["Records"][0]["body"] = message["Body"].clone();
                let result = self.process.invoke(event, TIME_LIMIT).await;
                assert!(matches!(result, InvocationResult::Response(_)), "{result:?}");
                let request = json!({ "QueueUrl": self.queue, "ReceiptHandle": message["ReceiptHandle"] });
                self.aws("sqs", "AmazonSQS.DeleteMessage", &request).await;
                count += 1;
            }
        }
    }

    /// Loses everything that is queued.
    pub(super) async fn lose_messages(&self) {
        self.aws("sqs", "AmazonSQS.PurgeQueue", &json!({ "QueueUrl": self.queue })).await;
    }

    /// Lets time pass: moves every time in the table back.
    pub(super) async fn pass(&self, seconds: i64) {
        for mut item in self.items().await {
            let attributes = item.as_object_mut().expect("an item is an object");
            for (name, value) in attributes.iter_mut() {
                if let Some(number) = value["N"].as_str().and_then(|number| number.parse::<i64>().ok()) {
                    if is_time(name) {
                        value["N"] = json!((number - seconds).to_string());
                    }
                } else if let Some(mut inner) = value["S"].as_str().and_then(|text| serde_json::from_str(text).ok()) {
                    move_back(&mut inner, seconds);
                    if matches!(name.as_str(), "hint" | "fallback" | "report" | "checkpoints") {
                        value["S"] = json!(inner.to_string());
                    }
                }
            }
            self.aws("dynamodb", "DynamoDB_20120810.PutItem", &json!({ "TableName": self.table, "Item": item })).await;
        }
    }

    /// Every item of the table.
    pub(super) async fn items(&self) -> Vec<Value> {
        let request = json!({ "TableName": self.table, "ConsistentRead": true });
        let response = self.aws("dynamodb", "DynamoDB_20120810.Scan", &request).await;
        response["Items"].as_array().cloned().unwrap_or_default()
    }

    /// The item of a task; null if there is none.
    pub(super) async fn item(&self, task: &str) -> Value {
        let request = json!({ "TableName": self.table, "Key": { "task": { "S": task } }, "ConsistentRead": true });
        self.aws("dynamodb", "DynamoDB_20120810.GetItem", &request).await["Item"].clone()
    }

    /// The outcome in the `result.json` of a task, if it has one.
    pub(super) async fn published(&self, task: &str) -> Option<Value> {
        let object = self.world.object(&format!("tasks/{task}/result.json")).await?;
        Some(serde_json::from_slice(&object).expect("result.json is JSON"))
    }

    /// The key that a provider task has while nobody registers it.
    pub(super) fn unregistered(&self, provider_task_id: &str) -> String {
        let provider = reelhook_core::Provider::from_name(&self.provider.to_string()).expect("it has the same name");
        TaskKey::unregistered(provider, provider_task_id).to_string()
    }

    async fn aws(&self, service: &str, target: &str, request: &Value) -> Value {
        call(&self.world.client, self.world.stack.endpoint(), service, target, request).await
    }
}

/// Whether the provider signs callbacks where a secret is configured.
pub(super) fn signs(provider: Provider) -> bool {
    provider.signs() != Signs::Nothing
}

/// Whether its signature covers the body: Standard Webhooks, and what looks like it.
pub(super) fn signs_body(provider: Provider) -> bool {
    provider.signs() == Signs::Body
}

/// Whether a signed callback is acted on by itself. Veo's say too little.
pub(super) fn signs_reports(provider: Provider) -> bool {
    signs_body(provider) && provider != Provider::Veo
}

fn is_time(name: &str) -> bool {
    name.ends_with("_at") || name.ends_with("_until") || name.ends_with("_since")
}

fn move_back(value: &mut Value, seconds: i64) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                match value.as_i64() {
                    Some(number) if is_time(name) => *value = json!(number - seconds),
                    _ => move_back(value, seconds),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| move_back(value, seconds)),
        _ => {}
    }
}

fn respond(result: InvocationResult) -> (u64, Value) {
    let InvocationResult::Response(response) = result else { panic!("no response: {result:?}") };
    let status = response["statusCode"].as_u64().expect("a response has a status");
    let body = response["body"].as_str().unwrap_or_default();
    (status, serde_json::from_str(body).unwrap_or(json!(body)))
}

/// Stands between the functions and the simulated provider.
struct Gateway {
    port: u16,
    availability: Arc<Mutex<Availability>>,
    /// Where links lead instead.
    diverted: Arc<Mutex<Option<String>>>,
    provider: String,
    forgetful: Simulator,
    server: Option<JoinHandle<()>>,
}

impl Gateway {
    fn start(listener: TcpListener, provider: String, forgetful: Simulator) -> Self {
        let port = listener.local_addr().expect("an address").port();
        let availability = Arc::new(Mutex::new(Availability::Up));
        let diverted = Arc::default();
        let mut gateway = Self { port, availability, diverted, provider, forgetful, server: None };
        gateway.serve(listener);
        gateway
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    async fn set(&mut self, availability: Availability) {
        *self.availability.lock().unwrap_or_else(PoisonError::into_inner) = availability;
        if availability == Availability::Unreachable {
            if let Some(server) = self.server.take() {
                server.abort();
                // The listener is closed when the task is dropped.
                let _ = server.await;
            }
        } else if self.server.is_none() {
            let listener = TcpListener::bind(self.address()).await.expect("the port is still free");
            self.serve(listener);
        }
    }

    fn serve(&mut self, listener: TcpListener) {
        let (availability, provider) = (Arc::clone(&self.availability), self.provider.clone());
        let (diverted, links_to) = (Arc::clone(&self.diverted), [self.provider.clone(), self.address()]);
        let forgetful = self.forgetful.address().to_string();
        let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        let client = client.build().expect("a client");
        let forward = move |method: Method, uri: Uri, mut headers: HeaderMap, body: Bytes| async move {
            let availability = *availability.lock().unwrap_or_else(PoisonError::into_inner);
            let target = match availability {
                Availability::Failing | Availability::Unreachable => {
                    return (StatusCode::SERVICE_UNAVAILABLE, HeaderMap::new(), Bytes::from_static(b"{}"));
                }
                Availability::Slow => {
                    sleep(Duration::from_secs(1)).await;
                    provider
                }
                Availability::Up => provider,
                Availability::Forgetful => forgetful,
            };
            headers.remove("host");
            let request = client.request(method, format!("http://{target}{uri}")).headers(headers).body(body);
            let response = request.send().await.expect("the simulator responds");
            let (status, mut headers) = (response.status(), response.headers().clone());
            headers.remove("transfer-encoding");
            // An outage closes the connections that are open, too.
            headers.insert("connection", axum::http::HeaderValue::from_static("close"));
            let mut body = response.bytes().await.expect("a complete response");
            if let Some(authority) = &*diverted.lock().unwrap_or_else(PoisonError::into_inner) {
                let divert =
                    |text: &str| links_to.iter().fold(text.to_owned(), |text, own| text.replace(own, authority));
                body = divert(&String::from_utf8_lossy(&body)).into();
                headers.remove("content-length");
                if let Some(target) =
                    headers.get("location").and_then(|target| divert(target.to_str().ok()?).parse().ok())
                {
                    headers.insert("location", target);
                }
            }
            (status, headers, body)
        };
        let application = axum::Router::new().fallback(forward);
        self.server = Some(tokio::spawn(async move {
            let _ = axum::serve(listener, application).await;
        }));
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.abort();
        }
    }
}
