//! Range and utilization, and what all services promise of an answer.

use std::collections::BTreeMap;

use ev_proto::ev::{
    battery, charging,
    common::v1::{OutOfDistributionReason, PredictionInfo},
    range, thermal,
};
use serde_json::Value as Json;

use crate::support::{
    golden,
    server::shared,
    services::{
        Answer as _, assert_alike, battery_three_ways, charging_three_ways, range_three_ways, thermal_three_ways,
    },
};

/// Each flagged field with its reason and value.
pub(crate) fn flagged(info: &PredictionInfo) -> Vec<(&str, OutOfDistributionReason, &str)> {
    info.out_of_distribution.iter().map(|field| (field.field.as_str(), field.reason(), field.value.as_str())).collect()
}

/// Asserts that a golden request's envelope is the golden one.
#[track_caller]
pub(crate) fn assert_envelope(info: &PredictionInfo, model: &str, case: &golden::Case) {
    assert_eq!(info.model.as_ref().map(|model| (model.name.as_str(), model.version)), Some((model, 1)));
    golden::assert_close(info.feature_coverage, &Json::from(case.coverage), "coverage");
    let mut found: Vec<&str> = info.out_of_distribution.iter().map(|field| field.field.as_str()).collect();
    let mut expected: Vec<&str> = case.out_of_distribution.iter().map(String::as_str).collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[track_caller]
fn assert_quantiles(found: &[[f32; 3]], expected: Option<&BTreeMap<String, Json>>) {
    let expected = expected.expect("an estimate");
    for (index, name) in ["q10", "q50", "q90"].into_iter().enumerate() {
        golden::assert_close(found[0][index], &expected[name], name);
    }
}

#[tokio::test]
async fn range_answers_alike_in_all_ways() {
    let cases = golden::cases("ev-range");
    let mut rows: Vec<range::v1::PredictRequest> =
        cases.iter().map(|case| golden::request("ev.range.v1.PredictRequest", &case.inputs)).collect();
    rows.push(range::v1::PredictRequest { make: "Tesla".into(), ..Default::default() });
    let ways = range_three_ways(&shared().client().await, &rows).await;
    assert_alike(&ways);
    for (case, answer) in cases.iter().zip(&ways[0]) {
        let answer = answer.as_ref().expect("an answer");
        assert_quantiles(&answer.quantiles(), case.expected.as_ref());
        assert_envelope(answer.info.as_ref().expect("info"), "ev-range", case);
    }
}

#[tokio::test]
async fn utilization_answers_alike_in_all_ways() {
    let cases = golden::cases("charging-utilization");
    let mut rows: Vec<charging::v1::PredictRequest> =
        cases.iter().map(|case| golden::request("ev.charging.v1.PredictRequest", &case.inputs)).collect();
    rows.push(charging::v1::PredictRequest { station_power_kw: Some(0.0), ..rows[0].clone() });
    let ways = charging_three_ways(&shared().client().await, &rows).await;
    assert_alike(&ways);
    for (case, answer) in cases.iter().zip(&ways[0]) {
        let answer = answer.as_ref().expect("an answer");
        assert_quantiles(&answer.quantiles(), case.expected.as_ref());
        assert_envelope(answer.info.as_ref().expect("info"), "charging-utilization", case);
    }
}

#[tokio::test]
async fn battery_answers_alike_in_all_ways() {
    let models = ["battery-soh", "battery-rul", "battery-temperature", "battery-failure", "battery-cycle-life"];
    let mut rows: Vec<battery::v1::PredictRequest> = models
        .into_iter()
        .flat_map(golden::cases)
        .map(|case| golden::request("ev.battery.v1.PredictRequest", &case.inputs))
        .collect();
    rows.push(battery::v1::PredictRequest::default());
    rows.push(battery::v1::PredictRequest { cell_voltage_v: Some(7.0), ..rows[0].clone() });
    let ways = battery_three_ways(&shared().client().await, &rows).await;
    assert_alike(&ways);
    assert_eq!(ways[0].iter().filter(|answer| answer.is_err()).count(), 2);
}

#[tokio::test]
async fn thermal_answers_alike_in_all_ways() {
    let cases = golden::cases("thermal-risk");
    let mut rows: Vec<thermal::v1::AssessRequest> =
        cases.iter().map(|case| golden::request("ev.thermal.v1.AssessRequest", &case.inputs)).collect();
    rows.push(thermal::v1::AssessRequest::default());
    assert_alike(&thermal_three_ways(&shared().client().await, &rows).await);
}

#[tokio::test]
async fn knowing_less_widens_the_interval() {
    let client = shared().client().await;
    let [full, least] = golden::full_and_least("ev-range");
    let request = |inputs| golden::request::<range::v1::PredictRequest>("ev.range.v1.PredictRequest", inputs);
    let (full, least) = (request(&full), request(&least));
    let width = |[q10, _, q90]: [f32; 3]| q90 - q10;
    let full = client.range().predict(full).await.expect("answered");
    let least = client.range().predict(least).await.expect("answered");
    assert!(width(least.quantiles()[0]) > width(full.quantiles()[0]), "{least:?} {full:?}");
    let coverage = |answer: &range::v1::PredictResponse| answer.info.as_ref().map(|info| info.feature_coverage);
    assert!(coverage(&least) < coverage(&full));

    let battery = |fields: battery::v1::PredictRequest| async {
        let answer = client.battery().predict(fields).await.expect("answered");
        width(answer.quantiles()[0])
    };
    let [full, least] = golden::full_and_least("battery-soh").map(|inputs| battery::v1::PredictRequest {
        targets: vec![battery::v1::Target::StateOfHealth.into()],
        ..golden::request("ev.battery.v1.PredictRequest", &inputs)
    });
    assert!(battery(least).await > battery(full).await);
}

#[tokio::test]
async fn an_unseen_make_is_flagged() {
    let request = range::v1::PredictRequest {
        make: "Nonesuch".into(),
        model: "Model 3".into(),
        battery_capacity_kwh: Some(500.0),
        ..Default::default()
    };
    let answer = shared().client().await.range().predict(request).await.expect("answered");
    let info = answer.info.expect("info");
    let expected = [
        ("make", OutOfDistributionReason::UnknownCategory, "Nonesuch"),
        ("battery_capacity_kwh", OutOfDistributionReason::OutsideTrainedRange, "500"),
    ];
    let mut found = flagged(&info);
    found.sort_by_key(|(field, ..)| *field != "make");
    assert_eq!(found, expected);
    let trained_on = |name: &str| {
        let field = info.out_of_distribution.iter().find(|field| field.field == name);
        field.map(|field| field.trained_on.clone()).expect("flagged")
    };
    assert!(trained_on("make").contains("Abarth"), "{}", trained_on("make"));
    assert!(trained_on("battery_capacity_kwh").ends_with("kWh"), "{}", trained_on("battery_capacity_kwh"));
}

#[tokio::test]
async fn the_station_in_berlin_is_answered_and_flagged() {
    let request = charging::v1::PredictRequest {
        region: Some("Berlin".into()),
        city_type: Some("urban".into()),
        charger_type: Some("DC".into()),
        station_power_kw: Some(150.0),
        connector_count: Some(4),
        ..Default::default()
    };
    let answer = shared().client().await.utilization().predict(request).await.expect("answered");
    let [q10, q50, q90] = answer.quantiles()[0];
    assert!(0.0 <= q10 && q10 < q50 && q50 < q90 && q90 < 500.0, "{answer:?}");
    let info = answer.info.expect("info");
    let mut found = flagged(&info);
    found.sort_by_key(|(field, ..)| *field);
    let expected = [
        ("connector_count", OutOfDistributionReason::OutsideTrainedRange, "4"),
        ("region", OutOfDistributionReason::UnknownCategory, "Berlin"),
        ("station_power_kw", OutOfDistributionReason::OutsideTrainedRange, "150"),
    ];
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_tesla_model_3_of_2021_is_in_distribution() {
    let request = range::v1::PredictRequest {
        make: "Tesla".into(),
        model: "Model 3".into(),
        model_year: Some(2021),
        ..Default::default()
    };
    let answer = shared().client().await.range().predict(request).await.expect("answered");
    assert!((200.0..900.0).contains(&answer.range_q50_km), "{answer:?}");
    assert_eq!(flagged(&answer.info.expect("info")), []);
}
