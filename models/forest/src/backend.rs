//! The backend: files to models.

use std::{io::Read as _, sync::Arc};

use ev_models_core::{ArtifactDir, Backend, LoadError, LoadOptions, Model};

#[cfg(target_arch = "x86_64")]
use crate::kernel::avx512::{self, Avx512, Packed, Vbmi};
use crate::{
    forest::Forest,
    kernel::{Kernel, Layout, Pack, Portable, Program, portable},
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

    pub(crate) fn model(&self, file: &str, format: Format, forest: Forest) -> Result<Arc<dyn Model>, LoadError> {
        let forest = Arc::new(forest);
        let model = self.avx512(format, &forest).or_else(|| self.portable(format, &forest));
        model.ok_or_else(|| LoadError::Unsupported {
            file: file.to_owned(),
            what: self.kernel.map_or_else(
                || "a forest of this shape".to_owned(),
                |kernel| format!("the {kernel} kernel for this model on this CPU"),
            ),
            advice: "let the backend choose the kernel".to_owned(),
        })
    }

    fn may_be(&self, kernel: Kernel) -> bool {
        self.kernel.is_none_or(|wanted| wanted == kernel)
    }

    #[cfg(target_arch = "x86_64")]
    fn avx512(&self, format: Format, forest: &Arc<Forest>) -> Option<Arc<dyn Model>> {
        let trees = &forest.trees;
        let layout = Layout::new(trees, avx512::DEPTH_MAX, avx512::LANES);
        if self.kernel.is_none() && !layout.pays(trees) {
            return None;
        }
        let layout = Arc::new(layout);
        let bytes = || {
            let cpu = Vbmi::detect().filter(|_| self.may_be(Kernel::Bytes))?;
            model(format, forest, &layout, Packed::<u8, 64>::new(cpu, trees, &layout))
                .or_else(|| model(format, forest, &layout, Packed::<u8, 128>::new(cpu, trees, &layout)))
        };
        let words = || {
            let cpu = Avx512::detect().filter(|_| self.may_be(Kernel::Words))?;
            model(format, forest, &layout, Packed::<u16, 32>::new(cpu, trees, &layout))
                .or_else(|| model(format, forest, &layout, Packed::<u16, 64>::new(cpu, trees, &layout)))
        };
        bytes().or_else(words)
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn avx512(&self, _format: Format, _forest: &Arc<Forest>) -> Option<Arc<dyn Model>> {
        None
    }

    fn portable(&self, format: Format, forest: &Arc<Forest>) -> Option<Arc<dyn Model>> {
        if !self.may_be(Kernel::Portable) {
            return None;
        }
        let trees = &forest.trees;
        let layout = Arc::new(Layout::new(trees, portable::DEPTH_MAX, 1));
        model(format, forest, &layout, Portable::<u8>::new(trees, &layout))
            .or_else(|| model(format, forest, &layout, Portable::<u16>::new(trees, &layout)))
    }
}

/// The model, if its trees could be packed.
fn model<P: Pack>(
    format: Format,
    forest: &Arc<Forest>,
    layout: &Arc<Layout>,
    pack: Option<P>,
) -> Option<Arc<dyn Model>> {
    Some(Arc::new(ForestModel::new(format.name(), Program::new(Arc::clone(forest), pack?, Arc::clone(layout)))))
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
