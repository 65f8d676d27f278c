//! The backend: files to models.

use std::{io::Read as _, sync::Arc};

use ev_models_core::{ArtifactDir, Backend, LoadError, LoadOptions, Model};

use crate::{
    forest::Forest,
    kernel::{Kernel, Pack, Portable, Program, portable},
    limits::FILE_BYTES_MAX,
    loader::{self, Format},
    model::ForestModel,
};

/// Loads XGBoost JSON and UBJSON, told apart by their content.
#[derive(Debug, Clone, Copy, Default)]
pub struct ForestBackend {
    kernel: Option<Kernel>,
}

// === impl ForestBackend ===

impl ForestBackend {
    /// A backend that takes the fastest kernel that this CPU and each model allow.
    #[must_use]
    pub fn new() -> ForestBackend {
        ForestBackend { kernel: None }
    }

    /// A backend that takes this kernel or refuses the model: for tests and benchmarks.
    #[must_use]
    pub fn with_kernel(kernel: Kernel) -> ForestBackend {
        ForestBackend { kernel: Some(kernel) }
    }

    /// Loads a model from memory; `file` is what errors call it.
    ///
    /// # Errors
    ///
    /// [`LoadError`] when the bytes are not a model this backend runs; the error names the place.
    pub fn load_bytes(&self, file: &str, bytes: &[u8]) -> Result<Arc<dyn Model>, LoadError> {
        let (format, forest) = loader::load(file, bytes)?;
        self.model(file, format, forest)
    }

    fn model(&self, file: &str, format: Format, forest: Forest) -> Result<Arc<dyn Model>, LoadError> {
        let kernel = self.kernel.unwrap_or(Kernel::Portable);
        match kernel {
            Kernel::Portable => {}
            Kernel::Words | Kernel::Bytes => {
                return Err(LoadError::Unsupported {
                    file: file.to_owned(),
                    what: format!("the {kernel} kernel, on this CPU or with this model"),
                    advice: "let the backend choose the kernel".to_owned(),
                });
            }
        }
        if let Some(pack) = Portable::<u8>::new(&forest) {
            return Ok(model(format, forest, pack, portable::DEPTH_MAX));
        }
        let pack = Portable::<u16>::new(&forest).unwrap_or_else(|| unreachable!("the loader bounds the columns"));
        Ok(model(format, forest, pack, portable::DEPTH_MAX))
    }
}

fn model<P: Pack>(format: Format, forest: Forest, pack: P, depth_max: usize) -> Arc<dyn Model> {
    Arc::new(ForestModel::new(format.name(), Program::new(forest, pack, depth_max)))
}

impl Backend for ForestBackend {
    fn name(&self) -> &'static str {
        "forest"
    }

    fn load(&self, artifact: &ArtifactDir, options: &LoadOptions) -> Result<Arc<dyn Model>, LoadError> {
        let bytes = read(artifact, &options.file)?;
        let model = self.load_bytes(&options.file, &bytes)?;
        let columns = model.signature().columns;
        if columns != options.columns {
            return Err(LoadError::Mismatch {
                file: options.file.clone(),
                problem: format!("the file takes {columns} columns, the manifest gives {}", options.columns),
            });
        }
        Ok(model)
    }
}

/// The bytes of a file of an artifact, if they are not too many.
fn read(artifact: &ArtifactDir, file: &str) -> Result<Vec<u8>, LoadError> {
    let unreadable = |reason: String| LoadError::Unreadable { file: file.to_owned(), reason };
    let source = fs_err::File::open(artifact.path(file)?).map_err(|error| unreadable(error.to_string()))?;
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that is too long from one that just fits.
    source.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| unreadable(error.to_string()))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(unreadable(format!("longer than {} MiB", FILE_BYTES_MAX >> 20)));
    }
    Ok(bytes)
}
