//! The files of one model version.

use std::{
    any::Any,
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::LoadError;

/// Files of one model version by their path in the manifest, wherever they lie: a source directory, or a content-addressed store.
#[derive(Clone, Default)]
pub struct ArtifactDir {
    files: BTreeMap<String, PathBuf>,
    // Whoever keeps the files where they are.
    _held: Option<Arc<dyn Any + Send + Sync>>,
}

// === impl ArtifactDir ===

impl ArtifactDir {
    /// An artifact of these files: path in the manifest, place on disk.
    #[must_use]
    pub fn new(files: impl IntoIterator<Item = (String, PathBuf)>) -> ArtifactDir {
        ArtifactDir { files: files.into_iter().collect(), _held: None }
    }

    /// An artifact whose files stay where they are for as long as this lives.
    #[must_use]
    pub fn held_by(self, held: Option<Arc<dyn Any + Send + Sync>>) -> ArtifactDir {
        ArtifactDir { _held: held, ..self }
    }

    /// Where a file lies.
    ///
    /// # Errors
    ///
    /// [`LoadError::Unreadable`] when the artifact has no such file.
    pub fn path(&self, file: &str) -> Result<&Path, LoadError> {
        self.files.get(file).map(PathBuf::as_path).ok_or_else(|| LoadError::Unreadable {
            file: file.to_owned(),
            reason: "the artifact has no such file".to_owned(),
        })
    }

    /// Paths in the manifest and places on disk.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.files.iter().map(|(file, path)| (file.as_str(), path.as_path()))
    }
}

impl fmt::Debug for ArtifactDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ArtifactDir").field(&self.files).finish()
    }
}
