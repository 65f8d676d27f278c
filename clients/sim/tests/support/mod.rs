//! The thermal rule on simulated packs.

// Each test and example uses a part of it.
#![allow(dead_code, unreachable_pub, missing_docs)]

use std::{collections::BTreeMap, fmt};

use ev_alerts::{Alerts, AlertsConfig, Cause, Filter, Page, Quantity, Report, Sample, Samples, Thresholds};
use ev_domain::{Catalogue, Readings, RiskClass, Severity, VehicleId};
use evsim::{Batch, Fault, FaultKind, Fleet, FleetConfig, ONSET_CELSIUS, Signal, Start};

/// A short begins this long after the simulation, so that the rule knows what is usual.
const SHORT_AT_S: f64 = 900.0;
/// How long a short is watched.
const WATCHED_S: f64 = 3.0 * 3600.0;
/// Drop of the weakest cell against the strongest that counts as showing, in percent, before the cell is at 60 degrees.
const SHOWING_PERCENT: f32 = 10.0;

/// What the rule is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sensors {
    /// Everything.
    All,
    /// The hottest cell's temperature stays where it was.
    HottestStuck,
    /// No cell's voltage.
    NoCellVoltages,
}

/// What became of simulated shorts.
#[derive(Debug)]
pub struct Shorts {
    pub runs: u64,
    pub sensors: Sensors,
    pub cases: Vec<Case>,
    /// Shorts that did not bring the cell to the onset, and the worst that was said of them.
    pub harmless: BTreeMap<&'static str, u64>,
}

/// One short that brought its cell to the onset.
#[derive(Debug, Clone)]
pub struct Case {
    pub seed: u64,
    /// Seconds from one reading to the next: ten while it is parked.
    pub interval_s: u32,
    pub chemistry: &'static str,
    pub final_ohm_ah: f64,
    pub develops_s: f64,
    pub sensor_share: f64,
    /// When, after the short began, and where its hottest cell was.
    pub first: Option<(RiskClass, Moment)>,
    pub alarm: Option<(Cause, Moment)>,
    pub runaway: Option<(Cause, Moment)>,
    pub onset_s: f64,
    /// When the weakest cell's voltage had dropped by [`SHOWING_PERCENT`], if before 60 degrees.
    pub shows: Option<Moment>,
}

#[derive(Debug, Clone, Copy)]
pub struct Moment {
    pub after_s: f64,
    pub cell_celsius: f64,
}

/// What was said of normal days.
#[derive(Debug, Default)]
pub struct Days {
    pub days: u64,
    pub readings: u64,
    /// Readings by class of the rule.
    pub readings_by_class: BTreeMap<&'static str, u64>,
    /// Days with at least this class, by the strongest sign.
    pub days_by_sign: BTreeMap<(&'static str, &'static str), u64>,
    pub alarms: Vec<String>,
    pub hottest_celsius: f64,
    pub alerts: BTreeMap<(&'static str, &'static str), u64>,
}

pub fn readings(batch: &Batch, catalogue: &Catalogue) -> Readings {
    let column = |column: &evsim::Column| {
        let signal = catalogue.by_name(column.signal.name())?;
        Some(ev_domain::Column { signal, values: column.values.clone().into() })
    };
    Readings { times_us: batch.times_us.clone(), columns: batch.columns.iter().filter_map(column).collect() }
}

fn thresholds(chemistry: &str) -> Thresholds {
    AlertsConfig::default().rule.thresholds(Some(chemistry)).expect("the defaults")
}

// === impl Shorts ===

impl Shorts {
    pub fn run(runs: u64, seed: u64, sensors: Sensors) -> Shorts {
        let mut shorts = Shorts { runs, sensors, cases: Vec::new(), harmless: BTreeMap::new() };
        for index in 0..runs {
            let (worst, case) = short(seed.wrapping_mul(1_000_003).wrapping_add(index), sensors);
            match case {
                Some(case) => shorts.cases.push(case),
                None => *shorts.harmless.entry(worst.name()).or_default() += 1,
            }
        }
        shorts
    }

    /// Those with a reading every so many seconds.
    pub fn sampled(&self, interval_s: u32) -> Vec<&Case> {
        self.cases.iter().filter(|case| case.interval_s == interval_s).collect()
    }
}

// === impl Case ===

impl Case {
    /// Whether the alarm came before the cell was at the onset.
    pub fn in_time(&self) -> bool {
        self.alarm.as_ref().is_some_and(|(_, at)| at.after_s < self.onset_s)
    }

    /// Whether the alarm came before the cell was at 60 degrees.
    pub fn before_60(&self) -> bool {
        self.alarm.as_ref().is_some_and(|(_, at)| at.cell_celsius < 60.0)
    }
}

/// One vehicle, one short, batches of one second.
fn short(seed: u64, sensors: Sensors) -> (RiskClass, Option<Case>) {
    let start = [Start::Charging, Start::Driving, Start::Night][usize::try_from(seed % 3).unwrap_or(0)];
    let fault = Fault { vehicle: 0, at_s: SHORT_AT_S, kind: FaultKind::InternalShort(None) };
    let mut faults = vec![fault];
    if sensors == Sensors::HottestStuck {
        let kind = FaultKind::StuckSensor(Signal::CellTemperatureMax);
        faults.push(Fault { vehicle: 0, at_s: SHORT_AT_S, kind });
    }
    // Parked, a vehicle sends a reading every ten seconds.
    let interval_s = if start == Start::Night { 10 } else { 1 };
    let config = FleetConfig { vehicles: 1, seed, start, batch_s: interval_s, faults, ..FleetConfig::default() };
    let mut fleet = Fleet::new(config);
    let (chemistry, sensor_share, drawn) = fleet.vehicles().next().map_or(("nmc", 1.0, None), |vehicle| {
        (vehicle.pack().spec().chemistry.name(), vehicle.pack().spec().sensor_share, vehicle.short())
    });
    let (catalogue, thresholds, mut pack) = (Catalogue::standard(), thresholds(chemistry), ev_alerts::Pack::default());
    let (mut worst, mut first, mut alarm, mut runaway) = (RiskClass::Normal, None, None, None);
    let (mut shows, mut usual_ratio, mut hottest, mut onset_s) = (None, 1.0_f32, 0.0_f64, None);
    while let Some(emission) = fleet.next() {
        let now_s = fleet.vehicles().next().map_or(0.0, evsim::Vehicle::time_s);
        hottest = hottest.max(emission.truth.hottest_cell_celsius);
        let moment = Moment { after_s: now_s - SHORT_AT_S, cell_celsius: emission.truth.hottest_cell_celsius };
        if onset_s.is_none() && hottest >= ONSET_CELSIUS {
            onset_s = Some(moment.after_s);
        }
        let ratio = emission.batch.column(Signal::CellVoltageMin).zip(emission.batch.column(Signal::CellVoltageMax));
        let ratio = ratio.and_then(|(min, max)| Some(min.last()? / max.last()?)).unwrap_or(1.0);
        if moment.after_s < 0.0 {
            usual_ratio = ratio;
        } else if shows.is_none() && hottest < 60.0 && ratio < usual_ratio * (1.0 - SHOWING_PERCENT / 100.0) {
            shows = Some(moment);
        }
        for mut sample in Samples::of(&readings(&emission.batch, &catalogue)).iter() {
            if sensors == Sensors::NoCellVoltages {
                (sample.cell_voltage_min_v, sample.cell_voltage_max_v) = (f32::NAN, f32::NAN);
            }
            let Some(found) = pack.observe(&thresholds, &sample, sample.time_us) else { continue };
            // What is said before has another reason, such as a hot day.
            if moment.after_s < 0.0 {
                continue;
            }
            worst = worst.max(found.class);
            if found.class > RiskClass::Normal {
                first.get_or_insert((found.class, moment));
            }
            if found.class >= RiskClass::Alarm {
                alarm.get_or_insert((found.cause, moment));
            }
            if found.class == RiskClass::Runaway {
                runaway.get_or_insert((found.cause, moment));
            }
        }
        if moment.after_s > WATCHED_S || onset_s.is_some_and(|onset_s| moment.after_s > onset_s + 120.0) {
            break;
        }
    }
    let case = onset_s.map(|onset_s| Case {
        seed,
        interval_s,
        chemistry,
        final_ohm_ah: drawn.map_or(f64::NAN, |short| short.final_ohm_ah),
        develops_s: drawn.map_or(f64::NAN, |short| short.develops_s),
        sensor_share,
        first,
        alarm,
        runaway,
        onset_s,
        shows,
    });
    (worst, case)
}

impl fmt::Display for Shorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (runs, cases) = (self.runs, self.cases.len());
        writeln!(
            f,
            "{:?}: {runs} shorts, {cases} of which brought their cell to {ONSET_CELSIUS} degrees",
            self.sensors
        )?;
        writeln!(f, "  the worst that was said of the others: {:?}", self.harmless)?;
        for interval_s in [1, 10] {
            write_cases(f, interval_s, &self.sampled(interval_s))?;
        }
        Ok(())
    }
}

fn write_cases(f: &mut fmt::Formatter<'_>, interval_s: u32, cases: &[&Case]) -> fmt::Result {
    let all = cases.len();
    let in_time = cases.iter().filter(|case| case.in_time()).count();
    writeln!(f, "  a reading every {interval_s} s: alarm before {ONSET_CELSIUS} degrees in {in_time} of {all}")?;
    let showing: Vec<&&Case> = cases.iter().filter(|case| case.shows.is_some()).collect();
    let before_60 = showing.iter().filter(|case| case.before_60()).count();
    let count = showing.len();
    writeln!(
        f,
        "    of {count} whose voltage dropped by {SHOWING_PERCENT} % below 60 degrees, alarm before 60 in {before_60}"
    )?;
    let mut line = |name: &str, unit: &str, values: Vec<f64>| {
        let (count, [least, tenth, half, most]) = (values.len(), quantiles(values));
        writeln!(f, "    {name} ({count}): least {least:.0}, tenth {tenth:.0}, median {half:.0}, most {most:.0} {unit}")
    };
    let lead = |at: Option<Moment>, case: &Case| at.map(|at| case.onset_s - at.after_s);
    let alarm = |case: &Case| case.alarm.map(|(_, at)| at);
    line(
        "lead of the first word",
        "s",
        cases.iter().filter_map(|case| lead(case.first.map(|(_, at)| at), case)).collect(),
    )?;
    line("lead of the alarm", "s", cases.iter().filter_map(|case| lead(alarm(case), case)).collect())?;
    line(
        "hottest cell at the alarm",
        "degrees",
        cases.iter().filter_map(|case| Some(alarm(case)?.cell_celsius)).collect(),
    )?;
    line(
        "lead of class Runaway",
        "s",
        cases.iter().filter_map(|case| lead(case.runaway.map(|(_, at)| at), case)).collect(),
    )?;
    let mut causes: BTreeMap<&str, usize> = BTreeMap::new();
    for (cause, _) in cases.iter().filter_map(|case| case.alarm) {
        *causes.entry(cause.name()).or_default() += 1;
    }
    writeln!(f, "    what raised the alarm: {causes:?}")?;
    for case in cases.iter().filter(|case| !case.in_time() || case.shows.is_some() && !case.before_60()).take(12) {
        let alarm = case.alarm.map(|(_, at)| (at.after_s.round(), at.cell_celsius.round()));
        let Case { seed, chemistry, final_ohm_ah, develops_s, sensor_share, onset_s, .. } = case;
        writeln!(
            f,
            "    late: seed {seed}, {chemistry}, {final_ohm_ah:.2} ohm Ah in {develops_s:.0} s, sensor {sensor_share:.2}, \
             onset after {onset_s:.0} s, alarm (s, degrees) {alarm:?}"
        )?;
    }
    Ok(())
}

fn quantiles(mut values: Vec<f64>) -> [f64; 4] {
    values.sort_by(f64::total_cmp);
    let at = |share: usize| values.get((values.len().saturating_sub(1)) * share / 10).copied().unwrap_or(f64::NAN);
    [at(0), at(1), at(5), at(10)]
}

// === impl Days ===

impl Days {
    /// Days of vehicles of which each lives two.
    pub fn run(days: u64, seed: u64) -> Days {
        let mut found = Days::default();
        while found.days < days {
            let length = 2.min(days - found.days);
            let vehicle = seed.wrapping_mul(7_777_777).wrapping_add(found.days);
            found.vehicle(vehicle, length);
            found.days += length;
        }
        found
    }

    fn vehicle(&mut self, seed: u64, days: u64) {
        let config = FleetConfig { vehicles: 1, seed, batch_s: 60, ..FleetConfig::default() };
        let until_us = (config.start_unix_s + i64::try_from(days * 86_400).unwrap_or(0)) * 1_000_000;
        let fleet = Fleet::new(config);
        let chemistry = fleet.vehicles().next().map_or("nmc", |vehicle| vehicle.pack().spec().chemistry.name());
        let (catalogue, config) = (Catalogue::standard(), AlertsConfig::default());
        let (thresholds, mut pack) = (thresholds(chemistry), ev_alerts::Pack::default());
        let vehicle = VehicleId::new("sim").expect("an id");
        let alerts = Alerts::new(config.life.clone(), seed);
        let (mut before, mut day_worst) = (Severity::None, (0, RiskClass::Normal, Cause::Nothing));
        for emission in fleet.take_while(|emission| emission.truth.time_us <= until_us) {
            self.hottest_celsius = self.hottest_celsius.max(emission.truth.hottest_cell_celsius);
            let readings = readings(&emission.batch, &catalogue);
            for sample in Samples::of(&readings).iter() {
                self.readings += 1;
                alerts.tick(sample.time_us);
                before = charge(&alerts, &config, &vehicle, &sample, before);
                let Some(found) = pack.observe(&thresholds, &sample, sample.time_us) else { continue };
                alerts.report(&Report::of_rule(&vehicle, &found), sample.time_us);
                *self.readings_by_class.entry(found.class.name()).or_default() += 1;
                let day = sample.time_us / 86_400_000_000;
                if day != day_worst.0 {
                    self.end_day(day_worst);
                    day_worst = (day, RiskClass::Normal, Cause::Nothing);
                }
                if found.class > day_worst.1 {
                    day_worst = (day, found.class, found.cause);
                }
                if found.class >= RiskClass::Alarm {
                    self.alarms.push(format!("seed {seed}: {found:?} {sample:?}"));
                }
            }
        }
        self.end_day(day_worst);
        for alert in alerts.list(&Filter::default(), &Page { size: 1000, token: None }).expect("a page").alerts {
            *self.alerts.entry((alert.topic.name(), alert.peak.name())).or_default() += 1;
        }
    }

    fn end_day(&mut self, (_, class, cause): (i64, RiskClass, Cause)) {
        if class > RiskClass::Normal {
            *self.days_by_sign.entry((class.name(), cause.name())).or_default() += 1;
        }
    }
}

fn charge(alerts: &Alerts, config: &AlertsConfig, vehicle: &VehicleId, sample: &Sample, before: Severity) -> Severity {
    let (rule, charge) = (config.fleet.rule(Quantity::StateOfCharge), sample.state_of_charge_percent);
    let report = Report::of_fleet(vehicle, Quantity::StateOfCharge, rule, charge, before, sample.time_us);
    alerts.report(&report, sample.time_us);
    report.severity
}

impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} vehicle-days, {} readings, hottest cell {:.1} degrees",
            self.days, self.readings, self.hottest_celsius
        )?;
        writeln!(f, "  readings by class: {:?}", self.readings_by_class)?;
        writeln!(f, "  days by worst class and its sign: {:?}", self.days_by_sign)?;
        writeln!(f, "  alerts by topic and peak: {:?}", self.alerts)?;
        writeln!(f, "  alarms: {}", self.alarms.len())?;
        for alarm in self.alarms.iter().take(20) {
            writeln!(f, "    {alarm}")?;
        }
        Ok(())
    }
}
