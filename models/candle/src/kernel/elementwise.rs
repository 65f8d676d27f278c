//! What is done to each value after a product that does not do it itself, and the scales of the response norm.

use super::{
    Kernel,
    cpu::Work,
    gelu::gelu,
    lanes::{LANES, mul_add, sum},
};
use crate::network::count;

/// Adds a bias to every row.
pub(super) struct Bias<'a> {
    pub(super) bias: &'a [f32],
    pub(super) rows: &'a mut [f32],
}

/// Adds a bias, applies GELU, and adds up the squares of each column.
pub(super) struct Gelu<'a> {
    pub(super) bias: &'a [f32],
    pub(super) squares: &'a mut [f32],
    pub(super) rows: &'a mut [f32],
}

/// Multiplies every row by a scale of each column.
pub(super) struct Scale<'a> {
    pub(super) scales: &'a [f32],
    pub(super) rows: &'a mut [f32],
}

/// Sums of squares to scales: `1 + weight * norm / mean of norms`.
pub(super) fn response(kernel: Kernel, weight: &[f32], squares: &mut [f32]) {
    kernel.run(Response { weight, squares });
}

struct Response<'a> {
    weight: &'a [f32],
    squares: &'a mut [f32],
}

impl Work for Bias<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        for row in self.rows.chunks_exact_mut(self.bias.len()) {
            for (value, bias) in row.iter_mut().zip(self.bias) {
                *value += bias;
            }
        }
    }
}

impl Work for Gelu<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let squares = &mut self.squares[..self.bias.len()];
        for row in self.rows.chunks_exact_mut(self.bias.len()) {
            for ((value, bias), square) in row.iter_mut().zip(self.bias).zip(squares.iter_mut()) {
                *value = gelu::<FUSED>(*value + bias);
                *square = mul_add::<FUSED>(*value, *value, *square);
            }
        }
    }
}

impl Work for Scale<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        for row in self.rows.chunks_exact_mut(self.scales.len()) {
            for (value, scale) in row.iter_mut().zip(self.scales) {
                *value *= scale;
            }
        }
    }
}

impl Work for Response<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        for square in self.squares.iter_mut() {
            *square = square.sqrt();
        }
        let (chunks, rest) = self.squares.as_chunks::<LANES>();
        let mut sums = [0.0; LANES];
        for chunk in chunks {
            for lane in 0..LANES {
                sums[lane] += chunk[lane];
            }
        }
        let mean = (sum(&sums) + rest.iter().sum::<f32>()) / count(self.squares.len());
        let scale = 1.0 / (mean + 1e-6);
        for (norm, weight) in self.squares.iter_mut().zip(self.weight) {
            *norm = mul_add::<FUSED>(*norm * scale, *weight, 1.0);
        }
    }
}
