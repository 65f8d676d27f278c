//! What the store has of one vehicle, for one model.

use std::time::Duration;

use ev_features::{FeatureValue, Status};

use super::StoredInputs;
use crate::pipeline::{assemble::RowBuilder, outcome::Violation};

/// What the store has of the inputs that a request does not give.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct StoredRow {
    pub(crate) features: Vec<StoredFeature>,
    pub(super) refused: Vec<Violation>,
    /// The request gives nothing, so that nothing of it can be wrong.
    pub(super) is_all: bool,
}

/// An input as the store has it.
#[derive(Debug, PartialEq)]
pub(crate) struct StoredFeature {
    /// Its place in the model's [`StoredInputs::inputs`].
    pub(crate) input: usize,
    /// What the model is given; none when it goes without.
    pub(crate) value: Option<FeatureValue>,
    /// Of what the store has, used or not.
    pub(crate) age: Option<Duration>,
    pub(crate) status: Status,
    /// The value is the model's own default, which counts as not given.
    pub(super) is_model_default: bool,
}

// === impl StoredRow ===

impl StoredRow {
    /// What the store lacks, where that is all that there is to be told.
    pub(crate) fn take_refusal(&mut self) -> Option<Vec<Violation>> {
        (self.is_all && !self.refused.is_empty()).then(|| std::mem::take(&mut self.refused))
    }

    /// Gives the model what the store has, and refuses the row for what it lacks.
    pub(crate) fn fill(&self, inputs: &StoredInputs, builder: &mut RowBuilder<'_>) {
        for stored in self.features.iter().filter(|stored| !stored.is_model_default) {
            if let (Some(value), Some(input)) = (&stored.value, inputs.inputs.get(stored.input)) {
                builder.feature(input.feature, value.as_value());
            }
        }
        for Violation { field, reason, description } in &self.refused {
            builder.violate(field, reason, description.clone());
        }
    }
}
