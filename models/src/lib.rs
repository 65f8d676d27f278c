//! The inference engines of this build, picked by Cargo feature.
//!
//! Invariants:
//!
//! - Everything above this crate sees engines only as [`Backend`]s.
//! - A backend's name is unique, and is the `backend` key of a manifest.
//!
//! Not here: any engine (one crate each beside this one), manifests and tensors (`ev-models-core`).
//!
//! ```
//! # #[cfg(feature = "forest")] {
//! let backend = ev_models::backend("forest").expect("built in by default");
//! assert_eq!(backend.name(), "forest");
//! # }
//! assert!(ev_models::backend("abacus").is_err());
//! ```

use std::sync::Arc;

use ev_models_core::{Backend, LoadError};

/// All backends of this build, in the order they are told to operators.
#[must_use]
pub fn backends() -> Vec<Arc<dyn Backend>> {
    vec![
        #[cfg(feature = "forest")]
        Arc::new(ev_models_forest::ForestBackend::new()),
        #[cfg(feature = "xgboost")]
        Arc::new(ev_models_xgboost::XgboostBackend::new()),
    ]
}

/// The backend a manifest asks for.
///
/// # Errors
///
/// [`LoadError::BackendMissing`] when this build has none of that name.
pub fn backend(name: &str) -> Result<Arc<dyn Backend>, LoadError> {
    backends().into_iter().find(|backend| backend.name() == name).ok_or_else(|| LoadError::BackendMissing {
        backend: name.to_owned(),
        available: backends().iter().map(|backend| backend.name()).collect::<Vec<_>>().join(", "),
    })
}
