//! The Lambda function `poll`; see the library.

use std::sync::Arc;
use std::time::Duration;

use lambda_runtime::{Error, LambdaEvent, service_fn};
use poll::{App, Summary, TIMEOUT, run};

use reelhook_aws::clients::{Clients, RetryPolicy};
use reelhook_aws::clock::end_of_invocation;
use reelhook_aws::environment::{QUEUE_URL, SETTINGS_SECRET, TABLE_NAME, required};
use reelhook_aws::logging;
use reelhook_aws::provider_client::{Connections, ProviderClient};
use reelhook_aws::queue::Queue;
use reelhook_aws::settings::SettingsStore;
use reelhook_aws::table::Table;

use serde_json::Value;
use tracing::Instrument as _;

/// How long a provider may take to respond to a status poll. Slower ones are polled again in a later run.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    logging::start();
    let clients = Clients::from_environment(RetryPolicy::POLL);
    let app = Arc::new(App {
        table: Table::new(clients.dynamodb(), required(TABLE_NAME)?),
        queue: Queue::new(clients.sqs(), required(QUEUE_URL)?),
        settings: SettingsStore::new(clients.secrets(), required(SETTINGS_SECRET)?),
        providers: ProviderClient::new(RESPONSE_TIMEOUT, Connections::Kept)?,
    });
    lambda_runtime::run(service_fn(|event: LambdaEvent<Value>| {
        let app = Arc::clone(&app);
        async move {
            // What the schedule sends says nothing: the index says what is due.
            let end = end_of_invocation(event.context.deadline(), TIMEOUT);
            let span = logging::invocation(&event.context.request_id);
            Ok::<Summary, Error>(run(&app, end).instrument(span).await?)
        }
    }))
    .await
}
