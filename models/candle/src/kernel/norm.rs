//! Layer norm over the channels of each pixel.

use super::{
    Kernel,
    cpu::Work,
    lanes::{LANES, mul_add, sum},
};
use crate::network::count;

/// Scale and shift of each channel.
#[derive(Debug)]
pub(crate) struct Norm {
    pub(crate) weight: Vec<f32>,
    pub(crate) bias: Vec<f32>,
    pub(crate) epsilon: f32,
}

struct NormAll<'a> {
    norm: &'a Norm,
    pixels: &'a mut [f32],
}

// === impl Norm ===

impl Norm {
    /// Norms every pixel in place.
    pub(crate) fn run(&self, kernel: Kernel, pixels: &mut [f32]) {
        kernel.run(NormAll { norm: self, pixels });
    }

    /// Norms one pixel in place.
    #[inline(always)]
    pub(super) fn pixel<const FUSED: bool>(&self, pixel: &mut [f32]) {
        let channels = count(pixel.len());
        let (chunks, rest) = pixel.as_chunks::<LANES>();
        let mut sums = [0.0; LANES];
        for chunk in chunks {
            for lane in 0..LANES {
                sums[lane] += chunk[lane];
            }
        }
        let mean = (sum(&sums) + rest.iter().sum::<f32>()) / channels;
        let mut squares = [0.0; LANES];
        for chunk in chunks {
            for lane in 0..LANES {
                let distance = chunk[lane] - mean;
                squares[lane] = mul_add::<FUSED>(distance, distance, squares[lane]);
            }
        }
        let rest: f32 = rest.iter().map(|value| (value - mean) * (value - mean)).sum();
        let scale = 1.0 / ((sum(&squares) + rest) / channels + self.epsilon).sqrt();
        for ((value, weight), bias) in pixel.iter_mut().zip(&self.weight).zip(&self.bias) {
            *value = mul_add::<FUSED>((*value - mean) * scale, *weight, *bias);
        }
    }
}

impl Work for NormAll<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        for pixel in self.pixels.chunks_exact_mut(self.norm.weight.len()) {
            self.norm.pixel::<FUSED>(pixel);
        }
    }
}
