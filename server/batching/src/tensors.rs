//! Tensors of a batch: made, cut to the rows that are in it, and split by row again.

use std::ops::Range;

use ev_models_core::{DataType, Tensor, TensorData, Tensors};

use crate::RowShape;

/// Bytes that values take.
pub(crate) fn bytes(data: &TensorData) -> usize {
    match data {
        TensorData::Bytes(values) => values.iter().map(|value| value.len() + size_of::<Vec<u8>>()).sum(),
        other => other.datatype().size().unwrap_or(1).saturating_mul(other.len()),
    }
}

/// Tensors for `rows` rows of a shape, in the memory of `old` where the types are the same.
pub(crate) fn allocate(shape: &RowShape, rows: usize, mut old: Tensors) -> Tensors {
    let mut reused: Vec<Option<TensorData>> =
        old.iter_mut().map(|tensor| Some(std::mem::replace(&mut tensor.data, TensorData::Bool(Vec::new())))).collect();
    let tensor = |(index, input): (usize, &crate::row::InputShape)| {
        let reused = reused.get_mut(index).and_then(Option::take).filter(|data| data.datatype() == input.datatype);
        let mut data = reused.unwrap_or_else(|| empty(input.datatype));
        resize(&mut data, rows * input.width());
        Tensor { shape: std::iter::once(rows).chain(input.dimensions.iter().copied()).collect(), data }
    };
    Tensors::from(shape.inputs().iter().enumerate().map(tensor).collect::<Vec<_>>())
}

/// Leaves the first `rows` rows of a batch.
pub(crate) fn truncate(shape: &RowShape, batch: &mut Tensors, rows: usize) {
    for (tensor, input) in batch.iter_mut().zip(shape.inputs()) {
        resize(&mut tensor.data, rows * input.width());
        tensor.shape[0] = rows;
    }
}

/// Copies a range of values over another of the same length; false when it cannot.
pub(crate) fn copy(from: &TensorData, source: Range<usize>, to: &mut TensorData, place: Range<usize>) -> bool {
    fn values<T: Clone>(from: &[T], source: Range<usize>, to: &mut [T], place: Range<usize>) -> bool {
        match (from.get(source), to.get_mut(place)) {
            (Some(from), Some(to)) if from.len() == to.len() => {
                to.clone_from_slice(from);
                true
            }
            _ => false,
        }
    }
    match (from, to) {
        (TensorData::Bool(from), TensorData::Bool(to)) => values(from, source, to, place),
        (TensorData::Uint8(from), TensorData::Uint8(to)) => values(from, source, to, place),
        (TensorData::Int32(from), TensorData::Int32(to)) => values(from, source, to, place),
        (TensorData::Int64(from), TensorData::Int64(to)) => values(from, source, to, place),
        (TensorData::Fp32(from), TensorData::Fp32(to)) => values(from, source, to, place),
        (TensorData::Fp64(from), TensorData::Fp64(to)) => values(from, source, to, place),
        (TensorData::Bytes(from), TensorData::Bytes(to)) => values(from, source, to, place),
        _ => false,
    }
}

/// Splits what a run gave into what it gave for each row; the first output that has not one for each is the error.
pub(crate) fn split(outputs: &Tensors, rows: usize) -> Result<Vec<Tensors>, usize> {
    let unfit = |tensor: &Tensor| {
        tensor.shape.first() != Some(&rows) || tensor.shape.iter().product::<usize>() != tensor.data.len()
    };
    if let Some(output) = outputs.iter().position(unfit) {
        return Err(output);
    }
    let row = |row: usize| Tensors::from(outputs.iter().map(|tensor| row_of(tensor, row)).collect::<Vec<_>>());
    Ok((0..rows).map(row).collect())
}

fn row_of(tensor: &Tensor, row: usize) -> Tensor {
    let width: usize = tensor.shape[1..].iter().product();
    let range = row * width..(row + 1) * width;
    let data = match &tensor.data {
        TensorData::Bool(values) => TensorData::Bool(values[range].to_vec()),
        TensorData::Uint8(values) => TensorData::Uint8(values[range].to_vec()),
        TensorData::Int32(values) => TensorData::Int32(values[range].to_vec()),
        TensorData::Int64(values) => TensorData::Int64(values[range].to_vec()),
        TensorData::Fp32(values) => TensorData::Fp32(values[range].to_vec()),
        TensorData::Fp64(values) => TensorData::Fp64(values[range].to_vec()),
        TensorData::Bytes(values) => TensorData::Bytes(values[range].to_vec()),
    };
    Tensor { shape: std::iter::once(1).chain(tensor.shape[1..].iter().copied()).collect(), data }
}

fn empty(datatype: DataType) -> TensorData {
    match datatype {
        DataType::Bool => TensorData::Bool(Vec::new()),
        DataType::Uint8 => TensorData::Uint8(Vec::new()),
        DataType::Int32 => TensorData::Int32(Vec::new()),
        DataType::Int64 => TensorData::Int64(Vec::new()),
        DataType::Fp32 => TensorData::Fp32(Vec::new()),
        DataType::Fp64 => TensorData::Fp64(Vec::new()),
        DataType::Bytes => TensorData::Bytes(Vec::new()),
    }
}

fn resize(data: &mut TensorData, len: usize) {
    match data {
        TensorData::Bool(values) => values.resize(len, false),
        TensorData::Uint8(values) => values.resize(len, 0),
        TensorData::Int32(values) => values.resize(len, 0),
        TensorData::Int64(values) => values.resize(len, 0),
        TensorData::Fp32(values) => values.resize(len, 0.0),
        TensorData::Fp64(values) => values.resize(len, 0.0),
        TensorData::Bytes(values) => values.resize(len, Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_every_type_go_in_and_out() {
        let data = [
            TensorData::Bool(vec![true, false, true, true]),
            TensorData::Uint8(vec![1, 2, 3, 4]),
            TensorData::Int32(vec![-1, 2, -3, 4]),
            TensorData::Int64(vec![1, 2, 3, i64::MIN]),
            TensorData::Fp32(vec![1.0, 2.0, 3.0, 4.0]),
            TensorData::Fp64(vec![1.0, 2.0, 3.0, 4.0]),
            TensorData::Bytes(vec![vec![1], vec![], vec![2, 3], vec![4]]),
        ];
        let shape = RowShape::new(data.iter().map(|data| (data.datatype(), [2])));
        let mut batch = allocate(&shape, 3, Tensors::default());
        for (tensor, data) in batch.iter_mut().zip(&data) {
            assert!(copy(data, 0..2, &mut tensor.data, 2..4), "{:?}", data.datatype());
            assert!(copy(data, 2..4, &mut tensor.data, 0..2), "{:?}", data.datatype());
            assert!(!copy(data, 2..5, &mut tensor.data, 0..3), "{:?}", data.datatype());
        }
        truncate(&shape, &mut batch, 2);
        let rows = split(&batch, 2).expect("two rows");
        for (index, data) in data.iter().enumerate() {
            assert_eq!(rows[0][index].shape, [1, 2]);
            assert!(copy(data, 2..4, &mut batch[index].data, 2..4));
            assert_eq!(rows[0][index].data, row_of(&batch[index], 1).data, "{:?}", data.datatype());
        }
        // Another shape, in the same memory where the type allows it.
        let other = RowShape::new([(DataType::Fp32, vec![]), (DataType::Uint8, vec![3])]);
        let batch = allocate(&other, 2, batch);
        assert_eq!((batch.len(), batch[1].shape.as_slice(), bytes(&batch[1].data)), (2, &[2, 3][..], 6));
    }

    #[test]
    fn an_output_without_a_row_for_each_is_refused() {
        let outputs = Tensors::from(vec![Tensor::f32([2, 1], vec![0.0; 2]), Tensor::f32([1, 2], vec![0.0; 2])]);
        assert_eq!(split(&outputs, 2), Err(1));
    }
}
