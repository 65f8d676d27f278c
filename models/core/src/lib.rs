//! What every inference engine and everything above it agree on: the [`Backend`], [`Model`] and [`Instance`] traits, [`Tensors`], and the [`Manifest`].
//!
//! Invariants:
//!
//! - Engines are synchronous: no tokio, no clock, no network here or in any backend.
//! - A manifest that was parsed is consistent: every name it mentions exists, every list has the length it must have.
//! - Digests are SHA-256, written `sha256:<hex>`.
//!
//! Not here: any engine, any storage, anything about electric vehicles.
//!
//! ```
//! use ev_models_core::{Tensor, Tensors};
//!
//! let rows = Tensor::f32([2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
//! let batch = Tensors::from(vec![rows]);
//! assert_eq!(batch[0].rows(), 2);
//! assert_eq!(batch[0].as_f32(), Some(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0][..]));
//! ```

mod artifact;
mod backend;
mod digest;
mod error;
pub mod manifest;
pub mod recipe;
mod tensor;

pub use artifact::ArtifactDir;
pub use backend::{Backend, HeadSignature, InputColumns, Instance, LoadOptions, Model};
pub use digest::{Digest, DigestError};
pub use error::{LoadError, RunError};
pub use manifest::{Manifest, ManifestError};
pub use tensor::{DataType, Tensor, TensorData, Tensors};
