//! One copy: an upload that was kept is resumed, else the file is started, up to three times if it turns out to be another one
//! meanwhile.

use reelhook_core::result::StoredArtifact;
use reelhook_core::transfer::checkpoint::SavedUpload;
use reelhook_core::transfer::fault::{CopyFault, OriginFault};
use reelhook_core::transfer::media::LooksLike;
use reelhook_core::transfer::parts::{MAX_SINGLE_PUT, MIN_PIECE};
use reelhook_core::transfer::ranges::{FirstResponse, SourceVersion};
use reelhook_core::transfer::retry::MAX_STARTS;

use super::halt::Halt;
use super::incoming::Incoming;
use super::memory_pool::Reservation;
use super::multipart;
use super::request::CopyFailure;
use super::session::CopySession;
use super::single_put;
use super::stream::{self, StreamEnd};

/// What one run from the beginning came to, if it did not fail for good.
enum RunOutcome {
    Stored(StoredArtifact),
    RetryWithoutRange,
    Restart(OriginFault),
}

pub(super) async fn run(session: &CopySession<'_>, saved: Option<SavedUpload>) -> Result<StoredArtifact, CopyFailure> {
    if let Some(saved) = saved
        && let Some(artifact) = multipart::resume(session, saved).await?
    {
        return Ok(artifact);
    }
    let mut fault = OriginFault::Changing;
    let mut ranged = true;
    for number in 1..=MAX_STARTS {
        // An origin whose pieces never belong together (two servers with different tags, say) is read as one stream in
        // the end.
        ranged = ranged && number < MAX_STARTS;
        match start(session, ranged).await? {
            RunOutcome::Stored(artifact) => return Ok(artifact),
            RunOutcome::RetryWithoutRange => ranged = false,
            RunOutcome::Restart(reason) => fault = reason,
        }
        session.stats.retries.add(1);
    }
    Err(CopyFault::from(fault).into())
}

/// One run from the beginning.
async fn start(session: &CopySession<'_>, ranged: bool) -> Result<RunOutcome, CopyFailure> {
    let opened = session.fetching(async {
        let (first, incoming) = session.origin.open(ranged).await?;
        // Only now, when it is known how much: an origin that does not respond keeps no memory from others.
        let reservation = session.memory.reserve(first_reservation(&first)).await;
        Ok((reservation, first, incoming))
    });
    let result = match opened.await {
        Ok((_, FirstResponse::RetryWithoutRange, _)) => return Ok(RunOutcome::RetryWithoutRange),
        Ok((reservation, FirstResponse::Ranged(source), incoming)) if source.length > MAX_SINGLE_PUT => {
            return start_multipart(session, source, incoming, reservation).await;
        }
        Ok((reservation, FirstResponse::Ranged(source), incoming)) => {
            single_put::copy(session, source, incoming, reservation).await
        }
        Ok((reservation, FirstResponse::Stream { length, framed }, incoming)) => {
            stream::copy(session, incoming, StreamEnd { length, framed }, reservation).await
        }
        Ok((_, FirstResponse::Empty, _)) => Err(CopyFault::NotMedia { looks_like: LooksLike::Nothing }.into()),
        Err(halt) => Err(halt),
    };
    match result {
        Ok(artifact) => Ok(RunOutcome::Stored(artifact)),
        Err(Halt::Restart(fault)) => Ok(RunOutcome::Restart(fault)),
        Err(Halt::UploadGone) => Err(upload_gone().into()),
        Err(Halt::Failed(fault)) => Err(fault.into()),
    }
}

/// Room for the first bytes of a file.
fn first_reservation(first: &FirstResponse) -> u64 {
    match first {
        FirstResponse::Ranged(SourceVersion { length, .. }) if *length > MAX_SINGLE_PUT => MIN_PIECE,
        FirstResponse::Ranged(SourceVersion { length, .. }) => *length,
        FirstResponse::Stream { length, .. } => length.unwrap_or(MAX_SINGLE_PUT).min(MAX_SINGLE_PUT),
        FirstResponse::Empty | FirstResponse::RetryWithoutRange => 0,
    }
}

async fn start_multipart(
    session: &CopySession<'_>,
    source: SourceVersion,
    incoming: Incoming,
    reservation: Reservation,
) -> Result<RunOutcome, CopyFailure> {
    match multipart::start(session, source, incoming, reservation).await {
        Ok(artifact) => Ok(RunOutcome::Stored(artifact)),
        Err((Halt::Restart(fault), _)) => Ok(RunOutcome::Restart(fault)),
        // It was begun just now, so another worker took over and aborted it.
        Err((Halt::UploadGone, _)) => Err(upload_gone().into()),
        Err((Halt::Failed(fault), upload)) => Err(CopyFailure { fault, upload }),
    }
}

fn upload_gone() -> CopyFault {
    let reason = "NoSuchUpload: another copy took over".to_owned();
    CopyFault::Storage { operation: "UploadPart", reason }
}
