//! Bodies that somebody made up: other contents, other encodings, and what is meant to hurt a parser.

use serde_json::{Value, json};

use super::request::{Forgery, Request, UNAUTHORIZED};

/// A body with a name.
pub(super) type Body = (String, Vec<u8>);

/// `{"id":"1","status":"succeeded"}`, compressed by gzip.
const GZIP: [u8; 49] = [
    0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0xab, 0x56, 0xca, 0x4c, 0x51, 0xb2, 0x52, 0x32, 0x54,
    0xd2, 0x51, 0x2a, 0x2e, 0x49, 0x2c, 0x29, 0x2d, 0x06, 0x72, 0x8a, 0x4b, 0x93, 0x93, 0x53, 0x53, 0x53, 0x52, 0x53,
    0x94, 0x6a, 0x01, 0x11, 0xb5, 0x68, 0x45, 0x1f, 0x00, 0x00, 0x00,
];

/// Every body below, with a wrong token: nothing of it is read before the token is.
pub(super) fn behind_a_wrong_token(genuine: &Request) -> Vec<Forgery> {
    let wrong = genuine.forged("", UNAUTHORIZED, |request| request.set_part(3, "AAAAAAAAAAAAAAAAAAAAAA")).request;
    let mut bodies = swapped(genuine);
    bodies.push(("a challenge".to_owned(), br#"{"challenge":"c-0123456789"}"#.to_vec()));
    bodies.push(("as much as a callback may have".to_owned(), vec![b'1'; reelhook_core::request::MAX_BODY]));
    let forge = |(name, body): Body| {
        wrong.forged(format!("{name} behind a wrong token"), UNAUTHORIZED, |request| request.body = body)
    };
    let mut forgeries: Vec<Forgery> = bodies.into_iter().map(forge).collect();
    for coding in ["gzip", "deflate", "br", "zstd", "identity, gzip", "x-unknown"] {
        let name = format!("a body encoded with {coding} behind a wrong token");
        forgeries.push(wrong.forged(name, UNAUTHORIZED, |request| {
            request.set_header("content-encoding", coding);
            request.body = GZIP.to_vec();
        }));
    }
    for kind in [
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=utf-7",
    ] {
        let name = format!("the content type {kind:?} behind a wrong token");
        forgeries.push(wrong.forged(name, UNAUTHORIZED, |request| request.set_header("content-type", kind)));
    }
    forgeries
}

/// Bodies in the place of a genuine one, about the same task or none.
pub(super) fn swapped(genuine: &Request) -> Vec<Body> {
    let text = String::from_utf8(genuine.body.clone()).expect("a callback is text");
    let value: Value = serde_json::from_str(&text).expect("a callback is JSON");
    let mut bodies: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", vec![]),
        ("a null byte", vec![0]),
        ("no text", vec![0xff, 0xfe, 0x00]),
        ("null", b"null".to_vec()),
        ("a list", b"[]".to_vec()),
        ("an empty object", b"{}".to_vec()),
        ("a number", b"1e999".to_vec()),
        ("not a number", b"{\"status\":NaN}".to_vec()),
        ("half of it", genuine.body[..genuine.body.len() / 2].to_vec()),
        ("it twice", text.repeat(2).into_bytes()),
        ("it with a space", format!("{text} ").into_bytes()),
        ("it with a byte order mark", format!("\u{feff}{text}").into_bytes()),
        ("it in UTF-16", text.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("it in a list", format!("[{text}]").into_bytes()),
        ("it in a string", json!(text).to_string().into_bytes()),
        ("it compressed", GZIP.to_vec()),
        ("deep arrays", vec![b'['; 50_000]),
        ("deep objects", r#"{"data":"#.repeat(10_000).into_bytes()),
        ("a huge number", format!("{{\"id\":{}}}", "9".repeat(50_000)).into_bytes()),
        ("a huge string", format!("{{\"id\":\"{}\"}}", "a".repeat(300_000)).into_bytes()),
        ("many keys", many_keys(&text).into_bytes()),
        ("its keys in capitals", shout(&value).to_string().into_bytes()),
    ];
    let moved = text.replace("http://127.0.0.1", "https://forged.example.com");
    bodies.push(("its links moved", moved.clone().into_bytes()));
    bodies.push(("its links twice", doubled_keys(&text, &moved).into_bytes()));
    bodies.push(("its links to this machine", text.replace("http://127.0.0.1", "http://localhost").into_bytes()));
    for (word, other) in [
        ("succe", "fail"),
        ("success", "failed"),
        ("succeeded", "failed"),
        ("SUCCESS", "FAILURE"),
        ("\"code\":200", "\"code\":500"),
    ] {
        if text.contains(word) {
            bodies.push(("another outcome", text.replace(word, other).into_bytes()));
        }
    }
    // What equals the genuine body is no forgery.
    bodies.retain(|(_, body)| *body != genuine.body);
    bodies.into_iter().map(|(name, body)| (name.to_owned(), body)).collect()
}

/// An object that says everything twice: as it is, and after a change. Of two equal keys the last one counts.
fn doubled_keys(text: &str, changed: &str) -> String {
    let (first, second) = (text.trim_end_matches('}'), changed.trim_start_matches('{'));
    let closing = "}".repeat(text.len() - first.len() - 1);
    format!("{first}{closing},{second}")
}

/// The object with two thousand keys more.
fn many_keys(text: &str) -> String {
    let key = |number: u32| format!("\"key-{number}\":{number},");
    let keys: String = (0..2_000).map(key).collect();
    format!("{{{keys}{}", text.trim_start_matches('{'))
}

fn shout(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.to_uppercase(), shout(value))).collect(),
        Value::Array(values) => values.iter().map(shout).collect(),
        other => other.clone(),
    }
}
