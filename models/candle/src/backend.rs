//! The backend: directories to models.

use std::{io::Read as _, sync::Arc};

use ev_models_core::{ArtifactDir, Backend, LoadError, LoadOptions, Model};

use crate::{NAME, config::Config, kernel::Kernel, model::CandleModel, network::Network, weights::Weights};

/// Bytes of the weights; those of the largest published model have 2.6 GB.
const WEIGHTS_BYTES_MAX: u64 = 4 << 30;
/// Bytes of `config.json`, most of which are names of classes.
const CONFIG_BYTES_MAX: u64 = 4 << 20;
/// What Hugging Face calls it.
const CONFIG: &str = "config.json";

/// Loads ConvNeXt V2 image classifiers as Hugging Face stores them.
#[derive(Debug, Clone, Copy)]
pub struct CandleBackend {
    kernel: Kernel,
}

// === impl CandleBackend ===

impl CandleBackend {
    /// A backend with the best kernel of this CPU.
    #[must_use]
    pub fn new() -> CandleBackend {
        CandleBackend { kernel: Kernel::best() }
    }

    /// A backend with a kernel of the caller's choice, to compare them.
    #[must_use]
    pub fn with_kernel(kernel: Kernel) -> CandleBackend {
        CandleBackend { kernel }
    }

    /// Loads a model from memory; `options.file` is what errors call the weights.
    ///
    /// # Errors
    ///
    /// [`LoadError`] naming the key or tensor that is not as expected.
    pub fn load_bytes(
        &self,
        config: &[u8],
        weights: &[u8],
        options: &LoadOptions,
    ) -> Result<Arc<dyn Model>, LoadError> {
        let config = Config::read(config).map_err(|problem| LoadError::Malformed {
            file: CONFIG.to_owned(),
            place: "the top".to_owned(),
            problem,
        })?;
        let [height, width] = image(&config, options)?;
        let weights = Weights::read(weights, &options.file)?;
        let network = Network::new(&config, height, width, &weights, self.kernel)?;
        Ok(Arc::new(CandleModel::new(network)))
    }
}

impl Default for CandleBackend {
    fn default() -> CandleBackend {
        CandleBackend::new()
    }
}

impl Backend for CandleBackend {
    fn name(&self) -> &'static str {
        NAME
    }

    fn load(&self, artifact: &ArtifactDir, options: &LoadOptions) -> Result<Arc<dyn Model>, LoadError> {
        // Beside the weights, in whatever folder of the artifact they are.
        let folder = options.file.rsplit_once('/').map_or("", |(folder, _)| folder);
        let config = if folder.is_empty() { CONFIG.to_owned() } else { format!("{folder}/{CONFIG}") };
        let config = read(artifact, &config, CONFIG_BYTES_MAX)?;
        let weights = read(artifact, &options.file, WEIGHTS_BYTES_MAX)?;
        self.load_bytes(&config, &weights, options)
    }
}

/// Height and width of the images that the manifest gives, or else that the configuration names.
fn image(config: &Config, options: &LoadOptions) -> Result<[usize; 2], LoadError> {
    let [height, width] = match options.inputs.as_slice() {
        [one] => match *one.shape.as_slice() {
            [channels, height, width] if channels == config.num_channels => [height, width],
            _ => [config.image_size; 2],
        },
        _ => [config.image_size; 2],
    };
    if config.num_channels.checked_mul(height).and_then(|rows| rows.checked_mul(width)) != Some(options.columns) {
        return Err(LoadError::Mismatch {
            file: options.file.clone(),
            problem: format!(
                "it takes images of [{}, height, width], such as {}, the manifest gives {} values; \
                 declare one input of that shape",
                config.num_channels,
                config.num_channels * config.image_size * config.image_size,
                options.columns,
            ),
        });
    }
    Ok([height, width])
}

/// The bytes of a file of an artifact, if they are not too many.
fn read(artifact: &ArtifactDir, file: &str, bytes_max: u64) -> Result<Vec<u8>, LoadError> {
    let unreadable = |reason: String| LoadError::Unreadable { file: file.to_owned(), reason };
    let source = fs_err::File::open(artifact.path(file)?).map_err(|error| unreadable(error.to_string()))?;
    let mut bytes = Vec::new();
    source.take(bytes_max + 1).read_to_end(&mut bytes).map_err(|error| unreadable(error.to_string()))?;
    if bytes.len() as u64 > bytes_max {
        return Err(unreadable(format!("longer than {} MiB", bytes_max >> 20)));
    }
    Ok(bytes)
}
