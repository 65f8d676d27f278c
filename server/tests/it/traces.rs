//! Traces reach a collector over OTLP/gRPC: those of sampled calls, and only those.

use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value::Value,
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use prost::Message as _;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use ev_proto::ev::range::v1::PredictRequest;

use crate::support::{raw::call, server::TestServer};

const PREDICT: &str = "/ev.range.v1.RangePrediction/Predict";

/// Keeps what it is sent.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().expect("no panic").push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

// === impl Collector ===

impl Collector {
    /// Starts it, and says where.
    async fn start() -> (Collector, String) {
        let collector = Collector::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
        let service = TraceServiceServer::new(collector.clone());
        let serving = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(serving.serve_with_incoming(TcpListenerStream::new(listener)));
        (collector, endpoint)
    }

    fn spans(&self) -> Vec<Span> {
        let exported = self.0.lock().expect("no panic");
        let resources = exported.iter().flat_map(|request| &request.resource_spans);
        resources.flat_map(|resource| &resource.scope_spans).flat_map(|scope| scope.spans.clone()).collect()
    }
}

fn tesla() -> Vec<u8> {
    PredictRequest { make: "Tesla".into(), model: "Model 3".into(), ..Default::default() }.encode_to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sampled_calls_reach_the_collector() {
    let (collector, endpoint) = Collector::start().await;
    let overrides = [("observability.otlp_endpoint", endpoint.as_str()), ("observability.trace_sample_ratio", "0.0")];
    let server = TestServer::start(&overrides).await;
    let channel = server.endpoint().channel().await;
    let traceparent =
        |trace: char, flags: &str| format!("00-{}-00f067aa0ba902b7-{flags}", trace.to_string().repeat(32));

    let sampled = traceparent('a', "01");
    call(&channel, PREDICT, tesla(), &[("traceparent", &sampled)]).await.expect("answered");
    let refused = traceparent('b', "01");
    call(&channel, PREDICT, Vec::new(), &[("traceparent", &refused)]).await.expect_err("refused");
    // Not sampled, malformed, and none: the ratio is zero.
    for traceparent in [traceparent('c', "00"), traceparent('0', "01"), "nonsense".to_owned()] {
        call(&channel, PREDICT, tesla(), &[("traceparent", &traceparent)]).await.expect("answered");
    }
    call(&channel, PREDICT, tesla(), &[]).await.expect("answered");
    drop(channel);
    // Stopping sends what is waiting.
    server.stop().await;

    let mut spans = collector.spans();
    spans.sort_by(|a, b| a.trace_id.cmp(&b.trace_id));
    assert_eq!(spans.len(), 2, "{spans:#?}");
    for (span, (trace, code)) in spans.iter().zip([(0xaa, 0), (0xbb, 3)]) {
        assert_eq!(span.trace_id, [trace; 16]);
        assert_eq!(span.parent_span_id, [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);
        assert_eq!(span.name, "ev.range.v1.RangePrediction/Predict");
        assert_eq!(span.kind(), SpanKind::Server);
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano && span.start_time_unix_nano > 0);
        let attribute = |key: &str| {
            let found = span.attributes.iter().find(|attribute| attribute.key == key);
            found.and_then(|attribute| attribute.value.clone()).and_then(|value| value.value)
        };
        assert_eq!(attribute("rpc.system"), Some(Value::StringValue("grpc".into())));
        assert_eq!(attribute("rpc.grpc.status_code"), Some(Value::IntValue(code)));
        let status = span.status.clone().unwrap_or_default();
        assert_eq!(status.code() == StatusCode::Error, code != 0, "{status:?}");
    }
    let resource = collector.0.lock().expect("no panic")[0].resource_spans[0].resource.clone().expect("a resource");
    let name = resource.attributes.iter().find(|attribute| attribute.key == "service.name");
    assert_eq!(
        name.and_then(|name| name.value.clone()).and_then(|value| value.value),
        Some(Value::StringValue("evserve".into()))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_share_of_the_other_calls_is_traced() {
    let (collector, endpoint) = Collector::start().await;
    let overrides = [("observability.otlp_endpoint", endpoint.as_str()), ("observability.trace_sample_ratio", "1.0")];
    let server = TestServer::start(&overrides).await;
    let channel = server.endpoint().channel().await;
    for _ in 0..5 {
        call(&channel, PREDICT, tesla(), &[]).await.expect("answered");
    }
    drop(channel);
    server.stop().await;
    assert_eq!(collector.spans().len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_not_there_stops_nothing() {
    let overrides =
        [("observability.otlp_endpoint", "http://127.0.0.1:9"), ("observability.trace_sample_ratio", "1.0")];
    let server = TestServer::start(&overrides).await;
    let channel = server.endpoint().channel().await;
    call(&channel, PREDICT, tesla(), &[]).await.expect("answered");
    drop(channel);
    server.stop().await;
}
