//! The backend: files to models.

use std::{io::Read as _, path::PathBuf, sync::Arc};

use ev_models_core::{ArtifactDir, Backend, LoadError, LoadOptions, Model};

use crate::{
    NAME,
    document::Document,
    library,
    model::{OrtModel, Shared},
};

/// Bytes of a model file: protobuf's own bound is just below 2 GiB.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Loads ONNX.
#[derive(Debug, Clone)]
pub struct OrtBackend {
    candidates: Vec<PathBuf>,
}

// === impl OrtBackend ===

impl OrtBackend {
    /// A backend that takes the library from the first of `candidates` that is there when the first model is loaded.
    #[must_use]
    pub fn new(candidates: impl IntoIterator<Item = PathBuf>) -> OrtBackend {
        OrtBackend { candidates: candidates.into_iter().collect() }
    }

    /// Loads a model from memory; `options.file` is what errors call it.
    ///
    /// # Errors
    ///
    /// [`LoadError`] when the bytes are not ONNX, the library is missing or refuses them, or the graph does not take
    /// and give what the options say.
    pub fn load_bytes(&self, bytes: Vec<u8>, options: &LoadOptions) -> Result<Arc<dyn Model>, LoadError> {
        let document = Document::read(&bytes).map_err(|problem| problem.into_error(&options.file))?;
        let shared = Shared::new(library::environment(&self.candidates)?, document)?;
        Ok(Arc::new(OrtModel::new(shared, bytes, options)?))
    }
}

impl Backend for OrtBackend {
    fn name(&self) -> &'static str {
        NAME
    }

    fn load(&self, artifact: &ArtifactDir, options: &LoadOptions) -> Result<Arc<dyn Model>, LoadError> {
        let unreadable = |reason: String| LoadError::Unreadable { file: options.file.clone(), reason };
        let source =
            fs_err::File::open(artifact.path(&options.file)?).map_err(|error| unreadable(error.to_string()))?;
        let size = source.metadata().map_err(|error| unreadable(error.to_string()))?.len();
        // A byte more, so that its end is seen before there is no room.
        let mut bytes = Vec::with_capacity(usize::try_from(size.min(FILE_BYTES_MAX)).unwrap_or(0) + 1);
        source.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| unreadable(error.to_string()))?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(unreadable(format!("longer than {} MiB", FILE_BYTES_MAX >> 20)));
        }
        self.load_bytes(bytes, options)
    }

    fn keep_memory(&self, is_kept: bool) {
        library::keep_memory(is_kept);
    }
}
