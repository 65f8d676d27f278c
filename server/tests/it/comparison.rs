//! What two versions answer, side by side.

use ev_client::{Client, Code};
use ev_proto::{
    ev::registry::v1::{CompareVersionsResponse, ComparedKind},
    inference::{ModelStatisticsRequest, grpc_inference_service_client::GrpcInferenceServiceClient},
};

use super::rollouts::times;
use crate::support::{
    refusal::Refusal,
    server::TestServer,
    zoo::{Model, Registry},
};

async fn compared(client: &Client, left: &str, right: &str, max: u32) -> Result<CompareVersionsResponse, Refusal> {
    let of = |text: &str| text.parse().expect("a reference");
    client.registry().compare_versions(of(left), of(right), max).await.map_err(Refusal::from)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn golden_requests_are_answered_by_both_versions() {
    const FACTOR: f64 = 1.004;
    let server = TestServer::start(&[]).await;
    let registry = Registry::new(server.endpoint().channel().await);
    times(FACTOR).upload(&registry).await.expect("registered");
    let client = server.client().await;

    let found = compared(&client, "ev-range:1", "ev-range:2", 0).await.expect("compared");
    assert_eq!((found.kind(), found.unit.as_str(), found.left_out), (ComparedKind::Quantiles, "km", 0));
    let [left, right] = [found.left.clone(), found.right.clone()].map(|version| version.expect("a version"));
    assert_eq!((left.version, right.version), (1, 2));
    assert!(found.compared > 5, "{found:?}");
    let mut sizes = Vec::new();
    for row in &found.rows {
        let [left, right] = [&row.left, &row.right].map(|answer| answer.clone().expect("an answer"));
        let Some(difference) = row.difference else {
            assert!(left.values.is_empty() || right.values.is_empty(), "{row:?}");
            continue;
        };
        assert!((difference - (right.values[1] - left.values[1])).abs() < 1e-3, "{row:?}");
        // What is clamped to the plausible range differs less.
        assert!(difference.abs() <= left.values[1] * (FACTOR - 1.0) + 0.01, "{row:?}");
        assert!(row.request_json.starts_with('{') && (row.left_number.is_some() || row.right_number.is_some()));
        sizes.push(difference.abs());
    }
    sizes.sort_by(f64::total_cmp);
    assert_eq!(found.difference_max, sizes.last().copied());
    let median = found.difference_median.expect("a median");
    assert!(median >= sizes[0] && median > 0.0 && Some(median) <= found.difference_max);

    // The requests of both are the same, and a version does not differ from itself.
    let same = compared(&client, "ev-range", "ev-range:1", 3).await.expect("compared");
    assert_eq!((same.rows.len(), same.difference_max), (3, Some(0.0)));
    assert!(same.left_out > 0 && same.rows.iter().all(|row| row.left_number == row.right_number));

    let classes = compared(&client, "thermal-risk", "thermal-risk:1", 0).await.expect("compared");
    assert_eq!((classes.kind(), classes.classes.len(), classes.class_changes), (ComparedKind::Classes, 5, 0));
    let likeliest = |row: &ev_proto::ev::registry::v1::ComparedRow| {
        row.left.as_ref().is_some_and(|left| classes.classes.contains(&left.likeliest_class))
    };
    assert!(classes.compared > 0 && classes.rows.iter().filter(|row| row.difference.is_some()).all(likeliest));

    let refused = compared(&client, "ev-range", "charging-utilization", 0).await.expect_err("refused");
    refused.says(Code::FailedPrecondition, "NOT_COMPARABLE", &["the unit of the first is km"]);
    // Nothing that serves has noticed: what was loaded for the questions was counted nowhere.
    let mut inference = GrpcInferenceServiceClient::new(server.endpoint().channel().await);
    let request = ModelStatisticsRequest { name: "ev-range".into(), version: String::new() };
    let statistics = inference.model_statistics(request).await.expect("answered").into_inner().model_stats;
    assert!(statistics.iter().all(|model| model.inference_count == 0), "{statistics:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inputs_that_a_version_does_not_have_are_named_row_by_row() {
    let server = TestServer::start(&[]).await;
    let registry = Registry::new(server.endpoint().channel().await);
    let mut other = Model::named_as("battery-soh", "other-health");
    other.set("task", "generic");
    other.upload(&registry).await.expect("registered");
    let client = server.client().await;
    let found = compared(&client, "battery-soh", "other-health:1", 5).await.expect("compared");
    assert_eq!(found.difference_max, Some(0.0));
    let refused = compared(&client, "battery-soh", "vehicle-classifier", 5).await.expect_err("refused");
    refused.says(Code::FailedPrecondition, "NOT_COMPARABLE", &["the output of the first is quantiles"]);
    server.stop().await;
}
