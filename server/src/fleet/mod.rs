//! What this server really serves, told to the registry, and what all servers that share it tell.
//!
//! A server says it when it changes, and every now and then; who says nothing for long is called stale, and forgotten later.

mod forwarded;
mod report;

use std::{sync::Arc, time::Duration};

use ev_registry::{Registry, RegistryError, ReplicaRecord};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

pub(crate) use forwarded::Forwarded;
pub(crate) use report::{Report, State, Told};

use crate::{
    config::DeployConfig,
    deploy::{Deployer, Routes},
    grpc::now_ms,
};

/// How long it waits for more to change before it tells, and shortest time between two reports: a start publishes model
/// after model, and a version is announced before it is loaded.
const PAUSE: Duration = Duration::from_millis(100);
/// Reports that a server may miss before it is called stale.
const MISSED_MAX: u32 = 3;
/// Longest wait for the registry to forget this server at its end.
const FAREWELL_MAX: Duration = Duration::from_secs(2);

/// The servers that share the registry, and this one among them.
pub(crate) struct Fleet {
    registry: Arc<Registry>,
    deployer: Arc<Deployer>,
    routes: Arc<Routes>,
    config: DeployConfig,
    /// This process.
    id: String,
    address: String,
    started_at_ms: i64,
}

/// A server, as it told of itself.
pub(crate) struct Replica {
    pub(crate) id: String,
    pub(crate) report: Report,
    pub(crate) reported_at_ms: i64,
    /// By this server's clock.
    pub(crate) age: Duration,
    pub(crate) is_stale: bool,
}

// === impl Fleet ===

impl Fleet {
    /// This server, which is reached at `address`.
    pub(crate) fn new(
        registry: Arc<Registry>,
        deployer: Arc<Deployer>,
        routes: Arc<Routes>,
        config: DeployConfig,
        address: String,
    ) -> Fleet {
        let id = uuid::Uuid::now_v7().to_string();
        Fleet { registry, deployer, routes, config, id, address, started_at_ms: now_ms() }
    }

    /// Tells what is served until the server drains, and then that it has ended.
    pub(crate) async fn run(self: Arc<Self>, draining: CancellationToken) {
        let mut published = self.deployer.published();
        let mut is_failing = false;
        while !draining.is_cancelled() {
            published.mark_unchanged();
            match self.tell().await {
                Ok(()) => is_failing = false,
                Err(error) => {
                    if !is_failing {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(error, "the registry cannot be told what is served here; trying again");
                    }
                    is_failing = true;
                }
            }
            let next = Instant::now() + self.config.report_interval;
            if is_failing {
                // Sooner than the interval, which may be long.
                tokio::select! {
                    () = draining.cancelled() => break,
                    () = tokio::time::sleep(PAUSE * 10) => {}
                }
                continue;
            }
            tokio::select! {
                () = draining.cancelled() => break,
                () = sleep_until(next) => {}
                // What is served is another, or the revision is that it is of.
                changed = published.changed() => if changed.is_err() { break },
            }
            tokio::select! {
                () = draining.cancelled() => break,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
        // Whoever asks finds out later, if this fails.
        let _ = tokio::time::timeout(FAREWELL_MAX, self.registry.fleet().forget_replica(&self.id)).await;
    }

    async fn tell(&self) -> Result<(), RegistryError> {
        let (address, started_at_ms) = (self.address.clone(), self.started_at_ms);
        let report = Report::of(&self.routes.load(), address, started_at_ms, self.deployer.revision());
        let told = ReplicaRecord { replica: self.id.clone(), updated_at_ms: now_ms(), document: report.document() };
        let forget = i64::try_from(self.config.forget_replicas.as_millis()).unwrap_or(i64::MAX);
        self.registry.fleet().tell_replica(&told, told.updated_at_ms.saturating_sub(forget)).await
    }

    /// What all servers told, by address.
    ///
    /// # Errors
    ///
    /// [`RegistryError`] when the registry cannot be read.
    pub(crate) async fn replicas(&self) -> Result<Vec<Replica>, RegistryError> {
        let (now, stale_after) = (now_ms(), self.config.report_interval.saturating_mul(MISSED_MAX));
        let mut replicas: Vec<Replica> = Vec::new();
        for ReplicaRecord { replica: id, updated_at_ms: reported_at_ms, document } in
            self.registry.fleet().replicas().await?
        {
            // Of another release that tells something else: that it is there can be shown at least.
            let report = Report::read(&document).unwrap_or_default();
            // Clocks of other machines may be ahead.
            let age = Duration::from_millis(u64::try_from(now.saturating_sub(reported_at_ms)).unwrap_or(0));
            replicas.push(Replica { id, report, reported_at_ms, age, is_stale: age > stale_after });
        }
        replicas.sort_by(|a, b| (&a.report.address, &a.id).cmp(&(&b.report.address, &b.id)));
        Ok(replicas)
    }
}
