//! One vehicle: its state, and the readings that late ones may still get in between.

use ev_domain::{Readings, Value};

use super::{
    aggregator::{AggregatorSettings, Counts},
    fold::Fold,
    history::{Entered, History},
    micros,
    program::{Program, Source},
};
use crate::{FeatureRow, View, ViewId};

/// What is kept of a vehicle.
#[derive(Debug)]
pub(super) struct Vehicle {
    /// All readings up to and including `settled_us`.
    settled: Fold,
    settled_us: i64,
    /// The readings after it.
    history: History,
    /// All readings up to and including `current_us`.
    current: Fold,
    current_us: i64,
    /// What the last row of each computed view was made of, as one number.
    pub(super) prints: Vec<u64>,
    pub(super) sequence: u64,
    /// What the store knew of the vehicle when its first reading came, by view; empty once it was looked up and there
    /// was nothing, none before.
    prior: Option<Box<[(ViewId, FeatureRow)]>>,
}

// === impl Vehicle ===

impl Vehicle {
    pub(super) fn new(program: &Program) -> Vehicle {
        Vehicle {
            settled: Fold::new(program),
            settled_us: i64::MIN,
            history: History::new(program.stride),
            current: Fold::new(program),
            current_us: i64::MIN,
            prints: vec![0; program.outputs.len()],
            sequence: 0,
            prior: None,
        }
    }

    /// Whether nobody has looked yet what the store knew of it.
    pub(super) fn is_unseeded(&self) -> bool {
        self.prior.is_none()
    }

    /// What the store knew: it stands in for what has not been seen since.
    pub(super) fn seed(&mut self, rows: &[(ViewId, FeatureRow)]) {
        if self.prior.is_none() {
            let known = rows.iter().map(|(_, row)| row.version().sequence).max().unwrap_or_default();
            self.sequence = self.sequence.max(known);
            self.prior = Some(rows.into());
        }
    }

    /// Takes readings in, in any order. `row` is scratch.
    pub(super) fn apply(
        &mut self,
        program: &Program,
        settings: &AggregatorSettings,
        readings: &Readings,
        now_us: i64,
        row: &mut Vec<f32>,
    ) -> Counts {
        let slots: Vec<(usize, &[f32])> = readings
            .columns
            .iter()
            .filter_map(|column| program.slot(column.signal).map(|slot| (slot, &*column.values)))
            .collect();
        let mut counts = Counts::default();
        let latest_us = now_us.saturating_add(micros(settings.future_max));
        // The first place in time whose readings are not what `current` was made of.
        let mut changed_us = i64::MAX;
        for (time_us, index) in in_order(&readings.times_us) {
            row.clear();
            row.resize(program.stride, f32::NAN);
            for (slot, values) in &slots {
                // An infinite value is refused before it comes here; should one come, it is no value.
                row[*slot] = values.get(index).copied().filter(|value| value.is_finite()).unwrap_or(f32::NAN);
            }
            if row.iter().all(|value| value.is_nan()) {
                counts.unused += 1;
            } else if time_us > latest_us {
                counts.future += 1;
            } else if time_us <= self.settled_us {
                counts.late += 1;
            } else {
                match self.history.enter(time_us, row) {
                    Entered::Last => counts.applied += 1,
                    Entered::Duplicate => {
                        counts.duplicates += 1;
                        continue;
                    }
                    Entered::Between => counts.applied += 1,
                    Entered::Contradiction => counts.contradictions += 1,
                }
                changed_us = changed_us.min(time_us);
                self.settle(program, settings);
            }
        }
        if changed_us <= self.current_us || self.settled_us > self.current_us {
            self.current.clone_from(&self.settled);
            self.current_us = self.settled_us;
        }
        for (time_us, values) in self.history.after(self.current_us) {
            self.current.fold(program, time_us, values);
            self.current_us = time_us;
        }
        counts
    }

    /// The time of the latest reading.
    pub(super) fn newest_us(&self) -> i64 {
        self.current_us
    }

    /// A feature's value, and the time of the reading it was last made from.
    pub(super) fn value(&self, program: &Program, source: Source) -> Option<(f32, i64)> {
        self.current.value(program, source)
    }

    /// The same from before the vehicle was known here: of a window or a signal that was not seen since, and of a
    /// session until another one ends.
    pub(super) fn prior_value(&self, source: Source, view: &View, id: ViewId, position: usize) -> Option<(f32, i64)> {
        let prior = self.prior.as_deref().filter(|prior| !prior.is_empty())?;
        let stands_in = match source {
            Source::Latest(_) | Source::Window(_) | Source::OverNew(..) => true,
            Source::Last(direction, _) => !self.current.has_ended(direction),
            Source::None | Source::Running(..) => false,
        };
        let (_, row) = prior.iter().find(|(found, row)| stands_in && *found == id && row.schema() == view.schema)?;
        let cell = row.cell(position)?;
        match cell.value {
            Value::Number(number) => Some((number, cell.time_us)),
            Value::Flag(flag) => Some((f32::from(u8::from(flag)), cell.time_us)),
            Value::Text(_) => None,
        }
    }

    /// Readings that late ones can no longer come before.
    fn settle(&mut self, program: &Program, settings: &AggregatorSettings) {
        let Some(newest_us) = self.history.newest_us() else { return };
        let oldest_us = newest_us.saturating_sub(micros(settings.lateness));
        let Vehicle { settled, settled_us, history, .. } = self;
        history.drain(
            |time_us, len| time_us < oldest_us || len > settings.readings_max,
            |time_us, values| {
                settled.fold(program, time_us, values);
                *settled_us = time_us;
            },
        );
    }
}

/// Times with their places, rising. Most batches are in order already.
fn in_order(times_us: &[i64]) -> impl Iterator<Item = (i64, usize)> {
    let mut places = Vec::new();
    if !times_us.is_sorted() {
        places.extend(0..times_us.len());
        places.sort_by_key(|place: &usize| times_us[*place]);
    }
    (0..times_us.len()).map(move |index| {
        let place = places.get(index).copied().unwrap_or(index);
        (times_us[place], place)
    })
}
