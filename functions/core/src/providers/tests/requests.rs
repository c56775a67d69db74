//! What the adapters send.

use std::collections::BTreeSet;

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

fn with_key() -> ProviderSettings {
    settings(json!({"api_key": "k-1", "base_url": "https://api.test"}))
}

fn submit(provider: Provider, body: &Value, endpoint: Option<&str>) -> Result<Request, InvalidSubmission> {
    let submission =
        Submission { body, endpoint, callback_url: "https://hub.test/callback/p/id/token/", marker: "our-id" };
    provider.adapter().submission(&submission, &with_key(), NOW)
}

/// An endpoint of a provider that has several.
fn some_endpoint(provider: Provider) -> Option<&'static str> {
    match provider {
        Provider::Kling => Some("/text-to-video/kling-2.6"),
        Provider::Vidu => Some("/ent/v2/text2video"),
        Provider::Kie => Some("/api/v1/jobs/createTask"),
        Provider::WaveSpeed => Some("/api/v3/kwaivgi/kling/text-to-video"),
        Provider::Fal => Some("/fal-ai/kling-video/v3/pro/text-to-video"),
        Provider::Runway => Some("/v1/text_to_video"),
        Provider::Veo => Some("/v1beta/models/veo-3.1-generate-preview:predictLongRunning"),
        _ => None,
    }
}

/// The endpoint of a provider that cannot be polled without.
fn needed_endpoint(provider: Provider) -> Option<&'static str> {
    some_endpoint(provider).filter(|_| provider == Provider::Fal)
}

#[test]
fn a_task_of_fal_without_its_endpoint_is_not_polled() {
    assert_eq!(
        urls(Provider::Fal, &[("1", None), ("2", Some("/fal-ai/veo3"))]),
        [("/fal-ai/veo3/requests/2".to_owned(), vec![1])]
    );
}

fn authorization(request: &Request) -> (&str, &str) {
    let [(name, value), ..] = &request.headers[..] else { panic!("a header expected") };
    (name, value.expose())
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

/// Submissions with the path and the body they have to be sent with.
fn submissions() -> Vec<(Provider, Option<&'static str>, &'static str, Value, Value)> {
    let url = "https://hub.test/callback/p/id/token/";
    let top = json!({"callback_url": url});
    let options = json!({"options": {"x": 1, "callback_url": url, "external_task_id": "our-id"}});
    let (own, own_kept) =
        (json!({"external_task_id": "theirs"}), json!({"external_task_id": "theirs", "callback_url": url}));
    let with_own = json!({"external_task_id": "our-id", "callback_url": url});
    let ratio = json!({"metadata": {"ratio": "16:9"}});
    let with_ratio = json!({"metadata": {"ratio": "16:9", "callback_url": url}});
    let webhook = json!({"webhook": "https://hub.test/callback/p/id/token"});
    let prompt = json!({"input": {"prompt": "p"}});
    let with_prompt = json!({"input": {"prompt": "p", "metadata": {"callback_url": url}}});
    let replaced = json!({"callBackUrl": "https://other.test"});
    let (images, kling, legacy) = ("/v1/images/generations", "/text-to-video/kling-2.6", "/v1/videos/text2video");
    let replicate = "/v1/models/kwaivgi/kling-v2.1/predictions";
    let (runway, edits) = ("/v1/image_to_video", "/v1/videos/edits");
    let (wan, wan_older) =
        ("/api/v1/services/aigc/video-generation/video-synthesis", "/api/v1/services/aigc/image2video/video-synthesis");
    let prompted = json!({"model": "wan2.7-t2v", "input": {"prompt": "p"}});
    let (v1, v2, vidu, veo) =
        ("/v1/video_generation", "/v2/video_generation", "/ent/v2/img2video", "/api/v1/veo/generate");
    vec![
        (Provider::RelayDance, None, "/v1/video/generations", ratio, with_ratio),
        (
            Provider::Replicate,
            Some(replicate),
            replicate,
            json!({"input": {"prompt": "p"}, "webhook": "https://other.test", "webhook_events_filter": ["logs"]}),
            json!({"input": {"prompt": "p"}, "webhook": url, "webhook_events_filter": ["completed"]}),
        ),
        (
            Provider::Replicate,
            None,
            "/v1/predictions",
            json!({"version": "a/b:c"}),
            json!({"version": "a/b:c", "webhook": url, "webhook_events_filter": ["completed"]}),
        ),
        (
            Provider::WaveSpeed,
            Some("/api/v3/kwaivgi/kling/text-to-video"),
            "/api/v3/kwaivgi/kling/text-to-video?webhook=https%3A%2F%2Fhub.test%2Fcallback%2Fp%2Fid%2Ftoken%2F",
            json!({"prompt": "p"}),
            json!({"prompt": "p"}),
        ),
        (
            Provider::Fal,
            Some("/fal-ai/veo3"),
            "/fal-ai/veo3?fal_webhook=https%3A%2F%2Fhub.test%2Fcallback%2Fp%2Fid%2Ftoken%2F",
            json!({"prompt": "p"}),
            json!({"prompt": "p"}),
        ),
        (Provider::MaxApi, None, "/api/v1/task/submit", json!({"a": 1}), json!({"a": 1, "callBackUrl": url})),
        (Provider::ApiMart, Some(images), images, json!({}), webhook),
        (Provider::Apimp, None, "/api/generate/submit", prompt, with_prompt),
        (Provider::Kling, Some(kling), kling, json!({"options": {"x": 1}}), options),
        (Provider::Kling, Some(legacy), legacy, json!({}), with_own),
        (Provider::Kling, Some(legacy), legacy, own, own_kept),
        (Provider::Ark, None, "/contents/generations/tasks", json!({}), top.clone()),
        (Provider::MiniMax, None, v1, json!({}), top.clone()),
        (Provider::MiniMax, Some(v2), v2, json!({}), top.clone()),
        (Provider::Vidu, Some(vidu), vidu, json!({}), top.clone()),
        (Provider::OpenRouter, None, "/api/v1/videos", json!({"callback_url": "https://other.test"}), top),
        (Provider::Kie, Some(veo), veo, replaced, json!({"callBackUrl": url})),
        (Provider::Grok, None, "/v1/videos/generations", json!({"prompt": "p"}), json!({"prompt": "p"})),
        (Provider::Grok, Some(edits), edits, json!({"prompt": "p"}), json!({"prompt": "p"})),
        (Provider::Runway, Some(runway), runway, json!({"promptText": "p"}), json!({"promptText": "p"})),
        // It sends no callbacks.
        (Provider::Wan, None, wan, prompted.clone(), prompted),
        (Provider::Wan, Some(wan_older), wan_older, json!({}), json!({})),
        (
            Provider::Veo,
            some_endpoint(Provider::Veo),
            "/v1beta/models/veo-3.1-generate-preview:predictLongRunning",
            json!({"instances": [{"prompt": "p"}], "webhookConfig": {"uris": ["https://other.test"], "userMetadata": {"a": 1}}}),
            json!({"instances": [{"prompt": "p"}], "webhookConfig": {"uris": [url], "userMetadata": {"a": 1}}}),
        ),
    ]
}

#[test]
fn the_callback_url_goes_into_each_providers_own_field() {
    let mut tested = BTreeSet::new();
    for (provider, endpoint, path, body, expected) in submissions() {
        let request = submit(provider, &body, endpoint).expect("a valid submission");
        assert_eq!(request.method, Method::Post, "{provider}");
        assert_eq!(request.url, format!("https://api.test{path}"), "{provider}");
        let expected_key = match provider {
            Provider::Vidu => ("authorization", "Token k-1"),
            Provider::Fal => ("authorization", "Key k-1"),
            Provider::Veo => ("x-goog-api-key", "k-1"),
            _ => ("authorization", "Bearer k-1"),
        };
        assert_eq!(authorization(&request), expected_key, "{provider}");
        let sent: Value = serde_json::from_slice(&request.body.expect("a body")).expect("JSON");
        assert_eq!(sent, expected, "{provider}");
        tested.insert(provider);
    }
    assert_eq!(tested, BTreeSet::from(Provider::ALL), "a provider has no row here");
}

#[test]
fn a_repeated_submission_carries_the_same_id_of_ours_where_the_provider_takes_one() {
    for provider in Provider::ALL {
        let endpoint = some_endpoint(provider);
        let request = submit(provider, &json!({}), endpoint).expect("a request");
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
fn only_what_is_still_queued_is_cancelled() {
    let cancellation = |provider: Provider, endpoint: Option<&'static str>, status: Value| {
        let task = PolledTask { provider_task_id: "t/1", endpoint };
        let response = ProviderResponse::new(200, status.to_string());
        let request = provider.adapter().cancellation(&task, &response, &with_key());
        request.map(|request| (request.method, request.url.replace("https://api.test", "")))
    };
    let ark = |status: &str, id: &str| cancellation(Provider::Ark, None, json!({"id": id, "status": status}));
    let path = "/contents/generations/tasks/t%2F1".to_owned();
    assert_eq!(ark("queued", "t/1"), Some((Method::Delete, path)));
    assert_eq!([ark("running", "t/1"), ark("succeeded", "t/1"), ark("queued", "other")], [None, None, None]);
    let v2 = Some("/v2/video_generation");
    let minimax = |status: &str| cancellation(Provider::MiniMax, v2, json!({"task": {"id": "t/1", "status": status}}));
    assert_eq!(minimax("queued"), Some((Method::Delete, "/v2/video_generation/t%2F1".to_owned())));
    assert_eq!([minimax("running"), minimax("succeeded")], [None, None]);
    assert_eq!(cancellation(Provider::MiniMax, None, json!({"task_id": "t/1", "status": "Queueing"})), None);
    let vidu = cancellation(Provider::Vidu, None, json!({"id": "t/1", "state": "created"}));
    assert_eq!(vidu, Some((Method::Post, "/ent/v2/tasks/t%2F1/cancel".to_owned())));
    let runway = |status: &str| cancellation(Provider::Runway, None, json!({"id": "t/1", "status": status}));
    assert_eq!(runway("RUNNING"), Some((Method::Delete, "/v1/tasks/t%2F1".to_owned())));
    assert_eq!([runway("SUCCEEDED"), runway("FAILED")], [None, None]);
    let wan = |status: &str, id: &str| {
        cancellation(Provider::Wan, None, json!({"output": {"task_id": id, "task_status": status}}))
    };
    assert_eq!(wan("PENDING", "t/1"), Some((Method::Post, "/api/v1/tasks/t%2F1/cancel".to_owned())));
    assert_eq!([wan("RUNNING", "t/1"), wan("SUCCEEDED", "t/1"), wan("PENDING", "other")], [None, None, None]);
    for provider in Provider::ALL {
        let endpoint = needed_endpoint(provider).or((provider == Provider::MiniMax).then_some("/v2/video_generation"));
        let queued = if provider == Provider::Runway { "pending" } else { "queued" };
        let queued = json!({
            "id": "t/1",
            "status": queued,
            "task": {"id": "t/1", "status": queued},
            "output": {"task_id": "t/1", "task_status": "PENDING"},
        });
        let can = cancellation(provider, endpoint, queued.clone()).is_some()
            || cancellation(provider, endpoint, queued["task"].clone()).is_some();
        assert_eq!(can, provider.adapter().profile().cancellable.is_some(), "{provider}");
    }
}

#[test]
fn endpoints_are_checked() {
    for provider in Provider::ALL.into_iter().filter(|provider| some_endpoint(*provider).is_some()) {
        let refused = submit(provider, &json!({}), None).expect_err("the endpoint is missing");
        assert!(matches!(refused, InvalidSubmission::EndpointMissing { .. }), "{provider}");
    }
    for (provider, endpoint) in [
        (Provider::RelayDance, "/v1/videos"),
        (Provider::MaxApi, "/api/v1/task"),
        (Provider::Fal, "/veo3"),
        (Provider::Fal, "/fal-ai/veo3/requests/1"),
        (Provider::WaveSpeed, "/api/v3/predictions/1/result"),
        (Provider::WaveSpeed, "/api/v3/webhook/secret"),
        (Provider::WaveSpeed, "/api/v3/model"),
        (Provider::WaveSpeed, "/api/v2/a/b"),
        (Provider::Replicate, "/v1/predictions/1/cancel"),
        (Provider::Replicate, "/v1/models/a/predictions"),
        (Provider::Replicate, "/v1/webhooks/default/secret"),
        (Provider::ApiMart, "/v1/tasks"),
        (Provider::Apimp, "/api/generate/status"),
        (Provider::Kling, "/tasks"),
        (Provider::Kling, "/v1/videos/../secrets"),
        (Provider::Kling, "//elsewhere.test/v1"),
        (Provider::Ark, "/models"),
        (Provider::MiniMax, "/v1/files/upload"),
        (Provider::Vidu, "/ent/v2/tasks"),
        (Provider::Vidu, "/ent/v2/tasks/1/cancel"),
        (Provider::Vidu, "/ent/v1/text2video"),
        (Provider::Runway, "/v1/tasks/1"),
        (Provider::Runway, "/v1/organization"),
        (Provider::Grok, "/v1/videos"),
        (Provider::Grok, "/v1/images/generations"),
        (Provider::Kie, "/api/v1/jobs/recordInfo"),
        (Provider::Kie, "/api/v1/common/download-url"),
        (Provider::OpenRouter, "/api/v1/videos/models"),
        (Provider::Wan, "/api/v1/tasks"),
        (Provider::Veo, "/v1beta/models/veo-3.1-generate-preview"),
        (Provider::Veo, "/v1beta/models/veo-3.1-generate-preview:generateContent"),
        (Provider::Veo, "/v1beta/models/a:b:predictLongRunning"),
        (Provider::Veo, "/v1beta/models/:predictLongRunning"),
        (Provider::Veo, "/v1beta/files/a:predictLongRunning"),
    ] {
        let refused = submit(provider, &json!({}), Some(endpoint)).expect_err("not a submission endpoint");
        assert!(matches!(refused, InvalidSubmission::EndpointUnknown { .. }), "{provider} {endpoint}");
    }
}

#[test]
fn nothing_is_sent_without_a_key_or_a_base_url() {
    for provider in Provider::ALL {
        let endpoint = some_endpoint(provider);
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
    for (provider, base_url, expected) in [
        (Provider::ApiMart, "https://twin.test/v1", "https://twin.test/v1/videos/generations"),
        (Provider::RelayDance, "https://twin.test/v1", "https://twin.test/v1/video/generations"),
        (Provider::OpenRouter, "https://twin.test/api/v1", "https://twin.test/api/v1/videos"),
        (
            Provider::Wan,
            "https://twin.test/api/v1",
            "https://twin.test/api/v1/services/aigc/video-generation/video-synthesis",
        ),
    ] {
        let settings = settings(json!({"api_key": "k", "base_url": base_url}));
        let submission = Submission { body: &json!({}), endpoint: None, callback_url: "https://hub.test", marker: "m" };
        let request = provider.adapter().submission(&submission, &settings, NOW).expect("a valid submission");
        assert_eq!(request.url, expected);
    }
}

#[test]
fn each_provider_has_its_own_status_call() {
    let mut tested = BTreeSet::new();
    let alone = |path: &str| vec![(path.to_owned(), vec![0])];
    for (provider, id, endpoint, expected) in [
        (Provider::RelayDance, "task_1", None, "/v1/video/generations/task_1"),
        (Provider::MaxApi, "a-b", None, "/api/v1/task/a-b"),
        (Provider::Fal, "a/b", Some("/fal-ai/kling-video/v3/pro/text-to-video"), "/fal-ai/kling-video/requests/a%2Fb"),
        (Provider::WaveSpeed, "a/b", None, "/api/v3/predictions/a%2Fb/result"),
        (Provider::Replicate, "a/b", None, "/v1/predictions/a%2Fb"),
        (Provider::OpenRouter, "a/b", None, "/api/v1/videos/a%2Fb"),
        (Provider::Wan, "a/b", None, "/api/v1/tasks/a%2Fb"),
        (Provider::ApiMart, "task_1", None, "/v1/tasks/task_1?language=en"),
        (Provider::Apimp, "task_1", None, "/api/generate/status/task_1"),
        (Provider::Kling, "8", None, "/tasks?task_ids=8"),
        (Provider::Kling, "8", Some("/text-to-video/kling-2.6"), "/tasks?task_ids=8"),
        (Provider::Kling, "8", Some("/v1/videos/image2video"), "/v1/videos/image2video/8"),
        (Provider::Ark, "cgt-1", None, "/contents/generations/tasks/cgt-1"),
        (Provider::MiniMax, "7", None, "/v1/query/video_generation?task_id=7"),
        (Provider::MiniMax, "7", Some("/v1/video_generation"), "/v1/query/video_generation?task_id=7"),
        (Provider::MiniMax, "7", Some("/v2/video_generation"), "/v2/query/video_generation/7"),
        (Provider::Vidu, "9", None, "/ent/v2/tasks/9/creations"),
        (Provider::Grok, "a/b", None, "/v1/videos/a%2Fb"),
        (Provider::Runway, "a/b", Some("/v1/image_to_video"), "/v1/tasks/a%2Fb"),
        (Provider::Kie, "x", Some("/api/v1/runway/generate"), "/api/v1/runway/record-detail?taskId=x"),
        (Provider::Kie, "x", Some("/api/v1/veo/generate"), "/api/v1/veo/record-info?taskId=x"),
        (Provider::Kie, "x", Some("/api/v1/jobs/createTask"), "/api/v1/jobs/recordInfo?taskId=x"),
        (
            Provider::Kie,
            "ee603959-debb-48d1-98c4-a6d1c717eba6",
            None,
            "/api/v1/runway/record-detail?taskId=ee603959-debb-48d1-98c4-a6d1c717eba6",
        ),
        (Provider::Kie, "veo_task_abcdef123456", None, "/api/v1/veo/record-info?taskId=veo_task_abcdef123456"),
        (Provider::Veo, "models/veo-3.1/operations/ab12", None, "/v1beta/models/veo-3.1/operations/ab12"),
        (Provider::Veo, "models/../files/a", None, "/v1beta/models%2F..%2Ffiles%2Fa"),
        (Provider::Kie, "task_12345678", None, "/api/v1/jobs/recordInfo?taskId=task_12345678"),
    ] {
        assert_eq!(urls(provider, &[(id, endpoint)]), alone(expected), "{provider}");
        tested.insert(provider);
    }
    assert_eq!(tested, BTreeSet::from(Provider::ALL), "a provider has no row here");
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
        let tasks: Vec<(&str, Option<&str>)> = ids.iter().map(|id| (id.as_str(), needed_endpoint(provider))).collect();
        let mut polled: Vec<usize> = urls(provider, &tasks).into_iter().flat_map(|(_, tasks)| tasks).collect();
        polled.sort_unstable();
        assert_eq!(polled, (0..333).collect::<Vec<_>>(), "{provider}");
    }
}

#[test]
fn ids_are_percent_encoded_in_urls() {
    for provider in Provider::ALL {
        let requests = urls(provider, &[("a/../b?c=d&e#f,g h", needed_endpoint(provider))]);
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
        let request = submit(provider, &json!({}), some_endpoint(provider)).expect("a valid submission");
        let printed = format!("{request:?}");
        let as_bytes = format!("{:?}", b"token");
        assert!(!printed.contains("token") && !printed.contains(as_bytes.trim_matches(['[', ']'])), "{printed}");
    }
}
