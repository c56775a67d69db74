//! Copies that end before they are done, and what the next one makes of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reelhook_aws::copy::PriorAttempt;
use reelhook_core::Timestamp;
use reelhook_core::redacted::SignedUrl;
use reelhook_core::report::{Artifact, Kind, Source};
use reelhook_core::transfer::checkpoint::{Checkpoint, SavedUpload};
use reelhook_core::transfer::fault::{CopyFault, OriginFault};
use reelhook_core::transfer::parts::MAX_OBJECT_BYTES;
use reelhook_core::transfer::retry::{ArtifactState, CopyStep, after_failure, after_round};
use reelhook_core::transfer::selection::plan;
use tokio::time::Instant;

use crate::bucket::Fault;
use crate::origin::{Film, Reply, Request};
use crate::{MEBIBYTE, Stage};

/// Through the record and back.
fn stored(upload: Option<SavedUpload>) -> SavedUpload {
    let upload = upload.expect("something was kept");
    let text = serde_json::to_string(&upload).expect("it can be stored");
    let read: SavedUpload = serde_json::from_str(&text).expect("it can be read");
    assert_eq!(read, upload);
    read
}

/// Ranges that were requested, in order of their beginnings.
fn requested(stage: &Stage, target: &str) -> Vec<(u64, u64)> {
    let requests = stage.origin.requests();
    let mut ranges: Vec<_> =
        requests.iter().filter(|request| request.target == target).filter_map(Request::range).collect();
    ranges.sort_unstable();
    ranges
}

#[tokio::test]
async fn a_copy_whose_link_expires_midway_is_resumed_with_a_fresh_one() {
    let stage = Stage::new().await;
    let film = Film::new(100_000_000, 1);
    let served = film.clone();
    stage.origin.on("/v?signature=old", move |request| match request.earlier {
        0..6 => Reply::honest(&served, Some("\"a\""), request),
        _ => Reply {
            delay: Duration::from_millis(300),
            ..Reply::status(403, "<Error><Code>AccessDenied</Code></Error>")
        },
    });
    stage.origin.film("/v?signature=new", &film);
    let served = film.clone();
    stage.origin.on("/v?signature=new", move |request| Reply::honest(&served, Some("\"a\""), request));

    let failure = stage.copy("/v?signature=old").await.expect_err("it expired");
    assert!(matches!(failure.fault, CopyFault::Origin(OriginFault::NotThere { status: 403 })), "{failure}");
    let kept = failure.upload.as_ref().map_or(0, |upload| upload.parts.0.len());
    assert!(kept >= 4, "{kept} parts were kept");
    assert!(stage.bucket.keys().is_empty());

    let result = stage.resume("/v?signature=new", stored(failure.upload)).await;
    stage.assert_stored(&film, &result);
    assert_eq!(requested(&stage, "/v?signature=new").len(), 12 - kept, "only what was missing");
}

#[tokio::test]
async fn a_redirect_whose_target_expires_is_followed_again() {
    let stage = Stage::new().await;
    let film = Film::new(100_000_000, 1);
    stage.origin.on("/v", |request| Reply::redirect(&format!("/cdn?n={}", request.earlier)));
    for number in 0..20 {
        let served = film.clone();
        stage.origin.on(&format!("/cdn?n={number}"), move |request| match request.earlier {
            0..5 => Reply::honest(&served, Some("\"a\""), request),
            _ => Reply::status(403, "expired"),
        });
    }
    let result = stage.copy("/v").await;
    stage.assert_stored(&film, &result);
}

#[tokio::test]
async fn the_end_of_the_invocation_stops_cleanly_and_the_next_resumes() {
    let stage = Stage::new().await;
    let film = Film::new(100_000_000, 1);
    let slow = Arc::new(AtomicBool::new(true));
    let (served, is_slow) = (film.clone(), Arc::clone(&slow));
    stage.origin.on("/v", move |request| Reply {
        // The pieces that come first are fast, the others take a minute.
        bytes_per_second: (is_slow.load(Ordering::Relaxed) && request.earlier >= 5).then_some(140_000),
        ..Reply::honest(&served, Some("\"a\""), request)
    });
    let began = Instant::now();
    let time = Duration::from_secs(6);
    let link = stage.origin.link("/v");
    let failure = stage.copy_with(&link, time, PriorAttempt::None, None).await.expect_err("time is up");
    assert!(matches!(failure.fault, CopyFault::OutOfTime), "{failure}");
    assert!(began.elapsed() < time, "{:?}", began.elapsed());
    let upload = stored(failure.upload);
    let kept = upload.parts.0.len();
    assert!((5..12).contains(&kept), "{kept} parts were kept");
    assert_eq!(stage.bucket.unfinished(), (kept, 1), "what is kept is what is there");

    slow.store(false, Ordering::Relaxed);
    let before = stage.origin.requests().len();
    let result = stage.resume("/v", upload).await;
    stage.assert_stored(&film, &result);
    assert_eq!(stage.origin.requests().len() - before, 12 - kept, "only what was missing");
}

#[tokio::test]
async fn a_stream_that_is_not_done_in_time_leaves_nothing() {
    let stage = Stage::new().await;
    let film = Film::new(100_000_000, 1);
    stage.origin.on("/v", move |request| Reply {
        bytes_per_second: Some(10_000_000),
        ..Reply::whole(&film, Some("\"a\""), request)
    });
    let began = Instant::now();
    let time = Duration::from_secs(6);
    let failure =
        stage.copy_with(&stage.origin.link("/v"), time, PriorAttempt::None, None).await.expect_err("time is up");
    assert!(matches!(failure.fault, CopyFault::OutOfTime), "{failure}");
    assert!(failure.upload.is_none());
    assert!(began.elapsed() < time, "{:?}", began.elapsed());
    stage.assert_untouched();
}

#[tokio::test]
async fn no_time_at_all_is_no_copy() {
    let stage = Stage::new().await;
    stage.origin.film("/v", &Film::new(100_000, 1));
    for time in [Duration::ZERO, Duration::from_secs(3)] {
        let link = stage.origin.link("/v");
        let failure = stage.copy_with(&link, time, PriorAttempt::None, None).await.expect_err("there is no time");
        assert!(matches!(failure.fault, CopyFault::NotBegun), "{failure}");
    }
    stage.assert_untouched();
}

#[tokio::test]
async fn a_file_that_changed_between_two_deliveries_is_read_afresh() {
    let stage = Stage::new().await;
    let (old, new) = (Film::new(100_000_000, 1), Film::new(100_000_000, 2));
    stage.origin.on("/v", move |request| match request.earlier {
        0..6 => Reply::honest(&old, Some("\"old\""), request),
        _ => Reply { delay: Duration::from_millis(300), ..Reply::status(404, "") },
    });
    let failure = stage.copy("/v").await.expect_err("it is gone");
    let upload = stored(failure.upload);
    let served = new.clone();
    stage.origin.on("/v", move |request| Reply::honest(&served, Some("\"new\""), request));
    let result = stage.resume("/v", upload).await;
    stage.assert_stored(&new, &result);
}

#[tokio::test]
async fn an_upload_that_the_lifecycle_rule_removed_is_started_again() {
    let stage = Stage::new().await;
    let film = Film::new(100_000_000, 1);
    let served = film.clone();
    stage.origin.on("/v", move |request| match request.earlier {
        0..6 => Reply::honest(&served, Some("\"a\""), request),
        _ => Reply { delay: Duration::from_millis(300), ..Reply::status(404, "") },
    });
    let failure = stage.copy("/v").await.expect_err("it is gone");
    let upload = stored(failure.upload);
    stage.bucket.abort_all();
    let served = film.clone();
    stage.origin.on("/v", move |request| Reply::honest(&served, Some("\"a\""), request));
    let result = stage.resume("/v", upload).await;
    stage.assert_stored(&film, &result);
}

#[tokio::test]
async fn a_bucket_that_fails_for_long_keeps_what_it_has() {
    let stage = Stage::new().await;
    let film = Film::new(60_000_000, 1);
    stage.origin.film("/v", &film);
    stage
        .bucket
        .fail(|call| (call.operation == "UploadPart" && call.earlier >= 4).then_some(Fault::Refused(503, "SlowDown")));
    let failure = stage.copy("/v").await.expect_err("the bucket fails");
    assert!(
        matches!(&failure.fault, CopyFault::Storage { operation: "UploadPart", reason } if reason == "SlowDown"),
        "{failure}"
    );
    stage.bucket.heal();
    let upload = stored(failure.upload);
    let result = stage.resume("/v", upload).await;
    stage.assert_stored(&film, &result);
}

#[tokio::test]
async fn a_finished_upload_needs_no_origin() {
    let stage = Stage::new().await;
    let film = Film::new(40 * MEBIBYTE, 1);
    stage.origin.film("/v", &film);
    stage.bucket.fail(|call| (call.operation == "CompleteMultipartUpload").then_some(Fault::Refused(503, "SlowDown")));
    let failure = stage.copy("/v").await.expect_err("the bucket fails");
    stage.bucket.heal();
    let before = stage.origin.requests().len();
    stage.origin.on("/v", |_| Reply::status(410, "gone"));
    let result = stage.resume("/v", stored(failure.upload)).await;
    stage.assert_stored(&film, &result);
    assert_eq!(stage.origin.requests().len(), before);
}

/// Its parts were put together and the response was lost, or another writer was at it; the object is gone since. The same
/// saved upload used to be completed over and over.
#[tokio::test]
async fn a_finished_upload_that_vanished_is_started_again_in_the_same_round() {
    for conflict in [false, true] {
        let stage = Stage::new().await;
        let film = Film::new(40 * MEBIBYTE, 1);
        stage.origin.film("/v", &film);
        stage
            .bucket
            .fail(|call| (call.operation == "CompleteMultipartUpload").then_some(Fault::Refused(503, "SlowDown")));
        let failure = stage.copy("/v").await.expect_err("the bucket fails");
        let before = stage.bucket.calls("CompleteMultipartUpload");
        if conflict {
            stage.bucket.fail(move |call| {
                let first = call.operation == "CompleteMultipartUpload" && call.earlier == before;
                first.then_some(Fault::Refused(409, "ConditionalRequestConflict"))
            });
        } else {
            stage.bucket.heal();
            stage.bucket.abort_all();
        }
        let result = stage.resume("/v", stored(failure.upload)).await;
        stage.assert_stored(&film, &result);
    }
}

#[tokio::test]
async fn what_others_left_is_removed_and_what_is_resumed_is_not() {
    let stage = Stage::new().await;
    let film = Film::new(40 * MEBIBYTE, 1);
    stage.origin.film("/v", &film);
    stage.bucket.leave_upload(crate::KEY);
    stage.bucket.leave_upload("tasks/kling/job-1/video-2.mp4");
    let link = stage.origin.link("/v");
    stage.copy_with(&link, crate::LONG, PriorAttempt::Possible, None).await.expect("it is copied");
    assert_eq!(stage.bucket.unfinished(), (1, 1), "that of the other artifact");
}

#[tokio::test]
async fn an_upload_that_is_not_resumed_can_be_aborted() {
    let stage = Stage::new().await;
    let film = Film::new(100_000_000, 1);
    stage.origin.on("/v", move |request| match request.earlier {
        0..6 => Reply::honest(&film, Some("\"a\""), request),
        _ => Reply { delay: Duration::from_millis(300), ..Reply::status(404, "") },
    });
    let failure = stage.copy("/v").await.expect_err("it is gone");
    stage.copier.abort_upload(&failure.upload.expect("something was kept")).await;
    stage.assert_untouched();
}

#[tokio::test]
async fn what_was_kept_for_another_artifact_is_not_used() {
    let stage = Stage::new().await;
    let film = Film::new(60_000_000, 1);
    stage.origin.film("/v", &film);
    stage.bucket.leave_upload("tasks/kling/job-2/video.mp4");
    let text = r#"{"id":"left-tasks/kling/job-2/video.mp4","key":"tasks/kling/job-2/video.mp4","content_type":"video/mp4",
        "source":{"length":60000000,"validator":{"etag":"\"one\""}},"piece_size":8388608,"parts":""}"#;
    let other: SavedUpload = serde_json::from_str(text).expect("it can be read");
    let result = stage.resume("/v", other).await;
    assert_eq!(stage.bucket.unfinished(), (1, 1), "it belongs to somebody else");
    stage.bucket.abort_all();
    stage.assert_stored(&film, &result);
}

/// 62.5 GiB and more have pieces that are too large to be held. Such a file fits into no test, so this one ends when three of
/// its pieces are there.
#[tokio::test]
async fn pieces_that_are_too_large_to_be_held_are_streamed() {
    let stage = Stage::new().await;
    let stage = Stage { copier: stage.copier.max_bytes(MAX_OBJECT_BYTES), ..stage };
    let length = 63 * 1024 * MEBIBYTE;
    let film = Film::new(length, 1);
    let served = film.clone();
    stage.origin.on("/v", move |request| {
        let reply = Reply::honest(&served, Some("\"a\""), request);
        match reply.start / (17 * MEBIBYTE) {
            // Broken off in the middle, it is resumed.
            0 if reply.start < 5_000_000 => Reply { drop_after: Some(5_000_000), ..reply },
            0..3 => reply,
            _ => Reply { delay: Duration::from_secs(3), ..Reply::status(404, "") },
        }
    });
    // The bucket fails once: the part is copied again.
    stage.bucket.fail(|call| {
        (call.operation == "UploadPart" && call.earlier == 1).then_some(Fault::Refused(500, "InternalError"))
    });
    let failure = stage.copy("/v").await.expect_err("there is no more");
    assert!(matches!(failure.fault, CopyFault::Origin(OriginFault::NotThere { status: 404 })), "{failure}");
    let upload = failure.upload.expect("three parts are kept");
    assert_eq!(upload.piece_size, 17 * MEBIBYTE);
    assert_eq!(upload.parts.0.iter().map(|part| part.piece).max(), Some(2));
    assert_eq!(upload.parts.0.len(), 3);
    for part in &upload.parts.0 {
        let expected = film.read(u64::from(part.piece) * upload.piece_size, 17 << 20);
        let bytes = stage.bucket.part(&upload.id, u32::from(part.piece) + 1).expect("it is there");
        assert!(bytes == expected, "part {}", part.piece);
        assert_eq!(part.checksum, crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &expected));
    }
}

/// A task with more files than are copied side by side: the last of them waited behind three slow ones until the invocation
/// ended, and after five such rounds it was given up although nothing had ever been requested for it.
#[tokio::test]
async fn a_file_whose_turn_did_not_come_has_not_failed() {
    let stage = Stage::new().await;
    let film = Film::new(100_000, 1);
    stage.origin.film("/v", &film);
    let link = stage.origin.link("/v");
    let reported_at = Timestamp::from_seconds(1_800_000_000);
    let artifact = |kind| Artifact { kind, source: Source::Url(SignedUrl::new(link.clone())), expires_at: None };
    for planned in plan("tasks/kling/job-1/", &[artifact(Kind::Video), artifact(Kind::Cover)], None) {
        let mut checkpoint = Checkpoint::default();
        for round in 1..8 {
            let none = Duration::ZERO;
            let failure = stage.copy_with(&link, none, PriorAttempt::None, None).await.expect_err("there is no time");
            checkpoint = after_round(&checkpoint, &failure.fault, failure.upload);
            let copied = ArtifactState {
                planned: &planned,
                reported_at,
                usual_link_life: Duration::from_hours(24),
                refreshed: None,
                checkpoint: &checkpoint,
            };
            let step = after_failure(&failure.fault, &copied, reported_at + Duration::from_mins(15) * round);
            assert_eq!(step, CopyStep::Resume, "{} in round {round}", planned.name);
        }
        assert_eq!(checkpoint, Checkpoint::default());
    }
    let result = stage.copy("/v").await;
    stage.assert_stored(&film, &result);
}
