//! The `xgboost` backend through the server: a dart booster serves, a file of a newer XGBoost is refused by name.

use ev_client::Code;
use ev_proto::{
    ev::registry::v1::SetAliasRequest,
    inference::{InferTensorContents, ModelInferRequest, model_infer_request::InferInputTensor},
};

use crate::support::{
    refusal::Refusal,
    server::TestServer,
    zoo::{Model, Registry},
};

/// What XGBoost 1.6.2's own Python answered; `tests/golden/make.py` of the backend wrote it.
#[derive(serde::Deserialize)]
struct Golden {
    rows: usize,
    columns: Vec<Option<f32>>,
    prediction: Vec<f32>,
}

fn golden(file: &str) -> Vec<u8> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/xgboost/tests/golden");
    fs_err::read(folder.join(file)).expect("a golden file of the xgboost backend")
}

/// A generic model of one vector input around a file of the library.
fn model(file: &str, columns: usize) -> Model {
    let manifest = format!(
        r#"
        [model]
        name = "dart"
        task = "generic"
        description = "A dart booster."
        backend = "xgboost"
        license = "Apache-2.0"
        [[inputs]]
        name = "rows"
        dtype = "FP32"
        shape = [{columns}]
        nan_is_missing = true
        [[heads]]
        name = "point"
        file = "{file}"
        [[outputs]]
        name = "answer"
        kind = "prediction"
        "#
    );
    Model { manifest: manifest.parse().expect("TOML"), files: [(file.to_owned(), golden(file))].into() }
}

async fn put_into_production(server: &TestServer, model: &Model) -> Result<(), Refusal> {
    let registry = Registry::new(server.endpoint().channel().await);
    model.upload(&registry).await.expect("registered");
    let request =
        SetAliasRequest { model: "dart".into(), alias: "production".into(), version: 1, expected_version: None };
    registry.clone().set_alias(request).await.map(drop).map_err(Refusal::from)
}

#[tokio::test]
async fn a_dart_booster_of_xgboost_1_6_answers_as_the_library() {
    let golden: Golden = serde_json::from_slice(&golden("dart.golden.json")).expect("the format");
    let columns = golden.columns.len() / golden.rows;
    let server = TestServer::start(&[]).await;
    put_into_production(&server, &model("dart.json", columns)).await.expect("it serves");
    let values = golden.columns.iter().map(|value| value.unwrap_or(f32::NAN)).collect();
    let input = InferInputTensor {
        name: "rows".into(),
        datatype: "FP32".into(),
        shape: vec![i64::try_from(golden.rows).expect("few"), i64::try_from(columns).expect("few")],
        contents: Some(InferTensorContents { fp32_contents: values, ..Default::default() }),
        ..Default::default()
    };
    let request = ModelInferRequest { model_name: "dart".into(), inputs: vec![input], ..Default::default() };
    let answer = server.client().await.open_inference().model_infer(request).await.expect("answered");
    let output = answer.outputs.iter().find(|output| output.name == "answer").expect("the output");
    let found = &output.contents.as_ref().expect("typed, as the request was").fp32_contents;
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(found), bits(&golden.prediction));
}

#[tokio::test]
async fn a_file_of_a_newer_xgboost_is_refused_by_name() {
    let server = TestServer::start(&[]).await;
    let refused = put_into_production(&server, &model("dart-newer.json", 4)).await.expect_err("refused");
    refused.says(Code::FailedPrecondition, "NOT_SERVABLE", &["XGBoost 3.2.0", "1.6.2"]);
}
