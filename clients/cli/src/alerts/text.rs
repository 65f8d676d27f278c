//! Alerts in a few words.

use ev_client::proto::ev::thermal::v1::{Alert, AlertTopic};
use prost_types::Timestamp;

use crate::{
    style::harmless,
    telemetry::{cells, time},
};

/// As `--topic` takes it.
pub(super) fn topic(topic: AlertTopic) -> String {
    topic.as_str_name().trim_start_matches("ALERT_TOPIC_").to_lowercase().replace('_', "-")
}

/// What was found, and what it was held against.
pub(super) fn sign(alert: &Alert) -> String {
    let Alert { sign, value, limit, unit, .. } = alert;
    let (value, limit) = (cells::value(*value, unit), cells::value(*limit, unit));
    match (value.as_str(), limit.as_str()) {
        ("", _) => sign.clone(),
        (value, "") => format!("{sign} {value}"),
        (value, limit) => format!("{sign} {value}, limit {limit}"),
    }
}

pub(super) fn action(alert: &Alert) -> &str {
    alert.action.as_ref().map(|action| action.text.as_str()).unwrap_or_default()
}

/// Who knows; empty where nobody does.
pub(super) fn known_by(alert: &Alert) -> String {
    alert.acknowledgement.as_ref().map(|known| harmless(&known.by)).unwrap_or_default()
}

pub(super) fn moment(moment: Option<&Timestamp>) -> String {
    moment.map(|moment| time::text(time::microseconds(moment))).unwrap_or_default()
}

#[cfg(test)]
pub(super) mod tests {
    use ev_client::proto::ev::thermal::v1::{
        AlertAcknowledgement, AlertOrigin, AlertState, RecommendedAction, Severity,
    };

    use super::*;

    /// Seconds after the beginning of 2026.
    fn at(seconds: i64) -> Option<Timestamp> {
        Some(Timestamp { seconds: 1_767_225_600 + seconds, nanos: 0 })
    }

    /// A vehicle that is nearly empty.
    pub(in super::super) fn nearly_empty() -> Alert {
        Alert {
            id: "01994d6e-0000-7000-8000-000000000001".to_owned(),
            vehicle_id: "car-1".to_owned(),
            topic: AlertTopic::StateOfCharge.into(),
            state: AlertState::Open.into(),
            severity: Severity::Medium.into(),
            peak_severity: Severity::Medium.into(),
            origin: AlertOrigin::Fleet.into(),
            sign: "state_of_charge".to_owned(),
            value: 10.0,
            limit: 15.0,
            unit: "percent".to_owned(),
            action: Some(RecommendedAction { text: "Charge the vehicle".to_owned(), ..RecommendedAction::default() }),
            raised_time: at(0),
            changed_time: at(1),
            ..Alert::default()
        }
    }

    /// It was charged, after somebody knew.
    pub(in super::super) fn ended() -> Alert {
        Alert {
            state: AlertState::Ended.into(),
            acknowledgement: Some(AlertAcknowledgement {
                by: "depot\x1b[2J".to_owned(),
                note: String::new(),
                at: at(2),
            }),
            ended_time: at(3),
            ..nearly_empty()
        }
    }

    #[test]
    fn a_sign_has_what_is_known() {
        let check = |value: f32, limit: f32, expected: &str| {
            assert_eq!(sign(&Alert { value, limit, ..nearly_empty() }), expected);
        };
        check(10.0, 15.0, "state_of_charge 10 %, limit 15 %");
        check(10.0, f32::NAN, "state_of_charge 10 %");
        check(f32::NAN, f32::NAN, "state_of_charge");
    }

    #[test]
    fn topics_are_as_they_are_asked_for() {
        assert_eq!(topic(AlertTopic::Thermal), "thermal");
        assert_eq!(topic(AlertTopic::StateOfCharge), "state-of-charge");
    }
}
