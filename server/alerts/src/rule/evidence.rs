//! From signs to a class.

use ev_domain::RiskClass;

use super::{
    Thresholds,
    baseline::Baseline,
    ring::{KEPT, Timed},
    sample::{Heat, Voltage},
};

/// Seconds with readings that a sign must hold in: one wild reading, or a sensor that steps once, proves nothing.
const SECONDS_MIN: usize = 3;

/// The same for signs of temperature and of voltage at one time: two sensors do not go wild together.
const SECONDS_MIN_BOTH: usize = 2;

/// The same for a cell's voltage where readings are so far apart that two of them hold for long enough: a third would come
/// when a cell that is shorted is at 60 degrees.
const SECONDS_MIN_SPARSE: usize = 2;

/// Rise from one reading to the next that a sensor's resolution of 1 degree does not explain.
const RISE_AT_ONCE_MIN_CELSIUS: f32 = 2.0;

/// Fall of a pack's voltage from one reading to the next that its resolution of 0.1 V does not explain.
const PACK_FALL_MIN_V: f32 = 0.25;

/// What the strongest cell may move by meanwhile: a load would move it as well, by its share of what it takes off the pack.
const STRONGEST_MOVES_MAX_V: f32 = 0.005;

/// Shortest time a rate is taken over. Below it, a sensor's resolution of 1 degree would look like 1 degree a second.
const RATE_SPAN_MIN_US: i64 = 800_000;

/// Distance of the points that a slow rise is looked at.
const RISE_STEP_US: i64 = 3_000_000;

/// Largest part of a slow rise that may come in one step: more is a sensor that jumped.
const RISE_STEP_SHARE_MAX: f32 = 0.75;

/// A step of a temperature from one second to the next that makes the value after it doubtful, if that never moves.
const DOUBTFUL_STEP_CELSIUS: f32 = 20.0;

/// What the rule says of a pack.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Assessment {
    /// Its class.
    pub class: RiskClass,
    /// The strongest sign.
    pub cause: Cause,
    /// What was found, in [`Cause::unit`].
    pub value: f32,
    /// What it was held against, in [`Cause::unit`].
    pub limit: f32,
    /// Time of the reading that completed the sign, in microseconds since 1970-01-01 UTC.
    pub time_us: i64,
}

/// The strongest sign behind a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// None.
    Nothing,
    /// The hottest cell is hot.
    Temperature,
    /// The hottest cell is as hot as cells that run away.
    Onset,
    /// It heats at the rate of a runaway.
    Rate,
    /// It heats faster than use explains.
    Rise,
    /// It is much hotter than the others.
    Spread,
    /// The weakest cell lost voltage against the others.
    VoltageDrop,
    /// It lost voltage while a cell heats, or is hotter than the others.
    VoltageDropAndHeat,
    /// The confirmation of GB 38031-2025: the maker's maximum temperature, and the rise.
    ConfirmedByTemperature,
    /// The confirmation of GB 38031-2025: a cell's voltage, and the rise.
    ConfirmedByVoltage,
    /// A sensor jumped to a value that never moves, while all voltages are as before.
    DoubtfulSensor,
}

/// What is known up to one time.
pub(super) struct Evidence<'a> {
    pub(super) heat: &'a [Heat],
    pub(super) voltage: &'a [Voltage],
    pub(super) baseline: &'a Baseline,
    pub(super) charge: Option<f32>,
    pub(super) end_us: i64,
}

/// The temperature signs.
#[derive(Debug, Clone, Copy)]
struct HeatSigns {
    hottest: f32,
    time_us: i64,
    at_watch: bool,
    at_warning: bool,
    at_maximum: bool,
    at_onset: bool,
    frozen: bool,
    /// Least rate of the run that holds, when it is that of a runaway.
    rate: Option<f32>,
    /// The same, as far as it counts beside a voltage.
    rate_beside: Option<f32>,
    /// Rate over the window, when it is enough to watch.
    rise: Option<f32>,
    /// Whether the reading before is as long ago as a sign must hold, and the rise since then enough to watch.
    rises_at_once: bool,
    spread: f32,
    spread_watch: bool,
    spread_warning: bool,
    spread_alarm: bool,
}

/// The voltage signs.
#[derive(Debug, Clone, Copy)]
struct VoltageSigns {
    time_us: i64,
    /// Against what it is held against, in percent.
    drop: f32,
    at_watch: bool,
    at_warning: bool,
    at_alarm: bool,
    /// Enough beside a cell that heats.
    beside_heat: bool,
    /// Enough for an alarm if held, and the reading before is as long ago as it must hold.
    at_once: bool,
    /// The same, and the pack's voltage fell by what the weakest cell's did.
    told_by_pack: bool,
    /// Drop that confirms a runaway once it heats that fast, by itself or against the others, in percent.
    confirming: Option<f32>,
    intact: bool,
}

/// The class that the evidence adds up to.
pub(super) fn judge(evidence: &Evidence<'_>, thresholds: &Thresholds) -> Assessment {
    let heat = heat_signs(evidence, thresholds);
    let voltage = voltage_signs(evidence, thresholds);
    let mut verdict = Assessment::normal(evidence.end_us);
    if let Some(heat) = &heat {
        judge_heat(heat, voltage.as_ref(), thresholds, &mut verdict);
    }
    if let Some(voltage) = &voltage {
        judge_voltage(voltage, thresholds, &mut verdict);
    }
    if let (Some(heat), Some(voltage)) = (&heat, &voltage)
        && heat.time_us.saturating_sub(voltage.time_us).saturating_abs() <= thresholds.combine_max_us
    {
        judge_both(heat, voltage, thresholds, &mut verdict);
    }
    verdict
}

fn judge_heat(heat: &HeatSigns, voltage: Option<&VoltageSigns>, limits: &Thresholds, verdict: &mut Assessment) {
    let doubtful = heat.frozen && voltage.is_some_and(|voltage| voltage.intact);
    if heat.at_onset && doubtful {
        verdict.raise(RiskClass::Warning, Cause::DoubtfulSensor, heat.hottest, limits.onset);
        return;
    }
    if heat.at_onset {
        verdict.raise(RiskClass::Runaway, Cause::Onset, heat.hottest, limits.onset);
    }
    if let Some(rate) = heat.rate {
        if heat.at_maximum {
            verdict.raise(RiskClass::Runaway, Cause::ConfirmedByTemperature, heat.hottest, limits.temperature_max);
        }
        verdict.raise(RiskClass::Alarm, Cause::Rate, rate, limits.runaway_rate);
    }
    if heat.at_maximum {
        verdict.raise(RiskClass::Alarm, Cause::Temperature, heat.hottest, limits.temperature_max);
    }
    if heat.spread_alarm {
        verdict.raise(RiskClass::Alarm, Cause::Spread, heat.spread, limits.spread_alarm);
    }
    if let Some(rise) = heat.rise.filter(|rise| *rise >= limits.rise_warning) {
        verdict.raise(RiskClass::Warning, Cause::Rise, rise, limits.rise_warning);
    }
    if heat.at_warning {
        verdict.raise(RiskClass::Warning, Cause::Temperature, heat.hottest, limits.warning);
    }
    if heat.spread_warning {
        verdict.raise(RiskClass::Warning, Cause::Spread, heat.spread, limits.spread_warning);
    }
    if let Some(rise) = heat.rise {
        verdict.raise(RiskClass::Watch, Cause::Rise, rise, limits.rise_watch);
    }
    if heat.at_watch {
        verdict.raise(RiskClass::Watch, Cause::Temperature, heat.hottest, limits.watch);
    }
    if heat.spread_watch {
        verdict.raise(RiskClass::Watch, Cause::Spread, heat.spread, limits.spread_watch);
    }
}

fn judge_voltage(voltage: &VoltageSigns, limits: &Thresholds, verdict: &mut Assessment) {
    if voltage.at_alarm || voltage.told_by_pack {
        verdict.raise(RiskClass::Alarm, Cause::VoltageDrop, voltage.drop, limits.drop_alarm);
    }
    if voltage.at_warning {
        verdict.raise(RiskClass::Warning, Cause::VoltageDrop, voltage.drop, limits.drop_warning);
    }
    if voltage.at_watch {
        verdict.raise(RiskClass::Watch, Cause::VoltageDrop, voltage.drop, limits.drop_watch);
    }
}

fn judge_both(heat: &HeatSigns, voltage: &VoltageSigns, limits: &Thresholds, verdict: &mut Assessment) {
    if let (Some(_), Some(drop)) = (heat.rate_beside, voltage.confirming) {
        verdict.raise(RiskClass::Runaway, Cause::ConfirmedByVoltage, drop, limits.drop_runaway);
    }
    let heats = heat.rate_beside.is_some() || heat.rise.is_some() || heat.spread_watch;
    if voltage.beside_heat && heats {
        verdict.raise(RiskClass::Alarm, Cause::VoltageDropAndHeat, voltage.drop, limits.drop_beside_heat);
    }
    // Of a parked vehicle the next reading comes too late: a short takes it past 60 degrees in ten seconds.
    if voltage.at_once && heat.rises_at_once {
        verdict.raise(RiskClass::Alarm, Cause::VoltageDropAndHeat, voltage.drop, limits.drop_alarm);
    }
}

fn heat_signs(evidence: &Evidence<'_>, limits: &Thresholds) -> Option<HeatSigns> {
    let heat = evidence.heat;
    let last = heat.last().filter(|last| evidence.end_us.saturating_sub(last.time_us) <= limits.gap_max_us)?;
    let above = |limit: f32| {
        last.hottest >= limit && held(heat, limits, limits.hold_us, SECONDS_MIN, |heat| heat.hottest >= limit)
    };
    let spread = |limit: f32| {
        last.spread >= limit && held(heat, limits, limits.hold_us, SECONDS_MIN, |heat| heat.spread >= limit)
    };
    let at_onset = above(limits.onset);
    Some(HeatSigns {
        hottest: last.hottest,
        time_us: last.time_us,
        at_watch: above(limits.watch),
        at_warning: above(limits.warning),
        at_maximum: above(limits.temperature_max),
        at_onset,
        frozen: at_onset && frozen(heat),
        rate: run_rate(heat, limits, SECONDS_MIN),
        rate_beside: run_rate(heat, limits, SECONDS_MIN_BOTH),
        rise: rise(heat, limits),
        rises_at_once: rises_at_once(heat, limits),
        spread: last.spread,
        spread_watch: spread(limits.spread_watch),
        spread_warning: spread(limits.spread_warning),
        spread_alarm: spread(limits.spread_alarm),
    })
}

fn voltage_signs(evidence: &Evidence<'_>, limits: &Thresholds) -> Option<VoltageSigns> {
    let voltage = evidence.voltage;
    let last = voltage.last().filter(|last| evidence.end_us.saturating_sub(last.time_us) <= limits.gap_max_us)?;
    let drop_of = |voltage: &Voltage| evidence.baseline.relative_drop(voltage);
    let drop = drop_of(last);
    let dropped = |limit: f32, seconds_min: usize| {
        let below = |voltage: &Voltage| drop_of(voltage).is_some_and(|drop| drop >= limit);
        below(last) && held(voltage, limits, limits.voltage_hold_us, seconds_min, below)
    };
    // Near empty, a cell with a little less capacity falls off the end of its curve before the others do.
    let near_empty = evidence.charge.is_some_and(|charge| charge < limits.near_empty) || last.strongest < limits.knee_v;
    let at_runaway = |voltage: &Voltage| {
        let plain = evidence.baseline.plain_drop(voltage).filter(|drop| *drop > limits.drop_runaway);
        drop_of(voltage).filter(|drop| *drop > limits.drop_runaway).or(plain)
    };
    let confirming = at_runaway(last)
        .filter(|_| held(voltage, limits, limits.hold_us, SECONDS_MIN_BOTH, |voltage| at_runaway(voltage).is_some()));
    let before = sparse(voltage, limits).map(|(before, _)| before);
    let at_once = !near_empty && drop.is_some_and(|drop| drop >= limits.drop_alarm);
    Some(VoltageSigns {
        time_us: last.time_us,
        drop: drop.unwrap_or(f32::NAN),
        at_watch: !near_empty && dropped(limits.drop_watch, SECONDS_MIN),
        at_warning: !near_empty && dropped(limits.drop_warning, SECONDS_MIN),
        at_alarm: dropped(
            if near_empty { limits.drop_runaway } else { limits.drop_alarm },
            if before.is_some() { SECONDS_MIN_SPARSE } else { SECONDS_MIN },
        ),
        beside_heat: dropped(if near_empty { limits.drop_alarm } else { limits.drop_beside_heat }, SECONDS_MIN_BOTH),
        at_once: at_once && before.is_some(),
        told_by_pack: at_once && before.is_some_and(|before| pack_agrees(before, last)),
        confirming,
        intact: drop.is_some_and(|drop| drop < limits.drop_watch),
    })
}

/// Whether a sign holds in enough of the latest readings, and for long enough.
fn held<T: Timed>(
    values: &[T],
    limits: &Thresholds,
    hold_us: i64,
    seconds_min: usize,
    holds: impl Fn(&T) -> bool,
) -> bool {
    let Some(last) = values.last() else { return false };
    let mut later_us = last.time_us();
    for (count, value) in values.iter().rev().enumerate() {
        if !holds(value) || later_us.saturating_sub(value.time_us()) > limits.gap_max_us {
            return false;
        }
        later_us = value.time_us();
        if count + 1 >= seconds_min && last.time_us().saturating_sub(later_us) >= hold_us {
            return true;
        }
    }
    false
}

/// Whether one cell's fall is what the pack lost: two sensors that do not go wild together.
fn pack_agrees(before: &Voltage, last: &Voltage) -> bool {
    let (of_cell, of_pack) = (before.weakest - last.weakest, before.pack - last.pack);
    (last.strongest - before.strongest).abs() <= STRONGEST_MOVES_MAX_V
        && of_pack >= PACK_FALL_MIN_V
        && (0.5 * of_cell..=1.5 * of_cell).contains(&of_pack)
}

/// The least rate of the latest run of rates that are a runaway's, once the run holds long enough.
fn run_rate(heat: &[Heat], limits: &Thresholds, seconds_min: usize) -> Option<f32> {
    let last = heat.last()?;
    let mut least = f32::INFINITY;
    for index in (1..heat.len()).rev() {
        let (at, earlier) = (&heat[index], &heat[..index]);
        let before =
            earlier.iter().rev().find(|before| at.time_us.saturating_sub(before.time_us) >= RATE_SPAN_MIN_US)?;
        if at.time_us.saturating_sub(before.time_us) > limits.gap_max_us {
            return None;
        }
        least = least.min(rate(before, at));
        if least < limits.runaway_rate {
            return None;
        }
        // Of a temperature alone two rates at least: one may be a sensor that jumped.
        if heat.len() - index >= seconds_min - 1 && last.time_us.saturating_sub(before.time_us) >= limits.hold_us {
            return Some(least);
        }
    }
    None
}

/// The rate over the window, if it is enough to watch, never falls, and is more than one step.
fn rise(heat: &[Heat], limits: &Thresholds) -> Option<f32> {
    let last = heat.last()?;
    let (mut later, mut largest, mut points) = (last, 0.0_f32, 1);
    for at in heat.iter().rev().skip(1) {
        let apart = later.time_us.saturating_sub(at.time_us);
        if apart < RISE_STEP_US {
            continue;
        }
        let step = later.hottest - at.hottest;
        if apart > limits.gap_max_us || step < 0.0 {
            return None;
        }
        (later, largest, points) = (at, largest.max(step), points + 1);
        if points >= SECONDS_MIN && last.time_us.saturating_sub(at.time_us) >= limits.rise_window_us {
            let overall = rate(at, last);
            let stepwise = largest <= RISE_STEP_SHARE_MAX * (last.hottest - at.hottest);
            return (overall >= limits.rise_watch && stepwise).then_some(overall);
        }
    }
    None
}

/// The latest two values, where they are so far apart that a sign holds for long enough between them.
fn sparse<'v, T: Timed>(values: &'v [T], limits: &Thresholds) -> Option<(&'v T, &'v T)> {
    let [.., before, last] = values else { return None };
    let apart = last.time_us().saturating_sub(before.time_us());
    (limits.hold_us..=limits.gap_max_us).contains(&apart).then_some((before, last))
}

/// Whether the latest reading is so much hotter than one so long ago that the rise is one to watch.
fn rises_at_once(heat: &[Heat], limits: &Thresholds) -> bool {
    sparse(heat, limits).is_some_and(|(before, last)| {
        last.hottest - before.hottest >= RISE_AT_ONCE_MIN_CELSIUS && rate(before, last) >= limits.rise_watch
    })
}

/// Whether the hottest value has not moved by a single bit, and came from nowhere or fills all that is kept.
fn frozen(heat: &[Heat]) -> bool {
    let Some(last) = heat.last() else { return false };
    let start = heat.iter().rposition(|heat| heat.hottest.to_bits() != last.hottest.to_bits());
    match start.map(|before| (&heat[before], &heat[before + 1])) {
        Some((before, first)) => first.hottest - before.hottest >= DOUBTFUL_STEP_CELSIUS,
        None => heat.len() == KEPT,
    }
}

/// Degrees a second.
fn rate(before: &Heat, after: &Heat) -> f32 {
    // Both differences are small: within a day, and within the plausible range of temperatures.
    #[expect(clippy::cast_possible_truncation, reason = "a rate needs no more digits than a temperature has")]
    let seconds = (after.time_us.saturating_sub(before.time_us) as f64 / 1e6) as f32;
    (after.hottest - before.hottest) / seconds
}

// === impl Assessment ===

impl Assessment {
    pub(super) fn normal(time_us: i64) -> Assessment {
        Assessment { class: RiskClass::Normal, cause: Cause::Nothing, value: f32::NAN, limit: f32::NAN, time_us }
    }

    fn raise(&mut self, class: RiskClass, cause: Cause, value: f32, limit: f32) {
        if class > self.class {
            *self = Assessment { class, cause, value, limit, time_us: self.time_us };
        }
    }
}

// === impl Cause ===

impl Cause {
    /// All of them.
    pub const ALL: [Cause; 11] = [
        Cause::Nothing,
        Cause::Temperature,
        Cause::Onset,
        Cause::Rate,
        Cause::Rise,
        Cause::Spread,
        Cause::VoltageDrop,
        Cause::VoltageDropAndHeat,
        Cause::ConfirmedByTemperature,
        Cause::ConfirmedByVoltage,
        Cause::DoubtfulSensor,
    ];

    /// Stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Cause::Nothing => "nothing",
            Cause::Temperature => "temperature",
            Cause::Onset => "onset",
            Cause::Rate => "rate",
            Cause::Rise => "rise",
            Cause::Spread => "spread",
            Cause::VoltageDrop => "voltage_drop",
            Cause::VoltageDropAndHeat => "voltage_drop_and_heat",
            Cause::ConfirmedByTemperature => "confirmed_by_temperature",
            Cause::ConfirmedByVoltage => "confirmed_by_voltage",
            Cause::DoubtfulSensor => "doubtful_sensor",
        }
    }

    /// Unit of what was found.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Cause::Nothing => "1",
            Cause::Temperature
            | Cause::Onset
            | Cause::Spread
            | Cause::DoubtfulSensor
            | Cause::ConfirmedByTemperature => "celsius",
            Cause::Rate | Cause::Rise => "celsius/s",
            Cause::VoltageDrop | Cause::VoltageDropAndHeat | Cause::ConfirmedByVoltage => "percent",
        }
    }
}
