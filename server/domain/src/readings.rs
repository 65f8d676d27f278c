//! Readings: what a vehicle's sensors said, and when.

use smallvec::SmallVec;

use crate::{SignalId, VehicleId};

/// Values of one signal. Those of a batch of up to four readings lie in place: a gateway that sends each reading as it comes
/// would otherwise have a dozen small pieces of memory taken and given back for each.
pub type Values = SmallVec<[f32; 4]>;

/// Readings of one vehicle, column by column, in the order they were sent.
///
/// A reading is one place of `times` with the values at the same place of every column.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Readings {
    /// Microseconds since 1970-01-01 UTC by the vehicle's clock, one for each reading; any order.
    pub times_us: Vec<i64>,
    /// One for each signal, no signal twice; each as long as `times_us`.
    pub columns: Vec<Column>,
}

/// The values of one signal.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Which signal.
    pub signal: SignalId,
    /// Values in the signal's unit, plausible; NaN where a reading has none.
    pub values: Values,
}

/// Who counts a sequence: a gateway, from one of its starts to the next.
///
/// Both are the gateway's own words, checked as vehicle ids are.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Source {
    /// The gateway.
    pub gateway: VehicleId,
    /// Its start: its sequences begin again with every one.
    pub boot: VehicleId,
}

/// What a gateway sends at one time of one vehicle: the unit that is numbered, stored and acknowledged.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadingBatch {
    /// The vehicle.
    pub vehicle: VehicleId,
    /// Its number, counted by the source for this vehicle, from 1.
    pub sequence: u64,
    /// Its readings.
    pub readings: Readings,
}

// === impl Readings ===

impl Readings {
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

    /// The column of a signal.
    #[must_use]
    pub fn column(&self, signal: SignalId) -> Option<&[f32]> {
        self.columns.iter().find(|column| column.signal == signal).map(|column| &*column.values)
    }
}
