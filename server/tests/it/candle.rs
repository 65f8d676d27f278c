//! The `candle` backend through the server: a Hugging Face directory that was registered answers over the v2 protocol.

use ev_client::Code;
use ev_models_core::{ArtifactDir, Digest, InputColumns, LoadOptions, Tensor, Tensors};
use ev_proto::{
    ev::registry::v1::SetAliasRequest,
    inference::{ModelInferRequest, model_infer_request::InferInputTensor},
};

use crate::support::{
    refusal::Refusal,
    server::TestServer,
    zoo::{Model, Registry},
};

#[path = "../../../models/candle/tests/support/checkpoint.rs"]
#[allow(dead_code, reason = "the backend's own tests use the rest")]
pub(crate) mod checkpoint;

use checkpoint::{Checkpoint, TINY, pixels};

const PREPROCESSOR: &[u8] = br#"{"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 32}}"#;

/// Values of an image.
const IMAGE: usize = 3 * 64 * 64;

/// A generic model around a checkpoint: its directory as it is, and a manifest.
fn model(checkpoint: &Checkpoint) -> Model {
    let files = [
        ("config.json", checkpoint.config()),
        ("model.safetensors", checkpoint.weights()),
        ("preprocessor_config.json", PREPROCESSOR.to_vec()),
    ];
    let listed = files.iter().map(|(path, bytes)| {
        format!("[[files]]\npath = \"{path}\"\nsha256 = \"{}\"\nsize = {}\n", Digest::of(bytes), bytes.len())
    });
    let manifest = format!(
        r#"
        [model]
        name = "tiny-convnext"
        task = "generic"
        description = "A ConvNeXt V2 of random weights."
        backend = "candle"
        license = "Apache-2.0"
        [[inputs]]
        name = "pixel_values"
        dtype = "FP32"
        shape = [3, 64, 64]
        required = true
        [[heads]]
        name = "point"
        file = "model.safetensors"
        [[outputs]]
        name = "logits"
        kind = "prediction"
        width = 10
        {}"#,
        listed.collect::<String>()
    );
    let files = files.into_iter().map(|(path, bytes)| (path.to_owned(), bytes)).collect();
    Model { manifest: manifest.parse().expect("TOML"), files }
}

async fn put_into_production(server: &TestServer, model: &Model) -> Result<(), Refusal> {
    let registry = Registry::new(server.endpoint().channel().await);
    model.upload(&registry).await.expect("registered");
    let request = SetAliasRequest {
        model: "tiny-convnext".into(),
        alias: "production".into(),
        version: 1,
        expected_version: None,
    };
    registry.clone().set_alias(request).await.map(drop).map_err(Refusal::from)
}

/// What the backend answers without a server.
fn expected(model: &Model, images: &[f32]) -> Vec<f32> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let artifact = ArtifactDir::new(model.files.iter().map(|(name, bytes)| {
        let path = directory.path().join(name);
        fs_err::write(&path, bytes).expect("written");
        (name.clone(), path)
    }));
    let options = LoadOptions {
        inputs: vec![InputColumns { name: "pixel_values".into(), shape: vec![3, 64, 64] }],
        ..LoadOptions::new("model.safetensors", IMAGE)
    };
    let backend = ev_models::backend("candle", &ev_models::Libraries::default()).expect("it is built in");
    let mut instance = backend.load(&artifact, &options).expect("it loads").instantiate().expect("an instance");
    let batch = Tensors::from(vec![Tensor::f32([images.len() / IMAGE, IMAGE], images.to_vec())]);
    instance.run(&batch).expect("it runs")[0].as_f32().expect("floats").to_vec()
}

#[tokio::test]
async fn a_hugging_face_directory_answers_as_candle_does() {
    let model = model(&Checkpoint::random(21, TINY));
    let server = TestServer::start(&[]).await;
    put_into_production(&server, &model).await.expect("it serves");
    for rows in [1, 3] {
        let images = pixels(22, rows * IMAGE);
        let bytes: Vec<u8> = images.iter().flat_map(|value| value.to_le_bytes()).collect();
        let input = InferInputTensor {
            name: "pixel_values".into(),
            datatype: "FP32".into(),
            shape: vec![i64::try_from(rows).expect("few"), 3, 64, 64],
            ..Default::default()
        };
        let request = ModelInferRequest {
            model_name: "tiny-convnext".into(),
            inputs: vec![input],
            raw_input_contents: vec![bytes.into()],
            ..Default::default()
        };
        let answer = server.client().await.open_inference().model_infer(request).await.expect("answered");
        let index = answer.outputs.iter().position(|output| output.name == "logits").expect("the output");
        let values = answer.raw_output_contents[index].as_chunks::<4>().0.iter();
        let found: Vec<f32> = values.map(|bytes| f32::from_le_bytes(*bytes)).collect();
        for (found, expected) in found.iter().zip(expected(&model, &images)) {
            // Not bit for bit: where batches are cut depends on how long a row takes.
            assert!((found - expected).abs() < 1e-5, "{found}, expected {expected}");
        }
        assert_eq!(found.len(), rows * 10);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_checkpoint_without_a_tensor_is_refused_by_name() {
    let mut checkpoint = Checkpoint::random(21, TINY);
    checkpoint.tensors.remove("classifier.bias");
    let server = TestServer::start(&[]).await;
    let refused = put_into_production(&server, &model(&checkpoint)).await.expect_err("refused");
    refused.says(Code::FailedPrecondition, "NOT_SERVABLE", &["tensor `classifier.bias`: is missing"]);
    server.stop().await;
}
