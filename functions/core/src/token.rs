//! Callback URLs and their tokens.
//!
//! A token is the first 128 bits of HMAC-SHA256 over `{provider}/{id}` in base64url, 22 characters. It binds a callback to a
//! task even if the body has an upstream's id, and keeps out everybody who does not know the URL. The static URL of a
//! provider, for unregistered tasks, has the id `-`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq as _};

use crate::provider::Provider;
use crate::redacted::Secret;
use crate::task::TaskId;

/// Bytes of the HMAC in a token: 128 bits.
const TOKEN_BYTES: usize = 16;

/// The id in static callback URLs.
pub const STATIC_ID: &str = "-";

/// The keys that sign callback URLs. The first one signs, all of them are accepted. To rotate, put the new key first, and
/// remove the old one when the last task with an old URL is final.
#[derive(Clone, Debug)]
pub struct CallbackKeys(Vec<Secret>);

/// The callback keys are not usable.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("callback.keys needs one or two keys of at least 16 characters each")]
pub struct InvalidCallbackKeys;

impl CallbackKeys {
    /// One or two keys of at least 16 characters each: shorter ones are easier to guess than the 128 bits of a token.
    pub fn new(keys: Vec<Secret>) -> Result<Self, InvalidCallbackKeys> {
        let long_enough = keys.iter().all(|key| key.expose().len() >= 16);
        if (1..=2).contains(&keys.len()) && long_enough { Ok(Self(keys)) } else { Err(InvalidCallbackKeys) }
    }

    /// The path of a task's callback URL, or of the provider's static one, with a leading slash.
    pub fn path(&self, provider: Provider, id: Option<&TaskId>) -> String {
        let id = id.map_or(STATIC_ID, TaskId::as_str);
        // `new` rejects an empty list.
        let token = URL_SAFE_NO_PAD.encode(tag(&self.0[0], provider, id));
        format!("/callback/{provider}/{id}/{token}")
    }

    /// Whether the token is valid for this provider and id under any of the keys. Runs in constant time.
    pub fn accept(&self, provider: Provider, id: Option<&TaskId>, token: &str) -> bool {
        let id = id.map_or(STATIC_ID, TaskId::as_str);
        let Ok(given) = URL_SAFE_NO_PAD.decode(token) else { return false };
        let matches = self.0.iter().fold(Choice::from(0), |any, key| any | tag(key, provider, id).ct_eq(&given));
        matches.into()
    }
}

/// What stands in the place of a token. As long as one, for the length of a body tells whether it was cut.
const LEFT_OUT: &str = "[the token is removed]";

/// A text without the tokens of callback URLs in it, however their slashes are written.
pub(crate) fn without_tokens(text: String) -> String {
    const ROUTE: &str = "callback";
    let (mut kept, mut rest) = (String::new(), text.as_str());
    while let Some(end) = rest.find(ROUTE).map(|start| start + ROUTE.len()) {
        let (before, after) = rest.split_at(end);
        kept.push_str(before);
        rest = after;
        let token = segment(after).and_then(|(_, after)| segment(after)).and_then(|(_, after)| segment(after));
        if let Some((token, after)) =
            token.filter(|(token, _)| URL_SAFE_NO_PAD.decode(token).is_ok_and(|tag| tag.len() == TOKEN_BYTES))
        {
            kept.push_str(&rest[..rest.len() - after.len() - token.len()]);
            kept.push_str(LEFT_OUT);
            rest = after;
        }
    }
    if kept.is_empty() {
        return text;
    }
    kept + rest
}

/// The next segment of a path, and what follows it.
fn segment(path: &str) -> Option<(&str, &str)> {
    let path = ["/", "\\/", "%2F", "%2f"].into_iter().find_map(|slash| path.strip_prefix(slash))?;
    let end = path.find(|char: char| !(char.is_ascii_alphanumeric() || "-_.~".contains(char))).unwrap_or(path.len());
    (end > 0).then(|| path.split_at(end))
}

fn tag(key: &Secret, provider: Provider, id: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose().as_bytes()).expect("HMAC takes keys of any length");
    mac.update(provider.name().as_bytes());
    mac.update(b"/");
    mac.update(id.as_bytes());
    mac.finalize().into_bytes()[..TOKEN_BYTES].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(texts: &[&str]) -> CallbackKeys {
        CallbackKeys::new(texts.iter().map(|text| Secret::new(*text)).collect()).expect("valid keys")
    }

    fn token_of(path: &str) -> &str {
        path.rsplit('/').next().expect("a path has a last part")
    }

    #[test]
    fn the_tokens_of_callback_urls_are_left_out_of_a_text_and_nothing_else_is() {
        let id = "job-1".parse().expect("an id");
        let path = keys(&["sixteen-characters"]).path(Provider::Replicate, Some(&id));
        let token = path.rsplit('/').next().expect("a token").to_owned();
        for slash in ["/", "\\/", "%2F"] {
            let written =
                format!("{{\"webhook\":\"https://hub{}\",\"callback\":\"callback/x\"}}", path.replace('/', slash));
            let kept = without_tokens(written.clone());
            assert_eq!(kept, written.replace(&token, LEFT_OUT), "{slash}");
            assert_eq!(kept.len(), written.len());
        }
        for other in
            ["", "callback", "/callback/replicate/job-1", "/callback/replicate/job-1/short", "{\"callback\":1}"]
        {
            assert_eq!(without_tokens(other.to_owned()), other);
        }
    }

    #[test]
    fn a_token_is_valid_for_one_task_of_one_provider() {
        let keys = keys(&["first-key-of-the-test"]);
        let id: TaskId = "job-1".parse().expect("a valid id");
        let other: TaskId = "job-2".parse().expect("a valid id");
        let path = keys.path(Provider::Kling, Some(&id));
        let token = token_of(&path);
        assert_eq!(token.len(), 22);
        assert!(keys.accept(Provider::Kling, Some(&id), token));
        assert!(!keys.accept(Provider::Kling, Some(&other), token));
        assert!(!keys.accept(Provider::MaxApi, Some(&id), token));
        assert!(!keys.accept(Provider::Kling, None, token));
        for wrong in ["", "A", &token[..21], &format!("{token}A"), &token.to_lowercase()] {
            assert!(!keys.accept(Provider::Kling, Some(&id), wrong), "{wrong}");
        }
    }

    #[test]
    fn both_keys_are_valid_during_a_rotation() {
        let id: TaskId = "job-1".parse().expect("a valid id");
        let old = keys(&["old-key-of-the-test"]);
        let both = keys(&["new-key-of-the-test", "old-key-of-the-test"]);
        let old_path = old.path(Provider::Kling, Some(&id));
        let new_path = both.path(Provider::Kling, Some(&id));
        assert_ne!(old_path, new_path);
        assert!(both.accept(Provider::Kling, Some(&id), token_of(&old_path)));
        assert!(both.accept(Provider::Kling, Some(&id), token_of(&new_path)));
        assert!(!old.accept(Provider::Kling, Some(&id), token_of(&new_path)));
    }

    #[test]
    fn weak_or_missing_keys_are_refused() {
        assert!(CallbackKeys::new(vec![]).is_err());
        assert!(CallbackKeys::new(vec![Secret::new("short")]).is_err());
    }
}
