//! Links and files as a client sees them: ranges, expiry, and every fault of an origin.

use std::time::{Duration, Instant};

use reqwest::{Client, Response, header};
use serde_json::{Value, json};
use simulator::{Config, Content, Provider, Simulator};

fn start() -> (Simulator, Client) {
    let simulator = Simulator::start(Config::default()).expect("the simulator starts");
    let client = Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(10))
        .build()
        .expect("a client");
    (simulator, client)
}

/// Submits an Ark task that finishes at once, and returns its id.
async fn task(simulator: &Simulator, client: &Client, script: &str) -> String {
    let text = format!("[simulate delay=0 callback=lose {script}]");
    let response: Value = client
        .post(format!("{}/contents/generations/tasks", simulator.base_url(Provider::Ark)))
        .header(header::AUTHORIZATION, "Bearer ark-api-key")
        .json(&json!({ "model": "m", "content": [{ "type": "text", "text": text }] }))
        .send()
        .await
        .expect("an response")
        .json()
        .await
        .expect("JSON");
    response["id"].as_str().unwrap_or_else(|| panic!("{response}")).to_owned()
}

async fn link(simulator: &Simulator, client: &Client, id: &str) -> String {
    let response: Value = client
        .get(format!("{}/contents/generations/tasks/{id}", simulator.base_url(Provider::Ark)))
        .header(header::AUTHORIZATION, "Bearer ark-api-key")
        .send()
        .await
        .expect("an response")
        .json()
        .await
        .expect("JSON");
    response["content"]["video_url"].as_str().unwrap_or_else(|| panic!("{response}")).to_owned()
}

async fn get(client: &Client, url: &str, headers: &[(&str, &str)]) -> Response {
    let mut request = client.get(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.expect("an response")
}

fn text(response: &Response, name: &str) -> String {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

#[tokio::test]
async fn ranges_match_the_whole_file() {
    let (simulator, client) = start();
    let id = task(&simulator, &client, "size=100000").await;
    let url = link(&simulator, &client, &id).await;
    let file = simulator.file(&id);

    let whole = get(&client, &url, &[]).await;
    assert_eq!(whole.status(), 200);
    assert_eq!(text(&whole, "content-length"), "100000");
    assert_eq!(text(&whole, "content-type"), "video/mp4");
    assert_eq!(text(&whole, "accept-ranges"), "bytes");
    let etag = text(&whole, "etag");
    assert!(etag.starts_with('"') && etag.ends_with('"'));
    assert!(whole.bytes().await.expect("a body") == file);

    for (range, expected, named) in [
        ("bytes=0-9", &file[..10], "bytes 0-9/100000"),
        ("bytes=50000-", &file[50_000..], "bytes 50000-99999/100000"),
        ("bytes=-5", &file[99_995..], "bytes 99995-99999/100000"),
        ("bytes=99990-200000", &file[99_990..], "bytes 99990-99999/100000"),
    ] {
        let part = get(&client, &url, &[("range", range), ("if-range", &etag)]).await;
        assert_eq!((part.status().as_u16(), text(&part, "content-range").as_str()), (206, named));
        assert!(part.bytes().await.expect("a body") == expected, "{range}");
    }

    let beyond = get(&client, &url, &[("range", "bytes=100000-")]).await;
    assert_eq!((beyond.status().as_u16(), text(&beyond, "content-range").as_str()), (416, "bytes */100000"));
    let changed = get(&client, &url, &[("range", "bytes=0-9"), ("if-range", "\"another\"")]).await;
    assert_eq!((changed.status().as_u16(), text(&changed, "content-length").as_str()), (200, "100000"));
    let changed = get(&client, &url, &[("if-match", "\"another\"")]).await;
    assert_eq!(changed.status(), 412);
    let head = client.head(&url).send().await.expect("an response");
    assert_eq!(head.status(), 403, "presigned for GET");

    let requests = simulator.file_requests(&id);
    assert_eq!(requests.len(), 9);
    assert_eq!((requests[1].status, requests[1].range.as_deref()), (206, Some("bytes=0-9")));
    assert_eq!(requests[1].name, "video.mp4");
}

#[tokio::test]
async fn links_expire_fail_and_become_ready_late() {
    let (simulator, client) = start();
    let status = async |url: &str| get(&client, url, &[]).await.status().as_u16();

    let id = task(&simulator, &client, "link_ttl=0.4").await;
    let url = link(&simulator, &client, &id).await;
    assert_eq!(status(&url).await, 200);
    assert_eq!(status(&format!("{url}0")).await, 403, "a changed signature");
    assert_eq!(link(&simulator, &client, &id).await, url, "a working link is kept");
    tokio::time::sleep(Duration::from_millis(500)).await;
    let expired = get(&client, &url, &[]).await;
    assert_eq!((expired.status().as_u16(), text(&expired, "content-type").as_str()), (403, "application/xml"));
    assert!(expired.text().await.expect("a page").contains("Request has expired"));
    let renewed = link(&simulator, &client, &id).await;
    assert_ne!(renewed, url);
    assert_eq!(status(&renewed).await, 200);

    for (script, first, second) in [("link=dead", 403, 200), ("link=gone", 404, 200), ("link=lost", 403, 403)] {
        let id = task(&simulator, &client, script).await;
        for expected in [first, second] {
            assert_eq!(status(&link(&simulator, &client, &id).await).await, expected, "{script}");
        }
    }

    let id = task(&simulator, &client, "not_ready=2").await;
    let url = link(&simulator, &client, &id).await;
    for expected in [404, 404, 200, 200] {
        assert_eq!(status(&url).await, expected);
    }
    simulator.expire_links(&id);
    assert_eq!(status(&url).await, 403);
    assert_eq!(simulator.task(&id).expect("there").files[0].requests, 5);
}

#[tokio::test]
async fn large_files_are_served_without_holding_them_in_memory() {
    let (simulator, client) = start();
    let id = task(&simulator, &client, "size=20000000000").await;
    let url = link(&simulator, &client, &id).await;
    let end = get(&client, &url, &[("range", "bytes=19999999000-")]).await;
    assert_eq!(text(&end, "content-range"), "bytes 19999999000-19999999999/20000000000");
    let mut expected = vec![0; 1000];
    let content = simulator.content(&id, "video.mp4").expect("there");
    assert_eq!(content.read_at(19_999_999_000, &mut expected), 1000);
    assert!(end.bytes().await.expect("a body") == expected);
}

/// A URL of the faulty origin.
fn origin(simulator: &Simulator, query: &str) -> String {
    format!("{}/origin/a.mp4?size=50000&{query}", simulator.origin())
}

#[tokio::test]
async fn the_faulty_origin_serves_wrong_ranges() {
    let (simulator, client) = start();
    let file = simulator.origin_file("a.mp4", Some(50_000)).to_vec();
    let part = async |query: &str| {
        let response = get(&client, &origin(&simulator, query), &[("range", "bytes=100-199")]).await;
        let (status, named) = (response.status().as_u16(), text(&response, "content-range"));
        (status, named, response.bytes().await.expect("a body"))
    };
    let (status, named, bytes) = part("fault=none").await;
    assert_eq!((status, named.as_str()), (206, "bytes 100-199/50000"));
    assert!(bytes == file[100..200]);
    let (status, named, bytes) = part("fault=no_range").await;
    assert_eq!((status, named.as_str()), (200, ""));
    assert!(bytes == file);
    let (_, named, bytes) = part("fault=wrong_range&at=5").await;
    assert_eq!(named, "bytes 105-204/50000");
    assert!(bytes == file[105..205]);
    let (_, named, bytes) = part("fault=lying_range&at=5").await;
    assert_eq!(named, "bytes 100-199/50000");
    assert!(bytes == file[105..205]);
    assert_eq!(part("fault=wrong_total&at=5").await.1, "bytes 100-199/50005");
}

#[tokio::test]
async fn the_faulty_origin_breaks_connections() {
    let (simulator, client) = start();
    let file = simulator.origin_file("a.mp4", Some(50_000)).to_vec();
    let whole = async |query: &str| {
        let response = get(&client, &origin(&simulator, query), &[]).await;
        (response.status().as_u16(), text(&response, "content-length"), response.bytes().await)
    };
    // The bytes before the fault, and how the connection fails.
    let broken = async |query: &str| {
        let mut response = get(&client, &origin(&simulator, query), &[]).await;
        let mut bytes = Vec::new();
        loop {
            match tokio::time::timeout(Duration::from_secs(1), response.chunk()).await {
                Ok(Ok(Some(piece))) => bytes.extend(piece),
                Ok(Ok(None)) => panic!("{query}: the body is complete"),
                Ok(Err(_)) => return ("closed", bytes),
                Err(_) => return ("silent", bytes),
            }
        }
    };
    assert_eq!(broken("fault=drop&at=1234").await, ("closed", file[..1234].to_vec()));
    assert_eq!(broken("fault=stall&at=1234").await, ("silent", file[..1234].to_vec()));
    assert_eq!(broken("fault=long_length&at=7").await.0, "closed");
    assert_eq!(broken("fault=expires&at=10").await, ("closed", file[..10].to_vec()));
    assert_eq!(whole("fault=expires&at=10").await.0, 403);

    let (_, length, bytes) = whole("fault=truncated&at=1234").await;
    assert_eq!(length, "1234");
    assert!(bytes.expect("a clean end") == file[..1234]);
    let (_, length, bytes) = whole("fault=no_length").await;
    assert_eq!(length, "");
    assert!(bytes.expect("a clean end") == file);

    let started = Instant::now();
    assert!(whole("fault=slow&rate=100000").await.2.expect("a clean end") == file);
    assert!(started.elapsed() >= Duration::from_millis(400), "half a second: {:?}", started.elapsed());

    // Only the first request fails.
    assert_eq!(broken("fault=drop&at=5&times=1").await.0, "closed");
    assert!(whole("fault=drop&at=5&times=1").await.2.expect("a clean end") == file);
}

#[tokio::test]
async fn the_faulty_origin_serves_something_else() {
    let (simulator, client) = start();
    let file = simulator.origin_file("a.mp4", Some(50_000)).to_vec();
    let whole = async |query: &str| {
        let response = get(&client, &origin(&simulator, query), &[]).await;
        let kept = ["content-type", "etag", "content-encoding", "location", "retry-after"];
        let headers = kept.map(|name| text(&response, name));
        (response.status().as_u16(), headers, response.bytes().await.expect("a body"))
    };
    let (status, [kind, ..], bytes) = whole("fault=html").await;
    assert_eq!((status, kind.as_str()), (200, "text/html; charset=utf-8"));
    assert!(bytes.starts_with(b"<!DOCTYPE html>"));
    let (_, [kind, ..], bytes) = whole("fault=html_as_video").await;
    assert_eq!(kind, "video/mp4");
    assert!(bytes.starts_with(b"<!DOCTYPE html>"));
    assert!(whole("fault=json").await.2.starts_with(b"{"));
    assert!(whole("fault=empty").await.2.is_empty());
    let (_, [_, _, encoding, ..], bytes) = whole("fault=gzip").await;
    assert_eq!(encoding, "gzip");
    assert!(bytes.starts_with(&[0x1f, 0x8b, 8]) && bytes.len() > file.len());

    for (fault, same_tag) in [("change", false), ("change_silently", true)] {
        let (_, [_, before, ..], first) = whole(&format!("fault={fault}")).await;
        let (_, [_, after, ..], second) = whole(&format!("fault={fault}")).await;
        assert!(first == file && second != file && second.len() == file.len());
        assert_eq!(before == after, same_tag, "{fault}");
    }
    assert_eq!(whole("fault=no_etag").await.1[1], "");

    let mut url = origin(&simulator, "fault=redirect&hops=3");
    for _ in 0..3 {
        let response = get(&client, &url, &[]).await;
        assert_eq!(response.status(), 302);
        url = format!("{}{}", simulator.origin(), text(&response, "location"));
    }
    assert!(get(&client, &url, &[]).await.bytes().await.expect("a body") == file);
    for (fault, start) in [
        ("redirect_loop", "/origin/a.mp4"),
        ("redirect_private", "https://169.254.169.254/"),
        ("redirect_local", "https://localhost:1/"),
        ("redirect_scheme", "file:///"),
    ] {
        let (status, [_, _, _, location, _], _) = whole(&format!("fault={fault}")).await;
        assert_eq!(status, 302);
        assert!(location.starts_with(start), "{location}");
    }
    for (fault, expected) in [("too_many", 429), ("unavailable", 503)] {
        let (status, [.., retry_after], _) = whole(&format!("fault={fault}&times=1")).await;
        assert_eq!((status, retry_after.as_str()), (expected, "1"));
        assert_eq!(whole(&format!("fault={fault}&times=1")).await.0, 200);
    }
    for (fault, expected) in [("forbidden", 403), ("not_found", 404)] {
        assert_eq!(whole(&format!("fault={fault}&times=1")).await.0, expected);
        assert_eq!(whole(&format!("fault={fault}&times=1")).await.0, 200);
    }
    assert_eq!(whole("fault=odd").await.0, 400);
}

#[tokio::test]
async fn faults_apply_to_a_tasks_own_links() {
    let (simulator, client) = start();
    let id = task(&simulator, &client, "size=50000 fault=redirect hops=1").await;
    let url = link(&simulator, &client, &id).await;
    let response = get(&client, &url, &[]).await;
    assert_eq!(response.status(), 302);
    let moved = format!("{}{}", simulator.origin(), text(&response, "location"));
    assert!(get(&client, &moved, &[]).await.bytes().await.expect("a body") == simulator.file(&id));

    let id = task(&simulator, &client, "size=50000 fault=drop at=100 times=1").await;
    let url = link(&simulator, &client, &id).await;
    assert!(get(&client, &url, &[]).await.bytes().await.is_err());
    let rest = get(&client, &url, &[("range", "bytes=100-")]).await;
    assert!(rest.bytes().await.expect("a body") == simulator.file(&id)[100..]);
}

#[tokio::test]
async fn a_status_call_replaces_a_link_that_expires_during_the_download() {
    let (simulator, client) = start();
    let id = task(&simulator, &client, "size=50000 fault=expires at=100 times=1").await;
    let url = link(&simulator, &client, &id).await;
    assert!(get(&client, &url, &[]).await.bytes().await.is_err());
    assert_eq!(get(&client, &url, &[]).await.status(), 403);
    let fresh = link(&simulator, &client, &id).await;
    assert_ne!(fresh, url);
    assert!(get(&client, &fresh, &[]).await.bytes().await.expect("a body") == simulator.file(&id));
}

#[test]
fn the_extension_selects_picture_or_video() {
    let (simulator, _) = start();
    assert_eq!(simulator.origin_file("a.png", None).content_type(), "image/png");
    assert_eq!(simulator.origin_file("a.jpg", None).content_type(), "image/jpeg");
    assert!(matches!(simulator.origin_file("a", None), Content::Video(_)));
}
