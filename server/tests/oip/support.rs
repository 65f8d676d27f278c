//! A server in this process, and tensors made of plain values.

use std::{collections::BTreeMap, path::Path};

use bytes::Bytes;
use ev_proto::inference::{
    InferTensorContents, ModelInferRequest, ModelInferResponse,
    grpc_inference_service_client::GrpcInferenceServiceClient,
    model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
};
use ev_server::{Config, Server};
use serde_json::Value as Json;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

pub(crate) type Client = GrpcInferenceServiceClient<Channel>;

/// A server of one test's own.
pub(crate) struct TestServer {
    pub(crate) server: Server,
    pub(crate) channel: Channel,
    _directory: TempDir,
}

/// One golden request of a bundled model.
#[derive(Debug, Clone, serde::Deserialize)]
pub(crate) struct Case {
    pub(crate) inputs: BTreeMap<String, Json>,
    #[serde(default)]
    pub(crate) prediction: Option<Vec<f32>>,
    #[serde(default)]
    pub(crate) expected: Option<Json>,
}

/// Values of an output; floats as bits, so that NaN equals itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Values {
    Floats(Vec<u32>),
    Texts(Vec<String>),
    Flags(Vec<bool>),
}

/// The bundled models of single values.
pub(crate) const MODELS: [&str; 8] = [
    "battery-cycle-life",
    "battery-failure",
    "battery-rul",
    "battery-soh",
    "battery-temperature",
    "charging-utilization",
    "ev-range",
    "thermal-risk",
];

/// Names of every bundled model, in order: those of pictures are last.
pub(crate) fn bundled() -> Vec<String> {
    let zoo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/zoo");
    let folders = fs_err::read_dir(zoo).expect("models/zoo").map(|entry| entry.expect("an entry").path());
    let models = folders.filter(|folder| folder.join("manifest.toml").is_file());
    let mut names: Vec<String> = models.filter_map(|folder| Some(folder.file_name()?.to_str()?.to_owned())).collect();
    names.sort();
    names
}

// === impl TestServer ===

impl TestServer {
    pub(crate) async fn start() -> TestServer {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let overrides = [
            ("data.directory", directory.path().display().to_string()),
            ("grpc.address", "127.0.0.1:0".to_owned()),
            ("telemetry.address", "127.0.0.1:0".to_owned()),
            ("http.address", "127.0.0.1:0".to_owned()),
            ("grpc.serving_cores", "2".to_owned()),
        ];
        let config = Config::load(None, [], overrides.map(|(key, value)| (key.to_owned(), value))).expect("valid");
        let server = Server::start(config).await.expect("the server starts");
        let endpoint = Endpoint::from_shared(format!("http://{}", server.grpc_address())).expect("an address");
        let channel = endpoint.connect().await.expect("the server answers");
        TestServer { server, channel, _directory: directory }
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.channel.clone()).max_decoding_message_size(64 * 1024 * 1024)
    }
}

/// The golden requests of a bundled model.
pub(crate) fn golden(model: &str) -> Vec<Case> {
    #[derive(serde::Deserialize)]
    struct File {
        cases: Vec<Case>,
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/zoo").join(model);
    let text = fs_err::read_to_string(folder.join("golden.json")).expect("golden.json");
    serde_json::from_str::<File>(&text).expect("golden.json").cases
}

fn tensor(name: &str, datatype: &str, rows: usize, contents: InferTensorContents) -> InferInputTensor {
    InferInputTensor {
        name: name.to_owned(),
        datatype: datatype.to_owned(),
        shape: vec![i64::try_from(rows).expect("few rows"), 1],
        contents: Some(contents),
        ..InferInputTensor::default()
    }
}

pub(crate) fn numbers(name: &str, values: &[f32]) -> InferInputTensor {
    let contents = InferTensorContents { fp32_contents: values.to_vec(), ..InferTensorContents::default() };
    tensor(name, "FP32", values.len(), contents)
}

pub(crate) fn texts(name: &str, values: &[&str]) -> InferInputTensor {
    let bytes_contents = values.iter().map(|text| Bytes::copy_from_slice(text.as_bytes())).collect();
    tensor(name, "BYTES", values.len(), InferTensorContents { bytes_contents, ..InferTensorContents::default() })
}

pub(crate) fn flags(name: &str, values: &[bool]) -> InferInputTensor {
    let contents = InferTensorContents { bool_contents: values.to_vec(), ..InferTensorContents::default() };
    tensor(name, "BOOL", values.len(), contents)
}

pub(crate) fn request(model: &str, inputs: Vec<InferInputTensor>) -> ModelInferRequest {
    ModelInferRequest { model_name: model.to_owned(), inputs, ..ModelInferRequest::default() }
}

pub(crate) fn wanting(mut request: ModelInferRequest, outputs: &[&str]) -> ModelInferRequest {
    let output = |name: &&str| InferRequestedOutputTensor { name: (*name).to_owned(), ..Default::default() };
    request.outputs = outputs.iter().map(output).collect();
    request
}

/// Rows that give the same inputs, as one request.
#[expect(clippy::cast_possible_truncation, reason = "float32 on the wire")]
pub(crate) fn rows(model: &str, rows: &[&BTreeMap<String, Json>]) -> ModelInferRequest {
    let column = |name: &String| match &rows[0][name] {
        Json::String(_) => texts(name, &rows.iter().map(|row| row[name].as_str().expect("a text")).collect::<Vec<_>>()),
        Json::Bool(_) => flags(name, &rows.iter().map(|row| row[name].as_bool().expect("a flag")).collect::<Vec<_>>()),
        _ => {
            let values = rows.iter().map(|row| row[name].as_f64().expect("a number") as f32);
            numbers(name, &values.collect::<Vec<_>>())
        }
    };
    request(model, rows[0].keys().map(column).collect())
}

/// The same request with its values as little-endian bytes.
pub(crate) fn raw(mut request: ModelInferRequest) -> ModelInferRequest {
    for input in &mut request.inputs {
        let contents = input.contents.take().expect("typed contents");
        let mut bytes: Vec<u8> = contents.fp32_contents.iter().flat_map(|number| number.to_le_bytes()).collect();
        bytes.extend(contents.bool_contents.iter().map(|flag| u8::from(*flag)));
        for text in &contents.bytes_contents {
            bytes.extend(u32::try_from(text.len()).expect("short").to_le_bytes());
            bytes.extend_from_slice(text);
        }
        request.raw_input_contents.push(bytes.into());
    }
    request
}

/// An answer's values by output, in whichever form they came.
pub(crate) fn values(response: &ModelInferResponse) -> BTreeMap<String, Values> {
    let raw = |index: usize| response.raw_output_contents.get(index);
    let of = |(index, output): (usize, &ev_proto::inference::model_infer_response::InferOutputTensor)| {
        let contents = output.contents.clone().unwrap_or_default();
        let values = match output.datatype.as_str() {
            "FP32" => Values::Floats(match raw(index) {
                Some(bytes) => bytes.as_chunks::<4>().0.iter().map(|number| u32::from_le_bytes(*number)).collect(),
                None => contents.fp32_contents.iter().map(|number| number.to_bits()).collect(),
            }),
            "BOOL" => Values::Flags(match raw(index) {
                Some(bytes) => bytes.iter().map(|byte| *byte == 1).collect(),
                None => contents.bool_contents,
            }),
            "BYTES" => Values::Texts(match raw(index) {
                Some(bytes) => framed(bytes),
                None => contents
                    .bytes_contents
                    .iter()
                    .map(|text| String::from_utf8(text.to_vec()).expect("UTF-8"))
                    .collect(),
            }),
            other => panic!("an output of {other}"),
        };
        (output.name.clone(), values)
    };
    response.outputs.iter().enumerate().map(of).collect()
}

fn framed(mut bytes: &[u8]) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let (text, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        texts.push(String::from_utf8(text.to_vec()).expect("UTF-8"));
        bytes = rest;
    }
    texts
}

/// The floats of an output.
pub(crate) fn floats(response: &ModelInferResponse, name: &str) -> Vec<f32> {
    match values(response).remove(name) {
        Some(Values::Floats(bits)) => bits.into_iter().map(f32::from_bits).collect(),
        other => panic!("{name} is {other:?}"),
    }
}
