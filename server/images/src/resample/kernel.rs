//! The coefficients of one axis, and the sums they are for.

use std::{f64::consts::PI, ops::Range};

use crate::{Interpolation, geometry::Axis};

/// Values that are summed at once. Every window is widened to a multiple of it with coefficients of zero.
pub(crate) const LANES: usize = 8;

/// Bits behind the point of a coefficient, as in Pillow: 32, less 8 of a value, less 2 that an overshoot needs.
const PRECISION: u32 = 22;
/// A coefficient is split as `high * 2^11 + low`, so that either part times a value is a product of 16 bits, which
/// processors sum eight at a time. The sums are put together again without loss.
const SPLIT: u32 = 11;

/// What makes one axis' pixels of the tensor from a line of the picture's.
#[derive(Debug)]
pub(super) struct Kernel {
    /// Where each pixel's window begins in the line.
    starts: Vec<usize>,
    /// Coefficients of a pixel, a multiple of [`LANES`].
    taps: usize,
    high: Vec<i16>,
    low: Vec<i16>,
    reach: Range<usize>,
}

// === impl Kernel ===

impl Kernel {
    pub(super) fn new(interpolation: Interpolation, axis: &Axis) -> Self {
        match Filter::of(interpolation) {
            Some(filter) => Self::filtered(&filter, axis),
            None => Self::nearest(axis),
        }
    }

    /// Which pixels of a line are used at all.
    pub(super) fn reach(&self) -> Range<usize> {
        self.reach.clone()
    }

    /// How long a line has to be: its first value is that of the reach's first pixel.
    pub(super) fn line(&self) -> usize {
        self.reach.len() + self.taps
    }

    /// Bytes for an axis' coefficients, at most: those of the widest filter.
    pub(super) fn memory(axis: &Axis) -> u64 {
        let scale = (axis.from as u64).div_ceil(axis.to as u64);
        axis.count as u64 * (8 + 4 * (2 * 3 * (scale + 1) + LANES as u64))
    }

    /// Pixel `index` of the tensor, from its line.
    #[inline]
    pub(super) fn apply(&self, index: usize, line: &[i16]) -> u8 {
        let start = self.starts[index];
        let (window, _) = line[start..start + self.taps].as_chunks::<LANES>();
        let of = index * self.taps..(index + 1) * self.taps;
        let (high_parts, _) = self.high[of.clone()].as_chunks::<LANES>();
        let (low_parts, _) = self.low[of].as_chunks::<LANES>();
        let (mut high, mut low) = ([0_i32; LANES / 2], [0_i32; LANES / 2]);
        for ((window, high_part), low_part) in window.iter().zip(high_parts).zip(low_parts) {
            high = add_products(high, window, high_part);
            low = add_products(low, window, low_part);
        }
        // The whole sum fits in 32 bits, so it does not matter where a part of it wraps.
        let sum = high
            .iter()
            .zip(low)
            .fold(1 << (PRECISION - 1), |sum: i32, (high, low)| sum.wrapping_add(high << SPLIT).wrapping_add(low));
        u8::try_from((sum >> PRECISION).clamp(0, 255)).unwrap_or(u8::MAX)
    }

    /// Pillow's `precompute_coeffs` and `normalize_coeffs_8bpc`.
    fn filtered(filter: &Filter, axis: &Axis) -> Self {
        let scale = exact(axis.from) / exact(axis.to);
        let widened = scale.max(1.0);
        let support = filter.support * widened;
        let windows: Vec<(Range<usize>, f64)> = (axis.first..axis.first + axis.count)
            .map(|index| {
                let center = (exact(index) + 0.5) * scale;
                let start = truncated(center - support + 0.5);
                let end = truncated(center + support + 0.5).min(axis.from);
                (start.min(end)..end, center)
            })
            .collect();
        let mut kernel = Self::empty(windows.iter().map(|(window, _)| window));
        let mut weights = Vec::with_capacity(kernel.taps);
        for (index, (window, center)) in windows.into_iter().enumerate() {
            weights.clear();
            weights.extend(window.map(|at| (filter.weight)((exact(at) - center + 0.5) * (1.0 / widened))));
            let sum: f64 = weights.iter().fold(0.0, |sum, weight| sum + weight);
            let coefficients = kernel.taps * index..;
            let parts = kernel.high[coefficients.clone()].iter_mut().zip(&mut kernel.low[coefficients]);
            for (weight, (high, low)) in weights.iter().zip(parts) {
                let weight = if sum == 0.0 { *weight } else { weight / sum };
                (*high, *low) = split(fixed(weight));
            }
        }
        kernel
    }

    /// Pillow's `ImagingScaleAffine`, which adds up where to look.
    fn nearest(axis: &Axis) -> Self {
        let scale = exact(axis.from) / exact(axis.to);
        let mut at = scale * 0.5;
        let mut windows = Vec::with_capacity(axis.count);
        for index in 0..axis.first + axis.count {
            if index >= axis.first {
                let found = truncated(at).min(axis.from - 1);
                windows.push(found..found + 1);
            }
            at += scale;
        }
        let mut kernel = Self::empty(windows.iter());
        let (high, _) = split(1 << PRECISION);
        kernel.high.iter_mut().step_by(kernel.taps).for_each(|first| *first = high);
        kernel
    }

    /// Windows with coefficients of zero.
    fn empty<'a>(windows: impl Iterator<Item = &'a Range<usize>> + Clone) -> Self {
        let start = windows.clone().map(|window| window.start).min().unwrap_or(0);
        let end = windows.clone().map(|window| window.end).max().unwrap_or(0);
        let taps = windows.clone().map(Range::len).max().unwrap_or(0).next_multiple_of(LANES);
        let starts: Vec<usize> = windows.map(|window| window.start - start).collect();
        let coefficients = vec![0; starts.len() * taps];
        Self { starts, taps, high: coefficients.clone(), low: coefficients, reach: start..end }
    }
}

/// Sums of neighbouring products, in the shape for which processors have one instruction (`pmaddwd`).
#[inline(always)]
fn add_products(sums: [i32; LANES / 2], values: &[i16; LANES], factors: &[i16; LANES]) -> [i32; LANES / 2] {
    let products: [i32; LANES] = std::array::from_fn(|at| i32::from(values[at]) * i32::from(factors[at]));
    std::array::from_fn(|pair| sums[pair].wrapping_add(products[2 * pair] + products[2 * pair + 1]))
}

struct Filter {
    /// How far it reaches to either side, in pixels of the larger of both scales.
    support: f64,
    weight: fn(f64) -> f64,
}

// === impl Filter ===

impl Filter {
    fn of(interpolation: Interpolation) -> Option<Self> {
        let (support, weight): (f64, fn(f64) -> f64) = match interpolation {
            Interpolation::Nearest => return None,
            Interpolation::Box => (0.5, |x| if x > -0.5 && x <= 0.5 { 1.0 } else { 0.0 }),
            Interpolation::Bilinear => (1.0, |x| (1.0 - x.abs()).max(0.0)),
            Interpolation::Hamming => (1.0, hamming),
            Interpolation::Bicubic => (2.0, bicubic),
            Interpolation::Lanczos => (3.0, |x| if (-3.0..3.0).contains(&x) { sinc(x) * sinc(x / 3.0) } else { 0.0 }),
        };
        Some(Self { support, weight })
    }
}

fn hamming(x: f64) -> f64 {
    match x.abs() {
        0.0 => 1.0,
        x if x >= 1.0 => 0.0,
        x => {
            let x = x * PI;
            x.sin() / x * (0.54 + 0.46 * x.cos())
        }
    }
}

fn bicubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    match x.abs() {
        x if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
        x if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
        _ => 0.0,
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let x = x * PI;
    x.sin() / x
}

/// Sizes are below 2^53.
#[allow(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]
fn exact(size: usize) -> f64 {
    size as f64
}

/// C's conversion to an integer, with what is below zero as zero.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates at zero, as it is meant to")]
fn truncated(position: f64) -> usize {
    position as usize
}

/// A weight of at most 2 in absolute value, rounded away from zero at the half.
#[allow(clippy::cast_possible_truncation, reason = "weights are normalised: far below 2^9")]
fn fixed(weight: f64) -> i32 {
    let scaled = weight * f64::from(1_u32 << PRECISION);
    (if weight < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
}

/// `high * 2^11 + low`, with a low part of -1,024 to 1,023.
fn split(coefficient: i32) -> (i16, i16) {
    let high = (coefficient + (1 << (SPLIT - 1))) >> SPLIT;
    let low = coefficient - (high << SPLIT);
    let part = |part: i32| i16::try_from(part).expect("a weight is far below 2^4, its parts below 2^15");
    (part(high), part(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(from: usize, to: usize) -> Axis {
        Axis { from, to, first: 0, count: to, pad: 0 }
    }

    #[test]
    fn the_same_size_changes_nothing() {
        let line: Vec<i16> = (0..40).map(|value| value * 6).collect();
        for interpolation in [
            Interpolation::Nearest,
            Interpolation::Box,
            Interpolation::Bilinear,
            Interpolation::Hamming,
            Interpolation::Bicubic,
            Interpolation::Lanczos,
        ] {
            let kernel = Kernel::new(interpolation, &axis(20, 20));
            let out: Vec<i16> = (0..20).map(|index| i16::from(kernel.apply(index, &line))).collect();
            assert_eq!(out, line[..20], "{interpolation:?}");
        }
    }

    #[test]
    fn coefficients_come_apart_without_loss() {
        for coefficient in [0, 1, -1, 1023, 1024, -1024, -1025, 1 << PRECISION, -(1 << 20) - 77, 9_876_543] {
            let (high, low) = split(coefficient);
            assert_eq!((i32::from(high) << SPLIT) + i32::from(low), coefficient);
        }
    }

    #[test]
    fn a_constant_line_stays_constant_however_long() {
        // 65,535 taps of the largest value: the parts of the sum wrap, the sum does not.
        let kernel = Kernel::new(Interpolation::Box, &axis(65_535, 1));
        let line = vec![255; kernel.line()];
        assert!(kernel.apply(0, &line) >= 254);
        let kernel = Kernel::new(Interpolation::Lanczos, &axis(65_535, 3));
        let line = vec![200; kernel.line()];
        assert!((0..3).all(|index| kernel.apply(index, &line).abs_diff(200) <= 3));
    }
}
