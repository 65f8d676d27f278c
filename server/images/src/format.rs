//! Formats, told by a file's first bytes and by nothing else.

use std::fmt::{self, Write as _};

use crate::ImageError;

/// The formats that are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Baseline and progressive.
    Jpeg,
    /// All colour types and depths; of an APNG the default image, which is commonly its first frame.
    Png,
    /// Lossy and lossless; of an animation the first frame.
    Webp,
}

/// How other formats begin: offset, bytes, name.
const OTHERS: &[(usize, &[u8], &str)] = &[
    (0, b"GIF8", "GIF"),
    (0, b"BM", "BMP"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "TIFF"),
    (0, b"MM\0+", "TIFF"),
    (0, b"\0\0\x01\0", "ICO"),
    (0, b"%PDF", "PDF"),
    (0, b"<svg", "SVG"),
    (0, b"<?xml", "XML or SVG"),
    (0, b"<!DOCTYPE", "HTML"),
    (0, b"<html", "HTML"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"8BPS", "PSD"),
    (0, b"PK\x03\x04", "ZIP"),
    (0, b"\x1f\x8b", "gzip"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftypavis", "AVIF"),
    (4, b"ftyphei", "HEIC"),
    (4, b"ftyphev", "HEIC"),
    (4, b"ftypmif1", "HEIC or AVIF"),
    (4, b"ftypmsf1", "HEIC or AVIF"),
    (4, b"ftyp", "MP4"),
];

impl Format {
    /// The format of a file.
    ///
    /// # Errors
    ///
    /// [`ImageError::Empty`], and [`ImageError::Format`] with the name of any other format that is recognised.
    pub fn of(bytes: &[u8]) -> Result<Self, ImageError> {
        if bytes.is_empty() {
            return Err(ImageError::Empty);
        }
        if bytes.starts_with(b"\xff\xd8\xff") {
            return Ok(Self::Jpeg);
        }
        if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
            return Ok(Self::Png);
        }
        if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
            return Ok(Self::Webp);
        }
        let other =
            OTHERS.iter().find(|(offset, magic, _)| bytes.get(*offset..).is_some_and(|at| at.starts_with(magic)));
        Err(ImageError::Format {
            found: match other {
                Some((_, _, name)) => (*name).to_owned(),
                None => bytes.iter().take(8).fold("a file that begins with".to_owned(), |mut text, byte| {
                    // Writing to a String cannot fail.
                    let _ = write!(text, " {byte:02x}");
                    text
                }),
            },
        })
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::Webp => "WebP",
        })
    }
}
