//! Keeps a claim alive while its task is worked on.

use std::time::Duration;

use reelhook_aws::table::Table;
use reelhook_aws::telemetry::now;
use reelhook_core::record::{LEASE, RENEW_EVERY, Record};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A claim that is renewed until this is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    renewing: JoinHandle<()>,
    taken_over: oneshot::Receiver<()>,
}

impl Lease {
    /// Begins to renew.
    pub(crate) fn keep(table: &Table, record: &Record) -> Self {
        let (table, task, claim) = (table.clone(), record.task.clone(), record.claim);
        let (tell, taken_over) = oneshot::channel();
        let renewing = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(RENEW_EVERY)).await;
                match table.renew(&task, claim, now().plus(LEASE)).await {
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
        });
        Self { renewing, taken_over }
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
