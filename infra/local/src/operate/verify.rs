//! `verify`: which part of a captured callback's authentication is wrong. The signature is judged by [`explain`], the code that
//! judges every callback.

use std::io::Read as _;
use std::path::PathBuf;

use clap::Args;
use local::Error;
use reelhook_aws::clock;
use reelhook_aws::key_sets::KeySets;
use reelhook_core::callback::route::Route;
use reelhook_core::explain::{BodyKind, Explanation, ReceivedBody, explain};
use reelhook_core::request::{CallbackRequest, Headers, Refusal};
use reelhook_core::settings::Settings;
use reelhook_core::{Provider, Timestamp};
use serde_json::{Value, json};

use super::{Code, Output, refused};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The settings whose keys and secrets authenticate it. Those of the deployment unless given.
    #[arg(long, value_name = "FILE")]
    pub(super) settings: Option<PathBuf>,
    /// When it was received, in Unix seconds. The default is now. Old signatures are valid only around their own time.
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    now: Option<i64>,
}

/// An HTTP request as it was captured.
struct Captured {
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// One check and what came of it.
struct Check {
    what: &'static str,
    is_right: bool,
    detail: String,
}

pub(super) fn read_settings(path: &PathBuf) -> Result<Settings, Error> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Error::Refused(format!("cannot read the settings in {}: {error}", path.display())))?;
    Settings::parse(&text).map_err(|error| Error::Refused(format!("invalid settings in {}: {error}", path.display())))
}

pub(super) async fn run(arguments: &Arguments, settings: &Settings, output: Output) -> Result<Code, Error> {
    let mut text = Vec::new();
    std::io::stdin().lock().read_to_end(&mut text).map_err(refused)?;
    let captured = Captured::parse(&text).ok_or_else(|| {
        Error::Refused(
            "standard input is not an HTTP request: a line `POST /callback/… HTTP/1.1`, headers, an empty line, the body"
                .to_owned(),
        )
    })?;
    let now = arguments.now.map_or_else(clock::now, Timestamp::from_seconds);
    let settings = with_published_keys(&captured, settings).await;
    let (checks, explanation) = check(&captured, &settings, now);
    let is_right = checks.iter().all(|check| check.is_right);
    let rows =
        checks.iter().map(|check| json!({ "check": check.what, "right": check.is_right, "detail": check.detail }));
    let document = json!({ "authentic": is_right, "checks": rows.collect::<Vec<_>>(), "explanation": explanation });
    output.print(&document, || {
        let line = |check: &Check| {
            format!("{}  {:<10} {}\n", if check.is_right { "right" } else { "WRONG" }, check.what, check.detail)
        };
        checks.iter().map(line).collect()
    });
    Ok(if is_right { Code::Done } else { Code::Failure })
}

/// The settings with the provider's published keys added to their own; without them if they cannot be fetched.
async fn with_published_keys(captured: &Captured, settings: &Settings) -> Settings {
    let Ok(provider) = Route::parse(&captured.path).map(|route| route.provider()) else { return settings.clone() };
    let own = settings.provider(provider);
    let Some(url) = provider.key_set_url(own) else { return settings.clone() };
    let published = KeySets::default().refresh(provider, url).await.unwrap_or_default();
    settings.with_public_keys(provider, [own.public_keys.clone(), published].concat())
}

fn check(captured: &Captured, settings: &Settings, now: Timestamp) -> (Vec<Check>, Value) {
    let right = |what, detail: &str| Check { what, is_right: true, detail: detail.to_owned() };
    let wrong = |what, detail: String| Check { what, is_right: false, detail };
    let route = match Route::parse(&captured.path) {
        Ok(route) => route,
        Err(error) => return (vec![wrong("URL", error.to_string())], Value::Null),
    };
    let provider = route.provider();
    let mut checks = vec![right("URL", &format!("a callback URL of {provider}"))];
    let request = CallbackRequest {
        path: &captured.path,
        query: &captured.query,
        headers: captured.headers(),
        body: &captured.body,
    };
    checks.push(match route.authenticate(&request, settings, now) {
        Err(Refusal::WrongToken) => wrong(
            "token",
            "not one that callback.keys make for this provider and id: another key, or another URL".to_owned(),
        ),
        _ => right("token", "made by callback.keys for this provider and id"),
    });
    let explanation = captured.explained(&captured.body, provider, settings, now);
    let reason = explanation.authentic_reason.clone();
    checks.push(match (&explanation.authentic, reason) {
        (Some(Value::Bool(true)), _) => right("signature", "valid"),
        (_, None) => {
            right("signature", "none is needed: the provider signs nothing, or no signing secret is configured")
        }
        (_, Some(reason)) => wrong("signature", format!("{reason}{}", captured.hint(provider, settings, now))),
    });
    (checks, json!(explanation))
}

impl Captured {
    /// Reads a request line, headers up to an empty line, and the body byte for byte.
    fn parse(text: &[u8]) -> Option<Self> {
        let (head, body) = ["\r\n\r\n", "\n\n"].into_iter().find_map(|end| {
            let at = text.windows(end.len()).position(|window| window == end.as_bytes())?;
            Some((&text[..at], &text[at + end.len()..]))
        })?;
        let head = str::from_utf8(head).ok()?;
        let mut lines = head.lines();
        let target = lines.next()?.split(' ').nth(1)?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        // The local emulator's own prefix, which the function does not see.
        let path = match path.strip_prefix("/_aws/lambda-url/").and_then(|rest| rest.find('/').map(|at| &rest[at..])) {
            Some(path) => path,
            None => path,
        };
        let header =
            |line: &str| line.split_once(':').map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
        let headers: Option<Vec<_>> = lines.map(header).collect();
        path.starts_with('/').then_some(())?;
        Some(Self { path: path.to_owned(), query: query.to_owned(), headers: headers?, body: body.to_vec() })
    }

    fn headers(&self) -> Headers {
        Headers::new(self.headers.iter().map(|(name, value)| (&**name, &**value)))
    }

    fn explained(&self, body: &[u8], provider: Provider, settings: &Settings, now: Timestamp) -> Explanation {
        explain(&ReceivedBody {
            provider,
            kind: BodyKind::Callback,
            body,
            http_status: 200,
            requested_id: None,
            headers: Some(self.headers()),
            path: &self.path,
            query: &self.query,
            settings: Some(settings.provider(provider)),
            now,
        })
    }

    /// What would make the signature right, of the usual mistakes.
    fn hint(&self, provider: Provider, settings: &Settings, now: Timestamp) -> String {
        let is_right =
            |body: &[u8], now| self.explained(body, provider, settings, now).authentic == Some(Value::Bool(true));
        let signed_at = ["webhook-timestamp", "x-webhook-timestamp", "x-fal-webhook-timestamp"].into_iter();
        let signed_at =
            signed_at.filter_map(|name| self.headers().get(name)?.parse().ok()).map(Timestamp::from_seconds).next();
        if signed_at.is_some_and(|then| is_right(&self.body, then)) {
            return ". It was right when it was signed: give that time as --now, or mend the clock".to_owned();
        }
        let trimmed = self.body.trim_ascii_end();
        let compact = serde_json::from_slice::<Value>(&self.body).map(|body| body.to_string()).unwrap_or_default();
        let and_newline = [&self.body[..], b"\n"].concat();
        for (body, what) in [
            (trimmed, "without the line break at its end, which an editor or `echo` adds"),
            (&and_newline[..], "with a line break at its end"),
            (compact.as_bytes(), "as compact JSON: something parsed and printed it again on the way"),
        ] {
            if body != self.body && [Some(now), signed_at].into_iter().flatten().any(|now| is_right(body, now)) {
                return format!(". It is right for the body {what}");
            }
        }
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_byte_for_byte() {
        let captured =
            Captured::parse(b"POST /_aws/lambda-url/x/callback/kling/a/t?q=1 HTTP/1.1\r\nA: b\r\n\r\n{ }\n\n")
                .expect("a request");
        assert_eq!((captured.path.as_str(), captured.query.as_str()), ("/callback/kling/a/t", "q=1"));
        assert_eq!((captured.headers, &captured.body[..]), (vec![("A".to_owned(), "b".to_owned())], &b"{ }\n\n"[..]));
        for wrong in [&b""[..], b"{}", b"POST\n\n", b"POST x HTTP/1.1\n\n", b"POST /a HTTP/1.1\nno header\n\n"] {
            assert!(Captured::parse(wrong).is_none());
        }
    }
}
