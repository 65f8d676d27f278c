//! What an XGBoost file says of itself.

use ev_models_core::LoadError;
use ev_models_forest::{Inspection, inspect};

use super::skeleton::{Skeleton, SkeletonInput};
use crate::failure::Failure;

/// Inputs a manifest may have; a wider model gets one vector.
const INPUTS_MAX: usize = 1024;

/// Reads a `.json` or `.ubj`.
pub(super) fn read(file: &str, bytes: &[u8], name: &str) -> Result<Skeleton, Failure> {
    Ok(skeleton(file, name, inspect(file, bytes).map_err(refused)?))
}

fn refused(error: LoadError) -> Failure {
    let advice: &[&str] = match &error {
        LoadError::Unsupported { .. } => &[],
        _ => &["expected what XGBoost writes: model.save_model(\"model.ubj\")"],
    };
    Failure::usage(error.to_string(), advice)
}

fn skeleton(file: &str, name: &str, inspection: Inspection) -> Skeleton {
    let Inspection { format, version, objective, trees, columns, prediction_width, feature_names, feature_types } =
        inspection;
    let [major, minor, patch] = version;
    let named = !feature_names.is_empty() && columns <= INPUTS_MAX;
    let inputs = if named {
        let types = feature_types.into_iter().map(Some).chain(std::iter::repeat(None));
        let described = feature_names.into_iter().zip(types);
        described.map(|(name, kind)| SkeletonInput { name, width: None, comment: comment(kind.as_deref()) }).collect()
    } else {
        let comment = "the columns, in the order of training".to_owned();
        vec![SkeletonInput { name: "features".to_owned(), width: Some(columns), comment }]
    };
    let shape = if named { format!("{columns} named inputs") } else { format!("one input of {columns} values") };
    let summary = format!(
        "XGBoost {major}.{minor}.{patch} {format}, {objective}, {trees} trees; {shape}, {prediction_width} value(s) a row"
    );
    Skeleton {
        name: name.to_owned(),
        backend: "forest",
        file: file.to_owned(),
        description: format!("XGBoost model ({objective}, {trees} trees, XGBoost {major}.{minor}.{patch})."),
        inputs,
        output: "prediction".to_owned(),
        width: prediction_width,
        output_comment: output_comment(&objective, prediction_width),
        summary,
        notes: if named { Vec::new() } else { vec![UNNAMED.to_owned()] },
    }
}

const UNNAMED: &str = "the model has no column names, so nothing guards against columns in another order; train with a pandas DataFrame to have them";

fn comment(kind: Option<&str>) -> String {
    match kind {
        None | Some("float" | "q") => String::new(),
        Some("int") => "trained as a whole number".to_owned(),
        Some("i") => "trained as a flag: 0 or 1".to_owned(),
        Some(other) => format!("trained as `{other}`"),
    }
}

fn output_comment(objective: &str, width: usize) -> String {
    let what = match objective {
        "binary:logistic" | "reg:logistic" => "a probability, 0 to 1".to_owned(),
        "binary:hinge" => "0 or 1".to_owned(),
        "multi:softprob" => format!("{width} probabilities, one a class"),
        "multi:softmax" => "the number of the likeliest class".to_owned(),
        objective if objective.starts_with("rank:") => "a score; only its order means something".to_owned(),
        "binary:logitraw" => "log odds".to_owned(),
        _ => "a number in the unit of the training label".to_owned(),
    };
    format!("{objective}: {what}.")
}

#[cfg(test)]
mod tests {
    use ev_models_core::Manifest;

    use super::*;

    fn inspection(names: &[&str]) -> Inspection {
        Inspection {
            format: "UBJSON",
            version: [3, 2, 0],
            objective: "multi:softprob".to_owned(),
            trees: 30,
            columns: 2,
            prediction_width: 3,
            feature_names: names.iter().map(|&name| name.to_owned()).collect(),
            feature_types: if names.is_empty() { Vec::new() } else { vec!["float".to_owned(), "int".to_owned()] },
        }
    }

    #[test]
    fn named_columns_become_inputs() {
        let skeleton = skeleton("m.ubj", "mine", inspection(&["mileage km", "age"]));
        let manifest = Manifest::parse(&skeleton.to_toml()).expect("a manifest");
        assert_eq!(manifest.column_names(), ["mileage km", "age"]);
        assert_eq!(manifest.outputs[0].head_width(), 3);
        assert!(manifest.inputs.iter().all(|input| input.nan_is_missing));
        assert!(skeleton.to_toml().contains("name = \"age\"   # trained as a whole number"));
        assert_eq!(
            skeleton.summary,
            "XGBoost 3.2.0 UBJSON, multi:softprob, 30 trees; 2 named inputs, 3 value(s) a row"
        );
    }

    #[test]
    fn unnamed_columns_become_a_vector() {
        let skeleton = skeleton("m.ubj", "mine", inspection(&[]));
        let manifest = Manifest::parse(&skeleton.to_toml()).expect("a manifest");
        assert_eq!(manifest.inputs.len(), 1);
        assert_eq!(manifest.column_count(), 2);
        assert_eq!(skeleton.notes.len(), 1);
    }

    #[test]
    fn other_files_say_what_to_do() {
        assert!(read("m.ubj", b"hello", "m").expect_err("text").exit() == crate::exit::Exit::Usage);
        assert!(read("m.ubj", &[0x80, 4, 95], "m").expect_err("a pickle").to_string().contains("pickle"));
    }
}
