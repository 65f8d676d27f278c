//! The same network on ONNX Runtime and on candle: the same logits.

#![cfg(all(feature = "candle", feature = "ort"))]

mod support;

use std::path::Path;

use ev_models::{Libraries, backend};
use ev_models_core::{ArtifactDir, InputColumns, Instance, LoadOptions, Tensor, Tensors};
use support::{
    bundled::{BUNDLED, bundled},
    checkpoint::{ATTO, Checkpoint, Size, TINY, pixels},
    export::{Layout, export},
};

/// The largest difference of two logits that are about 1.
const TOLERANCE: f32 = 1e-4;

/// Loads files as the server would: through a backend by name.
fn load(name: &str, files: &[(&str, Vec<u8>)], size: Size) -> Box<dyn Instance> {
    let library = if cfg!(target_vendor = "apple") { "libonnxruntime.dylib" } else { "libonnxruntime.so" };
    let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.onnxruntime").join(library);
    assert!(library.is_file(), "{} is not there: run scripts/onnxruntime.sh", library.display());
    let directory = tempfile::tempdir().expect("a temporary directory");
    let artifact = ArtifactDir::new(files.iter().map(|(file, bytes)| {
        let path = directory.path().join(file);
        fs_err::write(&path, bytes).expect("written");
        ((*file).to_owned(), path)
    }));
    let options = LoadOptions {
        inputs: vec![InputColumns { name: "pixel_values".into(), shape: vec![3, size.image, size.image] }],
        output: "logits".into(),
        ..LoadOptions::new(files[0].0, 3 * size.image * size.image)
    };
    let backend = backend(name, &Libraries { onnxruntime: vec![library] }).expect("it is built in");
    let model = backend.load(&artifact, &options).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(model.signature().outputs, size.classes);
    model.instantiate().expect("an instance")
}

fn check(checkpoint: &Checkpoint, size: Size, images: usize) {
    let batch = Tensors::from(vec![Tensor::f32(
        [images, 3, size.image, size.image],
        pixels(12, images * 3 * size.image * size.image),
    )]);
    let files = [("model.safetensors", checkpoint.weights()), ("config.json", checkpoint.config())];
    let mut candle = load("candle", &files, size);
    let candle = candle.run(&batch).expect("it runs")[0].as_f32().expect("floats");
    let spread = candle.iter().fold(0.0, |largest: f32, logit| largest.max(logit.abs()));
    assert!((0.1..100.0).contains(&spread), "there is something to compare: {spread}");
    for layout in [Layout::Products, Layout::Convolutions] {
        let mut ort = load("ort", &[("model.onnx", export(checkpoint, size, layout))], size);
        let ort = ort.run(&batch).expect("it runs")[0].as_f32().expect("floats");
        let difference = ort.iter().zip(candle).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert_eq!(ort.len(), candle.len());
        assert!(difference <= TOLERANCE, "{layout:?}: {difference}, logits up to {spread}");
        eprintln!("{layout:?}, {images} images of {}: largest difference {difference:e}", size.image);
    }
}

#[test]
fn a_tiny_convnext_v2_has_the_same_logits_on_ort_and_candle() {
    check(&Checkpoint::random(11, TINY), TINY, 5);
}

#[test]
fn convnext_v2_atto_has_the_same_logits_on_ort_and_candle() {
    check(&Checkpoint::random(11, ATTO), ATTO, 2);
}

#[test]
fn the_bundled_convnext_v2_has_the_same_logits_on_ort_and_candle() {
    check(&bundled(), BUNDLED, 8);
}
