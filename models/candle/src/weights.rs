//! `model.safetensors`: tensors by name, in whatever float type, as float32.

use std::cell::Cell;

use candle_core::{DType, Device, safetensors::SliceSafetensors};
use ev_models_core::LoadError;
use safetensors::Dtype;

/// The tensors of a file.
pub(crate) struct Weights<'f> {
    tensors: SliceSafetensors<'f>,
    file: &'f str,
    used: Cell<usize>,
}

// === impl Weights ===

impl<'f> Weights<'f> {
    /// Reads a file's header.
    ///
    /// # Errors
    ///
    /// [`LoadError::Malformed`] when it is none, or does not describe the bytes that follow.
    pub(crate) fn read(bytes: &'f [u8], file: &'f str) -> Result<Weights<'f>, LoadError> {
        let tensors = SliceSafetensors::new(bytes).map_err(|error| malformed(file, "the header", &error))?;
        Ok(Weights { tensors, file, used: Cell::new(0) })
    }

    /// The values of a tensor, row-major.
    ///
    /// # Errors
    ///
    /// [`LoadError::Malformed`] naming the tensor, and the shape or type found and expected.
    pub(crate) fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
        let place = || format!("tensor `{name}`");
        let view = self.tensors.get(name).map_err(|_| self.problem(&place(), "is missing".to_owned()))?;
        if view.shape() != shape {
            let found: Vec<usize> = view.shape().iter().copied().take(8).collect();
            return Err(self.problem(&place(), format!("has the shape {found:?}, expected {shape:?}")));
        }
        if !matches!(view.dtype(), Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F64) {
            return Err(self.problem(&place(), format!("is {:?}, expected F32, F16, BF16 or F64", view.dtype())));
        }
        let tensor = self.tensors.load(name, &Device::Cpu);
        let values = tensor.and_then(|tensor| tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>());
        let values = values.map_err(|error| malformed(self.file, &place(), &error))?;
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(self.problem(&place(), format!("holds {} at {index}, expected finite numbers", values[index])));
        }
        self.used.set(self.used.get() + values.len());
        Ok(values)
    }

    /// Number of values asked for so far.
    pub(crate) fn used(&self) -> usize {
        self.used.get()
    }

    fn problem(&self, place: &str, problem: String) -> LoadError {
        LoadError::Malformed { file: self.file.to_owned(), place: place.to_owned(), problem }
    }
}

fn malformed(file: &str, place: &str, error: &candle_core::Error) -> LoadError {
    let problem = error.to_string().lines().next().unwrap_or_default().chars().take(200).collect();
    LoadError::Malformed { file: file.to_owned(), place: place.to_owned(), problem }
}
