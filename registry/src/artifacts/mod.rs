//! Where the bytes lie.

mod content;
mod counts;
mod directory;
mod located;
mod partial;
mod s3;
mod staging;

use std::{any::Any, collections::BTreeSet, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use ev_models_core::{Digest, manifest::FileEntry};

pub(crate) use content::check as check_content;
pub use counts::{CacheCounts, StagedCounts, Swept};
pub use directory::DirectoryArtifactStore;
pub(crate) use directory::sync_folder;
pub use located::{Located, LocatedFiles};
pub use partial::Partials;
pub(crate) use partial::{Come, Partial};
pub use s3::{S3ArtifactStore, S3Options};
pub use staging::{Staged, Staging};

use crate::RegistryError;

/// Keeps bytes by their SHA-256.
///
/// Bytes come in two steps, so that nothing half-written is ever found: they are staged in a local temporary file, which makes them safe on disk and finds their digest, and then committed, which makes them readable under that digest.
#[async_trait]
pub trait ArtifactStore: Send + Sync {
    /// Begins to take a file's bytes; `file` is for error messages only.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotWritable`], [`RegistryError::DiskFull`] and [`RegistryError::Storage`].
    async fn stage(&self, file: &str, max_bytes: u64) -> Result<Staging, RegistryError>;

    /// Where files lie that come over several connections.
    fn partials(&self) -> &Partials;

    /// Where files lie on their way from a store that is elsewhere, if this one is.
    fn downloads(&self) -> Option<&Partials> {
        None
    }

    /// What becomes of the copies on the local disk, if files are kept elsewhere.
    fn cache_counts(&self) -> Option<Arc<CacheCounts>> {
        None
    }

    /// Keeps the places that [`ArtifactStore::fetch`] gives for these until what is returned is dropped; none where they
    /// are kept anyway.
    fn hold(&self, _digests: Vec<Digest>) -> Option<Arc<dyn Any + Send + Sync>> {
        None
    }

    /// Makes staged bytes readable. When it returns, they survive a power cut.
    /// Bytes that are stored already are replaced by these, whole or corrupt as they may be, and are as new.
    ///
    /// # Errors
    ///
    /// [`RegistryError::DiskFull`], [`RegistryError::Storage`], [`RegistryError::StoreRefused`] and
    /// [`RegistryError::StoreUnreachable`]; some of the bytes may be readable then, which does no harm.
    async fn commit(&self, staged: Vec<Staged>) -> Result<(), RegistryError>;

    /// A place on the local disk where the file's bytes lie, all of them read and verified.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Corrupt`], [`RegistryError::Damaged`], [`RegistryError::Lost`], [`RegistryError::Storage`],
    /// [`RegistryError::StoreRefused`] and [`RegistryError::StoreUnreachable`].
    async fn fetch(&self, file: &FileEntry) -> Result<PathBuf, RegistryError>;

    /// The same for those who verify the bytes where it disturbs nobody. Where they are not the right ones,
    /// [`ArtifactStore::fetch`] may have others.
    ///
    /// # Errors
    ///
    /// As [`ArtifactStore::fetch`].
    async fn locate(&self, file: &FileEntry) -> Result<Located, RegistryError>;

    /// Bytes of a small file, verified; `file` is for error messages only.
    ///
    /// # Errors
    ///
    /// As [`ArtifactStore::fetch`]; more than `max_bytes` are corrupt.
    async fn read(&self, file: &str, digest: &Digest, max_bytes: u64) -> Result<Vec<u8>, RegistryError>;

    /// Reads bytes where they are stored, whatever is kept of them on the local disk, and tells how many they are; `file`
    /// is for error messages only.
    ///
    /// # Errors
    ///
    /// As [`ArtifactStore::fetch`].
    async fn verify(&self, file: &str, digest: &Digest) -> Result<u64, RegistryError>;

    /// Whether the file is stored, and can be fetched now.
    ///
    /// # Errors
    ///
    /// [`RegistryError::StoreRefused`] and [`RegistryError::StoreUnreachable`] where nobody can tell.
    async fn holds(&self, file: &FileEntry) -> Result<bool, RegistryError>;

    /// Whether bytes with this digest are stored; they are not read.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Storage`], [`RegistryError::StoreRefused`] and [`RegistryError::StoreUnreachable`].
    async fn has(&self, digest: &Digest) -> Result<bool, RegistryError>;

    /// Everything that is stored whose digest begins with this byte.
    ///
    /// # Errors
    ///
    /// As [`ArtifactStore::has`].
    async fn list(&self, first_byte: u8) -> Result<Vec<StoredFile>, RegistryError>;

    /// Deletes files that are as they were listed, and tells which were.
    ///
    /// # Errors
    ///
    /// As [`ArtifactStore::has`]; some are deleted then.
    async fn remove(&self, files: &[StoredFile]) -> Result<BTreeSet<Digest>, RegistryError>;
}

/// Bytes that are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFile {
    /// Their digest, by their name.
    pub digest: Digest,
    /// How many.
    pub size: u64,
    /// When they were stored last, in milliseconds since 1970-01-01 UTC, by the clock of the store.
    pub stored_at_ms: i64,
}
