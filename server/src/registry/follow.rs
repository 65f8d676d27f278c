//! Replicas follow what any of them, or another process on the same database, changes.

use std::{sync::Arc, time::Duration};

use ev_registry::{AuditQuery, Registry, RegistryError, SET_VERSION_POLICY, audit};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::deploy::Deployer;

/// Between two attempts to fetch what the artifact store did not give.
const FETCH_AGAIN: Duration = Duration::from_secs(5);
/// Between two attempts to read a registry that fails.
const PAUSE: Duration = Duration::from_secs(1);

/// Makes what is loaded match the registry whenever it has changed since this was called, also before it is awaited.
/// While it cannot be read, what serves goes on serving.
pub(crate) fn follow(
    registry: Arc<Registry>,
    deployer: Arc<Deployer>,
    draining: CancellationToken,
) -> impl Future<Output = ()> {
    let mut changes = registry.changes();
    let seen = *changes.borrow_and_update();
    async move {
        // Beside each other: a store that is away takes its time to be found so.
        let fetching = fetch_again(Arc::clone(&deployer), draining.clone());
        tokio::join!(follow_from(seen, changes, registry, deployer, draining), fetching);
    }
}

/// Loads what could not be loaded because the artifact store was away.
async fn fetch_again(deployer: Arc<Deployer>, draining: CancellationToken) {
    loop {
        tokio::select! {
            () = draining.cancelled() => return,
            () = tokio::time::sleep(FETCH_AGAIN) => {}
        }
        if deployer.fetch_again()
            && let Err(error) = deployer.reconcile().await
        {
            tracing::warn!(error = &error as &dyn std::error::Error, "cannot read the registry");
        }
    }
}

async fn follow_from(
    mut seen: u64,
    mut changes: watch::Receiver<u64>,
    registry: Arc<Registry>,
    deployer: Arc<Deployer>,
    draining: CancellationToken,
) {
    let mut is_forgiven = false;
    loop {
        tokio::select! {
            () = draining.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
        }
        let newest = *changes.borrow_and_update();
        while let Err(error) = take_in(&registry, &deployer, (&mut seen, newest), &mut is_forgiven).await {
            tracing::warn!(error = &error as &dyn std::error::Error, newest, "cannot follow the registry's changes");
            tokio::select! {
                () = draining.cancelled() => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }
}

/// From the last row that was seen to the newest that is known of; `is_forgiven` is true while a version is to be tried
/// again.
async fn take_in(
    registry: &Registry,
    deployer: &Deployer,
    (seen, newest): (&mut u64, u64),
    is_forgiven: &mut bool,
) -> Result<(), RegistryError> {
    while *seen < newest {
        let rows = registry.audit(&AuditQuery::after(*seen)).await?;
        let Some(last) = rows.last() else { break };
        *seen = last.sequence;
        for row in &rows {
            // It may have been repaired since it failed here; pointing an alias at it is a reason to look again.
            if let (audit::SET_ALIAS, Some(version)) = (row.action.as_str(), row.version) {
                *is_forgiven |= deployer.forgive(&row.model, version);
            }
            if row.action == SET_VERSION_POLICY {
                *is_forgiven |= deployer.forgive_all(&row.model);
            }
        }
    }
    // Mostly whoever moved an alias here has done it, and waits for it.
    deployer.reconcile_from(if *is_forgiven { u64::MAX } else { *seen }).await?;
    *is_forgiven = false;
    Ok(())
}
