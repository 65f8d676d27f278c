//! Gateways that stream readings.

mod batches;
mod delivery;
mod gateway;
mod hostile;
mod load;
mod report;
mod thresholds;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ev_client::{Client, Config, RetryPolicy};
use tokio::task::JoinSet;

use crate::LoadError;
use gateway::{Gateway, Schedule};
use report::Counts;

pub use hostile::{Vice, run_hostile};
pub use load::{Connection, IngestLoad, IngestPace};
pub use report::IngestReport;
pub use thresholds::IngestThresholds;

/// Runs a load test of `TelemetryIngest.Stream`.
///
/// # Errors
///
/// [`LoadError`] when it could not begin; what goes wrong later is part of the report.
pub async fn run_ingest(load: &IngestLoad) -> Result<IngestReport, LoadError> {
    check(load)?;
    // Ids of this run: another run's gateways go on beside it.
    let run = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_millis();
    let mut gateways = Vec::with_capacity(load.gateways);
    for index in 0..load.gateways {
        let config = Config { retry: RetryPolicy::never(), ..Config::default() };
        let client = Client::connect_with(&load.endpoint, config).await.map_err(LoadError::Unreachable)?;
        gateways.push(Gateway::open(&client, &format!("load-{run:x}-{index}"), index, load).await?);
    }
    let schedule = Arc::new(Schedule::new(load, Instant::now() + Duration::from_millis(10)));
    let mut tasks = JoinSet::new();
    for gateway in gateways {
        tasks.spawn(gateway.run(Arc::clone(&schedule)));
    }
    let mut counts = Counts::new();
    while let Some(gateway) = tasks.join_next().await {
        match gateway {
            Ok(gateway) => counts.add(&gateway),
            Err(error) => counts.error = counts.error.or_else(|| Some(error.to_string())),
        }
    }
    Ok(counts.report(load))
}

fn check(load: &IngestLoad) -> Result<(), LoadError> {
    let positive = match load.pace {
        IngestPace::Rate(rate) => rate.is_finite() && rate > 0.0,
        IngestPace::Credit => true,
    };
    if !positive || load.gateways == 0 || load.vehicles == 0 || load.batch_readings == 0 {
        return Err(LoadError::Invalid("rate, gateways, vehicles and readings of a batch must be above 0"));
    }
    Ok(())
}
