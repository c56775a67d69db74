//! A file that comes on one connection, of known or unknown length.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use reelhook_core::result::StoredArtifact;
use reelhook_core::transfer::container::claimed_length;
use reelhook_core::transfer::fault::{CopyFault, OriginFault};
use reelhook_core::transfer::media::{Format, SIGNATURE_LENGTH};
use reelhook_core::transfer::parts::{MAX_PARTS, MAX_STREAM_BYTES, stream_part_size};

use super::halt::Halt;
use super::incoming::Incoming;
use super::memory_pool::{Buffer, Reservation, combined};
use super::session::CopySession;
use super::single_put;
use super::store::Sent;
use super::stream_reader::StreamReader;

/// What is known of where the file ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct StreamEnd {
    /// Its length, where the origin says it.
    pub(super) length: Option<u64>,
    /// Whether its end can be told from a dropped connection.
    pub(super) framed: bool,
}

/// A part that was written: `ETag`, checksum, length.
type Part = (String, u64, u64);

/// Copies a stream. It cannot be resumed, so nothing of it is kept.
pub(super) async fn copy(
    session: &CopySession<'_>,
    incoming: Incoming,
    end: StreamEnd,
    reservation: Reservation,
) -> Result<StoredArtifact, Halt> {
    session.check_length(end.length.unwrap_or(0))?;
    if end.length.is_some_and(|length| length > MAX_STREAM_BYTES) {
        return Err(CopyFault::TooLarge { limit: MAX_STREAM_BYTES }.into());
    }
    let mut reader = StreamReader::new(incoming);
    let mut buffer = Buffer::new(reservation);
    session.fetching(reader.begin(session.stats, &mut buffer, SIGNATURE_LENGTH as u64)).await?;
    let format = session.format(&buffer)?;
    let more = session.fetching(reader.fill(session.stats, &mut buffer)).await?;
    let claimed = claimed_length(|offset| buffer.from(offset));
    if !more {
        check_end(claimed, end, buffer.length())?;
        return single_put::put(session, format, &buffer.finish()).await;
    }
    if let Some(length) = end.length {
        check_end(claimed, end, length)?;
    }
    copy_parts(session, reader, buffer, format, |bytes| check_end(claimed, end, bytes)).await
}

/// Whether a stream that ended after so many bytes is whole, given what the file claims of itself.
fn check_end(claimed: Option<u64>, end: StreamEnd, bytes: u64) -> Result<(), Halt> {
    match claimed {
        Some(claimed) if claimed > bytes => Err(CopyFault::CutOff { claimed, bytes }.into()),
        Some(claimed) if end.framed || claimed == bytes => Ok(()),
        None if end.framed => Ok(()),
        _ => Err(CopyFault::UnknownEnd.into()),
    }
}

/// Copies a stream as a multipart upload; `buffer` is its first part.
async fn copy_parts(
    session: &CopySession<'_>,
    mut reader: StreamReader,
    buffer: Buffer,
    format: Format,
    check_end: impl Fn(u64) -> Result<(), Halt>,
) -> Result<StoredArtifact, Halt> {
    let key = session.key(format);
    let id = session.create_upload(&key, format).await?;
    let sent = async {
        let parts = send_parts(session, &key, &id, &mut reader, buffer).await?;
        check_end(reader.received())?;
        let checksum = parts.iter().fold(0, |whole, (_, part, length)| combined(whole, *part, *length));
        let parts: Vec<_> = parts.into_iter().map(|(etag, checksum, _)| (etag, checksum)).collect();
        let sent = Sent { key: &key, content_type: format.content_type, bytes: reader.received(), checksum };
        session.complete(&id, &parts, sent).await
    };
    let result = sent.await;
    if let Err(Halt::Failed(_) | Halt::Restart(_)) = &result {
        session.abort_upload(&key, &id).await;
    }
    result
}

/// Sends parts while further ones are received. Gives them back in order.
async fn send_parts(
    session: &CopySession<'_>,
    key: &str,
    id: &str,
    reader: &mut StreamReader,
    buffer: Buffer,
) -> Result<Vec<Part>, Halt> {
    let mut in_flight = FuturesUnordered::new();
    let mut parts: Vec<Option<Part>> = Vec::new();
    let (mut content, mut more) = (buffer.finish(), true);
    loop {
        let number = parts.len() as u64 + 1;
        parts.push(None);
        in_flight.push(async move {
            let etag = session.send_part(key, id, number, &content).await?;
            Ok::<_, Halt>((number, (etag, content.checksum(), content.length())))
        });
        if !more {
            break;
        }
        let next = session.fetching(async {
            let room = stream_part_size(number + 1);
            let mut buffer = Buffer::new(session.memory.reserve(room).await);
            let more = reader.fill(session.stats, &mut buffer).await?;
            Ok((more, buffer))
        });
        let (still_more, buffer) = {
            let mut next = std::pin::pin!(next);
            loop {
                tokio::select! {
                    Some(part) = in_flight.next() => keep(&mut parts, part?),
                    next = &mut next => break next?,
                }
            }
        };
        session.check_length(reader.received())?;
        if still_more && number + 1 >= MAX_PARTS {
            return Err(CopyFault::TooLarge { limit: MAX_STREAM_BYTES }.into());
        }
        more = still_more;
        content = buffer.finish();
    }
    while let Some(part) = in_flight.next().await {
        keep(&mut parts, part?);
    }
    parts.into_iter().collect::<Option<Vec<_>>>().ok_or(Halt::Restart(OriginFault::Dropped))
}

fn keep(parts: &mut [Option<Part>], (number, part): (u64, Part)) {
    if let Some(place) = usize::try_from(number - 1).ok().and_then(|index| parts.get_mut(index)) {
        *place = Some(part);
    }
}
