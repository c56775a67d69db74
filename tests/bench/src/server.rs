//! The two servers that cost as little as possible, so that they are not what is measured: an origin of films of any length,
//! and a bucket that swallows what it is given. A thread for each connection, and one block of bytes that is sent over and
//! over.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

/// Length of the block that films are made of. Odd, so that no two pieces of a film are alike.
const BLOCK: usize = (1 << 20) + 7;

/// Bytes that follow from their position.
static CONTENT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..BLOCK).map(|_| next()).collect()
});

/// The first bytes of a film: an MP4 file with one box up to its end.
fn beginning(length: u64) -> Vec<u8> {
    let mut bytes = b"\0\0\0\x18ftypisom\0\0\x02\0isommp42\0\0\0\x01mdat".to_vec();
    bytes.extend_from_slice(&length.saturating_sub(24).to_be_bytes());
    bytes
}

/// Bytes of a film from a position on, at most up to the end of a block.
pub(crate) fn film(length: u64, position: u64) -> Vec<u8> {
    let beginning = beginning(length);
    if let Some(rest) =
        usize::try_from(position).ok().and_then(|at| beginning.get(at..)).filter(|rest| !rest.is_empty())
    {
        return rest.to_vec();
    }
    stretch(position, length).to_vec()
}

/// A piece of a film, up to and without a position.
pub(crate) fn piece(length: u64, start: u64, end: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut position = start;
    while position < end {
        let mut next = film(length, position);
        next.truncate(usize::try_from(end - position).unwrap_or(usize::MAX));
        position += next.len() as u64;
        bytes.append(&mut next);
    }
    bytes
}

fn stretch(position: u64, end: u64) -> &'static [u8] {
    let from = usize::try_from(position % BLOCK as u64).unwrap_or(0);
    let rest = &CONTENT[from..];
    &rest[..rest.len().min(usize::try_from(end - position).unwrap_or(usize::MAX))]
}

struct Request {
    method: String,
    target: String,
    headers: HashMap<String, String>,
}

fn read_request(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let mut headers = HashMap::new();
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.insert(name.to_ascii_lowercase(), value.trim().to_owned()),
            None => return Ok(Some(Request { method, target, headers })),
        };
    }
}

fn serve(address: &str, serve_connection: fn(TcpStream) -> io::Result<()>) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    for stream in listener.incoming() {
        let stream = stream?;
        stream.set_nodelay(true)?;
        // A client that hangs up is no fault of the server.
        thread::spawn(move || serve_connection(stream).ok());
    }
    Ok(())
}

/// Serves `/{behaviour}/{length}/{anything}`, with ranges and one `ETag` for each length:
///
/// | behaviour | |
/// |---|---|
/// | `plain` | as fast as it goes |
/// | `limited` | 40 MB/s for each connection, and 20 ms before each response |
/// | `dropping` | each connection is closed after 64 MB |
/// | `link` | all connections together share 1 Gbit/s |
pub(crate) fn origin(address: &str) -> io::Result<()> {
    serve(address, origin_connection)
}

/// 40 MB/s.
const LIMITED: f64 = 40e6;
/// One hop through a continent.
const LATENCY: Duration = Duration::from_millis(20);
/// 64 MB.
const DROPPED_AFTER: u64 = 64_000_000;
/// 1 Gbit/s.
const LINK: f64 = 125e6;

/// When the shared link is free again.
static LINK_FREE_AT: std::sync::Mutex<Option<Instant>> = std::sync::Mutex::new(None);

fn origin_connection(stream: TcpStream) -> io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    let mut sent = 0;
    while let Some(request) = read_request(&mut reader)? {
        let mut path = request.target.trim_start_matches('/').split('/');
        let (behaviour, length) = (path.next().unwrap_or_default(), path.next().and_then(|length| length.parse().ok()));
        let Some(length): Option<u64> = length else {
            writer.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
            continue;
        };
        if behaviour == "limited" {
            thread::sleep(LATENCY);
        }
        let range = request.headers.get("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
        let (status, start, end) = requested(range, length);
        let content_range = match range {
            Some(_) => format!("Content-Range: bytes {start}-{}/{length}\r\n", end.saturating_sub(1)),
            None => String::new(),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: video/mp4\r\nAccept-Ranges: bytes\r\nETag: \"{length}\"\r\n{content_range}Content-Length: {}\r\n\r\n",
            end - start
        );
        writer.write_all(head.as_bytes())?;
        if request.method == "HEAD" {
            continue;
        }
        let (began, beginning) = (Instant::now(), beginning(length));
        let mut position = start;
        while position < end {
            let mut bytes = match usize::try_from(position).ok().and_then(|at| beginning.get(at..)) {
                Some(rest) if !rest.is_empty() => &rest[..rest.len().min(usize::try_from(end - position).unwrap_or(0))],
                _ => stretch(position, end),
            };
            match behaviour {
                "limited" => bytes = &bytes[..bytes.len().min(128 * 1024)],
                "link" => bytes = &bytes[..bytes.len().min(64 * 1024)],
                "dropping" if sent >= DROPPED_AFTER => return Ok(()),
                "dropping" => bytes = &bytes[..bytes.len().min(usize::try_from(DROPPED_AFTER - sent).unwrap_or(0))],
                _ => {}
            }
            if behaviour == "link" {
                wait_for_link(bytes.len());
            }
            writer.write_all(bytes)?;
            position += bytes.len() as u64;
            sent += bytes.len() as u64;
            if behaviour == "limited" {
                let due = Duration::from_secs_f64(seconds(position - start, LIMITED));
                thread::sleep(due.saturating_sub(began.elapsed()));
            }
        }
    }
    Ok(())
}

/// Status, first byte and end of the response to a range of a file of this length.
fn requested(range: Option<(&str, &str)>, length: u64) -> (&'static str, u64, u64) {
    let Some((first, last)) = range else { return ("200 OK", 0, length) };
    let (first, last): (u64, Option<u64>) = (first.parse().unwrap_or(0), last.parse().ok());
    ("206 Partial Content", first.min(length), last.map_or(length, |last| length.min(last + 1)))
}

fn wait_for_link(bytes: usize) {
    let wait = {
        let Ok(mut free_at) = LINK_FREE_AT.lock() else { return };
        let now = Instant::now();
        // Up to 2 ms of the past may be caught up, because no sleep is exact.
        let begins = free_at.unwrap_or(now).max(now.checked_sub(Duration::from_millis(2)).unwrap_or(now));
        let ends = begins + Duration::from_secs_f64(seconds(bytes as u64, LINK));
        *free_at = Some(ends);
        ends.saturating_duration_since(now)
    };
    thread::sleep(wait);
}

#[expect(clippy::cast_precision_loss, reason = "a film is shorter than 2^53 bytes")]
fn seconds(bytes: u64, bytes_per_second: f64) -> f64 {
    bytes as f64 / bytes_per_second
}

/// Speaks as much of S3 as a copy needs, and keeps nothing.
pub(crate) fn sink(address: &str) -> io::Result<()> {
    serve(address, sink_connection)
}

fn sink_connection(stream: TcpStream) -> io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::with_capacity(256 * 1024, stream);
    while let Some(request) = read_request(&mut reader)? {
        if request.headers.get("expect").is_some_and(|expect| expect == "100-continue") {
            writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let length = request.headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        io::copy(&mut (&mut reader).take(length), &mut io::sink())?;
        let body = match request.method.as_str() {
            "POST" if request.target.contains("?uploads") => {
                "<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>"
            }
            "POST" => "<CompleteMultipartUploadResult><ETag>\"1\"</ETag></CompleteMultipartUploadResult>",
            _ => "",
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\nETag: \"0123456789abcdef0123456789abcdef\"\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        writer.write_all(head.as_bytes())?;
    }
    Ok(())
}
