//! `config.json`: which network it is, and what its classes are called.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Deserialize;

use super::CONFIG;
use crate::failure::Failure;

const MODEL_TYPE: &str = "convnextv2";
const ARCHITECTURE: &str = "ConvNextV2ForImageClassification";
/// As many as a manifest may have.
pub(super) const CLASSES_MAX: usize = 1024;
/// What transformers assumes, and leaves out, of a classifier that nobody named classes for.
const CLASSES_UNSAID: usize = 2;

const OTHERS: [&str; 2] = [
    "of Hugging Face directories, ConvNeXt V2 image classifiers are served (model_type convnextv2)",
    "export others to ONNX, such as with optimum-cli export onnx --model DIR onnx/, then: evctl models init onnx/model.onnx",
];

/// What has to be known of the network.
#[derive(Debug)]
pub(super) struct Config {
    /// Names of the classes in the order of their ids, each once.
    pub(super) labels: Vec<String>,
    /// Inputs of the classifier.
    pub(super) features: Option<usize>,
    pub(super) notes: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Raw {
    num_channels: Option<usize>,
    #[serde(default)]
    hidden_sizes: Vec<usize>,
    id2label: Option<BTreeMap<String, String>>,
    num_labels: Option<usize>,
}

/// What is read first: other networks have other types of value elsewhere.
#[derive(Debug, Deserialize)]
struct Kind {
    model_type: Option<String>,
    architectures: Option<Vec<String>>,
}

// === impl Config ===

impl Config {
    pub(super) fn read(text: &str) -> Result<Config, Failure> {
        let garbled = |error: serde_json::Error| Failure::usage(format!("{CONFIG} cannot be read: {error}"), &[]);
        serde_json::from_str::<Kind>(text).map_err(garbled)?.check()?;
        let raw: Raw = serde_json::from_str(text).map_err(garbled)?;
        if let Some(channels) = raw.num_channels.filter(|channels| *channels != 3) {
            let problem = format!("{CONFIG} is of a network for pictures of {channels} channels, expected 3");
            return Err(Failure::usage(problem, &OTHERS));
        }
        let mut notes = Vec::new();
        let labels = match (raw.id2label, raw.num_labels) {
            (Some(labels), _) => in_order(labels)?,
            (None, count) => {
                let count = count.unwrap_or(CLASSES_UNSAID);
                notes.push(format!("{CONFIG} names no classes; they are called LABEL_0 and so on"));
                check_count(count)?;
                (0..count).map(|id| format!("LABEL_{id}")).collect()
            }
        };
        let (labels, repeated) = distinct(labels);
        if repeated > 0 {
            notes.push(format!("{repeated} classes share their names with others; their ids tell them apart"));
        }
        Ok(Config { labels, features: raw.hidden_sizes.last().copied(), notes })
    }
}

// === impl Kind ===

impl Kind {
    fn check(&self) -> Result<(), Failure> {
        let architecture = self.architectures.as_ref().and_then(|names| names.first());
        let network = match (self.model_type.as_deref(), architecture) {
            (Some(MODEL_TYPE), None) => return Ok(()),
            (Some(MODEL_TYPE), Some(name)) if name == ARCHITECTURE => return Ok(()),
            (Some(MODEL_TYPE), Some(name)) => {
                let problem = format!("{CONFIG} is of a `{name:.60}`, expected a {ARCHITECTURE}");
                let advice = "a backbone without a classifier names no classes: fine-tune it first, or take a checkpoint \
                              that was, such as facebook/convnextv2-atto-1k-224";
                return Err(Failure::usage(problem, &[advice]));
            }
            (None, _) => format!("{CONFIG} has no model_type, so it is not known what network it is of"),
            (Some(kind), Some(name)) => format!("{CONFIG} is of a `{kind:.60}` ({name:.60}), which is not served"),
            (Some(kind), None) => format!("{CONFIG} is of a `{kind:.60}`, which is not served"),
        };
        Err(Failure::usage(network, &OTHERS))
    }
}

fn check_count(count: usize) -> Result<(), Failure> {
    if (1..=CLASSES_MAX).contains(&count) {
        return Ok(());
    }
    Err(Failure::usage(
        format!("{CONFIG} has {count} classes; a model version may have 1 to {CLASSES_MAX}"),
        &["take a checkpoint with fewer, such as those for ImageNet-1k, or fine-tune it on the classes you need"],
    ))
}

/// Names by id, which count from 0 without a gap.
fn in_order(labels: BTreeMap<String, String>) -> Result<Vec<String>, Failure> {
    check_count(labels.len())?;
    let count = labels.len();
    let mut by_id = vec![None; count];
    for (id, label) in labels {
        let place = id.parse().ok().and_then(|id: usize| by_id.get_mut(id));
        let Some(place @ None) = place else {
            let problem = format!("id2label of {CONFIG} has the id `{id:.20}`, expected 0 to {} once each", count - 1);
            return Err(Failure::usage(problem, &[]));
        };
        *place = Some(label);
    }
    Ok(by_id.into_iter().flatten().collect())
}

/// Makes names distinct by their ids, and says how many had to be.
fn distinct(labels: Vec<String>) -> (Vec<String>, usize) {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for label in &labels {
        *counts.entry(label).or_default() += 1;
    }
    // Names that are there once keep themselves, whatever the others become.
    let mut taken: HashSet<String> =
        counts.iter().filter(|(_, count)| **count == 1).map(|(label, _)| (*label).to_owned()).collect();
    let mut repeated = 0;
    let mut names = Vec::with_capacity(labels.len());
    for (id, label) in labels.iter().enumerate() {
        let mut name = label.clone();
        if counts[label.as_str()] > 1 {
            repeated += 1;
            name = format!("{label} ({id})");
            while !taken.insert(name.clone()) {
                name = format!("{name} ({id})");
            }
        }
        names.push(name);
    }
    (names, repeated)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(mut config: serde_json::Value) -> Result<Config, Failure> {
        if config.get("model_type").is_none() {
            config["model_type"] = "convnextv2".into();
        }
        Config::read(&config.to_string())
    }

    fn labels(config: serde_json::Value) -> Vec<String> {
        read(config).expect("read").labels
    }

    #[test]
    fn labels_are_in_the_order_of_their_ids_and_stay_as_they_are() {
        let names: BTreeMap<String, String> = (0..11).map(|id| (id.to_string(), format!("tench, no. {id}"))).collect();
        let found = labels(json!({"id2label": names, "architectures": [ARCHITECTURE]}));
        assert_eq!((found[2].as_str(), found[10].as_str()), ("tench, no. 2", "tench, no. 10"));
    }

    #[test]
    fn names_that_repeat_are_told_apart() {
        let config = read(json!({"id2label": {"0": "crane", "1": "crane (2)", "2": "crane", "3": "x"}})).expect("read");
        assert_eq!(config.labels, ["crane (0)", "crane (2)", "crane (2) (2)", "x"]);
        assert!(config.notes[0].starts_with("2 classes share"), "{:?}", config.notes);
    }

    #[test]
    fn classes_without_names_are_numbered() {
        assert_eq!(labels(json!({"num_labels": 3})), ["LABEL_0", "LABEL_1", "LABEL_2"]);
        assert_eq!(labels(json!({})), ["LABEL_0", "LABEL_1"]);
    }

    #[test]
    fn mistakes_are_named() {
        let check = |config: serde_json::Value, expected: &str| {
            let failure = read(config).expect_err(expected);
            assert_eq!(failure.to_string(), expected);
        };
        check(
            json!({"id2label": {"0": "a", "2": "b"}}),
            "id2label of config.json has the id `2`, expected 0 to 1 once each",
        );
        check(
            json!({"id2label": {"0": "a", "00": "b"}}),
            "id2label of config.json has the id `00`, expected 0 to 1 once each",
        );
        check(json!({"id2label": {}}), "config.json has 0 classes; a model version may have 1 to 1024");
        check(json!({"num_labels": 21_841}), "config.json has 21841 classes; a model version may have 1 to 1024");
        check(json!({"num_channels": 1}), "config.json is of a network for pictures of 1 channels, expected 3");
        check(
            json!({"model_type": "vit", "architectures": ["ViTForImageClassification"], "hidden_sizes": "other"}),
            "config.json is of a `vit` (ViTForImageClassification), which is not served",
        );
        check(
            json!({"architectures": ["ConvNextV2Model"]}),
            "config.json is of a `ConvNextV2Model`, expected a ConvNextV2ForImageClassification",
        );
        check(json!({"model_type": null}), "config.json has no model_type, so it is not known what network it is of");
        assert!(Config::read("{").expect_err("garbled").to_string().starts_with("config.json cannot be read: EOF"));
    }
}
