//! Counts are exactly what was asked.

use std::time::{SystemTime, UNIX_EPOCH};

use ev_proto::inference::{ModelInferRequest, ModelStatistics, ModelStatisticsRequest};

use super::support::{Client, TestServer, bundled, numbers, raw, request, texts};

async fn statistics(client: &mut Client, name: &str, version: &str) -> Vec<ModelStatistics> {
    let request = ModelStatisticsRequest { name: name.into(), version: version.into() };
    client.model_statistics(request).await.expect("answered").into_inner().model_stats
}

fn row() -> ModelInferRequest {
    request("ev-range", vec![texts("make", &["Tesla"]), texts("model", &["Model Y"])])
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_count_requests_rows_and_runs() {
    let server = TestServer::start().await;
    let mut client = server.client();
    let all = statistics(&mut client, "", "").await;
    assert_eq!(all.iter().map(|model| model.name.as_str()).collect::<Vec<_>>(), bundled());
    assert!(
        all.iter().all(|model| model.inference_count == 0 && model.last_inference == 0 && model.batch_stats.is_empty())
    );

    for index in 0..7 {
        let request = if index % 2 == 0 { row() } else { raw(row()) };
        client.model_infer(request).await.expect("answered");
    }
    let two = request("ev-range", vec![texts("make", &["Kia", "BMW"]), texts("model", &["EV6", "i3"])]);
    client.model_infer(two.clone()).await.expect("answered");
    // Refused by its names, by the value of one row, and by the value of a row among others.
    let unknown = request("ev-range", vec![texts("maker", &["Tesla"])]);
    let mut implausible = row();
    implausible.inputs.push(numbers("battery_capacity_kwh", &[-1.0]));
    let mut among = two;
    among.inputs.push(numbers("battery_capacity_kwh", &[50.0, -1.0]));
    for refused in [unknown, implausible, among] {
        client.model_infer(refused).await.expect_err("refused");
    }
    client.model_infer(request("ev-rnage", Vec::new())).await.expect_err("no such model, nothing to count");

    let [stats] = &statistics(&mut client, "ev-range", "").await[..] else { panic!("one version") };
    assert_eq!((stats.name.as_str(), stats.version.as_str()), ("ev-range", "1"));
    assert_eq!((stats.inference_count, stats.execution_count), (9, 8));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
    assert!(u128::from(stats.last_inference).abs_diff(now) < 60_000, "{}", stats.last_inference);
    let times = stats.inference_stats.as_ref().expect("times");
    let counts = [
        times.success,
        times.fail,
        times.queue,
        times.compute_input,
        times.compute_infer,
        times.compute_output,
        times.cache_hit,
        times.cache_miss,
    ]
    .map(|duration| duration.expect("a count").count);
    assert_eq!(counts, [8, 3, 8, 8, 8, 8, 0, 0]);
    let ns = |duration: Option<ev_proto::inference::StatisticDuration>| duration.expect("a time").ns;
    assert!(ns(times.compute_infer) > 0 && ns(times.fail) > 0 && ns(times.queue) == 0);
    assert!(ns(times.compute_input) + ns(times.compute_infer) + ns(times.compute_output) <= ns(times.success));
    let batches: Vec<_> =
        stats.batch_stats.iter().map(|b| (b.batch_size, b.compute_infer.expect("a count").count)).collect();
    assert_eq!(batches, [(1, 7), (2, 1)]);

    let others = statistics(&mut client, "", "").await;
    assert!(others.iter().all(|model| model.name == "ev-range" || model.inference_count == 0));
    assert_eq!(statistics(&mut client, "ev-range", "production").await.len(), 1);
    let unknown = ModelStatisticsRequest { name: "ev-rnage".into(), version: String::new() };
    assert_eq!(client.model_statistics(unknown).await.expect_err("unknown").code(), tonic::Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_without_a_variant_is_answered_without_a_run() {
    let server = TestServer::start().await;
    let mut client = server.client();
    let families = ["lfp_graphite_26650", "nmc_lco_18650_2800mah", "lfp_graphite_26650"];
    client.model_infer(request("battery-rul", vec![texts("cell_family", &families[..1])])).await.expect("answered");
    client.model_infer(request("battery-rul", vec![texts("cell_family", &families)])).await.expect("answered");
    let stats = &statistics(&mut client, "battery-rul", "1").await[0];
    assert_eq!((stats.inference_count, stats.execution_count), (4, 1));
}
