//! `ModelStreamInfer`: answers in order, failures in their place, and an orderly end.

use std::time::Duration;

use ev_proto::inference::{ModelInferRequest, ModelStreamInferResponse};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Streaming};

use super::support::{Client, TestServer, golden, numbers, raw, request, rows, texts, values};

async fn open(
    client: &mut Client,
) -> (tokio::sync::mpsc::Sender<ModelInferRequest>, Streaming<ModelStreamInferResponse>) {
    let (sender, receiver) = tokio::sync::mpsc::channel(16);
    let answers = client.model_stream_infer(ReceiverStream::new(receiver)).await.expect("a stream").into_inner();
    (sender, answers)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_gives_the_answers_of_single_calls() {
    let server = TestServer::start().await;
    let mut client = server.client();
    let (sender, mut answers) = open(&mut client).await;
    let cases = golden("thermal-risk");
    let mut requests: Vec<_> = cases.iter().map(|case| rows("thermal-risk", &[&case.inputs])).collect();
    // Batches among them, large enough to take several slices.
    let many: Vec<f32> = (0u16..3000).map(|row| f32::from(row) / 10.0).collect();
    requests.insert(3, raw(request("thermal-risk", vec![numbers("cell_temperature_max_celsius", &many)])));
    requests.push(request("thermal-risk", vec![numbers("cell_temperature_max_celsius", &many[..65])]));
    for (index, request) in requests.iter().enumerate() {
        let request = ModelInferRequest { id: index.to_string(), ..request.clone() };
        sender.send(request).await.expect("sent");
    }
    for (index, request) in requests.into_iter().enumerate() {
        let answer = answers.message().await.expect("goes on").expect("an answer");
        assert_eq!(answer.error_message, "");
        let streamed = answer.infer_response.expect("an answer");
        assert_eq!(streamed.id, index.to_string());
        let single = client.model_infer(request).await.expect("answered").into_inner();
        assert_eq!(values(&streamed), values(&single));
    }
    drop(sender);
    assert!(answers.message().await.expect("ended well").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_request_is_told_in_its_place_and_the_stream_goes_on() {
    let server = TestServer::start().await;
    let mut client = server.client();
    let (sender, mut answers) = open(&mut client).await;
    let good = request("thermal-risk", vec![numbers("cell_temperature_max_celsius", &[10.0])]);
    let mut implausible = request("thermal-risk", vec![numbers("cell_temperature_max_celsius", &[10.0, -300.0])]);
    implausible.id = "bad".into();
    let mut unknown = request("nothing", vec![texts("x", &["y"])]);
    unknown.id = "worse".into();
    for request in [good.clone(), implausible, unknown, good] {
        sender.send(request).await.expect("sent");
    }
    drop(sender);
    let mut errors = Vec::new();
    while let Some(answer) = answers.message().await.expect("goes on") {
        let response = answer.infer_response.expect("always there");
        assert_eq!(response.outputs.is_empty(), !answer.error_message.is_empty());
        errors.push((response.id, response.model_name, answer.error_message));
    }
    assert_eq!(errors.len(), 4);
    assert_eq!((errors[0].2.as_str(), errors[3].2.as_str()), ("", ""));
    assert_eq!((errors[1].0.as_str(), errors[1].1.as_str()), ("bad", "thermal-risk"));
    assert_eq!(errors[1].2, "`inputs.cell_temperature_max_celsius[1]` is -300, expected -60 to 1200 Cel");
    assert_eq!((errors[2].0.as_str(), errors[2].1.as_str()), ("worse", "nothing"));
    assert!(errors[2].2.starts_with("no model `nothing` is registered"), "{}", errors[2].2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_at_its_deadline_and_when_the_server_drains() {
    let server = TestServer::start().await;
    let mut client = server.client();
    let (sender, receiver) = tokio::sync::mpsc::channel::<ModelInferRequest>(1);
    let mut timed = Request::new(ReceiverStream::new(receiver));
    timed.set_timeout(Duration::from_millis(300));
    let ended = match client.model_stream_infer(timed).await {
        Ok(answers) => answers.into_inner().message().await.expect_err("past its deadline"),
        Err(status) => status,
    };
    assert!(matches!(ended.code(), Code::DeadlineExceeded | Code::Cancelled), "{ended}");
    drop(sender);

    let (sender, mut answers) = open(&mut client).await;
    let TestServer { server, .. } = server;
    let stopping = tokio::spawn(server.stop());
    let ended = answers.message().await.expect_err("the server goes");
    assert_eq!(ended.code(), Code::Unavailable, "{ended}");
    drop((sender, answers, client));
    stopping.await.expect("stopped");
}
