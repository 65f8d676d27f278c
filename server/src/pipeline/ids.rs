//! Prediction ids: UUID version 7, so that they sort by time.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use uuid::Uuid;

use super::tap::Draw;

/// Makes ids from the instant a request was taken, without reading the wall clock again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PredictionIds {
    started: Instant,
    started_unix_ms: u64,
}

// === impl PredictionIds ===

impl PredictionIds {
    pub(crate) fn new() -> PredictionIds {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        PredictionIds {
            started: Instant::now(),
            started_unix_ms: u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Milliseconds since 1970 at `instant`.
    pub(crate) fn unix_ms(&self, instant: Instant) -> u64 {
        let elapsed = instant.saturating_duration_since(self.started).as_millis();
        self.started_unix_ms.saturating_add(u64::try_from(elapsed).unwrap_or(u64::MAX))
    }

    /// The id of a request taken at `instant`, of which most was drawn when its row was assembled.
    pub(crate) fn of(&self, instant: Instant, draw: Draw) -> Uuid {
        let mut random = [0u8; 10];
        random[..2].copy_from_slice(&fastrand::u16(..).to_le_bytes());
        random[2..].copy_from_slice(&draw.bytes());
        uuid::Builder::from_unix_timestamp_millis(self.unix_ms(instant), &random).into_uuid()
    }

    /// The id as answers carry it.
    pub(crate) fn text(id: Uuid) -> String {
        let mut buffer = [0u8; uuid::fmt::Hyphenated::LENGTH];
        id.hyphenated().encode_lower(&mut buffer).to_owned()
    }

    /// Of row `row` of a request, whose first row has `id`: as [`Draw::following`].
    pub(crate) fn following(id: Uuid, row: usize) -> Uuid {
        let (high, low) = id.as_u64_pair();
        let last = (low & u64::from(u32::MAX)).wrapping_add(row as u64) & u64::from(u32::MAX);
        Uuid::from_u64_pair(high, low & !u64::from(u32::MAX) | last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_sort_by_time() {
        let ids = PredictionIds::new();
        let now = Instant::now();
        let next = |instant| PredictionIds::text(ids.of(instant, Draw::of_request()));
        let first = next(now);
        let later = next(now + std::time::Duration::from_secs(1));
        assert_ne!(first, next(now));
        assert!(first < later);
        assert_eq!(first.as_bytes()[14], b'7');
    }

    #[test]
    fn rows_of_a_request_follow_its_id() {
        let (ids, now, draw) = (PredictionIds::new(), Instant::now(), Draw::of_request());
        let (first, third) = (ids.of(now, draw), ids.of(now, draw.following(2)));
        let followed = PredictionIds::following(first, 2);
        assert_eq!(followed.as_u64_pair().1, third.as_u64_pair().1);
        assert_eq!(followed.as_u64_pair().0, first.as_u64_pair().0);
        let last = Uuid::from_u64_pair(1, 0x8000_0001_ffff_ffff);
        assert_eq!(PredictionIds::following(last, 1), Uuid::from_u64_pair(1, 0x8000_0001_0000_0000));
    }
}
