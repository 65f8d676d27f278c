//! gRPC-Web: the services for clients that cannot speak gRPC's HTTP/2, which is every browser.

mod cors;
mod service;
mod silence;

pub(crate) use cors::Origins;
pub(crate) use service::{WebConfig, WebService};
