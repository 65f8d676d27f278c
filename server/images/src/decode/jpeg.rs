//! JPEG, by zune-jpeg.
//!
//! Every file's markers are walked first. That says, before the decoder sees a byte, what the picture will take and
//! whether the file is whole, and it is where the rules of libjpeg about colours are kept.

use zune_jpeg::{
    JpegDecoder,
    zune_core::{colorspace::ColorSpace, options::DecoderOptions},
};

use super::{
    Buffers, Decoded, GRAY, RGB,
    reader::{Guard, GuardedCursor},
    zeroed,
};
use crate::{
    Format, ImageError, Limits, Orientation,
    limits::{Stop, corrupt},
};

mod header;

use header::{Adobe, Header, TRUNCATED};

/// More than any encoder writes (libjpeg's default script has 10), and few enough that each may visit every block.
const SCANS_MAX: usize = 64;

pub(super) fn decode(
    bytes: &[u8],
    limits: &Limits,
    stop: Stop<'_>,
    buffers: &mut Buffers,
) -> Result<Decoded, ImageError> {
    let header = Header::read(bytes)?;
    let (width, height) = limits.check_size(u32::from(header.width), u32::from(header.height))?;
    if header.scans > SCANS_MAX {
        return Err(ImageError::Unsupported {
            format: Format::Jpeg,
            found: format!("{} scans", header.scans),
            expected: "at most 64",
        });
    }
    // No code is shorter than a bit, and a block has two, or one in the first scan of a progressive picture. So a few
    // bytes cannot stand for a large picture.
    if (header.coded * 8) < width * height / 64 * if header.progressive { 1 } else { 2 } {
        return Err(TRUNCATED);
    }
    let colors = Colors::of(&header);
    limits.check_memory(memory(&header, width, height, bytes.len()))?;

    let unmarked = colors.adobe_to_hide.map(|at| without_adobe(bytes, at));
    let guard = Guard::new(stop);
    let options = DecoderOptions::new_fast()
        .set_strict_mode(true)
        .set_max_width(width)
        .set_max_height(height)
        .jpeg_set_max_scans(SCANS_MAX)
        .jpeg_set_out_colorspace(colors.out);
    // At the marker that ends the picture the decoder would make up the blocks that are not there; at the end of the
    // file it says so. A scan among others has to see where the next one begins.
    let end = if header.progressive || header.scans > 1 { bytes.len() } else { header.end };
    let reader = GuardedCursor::new(&unmarked.as_deref().unwrap_or(bytes)[..end], &guard);
    let mut decoder = JpegDecoder::new_with_options(reader, options);
    let mut run = || -> Result<(), String> {
        decoder.decode_headers().map_err(|error| format!("{error:?}"))?;
        // The sizes that were checked are the sizes that are used.
        if decoder.dimensions() != Some((width, height)) {
            return Err("it states two sizes".into());
        }
        let length = width * height * colors.layout.step;
        if decoder.output_buffer_size() != Some(length) {
            return Err("it states two kinds of colour".into());
        }
        decoder.decode_into(zeroed(&mut buffers.decoded, length)).map_err(|error| format!("{error:?}"))
    };
    match run() {
        _ if guard.stopped() => Err(ImageError::Stopped),
        Ok(()) => Ok(Decoded {
            width,
            height,
            layout: colors.layout,
            orientation: header.exif.map_or_else(Orientation::default, Orientation::from_exif),
            expanded: false,
        }),
        Err(reason) => Err(corrupt(Format::Jpeg, reason)),
    }
}

/// What to ask of the decoder, so that the colours are those of libjpeg.
struct Colors {
    out: ColorSpace,
    layout: super::Layout,
    /// Where an Adobe marker stands that the decoder would misread.
    adobe_to_hide: Option<usize>,
}

// === impl Colors ===

impl Colors {
    /// libjpeg's rules (`default_decompress_parms`): of three components, JFIF means YCbCr, else Adobe's marker says
    /// which, else the names `R`, `G`, `B` mean RGB. zune-jpeg takes Adobe's 0 for CMYK whatever the components, and
    /// the names for RGB whatever the markers; where the two differ the marker is hidden, and raw components asked for.
    fn of(header: &Header<'_>) -> Self {
        let hide = |wanted: bool| header.adobe.as_ref().filter(|_| wanted).map(|Adobe { position, .. }| *position);
        let transform = header.adobe.as_ref().map(|adobe| adobe.transform);
        match header.components.len() {
            1 => Self { out: ColorSpace::Luma, layout: GRAY, adobe_to_hide: hide(true) },
            3 => {
                let named_rgb = header.components == *b"RGB";
                let rgb = !header.jfif && transform.map_or(named_rgb, |transform| transform == 0);
                let out = if rgb == named_rgb { ColorSpace::RGB } else { ColorSpace::YCbCr };
                Self { out, layout: RGB, adobe_to_hide: hide(transform != Some(1)) }
            }
            // Both are inverted, as Adobe's are: zune-jpeg and Pillow assume so without a marker as well.
            _ => Self { out: ColorSpace::RGB, layout: RGB, adobe_to_hide: None },
        }
    }
}

fn without_adobe(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut copy = bytes.to_vec();
    if let Some(first) = copy.get_mut(at) {
        *first = b'-';
    }
    copy
}

/// Bytes for the pixels; for the coefficients of every component where they have to be kept until the last scan; for a
/// row of blocks; and for a copy of the file.
fn memory(header: &Header<'_>, width: usize, height: usize, file: usize) -> u64 {
    let padded = |side: usize, factor: u8| (side.next_multiple_of(8 * usize::from(factor))) as u64;
    let (across, down) = header.sampling_max();
    let (padded_width, padded_height) = (padded(width, across), padded(height, down));
    let components = header.components.len() as u64;
    let pixels = (width * height) as u64 * if components == 1 { 1 } else { 3 };
    let coefficients = match header.progressive || header.scans > 1 {
        true => header
            .sampling
            .iter()
            .map(|(h, v)| padded_width * padded_height * u64::from(*h) * u64::from(*v) / u64::from(across * down) * 2)
            .sum(),
        false => 0,
    };
    pixels + coefficients + padded_width * components * 8 * 8 + 2 * file as u64
}
