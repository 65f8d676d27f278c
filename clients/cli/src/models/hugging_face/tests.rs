//! Directories made here, read through and described.

use ev_models_core::manifest::{Preprocessing, Task};
use serde_json::json;

use super::*;

/// A tiny classifier of three classes.
struct Directory(tempfile::TempDir);

// === impl Directory ===

impl Directory {
    fn new() -> Directory {
        let directory = Directory(tempfile::tempdir().expect("a directory"));
        let labels = json!({"0": "tench, Tinca tinca", "1": "a \"quoted\" crane", "2": "car"});
        let config = json!({
            "model_type": "convnextv2", "architectures": ["ConvNextV2ForImageClassification"],
            "hidden_sizes": [1, 2], "depths": [1, 1], "id2label": labels,
        });
        directory.write(CONFIG, &config.to_string());
        directory.write(
            PREPROCESSOR,
            r#"{"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 64}}"#,
        );
        directory.write(CARD, "---\nlicense: apache-2.0\n---\n");
        let header = r#"{"classifier.weight": {"dtype": "F16", "shape": [3, 2], "data_offsets": [0, 12]},
                         "classifier.bias": {"dtype": "F16", "shape": [3], "data_offsets": [12, 18]}}"#;
        let mut weights = (header.len() as u64).to_le_bytes().to_vec();
        weights.extend_from_slice(header.as_bytes());
        weights.extend_from_slice(&[0; 18]);
        fs_err::write(directory.0.path().join(WEIGHTS), weights).expect("written");
        directory
    }

    fn write(&self, file: &str, text: &str) {
        fs_err::write(self.0.path().join(file), text).expect("written");
    }

    fn remove(&self, file: &str) {
        fs_err::remove_file(self.0.path().join(file)).expect("removed");
    }

    fn prepare(&self, adjust: impl FnOnce(&mut HuggingFaceCommand)) -> Result<Prepared, Failure> {
        let mut command = HuggingFaceCommand {
            directory: self.0.path().to_owned(),
            name: "photos".to_owned(),
            set_alias: None,
            description: None,
            license: None,
            dry_run: true,
        };
        adjust(&mut command);
        command.prepare()
    }

    fn refused(&self) -> String {
        let failure = self.prepare(|_| ()).expect_err("refused");
        assert_eq!(failure.exit(), Exit::Usage, "{failure}");
        let Failure::Usage { message, advice } = failure else { panic!("{failure:?}") };
        format!("{message}\n{}", advice.join("\n")).replace(&self.0.path().display().to_string(), "DIR")
    }
}

#[test]
fn a_directory_becomes_a_manifest() {
    let Prepared { manifest: text, notes } = Directory::new().prepare(|_| ()).expect("prepared");
    assert!(notes.is_empty(), "{notes:?}");
    let manifest = Manifest::parse(&text).expect("a manifest");
    assert_eq!(manifest.model.task, Task::ImageClassification);
    assert_eq!((manifest.model.name.as_str(), manifest.model.backend.as_str()), ("photos", "candle"));
    assert_eq!(manifest.model.license, "Apache-2.0");
    let description = "ConvNeXt V2 image classifier of 3 classes, for pictures of 64 by 64 pixels.";
    assert_eq!(manifest.model.description, description);
    assert_eq!(manifest.inputs[0].shape, [3, 64, 64]);
    assert_eq!(manifest.preprocessing, Some(Preprocessing::HuggingFace(PREPROCESSOR.to_owned())));
    assert_eq!(manifest.outputs[0].classes, ["tench, Tinca tinca", "a \"quoted\" crane", "car"]);
    assert_eq!(manifest.file_paths(), [CONFIG, WEIGHTS, PREPROCESSOR]);
}

#[test]
fn options_go_before_what_the_files_say() {
    let directory = Directory::new();
    let prepared = directory.prepare(|command| {
        command.license = Some("LicenseRef-Ours".to_owned());
        command.description = Some("Ours.".to_owned());
    });
    let manifest = Manifest::parse(&prepared.expect("prepared").manifest).expect("a manifest");
    assert_eq!((manifest.model.license.as_str(), manifest.model.description.as_str()), ("LicenseRef-Ours", "Ours."));

    let failure = directory.prepare(|command| command.name = "No Name".to_owned()).expect_err("refused");
    assert!(failure.to_string().contains("`model.name`: is `No Name`"), "{failure}");
}

#[test]
fn other_weights_are_refused_by_name_with_the_way_out() {
    let directory = Directory::new();
    directory.remove(WEIGHTS);
    assert!(directory.refused().starts_with("DIR has no model.safetensors\n"), "{}", directory.refused());
    for (file, expected) in [
        ("flax_model.msgpack", "DIR/flax_model.msgpack holds Flax's weights"),
        ("tf_model.h5", "DIR/tf_model.h5 holds TensorFlow's weights"),
        ("model.safetensors.index.json", "DIR/model.safetensors.index.json says that the weights are in several files"),
        ("pytorch_model.bin", "DIR/pytorch_model.bin is a pickle: it runs arbitrary code"),
    ] {
        directory.write(file, "");
        let refused = directory.refused();
        assert!(refused.starts_with(expected) && refused.contains("save_pretrained(NEW"), "{refused}");
    }
}

#[test]
fn what_is_missing_or_does_not_fit_is_named() {
    for (adjust, expected) in [
        (&(|directory: &Directory| directory.remove(CONFIG)) as &dyn Fn(&Directory), "DIR has no config.json\n"),
        (&|directory| directory.remove(PREPROCESSOR), "DIR has no preprocessor_config.json\nit says how pictures"),
        (&|directory| directory.remove(CARD), "the licence of the model is not known: there is no README.md\n"),
        (
            &|directory| directory.write(CARD, "---\nlicense: other\n---"),
            "the licence of the model is not known: README.md says",
        ),
        (
            &|directory| directory.write(PREPROCESSOR, r#"{"image_processor_type": "CLIPImageProcessor"}"#),
            "preprocessor_config.json cannot be followed: found the image processor \"CLIPImageProcessor\"",
        ),
        (
            &|directory| directory.write(PREPROCESSOR, "{"),
            "preprocessor_config.json cannot be followed: the preprocessor",
        ),
        (
            &|directory| directory.write(CONFIG, r#"{"model_type": "swin"}"#),
            "config.json is of a `swin`, which is not served\nof Hugging Face directories",
        ),
        (&|directory| directory.write(WEIGHTS, "x"), "DIR/model.safetensors is not a safetensors file"),
        (
            &|directory| directory.write(CONFIG, r#"{"model_type": "convnextv2", "num_labels": 4}"#),
            "DIR/model.safetensors classifies into 3 classes (bias [3]), config.json has 4",
        ),
    ] {
        let directory = Directory::new();
        adjust(&directory);
        let refused = directory.refused();
        assert!(refused.starts_with(expected), "{refused}");
    }
}

#[test]
fn as_many_classes_fit_as_a_manifest_may_have() {
    let manifest = |count: usize| {
        let classes: Vec<String> = (0..count).map(|id| format!("LABEL_{id}")).collect();
        let description = Description {
            name: "x",
            description: "",
            license: "MIT",
            height: 8,
            width: 8,
            classes: &classes,
            files: &[],
        };
        Manifest::parse(&description.to_toml())
    };
    manifest(config::CLASSES_MAX).expect("fits");
    manifest(config::CLASSES_MAX + 1).expect_err("one too many");
}
