//! How the adapters read what has no file under `events/providers/`.

use std::time::Duration;

use serde_json::{Value, json};

use super::NOW;
use crate::provider::Provider;
use crate::providers::adapter::{
    BodyTrust, CallbackBody, HintReason, ProviderResponse, StatusResult, SubmissionResult,
};
use crate::report::{Failure, Reason, Report, TaskStatus};
use crate::time::Timestamp;

#[test]
fn fresh_links_are_read() {
    let read = |provider: Provider, status: u16, body: &str| {
        let response = ProviderResponse::new(status, body.as_bytes());
        provider.adapter().read_resolution(&response, NOW)
    };
    // The sample of MiniMax's download page.
    let sample = r#"{"file":{"file_id":335560631603474,"bytes":0,"created_at":1763477381,"filename":"output_aigc.mp4","purpose":"video_generation","download_url":"https://public-cdn-video-data-algeng.oss-cn-wulanchabu.aliyuncs.com/inference_output%2Fvideo%2Foutput_aigc.mp4?Expires=1763510682&OSSAccessKeyId=k&Signature=s"},"base_resp":{"status_code":0,"status_msg":"success"}}"#;
    let link = read(Provider::MiniMax, 200, sample).expect("a link");
    assert!(link.url.expose().ends_with("output_aigc.mp4?Expires=1763510682&OSSAccessKeyId=k&Signature=s"));
    assert_eq!(link.expires_at.map(Timestamp::seconds), Some(1_763_510_682));

    let bare =
        r#"{"file":{"download_url":"https://video-product.cdn.minimax.io/a.mp4"},"base_resp":{"status_code":0}}"#;
    let link = read(Provider::MiniMax, 200, bare).expect("a link");
    assert_eq!(link.expires_at, Some(NOW + Duration::from_hours(1)));

    let refused = read(Provider::MiniMax, 200, r#"{"base_resp":{"status_code":1004,"status_msg":"login fail"}}"#);
    assert_eq!(refused, Err(Failure::new(Reason::Unknown, false).code("1004").message("login fail")));

    let link = read(Provider::Kie, 200, r#"{"code":200,"msg":"success","data":"https://tempfile.test/a.mp4?x=1"}"#);
    let link = link.expect("a link");
    assert_eq!(
        (link.url.expose(), link.expires_at),
        ("https://tempfile.test/a.mp4?x=1", Some(NOW + Duration::from_mins(20)))
    );

    let refused = read(Provider::Kie, 200, r#"{"code":422,"msg":"not a KIE url","data":null}"#);
    assert_eq!(refused, Err(Failure::new(Reason::InvalidParameters, false).code("422").message("not a KIE url")));
    for provider in [Provider::MiniMax, Provider::Kie, Provider::Ark] {
        assert_eq!(read(provider, 503, "<html>").expect_err("no link").reason, Reason::ProviderError);
        let nothing = read(provider, 200, "{}");
        assert!(nothing.is_err(), "{provider}");
    }
}

#[test]
fn a_refused_status_request_keeps_its_retry_after_and_fails_no_task() {
    for provider in Provider::ALL {
        for (status, body) in [(429, "{}"), (429, "<html>"), (503, ""), (401, "null"), (500, r#"{"x":1}"#)] {
            let retry_after = Some(Duration::from_secs(17));
            let response = ProviderResponse { retry_after, ..ProviderResponse::new(status, body) };
            match provider.adapter().read_status(&response, "1", NOW) {
                StatusResult::Refused { retry_after, .. } => assert_eq!(retry_after, Some(Duration::from_secs(17))),
                other => panic!("{provider} reads {status} {body} as {other:?}"),
            }
        }
        let response = ProviderResponse::new(404, "");
        assert_eq!(provider.adapter().read_status(&response, "1", NOW), StatusResult::NotFound, "{provider}");
    }
}

#[test]
fn a_submission_that_may_have_created_a_task_is_never_refused() {
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
            let response = ProviderResponse::new(status, body.as_bytes());
            let read = provider.adapter().read_submission(&response);
            assert!(matches!(read, SubmissionResult::Unclear(_)), "{provider} reads {status} {body} as {read:?}");
        }
        for status in [400, 401, 402, 403, 404, 413, 422, 429] {
            let response = ProviderResponse::new(status, "<html>no");
            let read = provider.adapter().read_submission(&response);
            assert!(matches!(read, SubmissionResult::Refused(_)), "{provider} reads {status} as {read:?}");
        }
    }
}

#[test]
fn no_body_makes_a_record_too_large() {
    let link = |number: usize| format!("https://file.test/{number}/{}", "x".repeat(1000));
    let links: Vec<String> = (0..1000).map(link).collect();
    let long = "y".repeat(100_000);
    for (provider, body) in [
        (Provider::MaxApi, json!({"data": {"taskId": "1", "status": "SUCCESS", "result": {"urls": links}}})),
        (Provider::ApiMart, json!({"id": "1", "status": "completed", "result": {"videos": [{"url": links}]}})),
    ] {
        let body = provider.adapter().read_callback(body.to_string().as_bytes(), NOW);
        let CallbackBody::Task { task_status: TaskStatus::Finished(report), .. } = body else { panic!("{body:?}") };
        let Report::Succeeded { artifacts, .. } = report else { panic!("{report:?}") };
        assert_eq!(artifacts.len(), 50);
    }
    let body = json!({"id": long, "status": "succeeded", "outputs": []}).to_string();
    assert_eq!(Provider::Kling.adapter().read_callback(body.as_bytes(), NOW), CallbackBody::Unreadable);
    let body = json!({"id": "1", "status": "failed", "message": long}).to_string();
    let CallbackBody::Task { task_status: TaskStatus::Finished(Report::Failed(failure)), .. } =
        Provider::Kling.adapter().read_callback(body.as_bytes(), NOW)
    else {
        panic!("not read as a failure")
    };
    assert_eq!(failure.message.expect("a message").len(), 1000);
}

#[test]
fn only_links_that_can_be_fetched_are_accepted() {
    let body = |url: &str| {
        json!({"id": "cgt-1", "status": "succeeded", "content": {"video_url": url}}).to_string().into_bytes()
    };
    let no_result = CallbackBody::Task {
        provider_task_id: Some("cgt-1".into()),
        task_status: TaskStatus::succeeded(vec![]),
        trust: BodyTrust::Hint(HintReason::NoResult),
    };
    for url in ["", "pending", "/a.mp4", "ftp://a/b", "file:///etc/passwd", "javascript:0", "https://", "//a/b"] {
        assert_eq!(Provider::Ark.adapter().read_callback(&body(url), NOW), no_result, "{url}");
    }
    let long = format!("https://a/{}", "x".repeat(9000));
    assert_eq!(Provider::Ark.adapter().read_callback(&body(&long), NOW), no_result);
}

/// A success with a cover and an empty link once ended the task without its video.
#[test]
fn a_cover_or_a_last_frame_alone_is_not_a_result() {
    let picture = "https://a.test/p.png";
    for (provider, body) in [
        (Provider::Ark, json!({"id": "1", "status": "succeeded", "content": {"last_frame_url": picture}})),
        (Provider::Vidu, json!({"id": "1", "state": "success", "creations": [{"url": "", "cover_url": picture}]})),
    ] {
        let body = body.to_string();
        let read = provider.adapter().read_callback(body.as_bytes(), NOW);
        assert!(
            matches!(read, CallbackBody::Task { trust: BodyTrust::Hint(HintReason::NoResult), .. }),
            "{provider} reads {body} as {read:?}"
        );
        let response = ProviderResponse::new(200, body.as_bytes());
        let read = provider.adapter().read_status(&response, "1", NOW);
        assert_eq!(read, StatusResult::Task(TaskStatus::open()), "{provider}");
    }
    let watermarked =
        json!({"id": "1", "status": "succeeded", "outputs": [{"type": "video", "watermark_url": picture}]});
    let read = Provider::Kling.adapter().read_callback(watermarked.to_string().as_bytes(), NOW);
    assert!(matches!(read, CallbackBody::Task { trust: BodyTrust::Report, .. }), "{read:?}");
}

#[test]
fn profiles_are_sensible() {
    for provider in Provider::ALL {
        let profile = provider.adapter().profile();
        assert!(profile.link_life >= Duration::from_hours(1), "{provider}");
        assert!(
            profile.first_poll >= Duration::from_secs(5) && profile.poll_interval >= Duration::from_secs(5),
            "{provider}"
        );
        assert!(profile.poll_interval <= profile.max_poll_interval, "{provider}");
        assert!(profile.max_poll_interval <= profile.deadline / 10, "{provider}");
        let mut texts = vec![profile.title, profile.confirmed, profile.unconfirmed];
        if let Some(callbacks) = profile.callbacks {
            assert!((1..=15).contains(&callbacks.response_timeout.as_secs()), "{provider}");
            texts.extend([callbacks.verified, callbacks.retries]);
        }
        for text in texts {
            assert!(!text.is_empty() && !text.contains('|'), "{provider}: {text:?} has to fit into a table");
        }
        assert!(
            serde_json::from_str::<Value>(provider.adapter().acknowledgement()).is_ok_and(|value| value.is_object())
        );
    }
}

/// What gateways and older versions of an API do to a body: add or drop the envelope, unwrap a list of one, turn numbers into
/// floats, surround words with blanks.
#[test]
fn variants_of_a_body_mean_the_same() {
    use crate::explain::{BodyKind, ReceivedBody, explain};
    let read = |provider: Provider, kind: BodyKind, body: &Value| {
        let body = body.to_string();
        let explanation = explain(&ReceivedBody {
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
        serde_json::to_value(explanation).expect("an explanation serialises")
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
        (Provider::Kling, BodyKind::Callback, kling.clone(), json!({"code": 0, "data": kling})),
        (Provider::Kling, BodyKind::Callback, kling.clone(), kling_alone.clone()),
        (Provider::Kling, BodyKind::Status, json!({"code": 0, "data": [kling]}), kling_alone),
        (Provider::Kling, BodyKind::Status, json!({"code": 0, "data": legacy}), legacy.clone()),
        (
            Provider::Kling,
            BodyKind::Submission,
            json!({"data": {"id": "8"}}),
            json!({"id": "8", "status": "submitted"}),
        ),
        (Provider::MiniMax, BodyKind::Status, v1_failed.clone(), v1_float.clone()),
        (Provider::Apimp, BodyKind::Callback, v1_failed, v1_float),
        (Provider::MiniMax, BodyKind::Callback, json!({"task": v2}), v2.clone()),
        (Provider::MiniMax, BodyKind::Status, json!({"task": v2}), v2.clone()),
        (Provider::Kie, BodyKind::Status, json!({"code": 200, "data": kie}), kie.clone()),
        (Provider::Kie, BodyKind::Callback, json!({"code": 200, "data": kie}), json!({"code": 200, "data": [kie]})),
        (Provider::Apimp, BodyKind::Status, json!({"code": 200, "data": apimp}), apimp.clone()),
        (Provider::MaxApi, BodyKind::Callback, json!({"code": 0, "data": maxapi}), json!({"data": [maxapi_lower]})),
        (Provider::RelayDance, BodyKind::Status, json!({"data": relaydance}), json!({"data": [relaydance]})),
    ] {
        let expected = read(provider, kind, &one);
        assert_ne!(expected["outcome"], "unparseable", "{provider} {one}");
        assert_eq!(read(provider, kind, &other), expected, "{provider} {kind:?}: {one} and {other}");
    }
}

/// A gateway's envelope or a polite message once turned a success into a refusal, and the task would have been forgotten.
#[test]
fn a_polite_message_is_not_a_refusal() {
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
        let response = ProviderResponse::new(200, body.as_bytes());
        let read = provider.adapter().read_submission(&response);
        assert!(matches!(read, SubmissionResult::Unclear(_)), "{provider} reads {body} as {read:?}");
    }
}

#[test]
fn a_page_of_kling_tasks_is_a_list() {
    let kling = Provider::Kling.adapter();
    let task = |id: &str, status: &str| json!({"id": id, "status": status, "message": "words"});
    let tasks = [task("1", "processing"), task("2", "failed")];
    let body = json!({"code": 0, "data": {"result": tasks, "count": 2, "has_more": false}}).to_string();
    let response = ProviderResponse::new(200, body.as_bytes());
    assert_eq!(kling.status_id(&response).as_deref(), Some("1"));
    assert_eq!(kling.read_status(&response, "1", NOW), StatusResult::Task(TaskStatus::open()));
    let failed = TaskStatus::failed(Failure::new(Reason::ProviderError, false).message("words"));
    assert_eq!(kling.read_status(&response, "2", NOW), StatusResult::Task(failed));
    assert_eq!(kling.read_status(&response, "3", NOW), StatusResult::NotFound);
}

#[test]
fn kling_tasks_are_found_by_the_callers_own_id_too() {
    let kling = Provider::Kling.adapter();
    let new = json!([{"id": "1", "external_id": "job-1", "status": "processing"}]);
    let legacy = json!({"task_id": "1", "task_info": {"external_task_id": "job-1"}, "task_status": "processing"});
    for data in [new, legacy] {
        let body = json!({"code": 0, "data": data}).to_string();
        let response = ProviderResponse::new(200, body.as_bytes());
        for id in ["1", "job-1"] {
            assert_eq!(kling.read_status(&response, id, NOW), StatusResult::Task(TaskStatus::open()), "{id} {body}");
        }
        assert!(!matches!(kling.read_status(&response, "job-2", NOW), StatusResult::Task(_)), "{body}");
    }
}
