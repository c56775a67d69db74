//! The HTTP client for links. What it may connect to is decided in [`ssrf`](crate::ssrf).

use std::error::Error;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use reelhook_core::credential::Credential;
use reelhook_core::redacted::SignedUrl;
use reelhook_core::transfer::fault::{BlockedLink, CopyFault, MAX_REDIRECTS, OriginFault};
use reelhook_core::transfer::ranges::ResponseHead;
use reelhook_core::{Timestamp, retry_after};
use reqwest::dns::Resolve;
use url::Url;

use crate::ssrf::{NoPublicAddress, NotResolved, OriginPolicy, PublicResolver, Route, system_lookup};
use crate::tls;

/// Some CDNs respond with 403 to the names that HTTP libraries give themselves, and operators want to know who fetches.
const USER_AGENT: &str = concat!("reelhook/", env!("CARGO_PKG_VERSION"), " (+https://github.com/reelhook/reelhook)");

/// For a TCP connection with TLS. A lost SYN is sent again after 1 s and 3 s, so two losses are survived.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// From request to status line. Origins that fetch a file from an archive first take several seconds.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(15);

/// Idle connections that are kept, at most; the copier uses no more at a time.
const MAX_IDLE_CONNECTIONS: usize = 16;

/// A response whose body is still to come.
#[derive(Debug)]
pub(super) struct OriginResponse {
    response: reqwest::Response,
    url: Url,
}

impl OriginResponse {
    /// Where the response came from, after redirects.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// What decides what it means.
    pub(super) fn head(&self, now: Timestamp) -> ResponseHead<'_> {
        let headers = self.response.headers();
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let content_length = text(header::CONTENT_LENGTH).and_then(|length| length.trim().parse().ok());
        ResponseHead {
            status: self.response.status().as_u16(),
            content_length,
            content_range: text(header::CONTENT_RANGE),
            // A coding whose name is no text is a coding nonetheless.
            content_encoding: headers.get(header::CONTENT_ENCODING).map(|value| value.to_str().unwrap_or("unreadable")),
            framed: content_length.is_some() || headers.contains_key(header::TRANSFER_ENCODING),
            etag: text(header::ETAG),
            last_modified: text(header::LAST_MODIFIED),
            retry_after: text(header::RETRY_AFTER).and_then(|text| retry_after::parse(text, now)),
        }
    }

    /// The next bytes, or none at the end.
    pub(super) async fn chunk(&mut self) -> Result<Option<bytes::Bytes>, OriginFault> {
        self.response.chunk().await.map_err(|_| OriginFault::Dropped)
    }
}

/// The client.
#[derive(Clone, Debug)]
pub(super) struct OriginClient {
    policy: OriginPolicy,
    guarded_client: reqwest::Client,
    /// For allowed origins only.
    allowlisted_client: Option<reqwest::Client>,
}

impl OriginClient {
    /// A client under a policy. Fails when the machine has no root certificates.
    pub(super) fn new(policy: OriginPolicy) -> Result<Self, reqwest::Error> {
        Self::resolving(policy, PublicResolver(system_lookup))
    }

    fn resolving(policy: OriginPolicy, resolver: impl Resolve + 'static) -> Result<Self, reqwest::Error> {
        let guarded_client = builder().https_only(true).dns_resolver(resolver).build()?;
        let allowlisted_client = if policy.is_public_only() { None } else { Some(builder().build()?) };
        Ok(Self { policy, guarded_client, allowlisted_client })
    }

    /// Reads a link.
    pub(super) fn read_link(&self, link: &SignedUrl) -> Result<Url, BlockedLink> {
        let url = Url::parse(link.expose()).map_err(|_| BlockedLink::Unreadable)?;
        if url.host().is_none() {
            return Err(BlockedLink::Unreadable);
        }
        Ok(self.policy.normalised(url))
    }

    /// Fetches a URL, following redirects. At every hop the credential is sent only if the host is one that it is for. The response may
    /// have any status but that of a redirect. Gives only [`CopyFault::Origin`] and [`CopyFault::Blocked`].
    pub(super) async fn get(
        &self,
        url: &Url,
        headers: &HeaderMap,
        credential: Option<&Credential>,
    ) -> Result<OriginResponse, CopyFault> {
        let mut url = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let client = match (self.policy.route(&url)?, &self.allowlisted_client) {
                (Route::Allowed, Some(client)) => client,
                _ => &self.guarded_client,
            };
            let mut request = client.get(url.clone()).headers(headers.clone());
            if let Some((name, value)) = credential.and_then(|credential| credential.header_for(&url)) {
                request = request.header(name, value.expose());
            }
            let response = tokio::time::timeout(RESPONSE_TIMEOUT, request.send())
                .await
                .map_err(|_| OriginFault::Silent)?
                .map_err(|error| classified(&error))?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(OriginResponse { response, url });
            }
            let target = response.headers().get(header::LOCATION).and_then(|target| target.to_str().ok());
            let target = target.and_then(|target| url.join(target).ok()).ok_or(BlockedLink::RedirectTarget)?;
            url = self.policy.normalised(target);
        }
        Err(BlockedLink::Redirects.into())
    }
}

fn builder() -> reqwest::ClientBuilder {
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls::client_config(tls::public_roots()))
        .default_headers(headers)
        .user_agent(USER_AGENT)
        // HTTP/2 would put all pieces of a file onto one connection, with one congestion window and one speed limit.
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .retry(reqwest::retry::never())
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_max_idle_per_host(MAX_IDLE_CONNECTIONS)
}

/// What an error of the HTTP client means. The client's own words are dropped: they repeat the URL.
fn classified(error: &reqwest::Error) -> CopyFault {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<NoPublicAddress>() {
            return BlockedLink::Address.into();
        }
        if error.is::<NotResolved>() {
            return OriginFault::Name.into();
        }
        if let Some(rustls::Error::InvalidCertificate(_)) = error.downcast_ref() {
            return OriginFault::Certificate.into();
        }
        // An I/O error hides what it wraps from `source`.
        cause = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    if error.is_connect() { OriginFault::Connect.into() } else { OriginFault::Dropped.into() }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;
    use tokio::net::TcpListener;

    use super::*;

    /// A public address that belongs to nobody: the 6bone's, which was given back in 2006.
    const NOBODY: IpAddr = IpAddr::V6(Ipv6Addr::new(0x3ffe, 0, 0, 0, 0, 0, 0, 1));
    const THIS_MACHINE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const ITSELF: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
    const METADATA: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254));
    const MAPPED: IpAddr = IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped());

    /// A listener on this machine, and a name server that gives one list of addresses after the other; the last one stays.
    struct Trap {
        port: u16,
        connections: Arc<AtomicUsize>,
        lookups: Arc<AtomicUsize>,
    }

    impl Trap {
        async fn set() -> Self {
            let listener = TcpListener::bind((THIS_MACHINE, 0)).await.expect("a port");
            let port = listener.local_addr().expect("an address").port();
            let connections = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&connections);
            tokio::spawn(async move {
                // Counted before it hangs up, which is what the client sees.
                while let Ok(_connection) = listener.accept().await {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            });
            Self { port, connections, lookups: Arc::default() }
        }

        fn resolver(
            &self,
            answers: &'static [&'static [IpAddr]],
        ) -> impl Fn(String) -> std::future::Ready<std::io::Result<Vec<SocketAddr>>> + use<> {
            let lookups = Arc::clone(&self.lookups);
            move |_| {
                let answer = answers[lookups.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1)];
                std::future::ready(Ok(answer.iter().map(|address| SocketAddr::new(*address, 0)).collect()))
            }
        }

        fn url(&self) -> Url {
            Url::parse(&format!("https://rebinding.example.com:{}/v", self.port)).expect("a URL")
        }
    }

    /// The name server of an attacker gives a public address to whoever checks and a private one to whoever connects. There is
    /// one look-up for both, so nobody connects to what was not checked.
    #[tokio::test]
    async fn no_answer_of_a_name_server_leads_to_this_machine() {
        let answers: [&[&[IpAddr]]; 6] = [
            &[&[THIS_MACHINE]],
            &[&[THIS_MACHINE, ITSELF, METADATA, MAPPED]],
            &[&[NOBODY], &[THIS_MACHINE]],
            &[&[NOBODY, THIS_MACHINE, MAPPED], &[MAPPED, ITSELF]],
            &[&[THIS_MACHINE, NOBODY], &[NOBODY], &[METADATA, THIS_MACHINE]],
            &[&[], &[NOBODY], &[THIS_MACHINE]],
        ];
        // Side by side, because a connection to nobody takes a while to fail.
        join_all(answers.map(assert_harmless)).await;
    }

    async fn assert_harmless(answers: &'static [&'static [IpAddr]]) {
        let trap = Trap::set().await;
        let resolver = PublicResolver(trap.resolver(answers));
        let client = OriginClient::resolving(OriginPolicy::public_only(), resolver).expect("a client");
        for (attempt, answer) in answers.iter().enumerate() {
            let fault = client.get(&trap.url(), &HeaderMap::new(), None).await.expect_err("it leads nowhere");
            let blocked = CopyFault::from(BlockedLink::Address);
            let expected = if answer.contains(&NOBODY) { OriginFault::Connect.into() } else { blocked };
            assert_eq!(fault, expected, "attempt {attempt} of {answers:?}");
            assert_eq!(trap.lookups.load(Ordering::Relaxed), attempt + 1, "one look-up for check and connection");
        }
        assert_eq!(trap.connections.load(Ordering::Relaxed), 0, "{answers:?}");
    }

    /// Resolves as the guarded client does, but lets every address through.
    struct Careless<L>(L);

    impl<L: Fn(String) -> std::future::Ready<std::io::Result<Vec<SocketAddr>>> + Send + Sync> Resolve for Careless<L> {
        fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
            let addresses = (self.0)(name.as_str().to_owned()).into_inner();
            Box::pin(async { Ok(Box::new(addresses?.into_iter()) as reqwest::dns::Addrs) })
        }
    }

    #[tokio::test]
    async fn without_the_resolver_the_same_answers_lead_to_this_machine() {
        let trap = Trap::set().await;
        let resolver = Careless(trap.resolver(&[&[THIS_MACHINE]]));
        let client = builder().dns_resolver(resolver).build().expect("a client");
        // The listener speaks no TLS.
        client.get(trap.url()).timeout(Duration::from_secs(30)).send().await.expect_err("no handshake");
        assert_eq!(trap.connections.load(Ordering::Relaxed), 1);
    }
}
