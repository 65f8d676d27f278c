//! A span for sampled calls only: an unsampled one pays for a header look-up and a random number.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use http::{HeaderMap, Request, Response};
use opentelemetry::{
    KeyValue,
    propagation::{Extractor, TextMapPropagator as _},
    trace::{Span as _, SpanKind, Status as SpanStatus, TraceContextExt as _, Tracer as _},
};
use opentelemetry_sdk::{propagation::TraceContextPropagator, trace::SdkTracer};
use tonic::body::Body;
use tower::{Layer, Service};

use super::dispatch::AnswerFuture;

/// Opens a span for calls whose caller sampled them, and for a share of the others.
#[derive(Clone)]
pub(crate) struct TraceLayer {
    /// None: no traces are exported.
    pub(crate) tracer: Option<SdkTracer>,
    /// Share of calls without a trace context that are traced.
    pub(crate) ratio: f64,
}

/// [`TraceLayer`]'s service.
#[derive(Clone)]
pub(crate) struct TraceService<S> {
    layer: TraceLayer,
    inner: S,
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

impl<S> Layer<S> for TraceLayer {
    type Service = TraceService<S>;

    fn layer(&self, inner: S) -> TraceService<S> {
        TraceService { layer: self.clone(), inner }
    }
}

impl<S, B> Service<Request<B>> for TraceService<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible, Future = AnswerFuture>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = AnswerFuture;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    #[inline]
    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Some(tracer) = &self.layer.tracer else { return self.inner.call(request) };
        let parent = request.headers().contains_key("traceparent").then(|| {
            TraceContextPropagator::new()
                .extract_with_context(&opentelemetry::Context::new(), &Headers(request.headers()))
        });
        let remote = parent.as_ref().map(|parent| parent.span().span_context().clone());
        let sampled = match remote.filter(opentelemetry::trace::SpanContext::is_valid) {
            Some(remote) => remote.is_sampled(),
            None => fastrand::f64() < self.layer.ratio,
        };
        if !sampled {
            return self.inner.call(request);
        }
        let path = request.uri().path().trim_start_matches('/').to_owned();
        let mut span = tracer
            .span_builder(path.clone())
            .with_kind(SpanKind::Server)
            .with_attributes([KeyValue::new("rpc.system", "grpc"), KeyValue::new("rpc.method", path)])
            .start_with_context(tracer, &parent.unwrap_or_default());
        let call = self.inner.call(request);
        Box::pin(async move {
            let answered = call.await;
            if let Ok(response) = &answered {
                let code = response.headers().get("grpc-status").and_then(|code| code.to_str().ok()).unwrap_or("0");
                span.set_attribute(KeyValue::new("rpc.grpc.status_code", code.parse::<i64>().unwrap_or(2)));
                if code != "0" {
                    span.set_status(SpanStatus::error(format!("gRPC status {code}")));
                }
            }
            span.end();
            answered
        })
    }
}
