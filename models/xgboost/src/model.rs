//! A loaded booster and its instances.

use std::sync::Arc;

use ev_models_core::{HeadSignature, Instance, LoadError, Model, RunError, Tensor, TensorData, Tensors};

use crate::library::{Booster, Kind};

/// The backend's name.
pub(crate) const NAME: &str = "xgboost";

/// A model as text the library is sure to load; each instance loads it again, for boosters are not to be shared.
pub(crate) struct XgboostModel {
    signature: HeadSignature,
    text: Arc<[u8]>,
}

struct XgboostInstance {
    booster: Booster,
    columns: usize,
    answer: Tensors,
}

// === impl XgboostModel ===

impl XgboostModel {
    /// A model, once the library has loaded the text and answered a row of nothing in the expected width.
    pub(crate) fn new(signature: HeadSignature, text: Vec<u8>) -> Result<XgboostModel, LoadError> {
        let model = XgboostModel { signature, text: text.into() };
        let columns = model.signature.columns;
        let batch = Tensors::from(vec![Tensor::f32([1, columns], vec![f32::NAN; columns])]);
        model.instantiate()?.run(&batch).map_err(|error| engine(error.to_string()))?;
        Ok(model)
    }
}

impl Model for XgboostModel {
    fn signature(&self) -> &HeadSignature {
        &self.signature
    }

    fn instantiate(&self) -> Result<Box<dyn Instance>, LoadError> {
        let empty = || Tensor::f32([0, 1], Vec::new());
        Ok(Box::new(XgboostInstance {
            booster: Booster::load(&self.text).map_err(engine)?,
            columns: self.signature.columns,
            answer: Tensors::from(vec![empty(), empty()]),
        }))
    }
}

fn engine(reason: String) -> LoadError {
    LoadError::Engine { backend: NAME, reason }
}

// === impl XgboostInstance ===

impl Instance for XgboostInstance {
    fn run(&mut self, batch: &Tensors) -> Result<&Tensors, RunError> {
        let (rows, values) = values(batch, self.columns)?;
        for (tensor, kind) in self.answer.iter_mut().zip([Kind::Margin, Kind::Prediction]) {
            tensor.reset_f32(rows, 1);
            let TensorData::Fp32(answers) = &mut tensor.data else { unreachable!("reset to float32 above") };
            if rows == 0 {
                continue;
            }
            let failed = |reason| RunError::Engine { backend: NAME, reason };
            self.booster.predict(values, self.columns, kind, answers).map_err(failed)?;
            tensor.shape[1] = answers.len() / rows;
        }
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
    let tensors = batch.iter().map(|tensor| format!("{}{:?}", tensor.data.datatype().name(), tensor.shape));
    Err(RunError::Shape {
        found: tensors.collect::<Vec<_>>().join(" and "),
        expected: format!("FP32[rows, {columns}]"),
    })
}
