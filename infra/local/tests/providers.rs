//! A provider is complete or absent: one with an adapter also has a simulator, a sample that its adapter accepts, and settings.

use std::collections::BTreeSet;

use local::samples::SAMPLES;
use reelhook_core::providers::adapter::Submission;
use reelhook_core::{Provider, Timestamp};
use serde_json::Value;

#[test]
fn adapters_and_simulators_cover_the_same_providers() {
    let with_adapter: BTreeSet<&str> = Provider::ALL.into_iter().map(Provider::name).collect();
    let simulated: BTreeSet<&str> = simulator::Provider::ALL.into_iter().map(simulator::Provider::name).collect();
    assert_eq!(with_adapter, simulated, "left: adapters, right: tests/simulator");
}

/// Without it `settings check` calls the provider an unknown field.
#[test]
fn the_schema_of_the_settings_names_every_provider() {
    let schema: Value = serde_json::from_str(include_str!("../../settings.schema.json")).expect("the schema is JSON");
    let named = schema["properties"]["providers"]["properties"].as_object().expect("providers");
    let named: BTreeSet<&str> = named.keys().map(String::as_str).collect();
    let known: BTreeSet<&str> = Provider::ALL.into_iter().map(Provider::name).collect();
    assert_eq!(named, known, "left: infra/settings.schema.json, right: Provider");
}

#[test]
fn every_provider_has_one_sample_that_its_adapter_accepts() {
    let settings = serde_json::from_str(r#"{"api_key":"k","base_url":"https://api.test"}"#).expect("valid settings");
    for provider in Provider::ALL {
        let samples: Vec<_> = SAMPLES.iter().filter(|sample| sample.provider.name() == provider.name()).collect();
        let [sample] = samples[..] else {
            panic!("{provider} has {} samples in infra/local/src/samples.rs", samples.len())
        };
        let body = sample.body("a prompt");
        let submission = Submission {
            body: &body,
            endpoint: sample.endpoint,
            callback_url: "https://hub.test/callback/p/1/t",
            marker: "m",
        };
        let request = provider.adapter().submission(&submission, &settings, Timestamp::from_seconds(1_767_225_600));
        let request = request.unwrap_or_else(|refused| panic!("{provider} rejects its sample: {refused}"));
        let sent = String::from_utf8(request.body.expect("a body")).expect("JSON");
        // In the body, or in the query; nowhere where nobody would use it.
        let has_callback_url = sent.contains("https://hub.test/callback/p/1/t")
            || request.url.contains("=https%3A%2F%2Fhub.test%2Fcallback%2Fp%2F1%2Ft");
        assert_eq!(has_callback_url, provider.calls_back(), "{provider}: {} {sent}", request.url);
        assert!(sent.contains("a prompt"), "{provider}: the sample drops the prompt: {sent}");
    }
}
