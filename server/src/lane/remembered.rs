//! What the rule knew of packs before a start, made anew from what is stored.

use std::sync::{Arc, Mutex, PoisonError};

use ev_alerts::{Pack, Samples};
use ev_domain::{ReadingBatch, VehicleId};

use super::Lane;
use crate::features::Beside;

/// Sees stored readings, of one pack after the other, and tells the lane of each what it was.
pub(crate) struct Remembering {
    lane: Arc<Lane>,
    /// Beside the lane's own, so that nobody who judges waits, or sees half of it.
    pack: Mutex<Option<(VehicleId, Pack)>>,
}

// === impl Remembering ===

impl Remembering {
    pub(crate) fn new(lane: Arc<Lane>) -> Remembering {
        Remembering { lane, pack: Mutex::default() }
    }
}

impl Beside for Remembering {
    fn page(&self, batch: &ReadingBatch) {
        let mut pack = self.pack.lock().unwrap_or_else(PoisonError::into_inner);
        // One that was not seen to its end is worth nothing: the baseline would be of too long ago.
        let (_, pack) = match pack.take() {
            Some(known) if known.0 == batch.vehicle => pack.insert(known),
            _ => pack.insert((batch.vehicle.clone(), Pack::default())),
        };
        for sample in Samples::of(&batch.readings).iter() {
            pack.take_in(&sample);
        }
    }

    fn end(&self, vehicle: &VehicleId, now_us: i64) {
        let seen = self.pack.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((seen, pack)) = seen
            && seen == *vehicle
        {
            self.lane.remember(vehicle, &pack, now_us);
        }
    }
}

#[cfg(test)]
mod tests {
    use ev_alerts::{Alerts, AlertsConfig, Origin, Topic};
    use ev_domain::{Column, Readings, Severity, Source, signals};
    use ev_telemetry::{AppliedBatch, Apply as _};

    use super::*;

    const BEGIN_S: i64 = 1_700_000_000;
    const NOW_US: i64 = (BEGIN_S + 310) * 1_000_000;

    fn id(id: &str) -> VehicleId {
        VehicleId::new(id).expect("an id")
    }

    fn lane() -> (Arc<Lane>, Arc<Alerts>) {
        let config = AlertsConfig::default();
        let alerts = Arc::new(Alerts::new(config.life.clone(), 7));
        (Arc::new(Lane::new(&config, Arc::clone(&alerts)).expect("the defaults")), alerts)
    }

    /// Readings a second apart, of a weakest cell at so many V beside a strongest at 3.71 V.
    fn batch(vehicle: &str, second: i64, weakest_v: &[f32]) -> ReadingBatch {
        let times_us = (BEGIN_S + second..).map(|second| second * 1_000_000).take(weakest_v.len()).collect();
        let column = |signal, values: Vec<f32>| Column { signal, values: values.into() };
        let weakest = column(signals::CELL_VOLTAGE_MIN, weakest_v.to_vec());
        let strongest = column(signals::CELL_VOLTAGE_MAX, vec![3.71; weakest_v.len()]);
        let readings = Readings { times_us, columns: vec![weakest, strongest] };
        ReadingBatch { vehicle: id(vehicle), sequence: 1, readings }
    }

    async fn send(lane: &Lane, batch: ReadingBatch) {
        let source = Source { gateway: id("depot"), boot: id("1") };
        lane.apply(&[Arc::new(AppliedBatch { source, batch, received_us: NOW_US })]).await;
    }

    fn said(alerts: &Alerts, vehicle: &str) -> Severity {
        alerts.opinion(&id(vehicle), Topic::Thermal, Origin::Rule)
    }

    #[tokio::test]
    async fn what_was_sent_before_the_past_was_known_is_judged_by_it() {
        let (lane, alerts) = lane();
        let remembering = Remembering::new(Arc::clone(&lane));
        send(&lane, batch("bus-1", 300, &[3.37; 10])).await;
        assert_eq!(said(&alerts, "bus-1"), Severity::None, "nobody knows what it was before");
        remembering.page(&batch("bus-1", 0, &[3.70; 200]));
        remembering.page(&batch("bus-1", 200, &[3.70; 100]));
        assert_eq!(said(&alerts, "bus-1"), Severity::None, "half of it would be of too long ago");
        // What was judged is stored as well.
        remembering.page(&batch("bus-1", 300, &[3.37; 10]));
        remembering.end(&id("bus-1"), NOW_US);
        assert_eq!((said(&alerts, "bus-1"), alerts.counts().open), (Severity::High, 1));
    }

    #[tokio::test]
    async fn the_past_alone_raises_nothing_and_what_comes_is_judged_by_it() {
        let (lane, alerts) = lane();
        let remembering = Remembering::new(Arc::clone(&lane));
        remembering.page(&batch("bus-1", 0, &[vec![3.70; 290], vec![3.0; 10]].concat()));
        remembering.end(&id("bus-1"), NOW_US);
        assert_eq!(said(&alerts, "bus-1"), Severity::None);
        remembering.page(&batch("bus-2", 0, &[3.70; 300]));
        remembering.end(&id("bus-2"), NOW_US);
        send(&lane, batch("bus-2", 300, &[3.37; 10])).await;
        assert_eq!(said(&alerts, "bus-2"), Severity::High);
    }

    #[tokio::test]
    async fn a_pack_that_was_not_seen_to_its_end_is_not_remembered() {
        let (lane, alerts) = lane();
        let remembering = Remembering::new(Arc::clone(&lane));
        remembering.page(&batch("bus-1", 0, &[3.70; 300]));
        remembering.page(&batch("bus-2", 0, &[3.70; 300]));
        remembering.end(&id("bus-1"), NOW_US);
        remembering.end(&id("bus-2"), NOW_US);
        for bus in ["bus-1", "bus-2"] {
            send(&lane, batch(bus, 300, &[3.37; 10])).await;
            assert_eq!(said(&alerts, bus), Severity::None, "{bus}");
        }
    }
}
