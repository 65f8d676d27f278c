//! The program as its users run it.

mod alerts;
mod features;
mod image;
mod rendering;
mod server;
mod support;
mod telemetry;
