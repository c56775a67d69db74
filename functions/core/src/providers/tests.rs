//! What the adapters ask and where they put things. What they read is tested from the files under `events/providers/`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::report::{Kind, Reason, Source};

const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

fn settings(json: Value) -> ProviderSettings {
    serde_json::from_value(json).expect("valid settings")
}

fn with_key() -> ProviderSettings {
    settings(json!({"api_key": "k-1", "base_url": "https://api.test"}))
}

fn submit(provider: Provider, body: &Value, endpoint: Option<&str>) -> Result<Request, InvalidSubmission> {
    let submission = Submission { body, endpoint, callback_url: "https://hub.test/callback/p/id/token/" };
    provider.adapter().submission(&submission, &with_key(), NOW)
}

fn authorization(request: &Request) -> &str {
    let [(name, value)] = &request.headers[..] else { panic!("one header expected") };
    assert_eq!(*name, "authorization");
    value.expose()
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
    let url = "https://hub.test/callback/p/id/token/";
    let mut tested = BTreeSet::new();
    for (provider, endpoint, path, scheme, body, expected) in [
        (
            Provider::RelayDance,
            None,
            "/v1/video/generations",
            "Bearer",
            json!({"metadata": {"ratio": "16:9"}}),
            json!({"metadata": {"ratio": "16:9", "callback_url": url}}),
        ),
        (Provider::MaxApi, None, "/api/v1/task/submit", "Bearer", json!({"a": 1}), json!({"a": 1, "callBackUrl": url})),
        (
            Provider::ApiMart,
            Some("/v1/images/generations"),
            "/v1/images/generations",
            "Bearer",
            json!({}),
            json!({"webhook": "https://hub.test/callback/p/id/token"}),
        ),
        (
            Provider::Apimp,
            None,
            "/api/generate/submit",
            "Bearer",
            json!({"input": {"prompt": "p"}}),
            json!({"input": {"prompt": "p", "metadata": {"callback_url": url}}}),
        ),
        (
            Provider::Kling,
            Some("/text-to-video/kling-2.6"),
            "/text-to-video/kling-2.6",
            "Bearer",
            json!({"options": {"x": 1}}),
            json!({"options": {"x": 1, "callback_url": url}}),
        ),
        (
            Provider::Kling,
            Some("/v1/videos/text2video"),
            "/v1/videos/text2video",
            "Bearer",
            json!({}),
            json!({"callback_url": url}),
        ),
        (Provider::Ark, None, "/contents/generations/tasks", "Bearer", json!({}), json!({"callback_url": url})),
        (Provider::MiniMax, None, "/v1/video_generation", "Bearer", json!({}), json!({"callback_url": url})),
        (
            Provider::MiniMax,
            Some("/v2/video_generation"),
            "/v2/video_generation",
            "Bearer",
            json!({}),
            json!({"callback_url": url}),
        ),
        (
            Provider::Vidu,
            Some("/ent/v2/img2video"),
            "/ent/v2/img2video",
            "Token",
            json!({}),
            json!({"callback_url": url}),
        ),
        (
            Provider::Kie,
            Some("/api/v1/veo/generate"),
            "/api/v1/veo/generate",
            "Bearer",
            json!({"callBackUrl": "https://other.test"}),
            json!({"callBackUrl": url}),
        ),
    ] {
        let request = submit(provider, &body, endpoint).expect("a good submission");
        assert_eq!(request.method, Method::Post, "{provider}");
        assert_eq!(request.url, format!("https://api.test{path}"), "{provider}");
        assert_eq!(authorization(&request), format!("{scheme} k-1"), "{provider}");
        let sent: Value = serde_json::from_slice(&request.body.expect("a body")).expect("JSON");
        assert_eq!(sent, expected, "{provider}");
        tested.insert(provider);
    }
    assert_eq!(tested, BTreeSet::from(Provider::ALL), "a provider has no row here");
}

#[test]
fn endpoints_are_checked() {
    for provider in [Provider::Kling, Provider::Vidu, Provider::Kie] {
        let refused = submit(provider, &json!({}), None).expect_err("no endpoint is named");
        assert!(matches!(refused, InvalidSubmission::EndpointMissing { .. }), "{provider}");
    }
    for (provider, endpoint) in [
        (Provider::RelayDance, "/v1/videos"),
        (Provider::MaxApi, "/api/v1/task"),
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
        (Provider::Kie, "/api/v1/jobs/recordInfo"),
        (Provider::Kie, "/api/v1/common/download-url"),
    ] {
        let refused = submit(provider, &json!({}), Some(endpoint)).expect_err("no endpoint for submissions");
        assert!(matches!(refused, InvalidSubmission::EndpointUnknown { .. }), "{provider} {endpoint}");
    }
}

#[test]
fn nothing_is_sent_without_a_key_or_a_base_url() {
    for provider in Provider::ALL {
        let endpoint = match provider {
            Provider::Kling => Some("/text-to-video/kling-2.6"),
            Provider::Vidu => Some("/ent/v2/text2video"),
            Provider::Kie => Some("/api/v1/jobs/createTask"),
            _ => None,
        };
        let adapter = provider.adapter();
        let submission = Submission { body: &json!({}), endpoint, callback_url: "https://hub.test" };
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
        let refused = submit(provider, &json!([]), endpoint).expect_err("no object");
        assert_eq!(refused, InvalidSubmission::NotAnObject);
    }
}

#[test]
fn base_urls_may_end_in_the_version_where_the_docs_write_them_so() {
    for (provider, expected) in [
        (Provider::ApiMart, "https://twin.test/v1/videos/generations"),
        (Provider::RelayDance, "https://twin.test/v1/video/generations"),
    ] {
        let settings = settings(json!({"api_key": "k", "base_url": "https://twin.test/v1"}));
        let submission = Submission { body: &json!({}), endpoint: None, callback_url: "https://hub.test" };
        let request = provider.adapter().submission(&submission, &settings, NOW).expect("a good submission");
        assert_eq!(request.url, expected);
    }
}

#[test]
fn each_provider_is_asked_its_own_way() {
    let mut tested = BTreeSet::new();
    let alone = |path: &str| vec![(path.to_owned(), vec![0])];
    for (provider, id, endpoint, expected) in [
        (Provider::RelayDance, "task_1", None, "/v1/video/generations/task_1"),
        (Provider::MaxApi, "a-b", None, "/api/v1/task/a-b"),
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
        (Provider::Kie, "task_12345678", None, "/api/v1/jobs/recordInfo?taskId=task_12345678"),
    ] {
        assert_eq!(urls(provider, &[(id, endpoint)]), alone(expected), "{provider}");
        tested.insert(provider);
    }
    assert_eq!(tested, BTreeSet::from(Provider::ALL), "a provider has no row here");
}

#[test]
fn several_tasks_share_one_question_where_that_exists() {
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
fn every_task_is_asked_after_once_however_many_there_are() {
    let ids: Vec<String> = (0..333).map(|number| format!("id-{number}")).collect();
    for provider in Provider::ALL {
        let tasks: Vec<(&str, Option<&str>)> = ids.iter().map(|id| (id.as_str(), None)).collect();
        let mut asked: Vec<usize> = urls(provider, &tasks).into_iter().flat_map(|(_, tasks)| tasks).collect();
        asked.sort_unstable();
        assert_eq!(asked, (0..333).collect::<Vec<_>>(), "{provider}");
    }
}

#[test]
fn ids_never_leave_their_place_in_a_url() {
    for provider in Provider::ALL {
        for (url, _) in urls(provider, &[("a/../b?c=d&e#f,g h", None)]) {
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
fn fresh_links_are_read() {
    let read = |provider: Provider, status: u16, body: &str| {
        let answer = Answer { status, retry_after: None, body: body.as_bytes() };
        provider.adapter().read_resolution(&answer, NOW)
    };
    // The sample of MiniMax's download page.
    let sample = r#"{"file":{"file_id":335560631603474,"bytes":0,"created_at":1763477381,"filename":"output_aigc.mp4","purpose":"video_generation","download_url":"https://public-cdn-video-data-algeng.oss-cn-wulanchabu.aliyuncs.com/inference_output%2Fvideo%2Foutput_aigc.mp4?Expires=1763510682&OSSAccessKeyId=k&Signature=s"},"base_resp":{"status_code":0,"status_msg":"success"}}"#;
    let link = read(Provider::MiniMax, 200, sample).expect("a link");
    assert!(link.url.expose().ends_with("output_aigc.mp4?Expires=1763510682&OSSAccessKeyId=k&Signature=s"));
    assert_eq!(link.expires_at.map(Timestamp::seconds), Some(1_763_510_682));

    let bare =
        r#"{"file":{"download_url":"https://video-product.cdn.minimax.io/a.mp4"},"base_resp":{"status_code":0}}"#;
    let link = read(Provider::MiniMax, 200, bare).expect("a link");
    assert_eq!(link.expires_at, Some(NOW.plus(3600)));

    let refused = read(Provider::MiniMax, 200, r#"{"base_resp":{"status_code":1004,"status_msg":"login fail"}}"#);
    assert_eq!(refused, Err(Failure::new(Reason::Unknown, false).code("1004").message("login fail")));

    let link = read(Provider::Kie, 200, r#"{"code":200,"msg":"success","data":"https://tempfile.test/a.mp4?x=1"}"#);
    let link = link.expect("a link");
    assert_eq!((link.url.expose(), link.expires_at), ("https://tempfile.test/a.mp4?x=1", Some(NOW.plus(1200))));

    let refused = read(Provider::Kie, 200, r#"{"code":422,"msg":"not a KIE url","data":null}"#);
    assert_eq!(refused, Err(Failure::new(Reason::InvalidParameters, false).code("422").message("not a KIE url")));
    for provider in [Provider::MiniMax, Provider::Kie, Provider::Ark] {
        assert_eq!(read(provider, 503, "<html>").expect_err("no link").reason, Reason::ProviderError);
        let nothing = read(provider, 200, "{}");
        assert!(nothing.is_err(), "{provider}");
    }
}

#[test]
fn a_refused_question_says_when_to_ask_again_and_judges_no_task() {
    for provider in Provider::ALL {
        for (status, body) in [(429, "{}"), (429, "<html>"), (503, ""), (401, "null"), (500, r#"{"x":1}"#)] {
            let answer = Answer { status, retry_after: Some(17), body: body.as_bytes() };
            match provider.adapter().read_status(&answer, "1", NOW) {
                StatusAnswer::Refused { retry_after, .. } => assert_eq!(retry_after, Some(17)),
                other => panic!("{provider} reads {status} {body} as {other:?}"),
            }
        }
        let answer = Answer { status: 404, retry_after: None, body: b"" };
        assert_eq!(provider.adapter().read_status(&answer, "1", NOW), StatusAnswer::NotFound, "{provider}");
    }
}

#[test]
fn what_may_have_made_a_task_is_never_called_refused() {
    for provider in Provider::ALL {
        for (status, body) in [
            (200, ""),
            (200, "{}"),
            (200, "<html>"),
            (202, "null"),
            (408, ""),
            (409, "{}"),
            (500, ""),
            (502, "<html>Bad Gateway"),
            (503, "{}"),
            (504, r#"{"message":"x"}"#),
            (599, "[]"),
        ] {
            let answer = Answer { status, retry_after: None, body: body.as_bytes() };
            let read = provider.adapter().read_submission(&answer);
            assert!(matches!(read, SubmissionAnswer::Unclear(_)), "{provider} reads {status} {body} as {read:?}");
        }
        for status in [400, 401, 402, 403, 404, 413, 422, 429] {
            let answer = Answer { status, retry_after: None, body: b"<html>no" };
            let read = provider.adapter().read_submission(&answer);
            assert!(matches!(read, SubmissionAnswer::Refused(_)), "{provider} reads {status} as {read:?}");
        }
    }
}

#[test]
fn no_body_makes_a_record_that_is_too_large() {
    let link = |number: usize| format!("https://file.test/{number}/{}", "x".repeat(1000));
    let links: Vec<String> = (0..1000).map(link).collect();
    let long = "y".repeat(100_000);
    for (provider, body) in [
        (Provider::MaxApi, json!({"data": {"taskId": "1", "status": "SUCCESS", "result": {"urls": links}}})),
        (Provider::ApiMart, json!({"id": "1", "status": "completed", "result": {"videos": [{"url": links}]}})),
    ] {
        let body = provider.adapter().read_callback(body.to_string().as_bytes(), NOW);
        let CallbackBody::Task { statement: Statement::Final(report), .. } = body else { panic!("{body:?}") };
        let crate::report::Report::Succeeded { artifacts } = report else { panic!("{report:?}") };
        assert_eq!(artifacts.len(), 50);
    }
    let body = json!({"id": long, "status": "succeeded", "outputs": []}).to_string();
    assert_eq!(Provider::Kling.adapter().read_callback(body.as_bytes(), NOW), CallbackBody::Unreadable);
    let body = json!({"id": "1", "status": "failed", "message": long}).to_string();
    let CallbackBody::Task { statement: Statement::Final(crate::report::Report::Failed(failure)), .. } =
        Provider::Kling.adapter().read_callback(body.as_bytes(), NOW)
    else {
        panic!("it failed")
    };
    assert_eq!(failure.message.expect("its words").len(), 1000);
}

#[test]
fn only_links_that_can_be_fetched_are_taken() {
    let body = |url: &str| {
        json!({"id": "cgt-1", "status": "succeeded", "content": {"video_url": url}}).to_string().into_bytes()
    };
    let no_result = CallbackBody::Task {
        provider_task_id: Some("cgt-1".into()),
        statement: Statement::succeeded(vec![]),
        trust: Trust::Hint(Doubt::NoResult),
    };
    for url in ["", "pending", "/a.mp4", "ftp://a/b", "file:///etc/passwd", "javascript:0", "https://", "//a/b"] {
        assert_eq!(Provider::Ark.adapter().read_callback(&body(url), NOW), no_result, "{url}");
    }
    let long = format!("https://a/{}", "x".repeat(9000));
    assert_eq!(Provider::Ark.adapter().read_callback(&body(&long), NOW), no_result);
}

/// A success with a cover and an empty link once ended the task without its video.
#[test]
fn a_cover_or_a_last_frame_alone_is_no_result() {
    let picture = "https://a.test/p.png";
    for (provider, body) in [
        (Provider::Ark, json!({"id": "1", "status": "succeeded", "content": {"last_frame_url": picture}})),
        (Provider::Vidu, json!({"id": "1", "state": "success", "creations": [{"url": "", "cover_url": picture}]})),
    ] {
        let body = body.to_string();
        let read = provider.adapter().read_callback(body.as_bytes(), NOW);
        assert!(
            matches!(read, CallbackBody::Task { trust: Trust::Hint(Doubt::NoResult), .. }),
            "{provider} reads {body} as {read:?}"
        );
        let answer = Answer { status: 200, retry_after: None, body: body.as_bytes() };
        let read = provider.adapter().read_status(&answer, "1", NOW);
        assert_eq!(read, StatusAnswer::Task(Statement::open()), "{provider}");
    }
    let marked = json!({"id": "1", "status": "succeeded", "outputs": [{"type": "video", "watermark_url": picture}]});
    let read = Provider::Kling.adapter().read_callback(marked.to_string().as_bytes(), NOW);
    assert!(matches!(read, CallbackBody::Task { trust: Trust::Report, .. }), "{read:?}");
}

#[test]
fn profiles_are_sensible() {
    for provider in Provider::ALL {
        let profile = provider.adapter().profile();
        assert!((1..=15).contains(&profile.answer_budget), "{provider}");
        assert!(profile.link_life >= 3600, "{provider}");
        assert!(profile.first_poll >= 5 && profile.poll_interval >= 5, "{provider}");
        assert!(profile.poll_interval <= profile.longest_poll_interval, "{provider}");
        assert!(profile.longest_poll_interval <= profile.deadline / 10, "{provider}");
        for text in [profile.title, profile.verified, profile.retries, profile.confirmed, profile.doubts] {
            assert!(!text.is_empty() && !text.contains('|'), "{provider}: {text:?} has to fit into a table");
        }
        assert!(
            serde_json::from_str::<Value>(provider.adapter().acknowledgement()).is_ok_and(|value| value.is_object())
        );
    }
}

/// What gateways and older versions of an API do to a body: the envelope is there or not, one result stands without its
/// list, numbers have become floats, words have blanks around them.
#[test]
fn the_same_body_in_other_clothes_means_the_same() {
    use crate::explain::{Kind, Question, explain};
    let read = |provider: Provider, kind: Kind, body: &Value| {
        let body = body.to_string();
        let explanation = explain(&Question {
            provider,
            kind,
            body: body.as_bytes(),
            http_status: 200,
            requested_id: None,
            headers: None,
            path: "",
            query: "",
            settings: None,
            now: NOW,
        });
        serde_json::to_value(explanation).expect("it has nothing that JSON cannot say")
    };
    let link = "https://a.test/v.mp4";
    let kling = json!({"id": "8", "status": "succeeded", "outputs": [{"type": "video", "url": link}]});
    let kling_alone = json!({"id": "8", "status": " Succeeded ", "outputs": {"type": "video", "url": link}});
    let legacy = json!({"task_id": "8", "task_status": "failed", "task_status_msg": "risk control"});
    let v1_failed = json!({"task_id": "7", "status": "Fail", "base_resp": {"status_code": 1027, "status_msg": "no"}});
    let v1_float = json!({"task_id": 7.0, "status": "Fail", "base_resp": {"status_code": 1027.0, "status_msg": "no"}});
    let v2 = json!({"id": "7", "status": "succeeded", "content": {"url": link}});
    let kie = json!({"taskId": "6", "state": "success", "resultJson": "{\"resultUrls\":[\"https://a.test/v.mp4\"]}"});
    let apimp = json!({"task_id": "5", "status": "finished", "files": [{"file_url": link}]});
    let maxapi = json!({"taskId": "4", "status": "FAILURE", "failure_reason": "CONTENT_MODERATION"});
    let maxapi_lower = json!({"taskId": "4", "status": "failure", "failure_reason": "CONTENT_MODERATION"});
    let relaydance = json!({"task_id": "3", "status": "SUCCESS", "result_url": link});
    for (provider, kind, one, other) in [
        (Provider::Kling, Kind::Callback, kling.clone(), json!({"code": 0, "data": kling})),
        (Provider::Kling, Kind::Callback, kling.clone(), kling_alone.clone()),
        (Provider::Kling, Kind::Status, json!({"code": 0, "data": [kling]}), kling_alone),
        (Provider::Kling, Kind::Status, json!({"code": 0, "data": legacy}), legacy.clone()),
        (Provider::Kling, Kind::Submission, json!({"data": {"id": "8"}}), json!({"id": "8", "status": "submitted"})),
        (Provider::MiniMax, Kind::Status, v1_failed.clone(), v1_float.clone()),
        (Provider::Apimp, Kind::Callback, v1_failed, v1_float),
        (Provider::MiniMax, Kind::Callback, json!({"task": v2}), v2.clone()),
        (Provider::MiniMax, Kind::Status, json!({"task": v2}), v2.clone()),
        (Provider::Kie, Kind::Status, json!({"code": 200, "data": kie}), kie.clone()),
        (Provider::Kie, Kind::Callback, json!({"code": 200, "data": kie}), json!({"code": 200, "data": [kie]})),
        (Provider::Apimp, Kind::Status, json!({"code": 200, "data": apimp}), apimp.clone()),
        (Provider::MaxApi, Kind::Callback, json!({"code": 0, "data": maxapi}), json!({"data": [maxapi_lower]})),
        (Provider::RelayDance, Kind::Status, json!({"data": relaydance}), json!({"data": [relaydance]})),
    ] {
        let expected = read(provider, kind, &one);
        assert_ne!(expected["outcome"], "unparseable", "{provider} {one}");
        assert_eq!(read(provider, kind, &other), expected, "{provider} {kind:?}: {one} and {other}");
    }
}

/// A gateway's envelope, or a polite word beside a success, once read as a refusal: the task that was made would have been
/// forgotten.
#[test]
fn a_good_word_is_no_refusal() {
    for (provider, body) in [
        (Provider::Vidu, json!({"code": 0, "message": "ok", "data": {"task_id": "1"}})),
        (Provider::Vidu, json!({"code": 200, "message": "success"})),
        (Provider::Kling, json!({"code": 200, "message": "success"})),
        (Provider::Ark, json!({"error": {}})),
        (Provider::Ark, json!({"error": {"code": "", "message": null}})),
        (Provider::MiniMax, json!({"message": "ok"})),
        (Provider::MiniMax, json!({"code": 0, "message": "accepted (7)", "data": {"task_id": "1"}})),
    ] {
        let body = body.to_string();
        let answer = Answer { status: 200, retry_after: None, body: body.as_bytes() };
        let read = provider.adapter().read_submission(&answer);
        assert!(matches!(read, SubmissionAnswer::Unclear(_)), "{provider} reads {body} as {read:?}");
    }
}
