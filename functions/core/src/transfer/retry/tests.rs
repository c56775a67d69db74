use super::*;
use crate::redacted::SignedUrl;
use crate::report::Kind;
use crate::result::Checksum;
use crate::transfer::checkpoint::{SavedPart, SavedParts};
use crate::transfer::fault::{BlockedLink, Difference};
use crate::transfer::media::LooksLike;
use crate::transfer::ranges::{SourceVersion, Validator};
use crate::transfer::selection::plan;

const REPORTED_AT: Timestamp = Timestamp::from_seconds(1_800_000_000);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

const NOT_FOUND: CopyFault = CopyFault::Origin(OriginFault::NotThere { status: 404 });
const DROPPED: CopyFault = CopyFault::Origin(OriginFault::Dropped);
const UNAVAILABLE: CopyFault = CopyFault::Origin(OriginFault::Status { status: 503, retry_after: None });

fn storage() -> CopyFault {
    CopyFault::Storage { operation: "UploadPart", reason: "SlowDown".to_owned() }
}

/// An artifact whose link dies an hour after the report, in its first round.
struct Story {
    kind: Kind,
    source: Source,
    link_life: Option<Duration>,
    refreshed: Option<Refreshed>,
    failed_rounds: u32,
    stalled_rounds: u32,
}

impl Story {
    fn of(kind: Kind) -> Self {
        let source = Source::Url(SignedUrl::new("https://cdn.example.com/a"));
        Self { kind, source, link_life: Some(HOUR), refreshed: None, failed_rounds: 1, stalled_rounds: 0 }
    }

    fn video() -> Self {
        Self::of(Kind::Video)
    }

    fn refreshed(self, refreshed: Refreshed) -> Self {
        Self { refreshed: Some(refreshed), ..self }
    }

    fn fresh(self) -> Self {
        let source = Source::Url(SignedUrl::new("https://cdn.example.com/b"));
        let fresh = Artifact { kind: self.kind, source, expires_at: None };
        self.refreshed(Refreshed::Fresh(fresh))
    }

    /// What a fault leads to this long after the report. Gives the wait of a retry in seconds.
    fn after(self, fault: &CopyFault, age: Duration) -> Step {
        let expires_at = self.link_life.map(|life| REPORTED_AT + life);
        // With a video beside it, so that a cover is not all there is.
        let beside = Artifact { kind: Kind::Video, source: self.source.clone(), expires_at };
        let artifacts = [Artifact { kind: self.kind, source: self.source, expires_at }, beside];
        let planned = plan("tasks/vidu/1/", &artifacts, None);
        let planned = planned.iter().find(|planned| planned.artifact.kind == self.kind).expect("it is planned");
        let (failed_rounds, stalled_rounds) = (self.failed_rounds, self.stalled_rounds);
        let state = ArtifactState {
            planned,
            reported_at: REPORTED_AT,
            usual_link_life: 2 * HOUR,
            refreshed: self.refreshed.as_ref(),
            checkpoint: &Checkpoint { upload: None, failed_rounds, stalled_rounds },
        };
        let now = REPORTED_AT + age;
        match after_failure(fault, &state, now) {
            CopyStep::Refresh => Step::Refresh,
            CopyStep::Retry { at } => {
                assert!(at > now, "a retry lies ahead");
                Step::Retry(now.until(at).as_secs())
            }
            CopyStep::Resume => Step::Resume,
            CopyStep::UseExisting(_) => Step::UseExisting,
            CopyStep::Missing { .. } => Step::Missing,
            CopyStep::Lost { .. } => Step::Lost,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Refresh,
    Retry(u64),
    Resume,
    UseExisting,
    Missing,
    Lost,
}

impl Step {
    fn is_retry(self) -> bool {
        matches!(self, Self::Retry(_))
    }
}

/// Another link is requested from the provider first, and a file is lost only when its link is dead and the provider, having
/// answered, has no other.
#[test]
fn a_dead_link_is_lost_only_when_the_provider_says_that_there_is_no_other() {
    use Refreshed::{NoOtherLink, NoResponse};
    let not_media = CopyFault::NotMedia { looks_like: LooksLike::Html };
    let cut_off = CopyFault::CutOff { claimed: 10, bytes: 5 };
    let faults = [
        NOT_FOUND,
        CopyFault::Origin(OriginFault::Encoded),
        CopyFault::Blocked(BlockedLink::Address),
        CopyFault::UnknownEnd,
        not_media,
        cut_off,
    ];
    let minutes = |minutes: u32| MINUTE * minutes;
    for fault in &faults {
        let video = Story::video;
        assert_eq!(video().after(fault, MINUTE), Step::Refresh, "{fault}: another link may help at once");
        for (story, state, age, expected) in [
            ("not there yet", video().refreshed(NoOtherLink), minutes(14), None),
            ("the link is alive", video().refreshed(NoOtherLink), minutes(59), None),
            ("its end has come", video().refreshed(NoOtherLink), minutes(60), Some(Step::Lost)),
            ("the fresh link is dead as well", video().fresh(), minutes(60), Some(Step::Lost)),
            ("the fresh link is not there yet", video().fresh(), minutes(14), None),
            ("the provider does not respond", video().refreshed(NoResponse), minutes(61), None),
            ("nor for a day", video().refreshed(NoResponse), 24 * HOUR + 59 * MINUTE, None),
            ("nor for more than a day", video().refreshed(NoResponse), HOUR + DAY, Some(Step::Lost)),
            (
                "a link that lives for minutes",
                Story { link_life: Some(MINUTE), ..video() }.refreshed(NoOtherLink),
                minutes(14),
                None,
            ),
            (
                "a link that lives for minutes, later",
                Story { link_life: Some(MINUTE), ..video() }.refreshed(NoOtherLink),
                minutes(15),
                Some(Step::Lost),
            ),
            (
                "the provider's usual life",
                Story { link_life: None, ..video() }.refreshed(NoOtherLink),
                minutes(119),
                None,
            ),
            (
                "a link that claims to live for a month",
                Story { link_life: Some(30 * DAY), ..video() }.refreshed(NoOtherLink),
                DAY,
                Some(Step::Lost),
            ),
        ] {
            let step = state.after(fault, age);
            match expected {
                Some(expected) => assert_eq!(step, expected, "{fault}: {story}"),
                None => assert!(step.is_retry(), "{fault}: {story}: {step:?}"),
            }
        }
    }
}

/// Before the rule was in one place, a provider's outage of a few minutes at the end of a link lost the video.
#[test]
fn a_file_id_waits_a_day_from_the_report_for_a_provider_that_does_not_respond() {
    let file = || Story { source: Source::FileId("7".to_owned()), ..Story::video() };
    assert_eq!(file().after(&CopyFault::NoLink, MINUTE), Step::Refresh);
    assert!(file().refreshed(Refreshed::NoResponse).after(&CopyFault::NoLink, 23 * HOUR).is_retry());
    assert_eq!(file().refreshed(Refreshed::NoResponse).after(&CopyFault::NoLink, DAY), Step::Lost);
    assert!(file().refreshed(Refreshed::NoOtherLink).after(&CopyFault::NoLink, MINUTE).is_retry());
    assert_eq!(file().refreshed(Refreshed::NoOtherLink).after(&CopyFault::NoLink, HOUR), Step::Lost);
}

#[test]
fn an_outage_of_the_origin_is_waited_out_past_the_end_of_the_link() {
    let video = Story::video;
    for fault in [
        UNAVAILABLE,
        CopyFault::Origin(OriginFault::Name),
        CopyFault::Origin(OriginFault::Silent),
        CopyFault::Origin(OriginFault::Unexpected { status: 400 }),
        DROPPED,
    ] {
        assert!(video().after(&fault, MINUTE).is_retry(), "{fault}: no other link is requested");
        assert!(video().after(&fault, 2 * HOUR).is_retry(), "{fault}: clocks differ");
        assert_eq!(video().after(&fault, 2 * HOUR + MINUTE), Step::Refresh, "{fault}");
        assert_eq!(video().refreshed(Refreshed::NoOtherLink).after(&fault, 2 * HOUR + MINUTE), Step::Lost, "{fault}");
        assert!(video().refreshed(Refreshed::NoResponse).after(&fault, 2 * HOUR + MINUTE).is_retry(), "{fault}");
    }
}

#[test]
fn an_origin_that_wants_to_be_left_alone_is_as_long_as_a_round_remains() {
    let fault = |seconds| {
        CopyFault::Origin(OriginFault::Status { status: 429, retry_after: Some(Duration::from_secs(seconds)) })
    };
    assert_eq!(Story::video().after(&fault(600), MINUTE), Step::Retry(600));
    assert_eq!(Story::video().after(&fault(86_400), MINUTE), Step::Retry(59 * 60));
    let Step::Retry(own) = Story::video().after(&fault(1), MINUTE) else { panic!("it is tried again") };
    assert!((10..=13).contains(&own), "{own}");
    // A cover does not hold its video back, whatever its origin wants.
    assert_eq!(Story::of(Kind::Cover).after(&fault(86_400), MINUTE), Step::Retry(14 * 60));
}

#[test]
fn a_cover_is_given_up_after_three_rounds_or_a_quarter_of_an_hour() {
    for kind in [Kind::Cover, Kind::LastFrame] {
        for fault in [NOT_FOUND, UNAVAILABLE, DROPPED, storage()] {
            let cover = |failed_rounds| Story { failed_rounds, ..Story::of(kind) }.refreshed(Refreshed::NoResponse);
            assert!(cover(1).after(&fault, MINUTE).is_retry(), "{fault}");
            assert!(cover(2).after(&fault, MINUTE).is_retry(), "{fault}");
            assert_eq!(cover(3).after(&fault, MINUTE), Step::Missing, "{fault}");
            assert!(cover(1).after(&fault, 14 * MINUTE).is_retry(), "{fault}");
            assert_eq!(cover(1).after(&fault, 15 * MINUTE), Step::Missing, "{fault}");
        }
        let dead = Story { failed_rounds: 3, ..Story::of(kind) };
        assert_eq!(dead.after(&NOT_FOUND, MINUTE), Step::Refresh, "another link is worth one request");
        let cover = |failed_rounds| Story { failed_rounds, ..Story::of(kind) };
        assert_eq!(cover(2).after(&CopyFault::OutOfTime, MINUTE), Step::Resume);
        assert_eq!(cover(3).after(&CopyFault::OutOfTime, MINUTE), Step::Missing);
    }
}

/// A stream that does not fit into one invocation used to be read from its beginning by one invocation after the other.
#[test]
fn a_copy_without_progress_ends_after_five_rounds() {
    let stalled = |stalled_rounds| Story { stalled_rounds, ..Story::video() };
    assert_eq!(stalled(4).after(&CopyFault::OutOfTime, 14 * HOUR), Step::Resume);
    assert_eq!(stalled(5).after(&CopyFault::OutOfTime, MINUTE), Step::Lost);
    for fault in [DROPPED, CopyFault::Origin(OriginFault::Stalled), CopyFault::Origin(OriginFault::Changing)] {
        assert!(stalled(4).after(&fault, 20 * MINUTE).is_retry(), "{fault}");
        assert!(stalled(5).after(&fault, 14 * MINUTE).is_retry(), "{fault}: five short rounds are over in minutes");
        assert_eq!(stalled(5).after(&fault, 15 * MINUTE), Step::Refresh, "{fault}: another link may be better");
        assert_eq!(stalled(5).refreshed(Refreshed::NoOtherLink).after(&fault, 15 * MINUTE), Step::Lost, "{fault}");
        assert!(stalled(5).refreshed(Refreshed::NoResponse).after(&fault, 15 * MINUTE).is_retry(), "{fault}");
    }
    assert!(stalled(5).after(&UNAVAILABLE, 20 * MINUTE).is_retry(), "an outage is another story");
}

#[test]
fn what_no_retry_heals_ends_at_once_and_the_bucket_is_tried_for_as_long_as_it_takes() {
    let too_large = CopyFault::TooLarge { limit: MAX_FILE_BYTES };
    assert_eq!(Story::video().after(&too_large, MINUTE), Step::Lost);
    assert_eq!(Story::of(Kind::Cover).after(&too_large, MINUTE), Step::Missing);
    assert!(Story::video().refreshed(Refreshed::NoOtherLink).after(&storage(), 40 * DAY).is_retry());
    let checksum = || Checksum { algorithm: "CRC64NVME".to_owned(), value: String::new() };
    let existing = StoredArtifact {
        kind: Kind::Video,
        key: "tasks/vidu/1/video.mp4".to_owned(),
        bytes: 1,
        checksum: checksum(),
        content_type: "video/mp4".to_owned(),
    };
    let difference = Difference { existing, bytes: 2, checksum: checksum() };
    assert_eq!(Story::video().after(&Box::new(difference).into(), MINUTE), Step::UseExisting);
}

#[test]
fn rounds_are_counted_by_what_they_added() {
    let upload = |parts: u64| {
        let part = |piece| SavedPart::new(piece, 0, &"f".repeat(32)).expect("a part");
        SavedUpload {
            id: "upload".to_owned(),
            key: "tasks/vidu/1/video.mp4".to_owned(),
            content_type: "video/mp4".to_owned(),
            source: SourceVersion { length: 1, validator: Validator::Etag("\"a\"".to_owned()) },
            piece_size: 1,
            parts: SavedParts((0..parts).map(part).collect()),
        }
    };
    let before = Checkpoint { upload: Some(upload(3)), failed_rounds: 7, stalled_rounds: 2 };
    for (story, fault, after, stalled_rounds) in [
        ("a part more", CopyFault::OutOfTime, Some(upload(4)), 0),
        ("no part more", CopyFault::OutOfTime, Some(upload(3)), 3),
        ("started again, and not as far as before", CopyFault::OutOfTime, Some(upload(2)), 3),
        ("nothing kept", DROPPED, None, 3),
        ("not there: nothing was read", NOT_FOUND, Some(upload(3)), 2),
        ("the bucket failed", storage(), Some(upload(3)), 2),
    ] {
        let round = after_round(&before, &fault, after.clone());
        assert_eq!(round, Checkpoint { upload: after, failed_rounds: 8, stalled_rounds }, "{story}");
    }
    assert_eq!(after_round(&before, &CopyFault::NotBegun, before.upload.clone()), before, "its turn did not come");
}

#[test]
fn rounds_are_closer_together_when_the_link_is_about_to_die() {
    let now = REPORTED_AT;
    let waits: Vec<u64> = (1..8).map(|rounds| now.until(next_copy_attempt(now, rounds, None, 1)).as_secs()).collect();
    for (wait, nominal) in waits.iter().zip([10, 20, 40, 80, 160, 240, 240]) {
        assert!((nominal..=nominal + nominal / 4 + 1).contains(wait), "{waits:?}");
    }
    let until = |rounds, end| now.until(next_copy_attempt(now, rounds, Some(end), 1)).as_secs();
    assert_eq!(until(6, now + Duration::from_secs(100)), 25);
    assert_eq!(until(6, now + Duration::from_secs(1)), 1);
    assert!(until(u32::MAX, now - Duration::from_secs(5)) >= 240);
}

#[test]
fn attempts_within_a_round_wait_longer_each_time_and_end() {
    let status = |retry_after| OriginFault::Status { status: 503, retry_after };
    let mut failures = FailureCount::default();
    for nominal in [250, 500, 1000, 2000] {
        let wait = failures.delay_after(OriginFault::Connect, 1).expect("another attempt").as_millis();
        assert!((nominal..=nominal + nominal / 4).contains(&wait), "{nominal}: {wait}");
    }
    assert_eq!(failures.delay_after(OriginFault::Connect, 1), None);
    let first = |fault| FailureCount::default().delay_after(fault, 1);
    for (seconds, expected) in [(3, Some(3)), (10, Some(10)), (11, None)] {
        assert_eq!(first(status(Some(Duration::from_secs(seconds)))), expected.map(Duration::from_secs));
    }
    for fault in [OriginFault::NotThere { status: 404 }, OriginFault::Encoded, OriginFault::Unexpected { status: 302 }]
    {
        assert_eq!(first(fault), None, "{fault} does not pass within seconds");
    }
    let mut silences = FailureCount::default();
    let waits = (0..9).take_while(|_| silences.delay_after(OriginFault::Silent, 1).is_some()).count();
    assert_eq!(waits, 2, "each costs a quarter of a minute");
    let mut storage = FailureCount::default();
    assert_eq!((0..9).take_while(|_| storage.delay_after_storage(1).is_some()).count(), 4);
}

#[test]
fn pieces_are_moved_only_while_they_are_outliers() {
    for (of_piece, of_copy, parts, allowed) in
        [(0, 0, 0, true), (1, 0, 0, true), (2, 0, 80, false), (0, 1, 7, false), (0, 1, 8, true), (0, 3, 16, false)]
    {
        assert_eq!(may_move(of_piece, of_copy, parts), allowed, "{of_piece} {of_copy} {parts}");
    }
}

#[test]
fn an_upload_is_kept_only_for_what_can_end_in_the_same_file() {
    for (fault, resumable) in [
        (NOT_FOUND, true),
        (DROPPED, true),
        (UNAVAILABLE, true),
        (storage(), true),
        (CopyFault::OutOfTime, true),
        (CopyFault::NotBegun, true),
        (CopyFault::NoLink, true),
        (CopyFault::Origin(OriginFault::Encoded), false),
        (CopyFault::NotMedia { looks_like: LooksLike::Html }, false),
        (CopyFault::CutOff { claimed: 2, bytes: 1 }, false),
        (CopyFault::TooLarge { limit: 1 }, false),
        (CopyFault::Blocked(BlockedLink::Scheme), false),
        (CopyFault::UnknownEnd, false),
    ] {
        assert_eq!(fault.is_resumable(), resumable, "{fault}");
    }
}

#[test]
fn a_link_known_to_be_dead_is_refreshed_before_it_is_tried() {
    let link = |expires_at| Artifact {
        kind: Kind::Video,
        source: Source::Url(SignedUrl::new("https://cdn.example.com/a")),
        expires_at,
    };
    let file = Artifact { source: Source::FileId("7".to_owned()), ..link(None) };
    assert!(needs_fresh_link(&file, REPORTED_AT));
    assert!(!needs_fresh_link(&link(None), REPORTED_AT));
    assert!(!needs_fresh_link(&link(Some(REPORTED_AT + MINUTE)), REPORTED_AT));
    assert!(needs_fresh_link(&link(Some(REPORTED_AT)), REPORTED_AT));
}
