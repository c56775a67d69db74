//! Keeps a claim alive while its task is worked on.

use reelhook_aws::clock;
use reelhook_aws::table::Table;
use reelhook_core::record::{LEASE_DURATION, RENEW_INTERVAL, Record};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::Instrument as _;

/// A claim that is renewed until this is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    renewing: JoinHandle<()>,
    taken_over: oneshot::Receiver<()>,
}

impl Lease {
    /// Begins to renew.
    pub(crate) fn keep(table: &Table, record: &Record) -> Self {
        let (table, task, fencing_token) = (table.clone(), record.task.clone(), record.fencing_token);
        let (tell, taken_over) = oneshot::channel();
        let renew = async move {
            loop {
                tokio::time::sleep(RENEW_INTERVAL).await;
                match table.renew(&task, fencing_token, clock::now() + LEASE_DURATION).await {
                    Ok(true) => {}
                    Ok(false) => {
                        // The worker may have ended at the same moment; then nobody listens.
                        let _ = tell.send(());
                        return;
                    }
                    // The next renewal may succeed before the lease runs out, and if not, fencing keeps the record right.
                    Err(error) => tracing::warn!(%task, %error, "a claim could not be renewed"),
                }
            }
        };
        Self { renewing: tokio::spawn(renew.in_current_span()), taken_over }
    }

    /// Returns when the claim is lost to another worker, and only then.
    pub(crate) async fn taken_over(&mut self) {
        if (&mut self.taken_over).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}
