//! A version that comes piece by piece.

use std::collections::BTreeMap;

use bytes::Bytes;
use ev_models_core::manifest::FileEntry;

use crate::{Imported, Registry, RegistryError, Staged, Staging, plan::Plan};

/// A version that comes piece by piece; begun by [`Registry::begin_upload`].
///
/// Nothing is visible before [`Upload::finish`] returns; dropping the upload removes what has come.
/// After an error the upload takes nothing more.
#[derive(Debug)]
pub struct Upload {
    registry: Registry,
    plan: Plan,
    current: Option<(String, Staging)>,
    entries: BTreeMap<String, FileEntry>,
    staged: Vec<Staged>,
    // Bytes of the files that have ended.
    taken: u64,
    failed: bool,
}

// === impl Upload ===

impl Upload {
    pub(crate) fn new(registry: Registry, plan: Plan) -> Upload {
        let (entries, staged) = (BTreeMap::new(), Vec::new());
        Upload { registry, plan, current: None, entries, staged, taken: 0, failed: false }
    }

    /// Takes the next piece of a file. A piece of another file ends the one before; files come in any order.
    ///
    /// # Errors
    ///
    /// [`RegistryError::UnknownFile`], [`RegistryError::OutOfOrder`], [`RegistryError::TooLarge`],
    /// [`RegistryError::SizeMismatch`] and [`RegistryError::DigestMismatch`] (of the file that ends here),
    /// [`RegistryError::DiskFull`], [`RegistryError::Storage`].
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, the upload takes nothing more.
    pub async fn write(&mut self, path: &str, bytes: Bytes) -> Result<(), RegistryError> {
        if std::mem::replace(&mut self.failed, true) {
            return Err(RegistryError::UploadFailed);
        }
        self.take(path, bytes).await?;
        self.failed = false;
        Ok(())
    }

    /// Stores and registers the version.
    ///
    /// # Errors
    ///
    /// [`RegistryError::MissingFile`], [`RegistryError::SizeMismatch`], [`RegistryError::DigestMismatch`],
    /// [`RegistryError::UploadFailed`] when an earlier piece failed, [`RegistryError::DiskFull`], [`RegistryError::Storage`].
    pub async fn finish(mut self, created_at_ms: i64) -> Result<Imported, RegistryError> {
        if self.failed {
            return Err(RegistryError::UploadFailed);
        }
        self.end_file().await?;
        let Upload { registry, plan, entries, staged, .. } = self;
        registry.store(plan, entries, staged, created_at_ms).await
    }

    async fn take(&mut self, path: &str, bytes: Bytes) -> Result<(), RegistryError> {
        self.plan.expects(path)?;
        if self.current.as_ref().is_none_or(|(current, _)| current != path) {
            self.end_file().await?;
            if self.entries.contains_key(path) {
                return Err(RegistryError::OutOfOrder { file: path.to_owned() });
            }
            let staging = self.registry.artifacts().stage(path, self.plan.max_bytes(self.taken)).await?;
            self.current = Some((path.to_owned(), staging));
        }
        let Some((_, staging)) = &mut self.current else { return Err(RegistryError::UploadFailed) };
        let size = staging.size().saturating_add(bytes.len() as u64);
        self.plan.check_size(path, size, self.taken)?;
        staging.write(bytes).await
    }

    async fn end_file(&mut self) -> Result<(), RegistryError> {
        let Some((path, staging)) = self.current.take() else { return Ok(()) };
        let staged = staging.finish().await?;
        let entry = staged.entry(path.as_str());
        self.plan.check(&entry)?;
        self.taken = self.taken.saturating_add(entry.size);
        self.staged.push(staged);
        self.entries.insert(path, entry);
        Ok(())
    }
}
