//! Which model version answers.

use ev_client::Code;
use ev_proto::ev::{
    charging, common::v1::ModelSelector, common::v1::model_selector::VersionChoice, range::v1::PredictRequest,
};

use crate::support::{refusal::Refusal, server::shared, zoo::bundled};

fn request(name: &str, version_choice: Option<VersionChoice>) -> PredictRequest {
    PredictRequest {
        make: "Tesla".into(),
        model: "Model 3".into(),
        model_selector: Some(ModelSelector { name: name.to_owned(), version_choice }),
        ..Default::default()
    }
}

async fn refused(name: &str, version_choice: Option<VersionChoice>) -> Refusal {
    let answer = shared().client().await.range().predict(request(name, version_choice)).await;
    answer.map_err(Refusal::from).expect_err("refused")
}

#[tokio::test]
async fn a_version_is_chosen_by_name_number_and_alias() {
    let client = shared().client().await;
    let choices = [
        ("", None),
        ("ev-range", None),
        ("", Some(VersionChoice::Version(1))),
        ("ev-range", Some(VersionChoice::Alias("production".into()))),
    ];
    let mut bits = Vec::new();
    for (name, choice) in choices {
        let answer = client.range().predict(request(name, choice)).await.expect("answered");
        let model = answer.info.and_then(|info| info.model).expect("a model version");
        assert_eq!((model.name.as_str(), model.version), ("ev-range", 1));
        bits.push(answer.range_q50_km.to_bits());
    }
    bits.dedup();
    assert_eq!(bits.len(), 1);
}

#[tokio::test]
async fn an_unknown_model_is_told_which_there_are() {
    let message = format!("no model `ev-rang` is registered; registered: {}", bundled().join(", "));
    refused("ev-rang", None).await.is(Code::NotFound, "UNKNOWN_MODEL", &message);
    // What a caller sends is given back shortened.
    let long = refused(&"x".repeat(10_000), None).await;
    assert_eq!((long.code, long.reason.as_str()), (Code::NotFound, "UNKNOWN_MODEL"));
    assert!(long.message.len() < 300, "{}", long.message.len());
}

#[tokio::test]
async fn an_unknown_version_is_told_which_there_are() {
    let message = |version| format!("model `ev-range` has no version {version}; it has: 1");
    for version in [0, 2, u32::MAX] {
        let refused = refused("ev-range", Some(VersionChoice::Version(version))).await;
        refused.is(Code::NotFound, "UNKNOWN_VERSION", &message(version));
    }
}

#[tokio::test]
async fn an_unknown_alias_is_told_which_there_are() {
    let refused = refused("ev-range", Some(VersionChoice::Alias("canary".into()))).await;
    refused.is(Code::NotFound, "UNKNOWN_ALIAS", "model `ev-range` has no alias `canary`; it has: production");
}

#[tokio::test]
async fn a_model_of_another_task_is_refused() {
    let message = "model `thermal-risk` is for task `thermal_risk`, expected `range`";
    refused("thermal-risk", None).await.is(Code::InvalidArgument, "WRONG_TASK", message);
}

#[tokio::test]
async fn rows_of_one_batch_may_choose_for_themselves() {
    let client = shared().client().await;
    let row = |name: &str| charging::v1::PredictRequest {
        region: Some("Dundee".into()),
        city_type: Some("urban".into()),
        charger_type: Some("DC".into()),
        model_selector: Some(ModelSelector { name: name.to_owned(), version_choice: None }),
        ..Default::default()
    };
    let rows = vec![row(""), row("nonesuch"), row("charging-utilization"), row("ev-range")];
    let answered = client.utilization().predict_batch(rows).await.expect("answered");
    let codes: Vec<Code> = answered
        .results
        .into_iter()
        .map(|result| match result.result.expect("an answer or an error") {
            charging::v1::predict_batch_result::Result::Response(_) => Code::Ok,
            charging::v1::predict_batch_result::Result::Error(error) => Refusal::from(error).code,
        })
        .collect();
    assert_eq!(codes, [Code::Ok, Code::NotFound, Code::Ok, Code::InvalidArgument]);
}
