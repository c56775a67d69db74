//! SDK clients, built for a fast start: credentials, region and endpoint come from the environment, where Lambda puts them,
//! so none of the SDK's provider chain (profiles, SSO, metadata service) is linked or consulted.

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_dynamodb::config::{BehaviorVersion, Region, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_smithy_http_client::tls;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_types::SdkConfig;

use crate::environment;

/// What every client is built from.
#[derive(Clone, Debug)]
pub struct Clients {
    config: SdkConfig,
}

/// Timeouts and attempts of the clients. A function with little time must learn of a failure while it can still respond.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// One attempt, in full.
    pub attempt: Duration,
    /// All attempts together.
    pub operation: Duration,
    /// How often an operation is tried.
    pub attempts: u32,
}

impl RetryPolicy {
    /// For functions that somebody waits for: as many tries as fit into 2 s, because a throttled table responds at once. `MaxAPI`
    /// and Ark hang up after 5 s, and a second call may follow the first.
    pub const CALLBACK: Self = Self { attempt: Duration::from_secs(1), operation: Duration::from_secs(2), attempts: 8 };

    /// For settings: throttled calls are retried, with jitter, for as long as the most patient callback waits.
    pub const SETTINGS: Self =
        Self { attempt: Duration::from_secs(1), operation: Duration::from_secs(8), attempts: 40 };

    /// For functions nobody waits for. Not for uploads, whose time depends on their size.
    pub const BACKGROUND: Self =
        Self { attempt: Duration::from_secs(5), operation: Duration::from_secs(20), attempts: 5 };

    /// Its limits, as the SDK takes them. They end with the headers of a response.
    pub(crate) fn timeouts(self) -> TimeoutConfig {
        TimeoutConfig::builder()
            .connect_timeout(self.attempt)
            .operation_attempt_timeout(self.attempt)
            .operation_timeout(self.operation)
            .build()
    }

    pub(crate) fn retries(self) -> RetryConfig {
        // The default of 1 s would use up half of a callback's budget before the second try.
        RetryConfig::standard().with_max_attempts(self.attempts).with_initial_backoff(Duration::from_millis(50))
    }
}

/// What went wrong with a call, in a few words: the service's code and message, or why there is no response. The SDK's own
/// printing appends the raw response, which may hold settings or signed links.
pub(crate) fn described<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> String {
    match error {
        SdkError::ServiceError(service) => described_service(service.err()),
        SdkError::TimeoutError(_) => "no response in time".to_owned(),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => "no connection in time".to_owned(),
        SdkError::DispatchFailure(_) => "no connection".to_owned(),
        SdkError::ResponseError(_) => "an unreadable response".to_owned(),
        SdkError::ConstructionFailure(_) => "the call could not be put together".to_owned(),
        _ => "the call did not succeed".to_owned(),
    }
}

/// The code and message of a service's own error.
pub(crate) fn described_service(error: &impl ProvideErrorMetadata) -> String {
    let (code, message) = (error.code().unwrap_or("error without a code"), error.message());
    message.map_or_else(|| code.to_owned(), |message| format!("{code}: {message}"))
}

/// The roots that certificates of AWS end in, out of <https://www.amazontrust.com/repository/>: Amazon Root CA 1 to 4 and
/// Starfield Services Root Certificate Authority G2, which AWS tells every client to trust. They end in 2037 and later.
const AMAZON_ROOTS: &str = include_str!("amazon-roots.pem");

/// Whom the clients trust. To read and parse the 150 roots of the operating system is most of what a function does before
/// its first event; AWS needs five. Other partitions and other endpoints may have other roots; one over http needs none.
fn trust_store(region: &str, endpoint: Option<&str>) -> tls::TrustStore {
    let is_commercial = !["cn-", "us-gov-", "us-iso", "eu-isoe", "eusc-"].iter().any(|other| region.starts_with(other));
    if is_commercial && endpoint.is_none_or(|endpoint| endpoint.starts_with("http:")) {
        tls::TrustStore::empty().with_pem_certificate(AMAZON_ROOTS)
    } else {
        tls::TrustStore::default()
    }
}

impl Clients {
    /// Reads the environment. Does not connect anywhere.
    pub fn from_environment(policy: RetryPolicy) -> Self {
        let credentials = Credentials::new(
            environment::optional("AWS_ACCESS_KEY_ID").unwrap_or_default(),
            environment::optional("AWS_SECRET_ACCESS_KEY").unwrap_or_default(),
            environment::optional("AWS_SESSION_TOKEN"),
            None,
            "environment",
        );
        let region = environment::optional("AWS_REGION").unwrap_or_else(|| "us-east-1".to_owned());
        Self::new(policy, credentials, region, environment::optional("AWS_ENDPOINT_URL"))
    }

    /// Clients of one region. Without an endpoint they use those of AWS.
    pub fn new(policy: RetryPolicy, credentials: Credentials, region: String, endpoint: Option<String>) -> Self {
        let trusted = tls::TlsContext::builder().with_trust_store(trust_store(&region, endpoint.as_deref())).build();
        let http_client = aws_smithy_http_client::Builder::new()
            .tls_provider(tls::Provider::Rustls(CryptoMode::Ring))
            .tls_context(trusted.unwrap_or_default())
            .build_https();
        let mut config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .http_client(http_client)
            .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
            .timeout_config(policy.timeouts())
            .retry_config(policy.retries());
        if let Some(endpoint) = endpoint {
            config = config.endpoint_url(endpoint);
        }
        Self { config: config.build() }
    }
}

impl Clients {
    /// The table's client.
    pub fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        aws_sdk_dynamodb::Client::new(&self.config)
    }

    /// The queue's client.
    pub fn sqs(&self) -> aws_sdk_sqs::Client {
        aws_sdk_sqs::Client::new(&self.config)
    }

    /// The client of [`SettingsStore`](crate::settings::SettingsStore), which retries for longer than the others: whoever
    /// waits for settings can do nothing without, and bounds the wait.
    pub fn secrets(&self) -> aws_sdk_secretsmanager::Client {
        let policy = RetryPolicy::SETTINGS;
        let config = aws_sdk_secretsmanager::config::Builder::from(&self.config)
            .timeout_config(policy.timeouts())
            .retry_config(policy.retries().with_max_backoff(Duration::from_millis(500)));
        aws_sdk_secretsmanager::Client::from_conf(config.build())
    }

    /// The bucket's client. Its requests carry the bytes of videos, so an attempt has no time-out of its own: stalls are
    /// found by the SDK's stalled-stream protection, and the whole copy by the deadline of the invocation. Checksums are set
    /// by the copier, over the whole object; the SDK adds none of its own.
    pub fn s3(&self) -> aws_sdk_s3::Client {
        use aws_sdk_s3::config::{Builder, RequestChecksumCalculation, ResponseChecksumValidation};
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(5))
            .disable_operation_attempt_timeout()
            .disable_operation_timeout()
            .build();
        let config = Builder::from(&self.config)
            .timeout_config(timeouts)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            // An emulator has one address for all buckets; AWS gets the usual virtual-hosted form.
            .force_path_style(self.config.endpoint_url().is_some())
            .build();
        aws_sdk_s3::Client::from_conf(config)
    }
}

#[cfg(test)]
mod tests {
    use rustls::RootCertStore;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;

    use super::*;

    #[test]
    fn the_roots_of_aws_are_five_that_can_be_read() {
        let mut store = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(AMAZON_ROOTS.as_bytes()) {
            store.add(certificate.expect("PEM")).expect("a root");
        }
        assert_eq!(store.len(), 5);
    }

    #[test]
    fn only_endpoints_of_aws_are_known_to_need_no_other_roots() {
        let native = |region, endpoint| format!("{:?}", trust_store(region, endpoint)).contains("native_roots: true");
        assert!(!native("eu-central-1", None));
        assert!(!native("eu-central-1", Some("http://127.0.0.1:4566")));
        assert!(native("eu-central-1", Some("https://vpce.example")));
        assert!(native("cn-north-1", None));
        assert!(native("us-gov-west-1", None));
    }
}
