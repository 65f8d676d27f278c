//! The inference engines of this build, picked by Cargo feature.
//!
//! Invariants:
//!
//! - Everything above this crate sees engines only as [`Backend`]s.
//! - A backend's name is unique, and is the `backend` key of a manifest.
//! - Native libraries are looked for only where [`Libraries`] says.
//!
//! Not here: any engine (one crate each beside this one), manifests and tensors (`ev-models-core`).
//!
//! ```
//! # #[cfg(feature = "forest")] {
//! use ev_models::Libraries;
//!
//! let backend = ev_models::backend("forest", &Libraries::default()).expect("built in by default");
//! assert_eq!(backend.name(), "forest");
//! # }
//! assert!(ev_models::backend("abacus", &ev_models::Libraries::default()).is_err());
//! ```

use std::{path::PathBuf, sync::Arc};

use ev_models_core::{Backend, LoadError};

/// Where native libraries are looked for, first to last; each is loaded when the first model needs it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Libraries {
    /// ONNX Runtime's.
    pub onnxruntime: Vec<PathBuf>,
}

/// All backends of this build, in the order they are told to operators.
#[must_use]
pub fn backends(libraries: &Libraries) -> Vec<Arc<dyn Backend>> {
    // Unused where no backend has a native library.
    let Libraries { onnxruntime: _onnxruntime } = libraries;
    vec![
        #[cfg(feature = "candle")]
        Arc::new(ev_models_candle::CandleBackend::new()),
        #[cfg(feature = "forest")]
        Arc::new(ev_models_forest::ForestBackend::new()),
        #[cfg(feature = "ort")]
        Arc::new(ev_models_ort::OrtBackend::new(_onnxruntime.iter().cloned())),
        #[cfg(feature = "xgboost")]
        Arc::new(ev_models_xgboost::XgboostBackend::new()),
    ]
}

/// The backend a manifest asks for.
///
/// # Errors
///
/// [`LoadError::BackendMissing`] when this build has none of that name.
pub fn backend(name: &str, libraries: &Libraries) -> Result<Arc<dyn Backend>, LoadError> {
    let backends = backends(libraries);
    let available = || backends.iter().map(|backend| backend.name()).collect::<Vec<_>>().join(", ");
    let found = backends.iter().find(|backend| backend.name() == name).cloned();
    found.ok_or_else(|| LoadError::BackendMissing { backend: name.to_owned(), available: available() })
}
