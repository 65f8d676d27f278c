//! ONNX models through the ONNX Runtime library, which is loaded when the first of them is.
//!
//! A graph takes its inputs from the columns of a row: a graph of one input takes them all, in the input's own shape;
//! a graph of several takes each from the manifest's input of its name. The answer is the graph's output of the
//! manifest's output's name, or its only one, as margin and prediction alike: what becomes of it is the manifest's
//! matter.
//!
//! Invariants:
//!
//! - Without the library every load fails with an error that says where it was looked for and what to run;
//!   nothing else is affected, and a later load looks again.
//! - A file is trusted with nothing before the library sees it: it is one whole ONNX message, its tensors hold the
//!   values they declare, and all of them are inside the file. External data is refused, so no path is ever followed.
//! - One thread runs an instance: the caller's. Sessions do not share a thread pool, and nothing spins.
//! - Weights, packed ones too, are shared by all instances of a model.
//!
//! Not here: execution providers other than the CPU's, sequences, maps and texts (refused by name), protection from
//! graphs that are sound but take for ever or all memory: registering a model is an operator's right.
//!
//! ```no_run
//! use ev_models_core::{ArtifactDir, Backend, LoadOptions, Tensor, Tensors};
//! use ev_models_ort::OrtBackend;
//!
//! let backend = OrtBackend::new(["/usr/lib/evserve/libonnxruntime.so".into()]);
//! let artifact = ArtifactDir::new([("model.onnx".into(), "model.onnx".into())]);
//! let model = backend.load(&artifact, &LoadOptions::new("model.onnx", 4))?;
//! let mut instance = model.instantiate()?;
//! let answer = instance.run(&Tensors::from(vec![Tensor::f32([1, 4], vec![1.0, 2.0, 3.0, 4.0])]))?;
//! println!("{:?}", answer[0].as_f32());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod backend;
mod document;
mod fit;
mod library;
mod model;
mod wire;

pub use backend::OrtBackend;
pub use library::LIBRARY;

/// The backend's name.
const NAME: &str = "ort";
