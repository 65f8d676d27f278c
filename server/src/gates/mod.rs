//! Promotion gates: judged when a version is registered, and again before `production` points at it.
//!
//! Judging loads a version of its own and runs generated rows through it, on the control runtime, one version at a time.

mod probe;
mod report;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use ev_gates::{GateResult, State};
use ev_registry::{PRODUCTION, Registry, RegistryError, VersionChoice, VersionRecord, Waiver};
use tokio::sync::Semaphore;

pub(crate) use probe::judge;

use crate::deploy::{Deployer, Examined};

/// Versions that have served, which are remembered.
const SERVED_MAX: usize = 1024;

/// Judges versions, and lets those through that may serve.
pub(crate) struct Gatekeeper {
    registry: Arc<Registry>,
    deployer: Arc<Deployer>,
    control: tokio::runtime::Handle,
    /// Judging takes a core's time for seconds.
    turn: Semaphore,
    /// Versions that `production` has pointed at: going back to one is never slowed down.
    served: Mutex<HashSet<(String, u32)>>,
}

/// How a version stands with the gates.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Judged {
    /// One result a gate, with waivers.
    pub(crate) results: Vec<GateResult>,
    /// What is waived, by whom.
    pub(crate) waivers: Vec<Waiver>,
    /// When it was judged, in milliseconds since 1970-01-01 UTC.
    pub(crate) at_ms: i64,
    /// Why it did not load; none when it did, or when that is not known any more.
    refusal: Option<String>,
}

/// Why `production` does not move to a version.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GateError {
    /// Gates failed that nobody has waived.
    #[error("version {version} of model `{model}` may not be in production: {}", failures(.failed))]
    Failed {
        /// Model name.
        model: String,
        /// Version number.
        version: u32,
        /// Those that failed.
        failed: Vec<GateResult>,
    },
    /// It does not load, or does not reproduce its golden requests.
    #[error("version {version} of model `{model}` does not serve: {reason}")]
    NotServable {
        /// Model name.
        model: String,
        /// Version number.
        version: u32,
        /// Why.
        reason: String,
    },
    /// The registry failed.
    #[error("the registry failed")]
    Registry(#[from] RegistryError),
}

// === impl Gatekeeper ===

impl Gatekeeper {
    /// A gatekeeper over versions that `deployer` can load, on the runtime that calls this.
    pub(crate) fn new(registry: Arc<Registry>, deployer: Arc<Deployer>) -> Gatekeeper {
        let (control, served) = (tokio::runtime::Handle::current(), Mutex::default());
        Gatekeeper { registry, deployer, control, turn: Semaphore::new(1), served }
    }

    /// Judges a version and keeps the results.
    ///
    /// # Errors
    ///
    /// [`RegistryError`] when the version or its waivers cannot be read, or the results not be written.
    pub(crate) async fn judge(self: &Arc<Self>, record: &VersionRecord) -> Result<Judged, RegistryError> {
        let (gatekeeper, record) = (Arc::clone(self), record.clone());
        // Where it may take its time, and even when the caller goes away.
        let judging = self.control.spawn(async move { gatekeeper.judge_here(&record).await });
        judging.await.unwrap_or(Err(RegistryError::ShuttingDown))
    }

    /// How a version was judged last; judged now, when it has not been.
    ///
    /// # Errors
    ///
    /// As [`Gatekeeper::judge`].
    pub(crate) async fn judged(self: &Arc<Self>, record: &VersionRecord) -> Result<Judged, RegistryError> {
        match self.stored(record).await? {
            Some(judged) => Ok(judged),
            None => self.judge(record).await,
        }
    }

    /// How a version was judged last; none when it has not been.
    ///
    /// # Errors
    ///
    /// [`RegistryError`] when that cannot be read.
    pub(crate) async fn stored(&self, record: &VersionRecord) -> Result<Option<Judged>, RegistryError> {
        let Some(judgement) = self.registry.judgement(record).await? else { return Ok(None) };
        let waivers = self.registry.waivers(record).await?;
        // Of an older release, which knew other gates, nothing is read.
        let results = report::read(&judgement.report);
        Ok(results.map(|results| Judged::new(results, waivers, judgement.at_ms)))
    }

    /// Whether `production` may point at a version. One that it has pointed at may again, at once.
    ///
    /// # Errors
    ///
    /// [`GateError`].
    pub(crate) async fn admit(self: &Arc<Self>, record: &VersionRecord) -> Result<(), GateError> {
        let (model, version) = (record.model.clone(), record.version);
        if self.has_served(record).await? {
            return Ok(());
        }
        let judged = self.judge(record).await?;
        if let Some(reason) = judged.refusal {
            return Err(GateError::NotServable { model, version, reason });
        }
        let failed: Vec<GateResult> =
            judged.results.into_iter().filter(|result| result.state == State::Failed).collect();
        if failed.is_empty() { Ok(()) } else { Err(GateError::Failed { model, version, failed }) }
    }

    fn serves(&self, record: &VersionRecord) {
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        if served.len() >= SERVED_MAX {
            served.clear();
        }
        served.insert((record.model.clone(), record.version));
    }

    /// Before it moves, remembers what `production` points at.
    async fn remember_production(&self, model: &str) -> Result<(), RegistryError> {
        match self.registry.get(model, &VersionChoice::Alias(PRODUCTION.to_owned())).await {
            Ok(current) => self.serves(&current),
            Err(RegistryError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn has_served(&self, record: &VersionRecord) -> Result<bool, RegistryError> {
        self.remember_production(&record.model).await?;
        let served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(served.contains(&(record.model.clone(), record.version)))
    }

    async fn judge_here(&self, record: &VersionRecord) -> Result<Judged, RegistryError> {
        let _turn = self.turn.acquire().await.map_err(|_| RegistryError::ShuttingDown)?;
        let waivers = self.registry.waivers(record).await?;
        let Examined { results, refusal } = self.deployer.judge(record).await?;
        let at_ms = crate::grpc::now_ms();
        self.registry.judged(record, report::write(&results), at_ms).await?;
        let judged = Judged { refusal, ..Judged::new(results, waivers, at_ms) };
        let failed = judged.results.iter().filter(|result| result.state == State::Failed);
        let failed: Vec<&str> = failed.map(|result| result.gate.name()).collect();
        tracing::info!(model = record.model, version = record.version, ?failed, "model version judged");
        Ok(judged)
    }
}

// === impl Judged ===

impl Judged {
    fn new(results: Vec<GateResult>, waivers: Vec<Waiver>, at_ms: i64) -> Judged {
        let waived = |result: GateResult| match waivers.iter().find(|waiver| waiver.gate == result.gate.name()) {
            Some(waiver) => result.waived(&waiver.reason),
            None => result,
        };
        Judged { results: results.into_iter().map(waived).collect(), waivers, at_ms, refusal: None }
    }
}

fn failures(failed: &[GateResult]) -> String {
    match failed {
        [GateResult { gate, measured, .. }] => format!("gate `{gate}` failed: {measured}"),
        failed => {
            let names: Vec<&str> = failed.iter().map(|result| result.gate.name()).collect();
            format!("{} gates failed: {}", names.len(), names.join(", "))
        }
    }
}
