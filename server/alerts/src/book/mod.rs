//! The book: which alerts there are, and how each begins, changes and ends.
//!
//! Pure: time comes in as an argument, in microseconds since 1970-01-01 UTC by the server's clock, and the randomness of
//! ids comes from a seed.

mod list;
mod restore;
mod track;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use ev_domain::{Action, RiskClass, Severity, VehicleId};
use uuid::Uuid;

pub use list::{Filter, Listing, Page};
use track::{Lowering, Opinion, Track};

use crate::{Acknowledgement, Alert, AlertError, AlertEvent, Happening, LifeConfig, Report, State, Topic};

/// Longest name of who acknowledges, in bytes.
pub const BY_BYTES_MAX: usize = 128;
/// Longest note of an acknowledgement, in bytes.
pub const NOTE_BYTES_MAX: usize = 1000;

/// Open alerts, those that ended recently, and what may become one.
#[derive(Debug)]
pub struct Book {
    life: LifeConfig,
    tracks: HashMap<VehicleId, [Option<Box<Track>>; Topic::ALL.len()]>,
    track_count: usize,
    alerts: BTreeMap<Uuid, Alert>,
    /// Open ones, the least severe first.
    open: BTreeSet<(Severity, Uuid)>,
    /// In the order they ended, with when; one that was reopened is still in it.
    ended: VecDeque<(Uuid, i64)>,
    /// When the passing of time alone changes something.
    due: BTreeSet<(i64, VehicleId, Topic)>,
    random: fastrand::Rng,
    counts: Counts,
}

/// What happened so far, and what there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Alerts that are open.
    pub open: usize,
    /// Vehicles and topics with a severity, or an end, that is remembered.
    pub tracks: usize,
    /// Alerts that were raised.
    pub raised: u64,
    /// Alerts that ended to make room for more severe ones.
    pub displaced: u64,
    /// Reports that were dropped because a bound was met: less severe than all that is open, or one too many pending.
    pub refused: u64,
}

// === impl Book ===

impl Book {
    /// An empty one. Of two books with the same seed, the same reports make the same ids.
    #[must_use]
    pub fn new(life: LifeConfig, seed: u64) -> Book {
        Book {
            life,
            tracks: HashMap::new(),
            track_count: 0,
            alerts: BTreeMap::new(),
            open: BTreeSet::new(),
            ended: VecDeque::new(),
            due: BTreeSet::new(),
            random: fastrand::Rng::with_seed(seed),
            counts: Counts::default(),
        }
    }

    /// Takes in what an origin says. What comes back has happened, in this order.
    pub fn report(&mut self, report: &Report<'_>, now_us: i64) -> Vec<AlertEvent> {
        let known = self.track(report.vehicle, report.topic).is_some();
        if !known {
            // Nearly every report: nothing is wrong, and nothing was.
            if report.severity == Severity::None {
                return Vec::new();
            }
            let waits = self.life.raise_after.of(report.severity) > std::time::Duration::ZERO;
            if waits && self.track_count.saturating_sub(self.open.len()) >= self.life.pending_max {
                self.counts.refused += 1;
                return Vec::new();
            }
            self.track_count += 1;
            let tracks = self.tracks.entry(report.vehicle.clone()).or_default();
            tracks[report.topic as usize] = Some(Box::default());
        }
        let valid_for = micros(self.life.opinion_valid_for);
        if let Some(track) = self.track(report.vehicle, report.topic) {
            track.hear(report, now_us, valid_for);
        }
        self.settle(report.vehicle, report.topic, now_us)
    }

    /// Lets time pass: opinions expire, severities last long enough, nobody acknowledges. To be called about once a second.
    pub fn tick(&mut self, now_us: i64) -> Vec<AlertEvent> {
        let mut events = Vec::new();
        while let Some((due_us, ..)) = self.due.first()
            && *due_us <= now_us
            && let Some((_, vehicle, topic)) = self.due.pop_first()
        {
            if let Some(track) = self.track(&vehicle, topic) {
                track.due_us = None;
            }
            events.append(&mut self.settle(&vehicle, topic, now_us));
        }
        events
    }

    /// Notes that somebody knows of an alert. The first to say so stays; later ones change nothing.
    ///
    /// # Errors
    ///
    /// When there is no such alert, or a text is too long.
    pub fn acknowledge(
        &mut self,
        id: Uuid,
        by: &str,
        note: &str,
        now_us: i64,
    ) -> Result<(Alert, Vec<AlertEvent>), AlertError> {
        for (field, text, max_bytes) in [("by", by, BY_BYTES_MAX), ("note", note, NOTE_BYTES_MAX)] {
            if text.len() > max_bytes {
                return Err(AlertError::TooLong { field, bytes: text.len(), max_bytes });
            }
        }
        let alert = self.alerts.get_mut(&id).ok_or(AlertError::NotFound { id })?;
        if alert.acknowledgement.is_some() {
            return Ok((alert.clone(), Vec::new()));
        }
        alert.acknowledgement = Some(Acknowledgement { by: by.to_owned(), note: note.to_owned(), at_us: now_us });
        let mut events = vec![alert.happens(Happening::Acknowledged)];
        let (vehicle, topic) = (alert.vehicle.clone(), alert.topic);
        events.append(&mut self.settle(&vehicle, topic, now_us));
        let alert = self.alerts.get(&id).ok_or(AlertError::NotFound { id })?;
        Ok((alert.clone(), events))
    }

    /// The alert of this id.
    #[must_use]
    pub fn get(&self, id: Uuid) -> Option<&Alert> {
        self.alerts.get(&id)
    }

    /// A page of what matches, newest first.
    ///
    /// # Errors
    ///
    /// When the page cannot be.
    pub fn list(&self, filter: &Filter, page: &Page) -> Result<Listing, AlertError> {
        list::list(&self.alerts, filter, page)
    }

    /// How much there is.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts { open: self.open.len(), tracks: self.track_count, ..self.counts }
    }

    fn track(&mut self, vehicle: &VehicleId, topic: Topic) -> Option<&mut Track> {
        self.tracks.get_mut(vehicle)?[topic as usize].as_deref_mut()
    }

    /// Brings an alert to where its origins' opinions and the time say it should be.
    fn settle(&mut self, vehicle: &VehicleId, topic: Topic, now_us: i64) -> Vec<AlertEvent> {
        let mut events = Vec::new();
        let Some(mut track) = self.tracks.get_mut(vehicle).and_then(|tracks| tracks[topic as usize].take()) else {
            return events;
        };
        let current = track.open.and_then(|id| self.alerts.get(&id)).map_or(Severity::None, |alert| alert.severity);
        let opinion = track.effective(now_us).cloned();
        let effective = opinion.as_ref().map_or(Severity::None, |opinion| opinion.severity);
        track.watch(effective, current, now_us);

        let raised = track.lasting(&self.life.raise_after, now_us);
        if raised > current
            && let Some(opinion) = &opinion
        {
            events.extend(self.raise(&mut track, vehicle, topic, raised, opinion, now_us));
        } else if let Some(lowered) = track.lowered(micros(self.life.lower_after), now_us) {
            events.extend(self.lower(&mut track, lowered, opinion.as_ref(), now_us));
        }
        if let Some(opinion) = opinion.filter(|opinion| opinion.heard_us == now_us) {
            self.confirm(&track, &opinion, now_us);
        }
        events.extend(self.escalate(&mut track, now_us));
        self.put_back(track, vehicle, topic, now_us);
        events
    }

    fn raise(
        &mut self,
        track: &mut Track,
        vehicle: &VehicleId,
        topic: Topic,
        severity: Severity,
        opinion: &Opinion,
        now_us: i64,
    ) -> Vec<AlertEvent> {
        track.unanswered_since_us = now_us;
        if let Some(id) = track.open {
            return self.change(id, severity, Some(opinion), Happening::Rose, now_us);
        }
        let mut events = Vec::new();
        if self.open.len() >= self.life.open_max {
            match self.open.first().copied() {
                Some((least, id)) if least < severity => {
                    self.counts.displaced += 1;
                    events.extend(self.displace(id, now_us));
                }
                _ => {
                    self.counts.refused += 1;
                    return events;
                }
            }
        }
        let reopen_within = micros(self.life.reopen_within);
        let returning =
            track.ended.filter(|(_, ended_us)| now_us.saturating_sub(*ended_us) <= reopen_within).map(|(id, _)| id);
        track.ended = None;
        if let Some(alert) = returning.and_then(|id| self.alerts.get_mut(&id)) {
            let id = alert.id;
            (alert.state, alert.ended_us, alert.acknowledgement) = (State::Open, None, None);
            track.open = Some(id);
            self.open.insert((alert.severity, id));
            events.append(&mut self.change(id, severity, Some(opinion), Happening::Reopened, now_us));
            return events;
        }
        let id = self.new_id(now_us);
        let mut alert = opinion.alert(id, vehicle, topic, severity, now_us);
        self.counts.raised += 1;
        self.open.insert((severity, id));
        track.open = Some(id);
        events.push(alert.happens(Happening::Raised));
        self.alerts.insert(id, alert);
        events
    }

    fn lower(
        &mut self,
        track: &mut Track,
        severity: Severity,
        opinion: Option<&Opinion>,
        now_us: i64,
    ) -> Vec<AlertEvent> {
        let Some(alert) = track.open.and_then(|id| self.alerts.get(&id)) else { return Vec::new() };
        let id = alert.id;
        if severity > Severity::None {
            // What it falls to next is measured from here.
            let effective = opinion.map_or(Severity::None, |opinion| opinion.severity);
            track.lowering = (effective < severity).then_some(Lowering { since_us: now_us, to: effective });
            let opinion = opinion.filter(|opinion| opinion.severity == severity);
            return self.change(id, severity, opinion, Happening::Fell, now_us);
        }
        if alert.peak >= self.life.end_needs_acknowledgement && alert.acknowledgement.is_none() {
            return Vec::new();
        }
        track.open = None;
        track.ended = Some((id, now_us));
        self.end(id, Happening::Ended, now_us)
    }

    /// Changes an open alert's severity, and why it has it.
    fn change(
        &mut self,
        id: Uuid,
        severity: Severity,
        opinion: Option<&Opinion>,
        happening: Happening,
        now_us: i64,
    ) -> Vec<AlertEvent> {
        let Some(alert) = self.alerts.get_mut(&id) else { return Vec::new() };
        self.open.remove(&(alert.severity, id));
        self.open.insert((severity, id));
        if severity > alert.severity {
            // Who acknowledged the lesser evil may not know of the greater.
            alert.acknowledgement = None;
        }
        (alert.severity, alert.changed_us) = (severity, now_us);
        alert.peak = alert.peak.max(severity);
        match opinion {
            Some(opinion) => opinion.write_to(alert),
            // Nobody says this severity any more: the class and action that stand for it, and the finding there was.
            None => {
                let class =
                    alert.class.and(RiskClass::ALL.into_iter().find(|class| class.action().severity == severity));
                if let Some(class) = class {
                    let Action { id, text, .. } = class.action();
                    alert.class = Some(class);
                    (alert.action_id, alert.action_text) = (id.to_owned(), text.to_owned());
                }
            }
        }
        vec![alert.happens(happening)]
    }

    fn confirm(&mut self, track: &Track, opinion: &Opinion, now_us: i64) {
        if let Some(alert) = track.open.and_then(|id| self.alerts.get_mut(&id))
            && opinion.severity >= alert.severity
        {
            alert.confirmed_us = now_us;
            alert.confirmations += 1;
        }
    }

    fn escalate(&mut self, track: &mut Track, now_us: i64) -> Option<AlertEvent> {
        let due_us = self.escalation_due(track)?;
        let alert = self.alerts.get_mut(&track.open?)?;
        if now_us < due_us {
            return None;
        }
        alert.escalations += 1;
        track.unanswered_since_us = now_us;
        Some(alert.happens(Happening::Escalated))
    }

    fn escalation_due(&self, track: &Track) -> Option<i64> {
        let alert = self.alerts.get(&track.open?)?;
        let waits = alert.severity >= self.life.escalate_from
            && alert.acknowledgement.is_none()
            && alert.escalations < self.life.escalations_max;
        waits.then(|| track.unanswered_since_us.saturating_add(micros(self.life.escalate_after)))
    }

    fn displace(&mut self, id: Uuid, now_us: i64) -> Vec<AlertEvent> {
        if let Some(alert) = self.alerts.get(&id) {
            let (vehicle, topic) = (alert.vehicle.clone(), alert.topic);
            self.forget(&vehicle, topic);
        }
        self.end(id, Happening::Displaced, now_us)
    }

    fn end(&mut self, id: Uuid, happening: Happening, now_us: i64) -> Vec<AlertEvent> {
        let Some(alert) = self.alerts.get_mut(&id) else { return Vec::new() };
        self.open.remove(&(alert.severity, id));
        (alert.state, alert.ended_us) = (State::Ended, Some(now_us));
        let event = alert.happens(happening);
        self.ended.push_back((id, now_us));
        self.forget_ended();
        vec![event]
    }

    /// Those beyond the bound, the oldest first.
    fn forget_ended(&mut self) {
        // One that was reopened and ended again is in the queue more than once.
        while self.ended.len() > self.life.ended_max {
            let Some((id, ended_us)) = self.ended.pop_front() else { break };
            if self.alerts.get(&id).is_some_and(|alert| alert.ended_us == Some(ended_us)) {
                self.alerts.remove(&id);
            }
        }
    }

    fn put_back(&mut self, mut track: Box<Track>, vehicle: &VehicleId, topic: Topic, now_us: i64) {
        let reopen_within = micros(self.life.reopen_within);
        if track.is_over(now_us, reopen_within) {
            if let Some(due_us) = track.due_us {
                self.due.remove(&(due_us, vehicle.clone(), topic));
            }
            self.forget_slot(vehicle);
            return;
        }
        let next = track.next_due(&self.life.raise_after, micros(self.life.lower_after), reopen_within, now_us);
        let next = [next, self.escalation_due(&track)].into_iter().flatten().min();
        // One that comes too early only looks again.
        if let Some(next_us) = next
            && track.due_us.is_none_or(|due_us| next_us < due_us)
        {
            let entry = (next_us, vehicle.clone(), topic);
            if let Some(due_us) = track.due_us.replace(next_us) {
                self.due.remove(&(due_us, vehicle.clone(), topic));
            }
            self.due.insert(entry);
        }
        if let Some(tracks) = self.tracks.get_mut(vehicle) {
            tracks[topic as usize] = Some(track);
        }
    }

    fn forget(&mut self, vehicle: &VehicleId, topic: Topic) {
        if let Some(track) = self.tracks.get_mut(vehicle).and_then(|tracks| tracks[topic as usize].take()) {
            if let Some(due_us) = track.due_us {
                self.due.remove(&(due_us, vehicle.clone(), topic));
            }
            self.forget_slot(vehicle);
        }
    }

    /// Counts a track that was taken out, and frees the vehicle's place with the last.
    fn forget_slot(&mut self, vehicle: &VehicleId) {
        self.track_count = self.track_count.saturating_sub(1);
        if self.tracks.get(vehicle).is_some_and(|tracks| tracks.iter().all(Option::is_none)) {
            self.tracks.remove(vehicle);
        }
    }

    fn new_id(&mut self, now_us: i64) -> Uuid {
        let mut random = [0; 10];
        self.random.fill(&mut random);
        let millis = u64::try_from(now_us / 1000).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }
}

// === impl Alert ===

impl Alert {
    fn happens(&mut self, happening: Happening) -> AlertEvent {
        self.revision = self.revision.saturating_add(1);
        AlertEvent { happening, alert: self.clone() }
    }
}

fn micros(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
