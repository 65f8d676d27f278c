//! What the rule is set to.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{ConfigError, error::in_range};

/// `[alerts.rule]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    /// Chemistry of packs that nothing is known of; one of `chemistries`.
    pub default_chemistry: String,
    /// Hottest cell from which on a pack is watched.
    pub watch_celsius: f32,
    /// Hottest cell from which on it is a warning.
    pub warning_celsius: f32,
    /// Rise over `rise_window` from which on a pack is watched.
    pub rise_watch_celsius_per_s: f32,
    /// Rise over `rise_window` from which on it is a warning.
    pub rise_warning_celsius_per_s: f32,
    /// Over how long a slow rise is measured.
    #[serde(with = "humantime_serde")]
    pub rise_window: Duration,
    /// Rise that, held for `hold`, is an alarm, and with one more sign the confirmation of a runaway.
    pub runaway_rate_celsius_per_s: f32,
    /// Hottest cell above the others from which on a pack is watched.
    pub spread_watch_celsius: f32,
    /// Hottest cell above the others from which on it is a warning.
    pub spread_warning_celsius: f32,
    /// Hottest cell above the others from which on it is an alarm.
    pub spread_alarm_celsius: f32,
    /// Drop of the weakest cell's voltage that is an alarm while a cell heats, or is hotter than the others.
    pub voltage_drop_beside_heat_percent: f32,
    /// Drop of the weakest cell's voltage from which on a pack is watched.
    pub voltage_drop_watch_percent: f32,
    /// Drop of the weakest cell's voltage from which on it is a warning.
    pub voltage_drop_warning_percent: f32,
    /// Drop of the weakest cell's voltage that is an alarm.
    pub voltage_drop_alarm_percent: f32,
    /// Drop of the weakest cell's voltage that, with a fast rise, is the confirmation of a runaway.
    pub voltage_drop_runaway_percent: f32,
    /// State of charge below which cells differ by nature, so that only large drops count.
    pub near_empty_percent: f32,
    /// How long a sign must hold, in at least three seconds that have readings.
    #[serde(with = "humantime_serde")]
    pub hold: Duration,
    /// The same for the signs of voltages, but for the confirmation of a runaway.
    #[serde(with = "humantime_serde")]
    pub voltage_hold: Duration,
    /// Readings further apart than this are not about the same event.
    #[serde(with = "humantime_serde")]
    pub gap_max: Duration,
    /// Signs of temperature and of voltage further apart than this are not combined.
    #[serde(with = "humantime_serde")]
    pub combine_max: Duration,
    /// What differs by chemistry, by its name.
    pub chemistries: BTreeMap<String, ChemistryConfig>,
}

/// `[alerts.rule.chemistries.NAME]`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChemistryConfig {
    /// The maker's maximum operating temperature: an alarm.
    pub temperature_max_celsius: f32,
    /// Where a cell is taken to run away whatever else is known.
    pub onset_celsius: f32,
    /// Voltage of the strongest cell below which a pack counts as near empty.
    pub knee_voltage_v: f32,
}

/// The rule's settings for one chemistry, as the rule uses them.
#[derive(Debug, Clone, PartialEq)]
pub struct Thresholds {
    pub(crate) watch: f32,
    pub(crate) warning: f32,
    pub(crate) temperature_max: f32,
    pub(crate) onset: f32,
    pub(crate) rise_watch: f32,
    pub(crate) rise_warning: f32,
    pub(crate) rise_window_us: i64,
    pub(crate) runaway_rate: f32,
    pub(crate) spread_watch: f32,
    pub(crate) spread_warning: f32,
    pub(crate) spread_alarm: f32,
    pub(crate) drop_beside_heat: f32,
    pub(crate) drop_watch: f32,
    pub(crate) drop_warning: f32,
    pub(crate) drop_alarm: f32,
    pub(crate) drop_runaway: f32,
    pub(crate) near_empty: f32,
    pub(crate) knee_v: f32,
    pub(crate) hold_us: i64,
    pub(crate) voltage_hold_us: i64,
    pub(crate) gap_max_us: i64,
    pub(crate) combine_max_us: i64,
}

// === impl RuleConfig ===

impl RuleConfig {
    /// The settings for a chemistry; for one that is not known, those of the default.
    ///
    /// # Errors
    ///
    /// When a setting is out of its range, or there is no default.
    pub fn thresholds(&self, chemistry: Option<&str>) -> Result<Thresholds, ConfigError> {
        let known = chemistry.and_then(|name| self.chemistries.get(name));
        let chemistry = match known.or_else(|| self.chemistries.get(&self.default_chemistry)) {
            Some(chemistry) => chemistry,
            None => {
                return Err(ConfigError::new(
                    "rule.default_chemistry",
                    &self.default_chemistry,
                    "one of `rule.chemistries`",
                ));
            }
        };
        chemistry.check()?;
        self.check_shared(chemistry)?;
        Ok(Thresholds {
            watch: self.watch_celsius,
            warning: self.warning_celsius,
            temperature_max: chemistry.temperature_max_celsius,
            onset: chemistry.onset_celsius,
            rise_watch: self.rise_watch_celsius_per_s,
            rise_warning: self.rise_warning_celsius_per_s,
            rise_window_us: micros("rule.rise_window", self.rise_window, 5)?,
            runaway_rate: self.runaway_rate_celsius_per_s,
            spread_watch: self.spread_watch_celsius,
            spread_warning: self.spread_warning_celsius,
            spread_alarm: self.spread_alarm_celsius,
            drop_beside_heat: self.voltage_drop_beside_heat_percent,
            drop_watch: self.voltage_drop_watch_percent,
            drop_warning: self.voltage_drop_warning_percent,
            drop_alarm: self.voltage_drop_alarm_percent,
            drop_runaway: self.voltage_drop_runaway_percent,
            near_empty: self.near_empty_percent,
            knee_v: chemistry.knee_voltage_v,
            hold_us: micros("rule.hold", self.hold, 1)?,
            voltage_hold_us: micros("rule.voltage_hold", self.voltage_hold, 1)?,
            gap_max_us: micros("rule.gap_max", self.gap_max, 10)?,
            combine_max_us: micros("rule.combine_max", self.combine_max, 1)?,
        })
    }

    /// Checks every setting, of every chemistry.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        self.thresholds(None)?;
        for name in self.chemistries.keys() {
            self.thresholds(Some(name))?;
        }
        // What the rule keeps spans 15 s at one reading a second.
        in_range("rule.hold", self.hold, Duration::from_secs(1), Duration::from_secs(10))?;
        in_range("rule.voltage_hold", self.voltage_hold, Duration::from_secs(1), Duration::from_secs(10))?;
        in_range("rule.rise_window", self.rise_window, Duration::from_secs(5), Duration::from_secs(12))
    }

    fn check_shared(&self, chemistry: &ChemistryConfig) -> Result<(), ConfigError> {
        let hottest = chemistry.temperature_max_celsius;
        in_range("rule.warning_celsius", self.warning_celsius, -60.0, hottest)?;
        in_range("rule.watch_celsius", self.watch_celsius, -60.0, self.warning_celsius)?;
        in_range("rule.runaway_rate_celsius_per_s", self.runaway_rate_celsius_per_s, 0.1, 100.0)?;
        let rate = self.runaway_rate_celsius_per_s;
        in_range("rule.rise_warning_celsius_per_s", self.rise_warning_celsius_per_s, 0.01, rate)?;
        let rise = self.rise_warning_celsius_per_s;
        in_range("rule.rise_watch_celsius_per_s", self.rise_watch_celsius_per_s, 0.01, rise)?;
        in_range("rule.spread_alarm_celsius", self.spread_alarm_celsius, 1.0, 200.0)?;
        in_range("rule.spread_warning_celsius", self.spread_warning_celsius, 1.0, self.spread_alarm_celsius)?;
        in_range("rule.spread_watch_celsius", self.spread_watch_celsius, 1.0, self.spread_warning_celsius)?;
        in_range("rule.voltage_drop_runaway_percent", self.voltage_drop_runaway_percent, 1.0, 100.0)?;
        let runaway = self.voltage_drop_runaway_percent;
        in_range("rule.voltage_drop_alarm_percent", self.voltage_drop_alarm_percent, 1.0, runaway)?;
        let alarm = self.voltage_drop_alarm_percent;
        in_range("rule.voltage_drop_warning_percent", self.voltage_drop_warning_percent, 1.0, alarm)?;
        let warning = self.voltage_drop_warning_percent;
        in_range("rule.voltage_drop_watch_percent", self.voltage_drop_watch_percent, 1.0, warning)?;
        let beside = self.voltage_drop_beside_heat_percent;
        in_range("rule.voltage_drop_beside_heat_percent", beside, 0.5, alarm)?;
        in_range("rule.near_empty_percent", self.near_empty_percent, 0.0, 100.0)
    }
}

// === impl ChemistryConfig ===

impl ChemistryConfig {
    fn check(&self) -> Result<(), ConfigError> {
        in_range("rule.chemistries.onset_celsius", self.onset_celsius, 0.0, 1200.0)?;
        let onset = self.onset_celsius;
        in_range("rule.chemistries.temperature_max_celsius", self.temperature_max_celsius, 0.0, onset)?;
        in_range("rule.chemistries.knee_voltage_v", self.knee_voltage_v, 0.0, 6.0)
    }
}

fn micros(setting: &'static str, found: Duration, least_s: u64) -> Result<i64, ConfigError> {
    in_range(setting, found, Duration::from_secs(least_s), Duration::from_secs(24 * 3600))?;
    i64::try_from(found.as_micros()).map_err(|_| ConfigError::new(setting, format!("{found:?}"), "at most a day"))
}
