//! What the copier may connect to. A link comes out of a callback, so it is followed only to where a video can be: over
//! https, to public addresses, and the same again for every redirect. Whoever controls a link, a redirect or a DNS answer
//! reaches nothing else with it: not the Lambda runtime API on loopback, no metadata service, no host of a private network.
//!
//! Names are resolved once, by a resolver that gives back public addresses only, and the connection goes to exactly these:
//! nothing resolves a second time between check and connect.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use reelhook_core::ssrf::is_public;
use reelhook_core::transfer::fault::BlockedLink;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// What may be fetched.
#[derive(Clone, Debug, Default)]
pub struct OriginPolicy {
    allowed: BTreeSet<(String, u16)>,
}

/// An entry of the allowed origins that is not `host:port`.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not an origin; give host:port, for example 127.0.0.1:8080")]
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

    /// Whether nothing is listed.
    pub(crate) fn is_public_only(&self) -> bool {
        self.allowed.is_empty()
    }

    /// Whether this very host and port are listed.
    pub(crate) fn allows(&self, url: &Url) -> bool {
        origin_of(url).is_some_and(|origin| self.allowed.contains(&origin))
    }

    /// The URL that is requested for a link: without user name, password and fragment (no provider gives any, and they are
    /// never sent on), and over https where a provider wrote http, except at an allowed origin.
    pub(crate) fn normalised(&self, mut url: Url) -> Url {
        // Both fail only for URLs that cannot have credentials.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.set_fragment(None);
        if url.scheme() == "http" && !self.allows(&url) {
            // Fails only between special and other schemes. A port that was named stays.
            let _ = url.set_scheme("https");
        }
        url
    }

    /// Which way a URL may be fetched, if it may.
    pub(crate) fn route(&self, url: &Url) -> Result<Route, BlockedLink> {
        if self.allows(url) {
            return if matches!(url.scheme(), "http" | "https") {
                Ok(Route::Allowed)
            } else {
                Err(BlockedLink::Scheme)
            };
        }
        if url.scheme() != "https" {
            return Err(BlockedLink::Scheme);
        }
        // Addresses in a URL are never resolved, so the resolver does not see them. `Url` has already turned decimal,
        // octal, hexadecimal and shortened forms into these.
        match url.host() {
            Some(Host::Ipv4(address)) if !is_public(IpAddr::V4(address)) => Err(BlockedLink::Address),
            Some(Host::Ipv6(address)) if !is_public(IpAddr::V6(address)) => Err(BlockedLink::Address),
            Some(_) => Ok(Route::Guarded),
            None => Err(BlockedLink::Unreadable),
        }
    }
}

/// How a URL is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// To public addresses only.
    Guarded,
    /// To an origin of the allow-list, whatever its address.
    Allowed,
}

fn origin_of(url: &Url) -> Option<(String, u16)> {
    Some((url.host_str()?.to_owned(), url.port_or_known_default()?))
}

/// Resolves names to public addresses only. What it is made with looks them up, in tests with answers that change.
#[derive(Debug)]
pub(crate) struct PublicResolver<L>(pub(crate) L);

/// Looks a name up as the system does.
pub(crate) async fn system_lookup(name: String) -> std::io::Result<Vec<SocketAddr>> {
    Ok(tokio::net::lookup_host((name, 0)).await?.collect())
}

/// A name whose addresses are all private.
#[derive(Debug, thiserror::Error)]
#[error("no public address")]
pub(crate) struct NoPublicAddress;

/// A name that was not resolved.
#[derive(Debug, thiserror::Error)]
#[error("not resolved")]
pub(crate) struct NotResolved;

impl<L, F> Resolve for PublicResolver<L>
where
    L: Fn(String) -> F + Send + Sync,
    F: Future<Output = std::io::Result<Vec<SocketAddr>>> + Send + 'static,
{
    fn resolve(&self, name: Name) -> Resolving {
        let looking_up = (self.0)(name.as_str().to_owned());
        Box::pin(async move {
            let resolved = looking_up.await.map_err(|_| NotResolved)?;
            Ok(public_addresses(resolved.into_iter())?)
        })
    }
}

/// The public ones among these addresses. A private address among public ones does no harm: it is omitted.
fn public_addresses(resolved: impl Iterator<Item = SocketAddr>) -> Result<Addrs, NoPublicAddress> {
    let public: Vec<SocketAddr> = resolved.filter(|address| is_public(address.ip())).collect();
    if public.is_empty() { Err(NoPublicAddress) } else { Ok(Box::new(public.into_iter())) }
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
        let Err(error) = PublicResolver(system_lookup).resolve(name).await else { panic!("it leads nowhere public") };
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

    #[test]
    fn http_links_are_tried_as_https_but_for_allowed_origins() {
        let policy = OriginPolicy::allowing(["127.0.0.1:8080"]).expect("an origin");
        for (link, requested) in [
            ("http://cdn.example.com/v?s=1", "https://cdn.example.com/v?s=1"),
            ("http://cdn.example.com:80/v", "https://cdn.example.com/v"),
            ("http://cdn.example.com:8080/v", "https://cdn.example.com:8080/v"),
            ("https://user:secret@cdn.example.com/v#t=1", "https://cdn.example.com/v"),
            ("http://user:secret@127.0.0.1:8080/v", "http://127.0.0.1:8080/v"),
            ("ftp://cdn.example.com/v", "ftp://cdn.example.com/v"),
        ] {
            assert_eq!(policy.normalised(Url::parse(link).expect("a URL")).as_str(), requested, "{link}");
        }
    }

    #[test]
    fn every_url_has_one_way_or_none() {
        let policy = OriginPolicy::allowing(["127.0.0.1:8080"]).expect("an origin");
        for (url, route) in [
            ("https://cdn.example.com/v", Ok(Route::Guarded)),
            ("http://127.0.0.1:8080/v", Ok(Route::Allowed)),
            ("ftp://127.0.0.1:8080/v", Err(BlockedLink::Scheme)),
            ("http://cdn.example.com/v", Err(BlockedLink::Scheme)),
            ("https://127.0.0.1/v", Err(BlockedLink::Address)),
            ("https://[::1]/v", Err(BlockedLink::Address)),
        ] {
            assert_eq!(policy.route(&Url::parse(url).expect("a URL")), route, "{url}");
        }
    }
}
