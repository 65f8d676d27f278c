//! What one feature keeps of the readings it is made of.

/// How readings become one number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Aggregate {
    /// The latest value.
    Last,
    /// The earliest.
    First,
    /// Mean of the values, each with equal weight.
    Mean,
    /// The least.
    Min,
    /// The greatest.
    Max,
    /// The latest less the earliest.
    Delta,
    /// That, a second.
    Rate,
    /// The earliest less the latest, percent of the earliest.
    Drop,
    /// Standard deviation of the values, of the whole (not of a sample).
    Std,
    /// Seconds from the earliest to the latest.
    Duration,
    /// Seconds during which values were within the bounds.
    Held {
        /// Least value that counts.
        min: f32,
        /// Greatest value that counts.
        max: f32,
        /// Longest time between two readings that counts, in microseconds.
        gap_us: i64,
    },
    /// Seconds from the earliest value to the latest one that was at least this share of the greatest until then. None
    /// where no value was: of negative values, none is at least a share of itself.
    Steady {
        /// 0 to 1.
        share: f32,
    },
    /// Value times seconds, by trapezes.
    Integral {
        /// As of [`Aggregate::Held`].
        gap_us: i64,
    },
    /// Seconds from the first value at or beyond `from` to the first one after it at or beyond `to`.
    Between {
        /// Where time begins to count.
        from: f32,
        /// Where it ends; smaller than `from` for what falls.
        to: f32,
    },
}

/// The state of any [`Aggregate`]. Which of them is not kept here: there are many more of these than features.
///
/// `a`, `b` and `x` mean what the aggregate makes of them; times in them are whole microseconds, which a double holds
/// exactly until the year 2255.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Acc {
    first_us: i64,
    last_us: i64,
    a: f64,
    b: f64,
    first: f32,
    last: f32,
    x: f32,
    count: u32,
}

/// Microseconds in a second.
const SECOND_US: f64 = 1e6;

// === impl Aggregate ===

impl Aggregate {
    /// Whether states of consecutive spans of time can be joined.
    pub(crate) fn joins(self) -> bool {
        !matches!(self, Aggregate::Steady { .. } | Aggregate::Between { .. })
    }
}

// === impl Acc ===

impl Acc {
    /// Nothing yet.
    pub(crate) const EMPTY: Acc =
        Acc { first_us: 0, last_us: 0, a: 0.0, b: 0.0, first: 0.0, last: 0.0, x: 0.0, count: 0 };

    /// The time of the latest value, if there is any.
    pub(crate) fn newest_us(&self) -> Option<i64> {
        (self.count > 0).then_some(self.last_us)
    }

    /// Takes a value that is later than all before it.
    #[inline]
    pub(crate) fn fold(&mut self, aggregate: Aggregate, time_us: i64, value: f32) {
        if self.count == 0 {
            self.begin(aggregate, time_us, value);
            return;
        }
        let elapsed_us = micros(time_us - self.last_us);
        match aggregate {
            Aggregate::Last | Aggregate::First | Aggregate::Delta | Aggregate::Rate => {}
            Aggregate::Drop | Aggregate::Duration => {}
            Aggregate::Mean => self.a += f64::from(value),
            Aggregate::Min => self.x = self.x.min(value),
            Aggregate::Max => self.x = self.x.max(value),
            Aggregate::Std => {
                let delta = f64::from(value) - self.a;
                self.a += delta / f64::from(self.count.saturating_add(1));
                self.b += delta * (f64::from(value) - self.a);
            }
            Aggregate::Held { min, max, gap_us } => {
                if within(self.last, min, max) && within(value, min, max) && time_us - self.last_us <= gap_us {
                    self.a += elapsed_us;
                }
            }
            Aggregate::Steady { share } => {
                self.x = self.x.max(value);
                if value >= share * self.x {
                    self.a = micros(time_us);
                }
            }
            Aggregate::Integral { gap_us } => {
                if time_us - self.last_us <= gap_us {
                    self.a += trapeze(self.last, value, elapsed_us);
                }
            }
            Aggregate::Between { from, to } => self.cross(from, to, time_us, value),
        }
        self.last_us = time_us;
        self.last = value;
        self.count = self.count.saturating_add(1);
    }

    /// Takes the state of a span of time after this one's.
    pub(crate) fn join(&mut self, aggregate: Aggregate, later: &Acc) {
        if later.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = *later;
            return;
        }
        let between_us = later.first_us - self.last_us;
        match aggregate {
            Aggregate::Mean => self.a += later.a,
            Aggregate::Min => self.x = self.x.min(later.x),
            Aggregate::Max => self.x = self.x.max(later.x),
            Aggregate::Std => {
                let (n, m) = (f64::from(self.count), f64::from(later.count));
                let delta = later.a - self.a;
                self.a += delta * m / (n + m);
                self.b += later.b + delta * delta * n * m / (n + m);
            }
            Aggregate::Held { min, max, gap_us } => {
                if within(self.last, min, max) && within(later.first, min, max) && between_us <= gap_us {
                    self.a += micros(between_us);
                }
                self.a += later.a;
            }
            Aggregate::Integral { gap_us } => {
                if between_us <= gap_us {
                    self.a += trapeze(self.last, later.first, micros(between_us));
                }
                self.a += later.a;
            }
            // What needs only the ends, and what `joins` excludes.
            _ => {}
        }
        self.last_us = later.last_us;
        self.last = later.last;
        self.count = self.count.saturating_add(later.count);
    }

    /// The number, if the values make one.
    pub(crate) fn value(&self, aggregate: Aggregate) -> Option<f32> {
        if self.count == 0 {
            return None;
        }
        let elapsed_s = micros(self.last_us - self.first_us) / SECOND_US;
        let value = match aggregate {
            Aggregate::Last => f64::from(self.last),
            Aggregate::First => f64::from(self.first),
            Aggregate::Mean => self.a / f64::from(self.count),
            Aggregate::Min | Aggregate::Max => f64::from(self.x),
            Aggregate::Delta => f64::from(self.last) - f64::from(self.first),
            Aggregate::Rate if elapsed_s > 0.0 => (f64::from(self.last) - f64::from(self.first)) / elapsed_s,
            Aggregate::Drop if self.first > 0.0 => {
                100.0 * (f64::from(self.first) - f64::from(self.last)) / f64::from(self.first)
            }
            Aggregate::Rate | Aggregate::Drop => return None,
            Aggregate::Std => (self.b / f64::from(self.count)).max(0.0).sqrt(),
            Aggregate::Duration => elapsed_s,
            Aggregate::Held { .. } => self.a / SECOND_US,
            Aggregate::Steady { .. } => (self.a - micros(self.first_us)) / SECOND_US,
            Aggregate::Integral { .. } => self.a / SECOND_US,
            Aggregate::Between { .. } => (self.b - self.a) / SECOND_US,
        };
        let value = narrow(value);
        value.is_finite().then_some(value)
    }

    fn begin(&mut self, aggregate: Aggregate, time_us: i64, value: f32) {
        *self =
            Acc { first_us: time_us, last_us: time_us, first: value, last: value, x: value, count: 1, ..Acc::EMPTY };
        match aggregate {
            Aggregate::Mean | Aggregate::Std => self.a = f64::from(value),
            Aggregate::Steady { share } => {
                self.a = if value >= share * value { micros(time_us) } else { f64::NAN };
            }
            Aggregate::Between { from, to } => {
                (self.a, self.b) = (f64::NAN, f64::NAN);
                self.cross(from, to, time_us, value);
            }
            _ => {}
        }
    }

    fn cross(&mut self, from: f32, to: f32, time_us: i64, value: f32) {
        let beyond = |bound: f32| if to < from { value <= bound } else { value >= bound };
        if self.a.is_nan() && beyond(from) {
            self.a = micros(time_us);
        }
        if !self.a.is_nan() && self.b.is_nan() && beyond(to) {
            self.b = micros(time_us);
        }
    }
}

fn within(value: f32, min: f32, max: f32) -> bool {
    value >= min && value <= max
}

fn trapeze(from: f32, to: f32, elapsed_us: f64) -> f64 {
    f64::midpoint(f64::from(from), f64::from(to)) * elapsed_us
}

/// Times are of plausible dates, far below where doubles begin to round.
fn micros(time_us: i64) -> f64 {
    time_us as f64
}

/// Features are single precision, as the models' columns are.
#[expect(clippy::cast_possible_truncation, reason = "rounds, and the caller refuses what is not finite")]
fn narrow(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    fn folded(aggregate: Aggregate, values: &[(i64, f32)]) -> Acc {
        let mut acc = Acc::EMPTY;
        values.iter().for_each(|(seconds, value)| acc.fold(aggregate, seconds * SECOND, *value));
        acc
    }

    #[test]
    fn each_aggregate_is_what_its_name_says() {
        let check = |aggregate: Aggregate, values: &[(i64, f32)], expected: Option<f32>| {
            assert_eq!(folded(aggregate, values).value(aggregate), expected, "{aggregate:?} of {values:?}");
        };
        let rise = [(10, 2.0), (12, 4.0), (16, 12.0)];
        check(Aggregate::Last, &rise, Some(12.0));
        check(Aggregate::Last, &[], None);
        check(Aggregate::First, &rise, Some(2.0));
        check(Aggregate::Mean, &rise, Some(6.0));
        check(Aggregate::Min, &rise, Some(2.0));
        check(Aggregate::Max, &rise, Some(12.0));
        check(Aggregate::Delta, &rise, Some(10.0));
        check(Aggregate::Rate, &rise, Some(10.0 / 6.0));
        check(Aggregate::Rate, &rise[..1], None);
        check(Aggregate::Drop, &[(0, 4.0), (5, 3.0)], Some(25.0));
        check(Aggregate::Drop, &[(0, 0.0), (5, 3.0)], None);
        check(
            Aggregate::Std,
            &[(0, 2.0), (1, 4.0), (2, 4.0), (3, 4.0), (4, 5.0), (5, 5.0), (6, 7.0), (7, 9.0)],
            Some(2.0),
        );
        check(Aggregate::Std, &rise[..1], Some(0.0));
        check(Aggregate::Duration, &rise, Some(6.0));
        check(Aggregate::Integral { gap_us: 60 * SECOND }, &rise, Some(6.0 + 32.0));
        check(Aggregate::Integral { gap_us: 3 * SECOND }, &rise, Some(6.0));
        let above = Aggregate::Held { min: 4.0, max: f32::INFINITY, gap_us: 60 * SECOND };
        check(above, &rise, Some(4.0));
        check(above, &[(0, 5.0), (1, 3.0), (2, 5.0), (9, 5.0)], Some(7.0));
        check(
            Aggregate::Steady { share: 0.95 },
            &[(0, 50.0), (10, 50.0), (20, 49.0), (30, 30.0), (40, 10.0)],
            Some(20.0),
        );
        let steady = Aggregate::Steady { share: 0.95 };
        check(steady, &[(0, -1.0), (20, -0.25)], None);
        check(steady, &[(0, -1.0), (20, 50.0), (30, 1.0)], Some(20.0));
        let falling = Aggregate::Between { from: 3.6, to: 3.4 };
        check(falling, &[(0, 4.0), (10, 3.6), (20, 3.5), (30, 3.4), (40, 3.3)], Some(20.0));
        check(falling, &[(0, 4.0), (10, 3.6), (20, 3.5)], None);
        check(Aggregate::Between { from: 10.0, to: 20.0 }, &[(0, 5.0), (1, 12.0), (4, 25.0)], Some(3.0));
    }

    proptest::proptest! {
        #[test]
        fn joined_spans_give_what_the_whole_gives(values: Vec<(u8, i8)>, cut: u8) {
            let mut seconds = 0;
            let values: Vec<(i64, f32)> = values
                .into_iter()
                .map(|(step, value)| {
                    seconds += 1 + i64::from(step);
                    (seconds, f32::from(value))
                })
                .collect();
            let cut = usize::from(cut).min(values.len());
            let gap_us = 100 * SECOND;
            for aggregate in [
                Aggregate::Last, Aggregate::First, Aggregate::Mean, Aggregate::Min, Aggregate::Max, Aggregate::Delta,
                Aggregate::Rate, Aggregate::Drop, Aggregate::Std, Aggregate::Duration, Aggregate::Integral { gap_us },
                Aggregate::Held { min: 0.0, max: 50.0, gap_us },
            ] {
                proptest::prop_assert!(aggregate.joins());
                let whole = folded(aggregate, &values).value(aggregate);
                let mut joined = folded(aggregate, &values[..cut]);
                joined.join(aggregate, &folded(aggregate, &values[cut..]));
                match (whole, joined.value(aggregate)) {
                    (Some(whole), Some(joined)) => {
                        let tolerance = 1e-5 * (1.0 + whole.abs());
                        proptest::prop_assert!((whole - joined).abs() <= tolerance, "{aggregate:?}: {whole} {joined}");
                    }
                    (whole, joined) => proptest::prop_assert_eq!(whole, joined),
                }
            }
        }
    }
}
