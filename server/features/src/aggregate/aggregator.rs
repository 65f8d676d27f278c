//! All vehicles.

use std::{sync::Arc, time::Duration};

use ev_domain::{ReadingBatch, Value, VehicleId};

use super::{program::Program, vehicle::Vehicle};
use crate::{
    Cell, FeatureRow, RowBuilder, SettingsError, Version, ViewId, Views,
    lru::Lru,
    views::{ValueKind, View, ViewFeature},
};

/// What an aggregator holds and accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AggregatorSettings {
    /// A reading may be made so long before the newest one of its vehicle and still be taken in its place, up to a day.
    pub lateness: Duration,
    /// Readings held of a vehicle for that, 1..=32768. Of one that sends more in that time, lateness is shorter: it is
    /// these readings.
    pub readings_max: usize,
    /// A reading may be so far ahead of the clock: one from next year would make all others late. Up to a day.
    pub future_max: Duration,
    /// Vehicles, at least 1. Beyond, what is known of the one that was silent for longest is forgotten: its windows and
    /// sessions begin anew, its rows stay in the store. With the bundled views and a reading a second, one takes about
    /// 6 kB (`examples/measure.rs`).
    pub vehicles_max: usize,
}

/// What became of the readings of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// New readings, or new values of known ones.
    pub applied: u64,
    /// Readings that were known.
    pub duplicates: u64,
    /// Readings that came later than the lateness allows. They are in no feature.
    pub late: u64,
    /// Readings ahead of the clock. They are in no feature.
    pub future: u64,
    /// Readings with a value other than one of the same time and signal had. The greater value counts.
    pub contradictions: u64,
    /// Readings of signals that no view needs.
    pub unused: u64,
}

/// What a batch changed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Applied {
    /// The views whose values are other than before.
    pub rows: Vec<(ViewId, FeatureRow)>,
    /// What became of the readings.
    pub counts: Counts,
    /// Vehicles that were forgotten for this one, 0 or 1.
    pub forgotten: u64,
}

/// Keeps the views of all vehicles current.
///
/// Reads no clock: the time is an argument. Memory is bounded by `vehicles_max` times what the views need of a vehicle.
#[derive(Debug)]
pub struct Aggregator {
    views: Arc<Views>,
    settings: AggregatorSettings,
    vehicles: Lru<Box<Vehicle>>,
    row: Vec<f32>,
}

// === impl AggregatorSettings ===

impl AggregatorSettings {
    const DAY: Duration = Duration::from_secs(86_400);

    /// Checks every setting.
    ///
    /// # Errors
    ///
    /// The first one that is out of its range.
    pub fn check(&self) -> Result<(), SettingsError> {
        let AggregatorSettings { lateness, readings_max, future_max, vehicles_max } = *self;
        let refuse = |setting, problem| Err(SettingsError { setting, problem });
        if lateness > Self::DAY {
            return refuse("lateness", format!("is {lateness:?}, expected at most a day"));
        }
        if future_max > Self::DAY {
            return refuse("future_max", format!("is {future_max:?}, expected at most a day"));
        }
        if !(1..=32_768).contains(&readings_max) {
            return refuse("readings_max", format!("is {readings_max}, expected 1..=32768"));
        }
        if vehicles_max == 0 {
            return refuse("vehicles_max", "is 0, expected at least 1".to_owned());
        }
        Ok(())
    }
}

impl Default for AggregatorSettings {
    fn default() -> AggregatorSettings {
        AggregatorSettings {
            lateness: Duration::from_secs(30),
            readings_max: 128,
            future_max: Duration::from_secs(60),
            vehicles_max: 100_000,
        }
    }
}

// === impl Counts ===

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        let Counts { applied, duplicates, late, future, contradictions, unused } = other;
        self.applied += applied;
        self.duplicates += duplicates;
        self.late += late;
        self.future += future;
        self.contradictions += contradictions;
        self.unused += unused;
    }
}

// === impl Aggregator ===

impl Aggregator {
    /// An aggregator that knows no vehicle.
    ///
    /// # Errors
    ///
    /// [`SettingsError`] when a setting is out of its range.
    pub fn new(views: Arc<Views>, settings: AggregatorSettings) -> Result<Aggregator, SettingsError> {
        settings.check()?;
        Ok(Aggregator { views, settings, vehicles: Lru::new(), row: Vec::new() })
    }

    /// Takes a batch in, and gives the rows that it changed.
    ///
    /// `now_us` is the server's clock, in microseconds since 1970-01-01 UTC.
    pub fn apply(&mut self, batch: &ReadingBatch, now_us: i64) -> Applied {
        let Aggregator { views, settings, vehicles, row } = self;
        let program = views.program();
        let mut applied = Applied::default();
        if let Some(vehicle) = vehicles.get_or_insert(&batch.vehicle, || Box::new(Vehicle::new(program))) {
            applied.counts = vehicle.apply(program, settings, &batch.readings, now_us, row);
            if applied.counts.applied + applied.counts.contradictions > 0 {
                applied.rows = changed_rows(views, program, vehicle, now_us);
            }
        }
        while vehicles.len() > settings.vehicles_max {
            vehicles.pop_oldest();
            applied.forgotten += 1;
        }
        applied
    }

    /// Whether it should be told by [`Aggregator::seed`] what the store knows of a vehicle, before its next batch.
    #[must_use]
    pub fn wants_seed(&self, vehicle: &VehicleId) -> bool {
        self.vehicles.peek(vehicle).is_none_or(|vehicle| vehicle.is_unseeded())
    }

    /// Tells what the store knew of a vehicle before: it stands in for what its readings do not say again, so that a
    /// restart forgets no feature. Sessions that were running, and comparisons with when it was new, begin anew.
    pub fn seed(&mut self, vehicle: &VehicleId, rows: &[(ViewId, FeatureRow)]) {
        let Aggregator { views, vehicles, .. } = self;
        if let Some(vehicle) = vehicles.get_or_insert(vehicle, || Box::new(Vehicle::new(views.program()))) {
            vehicle.seed(rows);
        }
    }

    /// Vehicles that something is known of.
    #[must_use]
    pub fn vehicles(&self) -> usize {
        self.vehicles.len()
    }
}

fn changed_rows(views: &Views, program: &Program, vehicle: &mut Vehicle, now_us: i64) -> Vec<(ViewId, FeatureRow)> {
    let mut rows = Vec::new();
    let mut values: Vec<Option<(f32, i64)>> = Vec::new();
    // Above whatever another process may have counted to before: it counted from its clock as well.
    let sequence = vehicle.sequence.max(u64::try_from(now_us).unwrap_or_default()) + 1;
    let version = Version { event_time_us: vehicle.newest_us(), sequence };
    for (index, (id, sources)) in program.outputs.iter().enumerate() {
        let Some(view) = views.view(*id) else { continue };
        values.clear();
        values.extend(view.features.iter().zip(sources).enumerate().map(|(position, (feature, source))| {
            let value = vehicle.value(program, *source);
            let (value, time_us) = value.or_else(|| vehicle.prior_value(*source, view, *id, position))?;
            // What a sum or a slope makes of plausible values may be none of its feature's.
            feature.accepts(typed(feature, value)).then_some((value, time_us))
        }));
        let print = print(&values);
        let is_news = vehicle.prints[index] != 0 || values.iter().any(Option::is_some);
        if is_news && vehicle.prints[index] != print {
            vehicle.prints[index] = print;
            rows.push((*id, row(view, version, now_us, &values)));
        }
    }
    vehicle.sequence = sequence;
    rows
}

fn typed(feature: &ViewFeature, value: f32) -> Value<'static> {
    match feature.kind {
        ValueKind::Flag => Value::Flag(value >= 0.5),
        ValueKind::Number | ValueKind::Text => Value::Number(value),
    }
}

fn row(view: &View, version: Version, now_us: i64, values: &[Option<(f32, i64)>]) -> FeatureRow {
    let mut builder = RowBuilder::new(view.schema, version, now_us);
    for (feature, value) in view.features.iter().zip(values) {
        builder.push(value.map(|(value, time_us)| Cell { value: typed(feature, value), time_us }));
    }
    builder.finish()
}

/// Values and their times as one number, never 0: two that differ share it once in 2^64 times.
fn print(values: &[Option<(f32, i64)>]) -> u64 {
    let mut print = 0x9e37_79b9_7f4a_7c15_u64;
    for value in values {
        let (bits, time_us) = value.map_or((u64::MAX, 0), |(value, time_us)| (u64::from(value.to_bits()), time_us));
        print = mix(print ^ bits);
        print = mix(print ^ time_us.cast_unsigned());
    }
    print.max(1)
}

/// The finisher of SplitMix64: every bit of the answer depends on every bit given.
fn mix(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
