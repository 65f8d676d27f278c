//! Alerts as they are kept over a restart: serde's data model, with the stable names that messages use.
//!
//! Who keeps them, and where, is not known here.

use ev_domain::{RiskClass, Severity, VehicleId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Acknowledgement, Alert, Cause, Finding, Origin, Quantity, State, Topic, severity};

/// An [`Alert`], field by field.
#[derive(Serialize, Deserialize)]
pub(crate) struct SavedAlert {
    id: String,
    revision: u32,
    vehicle_id: String,
    topic: String,
    state: String,
    #[serde(with = "severity")]
    severity: Severity,
    #[serde(with = "severity")]
    peak: Severity,
    class: Option<String>,
    origin: String,
    sign: String,
    /// JSON has no NaN.
    value: Option<f32>,
    limit: Option<f32>,
    action_id: String,
    action_text: String,
    event_time_us: i64,
    raised_us: i64,
    changed_us: i64,
    confirmed_us: i64,
    confirmations: u64,
    escalations: u32,
    acknowledgement: Option<SavedAcknowledgement>,
    ended_us: Option<i64>,
}

#[derive(Serialize, Deserialize)]
struct SavedAcknowledgement {
    by: String,
    note: String,
    at_us: i64,
}

/// A field holds what this version does not know.
#[derive(Debug, thiserror::Error)]
#[error("`{field}` is `{found}`, which is not known")]
pub(crate) struct UnknownName {
    field: &'static str,
    found: String,
}

/// The one of these that has this name.
fn named<T: Copy>(
    field: &'static str,
    found: &str,
    all: impl IntoIterator<Item = T>,
    name: impl Fn(T) -> &'static str,
) -> Result<T, UnknownName> {
    let known = all.into_iter().find(|known| name(*known) == found);
    known.ok_or_else(|| unknown(field, found))
}

fn unknown(field: &'static str, found: &str) -> UnknownName {
    UnknownName { field, found: found.chars().take(64).collect() }
}

/// A sign and its unit, by its name.
fn sign(found: &str) -> Result<(&'static str, &'static str), UnknownName> {
    let causes = Cause::ALL.into_iter().map(|cause| (cause.name(), cause.unit()));
    let quantities = Quantity::ALL.into_iter().map(|quantity| (quantity.name(), quantity.unit()));
    let mut all = causes.chain(quantities).chain([("risk_class", "1")]);
    all.find(|(name, _)| *name == found).ok_or_else(|| unknown("sign", found))
}

// === impl SavedAlert ===

impl From<Alert> for SavedAlert {
    fn from(alert: Alert) -> SavedAlert {
        let Alert {
            id,
            revision,
            vehicle,
            topic,
            state,
            severity,
            peak,
            class,
            origin,
            finding: Finding { sign, value, limit, unit: _ },
            action_id,
            action_text,
            event_time_us,
            raised_us,
            changed_us,
            confirmed_us,
            confirmations,
            escalations,
            acknowledgement,
            ended_us,
        } = alert;
        let number = |value: f32| value.is_finite().then_some(value);
        SavedAlert {
            id: id.to_string(),
            revision,
            vehicle_id: vehicle.as_str().to_owned(),
            topic: topic.name().to_owned(),
            state: state.name().to_owned(),
            severity,
            peak,
            class: class.map(|class| class.name().to_owned()),
            origin: origin.name().to_owned(),
            sign: sign.to_owned(),
            value: number(value),
            limit: number(limit),
            action_id,
            action_text,
            event_time_us,
            raised_us,
            changed_us,
            confirmed_us,
            confirmations,
            escalations,
            acknowledgement: acknowledgement.map(|Acknowledgement { by, note, at_us }| SavedAcknowledgement {
                by,
                note,
                at_us,
            }),
            ended_us,
        }
    }
}

impl TryFrom<SavedAlert> for Alert {
    type Error = UnknownName;

    fn try_from(saved: SavedAlert) -> Result<Alert, UnknownName> {
        let (sign, unit) = sign(&saved.sign)?;
        let number = |value: Option<f32>| value.unwrap_or(f32::NAN);
        let class = saved.class.map(|name| RiskClass::by_name(&name).ok_or_else(|| unknown("class", &name)));
        Ok(Alert {
            id: Uuid::try_parse(&saved.id).map_err(|_| unknown("id", &saved.id))?,
            revision: saved.revision,
            vehicle: VehicleId::new(&saved.vehicle_id).map_err(|_| unknown("vehicle_id", &saved.vehicle_id))?,
            topic: named("topic", &saved.topic, Topic::ALL, Topic::name)?,
            state: named("state", &saved.state, [State::Open, State::Ended], State::name)?,
            severity: saved.severity,
            peak: saved.peak,
            class: class.transpose()?,
            origin: named("origin", &saved.origin, Origin::ALL, Origin::name)?,
            finding: Finding { sign, value: number(saved.value), limit: number(saved.limit), unit },
            action_id: saved.action_id,
            action_text: saved.action_text,
            event_time_us: saved.event_time_us,
            raised_us: saved.raised_us,
            changed_us: saved.changed_us,
            confirmed_us: saved.confirmed_us,
            confirmations: saved.confirmations,
            escalations: saved.escalations,
            acknowledgement: saved.acknowledgement.map(|SavedAcknowledgement { by, note, at_us }| Acknowledgement {
                by,
                note,
                at_us,
            }),
            ended_us: saved.ended_us,
        })
    }
}

/// What happened, by its name.
pub(crate) mod happening {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use crate::Happening;

    pub(crate) fn serialize<S: Serializer>(happening: &Happening, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(happening.name())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Happening, D::Error> {
        let name = String::deserialize(deserializer)?;
        super::named("happening", &name, Happening::ALL, Happening::name).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AlertEvent, Happening};

    fn alert() -> Alert {
        Alert {
            id: Uuid::from_u128(7),
            revision: 3,
            vehicle: VehicleId::new("bus-1").expect("an id"),
            topic: Topic::Thermal,
            state: State::Open,
            severity: Severity::High,
            peak: Severity::Critical,
            class: Some(RiskClass::Alarm),
            origin: Origin::Rule,
            finding: Finding { sign: "voltage_drop", value: 12.5, limit: 10.0, unit: "percent" },
            action_id: "check".to_owned(),
            action_text: "Check it".to_owned(),
            event_time_us: 1,
            raised_us: 2,
            changed_us: 3,
            confirmed_us: 4,
            confirmations: 5,
            escalations: 6,
            acknowledgement: Some(Acknowledgement { by: "me".to_owned(), note: "\"on it\"\n".to_owned(), at_us: 8 }),
            ended_us: None,
        }
    }

    #[test]
    fn what_is_kept_is_what_was() {
        for happening in Happening::ALL {
            for class in RiskClass::ALL.into_iter().map(Some).chain([None]) {
                let event = AlertEvent { happening, alert: Alert { class, ..alert() } };
                let text = serde_json::to_string(&event).expect("JSON");
                assert_eq!(serde_json::from_str::<AlertEvent>(&text).expect("an event"), event);
            }
        }
    }

    #[test]
    fn what_is_no_number_stays_none() {
        let finding = Finding { value: f32::NAN, limit: f32::INFINITY, ..alert().finding };
        let text = serde_json::to_string(&Alert { finding, ..alert() }).expect("JSON");
        let kept: Alert = serde_json::from_str(&text).expect("an alert");
        assert!(kept.finding.value.is_nan() && kept.finding.limit.is_nan());
    }

    #[test]
    fn what_is_not_known_is_named() {
        let check = |from: &str, to: &str, expected: &str| {
            let text = serde_json::to_string(&alert()).expect("JSON").replace(from, to);
            let error = serde_json::from_str::<Alert>(&text).expect_err(expected);
            assert!(error.to_string().contains(expected), "{error}");
        };
        check("voltage_drop", "smell", "`sign` is `smell`, which is not known");
        check("\"thermal\"", "\"weather\"", "`topic` is `weather`, which is not known");
        check("bus-1", "", "`vehicle_id` is ``, which is not known");
        check("\"high\"", "\"higher\"", "`higher` is no severity");
        check("\"Alarm\"", "\"Panic\"", "`class` is `Panic`, which is not known");
    }
}
