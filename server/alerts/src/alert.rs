//! What an alert is, and what is said of it.

use ev_domain::{Action, RiskClass, Severity, VehicleId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Assessment, Cause, FleetRule, Quantity,
    saved::{self, SavedAlert},
};

/// What an alert is about. A vehicle has at most one alert of a topic at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// Heading for, or in, thermal runaway.
    Thermal,
    /// Nearly empty.
    StateOfCharge,
    /// Likely to fail.
    FailureProbability,
    /// Near the end of its life.
    RemainingLife,
    /// Little of its capacity left.
    StateOfHealth,
}

/// Who says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Origin {
    /// The thermal rule.
    Rule,
    /// A declared limit.
    Fleet,
    /// A model; its opinion is forgotten unless it is given again.
    Model,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Finding {
    /// Stable name of the sign: a [`Cause`]'s, a [`Quantity`]'s, or `risk_class` for a model.
    pub sign: &'static str,
    /// Its value; NaN where there is none.
    pub value: f32,
    /// What it was held against; NaN where there is nothing.
    pub limit: f32,
    /// Unit of both.
    pub unit: &'static str,
}

/// What an origin says of a vehicle now. It stands until the same origin says something else.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Report<'a> {
    /// The vehicle.
    pub vehicle: &'a VehicleId,
    /// About what.
    pub topic: Topic,
    /// Who says so.
    pub origin: Origin,
    /// How urgent it is; [`Severity::None`] takes back what was said before.
    pub severity: Severity,
    /// Thermal-risk class, of the topic Thermal.
    pub class: Option<RiskClass>,
    /// Why.
    pub finding: Finding,
    /// Stable id of what to do.
    pub action_id: &'a str,
    /// What to do, in words.
    pub action_text: &'a str,
    /// Of the reading behind it, in microseconds since 1970-01-01 UTC by the vehicle's clock.
    pub event_time_us: i64,
}

/// Something that somebody must know of a vehicle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "SavedAlert", try_from = "SavedAlert")]
pub struct Alert {
    /// UUID version 7: ids rise with the time they were raised at.
    pub id: Uuid,
    /// Counts the events of this alert, from 1; of two messages about it the larger one is newer.
    pub revision: u32,
    /// The vehicle.
    pub vehicle: VehicleId,
    /// About what.
    pub topic: Topic,
    /// Open or ended.
    pub state: State,
    /// How urgent it is; of an ended alert, how urgent it was.
    pub severity: Severity,
    /// The highest severity it had.
    pub peak: Severity,
    /// Thermal-risk class behind the severity.
    pub class: Option<RiskClass>,
    /// Who said so.
    pub origin: Origin,
    /// Why.
    pub finding: Finding,
    /// Stable id of what to do.
    pub action_id: String,
    /// What to do, in words.
    pub action_text: String,
    /// Time of the reading that raised it to its severity, by the vehicle's clock.
    pub event_time_us: i64,
    /// When it was raised, by the server's clock, as all that follow.
    pub raised_us: i64,
    /// When its severity last changed.
    pub changed_us: i64,
    /// When its severity was last confirmed.
    pub confirmed_us: i64,
    /// How often.
    pub confirmations: u64,
    /// How often it was sent again because nobody acknowledged it.
    pub escalations: u32,
    /// Who knows of it. A rise of its severity takes this back.
    pub acknowledgement: Option<Acknowledgement>,
    /// When it ended.
    pub ended_us: Option<i64>,
}

/// Open or ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// It goes on.
    Open,
    /// It has ended.
    Ended,
}

/// Somebody knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledgement {
    /// Who, as they call themselves.
    pub by: String,
    /// What they say about it.
    pub note: String,
    /// When.
    pub at_us: i64,
}

/// What happened to an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Happening {
    /// It is new.
    Raised,
    /// It had ended, and came back.
    Reopened,
    /// Its severity rose.
    Rose,
    /// Its severity fell.
    Fell,
    /// Nobody acknowledged it in time.
    Escalated,
    /// Somebody acknowledged it.
    Acknowledged,
    /// It ended.
    Ended,
    /// It ended because worse ones needed its place.
    Displaced,
}

/// An alert as it is after something happened to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlertEvent {
    /// What happened.
    #[serde(with = "saved::happening")]
    pub happening: Happening,
    /// The alert.
    pub alert: Alert,
}

// === impl Topic ===

impl Topic {
    /// All of them.
    pub const ALL: [Topic; 5] =
        [Topic::Thermal, Topic::StateOfCharge, Topic::FailureProbability, Topic::RemainingLife, Topic::StateOfHealth];

    /// Stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Topic::Thermal => "thermal",
            Topic::StateOfCharge => "state_of_charge",
            Topic::FailureProbability => "failure_probability",
            Topic::RemainingLife => "remaining_life",
            Topic::StateOfHealth => "state_of_health",
        }
    }
}

impl From<Quantity> for Topic {
    fn from(quantity: Quantity) -> Topic {
        match quantity {
            Quantity::StateOfCharge => Topic::StateOfCharge,
            Quantity::CellTemperature => Topic::Thermal,
            Quantity::FailureProbability => Topic::FailureProbability,
            Quantity::RemainingLife => Topic::RemainingLife,
            Quantity::StateOfHealth => Topic::StateOfHealth,
        }
    }
}

// === impl Origin ===

impl Origin {
    /// All of them.
    pub const ALL: [Origin; 3] = [Origin::Rule, Origin::Fleet, Origin::Model];
    /// How many there are.
    pub(crate) const COUNT: usize = Origin::ALL.len();

    /// Stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Origin::Rule => "rule",
            Origin::Fleet => "fleet",
            Origin::Model => "model",
        }
    }

    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

// === impl Report ===

impl<'a> Report<'a> {
    /// What the thermal rule says.
    #[must_use]
    pub fn of_rule(vehicle: &'a VehicleId, assessment: &Assessment) -> Report<'a> {
        let Assessment { class, cause, value, limit, time_us } = *assessment;
        let finding = Finding { sign: Cause::name(cause), value, limit, unit: cause.unit() };
        Report { origin: Origin::Rule, finding, ..Report::of_class(vehicle, class, time_us) }
    }

    /// What a thermal-risk model says, with the probability of the class.
    #[must_use]
    pub fn of_model(vehicle: &'a VehicleId, class: RiskClass, probability: f32, event_time_us: i64) -> Report<'a> {
        let finding = Finding { sign: "risk_class", value: probability, limit: f32::NAN, unit: "1" };
        Report { finding, ..Report::of_class(vehicle, class, event_time_us) }
    }

    /// What a fleet rule says of a value, given the severity that it said before.
    #[must_use]
    pub fn of_fleet(
        vehicle: &'a VehicleId,
        quantity: Quantity,
        rule: &'a FleetRule,
        value: f32,
        before: Severity,
        event_time_us: i64,
    ) -> Report<'a> {
        let (severity, limit) = rule.severity(value, before);
        Report {
            vehicle,
            topic: Topic::from(quantity),
            origin: Origin::Fleet,
            severity,
            class: None,
            finding: Finding { sign: quantity.name(), value, limit, unit: quantity.unit() },
            action_id: &rule.action.id,
            action_text: &rule.action.text,
            event_time_us,
        }
    }

    fn of_class(vehicle: &'a VehicleId, class: RiskClass, event_time_us: i64) -> Report<'a> {
        let Action { severity, id, text } = class.action();
        Report {
            vehicle,
            topic: Topic::Thermal,
            origin: Origin::Model,
            severity,
            class: Some(class),
            finding: Finding { sign: "risk_class", value: f32::NAN, limit: f32::NAN, unit: "1" },
            action_id: id,
            action_text: text,
            event_time_us,
        }
    }
}

// === impl State, Happening ===

impl State {
    /// Stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            State::Open => "open",
            State::Ended => "ended",
        }
    }
}

impl Happening {
    /// All of them.
    pub const ALL: [Happening; 8] = [
        Happening::Raised,
        Happening::Reopened,
        Happening::Rose,
        Happening::Fell,
        Happening::Escalated,
        Happening::Acknowledged,
        Happening::Ended,
        Happening::Displaced,
    ];

    /// Stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Happening::Raised => "raised",
            Happening::Reopened => "reopened",
            Happening::Rose => "rose",
            Happening::Fell => "fell",
            Happening::Escalated => "escalated",
            Happening::Acknowledged => "acknowledged",
            Happening::Ended => "ended",
            Happening::Displaced => "displaced",
        }
    }
}
