//! Where preparing writes a row: its place in the batch.

use ev_models_core::{DataType, TensorData, Tensors};

use crate::row::RowShape;
use crate::tensors;

/// One row's place in the tensors of a batch.
///
/// Nothing of another row can be seen or changed here, and a row counts as prepared only when every input was written.
pub struct RowInputs<'a> {
    shape: &'a RowShape,
    batch: &'a mut Tensors,
    row: usize,
    written: Vec<bool>,
}

/// A row was written in a way that does not fit its shape.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// There is no such input.
    #[error("input {input} does not exist, the row has {inputs}")]
    Unknown {
        /// Its number, from 0.
        input: usize,
        /// Inputs of the row.
        inputs: usize,
    },
    /// The input has another type.
    #[error("input {input} is {found}, the row's shape says {expected}")]
    DataType {
        /// Its number, from 0.
        input: usize,
        /// The type that was written.
        found: &'static str,
        /// The type of the row's shape.
        expected: &'static str,
    },
    /// The values are too few or too many.
    #[error("input {input} has {found} values, the row's shape says {expected}")]
    Width {
        /// Its number, from 0.
        input: usize,
        /// Values that were written.
        found: usize,
        /// Values of the row's shape.
        expected: usize,
    },
    /// The input was not written at all.
    #[error("input {input} was not written")]
    Missing {
        /// Its number, from 0.
        input: usize,
    },
}

// === impl RowInputs ===

impl<'a> RowInputs<'a> {
    pub(crate) fn new(shape: &'a RowShape, batch: &'a mut Tensors, row: usize) -> RowInputs<'a> {
        RowInputs { shape, batch, row, written: vec![false; shape.inputs().len()] }
    }

    /// The row's shape.
    #[must_use]
    pub fn shape(&self) -> &RowShape {
        self.shape
    }

    /// The place of a float32 input, filled with zeros, to be written row-major.
    ///
    /// # Errors
    ///
    /// [`InputError`] when there is no such input, or it is of another type.
    pub fn f32(&mut self, input: usize) -> Result<&mut [f32], InputError> {
        let place = self.f32_as_left(input)?;
        place.fill(0.0);
        Ok(place)
    }

    /// The same as an earlier row left it, for who writes all of it or fails: what is not overwritten is another caller's.
    ///
    /// # Errors
    ///
    /// As [`RowInputs::f32`].
    pub fn f32_as_left(&mut self, input: usize) -> Result<&mut [f32], InputError> {
        let range = self.place(input, DataType::Fp32)?;
        match &mut self.batch[input].data {
            TensorData::Fp32(values) => Ok(&mut values[range]),
            other => Err(mismatch(input, DataType::Fp32, other.datatype())),
        }
    }

    /// The place of a byte input, filled with zeros, to be written row-major.
    ///
    /// # Errors
    ///
    /// [`InputError`] when there is no such input, or it is of another type.
    pub fn u8(&mut self, input: usize) -> Result<&mut [u8], InputError> {
        let range = self.place(input, DataType::Uint8)?;
        match &mut self.batch[input].data {
            TensorData::Uint8(values) => {
                let place = &mut values[range];
                place.fill(0);
                Ok(place)
            }
            other => Err(mismatch(input, DataType::Uint8, other.datatype())),
        }
    }

    /// Copies row `row` of `values`, which may hold many, whatever their type.
    ///
    /// # Errors
    ///
    /// [`InputError`] when there is no such input, it is of another type, or `values` holds no such row.
    pub fn copy(&mut self, input: usize, values: &TensorData, row: usize) -> Result<(), InputError> {
        let range = self.place(input, values.datatype())?;
        let width = range.len();
        let source = row.checked_mul(width).and_then(|start| Some(start..start.checked_add(width)?));
        let copied = source.is_some_and(|source| tensors::copy(values, source, &mut self.batch[input].data, range));
        if copied { Ok(()) } else { Err(InputError::Width { input, found: values.len(), expected: width }) }
    }

    /// The first input that was not written.
    pub(crate) fn finish(self) -> Result<(), InputError> {
        match self.written.iter().position(|written| !written) {
            Some(input) => Err(InputError::Missing { input }),
            None => Ok(()),
        }
    }

    fn place(&mut self, input: usize, datatype: DataType) -> Result<std::ops::Range<usize>, InputError> {
        let inputs = self.shape.inputs();
        let Some(shape) = inputs.get(input) else {
            return Err(InputError::Unknown { input, inputs: inputs.len() });
        };
        if shape.datatype != datatype {
            return Err(mismatch(input, datatype, shape.datatype));
        }
        self.written[input] = true;
        let width = shape.width();
        Ok(self.row * width..(self.row + 1) * width)
    }
}

fn mismatch(input: usize, found: DataType, expected: DataType) -> InputError {
    InputError::DataType { input, found: found.name(), expected: expected.name() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_written_into_its_own_place() {
        let shape = RowShape::new([(DataType::Fp32, vec![2]), (DataType::Uint8, vec![])]);
        let mut batch = tensors::allocate(&shape, 2, Tensors::default());
        let mut first = RowInputs::new(&shape, &mut batch, 0);
        first.f32(0).expect("float32").copy_from_slice(&[1.0, 2.0]);
        assert_eq!(first.finish(), Err(InputError::Missing { input: 1 }));
        let mut second = RowInputs::new(&shape, &mut batch, 1);
        second.copy(0, &TensorData::Fp32(vec![0.0, 0.0, 3.0, 4.0]), 1).expect("float32");
        second.u8(1).expect("bytes")[0] = 9;
        assert_eq!(second.u8(0), Err(InputError::DataType { input: 0, found: "UINT8", expected: "FP32" }));
        assert_eq!(second.f32(2), Err(InputError::Unknown { input: 2, inputs: 2 }));
        let short = TensorData::Fp32(vec![0.0; 3]);
        assert_eq!(second.copy(0, &short, 1), Err(InputError::Width { input: 0, found: 3, expected: 2 }));
        assert_eq!(second.copy(0, &short, usize::MAX), Err(InputError::Width { input: 0, found: 3, expected: 2 }));
        assert_eq!(second.finish(), Ok(()));
        assert_eq!(batch[0].as_f32(), Some(&[1.0, 2.0, 3.0, 4.0][..]));
        assert_eq!(batch[1].data, TensorData::Uint8(vec![0, 9]));
        // What a row that failed has left is not seen by the next one in its place.
        assert_eq!(RowInputs::new(&shape, &mut batch, 0).f32(0), Ok(&mut [0.0, 0.0][..]));
    }
}
