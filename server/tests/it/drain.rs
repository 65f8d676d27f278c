//! Ending: everything that was sent is answered, and nobody can hold the server up.

use std::time::Duration;

use ev_client::{Code, Error};
use ev_proto::ev::{
    range::v1::{
        PredictBatchRequest, PredictRequest, PredictStreamRequest, range_prediction_client::RangePredictionClient,
    },
    thermal::v1::{AssessRequest, AssessStreamRequest},
};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use tokio_stream::wrappers::ReceiverStream;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::support::{assert_eventually, process::Evserve, refusal::Refusal};

fn tesla() -> PredictRequest {
    PredictRequest { make: "Tesla".into(), model: "Model 3".into(), ..Default::default() }
}

/// Long enough that only a server that waits for something would use it up, and the test with it.
const PATIENT: (&str, &str) = ("shutdown.grace", "10m");

async fn start(overrides: &[(&str, &str)]) -> (Evserve, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    (Evserve::start(directory.path(), overrides).await, directory)
}

/// Ends well, and soon enough that nothing can have waited for the grace.
async fn ends(evserve: &mut Evserve) {
    let ended = tokio::time::timeout(Duration::from_secs(120), evserve.exited()).await;
    assert_eq!(ended.expect("it ends").code(), Some(0), "{:#?}", evserve.logs());
    let stopped = |line: &serde_json::Value| line["fields"]["message"] == "evserve stopped";
    assert_eventually!(evserve.logs().iter().any(stopped), "it did not say so");
}

#[tokio::test]
async fn an_idle_server_ends_at_once() {
    let (mut evserve, _directory) = start(&[PATIENT]).await;
    let idle = evserve.endpoint().client().await;
    idle.range().predict(tesla()).await.expect("answered");
    let _silent = TcpStream::connect(evserve.endpoint().grpc).await.expect("accepted");
    evserve.terminate().await;
    ends(&mut evserve).await;
    let gone = idle.range().predict(tesla()).await.expect_err("nobody is there");
    assert_eq!(gone.code(), Some(Code::Unavailable), "{gone:?}");
}

#[tokio::test]
async fn a_large_batch_in_flight_is_answered() {
    large_batch("inline").await;
    large_batch("queued").await;
}

async fn large_batch(execution: &str) {
    let (mut evserve, _directory) = start(&[PATIENT, ("batching.execution", execution)]).await;
    let endpoint = evserve.endpoint();
    let client = endpoint.client().await;
    let batch = tokio::spawn(async move { client.range().predict_batch(vec![tesla(); 8192]).await });
    let rows = "ev_pipeline_rows_total{model=\"ev-range\",version=\"1\",backend=\"forest\"}";
    assert_eventually!(endpoint.metric(rows).await > 0.0, "the batch never began");
    evserve.terminate().await;
    let answered = batch.await.expect("no panic").expect("answered");
    assert_eq!(answered.results.len(), 8192);
    ends(&mut evserve).await;
}

#[tokio::test]
async fn calls_of_a_busy_client_are_answered_or_refused_as_unavailable() {
    let (mut evserve, _directory) = start(&[PATIENT]).await;
    let client = evserve.endpoint().client().await;
    let (answered, seen) = tokio::sync::watch::channel(0u32);
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let (client, answered) = (client.clone(), answered.clone());
            tokio::spawn(async move {
                loop {
                    match client.range().predict(tesla()).await {
                        Ok(_) => answered.send_modify(|count| *count += 1),
                        Err(error) => return error,
                    }
                }
            })
        })
        .collect();
    let mut seen = seen;
    seen.wait_for(|count| *count > 100).await.expect("calls are answered");
    evserve.terminate().await;
    ends(&mut evserve).await;
    for caller in callers {
        let error = caller.await.expect("no panic");
        assert_eq!(error.code(), Some(Code::Unavailable), "a retrying client must be able to go on: {error:?}");
    }
}

#[tokio::test]
async fn streams_answer_what_they_had_and_say_why_they_end() {
    streams_end("inline").await;
    streams_end("queued").await;
}

async fn streams_end(execution: &str) {
    let (mut evserve, _directory) = start(&[PATIENT, ("batching.execution", execution)]).await;
    let client = evserve.endpoint().client().await;
    let (range_sender, requests) = tokio::sync::mpsc::channel(64);
    let mut ranges = client.range().predict_stream(ReceiverStream::new(requests)).await.expect("begun");
    let (thermal_sender, requests) = tokio::sync::mpsc::channel(64);
    let mut risks = client.thermal().assess_stream(ReceiverStream::new(requests)).await.expect("begun");
    // Sent without a pause, so that they leave in one frame: when the first is answered, all of them have arrived.
    for id in 0..50 {
        range_sender.try_send(PredictStreamRequest { id, request: Some(tesla()) }).expect("room");
        let request = AssessRequest { cell_temperature_max_celsius: Some(30.0), ..Default::default() };
        thermal_sender.try_send(AssessStreamRequest { id, request: Some(request) }).expect("room");
    }
    assert_eq!(ranges.next().await.expect("answered").map(|reply| reply.id), Some(0));
    assert_eq!(risks.next().await.expect("answered").map(|reply| reply.id), Some(0));
    evserve.terminate().await;
    for id in 1..50 {
        assert_eq!(ranges.next().await.expect("answered").map(|reply| reply.id), Some(id));
        assert_eq!(risks.next().await.expect("answered").map(|reply| reply.id), Some(id));
    }
    for ended in [ranges.next().await.err(), risks.next().await.err()] {
        let refused = Refusal::from(ended.expect("the stream ends"));
        refused.is(Code::Unavailable, "SHUTTING_DOWN", "the server is shutting down");
    }
    ends(&mut evserve).await;
}

#[tokio::test]
async fn a_stream_that_never_pauses_ends_too() {
    busy_stream_ends("inline").await;
    busy_stream_ends("queued").await;
}

async fn busy_stream_ends(execution: &str) {
    let (mut evserve, _directory) = start(&[PATIENT, ("batching.execution", execution)]).await;
    let client = evserve.endpoint().client().await;
    let requests = std::iter::repeat_with(|| PredictStreamRequest { id: 1, request: Some(tesla()) });
    let mut replies = client.range().predict_stream(tokio_stream::iter(requests)).await.expect("begun");
    replies.next().await.expect("answered");
    evserve.terminate().await;
    let refused = loop {
        match replies.next().await {
            Ok(reply) => assert!(reply.is_some(), "a stream that is cut off does not look complete"),
            Err(error) => break error,
        }
    };
    match refused {
        Error::Call(_) => Refusal::from(refused).says(Code::Unavailable, "SHUTTING_DOWN", &[]),
        other => assert_eq!(other.code(), Some(Code::Unavailable), "{other:?}"),
    }
    ends(&mut evserve).await;
}

#[tokio::test]
async fn watchers_of_health_are_told_and_let_go() {
    let (mut evserve, _directory) = start(&[PATIENT]).await;
    let mut client = HealthClient::new(evserve.endpoint().channel().await);
    let service = || HealthCheckRequest { service: "ev.range.v1.RangePrediction".into() };
    let mut watch = client.watch(service()).await.expect("begun").into_inner();
    let serving = tonic_health::pb::health_check_response::ServingStatus::Serving;
    let not_serving = tonic_health::pb::health_check_response::ServingStatus::NotServing;
    while watch.message().await.expect("told").expect("a status").status() != serving {}
    evserve.terminate().await;
    let refused = loop {
        match watch.message().await {
            // Whether the news or the end comes first is the scheduler's choice.
            Ok(news) => assert_eq!(news.expect("a status").status(), not_serving),
            Err(status) => break Refusal::from(status),
        }
    };
    refused.is(Code::Unavailable, "SHUTTING_DOWN", "the server is shutting down");
    ends(&mut evserve).await;
}

#[tokio::test]
async fn an_open_reflection_stream_is_let_go() {
    let (mut evserve, _directory) = start(&[PATIENT]).await;
    let channel = evserve.endpoint().channel().await;
    let mut client = tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient::new(channel);
    let requests = tokio_stream::pending();
    let mut answers = client.server_reflection_info(requests).await.expect("begun").into_inner();
    evserve.terminate().await;
    // The service may end the stream itself when its requests end, which is no error.
    if let Err(status) = answers.message().await {
        Refusal::from(status).is(Code::Unavailable, "SHUTTING_DOWN", "the server is shutting down");
    }
    ends(&mut evserve).await;
}

#[tokio::test]
async fn frozen_clients_cannot_hold_it_up() {
    let (mut evserve, _directory) = start(&[("shutdown.grace", "500ms")]).await;
    let endpoint = evserve.endpoint();
    // One that said hello and answers nothing.
    let mut frozen = TcpStream::connect(endpoint.grpc).await.expect("accepted");
    frozen.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00").await.expect("sent");
    // One that sends without reading, until the windows are full.
    let mut client = RangePredictionClient::new(endpoint.channel().await);
    let requests = std::iter::repeat_with(|| PredictStreamRequest { id: 1, request: Some(tesla()) });
    let unread = client.predict_stream(tokio_stream::iter(requests)).await.expect("begun");
    // One whose answer is larger than the window it opened, and never read.
    let mut reader = RangePredictionClient::new(endpoint.channel().await);
    reader.predict_batch(PredictBatchRequest { rows: vec![tesla()] }).await.expect("answered");
    evserve.terminate().await;
    ends(&mut evserve).await;
    let cut_off = |line: &serde_json::Value| line["level"] == "WARN";
    assert!(evserve.logs().iter().any(cut_off), "an operator is told: {:#?}", evserve.logs());
    drop((frozen, unread));
}

#[tokio::test]
async fn a_signal_right_after_ready_is_a_clean_end() {
    // The line that says "ready" is the earliest a supervisor can know; from then on a signal must drain.
    for _ in 0..3 {
        let (mut evserve, _directory) = start(&[PATIENT]).await;
        evserve.terminate().await;
        ends(&mut evserve).await;
    }
}
