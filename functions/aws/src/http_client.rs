//! The HTTP client of the SDK: HTTP/1.1 over TLS 1.3 or 1.2, with connections that can be opened before they are needed.
//!
//! The SDK's own client brings HTTP/2, which no service here is called with, and opens a connection for each call that finds
//! none idle, however many there are. `functions/PERFORMANCE.md` has what the difference is.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, SystemTime};

use aws_smithy_runtime_api::client::connection::{CaptureSmithyConnection, ConnectionMetadata};
use aws_smithy_runtime_api::client::http::{
    HttpClient as SdkHttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::signer::ServiceClock;

/// How long an idle connection is used again. Services close theirs sooner or later, and what is between may forget one without
/// a word: then a call waits for its whole timeout.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// How long an idle connection may take to be ready: it is at once, or perhaps never.
const READY_WITHIN: Duration = Duration::from_millis(100);

/// How long opening a connection may take when the SDK sets no limit.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The client. Clones share their connections.
#[derive(Clone)]
pub(crate) struct HttpClient {
    pool: Arc<Pool>,
}

/// Where a connection leads: two origins share none.
type Origin = (Scheme, Authority);

struct Pool {
    tls: TlsConnector,
    /// Most connections to one origin.
    max_connections: usize,
    clock: ServiceClock,
    sites: Mutex<HashMap<Origin, Arc<Site>>>,
}

/// The connections to one origin.
struct Site {
    /// One for each call in flight, and so for each connection in use.
    calls: Arc<Semaphore>,
    /// The one used last is the last.
    idle: Mutex<Vec<Idle>>,
}

struct Connection {
    sender: SendRequest<SdkBody>,
    /// Set by the SDK after a response that another connection may do better.
    is_poisoned: Arc<AtomicBool>,
}

struct Idle {
    since: Instant,
    connection: Connection,
}

/// A stream to a service, over TLS or not.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl HttpClient {
    /// A client with at most so many connections to each service. It sets the clock by what services refuse.
    pub(crate) fn new(tls: ClientConfig, max_connections: usize, clock: ServiceClock) -> Self {
        let pool = Pool { tls: Arc::new(tls).into(), max_connections, clock, sites: Mutex::default() };
        Self { pool: Arc::new(pool) }
    }

    /// Sends a request that is not the SDK's. Redirects are not followed, and only connecting has a time limit: the caller sets the rest.
    pub(crate) async fn send(&self, request: Request<SdkBody>) -> Result<Response<SdkBody>, ConnectorError> {
        self.pool.send(request, CONNECT_TIMEOUT).await
    }

    /// Opens a connection for the first call to this URL, and says whether there is one. A failure is left to that call.
    pub(crate) async fn connect(&self, url: &str) -> bool {
        let Ok(origin) = url.parse().map_err(io::Error::other).and_then(|url| origin(&url)) else { return false };
        match self.pool.connect(&origin, CONNECT_TIMEOUT).await {
            Ok(connection) => {
                self.pool.site(&origin).keep(connection);
                true
            }
            Err(error) => {
                tracing::debug!(%error, url, "a connection could not be opened ahead of time");
                false
            }
        }
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("HttpClient")
            .field("max_connections", &self.pool.max_connections)
            .finish_non_exhaustive()
    }
}

impl SdkHttpClient for HttpClient {
    /// Connecting is bounded as the settings say. A limit for reading is not supported, and none is set: attempts have one.
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        let connect_timeout = settings.connect_timeout().unwrap_or(CONNECT_TIMEOUT);
        SharedHttpConnector::new(Connector { pool: Arc::clone(&self.pool), connect_timeout })
    }
}

struct Connector {
    pool: Arc<Pool>,
    connect_timeout: Duration,
}

impl fmt::Debug for Connector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Connector").finish_non_exhaustive()
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (pool, connect_timeout) = (Arc::clone(&self.pool), self.connect_timeout);
        HttpConnectorFuture::new(async move {
            let request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
            let response = pool.send(request, connect_timeout).await?;
            if response.status().is_client_error()
                && let Some(date) = response.headers().get(header::DATE).and_then(|date| date.to_str().ok())
            {
                pool.clock.learn(date, SystemTime::now());
            }
            HttpResponse::try_from(response).map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}

impl Pool {
    async fn send(
        &self,
        mut request: Request<SdkBody>,
        connect_timeout: Duration,
    ) -> Result<Response<SdkBody>, ConnectorError> {
        let origin = origin(request.uri()).map_err(|error| ConnectorError::user(error.into()))?;
        address(&mut request, &origin).map_err(|error| ConnectorError::user(error.into()))?;
        let retriever = request.extensions().get::<CaptureSmithyConnection>().cloned();
        let site = self.site(&origin);
        let permit = Arc::clone(&site.calls).acquire_owned().await.map_err(|error| ConnectorError::io(error.into()))?;
        loop {
            let idle = site.take().await;
            let is_new = idle.is_none();
            let mut connection = if let Some(idle) = idle {
                idle
            } else {
                self.connect(&origin, connect_timeout).await.map_err(ConnectorError::never_connected)?
            };
            if let Some(retriever) = &retriever {
                let is_poisoned = Arc::clone(&connection.is_poisoned);
                retriever.set_connection_retriever(move || {
                    let is_poisoned = Arc::clone(&is_poisoned);
                    let poison = move || is_poisoned.store(true, Ordering::Relaxed);
                    Some(ConnectionMetadata::builder().proxied(false).poison_fn(poison).build())
                });
            }
            match connection.sender.try_send_request(request).await {
                Ok(response) => {
                    let lease = Lease { site, connection, _permit: permit };
                    return Ok(response.map(|incoming| LeasedBody::new(incoming, lease).into_sdk_body()));
                }
                Err(mut error) => match error.take_message() {
                    // The service closed the connection while it was idle, and nothing was sent.
                    Some(unsent) if !is_new => request = unsent,
                    _ => return Err(classified(error.into_error())),
                },
            }
        }
    }

    fn site(&self, origin: &Origin) -> Arc<Site> {
        let mut sites = self.sites.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(site) = sites.get(origin) {
            return Arc::clone(site);
        }
        let calls = Arc::new(Semaphore::new(self.max_connections));
        let site = Arc::new(Site { calls, idle: Mutex::default() });
        sites.insert(origin.clone(), Arc::clone(&site));
        site
    }

    async fn connect(&self, (scheme, authority): &Origin, within: Duration) -> Result<Connection, ConnectorError> {
        let is_tls = *scheme == Scheme::HTTPS;
        let host = authority.host();
        let connecting = async {
            let tcp =
                TcpStream::connect((unbracketed(host), authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 })))
                    .await?;
            tcp.set_nodelay(true)?;
            if !is_tls {
                return Ok::<Box<dyn Stream>, io::Error>(Box::new(tcp));
            }
            let name = ServerName::try_from(unbracketed(host).to_owned()).map_err(io::Error::other)?;
            Ok(Box::new(self.tls.connect(name, tcp).await?) as Box<dyn Stream>)
        };
        let stream = timeout(within, connecting)
            .await
            .map_err(|elapsed| ConnectorError::timeout(elapsed.into()))?
            .map_err(|error| ConnectorError::io(error.into()))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(classified)?;
        // It ends with its sender, or when the service closes it. Errors reach whoever waits for the response.
        tokio::spawn(async move { connection.await.ok() });
        Ok(Connection { sender, is_poisoned: Arc::default() })
    }
}

impl Site {
    /// The idle connection used last. One that the service has closed, or that still sends a request which was responded to
    /// early, is closed in favour of the one before.
    async fn take(&self) -> Option<Connection> {
        loop {
            let mut connection = self.pop()?;
            if let Ok(Ok(())) = timeout(READY_WITHIN, connection.sender.ready()).await {
                return Some(connection);
            }
        }
    }

    fn pop(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(Idle { since, connection }) = idle.pop() {
            if since.elapsed() < IDLE_TIMEOUT && !connection.is_poisoned.load(Ordering::Relaxed) {
                return Some(connection);
            }
        }
        None
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push(Idle { since: Instant::now(), connection });
    }
}

/// A connection in use. It goes back when its response was read to the end; otherwise it is closed.
struct Lease {
    site: Arc<Site>,
    connection: Connection,
    _permit: OwnedSemaphorePermit,
}

impl Lease {
    fn give_back(self) {
        if !self.connection.sender.is_closed() {
            self.site.keep(self.connection);
        }
    }
}

/// The body of a response, with the connection it comes over.
struct LeasedBody {
    incoming: Incoming,
    lease: Option<Lease>,
}

impl LeasedBody {
    fn new(incoming: Incoming, lease: Lease) -> Self {
        let mut body = Self { incoming, lease: Some(lease) };
        body.give_back_at_end();
        body
    }

    fn into_sdk_body(self) -> SdkBody {
        SdkBody::from_body_1_x(self)
    }

    fn give_back_at_end(&mut self) {
        if self.incoming.is_end_stream()
            && let Some(lease) = self.lease.take()
        {
            lease.give_back();
        }
    }
}

impl Body for LeasedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(context));
        match &frame {
            Some(Ok(_)) => self.give_back_at_end(),
            Some(Err(_)) => self.lease = None,
            None => {
                if let Some(lease) = self.lease.take() {
                    lease.give_back();
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

fn origin(url: &Uri) -> io::Result<Origin> {
    match (url.scheme(), url.authority()) {
        (Some(scheme), Some(authority)) if [Scheme::HTTP, Scheme::HTTPS].contains(scheme) => {
            Ok((scheme.clone(), authority.clone()))
        }
        _ => Err(io::Error::other("an endpoint is a URL with http or https and a host")),
    }
}

/// Writes the request as HTTP/1.1 wants it: the host in a header, the path alone in the first line.
fn address(request: &mut Request<SdkBody>, (_, authority): &Origin) -> Result<(), http::Error> {
    let host = HeaderValue::from_str(authority.as_str())?;
    request.headers_mut().entry(header::HOST).or_insert(host);
    let ourselves = HeaderValue::from_static(concat!("reelhook/", env!("CARGO_PKG_VERSION")));
    request.headers_mut().entry(header::USER_AGENT).or_insert(ourselves);
    let path = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from(path);
    Ok(())
}

/// An IPv6 address stands in brackets in a URL, and nowhere else.
fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// How the SDK sees an error on an open connection: what a repeated attempt may mend is `io`.
fn classified(error: hyper::Error) -> ConnectorError {
    if error.is_user() { ConnectorError::user(error.into()) } else { ConnectorError::io(error.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_its_host_in_a_header() {
        let mut request = Request::post("https://[::1]:4566/a?b").body(SdkBody::empty()).expect("a request");
        let origin = origin(request.uri()).expect("an origin");
        address(&mut request, &origin).expect("it can be written");
        assert_eq!(
            (request.uri().to_string().as_str(), &request.headers()["host"]),
            ("/a?b", &HeaderValue::from_static("[::1]:4566"))
        );
        assert_eq!(unbracketed(origin.1.host()), "::1");
    }
}
