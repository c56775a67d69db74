//! The client that fetches what strangers name. A link comes out of a callback, so it is followed only to where a video can
//! be: over https, to public addresses, and the same again for every redirect. Whoever controls a link, a redirect or a DNS
//! answer reaches nothing else with it: not the Lambda runtime API on loopback, no metadata service, no host of a private
//! network.
//!
//! Names are resolved once, by a resolver that gives back public addresses only, and the connection goes to exactly these:
//! nothing resolves a second time between check and connect.

use std::collections::BTreeSet;
use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use reelhook_core::address::is_public;
use reelhook_core::copy_plan::{self, Head};
use reelhook_core::redacted::SignedUrl;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rustls_platform_verifier::BuilderVerifierExt;
use url::{Host, Url};

/// Some CDNs answer 403 to the names that HTTP libraries give themselves, and operators want to know who fetches.
const USER_AGENT: &str = concat!("reelhook/", env!("CARGO_PKG_VERSION"), " (+https://github.com/reelhook/reelhook)");

/// Redirects that are followed. Links that go through a download page and a CDN have two; five is what curl's manual gives as
/// an example and half of what browsers take.
const MOST_REDIRECTS: usize = 5;

/// For a TCP connection with TLS. A lost SYN is sent again after 1 s and 3 s, so two losses are survived.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// From request to status line. Origins that fetch a file from an archive first take several seconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// Idle connections that are kept, at most; the copier uses no more at a time.
const KEPT_CONNECTIONS: usize = 16;

/// What may be fetched.
#[derive(Clone, Debug, Default)]
pub struct OriginPolicy {
    allowed: BTreeSet<(String, u16)>,
}

/// An entry of the allowed origins that is none.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no origin; give host:port, for example 127.0.0.1:8080")]
pub struct InvalidOrigin(String);

impl OriginPolicy {
    /// Public addresses over https, and nothing else.
    pub fn public_only() -> Self {
        Self::default()
    }

    /// Besides these, exactly the listed `host:port` pairs, over http as well and whatever their addresses: for local runs.
    pub fn allowing<'a>(origins: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidOrigin> {
        let mut allowed = BTreeSet::new();
        for origin in origins {
            let url = Url::parse(&format!("http://{origin}/")).map_err(|_| InvalidOrigin(origin.to_owned()))?;
            let (host, port) = origin_of(&url).ok_or_else(|| InvalidOrigin(origin.to_owned()))?;
            let has_port = origin.rsplit_once(':').is_some_and(|(_, digits)| digits.parse() == Ok(port));
            if !has_port || url.path() != "/" || url.query().is_some() || !url.username().is_empty() {
                return Err(InvalidOrigin(origin.to_owned()));
            }
            allowed.insert((host, port));
        }
        Ok(Self { allowed })
    }

    /// Whether this very host and port are listed.
    fn allows(&self, url: &Url) -> bool {
        origin_of(url).is_some_and(|origin| self.allowed.contains(&origin))
    }
}

fn origin_of(url: &Url) -> Option<(String, u16)> {
    Some((url.host_str()?.to_owned(), url.port_or_known_default()?))
}

/// Why a link is not followed. Trying again at once gives the same; another link may not, or the same one another day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is no URL.
    #[error("the link cannot be read")]
    Unreadable,
    /// Neither https nor an allowed origin.
    #[error("the link is not https")]
    Scheme,
    /// It leads to an address that is not public.
    #[error("the link leads to an address that is not public")]
    Address,
    /// More redirects than are followed, or a loop of them.
    #[error("the link is redirected more than {MOST_REDIRECTS} times")]
    Redirects,
    /// A redirect that does not say where to.
    #[error("the link is redirected to nowhere")]
    RedirectTarget,
    /// The body is compressed although it was asked not to be.
    #[error("the origin sends the file in a content coding that was not asked for")]
    Encoded,
    /// The file is larger than what is taken.
    #[error("the file is larger than {limit} bytes")]
    TooLarge {
        /// What is taken.
        limit: u64,
    },
    /// The body ends where the connection does, and nothing in the file says how long it is, so that a cut-off file cannot be
    /// told from a whole one.
    #[error("the origin does not say how long the file is, and neither does the file")]
    UnknownEnd,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The link is not followed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The origin could not be reached, or did not answer.
    #[error(transparent)]
    Trouble(#[from] Trouble),
}

/// Trouble with an origin that may pass. Holds no words of the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// The name was not resolved.
    #[error("the origin's name could not be resolved")]
    Name,
    /// No connection.
    #[error("the origin could not be connected to")]
    Connect,
    /// No trust.
    #[error("the origin's certificate is not accepted")]
    Certificate,
    /// No status line in time.
    #[error("the origin did not answer in time")]
    Silent,
    /// No bytes for too long.
    #[error("the origin stopped sending")]
    Stalled,
    /// The connection broke.
    #[error("the connection broke off")]
    Dropped,
    /// It says it has trouble.
    #[error("the origin answered with status {0}")]
    Status(u16),
    /// It was a different file each time.
    #[error("the file changed while it was read")]
    Changing,
}

/// An answer whose body is still to come.
#[derive(Debug)]
pub struct Answer {
    response: reqwest::Response,
    url: Url,
}

impl Answer {
    /// Where the answer came from, after redirects.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// What decides about its meaning. `now` in Unix seconds.
    pub fn head(&self, now: i64) -> Head<'_> {
        let headers = self.response.headers();
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let content_length = text(header::CONTENT_LENGTH).and_then(|length| length.trim().parse().ok());
        Head {
            status: self.response.status().as_u16(),
            content_length,
            content_range: text(header::CONTENT_RANGE),
            // A coding whose name is no text is a coding nonetheless.
            content_encoding: headers.get(header::CONTENT_ENCODING).map(|value| value.to_str().unwrap_or("unreadable")),
            framed: content_length.is_some() || headers.contains_key(header::TRANSFER_ENCODING),
            etag: text(header::ETAG),
            last_modified: text(header::LAST_MODIFIED),
            retry_after: text(header::RETRY_AFTER).and_then(|text| copy_plan::retry_after_seconds(text, now)),
        }
    }

    /// The next bytes, or none at the end.
    pub async fn chunk(&mut self) -> Result<Option<bytes::Bytes>, Trouble> {
        self.response.chunk().await.map_err(|_| Trouble::Dropped)
    }
}

/// The client.
#[derive(Clone, Debug)]
pub struct Downloader {
    policy: OriginPolicy,
    guarded: reqwest::Client,
    /// For allowed origins only.
    unguarded: Option<reqwest::Client>,
}

impl Downloader {
    /// A client under a policy. Fails when the machine has no root certificates.
    pub fn new(policy: OriginPolicy) -> Result<Self, DownloaderError> {
        let guarded = builder()?.https_only(true).dns_resolver(PublicOnly).build()?;
        let unguarded = if policy.allowed.is_empty() { None } else { Some(builder()?.build()?) };
        Ok(Self { policy, guarded, unguarded })
    }

    /// Reads a link. User name and password in it are dropped: no provider gives any, and they are never sent on.
    pub fn read_link(link: &SignedUrl) -> Result<Url, Refusal> {
        let url = Url::parse(link.expose()).map_err(|_| Refusal::Unreadable)?;
        if url.host().is_none() {
            return Err(Refusal::Unreadable);
        }
        Ok(without_credentials(url))
    }

    /// Fetches a URL, following redirects. The answer may have any status but that of a redirect.
    pub async fn get(&self, url: &Url, headers: &HeaderMap) -> Result<Answer, FetchError> {
        let mut url = url.clone();
        for _ in 0..=MOST_REDIRECTS {
            let response = tokio::time::timeout(
                ANSWER_WITHIN,
                self.client_for(&url)?.get(url.clone()).headers(headers.clone()).send(),
            )
            .await
            .map_err(|_| Trouble::Silent)?
            .map_err(|error| classified(&error))?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(Answer { response, url });
            }
            let target = response.headers().get(header::LOCATION).and_then(|target| target.to_str().ok());
            let target = target.and_then(|target| url.join(target).ok()).ok_or(Refusal::RedirectTarget)?;
            url = without_credentials(target);
        }
        Err(Refusal::Redirects.into())
    }

    /// The client that may fetch this URL, if one may.
    fn client_for(&self, url: &Url) -> Result<&reqwest::Client, Refusal> {
        if let Some(unguarded) = self.unguarded.as_ref().filter(|_| self.policy.allows(url)) {
            return if matches!(url.scheme(), "http" | "https") { Ok(unguarded) } else { Err(Refusal::Scheme) };
        }
        if url.scheme() != "https" {
            return Err(Refusal::Scheme);
        }
        // Addresses in a URL are never resolved, so the resolver does not see them. `Url` has already turned decimal,
        // octal, hexadecimal and shortened forms into these.
        match url.host() {
            Some(Host::Ipv4(address)) if !is_public(IpAddr::V4(address)) => Err(Refusal::Address),
            Some(Host::Ipv6(address)) if !is_public(IpAddr::V6(address)) => Err(Refusal::Address),
            Some(_) => Ok(&self.guarded),
            None => Err(Refusal::Unreadable),
        }
    }
}

fn without_credentials(mut url: Url) -> Url {
    // Both fail only for URLs that cannot have credentials.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_fragment(None);
    url
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum DownloaderError {
    /// TLS cannot be set up; mostly, there are no root certificates.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    /// HTTP cannot be set up.
    #[error("HTTP cannot be set up")]
    Http(#[from] reqwest::Error),
}

fn builder() -> Result<reqwest::ClientBuilder, DownloaderError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_platform_verifier()?
        .with_no_client_auth();
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    Ok(reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .default_headers(headers)
        .user_agent(USER_AGENT)
        // HTTP/2 would put all pieces of a file onto one connection, with one congestion window and one speed limit.
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .retry(reqwest::retry::never())
        .no_proxy()
        .connect_timeout(CONNECT_WITHIN)
        .pool_max_idle_per_host(KEPT_CONNECTIONS))
}

/// Resolves names to public addresses only.
#[derive(Debug)]
struct PublicOnly;

/// A name whose addresses are all private.
#[derive(Debug, thiserror::Error)]
#[error("no public address")]
struct NoPublicAddress;

/// A name that was not resolved.
#[derive(Debug, thiserror::Error)]
#[error("not resolved")]
struct NotResolved;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let resolved = tokio::net::lookup_host((name.as_str(), 0)).await.map_err(|_| NotResolved)?;
            Ok(public_addresses(resolved)?)
        })
    }
}

/// The public ones among these addresses. One private address among public ones does not hurt: it is left out.
fn public_addresses(resolved: impl Iterator<Item = SocketAddr>) -> Result<Addrs, NoPublicAddress> {
    let public: Vec<SocketAddr> = resolved.filter(|address| is_public(address.ip())).collect();
    if public.is_empty() { Err(NoPublicAddress) } else { Ok(Box::new(public.into_iter())) }
}

/// What an error of the HTTP client means. The client's own words are dropped: they repeat the URL.
fn classified(error: &reqwest::Error) -> FetchError {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<NoPublicAddress>() {
            return Refusal::Address.into();
        }
        if error.is::<NotResolved>() {
            return Trouble::Name.into();
        }
        if let Some(rustls::Error::InvalidCertificate(_)) = error.downcast_ref() {
            return Trouble::Certificate.into();
        }
        // An I/O error hides what it wraps from `source`.
        cause = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    if error.is_connect() { Trouble::Connect.into() } else { Trouble::Dropped.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(addresses: &[&str]) -> Option<Vec<String>> {
        let addresses = addresses.iter().map(|address| SocketAddr::new(address.parse().expect("an address"), 0));
        let public = public_addresses(addresses).ok()?;
        Some(public.map(|address| address.ip().to_string()).collect())
    }

    #[test]
    fn a_name_leads_only_to_its_public_addresses() {
        assert_eq!(resolved(&["8.8.8.8"]), Some(vec!["8.8.8.8".to_owned()]));
        assert_eq!(resolved(&["10.0.0.1", "8.8.8.8", "::1"]), Some(vec!["8.8.8.8".to_owned()]));
        assert_eq!(resolved(&["127.0.0.1", "::ffff:127.0.0.1", "169.254.169.254"]), None);
        assert_eq!(resolved(&[]), None);
    }

    #[tokio::test]
    async fn the_resolver_itself_refuses_names_of_this_machine() {
        let name = "localhost".parse().expect("a name");
        let Err(error) = PublicOnly.resolve(name).await else { panic!("it leads nowhere public") };
        assert!(error.is::<NoPublicAddress>());
    }

    #[test]
    fn an_allowed_origin_is_exactly_one_host_and_port() {
        let policy = OriginPolicy::allowing(["127.0.0.1:8080"]).expect("an origin");
        for (url, allowed) in [
            ("http://127.0.0.1:8080/v", true),
            ("https://127.0.0.1:8080/v", true),
            // The same address in another form is the same host.
            ("http://2130706433:8080/v", true),
            ("http://127.0.0.1:8081/v", false),
            ("http://127.0.0.1/v", false),
            ("http://127.0.0.2:8080/v", false),
            ("http://localhost:8080/v", false),
            ("http://127.0.0.1.example.com:8080/v", false),
            ("http://example.com/127.0.0.1:8080", false),
            ("http://127.0.0.1:8080@example.com/", false),
        ] {
            assert_eq!(policy.allows(&Url::parse(url).expect("a URL")), allowed, "{url}");
        }
        assert!(!OriginPolicy::public_only().allows(&Url::parse("https://example.com/").expect("a URL")));
    }
}
