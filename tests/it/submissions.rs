//! The application's side: exactly one submission, whatever happens.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join;
use serde_json::json;
use simulator::Provider;
use tokio::time::sleep;

use crate::Case;
use crate::world::World;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("submissions::two_at_the_same_moment_are_one", two_at_once),
        Case::new("submissions::a_repeat_gives_the_same_task", repeat),
        Case::new("submissions::another_request_under_the_same_id_is_refused", other_request),
        Case::new("submissions::an_interrupted_one_is_never_repeated_by_itself", interrupted),
        Case::new("submissions::the_callback_tells_what_became_of_an_interrupted_one", interrupted_and_called_back),
        Case::new("submissions::a_refusal_comes_back_in_the_providers_words", refused),
        Case::new("submissions::bad_requests_change_nothing", bad_requests),
    ]
}

/// How often the provider was asked to make the task with this marker in its prompt.
pub(crate) fn submissions(world: &World, marker: &str) -> usize {
    let all = world.simulator.submissions();
    all.iter().filter(|submission| String::from_utf8_lossy(&submission.body).contains(marker)).count()
}

async fn submit_marked(world: &World, id: &str, script: &str) -> local::client::Answer {
    let prompt = format!("marker-{id} [simulate {script}]");
    let sample = local::samples::of(Provider::ApiMart);
    world.client.submit(sample, id, &prompt).await.expect("the tasks function answers")
}

async fn two_at_once(world: Arc<World>) {
    let (one, other) = join(submit_marked(&world, "twice", ""), submit_marked(&world, "twice", "")).await;
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 201], "{} {}", one.body, other.body);
    assert_eq!(one.body["provider_task_id"], other.body["provider_task_id"]);
    assert_eq!(submissions(&world, "marker-twice"), 1);
    world.assert_archived("apimart/twice", "callback").await;
}

async fn repeat(world: Arc<World>) {
    assert_eq!(submit_marked(&world, "repeated", "").await.status, 201);
    world.assert_archived("apimart/repeated", "callback").await;
    let again = submit_marked(&world, "repeated", "").await;
    assert_eq!(again.status, 200);
    assert_eq!(again.body["state"], "archived");
    assert_eq!(submissions(&world, "marker-repeated"), 1);
}

async fn other_request(world: Arc<World>) {
    assert_eq!(submit_marked(&world, "taken", "").await.status, 201);
    let other = submit_marked(&world, "taken", "delay=1").await;
    assert_eq!(other.status, 409, "{}", other.body);
    assert_eq!(other.body["error"], "other_request");
    assert_eq!(submissions(&world, "marker-taken"), 1);
}

/// The provider takes it and answers with a 500: nobody knows. A repeat is told so, until the caller insists.
async fn interrupted(world: Arc<World>) {
    let answer = submit_marked(&world, "interrupted", "submit=error500 callback=lose").await;
    assert_eq!(answer.status, 504, "{}", answer.body);
    assert_eq!(answer.body["error"], "interrupted");
    let again = submit_marked(&world, "interrupted", "submit=error500 callback=lose").await;
    assert_eq!(again.status, 409, "{}", again.body);
    assert_eq!(again.body["error"], "interrupted");
    assert_eq!(again.body["task"]["submission"], "interrupted");
    assert_eq!(submissions(&world, "marker-interrupted"), 1);

    // The caller has found the task at the provider.
    let submitted = world.simulator.submissions();
    let submitted = submitted.iter().find(|one| String::from_utf8_lossy(&one.body).contains("marker-interrupted"));
    let id = submitted.and_then(|one| one.task_id.clone()).expect("the provider made a task");
    let path = format!("apimart/interrupted?provider_task_id={id}");
    let registered = world.client.put(&path, String::new()).await.expect("an answer");
    assert_eq!(registered.status, 200, "{}", registered.body);
    assert_eq!(registered.body["submission"], "accepted");
    sleep(Duration::from_secs(27)).await;
    world.poll().await;
    world.assert_archived("apimart/interrupted", "poll").await;
}

async fn interrupted_and_called_back(world: Arc<World>) {
    let answer = submit_marked(&world, "called-back", "submit=error500").await;
    assert_eq!(answer.status, 504, "{}", answer.body);
    world.assert_archived("apimart/called-back", "callback").await;
    assert_eq!(submissions(&world, "marker-called-back"), 1);
}

async fn refused(world: Arc<World>) {
    for (script, status, reason) in
        [("submit=balance", 402, "insufficient_credits"), ("submit=busy", 429, "rate_limited")]
    {
        let answer = submit_marked(&world, "refused", script).await;
        assert_eq!(answer.status, status, "{}", answer.body);
        assert_eq!(answer.body["error"], "refused_by_provider");
        assert_eq!(answer.body["provider"]["reason"], reason, "{}", answer.body);
        assert!(answer.body["provider"]["message"].is_string(), "{}", answer.body);
        // There is no task, so the id is free.
        assert_eq!(world.view("apimart/refused").await.status, 404);
    }
    assert_eq!(submit_marked(&world, "refused", "").await.status, 201);
}

async fn bad_requests(world: Arc<World>) {
    let sample = json!({ "prompt": "p" }).to_string();
    for (path, body, status) in [
        ("nobody/x", sample.clone(), 404),
        ("kling/-", sample.clone(), 400),
        ("kling/a%20b", sample.clone(), 400),
        // Kling has several endpoints, and none is named.
        ("kling/bad", sample.clone(), 400),
        ("kling/bad?endpoint=//elsewhere.example", sample.clone(), 400),
        ("kling/bad?endpoint=/text-to-video/kling-2.6", "not json".to_owned(), 400),
        ("kling/bad?endpoint=/text-to-video/kling-2.6", "[]".to_owned(), 400),
        ("kling/bad?endpoint=/text-to-video/kling-2.6&colour=red", sample.clone(), 400),
        ("kling/bad?provider_task_id=1", sample, 400),
        ("kling/bad", String::new(), 400),
    ] {
        let answer = world.client.put(path, body).await.expect("an answer");
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        assert!(answer.body["message"].is_string(), "{path}: {}", answer.body);
    }
    assert_eq!(world.view("kling/bad").await.status, 404);
}
