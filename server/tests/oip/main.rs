//! The Open Inference Protocol from outside: a real server, the generated client, every bundled model.

mod support;

mod agreement;
mod metadata;
mod refusals;
mod statistics;
mod stream;
