//! Whatever the bytes: a model or an error that names the place, soon, and no panic.

use std::path::Path;

use ev_models_core::{LoadError, Tensor, Tensors};
use ev_models_forest::ForestBackend;
use serde_json::{Value, json};

const TREE: &str = "/learner/gradient_booster/model/trees/2";

/// A golden model of 3 trees of depth 1, from XGBoost 3.2.
fn small(suffix: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/3.2.0/stump").with_extension(suffix);
    fs_err::read(path).expect("the model is there")
}

/// Loads, and runs what was loaded.
fn load(bytes: &[u8]) -> Result<(), LoadError> {
    let model = ForestBackend::new().load_bytes("model", bytes)?;
    let columns = model.signature().columns;
    let rows = Tensor::f32([2, columns], (0..2 * columns).map(|n| if n % 3 == 0 { f32::NAN } else { 0.1 }).collect());
    model.instantiate()?.run(&Tensors::from(vec![rows])).expect("the shape is the model's");
    Ok(())
}

fn place_of(error: &LoadError) -> &str {
    match error {
        LoadError::Malformed { place, .. } => place,
        other => panic!("{other}"),
    }
}

/// A generator with a fixed seed.
fn random(state: &mut u64, end: usize) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    usize::try_from(*state >> 33).expect("31 bits") % end
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    for suffix in ["json", "ubj"] {
        let bytes = small(suffix);
        assert!(load(&bytes).is_ok());
        for end in 0..bytes.len() {
            assert!(load(&bytes[..end]).is_err(), "{suffix} cut at {end}");
        }
    }
}

#[test]
fn bytes_after_the_end_are_refused() {
    for (suffix, more) in [("json", b"x"), ("ubj", b"N")] {
        let bytes = [&small(suffix)[..], more].concat();
        assert!(load(&bytes).is_err(), "{suffix}");
    }
    assert!(load(&[&small("json")[..], b"\n"].concat()).is_ok(), "a line end is no content");
}

#[test]
fn flipped_bytes_load_or_are_refused() {
    let mut state = 1;
    for suffix in ["json", "ubj"] {
        let bytes = small(suffix);
        for _ in 0..6_000 {
            let mut bytes = bytes.clone();
            for _ in 0..=random(&mut state, 3) {
                let place = random(&mut state, bytes.len());
                bytes[place] = u8::try_from(random(&mut state, 256)).expect("a byte");
            }
            let _ = load(&bytes);
        }
    }
}

#[test]
fn swapped_pieces_load_or_are_refused() {
    let mut state = 2;
    for suffix in ["json", "ubj"] {
        let bytes = small(suffix);
        for _ in 0..3_000 {
            let (from, to) = (random(&mut state, bytes.len()), random(&mut state, bytes.len()));
            let length = random(&mut state, 64).min(bytes.len() - from.max(to));
            let mut bytes = bytes.clone();
            bytes.copy_within(from..from + length, to);
            let _ = load(&bytes);
        }
    }
}

/// A stump with another value somewhere is refused, with a place that ends so.
#[test]
fn errors_name_the_place() {
    let check = |pointer: &str, value: Value, expected: &str| {
        let mut document: Value = serde_json::from_slice(&small("json")).expect("the model is JSON");
        let target = document.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}"));
        *target = value.clone();
        let bytes = serde_json::to_vec(&document).expect("values are written");
        let error = load(&bytes).expect_err(pointer);
        assert_eq!(place_of(&error), expected, "{pointer} = {value}: {error}");
    };
    let model = "learner.gradient_booster.model";
    let tree = |field: &str, value: Value, place: &str| {
        check(&format!("{TREE}/{field}"), value, &format!("{model}.trees[2].{place}"));
    };
    // Children: missing, cyclic, shared, negative, crossing into nothing.
    tree("left_children/0", json!(3), "left_children[0]");
    tree("left_children/0", json!(-2), "left_children[0]");
    tree("left_children/0", json!(0), "left_children[0]");
    tree("left_children/0", json!(2), "right_children[0]");
    tree("left_children/0", json!(i32::MAX), "left_children[0]");
    tree("left_children/0", json!(1_u64 << 40), "left_children[0]");
    tree("left_children/0", json!(-1), "left_children[0]");
    tree("right_children/0", json!(0), "right_children[0]");
    tree("right_children/0", json!(1), "right_children[0]");
    tree("right_children/1", json!(2), "left_children[1]");
    tree("left_children/0", json!("1"), "left_children[0]");
    tree("left_children/0", json!(1.5), "left_children[0]");
    tree("left_children", json!({}), "left_children");
    tree("left_children", json!([]), "left_children");
    tree("left_children", json!(null), "left_children");
    // Lengths.
    tree("right_children", json!([2]), "right_children");
    tree("split_conditions", json!([1, 2, 3, 4]), "split_conditions");
    tree("split_indices", json!([0]), "split_indices");
    tree("default_left", json!([]), "default_left");
    tree("split_type", json!([0]), "split_type");
    tree("tree_param/num_nodes", json!("4"), "tree_param.num_nodes");
    tree("tree_param/num_nodes", json!("99999999999999999999"), "tree_param.num_nodes");
    tree("tree_param/num_nodes", json!(3), "tree_param.num_nodes");
    // Values.
    tree("split_conditions/0", json!(null), "split_conditions[0]");
    tree("split_conditions/1", json!(null), "split_conditions[1]");
    tree("split_conditions/1", json!(1e39), "split_conditions[1]");
    tree("split_conditions/0", json!([1]), "split_conditions[0]");
    tree("split_indices/0", json!(5), "split_indices[0]");
    tree("split_indices/0", json!(-1), "split_indices[0]");
    tree("split_indices/0", json!(u64::MAX), "split_indices[0]");
    tree("default_left/0", json!(2), "default_left[0]");
    tree("default_left/0", json!("1"), "default_left[0]");
    tree("split_type/0", json!(256), "split_type[0]");
    // The forest.
    check(&format!("{}/tree_info/1", "/learner/gradient_booster/model"), json!(1), &format!("{model}.tree_info[1]"));
    check("/learner/gradient_booster/model/tree_info", json!([0, 0]), &format!("{model}.tree_info"));
    check("/learner/gradient_booster/model/tree_info", json!(0), &format!("{model}.tree_info"));
    check("/learner/gradient_booster/model/trees", json!([]), &format!("{model}.tree_info"));
    check("/learner/gradient_booster/model", json!({}), model);
    check(
        "/learner/gradient_booster/model/gbtree_model_param/num_trees",
        json!("2"),
        &format!("{model}.gbtree_model_param.num_trees"),
    );
    check("/learner/gradient_booster", json!({}), "learner.gradient_booster");
    check("/learner/gradient_booster/model", json!(null), "learner.gradient_booster");
    let parameter = |field: &str, value: Value, place: &str| {
        check(&format!("/learner/learner_model_param/{field}"), value, place);
    };
    for value in ["0", "32769", "-1", "", "5 ", "18446744073709551616", "1e3"] {
        parameter("num_feature", json!(value), "learner.learner_model_param.num_feature");
    }
    parameter("num_class", json!("1025"), "learner.learner_model_param");
    parameter("num_class", json!("2x"), "learner.learner_model_param.num_class");
    for value in ["", "x", "[]", "[1,2]", "nan", "inf", "1e39", "[[0]]"] {
        parameter("base_score", json!(value), "learner.learner_model_param.base_score");
    }
    parameter("base_score", json!(0.5), "learner.learner_model_param.base_score");
    check("/version", json!([3, 2]), "version");
    check("/version", json!([3, 2, 0, 1]), "version");
    check("/version/0", json!(-3), "version[0]");
    check("/learner", json!([]), "learner");
    check("", json!({}), "the top");
    check("", json!({"learner": 1}), "learner");
}

#[test]
fn versions_and_formats_beyond_this_backend_are_refused_by_name() {
    let check = |bytes: &[u8], expected: &str| {
        let error = load(bytes).expect_err(expected);
        assert!(matches!(error, LoadError::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    };
    let mut document: Value = serde_json::from_slice(&small("json")).expect("the model is JSON");
    document["version"] = json!([4, 0, 1]);
    check(document.to_string().as_bytes(), "a file of XGBoost 4.0.1");
    document["version"] = json!([0, 9, 0]);
    check(document.to_string().as_bytes(), "a file of XGBoost 0.9.0");
    check(b"binf\0\0\0?\x04\0\0\0", "old binary format");
    check(b"\x80\x04\x95\0\0\0\0", "pickle");
}

#[test]
fn logistic_base_scores_are_probabilities() {
    let mut document: Value = serde_json::from_slice(&small("json")).expect("the model is JSON");
    document["learner"]["objective"]["name"] = json!("binary:logistic");
    for (score, is_sound) in [("[5E-1]", true), ("[0E0]", false), ("[1E0]", false), ("[-1E0]", false), ("[2]", false)] {
        document["learner"]["learner_model_param"]["base_score"] = json!(score);
        assert_eq!(load(document.to_string().as_bytes()).is_ok(), is_sound, "{score}");
    }
}

/// A chain of splits as deep as `depth`.
fn chain(depth: i32) -> Vec<u8> {
    let mut document: Value = serde_json::from_slice(&small("json")).expect("the model is JSON");
    let nodes = 2 * depth + 1;
    let is_split = |node: i32| node % 2 == 0 && node < 2 * depth;
    let list = |of: &dyn Fn(i32) -> i32| Value::from((0..nodes).map(of).collect::<Vec<i32>>());
    *document.pointer_mut(TREE).expect("there is a third tree") = json!({
        "left_children": list(&|node| if is_split(node) { node + 1 } else { -1 }),
        "right_children": list(&|node| if is_split(node) { node + 2 } else { -1 }),
        "split_conditions": list(&|node| node), "split_indices": list(&|_| 0), "default_left": list(&|_| 0),
        "tree_param": {"num_nodes": nodes.to_string()},
    });
    document.to_string().into_bytes()
}

#[test]
fn depth_is_bounded() {
    assert!(load(&chain(1_024)).is_ok());
    for depth in [1_025, 100_000] {
        let error = load(&chain(depth)).expect_err("deeper than allowed");
        assert_eq!(place_of(&error), "learner.gradient_booster.model.trees[2]", "{error}");
    }
}

#[test]
fn trees_are_counted() {
    let stub = r#"{"left_children":[-1],"right_children":[-1],"split_conditions":[0],"split_indices":[0],
        "default_left":[0],"tree_param":{"num_nodes":"1"}},"#;
    let text = String::from_utf8(small("json")).expect("JSON is text");
    let text = text.replace(r#""trees":["#, &format!(r#""trees":[{}"#, stub.repeat(65_534)));
    let error = load(text.as_bytes()).expect_err("too many trees");
    assert_eq!(place_of(&error), "learner.gradient_booster.model.trees", "{error}");
}

#[test]
fn nesting_is_bounded() {
    let bomb = |open: &[u8], close: &[u8]| {
        [&b"{"[..], open, &open.repeat(200_000), &close.repeat(200_000), close, b"}"].concat()
    };
    let json = [&br#"{"learner":{"gradient_booster":{"x":"#[..], &b"[".repeat(1_000_000)].concat();
    assert!(load(&json).is_err());
    assert!(load(&bomb(b"i\x01x[", b"]")).is_err());
    assert!(load(&bomb(b"i\x01x{", b"}")).is_err());
    assert!(load(&bomb(b"i\x01x[[", b"]]")).is_err());
}

#[test]
fn ubjson_claims_are_not_believed() {
    let check = |bytes: &[u8], expected: &str| {
        let error = load(bytes).expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}");
    };
    let huge = i64::MAX.to_be_bytes();
    let object = |value: &[u8]| [b"{i\x01x", value, b"}"].concat();
    check(&object(&[b"[#L", &huge[..]].concat()), "length 9223372036854775807");
    check(&object(&[b"[$d#L", &huge[..]].concat()), "length 9223372036854775807");
    check(&object(&[b"{#L", &huge[..]].concat()), "length 9223372036854775807");
    check(&object(&[b"SL", &huge[..]].concat()), "length 9223372036854775807");
    check(&object(b"[#i\xff"), "length -1");
    for marker in [b'T', b'F', b'Z', b'N', b'[', b'{', b'H', b'x'] {
        // Values of no bytes would let a few bytes claim any number of them.
        check(&object(&[b"[$", &[marker][..], b"#L", &huge[..]].concat()), "container of values");
    }
    check(&object(b"[$di\x01"), "typed container states its length");
    check(&object(b"[#d\0\0\0\0"), "not that of an integer");
    check(&object(b"H"), "not one of a value");
    check(&object(b"Si\x02\xff\xff"), "not UTF-8");
    check(b"{", "the file ends too early");
    check(b"{#i\x01", "length 1 with 0 bytes left");
}
