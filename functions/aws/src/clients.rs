//! SDK clients, built for a fast start: credentials, region and endpoint come from the environment, where Lambda puts them,
//! so none of the SDK's provider chain (profiles, SSO, metadata service) is linked or consulted.

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_runtime::invocation_id::InvocationIdInterceptor;
use aws_runtime::request_info::RequestInfoInterceptor;
use aws_runtime::user_agent::UserAgentInterceptor;
use aws_sdk_dynamodb::config::{BehaviorVersion, IdentityCache, Region, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::BeforeSerializationInterceptorContextRef;
use aws_smithy_runtime_api::client::interceptors::{Intercept, disable_interceptor, dyn_dispatch_hint};
use aws_smithy_types::config_bag::ConfigBag;
use aws_types::SdkConfig;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::time::timeout;

use crate::http_client::HttpClient;
use crate::settings::SettingsStore;
use crate::signer::{JsonSigV4, ServiceClock};
use crate::{environment, tls};

/// What every client is built from.
#[derive(Clone, Debug)]
pub struct Clients {
    config: SdkConfig,
    http: HttpClient,
    endpoints: Endpoints,
    clock: ServiceClock,
}

/// How long a function waits at its start for what makes its first event fast.
const MAX_CONNECTING: Duration = Duration::from_secs(1);

/// Timeouts and attempts of the clients. A function with little time must learn of a failure while it can still respond.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// One attempt, in full.
    pub attempt: Duration,
    /// All attempts together.
    pub operation: Duration,
    /// How often an operation is tried.
    pub attempts: u32,
    /// Connections to each service, and so calls in flight, at most.
    pub connections: usize,
}

impl RetryPolicy {
    /// For functions that somebody waits for: as many tries as fit into 2 s, because a throttled table responds at once. `MaxAPI`
    /// and Ark hang up after 5 s, and a second call may follow the first.
    pub const CALLBACK: Self =
        Self { attempt: Duration::from_secs(1), operation: Duration::from_secs(2), attempts: 8, connections: 16 };

    /// For settings: throttled calls are retried, with jitter, for as long as the most patient callback waits.
    pub const SETTINGS: Self = Self { operation: Duration::from_secs(8), attempts: 40, ..Self::CALLBACK };

    /// For functions nobody waits for. Not for uploads, whose time depends on their size.
    pub const BACKGROUND: Self =
        Self { attempt: Duration::from_secs(5), operation: Duration::from_secs(20), attempts: 5, connections: 32 };

    /// For `poll`, which has thousands of calls to make: 15 at once to the table and as many to the queue, of 5 ms each, are
    /// several thousand a second.
    pub const POLL: Self = Self { connections: 15, ..Self::BACKGROUND };

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

/// Where the services are.
#[derive(Clone, Debug)]
struct Endpoints {
    dynamodb: String,
    sqs: String,
    secrets: String,
    /// None: an address per bucket, which the SDK makes.
    s3: Option<String>,
    /// Whether all of them are known to have the roots of AWS's commercial regions, or need no certificate.
    are_amazons: bool,
}

impl Endpoints {
    /// Those of a region, as far as none are configured. The SDK finds them too, but not before the first call, which is too
    /// late to connect early.
    fn new(region: &str, configured: impl Fn(&str) -> Option<String>) -> Self {
        let domain = domain(region);
        let own = |service: &str, host: &str| {
            configured(service).unwrap_or_else(|| format!("https://{host}.{region}.{domain}"))
        };
        let needs_other_roots =
            |service: &&str| configured(service).is_some_and(|endpoint| !endpoint.starts_with("http:"));
        Self {
            dynamodb: own("DYNAMODB", "dynamodb"),
            sqs: own("SQS", "sqs"),
            secrets: own("SECRETS_MANAGER", "secretsmanager"),
            s3: configured("S3"),
            are_amazons: domain == COMMERCIAL
                && !region.starts_with("us-gov-")
                && !["DYNAMODB", "SQS", "SECRETS_MANAGER", "S3"].iter().any(needs_other_roots),
        }
    }
}

const COMMERCIAL: &str = "amazonaws.com";

/// The domain of a region's services, from the SDK's table of partitions. `GovCloud` has that of the commercial regions.
fn domain(region: &str) -> &'static str {
    match region.split_once('-').map_or("", |(geography, _)| geography) {
        "cn" => "amazonaws.com.cn",
        "eusc" => "amazonaws.eu",
        _ if region.starts_with("us-iso-") => "c2s.ic.gov",
        _ if region.starts_with("us-isob-") => "sc2s.sgov.gov",
        _ if region.starts_with("us-isof-") => "csp.hci.ic.gov",
        _ if region.starts_with("eu-isoe-") => "cloud.adc-e.uk",
        _ => COMMERCIAL,
    }
}

/// The roots that certificates of AWS end in, out of <https://www.amazontrust.com/repository/>: Amazon Root CA 1 to 4 and
/// Starfield Services Root Certificate Authority G2, which AWS tells every client to trust. They end in 2037 and later.
const AMAZON_ROOTS: &str = include_str!("amazon-roots.pem");

/// Whom the clients trust. To read and parse the 150 roots of the operating system is most of what a function does before
/// its first event; AWS needs five. Other partitions and other endpoints may have other roots.
fn roots(endpoints: &Endpoints) -> RootCertStore {
    let mut store = RootCertStore::empty();
    if endpoints.are_amazons {
        store.add_parsable_certificates(CertificateDer::pem_slice_iter(AMAZON_ROOTS.as_bytes()).flatten());
    } else {
        let loaded = rustls_native_certs::load_native_certs();
        for error in loaded.errors {
            tracing::warn!(%error, "a root certificate of the system could not be read");
        }
        store.add_parsable_certificates(loaded.certs);
    }
    store
}

/// Leaves out what the SDK tells about itself and the attempt in four headers of each request, one of them made of twenty parts
/// each time. Our HTTP client names reelhook instead.
#[derive(Debug)]
struct WithoutSelfDescription;

#[dyn_dispatch_hint]
impl Intercept for WithoutSelfDescription {
    fn name(&self) -> &'static str {
        "WithoutSelfDescription"
    }

    fn read_before_execution(
        &self,
        _: &BeforeSerializationInterceptorContextRef<'_>,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let cause = "nobody reads them";
        let state = config.interceptor_state();
        state.store_put(disable_interceptor::<UserAgentInterceptor>(cause));
        state.store_put(disable_interceptor::<InvocationIdInterceptor>(cause));
        state.store_put(disable_interceptor::<RequestInfoInterceptor>(cause));
        Ok(())
    }
}

impl Clients {
    /// Reads the environment: region and credentials, and endpoints other than AWS's own in `AWS_ENDPOINT_URL`, or for one
    /// service in `AWS_ENDPOINT_URL_DYNAMODB`, `_SQS`, `_SECRETS_MANAGER` and `_S3`, as in every SDK. Does not connect anywhere.
    pub fn from_environment(policy: RetryPolicy) -> Self {
        let credentials = Credentials::new(
            environment::optional("AWS_ACCESS_KEY_ID").unwrap_or_default(),
            environment::optional("AWS_SECRET_ACCESS_KEY").unwrap_or_default(),
            environment::optional("AWS_SESSION_TOKEN"),
            None,
            "environment",
        );
        let region = environment::optional("AWS_REGION").unwrap_or_else(|| "us-east-1".to_owned());
        let endpoints = Endpoints::new(&region, |service| {
            environment::optional(&format!("AWS_ENDPOINT_URL_{service}"))
                .or_else(|| environment::optional("AWS_ENDPOINT_URL"))
        });
        Self::of(policy, credentials, region, endpoints)
    }

    /// Clients of one region. Without an endpoint they use those of AWS.
    pub fn new(policy: RetryPolicy, credentials: Credentials, region: String, endpoint: Option<&str>) -> Self {
        let endpoints = Endpoints::new(&region, |_| endpoint.map(str::to_owned));
        Self::of(policy, credentials, region, endpoints)
    }

    fn of(policy: RetryPolicy, credentials: Credentials, region: String, endpoints: Endpoints) -> Self {
        let clock = ServiceClock::default();
        let http = HttpClient::new(tls::client_config(roots(&endpoints)), policy.connections, clock.clone());
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            // They do not change in a process, and come from no further away than here.
            .identity_cache(IdentityCache::no_cache())
            .http_client(http.clone())
            .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
            .timeout_config(policy.timeouts())
            .retry_config(policy.retries())
            .build();
        Self { config, http, endpoints, clock }
    }

    /// Opens the connections that a first event needs, side by side, and reads the settings over theirs. What fails is left to
    /// the event. Bounded in time: a service that does not respond must not keep the function from saying so.
    pub async fn connect(&self, settings: &SettingsStore) {
        let connecting = async {
            tokio::join!(self.http.connect(&self.endpoints.dynamodb), self.http.connect(&self.endpoints.sqs), async {
                if self.http.connect(&self.endpoints.secrets).await {
                    settings.get().await.ok();
                }
            })
        };
        timeout(MAX_CONNECTING, connecting).await.ok();
    }
}

impl Clients {
    /// The table's client.
    pub fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        let config = aws_sdk_dynamodb::config::Builder::from(&self.config)
            .endpoint_url(&self.endpoints.dynamodb)
            .push_auth_scheme(JsonSigV4::new(self.clock.clone()))
            .interceptor(WithoutSelfDescription);
        aws_sdk_dynamodb::Client::from_conf(config.build())
    }

    /// The queue's client.
    pub fn sqs(&self) -> aws_sdk_sqs::Client {
        let config = aws_sdk_sqs::config::Builder::from(&self.config)
            .endpoint_url(&self.endpoints.sqs)
            .push_auth_scheme(JsonSigV4::new(self.clock.clone()))
            .interceptor(WithoutSelfDescription);
        aws_sdk_sqs::Client::from_conf(config.build())
    }

    /// The client of [`SettingsStore`](crate::settings::SettingsStore), which retries for longer than the others: whoever
    /// waits for settings can do nothing without, and bounds the wait.
    pub fn secrets(&self) -> aws_sdk_secretsmanager::Client {
        let policy = RetryPolicy::SETTINGS;
        let config = aws_sdk_secretsmanager::config::Builder::from(&self.config)
            .endpoint_url(&self.endpoints.secrets)
            .push_auth_scheme(JsonSigV4::new(self.clock.clone()))
            .interceptor(WithoutSelfDescription)
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
        let mut config = Builder::from(&self.config);
        config.set_endpoint_url(self.endpoints.s3.clone());
        let config = config
            .timeout_config(timeouts)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            // An emulator has one address for all buckets; AWS gets the usual virtual-hosted form.
            .force_path_style(self.endpoints.s3.is_some())
            .build();
        aws_sdk_s3::Client::from_conf(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(region: &str, configured: Option<(&str, &str)>) -> Endpoints {
        Endpoints::new(region, |service| {
            configured.filter(|(name, _)| *name == service).map(|(_, endpoint)| endpoint.to_owned())
        })
    }

    #[test]
    fn the_roots_of_aws_are_five_that_can_be_read() {
        assert_eq!(roots(&endpoints("eu-central-1", None)).len(), 5);
    }

    #[test]
    fn only_endpoints_of_aws_are_known_to_need_no_other_roots() {
        assert!(endpoints("eu-central-1", None).are_amazons);
        assert!(endpoints("eu-central-1", Some(("SQS", "http://127.0.0.1:4566"))).are_amazons);
        assert!(!endpoints("eu-central-1", Some(("S3", "https://vpce.example"))).are_amazons);
        assert!(!endpoints("cn-north-1", None).are_amazons);
        assert!(!endpoints("us-gov-west-1", None).are_amazons);
    }

    /// The SDK has a table of its own, which has to say the same.
    #[test]
    fn endpoints_are_those_of_the_sdk() {
        use aws_sdk_dynamodb::config::endpoint::{DefaultResolver, Params, ResolveEndpoint as _};
        let regions = ["us-east-1", "ap-southeast-7", "mx-central-1", "il-central-1", "cn-north-1", "us-gov-west-1"];
        let others = ["us-iso-east-1", "us-isob-east-1", "us-isof-south-1", "eu-isoe-west-1", "eusc-de-east-1"];
        for region in regions.into_iter().chain(others) {
            let parameters = Params::builder().region(region).build().expect("parameters");
            let sdk = DefaultResolver::new();
            let resolving = sdk.resolve_endpoint(&parameters);
            let endpoint = futures_util::FutureExt::now_or_never(resolving).expect("at once").expect("an endpoint");
            assert_eq!(endpoints(region, None).dynamodb, endpoint.url(), "{region}");
        }
    }
}
