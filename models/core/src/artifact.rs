//! The files of one model version.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::LoadError;

/// Files of one model version by their path in the manifest, wherever they lie: a source directory, or a content-addressed store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ArtifactDir {
    files: BTreeMap<String, PathBuf>,
}

// === impl ArtifactDir ===

impl ArtifactDir {
    /// An artifact of these files: path in the manifest, place on disk.
    #[must_use]
    pub fn new(files: impl IntoIterator<Item = (String, PathBuf)>) -> ArtifactDir {
        ArtifactDir { files: files.into_iter().collect() }
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
