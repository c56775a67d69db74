//! The providers as a customer sees them: submissions, callbacks, status calls, downloads.

mod customer;
mod every_provider;
mod receiver;
mod scripts;
mod single_providers;

use std::time::Duration;

/// How long to wait for a callback; chosen freely.
const TIMEOUT: Duration = Duration::from_secs(10);
