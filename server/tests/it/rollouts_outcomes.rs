//! Rollouts judged by what happened: outcomes come in through the real service, and guards take a version back.

use std::{collections::BTreeSet, time::Duration};

use ev_client::Client;
use ev_proto::ev::{
    outcomes::v1::{Outcome, ReportRequest, ReportStatus, outcome::Actual},
    range::v1::{PredictRequest, PredictResponse},
    registry::v1::{Rollout, RolloutGuard, RolloutPlan, RolloutState},
};

use crate::{
    rollouts::{is_over, plan, registered, step, times, until},
    support::{assert_eventually, server::TestServer, zoo::Model},
};

/// Everything is logged.
const ALL: [(&str, &str); 1] = [("predictions.log.share", "1")];
/// How much of the interval is left in the version that is too sure of itself.
const NARROW: f64 = 0.2;
/// How far the version is off whose errors are larger.
const OFF: f64 = 1.08;

/// The range model with intervals that are a fifth as wide, in its golden answers as well.
fn narrow() -> Model {
    let mut model = times(1.0);
    model.set("description", "Trained anew: surer.");
    let tiers = model.table("calibration").get_mut("tiers").and_then(toml::Value::as_array_mut).expect("tiers");
    for tier in tiers {
        let z = tier.get_mut("z").and_then(toml::Value::as_array_mut).expect("z");
        let of = |value: &toml::Value| value.as_float().expect("a number");
        let (low, middle, high) = (of(&z[0]), of(&z[1]), of(&z[2]));
        z[0] = (middle + NARROW * (low - middle)).into();
        z[2] = (middle + NARROW * (high - middle)).into();
    }
    model.edit_golden(|golden| {
        for case in golden["cases"].as_array_mut().expect("cases") {
            let expected = case["expected"].as_object_mut().expect("quantiles");
            let middle = expected["q50"].as_f64().expect("a number");
            for name in ["q10", "q90"] {
                // Quantiles are powers of e, and the calibration is linear in the exponent.
                let ratio = expected[name].as_f64().expect("a number") / middle;
                expected[name] = (middle * ratio.powf(NARROW)).into();
            }
        }
    });
    model
}

/// One step in which half of the callers have the candidate for as long as it takes.
fn halves() -> RolloutPlan {
    RolloutPlan { shadow: None, steps: vec![step(50.0, 600_000, 0)], cohort_by: "drivetrain".to_owned(), ..plan() }
}

async fn ask(client: &Client, number: u32) -> PredictResponse {
    let request = PredictRequest {
        make: "Tesla".to_owned(),
        model: "Model 3".to_owned(),
        drivetrain: Some("AWD".to_owned()),
        battery_capacity_kwh: Some(40.0 + f32::from(u8::try_from(number % 60).expect("small"))),
        ..PredictRequest::default()
    };
    client.range().predict(request).await.expect("answered")
}

fn version(answer: &PredictResponse) -> u32 {
    answer.info.as_ref().and_then(|info| info.model.as_ref()).expect("a model version").version
}

/// The versions that answer twenty callers.
async fn served(client: &Client) -> BTreeSet<u32> {
    let mut versions = BTreeSet::new();
    for number in 0..20 {
        versions.insert(version(&ask(client, number).await));
    }
    versions
}

/// Asks so often, and reports of each answer what `actual` makes of it and of a number between -1 and 1. Gives how many
/// answers were the candidate's.
async fn reported(client: &Client, asked: u32, actual: impl Fn(&PredictResponse, f64) -> f64) -> u64 {
    let (mut outcomes, mut of_candidate) = (Vec::new(), 0);
    for number in 0..asked {
        let answer = ask(client, number).await;
        of_candidate += u64::from(version(&answer) == 2);
        // Evenly, and in no order that the split could have.
        let place = f64::from(number * 37 % 101) / 50.0 - 1.0;
        let prediction_id = answer.info.as_ref().expect("info").prediction_id.clone();
        let actual = Some(Actual::Number(actual(&answer, place)));
        outcomes.push(Outcome { prediction_id, actual, observed_time: None, supersede: false });
    }
    let request = ReportRequest { outcomes, source: "trip computer".to_owned() };
    let results = client.outcomes().report(request).await.expect("reported").results;
    assert!(results.iter().all(|result| result.status() == ReportStatus::Stored), "{results:?}");
    of_candidate
}

fn guard<'a>(rollout: &'a Rollout, name: &str, cohort: &str) -> Option<&'a RolloutGuard> {
    rollout.guards.iter().find(|guard| guard.name == name && guard.cohort == cohort)
}

/// Somewhere in the interval of production, most of the time.
fn in_productions_interval(answer: &PredictResponse, place: f64) -> f64 {
    let middle = f64::from(answer.range_q50_km);
    let end = if place < 0.0 { answer.range_q10_km } else { answer.range_q90_km };
    let width = (f64::from(end) / middle).ln().abs() / if version(answer) == 2 { NARROW } else { 1.0 };
    middle * (1.1 * place * width).exp()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_is_too_sure_is_taken_back_by_what_happened() {
    let server = TestServer::start(&ALL).await;
    assert_eq!(registered(&server, narrow()).await.version, 2);
    let client = server.client().await;
    client.rollouts().start("ev-range", 2, Some(halves())).await.expect("started");
    until(&client, "in its step", |rollout| rollout.percent > 0.0).await;
    reported(&client, 400, in_productions_interval).await;
    let over = until(&client, "over", is_over).await;
    assert_eq!(over.state(), RolloutState::RolledBack, "{over:#?}");
    assert!(over.reason.starts_with("guard coverage is 0."), "{}", over.reason);
    assert!(over.reason.ends_with("expected at least 0.65"), "{}", over.reason);
    assert!(guard(&over, "coverage", "AWD").is_some_and(|guard| guard.count >= 50), "{over:#?}");
    // The decision is stored first, and then routed by.
    tokio::time::timeout(Duration::from_secs(60), async { while served(&client).await != BTreeSet::from([1]) {} })
        .await
        .expect("the candidate goes on answering");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn larger_errors_are_seen_over_a_restart_and_take_a_version_back() {
    let server = TestServer::start(&ALL).await;
    assert_eq!(registered(&server, times(OFF)).await.version, 2);
    let client = server.client().await;
    let mut plan = halves();
    let guards = plan.guards.as_mut().expect("guards");
    // More than is reported before the restart; what can be seen without outcomes is another test's matter.
    guards.minimum = Some(150);
    guards.off.extend(["shift_max", "disagreement_relative_max"].map(str::to_owned));
    client.rollouts().start("ev-range", 2, Some(plan)).await.expect("started");
    until(&client, "in its step", |rollout| rollout.percent > 0.0).await;
    // A bit off what production says, whoever answered.
    let actual = |answer: &PredictResponse, place: f64| {
        let off = if version(answer) == 2 { OFF } else { 1.0 };
        f64::from(answer.range_q50_km) / off * (1.0 + 0.02 * place)
    };
    let counted = |rollout: &Rollout| guard(rollout, "coverage", "").map_or(0, |guard| guard.count);
    let before = reported(&client, 100, actual).await;
    until(&client, "told", |rollout| counted(rollout) == before).await;

    let server = TestServer::start_on(server.stop().await, &ALL).await;
    let client = server.client().await;
    assert_eventually!(version(&ask(&client, 0).await) == 2, "the candidate does not answer after the restart");
    // What the new process tells takes the place of what the old one told, and adds nothing to it.
    let after = reported(&client, 40, actual).await;
    until(&client, "told once", |rollout| counted(rollout) == before + after).await;

    reported(&client, 500, actual).await;
    let over = until(&client, "over", is_over).await;
    assert_eq!(over.state(), RolloutState::RolledBack, "{over:#?}");
    assert!(over.reason.starts_with("guard error_ratio is "), "{}", over.reason);
    assert!(over.reason.ends_with("expected at most 1.2"), "{}", over.reason);
    server.stop().await;
}
