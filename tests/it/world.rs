//! What all cases share: the deployed stack, the simulated providers, and access to the table, the bucket, its events and the
//! functions by plain HTTP calls, independent of the code under test.

use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use local::client::{Client, HttpResponse};
use local::emulator::Permissions;
use local::{Error, FunctionSource, Options, Progress, Stack, demonstration, emulator, samples};
use reelhook_core::providers::adapter::Adapter;
use serde_json::{Value, json};
use simulator::{Config, Provider, Simulator};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use crate::logs::ProcessLogs;

/// How long a task may take from a callback to its final state, on a busy machine with debug builds.
const TIMEOUT: Duration = Duration::from_mins(2);

pub(crate) struct World {
    pub(crate) stack: Stack,
    pub(crate) simulator: Simulator,
    pub(crate) client: Client,
    /// For cases that compute all the time: one at a time, or the others wait for the processor until something times out.
    pub(crate) busy_cases: Arc<Semaphore>,
    pub(crate) process_logs: ProcessLogs,
    published: Arc<Mutex<Vec<String>>>,
    listening: tokio::task::JoinHandle<()>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// Prints a line to standard error.
pub(crate) fn print_error(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// The adapter of the provider with this name.
pub(crate) fn adapter(provider: Provider) -> &'static dyn Adapter {
    reelhook_core::Provider::from_name(provider.name()).expect("both have it").adapter()
}

impl World {
    /// Builds and deploys the stack, and subscribes to the bucket's events.
    pub(crate) async fn start() -> Result<Self, Error> {
        let simulator = Simulator::start(Config { time_scale: 0.05, ..Config::default() })
            .map_err(|source| Error::Simulator { port: 0, source })?;
        let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
        let stack = Stack::start(Options {
            stack_name: "reelhook-it".to_owned(),
            functions: FunctionSource::Build { profile: profile.to_owned() },
            settings: demonstration::settings(&simulator),
            allowed_origins: vec![simulator.address().to_string()],
            // Enforce the roles of the template, so that a missing permission fails a case.
            emulator: emulator::Options { permissions: Permissions::Enforced, ..emulator::Options::default() },
            progress: Progress::Terminal,
        })
        .await?;
        let client = Client::new(&stack)?;
        let published = Arc::new(Mutex::new(Vec::new()));
        let queue = subscribe(&client, &stack).await;
        let listening =
            tokio::spawn(collect(client.clone(), stack.endpoint().to_owned(), queue, Arc::clone(&published)));
        let process_logs = ProcessLogs::keep()
            .map_err(|source| Error::System { what: "cannot keep the logs of processes".to_owned(), source })?;
        let busy_cases = Arc::new(Semaphore::new(1));
        Ok(Self { stack, simulator, client, busy_cases, process_logs, published, listening })
    }

    /// Submits a sample with a script for the simulated provider. Panics unless the task is created.
    pub(crate) async fn submit(&self, provider: Provider, id: &str, script: &str) -> Value {
        let response = self.try_submit(provider, id, script).await;
        assert_eq!(response.status, 201, "{provider}/{id}: {}", response.body);
        response.body
    }

    /// The same, whatever the response.
    pub(crate) async fn try_submit(&self, provider: Provider, id: &str, script: &str) -> HttpResponse {
        let prompt = format!("a paper boat [simulate {script}]");
        self.client.submit(samples::of(provider), id, &prompt).await.expect("the tasks function responds")
    }

    /// The record, as `GET` returns it.
    pub(crate) async fn view(&self, task: &str) -> HttpResponse {
        self.client.get(task).await.expect("the tasks function responds")
    }

    /// Waits until the record satisfies a condition.
    pub(crate) async fn wait_until(&self, task: &str, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + TIMEOUT;
        loop {
            let response = self.view(task).await;
            if response.status == 200 && condition(&response.body) {
                return response.body;
            }
            assert!(Instant::now() < end, "{task} was not {what} in time: {} {}", response.status, response.body);
            sleep(Duration::from_millis(300)).await;
        }
    }

    /// Waits until the task is final.
    pub(crate) async fn wait_until_final(&self, task: &str) -> Value {
        self.wait_until(task, "final", |view| matches!(view["state"].as_str(), Some("archived" | "failed" | "lost")))
            .await
    }

    /// Checks a success end to end: record, `result.json` and its schema, every byte of the video, and one event.
    pub(crate) async fn assert_archived(&self, task: &str, reported_by: &str) -> Value {
        let view = self.assert_archived_by_any(task).await;
        assert_eq!(view["reported_by"], reported_by, "{view}");
        view
    }

    /// The same, whether a callback or a poll reported it.
    pub(crate) async fn assert_archived_by_any(&self, task: &str) -> Value {
        let view = self.wait_until_final(task).await;
        assert_eq!(view["state"], "archived", "{view}");
        let result = self.result(task).await;
        assert_eq!(result["outcome"], "succeeded");
        assert_eq!(result["artifacts"], view["artifacts"]);
        // Some bodies repeat the callback URL.
        if let Some((_, token)) = view["callback_url"].as_str().and_then(|url| url.rsplit_once('/')) {
            assert!(!result.to_string().contains(token), "{task}: whoever reads its result could call back");
        }
        let provider_task_id = view["provider_task_id"].as_str().expect("a finished task has a provider id");
        let video = view["artifacts"].as_array().into_iter().flatten().find(|artifact| artifact["kind"] == "video");
        let video = video.unwrap_or_else(|| panic!("{task} has no video: {view}"));
        let stored = self.object(video["key"].as_str().expect("an artifact has a key")).await;
        let stored = stored.unwrap_or_else(|| panic!("{task}: the video is not in the bucket"));
        assert_eq!(video["bytes"], stored.len());
        assert!(
            stored == self.simulator.file(provider_task_id),
            "{task}: the video differs from what the provider served"
        );
        assert_eq!(&stored[4..8], b"ftyp");
        self.assert_published(task, 1).await;
        view
    }

    /// `result.json` of a task, validated against its schema.
    pub(crate) async fn result(&self, task: &str) -> Value {
        let object = self.object(&format!("tasks/{task}/result.json")).await;
        let object = object.unwrap_or_else(|| panic!("{task} has no result.json"));
        let result: Value = serde_json::from_slice(&object).expect("result.json is JSON");
        let schema = include_str!("../../events/result.schema.json");
        let schema: Value = serde_json::from_str(schema).expect("the schema is JSON");
        if let Err(error) = jsonschema::validate(&schema, &result) {
            panic!("result.json of {task} violates its schema: {error}\n{result:#}");
        }
        result
    }

    /// An object in the bucket; `None` if it does not exist.
    pub(crate) async fn object(&self, key: &str) -> Option<Vec<u8>> {
        self.client.object(key).await.expect("the bucket responds")
    }

    /// Removes an object from the bucket.
    pub(crate) async fn remove_object(&self, key: &str) {
        let url = format!("{}/{}/{key}", self.stack.endpoint(), self.stack.outputs().bucket_name);
        let removed = self.client.http().delete(url).header("authorization", credential("s3")).send().await;
        assert!(removed.expect("the bucket responds").status().is_success(), "{key} is removed");
    }

    /// Checks how many events the bucket sent for `result.json` of a task. Waits for late ones.
    pub(crate) async fn assert_published(&self, task: &str, times: usize) {
        let key = format!("tasks/{task}/result.json");
        let count = || {
            let published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
            published.iter().filter(|published| **published == key).count()
        };
        let end = Instant::now() + Duration::from_secs(10);
        while count() < times && Instant::now() < end {
            sleep(Duration::from_millis(200)).await;
        }
        // Time for a surplus event.
        sleep(Duration::from_secs(2)).await;
        assert_eq!(count(), times, "events for {key}");
    }

    /// Checks that a text has no key, secret or token of a callback URL in it.
    pub(crate) fn assert_nothing_secret(&self, text: &str) {
        let settings = demonstration::settings(&self.simulator);
        let mut secrets: Vec<String> = vec![settings["callback"]["keys"][0].as_str().expect("a key").to_owned()];
        for own in settings["providers"].as_object().expect("providers").values() {
            secrets.extend(own["api_key"].as_str().map(str::to_owned));
            secrets.extend(own["signing_secrets"][0].as_str().map(str::to_owned));
        }
        let token = text.split("/callback/").skip(1).find_map(|rest| rest.split(['/', '"', ' ', '\n']).nth(2));
        assert_eq!(token.filter(|token| token.len() == 22), None, "a token is printed: {text}");
        assert!(!secrets.iter().any(|secret| text.contains(secret.as_str())), "a secret is printed: {text}");
    }

    /// Sends a callback.
    pub(crate) async fn post(
        &self,
        url: &str,
        headers: &[(String, String)],
        body: impl Into<reqwest::Body>,
    ) -> HttpResponse {
        let mut request = self.client.http().post(url).header("content-type", "application/json").body(body);
        for (name, value) in headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("content-type")) {
            request = request.header(name, value);
        }
        let response = request.send().await.expect("the callback function responds");
        let status = response.status().as_u16();
        let text = response.text().await.expect("it responds in full");
        HttpResponse { status, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) }
    }

    /// Runs `poll` now instead of waiting for its schedule. Returns its summary.
    pub(crate) async fn poll(&self) -> Value {
        self.invoke(&self.stack.outputs().functions["poll"]).await
    }

    /// Invokes a deployed function with an empty event. Returns its response, or its error.
    pub(crate) async fn invoke(&self, function: &str) -> Value {
        let url = format!("{}/2015-03-31/functions/{function}/invocations", self.stack.endpoint());
        let response =
            self.client.http().post(url).header("authorization", credential("lambda")).body("{}").send().await;
        response.expect("the function is invoked").json().await.expect("it responds in JSON")
    }

    /// Queues a task, as `poll` does when it is due. A run of `poll` would also poll the tasks of other cases, some of them
    /// too early.
    pub(crate) async fn enqueue(&self, task: &str) {
        let message = json!({ "version": "1", "task": task }).to_string();
        let request = json!({ "QueueUrl": self.stack.outputs().queue_url, "MessageBody": message });
        call(&self.client, self.stack.endpoint(), "sqs", "AmazonSQS.SendMessage", &request).await;
    }

    /// The item of a task in the table; null if there is none.
    pub(crate) async fn item(&self, task: &str) -> Value {
        let table = &self.stack.outputs().table_name;
        let request = json!({ "TableName": table, "Key": { "task": { "S": task } }, "ConsistentRead": true });
        let response =
            call(&self.client, self.stack.endpoint(), "dynamodb", "DynamoDB_20120810.GetItem", &request).await;
        response["Item"].clone()
    }

    /// Calls the table, whatever the response.
    pub(crate) async fn try_dynamodb(&self, operation: &str, request: &Value) {
        let target = format!("DynamoDB_20120810.{operation}");
        let _ = try_call(&self.client, self.stack.endpoint(), "dynamodb", &target, request).await;
    }

    /// Sets a number in the item of a task, to make time pass.
    pub(crate) async fn set_number_attribute(&self, task: &str, attribute: &str, value: i64) {
        let request = json!({
            "TableName": self.stack.outputs().table_name,
            "Key": { "task": { "S": task } },
            "UpdateExpression": "SET #name = :value",
            "ExpressionAttributeNames": { "#name": attribute },
            "ExpressionAttributeValues": { ":value": { "N": value.to_string() } },
        });
        call(&self.client, self.stack.endpoint(), "dynamodb", "DynamoDB_20120810.UpdateItem", &request).await;
    }

    /// Creates another table with the keys of the deployed one.
    pub(crate) async fn create_table(&self, name: &str) {
        self.create_table_at(self.stack.endpoint(), name).await;
    }

    /// The same in another AWS.
    pub(crate) async fn create_table_at(&self, endpoint: &str, name: &str) {
        let request = local_aws::dynamodb::create_table_request(name);
        call(&self.client, endpoint, "dynamodb", "DynamoDB_20120810.CreateTable", &request).await;
    }

    /// Puts the item of an overdue open task into a table.
    pub(crate) async fn put_open_task(&self, table: &str, task: &str, provider_task_id: &str) {
        let shard = task.bytes().map(usize::from).sum::<usize>() % 8;
        let number = |value: usize| json!({ "N": value.to_string() });
        let request = json!({
            "TableName": table,
            "Item": {
                "task": { "S": task },
                "state": { "S": "pending" },
                "provider_task_id": { "S": provider_task_id },
                "due_at": number(1_700_000_000),
                "due_shard": number(shard),
                "deadline_at": number(4_000_000_000),
                "attempts": number(0),
            },
        });
        call(&self.client, self.stack.endpoint(), "dynamodb", "DynamoDB_20120810.PutItem", &request).await;
    }

    /// Stores a modified copy of the settings under another name.
    pub(crate) async fn put_settings(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let mut settings = demonstration::settings(&self.simulator);
        change(&mut settings);
        let (endpoint, value) = (self.stack.endpoint(), settings.to_string());
        let new = json!({ "Name": name, "SecretString": value });
        let created = try_call(&self.client, endpoint, "secretsmanager", "secretsmanager.CreateSecret", &new).await;
        if created.is_ok_and(|(status, _)| !status.is_success()) {
            let known = json!({ "SecretId": name, "SecretString": value });
            call(&self.client, endpoint, "secretsmanager", "secretsmanager.PutSecretValue", &known).await;
        }
    }

    /// The environment of a deployed function, for a process that a case starts.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let outputs = self.stack.outputs();
        [
            ("AWS_ENDPOINT_URL", self.stack.endpoint()),
            ("TABLE_NAME", &outputs.table_name),
            ("QUEUE_URL", &outputs.queue_url),
            ("BUCKET_NAME", &outputs.bucket_name),
            ("SETTINGS_SECRET", &outputs.settings_secret),
            ("ALLOWED_ORIGINS", &self.simulator.address().to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }
}

/// An environment with one variable replaced.
pub(crate) fn with(mut environment: Vec<(String, String)>, name: &str, value: &str) -> Vec<(String, String)> {
    environment.retain(|(known, _)| known != name);
    environment.push((name.to_owned(), value.to_owned()));
    environment
}

/// Subscribes a queue to the bucket's events through `EventBridge`, as a consumer would. Returns its URL.
async fn subscribe(client: &Client, stack: &Stack) -> String {
    let endpoint = stack.endpoint();
    let queue =
        call(client, endpoint, "sqs", "AmazonSQS.CreateQueue", &json!({ "QueueName": "published-results" })).await;
    let queue = queue["QueueUrl"].as_str().expect("a queue has a URL").to_owned();
    let pattern = json!({
        "source": ["aws.s3"],
        "detail-type": ["Object Created"],
        "detail": { "bucket": { "name": [stack.outputs().bucket_name] } },
    });
    let rule = json!({ "Name": "published-results", "EventPattern": pattern.to_string() });
    call(client, endpoint, "events", "AWSEvents.PutRule", &rule).await;
    let arn = format!("arn:aws:sqs:{}:000000000000:published-results", local::REGION);
    let targets = json!({ "Rule": "published-results", "Targets": [{ "Id": "queue", "Arn": arn }] });
    call(client, endpoint, "events", "AWSEvents.PutTargets", &targets).await;
    queue
}

async fn collect(client: Client, endpoint: String, queue: String, published: Arc<Mutex<Vec<String>>>) {
    loop {
        let request = json!({ "QueueUrl": queue, "MaxNumberOfMessages": 10, "WaitTimeSeconds": 1 });
        let response = call(&client, &endpoint, "sqs", "AmazonSQS.ReceiveMessage", &request).await;
        for message in response["Messages"].as_array().into_iter().flatten() {
            let event: Value = serde_json::from_str(message["Body"].as_str().unwrap_or("{}")).unwrap_or_default();
            if let Some(key) = event["detail"]["object"]["key"].as_str() {
                published.lock().unwrap_or_else(PoisonError::into_inner).push(key.to_owned());
            }
            let receipt = json!({ "QueueUrl": queue, "ReceiptHandle": message["ReceiptHandle"] });
            call(&client, &endpoint, "sqs", "AmazonSQS.DeleteMessage", &receipt).await;
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Calls an AWS service with a JSON protocol. Panics unless it succeeds.
pub(crate) async fn call(client: &Client, endpoint: &str, service: &str, target: &str, request: &Value) -> Value {
    match try_call(client, endpoint, service, target, request).await {
        Ok((status, text)) => {
            assert!(status.is_success(), "{target}: {status} {text}");
            serde_json::from_str(&text).unwrap_or_default()
        }
        // The emulator is shutting down.
        Err(_) => Value::Null,
    }
}

/// The same, whatever the response.
async fn try_call(
    client: &Client,
    endpoint: &str,
    service: &str,
    target: &str,
    request: &Value,
) -> reqwest::Result<(reqwest::StatusCode, String)> {
    let response = client
        .http()
        .post(endpoint)
        .header("x-amz-target", target)
        .header(
            "content-type",
            if matches!(service, "events" | "secretsmanager") {
                "application/x-amz-json-1.1"
            } else {
                "application/x-amz-json-1.0"
            },
        )
        .header("authorization", credential(service))
        .body(request.to_string())
        .send()
        .await?;
    Ok((response.status(), response.text().await.unwrap_or_default()))
}

/// An `Authorization` header that names the service. The emulator does not check its signature.
fn credential(service: &str) -> String {
    let (key, region) = (local::ACCESS_KEY_ID, local::REGION);
    format!(
        "AWS4-HMAC-SHA256 Credential={key}/20260101/{region}/{service}/aws4_request, SignedHeaders=host, Signature=0"
    )
}
