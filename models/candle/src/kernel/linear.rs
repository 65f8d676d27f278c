//! Products with a matrix of weights, and what is done to their values.

#![allow(unsafe_code)]

use super::{
    Kernel,
    elementwise::{Bias, Gelu},
};
#[cfg(target_arch = "x86_64")]
use super::{cpu::Variant, packed::Packed};

/// Weights, laid out for one kernel, and bias.
#[derive(Debug)]
pub(crate) struct Linear {
    inputs: usize,
    bias: Vec<f32>,
    matrix: Matrix,
}

/// Weights from inputs to outputs.
#[derive(Debug)]
enum Matrix {
    /// A row an input.
    Plain(Vec<f32>),
    #[cfg(target_arch = "x86_64")]
    Packed(Packed),
}

/// What becomes of a product's values.
#[derive(Debug)]
pub(crate) enum Store<'a> {
    /// They get the bias and are written.
    Bias,
    /// They get the bias and GELU and are written; the squares of each column are added up.
    Gelu {
        /// One a column.
        squares: &'a mut [f32],
    },
    /// They get the bias and are added to what is there.
    Add,
}

// === impl Linear ===

impl Linear {
    /// `weights` has a row of `bias.len()` values for each input.
    pub(crate) fn new(kernel: Kernel, weights: &[f32], inputs: usize, bias: Vec<f32>) -> Linear {
        let matrix = match kernel.variant() {
            #[cfg(target_arch = "x86_64")]
            Variant::Avx512(cpu) => Matrix::Packed(Packed::new(cpu, weights, bias.len())),
            _ => Matrix::Plain(weights.to_vec()),
        };
        Linear { inputs, bias, matrix }
    }

    /// Number of columns of the answer.
    pub(crate) fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// Multiplies rows of inputs.
    pub(crate) fn run(&self, kernel: Kernel, rows: &[f32], store: Store<'_>, output: &mut [f32]) {
        match &self.matrix {
            Matrix::Plain(weights) => self.plain(kernel, weights, rows, store, output),
            #[cfg(target_arch = "x86_64")]
            Matrix::Packed(packed) => packed.run(packed.weights(), rows, &self.bias, store, output),
        }
    }

    /// Multiplies rows of inputs that are scaled, each input by its own scale, by scaling the weights instead.
    pub(crate) fn run_scaled(
        &self,
        kernel: Kernel,
        rows: &[f32],
        scales: &[f32],
        scratch: &mut Vec<f32>,
        store: Store<'_>,
        output: &mut [f32],
    ) {
        match &self.matrix {
            Matrix::Plain(weights) => {
                scratch.clear();
                let rows_of_weights = weights.chunks_exact(self.outputs()).zip(scales);
                scratch.extend(rows_of_weights.flat_map(|(row, scale)| row.iter().map(move |weight| weight * scale)));
                self.plain(kernel, scratch, rows, store, output);
            }
            #[cfg(target_arch = "x86_64")]
            Matrix::Packed(packed) => {
                packed.scale(scales, scratch);
                packed.run(scratch, rows, &self.bias, store, output);
            }
        }
    }

    fn plain(&self, kernel: Kernel, weights: &[f32], rows: &[f32], store: Store<'_>, output: &mut [f32]) {
        let is_added = matches!(store, Store::Add);
        multiply(rows, weights, self.inputs, self.outputs(), is_added, output);
        match store {
            Store::Bias | Store::Add => kernel.run(Bias { bias: &self.bias, rows: output }),
            Store::Gelu { squares } => kernel.run(Gelu { bias: &self.bias, squares, rows: output }),
        }
    }
}

/// `output = rows * weights`, or `+=`, by the gemm crate on this thread.
fn multiply(rows: &[f32], weights: &[f32], inputs: usize, outputs: usize, is_added: bool, output: &mut [f32]) {
    let count = output.len() / outputs;
    assert!(
        rows.len() >= count * inputs && weights.len() >= inputs * outputs && output.len() >= count * outputs,
        "a product's sizes come from a checked network"
    );
    let (row_stride, output_stride) = (inputs.cast_signed(), outputs.cast_signed());
    // SAFETY: the assertion above covers every element that the sizes and strides name; `output` is borrowed alone.
    unsafe {
        gemm::gemm(
            count,
            outputs,
            inputs,
            output.as_mut_ptr(),
            1,
            output_stride,
            is_added,
            rows.as_ptr(),
            1,
            row_stride,
            weights.as_ptr(),
            1,
            output_stride,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
