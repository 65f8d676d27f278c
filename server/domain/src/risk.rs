//! Thermal-risk classes, and the policy that says what each asks people to do.

/// Thermal-risk class of a pack, rising.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RiskClass {
    /// Nothing unusual.
    Normal,
    /// Keep monitoring.
    Watch,
    /// Inspect soon.
    Warning,
    /// Act now.
    Alarm,
    /// Runaway is under way or imminent.
    Runaway,
}

/// Severity that operators act on, rising.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Severity {
    /// Nothing to do.
    #[default]
    None,
    /// Keep monitoring.
    Low,
    /// Inspect.
    Medium,
    /// Check cooling, reduce the charge rate.
    High,
    /// Stop charging, isolate, evacuate.
    Critical,
}

/// What the policy asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Action {
    /// How urgent it is.
    pub severity: Severity,
    /// Stable id.
    pub id: &'static str,
    /// What to do, in words.
    pub text: &'static str,
}

// === impl RiskClass ===

impl RiskClass {
    /// All classes, rising.
    pub const ALL: [RiskClass; 5] =
        [RiskClass::Normal, RiskClass::Watch, RiskClass::Warning, RiskClass::Alarm, RiskClass::Runaway];

    /// Version of the table behind [`RiskClass::action`]; changes with any of its rows.
    pub const POLICY_VERSION: &'static str = "2026-11";

    /// Name as models write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            RiskClass::Normal => "Normal",
            RiskClass::Watch => "Watch",
            RiskClass::Warning => "Warning",
            RiskClass::Alarm => "Alarm",
            RiskClass::Runaway => "Runaway",
        }
    }

    /// The class of this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<RiskClass> {
        RiskClass::ALL.into_iter().find(|class| class.name() == name)
    }

    /// What the policy asks people to do.
    #[must_use]
    pub fn action(self) -> Action {
        let (severity, id, text) = match self {
            RiskClass::Normal => (Severity::None, "none", "Nothing to do"),
            RiskClass::Watch => (Severity::Low, "keep_monitoring", "Keep monitoring"),
            RiskClass::Warning => (
                Severity::Medium,
                "inspect_moisture_connections_imbalance",
                "Inspect for moisture, loose connections and cell imbalance",
            ),
            RiskClass::Alarm => {
                (Severity::High, "check_cooling_reduce_charge_rate", "Check the cooling and reduce the charge rate")
            }
            RiskClass::Runaway => {
                (Severity::Critical, "stop_charging_isolate_evacuate", "Stop charging, isolate the pack and evacuate")
            }
        };
        Action { severity, id, text }
    }
}

// === impl Severity ===

impl Severity {
    /// All, rising.
    pub const ALL: [Severity; 5] =
        [Severity::None, Severity::Low, Severity::Medium, Severity::High, Severity::Critical];

    /// Name as configuration and messages write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Severity::None => "none",
            Severity::Low => "low",
            Severity::Medium => "medium",
            Severity::High => "high",
            Severity::Critical => "critical",
        }
    }

    /// The severity of this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Severity> {
        Severity::ALL.into_iter().find(|severity| severity.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severity_rises_with_the_class() {
        let severities = RiskClass::ALL.map(|class| class.action().severity);
        assert!(severities.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn names_lead_back() {
        for class in RiskClass::ALL {
            assert_eq!(RiskClass::by_name(class.name()), Some(class));
        }
        assert_eq!(RiskClass::by_name("normal"), None);
        for severity in Severity::ALL {
            assert_eq!(Severity::by_name(severity.name()), Some(severity));
        }
    }
}
