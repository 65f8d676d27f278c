//! Receiving alone: all that is done with a batch until it waits to be stored.

use std::sync::Arc;

use async_trait::async_trait;
use ev_domain::{Catalogue, Source, VehicleId};
use ev_telemetry::{
    Admission, AggregateQuery, Append, Appended, Expired, Horizon, IngestConfig, Ingestor, Latest, Page,
    QuarantinePage, QuarantineQuery, Quarantined, Query, Sequence, SequenceLimits, SourceSequence, SpanAggregate,
    TelemetryError, TelemetryStore, VehicleSummary,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Config, StartError,
    grpc::{IngestDispatch, IngestService},
    process::connection_config,
    serving::{Cores, accept, listen},
};

/// A server of `ev.telemetry.v1.TelemetryIngest` with the real sessions, queue and thread, whose store forgets what it
/// is given: so the thread that receives is the one that is busy.
pub struct Receiving {
    draining: CancellationToken,
    cores: Arc<Cores>,
    acceptor: tokio::task::JoinHandle<()>,
    ingestor: Arc<Ingestor>,
}

struct Forgetful;

// === impl Receiving ===

impl Receiving {
    /// Serves on `grpc.address`.
    ///
    /// # Errors
    ///
    /// [`StartError`] when the address is taken or there are no threads.
    pub async fn start(config: &Config) -> Result<Receiving, StartError> {
        let listener = listen(config.grpc.address, "gRPC")?;
        let (draining, abort) = (CancellationToken::new(), CancellationToken::new());
        let ingest = IngestConfig { credit: config.telemetry.credit, ..IngestConfig::default() };
        let runtime = tokio::runtime::Handle::current();
        let ingestor = Arc::new(Ingestor::start(Arc::new(Forgetful), ingest, Vec::new(), &runtime));
        let readings_max = u32::try_from(config.telemetry.batch_readings_max).unwrap_or(u32::MAX);
        let catalogue = Arc::new(Catalogue::standard());
        let service = IngestService::new(Arc::clone(&ingestor), catalogue, draining.clone(), readings_max);
        let health =
            tonic_health::server::HealthService::from_health_reporter(tonic_health::server::HealthReporter::new());
        let message_size_max = usize::try_from(config.telemetry.message_size_max.as_u64()).unwrap_or(usize::MAX);
        let dispatch = IngestDispatch::new(service, health, message_size_max).map_err(StartError::Reflection)?;
        let dispatch = hyper_util::service::TowerToHyperService::new(dispatch);
        let cores = Cores::start("ingest", 1, move || dispatch.clone(), connection_config(config), &draining, &abort);
        let cores = Arc::new(cores.map_err(StartError::Threads)?);
        let acceptor =
            tokio::spawn(accept(listener, Arc::clone(&cores), config.grpc.connections_max, draining.clone()));
        Ok(Receiving { draining, cores, acceptor, ingestor })
    }

    /// Ends once the streams have.
    pub async fn stop(self) {
        self.draining.cancel();
        let _ = self.acceptor.await;
        if let Some(cores) = Arc::into_inner(self.cores) {
            let _ = tokio::task::spawn_blocking(move || cores.join()).await;
        }
        self.ingestor.drain().await;
    }
}

// === impl Forgetful ===

fn unknown<T>(vehicle: &VehicleId) -> Result<T, TelemetryError> {
    Err(TelemetryError::UnknownVehicle { vehicle: vehicle.to_string() })
}

#[async_trait]
impl TelemetryStore for Forgetful {
    fn sequence_limits(&self) -> SequenceLimits {
        SequenceLimits::default()
    }

    async fn commit(&self, group: &[Append], _: &[Quarantined]) -> Result<Vec<Appended>, TelemetryError> {
        Ok(group.iter().map(|_| Ok(Admission::New)).collect())
    }

    async fn quarantined(&self, _: &QuarantineQuery) -> Result<QuarantinePage, TelemetryError> {
        Ok(QuarantinePage { rejects: Vec::new(), next: None })
    }

    async fn sequences(&self, _: &Source, vehicles: &[VehicleId]) -> Result<Vec<Sequence>, TelemetryError> {
        Ok(vehicles.iter().map(|_| Sequence::default()).collect())
    }

    async fn query(&self, query: &Query) -> Result<Page, TelemetryError> {
        unknown(&query.vehicle)
    }

    async fn aggregate(&self, query: &AggregateQuery) -> Result<Vec<SpanAggregate>, TelemetryError> {
        unknown(&query.vehicle)
    }

    async fn latest(&self, vehicle: &VehicleId) -> Result<Vec<Latest>, TelemetryError> {
        unknown(vehicle)
    }

    async fn vehicles(&self, _: Option<&VehicleId>, _: u32) -> Result<Vec<VehicleSummary>, TelemetryError> {
        Ok(Vec::new())
    }

    async fn vehicle(&self, vehicle: &VehicleId) -> Result<VehicleSummary, TelemetryError> {
        unknown(vehicle)
    }

    async fn gaps(
        &self,
        vehicle: &VehicleId,
        _: Option<&Source>,
        _: u32,
    ) -> Result<Vec<SourceSequence>, TelemetryError> {
        unknown(vehicle)
    }

    async fn maintain(&self) -> Result<bool, TelemetryError> {
        Ok(false)
    }

    async fn flush(&self) -> Result<(), TelemetryError> {
        Ok(())
    }

    async fn expire(&self, _: &Horizon) -> Result<Expired, TelemetryError> {
        Ok(Expired::default())
    }

    async fn close(&self) {}
}
