//! Which part of the resized picture is computed, and where it goes in the tensor.

use ev_models_core::recipe::{Recipe, Resize, Size};

/// One axis of the way from a picture to its tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Axis {
    /// Pixels of the picture.
    pub(crate) from: usize,
    /// Pixels of the resized picture, which may be more than are ever computed.
    pub(crate) to: usize,
    /// The first of the resized picture's pixels that the tensor holds, and how many.
    pub(crate) first: usize,
    pub(crate) count: usize,
    /// Black pixels before the first.
    pub(crate) pad: usize,
}

/// Both axes, for a picture that was turned upright: across, then down.
pub(crate) fn plan(recipe: &Recipe, size: Size, (width, height): (usize, usize)) -> (Axis, Axis) {
    let (to_width, to_height) = match recipe.resize {
        None => (width, height),
        Some(Resize::Exact(size)) => (size.width as usize, size.height as usize),
        Some(Resize::ShortestEdge(edge)) => {
            let (short, long) = (width.min(height), width.max(height));
            let long = other_edge(edge, long, short);
            if width <= height { (edge as usize, long) } else { (long, edge as usize) }
        }
    };
    (Axis::new(width, to_width, size.width as usize), Axis::new(height, to_height, size.height as usize))
}

/// In floating point as Python computes it: at most 4,096 times 2^32, which float64 holds.
fn other_edge(edge: u32, long: usize, short: usize) -> usize {
    let [edge, long, short] =
        [edge as usize, long, short].map(|side| f64::from(u32::try_from(side).unwrap_or(u32::MAX)));
    floor(edge * long / short)
}

/// Python's `int` for numbers that are not negative.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates: no axis is as long")]
fn floor(value: f64) -> usize {
    value as u32 as usize
}

// === impl Axis ===

impl Axis {
    /// The middle `crop` of `to` pixels. Of an odd rest the larger half is cut off at the end, or padded at the start,
    /// as the Hugging Face processor does.
    fn new(from: usize, to: usize, crop: usize) -> Self {
        match to.checked_sub(crop) {
            Some(rest) => Self { from, to, first: rest / 2, count: crop, pad: 0 },
            None => Self { from, to, first: 0, count: to, pad: (crop - to).div_ceil(2) },
        }
    }
}

#[cfg(test)]
mod tests {
    use ev_models_core::recipe::{Channels, Interpolation};

    use super::*;

    #[track_caller]
    fn check(resize: Option<Resize>, crop: u32, picture: (usize, usize), expected: [(usize, usize, usize, usize); 2]) {
        let size = Size { height: crop, width: crop };
        let recipe = Recipe {
            resize,
            interpolation: Interpolation::Bicubic,
            crop: Some(size),
            rescale_factor: None,
            normalize: None,
            channels: Channels::Rgb,
        };
        let (across, down) = plan(&recipe, size, picture);
        assert_eq!([across, down].map(|axis| (axis.to, axis.first, axis.count, axis.pad)), expected);
    }

    #[test]
    fn sizes_and_crops_are_those_of_the_hugging_face_processor() {
        let short = |edge| Some(Resize::ShortestEdge(edge));
        check(short(256), 224, (1600, 1000), [(409, 92, 224, 0), (256, 16, 224, 0)]);
        check(short(256), 224, (333, 500), [(256, 16, 224, 0), (384, 80, 224, 0)]);
        check(short(7), 7, (10, 10), [(7, 0, 7, 0), (7, 0, 7, 0)]);
        // int(256 * 641 / 640) == 256, and an odd rest is halved downwards.
        check(short(256), 255, (641, 640), [(256, 0, 255, 0), (256, 0, 255, 0)]);
        // Padding takes the larger half of an odd rest.
        check(short(5), 8, (5, 6), [(5, 0, 5, 2), (6, 0, 6, 1)]);
        check(None, 4, (1, 9), [(1, 0, 1, 2), (9, 2, 4, 0)]);
        // A strip: 16.7 million columns, of which 224 are computed.
        check(short(256), 224, (65535, 1), [(16_776_960, 8_388_368, 224, 0), (256, 16, 224, 0)]);
    }
}
