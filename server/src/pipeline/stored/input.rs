//! What a manifest says of an input's old and missing values.

use std::time::Duration;

use ev_domain::Feature;
use ev_features::{FeatureValue, Status};
use ev_models_core::manifest::IfStale;

use super::StoredFeature;
use crate::pipeline::outcome::Violation;

/// Reason of a refusal: what the store has is too old.
const FEATURE_STALE: &str = "FEATURE_STALE";
/// Reason of a refusal: the store has nothing.
const FEATURE_MISSING: &str = "FEATURE_MISSING";

/// One input, and what the manifest says of it.
#[derive(Debug)]
pub(crate) struct StoredInput {
    pub(crate) name: String,
    /// The view it is read from; empty where no view has it.
    pub(crate) view: String,
    pub(super) feature: Feature,
    /// Its place in the plan; none where no view has it.
    pub(super) place: Option<usize>,
    /// Written from outside: it holds until it is written again.
    pub(super) written: bool,
    /// The view's.
    pub(super) ttl: Duration,
    /// The model's own limit.
    pub(super) max_age: Option<Duration>,
    pub(super) if_stale: IfStale,
    pub(super) required: bool,
    pub(super) default: Option<FeatureValue>,
    pub(super) range: Option<[f64; 2]>,
}

// === impl StoredInput ===

impl StoredInput {
    /// Whether a value may be the model's: its range may be narrower than what is plausible.
    pub(super) fn fits(&self, value: &FeatureValue) -> bool {
        let within = |number: f32| self.range.is_none_or(|[min, max]| (min..=max).contains(&f64::from(number)));
        self.feature.check(value.as_value()).is_ok()
            && !matches!(value, FeatureValue::Number(number) if !within(*number))
    }

    /// Applies the manifest's policy to what was read.
    pub(super) fn judge(
        &self,
        value: Option<FeatureValue>,
        age: Option<Duration>,
        status: Status,
    ) -> Result<StoredFeature, Violation> {
        let read = |value, age, status| StoredFeature { input: 0, value, age, status, is_model_default: false };
        let Some(value) = value else {
            return self.without(FEATURE_MISSING, None).unwrap_or_else(|| Ok(read(None, None, Status::Missing)));
        };
        if !self.is_too_old(age, status) {
            return Ok(read(Some(value), age, status));
        }
        match self.if_stale {
            IfStale::Use => Ok(read(Some(value), age, Status::Stale)),
            IfStale::Refuse => Err(self.violation(FEATURE_STALE, age)),
            IfStale::Missing => self.without(FEATURE_STALE, age).unwrap_or_else(|| Ok(read(None, age, Status::Stale))),
        }
    }

    fn is_too_old(&self, age: Option<Duration>, status: Status) -> bool {
        match (self.max_age, age) {
            (Some(max_age), Some(age)) if !self.written => age > max_age,
            _ => status == Status::Stale,
        }
    }

    /// What stands in for a value that there is none of; none when the model goes without.
    fn without(&self, reason: &'static str, age: Option<Duration>) -> Option<Result<StoredFeature, Violation>> {
        if self.required {
            return Some(Err(self.violation(reason, age)));
        }
        let value = self.default.clone()?;
        let status = Status::Defaulted;
        Some(Ok(StoredFeature { input: 0, value: Some(value), age: None, status, is_model_default: true }))
    }

    #[cold]
    fn violation(&self, reason: &'static str, age: Option<Duration>) -> Violation {
        let limit = self.max_age.filter(|_| !self.written).unwrap_or(self.ttl);
        let description = match age {
            Some(age) => {
                format!(
                    "is {} old, expected at most {}: send newer readings of the vehicle, or give the field",
                    seconds(age),
                    seconds(limit)
                )
            }
            None if self.view.is_empty() => {
                "is in no feature view, expected the field: the model requires it".to_owned()
            }
            None if self.written => format!(
                "is not known of the vehicle, expected it to be written to the feature view `{}`, or the field: the \
                 model requires it",
                self.view
            ),
            None => format!(
                "is not known of the vehicle, expected readings that the feature view `{}` is made from, or the field: \
                 the model requires it",
                self.view
            ),
        };
        Violation { field: self.name.clone(), reason, description }
    }
}

/// Up to what was said last, a fraction of a second too old is no longer said to be as old as the limit.
fn seconds(duration: Duration) -> humantime::FormattedDuration {
    let rounded = if duration.subsec_nanos() > 0 { duration.as_secs() + 1 } else { duration.as_secs() };
    humantime::format_duration(Duration::from_secs(rounded))
}

// === impl Violation ===

impl Violation {
    /// Whether the feature store lacks something, rather than the request being wrong.
    pub(crate) fn is_of_store(&self) -> bool {
        self.reason == FEATURE_STALE || self.reason == FEATURE_MISSING
    }
}
