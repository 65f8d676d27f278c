//! The traits of an inference engine.

use std::sync::Arc;

use crate::{ArtifactDir, LoadError, RunError, Tensors};

/// An inference engine: turns a model file into a [`Model`].
pub trait Backend: Send + Sync {
    /// The engine's name as manifests and metrics say it, such as `forest`.
    fn name(&self) -> &'static str;

    /// Loads one file of an artifact.
    ///
    /// # Errors
    ///
    /// [`LoadError`] when the file is missing, not of a format this backend reads, of a version it does not support,
    /// or inconsistent; the error names the place.
    fn load(&self, artifact: &ArtifactDir, options: &LoadOptions) -> Result<Arc<dyn Model>, LoadError>;

    /// Says that versions are being loaded and freed one after the other, so that memory one of them leaves is kept for the
    /// next; with false, that this is over, and memory that nobody uses goes back to the system. Where the engine has
    /// memory of its own.
    fn keep_memory(&self, _is_kept: bool) {}
}

/// What to load and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadOptions {
    /// Path of the model file inside the artifact.
    pub file: String,
    /// Number of float32 columns the manifest gives the model; a file that wants another number is refused.
    pub columns: usize,
    /// What the columns are, in their order, for engines whose files name inputs and shape them;
    /// empty where nobody knows, otherwise as many values together as there are columns.
    pub inputs: Vec<InputColumns>,
    /// The output's name in the manifest, for engines whose files have several; empty where nobody knows.
    pub output: String,
}

/// Consecutive columns that are one input of the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputColumns {
    /// Its name.
    pub name: String,
    /// Shape of one row's value; empty for a single one.
    pub shape: Vec<usize>,
}

/// What a loaded model takes and gives, as the file itself says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadSignature {
    /// Columns of a row.
    pub columns: usize,
    /// Values of a row's margin and prediction: 1, or the number of classes.
    pub outputs: usize,
    /// One line for operators: format, number of trees, kernel chosen.
    pub description: String,
}

/// A loaded model: immutable, shared by its instances.
pub trait Model: Send + Sync {
    /// What it takes and gives.
    fn signature(&self) -> &HeadSignature;

    /// Makes an instance with scratch buffers of its own.
    ///
    /// # Errors
    ///
    /// [`LoadError`] when the engine cannot make another one.
    fn instantiate(&self) -> Result<Box<dyn Instance>, LoadError>;
}

/// One owner at a time: a worker thread, or a serving thread for inline work.
pub trait Instance: Send {
    /// Runs a batch.
    ///
    /// `batch` holds one float32 tensor of `rows` times `columns` values, with NaN for a value that was not given:
    /// `[rows, columns]`, or for engines whose input has a shape of its own, `[rows, ...]` of that shape.
    /// The answer, valid until the next run, holds two float32 tensors `[rows, outputs]`:
    /// the margin (raw score) and the prediction (what the training library's own predict returns).
    ///
    /// # Errors
    ///
    /// [`RunError`] when the shape is not the model's, or the engine fails.
    fn run(&mut self, batch: &Tensors) -> Result<&Tensors, RunError>;
}

// === impl LoadOptions ===

impl LoadOptions {
    /// A file that takes rows of so many columns, of which nothing else is known.
    #[must_use]
    pub fn new(file: impl Into<String>, columns: usize) -> LoadOptions {
        LoadOptions { file: file.into(), columns, inputs: Vec::new(), output: String::new() }
    }
}

// === impl InputColumns ===

impl InputColumns {
    /// Number of columns.
    #[must_use]
    pub fn width(&self) -> usize {
        self.shape.iter().product()
    }
}
