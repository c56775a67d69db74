//! Tasks that go all the way, for every provider.

use std::sync::Arc;
use std::time::Duration;

use simulator::Provider;
use tokio::time::sleep;

use crate::Case;
use crate::world::World;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for provider in Provider::ALL {
        cases.push(Case::new(format!("journeys::{provider}_success"), move |world| success(world, provider)));
        cases.push(Case::new(format!("journeys::{provider}_failure"), move |world| failure(world, provider)));
        cases.push(Case::new(format!("journeys::{provider}_lost_callback"), move |world| {
            lost_callback(world, provider)
        }));
    }
    cases.push(Case::new("journeys::a_callback_faster_than_the_submissions_answer", early));
    cases.push(Case::new("journeys::late_processing_changes_nothing", late_processing));
    // Kling's word is taken as it comes; KIE signs its sender only, so its success is a hint over a settled failure.
    for provider in [Provider::Kling, Provider::Kie] {
        let name = format!("journeys::{provider}_success_after_failure");
        cases.push(Case::new(name, move |world| success_after_failure(world, provider)));
    }
    cases.push(Case::new("journeys::all_artifacts_are_copied", all_artifacts));
    cases.push(Case::new("journeys::a_dead_link_is_refreshed", dead_link));
    cases.push(Case::new("journeys::a_file_that_is_not_there_yet_is_waited_for", not_there_yet));
    cases
}

async fn success(world: Arc<World>, provider: Provider) {
    let submitted = world.submit(provider, "success", "").await;
    assert_eq!(submitted["state"], "pending");
    assert_eq!(submitted["submission"], "accepted");
    let view = world.assert_archived(&format!("{provider}/success"), "callback").await;
    assert_eq!(view["provider_task_id"], submitted["provider_task_id"]);
    // The provider was satisfied with every answer it got.
    let task = world.simulator.task(view["provider_task_id"].as_str().expect("an id")).expect("the provider knows it");
    assert!(task.deliveries.iter().all(simulator::Delivery::accepted), "{:?}", task.deliveries);
}

async fn failure(world: Arc<World>, provider: Provider) {
    world.submit(provider, "failure", "outcome=moderated").await;
    let task = format!("{provider}/failure");
    let view = world.until_final(&task).await;
    assert_eq!(view["state"], "failed", "{view}");
    assert_eq!(view["failure"]["reason"], "content_moderation", "{view}");
    let result = world.result(&task).await;
    assert_eq!(result["outcome"], "failed");
    assert_eq!(result["failure"], view["failure"]);
    world.assert_announced(&task, 1).await;
}

async fn lost_callback(world: Arc<World>, provider: Provider) {
    world.submit(provider, "lost-callback", "callback=lose").await;
    let task = format!("{provider}/lost-callback");
    // The first visit is not due before the submission would have been given up; the schedule is not waited for.
    sleep(Duration::from_secs(27)).await;
    world.poll().await;
    world.assert_archived(&task, "poll").await;
}

/// The provider calls back before it answers the submission: the record is there already.
async fn early(world: Arc<World>) {
    let view = world.submit(Provider::MaxApi, "early", "early").await;
    let after = world.assert_archived("maxapi/early", "callback").await;
    assert_eq!(view["provider_task_id"], after["provider_task_id"]);
}

async fn late_processing(world: Arc<World>) {
    let view = world.submit(Provider::Kling, "late", "order=late_processing").await;
    let before = world.assert_archived("kling/late", "callback").await;
    let id = view["provider_task_id"].as_str().expect("an id").to_owned();
    world
        .simulator
        .wait_for(&id, Duration::from_secs(20), |task| task.deliveries.len() >= 3)
        .await
        .expect("a late push");
    let after = world.view("kling/late").await.body;
    assert_eq!(before, after);
}

/// A failure that is settled and announced, and a success after it: the success takes the task over.
async fn success_after_failure(world: Arc<World>, provider: Provider) {
    world.submit(provider, "second-thoughts", "outcome=fail then=succeed delay=4").await;
    let task = &format!("{provider}/second-thoughts");
    let failed = world.until_final(task).await;
    assert_eq!(failed["state"], "failed", "{failed}");
    assert_eq!(world.result(task).await["outcome"], "failed");
    let view = world.until(task, "archived", |view| view["state"] == "archived").await;
    assert!(view["artifacts"].as_array().is_some_and(|artifacts| !artifacts.is_empty()), "{view}");
    assert_eq!(world.result(task).await["outcome"], "succeeded");
    // Once as a failure, once as a success.
    world.assert_announced(task, 2).await;
}

async fn all_artifacts(world: Arc<World>) {
    world.submit(Provider::Ark, "artifacts", "").await;
    let view = world.assert_archived("ark/artifacts", "callback").await;
    let keys: Vec<_> =
        view["artifacts"].as_array().into_iter().flatten().map(|artifact| artifact["key"].clone()).collect();
    assert_eq!(keys, ["tasks/ark/artifacts/video.mp4", "tasks/ark/artifacts/last-frame.png"], "{view}");
}

async fn dead_link(world: Arc<World>) {
    for provider in [Provider::Kling, Provider::MiniMax, Provider::Kie] {
        world.submit(provider, "dead-link", "link=dead").await;
    }
    for provider in [Provider::Kling, Provider::MiniMax, Provider::Kie] {
        world.assert_archived(&format!("{provider}/dead-link"), "callback").await;
    }
}

async fn not_there_yet(world: Arc<World>) {
    world.submit(Provider::MaxApi, "not-there-yet", "not_ready=2").await;
    // The first attempt finds nothing; the next one is due after ten seconds, and made by poll.
    for _ in 0..4 {
        sleep(Duration::from_secs(12)).await;
        world.poll().await;
    }
    world.assert_archived("maxapi/not-there-yet", "callback").await;
}
