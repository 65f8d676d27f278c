//! What is planned for a candidate.

use serde::{Deserialize, Serialize};

use crate::{Guards, RolloutError, Share};

/// Most steps of a plan.
pub const STEPS_MAX: usize = 20;
/// Longest that a phase may be planned for: 30 days, in milliseconds.
const DURATION_MAX_MS: u64 = 30 * 24 * 3_600_000;
/// Most requests that a phase may wait for.
const REQUESTS_MAX: u64 = 1_000_000_000;
/// Longest name of an input, as manifests bound it.
const NAME_BYTES_MAX: usize = 128;

/// What is planned for a candidate: first a shadow, then a growing share of the requests, then all of them for a while.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Plan {
    /// Copies of production's rows first, whose answers nobody gets; none to skip it.
    pub shadow: Option<ShadowPlan>,
    /// Shares of the requests, growing.
    pub steps: Vec<Step>,
    /// How long the candidate gets all requests before it is production, in milliseconds.
    pub bake_ms: u64,
    /// What keeps a caller on one side.
    pub sticky_key: StickyKey,
    /// Share of the rows that are run by both versions and compared, in all phases, 0 to 100 percent.
    pub compare_percent: f64,
    /// A text input whose values are cohorts that guards judge one by one; empty for none.
    pub cohort_by: String,
    /// What the candidate must not do.
    pub guards: Guards,
}

/// The phase in which nobody gets the candidate's answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShadowPlan {
    /// How long at least, in milliseconds.
    pub duration_ms: u64,
    /// Rows that must have been compared.
    pub minimum_pairs: u64,
}

/// A share of the requests.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// In percent, above 0, at most 100, with at most three decimals.
    pub percent: f64,
    /// How long at least, in milliseconds.
    pub duration_ms: u64,
    /// Requests that the candidate must have had in this step.
    pub minimum_requests: u64,
}

/// What keeps a caller on one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StickyKey {
    /// The vehicle of the request, else the call's key, else nothing.
    #[default]
    Vehicle,
    /// The key that the caller sends with the call, else nothing.
    Call,
    /// Nothing: each request is on its own.
    None,
}

// === impl Plan ===

impl Default for Plan {
    /// An hour for a model with traffic, and as long as it takes for one without.
    fn default() -> Plan {
        let minutes = |minutes: u64| minutes * 60_000;
        let step = |percent: f64| Step { percent, duration_ms: minutes(10), minimum_requests: 1_000 };
        Plan {
            shadow: Some(ShadowPlan { duration_ms: minutes(10), minimum_pairs: 1_000 }),
            steps: vec![step(5.0), step(25.0), step(50.0)],
            bake_ms: minutes(10),
            sticky_key: StickyKey::Vehicle,
            compare_percent: 10.0,
            cohort_by: String::new(),
            guards: Guards::default(),
        }
    }
}

impl Plan {
    /// Checks every field.
    ///
    /// # Errors
    ///
    /// [`RolloutError::InvalidPlan`] naming the first field that is wrong, what it is, and what it may be.
    pub fn check(&self) -> Result<(), RolloutError> {
        let Plan { shadow, steps, bake_ms, sticky_key: _, compare_percent, cohort_by, guards } = self;
        let invalid = |field: String, found: String, expected: &'static str| {
            Err(RolloutError::InvalidPlan { field, found, expected })
        };
        let duration = |field: String, found: u64| {
            if found > DURATION_MAX_MS { invalid(field, format!("{found} ms"), "at most 30 days") } else { Ok(()) }
        };
        let requests = |field: String, found: u64| {
            if found > REQUESTS_MAX { invalid(field, found.to_string(), "at most 1000000000") } else { Ok(()) }
        };
        if shadow.is_none() && steps.is_empty() {
            return invalid("steps".to_owned(), "empty".to_owned(), "a shadow phase or at least one step");
        }
        if steps.len() > STEPS_MAX {
            return invalid("steps".to_owned(), format!("{} steps", steps.len()), "at most 20 steps");
        }
        if let Some(ShadowPlan { duration_ms, minimum_pairs }) = shadow {
            duration("shadow.duration".to_owned(), *duration_ms)?;
            requests("shadow.minimum_pairs".to_owned(), *minimum_pairs)?;
            if *compare_percent <= 0.0 {
                let expected = "above 0: a shadow without comparisons tells nothing";
                return invalid("compare_percent".to_owned(), compare_percent.to_string(), expected);
            }
        }
        let mut before = Share::NONE;
        for (index, Step { percent, duration_ms, minimum_requests }) in steps.iter().enumerate() {
            let field = format!("steps[{index}].percent");
            let Ok(share) = Share::percent(*percent) else {
                return invalid(field, percent.to_string(), "above 0, at most 100");
            };
            if share <= before {
                let expected = if index == 0 { "at least 0.001" } else { "more than the step before it" };
                return invalid(field, percent.to_string(), expected);
            }
            before = share;
            duration(format!("steps[{index}].duration"), *duration_ms)?;
            requests(format!("steps[{index}].minimum_requests"), *minimum_requests)?;
        }
        duration("bake".to_owned(), *bake_ms)?;
        if !(0.0..=100.0).contains(compare_percent) {
            return invalid("compare_percent".to_owned(), compare_percent.to_string(), "0 to 100");
        }
        if cohort_by.len() > NAME_BYTES_MAX {
            return invalid("cohort_by".to_owned(), format!("{} bytes", cohort_by.len()), "at most 128 bytes");
        }
        guards.check()
    }
}

// === impl Step ===

impl Step {
    /// The share of a checked step.
    pub(crate) fn share(&self) -> Share {
        Share::percent(self.percent).unwrap_or(Share::NONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(percent: f64) -> Step {
        Step { percent, duration_ms: 1_000, minimum_requests: 1 }
    }

    #[test]
    fn plans_are_checked_field_by_field() {
        let check = |plan: Plan, expected: &str| {
            let found = plan.check().map_or_else(|error| error.to_string(), |()| String::new());
            assert_eq!(found, expected);
        };
        let plan = Plan::default;
        check(plan(), "");
        check(Plan { shadow: None, ..plan() }, "");
        check(Plan { steps: Vec::new(), ..plan() }, "");
        check(
            Plan { shadow: None, steps: Vec::new(), ..plan() },
            "`steps` is empty, expected a shadow phase or at least one step",
        );
        check(Plan { steps: vec![step(0.0)], ..plan() }, "`steps[0].percent` is 0, expected at least 0.001");
        check(Plan { steps: vec![step(0.0004)], ..plan() }, "`steps[0].percent` is 0.0004, expected at least 0.001");
        check(Plan { steps: vec![step(101.0)], ..plan() }, "`steps[0].percent` is 101, expected above 0, at most 100");
        check(
            Plan { steps: vec![step(5.0), step(5.0)], ..plan() },
            "`steps[1].percent` is 5, expected more than the step before it",
        );
        check(Plan { steps: vec![step(1.0); 21], ..plan() }, "`steps` is 21 steps, expected at most 20 steps");
        check(Plan { bake_ms: 31 * 24 * 3_600_000, ..plan() }, "`bake` is 2678400000 ms, expected at most 30 days");
        check(
            Plan { compare_percent: 0.0, ..plan() },
            "`compare_percent` is 0, expected above 0: a shadow without comparisons tells nothing",
        );
        check(Plan { compare_percent: 0.0, shadow: None, ..plan() }, "");
        check(
            Plan { compare_percent: f64::NAN, shadow: None, ..plan() },
            "`compare_percent` is NaN, expected 0 to 100",
        );
    }

    #[test]
    fn a_plan_is_a_document() {
        let json = serde_json::to_string(&Plan::default()).expect("JSON");
        assert_eq!(serde_json::from_str::<Plan>(&json).expect("a plan"), Plan::default());
        assert!(serde_json::from_str::<Plan>(r#"{"stepz": []}"#).is_err());
    }
}
