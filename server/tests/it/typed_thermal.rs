//! Thermal risk: classes, probabilities, and what the policy asks for.

use std::collections::BTreeMap;

use ev_proto::ev::thermal::v1::{AssessRequest, AssessResponse, RiskClass, Severity};

use crate::{
    support::{
        golden::{self, assert_close},
        server::shared,
    },
    typed::{assert_envelope, flagged},
};

async fn assess(request: AssessRequest) -> AssessResponse {
    shared().client().await.thermal().assess(request).await.expect("answered")
}

#[tokio::test]
async fn every_class_is_reached_and_asks_for_what_the_policy_says() {
    let policy = BTreeMap::from([
        (RiskClass::Normal as i32, (Severity::None, "none")),
        (RiskClass::Watch as i32, (Severity::Low, "keep_monitoring")),
        (RiskClass::Warning as i32, (Severity::Medium, "inspect_moisture_connections_imbalance")),
        (RiskClass::Alarm as i32, (Severity::High, "check_cooling_reduce_charge_rate")),
        (RiskClass::Runaway as i32, (Severity::Critical, "stop_charging_isolate_evacuate")),
    ]);
    let rising: Vec<i32> = policy.keys().copied().collect();
    let mut reached = BTreeMap::new();
    for case in golden::cases("thermal-risk") {
        let answer = assess(golden::request("ev.thermal.v1.AssessRequest", &case.inputs)).await;
        assert_envelope(answer.info.as_ref().expect("info"), "thermal-risk", &case);
        let classes: Vec<i32> = answer.probabilities.iter().map(|class| class.risk_class).collect();
        assert_eq!(classes, rising, "all five classes, in rising order");
        let sum: f64 = answer.probabilities.iter().map(|class| f64::from(class.probability)).sum();
        assert!((sum - 1.0).abs() < 1e-6, "the probabilities sum to {sum}");
        let expected = &case.expected.as_ref().expect("an estimate")["probabilities"];
        for class in &answer.probabilities {
            let name = class.risk_class().as_str_name().trim_start_matches("RISK_CLASS_");
            let expected =
                expected.as_object().expect("classes").iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            assert_close(class.probability, expected.expect("the class").1, name);
        }
        let likeliest = answer.probabilities.iter().max_by(|a, b| a.probability.total_cmp(&b.probability));
        assert_eq!(Some(answer.risk_class), likeliest.map(|class| class.risk_class));
        let (severity, action) = policy[&answer.risk_class];
        assert_eq!(answer.severity(), severity);
        let found = answer.action.expect("an action");
        assert_eq!(found.id, action);
        assert!(!found.text.is_empty() && !found.policy_version.is_empty(), "{found:?}");
        *reached.entry(answer.risk_class).or_insert(0) += 1;
    }
    assert_eq!(reached.keys().copied().collect::<Vec<_>>(), rising, "every class is reachable: {reached:?}");
}

#[tokio::test]
async fn a_pack_with_four_sensors_is_answered_and_says_how_much_it_knew() {
    let request = AssessRequest {
        cell_temperature_max_celsius: Some(35.0),
        pack_voltage_v: Some(360.0),
        pack_current_a: Some(20.0),
        humidity_percent: Some(50.0),
        ..Default::default()
    };
    let answer = assess(request).await;
    assert_eq!(answer.risk_class(), RiskClass::Normal);
    let info = answer.info.expect("info");
    assert_eq!(flagged(&info), []);
    assert!((info.feature_coverage - 4.0 / 17.0).abs() < 1e-6, "{}", info.feature_coverage);
}
