//! An origin that can be told to misbehave. It speaks HTTP/1.1 on a bare socket, because most of what has to be played here
//! (a length that is not kept, a connection that ends in the middle, a byte a second) is what HTTP libraries prevent.
//!
//! A path is served by a function from the request and the response of an honest origin to the one that is sent.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// A file without a place: its bytes follow from their position, so that it can have any length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Film {
    /// Its length.
    pub(crate) length: u64,
    /// Films with different seeds have different bytes.
    pub(crate) seed: u64,
    /// What it begins with.
    pub(crate) beginning: Vec<u8>,
}

/// Every page of a film begins with its own number, so that no two stretches of it are alike.
const PAGE: usize = 4096;

impl Film {
    /// An MP4 file: `ftyp` and one `mdat` box up to the end.
    pub(crate) fn new(length: u64, seed: u64) -> Self {
        let mut beginning = b"\0\0\0\x18ftypisom\0\0\x02\0isommp42".to_vec();
        let rest = length.saturating_sub(beginning.len() as u64);
        beginning.extend_from_slice(&1_u32.to_be_bytes());
        beginning.extend_from_slice(b"mdat");
        beginning.extend_from_slice(&rest.to_be_bytes());
        beginning.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        Self { length, seed, beginning }
    }

    /// A file of some given bytes.
    pub(crate) fn of(bytes: impl Into<Vec<u8>>) -> Self {
        let beginning: Vec<u8> = bytes.into();
        Self { length: beginning.len() as u64, seed: 0, beginning }
    }

    /// Some of its bytes.
    pub(crate) fn read(&self, start: u64, length: usize) -> Vec<u8> {
        let end = self.length.min(start.saturating_add(length as u64));
        let mut bytes = Vec::with_capacity(length);
        let mut position = start;
        while position < end {
            let page = position / PAGE as u64;
            let from = usize::try_from(position % PAGE as u64).unwrap_or(0);
            let until = usize::try_from(end - (position - from as u64)).unwrap_or(PAGE).min(PAGE);
            let mut content = [u8::try_from((self.seed ^ page) % 251).unwrap_or(0); PAGE];
            content[..8].copy_from_slice(&page.to_be_bytes());
            content[8..16].copy_from_slice(&self.seed.to_be_bytes());
            bytes.extend_from_slice(&content[from..until]);
            position += (until - from) as u64;
        }
        if start < self.beginning.len() as u64 {
            let from = usize::try_from(start).unwrap_or(0);
            let count = bytes.len().min(self.beginning.len() - from);
            bytes[..count].copy_from_slice(&self.beginning[from..from + count]);
        }
        bytes
    }

    /// All of its bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.read(0, usize::try_from(self.length).expect("a film that fits into memory"))
    }
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The path with its query.
    pub(crate) target: String,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    /// How many requests the path had before this one.
    pub(crate) earlier: u64,
    /// Bytes of bodies sent on this connection before.
    pub(crate) sent: u64,
}

impl Request {
    /// A header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// First and last byte of a `Range` header.
    pub(crate) fn range(&self) -> Option<(u64, u64)> {
        let (first, last) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().ok()?, last.parse().unwrap_or(u64::MAX)))
    }
}

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// By this `Content-Length`, true or not.
    Length(u64),
    /// In chunks.
    Chunked,
    /// By the end of the connection.
    Close,
}

/// A response.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    /// Status.
    pub(crate) status: u16,
    /// Headers other than those of framing.
    pub(crate) headers: Vec<(String, String)>,
    /// What the body is taken from.
    pub(crate) film: Film,
    /// From where on.
    pub(crate) start: u64,
    /// How many bytes of it.
    pub(crate) length: u64,
    /// How its end is told.
    pub(crate) framing: Framing,
    /// Before the first byte.
    pub(crate) delay: Duration,
    /// After this many bytes of the body the connection is reset.
    pub(crate) drop_after: Option<u64>,
    /// After this many bytes of the body nothing more comes.
    pub(crate) stall_after: Option<u64>,
    /// At most this many bytes of the body in a second.
    pub(crate) bytes_per_second: Option<u64>,
}

impl Reply {
    /// A status with a short body.
    pub(crate) fn status(status: u16, body: &str) -> Self {
        Self {
            status,
            headers: Vec::new(),
            film: Film::of(body),
            start: 0,
            length: body.len() as u64,
            framing: Framing::Length(body.len() as u64),
            delay: Duration::ZERO,
            drop_after: None,
            stall_after: None,
            bytes_per_second: None,
        }
    }

    /// A redirect.
    pub(crate) fn redirect(to: &str) -> Self {
        Self::status(302, "").header("Location", to)
    }

    /// With a header.
    #[must_use]
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The response of an honest origin that has this film under this tag.
    pub(crate) fn honest(film: &Film, etag: Option<&str>, request: &Request) -> Self {
        let mut reply = Self { film: film.clone(), ..Self::status(200, "") };
        reply.headers.push(("Content-Type".into(), "video/mp4".into()));
        if let Some(etag) = etag {
            reply.headers.push(("ETag".into(), etag.into()));
        }
        let applies = request.header("if-range").is_none_or(|tag| Some(tag) == etag);
        match request.range().filter(|_| applies) {
            Some((first, _)) if first >= film.length => {
                return Self::status(416, "").header("Content-Range", &format!("bytes */{}", film.length));
            }
            Some((first, last)) => {
                let last = last.min(film.length - 1);
                reply.status = 206;
                reply.headers.push(("Content-Range".into(), format!("bytes {first}-{last}/{}", film.length)));
                reply.start = first;
                reply.length = last - first + 1;
            }
            None => reply.length = film.length,
        }
        reply.framing = Framing::Length(reply.length);
        reply
    }

    /// The response of an origin that knows no ranges.
    pub(crate) fn whole(film: &Film, etag: Option<&str>, request: &Request) -> Self {
        let mut without = request.clone();
        without.headers.remove("range");
        Self::honest(film, etag, &without)
    }
}

type Behaviour = Arc<dyn Fn(&Request) -> Reply + Send + Sync>;

#[derive(Default)]
struct State {
    paths: Mutex<BTreeMap<String, Behaviour>>,
    seen: Mutex<Vec<Request>>,
    connections: AtomicU64,
    open: AtomicU64,
    max_open: AtomicU64,
}

/// A running origin.
#[derive(Clone)]
pub(crate) struct Origin {
    address: SocketAddr,
    state: Arc<State>,
}

impl Origin {
    /// Starts one on a free port.
    pub(crate) async fn start() -> io::Result<Self> {
        Self::start_on("127.0.0.1:0").await
    }

    /// Starts one on an address.
    pub(crate) async fn start_on(address: &str) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State::default());
        let origin = Self { address, state: Arc::clone(&state) };
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                state.connections.fetch_add(1, Ordering::Relaxed);
                let state = Arc::clone(&state);
                tokio::spawn(async move {
                    let open = state.open.fetch_add(1, Ordering::Relaxed) + 1;
                    state.max_open.fetch_max(open, Ordering::Relaxed);
                    // A client that hangs up is no fault of the origin.
                    let _ = Self::serve(&state, socket).await;
                    state.open.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        Ok(origin)
    }

    /// Serves a path (with its query, if it has one).
    pub(crate) fn on(&self, target: &str, behaviour: impl Fn(&Request) -> Reply + Send + Sync + 'static) {
        locked(&self.state.paths).insert(target.to_owned(), Arc::new(behaviour));
    }

    /// Serves a film as an honest origin does.
    pub(crate) fn film(&self, target: &str, film: &Film) {
        let film = film.clone();
        self.on(target, move |request| Reply::honest(&film, Some("\"one\""), request));
    }

    /// `host:port`.
    pub(crate) fn authority(&self) -> String {
        self.address.to_string()
    }

    /// A link to a path.
    pub(crate) fn link(&self, target: &str) -> String {
        format!("http://{}{target}", self.address)
    }

    /// Every request so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        locked(&self.state.seen).clone()
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::Relaxed)
    }

    /// The most connections there were at a time.
    pub(crate) fn max_connections(&self) -> u64 {
        self.state.max_open.load(Ordering::Relaxed)
    }

    async fn serve(state: &State, mut socket: TcpStream) -> io::Result<()> {
        socket.set_nodelay(true)?;
        let mut received = Vec::new();
        let mut sent = 0;
        loop {
            let head = loop {
                if let Some(end) = received.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                    break received.drain(..end + 4).collect::<Vec<u8>>();
                }
                if socket.read_buf(&mut received).await? == 0 {
                    return Ok(());
                }
            };
            let head = String::from_utf8_lossy(&head).into_owned();
            let mut lines = head.lines();
            let target = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_owned();
            let headers = lines
                .filter_map(|line| line.split_once(':'))
                .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
                .collect();
            let request = {
                let mut seen = locked(&state.seen);
                let earlier = seen.iter().filter(|request| request.target == target).count() as u64;
                let request = Request { target, headers, earlier, sent };
                seen.push(request.clone());
                request
            };
            let behaviour = locked(&state.paths).get(&request.target).cloned();
            let reply = behaviour.map_or_else(|| Reply::status(404, "no such file"), |behaviour| behaviour(&request));
            let keep_alive = Self::respond(&mut socket, &reply).await?;
            sent += reply.length;
            if !keep_alive {
                return Ok(());
            }
        }
    }

    /// Sends a response; false when the connection is over.
    async fn respond(socket: &mut TcpStream, reply: &Reply) -> io::Result<bool> {
        tokio::time::sleep(reply.delay).await;
        let framing = match reply.framing {
            Framing::Length(length) => ("Content-Length", length.to_string()),
            Framing::Chunked => ("Transfer-Encoding", "chunked".to_owned()),
            Framing::Close => ("Connection", "close".to_owned()),
        };
        let headers = reply.headers.iter().map(|(name, value)| (name.as_str(), value.clone())).chain([framing]);
        let headers: Vec<String> = headers.map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!("HTTP/1.1 {} Whatever\r\n{}\r\n", reply.status, headers.concat());
        socket.write_all(head.as_bytes()).await?;
        let began = Instant::now();
        let limit = reply.drop_after.into_iter().chain(reply.stall_after).chain([reply.length]).min().unwrap_or(0);
        let mut position = 0;
        while position < limit {
            // Small enough for an even rate, large enough to be fast without a limit.
            let step = reply.bytes_per_second.map_or(256 * 1024, |rate| (rate / 50).clamp(1, 256 * 1024));
            let bytes =
                reply.film.read(reply.start + position, usize::try_from(step.min(limit - position)).unwrap_or(0));
            if bytes.is_empty() {
                break;
            }
            if reply.framing == Framing::Chunked {
                socket.write_all(format!("{:x}\r\n", bytes.len()).as_bytes()).await?;
                socket.write_all(&bytes).await?;
                socket.write_all(b"\r\n").await?;
            } else {
                socket.write_all(&bytes).await?;
            }
            position += bytes.len() as u64;
            if let Some(rate) = reply.bytes_per_second {
                let due = Duration::from_millis(position.saturating_mul(1000) / rate.max(1));
                tokio::time::sleep_until(began + due).await;
            }
        }
        if reply.stall_after.is_some_and(|limit| limit <= position) {
            // Until the client gives up.
            let _ = socket.read_u8().await;
            return Ok(false);
        }
        if reply.drop_after.is_some_and(|limit| limit <= position) {
            return Ok(false);
        }
        if reply.framing == Framing::Chunked {
            socket.write_all(b"0\r\n\r\n").await?;
        }
        // A length that was not kept leaves the connection in no usable state.
        Ok(matches!(reply.framing, Framing::Chunked) || reply.framing == Framing::Length(position))
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
