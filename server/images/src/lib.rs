//! Turns JPEG, PNG and WebP bytes into the tensor an image model was trained on.
//!
//! A [`Recipe`], which a model's manifest holds, says how: resize, crop, rescale, normalise, as Pillow and the Hugging
//! Face image processors do it.
//! A [`Preprocessor`] follows it, on the thread that calls.
//!
//! Agreement with Pillow 12 and the PIL processors of transformers 5, held by `tests/golden.rs`:
//!
//! - of equal pixels, turning, resizing and cropping give equal bytes, and the tensor is equal in every bit;
//! - PNG and WebP decode to equal pixels, but for greys of 16 bits, of which Pillow cuts off what is above 255 and this
//!   crate keeps the higher half;
//! - a JPEG's pixels differ from libjpeg-turbo's by at most 6 of 255 (3 in the golden pictures), after resizing by at
//!   most 3, and by less than half a level on average.
//!
//! Pillow 13 resizes some pictures down before across: of tall pictures that are warped it differs by a few levels.
//!
//! Invariants:
//!
//! - A file is trusted with nothing: whatever the bytes, there is a tensor or an error that says what was found and
//!   what was expected. Nothing is allocated for pixels before their number, the memory they take and the file's format
//!   are known to be within [`Limits`].
//! - The format is what the first bytes say; no declared type is asked for.
//! - The same bytes give the same tensor, whatever the [`Scratch`] was used for before.
//! - No unsafe code, no I/O, no clock, no threads. Time is the caller's: `stop` is asked every few milliseconds of work.
//!
//! Not here: colour profiles (ignored, as the Hugging Face processors do), orientation in XMP, later frames of
//! animations, other formats (refused by name), decoding at a reduced size (`docs/adr/0007`), batches, threads.
//!
//! ```
//! use ev_images::{ImageError, Limits, Preprocessor, Recipe, Scratch};
//!
//! let recipe = Recipe::from_hugging_face(r#"{
//!     "image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 224}, "crop_pct": 0.875,
//!     "resample": 3, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}"#)?;
//! let preprocessor = Preprocessor::new(recipe, Limits::default())?;
//! assert_eq!(preprocessor.shape(), [3, 224, 224]);
//!
//! let (mut scratch, mut tensor) = (Scratch::default(), vec![0.0; preprocessor.values()]);
//! let refused = preprocessor.run(&mut scratch, b"GIF89a", &|| false, &mut tensor).unwrap_err();
//! assert_eq!(refused.to_string(), "found GIF, expected JPEG, PNG or WebP");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod decode;
mod error;
mod format;
mod geometry;
mod limits;
mod orientation;
mod preprocessor;
mod resample;

pub use error::ImageError;
pub use ev_models_core::recipe::{Channels, Interpolation, Normalize, Recipe, RecipeError, Resize, Size};
pub use format::Format;
pub use limits::Limits;
pub use orientation::Orientation;
pub use preprocessor::{Info, Preprocessor, Scratch, Steps};
