//! Files that change, lie about their length, or are not what they should be.

use std::time::Duration;

use reelhook_core::transfer::fault::{CopyFault, OriginFault};
use reelhook_core::transfer::media::LooksLike;
use tokio::time::Instant;

use crate::Stage;
use crate::origin::{Film, Framing, Reply};

#[tokio::test]
async fn a_file_that_changes_is_read_afresh() {
    let stage = Stage::new().await;
    let (old, new) = (Film::new(45_000_000, 1), Film::new(46_000_000, 2));
    let served = new.clone();
    stage.origin.on("/v", move |request| match request.earlier {
        0..3 => Reply::honest(&old, Some("\"old\""), request),
        _ => Reply::honest(&served, Some("\"new\""), request),
    });
    let result = stage.copy("/v").await;
    stage.assert_stored(&new, &result);
}

#[tokio::test]
async fn a_change_is_seen_at_origins_that_do_not_know_if_range() {
    let stage = Stage::new().await;
    // The same length: only the tag tells.
    let (old, new) = (Film::new(45_000_000, 1), Film::new(45_000_000, 2));
    let served = new.clone();
    stage.origin.on("/v", move |request| {
        let mut blind = request.clone();
        blind.headers.remove("if-range");
        match request.earlier {
            0..3 => Reply::honest(&old, Some("\"old\""), &blind),
            _ => Reply::honest(&served, Some("\"new\""), &blind),
        }
    });
    let result = stage.copy("/v").await;
    stage.assert_stored(&new, &result);
}

#[tokio::test]
async fn servers_that_do_not_agree_on_the_tag_are_read_as_one_stream_in_the_end() {
    let stage = Stage::new().await;
    let film = Film::new(45_000_000, 1);
    let served = film.clone();
    stage.origin.on("/v", move |request| {
        Reply::honest(&served, Some(if request.earlier % 2 == 0 { "\"a\"" } else { "\"b\"" }), request)
    });
    let result = stage.copy("/v").await;
    stage.assert_stored(&film, &result);
}

#[tokio::test]
async fn a_file_that_shrinks_is_not_stored_in_parts() {
    let stage = Stage::new().await;
    let (old, new) = (Film::new(45_000_000, 1), Film::new(20_000_000, 2));
    let served = new.clone();
    stage.origin.on("/v", move |request| match request.earlier {
        0..2 => Reply::honest(&old, Some("\"a\""), request),
        // Under the same tag: beyond its end it says 416.
        _ => Reply::honest(&served, Some("\"a\""), request),
    });
    let result = stage.copy("/v").await;
    stage.assert_stored(&new, &result);
}

#[tokio::test]
async fn a_length_that_is_too_short_is_found_out_by_the_file() {
    for length in [100_000, 45_000_000] {
        for ranged in [true, false] {
            let stage = Stage::new().await;
            let film = Film::new(length, 1);
            stage.origin.on("/v", move |request| {
                let cut = Film { length: length - 1000, ..film.clone() };
                if ranged { Reply::honest(&cut, Some("\"a\""), request) } else { Reply::whole(&cut, None, request) }
            });
            let fault = stage.copy("/v").await.expect_err("it is cut off").fault;
            assert!(
                matches!(fault, CopyFault::CutOff { claimed, bytes } if claimed == length && bytes == length - 1000),
                "{fault}"
            );
            stage.assert_untouched();
        }
    }
}

#[tokio::test]
async fn a_length_that_is_too_long_is_never_reached() {
    for ranged in [true, false] {
        let stage = Stage::new().await;
        let film = Film::new(100_000, 1);
        stage.origin.on("/v", move |request| {
            let longer = Film { length: 120_000, ..film.clone() };
            let mut reply = if ranged {
                Reply::honest(&longer, Some("\"a\""), request)
            } else {
                Reply::whole(&longer, None, request)
            };
            // The bytes end where the film does.
            reply.drop_after = Some(100_000_u64.saturating_sub(reply.start));
            reply
        });
        let fault = stage.copy("/v").await.expect_err("there is no more").fault;
        assert!(matches!(fault, CopyFault::Origin(OriginFault::Dropped)), "{fault}");
        stage.assert_untouched();
    }
}

#[tokio::test]
async fn error_pages_are_never_stored() {
    for (page, looks_like) in [
        ("<!DOCTYPE html><html><title>403</title></html>", LooksLike::Html),
        ("\n <html>", LooksLike::Html),
        ("<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>", LooksLike::Xml),
        ("{\"code\":404,\"message\":\"no such file\"}", LooksLike::Json),
        ("Not Found", LooksLike::Text),
        ("", LooksLike::Nothing),
        ("\x1f\u{fffd}\0\u{1}\u{2}", LooksLike::Unknown),
    ] {
        for ranged in [true, false] {
            let stage = Stage::new().await;
            let film = Film::of(page);
            stage.origin.on("/v", move |request| {
                // Under the right content type, and with 200 or 206.
                if ranged { Reply::honest(&film, Some("\"a\""), request) } else { Reply::whole(&film, None, request) }
            });
            let failure = stage.copy("/v").await.expect_err("it is no media");
            assert!(
                matches!(failure.fault, CopyFault::NotMedia { looks_like: found } if found == looks_like),
                "{page:?}: {failure}"
            );
            assert!(failure.upload.is_none());
            stage.assert_untouched();
        }
    }
}

#[tokio::test]
async fn a_long_error_page_is_not_read() {
    let stage = Stage::new().await;
    let film = Film { beginning: b"<html>".to_vec(), ..Film::new(500_000_000, 1) };
    stage.origin.film("/v", &film);
    let began = Instant::now();
    let fault = stage.copy("/v").await.expect_err("it is no media").fault;
    assert!(matches!(fault, CopyFault::NotMedia { looks_like: LooksLike::Html }), "{fault}");
    assert_eq!(stage.origin.requests().len(), 1);
    assert!(began.elapsed() < Duration::from_secs(2));
    stage.assert_untouched();
}

#[tokio::test]
async fn a_content_coding_is_refused() {
    for ranged in [true, false] {
        let stage = Stage::new().await;
        let film = Film::new(100_000, 1);
        stage.origin.on("/v", move |request| {
            assert_eq!(request.header("accept-encoding"), Some("identity"));
            if ranged { Reply::honest(&film, Some("\"a\""), request) } else { Reply::whole(&film, None, request) }
                .header("Content-Encoding", "gzip")
        });
        let fault = stage.copy("/v").await.expect_err("it is encoded").fault;
        assert!(matches!(fault, CopyFault::Origin(OriginFault::Encoded)), "{fault}");
        stage.assert_untouched();
    }
}

#[tokio::test]
async fn a_file_that_is_too_large_is_not_begun() {
    for ranged in [true, false] {
        let stage = Stage::new().await;
        let stage = Stage { copier: stage.copier.max_bytes(1_000_000), ..stage };
        let film = Film::new(1_000_001, 1);
        stage.origin.on("/v", move |request| {
            if ranged { Reply::honest(&film, Some("\"a\""), request) } else { Reply::whole(&film, None, request) }
        });
        let fault = stage.copy("/v").await.expect_err("it is too large").fault;
        assert!(matches!(fault, CopyFault::TooLarge { limit: 1_000_000 }), "{fault}");
        stage.assert_untouched();
    }
}

#[tokio::test]
async fn a_stream_that_never_ends_is_cut() {
    let stage = Stage::new().await;
    let stage = Stage { copier: stage.copier.max_bytes(30_000_000), ..stage };
    let film = Film { beginning: b"\x1a\x45\xdf\xa3".to_vec(), ..Film::new(u64::MAX, 1) };
    stage.origin.on("/v", move |request| Reply { framing: Framing::Chunked, ..Reply::whole(&film, None, request) });
    let fault = stage.copy("/v").await.expect_err("it is too large").fault;
    assert!(matches!(fault, CopyFault::TooLarge { limit: 30_000_000 }), "{fault}");
    stage.assert_untouched();
}
