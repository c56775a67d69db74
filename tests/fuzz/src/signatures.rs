//! Signatures: none is accepted that the provider's secret or key did not make.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reelhook_core::Provider;
use reelhook_core::request::{Authenticity, CallbackRequest, Headers};
use reelhook_core::settings::ProviderSettings;
use reelhook_core::signature::hmac_sha256;
use sha2::{Digest as _, Sha256};

use crate::{DATE, KLING_KEY, NOW, SETTINGS, TEXT_KEY, changed, changed_bytes, key_pair, lines, provider_line};

fn is_accepted(provider: Provider, path: &str, query: &str, headers: &[(&str, &str)], body: &[u8]) -> bool {
    let request = CallbackRequest { path, query, headers: Headers::new(headers.iter().copied()), body };
    let settings: &ProviderSettings = SETTINGS.provider(provider);
    let result = provider.adapter().authenticate(&request, settings, NOW);
    assert_ne!(result, Ok(Authenticity::Unsigned), "with a secret configured, a missing signature is a refusal");
    // Whatever looks like Veo's JWT is let through for a hint.
    result.is_ok_and(|authenticity| provider != Provider::Veo || authenticity != Authenticity::Unverified)
}

/// A callback with a signature, of the provider that the first line names.
pub fn verify(data: &[u8]) {
    let Some((provider, rest)) = provider_line(data) else { return };
    match provider {
        Provider::Kling | Provider::Replicate | Provider::WaveSpeed | Provider::Veo => verify_webhook(provider, rest),
        Provider::Fal => verify_fal(rest),
        Provider::Kie => verify_kie(rest),
        Provider::OpenRouter => verify_openrouter(rest),
        Provider::Vidu => verify_vidu(rest),
        _ => assert!(!signs(provider), "{provider} signs, and no target here does it too"),
    }
}

/// Whether a callback without any signature is refused once a secret is configured.
fn signs(provider: Provider) -> bool {
    let settings = serde_json::from_str(r#"{"signing_secrets":["whsec_c2VjcmV0"]}"#).expect("valid settings");
    let request = CallbackRequest { path: "/", query: "", headers: Headers::default(), body: b"{}" };
    provider.adapter().authenticate(&request, &settings, NOW).is_err()
}

/// Standard Webhooks, and `WaveSpeed`'s variant of it. With an even first byte, no headers and body are accepted. With an odd
/// one, a signed callback is accepted, and is refused when one character of it changes.
fn verify_webhook(provider: Provider, data: &[u8]) {
    let [mode, place, to, rest @ ..] = data else { return };
    let signed = |id: &str, body: &[u8]| {
        let parts = [id.as_bytes(), b".1767225600.", body];
        if provider == Provider::WaveSpeed {
            return format!("v3,{}", hex::encode(hmac_sha256(TEXT_KEY.as_bytes(), &parts)));
        }
        format!("v1,{}", STANDARD.encode(hmac_sha256(KLING_KEY, &parts)))
    };
    let accepted = |id: &str, time: &str, signature: &str, body: &[u8]| {
        let headers = [("webhook-id", id), ("webhook-timestamp", time), ("webhook-signature", signature)];
        is_accepted(provider, "/callback", "", &headers, body)
    };
    if mode % 2 == 0 {
        let Some(([id, time, signature], body)) = lines(rest) else { return };
        assert!(!accepted(id, time, signature, body));
        assert!(!accepted(id, "1767225600", signature, body));
        assert!(!is_accepted(provider, "/", "", &[("webhook-id", id), ("webhook-timestamp", "1767225600")], body));
        return;
    }
    let Some(([id], body)) = lines(rest) else { return };
    let (time, signature) = ("1767225600", signed(id, body));
    assert!(accepted(id, time, &signature, body), "a signed callback is accepted");
    match mode / 2 % 4 {
        0 if !body.is_empty() => assert!(!accepted(id, time, &signature, &changed_bytes(body, *place, *to))),
        1 if !id.is_empty() => assert!(!accepted(&changed(id, *place, *to), time, &signature, body)),
        2 => assert!(!accepted(id, &changed(time, *place, *to), &signature, body)),
        _ => assert!(!accepted(id, time, &changed(&signature, *place, *to), body)),
    }
}

/// fal's Ed25519. As [`verify_webhook`], and about one account of several.
fn verify_fal(data: &[u8]) {
    let [mode, place, to, rest @ ..] = data else { return };
    let accepted = |id: &str, user: &str, time: &str, signature: &str, body: &[u8]| {
        let headers = [
            ("x-fal-webhook-request-id", id),
            ("x-fal-webhook-user-id", user),
            ("x-fal-webhook-timestamp", time),
            ("x-fal-webhook-signature", signature),
        ];
        is_accepted(Provider::Fal, "/callback", "", &headers, body)
    };
    if mode % 2 == 0 {
        let Some(([id, user, signature], body)) = lines(rest) else { return };
        return assert!(!accepted(id, user, "1767225600", signature, body));
    }
    let Some(([id], body)) = lines(rest) else { return };
    let time = "1767225600";
    let signed = |user: &str| {
        let hash = hex::encode(Sha256::digest(body));
        hex::encode(key_pair().sign(format!("{id}\n{user}\n{time}\n{hash}").as_bytes()).as_ref())
    };
    assert!(accepted(id, "us", time, &signed("us"), body), "a signed callback is accepted");
    assert!(!accepted(id, "others", time, &signed("others"), body), "another customer's is not");
    match mode / 2 % 4 {
        0 if !body.is_empty() => assert!(!accepted(id, "us", time, &signed("us"), &changed_bytes(body, *place, *to))),
        1 if !id.is_empty() => assert!(!accepted(&changed(id, *place, *to), "us", time, &signed("us"), body)),
        2 => assert!(!accepted(id, "us", &changed(time, *place, *to), &signed("us"), body)),
        _ => assert!(!accepted(id, "us", time, &changed(&signed("us"), *place, *to), body)),
    }
}

/// Vidu's APISIX HMAC. As [`verify_webhook`], over path, query and headers.
fn verify_vidu(data: &[u8]) {
    let [mode, place, to, rest @ ..] = data else { return };
    let provider = Provider::Vidu;
    if mode % 2 == 0 {
        let Some(([path, query, signature, algorithm, names, date, nonce], body)) = lines(rest) else { return };
        for (algorithm, names, date) in [(algorithm, names, date), ("hmac-sha256", "Date;x-request-nonce", DATE)] {
            let headers = [
                ("X-HMAC-SIGNATURE", signature),
                ("X-HMAC-ALGORITHM", algorithm),
                ("X-HMAC-ACCESS-KEY", "vidu"),
                ("X-HMAC-SIGNED-HEADERS", names),
                ("Date", date),
                ("x-request-nonce", nonce),
            ];
            assert!(!is_accepted(provider, path, query, &headers, body));
            for without in 0..headers.len() {
                let mut fewer = headers.to_vec();
                fewer.remove(without);
                assert!(!is_accepted(provider, path, query, &fewer, body));
            }
        }
        return;
    }
    let Some(([path, query, nonce], body)) = lines(rest) else { return };
    if path.is_empty() || nonce.is_empty() {
        return;
    }
    let names = if mode & 64 == 0 { "Date;x-request-nonce" } else { "x-request-nonce" };
    let lines = if mode & 64 == 0 { format!("Date:{DATE}\n") } else { String::new() };
    let text = format!("POST\n{path}\n{query}\nvidu\n{DATE}\n{lines}x-request-nonce:{nonce}\n");
    let signature = STANDARD.encode(hmac_sha256(TEXT_KEY.as_bytes(), &[text.as_bytes()]));
    let accepted = |path: &str, query: &str, signature: &str, names: &str, date: &str, nonce: &str| {
        let headers = [
            ("x-hmac-signature", signature),
            ("x-hmac-algorithm", "hmac-sha256"),
            ("x-hmac-access-key", "vidu"),
            ("x-hmac-signed-headers", names),
            ("date", date),
            ("x-request-nonce", nonce),
        ];
        is_accepted(provider, path, query, &headers, body)
    };
    assert!(accepted(path, query, &signature, names, DATE, nonce), "a signed callback is accepted");
    match mode / 2 % 6 {
        0 => assert!(!accepted(&changed(path, *place, *to), query, &signature, names, DATE, nonce)),
        1 if !query.is_empty() => {
            assert!(!accepted(path, &changed(query, *place, *to), &signature, names, DATE, nonce))
        }
        2 => assert!(!accepted(path, query, &signature, &changed(names, *place, *to), DATE, nonce)),
        3 => assert!(!accepted(path, query, &signature, names, &changed(DATE, *place, *to), nonce)),
        4 => assert!(!accepted(path, query, &signature, names, DATE, &changed(nonce, *place, *to))),
        _ => assert!(!accepted(path, query, &changed(&signature, *place, *to), names, DATE, nonce)),
    }
}

/// KIE's HMAC over task id and time. As [`verify_webhook`], except that the rest of the body is not covered.
fn verify_kie(data: &[u8]) {
    let [mode, place, to, rest @ ..] = data else { return };
    let provider = Provider::Kie;
    let accepted = |time: &str, signature: &str, body: &[u8]| {
        let headers = [("X-Webhook-Timestamp", time), ("X-Webhook-Signature", signature)];
        is_accepted(provider, "/callback", "", &headers, body)
    };
    let signed = |id: &str| STANDARD.encode(hmac_sha256(TEXT_KEY.as_bytes(), &[id.as_bytes(), b".1767225600"]));
    if mode % 2 == 0 {
        let Some(([time, signature], body)) = lines(rest) else { return };
        assert!(!accepted(time, signature, body));
        assert!(!accepted("1767225600", signature, body));
        assert!(!is_accepted(provider, "/", "", &[("X-Webhook-Timestamp", "1767225600")], body));
        return;
    }
    let Ok(id) = std::str::from_utf8(rest) else { return };
    if id.is_empty() || id.len() > 1000 {
        return;
    }
    let body_of = |id: &str| {
        let name = if mode & 64 == 0 { "task_id" } else { "taskId" };
        serde_json::json!({"code": 200, "data": {name: id}}).to_string().into_bytes()
    };
    let (time, signature, body) = ("1767225600", signed(id), body_of(id));
    assert!(accepted(time, &signature, &body), "a signed callback is accepted");
    match mode / 2 % 3 {
        0 => assert!(!accepted(time, &signature, &body_of(&changed(id, *place, *to)))),
        1 => assert!(!accepted(&changed(time, *place, *to), &signature, &body)),
        _ => assert!(!accepted(time, &changed(&signature, *place, *to), &body)),
    }
}

/// `OpenRouter`'s HMAC over time and body, both in one header. As [`verify_webhook`].
fn verify_openrouter(data: &[u8]) {
    let [mode, place, to, rest @ ..] = data else { return };
    let accepted = |header: &str, body: &[u8]| {
        is_accepted(Provider::OpenRouter, "/callback", "", &[("X-OpenRouter-Signature", header)], body)
    };
    if mode % 2 == 0 {
        let Some(([header], body)) = lines(rest) else { return };
        assert!(!accepted(header, body));
        assert!(!accepted(&format!("t=1767225600,v1={header}"), body));
        assert!(!is_accepted(Provider::OpenRouter, "/", "", &[], body));
        return;
    }
    let signature = hex::encode(hmac_sha256(TEXT_KEY.as_bytes(), &[b"1767225600,", rest]));
    let header = |time: &str, signature: &str| format!("t={time},v1={signature}");
    assert!(accepted(&header("1767225600", &signature), rest), "a signed callback is accepted");
    match mode / 2 % 3 {
        0 if !rest.is_empty() => {
            assert!(!accepted(&header("1767225600", &signature), &changed_bytes(rest, *place, *to)))
        }
        1 => assert!(!accepted(&header(&changed("1767225600", *place, *to), &signature), rest)),
        _ => assert!(!accepted(&header("1767225600", &changed(&signature, *place, *to)), rest)),
    }
}
