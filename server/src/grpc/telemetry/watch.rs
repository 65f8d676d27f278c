//! Readings as they are taken in, for whoever watches.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use ev_domain::{Catalogue, Readings, SignalId, VehicleId};
use ev_proto::ev::telemetry::v1::WatchResponse;
use ev_telemetry::{AppliedBatch, Observed, Subscription};
use futures_core::Stream;
use tokio::{runtime::Handle, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{encode, query};
use crate::grpc::{duration, status};

/// Messages that wait for a watcher to read them; after that it begins to miss batches.
const WAITING_MAX: usize = 64;
/// Most vehicles that may be named.
const VEHICLES_MAX: usize = 10_000;
/// Most vehicles whose last reading is remembered for `interval_min`.
const REMEMBERED_MAX: usize = 100_000;

/// What a watcher wants.
#[derive(Debug)]
pub(super) struct Wanted {
    /// None: all.
    vehicles: HashSet<VehicleId>,
    /// None: all.
    signals: Vec<SignalId>,
    interval_us: i64,
    /// Of each vehicle, the time of the reading that was sent last.
    last_us: HashMap<VehicleId, i64>,
}

// === impl Wanted ===

impl Wanted {
    pub(super) fn new(
        vehicle_ids: &[String],
        signals: Vec<SignalId>,
        interval_min: Option<&prost_types::Duration>,
    ) -> Result<Wanted, Status> {
        if vehicle_ids.len() > VEHICLES_MAX {
            let description = format!("has {} vehicles, expected at most {VEHICLES_MAX}", vehicle_ids.len());
            return Err(status::invalid("vehicle_ids", "TOO_MANY_VEHICLES", description));
        }
        let vehicle = |(index, id): (usize, &String)| query::vehicle(&format!("vehicle_ids[{index}]"), id);
        let vehicles = vehicle_ids.iter().enumerate().map(vehicle).collect::<Result<_, _>>()?;
        let interval = interval_min.map_or(Some(Duration::ZERO), |interval| duration::of_proto(*interval));
        let interval = interval.ok_or_else(|| status::invalid("interval_min", "OUT_OF_RANGE", "is below zero"))?;
        let interval_us = i64::try_from(interval.as_micros()).unwrap_or(i64::MAX);
        Ok(Wanted { vehicles, signals, interval_us, last_us: HashMap::new() })
    }

    /// What of a batch is wanted; none when nothing is.
    fn of(&mut self, applied: &AppliedBatch) -> Option<Readings> {
        let batch = &applied.batch;
        if !self.vehicles.is_empty() && !self.vehicles.contains(&batch.vehicle) {
            return None;
        }
        let kept = self.kept(&batch.vehicle, &batch.readings);
        let wanted = |signal: SignalId| self.signals.is_empty() || self.signals.contains(&signal);
        let columns = batch.readings.columns.iter().filter(|column| wanted(column.signal));
        let columns = columns.map(|column| ev_domain::Column {
            signal: column.signal,
            values: kept.iter().filter_map(|index| column.values.get(*index).copied()).collect(),
        });
        let readings = Readings {
            columns: columns.collect(),
            times_us: kept.iter().map(|index| batch.readings.times_us[*index]).collect(),
        };
        (!readings.is_empty() && !readings.columns.is_empty()).then_some(readings)
    }

    /// The readings that are far enough apart.
    fn kept(&mut self, vehicle: &VehicleId, readings: &Readings) -> Vec<usize> {
        if self.interval_us == 0 {
            return (0..readings.len()).collect();
        }
        if self.last_us.len() >= REMEMBERED_MAX {
            // Rarely more than once: those that are still sending are remembered again.
            self.last_us.clear();
        }
        let last = self.last_us.entry(vehicle.clone()).or_insert(i64::MIN);
        let mut kept = Vec::new();
        for (index, time) in readings.times_us.iter().enumerate() {
            if *last == i64::MIN || time.saturating_sub(*last) >= self.interval_us {
                *last = *time;
                kept.push(index);
            }
        }
        kept
    }
}

/// Forwards what is wanted until the watcher goes away or the server drains.
pub(super) fn start(
    mut subscription: Subscription,
    mut wanted: Wanted,
    catalogue: Arc<Catalogue>,
    draining: CancellationToken,
    control: &Handle,
) -> impl Stream<Item = Result<WatchResponse, Status>> + Send + use<> {
    let (sender, responses) = mpsc::channel(WAITING_MAX);
    control.spawn(async move {
        let mut missed = 0;
        loop {
            let observed = tokio::select! {
                observed = subscription.next() => observed,
                () = draining.cancelled() => None,
                () = sender.closed() => return,
            };
            match observed {
                Some(Observed::Missed(count)) => missed += count,
                Some(Observed::Batch(applied)) => {
                    let Some(readings) = wanted.of(&applied) else { continue };
                    let response = WatchResponse {
                        vehicle_id: applied.batch.vehicle.as_str().to_owned(),
                        times_us: readings.times_us.clone(),
                        columns: encode::columns(&catalogue, readings),
                        missed_batches: std::mem::take(&mut missed),
                    };
                    if sender.send(Ok(response)).await.is_err() {
                        return;
                    }
                }
                None => {
                    let _ = sender.send(Err(status::draining())).await;
                    return;
                }
            }
        }
    });
    ReceiverStream::new(responses)
}
