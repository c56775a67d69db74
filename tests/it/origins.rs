//! What becomes of a task whose file is served badly: one table for every fault that the simulated origin has.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use simulator::origin::FaultKind;
use simulator::{FileKind, FileRequest, Provider};

use crate::Case;
use crate::world::World;

/// How a task ends, or stands, whose file is served badly.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    /// At once, and every byte is what the provider has.
    Archived,
    /// At once: of a file that became another one while it was read, the new one, whole.
    ArchivedAnew,
    /// At once: pieces of both, when not even the `ETag` says that there are two files. Nothing could notice.
    ArchivedMixed,
    /// Not a byte is in the bucket, the record names the trouble, and the task is due again. It is archived after all when
    /// the fault has ended.
    Withheld(&'static str),
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Archived => "archived",
            Self::ArchivedAnew => "archived_anew",
            Self::ArchivedMixed => "archived_mixed",
            Self::Withheld(_) => "withheld",
        }
    }
}

/// How the file was asked for, where the outcome alone does not show that the fault was met as it should be.
#[derive(Clone, Copy, Debug)]
enum Asked {
    /// However.
    Anyhow,
    /// In pieces, each of them once.
    InPieces,
    /// In one request.
    Once,
    /// Without `Range` in the end.
    WithoutRange,
    /// The first piece again: another connection took over from the first one.
    FirstPieceAgain,
    /// The first piece once, although the link ended: a fresh link went on where it stood.
    FirstPieceOnce,
}

/// A file that is served badly.
#[derive(Clone, Copy, Debug)]
struct Row {
    /// The word of the fault.
    fault: &'static str,
    /// What is particular about this row; empty for a fault with one row only.
    variant: &'static str,
    provider: Provider,
    script: &'static str,
    asked: Asked,
    outcome: Outcome,
}

const fn row(
    (fault, variant): (&'static str, &'static str),
    provider: Provider,
    script: &'static str,
    asked: Asked,
    outcome: Outcome,
) -> Row {
    Row { fault, variant, provider, script, asked, outcome }
}

const GONE: &str = "the origin answered with status 403: the file is not there yet, or not any more";
const HTML: &str = "the origin sent HTML instead of the file";
const UNAVAILABLE: &str = "the origin answered with status 503";
const NOT_FOUND: &str = "the origin answered with status 404: the file is not there yet, or not any more";
const PRIVATE: &str = "the link leads to an address that is not public";
const TOO_FAR: &str = "the link is redirected more than 5 times";
const CODED: &str = "the origin sends the file in a content coding that was not asked for";

/// Up to 8 MiB a file is read with one request, up to 16 MiB it is stored with one; 17 MB are three pieces.
#[rustfmt::skip]
fn rows() -> Vec<Row> {
    use Asked::{Anyhow, FirstPieceAgain, FirstPieceOnce, InPieces, Once, WithoutRange};
    use Outcome::{Archived, ArchivedAnew, ArchivedMixed, Withheld};
    use Provider::{ApiMart, Apimp, Ark, Kie, Kling, MaxApi, MiniMax, RelayDance, Vidu};
    vec![
        row(("none", ""), Kling, "size=17000000", InPieces, Archived),
        row(("no_range", ""), MaxApi, "size=17000000", Once, Archived),
        row(("wrong_range", ""), ApiMart, "size=17000000", WithoutRange, Archived),
        row(("lying_range", ""), Kling, "size=17000000", Anyhow, Withheld("the origin sent bytes of no known format instead of the file")),
        row(("wrong_total", ""), RelayDance, "size=17000000", WithoutRange, Archived),
        row(("slow", "origin"), Kling, "size=2000000 rate=500000", Once, Archived),
        row(("slow", "connection"), Kling, "size=36000000 rate=50000 times=1", FirstPieceAgain, Archived),
        row(("stall", ""), Kling, "size=17000000 at=1000000 times=1", Anyhow, Archived),
        row(("drop", "with_progress"), Kling, "size=17000000 at=2000000", Anyhow, Archived),
        row(("drop", "without_progress"), MaxApi, "size=1000000 at=1000", Anyhow, Withheld("the connection broke off")),
        row(("truncated", ""), Kling, "size=1000000 at=500000", Anyhow, Withheld("the origin has 500000 bytes of a file that says it has ")),
        row(("long_length", ""), Kling, "size=17000000", Anyhow, Archived),
        row(("no_length", ""), Kling, "size=17000000", InPieces, Archived),
        row(("change", ""), Kling, "size=17000000", Anyhow, ArchivedAnew),
        row(("change_silently", "between_requests"), Kling, "size=17000000", InPieces, ArchivedMixed),
        row(("change_silently", "after_the_only_request"), Kling, "size=1000000", Once, Archived),
        row(("no_etag", ""), Kling, "size=17000000", WithoutRange, Archived),
        row(("html", "for_good"), Ark, "", Anyhow, Withheld(HTML)),
        row(("html", "on_one_link"), Vidu, "times=1", Anyhow, Archived),
        row(("html_as_video", ""), MiniMax, "", Anyhow, Withheld(HTML)),
        row(("json", ""), ApiMart, "", Anyhow, Withheld("the origin sent JSON instead of the file")),
        row(("empty", ""), Kling, "", Anyhow, Withheld("the origin sent an empty file instead of the file")),
        row(("gzip", "for_good"), Kling, "", Anyhow, Withheld(CODED)),
        row(("gzip", "on_one_link"), Vidu, "times=1", Anyhow, Archived),
        row(("redirect", "chain_of_5"), Kie, "size=17000000 hops=5", Anyhow, Archived),
        row(("redirect", "chain_of_6"), Kling, "hops=6", Anyhow, Withheld(TOO_FAR)),
        row(("redirect_loop", ""), Vidu, "", Anyhow, Withheld(TOO_FAR)),
        row(("redirect_private", ""), Ark, "", Anyhow, Withheld(PRIVATE)),
        row(("redirect_local", ""), Kling, "", Anyhow, Withheld(PRIVATE)),
        row(("redirect_scheme", ""), Apimp, "", Anyhow, Withheld("the link is not https")),
        row(("too_many", "twice"), Kling, "size=17000000 times=2", Anyhow, Archived),
        row(("too_many", "for_good"), Kling, "", Anyhow, Withheld("the origin answered with status 429")),
        row(("unavailable", "twice"), Kling, "size=17000000 times=2", Anyhow, Archived),
        row(("unavailable", "for_good"), RelayDance, "", Anyhow, Withheld(UNAVAILABLE)),
        row(("forbidden", "at_first"), Kling, "times=1", Anyhow, Withheld(GONE)),
        row(("not_found", "at_first"), MaxApi, "times=1", Anyhow, Withheld(NOT_FOUND)),
        row(("expires", "status_gives_another_link"), Kling, "size=17000000 at=10000000 times=1", FirstPieceOnce, Archived),
        row(("expires", "download_url_gives_another_link"), Kie, "size=17000000 at=10000000 times=1", FirstPieceOnce, Archived),
        row(("expires", "file_id_gives_another_link"), MiniMax, "size=17000000 at=10000000 times=1", FirstPieceOnce, Archived),
        row(("expires", "every_link"), Kling, "size=1000000", Anyhow, Withheld(GONE)),
    ]
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = vec![Case::new("origins::every_fault_has_a_row", every_fault_has_a_row)];
    for row in rows() {
        let variant = if row.variant.is_empty() { String::new() } else { format!("_{}", row.variant) };
        let id = format!("fault-{}{variant}", row.fault);
        let name = format!("origins::{}{variant}_is_{}", row.fault, row.outcome.name());
        cases.push(Case::new(name, move |world| served_badly(world, row, id)));
    }
    // A link of Kling is replaced by the status call, one of MiniMax is made from a file id.
    for (what, provider, script, reason) in [
        ("dead_link", Provider::Kling, "link=lost", GONE),
        ("dead_file_id", Provider::MiniMax, "link=lost", GONE),
        ("error_page", Provider::ApiMart, "fault=html", HTML),
        ("private_address", Provider::Ark, "fault=redirect_private", PRIVATE),
        ("outage", Provider::MaxApi, "fault=unavailable", UNAVAILABLE),
    ] {
        let name = format!("origins::{what}_of_a_day_is_lost");
        cases.push(Case::new(name, move |world| bad_for_a_day(world, what, provider, script, reason)));
    }
    cases
}

async fn every_fault_has_a_row(_: Arc<World>) {
    let rows = rows();
    for (name, _) in FaultKind::NAMES {
        assert!(rows.iter().any(|row| row.fault == name), "the table has no row for the fault {name}");
    }
}

async fn served_badly(world: Arc<World>, row: Row, id: String) {
    let submitted = world.submit(row.provider, &id, &format!("fault={} {}", row.fault, row.script)).await;
    let provider_task_id = submitted["provider_task_id"].as_str().expect("an id").to_owned();
    let task = format!("{}/{id}", row.provider);
    match row.outcome {
        Outcome::Archived => {
            world.assert_archived_by_anybody(&task).await;
        }
        Outcome::ArchivedAnew => {
            let stored = archived_video(&world, &task).await;
            assert!(stored == world.simulator.changed_file(&provider_task_id), "{task}: not the new file");
        }
        Outcome::ArchivedMixed => {
            let stored = archived_video(&world, &task).await;
            let (old, new) = (world.simulator.file(&provider_task_id), world.simulator.changed_file(&provider_task_id));
            let one_of = stored.iter().zip(old.iter().zip(&new)).all(|(byte, (old, new))| byte == old || byte == new);
            assert!(stored.len() == old.len() && one_of, "{task}: bytes of neither file");
            assert!(stored != old && stored != new, "{task}: the fault was not met");
        }
        Outcome::Withheld(reason) => {
            let view = until_given_back(&world, &task).await;
            assert_eq!(view["state"], "reported", "{view}");
            let trouble = view["trouble"].as_str().unwrap_or_default();
            assert!(trouble.starts_with(&format!("video 1: {reason}")), "{view}");
            assert!(view["times"]["due_at"].is_string(), "{view}");
            assert_bucket_has(&world, &task, &[]).await;
            // The origin is well again.
            assert!(world.simulator.script(&provider_task_id, |script| script.fault = None));
            world.enqueue(&task).await;
            let view = world.assert_archived_by_anybody(&task).await;
            assert_eq!(view["trouble"], Value::Null, "{view}");
        }
    }
    let name = world.simulator.task(&provider_task_id).expect("the provider knows it").files;
    let name = name.into_iter().find(|file| file.kind == FileKind::Video).expect("a task has a video").name;
    let mut requests = world.simulator.file_requests(&provider_task_id);
    requests.retain(|request| request.name == name);
    assert_asked(&requests, row.asked);
    let unfinished = world.client.unfinished_uploads().await.expect("the bucket answers");
    assert!(!unfinished.contains(&format!("tasks/{task}/")), "{task} has left an upload: {unfinished}");
}

/// The file cannot be had for as long as one is waited for, and the provider gives no link that is better.
async fn bad_for_a_day(
    world: Arc<World>,
    what: &'static str,
    provider: Provider,
    script: &'static str,
    reason: &'static str,
) {
    world.submit(provider, &format!("a-day-of-{what}"), script).await;
    let task = format!("{provider}/a-day-of-{what}");
    let view = until_given_back(&world, &task).await;
    assert_eq!(view["trouble"], format!("video 1: {reason}"), "{view}");
    // A day passes, and the hour that an outage is waited out beyond the end of the link.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock that is set");
    let back_then = i64::try_from(now.as_secs()).expect("a time of this age") - 26 * 3600;
    world.set_number(&task, "reported_at", back_then).await;
    world.enqueue(&task).await;
    assert_lost(&world, &task, reason).await;
}

/// The video of a task that was archived.
async fn archived_video(world: &World, task: &str) -> Vec<u8> {
    let view = world.until_final(task).await;
    assert_eq!(view["state"], "archived", "{view}");
    let key = view["artifacts"][0]["key"].as_str().expect("an artifact has a key").to_owned();
    assert_eq!(world.result(task).await["artifacts"], view["artifacts"]);
    world.assert_announced(task, 1).await;
    world.object(&key).await.unwrap_or_else(|| panic!("{task}: {key} is not in the bucket"))
}

/// Checks a loss from end to end: nothing is in the bucket but the word of it, and nobody looks at the task again.
async fn assert_lost(world: &World, task: &str, reason: &str) {
    let view = world.until_final(task).await;
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
    world.assert_announced(task, 1).await;
}

async fn assert_bucket_has(world: &World, task: &str, names: &[&str]) {
    let prefix = format!("tasks/{task}/");
    let keys = world.client.keys(&prefix).await.expect("the bucket answers");
    let expected: Vec<_> = names.iter().map(|name| format!("{prefix}{name}")).collect();
    assert_eq!(keys, expected);
}

/// Waits until a worker has had a task and has given it back.
async fn until_given_back(world: &World, task: &str) -> Value {
    world.until(task, "given back with a trouble", |view| view["trouble"].is_string()).await
}

fn assert_asked(requests: &[FileRequest], asked: Asked) {
    let range = |request: &FileRequest| request.range.clone();
    let ends_with_first_piece =
        requests.iter().filter(|request| request.range.as_deref().is_some_and(|range| range.ends_with("-8388607")));
    match asked {
        Asked::Anyhow => {}
        Asked::InPieces => {
            let mut ranges: Vec<_> = requests.iter().map(range).collect();
            ranges.sort();
            let expected = ["bytes=0-8388607", "bytes=16777216-16999999", "bytes=8388608-16777215"];
            assert_eq!(ranges, expected.map(|range| Some(range.to_owned())));
        }
        Asked::Once => assert_eq!(requests.len(), 1, "{requests:#?}"),
        Asked::WithoutRange => assert_eq!(requests.last().map(range), Some(None), "{requests:#?}"),
        Asked::FirstPieceAgain => {
            assert!(ends_with_first_piece.count() > 1, "{requests:#?}");
        }
        Asked::FirstPieceOnce => {
            assert!(requests.iter().any(|request| request.status == 403), "{requests:#?}");
            assert_eq!(ends_with_first_piece.count(), 1, "{requests:#?}");
        }
    }
}
