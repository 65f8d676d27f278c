//! The program against the real server.

use std::path::Path;

use crate::support::{Run, evctl, evctl_with_input, real::RealServer};
use serde_json::{Value, json as object};

/// Two columns, one tree: below 10 (or missing) 1.5, else 2.5.
const STUMP: &str = r#"{"version": [3, 2, 0], "learner": {
    "feature_names": ["mileage_km", "age_years"], "feature_types": ["float", "int"],
    "learner_model_param": {"base_score": "[0E0]", "num_class": "0", "num_feature": "2"},
    "objective": {"name": "reg:squarederror"},
    "gradient_booster": {"name": "gbtree", "model": {"tree_info": [0], "trees": [{
        "left_children": [1, -1, -1], "right_children": [2, -1, -1],
        "split_indices": [0, 0, 0], "split_conditions": [10.0, LEAF, 2.5],
        "default_left": [1, 0, 0], "tree_param": {"num_nodes": "3"}}]}}}}"#;

fn json(server: &RealServer, arguments: &[&str]) -> Value {
    let run = evctl(&server.url, &[&["-o", "json"], arguments].concat());
    assert_eq!(run.code, 0, "{arguments:?}: {}", run.stderr);
    serde_json::from_str(&run.stdout).expect("JSON")
}

#[test]
fn every_service_answers() {
    let Some(server) = RealServer::start() else { return };
    let range = json(&server, &["predict", "range", "--make", "Tesla", "--model", "Model 3", "--battery-kwh", "60"]);
    assert!(range["range_q10_km"].as_f64() <= range["range_q50_km"].as_f64());
    assert_eq!(range["info"]["model"]["name"], "ev-range");

    let utilization = json(
        &server,
        &["predict", "utilization", "--region", "Atlantis", "--city-type", "urban", "--charger-type", "DC"],
    );
    assert_eq!(utilization["info"]["status"], "PREDICTION_STATUS_OUT_OF_DISTRIBUTION");
    assert_eq!(utilization["info"]["out_of_distribution"][0]["field"], "region");

    let thermal = json(&server, &["predict", "thermal", "--temperature-c", "41", "--current-a", "-80"]);
    assert_eq!(thermal["probabilities"].as_array().map(Vec::len), Some(5));

    let battery = json(&server, &["predict", "battery", "--ambient-c", "24", "--discharge-voltage-end-v", "3.2"]);
    assert!(battery["unanswered"].as_array().is_some_and(|unanswered| !unanswered.is_empty()));

    let rows = "{\"make\":\"Tesla\",\"model\":\"Model 3\"}\n{\"make\":\"Tesla\",\"model\":\"Model 3\",\"seats\":0}\n";
    let run = evctl_with_input(&server.url, &["predict", "range", "--file", "-"], rows);
    assert_eq!((run.code, run.stdout.lines().count()), (1, 2), "{}", run.stderr);
}

#[test]
fn what_is_served_is_said_and_shown() {
    let Some(server) = RealServer::start() else { return };
    let run = evctl(&server.url, &["models", "serve", "ev-range"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.contains("ev-range serves what its aliases and rollouts need, as configured"), "{}", run.stdout);
    let set = json(&server, &["models", "serve", "ev-range", "latest:1"]);
    assert_eq!(set["policy"]["latest"], 1);
    assert_eq!(set["versions"][0]["state"], "VERSION_STATE_READY");
    let run = evctl(&server.url, &["models", "serve", "ev-range"]);
    assert!(run.stdout.contains("the newest version") && run.stdout.contains("somebody has set"), "{}", run.stdout);
    let run = evctl(&server.url, &["models", "serve", "ev-range", "newest"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("expected latest:N, versions:N,N, all, aliases or configured"), "{}", run.stderr);
    json(&server, &["models", "serve", "ev-range", "configured"]);

    let replicas = json(&server, &["models", "replicas", "ev-range"]);
    let replica = &replicas["replicas"][0];
    let versions = replica["versions"].as_array().expect("versions");
    assert_eq!((versions.len(), &versions[0]["model"]), (1, &Value::from("ev-range")));
    assert_eq!(versions[0]["aliases"], object!(["production"]));
    let run = evctl(&server.url, &["models", "replicas"]);
    let address = replica["address"].as_str().expect("an address");
    assert!(run.stdout.contains(address) && run.stdout.contains("thermal-risk"), "{}", run.stdout);
}

#[test]
fn examples_of_the_help_are_answered() {
    let Some(server) = RealServer::start() else { return };
    for service in ["range", "utilization", "battery", "thermal"] {
        let help = evctl(&server.url, &["predict", service, "--help"]).stdout;
        let examples = help.lines().filter_map(|line| line.trim().strip_prefix("evctl predict "));
        // Others need a file, or a vehicle that sends.
        let others = ["--file", "--vehicle", "--watch"];
        let examples: Vec<&str> =
            examples.filter(|example| !others.iter().any(|other| example.contains(other))).collect();
        assert!(examples.len() >= 2, "{service}");
        for example in examples {
            let arguments = words(&format!("predict {example}"));
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let run = evctl(&server.url, &arguments);
            assert_eq!(run.code, 0, "{example}: {}", run.stderr);
        }
    }
}

/// Splits at blanks outside of single quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for letter in line.chars() {
        match letter {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            _ => words.last_mut().expect("never empty").push(letter),
        }
    }
    words
}

#[test]
fn wrong_fields_are_listed_by_option() {
    let Some(server) = RealServer::start() else { return };
    let arguments = ["predict", "range", "--make", "Tesla", "--model", "X", "--battery-kwh", "6000", "--seats", "0"];
    let Run { code, stdout, stderr } = evctl(&server.url, &arguments);
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.contains("\n  --battery-kwh  is 6000") && stderr.contains("\n  --seats        is 0"), "{stderr}");
}

#[test]
fn the_server_is_well() {
    let Some(server) = RealServer::start() else { return };
    let run = evctl(&server.url, &["doctor"]);
    assert_eq!(run.code, 0, "{}", run.stdout);
    assert!(run.stdout.contains("model ev-range"), "{}", run.stdout);
}

#[test]
fn a_model_of_ones_own_from_file_to_service() {
    let Some(server) = RealServer::start() else { return };
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("stump.json");
    let directory = home.path().join("mine");
    let (file_text, directory_text) = (file.display().to_string(), directory.display().to_string());
    let init = ["models", "init", &file_text, "-d", &directory_text, "--name", "mine", "--force"];
    let import = ["models", "import", &directory_text];

    fs_err::write(&file, STUMP.replace("LEAF", "1.5")).expect("written");
    assert_eq!(json(&server, &init)["inputs"], 2);
    let run = evctl(&server.url, &import);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stderr.contains("evctl models alias mine production 1"), "{}", run.stderr);
    assert_eq!(json(&server, &import)["created"], false);

    let aliased = json(&server, &["models", "alias", "mine", "production", "1", "--expect", "0"]);
    assert_eq!(aliased["version"]["state"], "VERSION_STATE_READY");
    assert_eq!(json(&server, &["models", "verify", "mine"])["ok"], true);

    fs_err::write(&file, STUMP.replace("LEAF", "1.75")).expect("written");
    json(&server, &init);
    let second = json(&server, &[&import[..], &["--alias", "production"]].concat());
    assert_eq!((&second["version"]["version"], &second["created"]), (&2.into(), &true.into()));

    let moved = evctl(&server.url, &["models", "alias", "mine", "production", "1", "--expect", "1"]);
    assert_eq!(moved.code, 1);
    assert!(moved.stderr.contains("ABORTED"), "{}", moved.stderr);
    let shown = json(&server, &["models", "show", "mine:2"]);
    assert_eq!(shown["manifest"]["model"]["task"], "generic");
    assert_eq!(evctl(&server.url, &["models", "show", "mine:9"]).code, 1);
}

#[test]
fn a_bundled_model_is_imported_as_itself() {
    let Some(server) = RealServer::start() else { return };
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/zoo/charging-utilization");
    let imported = json(&server, &["models", "import", directory]);
    assert_eq!(imported["created"], false);
    assert_eq!(imported["version"]["aliases"][0], "production");
}

/// A ConvNeXt V2 classifier of one block and three classes, as Hugging Face would store it.
fn write_classifier(directory: &Path) {
    let shapes: [(&str, &[usize]); 18] = [
        ("convnextv2.embeddings.patch_embeddings.weight", &[4, 3, 4, 4]),
        ("convnextv2.embeddings.patch_embeddings.bias", &[4]),
        ("convnextv2.embeddings.layernorm.weight", &[4]),
        ("convnextv2.embeddings.layernorm.bias", &[4]),
        ("convnextv2.encoder.stages.0.layers.0.dwconv.weight", &[4, 1, 7, 7]),
        ("convnextv2.encoder.stages.0.layers.0.dwconv.bias", &[4]),
        ("convnextv2.encoder.stages.0.layers.0.layernorm.weight", &[4]),
        ("convnextv2.encoder.stages.0.layers.0.layernorm.bias", &[4]),
        ("convnextv2.encoder.stages.0.layers.0.pwconv1.weight", &[16, 4]),
        ("convnextv2.encoder.stages.0.layers.0.pwconv1.bias", &[16]),
        ("convnextv2.encoder.stages.0.layers.0.grn.weight", &[1, 1, 1, 16]),
        ("convnextv2.encoder.stages.0.layers.0.grn.bias", &[1, 1, 1, 16]),
        ("convnextv2.encoder.stages.0.layers.0.pwconv2.weight", &[4, 16]),
        ("convnextv2.encoder.stages.0.layers.0.pwconv2.bias", &[4]),
        ("convnextv2.layernorm.weight", &[4]),
        ("convnextv2.layernorm.bias", &[4]),
        ("classifier.weight", &[3, 4]),
        ("classifier.bias", &[3]),
    ];
    let mut header = serde_json::Map::new();
    let mut data: Vec<u8> = Vec::new();
    for (name, shape) in shapes {
        let start = data.len();
        for place in 0..shape.iter().product::<usize>() {
            let value = (u16::try_from(place + start).map_or(0.0, f32::from) * 0.37).sin() * 0.5;
            data.extend_from_slice(&value.to_le_bytes());
        }
        header.insert(name.to_owned(), object!({"dtype": "F32", "shape": shape, "data_offsets": [start, data.len()]}));
    }
    let header = Value::Object(header).to_string();
    let weights = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat();
    let config = object!({
        "model_type": "convnextv2", "architectures": ["ConvNextV2ForImageClassification"],
        "hidden_sizes": [4], "depths": [1], "num_labels": 3,
    });
    let preprocessor = object!({"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 32}});
    for (file, bytes) in [
        ("config.json", config.to_string().into_bytes()),
        ("preprocessor_config.json", preprocessor.to_string().into_bytes()),
        ("model.safetensors", weights),
        ("README.md", b"---\nlicense: mit\n---\n# A card\n".to_vec()),
    ] {
        fs_err::write(directory.join(file), bytes).expect("written");
    }
}

#[test]
fn a_hugging_face_directory_from_download_to_photo() {
    let Some(server) = RealServer::start() else { return };
    let home = tempfile::tempdir().expect("a directory");
    let directory = home.path().display().to_string();
    write_classifier(home.path());
    let import = ["import", "hf", &directory, "--name", "photos", "--set-alias", "production"];
    let imported = json(&server, &import);
    assert_eq!((&imported["version"]["state"], &imported["created"]), (&"VERSION_STATE_READY".into(), &true.into()));
    assert_eq!(json(&server, &import)["created"], false);
    assert_eq!(json(&server, &["models", "verify", "photos"])["ok"], true);
    let shown = json(&server, &["models", "show", "photos:1"]);
    assert_eq!(shown["manifest"]["model"]["license"], "MIT");

    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../../server/images/tests/golden");
    let [picture, photo] = ["rgb8.png", "420.jpg"].map(|file| format!("{golden}/{file}"));
    let answer = json(&server, &["predict", "image", &picture, "--model", "photos@1"]);
    let candidates = answer["candidates"].as_array().expect("candidates");
    let sum: f64 = candidates.iter().filter_map(|candidate| candidate["probability"].as_f64()).sum();
    assert!(candidates.len() == 3 && (sum - 1.0).abs() < 1e-5, "{answer}");
    assert!(candidates[0]["label"].as_str().is_some_and(|label| label.starts_with("LABEL_")), "{answer}");
    assert_eq!((&answer["image"]["format"], &answer["unknown"]), (&"png".into(), &false.into()));

    let run = evctl(&server.url, &["predict", "image", &picture, &photo, &directory, "--model", "photos"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(run.stdout.contains("420.jpg    LABEL_") && run.stdout.contains("photos version 1"), "{}", run.stdout);
    assert!(run.stderr.contains("is a directory") && run.stderr.ends_with("3 photos, 1 of them refused\n"));

    let manifest = home.path().join("manifest.toml").display().to_string();
    let run = evctl(&server.url, &["predict", "image", &format!("{directory}/config.json"), "--model", "photos"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("JPEG, PNG or WebP"), "{}", run.stderr);
    let text = evctl(&server.url, &[&import[..5], &["--dry-run"]].concat()).stdout;
    fs_err::write(&manifest, text).expect("written");
    assert_eq!(evctl(&server.url, &import).code, 2, "the manifest that is there goes first");
    assert_eq!(json(&server, &["models", "import", &directory])["created"], false, "the same content");
}

#[test]
fn changes_name_who_made_them_and_are_watched() {
    let Some(server) = RealServer::start() else { return };
    let move_to = |alias: &str, more: &[&str]| {
        json(&server, &[&["models", "alias", "ev-range", alias, "1"], more].concat());
    };
    move_to("fallback", &["--actor", "kim of the depot"]);
    move_to("shadow", &[]);
    let log = json(&server, &["models", "audit", "ev-range", "--limit", "2"]);
    let actor = |row: usize| log["events"][row]["actor"].as_str().expect("an actor").to_owned();
    assert_eq!(actor(1), "kim of the depot from 127.0.0.1");
    // user@host, or as much of it as is known here.
    assert!(actor(0).ends_with("from 127.0.0.1") || actor(0) == "127.0.0.1", "{}", actor(0));
    let first = log["events"][1]["sequence"].as_u64().expect("a number");
    let after = (first - 1).to_string();

    let watch = ["models", "watch", "ev-range", "--after", after.as_str(), "--count", "2"];
    let run = evctl(&server.url, &watch);
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert_eq!((run.code, lines.len()), (0, 2), "{}", run.stderr);
    assert!(lines[0].contains("set_alias  ev-range:1 fallback  by kim of the depot from 127.0.0.1"), "{}", lines[0]);
    let run = evctl(&server.url, &[&["-o", "json"], &watch[..]].concat());
    let event: Value = serde_json::from_str(run.stdout.lines().nth(1).expect("a line")).expect("JSON");
    assert_eq!(event["event"]["alias"], "shadow");
    let run = evctl(&server.url, &["models", "watch", "--after", "1000000"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(run.stderr.contains("after_sequence"), "{}", run.stderr);
}

#[test]
fn answers_of_two_versions_are_shown_side_by_side() {
    let Some(server) = RealServer::start() else { return };
    let same = json(&server, &["models", "diff", "ev-range", "ev-range:1"]);
    assert_eq!((&same["answers"]["difference_max"], &same["answers"]["unit"]), (&0.0.into(), &"km".into()));
    assert_eq!((&same["differences"], &same["not_compared"]), (&object!([]), &Value::Null));
    let run = evctl(&server.url, &["models", "diff", "ev-range", "ev-range:1"]);
    assert!(run.stdout.contains("largest difference 0 km, median 0 km"), "{}", run.stdout);
    let other = json(&server, &["models", "diff", "ev-range", "thermal-risk"]);
    assert_eq!(other["answers"], Value::Null);
    assert!(other["not_compared"].as_str().is_some_and(|why| why.contains("quantiles")), "{other}");
    let run = evctl(&server.url, &["models", "diff", "ev-range", "thermal-risk"]);
    assert!(run.code == 0 && run.stdout.contains("answers are not compared: "), "{}", run.stdout);
}
