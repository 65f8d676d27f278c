//! The matrix product in AVX-512: weights packed by the columns that one register tile takes.

#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m512, __mmask16, _mm512_add_ps, _mm512_div_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps,
    _mm512_maskz_loadu_ps, _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps, _mm512_set1_ps, _mm512_setzero_ps,
};

use super::{
    cpu::Avx512,
    gelu::{DENOMINATOR, ERF_ONE_FROM, NUMERATOR},
    lanes::LANES,
    linear::Store,
};

/// Weights in panels: for each input, the weights of a panel's outputs side by side, with zeros beyond the last.
#[derive(Debug)]
pub(super) struct Packed {
    cpu: Avx512,
    inputs: usize,
    outputs: usize,
    panels: Vec<Panel>,
    weights: Vec<f32>,
}

/// Consecutive outputs whose sums fit the registers together with some rows.
#[derive(Debug, Clone, Copy)]
struct Panel {
    /// First output.
    column: usize,
    /// Registers of outputs.
    vectors: usize,
    /// Where its weights begin.
    start: usize,
}

/// A product's operands, for one panel.
struct Task<'a> {
    inputs: usize,
    outputs: usize,
    column: usize,
    weights: &'a [f32],
    rows: &'a [f32],
    bias: &'a [f32],
    squares: &'a mut [f32],
    output: &'a mut [f32],
}

/// What is done with sums; as constants, so that a tile's code has only what it needs.
const BIAS: u8 = 0;
const GELU: u8 = 1;
const ADD: u8 = 2;

// === impl Packed ===

impl Packed {
    /// Packs weights of a row of `outputs` for each input.
    pub(super) fn new(cpu: Avx512, weights: &[f32], outputs: usize) -> Packed {
        let inputs = weights.len() / outputs;
        let mut panels = Vec::new();
        let mut packed = Vec::new();
        let mut column = 0;
        for vectors in split(outputs.div_ceil(LANES)) {
            panels.push(Panel { column, vectors, start: packed.len() });
            let end = outputs.min(column + vectors * LANES);
            for row in weights.chunks_exact(outputs) {
                packed.extend_from_slice(&row[column..end]);
                packed.extend(std::iter::repeat_n(0.0, column + vectors * LANES - end));
            }
            column = end;
        }
        Packed { cpu, inputs, outputs, panels, weights: packed }
    }

    pub(super) fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// The same weights, those of each input times its scale.
    pub(super) fn scale(&self, scales: &[f32], scaled: &mut Vec<f32>) {
        scaled.clear();
        for (index, panel) in self.panels.iter().enumerate() {
            let end = self.panels.get(index + 1).map_or(self.weights.len(), |next| next.start);
            let rows = self.weights[panel.start..end].chunks_exact(panel.vectors * LANES).zip(scales);
            scaled.extend(rows.flat_map(|(row, scale)| row.iter().map(move |weight| weight * scale)));
        }
    }

    /// Multiplies rows with weights that lie as [`Packed::weights`] do.
    pub(super) fn run(&self, weights: &[f32], rows: &[f32], bias: &[f32], store: Store<'_>, output: &mut [f32]) {
        let mut none: [f32; 0] = [];
        match store {
            Store::Bias => self.panels::<BIAS>(weights, rows, bias, &mut none, output),
            Store::Add => self.panels::<ADD>(weights, rows, bias, &mut none, output),
            Store::Gelu { squares } => self.panels::<GELU>(weights, rows, bias, squares, output),
        }
    }

    fn panels<const STORE: u8>(
        &self,
        weights: &[f32],
        rows: &[f32],
        bias: &[f32],
        squares: &mut [f32],
        output: &mut [f32],
    ) {
        let count = output.len() / self.outputs;
        assert!(
            weights.len() == self.weights.len()
                && rows.len() >= count * self.inputs
                && bias.len() == self.outputs
                && (STORE != GELU || squares.len() == self.outputs),
            "a product's sizes come from a checked network"
        );
        for panel in &self.panels {
            let mut task = Task {
                inputs: self.inputs,
                outputs: self.outputs,
                column: panel.column,
                weights: &weights[panel.start..],
                rows,
                bias,
                squares: &mut *squares,
                output: &mut *output,
            };
            // SAFETY: `self.cpu` proves the CPU features, and the assertion above the sizes.
            unsafe {
                // As many rows as leave registers for the weights of one input.
                match panel.vectors {
                    1 => task.rows::<1, 14, STORE>(self.cpu, count),
                    2 => task.rows::<2, 12, STORE>(self.cpu, count),
                    3 => task.rows::<3, 8, STORE>(self.cpu, count),
                    4 => task.rows::<4, 6, STORE>(self.cpu, count),
                    _ => task.rows::<5, 5, STORE>(self.cpu, count),
                }
            }
        }
    }
}

/// Splits registers of outputs into panels of up to five, evenly where that can be.
fn split(vectors: usize) -> Vec<usize> {
    let even = [5, 4, 3].into_iter().find(|size| vectors.is_multiple_of(*size)).unwrap_or(4);
    let mut panels = vec![even; vectors / even];
    panels.extend(Some(vectors % even).filter(|rest| *rest > 0));
    panels
}

// === impl Task ===

impl Task<'_> {
    /// All rows, a tile of them at a time.
    ///
    /// # Safety
    ///
    /// The CPU has AVX-512 F. `weights` holds `inputs` times `VECTORS` registers, `rows` and `output` hold `count`
    /// rows of `inputs` and `outputs` values, `bias` `outputs` values, and `squares` as many if they are stored.
    #[target_feature(enable = "avx512f")]
    unsafe fn rows<const VECTORS: usize, const ROWS: usize, const STORE: u8>(&mut self, _cpu: Avx512, count: usize) {
        for first in (0..count).step_by(ROWS) {
            // SAFETY: as the caller says, and `first` is one of `count` rows.
            unsafe { self.tile::<VECTORS, ROWS, STORE>(first, ROWS.min(count - first)) };
        }
    }

    /// `taken` rows from `first` on.
    ///
    /// # Safety
    ///
    /// As [`Task::rows`], and `first + taken` is at most `count`, `taken` from 1 to `ROWS`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    #[expect(clippy::needless_range_loop, reason = "loops over constants are what the compiler unrolls into registers")]
    unsafe fn tile<const VECTORS: usize, const ROWS: usize, const STORE: u8>(&mut self, first: usize, taken: usize) {
        let mut sums = [[_mm512_setzero_ps(); VECTORS]; ROWS];
        // Rows that are not there are computed from the last that is, and not written.
        let starts: [usize; ROWS] = std::array::from_fn(|row| (first + row.min(taken - 1)) * self.inputs);
        for input in 0..self.inputs {
            // SAFETY: `weights` holds `VECTORS` registers for each of `inputs`.
            let weights: [__m512; VECTORS] = std::array::from_fn(|vector| unsafe {
                _mm512_loadu_ps(self.weights.as_ptr().add((input * VECTORS + vector) * LANES))
            });
            for row in 0..ROWS {
                // SAFETY: each of `starts` begins a row of `inputs` values.
                let value = _mm512_set1_ps(unsafe { *self.rows.get_unchecked(starts[row] + input) });
                for vector in 0..VECTORS {
                    sums[row][vector] = _mm512_fmadd_ps(value, weights[vector], sums[row][vector]);
                }
            }
        }
        for vector in 0..VECTORS {
            let column = self.column + vector * LANES;
            let mask = mask(self.outputs.saturating_sub(column));
            // SAFETY: the mask leaves out what is beyond `outputs`; rows are `outputs` apart, `taken` of them are there.
            unsafe {
                let bias = _mm512_maskz_loadu_ps(mask, self.bias.as_ptr().wrapping_add(column));
                let mut squares = _mm512_setzero_ps();
                for row in 0..ROWS {
                    if row < taken {
                        let place = self.output.as_mut_ptr().wrapping_add((first + row) * self.outputs + column);
                        let mut value = _mm512_add_ps(sums[row][vector], bias);
                        if STORE == GELU {
                            value = gelu(value);
                            squares = _mm512_fmadd_ps(value, value, squares);
                        }
                        if STORE == ADD {
                            value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(mask, place));
                        }
                        _mm512_mask_storeu_ps(place, mask, value);
                    }
                }
                if STORE == GELU {
                    let place = self.squares.as_mut_ptr().wrapping_add(column);
                    squares = _mm512_add_ps(squares, _mm512_maskz_loadu_ps(mask, place));
                    _mm512_mask_storeu_ps(place, mask, squares);
                }
            }
        }
    }
}

/// The first lanes of a register.
fn mask(lanes: usize) -> __mmask16 {
    if lanes >= LANES { __mmask16::MAX } else { (1 << lanes) - 1 }
}

/// [`super::gelu::gelu`] of sixteen values.
#[inline]
#[target_feature(enable = "avx512f")]
fn gelu(x: __m512) -> __m512 {
    let z = _mm512_mul_ps(x, _mm512_set1_ps(std::f32::consts::FRAC_1_SQRT_2));
    let z = _mm512_min_ps(_mm512_max_ps(z, _mm512_set1_ps(-ERF_ONE_FROM)), _mm512_set1_ps(ERF_ONE_FROM));
    let square = _mm512_mul_ps(z, z);
    let mut numerator = _mm512_set1_ps(NUMERATOR[0]);
    for coefficient in &NUMERATOR[1..] {
        numerator = _mm512_fmadd_ps(numerator, square, _mm512_set1_ps(*coefficient));
    }
    let mut denominator = _mm512_set1_ps(DENOMINATOR[0]);
    for coefficient in &DENOMINATOR[1..] {
        denominator = _mm512_fmadd_ps(denominator, square, _mm512_set1_ps(*coefficient));
    }
    let half = _mm512_mul_ps(x, _mm512_set1_ps(0.5));
    _mm512_fmadd_ps(half, _mm512_div_ps(_mm512_mul_ps(z, numerator), denominator), half)
}
