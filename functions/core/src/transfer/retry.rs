//! The only owner of "again, elsewhere, or no more" for a copy: within a round, where seconds are waited for, and between
//! rounds, where the record says when to look again.

use std::time::Duration;

use super::checkpoint::{Checkpoint, SavedUpload};
use super::fault::{CopyFault, OriginFault};
use super::refresh::Refreshed;
use super::selection::Planned;
use crate::Timestamp;
use crate::backoff::{Backoff, Growth, seed_of};
use crate::report::{Artifact, Source};
use crate::result::StoredArtifact;

/// Failures in a row, without progress between them, after which an origin or the bucket is left alone for this round. With
/// the waits of `ATTEMPT_BACKOFF` they take about four seconds, longer than a fail-over of an object store takes.
const MAX_FAILURES: u32 = 5;

/// Between two attempts within a round. 250 ms are a few round trips, chosen freely.
const ATTEMPT_BACKOFF: Backoff =
    Backoff { first: Duration::from_millis(250), max: Duration::from_secs(4), growth: Growth::Double };

/// Longest `Retry-After` that is waited for within a round; a longer one is left to the next round, which costs nothing.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// Bytes that count as progress: a connection that brings as much before it drops is no failure. 64 KiB a round trip is
/// still a file of 100 MB in a minute.
pub const PROGRESS_BYTES: u64 = 64 * 1024;

/// How often a file is started within a round when it turns out to be another one while it is read.
pub const MAX_STARTS: u32 = 3;

/// How often a piece is moved to another connection for being slow. If the second is no faster, the origin is.
const MAX_MOVES: u32 = 2;

/// Finished parts for each piece that may be moved, besides the first: outliers are fewer.
const PARTS_PER_MOVE: u64 = 8;

/// Largest file that is copied: 50 GB. Chosen freely, far above any video a provider makes.
pub const MAX_FILE_BYTES: u64 = 50_000_000_000;

/// Between two rounds. The first is about what an object store needs to show a file that a provider announced too early; the
/// longest leaves several rounds within the shortest link life there is, 20 minutes (KIE's download-url).
const ROUND_BACKOFF: Backoff =
    Backoff { first: Duration::from_secs(10), max: Duration::from_mins(4), growth: Growth::Double };

/// How long after a report a link that leads to "not found" counts as not there yet. Providers announce a file some seconds,
/// on bad days some minutes before their store shows it. Chosen freely.
const NOT_THERE_YET: Duration = Duration::from_mins(15);

/// How long after a report a link counts as alive at most, however long it claims to live.
const MAX_LINK_AGE: Duration = Duration::from_hours(24);

/// How long an origin's outage is waited out beyond the end of the link: clocks differ, and some stores are lax.
const OUTAGE_GRACE: Duration = Duration::from_hours(1);

/// How long a provider that cannot be reached for another link is waited for, from the end of the link, or from the report
/// when there is only a file id.
const MAX_PROVIDER_OUTAGE: Duration = Duration::from_hours(24);

/// Rounds in a row that read and add no part, after which a copy is given up. A round can take a whole invocation of fifteen
/// minutes.
const MAX_STALLED_ROUNDS: u32 = 5;

/// Failed rounds after which a file that is not essential is given up.
const MAX_OPTIONAL_ROUNDS: u32 = 3;

/// How long after the report a file that is not essential is tried again at most.
const MAX_OPTIONAL_WAIT: Duration = Duration::from_mins(15);

/// Failures in a row on one connection's work, within a round.
#[derive(Debug, Default)]
pub struct FailureCount(u32);

impl FailureCount {
    /// How long to wait before the next attempt at an origin. None when there is none in this round: the fault does not pass
    /// by itself, there were `MAX_FAILURES`, or the origin wants more than `MAX_WAIT`.
    pub fn delay_after(&mut self, fault: OriginFault, seed: u64) -> Option<Duration> {
        let retry_after = match fault {
            OriginFault::Status { retry_after, .. } => retry_after,
            OriginFault::NotThere { .. } | OriginFault::Encoded | OriginFault::Unexpected { .. } => return None,
            _ => None,
        };
        // Silence has cost a lot of time already; three of them are enough.
        self.0 = self.0.saturating_add(if fault == OriginFault::Silent { MAX_FAILURES.div_ceil(3) } else { 1 });
        let wanted = retry_after.unwrap_or_default();
        (self.0 < MAX_FAILURES && wanted <= MAX_WAIT).then(|| ATTEMPT_BACKOFF.delay(self.0, seed).max(wanted))
    }

    /// The same for the bucket, whose client has already made several attempts.
    pub fn delay_after_storage(&mut self, seed: u64) -> Option<Duration> {
        self.0 = self.0.saturating_add(1);
        (self.0 < MAX_FAILURES).then(|| ATTEMPT_BACKOFF.delay(self.0, seed))
    }
}

/// Whether a slow piece may be moved to another connection, after so many moves of it. When many pieces of a copy were moved
/// for its finished parts, it is the link that has become slow: other copies have begun.
pub fn may_move(moves_of_piece: u32, moves_of_copy: u64, finished_parts: u64) -> bool {
    moves_of_piece < MAX_MOVES && moves_of_copy <= finished_parts / PARTS_PER_MOVE
}

impl CopyFault {
    /// Whether the same upload can be resumed after this, with the same link or a fresh one. If not, its parts are of no use.
    pub fn is_resumable(&self) -> bool {
        match self {
            Self::Origin(OriginFault::Encoded)
            | Self::Blocked(_)
            | Self::NotMedia { .. }
            | Self::CutOff { .. }
            | Self::UnknownEnd
            | Self::TooLarge { .. }
            | Self::Conflict(_) => false,
            Self::Origin(_) | Self::NoLink | Self::Storage { .. } | Self::OutOfTime | Self::NotBegun => true,
        }
    }

    /// Whether bytes were being read when this happened.
    fn is_while_reading(&self) -> bool {
        matches!(
            self,
            Self::OutOfTime | Self::Origin(OriginFault::Stalled | OriginFault::Dropped | OriginFault::Changing)
        )
    }

    /// How the file is tried again after this.
    fn class(&self) -> FaultClass<'_> {
        match self {
            Self::OutOfTime => FaultClass::OutOfTime,
            Self::NotBegun => FaultClass::NotBegun,
            Self::Storage { .. } => FaultClass::Storage,
            Self::Conflict(difference) => FaultClass::Conflict(&difference.existing),
            Self::TooLarge { .. } => FaultClass::Permanent,
            Self::Origin(OriginFault::NotThere { .. } | OriginFault::Encoded)
            | Self::Blocked(_)
            | Self::NoLink
            | Self::NotMedia { .. }
            | Self::CutOff { .. }
            | Self::UnknownEnd => FaultClass::Link,
            Self::Origin(_) => FaultClass::Outage,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FaultClass<'a> {
    OutOfTime,
    /// Nothing was read: it says nothing about the file.
    NotBegun,
    /// Our own bucket: tried again for as long as it takes.
    Storage,
    /// What is in the bucket.
    Conflict(&'a StoredArtifact),
    /// However often it is fetched.
    Permanent,
    /// The link may be dead, or lead elsewhere by the next round: redirects and DNS change, a provider may name a better one.
    Link,
    /// The origin itself, which may pass.
    Outage,
}

/// What a failed copy of an artifact leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyStep {
    /// Get another link from the provider and copy from it in this round. If there is none, decide again with what came of
    /// the request. At most once in a round.
    Refresh,
    /// Give the task back until then.
    Retry {
        /// When.
        at: Timestamp,
    },
    /// Resume at once, in another invocation.
    Resume,
    /// Another file exists under its key and is taken for it: the copy of an earlier worker, of another rendition of the link.
    /// It is whole and was checked, and nobody has announced anything else.
    UseExisting(StoredArtifact),
    /// A file that is not essential is given up.
    Missing {
        /// Why, for `result.json`.
        reason: String,
    },
    /// An essential file is given up.
    Lost {
        /// Why, for `result.json`.
        reason: String,
    },
}

/// What is known of an artifact when its copy has failed.
#[derive(Clone, Copy, Debug)]
pub struct ArtifactState<'a> {
    /// The artifact, as the report names it.
    pub planned: &'a Planned,
    /// When the report came.
    pub reported_at: Timestamp,
    /// How long the provider's links usually live, for an artifact without an end of its own.
    pub usual_link_life: Duration,
    /// What came of requesting another link in this round, if one was requested.
    pub refreshed: Option<&'a Refreshed>,
    /// What is kept, this round included: see [`after_round`].
    pub checkpoint: &'a Checkpoint,
}

impl ArtifactState<'_> {
    /// When the link counts as dead: at its end, but a quarter of an hour at least and a day at most after the report.
    fn link_ends_at(&self) -> Timestamp {
        let end = self.planned.artifact.expires_at.unwrap_or(self.reported_at + self.usual_link_life);
        end.max(self.reported_at + NOT_THERE_YET).min(self.reported_at + MAX_LINK_AGE)
    }

    /// Until when a provider is waited for that cannot be reached for another link.
    fn provider_awaited_until(&self) -> Timestamp {
        let from = match self.planned.artifact.source {
            Source::Url(_) | Source::Authorized(_) => self.link_ends_at(),
            Source::FileId(_) => self.reported_at,
        };
        from + MAX_PROVIDER_OUTAGE
    }

    /// Whether there is no use in this link any more.
    fn is_link_dead(&self, fault: &CopyFault, now: Timestamp) -> bool {
        match fault.class() {
            FaultClass::Outage if fault.is_while_reading() && self.is_stalled() => {
                now >= self.reported_at + NOT_THERE_YET
            }
            FaultClass::Outage => now > self.link_ends_at() + OUTAGE_GRACE,
            _ => now >= self.link_ends_at(),
        }
    }

    fn is_stalled(&self) -> bool {
        self.checkpoint.stalled_rounds >= MAX_STALLED_ROUNDS
    }

    fn lost_or_missing(&self, reason: String) -> CopyStep {
        if self.planned.essential { CopyStep::Lost { reason } } else { CopyStep::Missing { reason } }
    }

    /// Whether it is not essential and was tried long enough: it never holds the essential files back.
    fn is_past_optional_bound(&self, now: Timestamp) -> bool {
        let rounds = self.checkpoint.failed_rounds;
        !self.planned.essential && (rounds >= MAX_OPTIONAL_ROUNDS || now >= self.reported_at + MAX_OPTIONAL_WAIT)
    }

    /// The next round, unless the bound of an artifact that is not essential is reached.
    fn retry(&self, fault: &CopyFault, now: Timestamp) -> CopyStep {
        if self.is_past_optional_bound(now) {
            return CopyStep::Missing { reason: fault.to_string() };
        }
        let seed = seed_of(&self.planned.key_stem);
        let at = next_copy_attempt(now, self.checkpoint.failed_rounds, self.planned.artifact.expires_at, seed);
        // As the origin wishes, as long as it leaves a round before the end.
        let wished = match fault {
            CopyFault::Origin(OriginFault::Status { retry_after: Some(wait), .. }) => {
                (now + *wait).min(self.link_ends_at())
            }
            _ => now,
        };
        let at = at.max(wished);
        CopyStep::Retry { at: if self.planned.essential { at } else { at.min(self.reported_at + MAX_OPTIONAL_WAIT) } }
    }
}

/// Decides what a failed copy of an artifact means.
///
/// An essential file is lost only when its link is dead and the provider, having answered, has no other; when it was read for
/// five rounds (`MAX_STALLED_ROUNDS`) without progress; or when it is too large.
pub fn after_failure(fault: &CopyFault, state: &ArtifactState<'_>, now: Timestamp) -> CopyStep {
    match fault.class() {
        FaultClass::Conflict(existing) => CopyStep::UseExisting(existing.clone()),
        FaultClass::Permanent => state.lost_or_missing(fault.to_string()),
        FaultClass::Storage => state.retry(fault, now),
        FaultClass::OutOfTime if state.is_stalled() => {
            state.lost_or_missing(format!("no progress in {MAX_STALLED_ROUNDS} rounds of copying"))
        }
        FaultClass::OutOfTime if state.is_past_optional_bound(now) => state.lost_or_missing(fault.to_string()),
        FaultClass::OutOfTime | FaultClass::NotBegun => CopyStep::Resume,
        class @ (FaultClass::Link | FaultClass::Outage) => {
            let dead = state.is_link_dead(fault, now);
            match state.refreshed {
                None if dead || class == FaultClass::Link => CopyStep::Refresh,
                Some(Refreshed::NoResponse) if now < state.provider_awaited_until() => state.retry(fault, now),
                _ if dead => state.lost_or_missing(fault.to_string()),
                _ => state.retry(fault, now),
            }
        }
    }
}

/// Whether another link is requested before this one is tried: it is known to be dead, or there is only a file id.
pub fn needs_fresh_link(artifact: &Artifact, now: Timestamp) -> bool {
    match artifact.source {
        Source::FileId(_) => true,
        Source::Url(_) | Source::Authorized(_) => artifact.expires_at.is_some_and(|end| end <= now),
    }
}

/// What is kept after a round that ended with a fault and left this upload. A round in which the file's turn did not come is
/// none of its rounds.
pub fn after_round(before: &Checkpoint, fault: &CopyFault, upload: Option<SavedUpload>) -> Checkpoint {
    if *fault == CopyFault::NotBegun {
        return Checkpoint { upload, ..*before };
    }
    let parts = |upload: Option<&SavedUpload>| upload.map_or(0, |upload| upload.parts.0.len());
    let stalled_rounds = if parts(upload.as_ref()) > parts(before.upload.as_ref()) {
        0
    } else {
        before.stalled_rounds.saturating_add(u32::from(fault.is_while_reading()))
    };
    Checkpoint { upload, failed_rounds: before.failed_rounds.saturating_add(1), stalled_rounds }
}

/// When the next round begins after this many: the wait doubles, and none goes past a quarter of the link's remaining life.
pub fn next_copy_attempt(now: Timestamp, rounds: u32, link_ends_at: Option<Timestamp>, seed: u64) -> Timestamp {
    let wait = ROUND_BACKOFF.delay(rounds, seed);
    now + match link_ends_at {
        Some(end) if end > now => wait.min((now.until(end) / 4).max(Duration::from_secs(1))),
        _ => wait,
    }
}

#[cfg(test)]
mod tests;
