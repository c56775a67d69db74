//! A report as it stands in an item, beside the body it came in. The body has the links already, and a write unit pays for one
//! kilobyte: a link that stands in the body is stored as its place there, `[start, length]` in bytes, instead of its text.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use crate::callback::Raw;
use crate::item::Value;

/// The fields of an artifact that hold a link, see [`crate::report::Source`].
const LINKS: [&str; 2] = ["url", "authorized"];

/// A report, or what contains one as `report`, as it is stored beside this body.
pub(crate) fn stored(reported: &impl Serialize, raw: &Raw) -> Value {
    let mut json = serde_json::to_value(reported).expect("stored types serialise");
    for link in links(&mut json) {
        if let Some(place) = link.as_str().and_then(|text| place(text, raw.expose())) {
            *link = place.into_iter().collect();
        }
    }
    Value::Text(json.to_string())
}

/// Reads what [`stored`] wrote, or an earlier release, which stored every link as its text. None when it cannot be read.
pub(crate) fn read<T: DeserializeOwned>(text: &str, raw: &Raw) -> Option<T> {
    let mut json: Json = serde_json::from_str(text).ok()?;
    for link in links(&mut json) {
        if let Json::Array(place) = link {
            let [start, length] = place.as_slice() else { return None };
            let start = usize::try_from(start.as_u64()?).ok()?;
            let end = start.checked_add(usize::try_from(length.as_u64()?).ok()?)?;
            *link = Json::String(unescaped(raw.expose().get(start..end)?)?);
        }
    }
    serde_json::from_value(json).ok()
}

fn links(json: &mut Json) -> impl Iterator<Item = &mut Json> {
    let report = if json.get("report").is_some() { &mut json["report"] } else { json };
    let artifacts = report.get_mut("artifacts").and_then(Json::as_array_mut).into_iter().flatten();
    artifacts.filter_map(Json::as_object_mut).flat_map(|artifact| {
        artifact.iter_mut().filter(|(name, _)| LINKS.contains(&name.as_str())).map(|(_, link)| link)
    })
}

/// Where a link stands in a body, which may escape what JSON does not require: Go writes `&` as `\u0026`, PHP `/` as `\/`.
fn place(link: &str, body: &str) -> Option<[usize; 2]> {
    let quoted = serde_json::to_string(link).ok()?;
    let escaped = &quoted[1..quoted.len() - 1];
    [escaped.to_owned(), escaped.replace('&', "\\u0026"), escaped.replace('/', "\\/")]
        .into_iter()
        .find_map(|spelling| Some([body.find(&spelling)?, spelling.len()]))
        .filter(|[start, length]| unescaped(&body[*start..start + length]).as_deref() == Some(link))
}

fn unescaped(text: &str) -> Option<String> {
    serde_json::from_str(&format!("\"{text}\"")).ok()
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

    fn text(value: Value) -> String {
        let Value::Text(text) = value else { panic!("a report is stored as text") };
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
                let stored = text(stored(&report, &raw));
                assert!(!stored.contains("example.com"), "{stored}");
                assert_eq!(read::<Report>(&stored, &raw), Some(report.clone()), "{body}");
                let fallback = Fallback { report, received_at: Timestamp::from_seconds(5) };
                let stored = text(super::stored(&fallback, &raw));
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
            let stored = text(stored(&report(sources()), &raw));
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
