//! One row, one answer: typed or raw contents, alone or in a batch, here or at the typed services.

use std::collections::BTreeMap;

use ev_proto::ev::{
    range::v1::{PredictRequest, range_prediction_client::RangePredictionClient},
    thermal::v1::{AssessRequest, RiskClass, thermal_risk_client::ThermalRiskClient},
};

use super::support::{
    Case, MODELS, TestServer, Values, floats, golden, numbers, raw, request, rows, texts, values, wanting,
};

/// Golden requests that give the same inputs, which can stand in one request.
fn groups(cases: &[Case]) -> Vec<Vec<&Case>> {
    let mut groups: BTreeMap<Vec<&String>, Vec<&Case>> = BTreeMap::new();
    for case in cases {
        groups.entry(case.inputs.keys().collect()).or_default().push(case);
    }
    groups.into_values().collect()
}

fn concatenated(parts: Vec<BTreeMap<String, Values>>) -> BTreeMap<String, Values> {
    let mut whole: BTreeMap<String, Values> = BTreeMap::new();
    for (name, part) in parts.into_iter().flatten() {
        match (whole.get_mut(&name), part) {
            (Some(Values::Floats(all)), Values::Floats(part)) => all.extend(part),
            (Some(Values::Texts(all)), Values::Texts(part)) => all.extend(part),
            (Some(Values::Flags(all)), Values::Flags(part)) => all.extend(part),
            (None, part) => drop(whole.insert(name, part)),
            (Some(all), part) => panic!("{name}: {all:?} and {part:?}"),
        }
    }
    whole
}

#[tokio::test(flavor = "multi_thread")]
async fn golden_requests_are_answered_bit_for_bit_in_every_form() {
    let server = TestServer::start().await;
    let mut client = server.client();
    for model in MODELS {
        let cases = golden(model);
        for (index, case) in cases.iter().enumerate() {
            let typed = rows(model, &[&case.inputs]);
            let by_fields = client.model_infer(typed.clone()).await.expect(model).into_inner();
            let by_bytes = client.model_infer(raw(typed.clone())).await.expect(model).into_inner();
            assert!(by_fields.raw_output_contents.is_empty() && by_fields.outputs.iter().all(|o| o.contents.is_some()));
            assert!(by_bytes.raw_output_contents.len() == by_bytes.outputs.len());
            assert!(by_bytes.outputs.iter().all(|output| output.contents.is_none()));
            assert_eq!(values(&by_fields), values(&by_bytes), "{model} case {index}");
            let found: Vec<u32> = floats(&by_fields, "raw").iter().map(|raw| raw.to_bits()).collect();
            if case.expected.is_none() {
                assert!(floats(&by_fields, "raw").iter().all(|raw| raw.is_nan()), "{model} case {index}");
                assert!(floats(&by_fields, "rul_q50")[0].is_nan());
                assert_eq!(values(&by_fields)["out_of_distribution"], Values::Flags(vec![true]));
            } else {
                let expected: Vec<u32> = case.prediction.iter().flatten().map(|raw| raw.to_bits()).collect();
                assert_eq!(found, expected, "{model} case {index}");
            }
        }
        for group in groups(&cases) {
            // Many times over, so that a batch takes several slices.
            let many: Vec<&Case> = group.iter().copied().cycle().take(group.len() * 40).collect();
            let inputs: Vec<_> = many.iter().map(|case| &case.inputs).collect();
            let batch = client.model_infer(raw(rows(model, &inputs))).await.expect(model).into_inner();
            let mut singles = Vec::new();
            for case in &group {
                let answer = client.model_infer(rows(model, &[&case.inputs])).await.expect(model).into_inner();
                singles.push(values(&answer));
            }
            let singles = singles.into_iter().cycle().take(many.len()).collect();
            assert_eq!(values(&batch), concatenated(singles), "{model}");
            let count = i64::try_from(many.len()).expect("few");
            assert!(batch.outputs.iter().all(|output| output.shape[0] == count && output.shape.len() == 2));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_typed_services_give_the_same_answers() {
    let server = TestServer::start().await;
    let mut client = server.client();

    let row = PredictRequest {
        make: "Tesla".into(),
        model: "Model 3 Long Range".into(),
        model_year: Some(2021),
        battery_capacity_kwh: Some(75.0),
        ..PredictRequest::default()
    };
    let typed = RangePredictionClient::new(server.channel.clone()).predict(row).await.expect("answered").into_inner();
    let inputs = vec![
        numbers("battery_capacity_kwh", &[75.0]),
        texts("model", &["Model 3 Long Range"]),
        // Not given, as far as a text can say it.
        texts("drivetrain", &[""]),
        numbers("model_year", &[2021.0]),
        texts("make", &["Tesla"]),
    ];
    let generic = client.model_infer(request("ev-range", inputs)).await.expect("answered").into_inner();
    for (name, expected) in
        [("range_q10", typed.range_q10_km), ("range_q50", typed.range_q50_km), ("range_q90", typed.range_q90_km)]
    {
        assert_eq!(floats(&generic, name)[0].to_bits(), expected.to_bits(), "{name}");
    }
    let info = typed.info.expect("an envelope");
    let model = info.model.expect("a version");
    assert_eq!(generic.model_version, model.version.to_string());
    assert!(generic.parameters.contains_key("prediction_id"));
    let digest = format!("{:?}", generic.parameters["digest"]);
    assert!(digest.contains(&model.digest), "{digest}");

    for (hottest, expected) in [(25.0, RiskClass::Normal), (400.0, RiskClass::Runaway)] {
        let row = AssessRequest { cell_temperature_max_celsius: Some(hottest), ..AssessRequest::default() };
        let typed = ThermalRiskClient::new(server.channel.clone()).assess(row).await.expect("answered").into_inner();
        let inputs = vec![numbers("cell_temperature_max_celsius", &[hottest])];
        let generic = client.model_infer(request("thermal-risk", inputs)).await.expect("answered").into_inner();
        let probabilities: Vec<u32> = typed.probabilities.iter().map(|class| class.probability.to_bits()).collect();
        assert_eq!(values(&generic)["risk_probabilities"], Values::Floats(probabilities));
        let name = typed.risk_class().as_str_name().trim_start_matches("RISK_CLASS_").to_lowercase();
        let Values::Texts(risk) = &values(&generic)["risk"] else { panic!("risk is a text") };
        assert_eq!(risk[0].to_lowercase(), name);
        assert_eq!(typed.risk_class(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_are_those_that_are_wanted_in_their_order() {
    let server = TestServer::start().await;
    let mut client = server.client();
    let row = || request("ev-range", vec![texts("make", &["Kia"]), texts("model", &["EV6"])]);
    let names = |response: &ev_proto::inference::ModelInferResponse| {
        response.outputs.iter().map(|output| output.name.clone()).collect::<Vec<_>>()
    };
    let all = client.model_infer(row()).await.expect("answered").into_inner();
    assert_eq!(names(&all), ["range_q10", "range_q50", "range_q90", "raw", "out_of_distribution"]);
    let mut wanted = wanting(row(), &["out_of_distribution", "range_q50"]);
    wanted.id = "fleet-7".into();
    let some = client.model_infer(raw(wanted)).await.expect("answered").into_inner();
    assert_eq!(names(&some), ["out_of_distribution", "range_q50"]);
    assert_eq!(values(&some)["range_q50"], values(&all)["range_q50"]);
    assert_eq!((some.id.as_str(), some.model_name.as_str(), some.model_version.as_str()), ("fleet-7", "ev-range", "1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn shapes_may_leave_the_last_dimension_out_and_versions_may_be_aliases() {
    let server = TestServer::start().await;
    let mut client = server.client();
    let mut flat = request("thermal-risk", vec![numbers("cell_temperature_max_celsius", &[10.0, 90.0])]);
    let column = client.model_infer(flat.clone()).await.expect("answered").into_inner();
    flat.inputs[0].shape = vec![2];
    for version in ["", "1", "production"] {
        flat.model_version = version.into();
        let answer = client.model_infer(flat.clone()).await.expect("answered").into_inner();
        assert_eq!(values(&answer), values(&column));
        assert_eq!(answer.outputs[0].shape, [2, 1]);
    }
}
