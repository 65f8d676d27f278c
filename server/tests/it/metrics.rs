//! `/metrics`: names, documentation, and counts that count.

use std::{collections::BTreeMap, path::Path};

use ev_proto::ev::range::v1::PredictRequest;
use ev_server::METRIC_NAMES;

use crate::support::{
    server::{TestServer, shared},
    zoo::bundled,
};

#[tokio::test]
async fn names_are_those_of_the_code_and_of_the_documentation() {
    let (status, text) = shared().get("/metrics").await;
    assert_eq!(status, 200);
    assert!(text.ends_with("# EOF\n"), "OpenMetrics ends so");
    let types: BTreeMap<&str, &str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let mut expected: Vec<&str> = METRIC_NAMES.to_vec();
    expected.sort_unstable();
    assert_eq!(types.keys().copied().collect::<Vec<_>>(), expected);

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let documentation = fs_err::read_to_string(path).expect("docs/metrics.md");
    // Rows of the table: | `name` | type | labels | meaning |
    let documented: BTreeMap<&str, &str> = documentation
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split(" | ");
            let name = cells.next()?.strip_suffix('`').filter(|name| name.starts_with("ev_"))?;
            Some((name, cells.next()?))
        })
        .collect();
    assert_eq!(documented, types);
}

#[tokio::test]
async fn every_name_has_a_meaning_and_only_closed_labels() {
    let (_, text) = shared().get("/metrics").await;
    for name in METRIC_NAMES {
        assert!(text.contains(&format!("# HELP {name} ")), "{name} has no help");
    }
    let allowed = ["model", "version", "backend", "outcome", "reason", "state", "kind", "le"];
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((_, labels)) = line.split_once('{') else { continue };
        let labels = labels.split_once('}').expect("closed").0;
        for label in labels.split(',') {
            let name = label.split('=').next().expect("a name");
            assert!(allowed.contains(&name), "{line}");
        }
    }
}

#[tokio::test]
async fn counters_count() {
    let server = TestServer::start(&[]).await;
    let endpoint = server.endpoint();
    let labelled = async |name: &str, first: &str, last: &str| {
        let labels = "model=\"ev-range\",version=\"1\",backend=\"forest\"";
        endpoint.metric(&format!("{name}{{{first}{labels}{last}}}")).await
    };
    let count = async |name: &str| labelled(name, "", "").await;
    let requests =
        async |outcome: &str| labelled("ev_pipeline_requests_total", "", &format!(",outcome=\"{outcome}\"")).await;
    for count in [requests("ok").await, requests("error").await, count("ev_pipeline_rows_total").await] {
        assert_eq!(count, 0.0, "warming up is not counted");
    }
    let tesla = PredictRequest { make: "Tesla".into(), model: "Model 3".into(), ..Default::default() };
    let client = server.client().await;
    for _ in 0..3 {
        client.range().predict(tesla.clone()).await.expect("answered");
    }
    client.range().predict(PredictRequest::default()).await.expect_err("refused");
    let mut rows = vec![tesla; 10];
    rows[4].make = String::new();
    client.range().predict_batch(rows).await.expect("answered");
    assert_eq!(requests("ok").await, 4.0);
    assert_eq!(requests("error").await, 1.0);
    assert_eq!(count("ev_pipeline_rows_total").await, 12.0);
    assert_eq!(count("ev_pipeline_request_duration_seconds_count").await, 3.0);
    assert_eq!(count("ev_pipeline_inference_duration_seconds_count").await, 3.0);
    assert_eq!(labelled("ev_pipeline_request_duration_seconds_bucket", "le=\"+Inf\",", "").await, 3.0);
    assert!(count("ev_pipeline_request_duration_seconds_sum").await > 0.0);
    assert!(count("ev_pipeline_executions_total").await >= 4.0);
    assert_eq!(endpoint.connections().await, 1.0);
    let models = u32::try_from(bundled().len()).expect("few");
    assert_eq!(endpoint.metric("ev_deploy_versions{state=\"ready\"}").await, f64::from(models));
    server.stop().await;
}
