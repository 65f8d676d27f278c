//! How many of a version's predictions are logged in a stretch of time.

use std::sync::atomic::{AtomicU64, Ordering};

/// Admits so many in a stretch of time, whichever come first. Nobody waits for it, and no thread fills it up: the time
/// is an argument.
#[derive(Debug)]
pub struct Rate {
    /// Of one stretch.
    most: u64,
    /// The stretch, counted from 1970, above how many it has had.
    state: AtomicU64,
}

/// Short enough that what is logged is spread over a second, long enough that few rows a second are not rounded away.
const STRETCH_MS: u64 = 100;
const STRETCHES_A_SECOND: u64 = 1_000 / STRETCH_MS;
/// Bits of the count.
const COUNT_BITS: u32 = 24;
const COUNT: u64 = (1 << COUNT_BITS) - 1;

// === impl Rate ===

impl Rate {
    /// So many a second at most, up to 100 million; fewer than ten a second are ten.
    #[must_use]
    pub fn new(per_second: u32) -> Rate {
        let most = u64::from(per_second).div_ceil(STRETCHES_A_SECOND).clamp(1, COUNT);
        Rate { most, state: AtomicU64::new(0) }
    }

    /// Whether one more may be logged at this time, in milliseconds since 1970. A time before the last one's stretch
    /// counts into that one: threads' times differ.
    pub fn admits(&self, now_ms: u64) -> bool {
        let now = now_ms / STRETCH_MS;
        let admitted = self.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |state| {
            let (stretch, count) = (state >> COUNT_BITS, state & COUNT);
            let had = if now > stretch { 0 } else { count };
            (had < self.most).then_some(now.max(stretch) << COUNT_BITS | (had + 1))
        });
        admitted.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_700_000_000_000;

    fn check(per_second: u32, offered_per_ms: u64, expected: u64) {
        let rate = Rate::new(per_second);
        let second = (0..1_000).flat_map(|ms| (0..offered_per_ms).map(move |_| NOW_MS + ms));
        let admitted = second.filter(|now_ms| rate.admits(*now_ms)).count();
        assert_eq!(
            u64::try_from(admitted).ok(),
            Some(expected),
            "{per_second} a second, {offered_per_ms} offered a ms"
        );
    }

    #[test]
    fn no_more_are_admitted_than_are_asked_for() {
        check(1_000, 10, 1_000);
        check(1_000, 1, 1_000);
        check(2_000, 1, 1_000);
        check(1, 1, 10);
        check(u32::MAX, 5, 5_000);
    }

    #[test]
    fn what_is_admitted_is_spread() {
        let rate = Rate::new(100);
        for stretch in 0..10 {
            let now_ms = NOW_MS + stretch * STRETCH_MS;
            assert_eq!((0..1_000).filter(|_| rate.admits(now_ms)).count(), 10, "stretch {stretch}");
        }
    }

    #[test]
    fn a_clock_that_is_behind_admits_no_more() {
        let rate = Rate::new(10);
        assert!(rate.admits(NOW_MS));
        assert!(!rate.admits(NOW_MS - 60_000));
        assert!(!rate.admits(NOW_MS));
        assert!(rate.admits(NOW_MS + STRETCH_MS));
    }
}
