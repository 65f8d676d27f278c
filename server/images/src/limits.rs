//! What a picture may take.

use serde::{Deserialize, Serialize};

use crate::{Format, ImageError};

/// Bounds that hold before anything is allocated for a picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Size of the file, in bytes. Default 16 MiB.
    pub bytes_max: usize,
    /// Width times height as the header states them. Default 50 million, which is what current telephones take.
    pub pixels_max: u64,
    /// Width and height, in pixels. Default 65,535, the most a JPEG can state.
    pub side_max: u32,
    /// Bytes of memory for decoding and resizing one picture, by an estimate that is made from the header.
    /// Default 256 MiB: 50 million pixels of an ordinary JPEG or of a lossy WebP, about 30 million of a lossless WebP
    /// or, by its sampling, of a progressive JPEG, 24 million of a WebP with transparency.
    pub memory_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes_max: 16 << 20, pixels_max: 50_000_000, side_max: 65_535, memory_max: 256 << 20 }
    }
}

// === impl Limits ===

impl Limits {
    pub(crate) fn check_bytes(&self, bytes: &[u8]) -> Result<(), ImageError> {
        if bytes.len() > self.bytes_max {
            return Err(ImageError::TooManyBytes { found: bytes.len(), max: self.bytes_max });
        }
        Ok(())
    }

    /// The size that a header states, if a picture may have it.
    pub(crate) fn check_size(&self, width: u32, height: u32) -> Result<(usize, usize), ImageError> {
        if width == 0 || height == 0 {
            return Err(ImageError::ZeroSized { width, height });
        }
        if width.max(height) > self.side_max || u64::from(width) * u64::from(height) > self.pixels_max {
            let Self { side_max, pixels_max, .. } = *self;
            return Err(ImageError::TooManyPixels { width, height, side_max, pixels_max });
        }
        Ok((width as usize, height as usize))
    }

    pub(crate) fn check_memory(&self, needed: u64) -> Result<(), ImageError> {
        if needed > self.memory_max {
            return Err(ImageError::TooMuchMemory { needed, max: self.memory_max });
        }
        Ok(())
    }
}

/// Whether to stop, asked between strips of work. The crate knows no clock: a caller compares with its own.
pub(crate) type Stop<'a> = &'a dyn Fn() -> bool;

pub(crate) fn check_stop(stop: Stop<'_>) -> Result<(), ImageError> {
    if stop() { Err(ImageError::Stopped) } else { Ok(()) }
}

/// Decoders' texts may quote a file at length.
pub(crate) fn corrupt(format: Format, reason: impl Into<String>) -> ImageError {
    let reason: String = reason.into();
    ImageError::Corrupt { format, reason: reason.trim().trim_end_matches('.').chars().take(120).collect() }
}
