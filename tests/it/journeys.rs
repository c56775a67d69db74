//! Tasks from the submission to the result, for every provider.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use simulator::{Outcome, Provider};
use tokio::time::sleep;

use crate::Case;
use crate::world::{World, call};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = vec![
        case!(a_callback_may_arrive_before_the_submission_response),
        case!(a_late_intermediate_callback_changes_nothing),
        case!(all_artifacts_are_copied),
        case!(a_cover_that_is_gone_does_not_hold_the_video_back),
        case!(a_loss_after_a_failure_is_published),
        case!(a_success_after_a_loss_replaces_the_files_of_the_lost_report),
        case!(a_dead_link_is_refreshed),
        case!(a_file_that_is_not_ready_is_retried),
    ];
    for provider in Provider::ALL {
        if provider.calls_back() {
            cases.push(case!(a_success_is_archived[provider](provider)));
        }
        if provider.calls_back_about(Outcome::Moderated) {
            cases.push(case!(a_failure_is_recorded_and_published[provider](provider)));
        } else {
            cases.push(case!(a_failure_is_found_by_polling[provider](provider)));
        }
        cases.push(case!(a_lost_callback_is_recovered_by_polling[provider](provider)));
    }
    // Kling signs the body, so its success counts at once. KIE signs only its sender, so its success is a hint that reopens a
    // settled failure.
    for provider in [Provider::Kling, Provider::Kie] {
        cases.push(case!(a_late_success_replaces_a_failure[provider](provider)));
    }
    cases
}

async fn a_success_is_archived(world: Arc<World>, provider: Provider) {
    let submitted = world.submit(provider, "success", "").await;
    assert_eq!(submitted["state"], "pending");
    assert_eq!(submitted["submission"], "accepted");
    let view = world.assert_archived(&format!("{provider}/success"), "callback").await;
    assert_eq!(view["provider_task_id"], submitted["provider_task_id"]);
    // The provider accepted every response to its callbacks.
    let task = world.simulator.task(view["provider_task_id"].as_str().expect("an id")).expect("the provider knows it");
    assert!(task.deliveries.iter().all(simulator::Delivery::accepted), "{:?}", task.deliveries);
}

async fn a_failure_is_recorded_and_published(world: Arc<World>, provider: Provider) {
    world.submit(provider, "failure", "outcome=moderated").await;
    let task = format!("{provider}/failure");
    let view = world.wait_until_final(&task).await;
    assert_eq!(view["state"], "failed", "{view}");
    assert_eq!(view["failure"]["reason"], "content_moderation", "{view}");
    let result = world.result(&task).await;
    assert_eq!(result["outcome"], "failed");
    assert_eq!(result["failure"], view["failure"]);
    world.assert_published(&task, 1).await;
}

/// Of a provider that sends no callbacks, or only for successes.
async fn a_failure_is_found_by_polling(world: Arc<World>, provider: Provider) {
    let submitted = world.submit(provider, "polled-failure", "outcome=moderated").await;
    let is_polled_only = !provider.calls_back();
    assert_eq!(submitted.get("polled_only").is_some(), is_polled_only, "{submitted}");
    assert_eq!(submitted.get("callback_url").is_none(), is_polled_only, "{submitted}");
    let task = format!("{provider}/polled-failure");
    sleep(Duration::from_secs(27)).await;
    world.poll().await;
    let view = world.wait_until_final(&task).await;
    assert_eq!((&view["state"], &view["reported_by"]), (&"failed".into(), &"poll".into()), "{view}");
    assert_eq!(view["failure"]["reason"], "content_moderation", "{view}");
    world.assert_published(&task, 1).await;
}

async fn a_lost_callback_is_recovered_by_polling(world: Arc<World>, provider: Provider) {
    world.submit(provider, "lost-callback", "callback=lose").await;
    let task = format!("{provider}/lost-callback");
    // The first poll is due only when the submission can no longer be in flight. Do not wait for the schedule.
    sleep(Duration::from_secs(27)).await;
    world.poll().await;
    world.assert_archived(&task, "poll").await;
}

/// The provider calls back before it responds to the submission: the record exists already.
async fn a_callback_may_arrive_before_the_submission_response(world: Arc<World>) {
    let view = world.submit(Provider::MaxApi, "early", "early").await;
    let after = world.assert_archived("maxapi/early", "callback").await;
    assert_eq!(view["provider_task_id"], after["provider_task_id"]);
}

async fn a_late_intermediate_callback_changes_nothing(world: Arc<World>) {
    let view = world.submit(Provider::Kling, "late", "order=late_processing").await;
    let before = world.assert_archived("kling/late", "callback").await;
    let id = view["provider_task_id"].as_str().expect("an id").to_owned();
    world
        .simulator
        .wait_for(&id, Duration::from_secs(20), |task| task.deliveries.len() >= 3)
        .await
        .expect("a late callback");
    let after = world.view("kling/late").await.body;
    assert_eq!(before, after);
}

/// A success after a settled and published failure takes the task over.
async fn a_late_success_replaces_a_failure(world: Arc<World>, provider: Provider) {
    world.submit(provider, "second-thoughts", "outcome=fail then=succeed delay=4").await;
    let task = &format!("{provider}/second-thoughts");
    let failed = world.wait_until_final(task).await;
    assert_eq!(failed["state"], "failed", "{failed}");
    assert_eq!(world.result(task).await["outcome"], "failed");
    let view = world.wait_until(task, "archived", |view| view["state"] == "archived").await;
    assert!(view["artifacts"].as_array().is_some_and(|artifacts| !artifacts.is_empty()), "{view}");
    assert_eq!(world.result(task).await["outcome"], "succeeded");
    // Once as a failure, once as a success.
    world.assert_published(task, 2).await;
}

async fn all_artifacts_are_copied(world: Arc<World>) {
    world.submit(Provider::Ark, "artifacts", "").await;
    let view = world.assert_archived("ark/artifacts", "callback").await;
    let keys: Vec<_> =
        view["artifacts"].as_array().into_iter().flatten().map(|artifact| artifact["key"].clone()).collect();
    assert_eq!(keys, ["tasks/ark/artifacts/video.mp4", "tasks/ark/artifacts/last-frame.png"], "{view}");
}

/// Three rounds, then the video is archived and the last frame is missing.
async fn a_cover_that_is_gone_does_not_hold_the_video_back(world: Arc<World>) {
    world.submit(Provider::Ark, "without-cover", "extras=gone").await;
    // The rounds are some 10 and 20 s apart; poll queues them.
    for _ in 0..6 {
        sleep(Duration::from_secs(10)).await;
        world.poll().await;
        if world.view("ark/without-cover").await.body["state"] == "archived" {
            break;
        }
    }
    world.assert_archived("ark/without-cover", "callback").await;
    let result = world.result("ark/without-cover").await;
    assert_eq!(result["missing"][0]["kind"], "last_frame", "{result}");
    assert_eq!(result["artifacts"].as_array().map(Vec::len), Some(1), "{result}");
}

/// A failure is published, a success replaces it, and its file is lost: the loss has to be published over the failure.
async fn a_loss_after_a_failure_is_published(world: Arc<World>) {
    world.submit(Provider::Kling, "lost-after-failure", "outcome=fail then=succeed delay=3 link=lost").await;
    world.wait_until("kling/lost-after-failure", "failed", |view| view["state"] == "failed").await;
    let withheld = |view: &serde_json::Value| view["last_error"].is_string();
    world.wait_until("kling/lost-after-failure", "withheld", withheld).await;
    assert_eq!(world.result("kling/lost-after-failure").await["outcome"], "failed");
    // A day passes.
    world.set_number_attribute("kling/lost-after-failure", "reported_at", 1_700_000_000).await;
    world.enqueue("kling/lost-after-failure").await;
    world.wait_until("kling/lost-after-failure", "lost", |view| view["state"] == "lost").await;
    assert_eq!(world.result("kling/lost-after-failure").await["outcome"], "lost");
    world.assert_published("kling/lost-after-failure", 2).await;
}

/// A task of which some files were copied and others could not be is lost, and keeps those files. When the provider then
/// reports another file, the one that is in the bucket used to be taken for it.
async fn a_success_after_a_loss_replaces_the_files_of_the_lost_report(world: Arc<World>) {
    let task = "kling/lost-in-part";
    let view = world.submit(Provider::Kling, "lost-in-part", "fault=change times=1").await;
    let id = view["provider_task_id"].as_str().expect("an id");
    world.assert_archived(task, "callback").await;
    let earlier = world.object("tasks/kling/lost-in-part/video.mp4").await.expect("the first file");
    world.remove_object("tasks/kling/lost-in-part/result.json").await;
    let request = json!({
        "TableName": world.stack.outputs().table_name,
        "Key": { "task": { "S": task } },
        "UpdateExpression": "SET #state = :lost, outcome = :lost, report = :report",
        "ExpressionAttributeNames": { "#state": "state" },
        "ExpressionAttributeValues": {
            ":lost": { "S": "lost" }, ":report": { "S": r#"{"outcome":"lost","reason":"expired","retryable":true}"# },
        },
    });
    call(&world.client, world.stack.endpoint(), "dynamodb", "DynamoDB_20120810.UpdateItem", &request).await;
    // Reports are told apart by the second in which they came.
    sleep(Duration::from_secs(1)).await;
    let callback = world.simulator.callback(id).expect("a callback");
    assert_eq!(world.post(&callback.url, &callback.headers, callback.body).await.status, 200);
    let view = world.wait_until(task, "archived again", |view| view["state"] == "archived").await;
    let later = world.object("tasks/kling/lost-in-part/video.mp4").await.expect("the second file");
    assert!(earlier != later, "the provider has another file by now");
    assert_eq!(world.result(task).await["artifacts"], view["artifacts"]);
    world.assert_published(task, 2).await;
}

async fn a_dead_link_is_refreshed(world: Arc<World>) {
    for provider in [Provider::Kling, Provider::MiniMax, Provider::Kie] {
        world.submit(provider, "dead-link", "link=dead").await;
    }
    for provider in [Provider::Kling, Provider::MiniMax, Provider::Kie] {
        world.assert_archived(&format!("{provider}/dead-link"), "callback").await;
    }
}

async fn a_file_that_is_not_ready_is_retried(world: Arc<World>) {
    world.submit(Provider::MaxApi, "not-there-yet", "not_ready=2").await;
    // The first attempt gets a 404. The next one is due after ten seconds; poll queues it.
    for _ in 0..4 {
        sleep(Duration::from_secs(12)).await;
        world.poll().await;
    }
    world.assert_archived("maxapi/not-there-yet", "callback").await;
}
