//! The bundled checkpoint, read without either engine.

use std::path::Path;

use serde_json::Value;

use super::checkpoint::{Checkpoint, Size, Tensor};

/// The bundled ConvNeXt V2, whose sizes are those of the smallest published one.
pub(crate) const BUNDLED: Size = Size { depths: &[2, 2, 6, 2], channels: &[40, 80, 160, 320], classes: 8, image: 64 };

/// Reads it from the zoo: a safetensors file is a length of eight bytes, a header in JSON, and little-endian numbers.
pub(crate) fn bundled() -> Checkpoint {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("zoo/vehicle-classifier-convnextv2");
    let config = fs_err::read(folder.join("config.json")).expect("config.json");
    let weights = fs_err::read(folder.join("model.safetensors")).expect("model.safetensors");
    let (length, rest) = weights.split_first_chunk::<8>().expect("a length");
    let (header, data) = rest.split_at(usize::try_from(u64::from_le_bytes(*length)).expect("small"));
    let header: serde_json::Map<String, Value> = serde_json::from_slice(header).expect("a header");
    let tensors = header.iter().filter(|(name, _)| *name != "__metadata__").map(|(name, entry)| {
        assert_eq!(entry["dtype"], "F32", "{name}");
        let numbers = |key: &str| -> Vec<usize> { serde_json::from_value(entry[key].clone()).expect("numbers") };
        let offsets = numbers("data_offsets");
        let (numbers_of, _) = data[offsets[0]..offsets[1]].as_chunks::<4>();
        let values = numbers_of.iter().map(|number| f32::from_le_bytes(*number)).collect();
        (name.clone(), Tensor { shape: numbers("shape"), values })
    });
    Checkpoint { config: serde_json::from_slice(&config).expect("JSON"), tensors: tensors.collect() }
}
