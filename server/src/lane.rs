//! The thermal lane: every reading of a pack is judged as soon as it is stored, on telemetry's own threads.
//!
//! Nothing here is shed, queued behind predictions or asked over a network.

mod predicted;
mod remembered;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use ev_alerts::{
    AlertEvent, Alerts, AlertsConfig, ConfigError, FleetConfig, Happening, Notice, Origin, Pack, Quantity, Report,
    Samples, Subscription, Thresholds, Topic,
};
use ev_domain::{Readings, Severity, SignalId, VehicleId, signals};
use ev_telemetry::{AppliedBatch, Apply};
use tokio::runtime::Handle;

pub(crate) use predicted::{Condition, Opinion, Predicted};
pub(crate) use remembered::Remembering;

/// Packs that are remembered, about a kilobyte each; beyond that the longest silent are forgotten.
const PACKS_MAX: usize = 200_000;
/// Of the packs, the part that is forgotten at one time.
const FORGOTTEN_PART: usize = 16;
/// How often alerts are looked at that nothing is reported of.
const TICK: Duration = Duration::from_secs(1);

/// Limits on single values that readings have.
const LIMITED: [(Quantity, SignalId); 2] =
    [(Quantity::StateOfCharge, signals::STATE_OF_CHARGE), (Quantity::CellTemperature, signals::CELL_TEMPERATURE_MAX)];

/// Judges readings.
pub(crate) struct Lane {
    alerts: Arc<Alerts>,
    /// Of packs whose chemistry is not known.
    thresholds: Thresholds,
    /// By the name of the chemistry.
    chemistries: Vec<(String, Thresholds)>,
    fleet: FleetConfig,
    packs: Mutex<HashMap<VehicleId, Watched>>,
}

/// What is remembered of a pack.
#[derive(Default)]
struct Watched {
    pack: Pack,
    /// Place of its chemistry among those that are configured.
    chemistry: Option<usize>,
    /// What the rule said last.
    rule: Severity,
    /// What each limit said last, in the order of [`LIMITED`].
    limits: [Limit; LIMITED.len()],
    seen_us: i64,
}

/// What a limit said, and of which reading.
#[derive(Default, Clone, Copy)]
struct Limit {
    severity: Severity,
    time_us: i64,
}

// === impl Lane ===

impl Lane {
    /// A lane that reports to `alerts`.
    ///
    /// # Errors
    ///
    /// When the default chemistry is not one of those that are configured.
    pub(crate) fn new(config: &AlertsConfig, alerts: Arc<Alerts>) -> Result<Lane, ConfigError> {
        let thresholds = config.rule.thresholds(None)?;
        let of = |name: &String| Ok((name.clone(), config.rule.thresholds(Some(name))?));
        let chemistries = config.rule.chemistries.keys().map(of).collect::<Result<_, ConfigError>>()?;
        Ok(Lane { alerts, thresholds, chemistries, fleet: config.fleet.clone(), packs: Mutex::default() })
    }

    /// Notes the chemistry of a pack, as it is written in its features; of one that is not configured nothing is known.
    /// The rule waits for nobody who could say it: until it is noted, and after it is forgotten, a pack has the usual one.
    pub(crate) fn learn(&self, vehicle: &VehicleId, chemistry: Option<&str>) {
        let place = |name: &str| self.chemistries.iter().position(|(known, _)| known.eq_ignore_ascii_case(name.trim()));
        let chemistry = chemistry.and_then(place);
        if let Some(watched) = self.packs().get_mut(vehicle) {
            watched.chemistry = chemistry;
        }
    }

    /// Takes in what a pack was before the start, so that the rule knows its voltages. Judging waits for no store: what came
    /// before this was judged without, and is judged once more.
    pub(crate) fn remember(&self, vehicle: &VehicleId, past: &Pack, now_us: i64) {
        let Some(newest_us) = past.newest_us() else { return };
        let mut packs = self.packs();
        let watched = match packs.get_mut(vehicle) {
            Some(watched) => watched,
            None => self.watch(&mut packs, vehicle),
        };
        watched.pack.remember(past);
        if !watched.pack.has_sent() {
            watched.seen_us = newest_us.min(now_us);
            return;
        }
        let assessment = watched.pack.newest(self.thresholds_of(watched));
        let report = Report::of_rule(vehicle, &assessment);
        if report.severity > watched.rule {
            self.alerts.report(&report, now_us);
            watched.rule = report.severity;
        }
    }

    /// Ends what nobody confirms any more, every second, as long as the runtime lives.
    pub(crate) fn keep_current(alerts: Arc<Alerts>, runtime: &Handle) {
        runtime.spawn(async move {
            let mut every = tokio::time::interval(TICK);
            every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                every.tick().await;
                alerts.tick(crate::telemetry::now_us());
            }
        });
    }

    /// Writes what happens to alerts into the log, as long as there are any.
    pub(crate) fn log(mut subscription: Subscription, runtime: &Handle) {
        runtime.spawn(async move {
            while let Some(notice) = subscription.next().await {
                match notice {
                    Notice::Event(event) => log(&event),
                    Notice::Missed(events) => tracing::warn!(events, "alerts came faster than they could be logged"),
                }
            }
        });
    }

    fn judge(&self, watched: &mut Watched, applied: &AppliedBatch) {
        let (vehicle, readings, now_us) = (&applied.batch.vehicle, &applied.batch.readings, applied.received_us);
        watched.seen_us = now_us;
        let thresholds = self.thresholds_of(watched);
        for sample in Samples::of(readings).iter() {
            if let Some(assessment) = watched.pack.observe(thresholds, &sample, now_us) {
                let report = Report::of_rule(vehicle, &assessment);
                // Most readings say that all is well of a pack of which that is known.
                if report.severity != Severity::None || watched.rule != Severity::None {
                    self.alerts.report(&report, now_us);
                }
                watched.rule = report.severity;
            }
        }
        for ((quantity, signal), limit) in LIMITED.into_iter().zip(&mut watched.limits) {
            let Some((time_us, value)) = latest(readings, signal) else { continue };
            if time_us < limit.time_us {
                continue;
            }
            let rule = self.fleet.rule(quantity);
            let report = Report::of_fleet(vehicle, quantity, rule, value, limit.severity, time_us);
            if report.severity != Severity::None || limit.severity != Severity::None {
                self.alerts.report(&report, now_us);
            }
            *limit = Limit { severity: report.severity, time_us };
        }
    }

    fn thresholds_of(&self, watched: &Watched) -> &Thresholds {
        let known = watched.chemistry.and_then(|place| self.chemistries.get(place));
        known.map_or(&self.thresholds, |(_, thresholds)| thresholds)
    }

    /// Makes room for a pack that is new, and begins to watch it.
    fn watch<'a>(&self, packs: &'a mut HashMap<VehicleId, Watched>, vehicle: &VehicleId) -> &'a mut Watched {
        forget(packs, PACKS_MAX);
        packs.entry(vehicle.clone()).or_insert_with(|| Watched::of(&self.alerts, vehicle))
    }

    /// Taken for a group of batches, and for moments by whoever learns something.
    fn packs(&self) -> MutexGuard<'_, HashMap<VehicleId, Watched>> {
        self.packs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Apply for Lane {
    async fn apply(&self, batches: &[Arc<AppliedBatch>]) {
        let mut packs = self.packs();
        for applied in batches {
            let vehicle = &applied.batch.vehicle;
            let watched = match packs.get_mut(vehicle) {
                Some(watched) => watched,
                None => self.watch(&mut packs, vehicle),
            };
            self.judge(watched, applied);
        }
    }
}

// === impl Watched ===

impl Watched {
    /// A pack that nothing is remembered of but what is in the book: from before a restart, or since it was forgotten.
    /// What was said of it stands until it is said to be over.
    fn of(alerts: &Alerts, vehicle: &VehicleId) -> Watched {
        let limit = |(quantity, _): (Quantity, SignalId)| Limit {
            severity: alerts.opinion(vehicle, Topic::from(quantity), Origin::Fleet),
            time_us: i64::MIN,
        };
        Watched {
            rule: alerts.opinion(vehicle, Topic::Thermal, Origin::Rule),
            limits: LIMITED.map(limit),
            ..Watched::default()
        }
    }
}

/// Somebody must act on what is new and severe; of the rest it is enough to know.
fn log(event: &AlertEvent) {
    let AlertEvent { happening, alert } = event;
    macro_rules! log {
        ($level:ident, $text:literal) => {
            tracing::$level!(
                vehicle = alert.vehicle.as_str(),
                topic = alert.topic.name(),
                severity = alert.severity.name(),
                sign = alert.finding.sign,
                value = alert.finding.value,
                unit = alert.finding.unit,
                action = alert.action_id,
                alert = %alert.id,
                $text
            )
        };
    }
    match happening {
        Happening::Raised | Happening::Reopened | Happening::Rose | Happening::Escalated
            if alert.severity >= Severity::High =>
        {
            log!(error, "alert: act now");
        }
        Happening::Raised | Happening::Reopened | Happening::Rose | Happening::Escalated => log!(warn, "alert"),
        Happening::Fell => log!(info, "alert is less severe"),
        Happening::Acknowledged => log!(info, "alert acknowledged"),
        Happening::Ended => log!(info, "alert ended"),
        Happening::Displaced => log!(warn, "alert ended to make room for more severe ones"),
    }
}

/// Something of a vehicle that can be forgotten.
trait Seen {
    /// When it was last heard of.
    fn seen_us(&self) -> i64;
}

impl Seen for Watched {
    fn seen_us(&self) -> i64 {
        self.seen_us
    }
}

/// Makes room for one more pack.
fn forget<T: Seen>(packs: &mut HashMap<VehicleId, T>, max: usize) {
    if packs.len() < max {
        return;
    }
    let mut seen: Vec<i64> = packs.values().map(Seen::seen_us).collect();
    let part = (seen.len() / FORGOTTEN_PART).min(seen.len() - 1);
    let (_, &mut until, _) = seen.select_nth_unstable(part);
    // At least one goes, even where all were seen at the same time.
    let mut left = part + 1;
    packs.retain(|_, watched| {
        let goes = watched.seen_us() <= until && left > 0;
        left -= usize::from(goes);
        !goes
    });
}

/// The value of the latest reading that has one.
fn latest(readings: &Readings, signal: SignalId) -> Option<(i64, f32)> {
    let column = readings.column(signal)?;
    let values = readings.times_us.iter().copied().zip(column.iter().copied());
    values.filter(|(_, value)| !value.is_nan()).max_by_key(|(time, _)| *time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_silent_packs_are_forgotten() {
        let id = |number: usize| VehicleId::new(&format!("car-{number}")).expect("an id");
        let watched = |seen_us: i64| Watched { seen_us, ..Watched::default() };
        let mut packs: HashMap<_, _> =
            (0..64usize).map(|number| (id(number), watched(1_000 + number as i64))).collect();
        forget(&mut packs, 65);
        assert_eq!(packs.len(), 64);
        forget(&mut packs, 64);
        assert_eq!(packs.len(), 64 - 5);
        assert!((0..5).all(|number| !packs.contains_key(&id(number))));
        let mut equal: HashMap<_, _> = (0..4usize).map(|number| (id(number), watched(7))).collect();
        forget(&mut equal, 4);
        assert_eq!(equal.len(), 3);
    }
}
