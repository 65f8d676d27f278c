//! Traces over OTLP.

use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracer, SdkTracerProvider},
};

use crate::config::ObservabilityConfig;

/// The exporter of traces, if there is one.
pub(crate) struct Traces(Option<SdkTracerProvider>);

// === impl Traces ===

impl Traces {
    /// Starts exporting to the configured collector, in batches, off the serving threads. Needs a tokio runtime around it.
    ///
    /// # Errors
    ///
    /// When the endpoint is not one.
    pub(crate) fn start(config: &ObservabilityConfig) -> Result<Traces, opentelemetry_otlp::ExporterBuildError> {
        if config.otlp_endpoint.is_empty() {
            return Ok(Traces(None));
        }
        let exporter =
            opentelemetry_otlp::SpanExporter::builder().with_tonic().with_endpoint(&config.otlp_endpoint).build()?;
        let resource = Resource::builder()
            .with_service_name("evserve")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        // Calls are sampled before a span is opened; every span that is opened is wanted.
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(Sampler::AlwaysOn)
            .with_resource(resource)
            .build();
        Ok(Traces(Some(provider)))
    }

    /// What opens spans; none when nothing is exported.
    pub(crate) fn tracer(&self) -> Option<SdkTracer> {
        self.0.as_ref().map(|provider| provider.tracer("evserve"))
    }

    /// Sends what is waiting, and ends. Blocking.
    pub(crate) fn stop(&self) {
        if let Some(provider) = &self.0
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(error = &error as &dyn std::error::Error, "traces were not flushed");
        }
    }
}
