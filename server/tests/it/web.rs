//! gRPC-Web: what a browser's library sends, over HTTP/1.1 and HTTP/2, and what it reads.

use bytes::Bytes;
use ev_client::Code;
use ev_proto::ev::range::v1::{
    PredictRequest, PredictResponse, PredictStreamRequest, PredictStreamResponse, predict_stream_response,
};
use http::StatusCode;
use http_body_util::BodyExt as _;
use prost::Message as _;

use crate::support::{
    server::{TestServer, shared},
    web::{Encoding, WebAnswer, WebClient},
};

const PREDICT: &str = "/ev.range.v1.RangePrediction/Predict";
const PREDICT_STREAM: &str = "/ev.range.v1.RangePrediction/PredictStream";
const PAGE: &str = "https://console.example.com";

fn tesla() -> PredictRequest {
    PredictRequest { make: "Tesla".into(), model: "Model 3".into(), ..Default::default() }
}

fn message(request: &impl prost::Message) -> Bytes {
    request.encode_to_vec().into()
}

async fn both() -> [WebClient; 2] {
    [WebClient::connect(shared().grpc).await, WebClient::connect_http2(shared().grpc).await]
}

#[tokio::test]
async fn a_unary_call_is_answered_as_a_native_one() {
    let native = shared().client().await.range().predict(tesla()).await.expect("answered");
    for mut client in both().await {
        for encoding in Encoding::BOTH {
            let answer = client.call(encoding, PREDICT, &[message(&tesla())], &[]).await;
            assert_eq!(answer.header("content-type"), encoding.content_type());
            assert!(answer.trailers.is_some(), "{answer:?}");
            let predicted: PredictResponse = answer.message();
            assert_eq!(
                (predicted.range_q10_km, predicted.range_q50_km, predicted.range_q90_km),
                (native.range_q10_km, native.range_q50_km, native.range_q90_km),
            );
        }
    }
}

#[tokio::test]
async fn a_stream_is_answered_message_by_message() {
    let requests: Vec<_> = (0..20).map(|id| message(&PredictStreamRequest { id, request: Some(tesla()) })).collect();
    for mut client in both().await {
        for encoding in Encoding::BOTH {
            let answer = client.call(encoding, PREDICT_STREAM, &requests, &[]).await;
            assert_eq!(answer.grpc_status().code(), Code::Ok);
            assert_eq!(answer.messages.len(), 20);
            for (id, bytes) in (0..).zip(&answer.messages) {
                let reply = PredictStreamResponse::decode(bytes.clone()).expect("a message");
                assert_eq!(reply.id, id);
                assert!(matches!(reply.result, Some(predict_stream_response::Result::Response(_))), "{reply:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_refusal_carries_its_details() {
    let request = PredictRequest { battery_capacity_kwh: Some(60_000.0), ..tesla() };
    for mut client in both().await {
        for encoding in Encoding::BOTH {
            let answer = client.call(encoding, PREDICT, &[message(&request)], &[]).await;
            answer.refusal().is_field("OUT_OF_RANGE", "battery_capacity_kwh", "is 60000, expected 1 to 1000 kWh");
            let nobody = client.call(encoding, "/ev.range.v1.RangePrediction/Prophesy", &[Bytes::new()], &[]).await;
            nobody.refusal().says(Code::Unimplemented, "UNKNOWN_METHOD", &[]);
        }
    }
}

#[tokio::test]
async fn a_stream_that_goes_wrong_says_so_in_its_trailers() {
    let requests =
        [message(&PredictStreamRequest { id: 7, request: Some(tesla()) }), Bytes::from_static(&[0x0a, 0xff, 0x01])];
    for mut client in both().await {
        for encoding in Encoding::BOTH {
            let answer = client.call(encoding, PREDICT_STREAM, &requests, &[]).await;
            assert_eq!(answer.messages.len(), 1, "{answer:?}");
            let trailers = answer.trailers.as_ref().expect("trailers");
            assert_eq!(trailers.get("grpc-status").map(http::HeaderValue::as_bytes), Some(&b"13"[..]));
            let words = ["failed to decode Protobuf message"];
            answer.refusal().says(Code::Internal, "MALFORMED_MESSAGE", &words);
        }
    }
}

#[tokio::test]
async fn deadlines_and_limits_hold_for_web_clients_too() {
    let mut client = WebClient::connect(shared().grpc).await;
    let late = client.call(Encoding::Binary, PREDICT, &[message(&tesla())], &[("grpc-timeout", "0n")]).await;
    late.refusal().says(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", &[]);
    for encoding in Encoding::BOTH {
        let mut client = WebClient::connect(shared().grpc).await;
        let large = client.call(encoding, PREDICT, &[vec![0; 5 * 1024 * 1024].into()], &[]).await;
        large.refusal().says(Code::ResourceExhausted, "MESSAGE_TOO_LARGE", &["the limit is: 4194304 bytes"]);
    }
    let mut client = WebClient::connect(shared().grpc).await;
    let request = client.request(
        "POST",
        PREDICT,
        Bytes::from_static(b"this is not base64!!"),
        &[("content-type", "application/grpc-web-text"), ("accept", "application/grpc-web-text")],
    );
    let answer = WebAnswer::of(client.send(request).await.expect("answered"), Encoding::Text).await;
    answer.refusal().says(Code::Internal, "MALFORMED_CALL", &[]);
}

#[tokio::test]
async fn a_page_may_call_when_its_origin_is_allowed() {
    let server = TestServer::start(&[("grpc.web_allowed_origins", PAGE)]).await;
    let address = server.endpoint().grpc;
    for mut client in [WebClient::connect(address).await, WebClient::connect_http2(address).await] {
        let asked = [
            ("origin", PAGE),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "content-type,grpc-timeout,x-grpc-web"),
        ];
        let response = client.send(client.request("OPTIONS", PREDICT, Bytes::new(), &asked)).await.expect("answered");
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
        let header = |name: &str| response.headers().get(name).map_or("", |value| value.to_str().expect("text"));
        assert_eq!(header("access-control-allow-origin"), PAGE);
        assert_eq!(header("access-control-allow-methods"), "POST");
        assert_eq!(header("access-control-allow-headers"), "content-type,grpc-timeout,x-grpc-web");
        assert_eq!(header("access-control-max-age"), "7200");
        assert!(header("vary").contains("origin"));
        let answer = client.call(Encoding::Binary, PREDICT, &[message(&tesla())], &[("origin", PAGE)]).await;
        assert_eq!(answer.header("access-control-allow-origin"), PAGE);
        let exposed = answer.header("access-control-expose-headers");
        assert_eq!(exposed, "grpc-status, grpc-message, grpc-status-details-bin");
        answer.message::<PredictResponse>();
    }
    server.stop().await;
}

#[tokio::test]
async fn a_page_of_another_origin_is_not_told_that_it_may() {
    let allowing = TestServer::start(&[("grpc.web_allowed_origins", PAGE)]).await;
    for (address, origin) in [
        (shared().grpc, PAGE),
        (allowing.endpoint().grpc, "https://elsewhere.example.com"),
        (allowing.endpoint().grpc, "null"),
    ] {
        let mut client = WebClient::connect(address).await;
        let asked = [("origin", origin), ("access-control-request-method", "POST")];
        let response = client.send(client.request("OPTIONS", PREDICT, Bytes::new(), &asked)).await.expect("answered");
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        assert!(!response.headers().contains_key("access-control-allow-origin"));
        let told = response.into_body().collect().await.expect("a body").to_bytes();
        assert!(told.windows(24).any(|words| words == b"grpc.web_allowed_origins"), "an operator finds the key");
        // Its own origin's pages send the header as well: the call is answered, and the browser keeps it from others.
        let answer = client.call(Encoding::Binary, PREDICT, &[message(&tesla())], &[("origin", origin)]).await;
        assert_eq!(answer.header("access-control-allow-origin"), "");
        answer.message::<PredictResponse>();
    }
    allowing.stop().await;
}

#[tokio::test]
async fn any_page_may_call_when_an_operator_says_so() {
    let server = TestServer::start(&[("grpc.web_allowed_origins", "*")]).await;
    let mut client = WebClient::connect(server.endpoint().grpc).await;
    let answer = client.call(Encoding::Binary, PREDICT, &[message(&tesla())], &[("origin", PAGE)]).await;
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    server.stop().await;
}

#[tokio::test]
async fn a_person_who_looks_at_the_grpc_port_is_told_what_it_is() {
    let http = format!("http://{}", shared().http);
    for mut client in both().await {
        for (method, content_type, status) in [
            ("GET", "text/html", StatusCode::METHOD_NOT_ALLOWED),
            ("POST", "application/grpc-web+json", StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ] {
            let request = client.request(method, "/", Bytes::new(), &[("content-type", content_type)]);
            let response = client.send(request).await.expect("answered");
            assert_eq!(response.status(), status);
            assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
            let told = response.into_body().collect().await.expect("a body").to_bytes();
            let told = String::from_utf8(told.to_vec()).expect("text");
            assert!(told.contains("gRPC port") && told.contains(&http), "{told}");
        }
    }
    for (content_type, status) in [
        ("application/grpc", StatusCode::HTTP_VERSION_NOT_SUPPORTED),
        ("application/json", StatusCode::UNSUPPORTED_MEDIA_TYPE),
    ] {
        let mut client = WebClient::connect(shared().grpc).await;
        let request = client.request("POST", PREDICT, Bytes::new(), &[("content-type", content_type)]);
        assert_eq!(client.send(request).await.expect("answered").status(), status);
    }
}
