//! One task in a world of its own: an AWS, a provider, processes of the functions, and time that can be moved.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use load::front::event;
use load::remote::{BUCKET, Remote, SECRET, TABLE};
use local::functions::Functions;
use local::runtime_api::{Function, InvocationResult};
use local::{demonstration, samples};
use local_aws::LocalAws;
use local_aws::control::Statistics;
use reqwest::Method;
use serde_json::{Map, Value, json};
use simulator::{Callback, Config, Provider, Simulator};
use tokio::net::TcpListener;

use crate::proxy::{Injector, Proxy};

/// Why a world did not start or a call to it failed.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// How long the simulated provider may take.
const PROVIDER_TIME: Duration = Duration::from_secs(30);

/// Times in a record are seconds since 1970. No other number there is this large.
const A_TIME: i64 = 1_500_000_000;

/// Rounds of queue and schedule until a task has to be final. An open task is polled some tens of times before its deadline.
const MAX_ROUNDS: u32 = 200;

/// The world.
pub struct World {
    /// What breaks calls.
    pub injector: Arc<Injector>,
    /// The task.
    pub task: String,
    /// The AWS, past the proxy.
    pub remote: Remote,
    /// The provider, past the proxy.
    pub simulator: Simulator,
    /// The environment of every process that is started from now on.
    pub environment: Vec<(String, String)>,
    /// How many seconds their clock is ahead.
    pub clock: i64,
    passed: AtomicI64,
    provider: Provider,
    script: String,
    functions: Arc<Functions>,
    _proxies: [Proxy; 2],
    _aws: LocalAws,
}

impl World {
    /// Starts a world without any task. The script says what the simulated provider will do with it.
    pub async fn start(
        provider: Provider,
        script: &str,
        functions: Arc<Functions>,
        http: &reqwest::Client,
    ) -> Result<Self, Error> {
        let injector = Arc::<Injector>::default();
        let aws = LocalAws::start(0).await?;
        let remote = Remote::new(&aws.endpoint())?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let links = format!("http://{}", listener.local_addr()?);
        let origin = Some(links.clone());
        let config = Config { file_origin: origin.clone(), api_origin: origin, ..Config::default() };
        let simulator = Simulator::start(config)?;
        let to_provider = Proxy::start(listener, simulator.origin(), Arc::clone(&injector), http.clone())?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let to_aws = Proxy::start(listener, &aws.endpoint(), Arc::clone(&injector), http.clone())?;

        let settings = demonstration::settings(&simulator).to_string().replace(simulator.origin(), &links);
        let mut settings: Value = serde_json::from_str(&settings)?;
        settings["callback"]["base_url"] = json!("http://127.0.0.1:9");
        remote.create_everything(&settings).await?;
        let environment = [
            ("AWS_ENDPOINT_URL", to_aws.origin.as_str()),
            ("TABLE_NAME", TABLE),
            ("QUEUE_URL", &format!("{}/000000000000/work", to_aws.origin)),
            ("BUCKET_NAME", BUCKET),
            ("SETTINGS_SECRET", SECRET),
            ("CALLBACK_BASE_URL", "http://127.0.0.1:9"),
            ("ALLOWED_ORIGINS", links.trim_start_matches("http://")),
            ("LOG_LEVEL", "error"),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Ok(Self {
            injector,
            task: format!("{provider}/job-1"),
            remote,
            simulator,
            environment,
            clock: 0,
            passed: AtomicI64::new(0),
            provider,
            script: script.to_owned(),
            functions,
            _proxies: [to_provider, to_aws],
            _aws: aws,
        })
    }

    /// A new process of a function.
    pub async fn function(&self, name: &str) -> Result<Function, Error> {
        let binary = self.functions.executable(name).ok_or("the functions are built")?;
        Ok(Function::start(binary, &self.environment).await?)
    }

    /// How long Lambda lets a function run.
    pub fn time_limit(name: &str) -> Duration {
        Duration::from_secs(match name {
            "callback" => 10,
            "tasks" => 30,
            _ => 60,
        })
    }

    /// Invokes a new process of a function.
    pub async fn invoke(&self, name: &str, event: Value) -> Result<InvocationResult, Error> {
        let mut function = self.function(name).await?;
        Ok(function.invoke(event, Self::time_limit(name)).await)
    }

    /// The event of the submission.
    pub fn submission(&self) -> Value {
        let sample = samples::of(self.provider);
        let query = sample.endpoint.map(|endpoint| format!("endpoint={endpoint}")).unwrap_or_default();
        let body = sample.body(&format!("a paper boat [simulate {}]", self.script)).to_string();
        let headers = json!({ "content-type": "application/json" });
        event("PUT", &format!("/tasks/{}", self.task), &query, &headers, body.as_bytes())
    }

    /// Waits until the provider has finished the task, by a failure or not. Returns the event of its callback.
    pub async fn finished(&self, by_failure: bool) -> Result<Value, Error> {
        let id = self.provider_task_id().ok_or("the provider has no task")?;
        let ended = |task: &simulator::TaskView| {
            let is_success = task.phase == simulator::Phase::Final(simulator::Outcome::Succeed);
            task.phase.is_final() && is_success != by_failure
        };
        self.simulator.wait_for(&id, PROVIDER_TIME, ended).await.ok_or("the provider did not finish")?;
        let Callback { url, headers, body } = self.simulator.callback(&id).ok_or("there is no callback")?;
        let path = url.trim_start_matches("http://127.0.0.1:9");
        let headers: Map<String, Value> =
            headers.into_iter().map(|(name, value)| (name.to_lowercase(), json!(value))).collect();
        Ok(event("POST", path, "", &Value::Object(headers), &body))
    }

    /// The provider's id of the task; none while it has none.
    pub fn provider_task_id(&self) -> Option<String> {
        self.simulator.tasks().first().map(|task| task.id.clone())
    }

    /// The event of the message in the queue, which is received and not deleted.
    pub async fn message(&self) -> Result<Value, Error> {
        let message = self.remote.receive("work").await?.ok_or("nothing is queued")?;
        Ok(json!({ "Records": [message.record] }))
    }

    /// The application submits again, as it does after a failure, and where there is a task its callback comes.
    pub async fn submit_again(&self) -> Result<(), Error> {
        self.invoke("tasks", self.submission()).await?;
        if self.provider_task_id().is_some() {
            let callback = self.finished(false).await?;
            self.invoke("callback", callback).await?;
        }
        Ok(())
    }

    /// Runs the queue and the schedule until the task is final and nothing is queued.
    pub async fn recover(&self) -> Result<(), Error> {
        for _ in 0..MAX_ROUNDS {
            while self.remote.messages("work").await?.0 > 0 {
                let Some(message) = self.remote.receive("work").await? else { break };
                let invoked = self.invoke("process", json!({ "Records": [message.record] })).await?;
                if matches!(&invoked, InvocationResult::Response(response) if response["batchItemFailures"] == json!([]))
                {
                    self.remote.delete("work", &message.receipt).await?;
                }
            }
            if self.is_final().await? {
                return Ok(());
            }
            self.let_time_pass().await?;
            self.invoke("poll", json!({})).await?;
        }
        Ok(())
    }

    /// The record; none if there is none.
    pub async fn item(&self) -> Result<Option<Value>, Error> {
        let items = self.remote.items().await?;
        Ok(items.into_iter().find(|item| item["task"]["S"] == self.task.as_str()))
    }

    async fn is_final(&self) -> Result<bool, Error> {
        let item = self.item().await?;
        // Without a record there is nothing to wait for.
        Ok(item.is_none_or(|item| matches!(item["state"]["S"].as_str(), Some("archived" | "failed" | "lost"))))
    }

    /// Lets as much time pass as until the task is due and every lease is over, and at least as much as between two runs of `poll`:
    /// a task may stay due from one to the next.
    pub async fn let_time_pass(&self) -> Result<(), Error> {
        let Some(item) = self.item().await? else { return Ok(()) };
        let now = self.clock + i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
        let number = |item: &Value, name: &str| item[name]["N"].as_str().and_then(|number| number.parse::<i64>().ok());
        let wait = number(&item, "due_at").max(number(&item, "claimed_until")).map_or(0, |until| until - now + 1);
        self.let_seconds_pass(wait.max(60)).await
    }

    /// How many seconds have been let pass.
    pub fn passed(&self) -> i64 {
        self.passed.load(Ordering::Relaxed)
    }

    /// Lets this much time pass, by moving every time in the record back.
    pub async fn let_seconds_pass(&self, seconds: i64) -> Result<(), Error> {
        let Some(mut item) = self.item().await? else { return Ok(()) };
        for (name, value) in item.as_object_mut().into_iter().flatten() {
            move_back(name, value, seconds);
        }
        self.passed.fetch_add(seconds, Ordering::Relaxed);
        self.put_item(&item).await
    }

    /// Replaces the record.
    pub async fn put_item(&self, item: &Value) -> Result<(), Error> {
        self.remote.call("DynamoDB_20120810.PutItem", &json!({ "TableName": TABLE, "Item": item })).await?;
        Ok(())
    }

    /// Everything that is not as it has to be, of a task that was announced this many times.
    pub async fn problems(&self, announcements: u64) -> Result<Vec<String>, Error> {
        let mut problems = Vec::new();
        let mut expect = |holds: bool, what: String| {
            if !holds {
                problems.push(what);
            }
        };
        let submissions = self.simulator.submissions().len();
        expect(submissions <= 1, format!("{submissions} submissions"));
        expect(self.remote.due().await?.is_empty(), "an entry is due".to_owned());
        let uploads = self.remote.unfinished_uploads().await?;
        expect(uploads.is_empty(), format!("unfinished uploads: {uploads:?}"));
        let keys = self.remote.keys().await?;
        let Some(item) = self.item().await? else {
            expect(submissions == 0 && keys.is_empty(), "the task has no record".to_owned());
            return Ok(problems);
        };
        let state = item["state"]["S"].as_str().unwrap_or_default();
        let expected = if submissions == 0 { "lost" } else { "archived" };
        expect(state == expected, format!("the state is {state}, not {expected}"));
        let statistics = self.remote.control(Method::GET, "statistics", String::new()).await?;
        let created = serde_json::from_slice::<Statistics>(&statistics)?.created;
        let result_key = format!("tasks/{}/result.json", self.task);
        let published = created.get(&format!("{BUCKET}/{result_key}")).copied().unwrap_or_default();
        expect(published == announcements, format!("result.json was announced {published} times"));
        let result: Value =
            serde_json::from_slice(&self.remote.object(&result_key).await?.unwrap_or_default()).unwrap_or_default();
        let mut known: Vec<String> = vec![result_key];
        for artifact in result["artifacts"].as_array().into_iter().flatten() {
            known.extend(artifact["key"].as_str().map(str::to_owned));
        }
        known.sort();
        expect(keys == known, format!("the bucket has {keys:?}, not {known:?}"));
        if let Some(id) = self.provider_task_id() {
            let video = self.remote.object(&format!("tasks/{}/video.mp4", self.task)).await?;
            expect(
                video.is_some_and(|video| video == self.simulator.file(&id)),
                "the video has other bytes".to_owned(),
            );
        }
        Ok(problems)
    }
}

/// Moves every time in an attribute back. `raw` is what a provider said, and stays.
fn move_back(name: &str, attribute: &mut Value, seconds: i64) {
    let moved = |time: i64| if time > A_TIME { time - seconds } else { time };
    if let Some(number) = attribute["N"].as_str().and_then(|number| number.parse().ok()) {
        attribute["N"] = json!(moved(number).to_string());
    }
    let document = attribute["S"].as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
    if let Some(mut document) = document.filter(|document| document.is_object() && name != "raw") {
        move_all(&mut document, &moved);
        attribute["S"] = json!(document.to_string());
    }
}

fn move_all(value: &mut Value, moved: &impl Fn(i64) -> i64) {
    match value {
        Value::Number(number) => {
            if let Some(time) = number.as_i64() {
                *value = json!(moved(time));
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| move_all(value, moved)),
        Value::Object(fields) => fields.values_mut().for_each(|value| move_all(value, moved)),
        _ => {}
    }
}
