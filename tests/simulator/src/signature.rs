//! What providers share to sign callbacks, and the JWT of Kling's customers. Written from the providers' documentation only: it
//! shares no code with the verifiers that it tests.

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::{
    api::{Headers, Outgoing},
    clock,
};

pub(crate) fn hmac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().to_vec()
}

/// The `webhook-signature` of Kling and Replicate, by Standard Webhooks. `None` if the secret is not `whsec_` and base64.
fn standard_webhooks(secret: &str, id: &str, timestamp: i64, body: &[u8]) -> Option<String> {
    let key = BASE64_STANDARD.decode(secret.strip_prefix("whsec_")?).ok()?;
    let stamp = timestamp.to_string();
    let signature = hmac(&key, &[id.as_bytes(), b".", stamp.as_bytes(), b".", body]);
    Some(format!("v1,{}", BASE64_STANDARD.encode(signature)))
}

/// The headers of Standard Webhooks.
pub(crate) fn standard_webhooks_headers(outgoing: &Outgoing<'_>) -> Option<Headers> {
    let (secret, stamp) = (outgoing.account.signing_secret.as_ref()?, clock::seconds(outgoing.now));
    let signature = standard_webhooks(secret, outgoing.message_id, stamp, outgoing.body).unwrap_or_default();
    Some(vec![
        ("webhook-id", outgoing.message_id.to_owned()),
        ("webhook-timestamp", stamp.to_string()),
        ("webhook-signature", signature),
    ])
}

/// The Ed25519 key pair of which a secret's first 32 bytes are the seed.
pub(crate) fn key_pair(secret: &str) -> Option<Ed25519KeyPair> {
    Ed25519KeyPair::from_seed_unchecked(secret.as_bytes().get(..32)?).ok()
}

/// The public keys of some of them, as a JSON Web Key Set.
pub(crate) fn key_set(secrets: &[&str]) -> Value {
    let key = |secret: &&str| {
        let public = BASE64_URL_SAFE_NO_PAD.encode(key_pair(secret)?.public_key());
        Some(json!({ "kty": "OKP", "crv": "Ed25519", "x": public }))
    };
    json!({ "keys": secrets.iter().filter_map(key).collect::<Vec<_>>() })
}

/// Why a JWT is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenError {
    Invalid,
    NotYetValid,
    Expired,
}

/// Checks a JWT of Kling's legacy API (HS256; issuer, `exp` and `nbf`).
pub(crate) fn check_token(token: &str, access_key: &str, secret_key: &str, now: i64) -> Result<(), TokenError> {
    let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Invalid)?;
    let (header, payload) = signed.split_once('.').ok_or(TokenError::Invalid)?;
    let decode = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Invalid);
    let parse = |part: &str| serde_json::from_slice::<Value>(&decode(part)?).map_err(|_| TokenError::Invalid);
    if parse(header)?["alg"] != "HS256" || decode(signature)? != hmac(secret_key.as_bytes(), &[signed.as_bytes()]) {
        return Err(TokenError::Invalid);
    }
    let claims = parse(payload)?;
    if claims["iss"] != access_key {
        return Err(TokenError::Invalid);
    }
    if claims["nbf"].as_i64().is_some_and(|from| now < from) {
        return Err(TokenError::NotYetValid);
    }
    match claims["exp"].as_i64() {
        Some(until) if now < until => Ok(()),
        _ => Err(TokenError::Expired),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From Kling's page on callbacks (`klingai.com/document-api/api/get-started/callbacks`).
    #[test]
    fn the_signature_matches_klings_published_vector() {
        let body = br#"{"id":"1234567890","status":"succeeded","message":"","create_time":1781080778802,"update_time":1781080794151}"#;
        assert_eq!(
            standard_webhooks("whsec_dGVzdHNlY3JldHRlc3RzZWNyZXR0ZXN0c2VjcmV0MTI=", "9876543210", 1_781_080_794, body),
            Some("v1,UsKlJP00XoQyOn410NM9xv34sP+Gl0jnOO9Lcpr7NJ4=".to_owned())
        );
        assert_eq!(standard_webhooks("no prefix", "1", 1, b""), None);
    }

    #[test]
    fn legacy_bodies_are_signed_the_same_way() {
        let body = br#"{"task_id":"800000000000000001","task_status":"succeed","task_status_msg":"","created_at":1767225600000,"updated_at":1767225720000,"task_result":{"videos":[{"id":"800000000000000002","url":"https://cdn.example.com/k.mp4","duration":"5.1"}]}}"#;
        assert_eq!(
            standard_webhooks(
                "whsec_dGVzdHNlY3JldHRlc3RzZWNyZXR0ZXN0c2VjcmV0MTI=",
                "msg-legacy-1",
                1_767_225_721,
                body
            ),
            Some("v1,nsGIzNs2O5WEb3t44VHf/oV/dPxbrXKEPWWvIfgcRbg=".to_owned())
        );
    }

    #[test]
    fn klings_jwt_is_checked_for_issuer_signature_and_time() {
        let token = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJhay10ZXN0IiwiZXhwIjoxNzY3MjI3NDAwLCJuYmYiOjE3NjcyMjU1OTV9.dDxpWSVSj5kNmv3WvJxz25pk9735kQ4OjYPb-MoIoH0";
        let check = |access, secret, now| check_token(token, access, secret, now);
        assert_eq!(check("ak-test", "sk-test", 1_767_225_600), Ok(()));
        assert_eq!(check("ak-test", "sk-test", 1_767_227_400), Err(TokenError::Expired));
        assert_eq!(check("ak-test", "sk-test", 1_767_225_590), Err(TokenError::NotYetValid));
        assert_eq!(check("ak-other", "sk-test", 1_767_225_600), Err(TokenError::Invalid));
        assert_eq!(check("ak-test", "sk-other", 1_767_225_600), Err(TokenError::Invalid));
        assert_eq!(check_token("rubbish", "a", "b", 0), Err(TokenError::Invalid));
    }
}
