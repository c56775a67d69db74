//! Origins that stall or are slow.

use std::time::Duration;

use tokio::time::Instant;

use crate::origin::{Film, Reply, Request};
use crate::{MEBIBYTE, Stage};

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
    assert_eq!(again, Some((500_000, 8 * MEBIBYTE - 1)), "only what is missing is requested again");
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
        // At this rate the piece takes 80 seconds.
        bytes_per_second: (request.earlier == 2).then_some(100_000),
        ..Reply::honest(&served, Some("\"a\""), request)
    });
    let began = Instant::now();
    let result = stage.copy("/v").await;
    stage.assert_stored(&film, &result);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!(stage.origin.requests().len(), 9, "one piece is requested twice, and only what was missing of it");
}

#[tokio::test]
async fn a_link_that_becomes_slow_is_not_requested_over_and_over() {
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
