//! The program as its users run it.

mod rendering;
mod server;
mod support;
