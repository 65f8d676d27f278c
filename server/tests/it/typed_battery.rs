//! Battery health: five models behind one request.

use ev_client::Code;
use ev_proto::ev::{
    battery::v1::{PredictRequest, PredictResponse, Target, TargetModel},
    common::v1::{ModelSelector, OutOfDistributionReason, PredictionStatus, model_selector},
};

use crate::{
    support::{
        golden::{self, assert_close},
        refusal::Refusal,
        server::shared,
        services::Answer as _,
    },
    typed::{assert_envelope, flagged},
};

async fn predict(request: PredictRequest) -> Result<PredictResponse, Refusal> {
    shared().client().await.battery().predict(request).await.map_err(Refusal::from)
}

fn only(target: Target, request: PredictRequest) -> PredictRequest {
    PredictRequest { targets: vec![target.into()], ..request }
}

#[tokio::test]
async fn golden_requests_of_every_target_are_reproduced_over_the_wire() {
    let targets = [
        ("battery-soh", Target::StateOfHealth),
        ("battery-rul", Target::RemainingUsefulLife),
        ("battery-temperature", Target::Temperature),
        ("battery-failure", Target::Failure),
        ("battery-cycle-life", Target::CycleLife),
    ];
    for (model, target) in targets {
        for case in golden::cases(model) {
            let request = golden::request("ev.battery.v1.PredictRequest", &case.inputs);
            let answer = predict(only(target, request)).await.expect("answered");
            assert_envelope(answer.infos()[0], model, &case);
            let Some(expected) = &case.expected else {
                assert_eq!(answer.quantiles(), [] as [[f32; 3]; 0], "{model}: there is no estimate");
                continue;
            };
            match &answer.failure {
                Some(failure) => assert_close(failure.failure_probability, &expected["probability"], model),
                None => {
                    for (index, name) in ["q10", "q50", "q90"].into_iter().enumerate() {
                        assert_close(answer.quantiles()[0][index], &expected[name], &format!("{model} {name}"));
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn an_unknown_cell_family_gives_no_estimate() {
    let request = PredictRequest { cell_family: Some("lfp_graphite_26650".into()), ..Default::default() };
    let answer = predict(only(Target::RemainingUsefulLife, request)).await.expect("answered");
    let life = answer.remaining_useful_life.expect("an answer");
    assert_eq!(life.estimate, None);
    let info = life.info.expect("info");
    assert_eq!(info.status(), PredictionStatus::OutOfDistribution);
    assert_eq!(flagged(&info), [("cell_family", OutOfDistributionReason::NoVariant, "lfp_graphite_26650")]);
    assert!(info.out_of_distribution[0].trained_on.contains("nmc_lco_18650_2800mah"), "{info:?}");
}

/// What is left to send for a model when some fields are sent.
fn missing(model: &str, sent: &PredictRequest) -> Vec<String> {
    let all = golden::required(model);
    let given = [
        (sent.ambient_temperature_celsius.is_some(), "ambient_temperature_celsius"),
        (sent.c_rate.is_some(), "c_rate"),
    ];
    all.into_iter().filter(|name| !given.iter().any(|(given, field)| *given && field == name)).collect()
}

#[tokio::test]
async fn without_targets_what_is_missing_is_listed() {
    let request = PredictRequest { ambient_temperature_celsius: Some(24.0), c_rate: Some(1.0), ..Default::default() };
    let answer = predict(request.clone()).await.expect("answered");
    assert!(answer.temperature.is_some(), "{answer:?}");
    let mut expected = Vec::new();
    for (model, target, answered) in [
        ("battery-soh", Target::StateOfHealth, answer.state_of_health.is_some()),
        ("battery-rul", Target::RemainingUsefulLife, answer.remaining_useful_life.is_some()),
        ("battery-failure", Target::Failure, answer.failure.is_some()),
        ("battery-cycle-life", Target::CycleLife, answer.cycle_life.is_some()),
    ] {
        let missing = missing(model, &request);
        assert_eq!(answered, missing.is_empty(), "{model}");
        expected.extend((!answered).then_some((target, missing)));
    }
    let unanswered: Vec<_> = answer.unanswered.iter().map(|u| (u.target(), u.missing_fields.clone())).collect();
    assert_eq!(unanswered, expected);
    assert!(unanswered.len() >= 2, "{unanswered:?}");
}

#[tokio::test]
async fn a_target_asked_for_by_name_needs_its_fields() {
    let refused = predict(only(Target::CycleLife, PredictRequest::default())).await.expect_err("refused");
    assert_eq!((refused.code, refused.reason.as_str()), (Code::InvalidArgument, "MISSING_FIELD"));
    let description = "is missing, expected a value: the model requires it";
    let required = golden::required("battery-cycle-life").into_iter();
    assert_eq!(refused.fields, required.map(|field| (field, description.to_owned())).collect::<Vec<_>>());
    let request = PredictRequest { targets: vec![99], ..Default::default() };
    let refused = predict(request).await.expect_err("refused");
    refused.is_field("UNKNOWN_TARGET", "targets", "holds 99, expected one of the targets 1 to 5");
}

#[tokio::test]
async fn a_request_that_suffices_for_nothing_says_what_each_target_takes() {
    let refused = predict(PredictRequest::default()).await.expect_err("refused");
    assert_eq!((refused.code, refused.reason.as_str()), (Code::InvalidArgument, "MISSING_FIELD"));
    for (model, target) in [
        ("battery-soh", Target::StateOfHealth),
        ("battery-rul", Target::RemainingUsefulLife),
        ("battery-temperature", Target::Temperature),
        ("battery-failure", Target::Failure),
        ("battery-cycle-life", Target::CycleLife),
    ] {
        for field in golden::required(model) {
            // One violation a field, whichever targets want it.
            let told: Vec<_> = refused.fields.iter().filter(|(name, _)| *name == field).collect();
            assert_eq!(told.len(), 1, "{field} in {refused:?}");
            assert!(told[0].1.contains(target.as_str_name()), "{told:?}");
        }
    }
}

#[tokio::test]
async fn a_wrong_field_is_refused_even_when_no_target_uses_it() {
    let [request, _] = golden::full_and_least("battery-soh");
    let request = golden::request("ev.battery.v1.PredictRequest", &request);
    let request = PredictRequest { rated_capacity_ah: Some(-1.0), ..request };
    let refused = predict(request).await.expect_err("refused");
    refused.is_field("OUT_OF_RANGE", "rated_capacity_ah", "is -1, expected 0.1 to 1000 Ah");
}

#[tokio::test]
async fn each_target_has_its_own_model_version() {
    let chosen = |version| TargetModel {
        target: Target::StateOfHealth.into(),
        model_selector: Some(ModelSelector {
            name: String::new(),
            version_choice: Some(model_selector::VersionChoice::Version(version)),
        }),
    };
    let [request, _] = golden::full_and_least("battery-soh");
    let request: PredictRequest = golden::request("ev.battery.v1.PredictRequest", &request);
    let with = |version| {
        only(Target::StateOfHealth, PredictRequest { target_models: vec![chosen(version)], ..request.clone() })
    };
    let answer = predict(with(1)).await.expect("answered");
    assert_eq!(answer.infos()[0].model.as_ref().map(|model| model.version), Some(1));
    let refused = predict(with(7)).await.expect_err("refused");
    refused.is(Code::NotFound, "UNKNOWN_VERSION", "model `battery-soh` has no version 7; it has: 1");
}
