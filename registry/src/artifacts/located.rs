//! Files whose place is known before their bytes are verified.

use std::{any::Any, fmt, path::PathBuf, sync::Arc};

use ev_models_core::{ArtifactDir, manifest::FileEntry};

use super::directory::verify;
use crate::RegistryError;

/// A stored file on the local disk, to be verified.
#[derive(Debug)]
pub struct Located {
    place: PathBuf,
    expected: FileEntry,
}

/// The files of a version, to be verified.
///
/// Digests of large files take a processor for milliseconds: [`Registry::fetch`] takes them on a thread like any other, and
/// who loads versions beside requests takes them on a thread that gives way.
///
/// [`Registry::fetch`]: crate::Registry::fetch
pub struct LocatedFiles {
    files: Vec<(String, Located)>,
    /// Whoever keeps them where they are.
    held: Option<Arc<dyn Any + Send + Sync>>,
}

// === impl Located ===

impl Located {
    pub(crate) fn new(place: PathBuf, expected: FileEntry) -> Located {
        Located { place, expected }
    }

    /// The place, once every byte was read and verified. Blocking.
    ///
    /// # Errors
    ///
    /// As [`crate::ArtifactStore::fetch`].
    pub fn verify(self) -> Result<PathBuf, RegistryError> {
        let Located { place, expected: FileEntry { path, sha256, .. } } = self;
        verify(&place, &path, &sha256)?;
        Ok(place)
    }
}

// === impl LocatedFiles ===

impl LocatedFiles {
    pub(crate) fn new(files: Vec<(String, Located)>, held: Option<Arc<dyn Any + Send + Sync>>) -> LocatedFiles {
        LocatedFiles { files, held }
    }

    /// The files, once every byte was read and verified. Blocking.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Corrupt`] and [`RegistryError::Lost`] naming the file, and [`RegistryError::Storage`].
    pub fn verify(self) -> Result<ArtifactDir, RegistryError> {
        let places = self.files.into_iter().map(|(path, located)| Ok((path, located.verify()?)));
        Ok(ArtifactDir::new(places.collect::<Result<Vec<_>, RegistryError>>()?).held_by(self.held))
    }
}

impl fmt::Debug for LocatedFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LocatedFiles").field(&self.files).finish()
    }
}
