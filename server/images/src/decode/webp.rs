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
