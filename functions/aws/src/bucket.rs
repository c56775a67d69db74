//! The bucket, as far as it holds `result.json`. Files of results are written by the copier.

use std::time::Duration;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use reelhook_core::TaskKey;
use reelhook_core::report::Outcome;
use reelhook_core::result::{PublishedResult, ResultDocument};
use tokio::time::timeout;

use crate::clients::{RetryPolicy, described};

/// How often a race for one `result.json` is run again. Each round somebody else wrote, and only a success replaces, so two
/// rounds decide it; the third is for S3's own 409 about two writers at the same moment.
const ROUNDS: usize = 3;

/// The bucket.
#[derive(Clone, Debug)]
pub struct Bucket {
    client: aws_sdk_s3::Client,
    name: String,
    /// For the body of a document, which the SDK's limits leave out.
    read_timeout: Duration,
}

/// What became of publishing a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published {
    /// It was written; consumers hear of it.
    Written,
    /// One with the same outcome, or a success, stands there already; consumers have heard of it.
    Before(PublishedResult),
}

/// Why `result.json` was not written.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// The bucket did not respond, or refused.
    #[error("{action} {key} failed: {reason}")]
    Call {
        /// What was tried.
        action: &'static str,
        /// The object.
        key: String,
        /// What the SDK says.
        reason: String,
    },
    /// Something else stands in its place.
    #[error(
        "{key} is in the bucket and is no result of reelhook; remove it, and the task is settled at the next attempt"
    )]
    Foreign {
        /// The object.
        key: String,
    },
}

impl Bucket {
    /// A bucket by name. The client for the files of results has no time limits, because their length decides; a document is
    /// small, so each call here has those of `policy`. Without them a connection that went silent would hold the task until
    /// the invocation ends.
    pub fn new(client: &aws_sdk_s3::Client, name: String, policy: RetryPolicy) -> Self {
        let config = client.config().to_builder().timeout_config(policy.timeouts()).retry_config(policy.retries());
        Self { client: aws_sdk_s3::Client::from_conf(config.build()), name, read_timeout: policy.attempt }
    }

    /// Writes `result.json`, once per outcome: never over one with the same outcome, and over a failure only a success or its loss.
    /// Of two workers at the same moment one writes, and the other finds it there.
    pub async fn publish(
        &self,
        task: &TaskKey,
        outcome: Outcome,
        document: &ResultDocument,
    ) -> Result<Published, BucketError> {
        let key = format!("{}result.json", task.prefix());
        let body = document.to_json();
        let mut replaced: Option<String> = None;
        for _ in 0..ROUNDS {
            let put = self
                .client
                .put_object()
                .bucket(&self.name)
                .key(&key)
                .content_type("application/json")
                .set_tagging(document.tagging())
                .body(ByteStream::from(body.clone().into_bytes()));
            let put = match &replaced {
                None => put.if_none_match("*"),
                Some(etag) => put.if_match(etag),
            };
            match put.send().await {
                Ok(_) => return Ok(Published::Written),
                // 412: there is one, or it changed under us. 409: S3 saw two writers at the same moment.
                Err(SdkError::ServiceError(error)) if matches!(error.raw().status().as_u16(), 409 | 412) => {}
                Err(error) => return Err(failed("writing", &key, &error)),
            }
            let Some((existing, etag)) = self.existing(&key).await? else {
                replaced = None;
                continue;
            };
            if !outcome.supersedes(existing.outcome) {
                return Ok(Published::Before(existing));
            }
            replaced = Some(etag);
        }
        let reason = format!("{ROUNDS} times in a row somebody else wrote it at the same moment");
        Err(BucketError::Call { action: "writing", key, reason })
    }

    /// The document that stands there, and its `ETag`.
    async fn existing(&self, key: &str) -> Result<Option<(PublishedResult, String)>, BucketError> {
        let object = match self.client.get_object().bucket(&self.name).key(key).send().await {
            Ok(object) => object,
            Err(SdkError::ServiceError(error)) if error.raw().status().as_u16() == 404 => return Ok(None),
            Err(error) => return Err(failed("reading", key, &error)),
        };
        let etag = object.e_tag().unwrap_or_default().to_owned();
        let unread = |reason| BucketError::Call { action: "reading", key: key.to_owned(), reason };
        let body = timeout(self.read_timeout, object.body.collect())
            .await
            .map_err(|_| unread("out of time".to_owned()))?
            .map_err(|error| unread(error.to_string()))?;
        match PublishedResult::read(&body.into_bytes()) {
            Some(published) => Ok(Some((published, etag))),
            None => Err(BucketError::Foreign { key: key.to_owned() }),
        }
    }
}

fn failed<E: ProvideErrorMetadata, R>(action: &'static str, key: &str, error: &SdkError<E, R>) -> BucketError {
    BucketError::Call { action, key: key.to_owned(), reason: described(error) }
}
