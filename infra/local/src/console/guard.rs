//! Who may see the page, and who may change anything. Any site that a browser visits can send requests to 127.0.0.1, and can have a
//! name of its own lead there (DNS rebinding); so the host has to be ours, and whoever writes has to show what only the page was given.

use std::fs::File;
use std::io::Read as _;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use local::Error;

/// The header in which the page shows its token. No form and no other site can send it.
pub(super) const TOKEN_HEADER: &str = "x-reelhook-token";

/// Nothing comes from elsewhere, nothing leads elsewhere, and nobody frames it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; media-src 'self'; \
                      base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

#[derive(Debug)]
pub(super) struct Guard {
    port: u16,
    /// None: read-only.
    token: Option<String>,
}

impl Guard {
    pub(super) fn new(port: u16, allow_writes: bool) -> Result<Self, Error> {
        let mut random = [0; 16];
        File::open("/dev/urandom")
            .and_then(|mut source| source.read_exact(&mut random))
            .map_err(|error| Error::Refused(format!("no random numbers: {error}")))?;
        Ok(Self { port, token: allow_writes.then(|| hex::encode(random)) })
    }

    /// What the page shows when it writes; none when it may not.
    pub(super) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Why a request is refused.
    fn refusal(&self, method: &Method, headers: &HeaderMap) -> Option<&'static str> {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let names = ["127.0.0.1", "localhost"].map(|name| format!("{name}:{}", self.port));
        if !text(header::HOST).is_some_and(|host| names.iter().any(|name| name == host)) {
            return Some("this page is for 127.0.0.1 only");
        }
        if matches!(*method, Method::GET | Method::HEAD) {
            return None;
        }
        let Some(token) = &self.token else { return Some("this page is read-only; start it with --allow-writes") };
        let shown = headers.get(TOKEN_HEADER).is_some_and(|shown| shown.as_bytes() == token.as_bytes());
        (!shown).then_some("the token of the page is missing or wrong; load the page again")
    }
}

/// Refuses what is not for us, and says on each response what it may do.
pub(super) async fn check(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let mut response = match guard.refusal(request.method(), request.headers()) {
        Some(why) => (StatusCode::FORBIDDEN, why).into_response(),
        None => next.run(request).await,
    };
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(guard: &Guard, method: &Method, headers: &[(&'static str, &str)]) -> Option<&'static str> {
        let header = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"))
        };
        guard.refusal(method, &headers.iter().map(header).collect())
    }

    #[test]
    fn only_our_own_host_is_served() {
        let guard = Guard::new(4577, true).expect("a guard");
        for host in ["127.0.0.1:4577", "localhost:4577"] {
            assert_eq!(refusal(&guard, &Method::GET, &[("host", host)]), None);
        }
        for host in
            ["evil.example", "evil.example:4577", "127.0.0.1", "127.0.0.1:80", "127.0.0.1.evil.example:4577", ""]
        {
            assert!(refusal(&guard, &Method::GET, &[("host", host)]).is_some(), "{host}");
        }
        assert!(refusal(&guard, &Method::GET, &[]).is_some());
    }

    #[test]
    fn only_the_page_itself_writes_and_only_where_it_may() {
        let (guard, read_only) = (Guard::new(1, true).expect("a guard"), Guard::new(1, false).expect("a guard"));
        let token = guard.token().expect("a token").to_owned();
        let host = ("host", "127.0.0.1:1");
        assert_eq!(refusal(&guard, &Method::POST, &[host, (TOKEN_HEADER, &token)]), None);
        assert!(refusal(&guard, &Method::POST, &[host]).is_some());
        assert!(refusal(&guard, &Method::POST, &[host, (TOKEN_HEADER, &token[1..])]).is_some());
        assert!(refusal(&guard, &Method::DELETE, &[host]).is_some());
        assert!(refusal(&read_only, &Method::POST, &[host, (TOKEN_HEADER, &token)]).is_some());
        assert_eq!((token.len(), read_only.token()), (32, None));
    }
}
