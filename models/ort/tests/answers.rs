//! Small graphs answer what was computed by hand, and graphs that do not fit their manifest are refused by name.

mod support;

use std::path::Path;

use ev_models_core::{Backend as _, InputColumns, LoadError, LoadOptions, RunError, Tensor, Tensors};
use ev_models_ort::OrtBackend;
use support::{
    answers, backend,
    onnx::{ANY, Attribute, BOOL, DOUBLE, FLOAT, Graph, INT64, STRING},
    refusal,
};

/// `y = x W + b` for three columns and two outputs.
fn linear(rows: i64) -> Graph {
    let mut graph = Graph::new();
    let x = graph.input("x", FLOAT, &[rows, 3]);
    let w = graph.weight("w", &[3, 2], &[1.0, 10.0, 2.0, 20.0, 3.0, 30.0]);
    let b = graph.weight("b", &[2], &[0.5, -0.5]);
    let product = graph.node("MatMul", &[&x, &w], vec![]);
    let sum = graph.node("Add", &[&product, &b], vec![]);
    graph.output("y", &sum, FLOAT, &[rows, 2]);
    graph
}

fn columns(groups: &[(&str, &[usize])]) -> Vec<InputColumns> {
    groups.iter().map(|(name, shape)| InputColumns { name: (*name).into(), shape: shape.to_vec() }).collect()
}

fn options(groups: &[(&str, &[usize])], output: &str) -> LoadOptions {
    let inputs = columns(groups);
    let width = inputs.iter().map(InputColumns::width).sum();
    LoadOptions { inputs, output: output.into(), ..LoadOptions::new("model.onnx", width) }
}

#[test]
fn onnx_runtime_answers_what_was_computed_by_hand() {
    let model = backend().load_bytes(linear(ANY).into_bytes(), &LoadOptions::new("model.onnx", 3)).expect("it loads");
    assert_eq!((model.signature().columns, model.signature().outputs), (3, 2));
    assert_eq!(model.signature().description, "ONNX, 3 nodes, ONNX Runtime on one thread");
    let mut instance = model.instantiate().expect("an instance");
    for rows in [1, 3, 0, 64] {
        let values: Vec<f32> = (0..rows).flat_map(|row| [row as f32, 1.0, -1.0]).collect();
        let answer = instance.run(&Tensors::from(vec![Tensor::f32([rows, 3], values)])).expect("it runs");
        let expected: Vec<f32> = (0..rows).flat_map(|row| [row as f32 - 0.5, 10.0 * row as f32 - 10.5]).collect();
        assert_eq!(answer[0], Tensor::f32([rows, 2], expected));
        assert_eq!(answer[0], answer[1]);
    }
}

#[test]
fn a_graph_of_one_row_takes_a_batch_row_by_row() {
    let rows = Tensor::f32([2, 3], vec![1.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
    let found = answers(linear(1).into_bytes(), &LoadOptions::new("model.onnx", 3), rows);
    assert_eq!(found, [1.5, 9.5, 3.5, 29.5]);
}

#[test]
fn an_image_keeps_its_shape() {
    let mut graph = Graph::new();
    let x = graph.input("pixels", FLOAT, &[ANY, 3, ANY, ANY]);
    let mean = graph.node("GlobalAveragePool", &[&x], vec![]);
    let flat = graph.node("Flatten", &[&mean], vec![]);
    graph.output("means", &flat, FLOAT, &[ANY, 3]);
    let bytes = graph.into_bytes();
    let values: Vec<f32> = (0..24).map(|value| value as f32).collect();
    for shape in [vec![2, 12], vec![2, 3, 2, 2]] {
        let found =
            answers(bytes.clone(), &options(&[("image", &[3, 2, 2])], "means"), Tensor::f32(shape, values.clone()));
        assert_eq!(found, [1.5, 5.5, 9.5, 13.5, 17.5, 21.5]);
    }
}

#[test]
fn inputs_of_every_type_are_found_by_name() {
    let mut graph = Graph::new();
    // In another order than the manifest's.
    let flag = graph.input("flag", BOOL, &[ANY, 1]);
    let code = graph.input("code", INT64, &[ANY]);
    let exact = graph.input("exact", DOUBLE, &[ANY, 2]);
    let number = graph.input("number", FLOAT, &[ANY, 1]);
    let to_float = || vec![Attribute::int("to", i64::from(FLOAT))];
    let flag = graph.node("Cast", &[&flag], to_float());
    let code = graph.node("Cast", &[&code], to_float());
    let axes = graph.integers("axes", &[1]);
    let code = graph.node("Unsqueeze", &[&code, &axes], vec![]);
    let exact = graph.node("Cast", &[&exact], to_float());
    let all = graph.node("Concat", &[&number, &code, &exact, &flag], vec![Attribute::int("axis", 1)]);
    let all = graph.node("Cast", &[&all], vec![Attribute::int("to", i64::from(DOUBLE))]);
    graph.output("all", &all, DOUBLE, &[ANY, 5]);
    let bytes = graph.into_bytes();
    let options = options(&[("number", &[]), ("code", &[]), ("exact", &[2]), ("flag", &[])], "all");
    let values = vec![0.25, 7.0, 1.5, -1.5, 1.0, 0.75, -3.0, 0.0, 2.0, 0.0];
    assert_eq!(answers(bytes.clone(), &options, Tensor::f32([2, 5], values.clone())), values);

    let mut instance = backend().load_bytes(bytes, &options).expect("it loads").instantiate().expect("an instance");
    let mut check = |column: usize, value: f32, expected: &str| {
        let mut row = values[..5].to_vec();
        row[column] = value;
        let error = instance.run(&Tensors::from(vec![Tensor::f32([1, 5], row)])).expect_err("it does not fit");
        assert!(error.to_string().contains(expected), "{error}");
    };
    check(1, 1.5, "input `code`: 1.5 is not a whole number");
    check(1, f32::NAN, "input `code`: a value is missing");
    check(1, f32::INFINITY, "input `code`: inf is not a whole number");
    check(4, 2.0, "input `flag`: 2 is not a whole number from 0 to below 2");
}

#[test]
fn of_several_outputs_the_manifests_is_taken() {
    let mut graph = linear(ANY);
    let twice = graph.node("Add", &["y", "y"], vec![]);
    graph.output("twice", &twice, FLOAT, &[ANY, 2]);
    let bytes = graph.into_bytes();
    let row = || Tensor::f32([1, 3], vec![1.0, 0.0, 0.0]);
    assert_eq!(answers(bytes.clone(), &options(&[("x", &[3])], "y"), row()), [1.5, 9.5]);
    assert_eq!(answers(bytes.clone(), &options(&[("x", &[3])], "twice"), row()), [3.0, 19.0]);
    let error = refusal(bytes, &options(&[("x", &[3])], "z")).to_string();
    assert!(error.contains("the graph gives `y`, `twice`, and the manifest's output is `z`"), "{error}");
}

#[test]
fn what_does_not_fit_the_manifest_is_named() {
    let check = |graph: Graph, options: &LoadOptions, expected: &str| {
        let error = refusal(graph.into_bytes(), options);
        assert!(matches!(error, LoadError::Mismatch { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    };
    let three = || options(&[("x", &[3])], "y");
    let with_input = |element: i32, shape: &[i64]| {
        let mut graph = Graph::new();
        let x = graph.input("x", element, shape);
        graph.output("y", &x, element, shape);
        graph
    };
    check(linear(ANY), &options(&[("x", &[4])], "y"), "input `x` takes [3] a row, the manifest gives [4]");
    check(linear(8), &three(), "input `x` takes exactly 8 rows at a time");
    check(with_input(STRING, &[ANY, 3]), &three(), "input `x` is ");
    check(with_input(FLOAT, &[]), &three(), "input `x` is a single value");
    check(with_input(FLOAT, &[ANY, 1 << 40]), &three(), "input `x` takes [1099511627776] a row");
    check(with_input(INT64, &[ANY, 3]), &three(), "output `y` is ");
    let two = || {
        let mut graph = Graph::new();
        let (a, b) = (graph.input("a", FLOAT, &[ANY, 1]), graph.input("b", FLOAT, &[ANY, 2]));
        let both = graph.node("Concat", &[&a, &b], vec![Attribute::int("axis", 1)]);
        graph.output("y", &both, FLOAT, &[ANY, 3]);
        graph
    };
    check(two(), &options(&[("a", &[]), ("c", &[2])], "y"), "has no column `b`; it has a, c");
    check(two(), &options(&[("a", &[]), ("b", &[3])], "y"), "input `b` takes [2] a row, the manifest gives [3]");
    check(two(), &options(&[("a", &[]), ("b", &[2]), ("c", &[])], "y"), "the graph has no input `c`");
    let mut lost = Graph::new();
    let x = lost.input("x", FLOAT, &[ANY, 3]);
    let sum = lost.node("ReduceSum", &[&x], vec![Attribute::int("keepdims", 0)]);
    lost.output("y", &sum, FLOAT, &[]);
    check(lost, &three(), "output `y` has the shape [] for 2 rows, expected [2, ");
    let mut rigid = Graph::new();
    let x = rigid.input("x", FLOAT, &[ANY, 3]);
    let shape = rigid.integers("shape", &[1, 3]);
    let reshaped = rigid.node("Reshape", &[&x, &shape], vec![]);
    rigid.output("y", &reshaped, FLOAT, &[1, 3]);
    check(rigid, &three(), "2 rows of zeros cannot be run");
}

#[test]
fn a_batch_of_another_shape_is_an_error() {
    let model = backend().load_bytes(linear(ANY).into_bytes(), &LoadOptions::new("model.onnx", 3)).expect("it loads");
    let mut instance = model.instantiate().expect("an instance");
    for batch in [vec![], vec![Tensor::f32([1, 4], vec![0.0; 4])], vec![Tensor::f32([3], vec![0.0; 3])]] {
        let error = instance.run(&Tensors::from(batch)).expect_err("another shape");
        assert!(matches!(error, RunError::Shape { .. }), "{error}");
    }
}

#[test]
fn instances_answer_from_many_threads() {
    let model = backend().load_bytes(linear(ANY).into_bytes(), &LoadOptions::new("model.onnx", 3)).expect("it loads");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let mut instance = model.instantiate().expect("an instance");
            scope.spawn(move || {
                for _ in 0..200 {
                    let batch = Tensors::from(vec![Tensor::f32([1, 3], vec![thread as f32, 1.0, -1.0])]);
                    let answer = instance.run(&batch).expect("it runs");
                    assert_eq!(answer[0].as_f32().expect("floats")[0], thread as f32 - 0.5);
                }
            });
        }
    });
}

#[test]
fn without_the_library_the_error_says_what_to_run() {
    let check = |paths: Vec<std::path::PathBuf>, expected: &[&str]| {
        let backend = OrtBackend::new(paths);
        assert_eq!(backend.name(), "ort");
        let error = backend.load_bytes(linear(ANY).into_bytes(), &LoadOptions::new("model.onnx", 3)).err();
        let error = error.expect("there is no library").to_string();
        for expected in expected {
            assert!(error.contains(expected), "{error}");
        }
    };
    let nowhere = Path::new("/nowhere/libonnxruntime.so").to_owned();
    check(vec![nowhere], &["backend `ort`", "/nowhere/libonnxruntime.so", "run scripts/onnxruntime.sh"]);
    check(vec![], &["looked for no path", "run scripts/onnxruntime.sh"]);
}
