//! The Rust client of evserve: typed predictions, the model registry, the Open Inference Protocol and health, over one connection;
//! and [`Gateway`], which streams vehicles' readings to a server and outlives its connections.
//!
//! Invariants:
//!
//! - Every call is bounded: by a deadline that the server is told as `grpc-timeout`, by a largest message, and by a limit on retries.
//! - Only calls that can be repeated without harm are retried, and only on `UNAVAILABLE` and `RESOURCE_EXHAUSTED`; the delay the server asks for is kept.
//! - An error says what the server said: the reason, every field at fault, and when to come back.
//!
//! Not here: anything that reads the environment, prints, or knows what a model needs; the server checks requests.
//!
//! ```no_run
//! use ev_client::{Client, proto::ev::range::v1::PredictRequest};
//!
//! # async fn example() -> Result<(), ev_client::Error> {
//! let client = Client::connect("http://127.0.0.1:50051").await?;
//! let range = client
//!     .range()
//!     .predict(PredictRequest {
//!         make: "Tesla".into(),
//!         model: "Model 3".into(),
//!         battery_capacity_kwh: Some(60.0),
//!         ..PredictRequest::default()
//!     })
//!     .await?;
//! println!("{} km, {} to {}", range.range_q50_km, range.range_q10_km, range.range_q90_km);
//!
//! for model in client.registry().list_models().await? {
//!     println!("{} has {} versions", model.name, model.version_count);
//! }
//! # Ok(())
//! # }
//! ```

mod alerts;
mod client;
mod config;
mod error;
mod features;
mod gateway;
mod health;
mod oip;
mod outcomes;
mod patience;
mod prediction;
mod registry;
mod replies;
mod retry;
mod rollouts;
mod telemetry;
mod upload;
mod version;
mod watch;

pub use client::{Client, Ping};
pub use config::Config;
pub use error::{CallError, Error, FieldViolation};
pub use ev_proto as proto;
pub use features::FeatureStore;
pub use gateway::{Gateway, GatewayConfig, GatewayError, GatewayEvent, GatewaySignal, Readings};
pub use health::{Health, ServingStatus};
pub use oip::OpenInference;
pub use outcomes::Outcomes;
pub use prediction::{BatteryHealth, ChargingUtilization, RangePrediction, ThermalRisk, VehicleVision};
pub use registry::ModelRegistry;
pub use replies::Replies;
pub use retry::RetryPolicy;
pub use rollouts::Rollouts;
pub use telemetry::{Pages, TelemetryIngest, TelemetryQuery};
pub use tonic::Code;
pub use upload::{Progress, UploadError, UploadEvent};
pub use version::{VersionChoice, VersionRef, VersionRefError};
