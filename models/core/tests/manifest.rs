//! What a manifest must say, and what it is told when it does not.

use ev_models_core::{Manifest, manifest::Preprocessing, recipe::Interpolation};
use proptest::prelude::*;

const GOOD: &str = r#"
columns = ["make", "capacity_kwh", "ln_capacity"]

[model]
name = "example"
task = "generic"
description = "An example."
backend = "forest"
license = "Apache-2.0"

[[inputs]]
name = "make"
dtype = "BYTES"
vocabulary = ["Tesla", "Kia"]
encode = [1.5, 2.5]
required = true

[[inputs]]
name = "capacity_kwh"
dtype = "FP32"
unit = "kWh"
range = [1.0, 1000.0]
trained_range = [20.0, 120.0]

[[inputs]]
name = "family"
dtype = "BYTES"

[[derived]]
name = "ln_capacity"
op = "ln"
of = ["capacity_kwh"]

[[heads]]
name = "point"
file = "point.ubj"

[[heads]]
name = "spread"
file = "spread.ubj"

[linear]
intercept = 0.5
[[linear.terms]]
column = "ln_capacity"
weight = 0.9
center = 4.0

[calibration]
method = "split conformal"
spread_floor = 0.01
[[calibration.tiers]]
min_coverage = 0.5
z = [-1.0, 0.0, 1.0]
[[calibration.tiers]]
min_coverage = 0.0
z = [-2.0, 0.0, 2.0]

[[outputs]]
name = "range"
kind = "quantiles"
unit = "km"
link = "exp"
range = [0.0, 2000.0]
"#;

const CLASSES: &str = r#"
[model]
name = "risk"
task = "generic"
description = "Classes."
backend = "forest"
license = "Apache-2.0"

[[inputs]]
name = "temperature"
dtype = "FP32"

[[heads]]
name = "point"
file = "point.ubj"

[calibration]
method = "temperature scaling"
[[calibration.tiers]]
min_coverage = 0.0
temperature = 1.2
bias = [0.0, 0.1]

[[outputs]]
name = "risk"
kind = "classes"
classes = ["Normal", "Watch", "Alarm"]
learned = ["Watch", "Alarm"]
[[outputs.rules]]
from = "Watch"
to = "Normal"
when = [{ input = "temperature", below = 45.0 }]
"#;

const PICTURES: &str = r#"
[model]
name = "pictures"
task = "image_classification"
description = "Pictures."
backend = "ort"
license = "Apache-2.0"

[[inputs]]
name = "image"
dtype = "FP32"
shape = [3, 224, 160]
required = true

[preprocessing]
resize = { shortest_edge = 256 }
crop = { height = 224, width = 160 }
normalize = { mean = [0.5, 0.5, 0.5], std = [0.5, 0.5, 0.5] }

[[heads]]
name = "point"
file = "model.onnx"

[calibration]
method = "temperature scaling"
[[calibration.tiers]]
min_coverage = 0.0
temperature = 1.2

[[outputs]]
name = "vehicle"
kind = "classes"
classes = ["TESLA_3", "LEAF"]
unknown_below = 0.5

[[labels]]
class = "TESLA_3"
make = "Tesla"
model = "Model 3"
typical_range_km = [400.0, 500.0, 600.0]
range_source = "a list, 2025"
"#;

/// The error of a manifest in which `from`, which must occur, reads `to`.
fn refused(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "the example has no `{from}`");
    let error = Manifest::parse(&text.replacen(from, to, 1)).expect_err(to);
    error.to_string()
}

#[test]
fn a_good_manifest_is_read_whole() {
    let manifest = Manifest::parse(GOOD).expect("valid");
    assert_eq!(manifest.column_names(), ["make", "capacity_kwh", "ln_capacity"]);
    assert_eq!(manifest.column_count(), 3);
    assert_eq!(manifest.file_paths(), ["point.ubj", "spread.ubj"]);
    assert_eq!(manifest.limits.max_batch_rows, 8192);
    Manifest::parse(CLASSES).expect("valid");
}

#[test]
fn the_canonical_form_reads_back_and_names_the_content() {
    for text in [GOOD, CLASSES] {
        let manifest = Manifest::parse(text).expect("valid");
        let again = Manifest::parse_canonical(&manifest.canonical()).expect("canonical");
        assert_eq!(manifest, again);
        assert_eq!(manifest.digest(), again.digest());
    }
    let commented = format!("# another layout\n{GOOD}");
    let digest = Manifest::parse(GOOD).expect("valid").digest();
    assert_eq!(Manifest::parse(&commented).expect("valid").digest(), digest);
    let changed = GOOD.replace("weight = 0.9", "weight = 0.8");
    assert_ne!(Manifest::parse(&changed).expect("valid").digest(), digest);
}

#[test]
fn what_an_old_value_means_is_part_of_the_content_unless_it_is_usual() {
    let digest = |lines: &str| {
        let text = GOOD.replace("unit = \"kWh\"", &format!("unit = \"kWh\"\nmax_age = \"90s\"\n{lines}"));
        let manifest = Manifest::parse(&text).expect("valid");
        assert_eq!(manifest.inputs[1].max_age(), Some(std::time::Duration::from_secs(90)));
        assert_eq!(Manifest::parse_canonical(&manifest.canonical()).as_ref(), Ok(&manifest));
        manifest.digest()
    };
    assert_eq!(digest(""), digest("if_stale = \"missing\""));
    assert_ne!(digest(""), digest("if_stale = \"use\""));
    assert_ne!(digest("if_stale = \"use\""), digest("if_stale = \"refuse\""));
}

#[test]
fn mistakes_are_refused_with_their_place() {
    let check = |from: &str, to: &str, expected: &str| {
        let error = refused(GOOD, from, to);
        assert!(error.contains(expected), "{to}: {error}");
    };
    check("license = \"Apache-2.0\"", "", "missing field `license`");
    check("license = \"Apache-2.0\"", "license = \" \"", "`model.license`: is empty");
    check("backend", "bakend", "unknown field `bakend`");
    check("name = \"example\"", "name = \"Example!\"", "`model.name`: is `Example!`");
    check("task = \"generic\"", "task = \"weather\"", "unknown variant `weather`");
    check("dtype = \"FP32\"", "dtype = \"INT64\"", "`inputs[1].dtype`: is INT64");
    check("range = [1.0, 1000.0]", "range = [1000.0, 1.0]", "`inputs[1].range`: is [1000, 1]");
    check("range = [1.0, 1000.0]", "range = [nan, 1.0]", "`inputs[1].range`");
    check("encode = [1.5, 2.5]", "encode = [1.5]", "`inputs[0].encode`: has 1 entries");
    check("[\"Tesla\", \"Kia\"]", "[\"Tesla\", \" tesla\"]", "twice (case and outer blanks do not count)");
    check("required = true", "required = true\ndefault = \"Kia\"", "`inputs[0].default`");
    check(
        "unit = \"kWh\"",
        "unit = \"kWh\"\nmax_age = \"soon\"",
        "`inputs[1].max_age`: is `soon`, expected a duration",
    );
    check("unit = \"kWh\"", "unit = \"kWh\"\nmax_age = \"0s\"", "`inputs[1].max_age`: is `0s`");
    check("unit = \"kWh\"", "unit = \"kWh\"\nif_stale = \"guess\"", "unknown variant `guess`");
    check("name = \"family\"", "name = \"make\"", "`inputs[2].name`: `make` stands twice");
    check("op = \"ln\"", "op = \"ratio\"", "`derived[0].of`: has 1 names, expected 2");
    check("of = [\"capacity_kwh\"]", "of = [\"nothing\"]", "`derived[0].of`: names `nothing`");
    check("\"ln_capacity\"]", "\"ln_capacty\"]", "`columns`: names `ln_capacty`");
    check("\"ln_capacity\"]", "\"family\"]", "names the text `family`, which has no vocabulary");
    check("name = \"point\"", "name = \"spread\"", "`heads`: expected one head `point`");
    check("file = \"point.ubj\"", "file = \"../point.ubj\"", "`heads[0].file`: is `../point.ubj`");
    check("file = \"point.ubj\"", "file = \"/etc/passwd\"", "`heads[0].file`");
    check("file = \"point.ubj\"", "file = \"model.pkl\"", "pickled models run arbitrary code");
    check("column = \"ln_capacity\"", "column = \"nope\"", "`linear.terms[0].column`: is `nope`");
    check("weight = 0.9", "weight = inf", "not finite");
    check("min_coverage = 0.0", "min_coverage = 0.1", "the last 0.0");
    check("z = [-1.0, 0.0, 1.0]", "z = [1.0, 0.0, -1.0]", "three finite numbers in order");
    check("z = [-1.0, 0.0, 1.0]", "slope = 1.0", "`calibration.tiers[0].z`");
    check("kind = \"quantiles\"", "kind = \"prediction\"", "is only for `quantiles`");
    check("[calibration]\nmethod = \"split conformal\"", "[calibration]", "missing field `method`");
}

#[test]
fn every_class_can_occur() {
    let check = |from: &str, to: &str, expected: &str| {
        let error = refused(CLASSES, from, to);
        assert!(error.contains(expected), "{to}: {error}");
    };
    check("to = \"Normal\"", "to = \"Alarm\"", "`Normal`, which is neither learned nor given by a rule");
    check("from = \"Watch\"", "from = \"Normal\"", "expected a learned class");
    check("below = 45.0", "", "needs a finite `below` or `at_least`");
    check("input = \"temperature\"", "input = \"pressure\"", "names `pressure`");
    check("bias = [0.0, 0.1]", "bias = [0.0]", "expected 2 finite numbers");
    check("temperature = 1.2", "temperature = 0.0", "expected a number above 0");
    check("learned = [\"Watch\", \"Alarm\"]", "learned = [\"Watch\", \"Watch\"]", "twice");
}

#[test]
fn variants_replace_the_body() {
    let body =
        "[[heads]]\nname = \"point\"\nfile = \"point.ubj\"\n\n[[heads]]\nname = \"spread\"\nfile = \"spread.ubj\"\n";
    let variant = |value: &str| {
        format!(
            "[[variants]]\nvalue = \"{value}\"\n[[variants.heads]]\nname = \"point\"\nfile = \"{value}.ubj\"\n\
             [variants.calibration]\nmethod = \"m\"\n[[variants.calibration.tiers]]\nmin_coverage = 0.0\nz = [-1.0, 0.0, 1.0]\n"
        )
    };
    let start = GOOD.find("[linear]").expect("linear");
    let end = GOOD.find("[[outputs]]").expect("outputs");
    let text = format!("variant_by = \"family\"\n{}{}", &GOOD[..start], &GOOD[end..]);
    let two = text.replace(body, &(variant("nmc") + &variant("lfp")));
    let manifest = Manifest::parse(&two).expect("valid");
    assert_eq!(manifest.file_paths(), ["lfp.ubj", "nmc.ubj"]);
    assert_eq!(Manifest::parse_canonical(&manifest.canonical()), Ok(manifest));
    let both = two.replace("[[outputs]]", &format!("{body}[[outputs]]"));
    assert!(Manifest::parse(&both).expect_err("both").to_string().contains("exclude"));
    let twice = text.replace(body, &(variant("nmc") + &variant("NMC")));
    assert!(Manifest::parse(&twice).expect_err("twice").to_string().contains("name a value twice"));
    let by_number = two.replace("variant_by = \"family\"", "variant_by = \"capacity_kwh\"");
    assert!(Manifest::parse(&by_number).expect_err("number").to_string().contains("expected a BYTES input"));
}

#[test]
fn a_bomb_is_refused_unread() {
    let error = Manifest::parse(&"#".repeat(Manifest::MAX_BYTES + 1)).expect_err("bomb");
    assert!(error.to_string().contains("expected at most"), "{error}");
}

#[test]
fn the_bundled_manifests_are_valid() {
    let zoo = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../zoo");
    let mut found = 0;
    for folder in zoo.read_dir().expect("models/zoo") {
        let path = folder.expect("entry").path().join("manifest.toml");
        if path.is_file() {
            let text = fs_err::read_to_string(&path).expect("readable");
            Manifest::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            found += 1;
        }
    }
    assert_eq!(found, 10);
}

proptest! {
    /// Whatever is cut out of a manifest, parsing ends in a manifest or an error.
    #[test]
    fn damaged_manifests_never_panic(start in 0..GOOD.len(), length in 0..200usize, junk in "[ -~]{0,8}") {
        let end = (start + length).min(GOOD.len());
        let text = format!("{}{junk}{}", &GOOD[..start], &GOOD[end..]);
        if let Ok(manifest) = Manifest::parse(&text) {
            prop_assert_eq!(Manifest::parse_canonical(&manifest.canonical()), Ok(manifest));
        }
    }
}

#[test]
fn a_model_of_pictures_says_how_they_become_numbers() {
    let manifest = Manifest::parse(PICTURES).expect("valid");
    let Some(Preprocessing::Recipe(recipe)) = &manifest.preprocessing else { panic!("{manifest:?}") };
    assert_eq!((recipe.interpolation, recipe.rescale_factor), (Interpolation::Bicubic, Some(1.0 / 255.0)));
    assert_eq!(Manifest::parse_canonical(&manifest.canonical()).expect("reads its own form"), manifest);

    let steps = &PICTURES[PICTURES.find("resize").expect("there")..PICTURES.find("[[heads]]").expect("there")];
    let other = PICTURES.replace(steps, "hugging_face = \"preprocessor_config.json\"\n");
    let manifest = Manifest::parse(&other).expect("valid");
    assert_eq!(manifest.preprocessing, Some(Preprocessing::HuggingFace("preprocessor_config.json".to_owned())));
    assert_eq!(manifest.file_paths(), ["model.onnx", "preprocessor_config.json"]);
    assert_eq!(Manifest::parse_canonical(&manifest.canonical()).expect("reads its own form"), manifest);

    let generic = PICTURES.replace("image_classification", "generic").replace("\"image\"", "\"pixels\"");
    Manifest::parse(&generic).expect("any model may take pictures");
    let without = generic.replace("[preprocessing]", "").replace(&steps.replace("[[heads]]", ""), "");
    let canonical = Manifest::parse(&without).expect("valid").canonical();
    assert!(!String::from_utf8(canonical).expect("UTF-8").contains("preprocessing"), "digests stay what they were");
}

#[test]
fn a_model_of_pictures_that_is_not_consistent_is_refused_by_place() {
    let check = |from: &str, to: &str, expected: &str| {
        let found = refused(PICTURES, from, to);
        assert!(found.contains(expected), "{found}");
    };
    let whole = &PICTURES[PICTURES.find("[preprocessing]").expect("there")..PICTURES.find("[[heads]]").expect("there")];
    check(whole, "", "`preprocessing`: is missing: task `image_classification` takes pictures");
    check(
        "resize = { shortest_edge = 256 }",
        "hugging_face = \"p.json\"",
        "`preprocessing.crop` stands beside `hugging_face`",
    );
    check(
        &whole["[preprocessing]".len()..],
        "\n",
        "`preprocessing` is empty, expected `resize` or `crop`, or `hugging_face`",
    );
    check("shortest_edge = 256", "shortest_edge = 0", "`preprocessing`: found resize = 0, expected 1 to 4096");
    check("crop = { height = 224, width = 160 }", "", "`preprocessing`: found crop = none, expected a size");
    check(
        "width = 160",
        "width = 224",
        "`preprocessing`: gives pictures of 224 rows and 224 columns, expected 224 and 160",
    );
    check(
        "std = [0.5, 0.5, 0.5]",
        "std = [0.5, 0.0, 0.5]",
        "`preprocessing`: found std = 0, expected numbers of at least",
    );
    check("resize =", "resise =", "unknown field `resise`");
    check("\"image_classification\"", "\"thermal_risk\"", "is only for tasks `image_classification` and `generic`");
    check("name = \"image\"", "name = \"photo\"", "`inputs[0].name`: is `photo`, expected `image`");
    check(
        "shape = [3, 224, 160]",
        "shape = [224, 160, 3]",
        "`inputs[0].shape`: is [224, 160, 3], expected [3, height, width]",
    );
    check("required = true", "", "`inputs[0].required`: is false, expected true");
    check(
        "required = true",
        "required = true\nrange = [0.0, 1.0]",
        "`inputs[0].range`: does not go with `preprocessing`",
    );
    check(
        "[preprocessing]",
        "[[inputs]]\nname = \"x\"\ndtype = \"FP32\"\n[preprocessing]",
        "`inputs`: has 2 entries, expected one",
    );
    check("unknown_below = 0.5", "unknown_below = 1.5", "`outputs[0].unknown_below`: is 1.5, expected 0 to 1");
    check("class = \"TESLA_3\"", "class = \"TESLA\"", "`labels[0].class`: is `TESLA`, expected one of");
    check("400.0, 500.0, 600.0", "400.0, 700.0, 600.0", "`labels[0].typical_range_km`: is [400, 700, 600], expected");
    check("range_source = \"a list, 2025\"", "", "`labels[0].range_source`: must stand with");
    check("[[labels]]", "[[labels]]\nclass = \"TESLA_3\"\n[[labels]]", "`labels[1].class`: `TESLA_3` stands twice");
    let quantiles = PICTURES
        .replace("kind = \"classes\"", "kind = \"prediction\"")
        .replace("classes = [\"TESLA_3\", \"LEAF\"]", "");
    let found = Manifest::parse(&quantiles).expect_err("refused").to_string();
    assert!(found.contains("`outputs[0].unknown_below`: is only for kind `classes`"), "{found}");
    let found = Manifest::parse(&quantiles.replace("unknown_below = 0.5", "")).expect_err("refused").to_string();
    assert!(found.contains("`outputs[0].kind`: is Prediction, expected `classes`"), "{found}");
}
