//! The Lambda function `callback`; see the library.

use std::sync::Arc;

use callback::{App, event, handle};
use lambda_http::tower::ServiceExt as _;
use lambda_http::{Adapter, Error, Request, RequestExt as _, lambda_runtime, service_fn};
use reelhook_aws::clients::{Clients, RetryPolicy};
use reelhook_aws::environment::{QUEUE_URL, SETTINGS_SECRET, TABLE_NAME, required};
use reelhook_aws::key_sets::KeySets;
use reelhook_aws::logging;
use reelhook_aws::queue::Queue;
use reelhook_aws::settings::SettingsStore;
use reelhook_aws::table::Table;
use tracing::Instrument as _;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    logging::start();
    let clients = Clients::from_environment(RetryPolicy::CALLBACK);
    let app = Arc::new(App {
        table: Table::new(clients.dynamodb(), required(TABLE_NAME)?),
        queue: Queue::new(clients.sqs(), required(QUEUE_URL)?),
        settings: SettingsStore::new(clients.secrets(), required(SETTINGS_SECRET)?),
        key_sets: KeySets::default(),
    });
    // Lambda gives a function more of a processor before its first event than after.
    clients.connect(&app.settings).await;
    let service = Adapter::from(service_fn(|request: Request| async {
        let span = logging::invocation(request.lambda_context_ref().map_or("", |context| &context.request_id));
        Ok::<_, Error>(handle(&app, request).instrument(span).await)
    }));
    lambda_runtime::run(service.map_request(event::readable)).await
}
