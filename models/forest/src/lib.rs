//! XGBoost forests in native Rust, bit for bit equal to the library that trained them.
//!
//! Reads XGBoost's JSON and UBJSON of all versions from 1.0 to 3.x. The answer of a run is the margin
//! `[rows, groups]` and the prediction, which is `[rows, groups]` as well but for `multi:softmax`, whose prediction
//! is the class itself: `[rows, 1]`.
//!
//! Invariants:
//!
//! - Margins are the library's: float32 sums, in the order of the version that wrote the file, `x < threshold` left.
//!   Predictions are too, where the C library's `expf` and `logf` are the ones the training library used.
//! - All kernels, and one row or many, give the same bits.
//! - A file is trusted with nothing: whatever the bytes, loading ends soon with a model or an error that names the
//!   place, and never panics, hangs or takes memory beyond a small multiple of the file's size.
//! - Unsafe code is confined to the AVX-512 kernels, each tested against its safe twin.
//!
//! Not here: `dart` and `gblinear` boosters (`ev-models-xgboost`), splits by category and vector leaves (refused),
//! training, anything of a manifest.
//!
//! ```
//! use ev_models_core::{Tensor, Tensors};
//! use ev_models_forest::ForestBackend;
//!
//! // One tree: below 10 (or missing) the answer is 1.5, else 2.5.
//! let file = br#"{"version": [3, 2, 0], "learner": {
//!     "learner_model_param": {"base_score": "[0E0]", "num_class": "0", "num_feature": "1"},
//!     "objective": {"name": "reg:squarederror"},
//!     "gradient_booster": {"name": "gbtree", "model": {"tree_info": [0], "trees": [{
//!         "left_children": [1, -1, -1], "right_children": [2, -1, -1],
//!         "split_indices": [0, 0, 0], "split_conditions": [10.0, 1.5, 2.5],
//!         "default_left": [1, 0, 0], "tree_param": {"num_nodes": "3"}}]}}}}"#;
//! let model = ForestBackend::new().load_bytes("stump.json", file)?;
//! let mut instance = model.instantiate()?;
//! let batch = Tensors::from(vec![Tensor::f32([3, 1], vec![9.0, 10.0, f32::NAN])]);
//! let answer = instance.run(&batch)?;
//! assert_eq!(answer[0].as_f32(), Some(&[1.5, 2.5, 1.5][..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod backend;
mod forest;
mod inspect;
mod kernel;
mod limits;
mod loader;
mod model;
mod objective;

pub use backend::ForestBackend;
pub use inspect::{Inspection, inspect};
pub use kernel::Kernel;
