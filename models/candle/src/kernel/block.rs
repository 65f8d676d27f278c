//! The layers of a stage: a block, and what stands between stages.

use super::{
    Geometry, Kernel, Linear, Norm, Store,
    depthwise::Depthwise,
    elementwise::{Scale, response},
};
use crate::network::{Scratch, grow};

/// Depthwise convolution, norm, expansion with GELU and response norm, contraction, and the way past all of it.
#[derive(Debug)]
pub(crate) struct Block {
    geometry: Geometry,
    depthwise: Depthwise,
    norm: Norm,
    expand: Linear,
    /// The response norm's weights; its bias is part of the contraction's.
    response: Vec<f32>,
    contract: Linear,
}

/// Norm, and a quarter of the pixels.
#[derive(Debug)]
pub(crate) struct Downsample {
    pub(crate) norm: Norm,
    pub(crate) reduce: Linear,
}

// === impl Block ===

impl Block {
    /// `depthwise` holds the 49 weights of each channel, place by place.
    pub(crate) fn new(
        geometry: Geometry,
        depthwise: &[f32],
        bias: &[f32],
        norm: Norm,
        expand: Linear,
        response: Vec<f32>,
        contract: Linear,
    ) -> Block {
        Block { geometry, depthwise: Depthwise::new(geometry, depthwise, bias), norm, expand, response, contract }
    }

    /// Runs some images in place.
    pub(crate) fn run(&self, kernel: Kernel, images: &mut [f32], scratch: &mut Scratch) {
        let (len, width) = (self.geometry.len(), self.response.len());
        let hidden_len = self.geometry.pixels() * width;
        let count = images.len() / len;
        let Scratch { padded, normed, hidden, squares, scaled, .. } = scratch;
        grow(normed, images.len());
        grow(hidden, count * hidden_len);
        grow(squares, width);
        for (image, normed) in images.chunks_exact(len).zip(normed.chunks_exact_mut(len)) {
            self.depthwise.run(kernel, &self.norm, image, padded, normed);
        }
        // Scaling the weights of the contraction costs their number, scaling what goes into it that of its values.
        let scales_weights = self.geometry.channels < self.geometry.pixels() / 2;
        for ((image, normed), hidden) in
            images.chunks_exact_mut(len).zip(normed.chunks_exact(len)).zip(hidden.chunks_exact_mut(hidden_len))
        {
            squares.fill(0.0);
            self.expand.run(kernel, normed, Store::Gelu { squares }, hidden);
            response(kernel, &self.response, squares);
            if scales_weights {
                self.contract.run_scaled(kernel, hidden, squares, scaled, Store::Add, image);
            } else {
                kernel.run(Scale { scales: squares, rows: hidden });
            }
        }
        if !scales_weights {
            self.contract.run(kernel, hidden, Store::Add, images);
        }
    }
}

// === impl Downsample ===

impl Downsample {
    /// Runs one image. Where rows or columns are odd in number, the last is left out.
    pub(crate) fn run(
        &self,
        kernel: Kernel,
        image: &[f32],
        geometry: Geometry,
        scratch: &mut Scratch,
        output: &mut [f32],
    ) {
        let Geometry { rows, columns, channels } = geometry;
        let patches = &mut scratch.patches;
        grow(patches, rows / 2 * (columns / 2) * 4 * channels);
        // Two pixels side by side are already one half of a patch.
        let pairs = 2 * channels;
        for row in 0..rows / 2 * 2 {
            let source = image[row * columns * channels..][..columns / 2 * pairs].chunks_exact(pairs);
            let start = row / 2 * (columns / 2) * 2 * pairs + row % 2 * pairs;
            for (target, pair) in patches[start..].chunks_mut(2 * pairs).zip(source) {
                target[..pairs].copy_from_slice(pair);
            }
        }
        self.norm.run(kernel, patches);
        self.reduce.run(kernel, patches, Store::Bias, output);
    }
}
