//! ConvNeXt V2 image classifiers from Hugging Face directories, with no native library.
//!
//! Reads `config.json` and `model.safetensors` of a `ConvNextV2ForImageClassification` of any size, as they are
//! published. A row is an image `[3, height, width]` in float32, scaled and normalised; the answer is its logits, as
//! margin and prediction alike.
//!
//! candle reads the weights, whatever float type they are stored in, and lends its matrix product. What lies between
//! the products is operators of our own, for candle's grouped convolution runs channel by channel: channels last,
//! depthwise convolution with its layer norm, the product with bias, GELU and the squares of the response norm.
//!
//! Invariants:
//!
//! - One thread runs an instance: the caller's. Weights are shared by all instances of a model.
//! - All kernels agree within 1e-5 of a logit's size; which one runs is chosen at load, by what the CPU has.
//! - Files are trusted with nothing: a tensor that is missing, of another shape or another type is named.
//! - Unsafe code is confined to `kernel`, each block tested against its safe twin.
//!
//! Not here: decoding, resizing and normalising images (`preprocessor_config.json` is not read), training, other
//! architectures (`ev-models-ort` runs them as ONNX).
//!
//! ```no_run
//! use ev_models_candle::CandleBackend;
//! use ev_models_core::{ArtifactDir, Backend, LoadOptions, Tensor, Tensors};
//!
//! let files = ["config.json", "model.safetensors"].map(|file| (file.into(), format!("convnextv2-atto/{file}").into()));
//! let options = LoadOptions::new("model.safetensors", 3 * 224 * 224);
//! let model = CandleBackend::new().load(&ArtifactDir::new(files), &options)?;
//! let mut instance = model.instantiate()?;
//! let image = Tensor::f32([1, 3, 224, 224], vec![0.0; 3 * 224 * 224]);
//! println!("{:?}", instance.run(&Tensors::from(vec![image]))?[0].as_f32());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod backend;
mod config;
mod kernel;
mod model;
mod network;
mod weights;

pub use backend::CandleBackend;
pub use kernel::Kernel;

/// The backend's name.
const NAME: &str = "candle";
