//! Batches of vehicles.

use ev_domain::{Column, ReadingBatch, Readings, SignalId, Source, VehicleId, signals::SPEED};
use ev_telemetry::Append;

/// 2026-01-01.
pub(crate) const START: i64 = 1_767_225_600_000_000;
pub(crate) const SECOND: i64 = 1_000_000;
pub(crate) const DAY: i64 = 86_400 * SECOND;

pub(crate) fn id(id: &str) -> VehicleId {
    VehicleId::new(id).unwrap()
}

pub(crate) fn source(boot: &str) -> Source {
    Source { gateway: id("gateway"), boot: id(boot) }
}

pub(crate) fn column(signal: SignalId, values: &[f32]) -> Column {
    Column { signal, values: values.into() }
}

/// A batch of `count` speeds, one a second from `first_us` on.
pub(crate) fn speeds(vehicle: &str, sequence: u64, first_us: i64, count: u16) -> Append {
    let times_us = (0..i64::from(count)).map(|index| first_us + index * SECOND).collect();
    let values: Vec<f32> = (0..count).map(|index| f32::from(index % 100)).collect();
    batch(vehicle, sequence, Readings { times_us, columns: vec![column(SPEED, &values)] })
}

pub(crate) fn batch(vehicle: &str, sequence: u64, readings: Readings) -> Append {
    let batch = ReadingBatch { vehicle: id(vehicle), sequence, readings };
    Append { source: source("boot"), batch, received_us: START }
}
