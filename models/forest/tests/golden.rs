//! Answers equal, bit for bit, those of the library that trained the model.

use std::path::{Path, PathBuf};

use ev_models_core::{LoadError, Model, Tensor, Tensors};
use ev_models_forest::{ForestBackend, Kernel};

/// The library's answers for some rows.
#[derive(serde::Deserialize)]
struct Golden {
    rows: usize,
    columns: Vec<Option<f32>>,
    margin: Vec<f32>,
    prediction: Vec<f32>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Files under a folder with this suffix, by path.
fn files(folder: &Path, suffix: &str) -> Vec<PathBuf> {
    let entries = fs_err::read_dir(folder).expect("the golden vectors are there").flatten();
    let mut files: Vec<PathBuf> = entries
        .flat_map(|entry| if entry.path().is_dir() { files(&entry.path(), suffix) } else { vec![entry.path()] })
        .filter(|path| path.to_string_lossy().ends_with(suffix))
        .collect();
    files.sort();
    files
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Runs all rows at once and one by one, and compares both with the library.
fn check(model: &dyn Model, golden: &Golden, name: &str) {
    let width = model.signature().columns;
    let rows: Vec<f32> = golden.columns.iter().map(|value| value.unwrap_or(f32::NAN)).collect();
    let name = format!("{name}: {}", model.signature().description);
    assert_eq!(rows.len(), golden.rows * width, "{name}");
    let mut instance = model.instantiate().expect("a forest makes instances");
    let mut run = |rows: &[f32]| {
        let batch = Tensors::from(vec![Tensor::f32([rows.len() / width, width], rows.to_vec())]);
        let answer = instance.run(&batch).expect("the shape is the model's");
        [&answer[0], &answer[1]].map(|tensor| bits(tensor.as_f32().expect("answers are floats")))
    };
    let [margin, prediction] = run(&rows);
    assert_eq!(margin, bits(&golden.margin), "{name}: margin, one batch");
    assert_eq!(prediction, bits(&golden.prediction), "{name}: prediction, one batch");
    let (margins, predictions) = (margin.len() / golden.rows, prediction.len() / golden.rows);
    for (index, row) in rows.chunks_exact(width).enumerate() {
        let [margin, prediction] = run(row);
        assert_eq!(margin, bits(&golden.margin)[index * margins..][..margins], "{name}: margin, row {index}");
        let expected = &bits(&golden.prediction)[index * predictions..][..predictions];
        assert_eq!(prediction, expected, "{name}: prediction, row {index}");
    }
}

/// Checks a model file with every kernel this CPU has; tells how many those are.
fn check_all_kernels(path: &Path, golden: &Golden) -> usize {
    let name = path.strip_prefix(folder()).unwrap_or(path).display().to_string();
    let bytes = fs_err::read(path).expect("the model is there");
    let chosen = ForestBackend::new().load_bytes(&name, &bytes).unwrap_or_else(|error| panic!("{error}"));
    check(&*chosen, golden, &name);
    let forced = [Kernel::Portable, Kernel::Words, Kernel::Bytes].into_iter().filter_map(|kernel| {
        let model = ForestBackend::with_kernel(kernel).load_bytes(&name, &bytes).ok()?;
        check(&*model, golden, &name);
        Some(())
    });
    forced.count()
}

#[test]
fn answers_are_the_librarys() {
    let mut checked = 0;
    for golden in files(&folder(), ".golden.json") {
        let text = fs_err::read(&golden).expect("the answers are there");
        let answers: Golden = serde_json::from_slice(&text).expect("the answers are in the format");
        let stem = golden.to_string_lossy().replace(".golden.json", "");
        let models = [format!("{stem}.json"), format!("{stem}.ubj")].map(PathBuf::from);
        for model in models.iter().filter(|path| path.exists()) {
            assert!(check_all_kernels(model, &answers) >= 1);
            checked += 1;
        }
    }
    assert!(checked > 80, "only {checked} models");
}

#[test]
fn what_the_forest_does_not_run_is_refused_by_name() {
    let check = |file: &str, expected: &str| {
        let bytes = fs_err::read(folder().join("refused").join(file)).expect("the model is there");
        match ForestBackend::new().load_bytes(file, &bytes) {
            Err(error @ LoadError::Unsupported { .. }) => {
                assert!(error.to_string().contains(expected), "{file}: {error}");
            }
            Err(error) => panic!("{file}: {error}"),
            Ok(_) => panic!("{file} was loaded"),
        }
    };
    for suffix in ["json", "ubj"] {
        check(&format!("dart.{suffix}"), "booster `dart`; the forest runs `gbtree`; use backend `xgboost`");
        check(&format!("gblinear.{suffix}"), "booster `gblinear`; the forest runs `gbtree`; use backend `xgboost`");
        check(&format!("vector-leaf.{suffix}"), "a vector in each leaf");
        let place = "the split by category at learner.gradient_booster.model.trees[0].split_type[0]";
        check(&format!("categorical.{suffix}"), place);
    }
    check("objective.json", "objective `survival:cox`");
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_fastest_kernel_is_chosen() {
    let has = |features: &[bool]| features.iter().all(|feature| *feature);
    let words = has(&[is_x86_feature_detected!("avx512f"), is_x86_feature_detected!("avx512bw")]);
    let bytes = words && is_x86_feature_detected!("avx512vbmi");
    let check = |file: &str, expected: &str| {
        let bytes = fs_err::read(folder().join(file)).expect("the model is there");
        let model = ForestBackend::new().load_bytes(file, &bytes).unwrap_or_else(|error| panic!("{error}"));
        let description = &model.signature().description;
        assert!(description.ends_with(&format!(", {expected} kernel")), "{file}: {description}");
    };
    let fastest = match (bytes, words) {
        (true, _) => "AVX-512 VBMI 8 bit",
        (false, true) => "AVX-512 16 bit",
        (false, false) => "portable",
    };
    check("3.2.0/squarederror.ubj", fastest);
    check("3.2.0/wide.ubj", fastest);
    check("3.2.0/quantiles.ubj", fastest);
    check("3.2.0/deep.ubj", "portable");
    // More thresholds of a column than 8 bits tell apart.
    check("3.2.0/fine.ubj", if words { "AVX-512 16 bit" } else { "portable" });
}
