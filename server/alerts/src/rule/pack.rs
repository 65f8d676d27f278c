//! One pack's state.

use super::{
    Assessment, Sample, Thresholds,
    baseline::Baseline,
    evidence::{Evidence, judge},
    ring::{Inserted, Ring, Timed as _},
    sample::{Heat, Voltage},
};

/// How long nothing may enter at the front before the pack's clock is taken to have been set back.
const CLOCK_SET_BACK_US: i64 = 10_000_000;

/// How far from its newest second a reading counts as entering at the front.
const FRONT: usize = 4;

/// What the rule remembers of one pack: about 1 kB, whatever its sensors send.
///
/// Its state depends on which readings came, not on their order or on repetitions; only when nothing has entered at the
/// front for ten seconds does it start anew, because then its clock was set back.
#[derive(Debug, Clone, Default)]
pub struct Pack {
    heat: Ring<Heat, 1>,
    voltage: Ring<Voltage, 1>,
    baseline: Baseline,
    charge: Option<(i64, f32)>,
    /// When a reading entered at the front, by the server's clock; 0 before any was observed.
    front_entered_us: i64,
}

// === impl Pack ===

impl Pack {
    /// Takes in one reading and judges the pack by it and everything later that is known.
    ///
    /// `received_us` is the server's clock, in microseconds, which only tells a clock that was set back from late readings.
    /// None when the reading tells nothing new: it has no temperature and no cell voltage, or is older than what is kept.
    pub fn observe(&mut self, thresholds: &Thresholds, sample: &Sample, received_us: i64) -> Option<Assessment> {
        self.observe_charge(sample);
        let entered = match self.enter(sample) {
            Entered::Front => {
                self.front_entered_us = received_us;
                true
            }
            Entered::Back if received_us.saturating_sub(self.front_entered_us) < CLOCK_SET_BACK_US => true,
            Entered::Nothing => false,
            Entered::TooOld if received_us.saturating_sub(self.front_entered_us) < CLOCK_SET_BACK_US => false,
            Entered::Back | Entered::TooOld => {
                self.start_anew(sample, received_us);
                true
            }
        };
        entered.then(|| self.assess_from(thresholds, sample.time_us))
    }

    /// Takes in one reading and judges nothing: for a pack that is remembered.
    pub fn take_in(&mut self, sample: &Sample) {
        self.observe_charge(sample);
        self.enter(sample);
    }

    /// Takes in what the pack was before, such as what is found stored after a start.
    ///
    /// Of a pack that has sent since, only what is older than that counts: had its clock been set back in between, what is
    /// newer would keep what it sends from being judged.
    pub fn remember(&mut self, past: &Pack) {
        let until_us = if self.has_sent() { self.newest_us().unwrap_or(i64::MIN) } else { i64::MAX };
        for heat in past.heat.until(until_us) {
            self.heat.insert(*heat);
        }
        for voltage in past.voltage.until(until_us) {
            self.voltage.insert(*voltage);
        }
        self.baseline.remember(&past.baseline, until_us);
        if let Some(charge) = past.charge.filter(|(time_us, _)| *time_us <= until_us) {
            self.enter_charge(charge);
        }
    }

    /// Whether it was observed, and not only remembered.
    #[must_use]
    pub fn has_sent(&self) -> bool {
        self.front_entered_us != 0
    }

    /// What the newest readings say; Normal when there are none.
    #[must_use]
    pub fn newest(&self, thresholds: &Thresholds) -> Assessment {
        self.assess(thresholds, self.newest_us().unwrap_or(0))
    }

    /// Time of the newest reading with a temperature or a cell voltage, in microseconds since 1970-01-01 UTC.
    #[must_use]
    pub fn newest_us(&self) -> Option<i64> {
        let heat = self.heat.values().last().map(|heat| heat.time_us);
        let voltage = self.voltage.values().last().map(|voltage| voltage.time_us);
        heat.max(voltage)
    }

    fn observe_charge(&mut self, sample: &Sample) {
        if sample.state_of_charge_percent.is_finite() {
            self.enter_charge((sample.time_us, sample.state_of_charge_percent));
        }
    }

    fn enter_charge(&mut self, charge: (i64, f32)) {
        let replaces = |(time, kept): (i64, f32)| charge.0 > time || charge.0 == time && charge.1 < kept;
        if self.charge.is_none_or(replaces) {
            self.charge = Some(charge);
        }
    }

    fn enter(&mut self, sample: &Sample) -> Entered {
        let heat = sample.heat().map(|heat| {
            let inserted = self.heat.insert(heat);
            Entered::of(inserted, self.heat.values().len())
        });
        let voltage = sample.voltage().map(|voltage| {
            self.baseline.insert(voltage);
            let inserted = self.voltage.insert(voltage);
            Entered::of(inserted, self.voltage.values().len())
        });
        heat.max(voltage).unwrap_or(Entered::Nothing)
    }

    fn start_anew(&mut self, sample: &Sample, received_us: i64) {
        self.heat.clear();
        self.voltage.clear();
        self.baseline.clear();
        self.charge = None;
        self.front_entered_us = received_us;
        self.observe_charge(sample);
        self.enter(sample);
    }

    /// The worst that any time from `from_us` on says: a late reading can complete what came after it.
    fn assess_from(&self, thresholds: &Thresholds, from_us: i64) -> Assessment {
        let heat = self.heat.values().iter().rev().map(Heat::time_us).take_while(|&time| time >= from_us);
        let voltage = self.voltage.values().iter().rev().map(Voltage::time_us).take_while(|&time| time >= from_us);
        let heat_at = |time: &i64| self.heat.values().iter().rev().any(|heat| heat.time_us == *time);
        let ends = heat.chain(voltage.filter(|time| !heat_at(time)));
        let worst = ends.map(|end_us| self.assess(thresholds, end_us)).max_by_key(|found| (found.class, found.time_us));
        worst.unwrap_or(Assessment::normal(from_us))
    }

    fn assess(&self, thresholds: &Thresholds, end_us: i64) -> Assessment {
        let evidence = Evidence {
            heat: self.heat.until(end_us),
            voltage: self.voltage.until(end_us),
            baseline: &self.baseline,
            charge: self.charge.map(|(_, charge)| charge),
            end_us,
        };
        judge(&evidence, thresholds)
    }
}

/// Where a reading came in, from least to most telling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Entered {
    /// It told nothing, or nothing new.
    Nothing,
    /// Before everything that is kept.
    TooOld,
    /// Late.
    Back,
    /// Among the newest.
    Front,
}

// === impl Entered ===

impl Entered {
    fn of(inserted: Inserted, len: usize) -> Entered {
        match inserted {
            Inserted::At(at) if at + FRONT >= len => Entered::Front,
            Inserted::At(_) => Entered::Back,
            Inserted::Superseded => Entered::Nothing,
            Inserted::TooOld => Entered::TooOld,
        }
    }
}
