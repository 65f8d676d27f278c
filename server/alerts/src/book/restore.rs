//! A book goes on where another one ended.

use std::cmp::Reverse;

use ev_domain::{Severity, VehicleId};

use super::{Book, micros, track::Track};
use crate::{Alert, Origin, State, Topic};

// === impl Book ===

impl Book {
    /// Takes in the alerts of a book that was before this one. Nothing happens by it: they have their ids, severities and
    /// acknowledgements, and go on from there. What origins said besides, and severities that had not lasted long enough
    /// yet, were not kept: they are said again, or not.
    ///
    /// Where a bound is smaller than it was, the least severe open alerts end, and the oldest ended ones are forgotten.
    /// Alerts that are in the book already stay as they are.
    pub fn restore(&mut self, alerts: impl IntoIterator<Item = Alert>, now_us: i64) {
        let new = alerts.into_iter().filter(|alert| !self.alerts.contains_key(&alert.id));
        let (mut open, mut ended): (Vec<Alert>, Vec<Alert>) = new.partition(|alert| alert.state == State::Open);
        open.sort_by_key(|alert| Reverse((alert.severity, alert.id)));
        for alert in open {
            let is_taken = self.track(&alert.vehicle, alert.topic).is_some_and(|track| track.open.is_some());
            if is_taken || self.open.len() >= self.life.open_max {
                ended.push(Alert { state: State::Ended, ended_us: Some(now_us), ..alert });
            } else {
                self.restore_open(alert, now_us);
            }
        }
        ended.sort_by_key(|alert| (alert.ended_us, alert.id));
        for alert in ended {
            self.restore_ended(alert, now_us);
        }
        self.forget_ended();
    }

    /// What an origin says of a vehicle, as far as it is remembered.
    #[must_use]
    pub fn opinion(&self, vehicle: &VehicleId, topic: Topic, origin: Origin) -> Severity {
        let track = self.tracks.get(vehicle).and_then(|tracks| tracks[topic as usize].as_deref());
        track.map_or(Severity::None, |track| track.opinion(origin))
    }

    fn restore_open(&mut self, alert: Alert, now_us: i64) {
        let (vehicle, topic) = (alert.vehicle.clone(), alert.topic);
        let mut track = self.take_track(&vehicle, topic);
        track.restore(&alert, now_us, micros(self.life.opinion_valid_for), micros(self.life.escalate_after));
        self.open.insert((alert.severity, alert.id));
        self.alerts.insert(alert.id, alert);
        self.put_back(track, &vehicle, topic, now_us);
    }

    fn restore_ended(&mut self, alert: Alert, now_us: i64) {
        let (vehicle, topic) = (alert.vehicle.clone(), alert.topic);
        let ended_us = alert.ended_us.unwrap_or(now_us);
        let mut track = self.take_track(&vehicle, topic);
        if track.open.is_none() && track.ended.is_none_or(|(_, before_us)| before_us <= ended_us) {
            track.ended = Some((alert.id, ended_us));
        }
        self.ended.push_back((alert.id, ended_us));
        self.alerts.insert(alert.id, Alert { ended_us: Some(ended_us), ..alert });
        self.put_back(track, &vehicle, topic, now_us);
    }

    /// To be put back.
    fn take_track(&mut self, vehicle: &VehicleId, topic: Topic) -> Box<Track> {
        let tracks = self.tracks.entry(vehicle.clone()).or_default();
        tracks[topic as usize].take().unwrap_or_else(|| {
            self.track_count += 1;
            Box::default()
        })
    }
}
