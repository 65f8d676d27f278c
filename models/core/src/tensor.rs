//! Tensors: shape, type and data, nothing more.

use std::ops::{Deref, DerefMut};

/// Element types, named as the Open Inference Protocol names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum DataType {
    /// Booleans, one byte each.
    Bool,
    /// Unsigned bytes.
    Uint8,
    /// 32-bit signed integers.
    Int32,
    /// 64-bit signed integers.
    Int64,
    /// 32-bit floats.
    Fp32,
    /// 64-bit floats.
    Fp64,
    /// Byte strings of any length.
    Bytes,
}

/// Values of a tensor, row-major.
#[derive(Debug, Clone, PartialEq)]
pub enum TensorData {
    /// Booleans.
    Bool(Vec<bool>),
    /// Unsigned bytes.
    Uint8(Vec<u8>),
    /// 32-bit signed integers.
    Int32(Vec<i32>),
    /// 64-bit signed integers.
    Int64(Vec<i64>),
    /// 32-bit floats.
    Fp32(Vec<f32>),
    /// 64-bit floats.
    Fp64(Vec<f64>),
    /// Byte strings.
    Bytes(Vec<Vec<u8>>),
}

/// A dense tensor; the first dimension counts rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Dimensions; their product is the number of values.
    pub shape: Vec<usize>,
    /// Values.
    pub data: TensorData,
}

/// What one run receives or gives, in signature order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tensors(Vec<Tensor>);

// === impl DataType ===

impl DataType {
    /// The protocol's name, such as `FP32`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            DataType::Bool => "BOOL",
            DataType::Uint8 => "UINT8",
            DataType::Int32 => "INT32",
            DataType::Int64 => "INT64",
            DataType::Fp32 => "FP32",
            DataType::Fp64 => "FP64",
            DataType::Bytes => "BYTES",
        }
    }

    /// Bytes of one value; none for [`DataType::Bytes`], whose values differ in length.
    #[must_use]
    pub fn size(self) -> Option<usize> {
        match self {
            DataType::Bool | DataType::Uint8 => Some(1),
            DataType::Int32 | DataType::Fp32 => Some(4),
            DataType::Int64 | DataType::Fp64 => Some(8),
            DataType::Bytes => None,
        }
    }
}

// === impl TensorData ===

impl TensorData {
    /// Element type.
    #[must_use]
    pub fn datatype(&self) -> DataType {
        match self {
            TensorData::Bool(_) => DataType::Bool,
            TensorData::Uint8(_) => DataType::Uint8,
            TensorData::Int32(_) => DataType::Int32,
            TensorData::Int64(_) => DataType::Int64,
            TensorData::Fp32(_) => DataType::Fp32,
            TensorData::Fp64(_) => DataType::Fp64,
            TensorData::Bytes(_) => DataType::Bytes,
        }
    }

    /// Number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            TensorData::Bool(values) => values.len(),
            TensorData::Uint8(values) => values.len(),
            TensorData::Int32(values) => values.len(),
            TensorData::Int64(values) => values.len(),
            TensorData::Fp32(values) => values.len(),
            TensorData::Fp64(values) => values.len(),
            TensorData::Bytes(values) => values.len(),
        }
    }

    /// True when there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

// === impl Tensor ===

impl Tensor {
    /// A float32 tensor.
    ///
    /// # Panics
    ///
    /// In debug builds, when the shape does not hold as many values as given: a bug of the caller.
    #[must_use]
    pub fn f32(shape: impl Into<Vec<usize>>, values: Vec<f32>) -> Tensor {
        let shape = shape.into();
        debug_assert_eq!(shape.iter().product::<usize>(), values.len());
        Tensor { shape, data: TensorData::Fp32(values) }
    }

    /// First dimension; a tensor without dimensions is one row.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// The values, if they are float32.
    #[must_use]
    pub fn as_f32(&self) -> Option<&[f32]> {
        match &self.data {
            TensorData::Fp32(values) => Some(values),
            _ => None,
        }
    }

    /// Makes this a float32 tensor `[rows, width]` and returns its values to be overwritten, reusing the allocation.
    pub fn reset_f32(&mut self, rows: usize, width: usize) -> &mut Vec<f32> {
        self.shape.clear();
        self.shape.extend([rows, width]);
        if !matches!(self.data, TensorData::Fp32(_)) {
            self.data = TensorData::Fp32(Vec::new());
        }
        let TensorData::Fp32(values) = &mut self.data else { unreachable!("set to float32 above") };
        values.clear();
        values.resize(rows * width, f32::NAN);
        values
    }
}

// === impl Tensors ===

impl From<Vec<Tensor>> for Tensors {
    fn from(tensors: Vec<Tensor>) -> Tensors {
        Tensors(tensors)
    }
}

impl Deref for Tensors {
    type Target = [Tensor];
    fn deref(&self) -> &[Tensor] {
        &self.0
    }
}

impl DerefMut for Tensors {
    fn deref_mut(&mut self) -> &mut [Tensor] {
        &mut self.0
    }
}
