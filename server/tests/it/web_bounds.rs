//! HTTP/1.1 on the gRPC port: every wait has an end, every buffer a size, and draining lets nobody down.

use std::time::{Duration, Instant};

use bytes::Bytes;
use ev_client::Code;
use ev_proto::ev::range::v1::{PredictBatchRequest, PredictBatchResponse, PredictRequest, PredictStreamRequest};
use http_body_util::BodyExt as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic_health::pb::HealthCheckRequest;

use crate::support::{
    assert_eventually,
    http::exchange,
    process::Evserve,
    server::{TestServer, shared},
    web::{Encoding, WebAnswer, WebClient},
};

const PREDICT: &str = "/ev.range.v1.RangePrediction/Predict";
const PREDICT_BATCH: &str = "/ev.range.v1.RangePrediction/PredictBatch";
const PREDICT_STREAM: &str = "/ev.range.v1.RangePrediction/PredictStream";
const WATCH: &str = "/grpc.health.v1.Health/Watch";

/// What waits for the default bound of 20 s is too slow for this.
const SOON: Duration = Duration::from_secs(15);

fn tesla() -> PredictRequest {
    PredictRequest { make: "Tesla".into(), model: "Model 3".into(), ..Default::default() }
}

fn message(request: &impl prost::Message) -> Bytes {
    request.encode_to_vec().into()
}

fn head(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: evserve\r\ncontent-type: application/grpc-web+proto\r\n{body}\r\n\r\n")
}

/// Reads until the other side hangs up, however it does it.
async fn until_closed(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut answer)).await;
    assert!(ended.is_ok(), "the connection stays open");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn bytes_that_are_no_http_are_refused_at_once() {
    let started = Instant::now();
    // A TLS hello, a word, a line, a request in lower case, another protocol's, a line that is no request.
    let words: [&[u8]; 6] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"hello",
        b"EHLO evserve\r\n",
        b"get / HTTP/1.1\r\n",
        b"PRI * HTTP/3.0\r\n",
        b"GET \x00 /\r\n\r\n",
    ];
    for word in words {
        let answer = exchange(shared().grpc, word).await;
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{answer:?}");
    }
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_head_that_does_not_end_is_not_waited_for() {
    let server = TestServer::start(&[("grpc.keepalive_timeout", "100ms")]).await;
    let endpoint = server.endpoint();
    for first in ["P", "POST ", "POST /ev.range.v1.RangePrediction/Predict HTTP/1.1\r\nhost: evserve\r\nx-slow:"] {
        let mut stream = TcpStream::connect(endpoint.grpc).await.expect("accepted");
        stream.write_all(first.as_bytes()).await.expect("sent");
        until_closed(&mut stream).await;
    }
    // Nor one that drips.
    let mut stream = TcpStream::connect(endpoint.grpc).await.expect("accepted");
    stream.write_all(b"GET / HTTP/1.1\r\nx-slow: ").await.expect("sent");
    let (mut reader, mut writer) = stream.split();
    let drip = async {
        loop {
            let _ = writer.write_all(b"x").await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let mut rest = Vec::new();
    tokio::select! {
        _ = reader.read_to_end(&mut rest) => {}
        () = drip => {}
        () = tokio::time::sleep(Duration::from_secs(60)) => panic!("the connection stays open"),
    }
    server.stop().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let server = TestServer::start(&[("grpc.keepalive_timeout", "2s")]).await;
    let mut stream = TcpStream::connect(server.endpoint().grpc).await.expect("accepted");
    // Two requests on one connection, and no third.
    for _ in 0..2 {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: evserve\r\n\r\n").await.expect("sent");
        let mut answer = [0; 4096];
        let length = stream.read(&mut answer).await.expect("answered");
        assert!(answer[..length].starts_with(b"HTTP/1.1 405"), "{:?}", String::from_utf8_lossy(&answer[..length]));
    }
    assert_eq!(until_closed(&mut stream).await, "");
    server.stop().await;
}

#[tokio::test]
async fn heads_over_the_limits_are_refused() {
    let large = format!("GET / HTTP/1.1\r\nhost: evserve\r\nx-large: {}\r\n\r\n", "x".repeat(20_000));
    let many = format!("GET / HTTP/1.1\r\nhost: evserve\r\n{}\r\n", "x-one: of many\r\n".repeat(120));
    let long = format!("GET /{} HTTP/1.1\r\nhost: evserve\r\n\r\n", "x".repeat(20_000));
    for request in [large, many, long] {
        let answer = exchange(shared().grpc, request.as_bytes()).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with("HTTP/1.1 431") || answer.starts_with("HTTP/1.1 414"), "{answer}");
    }
}

#[tokio::test]
async fn a_request_that_pauses_inside_is_refused() {
    let intervals = [("grpc.keepalive_interval", "50ms"), ("grpc.keepalive_timeout", "100ms")];
    let server = TestServer::start(&intervals).await;
    let mut stream = TcpStream::connect(server.endpoint().grpc).await.expect("accepted");
    stream.write_all(head(PREDICT, "content-length: 100").as_bytes()).await.expect("sent");
    let answer = until_closed(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(
        answer.contains("grpc-status: 4") && answer.contains("nothing%20more%20of%20it%20came%20for%20150ms"),
        "{answer}"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_given_up() {
    let intervals = [("grpc.keepalive_interval", "50ms"), ("grpc.keepalive_timeout", "100ms")];
    let server = TestServer::start(&intervals).await;
    let endpoint = server.endpoint();
    let mut stream = TcpStream::connect(endpoint.grpc).await.expect("accepted");
    let messages: Vec<_> = (0..200).map(|id| message(&PredictStreamRequest { id, request: Some(tesla()) })).collect();
    let body = Encoding::Binary.encode(&messages);
    stream.write_all(head(PREDICT_STREAM, "transfer-encoding: chunked").as_bytes()).await.expect("sent");
    let chunk = [format!("{:x}\r\n", body.len()).as_bytes(), &body, b"\r\n"].concat();
    // Sends until the server takes no more, and does not look at the answers.
    while tokio::time::timeout(Duration::from_secs(30), stream.write_all(&chunk)).await.expect("given up").is_ok() {}
    assert_eventually!(endpoint.connections().await == 0.0, "the connection stays");
    server.stop().await;
}

#[tokio::test]
async fn an_old_connection_is_asked_to_go() {
    let server = TestServer::start(&[("grpc.connection_age_max", "200ms")]).await;
    let mut client = WebClient::connect(server.endpoint().grpc).await;
    let mut answered = 0;
    loop {
        let headers = [("content-type", "application/grpc-web+proto")];
        let body = Encoding::Binary.encode(&[message(&tesla())]);
        let request = client.request("POST", PREDICT, body, &headers);
        let Ok(response) = client.send(request).await else { break };
        let last = response.headers().get("connection").is_some_and(|value| value == "close");
        assert_eq!(WebAnswer::of(response, Encoding::Binary).await.grpc_status().code(), Code::Ok);
        answered += 1;
        if last {
            break;
        }
    }
    assert!(answered > 0);
    assert_eventually!(server.endpoint().connections().await == 0.0, "the connection stays");
    server.stop().await;
}

#[tokio::test]
async fn draining_answers_what_was_asked_and_closes_what_is_idle() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut evserve = Evserve::start(directory.path(), &[("shutdown.grace", "10m")]).await;
    let endpoint = evserve.endpoint();
    // One that asked once and keeps its connection, one that watches, one whose batch takes a while.
    let mut idle = WebClient::connect(endpoint.grpc).await;
    idle.call(Encoding::Binary, PREDICT, &[message(&tesla())], &[]).await;
    let mut watcher = WebClient::connect(endpoint.grpc).await;
    let service = HealthCheckRequest { service: "ev.range.v1.RangePrediction".into() };
    let body = Encoding::Binary.encode(&[message(&service)]);
    let request = watcher.request("POST", WATCH, body, &[("content-type", "application/grpc-web+proto")]);
    let watched = watcher.send(request).await.expect("begun");
    let batch = tokio::spawn(async move {
        let mut client = WebClient::connect(endpoint.grpc).await;
        let rows = message(&PredictBatchRequest { rows: vec![tesla(); 8192] });
        client.call(Encoding::Text, PREDICT_BATCH, &[rows], &[]).await
    });
    let rows = "ev_pipeline_rows_total{model=\"ev-range\",version=\"1\",backend=\"forest\"}";
    assert_eventually!(endpoint.metric(rows).await > 1.0, "the batch never began");
    evserve.terminate().await;
    let answer = batch.await.expect("no panic");
    assert_eq!(answer.message::<PredictBatchResponse>().results.len(), 8192);
    let watched = WebAnswer::of(watched, Encoding::Binary).await;
    assert!(!watched.messages.is_empty(), "it was told nothing");
    watched.refusal().is(Code::Unavailable, "SHUTTING_DOWN", "the server is shutting down");
    let again = idle.request("GET", "/", Bytes::new(), &[]);
    assert!(idle.send(again).await.is_err(), "an idle connection was closed");
    let ended = tokio::time::timeout(Duration::from_secs(120), evserve.exited()).await;
    assert_eq!(ended.expect("it ends").code(), Some(0), "{:#?}", evserve.logs());
}

#[tokio::test]
async fn a_client_in_the_middle_of_sending_reads_why_it_is_refused() {
    let mut client = WebClient::connect(shared().grpc).await;
    // Larger than what the kernel takes: the refusal comes while the client still sends.
    let body = Encoding::Binary.encode(&[vec![0; 64 * 1024 * 1024].into()]);
    let request = client.request("POST", PREDICT, body, &[("content-type", "application/grpc-web+proto")]);
    let response = client.send(request).await.expect("answered");
    assert_eq!(response.headers()["grpc-status"], "8");
    assert!(response.into_body().collect().await.expect("whole").to_bytes().is_empty());
}
