//! The backend: files to models.

use std::{io::Read as _, sync::Arc};

use ev_models_core::{ArtifactDir, Backend, HeadSignature, LoadError, LoadOptions, Model};

use crate::{
    document::{Document, Problem},
    model::XgboostModel,
};

/// Bytes of a model file.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Loads XGBoost JSON of versions up to 1.6.
#[derive(Debug, Clone, Copy, Default)]
pub struct XgboostBackend;

// === impl XgboostBackend ===

impl XgboostBackend {
    /// The backend.
    #[must_use]
    pub fn new() -> XgboostBackend {
        XgboostBackend
    }

    /// Loads a model from memory; `file` is what errors call it.
    ///
    /// # Errors
    ///
    /// [`LoadError`] when the bytes are not a model this backend runs, or the library refuses it.
    pub fn load_bytes(&self, file: &str, bytes: &[u8]) -> Result<Arc<dyn Model>, LoadError> {
        let document = Document::read(bytes).map_err(|problem| problem.into_error(file))?;
        let signature = HeadSignature {
            columns: document.columns(),
            outputs: document.groups(),
            description: format!("XGBoost JSON, {}, XGBoost 1.6.2's own library", document.description()),
        };
        let text = serde_json::to_vec(&document)
            .map_err(|error| Problem::malformed("the top", error.to_string()).into_error(file))?;
        Ok(Arc::new(XgboostModel::new(signature, text)?))
    }
}

impl Backend for XgboostBackend {
    fn name(&self) -> &'static str {
        crate::model::NAME
    }

    fn load(&self, artifact: &ArtifactDir, options: &LoadOptions) -> Result<Arc<dyn Model>, LoadError> {
        let file = options.file.as_str();
        let unreadable = |reason: String| LoadError::Unreadable { file: file.to_owned(), reason };
        let source = fs_err::File::open(artifact.path(file)?).map_err(|error| unreadable(error.to_string()))?;
        let mut bytes = Vec::new();
        source.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| unreadable(error.to_string()))?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(unreadable(format!("longer than {} MiB", FILE_BYTES_MAX >> 20)));
        }
        let model = self.load_bytes(file, &bytes)?;
        let columns = model.signature().columns;
        if columns != options.columns {
            return Err(LoadError::Mismatch {
                file: file.to_owned(),
                problem: format!("the file takes {columns} columns, the manifest gives {}", options.columns),
            });
        }
        Ok(model)
    }
}
