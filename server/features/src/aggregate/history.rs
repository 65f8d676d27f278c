//! The readings of the last while, in order of their times.

use std::collections::VecDeque;

/// Readings that may still be joined by late ones.
#[derive(Debug)]
pub(super) struct History {
    /// Times, rising, each with the place of its values.
    order: VecDeque<(i64, u16)>,
    /// Rows of `stride` values.
    values: Vec<f32>,
    free: Vec<u16>,
    stride: usize,
}

/// What became of a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entered {
    /// It is later than all others.
    Last,
    /// It is before another, or adds values to one of the same time.
    Between,
    /// It was there already.
    Duplicate,
    /// A value differs from what another reading of the same time said. The greater counts.
    Contradiction,
}

// === impl History ===

impl History {
    pub(super) fn new(stride: usize) -> History {
        History { order: VecDeque::new(), values: Vec::new(), free: Vec::new(), stride }
    }

    /// The time of the latest reading.
    pub(super) fn newest_us(&self) -> Option<i64> {
        self.order.back().map(|(time_us, _)| *time_us)
    }

    /// Readings after this time, in order.
    pub(super) fn after(&self, time_us: i64) -> impl Iterator<Item = (i64, &[f32])> {
        let start = self.order.partition_point(|(found, _)| *found <= time_us);
        self.order.range(start..).map(|(time_us, place)| (*time_us, self.row(*place)))
    }

    /// Takes a reading in. There are never more than 65,536: the caller sees to it.
    pub(super) fn enter(&mut self, time_us: i64, row: &[f32]) -> Entered {
        if self.newest_us().is_none_or(|newest| newest < time_us) {
            let place = self.place(row);
            self.order.push_back((time_us, place));
            return Entered::Last;
        }
        match self.order.binary_search_by_key(&time_us, |(found, _)| *found) {
            Ok(found) => self.merge(self.order[found].1, row),
            Err(index) => {
                let place = self.place(row);
                self.order.insert(index, (time_us, place));
                Entered::Between
            }
        }
    }

    /// Hands the earliest readings to `take` while `more` says so, by their time and how many there are.
    pub(super) fn drain(&mut self, more: impl Fn(i64, usize) -> bool, mut take: impl FnMut(i64, &[f32])) {
        while let Some((time_us, place)) = self.order.front().copied() {
            if !more(time_us, self.order.len()) {
                return;
            }
            take(time_us, self.row(place));
            self.order.pop_front();
            self.free.push(place);
        }
    }

    fn row(&self, place: u16) -> &[f32] {
        let start = usize::from(place) * self.stride;
        &self.values[start..start + self.stride]
    }

    fn place(&mut self, row: &[f32]) -> u16 {
        if let Some(place) = self.free.pop() {
            let start = usize::from(place) * self.stride;
            self.values[start..start + self.stride].copy_from_slice(row);
            return place;
        }
        let place = u16::try_from(self.order.len()).unwrap_or(u16::MAX);
        self.values.extend_from_slice(row);
        place
    }

    fn merge(&mut self, place: u16, row: &[f32]) -> Entered {
        let start = usize::from(place) * self.stride;
        let mut entered = Entered::Duplicate;
        for (known, value) in self.values[start..start + self.stride].iter_mut().zip(row) {
            if value.is_nan() || known.to_bits() == value.to_bits() {
                continue;
            }
            if known.is_nan() {
                *known = *value;
                if entered == Entered::Duplicate {
                    entered = Entered::Between;
                }
            } else {
                *known = if value.total_cmp(known).is_gt() { *value } else { *known };
                entered = Entered::Contradiction;
            }
        }
        entered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_are_held_in_order_once_each() {
        let mut history = History::new(2);
        let mut check = |time_us: i64, row: [f32; 2], expected: Entered| {
            assert_eq!(history.enter(time_us, &row), expected, "{time_us} {row:?}");
        };
        let none = f32::NAN;
        check(10, [1.0, none], Entered::Last);
        check(30, [3.0, 3.0], Entered::Last);
        check(20, [2.0, 2.0], Entered::Between);
        check(20, [2.0, none], Entered::Duplicate);
        check(10, [none, 1.5], Entered::Between);
        check(10, [1.0, 1.5], Entered::Duplicate);
        check(30, [4.0, 2.0], Entered::Contradiction);
        let rows = |history: &History| -> Vec<(i64, Vec<f32>)> {
            history.after(i64::MIN).map(|(time_us, row)| (time_us, row.to_vec())).collect()
        };
        assert_eq!(rows(&history), [(10, vec![1.0, 1.5]), (20, vec![2.0, 2.0]), (30, vec![4.0, 3.0])]);
        assert_eq!(history.after(20).count(), 1);

        let mut drained = Vec::new();
        history.drain(|time_us, _| time_us < 30, |time_us, row| drained.push((time_us, row[0])));
        assert_eq!(drained, [(10, 1.0), (20, 2.0)]);
        for time_us in [40, 50, 60] {
            history.enter(time_us, &[0.0, 0.0]);
        }
        history.drain(|_, len| len > 2, |_, _| {});
        assert_eq!(rows(&history).iter().map(|(time_us, _)| *time_us).collect::<Vec<_>>(), [50, 60]);
        assert_eq!(history.values.len(), 4 * 2, "places are used again");
    }
}
