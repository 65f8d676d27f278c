//! Features from all readings in order, computed as plainly as possible: sessions as lists of readings, aggregates by
//! their definition.

use std::collections::BTreeMap;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Reading {
    pub(crate) time_us: i64,
    /// Current, charging flag, voltage, state of charge.
    pub(crate) values: [Option<f32>; 4],
}

pub(crate) const VIEWS: &str = r#"
[sessions]
current_min_a = 2.0
duration_min = "1m"
end_after = "5m"
signal_age_max = "2m"
gap_max = "30s"
full_low_percent = 45.0
full_high_percent = 55.0

[[views]]
name = "now"
ttl = "1m"
features = [
    { name = "latest", signal = "Vehicle.Powertrain.TractionBattery.CellVoltage.Min", aggregate = "last" },
    { name = "window_mean", signal = "Vehicle.Powertrain.TractionBattery.CellVoltage.Min", aggregate = "mean", window = "100s" },
    { name = "window_min", signal = "Vehicle.Powertrain.TractionBattery.CellVoltage.Min", aggregate = "min", window = "100s" },
    { name = "window_max", signal = "Vehicle.Powertrain.TractionBattery.CellVoltage.Min", aggregate = "max", window = "100s" },
    { name = "window_delta", signal = "Vehicle.Powertrain.TractionBattery.CellVoltage.Min", aggregate = "delta", window = "100s" },
    { name = "window_rate", signal = "Vehicle.Powertrain.TractionBattery.CellVoltage.Min", aggregate = "rate", window = "100s" },
    { name = "window_std", signal = "Vehicle.Powertrain.TractionBattery.CellVoltage.Min", aggregate = "std", window = "100s" },
    { name = "window_integral", signal = "Vehicle.Powertrain.TractionBattery.CellVoltage.Min", aggregate = "integral", window = "100s" },
    { name = "window_held", signal = "Vehicle.Powertrain.TractionBattery.CellVoltage.Min", aggregate = "duration", at_least = 3.0, window = "100s" },
]

[[views]]
name = "sessions"
ttl = "1m"
features = [
    { name = "discharge_running_duration", signal = "Vehicle.Powertrain.TractionBattery.CurrentCurrent", aggregate = "duration", session = "running_discharge" },
    { name = "discharge_mean", signal = "Vehicle.Powertrain.TractionBattery.CurrentCurrent", aggregate = "mean", session = "last_discharge" },
    { name = "discharge_integral", signal = "Vehicle.Powertrain.TractionBattery.CurrentCurrent", aggregate = "integral", session = "last_discharge" },
    { name = "discharge_between", signal = "Vehicle.Powertrain.TractionBattery.CellVoltage.Min", aggregate = "time_between", from = 3.6, to = 3.0, session = "last_discharge" },
    { name = "discharge_rest", signal = "Vehicle.Powertrain.TractionBattery.CellVoltage.Min", aggregate = "last", during = "rest", session = "last_discharge" },
    { name = "charge_running_first", signal = "Vehicle.Powertrain.TractionBattery.CellVoltage.Min", aggregate = "first", session = "running_charge" },
    { name = "charge_max", signal = "Vehicle.Powertrain.TractionBattery.CellVoltage.Min", aggregate = "max", session = "last_charge" },
    { name = "charge_steady", signal = "Vehicle.Powertrain.TractionBattery.CurrentCurrent", aggregate = "duration", steady_percent = 95.0, session = "last_charge" },
]
"#;

const CURRENT: usize = 0;
const FLAG: usize = 1;
const VOLTS: usize = 2;
const SECOND: f64 = 1e6;
const GAP_US: i64 = 30_000_000;

type Values = Vec<(i64, f32)>;

/// Name to value and time, of those that are known.
pub(crate) fn recomputed(readings: &[Reading]) -> BTreeMap<String, (f32, i64)> {
    let mut known = BTreeMap::new();
    let volts = of(readings, VOLTS);
    let mut tell = |name: &str, values: &Values, value: Option<f64>| {
        if let (Some(value), Some((time_us, _))) = (value, values.last()) {
            #[expect(clippy::cast_possible_truncation, reason = "features are single precision")]
            known.insert(name.to_owned(), (value as f32, *time_us));
        }
    };
    let step = |time_us: i64| time_us.div_euclid(10_000_000);
    let newest = volts.last().map_or(0, |(time_us, _)| step(*time_us));
    let window: Values = volts.iter().copied().filter(|(time_us, _)| step(*time_us) > newest - 10).collect();
    tell("latest", &volts, last(&volts));
    tell("window_mean", &window, mean(&window));
    tell("window_min", &window, fold(&window, f64::min));
    tell("window_max", &window, fold(&window, f64::max));
    tell("window_delta", &window, delta(&window));
    tell("window_rate", &window, delta(&window).zip(duration(&window)).filter(|(_, s)| *s > 0.0).map(|(d, s)| d / s));
    let deviation = |mean: f64| {
        let squares: f64 = window.iter().map(|(_, value)| (f64::from(*value) - mean).powi(2)).sum();
        (squares / window.len() as f64).sqrt()
    };
    tell("window_std", &window, mean(&window).map(deviation));
    tell("window_integral", &window, integral(&window));
    let held = pairs(&window).filter(|(a, b)| a.1 >= 3.0 && b.1 >= 3.0 && b.0 - a.0 <= GAP_US);
    let held: f64 = held.map(|(a, b)| (b.0 - a.0) as f64 / SECOND).sum();
    tell("window_held", &window, (!window.is_empty()).then_some(held));

    let [discharge, charge] = sessions(readings);
    if let Some(running) = &discharge.running.filter(Session::counts) {
        let current = of(&running.load, CURRENT);
        tell("discharge_running_duration", &current, duration(&current));
    }
    if let Some(session) = &discharge.last {
        let (current, volts) = (of(&session.load, CURRENT), of(&session.load, VOLTS));
        tell("discharge_mean", &current, mean(&current));
        tell("discharge_integral", &current, integral(&current));
        let from = volts.iter().position(|(_, value)| *value <= 3.6);
        let to = from.and_then(|from| volts[from..].iter().find(|(_, value)| *value <= 3.0));
        tell("discharge_between", &volts, from.zip(to).map(|(from, to)| (to.0 - volts[from].0) as f64 / SECOND));
        let rest = of(&session.rest, VOLTS);
        tell("discharge_rest", &rest, last(&rest));
    }
    if let Some(running) = &charge.running.filter(Session::counts) {
        let volts = of(&running.load, VOLTS);
        tell("charge_running_first", &volts, volts.first().map(|(_, value)| f64::from(*value)));
    }
    if let Some(session) = &charge.last {
        let (current, volts) = (of(&session.load, CURRENT), of(&session.load, VOLTS));
        tell("charge_max", &volts, fold(&volts, f64::max));
        let greatest = |upto: usize| current[..=upto].iter().fold(f32::MIN, |max, (_, value)| max.max(*value));
        let steady = (0..current.len()).rfind(|at| current[*at].1 >= 0.95 * greatest(*at));
        tell("charge_steady", &current, steady.map(|at| (current[at].0 - current[0].0) as f64 / SECOND));
    }
    known
}

#[derive(Debug, Default, Clone)]
struct Session {
    load: Vec<Reading>,
    rest: Vec<Reading>,
}

#[derive(Debug, Default)]
struct Sessions {
    running: Option<Session>,
    last: Option<Session>,
}

impl Session {
    fn counts(&self) -> bool {
        self.load.last().zip(self.load.first()).is_some_and(|(last, first)| last.time_us - first.time_us >= 60_000_000)
    }
}

impl Sessions {
    fn end(&mut self) {
        if let Some(session) = self.running.take().filter(Session::counts) {
            self.last = Some(session);
        }
    }
}

/// Discharges and charges.
fn sessions(readings: &[Reading]) -> [Sessions; 2] {
    let mut all: [Sessions; 2] = Default::default();
    for (index, reading) in readings.iter().enumerate() {
        for sessions in &mut all {
            let load_us = sessions.running.as_ref().and_then(|session| session.load.last()).map(|load| load.time_us);
            if load_us.is_some_and(|load_us| reading.time_us - load_us > 300_000_000) {
                sessions.end();
            }
        }
        let known = |signal: usize| {
            let latest = readings[..=index].iter().rev().find(|reading| reading.values[signal].is_some())?;
            latest.values[signal].filter(|_| reading.time_us - latest.time_us <= 120_000_000)
        };
        let loaded = match (known(CURRENT), known(FLAG)) {
            (Some(current), _) if current <= -2.0 => Some(0),
            (_, Some(flag)) if flag >= 0.5 => Some(1),
            (Some(current), None) if current >= 2.0 => Some(1),
            (Some(_), _) => None,
            (None, _) => continue,
        };
        match loaded {
            Some(direction) => {
                let session = all[direction].running.get_or_insert_default();
                session.rest.clear();
                session.load.push(*reading);
                if session.counts() {
                    all[1 - direction].end();
                }
            }
            None => all
                .iter_mut()
                .filter_map(|sessions| sessions.running.as_mut())
                .for_each(|session| session.rest.push(*reading)),
        }
    }
    all
}

fn of(readings: &[Reading], signal: usize) -> Values {
    readings.iter().filter_map(|reading| Some((reading.time_us, reading.values[signal]?))).collect()
}

fn last(values: &Values) -> Option<f64> {
    values.last().map(|(_, value)| f64::from(*value))
}

fn fold(values: &Values, fold: fn(f64, f64) -> f64) -> Option<f64> {
    values.iter().map(|(_, value)| f64::from(*value)).reduce(fold)
}

fn mean(values: &Values) -> Option<f64> {
    Some(fold(values, |sum, value| sum + value)? / values.len() as f64)
}

fn delta(values: &Values) -> Option<f64> {
    Some(last(values)? - f64::from(values.first()?.1))
}

fn duration(values: &Values) -> Option<f64> {
    Some((values.last()?.0 - values.first()?.0) as f64 / SECOND)
}

fn integral(values: &Values) -> Option<f64> {
    let areas = pairs(values).filter(|(a, b)| b.0 - a.0 <= GAP_US);
    let area = |(a, b): ((i64, f32), (i64, f32))| f64::from(a.1 + b.1) / 2.0 * (b.0 - a.0) as f64 / SECOND;
    (!values.is_empty()).then(|| areas.map(area).sum())
}

fn pairs(values: &Values) -> impl Iterator<Item = ((i64, f32), (i64, f32))> {
    values.iter().copied().zip(values.iter().copied().skip(1))
}
