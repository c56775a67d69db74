//! The caller's own words about a task, given with its submission and kept with it: in the record, in `result.json` and, the tags,
//! on every object in the bucket.

use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Most bytes of the metadata, as JSON: room for a task token of Step Functions (at most 2,048) with some words beside it. With
/// every character percent-encoded it still fits into the URL of a request.
pub const MAX_METADATA: usize = 3 * 1024;

/// Most tags, and most characters of a name and a value: S3's own limits for the tags of an object.
const MAX_TAGS: usize = 10;
const MAX_TAG_NAME: usize = 128;
const MAX_TAG_VALUE: usize = 256;

/// Percent-encoded in S3's header: everything but letters and digits, which is more than has to be.
const ENCODED: &AsciiSet = NON_ALPHANUMERIC;

/// The caller's own words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Annotations {
    /// JSON of the caller's choice, given back as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Value>,
    /// The tags of the task's objects.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

/// What the caller gives with a task, besides its id.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// The endpoint of the submission.
    pub endpoint: Option<String>,
    /// The caller's own words.
    pub annotations: Annotations,
}

/// Why annotations are refused. The texts are shown to the caller.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidAnnotation {
    /// Not JSON.
    #[error("metadata is not JSON: {0}")]
    NotJson(String),
    /// Too long.
    #[error("metadata has {0} bytes as JSON; {MAX_METADATA} are allowed")]
    TooLong(usize),
    /// Too many.
    #[error("there are {0} tags; S3 allows {MAX_TAGS} on an object")]
    TooManyTags(usize),
    /// S3 would refuse it.
    #[error(
        "the tag {0:?} is not one that S3 takes: a name has 1 to {MAX_TAG_NAME} characters and does not begin with aws:, a value up \
         to {MAX_TAG_VALUE}; letters, digits, spaces and + - = . _ : / @"
    )]
    Tag(String),
}

impl Annotations {
    /// Reads annotations.
    pub fn new<'a>(
        metadata: Option<&str>,
        tags: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, InvalidAnnotation> {
        let metadata: Option<Value> = metadata
            .map(|json| serde_json::from_str(json).map_err(|error| InvalidAnnotation::NotJson(error.to_string())))
            .transpose()?;
        let length = metadata.as_ref().map_or(0, |metadata| metadata.to_string().len());
        if length > MAX_METADATA {
            return Err(InvalidAnnotation::TooLong(length));
        }
        let tags: BTreeMap<String, String> =
            tags.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        if tags.len() > MAX_TAGS {
            return Err(InvalidAnnotation::TooManyTags(tags.len()));
        }
        match tags.iter().find(|(name, value)| !is_tag(name, value)) {
            Some((name, _)) => Err(InvalidAnnotation::Tag(name.chars().take(MAX_TAG_NAME).collect())),
            None => Ok(Self { metadata, tags }),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.metadata.is_none() && self.tags.is_empty()
    }

    /// The tags as S3's header `x-amz-tagging` has them. None without tags.
    pub fn tagging(&self) -> Option<String> {
        let encoded = |text: &str| utf8_percent_encode(text, ENCODED).to_string();
        let pairs: Vec<String> =
            self.tags.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
        (!pairs.is_empty()).then(|| pairs.join("&"))
    }
}

fn is_tag(name: &str, value: &str) -> bool {
    let allowed = |letter: char| {
        letter.is_alphanumeric() || matches!(letter, ' ' | '+' | '-' | '=' | '.' | '_' | ':' | '/' | '@')
    };
    (1..=MAX_TAG_NAME).contains(&name.chars().count())
        && value.chars().count() <= MAX_TAG_VALUE
        && !name.to_ascii_lowercase().starts_with("aws:")
        && name.chars().chain(value.chars()).all(allowed)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_s3_would_refuse_is_refused() {
        let with = |name: &str, value: &str| Annotations::new(None, [(name, value)]);
        for (name, value) in [("team", "film"), ("ä b", ""), ("a+b-c=d.e_f:g/h@i", "é"), ("k", &"v".repeat(256))] {
            assert!(with(name, value).is_ok(), "{name}");
        }
        for (name, value) in
            [("", "v"), ("aws:x", "v"), ("AWS:x", "v"), ("a&b", "v"), ("a", "b?"), ("k", &"v".repeat(257))]
        {
            assert_eq!(with(name, value), Err(InvalidAnnotation::Tag(name.to_owned())));
        }
        let names: Vec<String> = (0..11).map(|number| format!("tag-{number}")).collect();
        let eleven = Annotations::new(None, names.iter().map(|name| (name.as_str(), "")));
        assert_eq!(eleven, Err(InvalidAnnotation::TooManyTags(11)));
    }

    #[test]
    fn metadata_is_any_short_json() {
        let with = |json: &str| Annotations::new(Some(json), []);
        assert_eq!(with(r#"{"user": [1]}"#).expect("JSON").metadata, Some(json!({"user": [1]})));
        assert!(matches!(with("{"), Err(InvalidAnnotation::NotJson(_))));
        let long = format!("\"{}\"", "x".repeat(MAX_METADATA - 2));
        assert!(with(&long).is_ok());
        assert_eq!(with(&format!("{long} ").replace('x', "yy")), Err(InvalidAnnotation::TooLong(2 * MAX_METADATA - 2)));
    }

    #[test]
    fn tags_are_encoded_for_the_header() {
        let annotations = Annotations::new(None, [("team", "a b"), ("c=d", "e/f")]).expect("valid tags");
        assert_eq!(annotations.tagging().as_deref(), Some("c%3Dd=e%2Ff&team=a%20b"));
        assert_eq!(Annotations::default().tagging(), None);
        assert!(Annotations::default().is_empty() && !annotations.is_empty());
    }
}
