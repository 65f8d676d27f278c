//! Why bytes did not become a tensor.

use crate::Format;

/// A picture was refused. Everything but [`ImageError::Stopped`] and [`ImageError::Output`] is the sender's to mend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// There are no bytes.
    #[error("found no bytes, expected a JPEG, PNG or WebP picture")]
    Empty,
    /// The file is larger than [`crate::Limits::bytes_max`].
    #[error("found {found} bytes, expected at most {max}")]
    TooManyBytes {
        /// Size of the file.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// The bytes are of a format that is not decoded, whatever they were declared to be.
    #[error("found {found}, expected JPEG, PNG or WebP")]
    Format {
        /// The format's name, or the first bytes in hexadecimal.
        found: String,
    },
    /// A kind of JPEG, PNG or WebP that is not decoded.
    #[error("found a {format} picture with {found}, expected {expected}")]
    Unsupported {
        /// The file's format.
        format: Format,
        /// What it has.
        found: String,
        /// What it may have.
        expected: &'static str,
    },
    /// The header states no width or no height.
    #[error("found a picture of {width} x {height} pixels, expected at least 1 x 1")]
    ZeroSized {
        /// Stated width.
        width: u32,
        /// Stated height.
        height: u32,
    },
    /// The header states more pixels than a limit allows; none was decoded.
    #[error("found a picture of {width} x {height} pixels, expected at most {side_max} a side and {pixels_max} in all")]
    TooManyPixels {
        /// Stated width.
        width: u32,
        /// Stated height.
        height: u32,
        /// [`crate::Limits::side_max`].
        side_max: u32,
        /// [`crate::Limits::pixels_max`].
        pixels_max: u64,
    },
    /// Decoding or resizing would take more than [`crate::Limits::memory_max`]; nothing was allocated.
    #[error("the picture needs {needed} bytes of memory, expected at most {max}")]
    TooMuchMemory {
        /// What it would take.
        needed: u64,
        /// The limit.
        max: u64,
    },
    /// The file ends before the picture does.
    #[error("the {format} file ends before the picture does")]
    Truncated {
        /// The file's format.
        format: Format,
    },
    /// The file breaks its format's rules.
    #[error("the {format} file is damaged: {reason}")]
    Corrupt {
        /// The file's format.
        format: Format,
        /// What the decoder says.
        reason: String,
    },
    /// The caller's `stop` said so.
    #[error("stopped before the picture was ready")]
    Stopped,
    /// The caller's buffer has the wrong length.
    #[error("found room for {found} values, expected {expected}")]
    Output {
        /// Its length.
        found: usize,
        /// [`crate::Preprocessor::values`].
        expected: usize,
    },
}
