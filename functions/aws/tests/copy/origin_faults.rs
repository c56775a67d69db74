//! Everything an origin can do wrong, and what comes of it.

use std::time::Duration;

use reelhook_aws::copy::{CopyError, LooksLike};
use reelhook_aws::download::{Refusal, Trouble};
use tokio::time::Instant;

use crate::origin::{Film, Framing, Reply, Request};
use crate::{MEBIBYTE, Stage};

/// Lengths on either side of every border: one request, two pieces, many.
const LENGTHS: [u64; 5] = [100_000, 10 * MEBIBYTE, 16 * MEBIBYTE, 16 * MEBIBYTE + 1, 45_000_000];

#[tokio::test]
async fn no_range_is_read_as_one_stream() {
    for length in LENGTHS {
        let stage = Stage::new().await;
        let film = Film::new(length, 1);
        let served = film.clone();
        stage.origin.on("/v", move |request| Reply::whole(&served, Some("\"a\""), request));
        let result = stage.copy("/v").await;
        stage.assert_stored(&film, &result);
        assert_eq!(stage.origin.requests().len(), 1);
    }
}

#[tokio::test]
async fn chunks_of_unknown_length_are_read_as_one_stream() {
    for length in LENGTHS.into_iter().chain([24 * MEBIBYTE]) {
        let stage = Stage::new().await;
        let film = Film::new(length, 1);
        let served = film.clone();
        stage
            .origin
            .on("/v", move |request| Reply { framing: Framing::Chunked, ..Reply::whole(&served, None, request) });
        let result = stage.copy("/v").await;
        stage.assert_stored(&film, &result);
    }
}

#[tokio::test]
async fn a_wrong_range_is_not_believed() {
    type Fault = fn(Reply) -> Reply;
    let faults: [(&str, Fault); 5] = [
        ("another place", |reply| {
            Reply { start: reply.start + 1, ..reply }.header("Content-Range", "bytes 1-8388608/45000000")
        }),
        ("no place", |reply| reply),
        ("no length", |reply| reply.header("Content-Range", "bytes 0-8388607/*")),
        ("nonsense", |reply| reply.header("Content-Range", "8388608 bytes")),
        ("several", |reply| reply.header("Content-Type", "multipart/byteranges; boundary=x")),
    ];
    for (name, fault) in faults {
        let stage = Stage::new().await;
        let film = Film::new(45_000_000, 1);
        let served = film.clone();
        stage.origin.on("/v", move |request| {
            let mut reply = Reply::honest(&served, Some("\"a\""), request);
            if reply.status == 206 {
                reply.headers.retain(|(name, _)| name != "Content-Range");
                reply = fault(reply);
            }
            reply
        });
        let result = stage.copy("/v").await;
        stage.assert_stored(&film, &result);
        let requests = stage.origin.requests();
        assert_eq!(requests.len(), 2, "{name}");
        assert_eq!(requests[1].header("range"), None, "{name}");
    }
}

#[tokio::test]
async fn a_wrong_range_in_the_middle_ends_in_the_right_file() {
    let stage = Stage::new().await;
    let film = Film::new(45_000_000, 1);
    let served = film.clone();
    stage.origin.on("/v", move |request| {
        let mut reply = Reply::honest(&served, Some("\"a\""), request);
        if request.earlier == 3 {
            reply.headers.retain(|(name, _)| name != "Content-Range");
            reply = reply.header("Content-Range", "bytes 5-100/45000000");
        }
        reply
    });
    let result = stage.copy("/v").await;
    stage.assert_stored(&film, &result);
}

#[tokio::test]
async fn an_origin_that_stumbles_over_ranges_is_asked_without() {
    for status in [400, 416, 501] {
        let stage = Stage::new().await;
        let film = Film::new(100_000, 1);
        let served = film.clone();
        stage.origin.on("/v", move |request| match request.range() {
            Some(_) => Reply::status(status, "what?"),
            None => Reply::honest(&served, None, request),
        });
        let result = stage.copy("/v").await;
        stage.assert_stored(&film, &result);
    }
}

#[tokio::test]
async fn without_a_validator_pieces_are_not_mixed() {
    let stage = Stage::new().await;
    let film = Film::new(45_000_000, 1);
    let served = film.clone();
    stage.origin.on("/v", move |request| Reply::honest(&served, None, request));
    let result = stage.copy("/v").await;
    stage.assert_stored(&film, &result);
    assert_eq!(stage.origin.requests().len(), 2, "one to find out, and one for the whole");
}

#[tokio::test]
async fn a_weak_tag_is_no_validator_and_a_date_is() {
    let stage = Stage::new().await;
    let film = Film::new(45_000_000, 1);
    let served = film.clone();
    let date = "Wed, 21 Oct 2026 07:28:00 GMT";
    stage.origin.on("/v", move |request| {
        // The date stands for the tag of the honest answer.
        let mut reply = Reply::honest(&served, Some(date), request);
        reply.headers.retain(|(name, _)| name != "ETag");
        reply.header("ETag", "W/\"weak\"").header("Last-Modified", date)
    });
    let result = stage.copy("/v").await;
    stage.assert_stored(&film, &result);
    let requests = stage.origin.requests();
    assert_eq!(requests.len(), 6);
    assert!(requests[1..].iter().all(|request| request.header("if-range") == Some(date)));
}

#[tokio::test]
async fn a_short_answer_is_continued() {
    let stage = Stage::new().await;
    let film = Film::new(45_000_000, 1);
    let served = film.clone();
    stage.origin.on("/v", move |request| {
        // At most 3 MiB in one answer, as some proxies cap ranges.
        let mut asked = request.clone();
        if let Some((first, last)) = request.range() {
            asked.headers.insert("range".into(), format!("bytes={first}-{}", last.min(first + 3 * MEBIBYTE - 1)));
        }
        Reply::honest(&served, Some("\"a\""), &asked)
    });
    let result = stage.copy("/v").await;
    stage.assert_stored(&film, &result);
}

#[tokio::test]
async fn a_dropped_connection_goes_on_where_it_broke() {
    for length in [6_000_000, 45_000_000] {
        let stage = Stage::new().await;
        let film = Film::new(length, 1);
        let served = film.clone();
        stage.origin.on("/v", move |request| Reply {
            drop_after: Some(1_000_000),
            ..Reply::honest(&served, Some("\"a\""), request)
        });
        let result = stage.copy("/v").await;
        stage.assert_stored(&film, &result);
        let mut ranges: Vec<(u64, u64)> = stage.origin.requests().iter().filter_map(Request::range).collect();
        ranges.sort_unstable();
        let asked_again = ranges.windows(2).filter(|pair| pair[0].0 == pair[1].0).count();
        assert_eq!(asked_again, 0, "no byte is asked for twice: {ranges:?}");
        assert!(stage.origin.requests()[1..].iter().all(|request| request.header("if-range") == Some("\"a\"")));
    }
}

#[tokio::test]
async fn every_connection_dropped_at_20_mb_still_ends_in_the_file() {
    let stage = Stage::new().await;
    let film = Film::new(120_000_000, 1);
    let served = film.clone();
    stage.origin.on("/v", move |request| Reply {
        drop_after: Some(20_000_000_u64.saturating_sub(request.sent)),
        ..Reply::honest(&served, Some("\"a\""), request)
    });
    let result = stage.copy("/v").await;
    stage.assert_stored(&film, &result);
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_read_again_and_given_up_after_three_times() {
    for breaks in [2, 3] {
        for length in [100_000, 45_000_000] {
            let stage = Stage::new().await;
            let film = Film::new(length, 1);
            let served = film.clone();
            stage.origin.on("/v", move |request| Reply {
                drop_after: (request.earlier < breaks).then_some(length - 1),
                ..Reply::whole(&served, Some("\"a\""), request)
            });
            let result = stage.copy("/v").await;
            if breaks == 2 {
                stage.assert_stored(&film, &result);
            } else {
                let error = result.expect_err("it broke off three times").error;
                assert!(matches!(error, CopyError::Origin { trouble: Trouble::Dropped, .. }), "{error}");
                stage.assert_untouched();
            }
        }
    }
}

#[tokio::test]
async fn chunks_that_break_off_are_not_taken_for_the_whole() {
    let stage = Stage::new().await;
    let film = Film { beginning: b"\x1a\x45\xdf\xa3".to_vec(), ..Film::new(100_000, 1) };
    stage.origin.on("/v", move |request| Reply {
        framing: Framing::Chunked,
        drop_after: Some(60_000),
        ..Reply::whole(&film, None, request)
    });
    let error = stage.copy("/v").await.expect_err("it breaks off").error;
    assert!(matches!(error, CopyError::Origin { trouble: Trouble::Dropped, .. }), "{error}");
    stage.assert_untouched();
}

#[tokio::test]
async fn an_end_that_only_the_connection_tells_is_believed_if_the_file_agrees() {
    let closed = |film: &Film, length: u64| {
        let film = film.clone();
        move |request: &_| Reply { framing: Framing::Close, length, ..Reply::whole(&film, None, request) }
    };
    let film = Film::new(100_000, 1);

    let stage = Stage::new().await;
    stage.origin.on("/v", closed(&film, film.length));
    let result = stage.copy("/v").await;
    stage.assert_stored(&film, &result);

    let stage = Stage::new().await;
    stage.origin.on("/v", closed(&film, 70_000));
    let error = stage.copy("/v").await.expect_err("it is cut off").error;
    assert!(matches!(error, CopyError::CutOff { claimed: 100_000, bytes: 70_000 }), "{error}");
    stage.assert_untouched();

    let stage = Stage::new().await;
    let film = Film { beginning: b"\x1a\x45\xdf\xa3".to_vec(), ..film };
    stage.origin.on("/v", closed(&film, film.length));
    let error = stage.copy("/v").await.expect_err("nobody can tell").error;
    assert!(matches!(error, CopyError::Refused(Refusal::UnknownEnd)), "{error}");
    stage.assert_untouched();
}

#[tokio::test]
async fn a_stalled_connection_is_replaced() {
    let stage = Stage::new().await;
    let film = Film::new(33_000_000, 1);
    let served = film.clone();
    stage.origin.on("/v", move |request| Reply {
        stall_after: (request.earlier == 0).then_some(500_000),
        ..Reply::honest(&served, Some("\"a\""), request)
    });
    let result = stage.copy("/v").await;
    stage.assert_stored(&film, &result);
    let requests = stage.origin.requests();
    let again = requests.iter().filter_map(Request::range).find(|range| range.0 == 500_000);
    assert_eq!(again, Some((500_000, 8 * MEBIBYTE - 1)), "only what is missing is asked for again");
}

#[tokio::test]
async fn a_lonely_stalled_connection_is_replaced_too() {
    let stage = Stage::new().await;
    let film = Film::new(1_000_000, 1);
    let served = film.clone();
    stage.origin.on("/v", move |request| Reply {
        stall_after: (request.earlier == 0).then_some(500_000),
        ..Reply::honest(&served, Some("\"a\""), request)
    });
    let result = stage.copy("/v").await;
    stage.assert_stored(&film, &result);
    assert_eq!(stage.origin.requests()[1].range(), Some((500_000, 999_999)));
}

#[tokio::test]
async fn a_slow_connection_among_fast_ones_is_replaced() {
    let stage = Stage::new().await;
    let film = Film::new(64 * MEBIBYTE, 1);
    let served = film.clone();
    stage.origin.on("/v", move |request| Reply {
        // At this pace the piece takes 80 seconds.
        bytes_per_second: (request.earlier == 2).then_some(100_000),
        ..Reply::honest(&served, Some("\"a\""), request)
    });
    let began = Instant::now();
    let result = stage.copy("/v").await;
    stage.assert_stored(&film, &result);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!(stage.origin.requests().len(), 9, "one piece is asked for twice, and only what was missing of it");
}

#[tokio::test]
async fn a_link_that_becomes_slow_is_not_asked_over_and_over() {
    let stage = Stage::new().await;
    let film = Film::new(80 * MEBIBYTE, 1);
    let served = film.clone();
    stage.origin.on("/v", move |request| Reply {
        // More than a second for a piece, after the first were there in no time.
        bytes_per_second: (request.earlier >= 4).then_some(4_000_000),
        ..Reply::honest(&served, Some("\"a\""), request)
    });
    let result = stage.copy("/v").await;
    stage.assert_stored(&film, &result);
    assert!(stage.origin.requests().len() <= 10 + 2, "{}", stage.origin.requests().len());
}

#[tokio::test]
async fn a_slow_origin_is_waited_for() {
    let stage = Stage::new().await;
    let film = Film::new(200_000, 1);
    let served = film.clone();
    stage.origin.on("/v", move |request| Reply {
        bytes_per_second: Some(50_000),
        delay: Duration::from_secs(1),
        ..Reply::honest(&served, Some("\"a\""), request)
    });
    let result = stage.copy("/v").await;
    stage.assert_stored(&film, &result);
    assert_eq!(stage.origin.requests().len(), 1);
}

#[tokio::test]
async fn a_byte_now_and_then_does_not_hold_an_invocation() {
    let stage = Stage::new().await;
    let film = Film::new(200_000, 1);
    let served = film.clone();
    stage.origin.on("/v", move |request| Reply {
        bytes_per_second: (request.earlier == 0).then_some(50),
        ..Reply::honest(&served, Some("\"a\""), request)
    });
    let began = Instant::now();
    let result = stage.copy("/v").await;
    stage.assert_stored(&film, &result);
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
}

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
            let error = stage.copy("/v").await.expect_err("it is cut off").error;
            assert!(
                matches!(error, CopyError::CutOff { claimed, bytes } if claimed == length && bytes == length - 1000),
                "{error}"
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
        let error = stage.copy("/v").await.expect_err("there is no more").error;
        assert!(matches!(error, CopyError::Origin { trouble: Trouble::Dropped, .. }), "{error}");
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
            let unfinished = stage.copy("/v").await.expect_err("it is no media");
            assert!(
                matches!(unfinished.error, CopyError::NotMedia { looks_like: found } if found == looks_like),
                "{page:?}: {unfinished}"
            );
            assert!(unfinished.upload.is_none());
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
    let error = stage.copy("/v").await.expect_err("it is no media").error;
    assert!(matches!(error, CopyError::NotMedia { looks_like: LooksLike::Html }), "{error}");
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
        let error = stage.copy("/v").await.expect_err("it is encoded").error;
        assert!(matches!(error, CopyError::Refused(Refusal::Encoded)), "{error}");
        stage.assert_untouched();
    }
}

#[tokio::test]
async fn an_origin_that_asks_to_wait_is_waited_for() {
    for status in [429, 503] {
        let stage = Stage::new().await;
        let film = Film::new(45_000_000, 1);
        let served = film.clone();
        stage.origin.on("/v", move |request| match request.earlier {
            0 | 3 => Reply::status(status, "later").header("Retry-After", "1"),
            _ => Reply::honest(&served, Some("\"a\""), request),
        });
        let began = Instant::now();
        let result = stage.copy("/v").await;
        stage.assert_stored(&film, &result);
        assert!(began.elapsed() >= Duration::from_secs(2), "it waited twice: {:?}", began.elapsed());
    }
}

#[tokio::test]
async fn an_origin_that_asks_to_wait_long_is_left_to_the_queue() {
    let stage = Stage::new().await;
    stage.origin.on("/v", |_| Reply::status(503, "later").header("Retry-After", "60"));
    let began = Instant::now();
    let error = stage.copy("/v").await.expect_err("it wants to wait").error;
    assert!(matches!(error, CopyError::Origin { trouble: Trouble::Status(503), retry_after: Some(60) }), "{error}");
    assert!(began.elapsed() < Duration::from_secs(2));
    assert_eq!(stage.origin.requests().len(), 1);
}

#[tokio::test]
async fn an_origin_in_trouble_is_tried_five_times() {
    let stage = Stage::new().await;
    stage.origin.on("/v", |_| Reply::status(502, "<html>bad gateway</html>"));
    let error = stage.copy("/v").await.expect_err("it has trouble").error;
    assert!(matches!(error, CopyError::Origin { trouble: Trouble::Status(502), retry_after: None }), "{error}");
    assert_eq!(stage.origin.requests().len(), 5);
    stage.assert_untouched();
}

#[tokio::test]
async fn an_origin_that_is_not_there_is_trouble_that_may_pass() {
    let stage = Stage::new().await;
    // A port that was free a moment ago, under an allowed origin.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let authority = listener.local_addr().expect("its address").to_string();
    drop(listener);
    let copier = crate::copier(&stage.bucket.endpoint(), &[&authority]);
    let stage = Stage { copier, ..stage };
    let error = stage.copy_link(&format!("http://{authority}/v?secret=1")).await.expect_err("nobody is there").error;
    assert!(matches!(error, CopyError::Origin { trouble: Trouble::Connect, .. }), "{error}");
    assert!(!error.to_string().contains("secret"));
}

#[tokio::test]
async fn a_file_that_is_not_there_is_left_to_the_caller_to_judge() {
    for status in [202, 401, 403, 404, 410, 451] {
        let stage = Stage::new().await;
        stage.origin.on("/v", move |_| Reply::status(status, "<Error/>"));
        let unfinished = stage.copy("/v").await.expect_err("it is not there");
        assert!(matches!(unfinished.error, CopyError::NotThere { status: found } if found == status), "{unfinished}");
        assert_eq!(stage.origin.requests().len(), 1);
        stage.assert_untouched();
    }
}

#[tokio::test]
async fn a_file_that_is_too_large_is_not_begun() {
    for ranged in [true, false] {
        let stage = Stage::new().await;
        let stage = Stage { copier: stage.copier.most_bytes(1_000_000), ..stage };
        let film = Film::new(1_000_001, 1);
        stage.origin.on("/v", move |request| {
            if ranged { Reply::honest(&film, Some("\"a\""), request) } else { Reply::whole(&film, None, request) }
        });
        let error = stage.copy("/v").await.expect_err("it is too large").error;
        assert!(matches!(error, CopyError::Refused(Refusal::TooLarge { limit: 1_000_000 })), "{error}");
        stage.assert_untouched();
    }
}

#[tokio::test]
async fn a_stream_that_never_ends_is_cut() {
    let stage = Stage::new().await;
    let stage = Stage { copier: stage.copier.most_bytes(30_000_000), ..stage };
    let film = Film { beginning: b"\x1a\x45\xdf\xa3".to_vec(), ..Film::new(u64::MAX, 1) };
    stage.origin.on("/v", move |request| Reply { framing: Framing::Chunked, ..Reply::whole(&film, None, request) });
    let error = stage.copy("/v").await.expect_err("it is too large").error;
    assert!(matches!(error, CopyError::Refused(Refusal::TooLarge { limit: 30_000_000 })), "{error}");
    stage.assert_untouched();
}
