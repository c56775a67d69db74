//! How many connections there are to an origin.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;
use url::Url;

/// Connections to one origin, over all copies: as many for first requests and as many for further pieces. Browsers open six;
/// there is memory for seven pieces.
const CONNECTIONS_PER_ORIGIN: usize = 8;

/// Origins that are remembered before those without connections are dropped.
const MAX_IDLE_ORIGINS: usize = 100;

/// Permits for connections to one origin. First requests have their own, because they wait for memory while they hold one,
/// and pieces hold memory while they wait for one.
#[derive(Debug)]
pub(super) struct ConnectionPermits {
    pub(super) first: Arc<Semaphore>,
    pub(super) pieces: Arc<Semaphore>,
}

/// The permits of every origin, by host and port.
#[derive(Debug, Default)]
pub(super) struct PermitRegistry(Mutex<HashMap<String, Arc<ConnectionPermits>>>);

impl PermitRegistry {
    /// The permits for the origin of a URL.
    pub(super) fn of(&self, url: &Url) -> Arc<ConnectionPermits> {
        let origin =
            format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default());
        let mut origins = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A warm process sees many origins over the days; those in use are kept.
        if origins.len() > MAX_IDLE_ORIGINS {
            let free = |permits: &Semaphore| permits.available_permits() == CONNECTIONS_PER_ORIGIN;
            origins
                .retain(|_, permits| Arc::strong_count(permits) > 1 || !free(&permits.first) || !free(&permits.pieces));
        }
        let all = || Arc::new(Semaphore::new(CONNECTIONS_PER_ORIGIN));
        let new = || Arc::new(ConnectionPermits { first: all(), pieces: all() });
        Arc::clone(origins.entry(origin).or_insert_with(new))
    }
}
