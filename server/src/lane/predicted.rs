//! What models say of a vehicle, as far as it is to be relied on, as alerts.
//!
//! A model alone raises an alert only where it was asked what it was trained on, knew enough, and was sure more than once:
//! `docs/thermal.md` has what that costs and what it saves.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use ev_alerts::{Alerts, FleetConfig, Quantity, Report};
use ev_domain::{RiskClass, Severity, VehicleId};

use super::{PACKS_MAX, Seen, forget};
use crate::config::PredictionsConfig;

/// Assessments in a row that must agree on a class, as the rule wants its signs in three different seconds.
const ASSESSMENTS: usize = 3;
/// Assessments further apart than this are not about the same event.
const APART_MAX_US: i64 = 30_000_000;
/// The lowest class that a model raises an alert for. A car that pulls away makes its cells' voltage drop: on two days of
/// three of normal driving the model says Watch for a while.
const CLASS_MIN: RiskClass = RiskClass::Warning;

/// Quantities that are predicted and have limits.
const LIMITED: [Quantity; 3] = [Quantity::FailureProbability, Quantity::RemainingLife, Quantity::StateOfHealth];

/// Reports what models say.
pub(crate) struct Predicted {
    alerts: Arc<Alerts>,
    fleet: FleetConfig,
    coverage_min: f32,
    probability_min: f32,
    vehicles: Mutex<HashMap<VehicleId, Told>>,
}

/// What was said of a vehicle.
#[derive(Default)]
struct Told {
    /// The class that can be relied on, of the last assessments, with their times; the newest first.
    classes: [(Option<RiskClass>, i64); ASSESSMENTS],
    /// What was reported of the class; none since the start.
    thermal: Option<Severity>,
    /// What each limit said, in the order of [`LIMITED`].
    limits: [Option<Severity>; LIMITED.len()],
    seen_us: i64,
}

/// A model's opinion of a pack.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Opinion {
    /// Of each class, in their order.
    pub(crate) probabilities: [f32; RiskClass::ALL.len()],
    /// Share of the model's inputs that were known, 0 to 1.
    pub(crate) coverage: f32,
    /// The input is of the kind the model was trained on.
    pub(crate) is_inside: bool,
    /// Time of the newest reading behind it, in microseconds since 1970-01-01 UTC.
    pub(crate) event_time_us: i64,
}

/// What was predicted of a battery, as far as the models were trained on such.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Condition {
    /// 0 to 1.
    pub(crate) failure_probability: Option<f32>,
    /// Of the life that the models state, in percent.
    pub(crate) remaining_life_percent: Option<f32>,
    /// In percent.
    pub(crate) state_of_health_percent: Option<f32>,
}

// === impl Predicted ===

impl Predicted {
    pub(crate) fn new(config: &PredictionsConfig, fleet: &FleetConfig, alerts: Arc<Alerts>) -> Predicted {
        Predicted {
            alerts,
            fleet: fleet.clone(),
            coverage_min: config.alert_coverage_min,
            probability_min: config.alert_probability_min,
            vehicles: Mutex::default(),
        }
    }

    /// Takes a model's opinion of a pack, at most once a second.
    pub(crate) fn assessed(&self, vehicle: &VehicleId, opinion: &Opinion, now_us: i64) {
        let class = self.relied_on(opinion);
        let (held, before) = self.with_told(vehicle, now_us, |told| {
            told.classes.rotate_right(1);
            told.classes[0] = (class, opinion.event_time_us);
            let held = told.held();
            (held, told.thermal.replace(held.action().severity))
        });
        if held.action().severity == Severity::None && before == Some(Severity::None) {
            return;
        }
        let probability = at_least(opinion, held);
        self.alerts.report(&Report::of_model(vehicle, held, probability, opinion.event_time_us), now_us);
    }

    /// Takes what was predicted of a battery.
    pub(crate) fn predicted(&self, vehicle: &VehicleId, condition: &Condition, now_us: i64) {
        let Condition { failure_probability, remaining_life_percent, state_of_health_percent } = *condition;
        let values = [failure_probability, remaining_life_percent, state_of_health_percent];
        for (place, (quantity, value)) in LIMITED.into_iter().zip(values).enumerate() {
            let Some(value) = value.filter(|value| value.is_finite()) else { continue };
            let rule = self.fleet.rule(quantity);
            let (report, before) = self.with_told(vehicle, now_us, |told| {
                let before = told.limits[place];
                let report = Report::of_fleet(vehicle, quantity, rule, value, before.unwrap_or_default(), now_us);
                told.limits[place] = Some(report.severity);
                (report, before)
            });
            if report.severity != Severity::None || before != Some(Severity::None) {
                self.alerts.report(&report, now_us);
            }
        }
    }

    /// The highest class that is sure to be reached; none where the model cannot be relied on.
    fn relied_on(&self, opinion: &Opinion) -> Option<RiskClass> {
        if !opinion.is_inside || opinion.coverage < self.coverage_min {
            return None;
        }
        let sure = |class: &&RiskClass| at_least(opinion, **class) >= self.probability_min;
        RiskClass::ALL.iter().rev().find(sure).copied()
    }

    fn with_told<T>(&self, vehicle: &VehicleId, now_us: i64, f: impl FnOnce(&mut Told) -> T) -> T {
        let mut vehicles = self.vehicles.lock().unwrap_or_else(PoisonError::into_inner);
        if !vehicles.contains_key(vehicle) {
            forget(&mut vehicles, PACKS_MAX);
            vehicles.insert(vehicle.clone(), Told::default());
        }
        let told = vehicles.entry(vehicle.clone()).or_default();
        told.seen_us = now_us;
        f(told)
    }
}

/// Probability of a class or a higher one.
fn at_least(opinion: &Opinion, class: RiskClass) -> f32 {
    let classes = RiskClass::ALL.into_iter().zip(opinion.probabilities);
    classes.filter(|(of, _)| *of >= class).map(|(_, probability)| probability).sum()
}

// === impl Told ===

impl Told {
    /// The class that all of the last assessments reach.
    fn held(&self) -> RiskClass {
        let newest_us = self.classes[0].1;
        let span_us = APART_MAX_US * i64::try_from(ASSESSMENTS - 1).unwrap_or(1);
        let is_recent = self.classes.iter().all(|(_, time_us)| newest_us.saturating_sub(*time_us) <= span_us);
        let least = self.classes.iter().map(|(class, _)| *class).min().flatten();
        least.filter(|class| is_recent && *class >= CLASS_MIN).unwrap_or(RiskClass::Normal)
    }
}

impl Seen for Told {
    fn seen_us(&self) -> i64 {
        self.seen_us
    }
}

#[cfg(test)]
mod tests {
    use ev_alerts::{AlertsConfig, Filter, Page, Topic};

    use super::*;

    const SECOND: i64 = 1_000_000;

    fn predicted() -> (Predicted, Arc<Alerts>) {
        let config = AlertsConfig::default();
        let alerts = Arc::new(Alerts::new(config.life.clone(), 7));
        let predictions = PredictionsConfig {
            renew_interval: std::time::Duration::from_secs(10),
            alert_coverage_min: 0.3,
            alert_probability_min: 0.9,
            ..crate::Config::load(None, [], []).expect("the defaults").predictions
        };
        (Predicted::new(&predictions, &config.fleet, Arc::clone(&alerts)), alerts)
    }

    fn opinion(probabilities: [f32; 5], second: i64) -> Opinion {
        Opinion { probabilities, coverage: 0.5, is_inside: true, event_time_us: second * SECOND }
    }

    const ALARM: [f32; 5] = [0.0, 0.01, 0.02, 0.9, 0.07];

    /// Severity of the alert of a topic after some seconds without news.
    fn severity(alerts: &Alerts, topic: Topic, second: i64) -> Severity {
        alerts.tick(second * SECOND);
        let filter = Filter { topic: Some(topic), ..Filter::default() };
        let listing = alerts.list(&filter, &Page { size: 10, token: None }).expect("a page");
        listing.alerts.first().map_or(Severity::None, |alert| alert.severity)
    }

    fn vehicle() -> VehicleId {
        VehicleId::new("car-1").expect("an id")
    }

    #[test]
    fn a_class_counts_when_it_is_sure_and_lasts() {
        let check = |opinions: &[Opinion], expected: Severity| {
            let (predicted, alerts) = predicted();
            let last = opinions.last().map_or(0, |opinion| opinion.event_time_us / SECOND);
            opinions.iter().for_each(|opinion| predicted.assessed(&vehicle(), opinion, opinion.event_time_us));
            assert_eq!(severity(&alerts, Topic::Thermal, last), expected, "{opinions:?}");
        };
        let all = |seconds: &[i64]| -> Vec<Opinion> { seconds.iter().map(|second| opinion(ALARM, *second)).collect() };
        check(&all(&[100, 101]), Severity::None);
        check(&all(&[100, 101, 102]), Severity::High);
        check(&all(&[100, 110, 120]), Severity::High);
        check(&all(&[100, 101, 300]), Severity::None);
        check(&all(&[100, 300, 301]), Severity::None);
        let unsure = |second| opinion([0.1, 0.1, 0.1, 0.7, 0.0], second);
        check(&[unsure(100), unsure(101), unsure(102)], Severity::None);
        let watch = |second| opinion([0.0, 0.99, 0.01, 0.0, 0.0], second);
        check(&[watch(100), watch(101), watch(102)], Severity::None);
        check(&[opinion(ALARM, 100), watch(101), opinion(ALARM, 102)], Severity::None);
        let outside = |second| Opinion { is_inside: false, ..opinion(ALARM, second) };
        check(&[outside(100), outside(101), outside(102)], Severity::None);
        let little = |second| Opinion { coverage: 0.1, ..opinion(ALARM, second) };
        check(&[little(100), little(101), little(102)], Severity::None);
        let runaway = |second| opinion([0.0, 0.0, 0.0, 0.05, 0.95], second);
        check(&[runaway(100), opinion(ALARM, 101), runaway(102)], Severity::High);
        check(&[runaway(100), runaway(101), runaway(102)], Severity::Critical);
    }

    #[test]
    fn limits_on_what_is_predicted_raise_alerts_and_missing_values_change_nothing() {
        let (predicted, alerts) = predicted();
        let condition = Condition {
            failure_probability: Some(0.8),
            remaining_life_percent: Some(60.0),
            state_of_health_percent: Some(74.0),
        };
        predicted.predicted(&vehicle(), &condition, 100 * SECOND);
        assert_eq!(severity(&alerts, Topic::FailureProbability, 120), Severity::High);
        assert_eq!(severity(&alerts, Topic::RemainingLife, 120), Severity::None);
        assert_eq!(severity(&alerts, Topic::StateOfHealth, 120), Severity::Medium);
        predicted.predicted(&vehicle(), &Condition::default(), 121 * SECOND);
        assert_eq!(severity(&alerts, Topic::StateOfHealth, 500), Severity::Medium);
        let better = Condition { state_of_health_percent: Some(f32::NAN), failure_probability: Some(0.1), ..condition };
        predicted.predicted(&vehicle(), &better, 501 * SECOND);
        let open = Filter { state: Some(ev_alerts::State::Open), ..Filter::default() };
        alerts.tick(600 * SECOND);
        let open = alerts.list(&open, &Page { size: 10, token: None }).expect("a page").alerts;
        assert_eq!(open.iter().map(|alert| alert.topic).collect::<Vec<_>>(), [Topic::StateOfHealth]);
    }
}
