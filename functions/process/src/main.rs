//! The Lambda function `process`; see the library.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lambda_runtime::{Error, LambdaEvent, service_fn};
use process::{Answer, Batch, Hub, handle};
use reelhook_aws::asking::ProviderClient;
use reelhook_aws::bucket::Bucket;
use reelhook_aws::clients::{Clients, Patience};
use reelhook_aws::copy::Copier;
use reelhook_aws::download::OriginPolicy;
use reelhook_aws::environment::{
    ALLOWED_ORIGINS, BUCKET_NAME, QUEUE_URL, SETTINGS_PARAMETER, TABLE_NAME, optional, required,
};
use reelhook_aws::queue::Queue;
use reelhook_aws::settings::SettingsStore;
use reelhook_aws::table::Table;
use reelhook_aws::telemetry;
use tokio::time::Instant;

/// How long a provider may take to answer a question.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

#[tokio::main]
async fn main() -> Result<(), Error> {
    telemetry::start();
    let clients = Clients::from_environment(Patience::BACKGROUND);
    let bucket = required(BUCKET_NAME)?;
    let allowed = optional(ALLOWED_ORIGINS).unwrap_or_default();
    let policy = OriginPolicy::allowing(allowed.split(',').map(str::trim).filter(|origin| !origin.is_empty()))?;
    let hub = Arc::new(Hub {
        table: Table::new(clients.dynamodb(), required(TABLE_NAME)?),
        queue: Queue::new(clients.sqs(), required(QUEUE_URL)?),
        bucket: Bucket::new(clients.s3(), bucket.clone()),
        copier: Copier::new(clients.s3(), bucket, policy)?,
        settings: SettingsStore::new(clients.ssm(), required(SETTINGS_PARAMETER)?),
        providers: ProviderClient::new(ANSWER_WITHIN)?,
    });
    lambda_runtime::run(service_fn(|event: LambdaEvent<Batch>| {
        let hub = Arc::clone(&hub);
        async move {
            let remaining = event.context.deadline().duration_since(SystemTime::now()).unwrap_or_default();
            Ok::<Answer, Error>(handle(&hub, event.payload, Instant::now() + remaining).await)
        }
    }))
    .await
}
