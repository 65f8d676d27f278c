//! Convolution of each channel with its own 7 by 7 weights, and the layer norm that follows.

use super::{
    Geometry, Kernel, Norm,
    cpu::Work,
    lanes::{LANES, Lanes, accumulate, load},
};
use crate::network::grow;

/// Rows and columns of the weights, and how far they reach beyond a pixel.
const SIZE: usize = 7;
const REACH: usize = SIZE / 2;
/// Pixels of a row that are computed together: their sums stay in registers, and each loaded pixel serves all of them.
const TILE: usize = 7;
/// Channels are padded to a multiple of this, so that the last ones are computed like the others.
const CHANNEL_STEP: usize = 8;

/// Weights by place and channel.
#[derive(Debug)]
pub(crate) struct Depthwise {
    geometry: Geometry,
    /// Channels with their padding.
    width: usize,
    weights: Vec<f32>,
    bias: Vec<f32>,
}

/// One image through the convolution and the norm.
struct Image<'a> {
    depthwise: &'a Depthwise,
    norm: &'a Norm,
    pixels: &'a [f32],
    padded: &'a mut [f32],
    output: &'a mut [f32],
}

// === impl Depthwise ===

impl Depthwise {
    /// `weights` holds 49 times as many values as there are channels.
    pub(super) fn new(geometry: Geometry, weights: &[f32], bias: &[f32]) -> Depthwise {
        let width = geometry.channels.next_multiple_of(CHANNEL_STEP);
        let pad = |values: &[f32]| {
            let rows = values.chunks_exact(geometry.channels);
            rows.flat_map(|row| row.iter().copied().chain(std::iter::repeat_n(0.0, width - row.len()))).collect()
        };
        Depthwise { geometry, width, weights: pad(weights), bias: pad(bias) }
    }

    /// Convolves and norms an image; `padded` is scratch that keeps zeros at the same places between calls.
    pub(super) fn run(&self, kernel: Kernel, norm: &Norm, pixels: &[f32], padded: &mut Vec<f32>, output: &mut [f32]) {
        grow(padded, self.geometry.rows * self.row_len());
        kernel.run(Image { depthwise: self, norm, pixels, padded, output });
    }

    /// Values of a padded row.
    fn row_len(&self) -> usize {
        (self.geometry.columns.next_multiple_of(TILE) + 2 * REACH) * self.width
    }
}

impl Work for Image<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(mut self) {
        self.pad();
        for row in 0..self.depthwise.geometry.rows {
            self.row::<FUSED>(row);
        }
    }
}

// === impl Image ===

impl Image<'_> {
    /// Copies the image between columns and channels of zeros.
    #[inline(always)]
    fn pad(&mut self) {
        let Depthwise { geometry, width, .. } = *self.depthwise;
        let rows = self.pixels.chunks_exact(geometry.columns * geometry.channels);
        for (source, target) in rows.zip(self.padded.chunks_exact_mut(self.depthwise.row_len())) {
            let (before, rest) = target.split_at_mut(REACH * width);
            let (inside, after) = rest.split_at_mut(geometry.columns * width);
            before.fill(0.0);
            after.fill(0.0);
            if width == geometry.channels {
                inside.copy_from_slice(source);
            } else {
                for (source, target) in source.chunks_exact(geometry.channels).zip(inside.chunks_exact_mut(width)) {
                    target[..geometry.channels].copy_from_slice(source);
                    target[geometry.channels..].fill(0.0);
                }
            }
        }
    }

    #[inline(always)]
    fn row<const FUSED: bool>(&mut self, row: usize) {
        let Geometry { columns, channels, .. } = self.depthwise.geometry;
        let width = self.depthwise.width;
        let mut channel = 0;
        while channel + LANES <= width {
            for column in (0..columns).step_by(TILE) {
                self.tile::<FUSED, LANES>(row, column, channel);
            }
            channel += LANES;
        }
        if channel < width {
            for column in (0..columns).step_by(TILE) {
                self.tile::<FUSED, CHANNEL_STEP>(row, column, channel);
            }
        }
        for pixel in self.output[row * columns * channels..][..columns * channels].chunks_exact_mut(channels) {
            self.norm.pixel::<FUSED>(pixel);
        }
    }

    /// `N` channels of the pixels of a tile.
    #[inline(always)]
    fn tile<const FUSED: bool, const N: usize>(&mut self, row: usize, column: usize, channel: usize) {
        let Geometry { rows, columns, channels } = self.depthwise.geometry;
        let (width, row_len) = (self.depthwise.width, self.depthwise.row_len());
        let mut sums: [Lanes<N>; TILE] = [load(&self.depthwise.bias, channel); TILE];
        // Rows above and below the image would only add zeros.
        let first = REACH.saturating_sub(row);
        let end = SIZE.min(rows + REACH - row);
        for line in first..end {
            let weights = &self.depthwise.weights[line * SIZE * width..][..SIZE * width];
            let weights: [Lanes<N>; SIZE] = std::array::from_fn(|place| load(weights, place * width + channel));
            let pixels = &self.padded[(row + line - REACH) * row_len + column * width..][..(TILE + SIZE - 1) * width];
            for place in 0..TILE + SIZE - 1 {
                let pixel: Lanes<N> = load(pixels, place * width + channel);
                for (offset, weight) in weights.iter().enumerate() {
                    if place >= offset && place - offset < TILE {
                        accumulate::<FUSED, N>(&mut sums[place - offset], &pixel, weight);
                    }
                }
            }
        }
        let taken = N.min(channels - channel);
        for (offset, sums) in sums.iter().enumerate().take(columns - column) {
            let start = (row * columns + column + offset) * channels + channel;
            self.output[start..start + taken].copy_from_slice(&sums[..taken]);
        }
    }
}
