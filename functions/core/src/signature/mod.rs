//! The signature schemes of callbacks, as pure functions. The adapters choose the scheme.
//!
//! Our own code instead of a webhook library: it takes an injected clock and several secrets during a rotation, and tells an
//! unusable secret (a 5xx, the provider retries) from a wrong signature (a 4xx).

use std::fmt::Write as _;
use std::time::UNIX_EPOCH;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

use crate::key_set::PublicKey;
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

/// Refuses a time in Unix seconds, from this header, that is more than [`TOLERANCE`] from now.
fn check_time(seconds: &str, header: &'static str, now: Timestamp) -> Result<(), Refusal> {
    let seconds: i64 = seconds.parse().map_err(|_| Refusal::Malformed(header))?;
    check_freshness(Timestamp::from_seconds(seconds), now)
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
    check_time(timestamp, "webhook-timestamp", now)?;
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
    check_time(timestamp, "x-webhook-timestamp", now)?;
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

/// fal's signature: Ed25519 over request id, user id, time and the SHA-256 of the body in lower-case hexadecimal, a line each. One of the
/// keys has to fit. The id in the header is signed too; the task is the one in the body.
pub fn fal_ed25519(headers: &Headers, body: &[u8], keys: &[PublicKey], now: Timestamp) -> Result<(), Refusal> {
    let id = headers.required("x-fal-webhook-request-id")?;
    let user = headers.required("x-fal-webhook-user-id")?;
    let timestamp = headers.required("x-fal-webhook-timestamp")?;
    let given = headers.required("x-fal-webhook-signature")?;
    // One form only: what is written otherwise is not fal's.
    let signature = hex::decode(given).ok().filter(|signature| hex::encode(signature) == given);
    let signature = signature.ok_or(Refusal::Malformed("x-fal-webhook-signature"))?;
    check_time(timestamp, "x-fal-webhook-timestamp", now)?;
    let message = [id, user, timestamp, &hex::encode(Sha256::digest(body))].join("\n");
    any_key_signed(keys, message.as_bytes(), [signature])
}

/// The asymmetric form of Standard Webhooks, as Google's webhooks per request have it: the same headers, and `v1a` entries with Ed25519
/// in base64.
pub fn standard_webhooks_ed25519(
    headers: &Headers,
    body: &[u8],
    keys: &[PublicKey],
    now: Timestamp,
) -> Result<(), Refusal> {
    let (id, timestamp, given) = webhook_headers(headers, "v1a,", now)?;
    let message = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
    any_key_signed(keys, &message, given.into_iter().filter_map(|signature| STANDARD.decode(signature).ok()))
}

/// Whether one of the signatures is by one of the keys. If not, the provider may have a key that is not known yet.
fn any_key_signed(
    keys: &[PublicKey],
    message: &[u8],
    signatures: impl IntoIterator<Item = Vec<u8>>,
) -> Result<(), Refusal> {
    let is_signed = |signature: Vec<u8>| keys.iter().any(|key| key.verifies(message, &signature));
    if signatures.into_iter().any(is_signed) { Ok(()) } else { Err(Refusal::UnknownKey) }
}

/// `OpenRouter`'s signature: `t=<seconds>,v1=<hexadecimal>` in one header, over time and body, joined by a comma. The key is the text of
/// the secret. Several `v1` are tried, should a rotation send them.
pub fn openrouter_hmac(headers: &Headers, body: &[u8], secrets: &[Secret], now: Timestamp) -> Result<(), Refusal> {
    const HEADER: &str = "x-openrouter-signature";
    let fields = headers.required(HEADER)?.split(',').filter_map(|field| field.trim().split_once('='));
    let values = |name| fields.clone().filter(move |(key, _)| *key == name).map(|(_, value)| value);
    let timestamp = values("t").next().ok_or(Refusal::Malformed(HEADER))?;
    check_time(timestamp, HEADER, now)?;
    let given: Vec<&[u8]> = values("v1").map(str::as_bytes).collect();
    if given.is_empty() || given.iter().any(|signature| signature.len() != 64) {
        return Err(Refusal::Malformed(HEADER));
    }
    let mut matches = false;
    for secret in secrets {
        if secret.is_empty() {
            return Err(Refusal::UnusableSecret);
        }
        let signed = hmac_sha256(secret.expose().as_bytes(), &[timestamp.as_bytes(), b",", body]);
        matches |= any_equal(hex::encode(signed).as_bytes(), given.iter().copied());
    }
    if matches { Ok(()) } else { Err(Refusal::WrongSignature) }
}

#[cfg(test)]
mod tests;
