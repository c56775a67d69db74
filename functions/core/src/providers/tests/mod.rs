//! What the adapters send, and how they read what is not in the files under `events/providers/`.

use serde_json::Value;

use crate::settings::ProviderSettings;
use crate::time::Timestamp;

mod requests;
mod responses;

const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

fn settings(json: Value) -> ProviderSettings {
    serde_json::from_value(json).expect("valid settings")
}
