//! Requests as a Function URL hands them to the function, and forgeries made of a genuine one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use simulator::Callback;

/// A request to the public URL.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: String,
    /// As it is sent, percent-encoded.
    pub(super) path: String,
    /// Without `?`.
    pub(super) query: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

/// A request that must be refused.
#[derive(Clone, Debug)]
pub(super) struct Forgery {
    /// What is wrong with it.
    pub(super) name: String,
    pub(super) request: Request,
    /// The statuses with which it may be refused.
    pub(super) refused_as: &'static [u64],
}

/// A wrong token or signature.
pub(super) const UNAUTHORIZED: &[u64] = &[401];
/// Not a callback URL. Whether it is one is known without a secret.
pub(super) const NOT_FOUND: &[u64] = &[404];
/// A changed byte of a path can be a slash.
pub(super) const UNAUTHORIZED_OR_NOT_FOUND: &[u64] = &[401, 404];
/// Not a POST.
pub(super) const NOT_ALLOWED: &[u64] = &[405];
/// Longer than any callback.
pub(super) const TOO_LARGE: &[u64] = &[413];

impl Request {
    /// The request of a callback that a provider sent.
    pub(super) fn genuine(callback: &Callback) -> Self {
        let (_, rest) = callback.url.split_once("/callback/").expect("a callback URL");
        Self {
            method: "POST".to_owned(),
            path: format!("/callback/{rest}"),
            query: String::new(),
            headers: callback.headers.clone(),
            body: callback.body.to_vec(),
        }
    }

    /// A forgery: this request after a change.
    pub(super) fn forged(
        &self,
        name: impl Into<String>,
        refused_as: &'static [u64],
        change: impl FnOnce(&mut Self),
    ) -> Forgery {
        let mut request = self.clone();
        change(&mut request);
        Forgery { name: name.into(), request, refused_as }
    }

    /// The value of a header that is there.
    pub(super) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(given, _)| given.eq_ignore_ascii_case(name));
        &found.unwrap_or_else(|| panic!("no header {name}")).1
    }

    /// Replaces a header, or adds it.
    pub(super) fn set_header(&mut self, name: &str, value: impl Into<String>) {
        self.remove_header(name);
        self.headers.push((name.to_owned(), value.into()));
    }

    pub(super) fn remove_header(&mut self, name: &str) {
        self.headers.retain(|(given, _)| !given.eq_ignore_ascii_case(name));
    }

    /// The four parts of `/callback/{provider}/{id}/{token}` and whatever `APIMart` appends.
    pub(super) fn parts(&self) -> Vec<&str> {
        self.path.trim_start_matches('/').split('/').collect()
    }

    pub(super) fn token(&self) -> &str {
        self.parts()[3]
    }

    /// Replaces one of the parts of the path: 1 is the provider, 2 the id, 3 the token.
    pub(super) fn set_part(&mut self, index: usize, part: &str) {
        let mut parts = self.parts();
        parts[index] = part;
        self.path = format!("/{}", parts.join("/"));
    }

    /// The event of the Function URL. A header that comes twice is joined with a comma, as AWS does, and a body that is no
    /// text is encoded.
    pub(super) fn event(&self) -> Value {
        let mut event: Value =
            serde_json::from_str(include_str!("../../../../events/lambda/function-url-callback.json"))
                .expect("the event is JSON");
        event["rawPath"] = json!(self.path);
        event["rawQueryString"] = json!(self.query);
        event["requestContext"]["http"]["path"] = json!(self.path);
        event["requestContext"]["http"]["method"] = json!(self.method);
        event["headers"]["content-length"] = json!(self.body.len().to_string());
        event["headers"]["content-type"] = Value::Null;
        for (name, value) in &self.headers {
            event["headers"][name] = match event["headers"][name].as_str() {
                Some(first) if self.headers.iter().filter(|(other, _)| other == name).count() > 1 => {
                    json!(format!("{first},{value}"))
                }
                _ => json!(value),
            };
        }
        event["headers"].as_object_mut().expect("headers").retain(|_, value| !value.is_null());
        let text = std::str::from_utf8(&self.body);
        event["isBase64Encoded"] = json!(text.is_err());
        event["body"] = text.map_or_else(|_| json!(STANDARD.encode(&self.body)), |text| json!(text));
        event
    }
}

/// Every text that differs in one bit, with the position of the bit. Without those that no server would let through: control
/// characters cannot be part of a request.
pub(super) fn flipped_bits(text: &str) -> impl Iterator<Item = (usize, String)> + '_ {
    (0..text.len() * 8).filter_map(|bit| {
        // A byte above 127 arrives as the character of that number.
        let changed = |(index, character): (usize, char)| {
            let byte = u8::try_from(character).expect("it is ASCII");
            char::from(if index == bit / 8 { byte ^ (1 << (bit % 8)) } else { byte })
        };
        let flipped: String = text.chars().enumerate().map(changed).collect();
        (!flipped.contains(char::is_control)).then_some((bit, flipped))
    })
}
