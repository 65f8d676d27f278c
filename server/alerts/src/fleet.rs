//! Fleet rules: limits on single values, as declared.

use ev_domain::Severity;
use serde::{Deserialize, Serialize};

use crate::{ConfigError, error::in_range, severity};

/// What a fleet rule looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Quantity {
    /// State of charge in percent.
    StateOfCharge,
    /// Hottest cell in degrees Celsius.
    CellTemperature,
    /// Probability of a failure, 0 to 1.
    FailureProbability,
    /// Remaining life in percent of the life that the model states.
    RemainingLife,
    /// State of health in percent.
    StateOfHealth,
}

/// `[alerts.fleet]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetConfig {
    /// State of charge in percent.
    pub state_of_charge: FleetRule,
    /// Hottest cell in degrees Celsius.
    pub cell_temperature: FleetRule,
    /// Probability of a failure.
    pub failure_probability: FleetRule,
    /// Remaining life in percent of the stated one.
    pub remaining_life: FleetRule,
    /// State of health in percent.
    pub state_of_health: FleetRule,
}

/// Two limits on one value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetRule {
    /// Which side is bad.
    pub side: Side,
    /// The limit that is passed first.
    pub first: Level,
    /// The limit that is passed second.
    pub second: Level,
    /// How far back a value must come for its limit to count as no longer passed.
    pub margin: f32,
    /// What to do.
    pub action: FleetAction,
}

/// Which side of a limit is bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Values below it.
    Below,
    /// Values above it.
    Above,
}

/// A limit and what passing it means.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Level {
    /// In the value's unit; a value at the limit has not passed it.
    pub limit: f32,
    /// How urgent it is.
    #[serde(with = "severity")]
    pub severity: Severity,
}

/// What a fleet rule asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetAction {
    /// Stable id.
    pub id: String,
    /// What to do, in words.
    pub text: String,
}

// === impl Quantity ===

impl Quantity {
    /// All of them.
    pub const ALL: [Quantity; 5] = [
        Quantity::StateOfCharge,
        Quantity::CellTemperature,
        Quantity::FailureProbability,
        Quantity::RemainingLife,
        Quantity::StateOfHealth,
    ];

    /// Stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Quantity::StateOfCharge => "state_of_charge",
            Quantity::CellTemperature => "cell_temperature",
            Quantity::FailureProbability => "failure_probability",
            Quantity::RemainingLife => "remaining_life",
            Quantity::StateOfHealth => "state_of_health",
        }
    }

    /// Unit of the values.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Quantity::StateOfCharge | Quantity::RemainingLife | Quantity::StateOfHealth => "percent",
            Quantity::CellTemperature => "celsius",
            Quantity::FailureProbability => "1",
        }
    }
}

// === impl FleetConfig ===

impl FleetConfig {
    /// The rule of a quantity.
    #[must_use]
    pub fn rule(&self, quantity: Quantity) -> &FleetRule {
        match quantity {
            Quantity::StateOfCharge => &self.state_of_charge,
            Quantity::CellTemperature => &self.cell_temperature,
            Quantity::FailureProbability => &self.failure_probability,
            Quantity::RemainingLife => &self.remaining_life,
            Quantity::StateOfHealth => &self.state_of_health,
        }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        Quantity::ALL.into_iter().try_for_each(|quantity| self.rule(quantity).check())
    }
}

// === impl FleetRule ===

impl FleetRule {
    /// Severity of a value, and the limit behind it: the one it passed, or, while the severity before was as high, the one
    /// it is not back from by the margin. A value that is no number has none.
    #[must_use]
    pub fn severity(&self, value: f32, before: Severity) -> (Severity, f32) {
        for level in [self.second, self.first] {
            let eased = if before >= level.severity { self.margin } else { 0.0 };
            let passed = match self.side {
                Side::Below => value < level.limit + eased,
                Side::Above => value > level.limit - eased,
            };
            if passed {
                return (level.severity, level.limit);
            }
        }
        (Severity::None, f32::NAN)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let (first, second) = (self.first.limit, self.second.limit);
        match self.side {
            Side::Below => in_range("fleet.second.limit", second, f32::MIN, first)?,
            Side::Above => in_range("fleet.second.limit", second, first, f32::MAX)?,
        }
        in_range("fleet.margin", self.margin, 0.0, f32::MAX)?;
        in_range("fleet.action.id", self.action.id.len(), 1, 64)?;
        in_range("fleet.action.text", self.action.text.len(), 1, 500)?;
        let severities = (self.first.severity, self.second.severity);
        if severities.0 == Severity::None || severities.1 < severities.0 {
            let found = format!("{} then {}", severities.0.name(), severities.1.name());
            return Err(ConfigError::new("fleet.severity", found, "severities that rise from the first limit"));
        }
        Ok(())
    }
}
