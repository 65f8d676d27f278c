//! Rows of the upright picture, a plane at a time.

use std::ops::Range;

use super::STRIP_ROWS;
use crate::decode::Pixels;

/// Reads `columns` of upright `rows`, at most [`STRIP_ROWS`] of them. Each plane of `strip` has as many lines of
/// `stride` values; what lies behind a line's columns keeps what it held, and counts for nothing.
pub(super) fn read(pixels: &Pixels<'_>, rows: Range<usize>, columns: Range<usize>, strip: &mut [i16], stride: usize) {
    let plane_size = STRIP_ROWS * stride;
    let planes = strip.len() / plane_size;
    if pixels.orientation.transpose {
        // Upright rows are stored columns: a run of them is read from each stored row in turn.
        for (x, column) in columns.enumerate() {
            for (y, row) in rows.clone().enumerate() {
                let at = pixels.at(row, column);
                for plane in 0..planes {
                    strip[plane * plane_size + y * stride + x] =
                        i16::from(pixels.bytes[at + pixels.layout.offsets[plane]]);
                }
            }
        }
        return;
    }
    for (y, row) in rows.enumerate() {
        let lines = strip.chunks_exact_mut(plane_size).map(|plane| &mut plane[y * stride..][..columns.len()]);
        // Mirrored columns are read in the order they are stored, and written backwards.
        let first = if pixels.orientation.mirror_x { pixels.width - columns.end } else { columns.start };
        let stored = pixels.stored_row(row, first..first + columns.len());
        split(stored, pixels.layout.step, pixels.layout.offsets, pixels.orientation.mirror_x, lines);
    }
}

fn split<'a>(
    stored: &[u8],
    step: usize,
    offsets: [usize; 3],
    mirror: bool,
    lines: impl Iterator<Item = &'a mut [i16]>,
) {
    for (line, offset) in lines.zip(offsets) {
        let values = stored.chunks_exact(step).map(|pixel| i16::from(pixel[offset]));
        match mirror {
            false => line.iter_mut().zip(values).for_each(|(to, value)| *to = value),
            true => line.iter_mut().rev().zip(values).for_each(|(to, value)| *to = value),
        }
    }
}

// === impl Pixels ===

impl Pixels<'_> {
    /// Where the pixel is stored that belongs in stored column `x` and row `y` before mirroring.
    #[inline]
    fn at(&self, x: usize, y: usize) -> usize {
        let x = if self.orientation.mirror_x { self.width - 1 - x } else { x };
        let y = if self.orientation.mirror_y { self.height - 1 - y } else { y };
        (y * self.width + x) * self.layout.step
    }

    fn stored_row(&self, y: usize, columns: Range<usize>) -> &[u8] {
        let y = if self.orientation.mirror_y { self.height - 1 - y } else { y };
        let row = y * self.width;
        &self.bytes[(row + columns.start) * self.layout.step..(row + columns.end) * self.layout.step]
    }
}
