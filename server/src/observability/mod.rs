//! Our own logs, metrics and traces.

mod cache;
mod features;
mod logs;
mod metrics;
mod predictions;
mod queues;
mod renewals;
mod rollouts;
mod traces;
mod uploads;
mod vehicles;

pub use logs::start_logs;
pub use metrics::METRIC_NAMES;

pub(crate) use metrics::Metrics;
pub(crate) use traces::Traces;
