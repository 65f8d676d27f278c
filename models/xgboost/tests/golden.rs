//! Answers equal the library's own, files beyond it are refused, and garbage never reaches it.

use std::path::{Path, PathBuf};

use ev_models_core::{ArtifactDir, Backend as _, LoadError, LoadOptions, Tensor, Tensors};
use ev_models_xgboost::XgboostBackend;
use serde_json::{Value, json};

/// The library's answers for some rows.
#[derive(serde::Deserialize)]
struct Golden {
    rows: usize,
    columns: Vec<Option<f32>>,
    margin: Vec<f32>,
    prediction: Vec<f32>,
}

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file)
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn answers_are_the_librarys() {
    let entries = fs_err::read_dir(path("")).expect("the golden vectors are there").flatten();
    let names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().to_string_lossy().strip_suffix(".golden.json").map(str::to_owned))
        .collect();
    assert_eq!(names.len(), 11);
    for name in names {
        let golden = fs_err::read(path(&format!("{name}.golden.json"))).expect("the answers are there");
        let golden: Golden = serde_json::from_slice(&golden).expect("the answers are in the format");
        let file = format!("{name}.json");
        let artifact = ArtifactDir::new([(file.clone(), path(&file))]);
        let columns = golden.columns.len() / golden.rows;
        let model = XgboostBackend::new().load(&artifact, &LoadOptions::new(file, columns));
        let model = model.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(model.signature().outputs, golden.margin.len() / golden.rows, "{name}");
        let rows = golden.columns.iter().map(|value| value.unwrap_or(f32::NAN)).collect();
        let batch = Tensors::from(vec![Tensor::f32([golden.rows, columns], rows)]);
        let mut instance = model.instantiate().expect("a model makes instances");
        // Twice: what is random in training is not in prediction.
        for _ in 0..2 {
            let answer = instance.run(&batch).expect("the shape is the model's");
            let floats = |tensor: &Tensor| bits(tensor.as_f32().expect("answers are floats"));
            assert_eq!(floats(&answer[0]), bits(&golden.margin), "{name}: margin");
            assert_eq!(floats(&answer[1]), bits(&golden.prediction), "{name}: prediction");
            assert_eq!(answer[0].shape, [golden.rows, golden.margin.len() / golden.rows], "{name}");
            assert_eq!(answer[1].shape, [golden.rows, golden.prediction.len() / golden.rows], "{name}");
        }
    }
}

#[test]
fn what_the_library_would_misread_is_refused_by_name() {
    let check = |file: &str, expected: &str| {
        let bytes = fs_err::read(path(file)).expect("the file is there");
        match XgboostBackend::new().load_bytes(file, &bytes) {
            Err(error @ LoadError::Unsupported { .. }) => {
                assert!(error.to_string().contains(expected), "{file}: {error}");
            }
            Err(error) => panic!("{file}: {error}"),
            Ok(_) => panic!("{file} was loaded"),
        }
    };
    for name in ["dart-newer", "gblinear-newer"] {
        for suffix in ["json", "ubj"] {
            check(&format!("{name}.{suffix}"), "a file of XGBoost 3.2.0, this backend carries 1.6.2");
        }
    }
    check("dart.ubj", "UBJSON");
}

#[test]
fn a_wrong_width_is_a_mismatch() {
    let artifact = ArtifactDir::new([("dart.json".to_owned(), path("dart.json"))]);
    let options = LoadOptions::new("dart.json", 5);
    let error = XgboostBackend::new().load(&artifact, &options).err().expect("the model has 4 columns");
    assert!(matches!(error, LoadError::Mismatch { .. }), "{error}");
}

/// A model with another value somewhere is refused, with a place that ends so.
#[test]
fn errors_name_the_place() {
    let check = |file: &str, pointer: &str, value: Value, expected: &str| {
        let bytes = fs_err::read(path(file)).expect("the file is there");
        let mut document: Value = serde_json::from_slice(&bytes).expect("the model is JSON");
        *document.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")) = value.clone();
        match XgboostBackend::new().load_bytes(file, document.to_string().as_bytes()) {
            Err(LoadError::Malformed { place, problem, .. }) => {
                assert!(place.ends_with(expected), "{pointer} = {value}: {place}: {problem}");
            }
            Err(error) => panic!("{pointer} = {value}: {error}"),
            Ok(_) => panic!("{pointer} = {value} was loaded"),
        }
    };
    let dart = |field: &str, value: Value, expected: &str| {
        check("dart.json", &format!("/learner/gradient_booster/{field}"), value, expected);
    };
    let tree = |field: &str, value: Value, expected: &str| {
        dart(&format!("gbtree/model/trees/1/{field}"), value, &format!("trees[1].{expected}"));
    };
    tree("left_children/0", json!(0), "left_children[0]");
    tree("left_children/0", json!(2), "right_children[0]");
    tree("left_children/0", json!(1_000), "left_children[0]");
    tree("left_children/0", json!(-7), "left_children[0]");
    tree("left_children/0", json!("x"), "left_children[0]");
    tree("right_children", json!([1]), "right_children");
    tree("split_indices/0", json!(4), "split_indices[0]");
    tree("split_conditions/0", json!(1e300), "split_conditions[0]");
    dart("weight_drop", json!([1]), "weight_drop");
    dart("gbtree/model/tree_info/0", json!(1), "tree_info[0]");
    dart("gbtree/model/gbtree_model_param/num_trees", json!("7"), "gbtree.model");
    dart("gbtree/model/gbtree_model_param/num_parallel_tree", json!("4"), "num_parallel_tree");
    dart("gbtree/name", json!("dart"), "gbtree.name");
    check("gblinear.json", "/learner/gradient_booster/model/weights", json!([1, 2]), "weights");
    for (field, value) in [("num_feature", "0"), ("num_feature", "99999999999"), ("num_class", "3")] {
        check("dart.json", &format!("/learner/learner_model_param/{field}"), json!(value), field);
    }
    check("dart-softmax.json", "/learner/learner_model_param/num_class", json!("0"), "num_class");
    check("dart.json", "/learner/learner_model_param/base_score", json!("[5E-1]"), "base_score");
}

#[test]
fn mangled_files_load_or_are_refused() {
    let mut state = 1_u64;
    let mut random = |end: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).expect("31 bits") % end
    };
    for file in ["dart-softprob.json", "gblinear-softprob.json"] {
        let bytes = fs_err::read(path(file)).expect("the file is there");
        for _ in 0..2_000 {
            let mut bytes = bytes.clone();
            for _ in 0..=random(3) {
                let place = random(bytes.len());
                bytes[place] = b"0123456789.-eE[]{},:\"x"[random(22)];
            }
            let _ = XgboostBackend::new().load_bytes(file, &bytes);
        }
        for end in (0..bytes.len()).step_by(97) {
            assert!(XgboostBackend::new().load_bytes(file, &bytes[..end]).is_err());
        }
    }
}
