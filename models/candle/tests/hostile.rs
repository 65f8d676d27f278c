//! Files that were cut off, scrambled or made to do harm end with an error that names the place.

mod support;

use ev_models_candle::CandleBackend;
use ev_models_core::{ArtifactDir, Backend as _, LoadError, LoadOptions, RunError, Tensor, Tensors};
use proptest::prelude::*;
use support::{
    checkpoint::{Checkpoint, Size, TINY, file},
    image_options, options,
};

/// As small as a network can be.
const SMALLEST: Size = Size { depths: &[1], channels: &[4], classes: 2, image: 4 };

fn refusal(config: &[u8], weights: &[u8], options: &LoadOptions) -> LoadError {
    CandleBackend::new().load_bytes(config, weights, options).err().expect("it is refused")
}

#[track_caller]
fn says(error: &LoadError, expected: &str) {
    assert!(error.to_string().contains(expected), "{error}");
}

#[test]
fn tensors_that_are_missing_or_of_another_shape_or_type_are_named() {
    let good = Checkpoint::random(1, TINY);
    let check = |edit: &dyn Fn(&mut Checkpoint), expected: &str| {
        let mut bad = good.clone();
        edit(&mut bad);
        says(&refusal(&bad.config(), &bad.weights(), &options(TINY)), expected);
    };
    let grn = "convnextv2.encoder.stages.2.layers.1.grn.weight";
    check(&|bad| drop(bad.tensors.remove(grn)), &format!("malformed at tensor `{grn}`: is missing"));
    check(
        &|bad| bad.tensors.get_mut(grn).expect("there").shape = vec![128],
        &format!("tensor `{grn}`: has the shape [128], expected [1, 1, 1, 128]"),
    );
    check(&|bad| bad.config["hidden_sizes"] = serde_json::json!([8, 16, 32, 65]), "expected [65, 32, 2, 2]");
    check(
        &|bad| bad.config["depths"] = serde_json::json!([1, 1, 3, 1]),
        "stages.2.layers.2.dwconv.weight`: is missing",
    );
    check(&|bad| bad.tensors.get_mut(grn).expect("there").values[5] = f32::NAN, "holds NaN at 5");
    check(
        &|bad| bad.config["model_type"] = "vit".into(),
        "`config.json` is malformed at the top: `model_type` is `vit`",
    );
    let wide = good.weights_as("I32", |value| value.to_le_bytes().to_vec());
    says(&refusal(&good.config(), &wide, &options(TINY)), "is I32, expected F32, F16, BF16 or F64");
}

#[test]
fn images_that_do_not_fit_the_network_are_refused() {
    let good = Checkpoint::random(1, TINY);
    let refused = |options: &LoadOptions| refusal(&good.config(), &good.weights(), options);
    let error = refused(&LoadOptions::new("model.safetensors", 20));
    says(&error, "it takes images of [3, height, width], such as 3072, the manifest gives 20 values");
    says(&refused(&image_options(16, 64)), "stage 3 cannot take images of [3, 16, 64]");
    says(&refused(&image_options(1 << 16, 1 << 16)), "stage 0 cannot take images");

    let model = CandleBackend::new().load_bytes(&good.config(), &good.weights(), &options(TINY)).expect("it loads");
    let mut instance = model.instantiate().expect("an instance");
    for shape in [vec![1, 3_071], vec![1, 32, 32, 3], vec![3_072], vec![1, 1, 3_072]] {
        let len = shape.iter().product();
        let error = instance.run(&Tensors::from(vec![Tensor::f32(shape, vec![0.0; len])])).expect_err("another shape");
        assert!(
            matches!(error, RunError::Shape { .. }) && error.to_string().contains("FP32[rows, 3, 32, 32]"),
            "{error}"
        );
    }
}

#[test]
fn headers_that_lie_are_refused() {
    let config = Checkpoint::random(1, SMALLEST).config();
    let check = |weights: &[u8]| {
        let error = refusal(&config, weights, &options(SMALLEST));
        assert!(matches!(error, LoadError::Malformed { .. }), "{error}");
    };
    check(b"");
    check(b"PK\x03\x04");
    check(&u64::MAX.to_le_bytes());
    check(&[&90_000_000_u64.to_le_bytes()[..], b"{}"].concat());
    check(&file("{}", b""));
    check(&file("[1, 2]", b""));
    check(&file(&"[".repeat(100_000), b""));
    let name = "convnextv2.embeddings.patch_embeddings.weight";
    for entry in [
        r#"{"dtype": "F32", "shape": [4, 3, 4, 4], "data_offsets": [0, 768]}"#,
        r#"{"dtype": "F32", "shape": [4, 3, 4, 4], "data_offsets": [768, 0]}"#,
        r#"{"dtype": "F32", "shape": [4, 3, 4, 4], "data_offsets": [0, 18446744073709551615]}"#,
        r#"{"dtype": "F32", "shape": [4294967296, 4294967296, 4294967296], "data_offsets": [0, 4]}"#,
        r#"{"dtype": "F32", "shape": [9223372036854775807, 4], "data_offsets": [0, 4]}"#,
        r#"{"dtype": "F4", "shape": [4, 3, 4, 4], "data_offsets": [0, 96]}"#,
        r#"{"dtype": "C64", "shape": [4, 3, 4, 4], "data_offsets": [0, 1536]}"#,
        r#"{"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}"#,
        r#"{"dtype": "X", "shape": [1], "data_offsets": [0, 4]}"#,
    ] {
        check(&file(&format!("{{\"{name}\": {entry}}}"), &[0; 4]));
        check(&file(&format!("{{\"{name}\": {entry}}}"), &[0; 96]));
        check(&file(&format!("{{\"{name}\": {entry}}}"), &[0; 1_536]));
    }
    // Two tensors of the same bytes.
    let entry = r#"{"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}"#;
    check(&file(&format!("{{\"a\": {entry}, \"b\": {entry}}}"), &[0; 4]));
}

#[test]
fn files_cut_off_anywhere_are_refused() {
    let checkpoint = Checkpoint::random(1, SMALLEST);
    let (config, weights) = (checkpoint.config(), checkpoint.weights());
    CandleBackend::new().load_bytes(&config, &weights, &options(SMALLEST)).expect("the whole of it loads");
    for length in (0..weights.len()).step_by(13).chain([weights.len() - 1]) {
        refusal(&config, &weights[..length], &options(SMALLEST));
    }
    for length in 0..config.len() {
        refusal(&config[..length], &weights, &options(SMALLEST));
    }
}

#[test]
fn a_directory_without_its_configuration_is_refused() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("weights");
    fs_err::write(&path, Checkpoint::random(1, SMALLEST).weights()).expect("written");
    let artifact = ArtifactDir::new([("model.safetensors".to_owned(), path)]);
    let error = CandleBackend::new().load(&artifact, &options(SMALLEST)).err().expect("it is refused");
    says(&error, "cannot read `config.json`: the artifact has no such file");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_weights_files_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        let config = Checkpoint::random(1, SMALLEST).config();
        prop_assert!(CandleBackend::new().load_bytes(&config, &bytes, &options(SMALLEST)).is_err());
    }

    /// Headers and configurations with some bytes changed load or are refused.
    #[test]
    fn scrambled_files_end_with_an_answer(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        of_config: bool,
    ) {
        let checkpoint = Checkpoint::random(1, SMALLEST);
        let (mut config, mut weights) = (checkpoint.config(), checkpoint.weights());
        for (place, value) in changes {
            if of_config {
                let place = place.index(config.len());
                config[place] = value;
            } else {
                let place = place.index(weights.len().min(1_500));
                weights[place] = value;
            }
        }
        let _ = CandleBackend::new().load_bytes(&config, &weights, &options(SMALLEST));
    }
}
