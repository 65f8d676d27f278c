//! An event as JSON.

use serde::Serialize;

use crate::{AlertEvent, Happening};

#[derive(Serialize)]
struct Payload<'a> {
    /// The same each time the event is sent.
    id: String,
    happening: &'static str,
    alert: AlertJson<'a>,
}

#[derive(Serialize)]
struct AlertJson<'a> {
    id: String,
    revision: u32,
    vehicle_id: &'a str,
    topic: &'static str,
    state: &'static str,
    severity: &'static str,
    peak_severity: &'static str,
    risk_class: Option<&'static str>,
    origin: &'static str,
    sign: &'static str,
    value: Option<f32>,
    limit: Option<f32>,
    unit: &'static str,
    action_id: &'a str,
    action: &'a str,
    event_time_us: i64,
    raised_us: i64,
    changed_us: i64,
    confirmed_us: i64,
    confirmations: u64,
    escalations: u32,
    acknowledged_by: Option<&'a str>,
    acknowledged_us: Option<i64>,
    ended_us: Option<i64>,
}

/// What names this sending of this event.
pub(super) fn event_id(event: &AlertEvent) -> String {
    format!("{}-{}", event.alert.id, event.alert.revision)
}

pub(super) fn to_json(event: &AlertEvent) -> serde_json::Result<Vec<u8>> {
    let alert = &event.alert;
    let number = |value: f32| value.is_finite().then_some(value);
    serde_json::to_vec(&Payload {
        id: event_id(event),
        happening: Happening::name(event.happening),
        alert: AlertJson {
            id: alert.id.to_string(),
            revision: alert.revision,
            vehicle_id: alert.vehicle.as_str(),
            topic: alert.topic.name(),
            state: alert.state.name(),
            severity: alert.severity.name(),
            peak_severity: alert.peak.name(),
            risk_class: alert.class.map(ev_domain::RiskClass::name),
            origin: alert.origin.name(),
            sign: alert.finding.sign,
            value: number(alert.finding.value),
            limit: number(alert.finding.limit),
            unit: alert.finding.unit,
            action_id: &alert.action_id,
            action: &alert.action_text,
            event_time_us: alert.event_time_us,
            raised_us: alert.raised_us,
            changed_us: alert.changed_us,
            confirmed_us: alert.confirmed_us,
            confirmations: alert.confirmations,
            escalations: alert.escalations,
            acknowledged_by: alert.acknowledgement.as_ref().map(|acknowledgement| &*acknowledgement.by),
            acknowledged_us: alert.acknowledgement.as_ref().map(|acknowledgement| acknowledgement.at_us),
            ended_us: alert.ended_us,
        },
    })
}
