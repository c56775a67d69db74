//! The signature schemes of callbacks, as pure functions. The adapters choose the scheme.
//!
//! Our own code instead of a webhook library: it takes an injected clock and several secrets during a rotation, and tells an
//! unusable secret (a 5xx, the provider retries) from a wrong signature (a 4xx).

use std::fmt::Write as _;
use std::time::UNIX_EPOCH;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq as _};

use crate::redacted::Secret;
use crate::request::{CallbackRequest, Headers, Refusal, TOLERANCE};
use crate::time::Timestamp;

/// HMAC-SHA256 of the concatenated parts.
#[expect(clippy::missing_panics_doc, reason = "it never panics, see the message of the expect")]
pub fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().to_vec()
}

/// Whether any candidate equals the expected bytes, in constant time.
fn any_equal<'a>(expected: &[u8], candidates: impl IntoIterator<Item = &'a [u8]>) -> bool {
    candidates.into_iter().fold(Choice::from(0), |any, candidate| any | expected.ct_eq(candidate)).into()
}

/// Refuses a time that is more than [`TOLERANCE`] from now.
fn check_freshness(signed_at: Timestamp, now: Timestamp) -> Result<(), Refusal> {
    let (age, ahead) = (now.since(signed_at), now.until(signed_at));
    if age > TOLERANCE {
        return Err(Refusal::Stale { age });
    }
    if ahead > TOLERANCE { Err(Refusal::FromTheFuture { ahead }) } else { Ok(()) }
}

/// [Standard Webhooks](https://www.standardwebhooks.com): the headers `webhook-id`, `webhook-timestamp` and
/// `webhook-signature` sign the body. One of the secrets has to match one of the `v1` entries in the signature list; other
/// entries are ignored.
pub fn standard_webhooks(headers: &Headers, body: &[u8], secrets: &[Secret], now: Timestamp) -> Result<(), Refusal> {
    let (id, timestamp, given) = webhook_headers(headers, "v1,", now)?;
    let mut matches = false;
    for secret in secrets {
        let encoded = secret.expose().strip_prefix("whsec_").unwrap_or(secret.expose());
        // A secret that is not base64 cannot verify anything. That is a mistake in the settings and must not reject
        // callbacks for good.
        let key = STANDARD.decode(encoded).map_err(|_| Refusal::UnusableSecret)?;
        if key.is_empty() {
            return Err(Refusal::UnusableSecret);
        }
        let expected = STANDARD.encode(hmac_sha256(&key, &[id.as_bytes(), b".", timestamp.as_bytes(), b".", body]));
        matches |= any_equal(expected.as_bytes(), given.iter().copied());
    }
    if matches { Ok(()) } else { Err(Refusal::WrongSignature) }
}

/// `WaveSpeed`'s signature, which looks like Standard Webhooks and is none: version `v3`, in hexadecimal, and the key is the text of the
/// secret after `whsec_`, not decoded.
pub fn wavespeed_hmac(headers: &Headers, body: &[u8], secrets: &[Secret], now: Timestamp) -> Result<(), Refusal> {
    let (id, timestamp, given) = webhook_headers(headers, "v3,", now)?;
    let mut matches = false;
    for secret in secrets {
        let key = secret.expose().strip_prefix("whsec_").unwrap_or(secret.expose());
        if key.is_empty() {
            return Err(Refusal::UnusableSecret);
        }
        let signed = hmac_sha256(key.as_bytes(), &[id.as_bytes(), b".", timestamp.as_bytes(), b".", body]);
        matches |= any_equal(hex::encode(signed).as_bytes(), given.iter().copied());
    }
    if matches { Ok(()) } else { Err(Refusal::WrongSignature) }
}

/// Id, time and the signatures of one version, of a request that is signed now.
fn webhook_headers<'a>(
    headers: &'a Headers,
    version: &str,
    now: Timestamp,
) -> Result<(&'a str, &'a str, Vec<&'a [u8]>), Refusal> {
    let id = headers.required("webhook-id")?;
    let timestamp = headers.required("webhook-timestamp")?;
    let signatures = headers.required("webhook-signature")?;
    let seconds: i64 = timestamp.parse().map_err(|_| Refusal::Malformed("webhook-timestamp"))?;
    check_freshness(Timestamp::from_seconds(seconds), now)?;
    let given = signatures.split(' ').filter_map(|entry| entry.strip_prefix(version)).map(str::as_bytes).collect();
    Ok((id, timestamp, given))
}

/// The HMAC of older versions of APISIX's `hmac-auth` plugin, as Vidu uses it: it covers method, path, query, access key, date
/// and the listed headers, but not the body. The request cannot weaken it: the algorithm has to be `hmac-sha256`, and the
/// nonce one of the signed headers.
///
/// AWS is known to rename `Date`, so `x-amzn-remapped-date` is the fallback.
pub fn apisix_hmac(
    request: &CallbackRequest<'_>,
    access_key: &str,
    secrets: &[Secret],
    now: Timestamp,
) -> Result<(), Refusal> {
    let headers = &request.headers;
    let signature = headers.required("x-hmac-signature")?;
    let names = headers.required("x-hmac-signed-headers")?;
    if headers.required("x-hmac-algorithm")? != "hmac-sha256" {
        return Err(Refusal::Malformed("x-hmac-algorithm"));
    }
    let date = headers.get("date").map_or_else(|| headers.required("x-amzn-remapped-date"), Ok);
    let date = date.map_err(|_| Refusal::Missing("date"))?;
    headers.required("x-request-nonce")?;
    let names: Vec<&str> = names.split(';').collect();
    if !names.iter().any(|name| name.eq_ignore_ascii_case("x-request-nonce")) {
        return Err(Refusal::Malformed("x-hmac-signed-headers"));
    }
    let sent_at = httpdate::parse_http_date(date).map_err(|_| Refusal::Malformed("date"))?;
    let sent_at = sent_at.duration_since(UNIX_EPOCH).map_err(|_| Refusal::Malformed("date"))?;
    let sent_at = i64::try_from(sent_at.as_secs()).map_err(|_| Refusal::Malformed("date"))?;
    check_freshness(Timestamp::from_seconds(sent_at), now)?;

    let path = if request.path.is_empty() { "/" } else { request.path };
    let mut signed = format!("POST\n{path}\n{}\n{access_key}\n{date}\n", request.query);
    for name in names {
        // The name is signed as the list spells it, whatever case the header has on arrival.
        let value = if name.eq_ignore_ascii_case("date") { Some(date) } else { headers.get(name) };
        let value = value.ok_or(Refusal::Malformed("x-hmac-signed-headers"))?;
        // Writing to a String cannot fail.
        let _ = writeln!(signed, "{name}:{value}");
    }
    any_secret_signed(signature, secrets, &[signed.as_bytes()])
}

/// KIE's HMAC in `x-webhook-signature`: it covers the task id and `x-webhook-timestamp`, but nothing else of the body. Secrets
/// are used as text. Without an `id` in the body, no signature is valid.
pub fn kie_hmac(headers: &Headers, id: Option<&str>, secrets: &[Secret], now: Timestamp) -> Result<(), Refusal> {
    let timestamp = headers.required("x-webhook-timestamp")?;
    let signature = headers.required("x-webhook-signature")?;
    let seconds: i64 = timestamp.parse().map_err(|_| Refusal::Malformed("x-webhook-timestamp"))?;
    check_freshness(Timestamp::from_seconds(seconds), now)?;
    let id = id.ok_or(Refusal::WrongSignature)?;
    any_secret_signed(signature, secrets, &[id.as_bytes(), b".", timestamp.as_bytes()])
}

/// Checks that one of the secrets, as text, produces this base64 signature over the parts.
fn any_secret_signed(signature: &str, secrets: &[Secret], parts: &[&[u8]]) -> Result<(), Refusal> {
    let mut matches = false;
    for secret in secrets {
        if secret.is_empty() {
            return Err(Refusal::UnusableSecret);
        }
        let expected = STANDARD.encode(hmac_sha256(secret.expose().as_bytes(), parts));
        matches |= any_equal(expected.as_bytes(), [signature.as_bytes()]);
    }
    if matches { Ok(()) } else { Err(Refusal::WrongSignature) }
}

#[cfg(test)]
mod tests {
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
        let refused =
            standard_webhooks(&unsigned, body.as_bytes(), &[Secret::new(secret)], Timestamp::from_seconds(now));
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
        (
            "vda_test_secret",
            "name=james&age=36",
            "Date;x-request-nonce",
            "NPh3qkvh2qDB3e8NbcSL4lpYvLveDSUkfJug6u/K46g=",
        ),
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

    fn verify_apisix(
        headers: &[(&str, &str)],
        path: &str,
        query: &str,
        secrets: &[&str],
        now: i64,
    ) -> Result<(), Refusal> {
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
}
