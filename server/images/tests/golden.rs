//! What Pillow and the Hugging Face processors make of the pictures in `golden`, which `golden/make.py` computes.

use std::path::Path;

use ev_images::{Limits, Preprocessor, Recipe, Scratch};
use serde_json::Value;

/// Two JPEG decoders: the most a value may differ, by which share of values, and on average.
const DECODED_MAX: u8 = 6;
/// The same after resizing.
const RESIZED_MAX: u8 = 3;
const MEAN_MAX: f64 = 0.5;

fn read(name: &str) -> Vec<u8> {
    fs_err::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)).expect("a golden file")
}

fn cases() -> Vec<Value> {
    serde_json::from_slice(&read("cases.json")).expect("JSON")
}

fn text<'a>(case: &'a Value, key: &str) -> Option<&'a str> {
    case[key].as_str()
}

/// Red, green and blue planes, and the tensor.
fn run(case: &Value, scratch: &mut Scratch) -> (Vec<u8>, Vec<f32>) {
    let recipe = Recipe::from_hugging_face(&case["config"].to_string()).expect("a recipe");
    let preprocessor = Preprocessor::new(recipe, Limits::default()).expect("a preprocessor");
    let file = read(text(case, "file").expect("a file"));
    let mut tensor = vec![f32::NAN; preprocessor.values()];
    preprocessor.run(scratch, &file, &|| false, &mut tensor).unwrap_or_else(|error| panic!("{case}: {error}"));
    let mut steps = preprocessor.decode(scratch, &file, &|| false).expect("decodes twice");
    let planes = steps.resize(&|| false).expect("resizes").to_vec();
    let planes = if planes.len() < tensor.len() { planes.repeat(3) } else { planes };
    (planes, tensor)
}

fn crc32(bytes: impl IntoIterator<Item = u8>) -> u64 {
    let byte = |crc: u32, byte: u8| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    };
    u64::from(!bytes.into_iter().fold(u32::MAX, byte))
}

#[test]
fn what_decodes_without_rounding_gives_equal_bytes_and_equal_numbers() {
    let mut scratch = Scratch::default();
    let cases: Vec<Value> = cases().into_iter().filter(|case| case["planes"].is_u64()).collect();
    assert!(cases.len() > 120, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for case in cases {
        let (planes, tensor) = run(&case, &mut scratch);
        if Some(crc32(planes)) != case["planes"].as_u64() {
            wrong.push(format!("pixels of {case}"));
        }
        if Some(crc32(tensor.iter().flat_map(|value| value.to_le_bytes()))) != case["tensor"].as_u64() {
            wrong.push(format!("numbers of {case}"));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// The pixels of a golden PNG, which the test above holds to be read exactly.
fn expected(name: &str, config: &Value, scratch: &mut Scratch) -> Vec<u8> {
    let file = read(name);
    let side = |at: usize| u32::from_be_bytes([file[at], file[at + 1], file[at + 2], file[at + 3]]);
    let mut config = config.clone();
    config["image_processor_type"] = "ViTImageProcessor".into();
    config["do_resize"] = false.into();
    config["do_center_crop"] = true.into();
    config["crop_size"] = serde_json::json!({"height": side(20), "width": side(16)});
    run(&serde_json::json!({"file": name, "config": config}), scratch).0
}

#[test]
fn a_jpeg_stays_within_the_stated_tolerance() {
    let mut scratch = Scratch::default();
    for case in cases().iter().filter(|case| text(case, "expected").is_some()) {
        let (planes, _) = run(case, &mut scratch);
        let expected = expected(text(case, "expected").expect("filtered"), &case["config"], &mut scratch);
        assert_eq!(planes.len(), expected.len(), "{case}");
        let differences = || planes.iter().zip(&expected).map(|(found, expected)| found.abs_diff(*expected));
        let max = differences().max().expect("pixels");
        let mean = differences().map(f64::from).sum::<f64>() / planes.len() as f64;
        let resized = case["config"]["do_resize"] != false;
        println!(
            "{} {}: max {max}, mean {mean:.3}",
            text(case, "file").expect("a file"),
            if resized { "resized" } else { "decoded" }
        );
        assert!(max <= if resized { RESIZED_MAX } else { DECODED_MAX }, "{max} in {case}");
        assert!(mean <= MEAN_MAX, "{mean} in {case}");
    }
}

#[test]
fn a_scratch_remembers_nothing() {
    let mut used = Scratch::default();
    for case in cases().iter().step_by(7) {
        let (_, again) = run(case, &mut used);
        let (_, fresh) = run(case, &mut Scratch::default());
        assert_eq!(again, fresh, "{case}");
    }
}
