//! What a model was trained on: the steps from a picture to its tensor, as plain data. `ev-images` follows them.

use serde::{Deserialize, Serialize};

mod hugging_face;

/// The steps, in order: resize, crop, rescale, normalise. Pixels are red, green and blue, whatever the file held.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// To which size; without, the picture keeps its own and has to be cropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resize: Option<Resize>,
    /// How to resize.
    #[serde(default)]
    pub interpolation: Interpolation,
    /// What to keep of the middle; a side that is too short is filled with black.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop: Option<Size>,
    /// What a value 0 to 255 is multiplied with; none leaves it as it is. Default 1/255.
    #[serde(default = "one_in_255", skip_serializing_if = "Option::is_none")]
    pub rescale_factor: Option<f64>,
    /// What is subtracted, and what the difference is divided by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalize: Option<Normalize>,
    /// The order of the planes.
    #[serde(default)]
    pub channels: Channels,
}

/// A size in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Size {
    /// Rows, 1 to 4,096.
    pub height: u32,
    /// Columns, 1 to 4,096.
    pub width: u32,
}

/// To which size a picture is resized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resize {
    /// The shorter side becomes this many pixels, 1 to 4,096, and the other one keeps the proportions, rounded down.
    ShortestEdge(u32),
    /// Exactly this size, whatever the proportions.
    Exact(Size),
}

/// Pillow's filters. All but the first widen as a picture shrinks, so that every pixel counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    /// The nearest pixel.
    Nearest,
    /// The mean of the pixels a pixel covers.
    Box,
    /// A triangle.
    Bilinear,
    /// Between bilinear and bicubic, without overshoot.
    Hamming,
    /// A cubic with a = -0.5.
    #[default]
    Bicubic,
    /// Three lobes of a windowed sinc.
    Lanczos,
}

/// `(value - mean) / std`, a channel at a time, in the order red, green, blue.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalize {
    /// What is subtracted.
    pub mean: [f64; 3],
    /// What the difference is divided by; above zero.
    pub std: [f64; 3],
}

/// The order of the planes in the tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channels {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Blue, green, red, as OpenCV stores them. Mean and deviation stay in the order red, green, blue.
    Bgr,
}

/// A recipe cannot be followed. The texts name the key of the configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// The text is not JSON, or a key has a value of the wrong type.
    #[error("the preprocessor configuration cannot be read")]
    Read(#[source] serde_json::Error),
    /// An image processor whose steps are not known.
    #[error("found the image processor {found:?}, expected one of {expected}")]
    Processor {
        /// Its name.
        found: String,
        /// The known ones.
        expected: String,
    },
    /// A value is out of its range, missing, or contradicts another.
    #[error("found {key} = {found}, expected {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// What it says.
        found: String,
        /// What it may say.
        expected: &'static str,
    },
}

/// The longest side of a tensor: larger than image models take, and little enough that a tensor fits in 200 MB.
const SIDE_MAX: u32 = 4096;

pub(crate) fn one_in_255() -> Option<f64> {
    Some(1.0 / 255.0)
}

// === impl Recipe ===

impl Recipe {
    /// ConvNeXt's rule: below 384 pixels the shorter side is resized to `size / crop_pct` and the middle kept; from 384
    /// on, the picture is warped to the size.
    #[must_use]
    pub fn convnext(size: u32, crop_pct: f64, interpolation: Interpolation, normalize: Normalize) -> Self {
        let square = Size { height: size, width: size };
        let (resize, crop) = if size < 384 {
            (Resize::ShortestEdge(floor(f64::from(size) / crop_pct)), Some(square))
        } else {
            (Resize::Exact(square), None)
        };
        Self {
            resize: Some(resize),
            interpolation,
            crop,
            rescale_factor: one_in_255(),
            normalize: Some(normalize),
            channels: Channels::Rgb,
        }
    }

    /// Reads a `preprocessor_config.json` of Hugging Face: `ConvNextImageProcessor`, which ConvNeXt V2 uses as well,
    /// and `ViTImageProcessor`. Keys that are missing take that processor's defaults.
    ///
    /// # Errors
    ///
    /// An unknown processor by its name, a value of the wrong type or out of its range by its key.
    pub fn from_hugging_face(json: &str) -> Result<Self, RecipeError> {
        hugging_face::read(json)
    }

    /// The size of every tensor.
    ///
    /// # Errors
    ///
    /// [`RecipeError::Value`] when each picture would give a tensor of another size.
    pub fn size(&self) -> Result<Size, RecipeError> {
        match (self.crop, self.resize) {
            (Some(size), _) | (None, Some(Resize::Exact(size))) => Ok(size),
            (None, _) => Err(RecipeError::Value {
                key: "crop",
                found: "none".into(),
                expected: "a size, since otherwise each picture would give a tensor of another size",
            }),
        }
    }

    /// Checks every value.
    ///
    /// # Errors
    ///
    /// The first value that is out of its range.
    pub fn check(&self) -> Result<(), RecipeError> {
        let refuse = |key, found: String, expected| Err(RecipeError::Value { key, found, expected });
        let side = |key, side: u32| match side {
            1..=SIDE_MAX => Ok(()),
            _ => refuse(key, side.to_string(), "1 to 4096"),
        };
        let size = |key, size: Size| side(key, size.height).and_then(|()| side(key, size.width));
        match self.resize {
            Some(Resize::ShortestEdge(edge)) => side("resize", edge)?,
            Some(Resize::Exact(exact)) => size("resize", exact)?,
            None => {}
        }
        size("crop", self.size()?)?;
        if let Some(factor) = self.rescale_factor.filter(|factor| !factor.is_normal()) {
            return refuse("rescale_factor", factor.to_string(), "a number other than zero");
        }
        let Some(Normalize { mean, std }) = self.normalize else { return Ok(()) };
        if let Some(bad) = mean.iter().find(|mean| !mean.is_finite()) {
            return refuse("mean", bad.to_string(), "numbers");
        }
        if let Some(bad) = std.iter().find(|std| !(**std >= 1e-6 && std.is_finite())) {
            return refuse("std", bad.to_string(), "numbers of at least 0.000001");
        }
        Ok(())
    }
}

/// Python's `int` for numbers that are not negative.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and is checked afterwards")]
fn floor(value: f64) -> u32 {
    value as u32
}
