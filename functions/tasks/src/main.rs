//! The Lambda function `tasks`; see the library.

use std::sync::Arc;

use lambda_http::{Error, Request, RequestExt as _, run, service_fn};
use reelhook_aws::clients::{Clients, RetryPolicy};
use reelhook_aws::environment::{CALLBACK_BASE_URL, SETTINGS_SECRET, TABLE_NAME, required};
use reelhook_aws::logging;
use reelhook_aws::provider_client::{Connections, ProviderClient};
use reelhook_aws::settings::SettingsStore;
use reelhook_aws::table::Table;
use reelhook_core::submission::SUBMIT_TIMEOUT;
use tasks::{App, handle};
use tracing::Instrument as _;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    logging::start();
    let clients = Clients::from_environment(RetryPolicy::CALLBACK);
    let app = Arc::new(App {
        table: Table::new(clients.dynamodb(), required(TABLE_NAME)?),
        settings: SettingsStore::new(clients.secrets(), required(SETTINGS_SECRET)?),
        providers: ProviderClient::new(SUBMIT_TIMEOUT, Connections::Fresh)?,
        callback_base_url: required(CALLBACK_BASE_URL)?,
    });
    let warming = Arc::clone(&app);
    tokio::spawn(async move { warming.settings.get().await.map(drop) });
    run(service_fn(|request: Request| async {
        let span = logging::invocation(request.lambda_context_ref().map_or("", |context| &context.request_id));
        Ok::<_, Error>(handle(&app, request).instrument(span).await)
    }))
    .await
}
