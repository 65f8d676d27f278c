//! What a file says of itself: more than a run needs, enough to write a manifest.

use ev_models_core::LoadError;
use serde::Deserialize;

use crate::loader;

/// What a file says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// `JSON` or `UBJSON`.
    pub format: &'static str,
    /// The XGBoost that wrote it.
    pub version: [u32; 3],
    /// Objective, such as `reg:squarederror`.
    pub objective: String,
    /// Number of trees.
    pub trees: usize,
    /// Columns of a row.
    pub columns: usize,
    /// Values of a row's prediction.
    pub prediction_width: usize,
    /// Names of the columns; empty when it was trained without.
    pub feature_names: Vec<String>,
    /// Types of the columns, such as `float`; empty when it was trained without.
    pub feature_types: Vec<String>,
}

/// The part of a document that an inspection adds.
#[derive(Debug, Deserialize)]
struct Part {
    learner: Learner,
    version: [u32; 3],
}

#[derive(Debug, Deserialize)]
struct Learner {
    #[serde(default)]
    feature_names: Vec<String>,
    #[serde(default)]
    feature_types: Vec<String>,
    objective: Objective,
}

#[derive(Debug, Deserialize)]
struct Objective {
    name: String,
}

/// Loads a file as [`ForestBackend`](crate::ForestBackend) would, and says what is in it; `file` is what errors call it.
///
/// # Errors
///
/// [`LoadError`] when the bytes are not a model this backend runs, or name other than all columns.
pub fn inspect(file: &str, bytes: &[u8]) -> Result<Inspection, LoadError> {
    let (format, forest) = loader::load(file, bytes)?;
    let Part { learner, version } = loader::read_part(file, bytes)?;
    let Learner { feature_names, feature_types, objective } = learner;
    for (list, names) in [("feature_names", &feature_names), ("feature_types", &feature_types)] {
        if !names.is_empty() && names.len() != forest.columns {
            return Err(LoadError::Malformed {
                file: file.to_owned(),
                place: format!("learner.{list}"),
                problem: format!("found {} of {} columns", names.len(), forest.columns),
            });
        }
    }
    Ok(Inspection {
        format: format.name(),
        version,
        objective: objective.name,
        trees: forest.trees.len(),
        columns: forest.columns,
        prediction_width: forest.objective.width(forest.groups),
        feature_names,
        feature_types,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stump(names: &str) -> String {
        format!(
            r#"{{"version": [3, 2, 0], "learner": {{{names}
            "learner_model_param": {{"base_score": "[0E0]", "num_class": "0", "num_feature": "2"}},
            "objective": {{"name": "reg:squarederror"}},
            "gradient_booster": {{"name": "gbtree", "model": {{"tree_info": [0], "trees": [{{
                "left_children": [1, -1, -1], "right_children": [2, -1, -1],
                "split_indices": [0, 0, 0], "split_conditions": [10.0, 1.5, 2.5],
                "default_left": [1, 0, 0], "tree_param": {{"num_nodes": "3"}}}}]}}}}}}}}"#
        )
    }

    #[test]
    fn names_and_types_are_found() {
        let file = stump(r#""feature_names": ["a", "b c"], "feature_types": ["float", "int"],"#);
        let found = inspect("m.json", file.as_bytes()).expect("inspected");
        assert_eq!(
            found,
            Inspection {
                format: "JSON",
                version: [3, 2, 0],
                objective: "reg:squarederror".to_owned(),
                trees: 1,
                columns: 2,
                prediction_width: 1,
                feature_names: vec!["a".to_owned(), "b c".to_owned()],
                feature_types: vec!["float".to_owned(), "int".to_owned()],
            }
        );
        assert!(inspect("m.json", stump("").as_bytes()).expect("inspected").feature_names.is_empty());
    }

    #[test]
    fn names_of_other_columns_are_refused() {
        let error = inspect("m.json", stump(r#""feature_names": ["a"],"#).as_bytes()).expect_err("one name");
        assert!(error.to_string().contains("feature_names"), "{error}");
        assert!(inspect("m.pkl", &[0x80, 4]).is_err());
    }
}
