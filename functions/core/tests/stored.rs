//! What a release stored is read by every later one: records live for 90 days, and tasks are open during an upgrade.
//! Four items are what a table held, with other hosts in their links; the copy that continues, the failure and the body about no
//! task were made of such by hand, as were the links that are places in the body. An item that is added stays; none is changed.

use reelhook_core::item::{Item, Value};
use reelhook_core::record::{Record, State};
use reelhook_core::report::{Outcome, Report, Source};
use serde_json::Value as Json;

/// The items, each with its situation.
fn stored() -> Vec<(String, Item)> {
    let stored: Vec<Json> = serde_json::from_str(include_str!("stored/items.json")).expect("items");
    let item = |entry: &Json| {
        let attributes = entry["item"].as_object().expect("an item").iter().map(|(name, value)| {
            let value = match value {
                Json::String(text) => Value::Text(text.clone()),
                number => Value::Number(number.as_i64().expect("a text or a whole number")),
            };
            (name.parse().unwrap_or_else(|_| panic!("nobody reads {name} any more")), value)
        });
        attributes.collect()
    };
    stored.iter().map(|entry| (entry["situation"].as_str().expect("a situation").to_owned(), item(entry))).collect()
}

/// What is told of a record below.
fn told(record: &Record) -> (State, Option<Outcome>, &'static str) {
    let held = match record {
        Record { fallback: Some(fallback), hint: Some(_), .. } => match fallback.report.outcome() {
            Outcome::Succeeded => "a success to fall back on",
            _ => "something else to fall back on",
        },
        Record { checkpoints, .. } if !checkpoints.is_empty() => "a checkpoint",
        Record { artifacts, .. } if !artifacts.is_empty() => "a file",
        _ => "neither",
    };
    (record.state, record.outcome(), held)
}

/// The links that are still to be fetched.
fn links(record: &Record) -> Vec<&str> {
    let reports = record.report.iter().chain(record.fallback.iter().map(|fallback| &fallback.report));
    let artifacts = reports.filter_map(|report| match report {
        Report::Succeeded { artifacts, .. } => Some(artifacts),
        Report::Failed(_) | Report::Lost(_) => None,
    });
    let links = artifacts.flatten().filter_map(|artifact| match &artifact.source {
        Source::Url(link) | Source::Authorized(link) => Some(link.expose()),
        Source::FileId(_) => None,
    });
    links.collect()
}

#[test]
fn every_stored_item_is_read() {
    let succeeded = Some(Outcome::Succeeded);
    let expected = [
        ("submitted", State::Pending, None, "neither"),
        ("reported", State::Reported, succeeded, "neither"),
        ("archived", State::Archived, succeeded, "a file"),
        ("hint with a fallback", State::Pending, None, "a success to fall back on"),
        ("copy that continues", State::Reported, succeeded, "a checkpoint"),
        ("failed", State::Failed, Some(Outcome::Failed), "neither"),
        ("body that is about no task", State::Unattributed, None, "neither"),
        ("reported, links by place", State::Reported, succeeded, "neither"),
        ("hint with a fallback, links by place", State::Pending, None, "a success to fall back on"),
    ];
    let stored = stored();
    assert_eq!(stored.len(), expected.len());
    for ((situation, item), (expected, state, outcome, held)) in stored.iter().zip(expected) {
        let record = Record::from_item(item).unwrap_or_else(|error| panic!("{situation}: {error}"));
        assert_eq!((situation.as_str(), told(&record)), (expected, (state, outcome, held)));
        assert_eq!(record.due_at.is_some(), !state.is_final(), "{situation}");
        let has_link = record.outcome() == succeeded || record.fallback.is_some();
        let links = links(&record);
        assert_eq!(links.len(), usize::from(has_link), "{situation}");
        assert!(
            links.iter().all(|link| link.starts_with("https://origin.example:") && link.contains("video.mp4")),
            "{situation}: {links:?}"
        );
        assert!(record.created_at.is_some() && record.raw.is_empty() == (expected == "submitted"), "{situation}");
    }
}

#[test]
fn a_stored_checkpoint_names_its_upload_and_its_parts() {
    let (_, item) =
        stored().into_iter().find(|(situation, _)| situation == "copy that continues").expect("it is there");
    let checkpoint = Record::from_item(&item).expect("a record").checkpoints.take("video");
    assert_eq!((checkpoint.failed_rounds, checkpoint.stalled_rounds), (2, 1));
    let upload = checkpoint.upload.expect("an upload");
    assert_eq!((upload.id.as_str(), upload.source.length, upload.piece_size), ("upload-1", 32 << 20, 8 << 20));
    let parts: Vec<_> = upload.parts.0.iter().map(|part| (part.piece, part.checksum, part.etag_text())).collect();
    assert_eq!(parts, [(3, 0x0001_0203_0405_0607, "\"000102030405060708090a0b0c0d0e0f\"".to_owned())]);
}
