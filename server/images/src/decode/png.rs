//! PNG, by png. Every colour type and depth becomes the bytes that Pillow's `convert("RGB")` gives: alpha and
//! transparent colours are dropped, 16 bits lose their lower half, an index outside the palette is black.

use png::{BitDepth, ColorType, Decoder, DecodingError, Transformations};

use super::{
    Buffers, Decoded, GRAY, Layout, RGB, RGBA,
    reader::{Guard, GuardedReader},
    zeroed,
};
use crate::{
    Format, ImageError, Limits, Orientation,
    limits::{Stop, corrupt},
};

pub(super) fn decode(
    bytes: &[u8],
    limits: &Limits,
    stop: Stop<'_>,
    buffers: &mut Buffers,
) -> Result<Decoded, ImageError> {
    let (width, height) = stated_size(bytes)?;
    let (width, height) = limits.check_size(width, height)?;
    let guard = Guard::new(stop);
    let own = usize::try_from(limits.memory_max).unwrap_or(usize::MAX);
    let mut decoder = Decoder::new_with_limits(GuardedReader::new(bytes, &guard), png::Limits { bytes: own });
    decoder.set_transformations(Transformations::IDENTITY);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let run = || -> Result<Decoded, Failure> {
        let mut reader = decoder.read_info()?;
        if (reader.info().width as usize, reader.info().height as usize) != (width, height) {
            return Err(corrupt(Format::Png, "it states two sizes").into());
        }
        let (color, depth) = reader.output_color_type();
        let target = Target::of(color, depth);
        let length = reader.output_buffer_size().ok_or(DecodingError::LimitsExceeded)?;
        let expanded = if target.expand { width * height * target.layout.step } else { 0 };
        let line = reader.output_line_size(reader.info().width).unwrap_or(length);
        // Two rows to undo the filters from, and what inflating takes.
        limits.check_memory((length + expanded + 4 * line + bytes.len() + (128 << 10)) as u64)?;
        reader.next_frame(zeroed(&mut buffers.decoded, length))?;
        let info = reader.info();
        let orientation = info.exif_metadata.as_deref().map_or_else(Orientation::default, Orientation::from_exif);
        if target.expand {
            let palette = (color == ColorType::Indexed).then(|| info.palette.as_deref().unwrap_or_default());
            let out = zeroed(&mut buffers.expanded, expanded);
            for (row, out) in buffers.decoded.chunks_exact(line).zip(out.chunks_exact_mut(expanded / height)) {
                expand(row, depth, palette, out);
            }
        }
        Ok(Decoded { width, height, layout: target.layout, orientation, expanded: target.expand })
    };
    run().map_err(|failure| match failure {
        _ if guard.stopped() => ImageError::Stopped,
        Failure::Ours(error) => error,
        Failure::Decoder(DecodingError::IoError(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            ImageError::Truncated { format: Format::Png }
        }
        Failure::Decoder(DecodingError::LimitsExceeded) => {
            ImageError::TooMuchMemory { needed: limits.memory_max.saturating_add(1), max: limits.memory_max }
        }
        Failure::Decoder(error) => corrupt(Format::Png, error.to_string()),
    })
}

enum Failure {
    Ours(ImageError),
    Decoder(DecodingError),
}

// === impl Failure ===

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Self {
        Self::Ours(error)
    }
}

impl From<DecodingError> for Failure {
    fn from(error: DecodingError) -> Self {
        Self::Decoder(error)
    }
}

/// Width and height, which stand at a fixed place: the first chunk has to be the header.
fn stated_size(bytes: &[u8]) -> Result<(u32, u32), ImageError> {
    let header = bytes.get(8..24).ok_or(ImageError::Truncated { format: Format::Png })?;
    let number = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    match &header[4..8] {
        b"IHDR" => Ok((number(8), number(12))),
        _ => Err(corrupt(Format::Png, "it does not begin with its header")),
    }
}

/// What becomes of a colour type.
struct Target {
    layout: Layout,
    /// Whether the decoder's bytes are not yet values.
    expand: bool,
}

// === impl Target ===

impl Target {
    fn of(color: ColorType, depth: BitDepth) -> Self {
        let wide = depth == BitDepth::Sixteen;
        // Of 16 bits the first byte is the higher one.
        let layout = match (color, wide) {
            (ColorType::Indexed, _) => RGB,
            (ColorType::Grayscale, false) => GRAY,
            (ColorType::Grayscale, true) | (ColorType::GrayscaleAlpha, false) => Layout { step: 2, ..GRAY },
            (ColorType::GrayscaleAlpha, true) => Layout { step: 4, ..GRAY },
            (ColorType::Rgb, false) => RGB,
            (ColorType::Rgba, false) => RGBA,
            (ColorType::Rgb, true) => Layout { step: 6, offsets: [0, 2, 4] },
            (ColorType::Rgba, true) => Layout { step: 8, offsets: [0, 2, 4] },
        };
        let narrow = matches!(depth, BitDepth::One | BitDepth::Two | BitDepth::Four);
        Self { layout, expand: narrow || color == ColorType::Indexed }
    }
}

/// One row of narrow greys or of indices.
fn expand(row: &[u8], depth: BitDepth, palette: Option<&[u8]>, out: &mut [u8]) {
    let bits = depth as usize;
    let mask = u8::try_from((1_u32 << bits) - 1).unwrap_or(u8::MAX);
    let value = |index: usize| row[index * bits / 8] >> (8 - bits - index * bits % 8) & mask;
    match palette {
        None => out.iter_mut().enumerate().for_each(|(index, gray)| *gray = value(index) * (255 / mask)),
        Some(palette) => {
            for (index, pixel) in out.chunks_exact_mut(3).enumerate() {
                let at = usize::from(value(index)) * 3;
                pixel.copy_from_slice(palette.get(at..at + 3).unwrap_or(&[0, 0, 0]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(depth: BitDepth, row: &[u8], expected: &[u8]) {
        let mut out = vec![0; expected.len()];
        expand(row, depth, None, &mut out);
        assert_eq!(out, expected);
    }

    #[test]
    fn narrow_greys_fill_the_range() {
        check(BitDepth::One, &[0b1010_0000], &[255, 0, 255]);
        check(BitDepth::Two, &[0b0001_1011, 0b1100_0000], &[0, 85, 170, 255, 255]);
        check(BitDepth::Four, &[0x05, 0xaf], &[0, 85, 170, 255]);
        check(BitDepth::Eight, &[7, 255], &[7, 255]);
    }

    #[test]
    fn an_index_outside_the_palette_is_black() {
        let mut out = [9; 9];
        expand(&[1, 0, 2], BitDepth::Eight, Some(&[1, 2, 3, 4, 5, 6, 7]), &mut out);
        assert_eq!(out, [4, 5, 6, 1, 2, 3, 0, 0, 0]);
    }
}
