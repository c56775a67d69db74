//! A report as it stands in an item, beside the body it came in. The body has the links already, and a write unit pays for one
//! kilobyte: a link that stands in the body is stored as its place there, `[start, length]` in bytes, instead of its text.
//!
//! Both ways work on the text of the JSON, for it is done with every callback: `"url":` with its quotes cannot stand inside a
//! string of it.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::callback::Raw;
use crate::item::Value;
use crate::report::{Report, Source};

/// The fields of [`Source`] that hold a link.
const URL: &str = "\"url\":";
const AUTHORIZED: &str = "\"authorized\":";

/// What is or contains this report, as it is stored beside this body.
pub(crate) fn stored(containing: &impl Serialize, report: &Report, raw: &Raw) -> Value {
    let mut json = text(containing);
    let artifacts = match report {
        Report::Succeeded { artifacts, .. } => artifacts.as_slice(),
        Report::Failed(_) | Report::Lost(_) => &[],
    };
    for artifact in artifacts {
        let (field, link) = match &artifact.source {
            Source::Url(link) => (URL, link),
            Source::Authorized(link) => (AUTHORIZED, link),
            Source::FileId(_) => continue,
        };
        let quoted = text(link);
        if let Some((start, length)) = place(&quoted[1..quoted.len() - 1], raw.expose()) {
            json = json.replacen(&[field, &quoted].concat(), &format!("{field}[{start},{length}]"), 1);
        }
    }
    Value::Text(json)
}

fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("stored types serialise: no map keys but strings, no failing impl")
}

/// Reads what [`stored`] wrote, or an earlier release, which stored every link as its text. None when it cannot be read.
pub(crate) fn read<T: DeserializeOwned>(text: &str, raw: &Raw) -> Option<T> {
    let (mut json, mut rest) = (String::with_capacity(2 * text.len()), text);
    while let Some((before, place)) = next_place(rest) {
        let (place, after) = place.split_once(']')?;
        let (start, length) = place.split_once(',')?;
        let start: usize = start.parse().ok()?;
        let link = raw.expose().get(start..start.checked_add(length.parse().ok()?)?)?;
        json.extend([before, "\"", link, "\""]);
        rest = after;
    }
    json.push_str(rest);
    serde_json::from_str(&json).ok()
}

/// The text up to the value of the next field that has a place, and what follows its bracket.
fn next_place(json: &str) -> Option<(&str, &str)> {
    let ends = [URL, AUTHORIZED].map(|field| Some(json.find(&[field, "["].concat())? + field.len()));
    let end = ends.into_iter().flatten().min()?;
    Some((&json[..end], &json[end + 1..]))
}

/// Where a link, in JSON's spelling, stands in a body, which may escape what JSON does not require: Go writes `&` as `\u0026`, PHP
/// `/` as `\/`.
fn place(link: &str, body: &str) -> Option<(usize, usize)> {
    let find = |spelling: &str| Some((body.find(spelling)?, spelling.len()));
    find(link).or_else(|| find(&link.replace('&', "\\u0026"))).or_else(|| find(&link.replace('/', "\\/")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Fallback;
    use crate::redacted::SignedUrl;
    use crate::report::{Artifact, Kind, Report, Source};
    use crate::time::Timestamp;

    const LINK: &str = "https://cdn.example.com/a/video.mp4?X-Date=1&X-Signature=%2F0";

    fn report(sources: impl IntoIterator<Item = Source>) -> Report {
        let artifact = |source| Artifact { kind: Kind::Video, source, expires_at: Some(Timestamp::from_seconds(7)) };
        Report::Succeeded { artifacts: sources.into_iter().map(artifact).collect(), usage: None }
    }

    fn stored_text(containing: &impl Serialize, report: &Report, raw: &Raw) -> String {
        let Value::Text(text) = stored(containing, report, raw) else { panic!("a report is stored as text") };
        text
    }

    #[test]
    fn a_link_of_the_body_is_stored_as_its_place_however_it_is_escaped() {
        for body in [
            format!(r#"{{"video":"{LINK}"}}"#),
            format!(r#"{{"video":"{}"}}"#, LINK.replace('&', "\\u0026")),
            format!(r#"{{"video":"{}"}}"#, LINK.replace('/', "\\/")),
            // JSON in a text.
            format!(r#"{{"result":"{{\"video\":\"{LINK}\"}}"}}"#),
            format!(r#"{{"prompt":"ä","video":"{LINK}"}}"#),
        ] {
            let raw = Raw::new(body.as_bytes());
            for source in [Source::Url(SignedUrl::new(LINK)), Source::Authorized(SignedUrl::new(LINK))] {
                let report = report([source]);
                let stored = stored_text(&report, &report, &raw);
                assert!(!stored.contains("example.com"), "{stored}");
                assert_eq!(read::<Report>(&stored, &raw), Some(report.clone()), "{body}");
                let fallback = Fallback { report, received_at: Timestamp::from_seconds(5) };
                let stored = stored_text(&fallback, &fallback.report, &raw);
                assert!(!stored.contains("example.com"), "{stored}");
                assert_eq!(read::<Fallback>(&stored, &raw), Some(fallback), "{body}");
            }
        }
    }

    #[test]
    fn what_is_not_in_the_body_is_stored_whole() {
        let sources = || {
            [
                Source::Url(SignedUrl::new(LINK)),
                Source::FileId("f-1".to_owned()),
                // Spelled in the body as something else.
                Source::Url(SignedUrl::new(r"https://a/\u0026")),
                Source::Url(SignedUrl::new("https://a/\"b")),
                Source::Url(SignedUrl::new("")),
            ]
        };
        for body in ["", "{}", r#"{"id":"f-1","link":"https://a/\u0026"}"#, &LINK[..30]] {
            let raw = Raw::new(body.as_bytes());
            let stored = stored_text(&report(sources()), &report(sources()), &raw);
            assert!(stored.contains(LINK), "{stored}");
            assert_eq!(read::<Report>(&stored, &raw), Some(report(sources())), "{body}");
        }
    }

    #[test]
    fn a_report_of_an_earlier_release_is_read() {
        let report = report([Source::Url(SignedUrl::new(LINK))]);
        assert_eq!(read(&serde_json::to_string(&report).expect("JSON"), &Raw::default()), Some(report));
    }

    #[test]
    fn a_place_outside_the_body_is_damage() {
        let raw = Raw::new("{\"a\":\"ä\"}".as_bytes());
        for place in ["[0,100]", "[7,1]", "[1]", "[1,2,3]", "[-1,2]", "[\"a\",2]", "[18446744073709551615,2]", "[5,1]"]
        {
            let stored = format!(r#"{{"outcome":"succeeded","artifacts":[{{"kind":"video","url":{place}}}]}}"#);
            assert_eq!(read::<Report>(&stored, &raw), None, "{place}");
        }
    }
}
