//! From a file's bytes to its pixels as they are stored, which is before any turning.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{
    Format, ImageError, Limits, Orientation,
    limits::{Stop, check_stop, corrupt},
};

mod jpeg;
mod png;
mod reader;
mod webp;

/// Buffers of the decoders, kept from picture to picture.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    /// What the decoder writes.
    decoded: Vec<u8>,
    /// Pixels of fewer than 8 bits and of palettes, one byte a value.
    expanded: Vec<u8>,
}

/// Where the red, green and blue of each pixel are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Bytes from a pixel to the next.
    pub(crate) step: usize,
    /// Offsets of red, green and blue; all the same for a grey picture.
    pub(crate) offsets: [usize; 3],
}

const GRAY: Layout = Layout { step: 1, offsets: [0, 0, 0] };
const RGB: Layout = Layout { step: 3, offsets: [0, 1, 2] };
const RGBA: Layout = Layout { step: 4, offsets: [0, 1, 2] };

/// A decoded picture: rows without gaps, as stored.
#[derive(Debug)]
pub(crate) struct Pixels<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) layout: Layout,
    pub(crate) orientation: Orientation,
}

/// What a decoder leaves in [`Buffers`].
struct Decoded {
    width: usize,
    height: usize,
    layout: Layout,
    orientation: Orientation,
    expanded: bool,
}

/// What is kept between pictures at most. Two million pixels of a JPEG take 6 MB; a larger picture's buffers are
/// given back, so that one telephone's photograph does not stay in the memory of every worker.
const KEPT_BYTES_MAX: usize = 16 << 20;

// === impl Layout ===

impl Layout {
    pub(crate) fn is_gray(&self) -> bool {
        self.offsets == [self.offsets[0]; 3]
    }
}

// === impl Buffers ===

impl Buffers {
    pub(crate) fn release(&mut self) {
        for buffer in [&mut self.decoded, &mut self.expanded] {
            if buffer.capacity() > KEPT_BYTES_MAX {
                *buffer = Vec::new();
            }
        }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.decoded.capacity() + self.expanded.capacity()
    }
}

/// Zeros, so that nothing of an earlier picture can show where a decoder leaves a gap.
fn zeroed(buffer: &mut Vec<u8>, length: usize) -> &mut [u8] {
    buffer.clear();
    buffer.resize(length, 0);
    buffer
}

/// Decodes a file of a known format.
///
/// A panic in a decoder is a bug of that decoder, met by a file made for it: it counts as damage to the file, so that
/// it does not take the other rows of a batch with it.
pub(crate) fn decode<'a>(
    format: Format,
    bytes: &[u8],
    limits: &Limits,
    stop: Stop<'_>,
    buffers: &'a mut Buffers,
) -> Result<Pixels<'a>, ImageError> {
    check_stop(stop)?;
    let decoded = catch_unwind(AssertUnwindSafe(|| match format {
        Format::Jpeg => jpeg::decode(bytes, limits, stop, buffers),
        Format::Png => png::decode(bytes, limits, stop, buffers),
        Format::Webp => webp::decode(bytes, limits, stop, buffers),
    }));
    let Decoded { width, height, layout, orientation, expanded } =
        decoded.unwrap_or_else(|_| Err(corrupt(format, "the decoder gave up")))?;
    let bytes = if expanded { &buffers.expanded } else { &buffers.decoded };
    let bytes = bytes.get(..width * height * layout.step).ok_or_else(|| corrupt(format, "pixels are missing"))?;
    Ok(Pixels { bytes, width, height, layout, orientation })
}
