//! What a client sees.

use local_aws::LocalAws;
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};

/// A running AWS and a client of it.
struct Fixture {
    aws: LocalAws,
    http: Client,
}

impl Fixture {
    async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self { aws: LocalAws::start(0).await.expect("it starts"), http: Client::new() }
    }

    async fn call(&self, target: &str, request: Value) -> (u16, Value) {
        let request = self.http.post(self.aws.endpoint()).header("x-amz-target", target).body(request.to_string());
        let response = request.send().await.expect("it responds");
        let status = response.status().as_u16();
        (status, response.json().await.expect("it responds in JSON"))
    }

    async fn sqs(&self, operation: &str, request: Value) -> Value {
        let (status, response) = self.call(&format!("AmazonSQS.{operation}"), request).await;
        assert_eq!(status, 200, "{operation}: {response}");
        response
    }

    async fn s3(&self, method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Response {
        let mut request = self.http.request(method, format!("{}/films{path}", self.aws.endpoint())).body(body.into());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.expect("it responds")
    }

    async fn status(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> u16 {
        self.s3(method, path, headers, body).await.status().as_u16()
    }

    async fn text(&self, path: &str) -> String {
        self.s3(Method::GET, path, &[], "").await.text().await.expect("a text")
    }

    async fn control(&self, method: Method, path: &str, body: Value) -> String {
        let url = format!("{}/_local/{path}", self.aws.endpoint());
        let response = self.http.request(method, url).body(body.to_string()).send().await.expect("it responds");
        response.text().await.expect("a text")
    }
}

fn queue(name: &str) -> Value {
    json!(format!("http://127.0.0.1/000000000000/{name}"))
}

#[tokio::test]
async fn a_message_comes_back_until_it_is_deleted_or_dead() {
    let aws = Fixture::start().await;
    aws.sqs("CreateQueue", json!({ "QueueName": "dead" })).await;
    let redrive = json!({ "deadLetterTargetArn": "arn:aws:sqs:us-east-1:000000000000:dead", "maxReceiveCount": 2 });
    let attributes = json!({ "VisibilityTimeout": "900", "RedrivePolicy": redrive.to_string() });
    aws.sqs("CreateQueue", json!({ "QueueName": "work", "Attributes": attributes })).await;
    let entries = json!([{ "Id": "0", "MessageBody": "one" }, { "Id": "1", "MessageBody": "two" }]);
    let sent = aws.sqs("SendMessageBatch", json!({ "QueueUrl": queue("work"), "Entries": entries })).await;
    assert_eq!(sent["Successful"].as_array().map(Vec::len), Some(2));

    let receive = async |name: &str| {
        let request = json!({ "QueueUrl": queue(name), "MaxNumberOfMessages": 10 });
        let response = aws.sqs("ReceiveMessage", request).await;
        response["Messages"].as_array().cloned().unwrap_or_default()
    };
    let first = receive("work").await;
    assert_eq!(first.iter().map(|message| &message["Body"]).collect::<Vec<_>>(), ["one", "two"]);
    assert!(receive("work").await.is_empty(), "they are hidden");
    let count = aws.sqs("GetQueueAttributes", json!({ "QueueUrl": queue("work"), "AttributeNames": ["All"] })).await;
    assert_eq!(count["Attributes"]["ApproximateNumberOfMessagesNotVisible"], "2");
    let handle = |message: &Value| json!({ "QueueUrl": queue("work"), "ReceiptHandle": message["ReceiptHandle"] });
    aws.sqs("DeleteMessage", handle(&first[0])).await;

    let mut at_once = handle(&first[1]);
    at_once["VisibilityTimeout"] = json!(0);
    aws.sqs("ChangeMessageVisibility", at_once).await;
    let second = receive("work").await;
    assert_eq!(second[0]["Body"], "two");
    assert_eq!(second[0]["Attributes"]["ApproximateReceiveCount"], "2");
    aws.sqs("DeleteMessage", handle(&first[1])).await;
    assert_eq!(aws.control(Method::POST, "redeliver", Value::Null).await, "1", "the old handle deleted nothing");
    assert!(receive("work").await.is_empty(), "it was received twice");
    assert_eq!(receive("dead").await[0]["Body"], "two");
}

#[tokio::test]
async fn a_long_poll_ends_with_a_message() {
    let aws = Fixture::start().await;
    aws.sqs("CreateQueue", json!({ "QueueName": "work" })).await;
    let started = std::time::Instant::now();
    let receiving = aws.sqs("ReceiveMessage", json!({ "QueueUrl": queue("work"), "WaitTimeSeconds": 20 }));
    let sending = async {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        aws.sqs("SendMessage", json!({ "QueueUrl": queue("work"), "MessageBody": "at last" })).await;
    };
    let (received, ()) = tokio::join!(receiving, sending);
    assert_eq!(received["Messages"][0]["Body"], "at last");
    // Before the queue is looked at again in any case.
    assert!(started.elapsed() < std::time::Duration::from_millis(1800), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_final_write_keeps_its_condition_and_its_checksum() {
    let aws = Fixture::start().await;
    assert_eq!(aws.status(Method::PUT, "/a", &[], "x").await, 404, "there is no bucket yet");
    assert_eq!(aws.status(Method::PUT, "", &[], "").await, 200);
    let new = [("if-none-match", "*")];
    let written = aws.s3(Method::PUT, "/a", &new, "one").await;
    let etag = written.headers()["etag"].to_str().expect("a tag").to_owned();
    assert_eq!(aws.status(Method::PUT, "/a", &new, "two").await, 412);
    assert_eq!(aws.status(Method::PUT, "/a", &[("if-match", "\"other\"")], "two").await, 412);
    assert_eq!(aws.status(Method::PUT, "/b", &[("if-match", &etag)], "two").await, 404);
    assert_eq!(aws.status(Method::PUT, "/a", &[("if-match", &etag)], "three").await, 200);
    assert_eq!(aws.text("/a").await, "three");
    // CRC-64/NVME of "123456789": ae8b14860a799888, from the catalogue of parametrised CRC algorithms.
    let right = [("x-amz-checksum-crc64nvme", "rosUhgp5mIg=")];
    assert_eq!(aws.status(Method::PUT, "/c", &right, "123456789").await, 200);
    assert_eq!(aws.status(Method::PUT, "/c", &right, "123456780").await, 400);
    let part = aws.s3(Method::GET, "/c", &[("range", "bytes=2-4")], "").await;
    assert_eq!((part.status().as_u16(), part.text().await.expect("a text").as_str()), (206, "345"));
    assert_eq!(aws.status(Method::GET, "/c", &[("range", "bytes=9-")], "").await, 416);

    let statistics: Value =
        serde_json::from_str(&aws.control(Method::GET, "statistics", Value::Null).await).expect("JSON");
    assert_eq!(statistics["created"], json!({ "films/a": 2, "films/c": 1 }));
}

#[tokio::test]
async fn an_upload_is_put_together_as_listed() {
    let aws = Fixture::start().await;
    aws.status(Method::PUT, "", &[], "").await;
    let whole = [("x-amz-checksum-algorithm", "CRC64NVME"), ("x-amz-checksum-type", "FULL_OBJECT")];
    let created = aws.s3(Method::POST, "/film?uploads=", &whole, "").await.text().await.expect("a text");
    let id = created.split("<UploadId>").nth(1).and_then(|rest| rest.split('<').next()).expect("an id");
    assert!(aws.text("?uploads=").await.contains("<Key>film</Key>"));
    let (large, small) = ("a".repeat(5 << 20), "b".repeat(3));
    let mut tags = Vec::new();
    for (number, part) in [(1, &small), (2, &large), (3, &small)] {
        let sent = aws.s3(Method::PUT, &format!("/film?partNumber={number}&uploadId={id}"), &[], part.as_bytes()).await;
        tags.push(sent.headers()["etag"].to_str().expect("a tag").to_owned());
    }
    let list = |numbers: &[usize]| -> String {
        let part =
            |number: &usize| format!("<Part><PartNumber>{number}</PartNumber><ETag>{}</ETag></Part>", tags[number - 1]);
        numbers.iter().map(part).collect()
    };
    let path = format!("/film?uploadId={id}");
    for (parts, expected) in [
        (list(&[1, 2, 3]), "EntityTooSmall"),
        (list(&[2, 1]), "InvalidPartOrder"),
        (list(&[2, 3]).replace(&tags[1], "\"other\""), "InvalidPart"),
    ] {
        let refused = aws.s3(Method::POST, &path, &[], parts).await.text().await.expect("a text");
        assert!(refused.contains(expected), "{refused}");
    }
    assert_eq!(aws.status(Method::POST, &path, &[("x-amz-mp-object-size", "1")], &list(&[2, 3])).await, 400);
    let size = (large.len() + small.len()).to_string();
    assert_eq!(aws.status(Method::POST, &path, &[("x-amz-mp-object-size", &size)], &list(&[2, 3])).await, 200);
    assert!(aws.text("/film").await == large + &small);
    assert_eq!(aws.status(Method::POST, &path, &[], &list(&[2, 3])).await, 404, "the upload is gone");
    assert!(!aws.text("?uploads=").await.contains("<Key>"));
}

#[tokio::test]
async fn a_list_has_pages() {
    let aws = Fixture::start().await;
    aws.status(Method::PUT, "", &[], "").await;
    for key in ["/tasks/a%25b", "/tasks/c", "/tasks/d", "/z"] {
        aws.status(Method::PUT, key, &[], "x").await;
    }
    let first = aws.text("?list-type=2&prefix=tasks%2F&max-keys=2").await;
    assert!(first.contains("<Key>tasks/a%b</Key>") && first.contains("<Key>tasks/c</Key>"), "{first}");
    assert!(first.contains("<NextContinuationToken>tasks/c</NextContinuationToken>"), "{first}");
    let second = aws.text("?list-type=2&prefix=tasks%2F&max-keys=2&continuation-token=tasks%2Fc").await;
    assert!(second.contains("<KeyCount>1</KeyCount><IsTruncated>false</IsTruncated>"), "{second}");
}

#[tokio::test]
async fn a_call_that_fails_after_its_effect_has_had_it() {
    let aws = Fixture::start().await;
    aws.sqs("CreateQueue", json!({ "QueueName": "work" })).await;
    aws.control(Method::PUT, "faults", json!({ "share": 1.0, "seed": 3 })).await;
    let mut statuses = Vec::new();
    for _ in 0..20 {
        let message = json!({ "QueueUrl": queue("work"), "MessageBody": "x" });
        statuses.push(aws.call("AmazonSQS.SendMessage", message).await.0);
    }
    assert_eq!(statuses, [500; 20]);
    aws.control(Method::PUT, "faults", json!({ "share": 0.0 })).await;
    let statistics: Value =
        serde_json::from_str(&aws.control(Method::GET, "statistics", Value::Null).await).expect("JSON");
    let after = &statistics["calls"]["SendMessage"]["failed_after"];
    assert!((1..20).contains(&after.as_u64().expect("a number")), "{statistics}");
    let count = aws.sqs("GetQueueAttributes", json!({ "QueueUrl": queue("work"), "AttributeNames": ["All"] })).await;
    assert_eq!(count["Attributes"]["ApproximateNumberOfMessages"], after.to_string());
}

#[tokio::test]
async fn secrets_are_created_once_and_replaced() {
    let aws = Fixture::start().await;
    let call = async |operation: &str, request| aws.call(&format!("secretsmanager.{operation}"), request).await;
    assert_eq!(call("GetSecretValue", json!({ "SecretId": "settings" })).await.0, 400);
    let new = json!({ "Name": "settings", "SecretString": "one" });
    assert_eq!(call("CreateSecret", new.clone()).await.0, 200);
    assert_eq!(call("CreateSecret", new).await.1["__type"], "ResourceExistsException");
    assert_eq!(call("PutSecretValue", json!({ "SecretId": "settings", "SecretString": "two" })).await.0, 200);
    assert_eq!(call("GetSecretValue", json!({ "SecretId": "settings" })).await.1["SecretString"], "two");
}
