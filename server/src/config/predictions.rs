//! `[predictions]`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ConfigError, invalid};

/// `[predictions]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PredictionsConfig {
    /// How often a battery is predicted anew at most.
    #[serde(with = "humantime_serde")]
    pub renew_interval: Duration,
}

// === impl PredictionsConfig ===

impl PredictionsConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let (found, day) = (self.renew_interval, Duration::from_secs(86_400));
        if !(Duration::from_millis(100)..=day).contains(&found) {
            return Err(invalid(format!("predictions.renew_interval is {found:?}, expected 100ms to 1day")));
        }
        Ok(())
    }
}
