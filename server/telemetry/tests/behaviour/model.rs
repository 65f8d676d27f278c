//! A plain recomputation: what a store should answer, from everything that was sent.

use std::collections::{BTreeMap, BTreeSet};

use ev_domain::{Catalogue, ReadingBatch, SignalId, VehicleId};
use ev_telemetry::{Aggregate, AggregateQuery, Append, Cursor, Query, Resolution, SpanAggregate, TelemetryStore};

/// All batches, each once.
#[derive(Default)]
pub(crate) struct Model {
    batches: Vec<ReadingBatch>,
    seen: BTreeSet<(String, String, u64)>,
}

impl Model {
    pub(crate) fn add(&mut self, append: &Append) {
        let Append { source, batch, .. } = append;
        if self.seen.insert((format!("{source:?}"), batch.vehicle.to_string(), batch.sequence)) {
            self.batches.push(batch.clone());
        }
    }

    fn of<'a>(&'a self, vehicle: &'a VehicleId) -> impl Iterator<Item = &'a ReadingBatch> {
        self.batches.iter().filter(move |batch| batch.vehicle == *vehicle)
    }

    /// Every value: time, signal, bits.
    fn values(&self, vehicle: &VehicleId) -> Vec<(i64, SignalId, f32)> {
        let values = self.of(vehicle).flat_map(|batch| {
            batch.readings.columns.iter().flat_map(|column| {
                batch.readings.times_us.iter().zip(&column.values).map(|(time, value)| (*time, column.signal, *value))
            })
        });
        values.filter(|(.., value)| !value.is_nan()).collect()
    }

    fn aggregates(&self, vehicle: &VehicleId, resolution: Resolution) -> Vec<SpanAggregate> {
        let catalogue = Catalogue::standard();
        let mut spans: BTreeMap<(i64, String), SpanAggregate> = BTreeMap::new();
        for (time, signal, value) in self.values(vehicle) {
            let start_us = time.div_euclid(resolution.span_us()) * resolution.span_us();
            let name = catalogue.signal(signal).unwrap().name.to_string();
            let one =
                Aggregate { count: 1, sum: f64::from(value), min: value, max: value, last: value, last_time_us: time };
            spans
                .entry((start_us, name))
                .and_modify(|SpanAggregate { aggregate: sum, .. }| {
                    sum.count += 1;
                    sum.sum += f64::from(value);
                    sum.min = sum.min.min(value);
                    sum.max = sum.max.max(value);
                    if (time, value) > (sum.last_time_us, sum.last) {
                        (sum.last, sum.last_time_us) = (value, time);
                    }
                })
                .or_insert(SpanAggregate { start_us, signal, aggregate: one });
        }
        spans.into_values().collect()
    }

    /// Asks the store everything, and compares.
    pub(crate) async fn check(&self, store: &dyn TelemetryStore) {
        let vehicles: BTreeSet<&VehicleId> = self.batches.iter().map(|batch| &batch.vehicle).collect();
        for vehicle in vehicles {
            let readings: usize = self.of(vehicle).map(|batch| batch.readings.len()).sum();
            let summary = store.vehicle(vehicle).await.unwrap();
            assert_eq!(summary.readings, readings as u64);
            let times: Vec<i64> = self.of(vehicle).flat_map(|batch| batch.readings.times_us.iter().copied()).collect();
            assert_eq!(summary.span_us, times.iter().min().copied().zip(times.iter().max().copied()));

            let mut expected = self.values(vehicle);
            let mut found = values(store, vehicle, 37).await;
            expected.sort_by(|one, other| (one.0, one.1).cmp(&(other.0, other.1)).then(one.2.total_cmp(&other.2)));
            found.sort_by(|one, other| (one.0, one.1).cmp(&(other.0, other.1)).then(one.2.total_cmp(&other.2)));
            assert_eq!(found, expected);

            for resolution in Resolution::ALL {
                let expected = self.aggregates(vehicle, resolution);
                assert_eq!(aggregates(store, vehicle, resolution, 11).await, expected, "{resolution:?}");
            }
            for latest in store.latest(vehicle).await.unwrap() {
                let of_signal = self.values(vehicle).into_iter().filter(|(_, signal, _)| *signal == latest.signal);
                let last = of_signal.map(|(time, _, value)| (time, value)).reduce(|a, b| if b > a { b } else { a });
                assert_eq!(last, Some((latest.time_us, latest.value)));
            }
        }
    }
}

/// Every value of a vehicle, asked for in pages; times are in order.
pub(crate) async fn values(store: &dyn TelemetryStore, vehicle: &VehicleId, limit: usize) -> Vec<(i64, SignalId, f32)> {
    let mut found = Vec::new();
    let (mut after, mut before): (Option<Cursor>, _) = (None, i64::MIN);
    loop {
        let query = Query { vehicle: vehicle.clone(), signals: Vec::new(), time_us: i64::MIN..i64::MAX, after, limit };
        let page = store.query(&query).await.unwrap();
        assert!(page.readings.len() <= limit);
        for (index, time) in page.readings.times_us.iter().enumerate() {
            assert!(*time >= before);
            before = *time;
            for column in &page.readings.columns {
                found.push((*time, column.signal, column.values[index]));
            }
        }
        after = page.next;
        if after.is_none() {
            found.retain(|(.., value)| !value.is_nan());
            return found;
        }
    }
}

/// All aggregates of a vehicle, asked for in pages.
pub(crate) async fn aggregates(
    store: &dyn TelemetryStore,
    vehicle: &VehicleId,
    resolution: Resolution,
    limit: usize,
) -> Vec<SpanAggregate> {
    let mut found: Vec<SpanAggregate> = Vec::new();
    loop {
        let after = found.last().map(|last| (last.start_us, last.signal));
        let time_us = i64::MIN..i64::MAX;
        let query = AggregateQuery { vehicle: vehicle.clone(), signals: Vec::new(), resolution, time_us, after, limit };
        let page = store.aggregate(&query).await.unwrap();
        assert!(page.len() <= limit);
        let ended = page.len() < limit;
        found.extend(page);
        if ended {
            return found;
        }
    }
}
