//! A copy that is killed leaves parts at most, and the next one removes them.

use std::process::{Command, Stdio};
use std::time::Duration;

use reelhook_aws::copy::{CopyRequest, PriorAttempt};
use reelhook_core::redacted::SignedUrl;
use reelhook_core::report::Kind;
use tokio::time::Instant;

use crate::bucket::Fault;
use crate::origin::{Film, Reply};
use crate::{LONG, STEM, Stage};

const ENDPOINT: &str = "REELHOOK_TEST_ENDPOINT";
const ORIGIN: &str = "REELHOOK_TEST_ORIGIN";

/// The process that is killed: started by the test below, it copies one film.
#[tokio::test]
#[ignore = "the other half of copies_killed_at_any_time_end_in_one_file"]
async fn copies_until_it_is_killed() {
    let (Ok(endpoint), Ok(origin)) = (std::env::var(ENDPOINT), std::env::var(ORIGIN)) else { return };
    let request = CopyRequest {
        task: &crate::task(),
        link: &SignedUrl::new(format!("http://{origin}/v")),
        credential: None,
        key_stem: STEM,
        kind: Kind::Video,
        tagging: None,
        reported_at: crate::REPORTED_AT,
        expires_at: None,
        deadline: Instant::now() + LONG,
        prior: PriorAttempt::Possible,
        resume: None,
    };
    crate::copier(&endpoint, &[&origin]).copy(request).await.expect("it is copied");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_killed_at_any_time_end_in_one_file() {
    let stage = Stage::new().await;
    let film = Film::new(60_000_000, 1);
    let served = film.clone();
    stage.origin.on("/v", move |request| Reply {
        bytes_per_second: Some(20_000_000),
        ..Reply::honest(&served, Some("\"a\""), request)
    });
    stage.bucket.fail(|_| Some(Fault::Slow(Duration::from_millis(40))));
    let mut left = 0;
    // Once when it has begun, and then after each of the first calls to the bucket, at a different time for each: while uploads are listed, aborted and begun, and while parts are written.
    for calls in 0..10 {
        let before = (stage.origin.requests().len(), stage.bucket.all_calls());
        let mut child = Command::new(std::env::current_exe().expect("this binary"))
            .args(["--exact", "kills::copies_until_it_is_killed", "--ignored"])
            .env(ENDPOINT, stage.bucket.endpoint())
            .env(ORIGIN, stage.origin.authority())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a process");
        let began = Instant::now();
        while (stage.origin.requests().len() == before.0 || stage.bucket.all_calls() < before.1 + calls)
            && began.elapsed() < LONG
        {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let chance = u64::from(child.id()) * 7919 % 40;
        tokio::time::sleep(Duration::from_millis(chance)).await;
        // SIGKILL.
        child.kill().expect("it is killed");
        child.wait().expect("it is gone");
        left = left.max(stage.bucket.unfinished().0);
        let keys = stage.bucket.keys();
        assert!(keys.is_empty() || stage.bucket.object(&keys[0]).is_some_and(|object| object.bytes == film.bytes()));
    }
    assert!(left > 0, "at least one was killed with parts in the bucket");
    let result = stage.copy_with(&stage.origin.link("/v"), LONG, PriorAttempt::Possible, None).await;
    stage.assert_stored(&film, &result);
}
