//! Readings of one vehicle, column by column.

use std::time::{Duration, SystemTime};

use ev_proto::ev::telemetry::v1::{Batch, Column};
use prost_types::Timestamp;

/// Values of a signal that a gateway declared; [`crate::GatewayConfig::signal`] makes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GatewaySignal(pub(crate) u16);

/// Readings of one vehicle: one time each, and the values of some signals.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Readings {
    /// Microseconds since 1970-01-01 UTC by the vehicle's clock.
    times_us: Vec<i64>,
    /// No signal twice; as long as `times_us`, or shorter where the latest readings have no value.
    columns: Vec<(GatewaySignal, Vec<f32>)>,
}

// === impl Readings ===

impl Readings {
    /// None yet.
    #[must_use]
    pub fn new() -> Readings {
        Readings::default()
    }

    /// Adds a reading; of a signal that is given twice the latter value counts.
    pub fn push(&mut self, time: SystemTime, values: impl IntoIterator<Item = (GatewaySignal, f32)>) {
        self.push_us(microseconds(time), values);
    }

    /// As [`Readings::push`], with the time in microseconds since 1970-01-01 UTC.
    pub fn push_us(&mut self, time_us: i64, values: impl IntoIterator<Item = (GatewaySignal, f32)>) {
        let row = self.times_us.len();
        self.times_us.push(time_us);
        for (signal, value) in values {
            let column = match self.columns.iter_mut().position(|(known, _)| *known == signal) {
                Some(place) => &mut self.columns[place].1,
                None => {
                    self.columns.push((signal, Vec::new()));
                    let last = self.columns.len() - 1;
                    &mut self.columns[last].1
                }
            };
            column.resize(row + 1, f32::NAN);
            column[row] = value;
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.times_us.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.times_us.is_empty()
    }

    /// About how much memory they take.
    pub(crate) fn size_bytes(&self) -> usize {
        let values: usize = self.columns.len() * self.times_us.len() * size_of::<f32>();
        self.times_us.len() * size_of::<i64>() + values
    }

    /// As a message.
    pub(crate) fn into_batch(self, vehicle_id: &str, sequence: u64) -> Batch {
        let Readings { times_us, columns } = self;
        let first_us = times_us.first().copied().unwrap_or_default();
        let mut before = first_us;
        let time_deltas_us = times_us.iter().map(|time| time.wrapping_sub(std::mem::replace(&mut before, *time)));
        let time_deltas_us: Vec<i64> = time_deltas_us.collect();
        let columns = columns.into_iter().map(|(signal, mut values)| {
            values.resize(times_us.len(), f32::NAN);
            Column { signal_id: u32::from(signal.0), values }
        });
        Batch {
            vehicle_id: vehicle_id.to_owned(),
            sequence,
            is_resend: false,
            first_time: Some(timestamp(first_us)),
            time_deltas_us,
            columns: columns.collect(),
        }
    }
}

fn timestamp(time_us: i64) -> Timestamp {
    let nanos = i32::try_from(time_us.rem_euclid(1_000_000) * 1_000).unwrap_or_default();
    Timestamp { seconds: time_us.div_euclid(1_000_000), nanos }
}

/// Microseconds since 1970; what lies beyond the range of the type is its end.
fn microseconds(time: SystemTime) -> i64 {
    let signed = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => signed(since),
        Err(before) => -signed(before.duration()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_are_missing_are_no_numbers() {
        let (speed, soc) = (GatewaySignal(0), GatewaySignal(1));
        let mut readings = Readings::new();
        readings.push_us(-1_500_000, [(speed, 1.0)]);
        readings.push_us(500_000, [(soc, 80.0), (soc, 81.0)]);
        readings.push_us(400_000, [(speed, 3.0)]);
        let batch = readings.into_batch("v1", 7);
        assert_eq!((batch.vehicle_id.as_str(), batch.sequence, batch.is_resend), ("v1", 7, false));
        let time = batch.first_time.expect("a time");
        assert_eq!((time.seconds, time.nanos), (-2, 500_000_000));
        assert_eq!(batch.time_deltas_us, [0, 2_000_000, -100_000]);
        let values =
            |column: &Column| column.values.iter().map(|value| value.to_string()).collect::<Vec<_>>().join(" ");
        let columns: Vec<_> = batch.columns.iter().map(|column| (column.signal_id, values(column))).collect();
        assert_eq!(columns, [(0, "1 NaN 3".to_owned()), (1, "NaN 81 NaN".to_owned())]);
    }

    #[test]
    fn times_before_1970_are_negative() {
        let before = SystemTime::UNIX_EPOCH - Duration::from_millis(1);
        assert_eq!(microseconds(before), -1_000);
        assert_eq!(microseconds(SystemTime::UNIX_EPOCH + Duration::from_secs(2)), 2_000_000);
    }
}
