//! How an origin can respond wrongly, break off or fail, and what comes of it.

use std::time::Duration;

use reelhook_core::transfer::fault::{CopyFault, OriginFault};
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
async fn an_origin_that_fails_on_ranges_is_requested_without() {
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
        // The date takes the place of the honest tag.
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
async fn a_short_response_is_continued() {
    let stage = Stage::new().await;
    let film = Film::new(45_000_000, 1);
    let served = film.clone();
    stage.origin.on("/v", move |request| {
        // At most 3 MiB in one response, as some proxies cap ranges.
        let mut capped = request.clone();
        if let Some((first, last)) = request.range() {
            capped.headers.insert("range".into(), format!("bytes={first}-{}", last.min(first + 3 * MEBIBYTE - 1)));
        }
        Reply::honest(&served, Some("\"a\""), &capped)
    });
    let result = stage.copy("/v").await;
    stage.assert_stored(&film, &result);
}

#[tokio::test]
async fn a_dropped_connection_is_resumed_where_it_broke() {
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
        let repeated = ranges.windows(2).filter(|pair| pair[0].0 == pair[1].0).count();
        assert_eq!(repeated, 0, "no byte is requested twice: {ranges:?}");
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
                let fault = result.expect_err("it broke off three times").fault;
                assert!(matches!(fault, CopyFault::Origin(OriginFault::Dropped)), "{fault}");
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
    let fault = stage.copy("/v").await.expect_err("it breaks off").fault;
    assert!(matches!(fault, CopyFault::Origin(OriginFault::Dropped)), "{fault}");
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
    let fault = stage.copy("/v").await.expect_err("it is cut off").fault;
    assert!(matches!(fault, CopyFault::CutOff { claimed: 100_000, bytes: 70_000 }), "{fault}");
    stage.assert_untouched();

    let stage = Stage::new().await;
    let film = Film { beginning: b"\x1a\x45\xdf\xa3".to_vec(), ..film };
    stage.origin.on("/v", closed(&film, film.length));
    let fault = stage.copy("/v").await.expect_err("nobody can tell").fault;
    assert!(matches!(fault, CopyFault::UnknownEnd), "{fault}");
    stage.assert_untouched();
}

#[tokio::test]
async fn an_origin_that_sends_retry_after_is_waited_for() {
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
async fn an_origin_with_a_long_retry_after_is_left_to_the_queue() {
    let stage = Stage::new().await;
    stage.origin.on("/v", |_| Reply::status(503, "later").header("Retry-After", "60"));
    let began = Instant::now();
    let fault = stage.copy("/v").await.expect_err("it wants to wait").fault;
    assert!(
        matches!(fault, CopyFault::Origin(OriginFault::Status { status: 503, retry_after: Some(wait) }) if wait.as_secs() == 60),
        "{fault}"
    );
    assert!(began.elapsed() < Duration::from_secs(2));
    assert_eq!(stage.origin.requests().len(), 1);
}

#[tokio::test]
async fn a_failing_origin_is_tried_five_times() {
    let stage = Stage::new().await;
    stage.origin.on("/v", |_| Reply::status(502, "<html>bad gateway</html>"));
    let fault = stage.copy("/v").await.expect_err("it fails").fault;
    assert!(matches!(fault, CopyFault::Origin(OriginFault::Status { status: 502, retry_after: None })), "{fault}");
    assert_eq!(stage.origin.requests().len(), 5);
    stage.assert_untouched();
}

#[tokio::test]
async fn an_origin_that_is_not_there_may_come_back() {
    let stage = Stage::new().await;
    // A port that was free just now, under an allowed origin.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let authority = listener.local_addr().expect("its address").to_string();
    drop(listener);
    let copier = crate::copier(&stage.bucket.endpoint(), &[&authority]);
    let stage = Stage { copier, ..stage };
    let fault = stage.copy_link(&format!("http://{authority}/v?secret=1")).await.expect_err("nobody is there").fault;
    assert!(matches!(fault, CopyFault::Origin(OriginFault::Connect)), "{fault}");
    assert!(!fault.to_string().contains("secret"));
}

#[tokio::test]
async fn a_file_that_is_not_there_is_left_to_the_caller_to_judge() {
    for status in [202, 401, 403, 404, 410, 451] {
        let stage = Stage::new().await;
        stage.origin.on("/v", move |_| Reply::status(status, "<Error/>"));
        let failure = stage.copy("/v").await.expect_err("it is not there");
        assert!(
            matches!(failure.fault, CopyFault::Origin(OriginFault::NotThere { status: found }) if found == status),
            "{failure}"
        );
        assert_eq!(stage.origin.requests().len(), 1);
        stage.assert_untouched();
    }
}
