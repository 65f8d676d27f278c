//! One prediction: route, assemble, run, postprocess.
//!
//! Everything here is synchronous and runs on a serving thread; the only await is the pause between slices of a large batch.

mod assemble;
mod ids;
mod outcome;
mod plan;
mod postprocess;
mod run;
#[cfg(test)]
mod tests;
mod vocabulary;

pub(crate) use outcome::{
    Estimate, OutOfDistribution, OutOfDistributionReason, Outcome, PredictError, Timings, Violation,
};

pub(crate) use assemble::{InputValue, RowBuilder};
pub(crate) use ids::PredictionIds;
pub(crate) use plan::{Plan, PlannedInput};
pub(crate) use run::{BadRow, Batch, BodyInstances, CoreState, Features, Want, predict_batch, predict_row};
