//! What lies of uploads that have not ended is looked at for `/metrics`, which waits for no disk.

use std::{sync::Arc, time::Duration};

use ev_registry::Registry;
use tokio_util::sync::CancellationToken;

/// Between two looks: a look lists one folder of at most `registry.staged_files_max` files.
const INTERVAL: Duration = Duration::from_secs(5);

/// Looks until the server drains.
pub(crate) async fn count_uploads(registry: Arc<Registry>, draining: CancellationToken) {
    loop {
        if let Err(error) = registry.count_staged().await {
            tracing::debug!(error = &error as &dyn std::error::Error, "cannot count what lies of uploads");
        }
        tokio::select! {
            () = draining.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}
