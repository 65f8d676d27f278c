//! Telemetry: what gateways send, and what was taken in.

mod ingest;
mod pages;
mod query;

pub use ingest::TelemetryIngest;
pub use pages::Pages;
pub(crate) use pages::paged;
pub use query::TelemetryQuery;
