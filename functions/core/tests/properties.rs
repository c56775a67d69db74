//! Whatever the bytes, no adapter panics, everything it reads is bounded, and no unsigned callback is authentic.

use std::fs;
use std::path::PathBuf;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use reelhook_core::explain::{BodyKind, ReceivedBody, Verdict, explain, explain_line};
use reelhook_core::providers::adapter::ProviderResponse;
use reelhook_core::redacted::Secret;
use reelhook_core::report::Source;
use reelhook_core::request::{CallbackRequest, Headers};
use reelhook_core::settings::ProviderSettings;
use reelhook_core::{Provider, Timestamp};
use serde_json::{Value, json};

const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

/// Fields that adapters read, so that arbitrary JSON reaches their later branches.
const NAMES: &[&str] = &[
    "id",
    "task_id",
    "taskId",
    "status",
    "task_status",
    "state",
    "successFlag",
    "data",
    "task",
    "code",
    "message",
    "msg",
    "error",
    "type",
    "outputs",
    "url",
    "urls",
    "result",
    "result_url",
    "task_result",
    "videos",
    "images",
    "audios",
    "content",
    "video_url",
    "image_url",
    "last_frame_url",
    "creations",
    "cover_url",
    "watermarked_url",
    "watermark_url",
    "files",
    "file_url",
    "file_id",
    "base_resp",
    "status_code",
    "status_msg",
    "challenge",
    "metadata",
    "progress",
    "expires_at",
    "updated_at",
    "update_time",
    "completed",
    "completeTime",
    "finish_time",
    "failure_reason",
    "fail_reason",
    "err_code",
    "failCode",
    "failMsg",
    "resultJson",
    "resultUrls",
    "originUrls",
    "info",
    "response",
    "videoInfo",
    "expireFlag",
    "items",
    "tasks",
    "flagged",
    "ResponseMetadata",
    "Error",
    "Code",
    "task_type",
    "thumbnail_url",
    "file",
    "download_url",
];

/// Texts with a meaning for some adapter.
const TEXTS: &[&str] = &[
    "",
    "submitted",
    "succeed",
    "succeeded",
    "SUCCESS",
    "success",
    "completed",
    "finished",
    "failed",
    "FAILURE",
    "fail",
    "expired",
    "cancelled",
    "TIMEOUT",
    "running",
    "video",
    "image",
    "https://a.test/v.mp4",
    "/f/v.mp4",
    "cgt-1",
    "task_1",
    "1026",
    "100%",
    "2026-02-26T07:42:43Z",
    "{\"resultUrls\":[\"https://a.test/v.mp4\"]}",
    "h3_context_ir",
    "é\u{0}\u{1f600}",
    "https://a.test/v?X-Amz-Date=99999999T999999Z&X-Amz-Expires=4294967295",
    "https://a.test/v?Expires=99999999999",
];

fn arbitrary_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        select(vec![0, 1, 2, 4, 200, 400, 404, 1201, 1_767_225_720, 1_767_225_720_000_i64]).prop_map(Value::from),
        select(TEXTS).prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 8, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            vec((select(NAMES), inner.clone()), 0..8)
                .prop_map(|fields| fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
            vec((".{0,8}", inner), 0..4).prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

fn any_provider() -> impl Strategy<Value = Provider> {
    select(Provider::ALL.to_vec())
}

/// Reads a body as everything it may be and checks the invariants of the results.
fn read_every_way(provider: Provider, body: &[u8], http_status: u16, requested_id: Option<&str>) {
    for kind in [BodyKind::Callback, BodyKind::Status, BodyKind::Submission] {
        let settings = ProviderSettings {
            signing_secrets: vec![Secret::new("whsec_dGVzdHNlY3JldHRlc3RzZWNyZXR0ZXN0c2VjcmV0MTI=")],
            ..ProviderSettings::default()
        };
        let explanation = explain(&ReceivedBody {
            provider,
            kind,
            body,
            http_status,
            requested_id,
            headers: None,
            path: "/callback",
            query: "",
            settings: Some(&settings),
            now: NOW,
        });
        assert_ne!(explanation.authentic, Some(Value::Bool(true)), "nothing was signed");
        assert_eq!(explanation.reason.is_some(), explanation.retryable.is_some());
        assert_eq!(explanation.response.is_some(), explanation.outcome == Verdict::Handshake);
        assert!(explanation.outcome != Verdict::Failed || explanation.reason.is_some());
        assert!(explanation.artifacts.len() <= 50);
        for artifact in &explanation.artifacts {
            match &artifact.source {
                Source::Url(url) | Source::Authorized(url) => {
                    assert!(url.host().is_some() && url.expose().len() <= 8192);
                }
                Source::FileId(id) => assert!(!id.is_empty() && id.len() <= 1024),
            }
        }
        for text in [&explanation.code, &explanation.message].into_iter().flatten() {
            assert!(text.chars().count() <= 1000);
        }
        if kind != BodyKind::Status {
            assert!(explanation.provider_task_id.is_none_or(|id| !id.is_empty() && id.len() <= 1024));
        }
    }
    // May return anything, but must not panic.
    let _ = provider.adapter().read_resolution(&ProviderResponse::new(http_status, body), NOW);
}

/// All bodies under `events/providers/`, with their providers.
fn real_bodies() -> Vec<(Provider, Vec<u8>)> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../events/providers");
    let mut bodies = Vec::new();
    for provider in Provider::ALL {
        for file in fs::read_dir(root.join(provider.name())).expect("a folder per provider") {
            let text = fs::read_to_string(file.expect("the folder can be listed").path()).expect("a fixture");
            let fixture: Value = serde_json::from_str(&text).expect("a fixture is JSON");
            let body = fixture["raw"].as_str().map_or_else(|| fixture["body"].to_string(), str::to_owned);
            bodies.push((provider, body.into_bytes()));
        }
    }
    bodies
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_are_read(provider in any_provider(), body in vec(any::<u8>(), 0..300), status in 0..700_u16) {
        read_every_way(provider, &body, status, Some("1"));
    }

    #[test]
    fn arbitrary_json_is_read(provider in any_provider(), body in arbitrary_json(), status in select(vec![200, 202, 400, 404, 429, 500])) {
        let body = body.to_string();
        read_every_way(provider, body.as_bytes(), status, Some("task_1"));
        read_every_way(provider, body.as_bytes(), status, None);
    }

    #[test]
    fn arbitrary_lines_are_explained(line in ".{0,200}", body in arbitrary_json(), provider in any_provider()) {
        prop_assert!(explain_line(&line, None, NOW).is_err());
        let line = json!({"provider": provider.name(), "kind": "callback", "body": body, "more": 1}).to_string();
        prop_assert!(explain_line(&line, None, NOW).is_ok());
    }

    /// Plausible headers with wrong values, over arbitrary bodies.
    #[test]
    fn arbitrary_headers_never_authenticate(
        body in arbitrary_json(),
        values in vec(prop_oneof![
            select(vec![
                "1767225600", "v1,", "v1,AAAA", "hmac-sha256", "vidu", "x-request-nonce", "Date;x-request-nonce",
                "Thu, 01 Jan 2026 00:00:00 GMT", "d/ktFCylHqthXqv0u5cfTgYwg8tOTTAdZl3LKuog+Ik=", "",
            ]).prop_map(str::to_owned),
            ".{0,60}",
            "v1,[A-Za-z0-9+/]{43}=",
            "[A-Za-z0-9+/]{43}=",
        ], 11),
        path in "/[a-z/]{0,20}",
    ) {
        let names = [
            "webhook-id", "webhook-timestamp", "webhook-signature", "x-hmac-signature", "x-hmac-algorithm",
            "x-hmac-signed-headers", "date", "x-request-nonce", "x-webhook-timestamp", "x-webhook-signature", "x-amzn-remapped-date",
        ];
        let headers: Vec<(&str, &str)> = names.into_iter().zip(values.iter().map(String::as_str)).collect();
        let body = body.to_string();
        for (provider, secret) in [
            (Provider::Kling, "whsec_dGVzdHNlY3JldHRlc3RzZWNyZXR0ZXN0c2VjcmV0MTI="),
            (Provider::Vidu, "vda_test_secret"),
            (Provider::Kie, "test_webhook_hmac_key"),
        ] {
            let settings =
                ProviderSettings { signing_secrets: vec![Secret::new(secret)], ..ProviderSettings::default() };
            let request = CallbackRequest {
                path: &path,
                query: "",
                headers: Headers::new(headers.iter().copied()),
                body: body.as_bytes(),
            };
            prop_assert!(provider.adapter().authenticate(&request, &settings, NOW).is_err());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Real bodies with a few bytes changed or cut off, and read by every other adapter too.
    #[test]
    fn damaged_bodies_are_read(
        changes in vec((any::<Index>(), any::<u8>()), 0..4),
        which in any::<Index>(),
        cut in any::<Index>(),
        status in select(vec![200, 400, 404, 500]),
    ) {
        let bodies = real_bodies();
        let (provider, body) = which.get(&bodies);
        let mut damaged = body.clone();
        for (place, byte) in changes {
            if !damaged.is_empty() {
                let place = place.index(damaged.len());
                damaged[place] = byte;
            }
        }
        read_every_way(*provider, &damaged, status, None);
        for other in Provider::ALL {
            read_every_way(other, body, status, None);
        }
        damaged.truncate(cut.index(damaged.len() + 1));
        read_every_way(*provider, &damaged, status, None);
    }
}

/// Bodies that are expensive to read: deep, wide, and as long as a callback may be.
#[test]
fn hostile_bodies_are_read_quickly() {
    let longest = reelhook_core::request::MAX_BODY;
    let deep = "[".repeat(longest);
    let deep_objects = r#"{"data":"#.repeat(longest / 8);
    let wide = format!("[{}0]", "0,".repeat(longest / 2 - 2));
    let url = r#""https://a.test/v.mp4","#;
    let list = format!("[{}0]", url.repeat(longest / url.len() - 20));
    let many_urls = format!(r#"{{"data":{{"taskId":"1","status":"SUCCESS","result":{{"urls":{list}}}}}}}"#);
    let long_text = format!(r#"{{"id":"1","status":"failed","message":"{}"}}"#, "x".repeat(longest - 100));
    let started = std::time::Instant::now();
    for body in [deep, deep_objects, wide, many_urls, long_text] {
        assert!(body.len() <= longest);
        for provider in Provider::ALL {
            read_every_way(provider, body.as_bytes(), 200, None);
        }
    }
    // 135 readings. A quadratic step over 2 MiB would take hours; the bound is wide for slow machines.
    assert!(started.elapsed().as_secs() < 120, "{:?}", started.elapsed());
}
