//! XGBoost's own library as a backend.

use std::sync::Arc;

use ev_models_core::{ArtifactDir, Backend, LoadError, LoadOptions, Model};

/// Loads boosters through XGBoost 1.6.
#[derive(Debug, Clone, Copy, Default)]
pub struct XgboostBackend;

// === impl XgboostBackend ===

impl XgboostBackend {
    /// A backend.
    #[must_use]
    pub fn new() -> XgboostBackend {
        XgboostBackend
    }
}

impl Backend for XgboostBackend {
    fn name(&self) -> &'static str {
        "xgboost"
    }

    fn load(&self, _artifact: &ArtifactDir, options: &LoadOptions) -> Result<Arc<dyn Model>, LoadError> {
        Err(LoadError::Unsupported {
            file: options.file.clone(),
            what: "loading".to_owned(),
            advice: "use a later build".to_owned(),
        })
    }
}
