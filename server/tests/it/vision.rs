//! Pictures through the server: the answers of a small network whose tensors are made here as well, refusals by field and
//! reason, bounds, and a model that cannot be loaded.

use std::{path::Path, time::Duration};

use ev_client::{CallError, Code, ServingStatus};
use ev_images::{Limits, Preprocessor, Recipe, Scratch};
use ev_models_core::Digest;
use ev_proto::{
    ev::{
        common::v1::{ModelSelector, OutOfDistributionReason, PredictionStatus},
        range::v1::PredictRequest,
        registry::v1::SetAliasRequest,
        vision::v1::{
            ClassifyBatchRequest, ClassifyRequest, ClassifyResponse, ClassifyStreamRequest, ImageInfo, TypicalRange,
            classify_batch_result, classify_stream_response, vehicle_vision_client::VehicleVisionClient,
        },
    },
    inference::{
        InferTensorContents, ModelConfigRequest, ModelInferRequest, ModelInferResponse, ModelMetadataRequest,
        ServerReadyRequest, grpc_inference_service_client::GrpcInferenceServiceClient,
        model_infer_request::InferInputTensor,
    },
};
use prost::Message as _;
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::{
    candle::checkpoint::{Checkpoint, TINY},
    ort::{
        floats, library,
        onnx::{ANY, Attribute, FLOAT, Graph},
    },
    support::{
        assert_eventually,
        raw::Bare,
        refusal::Refusal,
        server::{Endpoint, TestServer},
        zoo::{Model, Registry},
    },
};

type Vision = VehicleVisionClient<Channel>;
type Inference = GrpcInferenceServiceClient<Channel>;

/// Side of the pictures that the networks take.
const SIDE: usize = 32;
const VALUES: usize = 3 * SIDE * SIDE;
const CLASSES: [&str; 3] = ["reddish", "greenish", "bluish"];

/// The steps, as the manifest says them and as Hugging Face would.
const STEPS: &str = "resize = { shortest_edge = 36 }\ncrop = { height = 32, width = 32 }\n\
                     normalize = { mean = [0.5, 0.4, 0.3], std = [0.25, 0.5, 0.125] }";
const CONFIG: &str = r#"{"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 32},
    "crop_pct": 0.875, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.25, 0.5, 0.125]}"#;

/// A picture of the image room's own tests.
fn golden(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("images/tests/golden");
    fs_err::read(folder.join(name)).expect("a golden picture")
}

/// The tensor of a picture, and what it was.
fn tensor(file: &[u8]) -> (Vec<f32>, ev_images::Info) {
    let recipe = Recipe::from_hugging_face(CONFIG).expect("a recipe");
    let preprocessor = Preprocessor::new(recipe, Limits::default()).expect("a preprocessor");
    let mut values = vec![0.0; preprocessor.values()];
    assert_eq!(values.len(), VALUES);
    let info = preprocessor.run(&mut Scratch::default(), file, &|| false, &mut values).expect("a picture");
    (values, info)
}

/// The mean of each colour, as logits; before it so many convolutions that change nothing and take their time.
fn network(convolutions: usize) -> Graph {
    let mut graph = Graph::new();
    let mut pixels = graph.input("image", FLOAT, &[ANY, 3, 32, 32]);
    let mut kernel = [0.0; 81];
    for channel in 0..3 {
        kernel[channel * 27 + channel * 9 + 4] = 1.0;
    }
    let kernel = graph.weight("kernel", &[3, 3, 3, 3], &kernel);
    for _ in 0..convolutions {
        pixels = graph.node("Conv", &[&pixels, &kernel], vec![Attribute::ints("pads", &[1, 1, 1, 1])]);
    }
    let mean = graph.node("GlobalAveragePool", &[&pixels], vec![]);
    let flat = graph.node("Flatten", &[&mean], vec![]);
    graph.output("colour", &flat, FLOAT, &[ANY, 3]);
    graph
}

/// A classifier around a graph. `more` is added to the manifest, `output` to its output.
fn model(graph: Graph, output: &str, more: &str) -> Model {
    let manifest = format!(
        r#"
        [model]
        name = "colours"
        task = "image_classification"
        description = "The colour of a picture."
        backend = "ort"
        license = "Apache-2.0"
        [[inputs]]
        name = "image"
        dtype = "FP32"
        shape = [3, {SIDE}, {SIDE}]
        required = true
        [preprocessing]
        {STEPS}
        [[heads]]
        name = "point"
        file = "graph.onnx"
        [calibration]
        method = "by hand"
        [[calibration.tiers]]
        min_coverage = 0.0
        temperature = 0.5
        [[outputs]]
        name = "colour"
        kind = "classes"
        classes = {CLASSES:?}
        {output}
        [[labels]]
        class = "reddish"
        make = "Rouge"
        model = "R 1"
        typical_range_km = [300.0, 350.5, 400.0]
        range_source = "a list of 2025"
        [[labels]]
        class = "bluish"
        make = "Bleu"
        {more}"#
    );
    let files = [("graph.onnx".to_owned(), graph.into_bytes())].into();
    Model { manifest: manifest.parse().expect("TOML"), files }
}

/// Lists a file of the version.
fn listed(path: &str, bytes: &[u8]) -> String {
    format!("[[files]]\npath = \"{path}\"\nsha256 = \"{}\"\nsize = {}\n", Digest::of(bytes), bytes.len())
}

async fn put_into_production(server: &TestServer, model: &Model) -> Result<(), Refusal> {
    let registry = Registry::new(server.endpoint().channel().await);
    let version = model.upload(&registry).await?.version.expect("a version");
    let request = SetAliasRequest {
        model: version.model,
        alias: "production".into(),
        version: version.version,
        expected_version: None,
    };
    registry.clone().set_alias(request).await.map(drop).map_err(Refusal::from)
}

async fn start_with(model: &Model, overrides: &[(&str, &str)]) -> TestServer {
    let library = library();
    let usual = [("backends.onnxruntime", library.as_str()), ("routes.image_classification", "colours")];
    let all: Vec<_> = usual.iter().chain(overrides).copied().collect();
    let server = TestServer::start(&all).await;
    put_into_production(&server, model).await.expect("it serves");
    server
}

async fn vision(endpoint: Endpoint) -> Vision {
    VehicleVisionClient::new(endpoint.channel().await).max_encoding_message_size(64 << 20)
}

async fn inference(endpoint: Endpoint) -> Inference {
    GrpcInferenceServiceClient::new(endpoint.channel().await).max_encoding_message_size(64 << 20)
}

fn request(file: impl Into<bytes::Bytes>) -> ClassifyRequest {
    ClassifyRequest { image: file.into(), ..Default::default() }
}

async fn classify(client: &Vision, file: impl Into<bytes::Bytes>) -> Result<ClassifyResponse, Refusal> {
    let answer = client.clone().classify(request(file)).await;
    answer.map(tonic::Response::into_inner).map_err(Refusal::from)
}

/// Probabilities by hand: the means of a tensor's colours through a softmax.
#[expect(clippy::cast_possible_truncation, reason = "rounding to float32 is what is wanted")]
fn expected(tensor: &[f32]) -> [f32; 3] {
    let logits: [f64; 3] = std::array::from_fn(|channel| {
        let plane = &tensor[channel * SIDE * SIDE..(channel + 1) * SIDE * SIDE];
        plane.iter().copied().map(f64::from).sum::<f64>() / plane.len() as f64 / 0.5
    });
    let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
    logits.map(|logit| (logit.exp() / sum) as f32)
}

/// Probabilities in the model's order.
fn probabilities(response: &ClassifyResponse) -> [f32; 3] {
    CLASSES.map(|class| {
        response.candidates.iter().find(|candidate| candidate.label == class).expect("every class").probability
    })
}

#[track_caller]
fn assert_close(found: [f32; 3], expected: [f32; 3], what: &str) {
    assert!(
        found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-5),
        "{what}: {found:?}, expected {expected:?}"
    );
}

fn infer_request(
    datatype: &str,
    shape: &[i64],
    raw: Option<Vec<u8>>,
    contents: InferTensorContents,
) -> ModelInferRequest {
    let input = InferInputTensor {
        name: "image".into(),
        datatype: datatype.into(),
        shape: shape.to_vec(),
        contents: raw.is_none().then_some(contents),
        ..Default::default()
    };
    ModelInferRequest {
        model_name: "colours".into(),
        inputs: vec![input],
        raw_input_contents: raw.into_iter().map(Into::into).collect(),
        ..Default::default()
    }
}

/// Every way of asking the v2 protocol about these pictures.
fn ways(files: &[Vec<u8>]) -> [ModelInferRequest; 4] {
    let rows = i64::try_from(files.len()).expect("few");
    let numbers: Vec<f32> = files.iter().flat_map(|file| tensor(file).0).collect();
    let bytes = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    let framed =
        files.iter().flat_map(|file| [&u32::try_from(file.len()).expect("short").to_le_bytes()[..], file].concat());
    let bytes_contents = files.iter().map(|file| file.clone().into()).collect();
    let side = i64::try_from(SIDE).expect("small");
    [
        infer_request("FP32", &[rows, 3, side, side], Some(bytes), InferTensorContents::default()),
        infer_request(
            "FP32",
            &[rows, 3 * side * side],
            None,
            InferTensorContents { fp32_contents: numbers, ..Default::default() },
        ),
        infer_request("BYTES", &[rows], Some(framed.collect()), InferTensorContents::default()),
        infer_request("BYTES", &[rows, 1], None, InferTensorContents { bytes_contents, ..Default::default() }),
    ]
}

async fn infer(client: &Inference, request: ModelInferRequest) -> Result<ModelInferResponse, Refusal> {
    let answer = client.clone().model_infer(request).await;
    answer.map(tonic::Response::into_inner).map_err(Refusal::from)
}

/// Pictures of every format and some kinds, upright and not.
const PICTURES: [&str; 12] = [
    "444.jpg",
    "420.jpg",
    "progressive.jpg",
    "gray.jpg",
    "cmyk.jpg",
    "orientation-3.jpg",
    "orientation-6.jpg",
    "orientation-8.webp",
    "gray8.png",
    "noisy.png",
    "lossy.webp",
    "lossless-alpha.webp",
];

// === answers ===

#[tokio::test]
async fn every_way_of_asking_about_a_picture_gives_the_same_answer() {
    let server = start_with(&model(network(0), "", ""), &[]).await;
    let (client, oip) = (vision(server.endpoint()).await, inference(server.endpoint()).await);
    let files: Vec<Vec<u8>> = PICTURES.map(golden).to_vec();
    let mut single = Vec::new();
    for (name, file) in PICTURES.iter().zip(&files) {
        let (tensor, info) = tensor(file);
        let answer = classify(&client, file.clone()).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let found = probabilities(&answer);
        assert_close(found, expected(&tensor), name);
        assert!(answer.candidates.is_sorted_by(|a, b| a.probability >= b.probability), "{answer:?}");
        let suffix = name.rsplit('.').next().expect("a suffix");
        let format = if suffix == "jpg" { "jpeg" } else { suffix }.to_owned();
        assert_eq!(answer.image, Some(ImageInfo { format, width: info.width, height: info.height }), "{name}");
        let envelope = answer.info.expect("an envelope");
        let timings = envelope.timings.expect("timings");
        assert!(timings.features_ns > 0 && timings.inference_ns > 0, "{timings:?}");
        assert!(timings.queue_ns + timings.features_ns + timings.inference_ns <= timings.total_ns, "{timings:?}");
        assert_eq!((envelope.status(), envelope.feature_coverage), (PredictionStatus::Ok, 1.0));
        assert_eq!(envelope.batch.expect("it was queued").rows, 1);
        for request in ways(std::slice::from_ref(file)) {
            let answer = infer(&oip, request).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
            assert_eq!(floats(&answer, "colour_probabilities"), found, "{name}: of the same batch size, bit for bit");
        }
        single.push(found);
    }
    for request in ways(&files) {
        let answer = infer(&oip, request).await.expect("answered");
        let found = floats(&answer, "colour_probabilities");
        assert_eq!(found.len(), single.len() * 3);
        for (found, expected) in found.as_chunks::<3>().0.iter().zip(&single) {
            assert_close(*found, *expected, "in a batch");
        }
    }
    let requests: Vec<_> = [&files[..1], &files[..3], &files[3..4]].into_iter().flat_map(ways).collect();
    let mut answers = oip.clone().model_stream_infer(tokio_stream::iter(requests)).await.expect("begun").into_inner();
    for rows in [0..1, 0..3, 3..4].into_iter().flat_map(|rows| [rows.clone(), rows.clone(), rows.clone(), rows]) {
        let answer = answers.message().await.expect("answered").expect("one for each").infer_response;
        let found = floats(&answer.expect("a response"), "colour_probabilities");
        assert_eq!(found.len(), rows.len() * 3);
        for (found, expected) in found.as_chunks::<3>().0.iter().zip(&single[rows]) {
            assert_close(*found, *expected, "in a stream");
        }
    }
    let rows = files.iter().map(|file| request(file.clone())).collect();
    let batch = client.clone().classify_batch(ClassifyBatchRequest { rows }).await.expect("answered").into_inner();
    assert_eq!(batch.results.len(), files.len());
    for (result, expected) in batch.results.into_iter().zip(&single) {
        let Some(classify_batch_result::Result::Response(response)) = result.result else { panic!("{result:?}") };
        assert_close(probabilities(&response), *expected, "in a batch");
    }
    let requests: Vec<_> = (7..)
        .zip(&files)
        .map(|(id, file)| ClassifyStreamRequest { id, request: Some(request(file.clone())) })
        .collect();
    let mut answers = client.clone().classify_stream(tokio_stream::iter(requests)).await.expect("begun").into_inner();
    for (id, expected) in (7..).zip(&single) {
        let answer = answers.message().await.expect("answered").expect("one for each");
        assert_eq!(answer.id, id, "in order");
        let Some(classify_stream_response::Result::Response(response)) = answer.result else { panic!("{answer:?}") };
        assert_close(probabilities(&response), *expected, "in a stream");
    }
    assert!(answers.message().await.expect("a clean end").is_none());
    server.stop().await;
}

#[tokio::test]
async fn candidates_are_as_many_as_asked_for_and_carry_what_is_known() {
    let server = start_with(&model(network(0), "", ""), &[]).await;
    let client = vision(server.endpoint()).await;
    let ask = async |top_k: Option<u32>| {
        let request = ClassifyRequest { top_k, ..request(golden("444.jpg")) };
        client.clone().classify(request).await.map(tonic::Response::into_inner).map_err(Refusal::from)
    };
    for (top_k, expected) in [(None, 3), (Some(1), 1), (Some(2), 2), (Some(1_000), 3)] {
        assert_eq!(ask(top_k).await.expect("answered").candidates.len(), expected, "{top_k:?}");
    }
    for top_k in [0, 1_001, u32::MAX] {
        let description = format!("is {top_k}, expected 1 to 1000; leave it out for 5");
        ask(Some(top_k)).await.expect_err("refused").is_field("OUT_OF_RANGE", "top_k", &description);
    }
    let answer = ask(None).await.expect("answered");
    let of = |label: &str| answer.candidates.iter().find(|candidate| candidate.label == label).expect("a candidate");
    let range = TypicalRange { low_km: 300.0, median_km: 350.5, high_km: 400.0, source: "a list of 2025".into() };
    assert_eq!((of("reddish").make.as_str(), of("reddish").model.as_str()), ("Rouge", "R 1"));
    assert_eq!(of("reddish").typical_range, Some(range));
    assert_eq!((of("bluish").make.as_str(), of("bluish").model.as_str()), ("Bleu", ""));
    assert_eq!((of("greenish").make.as_str(), of("greenish").typical_range.clone()), ("", None));
    server.stop().await;
}

#[tokio::test]
async fn an_answer_that_is_not_likely_enough_is_flagged() {
    let (tensor, _) = tensor(&golden("444.jpg"));
    let best = expected(&tensor).into_iter().fold(0.0, f32::max);
    for (bound, unknown) in [(best - 0.01, false), (best + 0.01, true)] {
        let server = start_with(&model(network(0), &format!("unknown_below = {bound}"), ""), &[]).await;
        let answer = classify(&vision(server.endpoint()).await, golden("444.jpg")).await.expect("answered");
        let info = answer.info.expect("an envelope");
        assert_eq!((answer.unknown, info.status() == PredictionStatus::OutOfDistribution), (unknown, unknown));
        assert_eq!(info.out_of_distribution.len(), usize::from(unknown));
        if let [field] = &info.out_of_distribution[..] {
            assert_eq!((field.field.as_str(), field.reason()), ("image", OutOfDistributionReason::NoLikelyClass));
            assert_eq!(field.trained_on, "reddish, greenish, bluish");
            assert!(field.value.starts_with("the likeliest class has a probability of 0."), "{}", field.value);
        }
        let oip = inference(server.endpoint()).await;
        for request in ways(&[golden("444.jpg")]) {
            let answer = infer(&oip, request).await.expect("answered");
            for name in ["unknown", "out_of_distribution"] {
                let index = answer.outputs.iter().position(|output| output.name == name).expect(name);
                let typed = answer.outputs[index].contents.as_ref().map(|contents| contents.bool_contents.clone());
                let found = typed.unwrap_or_else(|| vec![answer.raw_output_contents[index][0] == 1]);
                assert_eq!((found, answer.outputs[index].datatype.as_str()), (vec![unknown], "BOOL"));
            }
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn what_the_model_takes_is_told() {
    let server = start_with(
        &model(network(0), "", ""),
        &[("batching.execution", "inline"), ("batching.models.colours.max_batch_size", "3")],
    )
    .await;
    let mut oip = inference(server.endpoint()).await;
    let metadata = oip.model_metadata(ModelMetadataRequest { name: "colours".into(), version: String::new() }).await;
    let metadata = metadata.expect("answered").into_inner();
    assert_eq!(metadata.inputs.len(), 1);
    let input = &metadata.inputs[0];
    assert_eq!(
        (input.name.as_str(), input.datatype.as_str(), &input.shape[..]),
        ("image", "FP32", &[-1, 3, 32, 32][..])
    );
    assert!(metadata.outputs.iter().all(|output| output.name != "unknown"), "it has no bound for it");
    let config = oip.model_config(ModelConfigRequest { name: "colours".into(), version: String::new() }).await;
    let config = config.expect("answered").into_inner().config.expect("a configuration");
    assert_eq!(config.parameters["execution"].string_value, "queued", "pictures are never decoded on a serving thread");
    assert_eq!(config.parameters["rows_of_a_run_max"].string_value, "3", "its own setting");
    let range = oip.model_config(ModelConfigRequest { name: "ev-range".into(), version: String::new() }).await;
    let range = range.expect("answered").into_inner().config.expect("a configuration");
    assert_eq!(range.parameters["execution"].string_value, "inline");
    let client = server.client().await;
    let found = async || client.health().check("ev.vision.v1.VehicleVision").await.expect("known");
    assert_eventually!(found().await == ServingStatus::Serving, "its model serves");
    server.stop().await;
}

#[tokio::test]
async fn only_models_of_pictures_answer() {
    let server = start_with(&model(network(0), "", ""), &[]).await;
    let selector = |name: &str| Some(ModelSelector { name: name.into(), version_choice: None });
    let asked = ClassifyRequest { model_selector: selector("ev-range"), ..request(golden("444.jpg")) };
    let mut client = vision(server.endpoint()).await;
    let refused = client.classify(asked).await.map_err(Refusal::from).expect_err("refused");
    refused.says(Code::InvalidArgument, "WRONG_TASK", &["ev-range", "image_classification"]);
    let named = ClassifyRequest { model_selector: selector("colours"), ..request(golden("444.jpg")) };
    client.classify(named).await.expect("by its name as well");
    server.stop().await;
}

// === refusals ===

/// A PNG that states a size and holds nothing.
fn bomb(width: u32, height: u32) -> Vec<u8> {
    let crc = |bytes: &[u8]| {
        let byte = |crc: u32, byte: &u8| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
        };
        !bytes.iter().fold(u32::MAX, byte)
    };
    let chunk = |kind: &[u8], data: &[u8]| {
        let length = u32::try_from(data.len()).expect("short").to_be_bytes();
        [&length, kind, data, &crc(&[kind, data].concat()).to_be_bytes()].concat()
    };
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
    [b"\x89PNG\r\n\x1a\n", &chunk(b"IHDR", &header)[..], &chunk(b"IDAT", &[0; 64]), &chunk(b"IEND", b"")].concat()
}

/// Files that are refused: why, and with which words.
fn bad_pictures() -> Vec<(&'static str, Vec<u8>, &'static str, &'static str)> {
    let whole = golden("444.jpg");
    let large = [&whole[..], &vec![0; 17 << 20]].concat();
    vec![
        ("empty", vec![], "MISSING_FIELD", "is empty, expected the bytes of a JPEG, PNG or WebP file"),
        ("truncated", whole[..whole.len() / 2].to_vec(), "CORRUPT_IMAGE", "the JPEG file ends before the picture does"),
        ("a GIF", b"GIF89a\x01\0\x01\0".to_vec(), "UNSUPPORTED_FORMAT", "found GIF, expected JPEG, PNG or WebP"),
        ("text", b"hello".to_vec(), "UNSUPPORTED_FORMAT", "found a file that begins with 68 65 6c 6c 6f"),
        ("17 MiB", large, "IMAGE_TOO_LARGE", "bytes, expected at most 16777216"),
        (
            "a bomb",
            bomb(60_000, 60_000),
            "IMAGE_TOO_LARGE",
            "found a picture of 60000 x 60000 pixels, expected at most",
        ),
        ("no pixels", bomb(0, 7), "CORRUPT_IMAGE", "found a picture of 0 x 7 pixels, expected at least 1 x 1"),
        ("a damaged PNG", bomb(9, 9), "CORRUPT_IMAGE", "the PNG file is damaged"),
    ]
}

#[track_caller]
fn assert_refused(found: &Refusal, field: &str, (what, reason, words): (&str, &str, &str)) {
    assert_eq!((found.code, found.reason.as_str()), (Code::InvalidArgument, reason), "{what}: {found:?}");
    let [(found_field, description)] = &found.fields[..] else { panic!("{what}: {found:?}") };
    assert_eq!(found_field, field, "{what}: {found:?}");
    assert!(description.contains(words), "{what}: `{words}` in {description}");
    assert!(found.message.contains(description), "{what}: {found:?}");
}

#[tokio::test]
async fn a_bad_picture_fails_alone_and_says_what_is_wrong_with_it() {
    // Room for the picture that is too large, so that it is told by the service.
    let overrides = [("grpc.image_message_size_max", "32MiB"), ("batching.max_queue_bytes", "32MiB")];
    let server = start_with(&model(network(0), "", ""), &overrides).await;
    let client = vision(server.endpoint()).await;
    let good = probabilities(&classify(&client, golden("444.jpg")).await.expect("answered"));
    for (what, file, reason, words) in bad_pictures() {
        let refused = classify(&client, file).await.expect_err(what);
        assert_refused(&refused, "image", (what, reason, words));
    }
    let rows: Vec<ClassifyRequest> =
        bad_pictures().into_iter().flat_map(|(_, file, ..)| [request(file), request(golden("444.jpg"))]).collect();
    let batch = client.clone().classify_batch(ClassifyBatchRequest { rows: rows.clone() }).await.expect("answered");
    let found = batch.into_inner().results.into_iter().map(|result| match result.result.expect("a result") {
        classify_batch_result::Result::Response(response) => Ok(response),
        classify_batch_result::Result::Error(error) => Err(Refusal::from(error)),
    });
    check_rows(found.collect(), good);

    let requests: Vec<_> = (0..).zip(rows).map(|(id, row)| ClassifyStreamRequest { id, request: Some(row) }).collect();
    let mut answers = client.clone().classify_stream(tokio_stream::iter(requests)).await.expect("begun").into_inner();
    let mut found = Vec::new();
    while let Some(answer) = answers.message().await.expect("the stream goes on") {
        found.push(match answer.result.expect("a result") {
            classify_stream_response::Result::Response(response) => Ok(response),
            classify_stream_response::Result::Error(error) => Err(Refusal::from(error)),
        });
    }
    check_rows(found, good);
    let empty = client.clone().classify_batch(ClassifyBatchRequest::default()).await.map_err(Refusal::from);
    empty.expect_err("refused").is(
        Code::InvalidArgument,
        "EMPTY_BATCH",
        "the batch has no rows, expected at least one",
    );
    server.stop().await;
}

#[track_caller]
fn check_rows(found: Vec<Result<ClassifyResponse, Refusal>>, good: [f32; 3]) {
    assert_eq!(found.len(), 2 * bad_pictures().len());
    for (pair, (what, _, reason, words)) in found.as_chunks::<2>().0.iter().zip(bad_pictures()) {
        let [Err(refused), Ok(answered)] = pair else { panic!("{what}: {pair:?}") };
        assert_refused(refused, "image", (what, reason, words));
        assert_close(probabilities(answered), good, "its neighbour");
    }
}

#[tokio::test]
async fn the_v2_protocol_names_the_row_of_a_bad_picture() {
    let server = start_with(&model(network(0), "", ""), &[]).await;
    let client = inference(server.endpoint()).await;
    let good = golden("444.jpg");
    let files = |files: &[&[u8]]| {
        let rows = i64::try_from(files.len()).expect("few");
        let bytes_contents = files.iter().map(|file| file.to_vec().into()).collect();
        infer_request("BYTES", &[rows], None, InferTensorContents { bytes_contents, ..Default::default() })
    };
    let refused = infer(&client, files(&[b"GIF89a"])).await.expect_err("refused");
    assert_refused(&refused, "inputs.image[0]", ("one", "UNSUPPORTED_FORMAT", "found GIF"));
    let refused = infer(&client, files(&[&good, &good, &good[..500], &good])).await.expect_err("refused");
    assert_refused(&refused, "inputs.image[2]", ("many", "CORRUPT_IMAGE", "ends before the picture does"));
    let refused = infer(&client, files(&[&good, b""])).await.expect_err("refused");
    assert_refused(&refused, "inputs.image[1]", ("none", "MISSING_FIELD", "found no bytes"));

    let mut numbers = vec![0.0; 2 * VALUES];
    numbers[VALUES + 5] = f32::NAN;
    let side = i64::try_from(SIDE).expect("small");
    let shape = [2, 3, side, side];
    let bytes = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    let contents = InferTensorContents { fp32_contents: numbers, ..Default::default() };
    for request in [
        infer_request("FP32", &shape, Some(bytes), InferTensorContents::default()),
        infer_request("FP32", &shape, None, contents),
    ] {
        let refused = infer(&client, request).await.expect_err("refused");
        refused.is_field("NOT_FINITE", "inputs.image[1]", "holds NaN at position 5, expected a finite number");
    }
    let check = async |request: ModelInferRequest, reason: &str, field: &str, words: &str| {
        let refused = infer(&client, request).await.expect_err(words);
        assert_refused(&refused, field, (words, reason, words));
    };
    let none = InferTensorContents::default;
    let of = |datatype, shape: &[i64], raw: &[u8]| infer_request(datatype, shape, Some(raw.to_vec()), none());
    check(of("INT64", &[1], &[0; 8]), "WRONG_KIND", "inputs.image.datatype", "is `INT64`, expected FP32, or BYTES")
        .await;
    check(of("BYTES", &[1, 3, 32, 32], &[0; 4]), "WRONG_SHAPE", "inputs.image.shape", "expected [1] or [1, 1]").await;
    check(of("BYTES", &[2], &[0; 4]), "TRUNCATED", "raw_input_contents[0]", "value 1 of input `image`").await;
    check(of("BYTES", &[1], &[1, 0, 0, 0, 7, 7]), "WRONG_LENGTH", "raw_input_contents[0]", "1 bytes after the last")
        .await;
    check(of("FP32", &[1, 3, 32, 31], &[0; 8]), "WRONG_SHAPE", "inputs.image.shape", "[1, 3, 32, 31]").await;
    let wrong = InferTensorContents { fp32_contents: vec![0.0], ..none() };
    check(infer_request("BYTES", &[1], None, wrong), "WRONG_KIND", "inputs.image", "holds fp32_contents").await;
    check(infer_request("BYTES", &[1], None, none()), "MISSING_FIELD", "inputs.image.contents", "is missing").await;
    server.stop().await;
}

// === bounds ===

#[tokio::test]
async fn pictures_may_take_what_the_configuration_says() {
    for (key, value, reason, words) in [
        ("images.bytes_max", "2KiB", "IMAGE_TOO_LARGE", "found 3767 bytes, expected at most 2048"),
        ("batching.max_queue_bytes", "13KiB", "IMAGE_TOO_LARGE", "found 20000 bytes, expected at most 13312"),
        ("images.pixels_max", "100", "IMAGE_TOO_LARGE", "and 100 in all"),
        ("images.side_max", "10", "IMAGE_TOO_LARGE", "at most 10 a side"),
        ("images.memory_max", "1KiB", "IMAGE_TOO_LARGE", "of memory, expected at most 1024"),
        ("images.decode_time_max", "1us", "IMAGE_TOO_SLOW", "it takes longer than 1µs to decode"),
    ] {
        let server = start_with(&model(network(0), "", ""), &[(key, value)]).await;
        let mut picture = golden("444.jpg");
        assert_eq!(picture.len(), 3767);
        if key == "batching.max_queue_bytes" {
            picture.resize(20_000, 0);
        }
        let refused = classify(&vision(server.endpoint()).await, picture).await.expect_err(key);
        assert_refused(&refused, "image", (key, reason, words));
        server.stop().await;
    }
}

#[tokio::test]
async fn messages_have_a_bound_of_their_own() {
    let server = start_with(&model(network(0), "", ""), &[]).await;
    let client = vision(server.endpoint()).await;
    let picture = golden("444.jpg");
    // What follows the end of a JPEG is nobody's business.
    let large = [&picture[..], &vec![0; 15 << 20]].concat();
    classify(&client, large.clone()).await.expect("15 MiB are few enough");
    let refused = classify(&client, vec![0; 17 << 20]).await.expect_err("refused");
    refused.says(Code::ResourceExhausted, "MESSAGE_TOO_LARGE", &["message length too large"]);
    let framed = [&u32::try_from(large.len()).expect("short").to_le_bytes()[..], &large].concat();
    let request = infer_request("BYTES", &[1], Some(framed), InferTensorContents::default());
    infer(&inference(server.endpoint()).await, request).await.expect("15 MiB are few enough");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_requests_hold_together_has_a_bound() {
    let overrides: Vec<_> = NARROW
        .into_iter()
        .chain([("grpc.image_message_size_max", "1MiB"), ("grpc.image_messages_memory_max", "2MiB")])
        .collect();
    let server = start_with(&slow(), &overrides).await;
    let picture = golden("444.jpg");
    let large = bytes::Bytes::from([&picture[..], &vec![0; 900 << 10]].concat());
    let mut callers = JoinSet::new();
    for _ in 0..12 {
        let (client, large) = (vision(server.endpoint()).await, large.clone());
        callers.spawn(async move {
            let mut refusals = 0u32;
            loop {
                match client.clone().classify(request(large.clone())).await {
                    Ok(_) => return refusals,
                    Err(status) => {
                        let error = CallError::from(status);
                        let delay = error.retry_delay.expect("says when to come back");
                        let words = ["`grpc.image_messages_memory_max` allows"];
                        Refusal::from(error).says(Code::ResourceExhausted, "MESSAGE_MEMORY_FULL", &words);
                        refusals += 1;
                        tokio::time::sleep(delay).await;
                    }
                }
            }
        });
    }
    let refusals: u32 = callers.join_all().await.into_iter().sum();
    assert!(refusals > 0, "twelve callers do not fit into two places");
    // A stream holds one message at a time; those before it are in the queue.
    let requests: Vec<_> =
        (0..20).map(|id| ClassifyStreamRequest { id, request: Some(request(large.clone())) }).collect();
    let mut client = vision(server.endpoint()).await;
    let mut answers = client.classify_stream(tokio_stream::iter(requests)).await.expect("begun").into_inner();
    let mut answered = 0;
    while let Some(answer) = answers.message().await.expect("the stream goes on") {
        assert!(matches!(answer.result, Some(classify_stream_response::Result::Response(_))), "{answer:?}");
        answered += 1;
    }
    assert_eq!(answered, 20);
    let held = async || server.endpoint().metric("ev_serving_image_messages_size_bytes").await;
    assert_eventually!(held().await == 0.0, "something is still held");
    server.stop().await;
}

/// A picture that takes about ten milliseconds.
fn slow() -> Model {
    model(network(400), "", "")
}

/// One worker and one row a run, so that queues fill.
const NARROW: [(&str, &str); 3] =
    [("batching.worker_threads", "1"), ("batching.instance_count", "1"), ("batching.max_batch_size", "1")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_callers_are_answered_or_told_to_come_back() {
    let overrides: Vec<_> = NARROW.into_iter().chain([("batching.max_queue_size", "64")]).collect();
    let server = start_with(&slow(), &overrides).await;
    let files: Vec<(Vec<u8>, [f32; 3])> =
        PICTURES.iter().map(|name| golden(name)).map(|file| (file.clone(), expected(&tensor(&file).0))).collect();
    let mut callers = JoinSet::new();
    for connection in 0..8 {
        let client = vision(server.endpoint()).await;
        for caller in 0..125 {
            let (client, (file, expected)) = (client.clone(), files[(connection + caller) % files.len()].clone());
            callers.spawn(async move {
                let answer = client.clone().classify(request(file)).await;
                answer.map(|answer| assert_close(probabilities(&answer.into_inner()), expected, "under load"))
            });
        }
    }
    let (mut answered, mut refused) = (0, 0);
    for outcome in callers.join_all().await {
        match outcome {
            Ok(()) => answered += 1,
            Err(status) => {
                let error = CallError::from(status);
                assert!(error.retry_delay.is_some_and(|delay| delay > Duration::ZERO), "{error:?}");
                let words = ["the model's queue is full with 64 rows"];
                Refusal::from(error).says(Code::ResourceExhausted, "QUEUE_FULL", &words);
                refused += 1;
            }
        }
    }
    assert!(answered >= 64 && refused > 0 && answered + refused == 1000, "{answered} answered, {refused} refused");
    let metric = async |name: &str| {
        let labels = "model=\"colours\",version=\"1\",backend=\"ort\"";
        server.endpoint().metric(&format!("{name}{{{labels}}}")).await
    };
    assert_eq!(metric("ev_batching_rows_entered_total").await, f64::from(answered));
    assert_eq!((metric("ev_batching_queue_rows").await, metric("ev_batching_queue_size_bytes").await), (0.0, 0.0));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_that_passes_in_the_queue_is_told() {
    let server = start_with(&slow(), &NARROW).await;
    let client = vision(server.endpoint()).await;
    let mut callers = JoinSet::new();
    for _ in 0..32 {
        let client = client.clone();
        callers.spawn(async move { classify(&client, golden("444.jpg")).await });
    }
    let queued = "ev_batching_queue_rows{model=\"colours\",version=\"1\",backend=\"ort\"}";
    assert_eventually!(server.endpoint().metric(queued).await > 0.0, "nothing was queued");
    let connection = Bare::connect(server.endpoint().grpc).await;
    let message = request(golden("444.jpg")).encode_to_vec();
    let refused = connection.call("/ev.vision.v1.VehicleVision/Classify", message, &[("grpc-timeout", "20m")]).await;
    let refused = refused.map_err(Refusal::from).expect_err("too late");
    assert_eq!(refused.code, Code::DeadlineExceeded, "{refused:?}");
    for answer in callers.join_all().await {
        answer.expect("the others have time");
    }
    server.stop().await;
}

// === loading ===

#[tokio::test]
async fn golden_pictures_are_reproduced_before_a_version_serves() {
    let picture = golden("420.jpg");
    let (values, _) = tensor(&picture);
    let probabilities = expected(&values);
    let of = |probabilities: [f32; 3], file: &str| {
        let by_class: serde_json::Map<_, _> = CLASSES
            .iter()
            .zip(probabilities)
            .map(|(class, probability)| ((*class).to_owned(), probability.into()))
            .collect();
        serde_json::json!({"library": "by hand", "cases": [
            {"image_file": file, "coverage": 1.0, "expected": {"probabilities": by_class}}
        ]})
        .to_string()
        .into_bytes()
    };
    let with = |golden: Vec<u8>, listing: bool| {
        let files = if listing { listed("photo.jpg", &picture) } else { String::new() };
        let more = format!("[golden]\nfile = \"golden.json\"\ntolerance = 0.0001\n{files}");
        let mut model = model(network(0), "", &more);
        model.files.insert("golden.json".to_owned(), golden);
        if listing {
            model.files.insert("photo.jpg".to_owned(), picture.clone());
        }
        model
    };
    let server = start_with(&with(of(probabilities, "photo.jpg"), true), &[]).await;
    let refused = async |model: Model, words: &[&str]| {
        let refused = put_into_production(&server, &model).await.expect_err("refused");
        refused.says(Code::FailedPrecondition, "NOT_SERVABLE", words);
    };
    let unlisted = with(of(probabilities, "photo.jpg"), false);
    refused(unlisted, &["golden request 0", "names the picture `photo.jpg`, which is not among `[[files]]`"]).await;
    let mut other = with(of(probabilities, "photo.jpg"), true);
    other.table("preprocessing").insert("channels".to_owned(), "bgr".into());
    let words = ["golden request 0", "photo.jpg", "is `preprocessing` what the model was trained with?", "Bgr"];
    refused(other, &words).await;
    let wrong = with(of([0.9, 0.05, 0.05], "photo.jpg"), true);
    refused(wrong, &["golden request 0", "expected [0.89"]).await;
    server.stop().await;
}

#[tokio::test]
async fn a_hugging_face_directory_takes_pictures_by_its_own_configuration() {
    let checkpoint = Checkpoint::random(21, TINY);
    let files = [
        ("config.json", checkpoint.config()),
        ("model.safetensors", checkpoint.weights()),
        ("preprocessor_config.json", CONFIG.as_bytes().to_vec()),
    ];
    let of = |side: usize| {
        let manifest = format!(
            r#"
            [model]
            name = "colours"
            task = "generic"
            description = "A ConvNeXt V2 of random weights."
            backend = "candle"
            license = "Apache-2.0"
            [[inputs]]
            name = "image"
            dtype = "FP32"
            shape = [3, {side}, {side}]
            required = true
            [preprocessing]
            hugging_face = "preprocessor_config.json"
            [[heads]]
            name = "point"
            file = "model.safetensors"
            [[outputs]]
            name = "logits"
            kind = "prediction"
            width = 10
            {}"#,
            listed("config.json", &files[0].1)
        );
        let files = files.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.clone())).collect();
        Model { manifest: manifest.parse().expect("TOML"), files }
    };
    let server = TestServer::start(&[]).await;
    put_into_production(&server, &of(32)).await.expect("it serves");
    let client = inference(server.endpoint()).await;
    let mut answers = Vec::new();
    for request in ways(&[golden("444.jpg")]) {
        answers.push(floats(&infer(&client, request).await.expect("answered"), "logits"));
    }
    assert_eq!(answers[0].len(), 10);
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    let refused = put_into_production(&server, &of(64)).await.expect_err("refused");
    let words = ["`preprocessor_config.json` does not fit its manifest", "32 rows and 32 columns, expected 64 and 64"];
    refused.says(Code::FailedPrecondition, "NOT_SERVABLE", &words);
    server.stop().await;
}

#[tokio::test]
async fn without_the_library_everything_else_serves() {
    let directory = start_with(&model(network(0), "", ""), &[]).await.stop().await;
    let overrides =
        [("backends.onnxruntime", "/nowhere/libonnxruntime.so"), ("routes.image_classification", "colours")];
    let server = TestServer::start_on(directory, &overrides).await;
    assert_eq!(server.endpoint().get("/readyz").await, (200, "ready".to_owned()));
    let ready = inference(server.endpoint()).await.server_ready(ServerReadyRequest {}).await.expect("answered");
    assert!(ready.into_inner().ready, "a model that was refused is told by ModelReady");
    let client = server.client().await;
    client
        .range()
        .predict(PredictRequest { make: "Tesla".into(), model: "Model 3".into(), ..Default::default() })
        .await
        .expect("answered");
    let refused = classify(&vision(server.endpoint()).await, golden("444.jpg")).await.expect_err("refused");
    let words = ["the ONNX Runtime library is not there", "/nowhere/libonnxruntime.so", "scripts/onnxruntime.sh"];
    refused.says(Code::FailedPrecondition, "NOT_SERVABLE", &words);
    let found = async || client.health().check("ev.vision.v1.VehicleVision").await.expect("known");
    assert_eventually!(found().await == ServingStatus::NotServing, "its model does not serve");
    server.stop().await;
}
