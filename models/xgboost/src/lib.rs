//! Boosters that only XGBoost's own library runs: `dart` and `gblinear` (and `gbtree`, which `ev-models-forest` runs
//! faster), through the C interface of the XGBoost 1.6.2 that the crate `xgboost-rs-sys` carries.
//!
//! Building it takes cmake, a C++ compiler and libclang (on Debian `libclang1-14` and `libclang-common-14-dev`, with
//! `LIBCLANG_PATH` set to its folder), so the workspace builds it only where it is asked for.
//!
//! Invariants:
//!
//! - Files of a version after 1.6 are refused by the version they state: the library would load some of them, misread
//!   their base score, and answer wrongly without a word.
//! - The library, which trusts its input, never sees a file: a file is read and checked here, and the library is given
//!   text written anew from what was found sound. JSON only.
//! - Answers are those of the library's `predict`, with NaN as missing, on one thread.
//!
//! Not here: UBJSON and files of later versions (`ev-models-forest` reads both), splits by category, training.
//! The safe crate `xgboost-rs` is not used: its matrices take 0 for missing, its margins are computed as if training,
//! which drops trees of a `dart` booster at random, and cloning its boosters frees them twice.
//!
//! ```
//! use ev_models_core::{Tensor, Tensors};
//! use ev_models_xgboost::XgboostBackend;
//!
//! // A line: 2 x + 1.
//! let file = br#"{"version": [1, 6, 2], "learner": {
//!     "learner_model_param": {"base_score": "0E0", "num_class": "0", "num_feature": "1"},
//!     "objective": {"name": "reg:squarederror"},
//!     "gradient_booster": {"name": "gblinear", "model": {"weights": [2.0, 1.0]}}}}"#;
//! let model = XgboostBackend::new().load_bytes("line.json", file)?;
//! let batch = Tensors::from(vec![Tensor::f32([2, 1], vec![3.0, 0.0])]);
//! let mut instance = model.instantiate()?;
//! assert_eq!(instance.run(&batch)?[0].as_f32(), Some(&[7.0, 1.0][..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod backend;
mod document;
mod library;
mod model;
mod tree;

pub use backend::XgboostBackend;
