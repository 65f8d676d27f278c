//! The `ort` backend through the server: a graph that was registered answers over the v2 protocol as computed by hand,
//! one that does not fit its manifest is refused, and without the library everything else still serves.

use std::path::Path;

use ev_client::Code;
use ev_proto::{
    ev::{
        range::v1::PredictRequest,
        registry::v1::{SetAliasRequest, VersionState},
    },
    inference::{InferTensorContents, ModelInferRequest, ModelInferResponse, model_infer_request::InferInputTensor},
};

use crate::support::{
    process::Evserve,
    refusal::Refusal,
    server::TestServer,
    zoo::{Model, Registry},
};

#[path = "../../../models/ort/tests/support/onnx.rs"]
#[allow(dead_code, reason = "the backend's own tests use the rest")]
pub(crate) mod onnx;

use onnx::{ANY, FLOAT, Graph};

/// The library that `scripts/onnxruntime.sh` fetched.
pub(crate) fn library() -> String {
    let name = if cfg!(target_vendor = "apple") { "libonnxruntime.dylib" } else { "libonnxruntime.so" };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.onnxruntime").join(name);
    assert!(path.is_file(), "{} is not there: run scripts/onnxruntime.sh", path.display());
    path.display().to_string()
}

/// `relu(x W + b)` for three columns and two outputs.
fn perceptron() -> Graph {
    let mut graph = Graph::new();
    let x = graph.input("x", FLOAT, &[ANY, 3]);
    let w = graph.weight("w", &[3, 2], &[1.0, 10.0, 2.0, 20.0, 3.0, 30.0]);
    let b = graph.weight("b", &[2], &[0.5, -25.5]);
    let product = graph.node("MatMul", &[&x, &w], vec![]);
    let sum = graph.node("Add", &[&product, &b], vec![]);
    let relu = graph.node("Relu", &[&sum], vec![]);
    graph.output("y", &relu, FLOAT, &[ANY, 2]);
    graph
}

/// The mean of each channel of an image.
fn means() -> Graph {
    let mut graph = Graph::new();
    let pixels = graph.input("pixels", FLOAT, &[ANY, 3, ANY, ANY]);
    let mean = graph.node("GlobalAveragePool", &[&pixels], vec![]);
    let flat = graph.node("Flatten", &[&mean], vec![]);
    graph.output("means", &flat, FLOAT, &[ANY, 3]);
    graph
}

/// A generic model around a graph of one input.
pub(crate) fn model(graph: Graph, input: &str, shape: &[usize], output: &str, width: usize) -> Model {
    let manifest = format!(
        r#"
        [model]
        name = "graph"
        task = "generic"
        description = "A graph."
        backend = "ort"
        license = "Apache-2.0"
        [[inputs]]
        name = "{input}"
        dtype = "FP32"
        shape = {shape:?}
        required = true
        [[heads]]
        name = "point"
        file = "graph.onnx"
        [[outputs]]
        name = "{output}"
        kind = "prediction"
        width = {width}
        "#
    );
    let files = [("graph.onnx".to_owned(), graph.into_bytes())].into();
    Model { manifest: manifest.parse().expect("TOML"), files }
}

pub(crate) async fn put_into_production(server: &TestServer, model: &Model) -> Result<(), Refusal> {
    let registry = Registry::new(server.endpoint().channel().await);
    let version = model.upload(&registry).await.expect("registered").version.expect("a version").version;
    let request =
        SetAliasRequest { model: "graph".into(), alias: "production".into(), version, expected_version: None };
    registry.clone().set_alias(request).await.map(drop).map_err(Refusal::from)
}

async fn infer(server: &TestServer, name: &str, shape: &[i64], values: &[f32], raw: bool) -> ModelInferResponse {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let contents = InferTensorContents { fp32_contents: values.to_vec(), ..Default::default() };
    let input = InferInputTensor {
        name: name.into(),
        datatype: "FP32".into(),
        shape: shape.to_vec(),
        contents: (!raw).then_some(contents),
        ..Default::default()
    };
    let request = ModelInferRequest {
        model_name: "graph".into(),
        inputs: vec![input],
        raw_input_contents: if raw { vec![bytes.into()] } else { vec![] },
        ..Default::default()
    };
    server.client().await.open_inference().model_infer(request).await.expect("answered")
}

pub(crate) fn floats(response: &ModelInferResponse, name: &str) -> Vec<f32> {
    let index = response.outputs.iter().position(|output| output.name == name).expect("the output");
    match &response.outputs[index].contents {
        Some(contents) => contents.fp32_contents.clone(),
        None => response.raw_output_contents[index].as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
    }
}

#[tokio::test]
async fn a_registered_onnx_model_answers_as_computed_by_hand() {
    let server = TestServer::start(&[("backends.onnxruntime", &library())]).await;
    put_into_production(&server, &model(perceptron(), "x", &[3], "y", 2)).await.expect("it serves");
    for raw in [false, true] {
        let one = infer(&server, "x", &[1, 3], &[1.0, 1.0, 1.0], raw).await;
        assert_eq!(floats(&one, "y"), [6.5, 34.5]);
        let three = infer(&server, "x", &[3, 3], &[0.0, 0.0, 0.0, 1.0, 1.0, 1.0, -9.0, 2.0, 2.0], raw).await;
        assert_eq!(floats(&three, "y"), [0.5, 0.0, 6.5, 34.5, 1.5, 0.0]);
        assert_eq!(floats(&three, "raw"), floats(&three, "y"));
    }
    // The next version is an image model: its input has a shape of its own.
    put_into_production(&server, &model(means(), "pixels", &[3, 2, 2], "means", 3)).await.expect("it serves");
    let values: Vec<f32> = (0..24_u8).map(f32::from).collect();
    let answer = infer(&server, "pixels", &[2, 3, 2, 2], &values, true).await;
    assert_eq!(floats(&answer, "means"), [1.5, 5.5, 9.5, 13.5, 17.5, 21.5]);
    server.stop().await;
}

#[tokio::test]
async fn a_graph_that_does_not_fit_its_manifest_is_refused_by_name() {
    let server = TestServer::start(&[("backends.onnxruntime", &library())]).await;
    let refused = put_into_production(&server, &model(perceptron(), "x", &[4], "y", 2)).await.expect_err("refused");
    let words = ["`graph.onnx` does not fit its manifest", "input `x` takes [3] a row, the manifest gives [4]"];
    refused.says(Code::FailedPrecondition, "NOT_SERVABLE", &words);
    let refused = put_into_production(&server, &model(perceptron(), "x", &[3], "y", 5)).await.expect_err("refused");
    refused.says(Code::FailedPrecondition, "NOT_SERVABLE", &["it gives 2 values a row, the manifest expects 5"]);
    server.stop().await;
}

#[tokio::test]
async fn without_the_library_only_its_models_do_not_serve() {
    let server = TestServer::start(&[("backends.onnxruntime", "/nowhere/libonnxruntime.so")]).await;
    let refused = put_into_production(&server, &model(perceptron(), "x", &[3], "y", 2)).await.expect_err("refused");
    let words = ["the ONNX Runtime library is not there", "/nowhere/libonnxruntime.so", "scripts/onnxruntime.sh"];
    refused.says(Code::FailedPrecondition, "NOT_SERVABLE", &words);
    let request = PredictRequest { make: "Tesla".into(), model: "Model 3".into(), ..Default::default() };
    server.client().await.range().predict(request).await.expect("the others answer");
    server.stop().await;
}

/// The official builds of the library have a part that reports to their maker, and keeps its files under the user's home.
#[tokio::test]
async fn the_library_reports_to_nobody() {
    let (data, home) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let environment = [("HOME", home.path()), ("XDG_CACHE_HOME", home.path())];
    let mut evserve =
        Evserve::spawn_in(&environment, data.path(), &[("backends.onnxruntime", &library())]).ready().await;
    let client = evserve.endpoint().client().await;
    let shown = client.registry().get_version("vehicle-classifier".parse().expect("a name")).await.expect("found");
    assert_eq!(shown.version.expect("a version").state(), VersionState::Ready, "or the library was not loaded");
    evserve.terminate().await;
    assert!(evserve.exited().await.success());
    let left: Vec<_> = fs_err::read_dir(home.path()).expect("read").collect();
    assert!(left.is_empty(), "{left:?}");
}
