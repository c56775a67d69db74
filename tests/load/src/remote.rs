//! AWS over plain HTTP, independent of the SDK and of the functions.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::Error;

/// Attempts at a call: with one call in a hundred failing, ten in a row never happen.
const ATTEMPTS: u32 = 10;

/// The names of everything in one AWS.
pub const TABLE: &str = "tasks";
/// The bucket.
pub const BUCKET: &str = "results";
/// The settings.
pub const SECRET: &str = "settings";

/// An AWS at an endpoint.
#[derive(Clone, Debug)]
pub struct Remote {
    http: reqwest::Client,
    endpoint: String,
}

/// A message that was received.
#[derive(Clone, Debug)]
pub struct Message {
    /// What deletes it.
    pub receipt: String,
    /// What `Lambda` hands to a function.
    pub record: Value,
}

impl Remote {
    /// An AWS at `http://HOST:PORT`.
    pub fn new(endpoint: &str) -> Result<Self, Error> {
        // Nothing here uses TLS, but the client does not start without. Another thread may have been first, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(70)).build()?;
        Ok(Self { http, endpoint: endpoint.to_owned() })
    }

    /// Where it is.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The URL of a queue.
    pub fn queue_url(&self, queue: &str) -> String {
        format!("{}/000000000000/{queue}", self.endpoint)
    }

    /// Calls a service with a JSON protocol. Repeats what failed with a 5xx.
    pub async fn call(&self, target: &str, request: &Value) -> Result<Value, Error> {
        let (service, kind) = match target.split('.').next() {
            Some("AmazonSQS") => ("sqs", "application/x-amz-json-1.0"),
            Some("secretsmanager") => ("secretsmanager", "application/x-amz-json-1.1"),
            _ => ("dynamodb", "application/x-amz-json-1.0"),
        };
        let build = || {
            let request = self.http.post(&self.endpoint).body(request.to_string());
            request
                .header("x-amz-target", target)
                .header("content-type", kind)
                .header("authorization", credential(service))
        };
        let body = self.repeated(target, build).await?.1;
        Ok(serde_json::from_slice(&body).unwrap_or_default())
    }

    /// A request to S3. `None` for a 404.
    pub async fn s3(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Option<Vec<u8>>, Error> {
        let url = format!("{}/{BUCKET}{path}", self.endpoint);
        let build = || {
            let request = self.http.request(method.clone(), &url).body(body.clone());
            request.header("authorization", credential("s3")).header("x-amz-content-sha256", "UNSIGNED-PAYLOAD")
        };
        let (status, body) = self.repeated(path, build).await?;
        Ok((status != StatusCode::NOT_FOUND).then_some(body))
    }

    /// A request to what only `local-aws` has.
    pub async fn control(&self, method: Method, path: &str, body: String) -> Result<Vec<u8>, Error> {
        let url = format!("{}/_local/{path}", self.endpoint);
        Ok(self.repeated(path, || self.http.request(method.clone(), &url).body(body.clone())).await?.1)
    }

    async fn repeated(
        &self,
        call: &str,
        build: impl Fn() -> reqwest::RequestBuilder,
    ) -> Result<(StatusCode, Vec<u8>), Error> {
        let mut attempt = 1;
        loop {
            let response = build().send().await?;
            let status = response.status();
            let body = response.bytes().await?.to_vec();
            if status.is_success() || status == StatusCode::NOT_FOUND {
                return Ok((status, body));
            }
            if !status.is_server_error() || attempt == ATTEMPTS {
                let (call, body) = (call.to_owned(), String::from_utf8_lossy(&body).into_owned());
                return Err(Error::Refused { call, status: status.as_u16(), body });
            }
            attempt += 1;
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Creates table, queues, bucket and settings as the template does. The queues are `work` and `dead`.
    pub async fn create_everything(&self, settings: &Value) -> Result<(), Error> {
        let table = local_aws::dynamodb::create_table_request(TABLE);
        self.call("DynamoDB_20120810.CreateTable", &table).await?;
        self.call("AmazonSQS.CreateQueue", &json!({ "QueueName": "dead" })).await?;
        let redrive = json!({
            "deadLetterTargetArn": format!("arn:aws:sqs:{}:000000000000:dead", local::REGION),
            "maxReceiveCount": 10,
        });
        let attributes = json!({ "VisibilityTimeout": "900", "RedrivePolicy": redrive.to_string() });
        self.call("AmazonSQS.CreateQueue", &json!({ "QueueName": "work", "Attributes": attributes })).await?;
        self.s3(Method::PUT, "", Vec::new()).await?;
        let secret = json!({ "Name": SECRET, "SecretString": settings.to_string() });
        self.call("secretsmanager.CreateSecret", &secret).await?;
        Ok(())
    }

    /// Receives one message, or none within a second.
    pub async fn receive(&self, queue: &str) -> Result<Option<Message>, Error> {
        let request = json!({ "QueueUrl": self.queue_url(queue), "MaxNumberOfMessages": 1, "WaitTimeSeconds": 1 });
        let response = self.call("AmazonSQS.ReceiveMessage", &request).await?;
        let message = &response["Messages"][0];
        let Some(receipt) = message["ReceiptHandle"].as_str() else { return Ok(None) };
        let record = json!({
            "messageId": message["MessageId"],
            "receiptHandle": receipt,
            "body": message["Body"],
            "attributes": {},
            "messageAttributes": {},
            "eventSource": "aws:sqs",
        });
        Ok(Some(Message { receipt: receipt.to_owned(), record }))
    }

    /// Deletes a message.
    pub async fn delete(&self, queue: &str, receipt: &str) -> Result<(), Error> {
        let request = json!({ "QueueUrl": self.queue_url(queue), "ReceiptHandle": receipt });
        self.call("AmazonSQS.DeleteMessage", &request).await.map(drop)
    }

    /// The messages of a queue that can be received, and those that are hidden.
    pub async fn messages(&self, queue: &str) -> Result<(u64, u64), Error> {
        let request = json!({ "QueueUrl": self.queue_url(queue), "AttributeNames": ["All"] });
        let response = self.call("AmazonSQS.GetQueueAttributes", &request).await?;
        let count =
            |name: &str| response["Attributes"][name].as_str().and_then(|count| count.parse().ok()).unwrap_or(0);
        Ok((count("ApproximateNumberOfMessages"), count("ApproximateNumberOfMessagesNotVisible")))
    }

    /// The keys in the index of due tasks, whenever they are due.
    pub async fn due(&self) -> Result<Vec<String>, Error> {
        let mut due = Vec::new();
        for shard in 0..reelhook_core::record::DUE_SHARDS {
            let request = json!({
                "TableName": TABLE,
                "IndexName": "due",
                "KeyConditionExpression": "due_shard = :shard",
                "ExpressionAttributeValues": { ":shard": { "N": shard.to_string() } },
            });
            due.extend(self.pages("Query", request).await?.iter().filter_map(key_of));
        }
        Ok(due)
    }

    /// Every item of the table.
    pub async fn items(&self) -> Result<Vec<Value>, Error> {
        self.pages("Scan", json!({ "TableName": TABLE, "ConsistentRead": true })).await
    }

    async fn pages(&self, operation: &str, mut request: Value) -> Result<Vec<Value>, Error> {
        let mut items = Vec::new();
        loop {
            let mut response = self.call(&format!("DynamoDB_20120810.{operation}"), &request).await?;
            if let Value::Array(page) = response["Items"].take() {
                items.extend(page);
            }
            match response["LastEvaluatedKey"].take() {
                Value::Null => return Ok(items),
                last => request["ExclusiveStartKey"] = last,
            }
        }
    }

    /// The keys of all objects.
    pub async fn keys(&self) -> Result<Vec<String>, Error> {
        let mut keys = Vec::new();
        let mut token = String::new();
        loop {
            let path = format!("?list-type=2{token}");
            let page = self.s3(Method::GET, &path, Vec::new()).await?.unwrap_or_default();
            let page = String::from_utf8_lossy(&page);
            keys.extend(all_inside(&page, "Key"));
            match all_inside(&page, "NextContinuationToken").pop() {
                None => return Ok(keys),
                Some(next) => token = format!("&continuation-token={}", next.replace('%', "%25").replace('/', "%2F")),
            }
        }
    }

    /// The keys of all unfinished multipart uploads.
    pub async fn unfinished_uploads(&self) -> Result<Vec<String>, Error> {
        let response = self.s3(Method::GET, "?uploads=", Vec::new()).await?.unwrap_or_default();
        Ok(all_inside(&String::from_utf8_lossy(&response), "Key"))
    }

    /// An object; none if there is no such.
    pub async fn object(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.s3(Method::GET, &format!("/{}", key.replace('%', "%25")), Vec::new()).await
    }
}

/// The key of an item.
pub fn key_of(item: &Value) -> Option<String> {
    item["task"]["S"].as_str().map(str::to_owned)
}

fn all_inside(xml: &str, tag: &str) -> Vec<String> {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    let inside = xml.split(&open).skip(1).filter_map(|rest| Some(rest.split_once(&close)?.0));
    inside.map(|text| text.replace("&amp;", "&")).collect()
}

/// An `Authorization` header that names the service. Neither emulator checks its signature.
fn credential(service: &str) -> String {
    let (key, region) = (local::ACCESS_KEY_ID, local::REGION);
    format!(
        "AWS4-HMAC-SHA256 Credential={key}/20260101/{region}/{service}/aws4_request, SignedHeaders=host, Signature=0"
    )
}
