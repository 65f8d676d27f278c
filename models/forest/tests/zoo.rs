//! The bundled models' golden requests, margins and predictions bit for bit.

use std::path::{Path, PathBuf};

use ev_models_core::{ArtifactDir, Backend as _, LoadOptions, Tensor, Tensors};
use ev_models_forest::{ForestBackend, Kernel};

/// What `manifest.toml` says of heads; whether the rest of it is sound is not this test's question.
#[derive(serde::Deserialize)]
struct Manifest {
    model: ModelTable,
    #[serde(default)]
    heads: Vec<Head>,
    variant_by: Option<String>,
    #[serde(default)]
    variants: Vec<Variant>,
}

#[derive(serde::Deserialize)]
struct ModelTable {
    backend: String,
}

#[derive(serde::Deserialize)]
struct Variant {
    value: String,
    heads: Vec<Head>,
}

#[derive(serde::Deserialize)]
struct Head {
    name: String,
    file: String,
}

/// What `golden.json` says of a request, as far as the heads go.
#[derive(serde::Deserialize)]
struct Case {
    inputs: serde_json::Map<String, serde_json::Value>,
    columns: Vec<Option<f32>>,
    margin: Option<Vec<f32>>,
    prediction: Option<Vec<f32>>,
    spread_margin: Option<f32>,
}

#[derive(serde::Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

/// The heads of a request: those of its variant, if the model has variants.
fn heads<'a>(manifest: &'a Manifest, case: &Case) -> &'a [Head] {
    let Some(variant_by) = &manifest.variant_by else { return &manifest.heads };
    let value = case.inputs.get(variant_by).and_then(|value| value.as_str()).unwrap_or_default().trim();
    let variant = manifest.variants.iter().find(|variant| variant.value.eq_ignore_ascii_case(value));
    variant.map_or(&[], |variant| &variant.heads)
}

/// Margin and prediction of one row.
fn run(backend: ForestBackend, folder: &Path, file: &str, row: &[f32]) -> Option<[Vec<f32>; 2]> {
    let artifact = ArtifactDir::new([(file.to_owned(), folder.join(file))]);
    let model = backend.load(&artifact, &LoadOptions::new(file, row.len())).ok()?;
    let mut instance = model.instantiate().expect("a forest makes instances");
    let batch = Tensors::from(vec![Tensor::f32([1, row.len()], row.to_vec())]);
    let answer = instance.run(&batch).expect("the shape is the model's");
    Some([&answer[0], &answer[1]].map(|tensor| tensor.as_f32().expect("answers are floats").to_vec()))
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn check(folder: &Path) {
    let name = folder.display();
    let manifest = fs_err::read_to_string(folder.join("manifest.toml")).expect("a model has a manifest");
    let manifest: Manifest = toml::from_str(&manifest).unwrap_or_else(|error| panic!("{name}: {error}"));
    if manifest.model.backend != "forest" {
        return;
    }
    let golden = fs_err::read(folder.join("golden.json")).expect("checked by the caller");
    let golden: Golden = serde_json::from_slice(&golden).unwrap_or_else(|error| panic!("{name}: {error}"));
    for (index, case) in golden.cases.iter().enumerate() {
        let row: Vec<f32> = case.columns.iter().map(|value| value.unwrap_or(f32::NAN)).collect();
        for head in heads(&manifest, case) {
            let kernels = [Kernel::Portable, Kernel::Words, Kernel::Bytes].map(ForestBackend::with_kernel);
            let answers: Vec<_> = [ForestBackend::new()]
                .into_iter()
                .chain(kernels)
                .filter_map(|backend| run(backend, folder, &head.file, &row))
                .collect();
            assert!(answers.len() >= 2, "{name}: `{}` does not load", head.file);
            for [margin, prediction] in answers {
                let (expected_margin, expected_prediction) = match head.name.as_str() {
                    "point" => (case.margin.clone(), case.prediction.clone()),
                    _ => (case.spread_margin.map(|margin| vec![margin]), None),
                };
                if let Some(expected) = expected_margin {
                    assert_eq!(bits(&margin), bits(&expected), "{name}: {} margin of case {index}", head.name);
                }
                if let Some(expected) = expected_prediction {
                    assert_eq!(bits(&prediction), bits(&expected), "{name}: prediction of case {index}");
                }
            }
        }
    }
}

#[test]
fn bundled_models_answer_as_the_library_that_trained_them() {
    let zoo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../zoo");
    let models: Vec<PathBuf> = fs_err::read_dir(zoo)
        .into_iter()
        .flat_map(|entries| entries.flatten().map(|entry| entry.path()))
        .filter(|folder| folder.join("golden.json").exists())
        .collect();
    for folder in &models {
        check(folder);
    }
    println!("{} models", models.len());
}
