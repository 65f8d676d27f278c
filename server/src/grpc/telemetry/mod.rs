//! `ev.telemetry.v1`: readings in, over a listener of their own, and questions about them.

mod acks;
mod answers;
mod conduct;
mod decode;
mod encode;
mod gateways;
mod ingest;
mod messages;
mod query;
mod stream;
mod watch;
mod wire;

pub(super) use decode::time_us;
pub(super) use encode::timestamp;
pub(crate) use ingest::{INGEST_SERVICE, INGEST_SIZE_KEY, IngestDispatch, IngestService};
pub(crate) use query::QueryService;
pub(super) use query::vehicle;
