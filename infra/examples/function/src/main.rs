//! A Lambda function that is called with every result: it reads `result.json` and logs what there is. Put your own code there.
//!
//! An event may come twice, so what it does has to be the same the second time.

use lambda_runtime::{Error, LambdaEvent, service_fn};
use reelhook_aws::clients::{Clients, RetryPolicy};
use serde::Deserialize;
use serde_json::Value;

/// What `EventBridge` says of an object that was written.
#[derive(Deserialize)]
struct Created {
    detail: Detail,
}

#[derive(Deserialize)]
struct Detail {
    bucket: Bucket,
    object: Object,
}

#[derive(Deserialize)]
struct Bucket {
    name: String,
}

#[derive(Deserialize)]
struct Object {
    key: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    tracing_subscriber::fmt().json().flatten_event(true).without_time().init();
    // In a repository of your own: `aws_config::load_from_env` and `aws_sdk_s3::Client::new`.
    let s3 = Clients::from_environment(RetryPolicy::BACKGROUND).s3();
    lambda_runtime::run(service_fn(|event: LambdaEvent<Created>| on_result(&s3, event.payload.detail))).await
}

async fn on_result(s3: &aws_sdk_s3::Client, Detail { bucket, object }: Detail) -> Result<(), Error> {
    let response = s3.get_object().bucket(bucket.name).key(&object.key).send().await?;
    let result: Value = serde_json::from_slice(&response.body.collect().await?.into_bytes())?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if result["outcome"] == "succeeded" {
        for artifact in result["artifacts"].as_array().into_iter().flatten() {
            let (kind, key) = (text(&artifact["kind"]), text(&artifact["key"]));
            tracing::info!(task = text(&result["task"]), kind, key, "a file is in the bucket");
        }
    } else {
        let (reason, detail) = (text(&result["failure"]["reason"]), text(&result["failure"]["message"]));
        tracing::warn!(task = text(&result["task"]), reason, detail, "there is no result");
    }
    Ok(())
}
