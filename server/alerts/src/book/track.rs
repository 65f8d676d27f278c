//! What is thought of one vehicle and topic, and for how long it has been so.

use ev_domain::{RiskClass, Severity, VehicleId};
use uuid::Uuid;

use crate::{Alert, Finding, Origin, Report, State, Topic, config::RaiseAfter};

use super::micros;

/// One vehicle's state about one topic.
#[derive(Debug, Default)]
pub(super) struct Track {
    opinions: [Option<Opinion>; Origin::COUNT],
    /// Since when the severity has been at least this one, without a break.
    since_us: [Option<i64>; Severity::ALL.len()],
    /// It is below the alert's.
    pub(super) lowering: Option<Lowering>,
    pub(super) open: Option<Uuid>,
    pub(super) ended: Option<(Uuid, i64)>,
    pub(super) unanswered_since_us: i64,
    /// Its entry in the book's list of what is due.
    pub(super) due_us: Option<i64>,
}

/// A severity that is below the alert's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lowering {
    /// Since when.
    pub(super) since_us: i64,
    /// The highest it was since.
    pub(super) to: Severity,
}

/// What an origin said last.
#[derive(Debug, Clone)]
pub(super) struct Opinion {
    pub(super) severity: Severity,
    origin: Origin,
    class: Option<RiskClass>,
    finding: Finding,
    action_id: String,
    action_text: String,
    event_time_us: i64,
    pub(super) heard_us: i64,
    /// Of a model's opinion.
    expires_us: i64,
}

// === impl Track ===

impl Track {
    pub(super) fn hear(&mut self, report: &Report<'_>, now_us: i64, valid_for_us: i64) {
        let place = &mut self.opinions[report.origin.index()];
        if report.severity == Severity::None {
            *place = None;
            return;
        }
        let expires_us = match report.origin {
            Origin::Model => now_us.saturating_add(valid_for_us),
            Origin::Rule | Origin::Fleet => i64::MAX,
        };
        let opinion = place.get_or_insert_with(|| Opinion::empty(report));
        opinion.severity = report.severity;
        opinion.class = report.class;
        opinion.finding = report.finding;
        for (text, new) in [(&mut opinion.action_id, report.action_id), (&mut opinion.action_text, report.action_text)]
        {
            if text != new {
                new.clone_into(text);
            }
        }
        (opinion.event_time_us, opinion.heard_us, opinion.expires_us) = (report.event_time_us, now_us, expires_us);
    }

    /// The most severe opinion that still counts; of equal ones the first origin's, the rule before the model.
    pub(super) fn effective(&mut self, now_us: i64) -> Option<&Opinion> {
        for opinion in &mut self.opinions {
            if opinion.as_ref().is_some_and(|opinion| opinion.expires_us <= now_us) {
                *opinion = None;
            }
        }
        self.opinions.iter().rev().flatten().max_by_key(|opinion| opinion.severity)
    }

    /// What an origin says.
    pub(super) fn opinion(&self, origin: Origin) -> Severity {
        self.opinions[origin.index()].as_ref().map_or(Severity::None, |opinion| opinion.severity)
    }

    /// Goes on with an alert that is open: its origin stands by it, and it has lasted since it changed.
    pub(super) fn restore(&mut self, alert: &Alert, now_us: i64, valid_for_us: i64, escalate_after_us: i64) {
        let expires_us = match alert.origin {
            Origin::Model => now_us.saturating_add(valid_for_us),
            Origin::Rule | Origin::Fleet => i64::MAX,
        };
        self.opinions[alert.origin.index()] = Some(Opinion::of(alert, expires_us));
        for (severity, since) in Severity::ALL.into_iter().zip(&mut self.since_us) {
            *since = (alert.severity >= severity).then_some(alert.changed_us);
        }
        // Each escalation was about so long after the one before.
        let escalated_us = escalate_after_us.saturating_mul(i64::from(alert.escalations));
        self.unanswered_since_us = alert.changed_us.saturating_add(escalated_us).min(now_us);
        self.open = Some(alert.id);
    }

    /// Takes note of the severity as it is now.
    pub(super) fn watch(&mut self, effective: Severity, current: Severity, now_us: i64) {
        for (severity, since) in Severity::ALL.into_iter().zip(&mut self.since_us) {
            *since = (effective >= severity).then(|| since.unwrap_or(now_us));
        }
        self.lowering = (effective < current).then(|| match self.lowering {
            Some(Lowering { since_us, to }) => Lowering { since_us, to: to.max(effective) },
            None => Lowering { since_us: now_us, to: effective },
        });
    }

    /// The highest severity that has lasted long enough.
    pub(super) fn lasting(&self, raise_after: &RaiseAfter, now_us: i64) -> Severity {
        let mut lasting = Severity::None;
        for (severity, since) in Severity::ALL.into_iter().zip(self.since_us) {
            if since.is_some_and(|since| now_us.saturating_sub(since) >= micros(raise_after.of(severity))) {
                lasting = lasting.max(severity);
            }
        }
        lasting
    }

    /// The severity to fall to, once the fall has lasted long enough.
    pub(super) fn lowered(&self, lower_after_us: i64, now_us: i64) -> Option<Severity> {
        self.lowering
            .filter(|lowering| now_us.saturating_sub(lowering.since_us) >= lower_after_us)
            .map(|lowering| lowering.to)
    }

    /// Whether there is nothing to remember.
    pub(super) fn is_over(&self, now_us: i64, reopen_within_us: i64) -> bool {
        let returning = self.ended.is_some_and(|(_, ended_us)| now_us.saturating_sub(ended_us) < reopen_within_us);
        self.open.is_none() && !returning && self.opinions.iter().all(Option::is_none)
    }

    /// When time alone changes something next; strictly later than now.
    pub(super) fn next_due(
        &self,
        raise_after: &RaiseAfter,
        lower_after_us: i64,
        reopen_within_us: i64,
        now_us: i64,
    ) -> Option<i64> {
        let raises = Severity::ALL.into_iter().zip(self.since_us);
        let raises =
            raises.filter_map(|(severity, since)| Some(since?.saturating_add(micros(raise_after.of(severity)))));
        let lowers = self.lowering.map(|lowering| lowering.since_us.saturating_add(lower_after_us));
        let expires = self.opinions.iter().flatten().map(|opinion| opinion.expires_us).filter(|at| *at < i64::MAX);
        let forgets = self.ended.map(|(_, ended_us)| ended_us.saturating_add(reopen_within_us));
        raises.chain(lowers).chain(expires).chain(forgets).filter(|at| *at > now_us).min()
    }
}

// === impl Opinion ===

impl Opinion {
    fn empty(report: &Report<'_>) -> Opinion {
        Opinion {
            severity: report.severity,
            origin: report.origin,
            class: report.class,
            finding: report.finding,
            action_id: String::new(),
            action_text: String::new(),
            event_time_us: report.event_time_us,
            heard_us: 0,
            expires_us: 0,
        }
    }

    /// What an origin said that raised or kept an alert.
    fn of(alert: &Alert, expires_us: i64) -> Opinion {
        Opinion {
            severity: alert.severity,
            origin: alert.origin,
            class: alert.class,
            finding: alert.finding,
            action_id: alert.action_id.clone(),
            action_text: alert.action_text.clone(),
            event_time_us: alert.event_time_us,
            heard_us: alert.confirmed_us,
            expires_us,
        }
    }

    /// A new alert for it.
    pub(super) fn alert(&self, id: Uuid, vehicle: &VehicleId, topic: Topic, severity: Severity, now_us: i64) -> Alert {
        Alert {
            id,
            revision: 0,
            vehicle: vehicle.clone(),
            topic,
            state: State::Open,
            severity,
            peak: severity,
            class: self.class,
            origin: self.origin,
            finding: self.finding,
            action_id: self.action_id.clone(),
            action_text: self.action_text.clone(),
            event_time_us: self.event_time_us,
            raised_us: now_us,
            changed_us: now_us,
            confirmed_us: now_us,
            confirmations: 0,
            escalations: 0,
            acknowledgement: None,
            ended_us: None,
        }
    }

    /// Makes it the reason of an alert.
    pub(super) fn write_to(&self, alert: &mut Alert) {
        (alert.class, alert.origin, alert.finding) = (self.class, self.origin, self.finding);
        (alert.action_id, alert.action_text) = (self.action_id.clone(), self.action_text.clone());
        alert.event_time_us = self.event_time_us;
    }
}
