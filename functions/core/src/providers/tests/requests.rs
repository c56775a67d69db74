//! What the adapters send.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{NOW, settings};
use crate::provider::Provider;
use crate::providers::adapter::{
    InvalidSubmission, LookupResult, Method, PolledTask, ProviderResponse, Request, StatusRequest, StatusResult,
    Submission,
};
use crate::redacted::SignedUrl;
use crate::report::{Artifact, Kind, Source};
use crate::settings::ProviderSettings;

/// What one provider is sent: a file under `events/requests`. `events/providers/README.md` describes the fields.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent {
    credential: (String, String),
    versioned: Option<Versioned>,
    submissions: Vec<SentSubmission>,
    #[serde(default)]
    not_endpoints: Vec<String>,
    status_calls: Vec<StatusCall>,
    #[serde(default)]
    cancellations: Vec<Cancellation>,
}

/// A base URL that ends in the version, and where a submission without an endpoint goes then.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Versioned {
    base_url: String,
    url: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SentSubmission {
    endpoint: Option<String>,
    body: Value,
    path: String,
    /// As `body` if it is left out.
    sent: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StatusCall {
    endpoint: Option<String>,
    id: String,
    /// None if the task cannot be polled.
    path: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cancellation {
    endpoint: Option<String>,
    /// The status response before it, about the task `t/1`.
    status: Value,
    /// Method and path; none if such a task is not cancelled.
    call: Option<String>,
}

fn sent(provider: Provider) -> Sent {
    let path = format!("{}/../../events/requests/{provider}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn with_key() -> ProviderSettings {
    settings(json!({"api_key": "k-1", "base_url": "https://api.test"}))
}

fn submit(provider: Provider, body: &Value, endpoint: Option<&str>) -> Result<Request, InvalidSubmission> {
    let submission =
        Submission { body, endpoint, callback_url: "https://hub.test/callback/p/id/token/", marker: "our-id" };
    provider.adapter().submission(&submission, &with_key(), NOW)
}

/// An endpoint of a provider that has several and no usual one.
fn some_endpoint(provider: Provider) -> Option<String> {
    let mut endpoints = sent(provider).submissions.into_iter().map(|submission| submission.endpoint);
    let first = endpoints.next().expect("a provider has a submission");
    first.filter(|_| endpoints.all(|endpoint| endpoint.is_some()))
}

/// The endpoint of a provider that cannot be polled without.
fn needed_endpoint(provider: Provider) -> Option<String> {
    some_endpoint(provider).filter(|_| provider.adapter().needs_endpoint())
}

fn urls(provider: Provider, tasks: &[(&str, Option<&str>)]) -> Vec<(String, Vec<usize>)> {
    let tasks: Vec<PolledTask<'_>> =
        tasks.iter().map(|(provider_task_id, endpoint)| PolledTask { provider_task_id, endpoint: *endpoint }).collect();
    let requests = provider.adapter().status_requests(&tasks, &with_key(), NOW);
    requests
        .into_iter()
        .map(|StatusRequest { request, tasks }| {
            assert_eq!(request.method, Method::Get);
            assert_eq!(request.body, None);
            let url = request.url.strip_prefix("https://api.test").expect("below the base URL").to_owned();
            (url, tasks)
        })
        .collect()
}

#[test]
fn the_callback_url_goes_into_each_providers_own_field() {
    for provider in Provider::ALL {
        let Sent { credential, submissions, .. } = sent(provider);
        for SentSubmission { endpoint, body, path, sent } in submissions {
            let request = submit(provider, &body, endpoint.as_deref()).expect("a valid submission");
            assert_eq!(request.method, Method::Post, "{provider}");
            assert_eq!(request.url, format!("https://api.test{path}"), "{provider}");
            let [(name, value), ..] = &request.headers[..] else { panic!("{provider}: a header expected") };
            assert_eq!((*name, value.expose()), (&*credential.0, &*credential.1), "{provider}");
            let found: Value = serde_json::from_slice(&request.body.expect("a body")).expect("JSON");
            assert_eq!(found, sent.unwrap_or(body), "{provider}");
        }
    }
}

#[test]
fn a_repeated_submission_carries_the_same_id_of_ours_where_the_provider_takes_one() {
    for provider in Provider::ALL {
        let endpoint = some_endpoint(provider);
        let request = submit(provider, &json!({}), endpoint.as_deref()).expect("a request");
        let in_body = String::from_utf8_lossy(request.body.as_deref().unwrap_or_default()).contains("our-id");
        let in_header = request.headers.iter().any(|(_, value)| value.expose() == "our-id");
        assert_eq!(in_body || in_header, provider.adapter().profile().marker.is_some(), "{provider}");
    }
}

#[test]
fn an_interrupted_submission_is_looked_up_by_the_id_of_ours() {
    let kling = Provider::Kling.adapter();
    let url = |endpoint| kling.lookup("our/id", endpoint, &with_key(), NOW).expect("a request").url;
    assert_eq!(url(None), "https://api.test/tasks?external_task_ids=our%2Fid");
    assert_eq!(url(Some("/v1/videos/text2video")), "https://api.test/v1/videos/text2video/our%2Fid");
    let read =
        |status: u16, body: Value| kling.read_lookup(&ProviderResponse::new(status, body.to_string()), "our-id", NOW);
    let found = LookupResult::Found { provider_task_id: "8".to_owned() };
    assert_eq!(
        read(200, json!({"code": 0, "data": [{"id": "8", "external_id": "our-id", "status": "submitted"}]})),
        found
    );
    let legacy = json!({"task_id": "8", "task_status": "failed", "task_info": {"external_task_id": "our-id"}});
    assert_eq!(read(200, json!({"code": 0, "data": legacy})), found);
    let unknown = LookupResult::Unknown(StatusResult::NotFound);
    assert_eq!(read(200, json!({"code": 0, "data": []})), unknown);
    // Somebody else's task is not ours.
    assert_eq!(
        read(200, json!({"code": 0, "data": [{"id": "8", "external_id": "theirs", "status": "submitted"}]})),
        unknown
    );
    assert!(matches!(read(500, json!({})), LookupResult::Unknown(StatusResult::Refused { .. })));
}

/// Ark's, `MiniMax`'s and Runway's calls delete what has ended, with its link; Wan's refuses what runs.
#[test]
fn only_what_can_still_be_cancelled_is_cancelled() {
    for provider in Provider::ALL {
        let cancellations = sent(provider).cancellations;
        let is_cancellable = cancellations.iter().any(|cancellation| cancellation.call.is_some());
        assert_eq!(is_cancellable, provider.adapter().profile().cancellable.is_some(), "{provider}");
        for Cancellation { endpoint, status, call } in cancellations {
            let task = PolledTask { provider_task_id: "t/1", endpoint: endpoint.as_deref() };
            let response = ProviderResponse::new(200, status.to_string());
            let request = provider.adapter().cancellation(&task, &response, &with_key());
            let found = request.map(|request| {
                let method = format!("{:?}", request.method).to_uppercase();
                format!("{method} {}", request.url.replace("https://api.test", ""))
            });
            assert_eq!(found, call, "{provider}: {status}");
        }
    }
}

#[test]
fn endpoints_are_checked() {
    for provider in Provider::ALL {
        if some_endpoint(provider).is_some() {
            let refused = submit(provider, &json!({}), None).expect_err("the endpoint is missing");
            assert!(matches!(refused, InvalidSubmission::EndpointMissing { .. }), "{provider}");
        }
        for endpoint in sent(provider).not_endpoints {
            let refused = submit(provider, &json!({}), Some(&endpoint)).expect_err("not a submission endpoint");
            assert!(matches!(refused, InvalidSubmission::EndpointUnknown { .. }), "{provider} {endpoint}");
        }
    }
}

#[test]
fn nothing_is_sent_without_a_key_or_a_base_url() {
    for provider in Provider::ALL {
        let endpoint = some_endpoint(provider);
        let endpoint = endpoint.as_deref();
        let adapter = provider.adapter();
        let submission = Submission { body: &json!({}), endpoint, callback_url: "https://hub.test", marker: "m" };
        let nothing = ProviderSettings::default();
        let refused = adapter.submission(&submission, &nothing, NOW);
        assert_eq!(refused, Err(InvalidSubmission::NoApiKey(provider.name())));
        let task = PolledTask { provider_task_id: "1", endpoint };
        assert_eq!(adapter.status_requests(&[task], &nothing, NOW), []);
        let file = Artifact { kind: Kind::Video, source: Source::FileId("1".into()), expires_at: None };
        assert_eq!(adapter.resolution(&file, &nothing, NOW), None);
        let key_only = settings(json!({"api_key": "k"}));
        match adapter.submission(&submission, &key_only, NOW) {
            Ok(request) => assert!(request.url.starts_with("https://"), "{}", request.url),
            Err(refused) => assert_eq!(refused, InvalidSubmission::NoBaseUrl(provider.name())),
        }
        let refused = submit(provider, &json!([]), endpoint).expect_err("not an object");
        assert_eq!(refused, InvalidSubmission::NotAnObject);
    }
}

#[test]
fn base_urls_may_end_in_the_version_as_in_the_docs() {
    for provider in Provider::ALL {
        let Some(Versioned { base_url, url }) = sent(provider).versioned else { continue };
        let settings = settings(json!({"api_key": "k", "base_url": base_url}));
        let submission = Submission { body: &json!({}), endpoint: None, callback_url: "https://hub.test", marker: "m" };
        let request = provider.adapter().submission(&submission, &settings, NOW).expect("a valid submission");
        assert_eq!(request.url, url, "{provider}");
    }
}

#[test]
fn each_provider_has_its_own_status_call() {
    for provider in Provider::ALL {
        let status_calls = sent(provider).status_calls;
        assert!(!status_calls.is_empty(), "{provider}");
        for StatusCall { endpoint, id, path } in status_calls {
            let expected: Vec<_> = path.into_iter().map(|path| (path, vec![0])).collect();
            assert_eq!(urls(provider, &[(&id, endpoint.as_deref())]), expected, "{provider} {endpoint:?}");
        }
    }
}

#[test]
fn several_tasks_share_one_status_request_where_possible() {
    let legacy = Some("/v1/videos/text2video");
    assert_eq!(
        urls(Provider::Kling, &[("1", None), ("2", legacy), ("3", None)]),
        [("/v1/videos/text2video/2".to_owned(), vec![1]), ("/tasks?task_ids=1,3".to_owned(), vec![0, 2])]
    );
    let list = "/contents/generations/tasks?page_num=1&page_size=2&filter.task_ids=cgt-1&filter.task_ids=cgt-2";
    assert_eq!(urls(Provider::Ark, &[("cgt-1", None), ("cgt-2", None)]), [(list.to_owned(), vec![0, 1])]);
    let list = "/ent/v2/tasks?task_ids=1&task_ids=2&pager.pagesz=2";
    assert_eq!(urls(Provider::Vidu, &[("1", None), ("2", None)]), [(list.to_owned(), vec![0, 1])]);
    let v2 = Some("/v2/video_generation");
    let list = "/v2/query/video_generation?page_num=1&page_size=2&filter.task_ids=2&filter.task_ids=3";
    assert_eq!(
        urls(Provider::MiniMax, &[("1", None), ("2", v2), ("3", v2)]),
        [("/v1/query/video_generation?task_id=1".to_owned(), vec![0]), (list.to_owned(), vec![1, 2])]
    );
}

#[test]
fn every_task_is_polled_once_however_many_there_are() {
    let ids: Vec<String> = (0..333).map(|number| format!("id-{number}")).collect();
    for provider in Provider::ALL {
        let endpoint = needed_endpoint(provider);
        let tasks: Vec<(&str, Option<&str>)> = ids.iter().map(|id| (id.as_str(), endpoint.as_deref())).collect();
        let mut polled: Vec<usize> = urls(provider, &tasks).into_iter().flat_map(|(_, tasks)| tasks).collect();
        polled.sort_unstable();
        assert_eq!(polled, (0..333).collect::<Vec<_>>(), "{provider}");
    }
}

#[test]
fn ids_are_percent_encoded_in_urls() {
    for provider in Provider::ALL {
        let requests = urls(provider, &[("a/../b?c=d&e#f,g h", needed_endpoint(provider).as_deref())]);
        assert_eq!(requests.len(), 1, "{provider}");
        for (url, _) in requests {
            assert!(url.contains("a%2F..%2Fb%3Fc%3Dd%26e%23f%2Cg%20h"), "{provider}: {url}");
        }
    }
}

#[test]
fn file_ids_and_dead_links_are_resolved() {
    let file = Artifact { kind: Kind::Video, source: Source::FileId("7 7".into()), expires_at: None };
    let link = Artifact {
        kind: Kind::Video,
        source: Source::Url(SignedUrl::new("https://file.test/a.mp4?s=1")),
        expires_at: None,
    };
    for provider in Provider::ALL {
        let adapter = provider.adapter();
        let of_file = adapter.resolution(&file, &with_key(), NOW);
        let of_link = adapter.resolution(&link, &with_key(), NOW);
        assert_eq!(of_file.is_some(), provider == Provider::MiniMax, "{provider}");
        assert_eq!(of_link.is_some(), provider == Provider::Kie, "{provider}");
        if let Some(request) = of_file {
            assert_eq!(request.url, "https://api.test/v1/files/retrieve?file_id=7%207");
        }
        if let Some(request) = of_link {
            assert_eq!(request.url, "https://api.test/api/v1/common/download-url");
            assert_eq!(request.body.as_deref(), Some(br#"{"url":"https://file.test/a.mp4?s=1"}"#.as_slice()));
        }
    }
}

#[test]
fn the_token_of_the_callback_url_is_not_printed() {
    for provider in Provider::ALL {
        let request = submit(provider, &json!({}), some_endpoint(provider).as_deref()).expect("a valid submission");
        let printed = format!("{request:?}");
        let as_bytes = format!("{:?}", b"token");
        assert!(!printed.contains("token") && !printed.contains(as_bytes.trim_matches(['[', ']'])), "{printed}");
    }
}
