use std::time::Duration;

use super::*;

/// Secret, id, timestamp, body and signature of published test vectors.
const VECTORS: [(&str, &str, &str, &str, &str); 3] = [
    // Tests of the Standard Webhooks reference libraries.
    (
        "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
        "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
        "1649367553",
        r#"{"email":"test@example.com","username":"test_user"}"#,
        "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
    ),
    (
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "1614265330",
        r#"{"test": 2432232314}"#,
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    ),
    // Kling's callback page.
    (
        "whsec_dGVzdHNlY3JldHRlc3RzZWNyZXR0ZXN0c2VjcmV0MTI=",
        "9876543210",
        "1781080794",
        r#"{"id":"1234567890","status":"succeeded","message":"","create_time":1781080778802,"update_time":1781080794151}"#,
        "v1,UsKlJP00XoQyOn410NM9xv34sP+Gl0jnOO9Lcpr7NJ4=",
    ),
];

fn verify(secret: &str, id: &str, timestamp: &str, body: &str, signature: &str, now: i64) -> Result<(), Refusal> {
    let headers =
        Headers::new([("Webhook-Id", id), ("WEBHOOK-TIMESTAMP", timestamp), ("webhook-signature", signature)]);
    standard_webhooks(&headers, body.as_bytes(), &[Secret::new(secret)], Timestamp::from_seconds(now))
}

#[test]
fn published_vectors_pass() {
    for (secret, id, timestamp, body, signature) in VECTORS {
        let now = timestamp.parse().expect("a number");
        assert_eq!(verify(secret, id, timestamp, body, signature, now), Ok(()));
        let bare = secret.strip_prefix("whsec_").expect("it has the prefix");
        assert_eq!(verify(bare, id, timestamp, body, signature, now + 300), Ok(()));
        let rotated = format!("v2,{} v1,bad {signature}", &signature[3..]);
        assert_eq!(verify(secret, id, timestamp, body, &rotated, now), Ok(()));
    }
}

/// Computed, because the worked example on `WaveSpeed`'s own page does not verify under any reading.
#[test]
fn wavespeeds_scheme_is_not_standard_webhooks() {
    let (secret, now) = ("whsec_made_up_wavespeed_secret_0001", 1_790_000_000);
    let id = "0123456789abcdef0123456789abcdef";
    let body = r#"{"id":"0123456789abcdef0123456789abcdef","status":"completed","outputs":["https://d2p7pge43lyniu.cloudfront.net/output/made-up.mp4"],"error":""}"#;
    let right = "9d96be4e858c5b7d4b3c1c587754d1eba38fcdab54d5f68ed009726edbd41e2b";
    let verify = |signature: &str, body: &str, time: &str, now: i64, secret: &str| {
        let headers = [("webhook-id", id), ("webhook-timestamp", time), ("webhook-signature", signature)];
        let secrets = [Secret::new("whsec_another"), Secret::new(secret)];
        wavespeed_hmac(&Headers::new(headers), body.as_bytes(), &secrets, Timestamp::from_seconds(now))
    };
    let time = "1790000000";
    let good = format!("v3,{right}");
    for signature in [good.clone(), format!("v3,00 {good}"), format!("v4,{right} {good}")] {
        assert_eq!(verify(&signature, body, time, now, secret), Ok(()), "{signature}");
    }
    let with_prefix = "v3,acb1ea54cb69d09ba279c5ca232659c35370328025ee03a1ecf33224beabccf3";
    let as_base64 = format!("v3,{}", STANDARD.encode(hex::decode(right).expect("hexadecimal")));
    for wrong in [with_prefix, &as_base64, &format!("v1,{right}"), right, &good.to_uppercase(), "v3,", ""] {
        assert_eq!(verify(wrong, body, time, now, secret), Err(Refusal::WrongSignature), "{wrong}");
    }
    assert_eq!(verify(&good, &format!("{body} "), time, now, secret), Err(Refusal::WrongSignature));
    assert!(matches!(verify(&good, body, time, now + 301, secret), Err(Refusal::Stale { .. })));
    assert!(matches!(verify(&good, body, time, now - 301, secret), Err(Refusal::FromTheFuture { .. })));
    assert_eq!(verify(&good, body, "1790000001", now, secret), Err(Refusal::WrongSignature));
    assert_eq!(verify(&good, body, time, now, "whsec_"), Err(Refusal::UnusableSecret));
}

#[test]
fn everything_else_is_refused() {
    let (secret, id, timestamp, body, signature) = VECTORS[0];
    let now: i64 = timestamp.parse().expect("a number");
    let cut = &signature[..13];
    let second_version = format!("v2,{}", &signature[3..]);
    for wrong in ["", "v1,", "v1", cut, second_version.as_str(), &signature[3..]] {
        assert_eq!(verify(secret, id, timestamp, body, wrong, now), Err(Refusal::WrongSignature), "{wrong}");
    }
    let spaced = format!("{body} ");
    assert_eq!(verify(secret, id, timestamp, &spaced, signature, now), Err(Refusal::WrongSignature));
    assert_eq!(verify(secret, "msg_other", timestamp, body, signature, now), Err(Refusal::WrongSignature));
    assert_eq!(
        verify(secret, id, timestamp, body, signature, now + 301),
        Err(Refusal::Stale { age: Duration::from_secs(301) })
    );
    assert_eq!(
        verify(secret, id, timestamp, body, signature, now - 301),
        Err(Refusal::FromTheFuture { ahead: Duration::from_secs(301) })
    );
    assert_eq!(verify(secret, id, "1.5", body, signature, now), Err(Refusal::Malformed("webhook-timestamp")));
    assert_eq!(verify("whsec_", id, timestamp, body, signature, now), Err(Refusal::UnusableSecret));
    let unsigned = Headers::new([("webhook-id", id), ("webhook-timestamp", timestamp)]);
    let refused = standard_webhooks(&unsigned, body.as_bytes(), &[Secret::new(secret)], Timestamp::from_seconds(now));
    assert_eq!(refused, Err(Refusal::Missing("webhook-signature")));
}

#[test]
fn either_of_two_secrets_is_valid_during_a_rotation() {
    let (secret, id, timestamp, body, signature) = VECTORS[0];
    let headers =
        Headers::new([("webhook-id", id), ("webhook-timestamp", timestamp), ("webhook-signature", signature)]);
    let now = Timestamp::from_seconds(timestamp.parse().expect("a number"));
    let secrets = [Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), Secret::new(secret)];
    assert_eq!(standard_webhooks(&headers, body.as_bytes(), &secrets, now), Ok(()));
}

const DATE: &str = "Tue, 06 May 2025 12:09:42 GMT";
const DATE_SECONDS: i64 = 1_746_533_382;
const NONCE: &str = "123e4567-e89b-12d3-a456-426614174000";

/// The example on Vidu's page, with signatures computed for it: secret, query, signed headers, signature.
const APISIX_VECTORS: [(&str, &str, &str, &str); 4] = [
    ("vda_test_secret", "name=james&age=36", "Date;x-request-nonce", "NPh3qkvh2qDB3e8NbcSL4lpYvLveDSUkfJug6u/K46g="),
    ("vda_test_secret", "", "Date;x-request-nonce", "Hx+xkVLN7fTt0KPIU7g+KzJuvtoLExuzNxuqqdDrmc0="),
    ("vda_test_secret", "", "x-request-nonce", "QpFj0GszzzzjXjcnhCexjDTMhU2SQSQov5z1Q35FZeU="),
    ("vda_test_token", "name=james&age=36", "Date;x-request-nonce", "UaF2428J2BgkBzPJa4M0McqJGOlQGXJ6UXuQZnsbcsk="),
];

fn apisix_headers<'a>(signed: &'a str, signature: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("X-HMAC-SIGNATURE", signature),
        ("X-HMAC-ALGORITHM", "hmac-sha256"),
        ("X-HMAC-ACCESS-KEY", "vidu"),
        ("X-HMAC-SIGNED-HEADERS", signed),
        ("Date", DATE),
        ("x-request-nonce", NONCE),
    ]
}

fn verify_apisix(headers: &[(&str, &str)], path: &str, query: &str, secrets: &[&str], now: i64) -> Result<(), Refusal> {
    let headers = Headers::new(headers.iter().copied());
    let request = CallbackRequest { path, query, headers, body: b"not covered" };
    let secrets: Vec<Secret> = secrets.iter().map(|secret| Secret::new(*secret)).collect();
    apisix_hmac(&request, "vidu", &secrets, Timestamp::from_seconds(now))
}

#[test]
fn apisix_vectors_pass() {
    for (secret, query, signed, signature) in APISIX_VECTORS {
        let headers = apisix_headers(signed, signature);
        for now in [DATE_SECONDS - 300, DATE_SECONDS, DATE_SECONDS + 300] {
            assert_eq!(verify_apisix(&headers, "/vidu/callback", query, &[secret], now), Ok(()), "{signed}");
        }
        let both = ["another", secret];
        assert_eq!(verify_apisix(&headers, "/vidu/callback", query, &both, DATE_SECONDS), Ok(()));
        let renamed: Vec<_> = headers
            .iter()
            .map(|(name, value)| if *name == "Date" { ("X-Amzn-Remapped-Date", *value) } else { (*name, *value) })
            .collect();
        assert_eq!(verify_apisix(&renamed, "/vidu/callback", query, &[secret], DATE_SECONDS), Ok(()));
    }
}

#[test]
fn every_other_apisix_signature_is_refused() {
    let (secret, query, signed, signature) = APISIX_VECTORS[0];
    let path = "/vidu/callback";
    let good = apisix_headers(signed, signature);
    let verify = |headers: &[(&str, &str)]| verify_apisix(headers, path, query, &[secret], DATE_SECONDS);
    let wrong = Err(Refusal::WrongSignature);
    assert_eq!(verify_apisix(&good, "/vidu/callbacl", query, &[secret], DATE_SECONDS), wrong);
    assert_eq!(verify_apisix(&good, "", query, &[secret], DATE_SECONDS), wrong);
    assert_eq!(verify_apisix(&good, path, "name=james&age=37", &[secret], DATE_SECONDS), wrong);
    assert_eq!(verify_apisix(&good, path, "", &[secret], DATE_SECONDS), wrong);
    assert_eq!(verify_apisix(&good, path, query, &["vda_test_secreu"], DATE_SECONDS), wrong);
    assert_eq!(verify_apisix(&good, path, query, &[], DATE_SECONDS), wrong);
    assert_eq!(verify_apisix(&good, path, query, &[""], DATE_SECONDS), Err(Refusal::UnusableSecret));
    let off = Duration::from_secs(301);
    let at = |seconds| verify_apisix(&good, path, query, &[secret], seconds);
    assert_eq!(at(DATE_SECONDS + 301), Err(Refusal::Stale { age: off }));
    assert_eq!(at(DATE_SECONDS - 301), Err(Refusal::FromTheFuture { ahead: off }));
    let replaced = |name: &str, value: &'static str| -> Vec<(&str, &str)> {
        good.iter().map(|(key, old)| (*key, if key.eq_ignore_ascii_case(name) { value } else { old })).collect()
    };
    for (name, value, expected) in [
        ("x-request-nonce", "123e4567-e89b-12d3-a456-426614174001", Refusal::WrongSignature),
        ("date", "Tue, 06 May 2025 12:09:43 GMT", Refusal::WrongSignature),
        ("date", "yesterday", Refusal::Malformed("date")),
        ("date", "Tue, 06 May 1969 12:09:43 GMT", Refusal::Malformed("date")),
        ("x-hmac-signature", "", Refusal::WrongSignature),
        ("x-hmac-signature", "NPh3qkvh2qDB3e8N", Refusal::WrongSignature),
        ("x-hmac-algorithm", "hmac-sha1", Refusal::Malformed("x-hmac-algorithm")),
        ("x-hmac-signed-headers", "Date", Refusal::Malformed("x-hmac-signed-headers")),
        ("x-hmac-signed-headers", "", Refusal::Malformed("x-hmac-signed-headers")),
        ("x-hmac-signed-headers", "x-request-nonce;other", Refusal::Malformed("x-hmac-signed-headers")),
        ("x-hmac-signed-headers", "x-request-nonce;Date", Refusal::WrongSignature),
        ("x-hmac-signed-headers", "date;x-request-nonce", Refusal::WrongSignature),
    ] {
        assert_eq!(verify(&replaced(name, value)), Err(expected), "{name}: {value}");
    }
    for name in ["x-hmac-signature", "x-hmac-algorithm", "x-hmac-signed-headers", "date", "x-request-nonce"] {
        let without: Vec<_> = good.iter().copied().filter(|(key, _)| !key.eq_ignore_ascii_case(name)).collect();
        assert_eq!(verify(&without), Err(Refusal::Missing(name)));
    }
}

/// Computed with KIE's formula: key, id, timestamp, signature.
const KIE_VECTOR: (&str, &str, &str, &str) = (
    "test_webhook_hmac_key",
    "ee603959-debb-48d1-98c4-a6d1c717eba6",
    "1754300000",
    "d/ktFCylHqthXqv0u5cfTgYwg8tOTTAdZl3LKuog+Ik=",
);

fn verify_kie(timestamp: &str, signature: &str, id: Option<&str>, keys: &[&str], now: i64) -> Result<(), Refusal> {
    let headers = Headers::new([("X-Webhook-Timestamp", timestamp), ("X-Webhook-Signature", signature)]);
    let keys: Vec<Secret> = keys.iter().map(|key| Secret::new(*key)).collect();
    kie_hmac(&headers, id, &keys, Timestamp::from_seconds(now))
}

#[test]
fn the_kie_vector_passes_and_nothing_else() {
    let (key, id, timestamp, signature) = KIE_VECTOR;
    let now = 1_754_300_000;
    for distance in [-300, 0, 300] {
        assert_eq!(verify_kie(timestamp, signature, Some(id), &["another", key], now + distance), Ok(()));
    }
    let wrong = Err(Refusal::WrongSignature);
    assert_eq!(verify_kie(timestamp, signature, Some(&id.replace('6', "7")), &[key], now), wrong);
    assert_eq!(verify_kie(timestamp, signature, None, &[key], now), wrong);
    assert_eq!(verify_kie(timestamp, signature, Some(id), &["another"], now), wrong);
    assert_eq!(verify_kie(timestamp, signature, Some(id), &[], now), wrong);
    assert_eq!(verify_kie("1754300001", signature, Some(id), &[key], now), wrong);
    assert_eq!(verify_kie(timestamp, &signature[..43], Some(id), &[key], now), wrong);
    assert_eq!(verify_kie(timestamp, "", Some(id), &[key], now), wrong);
    assert_eq!(verify_kie(timestamp, signature, Some(id), &[""], now), Err(Refusal::UnusableSecret));
    assert_eq!(
        verify_kie(timestamp, signature, Some(id), &[key], now + 301),
        Err(Refusal::Stale { age: Duration::from_secs(301) })
    );
    let malformed = Err(Refusal::Malformed("x-webhook-timestamp"));
    assert_eq!(verify_kie("1754300000.0", signature, Some(id), &[key], now), malformed);
    let headers = Headers::new([("x-webhook-timestamp", timestamp)]);
    let unsigned = kie_hmac(&headers, Some(id), &[Secret::new(key)], Timestamp::from_seconds(now));
    assert_eq!(unsigned, Err(Refusal::Missing("x-webhook-signature")));
}

/// The vectors of the document on fal: made-up key, user and tasks.
const FAL_KEY: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"Kay64UG8yvCyLhqU000LxzYeUm0L_hLIl5S8kyKWbdc"}]}"#;
const FAL_BODY: &str = r#"{"error": "Invalid status code: 422", "gateway_request_id": "7c1f0e52-9f0a-4d0a-8a3f-1f1d7c0e9a02", "payload": {"detail": [{"loc": ["body", "prompt"], "msg": "flagged", "type": "content_policy_violation"}]}, "request_id": "7c1f0e52-9f0a-4d0a-8a3f-1f1d7c0e9a01", "status": "ERROR"}"#;
const FAL_ID: &str = "7c1f0e52-9f0a-4d0a-8a3f-1f1d7c0e9a01";
const FAL_SIGNATURE: &str = "ab43e016e77383457ab1e0500e2ae00b1616be6d9e8b182c8c6fb9ca8d706b21770f9e359ffd727a55c8c973c4be793531b9743dbb70e7d7804541a0c1f25b0e";

fn fal(id: &str, timestamp: &str, signature: &str, body: &str, now: i64) -> Result<(), Refusal> {
    let keys = crate::key_set::parse(FAL_KEY.as_bytes()).expect("a key set");
    let headers = Headers::new([
        ("x-fal-webhook-request-id", id),
        ("x-fal-webhook-user-id", "auth0|made-up"),
        ("x-fal-webhook-timestamp", timestamp),
        ("x-fal-webhook-signature", signature),
    ]);
    fal_ed25519(&headers, body.as_bytes(), &keys, Timestamp::from_seconds(now))
}

#[test]
fn fal_signs_the_hash_of_the_body() {
    assert_eq!(fal(FAL_ID, "1790000000", FAL_SIGNATURE, FAL_BODY, 1_790_000_000), Ok(()));
    let other = r#"{"error": null, "gateway_request_id": "7c1f0e52-9f0a-4d0a-8a3f-1f1d7c0e9a03", "payload": {"prompt": "猫", "video": {"url": "https://v3b.fal.media/files/b/0a000001/made-up_output.mp4"}}, "request_id": "7c1f0e52-9f0a-4d0a-8a3f-1f1d7c0e9a03", "status": "OK"}"#;
    let signature = "9927639f61c11141ffe5f85e8b6000e92f4ea5f35f3e15fb141ea23d958b73da340f7e660a639ee4ce18b087cf4f927d3a4c7582c33cde780959bd55718a7a02";
    let id = "7c1f0e52-9f0a-4d0a-8a3f-1f1d7c0e9a03";
    assert_eq!(fal(id, "1790000060", signature, other, 1_790_000_060), Ok(()));
}

#[test]
fn what_fal_did_not_sign_is_refused() {
    let wrong = Err(Refusal::UnknownKey);
    let at = 1_790_000_000;
    for bit in 0..FAL_BODY.len() * 8 {
        let mut body = FAL_BODY.as_bytes().to_vec();
        body[bit / 8] ^= 1 << (bit % 8);
        if let Ok(body) = String::from_utf8(body) {
            assert_eq!(fal(FAL_ID, "1790000000", FAL_SIGNATURE, &body, at), wrong, "bit {bit}");
        }
    }
    assert_eq!(fal(&FAL_ID.replace("a01", "a02"), "1790000000", FAL_SIGNATURE, FAL_BODY, at), wrong);
    assert_eq!(fal(FAL_ID, "1790000001", FAL_SIGNATURE, FAL_BODY, at), wrong);
    assert_eq!(fal(FAL_ID, "1790000000", FAL_SIGNATURE, &format!("{FAL_BODY}\n"), at), wrong);
    let base64 = STANDARD.encode(hex::decode(FAL_SIGNATURE).expect("hexadecimal"));
    let malformed = Err(Refusal::Malformed("x-fal-webhook-signature"));
    assert_eq!(fal(FAL_ID, "1790000000", &base64, FAL_BODY, at), malformed);
    let stale = fal(FAL_ID, "1790000000", FAL_SIGNATURE, FAL_BODY, at + 301);
    assert!(matches!(stale, Err(Refusal::Stale { .. })), "{stale:?}");
    let ahead = fal(FAL_ID, "1790000000", FAL_SIGNATURE, FAL_BODY, at - 301);
    assert!(matches!(ahead, Err(Refusal::FromTheFuture { .. })), "{ahead:?}");
    let unsigned = fal_ed25519(&Headers::default(), FAL_BODY.as_bytes(), &[], Timestamp::from_seconds(at));
    assert_eq!(unsigned, Err(Refusal::Missing("x-fal-webhook-request-id")));
}

/// Both vectors of the document on Veo are over the same body, the one by secret, the other by key.
#[test]
fn standard_webhooks_are_signed_by_secret_or_by_key() {
    let body = r#"{"type":"video.generated","version":"v1","timestamp":"2026-09-25T10:00:00Z","data":{"id":"models/veo-3.1-generate-preview/operations/ab12cd34ef56","output_file_uri":"https://generativelanguage.googleapis.com/v1beta/files/abc123def456:download?alt=media","file_name":"files/abc123def456"},"user_metadata":{"job":"job-1"}}"#;
    let by_secret = "v1,HSHxpHZzv35L4M/HaoSCWCcbVCrUQJYknRBmqYOvKXc=";
    let by_key = "v1a,2YnjvCIt3ogG9+MqoA/J39I7ofzdkEfO1qp9i/7dEBG8GcTjHhPsA9kYEd0Bl1zU3qxPGk+TIpDuP7jdmsPGAQ==";
    let keys = br#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg"}]}"#;
    let keys = crate::key_set::parse(keys).expect("a key set");
    let secrets = [Secret::new("whsec_cmVlbGhvb2stdmVvLXN0YXRpYy1zZWNyZXQtMzJieXQ=")];
    let now = Timestamp::from_seconds(1_790_330_400);
    for (signatures, of_secret, of_key) in [
        (by_secret.to_owned(), Ok(()), Err(Refusal::UnknownKey)),
        (by_key.to_owned(), Err(Refusal::WrongSignature), Ok(())),
        (format!("{by_secret} {by_key}"), Ok(()), Ok(())),
        (by_key.replace("v1a,", "v1,"), Err(Refusal::WrongSignature), Err(Refusal::UnknownKey)),
        (by_secret.replace("v1,", "v1a,"), Err(Refusal::WrongSignature), Err(Refusal::UnknownKey)),
    ] {
        let headers = Headers::new([
            ("webhook-id", "msg_7f3b8c1e-2d4a-4b6f-9c0d-1e2f3a4b5c6d"),
            ("webhook-timestamp", "1790330400"),
            ("webhook-signature", &signatures),
        ]);
        assert_eq!(standard_webhooks(&headers, body.as_bytes(), &secrets, now), of_secret, "{signatures}");
        assert_eq!(standard_webhooks_ed25519(&headers, body.as_bytes(), &keys, now), of_key, "{signatures}");
        let changed = body.replace("job-1", "job-2");
        assert!(standard_webhooks_ed25519(&headers, changed.as_bytes(), &keys, now).is_err());
    }
}

fn openrouter(header: &str, secret: &str, body: &str, now: i64) -> Result<(), Refusal> {
    let headers = Headers::new([("x-openrouter-signature", header)]);
    openrouter_hmac(&headers, body.as_bytes(), &[Secret::new("old"), Secret::new(secret)], Timestamp::from_seconds(now))
}

/// The vectors of the document on `OpenRouter`.
#[test]
fn openrouter_signs_time_and_body_joined_by_a_comma() {
    let short = r#"{"type":"video.generation.completed"}"#;
    let first = "6c4a26ba93eaac5510ffcae1629a8643d7a8b1311fa38659b2206500bd194174";
    let long = r#"{"type":"video.generation.completed","created_at":"2026-09-22T00:00:00.000Z","data":{"id":"madeupJob0000000001","status":"completed","unsigned_urls":["https://openrouter.ai/api/v1/videos/madeupJob0000000001/content?index=0"]}}"#;
    let second = "b3aa42a582a2e9f0054b8fe4305d83fec468ef40469877f1f6e5944dcfe761cf";
    let made_up = "orwh_made_up_secret";
    assert_eq!(openrouter(&format!("t=1800000000,v1={first}"), "secret", short, 1_800_000_000), Ok(()));
    assert_eq!(openrouter(&format!("t=1790000000,v1={second}"), made_up, long, 1_790_000_000), Ok(()));
    // A rotation may send two.
    let two = format!("t=1790000000,v1={first},v1={second}");
    assert_eq!(openrouter(&two, made_up, long, 1_790_000_000), Ok(()));
    let at = 1_790_000_000;
    for (header, why) in [
        (format!("t=1790000001,v1={second}"), Refusal::WrongSignature),
        (format!("t=1790000000,v1={first}"), Refusal::WrongSignature),
        (format!("v1={second}"), Refusal::Malformed("x-openrouter-signature")),
        ("t=1790000000".to_owned(), Refusal::Malformed("x-openrouter-signature")),
        (format!("t=1790000000,v1={}", &second[1..]), Refusal::Malformed("x-openrouter-signature")),
        (format!("t=soon,v1={second}"), Refusal::Malformed("x-openrouter-signature")),
        (String::new(), Refusal::Malformed("x-openrouter-signature")),
    ] {
        assert_eq!(openrouter(&header, made_up, long, at), Err(why), "{header}");
    }
    let unsigned = openrouter_hmac(&Headers::default(), b"{}", &[], Timestamp::from_seconds(at));
    assert_eq!(unsigned, Err(Refusal::Missing("x-openrouter-signature")));
    let header = format!("t=1790000000,v1={second}");
    assert_eq!(openrouter(&header, made_up, &format!("{long} "), at), Err(Refusal::WrongSignature));
    assert!(matches!(openrouter(&header, made_up, long, at + 301), Err(Refusal::Stale { .. })));
    assert!(matches!(openrouter(&header, made_up, long, at - 301), Err(Refusal::FromTheFuture { .. })));
    // As Standard Webhooks would join them.
    let dotted = hex::encode(hmac_sha256(made_up.as_bytes(), &[b"1790000000", b".", long.as_bytes()]));
    assert_eq!(openrouter(&format!("t=1790000000,v1={dotted}"), made_up, long, at), Err(Refusal::WrongSignature));
}
