//! The latest values of the last seconds, whatever order they come in.

/// Seconds that are kept. At 1 Hz it spans the longest rise that is judged, with room for losses.
pub(crate) const KEPT: usize = 16;

const SECOND_US: i64 = 1_000_000;

/// Something with the time it was measured at.
pub(crate) trait Timed: Copy {
    /// Microseconds since 1970-01-01 UTC.
    fn time_us(&self) -> i64;
    /// Which of two of the same time is kept: any total order will do, as long as it is one.
    fn outranks(&self, other: &Self) -> bool;
}

/// The latest value of each of the newest [`KEPT`] slots of time that have any, in order.
///
/// What it holds depends on which values came, never on their order or how often one came: keeping the latest of a slot
/// and keeping the newest slots are both a maximum.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ring<T, const SLOT_SECONDS: i64> {
    values: Vec<T>,
}

/// What became of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inserted {
    /// It lies at this place.
    At(usize),
    /// Its slot holds a later one, or the same.
    Superseded,
    /// It is older than everything a full ring holds.
    TooOld,
}

// === impl Ring ===

impl<T, const SLOT_SECONDS: i64> Default for Ring<T, SLOT_SECONDS> {
    fn default() -> Self {
        Ring { values: Vec::new() }
    }
}

impl<T: Timed, const SLOT_SECONDS: i64> Ring<T, SLOT_SECONDS> {
    /// Which slot a time falls into.
    pub(crate) fn slot(time_us: i64) -> i64 {
        time_us.div_euclid(SLOT_SECONDS * SECOND_US)
    }

    pub(crate) fn insert(&mut self, value: T) -> Inserted {
        let slot = Self::slot(value.time_us());
        // Nearly always the end.
        let mut at = self.values.len();
        while at > 0 && Self::slot(self.values[at - 1].time_us()) >= slot {
            at -= 1;
        }
        if let Some(kept) = self.values.get_mut(at)
            && Self::slot(kept.time_us()) == slot
        {
            let later = value.time_us() > kept.time_us();
            if later || value.time_us() == kept.time_us() && value.outranks(kept) {
                *kept = value;
                return Inserted::At(at);
            }
            return Inserted::Superseded;
        }
        if self.values.len() < KEPT {
            self.values.reserve_exact(if self.values.capacity() == 0 { KEPT } else { 0 });
            self.values.insert(at, value);
            return Inserted::At(at);
        }
        if at == 0 {
            return Inserted::TooOld;
        }
        self.values[..at].rotate_left(1);
        self.values[at - 1] = value;
        Inserted::At(at - 1)
    }

    /// Oldest first.
    pub(crate) fn values(&self) -> &[T] {
        &self.values
    }

    /// Those up to a time.
    pub(crate) fn until(&self, time_us: i64) -> &[T] {
        let end = self.values.iter().rposition(|value| value.time_us() <= time_us).map_or(0, |last| last + 1);
        &self.values[..end]
    }

    pub(crate) fn clear(&mut self) {
        self.values.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, Copy, PartialEq)]
    struct At(i64, i32);

    impl Timed for At {
        fn time_us(&self) -> i64 {
            self.0
        }
        fn outranks(&self, other: &At) -> bool {
            self.1 > other.1
        }
    }

    #[test]
    fn the_latest_of_a_second_stays() {
        let mut ring: Ring<At, 1> = Ring::default();
        assert_eq!(ring.insert(At(1_200_000, 0)), Inserted::At(0));
        assert_eq!(ring.insert(At(1_100_000, 0)), Inserted::Superseded);
        assert_eq!(ring.insert(At(1_900_000, 0)), Inserted::At(0));
        assert_eq!(ring.insert(At(1_900_000, 0)), Inserted::Superseded);
        assert_eq!(ring.insert(At(1_900_000, 1)), Inserted::At(0));
        assert_eq!(ring.insert(At(-1, 0)), Inserted::At(0));
        assert_eq!(ring.values(), [At(-1, 0), At(1_900_000, 1)]);
        assert_eq!(ring.until(1_899_999), [At(-1, 0)]);
    }

    #[test]
    fn the_newest_seconds_stay() {
        let mut ring: Ring<At, 1> = Ring::default();
        let seconds = i64::try_from(KEPT).expect("small");
        for second in (0..2 * seconds).step_by(2) {
            ring.insert(At(second * SECOND_US, 0));
        }
        assert_eq!(ring.insert(At(-SECOND_US, 0)), Inserted::TooOld);
        assert_eq!(ring.insert(At(3 * SECOND_US, 0)), Inserted::At(1));
        let found: Vec<i64> = ring.values().iter().map(|value| value.0 / SECOND_US).take(3).collect();
        assert_eq!(found, [2, 3, 4]);
        assert_eq!(ring.values().len(), KEPT);
    }
}
