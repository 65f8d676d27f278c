//! The program as its users run it.

mod alerts;
mod by_vehicle;
mod features;
mod image;
mod import;
mod outcomes;
mod rendering;
mod server;
mod support;
mod telemetry;
mod watch;
