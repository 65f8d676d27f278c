//! Bytes that are not what a gRPC client sends, and connections that are not what a client opens.

use std::time::Duration;

use bytes::Bytes;
use ev_client::Code;
use ev_proto::{
    ev::range::v1::{PredictRequest, PredictResponse},
    inference::{ModelInferRequest, ModelInferResponse, model_infer_request::InferInputTensor},
};
use http::{HeaderMap, HeaderValue, header::TE};
use http_body::Frame;
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{
    assert_eventually,
    http::exchange,
    raw::{Bare, call, stream},
    refusal::Refusal,
    server::{TestServer, shared},
};

const PREDICT: &str = "/ev.range.v1.RangePrediction/Predict";
const MODEL_INFER: &str = "/inference.GRPCInferenceService/ModelInfer";
const PREDICT_STREAM: &str = "/ev.range.v1.RangePrediction/PredictStream";

fn tesla() -> PredictRequest {
    PredictRequest { make: "Tesla".into(), model: "Model 3".into(), ..Default::default() }
}

#[tokio::test]
async fn text_that_is_not_utf_8_is_refused_with_the_name_of_the_field() {
    let channel = shared().channel().await;
    // Field 1, two bytes: 0xff 0xfe. gRPC's own table of codes has INTERNAL for what cannot be decoded.
    let single = call(&channel, PREDICT, vec![0x0a, 0x02, 0xff, 0xfe], &[]).await;
    let streamed = stream(&channel, PREDICT_STREAM, &[0x12, 0x04, 0x0a, 0x02, 0xff, 0xfe]).await;
    for refused in [single, streamed] {
        let refused = refused.map_err(Refusal::from).expect_err("refused");
        let words = ["failed to decode Protobuf message", "PredictRequest.make", "UTF-8"];
        refused.says(Code::Internal, "MALFORMED_MESSAGE", &words);
    }
}

#[tokio::test]
async fn bytes_that_are_no_message_are_refused() {
    let channel = shared().channel().await;
    // A length beyond the end, a group that never ends, a wrong wire type, a varint without end.
    let messages: [&[u8]; 4] = [&[0x0a, 0xff, 0x01], &[0x0b], &[0x0d, 0, 0, 0, 0], &[0xff; 32]];
    for message in messages {
        let refused = call(&channel, PREDICT, message, &[]).await.map_err(Refusal::from).expect_err("refused");
        refused.says(Code::Internal, "MALFORMED_MESSAGE", &["failed to decode Protobuf message"]);
        let refused = stream(&channel, PREDICT_STREAM, message).await.map_err(Refusal::from).expect_err("refused");
        refused.says(Code::Internal, "MALFORMED_MESSAGE", &["failed to decode Protobuf message"]);
    }
    // A field nobody knows is none of the server's business.
    let unknown = [0x0a, 5, b'T', b'e', b's', b'l', b'a', 0x12, 1, b'3', 0xf8, 0x7f, 0x01];
    call(&channel, PREDICT, unknown.to_vec(), &[]).await.expect("answered");
}

/// A message with its head.
fn framed(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).expect("short");
    [&[0], &length.to_be_bytes()[..], message].concat().into()
}

fn data(pieces: &[&[u8]]) -> Vec<Frame<Bytes>> {
    pieces.iter().map(|piece| Frame::data(Bytes::copy_from_slice(piece))).collect()
}

/// Every way to send a message.
fn bodies(whole: &Bytes) -> [(&'static str, Vec<Frame<Bytes>>); 8] {
    let trailers = || Frame::trailers(HeaderMap::from_iter([(TE, HeaderValue::from_static("trailers"))]));
    let middle = whole.len() / 2;
    [
        ("whole", data(&[whole])),
        ("its head apart", data(&[&whole[..5], &whole[5..]])),
        ("its head in pieces", data(&[&whole[..2], &whole[2..9], &whole[9..]])),
        ("in a hundred pieces", data(&whole.chunks(whole.len().div_ceil(100)).collect::<Vec<_>>())),
        ("after nothing", data(&[b"", whole])),
        ("before nothing", data(&[whole, b""])),
        ("around nothing", data(&[&whole[..middle], b"", &whole[middle..], b""])),
        ("with trailers", vec![Frame::data(whole.slice(..middle)), Frame::data(whole.slice(middle..)), trailers()]),
    ]
}

/// Values of a request of the v2 protocol: one row, and as many as come in several frames.
fn infer(rows: u16) -> ModelInferRequest {
    let celsius = (0..rows).flat_map(|row| (f32::from(row) / 1000.0).to_le_bytes()).collect();
    ModelInferRequest {
        model_name: "thermal-risk".into(),
        inputs: vec![InferInputTensor {
            name: "cell_temperature_max_celsius".into(),
            datatype: "FP32".into(),
            shape: vec![rows.into(), 1],
            ..Default::default()
        }],
        raw_input_contents: vec![celsius],
        ..Default::default()
    }
}

#[tokio::test]
async fn a_request_of_the_v2_protocol_is_answered_however_its_bytes_come() {
    let server = shared();
    let connection = Bare::connect(server.grpc).await;
    for rows in [1, 4_000] {
        let message = infer(rows).encode_to_vec();
        let values = |answer: Bytes| ModelInferResponse::decode(answer).expect("an answer").raw_output_contents;
        let expected =
            values(call(&server.channel().await, MODEL_INFER, message.clone(), &[]).await.expect("answered"));
        assert!(expected.iter().all(|values| values.len() >= usize::from(rows)), "{expected:?}");
        let whole = framed(&message);
        for pause in [Duration::ZERO, Duration::from_millis(1)] {
            for (name, frames) in bodies(&whole) {
                let answered = connection.frames(MODEL_INFER, frames, pause).await;
                assert_eq!(values(answered.expect(name)), expected, "{rows} rows, {name}");
            }
        }
        let refused = connection.frames(MODEL_INFER, data(&[&whole[..8], &whole[8..whole.len() - 1]]), Duration::ZERO);
        let refused = refused.await.map_err(Refusal::from).expect_err("the last byte is missing");
        refused.says(Code::Internal, "MALFORMED_CALL", &["Unexpected EOF"]);
    }
}

#[tokio::test]
async fn a_request_is_answered_however_its_bytes_come() {
    let connection = Bare::connect(shared().grpc).await;
    let message = tesla().encode_to_vec();
    let whole = framed(&message);
    let km = |answer: Bytes| {
        let answer = PredictResponse::decode(answer).expect("an answer");
        [answer.range_q10_km, answer.range_q50_km, answer.range_q90_km].map(f32::to_bits)
    };
    let expected = km(call(&shared().channel().await, PREDICT, message, &[]).await.expect("answered"));
    for pause in [Duration::ZERO, Duration::from_millis(2)] {
        for (name, frames) in bodies(&whole) {
            let answered = connection.frames(PREDICT, frames, pause).await;
            assert_eq!(km(answered.expect(name)), expected, "{name}");
        }
    }

    let compressed = [&[1], &whole[1..]].concat();
    let refusals: [(&[&[u8]], _); 5] = [
        (&[&whole[..whole.len() - 1]], "Unexpected EOF"),
        (&[&whole[..3]], "Unexpected EOF"),
        (&[b""], "Missing request message"),
        (&[], "Missing request message"),
        (&[&compressed], "compressed-flag"),
    ];
    for (frames, words) in refusals {
        let refused = connection.frames(PREDICT, data(frames), Duration::ZERO).await;
        let refused = refused.map_err(Refusal::from).expect_err(words);
        refused.says(Code::Internal, "MALFORMED_CALL", &[words]);
    }
}

#[tokio::test]
async fn what_nobody_serves_is_unimplemented() {
    let channel = shared().channel().await;
    for path in [
        "/ev.range.v1.RangePrediction/Prophesy",
        "/ev.range.v2.RangePrediction/Predict",
        "/nonesuch",
        "/ev.range.v1.RangePrediction",
    ] {
        let refused = call(&channel, path, Vec::new(), &[]).await.map_err(Refusal::from).expect_err(path);
        refused.says(Code::Unimplemented, "UNKNOWN_METHOD", &["reflection lists those that are served"]);
    }
}

#[tokio::test]
async fn a_compression_nobody_agreed_on_is_refused_with_those_that_are() {
    let channel = shared().channel().await;
    for metadata in ["gzip", "br"] {
        let refused = call(&channel, PREDICT, vec![0x0a, 0], &[("grpc-encoding", metadata)]).await;
        let status = refused.expect_err("refused");
        assert!(status.metadata().contains_key("grpc-accept-encoding"), "{status:?}");
        Refusal::from(status).says(Code::Unimplemented, "UNSUPPORTED_COMPRESSION", &[metadata]);
    }
}

#[tokio::test]
async fn a_service_nobody_watches_over_is_not_found() {
    let mut client = tonic_health::pb::health_client::HealthClient::new(shared().channel().await);
    let request = tonic_health::pb::HealthCheckRequest { service: "ev.range.v2.RangePrediction".into() };
    let refused = client.check(request).await.map_err(Refusal::from).expect_err("refused");
    refused.says(Code::NotFound, "NOT_FOUND", &[]);
}

#[tokio::test]
async fn headers_over_the_limit_are_refused_and_the_connection_goes_on() {
    let channel = shared().channel().await;
    let large = "x".repeat(20_000);
    let refused = call(&channel, PREDICT, Vec::new(), &[("x-large", large.as_str())]).await;
    let refused = refused.expect_err("refused");
    assert_ne!(refused.code(), Code::Ok);
    let usual = "x".repeat(4_000);
    let message = [0x0a, 1, b'T', 0x12, 1, b'3'];
    call(&channel, PREDICT, message.to_vec(), &[("x-usual", usual.as_str())]).await.expect("answered");
}

#[tokio::test]
async fn an_http_1_request_that_is_no_call_is_told_where_it_is() {
    let answer = exchange(shared().grpc, b"GET / HTTP/1.1\r\nhost: evserve\r\nconnection: close\r\n\r\n").await;
    let answer = String::from_utf8(answer).expect("text");
    assert!(answer.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"), "{answer}");
    assert!(answer.contains("This is evserve's gRPC port."), "{answer}");
    shared().client().await.range().predict(tesla()).await.expect("the server goes on");
}

#[tokio::test]
async fn a_thousand_connections_come_and_go() {
    let server = TestServer::start(&[]).await;
    let endpoint = server.endpoint();
    for _ in 0..10 {
        let mut open = Vec::new();
        for _ in 0..100 {
            open.push(TcpStream::connect(endpoint.grpc).await.expect("accepted"));
        }
        drop(open);
    }
    let client = server.client().await;
    client.range().predict(tesla()).await.expect("the server goes on");
    drop(client);
    assert_eventually!(endpoint.connections().await == 0.0, "connections stay");
    server.stop().await;
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_until_another_ends() {
    let server = TestServer::start(&[("grpc.connections_max", "1")]).await;
    let endpoint = server.endpoint();
    let first = server.client().await;
    first.range().predict(tesla()).await.expect("answered");
    let second = tokio::spawn(async move { endpoint.client().await.range().predict(tesla()).await });
    first.range().predict(tesla()).await.expect("answered");
    assert!(!second.is_finished());
    drop(first);
    second.await.expect("no panic").expect("answered");
    server.stop().await;
}

#[tokio::test]
async fn a_connection_that_does_not_finish_its_first_word_is_closed() {
    let server = TestServer::start(&[("grpc.keepalive_timeout", "50ms")]).await;
    let endpoint = server.endpoint();
    let mut silent = TcpStream::connect(endpoint.grpc).await.expect("accepted");
    let mut stammering = TcpStream::connect(endpoint.grpc).await.expect("accepted");
    stammering.write_all(b"PRI * HTTP/2.0\r\n").await.expect("sent");
    server.client().await.range().predict(tesla()).await.expect("others are answered");
    for stream in [&mut silent, &mut stammering] {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "the connection stays open");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_connection_that_falls_silent_is_probed_and_closed() {
    let intervals = [("grpc.keepalive_interval", "50ms"), ("grpc.keepalive_timeout", "50ms")];
    let server = TestServer::start(&intervals).await;
    let mut stream = TcpStream::connect(server.endpoint().grpc).await.expect("accepted");
    // The preface and empty settings; then nothing, not even the answer to a ping.
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00").await.expect("sent");
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the connection stays open");
    server.stop().await;
}

#[tokio::test]
async fn an_old_connection_is_asked_to_go_without_failing_a_call() {
    let server = TestServer::start(&[("grpc.connection_age_max", "20ms")]).await;
    // With retries, as the client comes: a call that was handed to a connection as it closed is made again.
    let client = server.client().await.with_retry(ev_client::RetryPolicy::default());
    for _ in 0..200 {
        client.range().predict(tesla()).await.expect("answered");
    }
    server.stop().await;
}
