//! The program as its users run it.

mod image;
mod rendering;
mod server;
mod support;
mod telemetry;
