//! A provider is added as a whole or not at all: whoever has an adapter is simulated, and has a sample that the adapter
//! takes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use local::samples::SAMPLES;
use reelhook_core::providers::Submission;
use reelhook_core::{Provider, Timestamp};

#[test]
fn every_provider_with_an_adapter_is_simulated_and_the_other_way_round() {
    let with_adapter: BTreeSet<&str> = Provider::ALL.into_iter().map(Provider::name).collect();
    let simulated: BTreeSet<&str> = simulator::Provider::ALL.into_iter().map(simulator::Provider::name).collect();
    assert_eq!(with_adapter, simulated, "left: with an adapter, right: in tests/simulator");
}

#[test]
fn every_provider_has_a_fuzz_target() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz");
    let manifest = fs::read_to_string(root.join("Cargo.toml")).expect("the fuzz crate has a manifest");
    for provider in Provider::ALL {
        let path = format!("targets/parse_{provider}.rs");
        assert!(root.join(&path).is_file(), "tests/fuzz/{path} is missing");
        assert!(manifest.contains(&path), "{path} is not in tests/fuzz/Cargo.toml");
    }
}

#[test]
fn every_provider_has_one_sample_that_its_adapter_takes() {
    let settings = serde_json::from_str(r#"{"api_key":"k","base_url":"https://api.test"}"#).expect("valid settings");
    for provider in Provider::ALL {
        let samples: Vec<_> = SAMPLES.iter().filter(|sample| sample.provider.name() == provider.name()).collect();
        let [sample] = samples[..] else {
            panic!("{provider} has {} samples in infra/local/src/samples.rs", samples.len())
        };
        let body = sample.body("a prompt");
        let submission =
            Submission { body: &body, endpoint: sample.endpoint, callback_url: "https://hub.test/callback/p/1/t" };
        let request = provider.adapter().submission(&submission, &settings, Timestamp::from_seconds(1_767_225_600));
        let request = request.unwrap_or_else(|refused| panic!("{provider} does not take its sample: {refused}"));
        let sent = String::from_utf8(request.body.expect("a body")).expect("JSON");
        assert!(sent.contains("https://hub.test/callback/p/1/t"), "{provider} is not told where to call back: {sent}");
        assert!(sent.contains("a prompt"), "{provider}: the sample has no place for the prompt: {sent}");
    }
}
