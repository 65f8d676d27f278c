//! A model file: what is read of it, checked, and written anew for the library.

use ev_models_core::LoadError;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::tree::Tree;

/// The last version whose files the library reads rightly.
const VERSION_LAST: [u32; 2] = [1, 6];

/// Columns of a row.
const COLUMNS_MAX: usize = 1 << 15;

/// Values of an answer.
const GROUPS_MAX: usize = 1_024;

/// Trees of a booster.
const TREES_MAX: usize = 1 << 16;

const MULTICLASS: [&str; 2] = ["multi:softprob", "multi:softmax"];

/// The whole file. What serialises is what the library needs.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Document {
    learner: Learner,
    version: [u32; 3],
}

#[derive(Debug, Serialize, Deserialize)]
struct Learner {
    gradient_booster: Booster,
    learner_model_param: Parameters,
    objective: Value,
    #[serde(skip_deserializing)]
    attributes: serde_json::Map<String, Value>,
    #[serde(skip_deserializing)]
    feature_names: Vec<String>,
    #[serde(skip_deserializing)]
    feature_types: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Parameters {
    base_score: String,
    num_class: String,
    num_feature: String,
    #[serde(skip_deserializing)]
    num_target: Option<String>,
}

/// `gbtree` and `gblinear` have a model, `dart` has a `gbtree` and weights.
#[derive(Debug, Serialize, Deserialize)]
struct Booster {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<BoosterModel>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gbtree: Option<Box<Booster>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight_drop: Option<Vec<f32>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct BoosterModel {
    #[serde(skip_serializing_if = "Option::is_none")]
    gbtree_model_param: Option<TreesParameters>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tree_info: Option<Vec<usize>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trees: Option<Vec<Tree>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weights: Option<Vec<f32>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct TreesParameters {
    num_trees: String,
    num_parallel_tree: Option<String>,
    #[serde(skip_deserializing)]
    size_leaf_vector: Option<String>,
}

/// What is wrong with a file, before the file has a name.
#[derive(Debug)]
pub(crate) enum Problem {
    Malformed { place: String, problem: String },
    Unsupported { what: String, advice: String },
}

// === impl Document ===

impl Document {
    /// Reads and checks a file.
    pub(crate) fn read(bytes: &[u8]) -> Result<Document, Problem> {
        if !bytes.trim_ascii_start().starts_with(b"{") {
            return Err(Problem::unsupported("a file that is not JSON", "save the model as `.json`"));
        }
        check_version(stated_version(bytes))?;
        if !matches!(bytes.trim_ascii_start()[1..].trim_ascii_start().first(), Some(b'"' | b'}')) {
            return Err(Problem::unsupported("UBJSON", "save the model as `.json`, or use backend `forest`"));
        }
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let mut document: Document = serde_path_to_error::deserialize(&mut deserializer)
            .map_err(|error| Problem::malformed(error.path().to_string(), error.inner().to_string()))?;
        deserializer.end().map_err(|error| Problem::malformed("the end", error.to_string()))?;
        check_version(Some(document.version))?;
        document.check()?;
        Ok(document)
    }

    pub(crate) fn columns(&self) -> usize {
        self.learner.learner_model_param.num_feature.parse().unwrap_or(0)
    }

    pub(crate) fn groups(&self) -> usize {
        self.learner.learner_model_param.num_class.parse().unwrap_or(0).max(1)
    }

    pub(crate) fn description(&self) -> String {
        let booster = &self.learner.gradient_booster;
        let trees = booster.gbtree.as_deref().unwrap_or(booster).model.as_ref().and_then(|model| model.trees.as_ref());
        trees.map_or_else(|| booster.name.clone(), |trees| format!("{}, {} trees", booster.name, trees.len()))
    }

    fn check(&mut self) -> Result<(), Problem> {
        let place = "learner.learner_model_param";
        let parameters = &mut self.learner.learner_model_param;
        let number = |field: &str, text: &str, range: std::ops::RangeInclusive<usize>| {
            text.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| {
                let problem = format!("found `{text:.20}`, expected {} to {}", range.start(), range.end());
                Problem::malformed(format!("{place}.{field}"), problem)
            })
        };
        let columns = number("num_feature", &parameters.num_feature, 1..=COLUMNS_MAX)?;
        let classes = number("num_class", &parameters.num_class, 0..=GROUPS_MAX)?;
        let score = parameters.base_score.trim().parse().ok().filter(|score: &f32| score.is_finite());
        let score = score.ok_or_else(|| Problem::malformed(format!("{place}.base_score"), "expected a number"))?;
        *parameters = Parameters {
            base_score: score.to_string(),
            num_class: classes.to_string(),
            num_feature: columns.to_string(),
            num_target: Some("1".to_owned()),
        };
        self.learner.objective = objective(&self.learner.objective, classes)?;
        self.learner.gradient_booster.check("learner.gradient_booster", columns, classes.max(1))
    }
}

/// The objective as the library writes it. Parameters that matter only in training take their defaults.
fn objective(given: &Value, classes: usize) -> Result<Value, Problem> {
    let name = given.get("name").and_then(Value::as_str);
    let name = name.ok_or_else(|| Problem::malformed("learner.objective", "missing field `name`"))?;
    if MULTICLASS.contains(&name) != (classes > 1) {
        let problem = format!("{classes} classes do not go with objective `{name:.40}`");
        return Err(Problem::malformed("learner.learner_model_param.num_class", problem));
    }
    let regression = || json!({"name": name, "reg_loss_param": {"scale_pos_weight": "1"}});
    Ok(match name {
        "reg:squarederror" | "reg:squaredlogerror" | "reg:logistic" | "binary:logistic" | "binary:logitraw" => {
            regression()
        }
        "binary:hinge" | "reg:gamma" => json!({"name": name}),
        "count:poisson" => json!({"name": name, "poisson_regression_param": {"max_delta_step": "0.7"}}),
        "reg:tweedie" => json!({"name": name, "tweedie_regression_param": {"tweedie_variance_power": "1.5"}}),
        // The misspelling is the library's.
        "reg:pseudohubererror" => json!({"name": name, "pseduo_huber_param": {"huber_slope": "1"}}),
        "multi:softprob" | "multi:softmax" => {
            json!({"name": name, "softmax_multiclass_param": {"num_class": classes.to_string()}})
        }
        _ => {
            return Err(Problem::unsupported(
                format!("objective `{name:.40}`"),
                "use a regression, binary, Poisson, gamma, Tweedie or multi-class objective",
            ));
        }
    })
}

// === impl Booster ===

impl Booster {
    fn check(&mut self, place: &str, columns: usize, groups: usize) -> Result<(), Problem> {
        let missing = |field: &str| Problem::malformed(place, format!("missing field `{field}`"));
        match self.name.as_str() {
            "gbtree" => {
                (self.gbtree, self.weight_drop) = (None, None);
                let model = self.model.as_mut().ok_or_else(|| missing("model"))?;
                model.check_trees(&format!("{place}.model"), columns, groups)
            }
            "dart" => {
                self.model = None;
                let gbtree = self.gbtree.as_mut().ok_or_else(|| missing("gbtree"))?;
                if gbtree.name != "gbtree" {
                    return Err(Problem::malformed(format!("{place}.gbtree.name"), "expected `gbtree`"));
                }
                gbtree.check(&format!("{place}.gbtree"), columns, groups)?;
                let trees = gbtree.model.as_ref().and_then(|model| model.trees.as_ref()).map_or(0, Vec::len);
                let weights = self.weight_drop.as_ref().ok_or_else(|| missing("weight_drop"))?;
                check_weights(&format!("{place}.weight_drop"), weights, trees)
            }
            "gblinear" => {
                (self.gbtree, self.weight_drop) = (None, None);
                let model = self.model.as_mut().ok_or_else(|| missing("model"))?;
                (model.trees, model.tree_info, model.gbtree_model_param) = (None, None, None);
                let weights = model.weights.as_ref().ok_or_else(|| missing("model.weights"))?;
                check_weights(&format!("{place}.model.weights"), weights, (columns + 1) * groups)
            }
            name => Err(Problem::unsupported(format!("booster `{name:.40}`"), "use gbtree, dart or gblinear")),
        }
    }
}

// === impl BoosterModel ===

impl BoosterModel {
    fn check_trees(&mut self, place: &str, columns: usize, groups: usize) -> Result<(), Problem> {
        let missing = |field: &str| Problem::malformed(place, format!("missing field `{field}`"));
        self.weights = None;
        let trees = self.trees.as_mut().ok_or_else(|| missing("trees"))?;
        let info = self.tree_info.as_ref().ok_or_else(|| missing("tree_info"))?;
        let parameters = self.gbtree_model_param.as_mut().ok_or_else(|| missing("gbtree_model_param"))?;
        if trees.len() > TREES_MAX || info.len() != trees.len() || parameters.num_trees != trees.len().to_string() {
            let problem = format!(
                "{} trees, {} groups of trees, num_trees {:.20}: expected the same number, at most {TREES_MAX}",
                trees.len(),
                info.len(),
                parameters.num_trees
            );
            return Err(Problem::malformed(place, problem));
        }
        if let Some(index) = info.iter().position(|group| *group >= groups) {
            let problem = format!("found {}, expected less than {groups}", info[index]);
            return Err(Problem::malformed(format!("{place}.tree_info[{index}]"), problem));
        }
        let parallel = parameters.num_parallel_tree.as_deref().map_or(Some(1), |text| text.parse().ok());
        let parallel = parallel.filter(|parallel: &usize| {
            (1..=TREES_MAX).contains(parallel) && trees.len().is_multiple_of(*parallel * groups)
        });
        let Some(parallel) = parallel else {
            let place = format!("{place}.gbtree_model_param.num_parallel_tree");
            return Err(Problem::malformed(place, format!("does not divide {} trees", trees.len())));
        };
        parameters.num_parallel_tree = Some(parallel.to_string());
        parameters.size_leaf_vector = Some("0".to_owned());
        for (index, tree) in trees.iter_mut().enumerate() {
            tree.check(&format!("{place}.trees[{index}]"), index, columns)?;
        }
        Ok(())
    }
}

fn check_weights(place: &str, weights: &[f32], expected: usize) -> Result<(), Problem> {
    if weights.len() != expected || !weights.iter().all(|weight| weight.is_finite()) {
        let problem = format!("found {} values, expected {expected} finite ones", weights.len());
        return Err(Problem::malformed(place, problem));
    }
    Ok(())
}

/// The version a file states, found without reading the file: JSON or UBJSON of any version.
/// It is the last thing in a file, for XGBoost writes keys in order.
fn stated_version(bytes: &[u8]) -> Option<[u32; 3]> {
    let key = b"version";
    let start = bytes.windows(key.len()).rposition(|window| window == key)? + key.len();
    let tail = &bytes[start..bytes.len().min(start + 64)];
    if let Some(tail) = tail.strip_prefix(b"\"") {
        let mut numbers = tail
            .split(|byte| !byte.is_ascii_digit())
            .filter(|digits| !digits.is_empty())
            .map(|digits| std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()));
        return Some([numbers.next()??, numbers.next()??, numbers.next()??]);
    }
    // `[`, possibly `#` with a count, then small integers with a marker each.
    let list = tail.strip_prefix(b"[")?;
    let list = list.strip_prefix(b"#L\0\0\0\0\0\0\0\x03").or_else(|| list.strip_prefix(b"#i\x03")).unwrap_or(list);
    match *list {
        [b'i' | b'U', major, b'i' | b'U', minor, b'i' | b'U', patch, ..] => {
            Some([u32::from(major), u32::from(minor), u32::from(patch)])
        }
        _ => None,
    }
}

fn check_version(version: Option<[u32; 3]>) -> Result<(), Problem> {
    match version {
        Some([major, minor, patch]) if [major, minor] > VERSION_LAST => Err(Problem::unsupported(
            format!("a file of XGBoost {major}.{minor}.{patch}, this backend carries 1.6.2"),
            "train and save the model with XGBoost 1.6, or use backend `forest` for `gbtree` boosters",
        )),
        _ => Ok(()),
    }
}

// === impl Problem ===

impl Problem {
    pub(crate) fn malformed(place: impl Into<String>, problem: impl Into<String>) -> Problem {
        Problem::Malformed { place: place.into(), problem: problem.into() }
    }

    pub(crate) fn unsupported(what: impl Into<String>, advice: impl Into<String>) -> Problem {
        Problem::Unsupported { what: what.into(), advice: advice.into() }
    }

    pub(crate) fn into_error(self, file: &str) -> LoadError {
        let file = file.to_owned();
        match self {
            Problem::Malformed { place, problem } => LoadError::Malformed { file, place, problem },
            Problem::Unsupported { what, advice } => LoadError::Unsupported { file, what, advice },
        }
    }
}
