//! A loaded forest and its instances.

use std::sync::Arc;

use ev_models_core::{HeadSignature, Instance, LoadError, Model, RunError, Tensor, Tensors};

use crate::kernel::{Pack, Program, Scratch};

/// A loaded forest.
pub(crate) struct ForestModel<P> {
    signature: HeadSignature,
    program: Arc<Program<P>>,
}

/// A forest with buffers of its own: after the first batch of a size, a run allocates nothing.
struct ForestInstance<P: Pack> {
    program: Arc<Program<P>>,
    scratch: Scratch<P::Scratch>,
    /// Margin and prediction.
    answer: Tensors,
}

// === impl ForestModel ===

impl<P: Pack> ForestModel<P> {
    pub(crate) fn new(format: &str, program: Program<P>) -> ForestModel<P> {
        let forest = program.forest();
        let description =
            format!("XGBoost {format}, {} trees, depth {}, {} kernel", forest.trees.len(), forest.depth(), P::KERNEL);
        let signature = HeadSignature { columns: forest.columns, outputs: forest.groups, description };
        ForestModel { signature, program: Arc::new(program) }
    }
}

impl<P: Pack> Model for ForestModel<P> {
    fn signature(&self) -> &HeadSignature {
        &self.signature
    }

    fn instantiate(&self) -> Result<Box<dyn Instance>, LoadError> {
        let empty = || Tensor::f32([0, self.signature.outputs], Vec::new());
        Ok(Box::new(ForestInstance {
            program: Arc::clone(&self.program),
            scratch: self.program.scratch(),
            answer: Tensors::from(vec![empty(), empty()]),
        }))
    }
}

// === impl ForestInstance ===

impl<P: Pack> Instance for ForestInstance<P> {
    fn run(&mut self, batch: &Tensors) -> Result<&Tensors, RunError> {
        let forest = self.program.forest();
        let (rows, values) = values(batch, forest.columns)?;
        let [margin, prediction] = &mut *self.answer else { unreachable!("made with two tensors") };
        let margins = margin.reset_f32(rows, forest.groups);
        self.program.margins(values, &mut self.scratch, margins);
        let predictions = prediction.reset_f32(rows, forest.objective.width(forest.groups));
        forest.objective.predict(margins, forest.groups, predictions);
        Ok(&self.answer)
    }
}

/// The rows of a batch: their number and values.
fn values(batch: &Tensors, columns: usize) -> Result<(usize, &[f32]), RunError> {
    if let [tensor] = &**batch
        && let [rows, width] = *tensor.shape
        && let Some(values) = tensor.as_f32()
        && width == columns
        && rows.checked_mul(columns) == Some(values.len())
    {
        return Ok((rows, values));
    }
    let tensors = batch
        .iter()
        .map(|tensor| format!("{}{:?} with {} values", tensor.data.datatype().name(), tensor.shape, tensor.data.len()));
    Err(RunError::Shape {
        found: tensors.collect::<Vec<_>>().join(" and "),
        expected: format!("FP32[rows, {columns}]"),
    })
}
