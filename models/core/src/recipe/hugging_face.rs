//! Hugging Face's `preprocessor_config.json`.

use serde::Deserialize;

use super::{Channels, Interpolation, Normalize, Recipe, RecipeError, Resize, SIDE_MAX, Size};

/// The keys that decide about pixels. Others name things this crate does not ask about.
#[derive(Debug, Deserialize)]
struct Config {
    image_processor_type: Option<String>,
    /// What older files say.
    feature_extractor_type: Option<String>,
    do_resize: Option<bool>,
    size: Option<Dimensions>,
    crop_pct: Option<f64>,
    resample: Option<u8>,
    do_center_crop: Option<bool>,
    crop_size: Option<Dimensions>,
    do_rescale: Option<bool>,
    rescale_factor: Option<f64>,
    do_normalize: Option<bool>,
    image_mean: Option<[f64; 3]>,
    image_std: Option<[f64; 3]>,
    do_pad: Option<bool>,
    do_flip_channel_order: Option<bool>,
}

/// A number, or a table of one or two.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Dimensions {
    Number(u32),
    Table { shortest_edge: Option<u32>, longest_edge: Option<u32>, height: Option<u32>, width: Option<u32> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Processor {
    ConvNext,
    Vit,
}

/// Each in the spellings of several versions: the names of feature extractors are the oldest ones, `Fast` said that
/// torchvision resized, which rounds differently from Pillow in the last bit.
const PROCESSORS: &[(&str, Processor)] = &[
    ("ConvNextImageProcessor", Processor::ConvNext),
    ("ConvNextImageProcessorFast", Processor::ConvNext),
    ("ConvNextFeatureExtractor", Processor::ConvNext),
    ("ViTImageProcessor", Processor::Vit),
    ("ViTImageProcessorFast", Processor::Vit),
    ("ViTFeatureExtractor", Processor::Vit),
];

/// The default of both, which transformers calls `IMAGENET_STANDARD`.
const HALVES: Normalize = Normalize { mean: [0.5; 3], std: [0.5; 3] };

pub(super) fn read(json: &str) -> Result<Recipe, RecipeError> {
    let config: Config = serde_json::from_str(json).map_err(RecipeError::Read)?;
    let processor = config.processor()?;
    for (key, given) in [("do_pad", config.do_pad), ("do_flip_channel_order", config.do_flip_channel_order)] {
        if given == Some(true) {
            return Err(refused(key, "true", "false"));
        }
    }
    let (interpolation, size) = match processor {
        Processor::ConvNext => (Interpolation::Bicubic, Dimensions::Number(384)),
        Processor::Vit => (Interpolation::Bilinear, Dimensions::Number(224)),
    };
    let normalize =
        Normalize { mean: config.image_mean.unwrap_or(HALVES.mean), std: config.image_std.unwrap_or(HALVES.std) };
    let mut recipe = Recipe {
        resize: None,
        interpolation: config.resample.map_or(Ok(interpolation), filter)?,
        crop: None,
        rescale_factor: config.do_rescale.unwrap_or(true).then(|| config.rescale_factor.unwrap_or(1.0 / 255.0)),
        normalize: config.do_normalize.unwrap_or(true).then_some(normalize),
        channels: Channels::Rgb,
    };
    if config.do_resize.unwrap_or(true) {
        let size = config.size.unwrap_or(size);
        match processor {
            Processor::ConvNext => {
                let crop_pct = config.crop_pct.unwrap_or(224.0 / 256.0);
                if !(0.05..=1.0).contains(&crop_pct) {
                    return Err(refused("crop_pct", crop_pct, "0.05 to 1"));
                }
                let Recipe { resize, crop, .. } =
                    Recipe::convnext(size.shortest_edge()?, crop_pct, recipe.interpolation, normalize);
                (recipe.resize, recipe.crop) = (resize, crop);
            }
            Processor::Vit => recipe.resize = Some(size.resize()?),
        }
    }
    if config.do_center_crop.unwrap_or(false) {
        let size =
            config.crop_size.ok_or_else(|| refused("crop_size", "nothing", "a size, since do_center_crop is true"))?;
        // A crop of a crop would round twice.
        if let Some(first) = recipe.crop.replace(size.exact("crop_size")?)
            && recipe.crop != Some(first)
        {
            return Err(refused("do_center_crop", "true", "false, since crop_pct crops to another size already"));
        }
    }
    recipe.check()?;
    Ok(recipe)
}

fn refused(key: &'static str, found: impl ToString, expected: &'static str) -> RecipeError {
    RecipeError::Value { key, found: found.to_string(), expected }
}

/// Pillow's numbers.
fn filter(resample: u8) -> Result<Interpolation, RecipeError> {
    Ok(match resample {
        0 => Interpolation::Nearest,
        1 => Interpolation::Lanczos,
        2 => Interpolation::Bilinear,
        3 => Interpolation::Bicubic,
        4 => Interpolation::Box,
        5 => Interpolation::Hamming,
        other => return Err(refused("resample", other, "0 to 5")),
    })
}

// === impl Config ===

impl Config {
    fn processor(&self) -> Result<Processor, RecipeError> {
        let found = self.image_processor_type.as_deref().or(self.feature_extractor_type.as_deref()).unwrap_or_default();
        match PROCESSORS.iter().find(|(name, _)| *name == found) {
            Some((_, processor)) => Ok(*processor),
            None => Err(RecipeError::Processor {
                found: found.chars().take(80).collect(),
                expected: PROCESSORS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "),
            }),
        }
    }
}

// === impl Dimensions ===

impl Dimensions {
    fn shortest_edge(self) -> Result<u32, RecipeError> {
        match self {
            Self::Number(edge)
            | Self::Table { shortest_edge: Some(edge), longest_edge: None, height: None, width: None }
                if (1..=SIDE_MAX).contains(&edge) =>
            {
                Ok(edge)
            }
            other => Err(refused("size", format!("{other:?}"), "shortest_edge alone, 1 to 4096")),
        }
    }

    fn exact(self, key: &'static str) -> Result<Size, RecipeError> {
        match self {
            Self::Number(side) => Ok(Size { height: side, width: side }),
            Self::Table { shortest_edge: None, longest_edge: None, height: Some(height), width: Some(width) } => {
                Ok(Size { height, width })
            }
            other => Err(refused(key, format!("{other:?}"), "height and width")),
        }
    }

    fn resize(self) -> Result<Resize, RecipeError> {
        match self {
            Self::Table { shortest_edge: Some(edge), longest_edge: None, height: None, width: None } => {
                Ok(Resize::ShortestEdge(edge))
            }
            other => other.exact("size").map(Resize::Exact),
        }
    }
}
