//! The `tasks` function: exactly one submission, whatever happens.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join_all};
use serde_json::json;
use simulator::Provider;
use tokio::time::sleep;

use crate::Case;
use crate::callbacks::direct_submission;
use crate::world::World;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(concurrent_submissions_under_one_id_submit_once),
        case!(a_repeated_submission_returns_the_same_task),
        case!(a_different_request_under_the_same_id_is_rejected),
        case!(an_interrupted_submission_is_never_retried_automatically),
        case!(a_callback_resolves_an_interrupted_submission),
        case!(a_providers_refusal_is_passed_on),
        case!(invalid_requests_create_no_task),
        case!(a_provider_task_that_is_known_is_not_registered_again),
        case!(a_callback_without_its_own_url_is_about_the_registered_task),
        case!(a_callback_through_the_url_of_another_name_is_about_the_registered_task),
        case!(one_provider_task_under_two_names_is_stored_and_published_once),
    ]
}

/// The number of submissions to the provider with this marker in the prompt.
pub(crate) fn submissions(world: &World, marker: &str) -> usize {
    let all = world.simulator.submissions();
    all.iter().filter(|submission| String::from_utf8_lossy(&submission.body).contains(marker)).count()
}

async fn submit_marked(world: &World, id: &str, script: &str) -> local::client::HttpResponse {
    let prompt = format!("marker-{id} [simulate {script}]");
    let sample = local::samples::of(Provider::ApiMart);
    world.client.submit(sample, id, &prompt).await.expect("the tasks function responds")
}

async fn concurrent_submissions_under_one_id_submit_once(world: Arc<World>) {
    let (one, other) = join(submit_marked(&world, "twice", ""), submit_marked(&world, "twice", "")).await;
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 201], "{} {}", one.body, other.body);
    assert_eq!(one.body["provider_task_id"], other.body["provider_task_id"]);
    assert_eq!(submissions(&world, "marker-twice"), 1);
    world.assert_archived("apimart/twice", "callback").await;
}

async fn a_repeated_submission_returns_the_same_task(world: Arc<World>) {
    assert_eq!(submit_marked(&world, "repeated", "").await.status, 201);
    world.assert_archived("apimart/repeated", "callback").await;
    let again = submit_marked(&world, "repeated", "").await;
    assert_eq!(again.status, 200);
    assert_eq!(again.body["state"], "archived");
    assert_eq!(submissions(&world, "marker-repeated"), 1);
}

async fn a_different_request_under_the_same_id_is_rejected(world: Arc<World>) {
    assert_eq!(submit_marked(&world, "taken", "").await.status, 201);
    let other = submit_marked(&world, "taken", "delay=1").await;
    assert_eq!(other.status, 409, "{}", other.body);
    assert_eq!(other.body["error"], "other_request");
    assert_eq!(submissions(&world, "marker-taken"), 1);
}

/// The provider creates the task but returns a 500. A repeated submission gets an error until the caller registers the task.
async fn an_interrupted_submission_is_never_retried_automatically(world: Arc<World>) {
    let response = submit_marked(&world, "interrupted", "submit=error500 callback=lose").await;
    assert_eq!(response.status, 504, "{}", response.body);
    assert_eq!(response.body["error"], "interrupted");
    let again = submit_marked(&world, "interrupted", "submit=error500 callback=lose").await;
    assert_eq!(again.status, 409, "{}", again.body);
    assert_eq!(again.body["error"], "interrupted");
    assert_eq!(again.body["task"]["submission"], "interrupted");
    assert_eq!(submissions(&world, "marker-interrupted"), 1);

    // The caller found the task at the provider.
    let submitted = world.simulator.submissions();
    let submitted = submitted.iter().find(|one| String::from_utf8_lossy(&one.body).contains("marker-interrupted"));
    let id = submitted.and_then(|one| one.task_id.clone()).expect("the provider made a task");
    let path = format!("apimart/interrupted?provider_task_id={id}");
    let registered = world.client.put(&path, String::new()).await.expect("a response");
    assert_eq!(registered.status, 200, "{}", registered.body);
    assert_eq!(registered.body["submission"], "accepted");
    sleep(Duration::from_secs(27)).await;
    world.poll().await;
    world.assert_archived("apimart/interrupted", "poll").await;
}

async fn a_callback_resolves_an_interrupted_submission(world: Arc<World>) {
    let response = submit_marked(&world, "called-back", "submit=error500").await;
    assert_eq!(response.status, 504, "{}", response.body);
    world.assert_archived("apimart/called-back", "callback").await;
    assert_eq!(submissions(&world, "marker-called-back"), 1);
}

async fn a_providers_refusal_is_passed_on(world: Arc<World>) {
    for (script, status, reason) in
        [("submit=balance", 402, "insufficient_credits"), ("submit=busy", 429, "rate_limited")]
    {
        let response = submit_marked(&world, "refused", script).await;
        assert_eq!(response.status, status, "{}", response.body);
        assert_eq!(response.body["error"], "refused_by_provider");
        assert_eq!(response.body["provider"]["reason"], reason, "{}", response.body);
        assert!(response.body["provider"]["message"].is_string(), "{}", response.body);
        // No task was created, so the id is free.
        assert_eq!(world.view("apimart/refused").await.status, 404);
    }
    assert_eq!(submit_marked(&world, "refused", "").await.status, 201);
}

async fn invalid_requests_create_no_task(world: Arc<World>) {
    let sample = json!({ "prompt": "p" }).to_string();
    for (path, body, status) in [
        ("nobody/x", sample.clone(), 404),
        ("kling/-", sample.clone(), 400),
        ("kling/a%20b", sample.clone(), 400),
        // Kling has several endpoints, and the request names none.
        ("kling/bad", sample.clone(), 400),
        ("kling/bad?endpoint=//elsewhere.example", sample.clone(), 400),
        ("kling/bad?endpoint=/text-to-video/kling-2.6", "not json".to_owned(), 400),
        ("kling/bad?endpoint=/text-to-video/kling-2.6", "[]".to_owned(), 400),
        ("kling/bad?endpoint=/text-to-video/kling-2.6&colour=red", sample.clone(), 400),
        ("kling/bad?provider_task_id=1", sample, 400),
        ("kling/bad", String::new(), 400),
    ] {
        let response = world.client.put(path, body).await.expect("a response");
        assert_eq!(response.status, status, "{path}: {}", response.body);
        assert!(response.body["message"].is_string(), "{path}: {}", response.body);
    }
    assert_eq!(world.view("kling/bad").await.status, 404);
}

/// The callback came through the static URL and is carried out; then the application registers the task by a name.
async fn a_provider_task_that_is_known_is_not_registered_again(world: Arc<World>) {
    let url = world.client.callback_url("kling/-").await.expect("a URL");
    let id = direct_submission(&world, &url, "").await;
    let first = format!("kling/{id}");
    world.assert_archived(&first, "callback").await;
    let path = format!("kling/second-name?provider_task_id={id}");
    let response = world.client.put(&path, String::new()).await.expect("a response");
    assert_eq!(response.status, 409, "{}", response.body);
    assert_eq!(response.body["error"], "exists_as", "{}", response.body);
    assert_eq!(response.body["task"]["task"], first.as_str(), "{}", response.body);
    assert_eq!(world.view("kling/second-name").await.status, 404);
}

/// The task is registered under a name, and its callback comes through the static URL.
async fn a_callback_without_its_own_url_is_about_the_registered_task(world: Arc<World>) {
    let url = world.client.callback_url("kling/-").await.expect("a URL");
    let id = direct_submission(&world, &url, "delay=3").await;
    let path = format!("kling/named?provider_task_id={id}");
    let response = world.client.put(&path, String::new()).await.expect("a response");
    // A callback about its queueing may have come first; that record gives way.
    assert_eq!(response.status, 201, "{}", response.body);
    world.assert_archived("kling/named", "callback").await;
    assert_eq!(world.view(&format!("kling/{id}")).await.status, 404);
    world.assert_published("kling/named", 1).await;
    world.assert_published(&format!("kling/{id}"), 0).await;
}

/// The task is registered under one name, and its callback URL is that of another.
async fn a_callback_through_the_url_of_another_name_is_about_the_registered_task(world: Arc<World>) {
    let url = world.client.callback_url("kling/mistaken").await.expect("a URL");
    let id = direct_submission(&world, &url, "delay=3").await;
    let path = format!("kling/rightful?provider_task_id={id}");
    let response = world.client.put(&path, String::new()).await.expect("a response");
    assert_eq!(response.status, 201, "{}", response.body);
    world.assert_archived("kling/rightful", "callback").await;
    assert_eq!(world.view("kling/mistaken").await.status, 404);
    world.assert_published("kling/rightful", 1).await;
    world.assert_published("kling/mistaken", 0).await;
}

/// Registration and callbacks through the static URL, all at once and in any order.
async fn one_provider_task_under_two_names_is_stored_and_published_once(world: Arc<World>) {
    let url = world.client.callback_url("kling/-").await.expect("a URL");
    let ids = join_all((0..10).map(|_| direct_submission(&world, &url, "delay=0.5 callback=lose"))).await;
    join_all(ids.iter().map(|id| world.simulator.wait_for(id, Duration::from_secs(20), |task| task.phase.is_final())))
        .await;
    join_all(ids.iter().enumerate().map(async |(index, id)| {
        let callback = world.simulator.callback(id).expect("a callback");
        let path = format!("kling/raced-{index}?provider_task_id={id}");
        let register = world.client.put(&path, String::new());
        let post = || world.post(&callback.url, &callback.headers, callback.body.clone());
        let (registered, first) = join(register, post()).await;
        assert!(matches!(registered.expect("a response").status, 200 | 201 | 409));
        assert_eq!((first.status, post().await.status), (200, 200));
    }))
    .await;
    for (index, id) in ids.iter().enumerate() {
        let names = [format!("kling/raced-{index}"), format!("kling/{id}")];
        let mut known = vec![];
        for name in &names {
            if world.view(name).await.status == 200 {
                known.push(name);
            }
        }
        assert_eq!(known.len(), 1, "{names:?} are {known:?}");
        world.assert_archived(known[0], "callback").await;
        world.assert_published(known[0], 1).await;
    }
}
