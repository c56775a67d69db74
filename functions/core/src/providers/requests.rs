//! Building the requests to a provider.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::adapter::{InvalidSubmission, Method, PolledTask, Profile, Request, StatusRequest, Submission};
use crate::redacted::Secret;
use crate::settings::ProviderSettings;

/// Percent-encoded in a path segment or a query value: all but unreserved characters.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The base URL of a provider's API, with the headers that every call of it carries.
pub(super) struct Api<'a> {
    base_url: &'a str,
    headers: Vec<(&'static str, Secret)>,
}

impl<'a> Api<'a> {
    /// The API of a provider that takes `Authorization: <scheme> <API key>`. `name` is the provider's name in the settings,
    /// for the error when something is missing.
    pub(super) fn new(
        name: &'static str,
        scheme: &str,
        profile: &Profile,
        settings: &'a ProviderSettings,
    ) -> Result<Self, InvalidSubmission> {
        let key = settings.api_key.as_ref().ok_or(InvalidSubmission::NoApiKey(name))?;
        Self::authorized(name, Secret::new(format!("{scheme} {}", key.expose())), profile, settings)
    }

    /// The API of a provider, with a complete authorization header.
    pub(super) fn authorized(
        name: &'static str,
        authorization: Secret,
        profile: &Profile,
        settings: &'a ProviderSettings,
    ) -> Result<Self, InvalidSubmission> {
        let base_url =
            settings.base_url.as_deref().or(profile.default_base_url).ok_or(InvalidSubmission::NoBaseUrl(name))?;
        Ok(Self { base_url: base_url.trim_end_matches('/'), headers: vec![("authorization", authorization)] })
    }

    /// The same with the authorization in a header of another name, in lower case.
    pub(super) fn in_header(mut self, header: &'static str) -> Self {
        for (name, _) in &mut self.headers {
            *name = header;
        }
        self
    }

    /// Drops a suffix of the base URL: the version, which some docs make part of it and every path here includes.
    pub(super) fn without_suffix(mut self, suffix: &str) -> Self {
        self.base_url = self.base_url.strip_suffix(suffix).unwrap_or(self.base_url);
        self
    }

    /// Adds a header to every call, its name in lower case.
    pub(super) fn with_header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, Secret::new(value)));
        self
    }

    /// GET of a path below the base URL.
    pub(super) fn get(&self, path: &str) -> Request {
        self.request(Method::Get, path, None)
    }

    /// POST of JSON to a path below the base URL.
    pub(super) fn post(&self, path: &str, body: &Value) -> Request {
        self.request(Method::Post, path, Some(body.to_string().into_bytes()))
    }

    /// DELETE of a path below the base URL.
    pub(super) fn delete(&self, path: &str) -> Request {
        self.request(Method::Delete, path, None)
    }

    /// PUT of a path below the base URL, without a body.
    pub(super) fn put(&self, path: &str) -> Request {
        self.request(Method::Put, path, None)
    }

    fn request(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Request {
        let url = format!("{}{path}", self.base_url);
        Request { method, url, headers: self.headers.clone(), body }
    }
}

/// Percent-encodes a path segment or a query value. A dot segment leads elsewhere, however it is encoded once.
pub(super) fn encoded(text: &str) -> String {
    match text {
        "." | ".." => text.replace('.', "%252E"),
        _ => utf8_percent_encode(text, ENCODED).to_string(),
    }
}

/// The path of an id that is a path itself, with its slashes. Any other is percent-encoded as a single segment.
pub(super) fn path_of(id: &str) -> String {
    let path = format!("/{id}");
    if is_plain_path(&path) {
        return path;
    }
    format!("/{}", encoded(id))
}

/// A query with one parameter per id.
pub(super) fn repeated(parameter: &str, encoded_ids: &[String]) -> String {
    let pairs: Vec<String> = encoded_ids.iter().map(|id| format!("{parameter}={id}")).collect();
    pairs.join("&")
}

/// One status request per task, for providers and tasks that cannot share one.
pub(super) fn one_per_task(
    tasks: &[PolledTask<'_>],
    positions: impl IntoIterator<Item = usize>,
    request: impl Fn(&PolledTask<'_>) -> Request,
) -> Vec<StatusRequest> {
    positions
        .into_iter()
        .map(|position| StatusRequest { request: request(&tasks[position]), tasks: vec![position] })
        .collect()
}

/// Status requests for up to `batch_size` tasks each.
pub(super) fn batched(
    tasks: &[PolledTask<'_>],
    positions: &[usize],
    batch_size: usize,
    request: impl Fn(&[String]) -> Request,
) -> Vec<StatusRequest> {
    positions
        .chunks(batch_size)
        .map(|chunk| {
            let ids: Vec<String> = chunk.iter().map(|position| encoded(tasks[*position].provider_task_id)).collect();
            StatusRequest { request: request(&ids), tasks: chunk.to_vec() }
        })
        .collect()
}

/// The endpoint of a submission to a provider with these endpoints; the first is the default.
pub(super) fn endpoint<'a>(
    submission: &Submission<'a>,
    known: &'static [&'static str],
) -> Result<&'a str, InvalidSubmission> {
    let example = known[0];
    match submission.endpoint {
        None => Ok(example),
        Some(given) if known.contains(&given) => Ok(given),
        Some(given) => Err(InvalidSubmission::EndpointUnknown { given: given.to_owned(), example }),
    }
}

/// The endpoint of a submission to a provider that has no default endpoint.
pub(super) fn named_endpoint<'a>(
    submission: &Submission<'a>,
    example: &'static str,
    acceptable: impl Fn(&str) -> bool,
) -> Result<&'a str, InvalidSubmission> {
    match submission.endpoint {
        None => Err(InvalidSubmission::EndpointMissing { example }),
        Some(given) if is_plain_path(given) && acceptable(given) => Ok(given),
        Some(given) => Err(InvalidSubmission::EndpointUnknown { given: given.to_owned(), example }),
    }
}

/// A submission to one of these endpoints, with the callback URL at a path of fields.
pub(super) fn submission(
    api: &Api<'_>,
    submission: &Submission<'_>,
    endpoints: &'static [&'static str],
    field: &[&'static str],
) -> Result<Request, InvalidSubmission> {
    let body = with_callback_url(submission, field, submission.callback_url)?;
    Ok(api.post(endpoint(submission, endpoints)?, &body))
}

/// A submission as the caller sent it, to a provider that calls nobody back.
pub(super) fn unchanged(
    api: &Api<'_>,
    submission: &Submission<'_>,
    endpoint: &str,
) -> Result<Request, InvalidSubmission> {
    if submission.body.is_object() {
        Ok(api.post(endpoint, submission.body))
    } else {
        Err(InvalidSubmission::NotAnObject)
    }
}

/// The caller's body with the callback URL in the field at `path`. Missing objects on the way are added. A URL that the
/// caller put there is replaced, because reelhook has to receive the callback.
pub(super) fn with_callback_url(
    submission: &Submission<'_>,
    path: &[&'static str],
    url: &str,
) -> Result<Value, InvalidSubmission> {
    let mut body = submission.body.clone();
    *field(&mut body, path)? = Value::String(url.to_owned());
    Ok(body)
}

/// The field at a path of fields, null where there is none. Missing objects on the way are added.
pub(super) fn field<'a>(body: &'a mut Value, path: &[&'static str]) -> Result<&'a mut Value, InvalidSubmission> {
    let (last, parents) = path.split_last().expect("an adapter names at least one field");
    let mut parent = body.as_object_mut().ok_or(InvalidSubmission::NotAnObject)?;
    for field in parents {
        let entry = parent.entry(*field).or_insert_with(|| Value::Object(serde_json::Map::new()));
        if entry.is_null() {
            *entry = Value::Object(serde_json::Map::new());
        }
        parent = entry.as_object_mut().ok_or(InvalidSubmission::FieldNotAnObject(field))?;
    }
    Ok(parent.entry(*last).or_insert(Value::Null))
}

/// Whether a path is a plain endpoint below a base URL: at most 256 bytes, segments of `[A-Za-z0-9._:-]`, none of them `.` or
/// `..`. Keeps a caller's `?endpoint=` from leaving the provider's API or adding a query.
pub(super) fn is_plain_path(path: &str) -> bool {
    let segment = |segment: &str| {
        !segment.is_empty()
            && !matches!(segment, "." | "..")
            && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'-'))
    };
    path.len() <= 256 && path.strip_prefix('/').is_some_and(|path| path.split('/').all(segment))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_callback_url_is_put_into_nested_fields() {
        let put = |body: Value, path: &[&'static str]| {
            let submission = Submission { body: &body, endpoint: None, callback_url: "https://hub", marker: "m" };
            with_callback_url(&submission, path, "https://hub")
        };
        assert_eq!(put(json!({"a": 1}), &["webhook"]), Ok(json!({"a": 1, "webhook": "https://hub"})));
        assert_eq!(
            put(json!({"options": {"x": 1}}), &["options", "callback_url"]),
            Ok(json!({"options": {"x": 1, "callback_url": "https://hub"}}))
        );
        assert_eq!(
            put(json!({"input": null}), &["input", "metadata", "callback_url"]),
            Ok(json!({"input": {"metadata": {"callback_url": "https://hub"}}}))
        );
        assert_eq!(put(json!({"options": 7}), &["options", "c"]), Err(InvalidSubmission::FieldNotAnObject("options")));
        assert_eq!(put(json!([]), &["c"]), Err(InvalidSubmission::NotAnObject));
    }

    #[test]
    fn endpoints_stay_below_the_base_url() {
        for good in ["/v1/videos/text2video", "/text-to-video/kling-2.6", "/v1beta/models/veo:predictLongRunning"] {
            assert!(is_plain_path(good), "{good}");
        }
        for bad in ["", "/", "v1", "//host/path", "/a/../b", "/a?b", "/a#b", "/a%2e", "/a/", "/a@b", "/a b"] {
            assert!(!is_plain_path(bad), "{bad}");
        }
    }

    #[test]
    fn an_id_with_slashes_leads_nowhere_else() {
        for plain in ["models/veo-3.1/operations/ab12", "operations/x", "a.b_c-9"] {
            assert_eq!(path_of(plain), format!("/{plain}"));
        }
        for (id, path) in [
            ("models/../secrets", "/models%2F..%2Fsecrets"),
            ("models//x", "/models%2F%2Fx"),
            ("/x", "/%2Fx"),
            ("x/", "/x%2F"),
            ("a/b?c", "/a%2Fb%3Fc"),
            ("a/%2e%2e/b", "/a%2F%252e%252e%2Fb"),
            ("..", "/%252E%252E"),
            ("", "/"),
        ] {
            assert_eq!(path_of(id), path, "{id}");
            let url = url::Url::parse(&format!("https://api.test/v1{}", path_of(id))).expect("a URL");
            assert!(url.path().starts_with("/v1/") && url.query().is_none(), "{id}: {url}");
        }
    }
}
