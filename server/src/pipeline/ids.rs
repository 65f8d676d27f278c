//! Prediction ids: UUID version 7, so that they sort by time.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

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

    /// A fresh id.
    pub(crate) fn next(&self, instant: Instant) -> String {
        let mut random = [0u8; 10];
        let (low, high) = (fastrand::u64(..), fastrand::u16(..));
        random[..8].copy_from_slice(&low.to_le_bytes());
        random[8..].copy_from_slice(&high.to_le_bytes());
        let id = uuid::Builder::from_unix_timestamp_millis(self.unix_ms(instant), &random).into_uuid();
        let mut buffer = [0u8; uuid::fmt::Hyphenated::LENGTH];
        id.hyphenated().encode_lower(&mut buffer).to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_sort_by_time() {
        let ids = PredictionIds::new();
        let now = Instant::now();
        let first = ids.next(now);
        let later = ids.next(now + std::time::Duration::from_secs(1));
        assert_ne!(first, ids.next(now));
        assert!(first < later);
        assert_eq!(first.as_bytes()[14], b'7');
    }
}
