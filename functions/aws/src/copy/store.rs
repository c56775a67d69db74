//! The bucket, as far as files of results are written to it. Every final write carries `If-None-Match: *`, or the `ETag` of the
//! object that it replaces in `If-Match`, so that of two copies one writes and the other finds its object there.

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::upload_part::{UploadPartError, UploadPartOutput};
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumMode, ChecksumType, CompletedMultipartUpload, CompletedPart};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use crc_fast::{CrcAlgorithm, Digest};
use reelhook_core::report::{Kind, Outcome};
use reelhook_core::result::{Checksum, PublishedResult, StoredArtifact};
use reelhook_core::transfer::fault::CopyFault;
use reelhook_core::transfer::parts::MAX_HELD_PIECE;
use reelhook_core::{TaskKey, Timestamp};
use tokio::time::timeout;

use super::memory_pool::{Content, StreamingBody};

/// One attempt at sending at most 16 MiB: slower than 280 KB a second is no connection within one region.
const SEND_TIMEOUT: Duration = Duration::from_mins(1);

/// One attempt at anything small.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// One attempt at putting parts together: S3 responds at once and then sends blanks, for minutes if there are many parts
/// (API reference of `CompleteMultipartUpload`).
const COMPLETE_TIMEOUT: Duration = Duration::from_mins(3);

/// Attempts at each call, starting at [`FIRST_BACKOFF`] between them: S3 slows clients down with 503 `SlowDown`, and 0.2, 0.4, 0.8, 1.6,
/// 3.2 seconds (each times a random number below 1) are the pattern of its own advice.
pub(super) const ATTEMPTS: u32 = 6;
pub(super) const FIRST_BACKOFF: Duration = Duration::from_millis(200);

/// Name of the metadata that says to which report an object belongs.
const REPORTED_AT: &str = "reported-at";

/// The bucket that results are written to.
#[derive(Clone, Debug)]
pub(super) struct Store {
    client: Client,
    bucket: String,
}

/// What an object is labelled with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Label<'a> {
    pub(super) content_type: &'a str,
    /// As S3's header has them.
    pub(super) tagging: Option<&'a str>,
    /// When the report came that it belongs to.
    pub(super) reported_at: Timestamp,
}

/// A whole file, as it goes to the bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent<'a> {
    pub(super) key: &'a str,
    pub(super) content_type: &'a str,
    pub(super) bytes: u64,
    /// CRC-64/NVME.
    pub(super) checksum: u64,
}

/// How a whole file is written.
#[derive(Clone, Copy, Debug)]
pub(super) enum FinalWrite<'a> {
    /// In one go.
    Put { label: Label<'a>, content: &'a Content },
    /// By putting the parts of an upload together: `ETag` and checksum of each, in order.
    Complete { id: &'a str, parts: &'a [(String, u64)] },
}

/// What became of a final write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// It was written.
    Now,
    /// Something exists there, or another writer is at it at the same time, or the upload is gone.
    Exists,
}

/// An object in the bucket.
#[derive(Clone, Debug)]
pub(super) struct ExistingObject {
    pub(super) bytes: u64,
    pub(super) checksum: Checksum,
    pub(super) content_type: String,
    pub(super) etag: String,
    /// When the report came that it belongs to. None if reelhook did not write it, or an earlier release did.
    reported_at: Option<Timestamp>,
}

impl ExistingObject {
    pub(super) fn into_artifact(self, kind: Kind, key: &str) -> StoredArtifact {
        let Self { bytes, checksum, content_type, .. } = self;
        StoredArtifact { kind, key: key.to_owned(), bytes, checksum, content_type }
    }
}

/// Why a part was not written.
#[derive(Debug)]
pub(super) enum PartError {
    /// The upload does not exist: it was aborted by somebody, or by the lifecycle rule.
    UploadGone,
    /// Anything else.
    Storage(CopyFault),
}

impl Store {
    pub(super) fn new(client: Client, bucket: String) -> Self {
        Self { client, bucket }
    }

    /// Writes a file, over nothing or over the object with the `ETag` `replaced`.
    pub(super) async fn write(
        &self,
        write: FinalWrite<'_>,
        sent: Sent<'_>,
        replaced: Option<&str>,
    ) -> Result<Written, CopyFault> {
        match write {
            FinalWrite::Put { label, content } => self.put(sent.key, label, content, replaced).await,
            FinalWrite::Complete { id, parts } => self.complete(id, parts, sent, replaced).await,
        }
    }

    async fn put(
        &self,
        key: &str,
        label: Label<'_>,
        content: &Content,
        replaced: Option<&str>,
    ) -> Result<Written, CopyFault> {
        let request = self.client.put_object().bucket(&self.bucket).key(key);
        let request = request
            .content_type(label.content_type)
            .set_tagging(label.tagging.map(str::to_owned))
            .metadata(REPORTED_AT, label.reported_at.to_string())
            .set_if_none_match(replaced.is_none().then(|| "*".to_owned()))
            .set_if_match(replaced.map(str::to_owned))
            .checksum_crc64_nvme(checksum_text(content.checksum()))
            .body(content.body())
            .customize()
            // The checksum vouches for the bytes and TLS for the request; hashing them once more costs as much as all the rest.
            .disable_payload_signing()
            .config_override(request_config(SEND_TIMEOUT));
        let sent = Box::pin(request.send()).await;
        match sent {
            Ok(_) => Ok(Written::Now),
            Err(error) if matches!(status(&error), Some(409 | 412)) => Ok(Written::Exists),
            Err(error) => Err(failed("PutObject", &error)),
        }
    }

    /// Begins a multipart upload; gives back its id. Tries once: a second try would begin another one beside an upload whose
    /// response was lost.
    pub(super) async fn create(&self, key: &str, label: Label<'_>) -> Result<String, CopyFault> {
        let request = self.client.create_multipart_upload().bucket(&self.bucket).key(key);
        let request = request
            .content_type(label.content_type)
            .set_tagging(label.tagging.map(str::to_owned))
            .metadata(REPORTED_AT, label.reported_at.to_string())
            .checksum_algorithm(ChecksumAlgorithm::Crc64Nvme)
            .checksum_type(ChecksumType::FullObject)
            .customize()
            .config_override(request_config(REQUEST_TIMEOUT).retry_config(RetryConfig::disabled()));
        let created = Box::pin(request.send()).await.map_err(|error| failed("CreateMultipartUpload", &error))?;
        created.upload_id.ok_or_else(|| CopyFault::Storage {
            operation: "CreateMultipartUpload",
            reason: "the response has no upload id".to_owned(),
        })
    }

    /// Writes a part; gives back its `ETag`. `number` from 1.
    pub(super) async fn upload_part(
        &self,
        key: &str,
        id: &str,
        number: u64,
        content: &Content,
    ) -> Result<String, PartError> {
        let request = self.client.upload_part().bucket(&self.bucket).key(key).upload_id(id);
        let request = request
            .part_number(part_number(number))
            .checksum_crc64_nvme(checksum_text(content.checksum()))
            .body(content.body())
            .customize()
            .disable_payload_signing()
            .config_override(request_config(SEND_TIMEOUT));
        let sent = Box::pin(request.send()).await;
        part_sent(sent)
    }

    /// Writes a part that is received while it is sent. Its checksum is not known beforehand; that of the whole object is checked
    /// in the end.
    pub(super) async fn upload_streamed_part(
        &self,
        key: &str,
        id: &str,
        number: u64,
        length: u64,
        body: StreamingBody,
    ) -> Result<String, PartError> {
        let steps = u32::try_from(length.div_ceil(MAX_HELD_PIECE)).unwrap_or(u32::MAX);
        let request = self.client.upload_part().bucket(&self.bucket).key(key).upload_id(id);
        let request = request
            .part_number(part_number(number))
            .content_length(i64::try_from(length).unwrap_or(i64::MAX))
            .body(body.body())
            .customize()
            .disable_payload_signing()
            .config_override(request_config(SEND_TIMEOUT * steps).retry_config(RetryConfig::disabled()));
        part_sent(Box::pin(request.send()).await)
    }

    async fn complete(
        &self,
        id: &str,
        parts: &[(String, u64)],
        sent: Sent<'_>,
        replaced: Option<&str>,
    ) -> Result<Written, CopyFault> {
        let parts = (1..).zip(parts).map(|(number, (etag, checksum))| {
            CompletedPart::builder()
                .part_number(number)
                .e_tag(etag)
                .checksum_crc64_nvme(checksum_text(*checksum))
                .build()
        });
        let request = self.client.complete_multipart_upload().bucket(&self.bucket).key(sent.key).upload_id(id);
        let request = request
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts.collect())).build())
            .set_if_none_match(replaced.is_none().then(|| "*".to_owned()))
            .set_if_match(replaced.map(str::to_owned))
            .checksum_crc64_nvme(checksum_text(sent.checksum))
            .checksum_type(ChecksumType::FullObject)
            .mpu_object_size(i64::try_from(sent.bytes).unwrap_or(i64::MAX))
            .customize()
            .config_override(request_config(COMPLETE_TIMEOUT));
        let completed = Box::pin(request.send()).await;
        match completed {
            Ok(_) => Ok(Written::Now),
            // 404: an earlier attempt of the SDK went through and its response was lost; what exists there tells.
            Err(error) if matches!(status(&error), Some(404 | 409 | 412)) => Ok(Written::Exists),
            Err(error) => Err(failed("CompleteMultipartUpload", &error)),
        }
    }

    /// Aborts an upload. What cannot be removed now is removed by the bucket's lifecycle rule.
    pub(super) async fn abort(&self, key: &str, id: &str) {
        let request = self.client.abort_multipart_upload().bucket(&self.bucket).key(key).upload_id(id);
        let request = request.customize().config_override(request_config(REQUEST_TIMEOUT));
        let aborted = Box::pin(request.send()).await;
        if let Err(error) = aborted
            && status(&error) != Some(404)
        {
            tracing::warn!(key, error = %failed("AbortMultipartUpload", &error), "upload left to the lifecycle rule");
        }
    }

    /// Unfinished uploads whose keys begin like this: key and id of each. At most 1,000; an artifact has one or two.
    pub(super) async fn uploads(&self, prefix: &str) -> Result<Vec<(String, String)>, CopyFault> {
        let request = self.client.list_multipart_uploads().bucket(&self.bucket).prefix(prefix);
        let request = request.customize().config_override(request_config(REQUEST_TIMEOUT));
        let listed = Box::pin(request.send()).await.map_err(|error| failed("ListMultipartUploads", &error))?;
        Ok(listed
            .uploads
            .unwrap_or_default()
            .into_iter()
            .filter_map(|upload| Some((upload.key?, upload.upload_id?)))
            .collect())
    }

    /// Keys that begin like this, at most a few.
    pub(super) async fn keys(&self, prefix: &str) -> Result<Vec<String>, CopyFault> {
        let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix);
        let request = request.max_keys(10).customize().config_override(request_config(REQUEST_TIMEOUT));
        let listed = Box::pin(request.send()).await.map_err(|error| failed("ListObjectsV2", &error))?;
        Ok(listed.contents.unwrap_or_default().into_iter().filter_map(|object| object.key).collect())
    }

    /// What exists under a key, if anything. The checksum is S3's own; where it has none over the whole object, the object is
    /// read.
    pub(super) async fn existing(&self, key: &str) -> Result<Option<ExistingObject>, CopyFault> {
        let request = self.client.head_object().bucket(&self.bucket).key(key);
        let request =
            request.checksum_mode(ChecksumMode::Enabled).customize().config_override(request_config(REQUEST_TIMEOUT));
        let head = Box::pin(request.send()).await;
        let head = match head {
            Ok(head) => head,
            Err(error) if status(&error) == Some(404) => return Ok(None),
            Err(error) => return Err(failed("HeadObject", &error)),
        };
        let reported_at = head.metadata().and_then(|metadata| metadata.get(REPORTED_AT));
        let reported_at = reported_at.and_then(|text| Timestamp::from_rfc3339(text));
        let whole = !matches!(head.checksum_type, Some(ChecksumType::Composite));
        let checksum = match head.checksum_crc64_nvme.filter(|_| whole) {
            Some(value) => named(value),
            None => self.read_back(key).await?,
        };
        Ok(Some(ExistingObject {
            bytes: u64::try_from(head.content_length.unwrap_or_default()).unwrap_or_default(),
            checksum,
            content_type: head.content_type.unwrap_or_default(),
            etag: head.e_tag.unwrap_or_default(),
            reported_at,
        }))
    }

    /// Whether an object gives way to the file of the report that came then: it belongs to an earlier one, which was lost. The
    /// files of a published success stay, whatever is reported later: consumers have heard of them.
    pub(super) async fn is_outdated(
        &self,
        existing: &ExistingObject,
        task: &TaskKey,
        reported_at: Timestamp,
    ) -> Result<bool, CopyFault> {
        if existing.reported_at.is_none_or(|at| at >= reported_at) {
            return Ok(false);
        }
        let request = self.client.get_object().bucket(&self.bucket).key(format!("{}result.json", task.prefix()));
        let object = Box::pin(request.customize().config_override(request_config(REQUEST_TIMEOUT)).send()).await;
        let object = match object {
            Ok(object) => object,
            Err(error) if status(&error) == Some(404) => return Ok(true),
            Err(error) => return Err(failed("GetObject", &error)),
        };
        // The SDK's limits leave out the body.
        let document = timeout(REQUEST_TIMEOUT, object.body.collect()).await.map_err(|_| broken_off())?;
        let document = document.map_err(|_| broken_off())?.into_bytes();
        Ok(PublishedResult::read(&document).is_none_or(|published| published.outcome != Outcome::Succeeded))
    }

    async fn read_back(&self, key: &str) -> Result<Checksum, CopyFault> {
        let object = Box::pin(self.client.get_object().bucket(&self.bucket).key(key).send()).await;
        let mut body = object.map_err(|error| failed("GetObject", &error))?.body;
        let mut digest = Digest::new(CrcAlgorithm::Crc64Nvme);
        while let Some(bytes) = body.next().await {
            let bytes = bytes.map_err(|_| broken_off())?;
            digest.update(&bytes);
        }
        Ok(checksum_of(digest.finalize()))
    }
}

fn broken_off() -> CopyFault {
    CopyFault::Storage { operation: "GetObject", reason: "the connection broke off".to_owned() }
}

fn part_sent(sent: Result<UploadPartOutput, SdkError<UploadPartError>>) -> Result<String, PartError> {
    match sent {
        Ok(sent) => sent.e_tag.ok_or_else(|| {
            let reason = "the response has no ETag".to_owned();
            PartError::Storage(CopyFault::Storage { operation: "UploadPart", reason })
        }),
        Err(error) if status(&error) == Some(404) && error.code() != Some("NoSuchBucket") => Err(PartError::UploadGone),
        Err(error) => Err(PartError::Storage(failed("UploadPart", &error))),
    }
}

/// A checksum in the form of `result.json`.
pub(super) fn checksum_of(value: u64) -> Checksum {
    named(checksum_text(value))
}

fn named(value: String) -> Checksum {
    Checksum { algorithm: "CRC64NVME".to_owned(), value }
}

fn checksum_text(value: u64) -> String {
    BASE64.encode(value.to_be_bytes())
}

fn part_number(number: u64) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn request_config(attempt: Duration) -> aws_sdk_s3::config::Builder {
    aws_sdk_s3::Config::builder()
        .timeout_config(TimeoutConfig::builder().operation_attempt_timeout(attempt).build())
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS).with_initial_backoff(FIRST_BACKOFF))
}

fn status<E>(error: &SdkError<E>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}

fn failed<E: ProvideErrorMetadata>(operation: &'static str, error: &SdkError<E>) -> CopyFault {
    let reason = match error {
        SdkError::ConstructionFailure(_) => "the request could not be made".to_owned(),
        SdkError::TimeoutError(_) => "no response in time".to_owned(),
        SdkError::DispatchFailure(_) => "no connection".to_owned(),
        SdkError::ResponseError(_) => "the response could not be read".to_owned(),
        error => match (error.code(), status(error)) {
            (Some(code), _) => code.to_owned(),
            (None, Some(status)) => format!("status {status}"),
            (None, None) => "an unknown error".to_owned(),
        },
    };
    CopyFault::Storage { operation, reason }
}
