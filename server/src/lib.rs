//! The evserve server: everything between a socket and a model.
//!
//! Invariants:
//!
//! - Serving threads do nothing but requests: loading, disk and exporters live on the control runtime.
//! - Requests read one immutable snapshot of routes; only `deploy` publishes a new one.
//! - Protobuf types end in `grpc`; the pipeline and everything below it never see them.
//! - Everything that can queue has a bound that the configuration names.
//!
//! Not here: inference engines (`models`), storage of models (`registry`), the vocabulary (`domain`).
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! let config = ev_server::Config::load(None, std::env::vars(), [])?;
//! let server = ev_server::Server::start(config).await?;
//! println!("serving on {}", server.grpc_address());
//! server.stop().await;
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "bench")]
pub mod bench;
mod bundled;
mod comparison;
mod config;
mod cores;
mod cpu_time;
mod deploy;
mod features;
mod fleet;
mod gates;
mod grpc;
mod http;
mod journal;
mod lane;
mod libraries;
mod observability;
mod pipeline;
mod predictions;
mod process;
mod registry;
mod renewal;
mod rollouts;
mod serving;
mod telemetry;

pub use config::{
    AwsVariables, BatchingConfig, Config, ConfigError, DEFAULT_TOML, DatabaseUrl, DeployConfig, ExecutionMode,
    FeaturesConfig, ImagesConfig, LogFormat, ModelBatching, ObservabilityConfig, PredictionLogConfig,
    PredictionsConfig, RedisConfig, RedisUrl, RegistryConfig, SignaturePolicy, TelemetryConfig,
};
pub use deploy::{POLICY_VERSIONS_MAX, TrustedKeyError, VersionPolicy};
pub use ev_outcomes::OutcomesError;
pub use features::FeaturesStartError;
pub use journal::AlertJournalError;
pub use observability::{METRIC_NAMES, start_logs};
pub use process::{Server, StartError};
pub use registry::RegistryStartError;
pub use serving::ListenError;
pub use telemetry::TelemetryStartError;
