//! The public keys that verify a provider's callbacks, where it publishes them: Ed25519 keys in a JSON Web Key Set (RFC 7517, RFC
//! 8037).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{ED25519, UnparsedPublicKey};
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

/// Longest document that is read, in bytes. A key has about 100; chosen freely.
pub const MAX_BYTES: usize = 64 * 1024;

/// Most keys that are tried for a signature. Chosen freely: a rotation needs two.
const MAX_KEYS: usize = 16;

/// An Ed25519 key. Written as 32 bytes in base64url without padding, the `x` of a JSON Web Key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

/// The document is not a key set, or has no Ed25519 key.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("it is not a JSON Web Key Set with an Ed25519 key")]
pub struct InvalidKeySet;

impl PublicKey {
    fn parse(text: &str) -> Option<Self> {
        Some(Self(URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()?.try_into().ok()?))
    }

    /// Whether this key signed the message.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature).is_ok()
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom("not an Ed25519 key in base64url"))
    }
}

/// The Ed25519 keys of a key set, at most `MAX_KEYS`; other keys and unknown members are ignored. Fails if there is none.
pub fn parse(document: &[u8]) -> Result<Vec<PublicKey>, InvalidKeySet> {
    let document: Value = serde_json::from_slice(document).map_err(|_| InvalidKeySet)?;
    let keys = document["keys"].as_array().into_iter().flatten();
    let keys: Vec<PublicKey> = keys
        .filter(|key| key["kty"] == "OKP" && key["crv"] == "Ed25519")
        .filter_map(|key| PublicKey::parse(key["x"].as_str()?))
        .take(MAX_KEYS)
        .collect();
    if keys.is_empty() { Err(InvalidKeySet) } else { Ok(keys) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, section 7.1, test 2.
    const KEY: &str = "PUAXw-hDiVqStwqnTRt-vJyYLM8uxJaMwM1V8Sr0Zgw";
    const SIGNATURE: &str = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";

    #[test]
    fn a_signature_fits_its_key_and_message_only() {
        let key = PublicKey::parse(KEY).expect("a key");
        let signature = hex::decode(SIGNATURE).expect("hexadecimal");
        assert!(key.verifies(&[0x72], &signature));
        assert!(!key.verifies(&[0x73], &signature));
        assert!(!key.verifies(&[0x72], &signature[..63]));
        for bit in 0..signature.len() * 8 {
            let mut changed = signature.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(!key.verifies(&[0x72], &changed), "bit {bit}");
        }
    }

    #[test]
    fn keys_of_other_kinds_are_passed_over() {
        let own = format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{KEY}"}}"#);
        let rsa = r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#;
        let short = r#"{"kty":"OKP","crv":"Ed25519","x":"AQAB"}"#;
        let keys = parse(format!(r#"{{"keys":[{rsa},{short},{own}],"more":1}}"#).as_bytes()).expect("a key set");
        assert_eq!(keys, [PublicKey::parse(KEY).expect("a key")]);
        for document in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[]}"#, &format!(r#"{{"keys":[{rsa},{short}]}}"#)]
        {
            assert_eq!(parse(document.as_bytes()), Err(InvalidKeySet), "{document}");
        }
        let many = vec![own; 40].join(",");
        assert_eq!(parse(format!(r#"{{"keys":[{many}]}}"#).as_bytes()).expect("a key set").len(), MAX_KEYS);
    }
}
