//! One prediction: route, assemble, run, postprocess.
//!
//! Everything here is synchronous and runs on a serving thread, but for two waits: the pause between slices of a large
//! batch, and the answers of a deployment's queue, whose workers run the heads.

mod assemble;
mod heads;
mod ids;
mod outcome;
mod pictures;
mod plan;
mod postprocess;
mod queued;
mod run;
mod stored;
mod tap;
#[cfg(test)]
mod tests;
mod vocabulary;

pub(crate) use outcome::{
    BatchInfo, Estimate, OutOfDistribution, OutOfDistributionReason, Outcome, PredictError, Timings, Violation,
};

pub(crate) use assemble::{InputValue, RowBuilder};
pub(crate) use heads::{BodyInstances, BodyModels, HeadsModel};
pub(crate) use ids::PredictionIds;
pub(crate) use pictures::{Picture, PictureLimits, Pictures};
pub(crate) use plan::{Plan, PlannedInput};
pub(crate) use queued::{QueuedRow, predict_pictures, submit_picture, submit_row};
pub(crate) use run::{
    BadRow, Batch, CoreState, Features, Rerun, Want, predict_batch, predict_row, predict_together, rehearse_picture,
};
pub(crate) use stored::{Given, StoredFeature, StoredInputs, StoredRow};
pub(crate) use tap::{Draw, Inputs, Served, Tap};
pub(crate) use tap::{Observer, Seen, is_shown};
