//! What may be sent, beyond what the catalogue says of values.

use std::time::Duration;

use ev_domain::{Column, Readings};

use crate::{Reject, RejectReason};

/// What a gateway may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IngestLimits {
    /// Most readings of a batch, 1..=65536.
    pub batch_readings_max: usize,
    /// Most values of a batch: readings times signals.
    pub batch_values_max: usize,
    /// How far ahead of the server's clock a reading may be.
    pub future_max: Duration,
    /// How old a reading may be. Not longer than readings are kept.
    pub past_max: Duration,
}

// === impl IngestLimits ===

impl Default for IngestLimits {
    fn default() -> IngestLimits {
        IngestLimits {
            batch_readings_max: 4_096,
            batch_values_max: 1 << 20,
            future_max: Duration::from_secs(5 * 60),
            past_max: Duration::from_secs(30 * 24 * 3_600),
        }
    }
}

impl IngestLimits {
    /// Takes out of the readings what may not be, and says what that was.
    pub(super) fn apply(&self, readings: &mut Readings, now_us: i64) -> Vec<Reject> {
        let whole = self.too_large(readings).or_else(|| malformed(readings));
        if let Some((reason, message)) = whole {
            let rejected = readings.len();
            *readings = Readings::default();
            return vec![Reject::new(reason, rejected, message)];
        }
        self.drop_far_times(readings, now_us).into_iter().collect()
    }

    fn too_large(&self, readings: &Readings) -> Option<(RejectReason, String)> {
        let (count, max) = (readings.len(), self.batch_readings_max);
        if count > max {
            return Some((RejectReason::TooLarge, format!("{count} readings, expected at most {max}")));
        }
        let values: usize = readings.columns.iter().map(|column| column.values.len()).sum();
        let max = self.batch_values_max;
        (values > max).then(|| (RejectReason::TooLarge, format!("{values} values, expected at most {max}")))
    }

    fn drop_far_times(&self, readings: &mut Readings, now_us: i64) -> Option<Reject> {
        let micros = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        let earliest = now_us.saturating_sub(micros(self.past_max));
        let latest = now_us.saturating_add(micros(self.future_max));
        let is_far = |time: &i64| *time < earliest || *time > latest;
        let first = readings.times_us.iter().position(is_far)?;
        let kept: Vec<usize> = (0..readings.len()).filter(|index| !is_far(&readings.times_us[*index])).collect();
        let message = format!(
            "time {} us since 1970, expected {earliest} to {latest}: {} s behind to {} s ahead of the server",
            readings.times_us[first],
            self.past_max.as_secs(),
            self.future_max.as_secs(),
        );
        let rejected = readings.len() - kept.len();
        *readings = crate::pieces::select(readings, &kept);
        let reject = Reject::new(RejectReason::ImplausibleTime, rejected, message);
        Some(Reject { reading: Some(first), ..reject })
    }
}

/// Columns that are compared with each other, which is faster for a few than to sort them.
const COMPARED_MAX: usize = 16;

fn has_twice(columns: &[Column]) -> bool {
    if columns.len() <= COMPARED_MAX {
        let is_earlier = |place: usize| columns[..place].iter().any(|column| column.signal == columns[place].signal);
        return (1..columns.len()).any(is_earlier);
    }
    let mut signals: Vec<_> = columns.iter().map(|column| column.signal).collect();
    signals.sort_unstable();
    signals.windows(2).any(|pair| pair[0] == pair[1])
}

fn malformed(readings: &Readings) -> Option<(RejectReason, String)> {
    let count = readings.len();
    let problem = |message: String| Some((RejectReason::MalformedBatch, message));
    if let Some(column) = readings.columns.iter().find(|column| column.values.len() != count) {
        return problem(format!("a column of {} values for {count} readings", column.values.len()));
    }
    if has_twice(&readings.columns) {
        return problem("a signal has two columns".to_owned());
    }
    None
}

#[cfg(test)]
mod tests {
    use ev_domain::signals::{SPEED, STATE_OF_CHARGE};

    use super::*;

    const NOW: i64 = 1_767_225_600_000_000;
    const SECOND: i64 = 1_000_000;

    fn column(signal: ev_domain::SignalId, values: &[f32]) -> Column {
        Column { signal, values: values.into() }
    }

    #[test]
    fn what_may_not_be_is_taken_out_and_told() {
        #[track_caller]
        fn check(times: &[i64], columns: &[Column], kept: &[i64], expected: &[(RejectReason, Option<usize>, usize)]) {
            let limits = IngestLimits { batch_readings_max: 3, batch_values_max: 4, ..IngestLimits::default() };
            let mut readings = Readings { times_us: times.to_vec(), columns: columns.to_vec() };
            let rejects = limits.apply(&mut readings, NOW);
            let shown: Vec<_> = rejects.iter().map(|r| (r.reason, r.reading, r.readings)).collect();
            assert_eq!(shown, expected);
            assert_eq!(readings.times_us, kept);
            assert!(readings.columns.iter().all(|column| column.values.len() == kept.len()));
        }
        let speed = |count: usize| column(SPEED, &vec![1.0; count]);
        check(&[NOW, NOW + 1], &[speed(2)], &[NOW, NOW + 1], &[]);
        check(&[], &[], &[], &[]);
        check(&[NOW; 4], &[speed(4)], &[], &[(RejectReason::TooLarge, None, 4)]);
        let soc = column(STATE_OF_CHARGE, &[1.0; 3]);
        check(&[NOW; 3], &[speed(3), soc], &[], &[(RejectReason::TooLarge, None, 3)]);
        check(&[NOW; 2], &[speed(1)], &[], &[(RejectReason::MalformedBatch, None, 2)]);
        check(&[NOW; 2], &[speed(2), speed(2)], &[], &[(RejectReason::MalformedBatch, None, 2)]);
        let future = NOW + 301 * SECOND;
        check(&[NOW, future, i64::MIN], &[speed(3)], &[NOW], &[(RejectReason::ImplausibleTime, Some(1), 2)]);
        let past = NOW - 31 * 86_400 * SECOND;
        check(&[past], &[speed(1)], &[], &[(RejectReason::ImplausibleTime, Some(0), 1)]);
    }
}
