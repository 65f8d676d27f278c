//! Callers that stop waiting, politely or not.

use std::time::Duration;

use ev_client::Code;
use ev_proto::ev::range::v1::{
    PredictBatchRequest, PredictRequest, PredictStreamRequest, range_prediction_client::RangePredictionClient,
};
use prost::Message as _;

use crate::support::{
    assert_eventually,
    raw::{Bare, call},
    refusal::Refusal,
    server::{TestServer, shared},
};

const PREDICT: &str = "/ev.range.v1.RangePrediction/Predict";
const PASSED: &str = "the deadline passed before the answer was ready";

fn tesla() -> PredictRequest {
    PredictRequest { make: "Tesla".into(), model: "Model 3".into(), ..Default::default() }
}

#[tokio::test]
async fn a_deadline_that_has_passed_is_not_worked_for() {
    // A channel would keep such a deadline itself, and the server would never be asked.
    let connection = Bare::connect(shared().grpc).await;
    let batch = PredictBatchRequest { rows: vec![tesla()] }.encode_to_vec();
    for timeout in ["0n", "0S", "1n"] {
        let deadline = [("grpc-timeout", timeout)];
        for (path, message) in [
            (PREDICT, tesla().encode_to_vec()),
            ("/ev.range.v1.RangePrediction/PredictBatch", batch.clone()),
            ("/ev.battery.v1.BatteryHealth/PredictBatch", batch.clone()),
        ] {
            let refused = connection.call(path, message, &deadline).await.map_err(Refusal::from);
            refused.expect_err(timeout).is(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", PASSED);
        }
    }
}

#[tokio::test]
async fn a_deadline_far_away_is_no_deadline() {
    let channel = shared().channel().await;
    for timeout in ["99999999H", "10S", "60000m"] {
        let deadline = [("grpc-timeout", timeout)];
        call(&channel, PREDICT, tesla().encode_to_vec(), &deadline).await.expect(timeout);
    }
}

#[tokio::test]
async fn a_malformed_deadline_is_refused() {
    let connection = Bare::connect(shared().grpc).await;
    for timeout in ["", "n", "10", "1d", "-1S", "1.5S", "123456789S", "S1"] {
        let deadline = [("grpc-timeout", timeout)];
        let refused = connection.call(PREDICT, tesla().encode_to_vec(), &deadline).await.map_err(Refusal::from);
        let description = "is not a timeout, expected up to 8 digits and one of H, M, S, m, u, n";
        refused.expect_err(timeout).is_field("WRONG_KIND", "grpc-timeout", description);
    }
}

#[tokio::test]
async fn a_stream_ends_when_its_deadline_passes() {
    let connection = Bare::connect(shared().grpc).await;
    let path = "/ev.range.v1.RangePrediction/PredictStream";
    let refused = match connection.stream(path, tokio_stream::pending(), "200m").await {
        Ok(mut answers) => answers.message().await.expect_err("ended"),
        // On a busy machine it may have passed on arrival.
        Err(status) => status,
    };
    let refused = Refusal::from(refused);
    refused.is(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", PASSED);
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_a_batch_is_not_worked_for() {
    let server = TestServer::start(&[]).await;
    let endpoint = server.endpoint();
    let rows = "ev_pipeline_rows_total{model=\"ev-range\",version=\"1\",backend=\"forest\"}";
    {
        let mut client = RangePredictionClient::new(endpoint.channel().await);
        let request = PredictBatchRequest { rows: vec![tesla(); 8192] };
        let batch = tokio::spawn(async move { client.predict_batch(request).await });
        assert_eventually!(endpoint.metric(rows).await > 0.0, "the batch never began");
        batch.abort();
        let _ = batch.await;
    }
    assert_eventually!(endpoint.connections().await == 0.0, "the connection stays");
    // Nobody works on: the count stands still while others are answered.
    let before = endpoint.metric(rows).await;
    let client = server.client().await;
    for _ in 0..20 {
        client.range().predict(tesla()).await.expect("the server goes on");
    }
    assert_eq!(endpoint.metric(rows).await, before + 20.0);
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_a_stream_leaves_nothing_behind() {
    let server = TestServer::start(&[]).await;
    let endpoint = server.endpoint();
    for _ in 0..20 {
        let mut client = RangePredictionClient::new(endpoint.channel().await);
        let (sender, requests) = tokio::sync::mpsc::channel(4);
        sender.send(PredictStreamRequest { id: 7, request: Some(tesla()) }).await.expect("sent");
        let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
        let mut answers = client.predict_stream(requests).await.expect("begun").into_inner();
        assert_eq!(answers.message().await.expect("answered").map(|answer| answer.id), Some(7));
        // Gone, with the stream open and without a word.
    }
    assert_eventually!(endpoint.connections().await == 0.0, "connections stay");
    let client = server.client().await.with_deadline(Duration::from_secs(60));
    client.range().predict(tesla()).await.expect("the server goes on");
    server.stop().await;
}
