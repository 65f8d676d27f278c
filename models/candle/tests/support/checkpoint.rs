//! A ConvNeXt V2 checkpoint of seeded random weights, as Hugging Face would store it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Configuration and tensors.
#[derive(Debug, Clone)]
pub(crate) struct Checkpoint {
    pub(crate) config: Value,
    pub(crate) tensors: BTreeMap<String, Tensor>,
}

/// Shape and values.
#[derive(Debug, Clone)]
pub(crate) struct Tensor {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

/// How large.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) depths: &'static [usize],
    pub(crate) channels: &'static [usize],
    pub(crate) classes: usize,
    pub(crate) image: usize,
}

/// Small enough for a file of 100 kB and a test of milliseconds.
pub(crate) const TINY: Size = Size { depths: &[1, 1, 2, 1], channels: &[8, 16, 32, 64], classes: 10, image: 32 };
/// The smallest published one.
pub(crate) const ATTO: Size = Size { depths: &[2, 2, 6, 2], channels: &[40, 80, 160, 320], classes: 1_000, image: 224 };

// === impl Checkpoint ===

impl Checkpoint {
    pub(crate) fn random(seed: u64, size: Size) -> Checkpoint {
        let labels: serde_json::Map<String, Value> =
            (0..size.classes).map(|class| (class.to_string(), json!(format!("class {class}")))).collect();
        let config = json!({
            "architectures": ["ConvNextV2ForImageClassification"], "model_type": "convnextv2", "num_channels": 3,
            "patch_size": 4, "num_stages": size.depths.len(), "hidden_sizes": size.channels, "depths": size.depths,
            "hidden_act": "gelu", "layer_norm_eps": 1e-12, "image_size": size.image, "id2label": labels,
        });
        let mut checkpoint = Checkpoint { config, tensors: BTreeMap::new() };
        let mut random = fastrand::Rng::with_seed(seed);
        let first = size.channels[0];
        checkpoint.layer(&mut random, "convnextv2.embeddings.patch_embeddings", &[first, 3, 4, 4]);
        checkpoint.norm(&mut random, "convnextv2.embeddings.layernorm", first);
        for (index, (&depth, &channels)) in size.depths.iter().zip(size.channels).enumerate() {
            let stage = format!("convnextv2.encoder.stages.{index}");
            if index > 0 {
                let before = size.channels[index - 1];
                checkpoint.norm(&mut random, &format!("{stage}.downsampling_layer.0"), before);
                checkpoint.layer(&mut random, &format!("{stage}.downsampling_layer.1"), &[channels, before, 2, 2]);
            }
            for block in 0..depth {
                let block = format!("{stage}.layers.{block}");
                checkpoint.layer(&mut random, &format!("{block}.dwconv"), &[channels, 1, 7, 7]);
                checkpoint.norm(&mut random, &format!("{block}.layernorm"), channels);
                checkpoint.layer(&mut random, &format!("{block}.pwconv1"), &[4 * channels, channels]);
                checkpoint.put(&mut random, &format!("{block}.grn.weight"), &[1, 1, 1, 4 * channels], 0.0, 0.3);
                checkpoint.put(&mut random, &format!("{block}.grn.bias"), &[1, 1, 1, 4 * channels], 0.0, 0.1);
                checkpoint.layer(&mut random, &format!("{block}.pwconv2"), &[channels, 4 * channels]);
            }
        }
        let last = size.channels[size.channels.len() - 1];
        checkpoint.norm(&mut random, "convnextv2.layernorm", last);
        checkpoint.layer(&mut random, "classifier", &[size.classes, last]);
        checkpoint
    }

    /// The bytes of `config.json`.
    pub(crate) fn config(&self) -> Vec<u8> {
        self.config.to_string().into_bytes()
    }

    /// The bytes of `model.safetensors`, in float32.
    pub(crate) fn weights(&self) -> Vec<u8> {
        self.weights_as("F32", |value| value.to_le_bytes().to_vec())
    }

    /// The same in another type.
    pub(crate) fn weights_as(&self, dtype: &str, bytes: impl Fn(f32) -> Vec<u8>) -> Vec<u8> {
        let mut header = serde_json::Map::new();
        header.insert("__metadata__".to_owned(), json!({"format": "pt"}));
        let mut data = Vec::new();
        for (name, tensor) in &self.tensors {
            let start = data.len();
            data.extend(tensor.values.iter().flat_map(|value| bytes(*value)));
            let entry = json!({"dtype": dtype, "shape": tensor.shape, "data_offsets": [start, data.len()]});
            header.insert(name.clone(), entry);
        }
        file(&Value::Object(header).to_string(), &data)
    }

    fn layer(&mut self, random: &mut fastrand::Rng, name: &str, shape: &[usize]) {
        // Activations keep their size from layer to layer.
        let spread = (3.0 / shape[1..].iter().product::<usize>() as f32).sqrt();
        self.put(random, &format!("{name}.weight"), shape, 0.0, spread);
        self.put(random, &format!("{name}.bias"), &shape[..1], 0.0, 0.1);
    }

    fn norm(&mut self, random: &mut fastrand::Rng, name: &str, channels: usize) {
        self.put(random, &format!("{name}.weight"), &[channels], 1.0, 0.2);
        self.put(random, &format!("{name}.bias"), &[channels], 0.0, 0.2);
    }

    fn put(&mut self, random: &mut fastrand::Rng, name: &str, shape: &[usize], middle: f32, spread: f32) {
        let values = uniform(random, shape.iter().product()).into_iter().map(|value| middle + spread * value).collect();
        self.tensors.insert(name.to_owned(), Tensor { shape: shape.to_vec(), values });
    }
}

/// A safetensors file of this header.
pub(crate) fn file(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

/// Images of seeded noise.
pub(crate) fn pixels(seed: u64, len: usize) -> Vec<f32> {
    uniform(&mut fastrand::Rng::with_seed(seed), len).into_iter().map(|value| 2.0 * value).collect()
}

/// From -1 to 1.
fn uniform(random: &mut fastrand::Rng, len: usize) -> Vec<f32> {
    (0..len).map(|_| random.f32() * 2.0 - 1.0).collect()
}
