//! Whatever is recorded fits into an item of `DynamoDB`, or a callback could not be acknowledged.

use reelhook_core::callback::{Accepted, Hint, MAX_RAW, Raw, Reporter};
use reelhook_core::item::{Item, Value};
use reelhook_core::providers::adapter::HintReason;
use reelhook_core::record::{PendingHint, Record};
use reelhook_core::redacted::SignedUrl;
use reelhook_core::report::{Artifact, Failure, Kind, Outcome, Reason, Report, Source, TaskStatus};
use reelhook_core::result::{Checksum, StoredArtifact};
use reelhook_core::transfer::checkpoint::{Checkpoint, Checkpoints, SavedPart, SavedParts, SavedUpload};
use reelhook_core::transfer::parts::{MAX_PIECES, MIN_PIECE};
use reelhook_core::transfer::ranges::{SourceVersion, Validator};
use reelhook_core::transfer::selection::plan;
use reelhook_core::transition::reports::{self, Due};
use reelhook_core::transition::{Applied, Transition, leases};
use reelhook_core::{Provider, TaskKey, Timestamp};

/// By <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html>: names and values, in UTF-8.
const MAX_ITEM: usize = 400 * 1024;

const NOW: Timestamp = Timestamp::from_seconds(1_790_000_000);

/// A number takes up to 21 bytes.
fn size(item: &Item) -> usize {
    let value = |value: &Value| match value {
        Value::Text(text) => text.len(),
        Value::Number(_) => 21,
    };
    item.iter().map(|(attribute, held)| attribute.to_string().len() + value(held)).sum()
}

/// An item that grows by real transitions.
struct Table(Option<Item>);

impl Table {
    /// Applies a transition, and returns the record and its size. Adds what no rule here bounds: the endpoint and the
    /// fingerprint of a submission, and the id of the write.
    fn apply(&mut self, transition: &Transition) -> Record {
        let Applied::Done(Some(item)) = transition.evaluate(self.0.take()) else {
            panic!("{} was refused", transition.action)
        };
        let size = size(&item) + 8 * 1024;
        assert!(size < MAX_ITEM, "{} bytes after {}", size, transition.action);
        let record = Record::from_item(&item).expect("a record");
        self.0 = Some(item);
        record
    }
}

fn id() -> String {
    "ü/".repeat(340)
}

fn key() -> TaskKey {
    TaskKey::unregistered(Provider::RelayDance, &id())
}

/// The largest success an adapter can make of a body of any size.
fn success() -> Report {
    let artifact = |index: usize| Artifact {
        kind: Kind::WatermarkedVideo,
        source: Source::Url(SignedUrl::new(format!("https://a/{index:04}?{}", "x".repeat(1500)))),
        expires_at: Some(NOW),
    };
    match TaskStatus::succeeded((0..3000).map(artifact).collect()) {
        TaskStatus::Finished(report) => report,
        TaskStatus::Open(_) => panic!("a success is final"),
    }
}

fn artifacts(report: &Report) -> Vec<String> {
    let Report::Succeeded { artifacts, .. } = report else { panic!("no success") };
    plan(&key().prefix(), artifacts, None).into_iter().map(|planned| planned.key_stem).collect()
}

/// Unfinished uploads of every file, each with as many parts as an upload has.
fn checkpoints(report: &Report) -> Checkpoints {
    let mut checkpoints = Checkpoints::default();
    for stem in artifacts(report) {
        let part = |piece| SavedPart::new(piece, u64::MAX, &"f".repeat(32)).expect("a part");
        let upload = SavedUpload {
            id: "u".repeat(256),
            key: format!("{stem}.webm"),
            content_type: "video/quicktime".into(),
            source: SourceVersion { length: u64::MAX, validator: Validator::Etag(format!("\"{}\"", "x".repeat(254))) },
            piece_size: MIN_PIECE,
            parts: SavedParts((0..MAX_PIECES).map(part).collect()),
        };
        let name = stem.rsplit('/').next().expect("a name");
        checkpoints.insert(name, Checkpoint { upload: Some(upload), failed_rounds: 9, stalled_rounds: 9 });
    }
    checkpoints
}

fn stored(report: &Report) -> Vec<StoredArtifact> {
    let stored = |stem| StoredArtifact {
        kind: Kind::WatermarkedVideo,
        key: format!("{stem}.webm"),
        bytes: u64::MAX,
        checksum: Checksum { algorithm: "CRC64NVME".into(), value: "AAAAAAAAAAA=".into() },
        content_type: "video/quicktime".into(),
    };
    artifacts(report).into_iter().map(stored).collect()
}

fn failure() -> Failure {
    Failure::new(Reason::Unknown, false).code("\u{1}".repeat(5000)).message("\u{1}".repeat(5000))
}

fn hint(reason: HintReason, fallback: Option<Report>) -> Hint {
    Hint {
        key: key(),
        provider_task_id: Some(id()),
        reason,
        outcome: Some(Outcome::Succeeded),
        fallback,
        raw: Raw::new("ü".repeat(MAX_RAW).as_bytes()),
        endpoint: None,
    }
}

#[test]
fn the_largest_record_the_rules_can_make_fits_into_an_item() {
    let report = success();
    assert_eq!(artifacts(&report).len(), 50);
    let mut table = Table(None);
    table.apply(&reports::note_hint(&hint(HintReason::Unreadable, None), NOW, NOW, Due::Kept));
    table.apply(&reports::note_hint(&hint(HintReason::Unsigned, Some(report.clone())), NOW, NOW, Due::Kept));
    let record = table.apply(&leases::claim(&key(), NOW, NOW));
    table.apply(&leases::release_open(&record, NOW, Some(&PendingHint::new(NOW))));

    // A failure, then lost with all its files but one in the bucket, then hinted to be a success after all.
    let body = "ü".repeat(MAX_RAW);
    let accepted = |report| Accepted::confirmed(key(), Some(id()), report, Reporter::Poll, Raw::new(body.as_bytes()));
    table.apply(&reports::report(&accepted(Report::Failed(failure())), None, NOW, Due::Kept));
    let record = table.apply(&leases::claim(&key(), NOW, NOW));
    table.apply(&leases::settle(&record, &Report::Lost(failure()), &stored(&report), NOW));
    table.apply(&reports::reopen(&hint(HintReason::Unsigned, Some(report.clone())), NOW));

    // The success, with everything unfinished, and archived.
    table.apply(&reports::report(&accepted(report.clone()), None, NOW, Due::Kept));
    let record = table.apply(&leases::claim(&key(), NOW, NOW));
    let last_error = "ü".repeat(2000);
    table.apply(&leases::release_unfinished(&record, NOW, Some(&checkpoints(&report)), Some(&last_error)));
    let record = table.apply(&leases::claim(&key(), NOW, NOW));
    table.apply(&leases::settle(&record, &report, &stored(&report), NOW));
}
