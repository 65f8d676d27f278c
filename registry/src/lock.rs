//! One process at a time where two would disturb each other.

use std::path::Path;

use fs_err::File;

use crate::RegistryError;

/// Holds a lock file until dropped. The system frees it when the process ends in any way.
#[derive(Debug)]
pub(crate) struct FileLock {
    _file: File,
}

// === impl FileLock ===

impl FileLock {
    /// Waits for the lock.
    pub(crate) fn acquire(path: &Path) -> Result<FileLock, RegistryError> {
        let file = open(path)?;
        file.lock().map_err(|error| RegistryError::storage("lock the registry")(error.into()))?;
        Ok(FileLock { _file: file })
    }

    /// Takes the lock if it is free and its file exists.
    pub(crate) fn try_acquire(path: &Path) -> Option<FileLock> {
        let file = File::open(path).ok()?;
        file.try_lock().ok()?;
        Some(FileLock { _file: file })
    }
}

fn open(path: &Path) -> Result<File, RegistryError> {
    fs_err::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(|error| RegistryError::unwritable(path, error))
}
