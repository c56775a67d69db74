//! A small file, in one request.

use std::sync::Arc;

use reelhook_core::result::StoredArtifact;
use reelhook_core::transfer::fault::{CopyFault, OriginFault};
use reelhook_core::transfer::media::{Format, SIGNATURE_LENGTH};
use reelhook_core::transfer::parts::{Piece, piece_size};
use reelhook_core::transfer::ranges::SourceVersion;

use super::halt::Halt;
use super::incoming::Incoming;
use super::memory_pool::{Buffer, Content, Reservation};
use super::piece_reader::PieceReader;
use super::session::{CopySession, check_claim};
use super::store::{FinalWrite, Sent};

/// Copies a file of at most two pieces.
pub(super) async fn copy(
    session: &CopySession<'_>,
    source: SourceVersion,
    incoming: Incoming,
    reservation: Reservation,
) -> Result<StoredArtifact, Halt> {
    session.check_length(source.length)?;
    let (format, content) = session.fetching(read(session, Arc::new(source), incoming, reservation)).await?;
    put(session, format, &content).await
}

async fn read(
    session: &CopySession<'_>,
    source: Arc<SourceVersion>,
    incoming: Incoming,
    mut reservation: Reservation,
) -> Result<(Format, Content), Halt> {
    let origin = session.origin;
    let size = piece_size(source.length);
    let first = Piece::of(source.length, size, 0).ok_or(Halt::Restart(OriginFault::Changing))?;
    let mut buffer = Buffer::new(reservation.split(first.length));
    let mut reader = PieceReader::of_response(Arc::clone(&source), first, incoming);
    reader.fill(origin, &mut buffer, SIGNATURE_LENGTH as u64).await?;
    let format = session.format(&buffer)?;
    check_claim(&buffer, source.length)?;
    let second = Piece::of(source.length, size, 1).map(|piece| (piece, Buffer::new(reservation)));
    let first = async {
        reader.fill(origin, &mut buffer, first.length).await?;
        check_claim(&buffer, source.length)?;
        Ok::<_, Halt>(buffer.finish())
    };
    let second = async {
        let Some((piece, mut buffer)) = second else { return Ok(None) };
        PieceReader::new(Arc::clone(&source), piece).fill(origin, &mut buffer, piece.length).await?;
        Ok(Some(buffer.finish()))
    };
    let (first, second) = futures_util::future::try_join(first, second).await?;
    let content = match second {
        Some(second) => first.followed_by(second),
        None => first,
    };
    Ok((format, content))
}

/// Writes a whole file.
pub(super) async fn put(session: &CopySession<'_>, format: Format, content: &Content) -> Result<StoredArtifact, Halt> {
    let key = session.key(format);
    let (content_type, bytes, checksum) = (format.content_type, content.length(), content.checksum());
    session
        .sending(async {
            let write = FinalWrite::Put { label: session.label(format), content };
            let written = session.write_final(Sent { key: &key, content_type, bytes, checksum }, write).await?;
            session.stats.parts.add(1);
            written.map(|(artifact, _)| artifact).ok_or_else(|| {
                let reason = "another write is under way".to_owned();
                CopyFault::Storage { operation: "PutObject", reason }.into()
            })
        })
        .await
}
