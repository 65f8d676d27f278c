//! The gRPC edge: protobuf in, domain values through the pipeline, protobuf out.

mod alerts;
mod battery;
mod by_vehicle;
mod call;
mod charging;
mod deadline;
mod dispatch;
mod features;
mod health;
mod held;
mod let_go;
mod oip;
mod predictor;
mod range;
mod reason;
mod registry;
mod renewed;
mod service;
mod status;
mod stream;
mod telemetry;
mod thermal;
mod trace;
mod vision;
mod web;

pub(crate) use deadline::DeadlineLayer;
pub(crate) use dispatch::{Dispatch, ServiceLimits};
pub(crate) use health::{Health, keep_health_current};
pub(crate) use held::MessageMemory;
pub(crate) use predictor::Predictor;
pub(crate) use reason::ReasonLayer;
pub(crate) use registry::{RegistryService, now_ms};
pub(crate) use renewed::{Renewals, start as keep_predictions_current};
pub(crate) use telemetry::{INGEST_SIZE_KEY, IngestDispatch, IngestService, QueryService};
pub(crate) use trace::TraceLayer;
pub(crate) use web::{Origins, WebConfig, WebService};
