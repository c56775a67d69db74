//! How a task ends when the origin of its file is faulty: a table of every fault that the simulated origin has.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use simulator::origin::FaultKind;
use simulator::{FileKind, FileRequest, Provider};

use crate::Case;
use crate::world::World;

/// The attribute of the record with the last error.
const LAST_ERROR: &str = "last_error";

/// How the task ends.
#[derive(Clone, Copy, Debug)]
enum Expected {
    /// Archived, every byte as the provider has it.
    Archived,
    /// Archived: the new file, complete, after the file changed during the download.
    ArchivedNewFile,
    /// Archived with pieces of both files, because not even the `ETag` shows that the file changed. Undetectable.
    ArchivedMixed,
    /// Nothing is in the bucket, the record has this error, and the task is due again. Archived once the fault is over.
    Withheld(&'static str),
}

/// How the file must be requested, if the end of the task alone does not show that the fault was handled correctly.
#[derive(Clone, Copy, Debug)]
enum Requests {
    Any,
    /// One request per piece.
    OnePerPiece,
    /// One request in all.
    One,
    /// The last request has no `Range`.
    WithoutRange,
    /// The first piece more than once: another connection replaced the first one.
    FirstPieceAgain,
    /// The first piece once, although the link expired: the copy resumed with a fresh link.
    FirstPieceOnce,
}

/// A fault, and what must come of it.
#[derive(Clone, Copy, Debug)]
struct Row {
    /// The name of the fault in scripts.
    fault: &'static str,
    /// Tells rows with the same fault apart; empty if there is only one.
    variant: &'static str,
    provider: Provider,
    script: &'static str,
    requests: Requests,
    expected: Expected,
}

const fn row(
    (fault, variant): (&'static str, &'static str),
    provider: Provider,
    script: &'static str,
    requests: Requests,
    expected: Expected,
) -> Row {
    Row { fault, variant, provider, script, requests, expected }
}

impl Row {
    /// The fault and its variant, unique in the table.
    fn name(&self) -> String {
        match self.variant {
            "" => self.fault.to_owned(),
            variant => format!("{}_{variant}", self.fault),
        }
    }

    fn task_id(&self) -> String {
        format!("fault-{}", self.name())
    }

    fn task(&self) -> String {
        format!("{}/{}", self.provider, self.task_id())
    }
}

const GONE: &str = "the origin responded with status 403: the file is not there yet, no longer there, or not for us";
const HTML: &str = "the origin sent HTML instead of the file";
const UNAVAILABLE: &str = "the origin responded with status 503";
const NOT_FOUND: &str =
    "the origin responded with status 404: the file is not there yet, no longer there, or not for us";
const PRIVATE: &str = "the link leads to an address that is not public";
const TOO_FAR: &str = "the link is redirected more than 5 times";
const CODED: &str = "the origin sends the file in a content coding that was not requested";

/// A file of up to 8 MiB takes one request to download, one of up to 16 MiB one to upload; 17 MB are three pieces.
#[rustfmt::skip]
fn rows() -> Vec<Row> {
    use Expected::{Archived, ArchivedMixed, ArchivedNewFile, Withheld};
    use Provider::{ApiMart, Apimp, Ark, Kie, Kling, MaxApi, MiniMax, RelayDance, Vidu};
    use Requests::{Any, FirstPieceAgain, FirstPieceOnce, One, OnePerPiece, WithoutRange};
    vec![
        row(("none", ""), Kling, "size=17000000", OnePerPiece, Archived),
        row(("no_range", ""), MaxApi, "size=17000000", One, Archived),
        row(("wrong_range", ""), ApiMart, "size=17000000", WithoutRange, Archived),
        row(("lying_range", ""), Kling, "size=17000000", Any, Withheld("the origin sent bytes of no known format instead of the file")),
        row(("wrong_total", ""), RelayDance, "size=17000000", WithoutRange, Archived),
        row(("slow", "origin"), Kling, "size=2000000 rate=500000", One, Archived),
        row(("slow", "connection"), Kling, "size=36000000 rate=50000 times=1", FirstPieceAgain, Archived),
        row(("stall", ""), Kling, "size=17000000 at=1000000 times=1", Any, Archived),
        row(("drop", "with_progress"), Kling, "size=17000000 at=2000000", Any, Archived),
        row(("drop", "without_progress"), MaxApi, "size=1000000 at=1000", Any, Withheld("the connection broke off")),
        row(("truncated", ""), Kling, "size=1000000 at=500000", Any, Withheld("the origin has 500000 bytes of a file that says it has ")),
        row(("long_length", ""), Kling, "size=17000000", Any, Archived),
        row(("no_length", ""), Kling, "size=17000000", OnePerPiece, Archived),
        row(("change", ""), Kling, "size=17000000", Any, ArchivedNewFile),
        row(("change_silently", "between_requests"), Kling, "size=17000000", OnePerPiece, ArchivedMixed),
        row(("change_silently", "after_the_only_request"), Kling, "size=1000000", One, Archived),
        row(("no_etag", ""), Kling, "size=17000000", WithoutRange, Archived),
        row(("html", "persistent"), Ark, "", Any, Withheld(HTML)),
        row(("html", "on_one_link"), Vidu, "times=1", Any, Archived),
        row(("html_as_video", ""), MiniMax, "", Any, Withheld(HTML)),
        row(("json", ""), ApiMart, "", Any, Withheld("the origin sent JSON instead of the file")),
        row(("empty", ""), Kling, "", Any, Withheld("the origin sent an empty file instead of the file")),
        row(("gzip", "persistent"), Kling, "", Any, Withheld(CODED)),
        row(("gzip", "on_one_link"), Vidu, "times=1", Any, Archived),
        row(("redirect", "chain_of_5"), Kie, "size=17000000 hops=5", Any, Archived),
        row(("redirect", "chain_of_6"), Kling, "hops=6", Any, Withheld(TOO_FAR)),
        row(("redirect_loop", ""), Vidu, "", Any, Withheld(TOO_FAR)),
        row(("redirect_private", ""), Ark, "", Any, Withheld(PRIVATE)),
        row(("redirect_local", ""), Kling, "", Any, Withheld(PRIVATE)),
        row(("redirect_scheme", ""), Apimp, "", Any, Withheld("the link is not https")),
        row(("too_many", "twice"), Kling, "size=17000000 times=2", Any, Archived),
        row(("too_many", "persistent"), Kling, "", Any, Withheld("the origin responded with status 429")),
        row(("unavailable", "twice"), Kling, "size=17000000 times=2", Any, Archived),
        row(("unavailable", "persistent"), RelayDance, "", Any, Withheld(UNAVAILABLE)),
        row(("forbidden", "at_first"), Kling, "times=1", Any, Withheld(GONE)),
        row(("not_found", "at_first"), MaxApi, "times=1", Any, Withheld(NOT_FOUND)),
        row(("expires", "status_gives_another_link"), Kling, "size=17000000 at=10000000 times=1", FirstPieceOnce, Archived),
        row(("expires", "download_url_gives_another_link"), Kie, "size=17000000 at=10000000 times=1", FirstPieceOnce, Archived),
        row(("expires", "file_id_gives_another_link"), MiniMax, "size=17000000 at=10000000 times=1", FirstPieceOnce, Archived),
        row(("expires", "every_link"), Kling, "size=1000000", Any, Withheld(GONE)),
    ]
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = vec![case!(every_fault_is_in_the_table)];
    for row in rows() {
        let name = row.name();
        cases.push(match row.expected {
            Expected::Archived => case!(a_file_is_archived_despite_the_fault[name](row)),
            Expected::ArchivedNewFile => case!(a_file_that_changes_is_copied_again_from_the_start[name](row)),
            Expected::ArchivedMixed => case!(a_silent_change_between_requests_is_not_detected[name](row)),
            Expected::Withheld(error) => case!(a_faulty_file_is_withheld_until_the_fault_ends[name](row, error)),
        });
    }
    // Kling gets a fresh link from a status call, MiniMax from a file id.
    for (name, provider, script, error) in [
        ("dead_link", Provider::Kling, "link=lost", GONE),
        ("dead_file_id", Provider::MiniMax, "link=lost", GONE),
        ("error_page", Provider::ApiMart, "fault=html", HTML),
        ("private_address", Provider::Ark, "fault=redirect_private", PRIVATE),
        ("outage", Provider::MaxApi, "fault=unavailable", UNAVAILABLE),
    ] {
        cases.push(case!(a_file_that_fails_for_a_day_is_lost[name](name, provider, script, error)));
    }
    cases
}

async fn every_fault_is_in_the_table(_: Arc<World>) {
    let rows = rows();
    for (name, _) in FaultKind::NAMES {
        assert!(rows.iter().any(|row| row.fault == name), "the table has no row for the fault {name}");
    }
}

async fn a_file_is_archived_despite_the_fault(world: Arc<World>, row: Row) {
    let id = submit(&world, &row).await;
    world.assert_archived_by_any(&row.task()).await;
    assert_handled(&world, &row, &id).await;
}

async fn a_file_that_changes_is_copied_again_from_the_start(world: Arc<World>, row: Row) {
    let id = submit(&world, &row).await;
    let stored = archived_video(&world, &row.task()).await;
    assert!(stored == world.simulator.changed_file(&id), "{}: not the new file", row.task());
    assert_handled(&world, &row, &id).await;
}

async fn a_silent_change_between_requests_is_not_detected(world: Arc<World>, row: Row) {
    let id = submit(&world, &row).await;
    let task = row.task();
    let stored = archived_video(&world, &task).await;
    let (old, new) = (world.simulator.file(&id), world.simulator.changed_file(&id));
    let one_of = stored.iter().zip(old.iter().zip(&new)).all(|(byte, (old, new))| byte == old || byte == new);
    assert!(stored.len() == old.len() && one_of, "{task}: bytes of neither file");
    assert!(stored != old && stored != new, "{task}: the file did not change");
    assert_handled(&world, &row, &id).await;
}

async fn a_faulty_file_is_withheld_until_the_fault_ends(world: Arc<World>, row: Row, error: &'static str) {
    let id = submit(&world, &row).await;
    let task = row.task();
    let view = wait_until_withheld(&world, &task).await;
    assert_eq!(view["state"], "reported", "{view}");
    let last_error = view[LAST_ERROR].as_str().unwrap_or_default();
    assert!(last_error.starts_with(&format!("video 1: {error}")), "{view}");
    assert!(view["times"]["due_at"].is_string(), "{view}");
    assert_bucket_has(&world, &task, &[]).await;
    // The fault ends.
    assert!(world.simulator.script(&id, |script| script.fault = None));
    world.enqueue(&task).await;
    let view = world.assert_archived_by_any(&task).await;
    assert_eq!(view[LAST_ERROR], Value::Null, "{view}");
    assert_handled(&world, &row, &id).await;
}

/// Submits the task of a row. Returns the provider's id.
async fn submit(world: &World, row: &Row) -> String {
    let script = format!("fault={} {}", row.fault, row.script);
    let submitted = world.submit(row.provider, &row.task_id(), &script).await;
    submitted["provider_task_id"].as_str().expect("an id").to_owned()
}

/// Checks how the file was requested, and that no multipart upload is left.
async fn assert_handled(world: &World, row: &Row, id: &str) {
    let files = world.simulator.task(id).expect("the provider knows the task").files;
    let video = files.into_iter().find(|file| file.kind == FileKind::Video).expect("a task has a video");
    let mut requests = world.simulator.file_requests(id);
    requests.retain(|request| request.name == video.name);
    assert_requests(&requests, row.requests);
    let task = row.task();
    let unfinished = world.client.unfinished_uploads().await.expect("the bucket responds");
    assert!(!unfinished.contains(&format!("tasks/{task}/")), "{task} left an upload: {unfinished}");
}

/// The file fails for as long as the copy is retried, and the provider has no better link.
async fn a_file_that_fails_for_a_day_is_lost(
    world: Arc<World>,
    name: &'static str,
    provider: Provider,
    script: &'static str,
    error: &'static str,
) {
    world.submit(provider, &format!("a-day-of-{name}"), script).await;
    let task = format!("{provider}/a-day-of-{name}");
    let view = wait_until_withheld(&world, &task).await;
    assert_eq!(view[LAST_ERROR], format!("video 1: {error}"), "{view}");
    // A day passes, plus the hour that an outage is tolerated after the link expires.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set");
    let reported_at = i64::try_from(now.as_secs()).expect("a time of this era") - 26 * 3600;
    world.set_number_attribute(&task, "reported_at", reported_at).await;
    world.enqueue(&task).await;
    assert_lost(&world, &task, error).await;
}

/// The video of an archived task.
async fn archived_video(world: &World, task: &str) -> Vec<u8> {
    let view = world.wait_until_final(task).await;
    assert_eq!(view["state"], "archived", "{view}");
    let key = view["artifacts"][0]["key"].as_str().expect("an artifact has a key").to_owned();
    assert_eq!(world.result(task).await["artifacts"], view["artifacts"]);
    world.assert_published(task, 1).await;
    world.object(&key).await.unwrap_or_else(|| panic!("{task}: {key} is not in the bucket"))
}

/// Checks a loss end to end: the bucket has only `result.json`, and the task is no longer due.
async fn assert_lost(world: &World, task: &str, reason: &str) {
    let view = world.wait_until_final(task).await;
    assert_eq!(view["state"], "lost", "{view}");
    assert_eq!(view["failure"]["reason"], "expired", "{view}");
    assert_eq!(view["failure"]["message"], format!("video 1: {reason}"), "{view}");
    let result = world.result(task).await;
    assert_eq!(result["outcome"], "lost");
    assert_eq!(result["failure"], view["failure"]);
    assert_eq!(result["missing"][0]["kind"], "video", "{result}");
    assert_eq!(result["missing"][0]["reason"], reason, "{result}");
    assert_bucket_has(world, task, &["result.json"]).await;
    let item = world.item(task).await;
    assert!(item["due_at"].is_null() && item["due_shard"].is_null(), "{item}");
    world.assert_published(task, 1).await;
}

async fn assert_bucket_has(world: &World, task: &str, names: &[&str]) {
    let prefix = format!("tasks/{task}/");
    let keys = world.client.keys(&prefix).await.expect("the bucket responds");
    let expected: Vec<_> = names.iter().map(|name| format!("{prefix}{name}")).collect();
    assert_eq!(keys, expected);
}

/// Waits until a worker has tried to copy the file and recorded an error.
async fn wait_until_withheld(world: &World, task: &str) -> Value {
    world.wait_until(task, "withheld", |view| view[LAST_ERROR].is_string()).await
}

fn assert_requests(requests: &[FileRequest], expected: Requests) {
    let range = |request: &FileRequest| request.range.clone();
    let first_piece =
        requests.iter().filter(|request| request.range.as_deref().is_some_and(|range| range.ends_with("-8388607")));
    match expected {
        Requests::Any => {}
        Requests::OnePerPiece => {
            let mut ranges: Vec<_> = requests.iter().map(range).collect();
            ranges.sort();
            let expected = ["bytes=0-8388607", "bytes=16777216-16999999", "bytes=8388608-16777215"];
            assert_eq!(ranges, expected.map(|range| Some(range.to_owned())));
        }
        Requests::One => assert_eq!(requests.len(), 1, "{requests:#?}"),
        Requests::WithoutRange => assert_eq!(requests.last().map(range), Some(None), "{requests:#?}"),
        Requests::FirstPieceAgain => {
            assert!(first_piece.count() > 1, "{requests:#?}");
        }
        Requests::FirstPieceOnce => {
            assert!(requests.iter().any(|request| request.status == 403), "{requests:#?}");
            assert_eq!(first_piece.count(), 1, "{requests:#?}");
        }
    }
}
