//! The Lambda function `poll`; see the library.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lambda_runtime::{Error, LambdaEvent, service_fn};
use poll::{Hub, Summary, run};
use reelhook_aws::asking::ProviderClient;
use reelhook_aws::clients::{Clients, Patience};
use reelhook_aws::environment::{QUEUE_URL, SETTINGS_PARAMETER, TABLE_NAME, required};
use reelhook_aws::queue::Queue;
use reelhook_aws::settings::SettingsStore;
use reelhook_aws::table::Table;
use reelhook_aws::telemetry;
use serde_json::Value;
use tokio::time::Instant;

/// How long a provider may take to answer a status question. Slower ones are asked again at the next visit.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::start();
    let clients = Clients::from_environment(Patience::BACKGROUND);
    let hub = Arc::new(Hub {
        table: Table::new(clients.dynamodb(), required(TABLE_NAME)?),
        queue: Queue::new(clients.sqs(), required(QUEUE_URL)?),
        settings: SettingsStore::new(clients.ssm(), required(SETTINGS_PARAMETER)?),
        providers: ProviderClient::new(ANSWER_WITHIN)?,
    });
    lambda_runtime::run(service_fn(|event: LambdaEvent<Value>| {
        let hub = Arc::clone(&hub);
        async move {
            // What the schedule sends says nothing: the index says what is due.
            let remaining = event.context.deadline().duration_since(SystemTime::now()).unwrap_or_default();
            Ok::<Summary, Error>(run(&hub, Instant::now() + remaining).await?)
        }
    }))
    .await
}
