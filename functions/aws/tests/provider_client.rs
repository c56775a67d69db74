//! Status polls over real HTTP: grouped, split, refused, silent and impossible ones.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, Uri};
use reelhook_aws::provider_client::{Connections, PollLimits, PolledStatus, ProviderClient, RequestError};
use reelhook_core::item::{Attribute, Item};
use reelhook_core::providers::adapter::{Method, PolledTask, Request, StatusResult};
use reelhook_core::record::Record;
use reelhook_core::redacted::Secret;
use reelhook_core::report::{Report, TaskStatus};
use reelhook_core::settings::{ProviderSettings, Settings};
use reelhook_core::status_poll::PollResult;
use reelhook_core::{Provider, Timestamp};
use serde_json::json;
use tokio::time::Instant;

const NOW: Timestamp = Timestamp::from_seconds(1_790_000_000);

/// Requests that were received.
type Requests = Arc<Mutex<Vec<String>>>;

/// A provider on a free port that responds to each request by what `respond` makes of its query, or of its path if it has none.
async fn provider(
    respond: impl Fn(&str) -> (StatusCode, String) + Clone + Send + Sync + 'static,
) -> (String, Requests) {
    provider_by_uri(move |uri| respond(uri.split_once('?').map_or(uri, |(_, query)| query))).await
}

/// The same, by what it makes of path and query.
async fn provider_by_uri(
    respond: impl Fn(&str) -> (StatusCode, String) + Clone + Send + Sync + 'static,
) -> (String, Requests) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let requests = Requests::default();
    let seen = Arc::clone(&requests);
    let application = Router::new().fallback(move |uri: Uri| async move {
        seen.lock().expect("no panic").push(uri.to_string());
        respond(&uri.to_string())
    });
    tokio::spawn(async move { axum::serve(listener, application).await });
    (url, requests)
}

fn settings(url: &str) -> Settings {
    let provider = json!({ "api_key": "key", "base_url": url });
    let document = json!({
        "version": 1, "callback": { "keys": ["sixteen-characters"] },
        "providers": { "ark": provider, "kling": provider, "vidu": provider, "minimax": provider, "maxapi": provider },
    });
    Settings::parse(&document.to_string()).expect("valid settings")
}

async fn poll(settings: &Settings, provider: Provider, ids: &[&str]) -> Vec<PolledStatus> {
    let polled = poll_limited(settings, provider, ids, None).await;
    polled.into_iter().map(|polled| polled.expect("nothing stops it")).collect()
}

async fn poll_limited(
    settings: &Settings,
    provider: Provider,
    ids: &[&str],
    stop_at: Option<Instant>,
) -> Vec<Option<PolledStatus>> {
    let client = ProviderClient::new(Duration::from_secs(2), Connections::Kept).expect("a client");
    // Only MiniMax's newer interface takes several.
    let endpoint = (provider == Provider::MiniMax).then_some("/v2/video_generation");
    let tasks: Vec<_> = ids.iter().map(|id| PolledTask { provider_task_id: id, endpoint }).collect();
    let limits = PollLimits { concurrency: 2, stop_at };
    client.poll_status(provider, &tasks, settings.provider(provider), limits, NOW).await
}

fn is_open(polled: &PolledStatus) -> bool {
    matches!(polled.result, PollResult::Response(StatusResult::Task(TaskStatus::Open(_))))
}

/// Ark's list, or its refusal of a request that has a bad id in it.
fn list_without(bad: &'static str) -> impl Fn(&str) -> (StatusCode, String) + Clone {
    move |query: &str| {
        let ids: Vec<&str> = query.split('&').filter_map(|pair| pair.strip_prefix("filter.task_ids=")).collect();
        let single = query.rsplit('/').next().filter(|_| ids.is_empty());
        let ids: Vec<&str> = if ids.is_empty() { single.into_iter().collect() } else { ids };
        if ids.contains(&bad) {
            let error = json!({ "error": { "code": "InvalidParameter", "message": "invalid task id" } });
            return (StatusCode::BAD_REQUEST, error.to_string());
        }
        let items: Vec<_> = ids.iter().map(|id| json!({ "id": id, "status": "running" })).collect();
        let body = if single.is_some() { items[0].clone() } else { json!({ "items": items, "total": items.len() }) };
        (StatusCode::OK, body.to_string())
    }
}

#[tokio::test]
async fn one_bad_id_does_not_hide_the_others_of_its_group() {
    let (url, requests) = provider(list_without("bad")).await;
    let ids = ["a", "b", "c", "d", "e", "bad", "g", "h"];
    let polled = poll(&settings(&url), Provider::Ark, &ids).await;
    for (id, polled) in ids.iter().zip(&polled) {
        assert_eq!(is_open(polled), *id != "bad", "{id}: {:?}", polled.result);
    }
    // One for all, then halves down to the bad one alone.
    let requests = requests.lock().expect("no panic").len();
    assert_eq!(requests, 7, "1 + 2 + 2 + 2");
}

/// A legacy task of Kling that reelhook did not submit is known only by one of several calls.
#[tokio::test]
async fn not_found_by_a_guessed_call_is_no_answer() {
    let (url, _) = provider(|_| (StatusCode::OK, json!({ "code": 0, "data": [] }).to_string())).await;
    let settings = settings(&url);
    let client = ProviderClient::new(Duration::from_secs(2), Connections::Kept).expect("a client");
    for (endpoint, expected) in
        [(None, PollResult::NotFoundByGuess), (Some("/tasks"), PollResult::Response(StatusResult::NotFound))]
    {
        let task = PolledTask { provider_task_id: "8", endpoint };
        let own = settings.provider(Provider::Kling);
        let polled = client.poll_status(Provider::Kling, &[task], own, PollLimits::ONE_TASK, NOW).await;
        assert_eq!(polled[0].as_ref().map(|polled| &polled.result), Some(&expected), "{endpoint:?}");
    }
}

/// A forged body once chose the call for good, and the true task was forgotten.
#[tokio::test]
async fn a_task_is_polled_by_each_call_until_one_knows_it() {
    for (knows, asked) in [("runway/record-detail", 1), ("veo/record-info", 2), ("jobs/recordInfo", 3), ("none", 3)] {
        let (url, requests) = provider_by_uri(move |uri| {
            let unknown = json!({ "code": 404, "msg": "not found" });
            let body = json!({ "code": 200, "data": { "taskId": "t", "state": "generating", "successFlag": 0 } });
            (StatusCode::OK, if uri.contains(knows) { body } else { unknown }.to_string())
        })
        .await;
        let record = Record::from_item(&Item::from([
            (Attribute::Task, "kie/t".into()),
            (Attribute::State, "pending".into()),
            (Attribute::ProviderTaskId, "t".into()),
            (Attribute::Endpoint, "/api/v1/runway/".into()),
        ]))
        .expect("a record");
        let client = ProviderClient::new(Duration::from_secs(2), Connections::Kept).expect("a client");
        let own: ProviderSettings =
            serde_json::from_value(json!({ "api_key": "key", "base_url": url })).expect("valid settings");
        let polled = client.poll_task(&record, &own, PollLimits::ONE_TASK, NOW).await;
        assert_eq!(is_open(&polled), knows != "none", "{knows}: {:?}", polled.result);
        assert_eq!(requests.lock().expect("no panic").len(), asked, "{knows}");
    }
}

/// It is recorded with the task and published with it, and may be read by whoever the task is for.
#[tokio::test]
async fn the_response_of_a_task_has_nothing_of_the_others_that_were_polled_with_it() {
    let (url, requests) = provider(|query| {
        let ids = query.split(&['=', ',', '&'][..]).filter(|id| id.starts_with("t-"));
        let task = |id| {
            let link = format!("https://cdn.example.com/{id}.mp4");
            json!({
                "id": id, "task_id": id, "status": "succeeded", "state": "success",
                "outputs": [{ "id": "o", "type": "video", "url": link }],
                "content": { "url": link, "video_url": link },
                "creations": [{ "id": "c", "url": link }],
            })
        };
        let tasks: Vec<_> = ids.map(task).collect();
        (StatusCode::OK, json!({ "code": 0, "data": tasks, "items": tasks, "tasks": tasks }).to_string())
    })
    .await;
    let ids = ["t-one", "t-two", "t-three"];
    for provider in [Provider::Ark, Provider::Kling, Provider::Vidu, Provider::MiniMax] {
        for (id, polled) in ids.iter().zip(poll(&settings(&url), provider, &ids).await) {
            let body = polled.raw.expose().to_owned();
            let is_done = matches!(&polled.result, PollResult::Response(StatusResult::Task(TaskStatus::Finished(Report::Succeeded { artifacts, .. }))) if artifacts.len() == 1);
            assert!(is_done && body.contains(&format!("{id}.mp4")), "{provider} {id}: {:?} {body}", polled.result);
            for other in ids.iter().filter(|other| *other != id) {
                assert!(!body.contains(other), "{provider} {id}: {body}");
            }
        }
    }
    assert_eq!(requests.lock().expect("no panic").len(), 4, "one for all tasks of a provider");
}

#[tokio::test]
async fn an_outage_and_a_limited_rate_split_nothing() {
    for status in [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS, StatusCode::UNAUTHORIZED] {
        let (url, requests) = provider(move |_| (status, "{}".to_owned())).await;
        let polled = poll(&settings(&url), Provider::Ark, &["a", "b", "c", "d"]).await;
        assert!(
            polled.iter().all(|polled| matches!(
                polled.result,
                PollResult::Response(StatusResult::Refused { .. } | StatusResult::Unreadable)
            )),
            "{status}: {polled:?}"
        );
        assert_eq!(requests.lock().expect("no panic").len(), 1, "{status}");
    }
}

/// A provider that limits the rate once got the rest of a round as well: forty requests after the first refusal.
#[tokio::test]
async fn after_a_refusal_of_the_rate_no_further_request_is_sent() {
    let (url, requests) = provider(|_| (StatusCode::TOO_MANY_REQUESTS, "{}".to_owned())).await;
    let polled = poll_limited(&settings(&url), Provider::MaxApi, &["a"; 40], None).await;
    let requests = requests.lock().expect("no panic").len();
    assert!(requests <= 2, "{requests}: those in flight at once");
    assert_eq!(polled.iter().flatten().count(), requests);
}

#[tokio::test]
async fn when_the_time_is_up_no_further_request_is_sent() {
    let (url, requests) = provider(|_| {
        std::thread::sleep(Duration::from_millis(300));
        (StatusCode::OK, "{}".to_owned())
    })
    .await;
    let stop_at = Instant::now() + Duration::from_millis(200);
    let polled = poll_limited(&settings(&url), Provider::MaxApi, &["a"; 10], Some(stop_at)).await;
    assert!(polled.iter().flatten().count() <= 2, "{polled:?}");
    assert_eq!(polled.iter().flatten().count(), requests.lock().expect("no panic").len());
}

#[tokio::test]
async fn a_response_that_is_too_long_is_split_down_to_single_tasks() {
    let (url, requests) = provider(|_| (StatusCode::OK, "x".repeat(2 * 1024 * 1024))).await;
    let polled = poll(&settings(&url), Provider::Ark, &["a", "b"]).await;
    assert!(polled.iter().all(|polled| polled.result == PollResult::TooLong), "{polled:?}");
    assert_eq!(requests.lock().expect("no panic").len(), 3);
}

#[tokio::test]
async fn nobody_there_is_no_response_and_no_credentials_are_no_request() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", closed.local_addr().expect("an address"));
    drop(closed);
    let settings = settings(&url);
    let polled = poll(&settings, Provider::MaxApi, &["a"]).await;
    assert_eq!(polled[0].result, PollResult::NoResponse);
    // KIE has no key in these settings, APIMP neither a key nor a host.
    for provider in [Provider::Kie, Provider::Apimp] {
        let polled = poll(&settings, provider, &["a"]).await;
        assert_eq!(polled[0].result, PollResult::NotPollable, "{provider}");
        assert!(!polled[0].was_sent());
    }
}

/// A submission that fails on a connection which the provider closed while the function was frozen is interrupted; so a
/// client for submissions keeps none.
#[tokio::test]
async fn a_client_for_submissions_keeps_no_connection() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let connections = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            *counted.lock().expect("no panic") += 1;
            tokio::spawn(async move {
                let mut request = [0; 4096];
                while connection.read(&mut request).await.is_ok_and(|read| read > 0) {
                    let response = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
                    if connection.write_all(response).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    let request = Request { method: Method::Post, url, headers: vec![], body: Some(b"{}".to_vec()) };
    for (policy, expected) in [(Connections::Kept, 1), (Connections::Fresh, 3)] {
        *connections.lock().expect("no panic") = 0;
        let client = ProviderClient::new(Duration::from_secs(2), policy).expect("a client");
        for _ in 0..3 {
            let sent: Result<_, RequestError> = client.send(&request, NOW).await;
            assert_eq!(sent.expect("a response").status, 200);
        }
        assert_eq!(*connections.lock().expect("no panic"), expected, "{policy:?}");
    }
}

/// A redirect could carry the API key to another host, or into a private network.
#[tokio::test]
async fn no_redirect_of_a_provider_is_followed() {
    let (target, heard) = provider(|_| (StatusCode::OK, "{}".to_owned())).await;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let careless = reqwest::Client::builder().no_proxy().build().expect("a client");
    let authority = target.trim_start_matches("http://");
    let port = authority.rsplit(':').next().expect("a port");
    let mut followed = 0;
    for status in [
        StatusCode::MOVED_PERMANENTLY,
        StatusCode::FOUND,
        StatusCode::SEE_OTHER,
        StatusCode::TEMPORARY_REDIRECT,
        StatusCode::PERMANENT_REDIRECT,
    ] {
        for location in [
            target.clone(),
            format!("//{authority}/v1"),
            format!("http://localhost:{port}/v1"),
            format!("http://user:password@{authority}/"),
        ] {
            let url = redirecting(status, location.clone()).await;
            for method in [Method::Get, Method::Post] {
                let headers = vec![("authorization", Secret::new("Bearer key"))];
                let request = Request { method, url: url.clone(), headers, body: None };
                for policy in [Connections::Kept, Connections::Fresh] {
                    let client = ProviderClient::new(Duration::from_secs(2), policy).expect("a client");
                    let response = client.send(&request, NOW).await.expect("a response");
                    assert_eq!(response.status, status.as_u16(), "{location}");
                }
            }
            let polled = poll(&settings(&url), Provider::MaxApi, &["a"]).await;
            assert!(!is_open(&polled[0]), "{location}: {:?}", polled[0].result);
            assert_eq!(heard.lock().expect("no panic").len(), followed, "{status} to {location}");
            // Whoever follows it is heard.
            careless.get(&url).send().await.expect("a response");
            followed += 1;
            assert_eq!(heard.lock().expect("no panic").len(), followed, "{status} to {location}");
        }
    }
}

/// A provider that redirects everything.
async fn redirecting(status: StatusCode, location: String) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let application = Router::new().fallback(move || async move { (status, [("location", location)]) });
    tokio::spawn(async move { axum::serve(listener, application).await });
    url
}
