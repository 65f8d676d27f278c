//! XGBoost forests in native Rust.

use std::sync::Arc;

use ev_models_core::{ArtifactDir, Backend, LoadError, LoadOptions, Model};

/// Loads XGBoost JSON and UBJSON.
#[derive(Debug, Clone, Copy, Default)]
pub struct ForestBackend;

// === impl ForestBackend ===

impl ForestBackend {
    /// A backend that picks the fastest kernel for each model.
    #[must_use]
    pub fn new() -> ForestBackend {
        ForestBackend
    }
}

impl Backend for ForestBackend {
    fn name(&self) -> &'static str {
        "forest"
    }

    fn load(&self, _artifact: &ArtifactDir, options: &LoadOptions) -> Result<Arc<dyn Model>, LoadError> {
        Err(LoadError::Unsupported {
            file: options.file.clone(),
            what: "loading".to_owned(),
            advice: "use a later build".to_owned(),
        })
    }
}
