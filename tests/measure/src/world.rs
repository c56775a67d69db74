//! The AWS that the programs call, and the events that they get.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use load::front::event;
use load::remote::{BUCKET, Remote, SECRET, TABLE};
use local::runtime_api::{Function, InvocationResult};
use local_aws::LocalAws;
use local_aws::control::Statistics;
use reelhook_core::redacted::Secret;
use reelhook_core::token::CallbackKeys;
use reelhook_core::{Provider, TaskId};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::sync::Mutex;

use crate::tls::TlsFront;
use crate::{Error, TIMEOUT};

/// What a provider sends: the body of a documented success.
const CALLBACK: &str = include_str!("../../../events/providers/kling/callback-succeeded.json");

/// The key of callback URLs in this world.
const KEY: &str = "no-secret:for-measurements-only";

/// What the provider signs with.
const SIGNING_KEY: &[u8; 32] = b"no secret, for measurements only";

/// Services with an address of their own, as their variables name them.
pub(crate) const SERVICES: [&str; 4] = ["DYNAMODB", "SQS", "SECRETS_MANAGER", "S3"];

/// The tables of the programs in other languages: the callbacks, and what Powertools keeps.
const CALLBACKS_TABLE: &str = "callbacks";
const IDEMPOTENCY_TABLE: &str = "idempotency";

/// An AWS in memory behind TLS.
pub(crate) struct World {
    pub(crate) remote: Remote,
    /// The environment of every program.
    pub(crate) environment: Vec<(String, String)>,
    /// For what is written and thrown away.
    pub(crate) directory: PathBuf,
    tasks: Mutex<Function>,
    keys: CallbackKeys,
    body: String,
    count: AtomicU64,
    front: TlsFront,
    _aws: LocalAws,
}

impl World {
    /// Starts one, with everything that the template would create. The function `tasks` registers the tasks in it.
    pub(crate) async fn start(tasks: &Path) -> Result<Self, Error> {
        let directory = std::env::temp_dir().join(format!("reelhook-measure-{}", std::process::id()));
        std::fs::create_dir_all(&directory)?;
        let aws = LocalAws::start(0).await?;
        let remote = Remote::new(&aws.endpoint())?;
        let settings = json!({
            "version": 1,
            "callback": { "keys": [KEY], "base_url": "https://callbacks.reelhook.dev" },
            "providers": { "kling": { "api_key": "key", "signing_secrets": [format!("whsec_{}", BASE64.encode(SIGNING_KEY))] } },
        });
        remote.create_everything(&settings).await?;
        for (name, key) in [(CALLBACKS_TABLE, "task"), (IDEMPOTENCY_TABLE, "id")] {
            let table = json!({
                "TableName": name,
                "BillingMode": "PAY_PER_REQUEST",
                "AttributeDefinitions": [{ "AttributeName": key, "AttributeType": "S" }],
                "KeySchema": [{ "AttributeName": key, "KeyType": "HASH" }],
            });
            remote.call("DynamoDB_20120810.CreateTable", &table).await?;
        }
        let target = aws.endpoint().trim_start_matches("http://").parse()?;
        let front = TlsFront::start(target, &directory).await?;
        let roots = front.roots.display().to_string();
        let mut environment: Vec<(String, String)> = [
            ("TABLE_NAME", TABLE),
            ("CALLBACKS_TABLE", CALLBACKS_TABLE),
            ("IDEMPOTENCY_TABLE", IDEMPOTENCY_TABLE),
            ("QUEUE_URL", &format!("{}/000000000000/work", front.endpoints[1])),
            ("BUCKET_NAME", BUCKET),
            ("SETTINGS_SECRET", SECRET),
            ("CALLBACK_BASE_URL", "https://callbacks.reelhook.dev"),
            ("SSL_CERT_FILE", &roots),
            ("AWS_CA_BUNDLE", &roots),
            ("NODE_EXTRA_CA_CERTS", &roots),
            ("AWS_DEFAULT_REGION", local::REGION),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        environment.extend(front.endpoint_variables());
        let case: Value = serde_json::from_str(CALLBACK)?;
        let keys = CallbackKeys::new(vec![Secret::new(KEY)])?;
        let (body, count) = (case["raw"].as_str().ok_or("the case has no body")?.to_owned(), AtomicU64::default());
        let tasks = Mutex::new(Function::start(tasks, &environment).await?);
        Ok(Self { remote, environment, directory, tasks, keys, body, count, front, _aws: aws })
    }

    /// The first callback of a task that the application has registered.
    pub(crate) async fn new_callback(&self) -> Result<Value, Error> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let id: TaskId = format!("task-{number}").parse()?;
        let query = format!("provider_task_id={}", provider_task_id(number));
        let registration = event("PUT", &format!("/tasks/kling/{}", id.as_str()), &query, &json!({}), b"");
        let registered = self.tasks.lock().await.invoke(registration, TIMEOUT).await;
        if !matches!(&registered, InvocationResult::Response(response) if response["statusCode"] == 201) {
            return Err(format!("a task was not registered: {registered:?}").into());
        }
        Ok(self.callback(&self.keys.path(Provider::Kling, Some(&id)), number))
    }

    /// The same with a token that is not valid.
    pub(crate) fn forged_callback(&self) -> Value {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        self.callback(&format!("/callback/kling/task-{number}/AAAAAAAAAAAAAAAAAAAAAA"), number)
    }

    fn callback(&self, path: &str, number: u64) -> Value {
        let body = self.body.replace("800000000000000001", &provider_task_id(number));
        let (id, timestamp) = (format!("msg-{number}"), since_epoch().as_secs());
        let mut mac = Hmac::<Sha256>::new_from_slice(SIGNING_KEY).expect("HMAC takes keys of any length");
        mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
        let headers = json!({
            "content-type": "application/json",
            "user-agent": "Go-http-client/2.0",
            "webhook-id": id,
            "webhook-timestamp": timestamp.to_string(),
            "webhook-signature": format!("v1,{}", BASE64.encode(mac.finalize().into_bytes())),
        });
        event("POST", path, "", &headers, body.as_bytes())
    }

    /// What an application sends to `tasks`.
    pub(crate) fn status_request() -> Value {
        event("GET", "/tasks/kling/task-0", "", &json!({}), b"")
    }

    /// Handshakes until now.
    pub(crate) fn handshakes(&self) -> u64 {
        self.front.handshakes()
    }

    /// Calls until now.
    pub(crate) async fn calls(&self) -> Result<u64, Error> {
        let statistics = self.remote.control(Method::GET, "statistics", String::new()).await?;
        let statistics: Statistics = serde_json::from_slice(&statistics)?;
        Ok(statistics.calls.values().map(|calls| calls.made).sum())
    }
}

fn provider_task_id(number: u64) -> String {
    (800_000_000_000_000_000 + number).to_string()
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl Drop for World {
    fn drop(&mut self) {
        // What stays is a few files in the directory for temporary ones.
        std::fs::remove_dir_all(&self.directory).ok();
    }
}
