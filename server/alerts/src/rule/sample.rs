//! What the rule looks at, taken out of readings.

use ev_domain::{Readings, signals};

use super::ring::Timed;

/// What a reading says about a pack's safety; NaN where it says nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Microseconds since 1970-01-01 UTC by the vehicle's clock.
    pub time_us: i64,
    /// Hottest cell in degrees Celsius.
    pub hottest_celsius: f32,
    /// Mean of the cells in degrees Celsius, or where it is not told, the coldest.
    pub others_celsius: f32,
    /// Weakest cell in V.
    pub cell_voltage_min_v: f32,
    /// Strongest cell in V.
    pub cell_voltage_max_v: f32,
    /// Pack in V.
    pub pack_voltage_v: f32,
    /// State of charge in percent.
    pub state_of_charge_percent: f32,
}

/// Where a batch of readings has what a [`Sample`] needs; finding it once spares it for each reading.
#[derive(Debug, Clone, Copy)]
pub struct Samples<'a> {
    times_us: &'a [i64],
    temperature_max: Option<&'a [f32]>,
    temperature_mean: Option<&'a [f32]>,
    temperature_min: Option<&'a [f32]>,
    voltage_min: Option<&'a [f32]>,
    voltage_max: Option<&'a [f32]>,
    pack_voltage: Option<&'a [f32]>,
    state_of_charge: Option<&'a [f32]>,
}

/// What a cell's voltage is held against: what all cells share, such as the sag under load, cancels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reference {
    StrongestCell,
    Pack,
    Nothing,
}

/// Temperatures of one time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Heat {
    pub(crate) time_us: i64,
    pub(crate) hottest: f32,
    /// Hottest less the others; NaN where the others are not told.
    pub(crate) spread: f32,
}

/// Voltages of one time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Voltage {
    pub(crate) time_us: i64,
    pub(crate) weakest: f32,
    /// Strongest cell; NaN where it is not told.
    pub(crate) strongest: f32,
    /// All cells in series; NaN where it is not told.
    pub(crate) pack: f32,
}

// === impl Sample ===

impl Sample {
    /// A sample that says nothing yet.
    #[must_use]
    pub fn at(time_us: i64) -> Sample {
        Sample {
            time_us,
            hottest_celsius: f32::NAN,
            others_celsius: f32::NAN,
            cell_voltage_min_v: f32::NAN,
            cell_voltage_max_v: f32::NAN,
            pack_voltage_v: f32::NAN,
            state_of_charge_percent: f32::NAN,
        }
    }

    pub(crate) fn heat(&self) -> Option<Heat> {
        // A maximum that another sensor contradicts is not believed: the hottest is the hottest of all.
        let hottest = self.hottest_celsius.max(self.others_celsius);
        hottest.is_finite().then_some(Heat {
            time_us: self.time_us,
            hottest,
            spread: self.hottest_celsius - self.others_celsius,
        })
    }

    pub(crate) fn voltage(&self) -> Option<Voltage> {
        let weakest = self.cell_voltage_min_v.min(self.cell_voltage_max_v);
        if !self.cell_voltage_min_v.is_finite() || weakest < 0.0 {
            return None;
        }
        Some(Voltage { time_us: self.time_us, weakest, strongest: self.cell_voltage_max_v, pack: self.pack_voltage_v })
    }
}

// === impl Samples ===

impl<'a> Samples<'a> {
    /// Looks the signals up.
    #[must_use]
    pub fn of(readings: &'a Readings) -> Samples<'a> {
        Samples {
            times_us: &readings.times_us,
            temperature_max: readings.column(signals::CELL_TEMPERATURE_MAX),
            temperature_mean: readings.column(signals::CELL_TEMPERATURE_MEAN),
            temperature_min: readings.column(signals::CELL_TEMPERATURE_MIN),
            voltage_min: readings.column(signals::CELL_VOLTAGE_MIN),
            voltage_max: readings.column(signals::CELL_VOLTAGE_MAX),
            pack_voltage: readings.column(signals::PACK_VOLTAGE),
            state_of_charge: readings.column(signals::STATE_OF_CHARGE),
        }
    }

    /// One for each reading, in the order they were sent.
    pub fn iter(self) -> impl Iterator<Item = Sample> + 'a {
        let value = |column: Option<&[f32]>, index: usize| {
            column.and_then(|values| values.get(index)).copied().unwrap_or(f32::NAN)
        };
        self.times_us.iter().enumerate().map(move |(index, &time_us)| {
            let mean = value(self.temperature_mean, index);
            Sample {
                time_us,
                hottest_celsius: value(self.temperature_max, index),
                others_celsius: if mean.is_nan() { value(self.temperature_min, index) } else { mean },
                cell_voltage_min_v: value(self.voltage_min, index),
                cell_voltage_max_v: value(self.voltage_max, index),
                pack_voltage_v: value(self.pack_voltage, index),
                state_of_charge_percent: value(self.state_of_charge, index),
            }
        })
    }
}

// === impl Heat, Voltage ===

impl Timed for Heat {
    fn time_us(&self) -> i64 {
        self.time_us
    }

    fn outranks(&self, other: &Heat) -> bool {
        (self.hottest.total_cmp(&other.hottest)).then(self.spread.total_cmp(&other.spread)).is_gt()
    }
}

impl Voltage {
    /// What it is held against.
    pub(crate) fn reference(&self) -> Reference {
        if self.strongest > 0.0 {
            Reference::StrongestCell
        } else if self.pack > 0.0 {
            Reference::Pack
        } else {
            Reference::Nothing
        }
    }

    /// Weakest over reference; NaN without one.
    pub(crate) fn ratio(&self) -> f32 {
        match self.reference() {
            Reference::StrongestCell => self.weakest / self.strongest,
            Reference::Pack => self.weakest / self.pack,
            Reference::Nothing => f32::NAN,
        }
    }
}

impl Timed for Voltage {
    fn time_us(&self) -> i64 {
        self.time_us
    }

    fn outranks(&self, other: &Voltage) -> bool {
        (other.weakest.total_cmp(&self.weakest))
            .then(other.strongest.total_cmp(&self.strongest))
            .then(other.pack.total_cmp(&self.pack))
            .is_gt()
    }
}

#[cfg(test)]
mod tests {
    use ev_domain::Column;

    use super::*;

    #[test]
    fn readings_become_samples() {
        let readings = Readings {
            times_us: vec![1, 2],
            columns: vec![
                Column { signal: signals::CELL_TEMPERATURE_MAX, values: vec![40.0, f32::NAN].into() },
                Column { signal: signals::CELL_TEMPERATURE_MIN, values: vec![30.0, 31.0].into() },
                Column { signal: signals::CELL_VOLTAGE_MIN, values: vec![3.5, 3.4].into() },
                Column { signal: signals::PACK_VOLTAGE, values: vec![350.0, f32::NAN].into() },
            ],
        };
        let samples: Vec<Sample> = Samples::of(&readings).iter().collect();
        let heat: Vec<Option<f32>> = samples.iter().map(|sample| sample.heat().map(|heat| heat.hottest)).collect();
        assert_eq!(heat, [Some(40.0), Some(31.0)]);
        let reference = |sample: &Sample| sample.voltage().map(|voltage| (voltage.reference(), voltage.weakest));
        assert_eq!(reference(&samples[0]), Some((Reference::Pack, 3.5)));
        assert_eq!(reference(&samples[1]), Some((Reference::Nothing, 3.4)));
        assert_eq!(samples[0].state_of_charge_percent.is_nan(), Sample::at(0).voltage().is_none());
    }
}
