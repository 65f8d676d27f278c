//! Files that were cut off, scrambled or made to do harm end with an error, and touch nothing outside themselves.

mod support;

use ev_models_core::{LoadError, LoadOptions};
use proptest::prelude::*;
use prost::Message as _;
use support::{
    backend,
    onnx::{ANY, Attribute, Entry, FLOAT, Graph, INT64, Model, SparseTensor, Tensor},
    refusal,
};

fn options() -> LoadOptions {
    LoadOptions::new("model.onnx", 8)
}

/// A graph with a weight that is large enough to be shared.
fn sound() -> Graph {
    let mut graph = Graph::new();
    let x = graph.input("x", FLOAT, &[ANY, 8]);
    let w = graph.weight("w", &[8, 64], &[0.25; 512]);
    let product = graph.node("MatMul", &[&x, &w], vec![]);
    graph.output("y", &product, FLOAT, &[ANY, 64]);
    graph
}

fn malformed(bytes: Vec<u8>, expected: &str) {
    let error = refusal(bytes, &options());
    assert!(matches!(error, LoadError::Malformed { .. }), "{error}");
    assert!(error.to_string().contains(expected), "{error}");
}

#[test]
fn a_sound_file_loads() {
    backend().load_bytes(sound().into_bytes(), &options()).expect("what the others are made of");
}

#[test]
fn files_cut_off_anywhere_are_refused() {
    let bytes = sound().into_bytes();
    for length in (0..bytes.len()).filter(|length| *length < 64 || length % 7 == 0 || length + 64 > bytes.len()) {
        // Where the last field is the operator set, a file without it is whole, and the library's to refuse.
        let error = refusal(bytes[..length].to_vec(), &options());
        assert!(matches!(error, LoadError::Malformed { .. }), "{length}: {error}");
    }
    malformed(Vec::new(), "there is no graph");
}

#[test]
fn other_files_are_refused() {
    for bytes in [&b"{\"not\": \"onnx\"}"[..], b"PK\x03\x04", b"\x80\x04\x95pickle", b"....ORTM........", &[0; 64]] {
        malformed(bytes.to_vec(), "");
    }
}

#[test]
fn an_operator_that_does_not_exist_is_named() {
    let mut graph = sound();
    graph.node[0].op_type = "Frobnicate".into();
    malformed(graph.into_bytes(), "Frobnicate");
}

#[test]
fn nodes_that_do_not_fit_together_are_refused() {
    let mut graph = sound();
    graph.node[0].input[1] = "nobody".into();
    malformed(graph.into_bytes(), "nobody");
    let mut graph = sound();
    graph.node[0].input[0] = "MatMul_0".into();
    malformed(graph.into_bytes(), "");
    let mut graph = sound();
    graph.initializer[0] = Tensor::floats("w", &[9, 64], &[0.25; 576]);
    assert!(backend().load_bytes(graph.into_bytes(), &options()).is_err(), "shapes do not fit");
}

/// Marks a tensor as lying in another file.
fn outside(tensor: &mut Tensor, path: &str) {
    tensor.raw_data = None;
    tensor.data_location = 1;
    tensor.external_data = vec![Entry { key: "location".into(), value: path.into() }];
}

#[test]
fn external_data_is_refused_wherever_it_stands() {
    let check = |model: Model| {
        let error = refusal(model.encode_to_vec(), &options());
        assert!(matches!(error, LoadError::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains("in another file; save the model as one file"), "{error}");
    };
    for path in ["../../../../etc/passwd", "/etc/passwd", "weights.bin"] {
        let mut graph = sound();
        outside(&mut graph.initializer[0], path);
        check(graph.into_model());

        let mut tensor = Tensor::floats("hidden", &[1], &[1.0]);
        outside(&mut tensor, path);
        let mut graph = sound();
        graph.node("Constant", &[], vec![Attribute::tensor("value", tensor.clone())]);
        check(graph.into_model());

        let mut branch = Graph::new();
        branch.initializer.push(tensor);
        let mut graph = sound();
        graph.node("If", &["x"], vec![Attribute::graph("then_branch", branch)]);
        check(graph.into_model());
    }
    // A location without the mark, and a mark without a location.
    let mut graph = sound();
    outside(&mut graph.initializer[0], "../x");
    graph.initializer[0].data_location = 0;
    check(graph.into_model());
    let mut graph = sound();
    graph.initializer[0].data_location = 1;
    check(graph.into_model());
}

#[test]
fn shapes_that_the_file_cannot_fill_are_refused() {
    for dims in [vec![1 << 40], vec![1 << 31, 1 << 31, 1 << 31], vec![i64::MAX], vec![-1], vec![i64::MIN, 2]] {
        let mut graph = sound();
        graph.initializer[0].dims = dims;
        malformed(graph.into_bytes(), "graph.initializer `w`");
    }
    let mut graph = sound();
    graph.initializer[0].dims = vec![8, 63];
    malformed(graph.into_bytes(), "has 2048 bytes, expected 4 for 504 values");
    let mut graph = sound();
    graph.sparse_initializer.push(SparseTensor { values: None, dims: vec![1 << 20, 1 << 20] });
    let error = refusal(graph.into_bytes(), &options());
    assert!(error.to_string().contains("sparse"), "{error}");
}

#[test]
fn a_graph_that_asks_for_four_terabytes_is_an_error() {
    let mut graph = Graph::new();
    let x = graph.input("x", FLOAT, &[ANY, 8]);
    let shape = graph.integers("shape", &[1 << 40]);
    let huge = graph.node("ConstantOfShape", &[&shape], vec![]);
    let huge = graph.node("ReduceMax", &[&huge], vec![Attribute::int("keepdims", 0)]);
    let sum = graph.node("Add", &[&x, &huge], vec![]);
    graph.output("y", &sum, FLOAT, &[ANY, 8]);
    assert!(backend().load_bytes(graph.into_bytes(), &options()).is_err());
}

#[test]
fn graphs_inside_graphs_have_a_bound() {
    let mut inner = Graph::new();
    for _ in 0..60 {
        let mut outer = Graph::new();
        outer.node("If", &["x"], vec![Attribute::graph("then_branch", inner)]);
        inner = outer;
    }
    malformed(inner.into_bytes(), "more than 32 graphs inside each other");
}

#[test]
fn integers_as_weights_are_left_to_the_library() {
    let mut graph = sound();
    graph.initializer[0].data_type = INT64;
    assert!(backend().load_bytes(graph.into_bytes(), &options()).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        prop_assert!(backend().load_bytes(bytes, &options()).is_err());
    }

    /// A file with some bytes changed loads or is refused; it never ends the process.
    #[test]
    fn scrambled_files_end_with_an_answer(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = sound().into_bytes();
        // Not the weight's values, which may be anything.
        let places: Vec<usize> = (0..bytes.len()).filter(|place| bytes[*place..].len() < 100 || *place < 64).collect();
        for (place, value) in changes {
            bytes[places[place.index(places.len())]] = value;
        }
        let _ = backend().load_bytes(bytes, &options());
    }
}
