//! A row: what a batch is made of, and the step that makes it.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    sync::Arc,
};

use ev_models_core::{DataType, Tensors};

use crate::{PrepareError, inputs::RowInputs, tensors};

/// One row on its way to a batch.
pub struct Row {
    pub(crate) shape: RowShape,
    pub(crate) bytes: usize,
    pub(crate) prepare: Box<dyn Prepare>,
}

/// Types and dimensions of a row's inputs, without the dimension that counts rows. Rows of one shape share a batch.
#[derive(Debug, Clone)]
pub struct RowShape(Arc<[InputShape]>);

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct InputShape {
    pub(crate) datatype: DataType,
    pub(crate) dimensions: Box<[usize]>,
}

/// The step from what a caller sent to the values of a row, such as decoding an image.
///
/// It runs on the worker thread, just before the model, so that no serving thread is kept.
/// A row that fails or panics here fails alone.
pub trait Prepare: Send {
    /// Fills every input of the row.
    ///
    /// # Errors
    ///
    /// Whatever the caller of the row understands: it gets the error back in [`crate::RowError::Prepare`].
    fn prepare(self: Box<Self>, inputs: &mut RowInputs<'_>, scratch: &mut Scratch) -> Result<(), PrepareError>;
}

/// What preparing keeps from row to row on one worker: buffers, decoders. Emptied when preparing a row panics.
#[derive(Default)]
pub struct Scratch(HashMap<TypeId, Box<dyn Any + Send>>);

/// A row of tensors that are there already.
struct ReadyRow {
    batch: Arc<Tensors>,
    row: usize,
}

// === impl Row ===

impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Row").field("shape", &self.shape).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Row {
    /// A row that is prepared on the worker; `bytes` is what it holds while it waits.
    #[must_use]
    pub fn new(shape: RowShape, bytes: usize, prepare: impl Prepare + 'static) -> Row {
        Row { shape, bytes, prepare: Box::new(prepare) }
    }

    /// The rows of tensors that are there already; they are copied once, into the batch, and kept until the last of
    /// them is.
    ///
    /// None when the tensors do not all have the same number of rows, or none at all.
    #[must_use]
    pub fn split(batch: Tensors) -> Option<Vec<Row>> {
        let rows = batch.first()?.rows();
        let sound = |tensor: &ev_models_core::Tensor| {
            let values = tensor.shape.iter().try_fold(1_usize, |values, dimension| values.checked_mul(*dimension));
            tensor.shape.first() == Some(&rows) && values == Some(tensor.data.len())
        };
        if !batch.iter().all(sound) {
            return None;
        }
        let shape = RowShape(
            batch
                .iter()
                .map(|tensor| InputShape { datatype: tensor.data.datatype(), dimensions: tensor.shape[1..].into() })
                .collect(),
        );
        let bytes = batch.iter().map(|tensor| tensors::bytes(&tensor.data)).sum::<usize>().div_ceil(rows.max(1));
        let batch = Arc::new(batch);
        let row = |row| Row::new(shape.clone(), bytes, ReadyRow { batch: Arc::clone(&batch), row });
        Some((0..rows).map(row).collect())
    }
}

// === impl RowShape ===

impl RowShape {
    /// The inputs in signature order.
    #[must_use]
    pub fn new<D: Into<Box<[usize]>>>(inputs: impl IntoIterator<Item = (DataType, D)>) -> RowShape {
        let input = |(datatype, dimensions): (DataType, D)| InputShape { datatype, dimensions: dimensions.into() };
        RowShape(inputs.into_iter().map(input).collect())
    }

    pub(crate) fn inputs(&self) -> &[InputShape] {
        &self.0
    }
}

impl PartialEq for RowShape {
    fn eq(&self, other: &RowShape) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl Eq for RowShape {}

// === impl InputShape ===

impl InputShape {
    /// Values of one row.
    pub(crate) fn width(&self) -> usize {
        self.dimensions.iter().product()
    }
}

// === impl Prepare ===

impl<F> Prepare for F
where
    F: FnOnce(&mut RowInputs<'_>, &mut Scratch) -> Result<(), PrepareError> + Send,
{
    fn prepare(self: Box<Self>, inputs: &mut RowInputs<'_>, scratch: &mut Scratch) -> Result<(), PrepareError> {
        self(inputs, scratch)
    }
}

impl Prepare for ReadyRow {
    fn prepare(self: Box<Self>, inputs: &mut RowInputs<'_>, _: &mut Scratch) -> Result<(), PrepareError> {
        for (input, tensor) in self.batch.iter().enumerate() {
            inputs.copy(input, &tensor.data, self.row)?;
        }
        Ok(())
    }
}

// === impl Scratch ===

impl Scratch {
    /// The worker's own value of a type, made when it is first asked for.
    ///
    /// # Panics
    ///
    /// Never: what is stored under a type is of that type.
    pub fn get<T: Default + Send + 'static>(&mut self) -> &mut T {
        let value = self.0.entry(TypeId::of::<T>()).or_insert_with(|| Box::<T>::default());
        value.downcast_mut().expect("stored under its own type")
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use ev_models_core::Tensor;

    use super::*;

    #[test]
    fn tensors_are_split_when_they_agree_on_their_rows() {
        let check = |tensors: Vec<Tensor>, expected: Option<(usize, usize)>| {
            let found = Row::split(Tensors::from(tensors));
            assert_eq!(found.map(|rows| (rows.len(), rows.first().map_or(0, |row| row.bytes))), expected);
        };
        let f32 = |shape: &[usize]| Tensor::f32(shape, vec![0.0; shape.iter().product()]);
        check(vec![f32(&[2, 3])], Some((2, 12)));
        check(vec![f32(&[2, 3]), f32(&[2])], Some((2, 16)));
        check(vec![f32(&[0, 3])], Some((0, 0)));
        check(vec![f32(&[2, 3]), f32(&[3, 3])], None);
        check(vec![f32(&[])], None);
        check(vec![], None);
        let mut lying = f32(&[2, 3]);
        lying.shape[1] = usize::MAX;
        check(vec![lying], None);
    }

    #[test]
    fn scratch_is_kept_by_type() {
        let mut scratch = Scratch::default();
        scratch.get::<Vec<u8>>().push(7);
        assert_eq!(scratch.get::<Vec<u8>>(), &[7]);
        assert_eq!(scratch.get::<String>(), "");
        scratch.clear();
        assert!(scratch.get::<Vec<u8>>().is_empty());
    }
}
