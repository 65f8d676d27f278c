//! A checkpoint, and the same network as ONNX.

pub(crate) mod bundled;
#[path = "../../candle/tests/support/checkpoint.rs"]
#[allow(dead_code, reason = "the backend's own tests use the rest")]
pub(crate) mod checkpoint;
pub(crate) mod export;
#[path = "../../ort/tests/support/onnx.rs"]
#[allow(dead_code, reason = "the backend's own tests use the rest")]
pub(crate) mod onnx;
