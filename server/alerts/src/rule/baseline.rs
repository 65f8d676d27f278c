//! What a pack's voltages were before.

use super::{
    ring::{Inserted, KEPT, Ring},
    sample::{Reference, Voltage},
};

/// Seconds of a slot: sixteen of them are the last quarter of an hour.
const SLOT_SECONDS: i64 = 60;

/// Fewest slots that make a baseline: the first three minutes have none.
const SLOTS_MIN: usize = 3;

/// The "initial" voltages that a drop is measured from.
///
/// Each is the upper quartile of one value a minute over a quarter of an hour, the newest minute left out. A few wild values
/// do not move it, and a drop has to last for ten minutes before it counts as usual.
#[derive(Debug, Clone, Default)]
pub(crate) struct Baseline {
    ring: Ring<Voltage, SLOT_SECONDS>,
    /// All below follow from `ring`.
    strongest_cell: Option<f32>,
    pack: Option<f32>,
    weakest: Option<f32>,
}

// === impl Baseline ===

impl Baseline {
    pub(crate) fn insert(&mut self, voltage: Voltage) {
        let newest = self.ring.values().last().map(|last| Ring::<Voltage, SLOT_SECONDS>::slot(last.time_us));
        let inserted = self.ring.insert(voltage);
        let within_newest = newest == Some(Ring::<Voltage, SLOT_SECONDS>::slot(voltage.time_us));
        if matches!(inserted, Inserted::At(_)) && !within_newest {
            self.derive();
        }
    }

    /// Takes in what was before, up to a time.
    pub(crate) fn remember(&mut self, past: &Baseline, until_us: i64) {
        for voltage in past.ring.until(until_us) {
            self.ring.insert(*voltage);
        }
        self.derive();
    }

    pub(crate) fn clear(&mut self) {
        *self = Baseline::default();
    }

    /// Drop of a cell against what it is held against, in percent of what it was; negative when it rose.
    pub(crate) fn relative_drop(&self, voltage: &Voltage) -> Option<f32> {
        let before = match voltage.reference() {
            Reference::StrongestCell => self.strongest_cell,
            Reference::Pack => self.pack,
            Reference::Nothing => None,
        };
        before.map(|before| 100.0 * (1.0 - voltage.ratio() / before))
    }

    /// Drop of a cell by itself, which load and discharge explain as well.
    pub(crate) fn plain_drop(&self, voltage: &Voltage) -> Option<f32> {
        self.weakest.map(|before| 100.0 * (1.0 - voltage.weakest / before))
    }

    fn derive(&mut self) {
        let values = self.ring.values();
        let before = &values[..values.len().saturating_sub(1)];
        let of = |reference| {
            let same = before.iter().filter(move |voltage| voltage.reference() == reference);
            upper_quartile(same.map(Voltage::ratio))
        };
        self.strongest_cell = of(Reference::StrongestCell);
        self.pack = of(Reference::Pack);
        self.weakest = upper_quartile(before.iter().map(|voltage| voltage.weakest));
    }
}

fn upper_quartile(values: impl Iterator<Item = f32>) -> Option<f32> {
    let mut sorted = [0.0; KEPT];
    let mut count = 0;
    for (place, value) in sorted.iter_mut().zip(values) {
        *place = value;
        count += 1;
    }
    let sorted = &mut sorted[..count];
    sorted.sort_unstable_by(f32::total_cmp);
    (count >= SLOTS_MIN).then(|| sorted[(count - 1) * 3 / 4]).filter(|value| *value > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voltage(second: i64, weakest: f32) -> Voltage {
        Voltage { time_us: second * 1_000_000, weakest, strongest: 4.0, pack: 360.0 }
    }

    #[test]
    fn a_drop_is_measured_from_what_was_usual() {
        let mut baseline = Baseline::default();
        let mut drop_after = |from: i64, to: i64, weakest: f32| {
            for second in from..to {
                // In one slot of ten, a wild value.
                baseline.insert(voltage(second, if second % 600 == 59 { 0.1 } else { weakest }));
            }
            baseline.relative_drop(&voltage(to, 2.0)).map(|drop| drop.round())
        };
        assert_eq!(drop_after(0, 150, 4.0), None, "not known yet");
        assert_eq!(drop_after(150, 300, 4.0), Some(50.0));
        assert_eq!(drop_after(300, 1200, 4.0), Some(50.0));
        assert_eq!(drop_after(1200, 1700, 2.0), Some(50.0), "still new");
        assert_eq!(drop_after(1700, 2400, 2.0), Some(0.0), "usual by now");
    }

    #[test]
    fn each_reference_has_its_own() {
        let mut baseline = Baseline::default();
        for second in 0..600 {
            baseline.insert(voltage(second, 3.6));
        }
        let of_pack = Voltage { strongest: f32::NAN, ..voltage(200, 3.6) };
        assert_eq!(baseline.relative_drop(&of_pack), None);
        assert_eq!(baseline.plain_drop(&Voltage { weakest: 1.8, ..of_pack }).map(f32::round), Some(50.0));
    }
}
