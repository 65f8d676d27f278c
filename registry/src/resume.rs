//! A version that comes over several connections.
//!
//! What has come lies by digest, so that whoever sends the same files goes on where another was cut off: nothing but the
//! files themselves says whose they are. Several may send them at one time; each takes what the other has not sent.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use ev_models_core::{Digest, manifest::FileEntry};

use crate::{
    Collected, Imported, Registry, RegistryError, StagedCounts,
    artifacts::{Come, Partial},
    blocking::blocking,
    plan::Plan,
};

/// A version that comes over several connections; begun, or gone on with, by [`Registry::resume_upload`].
///
/// Nothing is visible before [`ResumableUpload::finish`] returns. Dropping the upload keeps what has come, within bounds:
/// see [`crate::StagedLimits`] and [`Registry::sweep_uploads`]. After an error the upload takes nothing more, and another
/// goes on with what has come.
#[derive(Debug)]
pub struct ResumableUpload {
    registry: Registry,
    plan: Plan,
    entries: BTreeMap<String, FileEntry>,
    // Files of which something has to come, by what they are; the others are stored.
    partials: BTreeMap<(Digest, u64), Partial>,
    failed: bool,
}

// === impl Registry ===

impl Registry {
    /// How many bytes of each file have come; all of them of one that is stored.
    ///
    /// # Errors
    ///
    /// [`RegistryError::TooManyFiles`] and [`RegistryError::Storage`].
    pub async fn received(&self, files: &[FileEntry]) -> Result<Vec<u64>, RegistryError> {
        let max = self.limits().max_files;
        if files.len() > max {
            return Err(RegistryError::TooManyFiles { found: files.len(), max });
        }
        let mut received = Vec::with_capacity(files.len());
        for file in files {
            let partial = self.artifacts().partials().partial(file);
            // What has begun is asked first: it may be there to take the place of a stored file that is corrupt.
            received.push(match blocking(move || partial.come()).await? {
                Come::To(received) => received.min(file.size),
                Come::Gone if self.artifacts().has(&file.sha256).await? => file.size,
                Come::Gone => 0,
            });
        }
        Ok(received)
    }

    /// Begins or goes on with a version whose files are known: their paths, digests and sizes.
    ///
    /// # Errors
    ///
    /// [`RegistryError::InvalidManifest`], [`RegistryError::TooLarge`], [`RegistryError::TooManyFiles`],
    /// [`RegistryError::UnknownFile`], [`RegistryError::MissingFile`], [`RegistryError::OutOfOrder`] for a file listed twice,
    /// [`RegistryError::SizeMismatch`] and [`RegistryError::DigestMismatch`] where the manifest says something else,
    /// [`RegistryError::StagingFull`], [`RegistryError::DiskFull`], [`RegistryError::Storage`].
    pub async fn resume_upload(
        &self,
        manifest_toml: &str,
        files: Vec<FileEntry>,
        now_ms: i64,
    ) -> Result<ResumableUpload, RegistryError> {
        let plan = self.plan(manifest_toml.to_owned()).await?;
        let entries = plan.expected(files)?;
        let mut missing = Vec::new();
        for file in entries.values() {
            if !(self.artifacts().has(&file.sha256).await? && self.is_sound_where_stored(file).await?) {
                missing.push(file.clone());
            }
        }
        let partials = self.artifacts().partials().clone();
        let partials = blocking(move || {
            partials.begin(&missing, now_ms)?;
            Ok(missing.iter().map(|file| ((file.sha256, file.size), partials.partial(file))).collect())
        });
        Ok(ResumableUpload { registry: self.clone(), plan, entries, partials: partials.await?, failed: false })
    }

    /// Whether a file is what it shall be, for everybody who reads the store.
    async fn is_sound_where_stored(&self, file: &FileEntry) -> Result<bool, RegistryError> {
        match self.artifacts().verify(&file.path, &file.sha256).await {
            Ok(size) => Ok(size == file.size),
            Err(error) if error.is_of_store() => Err(error),
            Err(_) => Ok(false),
        }
    }

    /// Removes what has come of uploads and downloads that have not ended and that nobody has gone on with since.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Storage`]; some are removed then.
    pub async fn sweep_uploads(&self, before_ms: i64) -> Result<Collected, RegistryError> {
        let partials = self.artifacts().partials().clone();
        let mut swept = blocking(move || partials.sweep(before_ms)).await?;
        if let Some(downloads) = self.artifacts().downloads().cloned() {
            let downloads = blocking(move || downloads.sweep(before_ms)).await?;
            swept = Collected { files: swept.files + downloads.files, bytes: swept.bytes + downloads.bytes };
        }
        if swept.files > 0 {
            tracing::info!(
                files = swept.files,
                bytes = swept.bytes,
                "files of uploads and downloads that were given up deleted"
            );
        }
        Ok(swept)
    }

    /// What lies of uploads that have not ended, as [`Registry::count_staged`] saw it last, and what became of others.
    #[must_use]
    pub fn staged_counts(&self) -> Arc<StagedCounts> {
        Arc::clone(self.artifacts().partials().counts())
    }

    /// Looks at what lies of uploads that have not ended, for [`Registry::staged_counts`]: others may use the folder, too.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Storage`].
    pub async fn count_staged(&self) -> Result<(), RegistryError> {
        let partials = self.artifacts().partials().clone();
        blocking(move || partials.count()).await
    }
}

// === impl ResumableUpload ===

impl ResumableUpload {
    /// Takes bytes of a file that lie at `offset`. Those that have come before are passed over.
    ///
    /// # Errors
    ///
    /// [`RegistryError::UnknownFile`], [`RegistryError::Gap`], [`RegistryError::SizeMismatch`],
    /// [`RegistryError::RefusedFile`] and [`RegistryError::DigestMismatch`], which remove what has come of the file,
    /// [`RegistryError::DiskFull`], [`RegistryError::Storage`].
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, the bytes may have been taken, and the upload takes nothing more.
    pub async fn write(&mut self, path: &str, offset: u64, bytes: Bytes) -> Result<(), RegistryError> {
        if std::mem::replace(&mut self.failed, true) {
            return Err(RegistryError::UploadFailed);
        }
        self.take(path, offset, bytes).await?;
        self.failed = false;
        Ok(())
    }

    /// Stores and registers the version.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Gap`] for a file that has not come whole, [`RegistryError::DigestMismatch`],
    /// [`RegistryError::UploadFailed`] when an earlier piece failed,
    /// [`RegistryError::DiskFull`], [`RegistryError::Storage`].
    pub async fn finish(self, created_at_ms: i64) -> Result<Imported, RegistryError> {
        let ResumableUpload { registry, plan, entries, partials, failed } = self;
        if failed {
            return Err(RegistryError::UploadFailed);
        }
        // In the order of their digests, as everyone takes their locks.
        let finished = blocking(move || {
            partials.into_iter().map(|(key, partial)| Ok((key, partial.finish()?))).collect::<Result<Vec<_>, _>>()
        });
        let (mut staged, mut unfinished) = (Vec::new(), Vec::new());
        for (key, finished) in finished.await? {
            match finished {
                Ok(file) => staged.push(file),
                Err(come) => unfinished.push((key, come)),
            }
        }
        for (key, come) in unfinished {
            let Some(file) = entries.values().find(|file| (file.sha256, file.size) == key) else { continue };
            let received = match come {
                // Stored by another meanwhile.
                Come::Gone if registry.artifacts().fetch(file).await.is_ok() => continue,
                Come::Gone => 0,
                Come::To(received) => received,
            };
            return Err(RegistryError::Gap { file: file.path.clone(), received, expected: file.size });
        }
        registry.store(plan, entries, staged, created_at_ms).await
    }

    async fn take(&mut self, path: &str, offset: u64, bytes: Bytes) -> Result<(), RegistryError> {
        self.plan.expects(path)?;
        let Some(file) = self.entries.get(path) else {
            return Err(RegistryError::UnknownFile { file: path.to_owned() });
        };
        let (key, count) = ((file.sha256, file.size), bytes.len() as u64);
        // Stored, before this began or since: by another who sends the same.
        let Some(mut partial) = self.partials.remove(&key) else { return Ok(()) };
        let (partial, come) = blocking(move || {
            let come = partial.write(offset, &bytes)?;
            Ok((partial, come))
        })
        .await?;
        match come {
            Come::Gone if self.registry.artifacts().has(&key.0).await? => {}
            Come::Gone => {
                return Err(RegistryError::Gap { file: path.to_owned(), received: 0, expected: offset + count });
            }
            Come::To(received) => {
                self.partials.insert(key, partial);
                if received < offset {
                    return Err(RegistryError::Gap { file: path.to_owned(), received, expected: offset });
                }
            }
        }
        Ok(())
    }
}
