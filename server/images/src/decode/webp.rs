//! WebP, by image-webp.

use image_webp::{DecodingError, WebPDecoder};

use super::{
    Buffers, Decoded, RGB, RGBA,
    reader::{Guard, GuardedReader},
    zeroed,
};
use crate::{
    Format, ImageError, Limits, Orientation,
    limits::{Stop, corrupt},
};

/// A lossy picture's parts state their sizes in 24 bits, and the decoder makes room for one before it finds that the file
/// is shorter.
const PARTITION_MAX: u64 = 1 << 24;

const TRUNCATED: ImageError = ImageError::Truncated { format: Format::Webp };

pub(super) fn decode(
    bytes: &[u8],
    limits: &Limits,
    stop: Stop<'_>,
    buffers: &mut Buffers,
) -> Result<Decoded, ImageError> {
    // The container says how long it is. The decoder would take what is missing for the picture's end in some places.
    let stated = bytes.get(4..8).map_or(0, |size| u32::from_le_bytes([size[0], size[1], size[2], size[3]]));
    let bytes = bytes.get(..stated as usize + 8).ok_or(TRUNCATED)?;
    let guard = Guard::new(stop);
    let failed = |error: DecodingError| match error {
        _ if guard.stopped() => ImageError::Stopped,
        DecodingError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => TRUNCATED,
        // What the lossy decoder says of a partition that is not there.
        DecodingError::NotEnoughInitData => TRUNCATED,
        error => corrupt(Format::Webp, error.to_string()),
    };

    check_frames(bytes.get(12..).unwrap_or_default(), stated_canvas(bytes), 0)?;
    let mut decoder = WebPDecoder::new(GuardedReader::new(bytes, &guard)).map_err(failed)?;
    let (stated_width, stated_height) = decoder.dimensions();
    let (width, height) = limits.check_size(stated_width, stated_height)?;
    // A canvas may state more, a picture cannot have it.
    if width.max(height) > 16_384 {
        return Err(corrupt(Format::Webp, "a side is longer than 16,384 pixels"));
    }
    // What the decoder makes of a pixel, and its copy: planes at 1.5 bytes and RGB; RGBA and RGB; planes, RGBA, a table of
    // transparency made as RGBA; and for an animation a canvas.
    let per_pixel = match (decoder.is_animated(), decoder.has_alpha(), decoder.is_lossy()) {
        (true, _, _) => 18,
        (_, true, _) => 11,
        (_, _, true) => 5,
        _ => 8,
    };
    limits.check_memory((width * height) as u64 * per_pixel + 2 * bytes.len() as u64 + PARTITION_MAX)?;
    decoder.set_memory_limit(bytes.len());

    let orientation = match decoder.exif_metadata() {
        Ok(Some(exif)) => Orientation::from_exif(&exif),
        _ => Orientation::default(),
    };
    let layout = if decoder.has_alpha() { RGBA } else { RGB };
    let out = zeroed(&mut buffers.decoded, width * height * layout.step);
    decoder.read_image(out).map_err(failed)?;
    Ok(Decoded { width, height, layout, orientation, expanded: false })
}

/// Pixels of the canvas of an extended file; of another there is none, its picture's own size is.
fn stated_canvas(bytes: &[u8]) -> Option<u64> {
    let extended = bytes.get(12..16)? == b"VP8X";
    let side = |at: usize| {
        Some(u64::from(u32::from_le_bytes([*bytes.get(at)?, *bytes.get(at + 1)?, *bytes.get(at + 2)?, 0])) + 1)
    };
    if extended { Some(side(24)? * side(27)?) } else { None }
}

/// Refuses a frame that is larger than the canvas: the decoder makes room for what a frame states of itself, up to 16,383
/// pixels a side, before it compares.
fn check_frames(chunks: &[u8], canvas: Option<u64>, depth: u8) -> Result<(), ImageError> {
    let Some(canvas) = canvas else { return Ok(()) };
    let mut rest = chunks;
    while let Some((head, body)) = rest.split_at_checked(8) {
        let size = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let content = body.get(..size).unwrap_or(body);
        let pixels = match &head[..4] {
            // A frame of an animation: its place on the canvas, and chunks of its own.
            b"ANMF" if depth == 0 => {
                check_frames(content.get(16..).unwrap_or_default(), Some(canvas), depth + 1)?;
                None
            }
            b"VP8 " => lossy_pixels(content),
            b"VP8L" => lossless_pixels(content),
            _ => None,
        };
        if pixels.is_some_and(|pixels| pixels > canvas) {
            return Err(corrupt(Format::Webp, "a frame is larger than the picture"));
        }
        rest = body.get(size.saturating_add(size & 1)..).unwrap_or_default();
    }
    Ok(())
}

/// After the tag and the start code, 14 bits a side (RFC 6386, section 9.1).
fn lossy_pixels(content: &[u8]) -> Option<u64> {
    let side = |at: usize| Some(u64::from(u16::from_le_bytes([*content.get(at)?, *content.get(at + 1)?]) & 0x3fff));
    Some(side(6)? * side(8)?)
}

/// After the signature, 14 bits a side, each one less than it is (RFC 9649, section 3.4).
fn lossless_pixels(content: &[u8]) -> Option<u64> {
    let bits = u32::from_le_bytes(content.get(1..5)?.try_into().ok()?);
    Some(u64::from((bits & 0x3fff) + 1) * u64::from((bits >> 14 & 0x3fff) + 1))
}
