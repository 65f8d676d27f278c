//! What the tests of the backend share.

#![allow(dead_code, reason = "each test program uses a part")]

pub(crate) mod onnx;

use std::path::Path;

use ev_models_core::{LoadError, LoadOptions, Tensor, Tensors};
use ev_models_ort::{LIBRARY, OrtBackend};

/// The backend with the repository's own library.
///
/// # Panics
///
/// When `scripts/onnxruntime.sh` has not been run.
pub(crate) fn backend() -> OrtBackend {
    let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.onnxruntime").join(LIBRARY);
    assert!(library.is_file(), "{} is not there: run scripts/onnxruntime.sh", library.display());
    OrtBackend::new([library])
}

/// Loads a model of so many columns and runs one batch.
pub(crate) fn answers(bytes: Vec<u8>, options: &LoadOptions, batch: Tensor) -> Vec<f32> {
    let model = backend().load_bytes(bytes, options).unwrap_or_else(|error| panic!("it loads: {error}"));
    let mut instance = model.instantiate().expect("a loaded model makes instances");
    let answer = instance.run(&Tensors::from(vec![batch])).unwrap_or_else(|error| panic!("it runs: {error}"));
    assert_eq!(answer[0], answer[1], "margin and prediction are the same");
    answer[0].as_f32().expect("answers are floats").to_vec()
}

/// Why a file is refused.
pub(crate) fn refusal(bytes: Vec<u8>, options: &LoadOptions) -> LoadError {
    backend().load_bytes(bytes, options).err().expect("it is refused")
}
