//! What a server does with features: takes readings in, reads, and writes what comes from outside.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, PoisonError},
};

use ev_domain::{ReadingBatch, Value, VehicleId};

use crate::{
    Aggregator, AggregatorSettings, Applied, Cell, Condition, FeatureRead, FeatureRow, FeatureValue, Fetched,
    OnlineStore, Plan, Put, RowBuilder, SettingsError, StoreError, Version, View, ViewId, Views, Write, WriteError,
};

/// Aggregators that share the vehicles, each behind a lock.
const SHARDS: usize = 16;
/// Rounds of reading, changing and writing a row that others write as well.
const ROUNDS_MAX: usize = 16;

/// A value and its place in a row.
type Placed<'v> = (usize, Value<'v>);

/// Views, aggregators and a store, put together.
#[derive(Debug)]
pub struct Features {
    views: Arc<Views>,
    shards: Box<[Mutex<Aggregator>]>,
    hasher: RandomState,
    store: Arc<dyn OnlineStore>,
    future_max_us: i64,
}

/// What was read.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureReads {
    /// One for each wanted feature of the plan, in its order.
    pub features: Vec<FeatureRead>,
    /// The shared store could not be reached: these are of this process's memory.
    pub degraded: bool,
    /// Values that were no rows, and were treated as missing.
    pub damaged: u32,
}

/// What became of a batch of readings.
#[derive(Debug)]
pub struct Ingested {
    /// What it changed; the rows were handed to the store.
    pub applied: Applied,
    /// Why the store has none of them, where it has not.
    pub store: Result<(), StoreError>,
}

// === impl Features ===

impl Features {
    /// Puts them together.
    ///
    /// # Errors
    ///
    /// [`SettingsError`] when a setting is out of its range.
    pub fn new(
        views: Arc<Views>,
        settings: AggregatorSettings,
        store: Arc<dyn OnlineStore>,
    ) -> Result<Features, SettingsError> {
        settings.check()?;
        let vehicles_max = settings.vehicles_max.div_ceil(SHARDS);
        let shard = AggregatorSettings { vehicles_max, ..settings };
        let aggregator = || Aggregator::new(Arc::clone(&views), shard).map(Mutex::new);
        let shards = (0..SHARDS).map(|_| aggregator()).collect::<Result<_, _>>()?;
        let future_max_us = crate::aggregate::micros(settings.future_max);
        Ok(Features { views, shards, hasher: RandomState::new(), store, future_max_us })
    }

    /// The views.
    #[must_use]
    pub fn views(&self) -> &Arc<Views> {
        &self.views
    }

    /// Takes a batch in and hands the rows that changed to the store. `now_us` is the clock, in microseconds since
    /// 1970-01-01 UTC.
    ///
    /// The aggregates have the readings whatever the store does: of one that fails, the next batch brings the views that
    /// go on changing, and a tiered store does not fail.
    ///
    /// # Cancel safety
    ///
    /// Dropping it may leave the batch out, or its rows out of the store. Taking the batch in again does no harm.
    pub async fn ingest(&self, batch: &ReadingBatch, now_us: i64) -> Ingested {
        let vehicle = &batch.vehicle;
        if self.with_aggregator(vehicle, |aggregator| aggregator.wants_seed(vehicle)) {
            self.seed(vehicle).await;
        }
        let applied = self.with_aggregator(vehicle, |aggregator| aggregator.apply(batch, now_us));
        if applied.rows.is_empty() {
            return Ingested { applied, store: Ok(()) };
        }
        let write =
            |(view, row): &(ViewId, FeatureRow)| Write { view: *view, row: row.clone(), condition: Condition::Newer };
        let writes: Vec<Write> = applied.rows.iter().map(write).collect();
        let store = self.store.put(vehicle, &writes).await.map(|_| ());
        Ingested { applied, store }
    }

    /// Reads features of a vehicle as they are at `now_us`.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store can say nothing.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    pub async fn read(&self, vehicle: &VehicleId, plan: &Plan, now_us: i64) -> Result<FeatureReads, StoreError> {
        let Fetched { rows, degraded, damaged } = self.store.get(vehicle, plan.views()).await?;
        Ok(FeatureReads { features: plan.evaluate(&rows, now_us), degraded, damaged })
    }

    /// Fetches rows of a vehicle, in the order of `views`, for whoever evaluates several plans over them.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store can say nothing.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    pub async fn fetch(&self, vehicle: &VehicleId, views: &[ViewId]) -> Result<Fetched, StoreError> {
        self.store.get(vehicle, views).await
    }

    /// Writes features of a view that is written from outside; its others stay as they are. They hold from
    /// `event_time_us`. Says whether they were written: they are not when a newer value of one of them is there.
    ///
    /// # Errors
    ///
    /// [`WriteError`] names what is wrong; nothing was written then, but for [`WriteError::Store`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves open whether they are written, all or none.
    pub async fn put(
        &self,
        vehicle: &VehicleId,
        view: &str,
        values: &[(&str, FeatureValue)],
        event_time_us: i64,
        now_us: i64,
    ) -> Result<bool, WriteError> {
        let (id, declared, placed) = self.check_put(view, values)?;
        let ahead_us = event_time_us.saturating_sub(now_us);
        if ahead_us > self.future_max_us {
            return Err(WriteError::Future { ahead_s: ahead_us.unsigned_abs() / 1_000_000 });
        }
        for _ in 0..ROUNDS_MAX {
            let fetched = self.store.get(vehicle, &[id]).await.map_err(WriteError::Store)?;
            let found = fetched.rows.into_iter().next().flatten();
            let Some(row) = merged(declared, found.as_ref(), &placed, event_time_us, now_us) else { return Ok(false) };
            let condition = Condition::Is(found.map(|row| row.version()));
            let put =
                self.store.put(vehicle, &[Write { view: id, row, condition }]).await.map_err(WriteError::Store)?;
            if put.contains(&Put::Written) {
                return Ok(true);
            }
        }
        Err(WriteError::Contended)
    }

    fn check_put<'v>(
        &self,
        view: &str,
        values: &'v [(&str, FeatureValue)],
    ) -> Result<(ViewId, &View, Vec<Placed<'v>>), WriteError> {
        let unknown = || WriteError::UnknownView { view: view.to_owned() };
        let id = self.views.by_name(view).ok_or_else(unknown)?;
        let declared = self.views.view(id).ok_or_else(unknown)?;
        if !declared.written {
            return Err(WriteError::NotWritable { view: view.to_owned() });
        }
        let mut placed = Vec::with_capacity(values.len());
        for (name, value) in values {
            let refuse = || WriteError::UnknownFeature { view: view.to_owned(), feature: (*name).to_owned() };
            let position = declared.position(name).ok_or_else(refuse)?;
            let feature = &declared.features[position];
            if let Some(feature) = feature.feature {
                feature.check(value.as_value()).map_err(WriteError::Value)?;
            } else if let Some(problem) = feature.refuses(value.as_value()) {
                return Err(WriteError::OwnValue { feature: (*name).to_owned(), problem });
            }
            placed.push((position, value.as_value()));
        }
        Ok((id, declared, placed))
    }

    async fn seed(&self, vehicle: &VehicleId) {
        let computed = self.views.iter().filter(|(_, view)| !view.written);
        let ids: Vec<ViewId> = computed.map(|(id, _)| id).collect();
        // Of a store that cannot be reached, it is asked again with the next batch.
        if let Ok(Fetched { rows, degraded: false, .. }) = self.store.get(vehicle, &ids).await {
            let known: Vec<_> = ids.into_iter().zip(rows).filter_map(|(id, row)| Some((id, row?))).collect();
            self.with_aggregator(vehicle, |aggregator| aggregator.seed(vehicle, &known));
        }
    }

    fn with_aggregator<T>(&self, vehicle: &VehicleId, f: impl FnOnce(&mut Aggregator) -> T) -> T {
        let shard = usize::try_from(self.hasher.hash_one(vehicle) % SHARDS as u64).unwrap_or_default();
        f(&mut self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A row with some values changed; none when one of them is older than what is there.
fn merged(
    view: &View,
    found: Option<&FeatureRow>,
    placed: &[Placed<'_>],
    event_time_us: i64,
    now_us: i64,
) -> Option<FeatureRow> {
    // The version that is to be replaced counts even where its values are of another schema.
    let before = found.map(FeatureRow::version);
    let found = found.filter(|row| row.schema() == view.schema);
    let cell = |position| found.and_then(|row| row.cell(position));
    if placed.iter().any(|(position, _)| cell(*position).is_some_and(|cell| cell.time_us > event_time_us)) {
        return None;
    }
    let version = match before {
        None => Version { event_time_us, sequence: 1 },
        Some(Version { event_time_us: before_us, sequence }) => {
            Version { event_time_us: event_time_us.max(before_us), sequence: sequence.saturating_add(1) }
        }
    };
    let mut builder = RowBuilder::new(view.schema, version, now_us);
    for position in 0..view.features.len() {
        let given = placed.iter().rev().find(|(placed, _)| *placed == position);
        builder.push(match given {
            Some((_, value)) => Some(Cell { value: *value, time_us: event_time_us }),
            None => cell(position),
        });
    }
    Some(builder.finish())
}
