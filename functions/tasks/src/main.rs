//! The Lambda function `tasks`; see the library.

use std::sync::Arc;

use lambda_http::{Error, run, service_fn};
use reelhook_aws::asking::ProviderClient;
use reelhook_aws::clients::{Clients, Patience};
use reelhook_aws::environment::{CALLBACK_BASE_URL, SETTINGS_PARAMETER, TABLE_NAME, required};
use reelhook_aws::settings::SettingsStore;
use reelhook_aws::table::Table;
use reelhook_aws::telemetry;
use tasks::{Hub, SUBMIT_WITHIN, handle};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::start();
    let clients = Clients::from_environment(Patience::CALLBACK);
    let hub = Arc::new(Hub {
        table: Table::new(clients.dynamodb(), required(TABLE_NAME)?),
        settings: SettingsStore::new(clients.ssm(), required(SETTINGS_PARAMETER)?),
        providers: ProviderClient::new(SUBMIT_WITHIN)?,
        callback_base_url: required(CALLBACK_BASE_URL)?,
    });
    let warming = Arc::clone(&hub);
    tokio::spawn(async move { warming.settings.get().await.map(drop) });
    run(service_fn(|request| async { Ok::<_, Error>(handle(&hub, request).await) })).await
}
