//! What a candidate must not do.

use serde::{Deserialize, Serialize};

use crate::RolloutError;

/// Limits for a candidate; none of a guard that is off. Every guard judges from `minimum` on, and fails when what was seen
/// is beyond its limit by more than noise explains.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Guards {
    /// Requests, pairs or outcomes, whatever a guard counts, from which on it judges, 1 to 1 000 000.
    pub minimum: u64,
    /// Most that the share of failed requests may be above production's, 0 to 1.
    pub error_rate_increase_max: Option<f64>,
    /// Most that the candidate's 99th percentile of latency may be of production's, 1 to 1 000. Not judged below 1 ms.
    pub latency_p99_ratio_max: Option<f64>,
    /// Most that answers for the same row may differ on average, in the output's unit. Of outputs that are values.
    pub disagreement_absolute_max: Option<f64>,
    /// The same, as share of the larger of the two, 0 to 1.
    pub disagreement_relative_max: Option<f64>,
    /// Largest share of rows whose likeliest class differs, 0 to 1. Of outputs that are classes.
    pub disagreement_class_max: Option<f64>,
    /// The same of the rows of each class of production's, 0 to 1.
    pub disagreement_per_class_max: Option<f64>,
    /// Most that the distribution of answers may have shifted: index of population stability over production's deciles.
    pub shift_max: Option<f64>,
    /// Most that the share of answers out of distribution may be above production's, 0 to 1.
    pub out_of_distribution_increase_max: Option<f64>,
    /// Least share of reported outcomes that the interval q10 to q90 must hold, 0 to 1.
    pub coverage_min: Option<f64>,
    /// Most that the mean absolute error against reported outcomes may be of production's, 1 to 1 000.
    pub error_ratio_max: Option<f64>,
}

// === impl Guards ===

impl Default for Guards {
    /// Limits that a retrained model of the same kind keeps, and one in other units does not.
    fn default() -> Guards {
        Guards {
            minimum: 100,
            error_rate_increase_max: Some(0.01),
            latency_p99_ratio_max: Some(1.5),
            disagreement_absolute_max: None,
            disagreement_relative_max: Some(0.1),
            disagreement_class_max: Some(0.1),
            disagreement_per_class_max: Some(0.25),
            // Above 0.25 a population is commonly said to have shifted (Siddiqi, "Credit Risk Scorecards", 2006).
            shift_max: Some(0.25),
            out_of_distribution_increase_max: Some(0.05),
            // Of an interval that should hold 80 %.
            coverage_min: Some(0.65),
            error_ratio_max: Some(1.2),
        }
    }
}

impl Guards {
    /// # Errors
    ///
    /// [`RolloutError::InvalidPlan`] naming the field.
    pub(crate) fn check(&self) -> Result<(), RolloutError> {
        let Guards {
            minimum,
            error_rate_increase_max,
            latency_p99_ratio_max,
            disagreement_absolute_max,
            disagreement_relative_max,
            disagreement_class_max,
            disagreement_per_class_max,
            shift_max,
            out_of_distribution_increase_max,
            coverage_min,
            error_ratio_max,
        } = self;
        if !(1..=1_000_000).contains(minimum) {
            return Err(invalid("minimum", minimum.to_string(), "1 to 1000000"));
        }
        let within = |field: &str, value: Option<f64>, min: f64, max: f64, expected: &'static str| match value {
            Some(value) if !(min..=max).contains(&value) => Err(invalid(field, value.to_string(), expected)),
            _ => Ok(()),
        };
        for (field, value) in [
            ("error_rate_increase_max", error_rate_increase_max),
            ("disagreement_relative_max", disagreement_relative_max),
            ("disagreement_class_max", disagreement_class_max),
            ("disagreement_per_class_max", disagreement_per_class_max),
            ("out_of_distribution_increase_max", out_of_distribution_increase_max),
            ("coverage_min", coverage_min),
        ] {
            within(field, *value, 0.0, 1.0, "0 to 1")?;
        }
        for (field, value) in [("latency_p99_ratio_max", latency_p99_ratio_max), ("error_ratio_max", error_ratio_max)] {
            within(field, *value, 1.0, 1_000.0, "1 to 1000")?;
        }
        within("disagreement_absolute_max", *disagreement_absolute_max, 0.0, f64::MAX, "a number of at least 0")?;
        within("shift_max", *shift_max, 0.0, 100.0, "0 to 100")
    }
}

fn invalid(field: &str, found: String, expected: &'static str) -> RolloutError {
    RolloutError::InvalidPlan { field: format!("guards.{field}"), found, expected }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_within_their_ranges() {
        let check = |guards: Guards, expected: &str| {
            let found = guards.check().map_or_else(|error| error.to_string(), |()| String::new());
            assert_eq!(found, expected);
        };
        check(Guards::default(), "");
        check(Guards { minimum: 0, ..Guards::default() }, "`guards.minimum` is 0, expected 1 to 1000000");
        check(Guards { coverage_min: Some(65.0), ..Guards::default() }, "`guards.coverage_min` is 65, expected 0 to 1");
        check(
            Guards { shift_max: Some(f64::NAN), ..Guards::default() },
            "`guards.shift_max` is NaN, expected 0 to 100",
        );
        check(
            Guards { latency_p99_ratio_max: Some(0.5), ..Guards::default() },
            "`guards.latency_p99_ratio_max` is 0.5, expected 1 to 1000",
        );
    }
}
