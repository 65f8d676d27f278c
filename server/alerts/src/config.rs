//! Everything that can be set about alerts.

use std::time::Duration;

use ev_domain::Severity;
use serde::{Deserialize, Serialize};

use crate::{ConfigError, FleetConfig, RuleConfig, error::in_range, severity, webhook::WebhookConfig};

/// The defaults, as text with comments: the table `[alerts]`.
pub const DEFAULT_TOML: &str = include_str!("default.toml");

/// `[alerts]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertsConfig {
    /// The thermal rule.
    pub rule: RuleConfig,
    /// Limits on single values.
    pub fleet: FleetConfig,
    /// How alerts begin and end.
    pub life: LifeConfig,
    /// Where alerts are sent; at most [`AlertsConfig::WEBHOOKS_MAX`].
    pub webhooks: Vec<WebhookConfig>,
}

/// `[alerts.life]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LifeConfig {
    /// How long a severity must last before an alert is raised to it.
    pub raise_after: RaiseAfter,
    /// How long a lower severity must last before the alert follows it.
    #[serde(with = "humantime_serde")]
    pub lower_after: Duration,
    /// How long a model's opinion counts.
    #[serde(with = "humantime_serde")]
    pub opinion_valid_for: Duration,
    /// Alerts of this severity and above end only once they are acknowledged.
    #[serde(with = "severity")]
    pub end_needs_acknowledgement: Severity,
    /// An alert that comes back within this time is the same one.
    #[serde(with = "humantime_serde")]
    pub reopen_within: Duration,
    /// From this severity on alerts escalate.
    #[serde(with = "severity")]
    pub escalate_from: Severity,
    /// How long an alert may go unacknowledged before it is sent again.
    #[serde(with = "humantime_serde")]
    pub escalate_after: Duration,
    /// How often.
    pub escalations_max: u32,
    /// Most alerts at one time.
    pub open_max: usize,
    /// Most vehicles and topics whose severity has not lasted long enough yet.
    pub pending_max: usize,
    /// Most alerts that are remembered after they ended.
    pub ended_max: usize,
    /// Events a subscriber may be behind.
    pub subscriber_events_max: usize,
}

/// `[alerts.life] raise_after`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RaiseAfter {
    /// For low severity.
    #[serde(with = "humantime_serde")]
    pub low: Duration,
    /// For medium severity.
    #[serde(with = "humantime_serde")]
    pub medium: Duration,
    /// For high severity.
    #[serde(with = "humantime_serde")]
    pub high: Duration,
    /// For critical severity.
    #[serde(with = "humantime_serde")]
    pub critical: Duration,
}

// === impl AlertsConfig ===

impl Default for AlertsConfig {
    fn default() -> AlertsConfig {
        toml::from_str(DEFAULT_TOML).expect("a test parses the defaults")
    }
}

impl AlertsConfig {
    /// Most webhooks.
    pub const WEBHOOKS_MAX: usize = 8;

    /// Checks every setting.
    ///
    /// # Errors
    ///
    /// The first that is out of its range.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.rule.check()?;
        self.fleet.check()?;
        self.life.check()?;
        in_range("webhooks", self.webhooks.len(), 0, Self::WEBHOOKS_MAX)?;
        self.webhooks.iter().try_for_each(WebhookConfig::check)
    }
}

// === impl LifeConfig ===

impl LifeConfig {
    fn check(&self) -> Result<(), ConfigError> {
        let (second, day) = (Duration::from_secs(1), Duration::from_secs(24 * 3600));
        for after in [self.raise_after.low, self.raise_after.medium] {
            in_range("life.raise_after", after, Duration::ZERO, Duration::from_secs(3600))?;
        }
        // The rule's own three seconds are the wait that these need.
        for after in [self.raise_after.high, self.raise_after.critical] {
            in_range("life.raise_after", after, Duration::ZERO, Duration::from_secs(10))?;
        }
        in_range("life.lower_after", self.lower_after, second, day)?;
        in_range("life.opinion_valid_for", self.opinion_valid_for, second, day)?;
        in_range("life.reopen_within", self.reopen_within, Duration::ZERO, 7 * day)?;
        in_range("life.escalate_after", self.escalate_after, second, day)?;
        in_range("life.escalations_max", self.escalations_max, 0, 100)?;
        in_range("life.open_max", self.open_max, 1, 1_000_000)?;
        in_range("life.pending_max", self.pending_max, 1, 10_000_000)?;
        in_range("life.ended_max", self.ended_max, 0, 1_000_000)?;
        in_range("life.subscriber_events_max", self.subscriber_events_max, 1, 65_536)
    }
}

// === impl RaiseAfter ===

impl RaiseAfter {
    pub(crate) fn of(&self, severity: Severity) -> Duration {
        match severity {
            Severity::None => Duration::ZERO,
            Severity::Low => self.low,
            Severity::Medium => self.medium,
            Severity::High => self.high,
            Severity::Critical => self.critical,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_accepted() {
        let config: AlertsConfig = toml::from_str(DEFAULT_TOML).expect("default.toml");
        assert_eq!(config.check(), Ok(()));
        for chemistry in config.rule.chemistries.keys() {
            assert!(config.rule.thresholds(Some(chemistry)).is_ok());
        }
    }

    #[test]
    fn a_refusal_names_the_setting() {
        let check = |change: fn(&mut AlertsConfig), expected: &str| {
            let mut config = AlertsConfig::default();
            change(&mut config);
            let error = config.check().expect_err(expected);
            assert_eq!(error.to_string(), expected);
        };
        check(|config| config.rule.hold = Duration::ZERO, "`rule.hold` is 0ns, expected 1s..=86400s");
        check(|config| config.rule.watch_celsius = f32::NAN, "`rule.watch_celsius` is NaN, expected -60.0..=55.0");
        check(
            |config| config.rule.default_chemistry = "air".to_owned(),
            "`rule.default_chemistry` is `air`, expected one of `rule.chemistries`",
        );
        check(
            |config| config.fleet.state_of_charge.second.limit = 30.0,
            &format!("`fleet.second.limit` is 30.0, expected {:?}..=20.0", f32::MIN),
        );
        check(|config| config.life.open_max = 0, "`life.open_max` is 0, expected 1..=1000000");
    }

    #[test]
    fn unknown_keys_are_errors() {
        let text = format!("{DEFAULT_TOML}\nlower_afterwards = \"1s\"\n");
        assert!(toml::from_str::<AlertsConfig>(&text).is_err());
    }
}
