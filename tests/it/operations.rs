//! The `tasks` function beyond submissions: waiting, cancelling, healing, cost, and the caller's own words.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use simulator::{Call, Provider};
use tokio::time::{Instant, sleep};

use crate::Case;
use crate::deployment::aws;
use crate::submissions::submissions;
use crate::world::{World, adapter};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = vec![
        case!(waiting_ends_with_the_task),
        case!(the_callers_own_words_come_back),
        case!(a_running_task_is_not_cancelled),
        case!(what_cannot_be_cancelled_says_why),
        case!(a_repeated_put_heals_an_interrupted_submission),
        case!(poll_heals_an_interrupted_submission),
    ];
    for provider in Provider::ALL.into_iter().filter(|provider| adapter(*provider).profile().cancellable.is_some()) {
        cases.push(case!(a_queued_task_is_cancelled[provider](provider)));
    }
    for provider in [Provider::Kling, Provider::Ark, Provider::Vidu, Provider::ApiMart] {
        cases.push(case!(what_a_task_cost_is_in_its_result[provider](provider)));
    }
    cases
}

async fn get(world: &World, path: &str) -> local::client::HttpResponse {
    world.client.get(path).await.expect("the tasks function responds")
}

async fn waiting_ends_with_the_task(world: Arc<World>) {
    world.submit(Provider::Kling, "awaited", "delay=4").await;
    let started = Instant::now();
    let short = get(&world, "kling/awaited?wait=1").await;
    assert_eq!((short.status, &short.body["state"]), (200, &json!("pending")));
    assert!(started.elapsed() < Duration::from_secs(4), "it waited for longer than it was told to");
    let ended = get(&world, "kling/awaited?wait=25").await;
    assert_eq!(ended.body["state"], "archived", "{}", ended.body);
    assert!(started.elapsed() < Duration::from_secs(24), "it did not end with the task");
    for query in ["wait=26", "wait=-1", "wait=soon", "wait", "colour=red"] {
        let refused = get(&world, &format!("kling/awaited?{query}")).await;
        assert_eq!(refused.status, 400, "{query}: {}", refused.body);
    }
}

async fn the_callers_own_words_come_back(world: Arc<World>) {
    let sample = local::samples::of(Provider::MaxApi);
    let path = "maxapi/annotated?metadata=%7B%22user%22%3A%7B%22id%22%3A7%2C%22a%22%3A%22b%2Cc%22%7D%7D&tag.team=film%20and%20TV&tag.cost-centre=4%2F2";
    let submitted = world.client.put(path, sample.body("a paper boat").to_string()).await.expect("a response");
    assert_eq!(submitted.status, 201, "{}", submitted.body);
    let metadata = json!({ "user": { "id": 7, "a": "b,c" } });
    let tags = json!({ "team": "film and TV", "cost-centre": "4/2" });
    for body in [
        &submitted.body,
        &world.assert_archived("maxapi/annotated", "callback").await,
        &world.result("maxapi/annotated").await,
    ] {
        assert_eq!((&body["metadata"], &body["tags"]), (&metadata, &tags), "{body}");
    }
    for key in ["tasks/maxapi/annotated/video.mp4", "tasks/maxapi/annotated/result.json"] {
        let bucket = &world.stack.outputs().bucket_name;
        let set = aws(&world, &["s3api", "get-object-tagging", "--bucket", bucket, "--key", key]).await;
        let set: Value = serde_json::from_str(&set).expect("JSON");
        let mut pairs: Vec<_> = set["TagSet"].as_array().expect("a list").iter().map(Value::to_string).collect();
        pairs.sort();
        let expected = [json!({"Key": "cost-centre", "Value": "4/2"}), json!({"Key": "team", "Value": "film and TV"})];
        assert_eq!(pairs, expected.map(|pair| pair.to_string()), "{key}");
    }
    // The same words are the same request, others are another.
    let again = world.client.put(path, sample.body("a paper boat").to_string()).await.expect("a response");
    assert_eq!(again.status, 200, "{}", again.body);
    let other = world.client.put("maxapi/annotated?metadata=1", sample.body("a paper boat").to_string()).await;
    assert_eq!(other.expect("a response").status, 409);
    for query in ["metadata=%7B", "tag.aws%3Aa=b", "tag.=x", "tags=a"] {
        let refused = world.client.put(&format!("maxapi/refused-words?{query}"), sample.body("p").to_string()).await;
        assert_eq!(refused.expect("a response").status, 400, "{query}");
    }
    assert_eq!(world.view("maxapi/refused-words").await.status, 404);
}

async fn cancel(world: &World, task: &str) -> local::client::HttpResponse {
    world.client.delete(task).await.expect("the tasks function responds")
}

async fn a_queued_task_is_cancelled(world: Arc<World>, provider: Provider) {
    let task = format!("{provider}/cancelled");
    // A third of the delay each: accepted, queued, running.
    if provider == Provider::MiniMax {
        let body = json!({
            "model": "MiniMax-H3",
            "content": [{ "type": "text", "text": "a paper boat [simulate delay=200 callback=lose]" }],
        });
        let path = "minimax/cancelled?endpoint=/v2/video_generation";
        let submitted = world.client.put(path, body.to_string()).await.expect("a response");
        assert_eq!(submitted.status, 201, "{}", submitted.body);
    } else {
        world.submit(provider, "cancelled", "delay=200 callback=lose").await;
    }
    let cancelled = cancel(&world, &task).await;
    assert_eq!((cancelled.status, &cancelled.body["cancellation"]), (200, &json!("confirmed")), "{}", cancelled.body);
    assert!(cancelled.body["task"]["times"]["cancel_requested_at"].is_string(), "{}", cancelled.body);
    sleep(Duration::from_secs(6)).await;
    world.poll().await;
    let view = world.wait_until_final(&task).await;
    assert_eq!((&view["state"], &view["failure"]["reason"]), (&json!("failed"), &json!("cancelled")), "{view}");
    let result = world.result(&task).await;
    assert_eq!(result["failure"]["reason"], "cancelled", "{result}");
    let again = cancel(&world, &task).await;
    assert_eq!((again.status, &again.body["cancellation"]), (200, &json!("confirmed")), "{}", again.body);
}

/// Ark's call would delete it with its links.
async fn a_running_task_is_not_cancelled(world: Arc<World>) {
    world.submit(Provider::Ark, "running", "delay=6").await;
    sleep(Duration::from_secs_f64(4.5)).await;
    let refused = cancel(&world, "ark/running").await;
    assert_eq!((refused.status, &refused.body["cancellation"]), (409, &json!("impossible")), "{}", refused.body);
    let message = refused.body["message"].as_str().unwrap_or_default();
    assert!(message.contains("only while queued"), "{message}");
    world.assert_archived_by_any("ark/running").await;
    let ended = cancel(&world, "ark/running").await;
    assert_eq!((ended.status, &ended.body["cancellation"]), (409, &json!("impossible")), "{}", ended.body);
    assert!(world.object("tasks/ark/running/video.mp4").await.is_some());
}

async fn what_cannot_be_cancelled_says_why(world: Arc<World>) {
    assert_eq!(cancel(&world, "kling/never-there").await.status, 404);
    world.submit(Provider::Kling, "uncancellable", "delay=2").await;
    let refused = cancel(&world, "kling/uncancellable").await;
    assert_eq!(refused.status, 409, "{}", refused.body);
    let message = refused.body["message"].as_str().unwrap_or_default();
    assert!(message.contains("no documented call"), "{message}");
    world.assert_archived("kling/uncancellable", "callback").await;
    let calls = world.simulator.calls(Provider::Kling, Call::Cancel);
    assert_eq!(calls, 0, "a provider without such a call was called");
}

async fn interrupt(world: &World, id: &str) {
    let prompt = format!("marker-{id} [simulate submit=error500 callback=lose delay=1]");
    let sample = local::samples::of(Provider::Kling);
    let response = world.client.submit(sample, id, &prompt).await.expect("a response");
    assert_eq!(response.status, 504, "{}", response.body);
}

/// Kling made the task and responded with a 500.
async fn a_repeated_put_heals_an_interrupted_submission(world: Arc<World>) {
    interrupt(&world, "healed").await;
    let sample = local::samples::of(Provider::Kling);
    let prompt = "marker-healed [simulate submit=error500 callback=lose delay=1]";
    let again = world.client.submit(sample, "healed", prompt).await.expect("a response");
    assert_eq!((again.status, &again.body["submission"]), (200, &json!("accepted")), "{}", again.body);
    assert_eq!(submissions(&world, "marker-healed"), 1);
    sleep(Duration::from_secs(1)).await;
    world.set_number_attribute("kling/healed", "due_at", 1).await;
    world.poll().await;
    world.assert_archived("kling/healed", "poll").await;
}

async fn poll_heals_an_interrupted_submission(world: Arc<World>) {
    interrupt(&world, "found-by-poll").await;
    sleep(Duration::from_millis(1200)).await;
    world.set_number_attribute("kling/found-by-poll", "due_at", 1).await;
    world.poll().await;
    let view = world.assert_archived("kling/found-by-poll", "poll").await;
    assert!(view["provider_task_id"].is_string(), "{view}");
    assert_eq!(submissions(&world, "marker-found-by-poll"), 1);
}

async fn what_a_task_cost_is_in_its_result(world: Arc<World>, provider: Provider) {
    world.submit(provider, "charged", "").await;
    let task = format!("{provider}/charged");
    let view = world.assert_archived_by_any(&task).await;
    let expected = match provider {
        Provider::Kling => json!({ "credits": 2.5 }),
        Provider::Ark => json!({ "tokens": 108_900 }),
        Provider::Vidu => json!({ "credits": 10 }),
        _ => json!({ "amount": 0.4 }),
    };
    assert_eq!(view["usage"], expected, "{view}");
    assert_eq!(world.result(&task).await["usage"], expected);
}
