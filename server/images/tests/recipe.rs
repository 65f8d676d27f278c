//! Configurations of Hugging Face: what is read, and what is refused.

use ev_images::{Channels, Interpolation, Limits, Normalize, Preprocessor, Recipe, RecipeError, Resize, Scratch, Size};

const HALVES: Normalize = Normalize { mean: [0.5; 3], std: [0.5; 3] };

fn square(side: u32) -> Size {
    Size { height: side, width: side }
}

fn recipe(resize: Resize, crop: Option<Size>, interpolation: Interpolation) -> Recipe {
    Recipe {
        resize: Some(resize),
        interpolation,
        crop,
        rescale_factor: Some(1.0 / 255.0),
        normalize: Some(HALVES),
        channels: Channels::Rgb,
    }
}

#[track_caller]
fn check(json: &str, expected: Recipe) {
    assert_eq!(Recipe::from_hugging_face(json).expect(json), expected);
}

#[track_caller]
fn refused(json: &str, expected: &str) {
    assert_eq!(Recipe::from_hugging_face(json).expect_err(json).to_string(), expected);
}

#[test]
fn known_processors_are_read_with_their_defaults() {
    use Interpolation::{Bicubic, Bilinear, Lanczos};
    let convnext = r#"{"image_processor_type": "ConvNextImageProcessor""#;
    check(&format!("{convnext}}}"), recipe(Resize::Exact(square(384)), None, Bicubic));
    let small = recipe(Resize::ShortestEdge(256), Some(square(224)), Bicubic);
    check(&format!(r#"{convnext}, "size": {{"shortest_edge": 224}}}}"#), small.clone());
    // As the first ones were written.
    check(r#"{"feature_extractor_type": "ConvNextFeatureExtractor", "size": 224, "crop_pct": 0.875}"#, small);
    let vit = r#"{"image_processor_type": "ViTImageProcessor""#;
    check(&format!("{vit}}}"), recipe(Resize::Exact(square(224)), None, Bilinear));
    check(
        &format!(r#"{vit}, "size": {{"shortest_edge": 99}}, "resample": 1, "do_center_crop": true, "crop_size": 88}}"#),
        recipe(Resize::ShortestEdge(99), Some(square(88)), Lanczos),
    );
    check(
        &format!(r#"{vit}, "do_rescale": false, "do_normalize": false}}"#),
        Recipe { rescale_factor: None, normalize: None, ..recipe(Resize::Exact(square(224)), None, Bilinear) },
    );
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    let known = "ConvNextImageProcessor, ConvNextImageProcessorFast, ConvNextFeatureExtractor, ViTImageProcessor, \
                 ViTImageProcessorFast, ViTFeatureExtractor";
    refused(
        r#"{"image_processor_type": "CLIPImageProcessor"}"#,
        &format!("found the image processor \"CLIPImageProcessor\", expected one of {known}"),
    );
    refused("{}", &format!("found the image processor \"\", expected one of {known}"));
    refused("{", "the preprocessor configuration cannot be read");
    let vit = |keys: &str| format!(r#"{{"image_processor_type": "ViTImageProcessor", {keys}}}"#);
    refused(&vit(r#""resample": 6"#), "found resample = 6, expected 0 to 5");
    refused(&vit(r#""do_pad": true"#), "found do_pad = true, expected false");
    refused(
        &vit(r#""do_center_crop": true"#),
        "found crop_size = nothing, expected a size, since do_center_crop is true",
    );
    refused(&vit(r#""image_std": [0.5, 0.0, 0.5]"#), "found std = 0, expected numbers of at least 0.000001");
    refused(&vit(r#""size": 5000"#), "found resize = 5000, expected 1 to 4096");
    refused(
        &vit(r#""size": {"shortest_edge": 224}"#),
        "found crop = none, expected a size, since otherwise each picture would give a tensor of another size",
    );
    let convnext = |keys: &str| format!(r#"{{"image_processor_type": "ConvNextImageProcessor", {keys}}}"#);
    refused(&convnext(r#""size": 224, "crop_pct": 0.0"#), "found crop_pct = 0, expected 0.05 to 1");
    refused(
        &convnext(r#""size": 224, "do_center_crop": true, "crop_size": 200"#),
        "found do_center_crop = true, expected false, since crop_pct crops to another size already",
    );
    let found = Recipe::from_hugging_face(r#"{"image_processor_type": "ViTImageProcessor", "resample": "x"}"#);
    assert!(matches!(found, Err(RecipeError::Read(_))), "{found:?}");
}

#[test]
fn a_recipe_survives_its_own_notation() {
    let expected = recipe(Resize::ShortestEdge(256), Some(square(224)), Interpolation::Lanczos);
    let json = serde_json::to_string(&expected).expect("JSON");
    assert_eq!(serde_json::from_str::<Recipe>(&json).expect("a recipe"), expected);
    assert!(serde_json::from_str::<Recipe>(&json.replace("crop", "corp")).is_err());
}

#[test]
fn channels_can_be_blue_first() {
    let file = fs_err::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/rgb8.png")).expect("a golden file");
    let run = |channels| {
        let normalize = Normalize { mean: [0.1, 0.2, 0.3], std: [0.4, 0.5, 0.6] };
        let recipe = recipe(Resize::Exact(square(4)), None, Interpolation::Bicubic);
        let recipe = Recipe { channels, normalize: Some(normalize), ..recipe };
        let preprocessor = Preprocessor::new(recipe, Limits::default()).expect("a preprocessor");
        let mut out = vec![0.0; preprocessor.values()];
        preprocessor.run(&mut Scratch::default(), &file, &|| false, &mut out).expect("a picture");
        out
    };
    let (rgb, bgr) = (run(Channels::Rgb), run(Channels::Bgr));
    let planes = |of: &[f32]| of.chunks(16).map(<[f32]>::to_vec).collect::<Vec<_>>();
    assert_eq!(planes(&bgr), planes(&rgb).into_iter().rev().collect::<Vec<_>>());
}
