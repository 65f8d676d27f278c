//! Aggregates of signals by minute, hour and day.
//!
//! They can be merged in any order and any grouping with the same result (sums to the rounding of float64), which is
//! what makes them right for late and out-of-order readings.

mod page;

use std::collections::BTreeMap;

use ev_domain::Readings;

pub(crate) use page::{PageKey, RollupPage};

use crate::codec::{Dictionary, StoredReadings};

/// Length of a span of aggregates, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Resolution {
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A day.
    Day,
}

/// What the values of a signal were in a span of time. Values that are not finite count as missing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Aggregate {
    /// How many, at least 1.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// The least.
    pub min: f32,
    /// The greatest.
    pub max: f32,
    /// The latest; of several at one time, the greatest.
    pub last: f32,
    /// When that was, in microseconds since 1970-01-01 UTC.
    pub last_time_us: i64,
}

/// Aggregates of one vehicle at one resolution, by span's start and signal's number.
pub(crate) type Spans = BTreeMap<(i64, u16), Aggregate>;

// === impl Resolution ===

impl Resolution {
    /// All, shortest first.
    pub const ALL: [Resolution; 3] = [Resolution::Minute, Resolution::Hour, Resolution::Day];

    /// Length in microseconds.
    #[must_use]
    pub const fn span_us(self) -> i64 {
        match self {
            Resolution::Minute => 60_000_000,
            Resolution::Hour => 3_600_000_000,
            Resolution::Day => 86_400_000_000,
        }
    }

    /// When the span of a time begins.
    #[must_use]
    pub fn start_us(self, time_us: i64) -> i64 {
        floor(time_us, self.span_us())
    }
}

/// The greatest multiple of a positive `step` that is no greater, or the least there is.
pub(crate) fn floor(number: i64, step: i64) -> i64 {
    number.div_euclid(step).saturating_mul(step)
}

// === impl Aggregate ===

impl Aggregate {
    /// Of a single value.
    #[must_use]
    pub fn of(value: f32, time_us: i64) -> Aggregate {
        Aggregate { count: 1, sum: f64::from(value), min: value, max: value, last: value, last_time_us: time_us }
    }

    /// Takes in another one of the same signal.
    pub fn merge(&mut self, other: &Aggregate) {
        self.count = self.count.saturating_add(other.count);
        self.sum += other.sum;
        self.min = if other.min.total_cmp(&self.min).is_lt() { other.min } else { self.min };
        self.max = if other.max.total_cmp(&self.max).is_gt() { other.max } else { self.max };
        let later = other.last_time_us.cmp(&self.last_time_us).then(other.last.total_cmp(&self.last));
        if later.is_gt() {
            (self.last, self.last_time_us) = (other.last, other.last_time_us);
        }
    }

    /// The mean.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "fewer values than 2^53")]
    pub fn mean(&self) -> f64 {
        self.sum / self.count as f64
    }
}

/// Takes the values of a column into spans.
pub(crate) fn add_column(spans: &mut Spans, resolution: Resolution, signal: u16, times_us: &[i64], values: &[f32]) {
    // Readings mostly come in order: a span is looked up when it changes.
    let mut current: Option<(i64, Aggregate)> = None;
    for (time_us, value) in times_us.iter().zip(values).filter(|(_, value)| value.is_finite()) {
        let aggregate = Aggregate::of(*value, *time_us);
        match &mut current {
            Some((start, sum)) if (0..resolution.span_us()).contains(&time_us.saturating_sub(*start)) => {
                sum.merge(&aggregate);
            }
            _ => {
                let before = current.replace((resolution.start_us(*time_us), aggregate));
                before.into_iter().for_each(|(start, sum)| add(spans, (start, signal), &sum));
            }
        }
    }
    current.into_iter().for_each(|(start, sum)| add(spans, (start, signal), &sum));
}

/// The same at a longer resolution.
pub(crate) fn coarser(spans: &Spans, resolution: Resolution) -> Spans {
    let mut coarse = Spans::new();
    for ((start, signal), aggregate) in spans {
        add(&mut coarse, (resolution.start_us(*start), *signal), aggregate);
    }
    coarse
}

/// Takes an aggregate into its span.
pub(crate) fn add(spans: &mut Spans, place: (i64, u16), aggregate: &Aggregate) {
    spans.entry(place).and_modify(|sum| sum.merge(aggregate)).or_insert(*aggregate);
}

/// Takes readings into aggregates by minute.
pub(crate) fn add_readings(spans: &mut Spans, readings: &Readings, dictionary: &Dictionary) {
    for column in &readings.columns {
        if let Some(signal) = dictionary.stored(column.signal) {
            add_column(spans, Resolution::Minute, signal, &readings.times_us, &column.values);
        }
    }
}

pub(crate) fn add_stored(spans: &mut Spans, readings: &StoredReadings) {
    for (signal, values) in &readings.columns {
        add_column(spans, Resolution::Minute, *signal, &readings.times_us, values);
    }
}

/// The aggregates of all resolutions, by page.
pub(crate) fn paged(minutes: &Spans) -> BTreeMap<PageKey, Spans> {
    let mut pages: BTreeMap<PageKey, Spans> = BTreeMap::new();
    for resolution in Resolution::ALL {
        for ((start, signal), aggregate) in coarser(minutes, resolution) {
            pages.entry(PageKey::of(resolution, start)).or_default().insert((start, signal), aggregate);
        }
    }
    pages
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(values: &[(i64, f32)], resolution: Resolution) -> Spans {
        let mut spans = Spans::new();
        for (time, value) in values {
            add(&mut spans, (resolution.start_us(*time), 3), &Aggregate::of(*value, *time));
        }
        spans
    }

    proptest! {
        // Quarters: their sums are exact, so that order does not show.
        #[test]
        fn any_order_and_grouping_gives_the_same(
            values in prop::collection::vec((-400_000_000_000i64..400_000_000_000, (-400i16..400).prop_map(|v| f32::from(v) / 4.0)), 0..200),
            cut in any::<prop::sample::Index>(),
        ) {
            let (one, two) = values.split_at(cut.index(values.len() + 1));
            let mut spans = Spans::new();
            for part in [two, one] {
                let (times, part): (Vec<_>, Vec<_>) = part.iter().copied().unzip();
                add_column(&mut spans, Resolution::Minute, 3, &times, &part);
            }
            prop_assert_eq!(&spans, &plain(&values, Resolution::Minute));
            for resolution in [Resolution::Hour, Resolution::Day] {
                prop_assert_eq!(coarser(&spans, resolution), plain(&values, resolution));
            }
        }
    }

    #[test]
    fn what_is_not_finite_is_missing() {
        let mut spans = Spans::new();
        add_column(&mut spans, Resolution::Minute, 3, &[1, 2, 3], &[f32::NAN, 5.0, f32::INFINITY]);
        assert_eq!(spans.into_values().collect::<Vec<_>>(), [Aggregate::of(5.0, 2)]);
    }
}
