//! Bytes that begin as UBJSON: loading ends with a model that runs, or an error.

#![no_main]

use ev_models_core::{Tensor, Tensors};
use ev_models_forest::ForestBackend;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // A bracket and a length marker: never JSON.
    let bytes = [b"{", bytes].concat();
    if let Ok(model) = ForestBackend::new().load_bytes("model", &bytes) {
        let columns = model.signature().columns;
        let rows = Tensor::f32([1, columns], vec![0.5; columns]);
        let mut instance = model.instantiate().expect("a forest makes instances");
        instance.run(&Tensors::from(vec![rows])).expect("the shape is the model's");
    }
});
