//! `config.json`: which ConvNeXt V2 this is.

use std::collections::BTreeMap;

use serde::Deserialize;

const STAGES_MAX: usize = 8;
const DEPTH_MAX: usize = 64;
/// Channels of a stage; the largest published model has 2,816.
const CHANNELS_MAX: usize = 8_192;
const CLASSES_MAX: usize = 1 << 16;
const IMAGE_SIZE_MAX: usize = 2_048;
/// What transformers assumes, and leaves out, of a classifier that nobody named classes for.
const CLASSES_UNSAID: usize = 2;

/// What the file says of the network.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Config {
    model_type: String,
    #[serde(default)]
    architectures: Vec<String>,
    #[serde(default = "rgb")]
    pub(crate) num_channels: usize,
    #[serde(default = "four")]
    pub(crate) patch_size: usize,
    pub(crate) hidden_sizes: Vec<usize>,
    pub(crate) depths: Vec<usize>,
    #[serde(default = "gelu")]
    hidden_act: String,
    /// Of the last norm only; the others have 1e-6.
    #[serde(default = "smallest")]
    pub(crate) layer_norm_eps: f32,
    #[serde(default = "usual_size")]
    pub(crate) image_size: usize,
    id2label: Option<BTreeMap<String, String>>,
    num_labels: Option<usize>,
}

// === impl Config ===

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    ///
    /// The key, and what was found and expected.
    pub(crate) fn read(bytes: &[u8]) -> Result<Config, String> {
        let config: Config = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        config.check()?;
        Ok(config)
    }

    /// Number of classes.
    pub(crate) fn class_count(&self) -> usize {
        let named = self.id2label.as_ref().map(BTreeMap::len);
        named.or(self.num_labels).unwrap_or(CLASSES_UNSAID)
    }

    fn check(&self) -> Result<(), String> {
        let text = |key: &str, found: &str, expected: &str| {
            if found == expected { Ok(()) } else { Err(format!("`{key}` is `{found:.60}`, expected `{expected}`")) }
        };
        text("model_type", &self.model_type, "convnextv2")?;
        if let Some(architecture) = self.architectures.first() {
            text("architectures", architecture, "ConvNextV2ForImageClassification")?;
        }
        text("hidden_act", &self.hidden_act, "gelu")?;
        let within = |key: &str, found: usize, min: usize, max: usize| {
            if (min..=max).contains(&found) {
                Ok(())
            } else {
                Err(format!("`{key}` is {found}, expected {min} to {max}"))
            }
        };
        within("num_channels", self.num_channels, 1, 16)?;
        within("patch_size", self.patch_size, 1, 32)?;
        within("image_size", self.image_size, 1, IMAGE_SIZE_MAX)?;
        within("number of `id2label`, or `num_labels`,", self.class_count(), 1, CLASSES_MAX)?;
        within("length of `depths`", self.depths.len(), 1, STAGES_MAX)?;
        within("length of `hidden_sizes`", self.hidden_sizes.len(), self.depths.len(), self.depths.len())?;
        for depth in &self.depths {
            within("depths", *depth, 1, DEPTH_MAX)?;
        }
        for channels in &self.hidden_sizes {
            within("hidden_sizes", *channels, 1, CHANNELS_MAX)?;
        }
        if !(0.0..=0.1).contains(&self.layer_norm_eps) {
            return Err(format!("`layer_norm_eps` is {}, expected 0 to 0.1", self.layer_norm_eps));
        }
        Ok(())
    }
}

fn rgb() -> usize {
    3
}

fn four() -> usize {
    4
}

fn gelu() -> String {
    "gelu".to_owned()
}

fn smallest() -> f32 {
    1e-12
}

fn usual_size() -> usize {
    224
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn atto() -> Value {
        json!({
            "architectures": ["ConvNextV2ForImageClassification"], "model_type": "convnextv2", "num_channels": 3,
            "patch_size": 4, "num_stages": 4, "hidden_sizes": [40, 80, 160, 320], "depths": [2, 2, 6, 2],
            "hidden_act": "gelu", "layer_norm_eps": 1e-12, "image_size": 224, "id2label": {"0": "tench", "1": "car"},
            "torch_dtype": "float32"
        })
    }

    #[test]
    fn a_published_configuration_is_read() {
        let config = Config::read(atto().to_string().as_bytes()).expect("valid");
        assert_eq!((config.class_count(), config.depths.len(), config.image_size), (2, 4, 224));
    }

    #[test]
    fn classes_without_names_are_counted() {
        let count = |change: &dyn Fn(&mut serde_json::Map<String, Value>)| {
            let mut config = atto();
            change(config.as_object_mut().expect("an object"));
            Config::read(config.to_string().as_bytes()).expect("valid").class_count()
        };
        assert_eq!(count(&|config| drop(config.remove("id2label"))), 2);
        assert_eq!(count(&|config| drop(config.insert("id2label".to_owned(), json!(null)))), 2);
        let numbered = |config: &mut serde_json::Map<String, Value>| {
            config.remove("id2label");
            config.insert("num_labels".to_owned(), json!(7));
        };
        assert_eq!(count(&numbered), 7);
    }

    #[test]
    fn mistakes_are_named() {
        let check = |key: &str, value: Value, expected: &str| {
            let mut config = atto();
            config[key] = value;
            let error = Config::read(config.to_string().as_bytes()).expect_err(key);
            assert!(error.contains(expected), "{key}: {error}");
        };
        check("model_type", json!("convnext"), "`model_type` is `convnext`, expected `convnextv2`");
        check("architectures", json!(["ConvNextV2Model"]), "expected `ConvNextV2ForImageClassification`");
        check("hidden_act", json!("relu"), "`hidden_act` is `relu`, expected `gelu`");
        check("hidden_sizes", json!([40, 80]), "length of `hidden_sizes`");
        check("hidden_sizes", json!([40, 80, 160, 1_000_000]), "`hidden_sizes` is 1000000");
        check("hidden_sizes", json!([40, 80, 160, -1]), "invalid value");
        check("depths", json!([2, 2, 0, 2]), "`depths` is 0");
        check("depths", json!([]), "length of `depths`");
        check("patch_size", json!(0), "`patch_size` is 0");
        check("image_size", json!(1_000_000), "`image_size` is 1000000");
        check("id2label", json!({}), "number of `id2label`");
        check("id2label", json!(["tench"]), "invalid type");
        check("layer_norm_eps", json!(1e9), "`layer_norm_eps`");
        assert!(Config::read(b"").is_err());
    }
}
