//! The Lambda function `process`; see the library.

use std::sync::Arc;
use std::time::Duration;

use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use process::{App, TIMEOUT, handle};

use reelhook_aws::bucket::Bucket;
use reelhook_aws::clients::{Clients, RetryPolicy};
use reelhook_aws::clock::end_of_invocation;
use reelhook_aws::copy::Copier;
use reelhook_aws::environment::{
    ALLOWED_ORIGINS, BUCKET_NAME, QUEUE_URL, SETTINGS_SECRET, TABLE_NAME, optional, required,
};
use reelhook_aws::logging;
use reelhook_aws::provider_client::{Connections, ProviderClient};
use reelhook_aws::queue::Queue;
use reelhook_aws::settings::SettingsStore;
use reelhook_aws::ssrf::OriginPolicy;
use reelhook_aws::table::Table;
use tracing::Instrument as _;

/// How long a provider may take to respond.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(15);

#[tokio::main]
async fn main() -> Result<(), Error> {
    logging::start();
    let clients = Clients::from_environment(RetryPolicy::BACKGROUND);
    let bucket = required(BUCKET_NAME)?;
    let allowed = optional(ALLOWED_ORIGINS).unwrap_or_default();
    let policy = OriginPolicy::allowing(allowed.split(',').map(str::trim).filter(|origin| !origin.is_empty()))?;
    let app = Arc::new(App {
        table: Table::new(clients.dynamodb(), required(TABLE_NAME)?),
        queue: Queue::new(clients.sqs(), required(QUEUE_URL)?),
        bucket: Bucket::new(&clients.s3(), bucket.clone(), RetryPolicy::BACKGROUND),
        copier: Copier::new(clients.s3(), bucket, policy)?,
        settings: SettingsStore::new(clients.secrets(), required(SETTINGS_SECRET)?),
        providers: ProviderClient::new(RESPONSE_TIMEOUT, Connections::Kept)?,
    });
    lambda_runtime::run(service_fn(|event: LambdaEvent<SqsEvent>| {
        let app = Arc::clone(&app);
        async move {
            let end = end_of_invocation(event.context.deadline(), TIMEOUT);
            let span = logging::invocation(&event.context.request_id);
            Ok::<SqsBatchResponse, Error>(handle(&app, event.payload, end).instrument(span).await)
        }
    }))
    .await
}
