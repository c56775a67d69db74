//! What arrives in the bucket, in how many requests, and what happens when something exists there or the bucket fails.

use std::time::Duration;

use futures_util::future::join_all;
use reelhook_aws::copy::{CopyFailure, CopyRequest, PriorAttempt};
use reelhook_core::Timestamp;
use reelhook_core::redacted::SignedUrl;
use reelhook_core::report::Kind;
use reelhook_core::result::StoredArtifact;
use reelhook_core::transfer::fault::CopyFault;
use reelhook_core::transfer::media::LooksLike;
use tokio::time::Instant;

use crate::bucket::Fault;
use crate::origin::{Film, Reply};
use crate::{KEY, LONG, MEBIBYTE, REPORTED_AT, STEM, Stage};

#[tokio::test]
async fn files_of_every_size_arrive_whole() {
    let stage = Stage::new().await;
    let lengths = [40, 1 << 20, 8 * MEBIBYTE - 1, 8 * MEBIBYTE, 8 * MEBIBYTE + 1, 16 * MEBIBYTE];
    for length in lengths.into_iter().chain([16 * MEBIBYTE + 1, 50_000_001]) {
        let film = Film::new(length, length);
        let target = format!("/{length}");
        stage.origin.film(&target, &film);
        let request = CopyRequest {
            task: &crate::task(),
            link: &SignedUrl::new(stage.origin.link(&target)),
            credential: None,
            key_stem: &format!("tasks/kling/{length}/video"),
            kind: Kind::Video,
            tagging: None,
            reported_at: REPORTED_AT,
            expires_at: None,
            deadline: Instant::now() + LONG,
            prior: PriorAttempt::None,
            resume: None,
        };
        let artifact = stage.copier.copy(request).await.expect("it is copied");
        assert_eq!(artifact.key, format!("tasks/kling/{length}/video.mp4"));
        let object = stage.bucket.object(&artifact.key).expect("the object is there");
        assert!(object.bytes == film.bytes(), "{length}");
        assert_eq!((artifact.bytes, &artifact.checksum.value), (length, &object.checksum));
    }
    assert_eq!(stage.bucket.calls("PutObject"), lengths.len());
    assert_eq!(stage.bucket.calls("CompleteMultipartUpload"), 2);
    assert_eq!(stage.bucket.unfinished(), (0, 0));
}

#[tokio::test]
async fn a_small_file_takes_one_request_on_either_side() {
    let stage = Stage::new().await;
    let film = Film::new(3 * MEBIBYTE, 1);
    stage.origin.film("/v", &film);
    let result = stage.copy("/v").await;
    stage.assert_stored(&film, &result);
    assert_eq!(stage.origin.requests().len(), 1);
    assert_eq!(stage.bucket.calls("PutObject"), 1);
    assert_eq!(stage.bucket.calls("HeadObject"), 0);
}

#[tokio::test]
async fn the_extension_and_the_content_type_follow_from_the_bytes() {
    let stage = Stage::new().await;
    for (beginning, extension, content_type) in [
        (b"GIF89a".as_slice(), "gif", "image/gif"),
        (b"RIFF\xff\xff\xff\xffWEBP", "webp", "image/webp"),
        (b"\x1a\x45\xdf\xa3", "webm", "video/webm"),
        (b"ID3\x04", "mp3", "audio/mpeg"),
    ] {
        // Whatever the origin calls it.
        let film = Film { beginning: beginning.to_vec(), ..Film::new(5000, 1) };
        stage.origin.film("/v", &film);
        let artifact = stage.copy("/v").await.expect("it is copied");
        assert_eq!(artifact.key, format!("{STEM}.{extension}"));
        assert_eq!(artifact.content_type, content_type);
        assert_eq!(stage.bucket.object(&artifact.key).expect("it is there").content_type, content_type);
    }
}

#[tokio::test]
async fn a_picture_is_a_cover_and_no_video() {
    let stage = Stage::new().await;
    let film = Film { beginning: b"\x89PNG\r\n\x1a\n".to_vec(), ..Film::new(5000, 1) };
    stage.origin.film("/v", &film);
    let fault = stage.copy("/v").await.expect_err("it is no video").fault;
    assert!(matches!(fault, CopyFault::NotMedia { looks_like: LooksLike::StillImage }), "{fault}");
    stage.assert_untouched();
    let request = CopyRequest {
        task: &crate::task(),
        link: &SignedUrl::new(stage.origin.link("/v")),
        credential: None,
        key_stem: "tasks/kling/job-1/cover",
        kind: Kind::Cover,
        tagging: None,
        reported_at: REPORTED_AT,
        expires_at: Some(Timestamp::from_seconds(1)),
        deadline: Instant::now() + LONG,
        prior: PriorAttempt::None,
        resume: None,
    };
    let artifact = stage.copier.copy(request).await.expect("it is a cover");
    assert_eq!((artifact.key.as_str(), artifact.content_type.as_str()), ("tasks/kling/job-1/cover.png", "image/png"));
}

#[tokio::test]
async fn the_same_file_copied_twice_at_once_is_stored_once_and_both_agree() {
    for length in [5 * MEBIBYTE, 40 * MEBIBYTE] {
        let stage = Stage::new().await;
        let film = Film::new(length, 1);
        stage.origin.film("/v", &film);
        let results = join_all((0..4).map(|_| stage.copy("/v"))).await;
        for result in &results {
            stage.assert_stored(&film, result);
        }
        let third = stage.copy("/v").await;
        stage.assert_stored(&film, &third);
    }
}

#[tokio::test]
async fn another_file_in_its_place_is_left_alone_and_named() {
    for length in [5 * MEBIBYTE, 40 * MEBIBYTE] {
        let stage = Stage::new().await;
        stage.origin.film("/v", &Film::new(length, 1));
        stage.bucket.put(KEY, "somebody else's");
        let failure = stage.copy("/v").await.expect_err("it differs");
        let CopyFault::Conflict(difference) = failure.fault else { panic!("{failure}") };
        let existing = stage.bucket.object(KEY).expect("it is still there");
        assert_eq!(existing.bytes, "somebody else's");
        assert_eq!((difference.existing.bytes, difference.bytes), (15, length));
        assert_eq!(difference.existing.checksum.value, existing.checksum);
        assert_eq!(stage.bucket.unfinished(), (0, 0));
    }
}

#[tokio::test]
async fn a_bucket_that_slows_copies_down_gets_the_file() {
    let stage = Stage::new().await;
    let film = Film::new(40 * MEBIBYTE, 1);
    stage.origin.film("/v", &film);
    stage.bucket.fail(|call| (call.earlier % 2 == 0).then_some(Fault::Refused(503, "SlowDown")));
    let result = stage.copy("/v").await;
    stage.assert_stored(&film, &result);
    assert_eq!(stage.origin.requests().len(), 5, "nothing is requested again from the origin");
}

#[tokio::test]
async fn a_write_whose_response_was_lost_is_found() {
    for length in [5 * MEBIBYTE, 40 * MEBIBYTE] {
        let stage = Stage::new().await;
        let film = Film::new(length, 1);
        stage.origin.film("/v", &film);
        stage.bucket.fail(|call| (call.earlier == 0).then_some(Fault::ResponseLost));
        let result = stage.copy("/v").await;
        // Nor is there an upload left from the first CreateMultipartUpload, whose id nobody has learned.
        stage.assert_stored(&film, &result);
    }
}

#[tokio::test]
async fn two_writers_at_the_same_time_end_in_one_file() {
    let stage = Stage::new().await;
    let film = Film::new(5 * MEBIBYTE, 1);
    stage.origin.film("/v", &film);
    stage
        .bucket
        .fail(|call| (call.operation == "PutObject").then_some(Fault::Refused(409, "ConditionalRequestConflict")));
    let failure = stage.copy("/v").await.expect_err("nothing exists there");
    assert!(matches!(failure.fault, CopyFault::Storage { operation: "PutObject", .. }), "{failure}");
    stage.bucket.put(KEY, film.bytes());
    let artifact = stage.copy("/v").await.expect("the other writer's is the same");
    assert_eq!(artifact.bytes, film.length);
}

#[tokio::test]
async fn a_bucket_without_checksums_is_read_back() {
    let stage = Stage::new().await;
    let film = Film::new(5 * MEBIBYTE, 1);
    stage.origin.film("/v", &film);
    stage.bucket.put(KEY, film.bytes());
    stage.bucket.forget_checksums();
    stage.copy("/v").await.expect("it agrees");
    assert_eq!(stage.bucket.calls("GetObject"), 1);
}

#[tokio::test]
async fn copies_side_by_side_share_memory_and_connections() {
    let stage = Stage::new().await;
    let mut films = Vec::new();
    for number in 0..20 {
        // Some small, some in pieces, some as a stream.
        let film = Film::new([300_000, 12 * MEBIBYTE, 40 * MEBIBYTE][number % 3], number as u64);
        let served = film.clone();
        stage.origin.on(&format!("/{number}"), move |request| match number % 4 {
            0 => Reply::whole(&served, None, request),
            _ => Reply { delay: Duration::from_millis(20), ..Reply::honest(&served, Some("\"a\""), request) },
        });
        films.push(film);
    }
    stage.bucket.fail(|call| (call.earlier % 5 == 0).then_some(Fault::Slow(Duration::from_millis(50))));
    let copies = films.iter().enumerate().map(|(number, film)| {
        let (stage, film) = (&stage, film);
        async move {
            let request = CopyRequest {
                task: &crate::task(),
                link: &SignedUrl::new(stage.origin.link(&format!("/{number}"))),
                credential: None,
                key_stem: &format!("tasks/kling/{number}/video"),
                kind: Kind::Video,
                tagging: None,
                reported_at: REPORTED_AT,
                expires_at: None,
                deadline: Instant::now() + LONG,
                prior: PriorAttempt::None,
                resume: None,
            };
            let artifact = stage.copier.copy(request).await.expect("it is copied");
            assert!(stage.bucket.object(&artifact.key).expect("it is there").bytes == film.bytes(), "{number}");
        }
    });
    join_all(copies).await;
    // Eight for first requests, eight for further pieces, and streams that gave up their permit.
    assert!(stage.origin.max_connections() <= 8 + 8 + 5, "{}", stage.origin.max_connections());
    assert_eq!(stage.bucket.unfinished(), (0, 0));
}

#[tokio::test]
async fn what_an_earlier_copy_stored_is_found_without_the_link() {
    let stage = Stage::new().await;
    assert_eq!(stage.stored(REPORTED_AT).await, None);
    let film = Film::new(5 * MEBIBYTE, 1);
    stage.origin.film("/v", &film);
    stage.bucket.put(&format!("{STEM}-2.mp4"), "another artifact");
    let artifact = stage.copy("/v").await.expect("it is copied");
    assert_eq!(stage.stored(REPORTED_AT).await, Some(artifact));
}

const LATER: Timestamp = Timestamp::from_seconds(REPORTED_AT.seconds() + 1);

impl Stage {
    async fn copy_reported(&self, at: Timestamp, target: &str) -> Result<StoredArtifact, CopyFailure> {
        self.copy_of_report(at, &self.origin.link(target), LONG, PriorAttempt::Possible, None).await
    }

    async fn stored(&self, reported_at: Timestamp) -> Option<StoredArtifact> {
        self.copier.stored(&crate::task(), STEM, Kind::Video, reported_at).await.expect("a response")
    }
}

/// A report of two files is lost for one of them, and a success comes that names others: the file that was copied was taken
/// for that of the success.
#[tokio::test]
async fn the_file_of_an_earlier_report_is_replaced_by_that_of_a_later_one() {
    for length in [5 * MEBIBYTE, 40 * MEBIBYTE] {
        for response_lost in [false, true] {
            let stage = Stage::new().await;
            let films = [Film::new(length, 1), Film::new(length, 2)];
            stage.origin.film("/earlier", &films[0]);
            stage.origin.film("/later", &films[1]);
            let earlier = stage.copy_reported(REPORTED_AT, "/earlier").await.expect("it is copied");
            assert_eq!(stage.stored(REPORTED_AT).await, Some(earlier));
            assert_eq!(stage.stored(LATER).await, None);
            // The write over the earlier file is the third.
            stage.bucket.fail(move |call| {
                let is_final = matches!(call.operation, "PutObject" | "CompleteMultipartUpload");
                (response_lost && is_final && call.earlier == 2).then_some(Fault::ResponseLost)
            });
            let results = stage.copy_reported(LATER, "/later").await;
            stage.assert_stored(&films[1], &results);
            let later = results.expect("it is copied");
            assert_eq!(stage.stored(LATER).await.as_ref(), Some(&later), "a retry does not download it again");
            // A worker that does not know yet that it has lost the task.
            let failure = stage.copy_reported(REPORTED_AT, "/earlier").await.expect_err("the later file is there");
            let CopyFault::Conflict(difference) = failure.fault else { panic!("{failure}") };
            assert_eq!(difference.existing, later);
            stage.assert_stored(&films[1], &Ok(later));
        }
    }
}

#[tokio::test]
async fn workers_that_replace_a_file_at_the_same_time_end_in_one() {
    for length in [5 * MEBIBYTE, 40 * MEBIBYTE] {
        let stage = Stage::new().await;
        let film = Film::new(length, 2);
        stage.origin.film("/earlier", &Film::new(length, 1));
        stage.origin.film("/later", &film);
        stage.copy_reported(REPORTED_AT, "/earlier").await.expect("it is copied");
        let results = join_all((0..4).map(|_| stage.copy_reported(LATER, "/later"))).await;
        assert!(results.iter().any(Result::is_ok), "{results:?}");
        let stored = stage.copy_reported(LATER, "/later").await;
        stage.assert_stored(&film, &stored);
    }
}

/// As it is when the link of the first report is reported again: a retry of the later report finds the file all the same.
#[tokio::test]
async fn a_file_that_is_reported_again_belongs_to_the_later_report() {
    let stage = Stage::new().await;
    let film = Film::new(5 * MEBIBYTE, 1);
    stage.origin.film("/v", &film);
    stage.copy_reported(REPORTED_AT, "/v").await.expect("it is copied");
    let again = stage.copy_reported(LATER, "/v").await;
    stage.assert_stored(&film, &again);
    assert_eq!(stage.stored(LATER).await, again.ok());
}

/// The table is another one than when the file was published, or its record expired: what consumers have heard of stays.
#[tokio::test]
async fn the_file_of_a_published_success_is_not_replaced() {
    for (document, is_replaced) in [(r#"{"outcome":"succeeded"}"#, false), (r#"{"outcome":"lost"}"#, true)] {
        let stage = Stage::new().await;
        stage.origin.film("/earlier", &Film::new(5 * MEBIBYTE, 1));
        stage.origin.film("/later", &Film::new(5 * MEBIBYTE, 2));
        let earlier = stage.copy_reported(REPORTED_AT, "/earlier").await.expect("it is copied");
        stage.bucket.put("tasks/kling/job-1/result.json", document);
        assert_eq!(stage.stored(LATER).await, (!is_replaced).then(|| earlier.clone()));
        match stage.copy_reported(LATER, "/later").await {
            Ok(_) => assert!(is_replaced),
            Err(CopyFailure { fault: CopyFault::Conflict(difference), .. }) => {
                assert!(!is_replaced);
                assert_eq!(difference.existing, earlier);
            }
            Err(failure) => panic!("{failure}"),
        }
    }
}
