//! `[preprocessing]`: how a picture becomes the model's one input.

use serde::{Deserialize, Serialize};

use super::{Manifest, ManifestError, Task};
use crate::{
    DataType,
    recipe::{Channels, Interpolation, Normalize, Recipe, RecipeError, Resize, Size, one_in_255},
};

/// `[preprocessing]`: the steps themselves, or the file that says them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawPreprocessing", into = "RawPreprocessing")]
pub enum Preprocessing {
    /// Key by key.
    Recipe(Recipe),
    /// Path of a `preprocessor_config.json` of Hugging Face among the version's files.
    HuggingFace(String),
}

/// The TOML layout, in which the steps stand beside each other.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPreprocessing {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hugging_face: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resize: Option<Resize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    interpolation: Option<Interpolation>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crop: Option<Size>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rescale_factor: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    normalize: Option<Normalize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    channels: Option<Channels>,
}

// === impl Preprocessing ===

impl Preprocessing {
    /// The file it names, if any.
    #[must_use]
    pub fn file(&self) -> Option<&str> {
        match self {
            Preprocessing::Recipe(_) => None,
            Preprocessing::HuggingFace(path) => Some(path),
        }
    }
}

impl TryFrom<RawPreprocessing> for Preprocessing {
    type Error = String;

    fn try_from(raw: RawPreprocessing) -> Result<Preprocessing, String> {
        let RawPreprocessing { hugging_face, resize, interpolation, crop, rescale_factor, normalize, channels } = raw;
        let given = [
            ("resize", resize.is_some()),
            ("interpolation", interpolation.is_some()),
            ("crop", crop.is_some()),
            ("rescale_factor", rescale_factor.is_some()),
            ("normalize", normalize.is_some()),
            ("channels", channels.is_some()),
        ];
        let given = given.into_iter().find_map(|(key, is_given)| is_given.then_some(key));
        match (hugging_face, given) {
            (Some(_), Some(key)) => {
                Err(format!("`preprocessing.{key}` stands beside `hugging_face`, whose file says every step itself"))
            }
            (Some(path), None) => Ok(Preprocessing::HuggingFace(path)),
            (None, None) => Err("`preprocessing` is empty, expected `resize` or `crop`, or `hugging_face`".to_owned()),
            (None, Some(_)) => Ok(Preprocessing::Recipe(Recipe {
                resize,
                interpolation: interpolation.unwrap_or_default(),
                crop,
                rescale_factor: rescale_factor.or_else(one_in_255),
                normalize,
                channels: channels.unwrap_or_default(),
            })),
        }
    }
}

impl From<Preprocessing> for RawPreprocessing {
    fn from(preprocessing: Preprocessing) -> RawPreprocessing {
        let (hugging_face, recipe) = match preprocessing {
            Preprocessing::HuggingFace(path) => (Some(path), None),
            Preprocessing::Recipe(recipe) => (None, Some(recipe)),
        };
        let Some(Recipe { resize, interpolation, crop, rescale_factor, normalize, channels }) = recipe else {
            return RawPreprocessing {
                hugging_face,
                resize: None,
                interpolation: None,
                crop: None,
                rescale_factor: None,
                normalize: None,
                channels: None,
            };
        };
        RawPreprocessing {
            hugging_face,
            resize,
            interpolation: Some(interpolation),
            crop,
            // A manifest cannot say "none"; times one is the same.
            rescale_factor: rescale_factor.or(Some(1.0)),
            normalize,
            channels: Some(channels),
        }
    }
}

// === checks ===

/// Whether the model's inputs are what `[preprocessing]` fills.
pub(super) fn check(manifest: &Manifest) -> Result<(), ManifestError> {
    let refuse = |place: &str, problem: String| Err(ManifestError::Invalid { place: place.to_owned(), problem });
    let is_task = manifest.model.task == Task::ImageClassification;
    let Some(preprocessing) = &manifest.preprocessing else {
        if is_task {
            let problem =
                "is missing: task `image_classification` takes pictures, and must say how they become numbers";
            return refuse("preprocessing", problem.to_owned());
        }
        return Ok(());
    };
    if !is_task && manifest.model.task != Task::Generic {
        let problem =
            format!("is only for tasks `image_classification` and `generic`, not `{}`", manifest.model.task.name());
        return refuse("preprocessing", problem);
    }
    let [input] = manifest.inputs.as_slice() else {
        let problem = format!("has {} entries, expected one, which `preprocessing` fills", manifest.inputs.len());
        return refuse("inputs", problem);
    };
    let [3, height, width] = input.shape[..] else {
        return refuse(
            "inputs[0].shape",
            format!("is {:?}, expected [3, height, width] beside `preprocessing`", input.shape),
        );
    };
    if input.dtype != DataType::Fp32 {
        return refuse("inputs[0].dtype", format!("is {}, expected FP32 beside `preprocessing`", input.dtype.name()));
    }
    if !input.required {
        return refuse(
            "inputs[0].required",
            "is false, expected true: without a picture there is no answer".to_owned(),
        );
    }
    let other = [
        ("range", input.range.is_some()),
        ("trained_range", input.trained_range.is_some()),
        ("nan_is_missing", input.nan_is_missing),
    ];
    if let Some((key, _)) = other.into_iter().find(|(_, given)| *given) {
        let problem = "does not go with `preprocessing`, which decides what values there are".to_owned();
        return refuse(&format!("inputs[0].{key}"), problem);
    }
    if !manifest.derived.is_empty() || manifest.variant_by.is_some() {
        let place = if manifest.variant_by.is_some() { "variant_by" } else { "derived" };
        return refuse(place, "does not go with `preprocessing`: a picture is the whole row".to_owned());
    }
    if let Preprocessing::Recipe(recipe) = preprocessing {
        let invalid = |error: RecipeError| ManifestError::Invalid {
            place: "preprocessing".to_owned(),
            problem: error.to_string(),
        };
        recipe.check().map_err(invalid)?;
        check_size(recipe, [height, width])
            .map_err(|problem| ManifestError::Invalid { place: "preprocessing".to_owned(), problem })?;
    }
    if is_task && input.name != "image" {
        return refuse(
            "inputs[0].name",
            format!("is `{}`, expected `image` for task `image_classification`", input.name),
        );
    }
    Ok(())
}

/// Whether a recipe gives tensors of `[height, width]`.
///
/// # Errors
///
/// What it gives instead.
pub fn check_size(recipe: &Recipe, [height, width]: [usize; 2]) -> Result<(), String> {
    let size = recipe.size().map_err(|error| error.to_string())?;
    if [size.height as usize, size.width as usize] == [height, width] {
        return Ok(());
    }
    Err(format!(
        "gives pictures of {} rows and {} columns, expected {height} and {width} as `inputs[0].shape` says",
        size.height, size.width
    ))
}
