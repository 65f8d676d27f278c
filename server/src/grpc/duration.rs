//! Durations as callers send them.

use std::time::Duration;

/// A duration of at least 0; none for a negative one. `prost-types` converts them as well, and panics for the least.
pub(super) fn of_proto(duration: prost_types::Duration) -> Option<Duration> {
    let (seconds, nanos) = (u64::try_from(duration.seconds).ok()?, u64::try_from(duration.nanos).ok()?);
    Some(Duration::from_secs(seconds).saturating_add(Duration::from_nanos(nanos)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_at_least_nothing() {
        let check = |seconds: i64, nanos: i32, expected: Option<Duration>| {
            assert_eq!(of_proto(prost_types::Duration { seconds, nanos }), expected, "{seconds} s {nanos} ns");
        };
        check(0, 0, Some(Duration::ZERO));
        check(2, 500_000_000, Some(Duration::from_millis(2_500)));
        check(0, i32::MAX, Some(Duration::from_nanos(2_147_483_647)));
        check(
            i64::MAX,
            i32::MAX,
            Some(Duration::new(i64::MAX.unsigned_abs(), 0) + Duration::from_nanos(2_147_483_647)),
        );
        check(-1, 0, None);
        check(0, -1, None);
        check(i64::MIN, i32::MIN, None);
    }
}
