//! Requests to the origin of one copy. What fails is tried again as [`retry`](reelhook_core::transfer::retry) allows.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::{HeaderMap, HeaderValue, IF_RANGE, RANGE};
use reelhook_core::backoff::seed_of;
use reelhook_core::credential::Credential;
use reelhook_core::transfer::fault::{CopyFault, OriginFault};
use reelhook_core::transfer::parts::{MIN_PIECE, Piece};
use reelhook_core::transfer::ranges::{FirstResponse, PieceResponse, SourceVersion, first_response, piece_response};
use reelhook_core::transfer::retry::{FailureCount, may_move};
use reelhook_core::transfer::stragglers::straggler_timeout;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};
use url::Url;

use super::halt::Halt;
use super::incoming::Incoming;
use super::origin_client::OriginClient;
use super::permits::PermitRegistry;
use super::request::CopyRequest;
use super::stats::CopyStats;
use crate::clock;

/// Finished pieces that others are compared with: the latest ones, so that a copy follows an origin whose speed changes.
const MAX_PIECE_DURATIONS: usize = 32;

/// The origin of one copy.
#[derive(Debug)]
pub(super) struct OriginSession<'a> {
    client: &'a OriginClient,
    permits: &'a PermitRegistry,
    link: Url,
    credential: Option<&'a Credential>,
    /// Where the link leads, after redirects.
    location: Mutex<Url>,
    /// How long the last pieces took.
    piece_durations: Mutex<VecDeque<Duration>>,
    stats: &'a CopyStats,
    seed: u64,
}

impl<'a> OriginSession<'a> {
    /// A session for one copy. `link` is the request's link, normalised.
    pub(super) fn new(
        client: &'a OriginClient,
        permits: &'a PermitRegistry,
        link: Url,
        request: &'a CopyRequest<'_>,
        stats: &'a CopyStats,
    ) -> Self {
        let (location, credential) = (Mutex::new(link.clone()), request.credential.as_ref());
        // Spreads the waits of copies that fail together.
        let seed = seed_of(request.key_stem);
        Self { client, permits, link, credential, location, piece_durations: Mutex::default(), stats, seed }
    }

    /// Requests the first piece, or the whole file, and reads what the response means.
    pub(super) async fn open(&self, ranged: bool) -> Result<(FirstResponse, Incoming), CopyFault> {
        let mut headers = HeaderMap::new();
        if ranged {
            headers.insert(RANGE, header(&Piece { start: 0, length: MIN_PIECE }.range_header()));
        }
        let mut failures = FailureCount::default();
        loop {
            let permits = Arc::clone(&self.permits.of(&self.link).first);
            let fault = match self.request(&self.link, &headers, permits).await {
                Ok(incoming) => match first_response(&incoming.response().head(clock::now()), ranged) {
                    Ok(first) => {
                        self.moved_to(incoming.response().url());
                        return Ok((first, incoming));
                    }
                    Err(fault) => fault,
                },
                Err(CopyFault::Origin(fault)) => fault,
                Err(fault) => return Err(fault),
            };
            self.wait_after(&mut failures, fault).await?;
        }
    }

    /// Requests a piece of a known version, once.
    pub(super) async fn open_piece(&self, source: &SourceVersion, piece: Piece) -> Result<Incoming, Halt> {
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, header(&piece.range_header()));
        headers.insert(IF_RANGE, header(source.validator.text()));
        let location = self.location();
        let permits = Arc::clone(&self.permits.of(&location).pieces);
        let incoming = self.request(&location, &headers, permits).await?;
        match piece_response(&incoming.response().head(clock::now()), source, piece) {
            Ok(PieceResponse::Good) => {
                self.moved_to(incoming.response().url());
                Ok(incoming)
            }
            Ok(PieceResponse::Changed) => Err(Halt::Restart(OriginFault::Changing)),
            // Where the link was redirected to may live shorter than the link itself.
            Err(OriginFault::NotThere { .. }) if location != self.link => {
                self.moved_to(&self.link);
                Err(OriginFault::Dropped.into())
            }
            Err(fault) => Err(fault.into()),
        }
    }

    /// Sends a request when there is a permit for a connection to its origin.
    async fn request(&self, url: &Url, headers: &HeaderMap, permits: Arc<Semaphore>) -> Result<Incoming, CopyFault> {
        let permit = permits.acquire_owned().await.ok();
        Ok(Incoming::new(self.client.get(url, headers, self.credential).await?, permit))
    }

    /// Waits before the next attempt, or gives the fault back when there is none.
    pub(super) async fn wait_after(&self, failures: &mut FailureCount, fault: OriginFault) -> Result<(), CopyFault> {
        let Some(delay) = failures.delay_after(fault, self.seed) else { return Err(fault.into()) };
        self.stats.retries.add(1);
        sleep(delay).await;
        Ok(())
    }

    /// The same for the bucket.
    pub(super) async fn wait_after_storage(
        &self,
        failures: &mut FailureCount,
        fault: CopyFault,
    ) -> Result<(), CopyFault> {
        let Some(delay) = failures.delay_after_storage(self.seed) else { return Err(fault) };
        self.stats.retries.add(1);
        sleep(delay).await;
        Ok(())
    }

    pub(super) fn stats(&self) -> &CopyStats {
        self.stats
    }

    fn location(&self) -> Url {
        self.location.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn moved_to(&self, url: &Url) {
        let mut location = self.location.lock().unwrap_or_else(PoisonError::into_inner);
        if *location != *url {
            *location = url.clone();
        }
    }

    /// Remembers how long a piece of the usual length took.
    pub(super) fn record_duration(&self, piece: Piece, began: Option<Instant>) {
        if let Some(began) = began.filter(|_| piece.length >= MIN_PIECE) {
            let mut durations = self.piece_durations.lock().unwrap_or_else(PoisonError::into_inner);
            durations.push_back(began.elapsed());
            if durations.len() > MAX_PIECE_DURATIONS {
                durations.pop_front();
            }
        }
    }

    /// When a piece counts as slow that began at some time and was moved so often. None when it never does.
    pub(super) fn slow_at(&self, began: Instant, moves: u32) -> Option<Instant> {
        if !may_move(moves, self.stats.moves.get(), self.stats.parts.get()) {
            return None;
        }
        let durations: Vec<Duration> =
            self.piece_durations.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
        // Each move gives it as much time again.
        Some(began + straggler_timeout(&durations)? * (moves + 1))
    }
}

/// As a header. Validators come out of a header, and ranges are digits.
fn header(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}
