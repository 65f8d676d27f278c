//! Artifacts in an S3-compatible object store, and in a cache on the local disk, where models are loaded from.

mod bucket;
mod cache;
mod download;
mod options;
mod patience;
mod send;

use std::{
    any::Any,
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use ev_models_core::{Digest, manifest::FileEntry};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use sha2::{Digest as _, Sha256};

pub use options::S3Options;

use self::{bucket::Bucket, cache::Cache, download::Downloads};
use super::{ArtifactStore, CacheCounts, Located, Partials, Staged, Staging, StoredFile, content::digest_of};
use crate::{RegistryError, StagedLimits, blocking::blocking};

/// Files that are sent, and objects that are deleted, at one time.
const CONCURRENT_FILES: usize = 8;
/// Files of downloads that were cut off.
const DOWNLOADS_MAX: usize = 4096;
/// How long a start waits for the store.
const FIRST_ANSWER: Duration = Duration::from_secs(5);

/// Artifacts as objects `<prefix>/sha256/<first two digits>/<digest>`; files on their way, and a cache, in a directory.
///
/// An object is put whole or not at all, once its bytes are on the local disk and their digest was found to be its name.
/// What the cache holds is served also while the store is out of reach.
#[derive(Debug)]
pub struct S3ArtifactStore {
    bucket: Bucket,
    cache: Cache,
    downloads: Downloads,
}

/// What counts as being in the cache.
#[derive(Debug, Clone, Copy)]
enum Sought {
    /// Every byte is as it shall be.
    Sound,
    /// Whoever asks looks at the bytes.
    Any,
}

// === impl S3ArtifactStore ===

impl S3ArtifactStore {
    /// Opens the cache, made where there is none, and looks whether the store answers.
    ///
    /// One that does not answer is no error: what the cache holds is served.
    ///
    /// # Errors
    ///
    /// [`RegistryError::StoreRefused`] for settings that cannot be used, for a bucket that does not exist and for
    /// credentials that are not taken, [`RegistryError::NotWritable`] naming the path, and [`RegistryError::Storage`].
    pub async fn open(
        options: &S3Options,
        cache: impl AsRef<Path>,
        staged: StagedLimits,
    ) -> Result<S3ArtifactStore, RegistryError> {
        let (root, max_bytes) = (cache.as_ref(), options.cache_max_bytes);
        let bucket = Bucket::new(options)?;
        let cache = Cache::open(root, max_bytes, staged).await?;
        let downloads = root.join("downloads");
        let limits = StagedLimits { max_bytes, max_files: DOWNLOADS_MAX };
        let downloads = Downloads::new(blocking(move || Partials::open(downloads, limits)).await?);
        let problem = match tokio::time::timeout(FIRST_ANSWER, bucket.list(0)).await {
            Ok(Ok(_)) => None,
            Ok(Err(error @ RegistryError::StoreUnreachable { .. })) => Some(error.into()),
            Ok(Err(error)) => return Err(error),
            Err(elapsed) => Some(Box::<dyn std::error::Error + Send + Sync>::from(elapsed)),
        };
        if let Some(problem) = problem {
            let (url, error) = (&options.url, &*problem as &dyn std::error::Error);
            tracing::warn!(url, error, "the artifact store does not answer; serving what is on the local disk");
        }
        Ok(S3ArtifactStore { bucket, cache, downloads })
    }

    /// Brings a file that is not in the cache, unless somebody else has meanwhile. Whoever asks holds it.
    async fn bring(&self, file: &FileEntry, sought: Sought) -> Result<(), RegistryError> {
        self.cache.counts.count_miss();
        let _turn = self.downloads.turn(file).await;
        let is_here = match sought {
            Sought::Sound => self.cache.fetch(file).await.is_ok(),
            Sought::Any => matches!(self.cache.locate(file).await, Ok(Some(_))),
        };
        if is_here {
            return Ok(());
        }
        let staged = self.downloads.bring(&self.bucket, file).await?;
        self.cache.commit(vec![staged]).await
    }

    async fn remove_one(&self, file: &StoredFile) -> Result<Option<Digest>, RegistryError> {
        let removed = self.bucket.remove(file).await?;
        if removed {
            self.cache.forget(file).await?;
        }
        Ok(removed.then_some(file.digest))
    }
}

#[async_trait]
impl ArtifactStore for S3ArtifactStore {
    async fn stage(&self, file: &str, max_bytes: u64) -> Result<Staging, RegistryError> {
        self.cache.files.stage(file, max_bytes).await
    }

    fn partials(&self) -> &Partials {
        self.cache.files.partials()
    }

    fn downloads(&self) -> Option<&Partials> {
        Some(&self.downloads.partials)
    }

    fn cache_counts(&self) -> Option<Arc<CacheCounts>> {
        Some(self.cache.counts.clone())
    }

    fn hold(&self, digests: Vec<Digest>) -> Option<Arc<dyn Any + Send + Sync>> {
        Some(self.cache.hold(digests))
    }

    async fn commit(&self, staged: Vec<Staged>) -> Result<(), RegistryError> {
        let sends: Vec<_> = staged.iter().map(|staged| self.bucket.send(staged)).collect();
        stream::iter(sends).buffer_unordered(CONCURRENT_FILES).try_collect::<()>().await?;
        // Only now: what was cut off before is still where the upload goes on from.
        self.cache.commit(staged).await
    }

    async fn fetch(&self, file: &FileEntry) -> Result<PathBuf, RegistryError> {
        match self.cache.fetch(file).await {
            // Somebody who looked before it was touched may have deleted it after.
            Ok(place) if self.cache.files.has(&file.sha256).await? => {
                self.cache.counts.count_hit();
                Ok(place)
            }
            _ => {
                let _held = self.cache.hold(vec![file.sha256]);
                self.bring(file, Sought::Sound).await?;
                self.cache.fetch(file).await
            }
        }
    }

    async fn locate(&self, file: &FileEntry) -> Result<Located, RegistryError> {
        if let Some(located) = self.cache.locate(file).await? {
            self.cache.counts.count_hit();
            return Ok(located);
        }
        let _held = self.cache.hold(vec![file.sha256]);
        self.bring(file, Sought::Any).await?;
        self.cache.files.locate(file).await
    }

    async fn read(&self, file: &str, digest: &Digest, max_bytes: u64) -> Result<Vec<u8>, RegistryError> {
        if let Ok(bytes) = self.cache.read(file, digest, max_bytes).await {
            self.cache.counts.count_hit();
            return Ok(bytes);
        }
        let lost = || RegistryError::Lost { file: file.to_owned(), expected: *digest };
        let size = self.bucket.head(digest).await?.ok_or_else(lost)?.size;
        if size > max_bytes {
            let problem = format!("it has {size} bytes, expected at most {max_bytes}");
            return Err(RegistryError::Damaged { file: file.to_owned(), problem });
        }
        let _held = self.cache.hold(vec![*digest]);
        self.bring(&FileEntry { path: file.to_owned(), sha256: *digest, size }, Sought::Sound).await?;
        self.cache.read(file, digest, max_bytes).await
    }

    async fn verify(&self, file: &str, digest: &Digest) -> Result<u64, RegistryError> {
        let lost = || RegistryError::Lost { file: file.to_owned(), expected: *digest };
        let mut pieces = self.bucket.get(digest, 0).await?.ok_or_else(lost)?.into_stream();
        let (mut hasher, mut size) = (Sha256::new(), 0);
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|error| self.bucket.failed("read a stored file", error))?;
            // A piece is what came at once, some kilobytes: it is hashed before a thread were found for it.
            hasher.update(&piece);
            size += piece.len() as u64;
        }
        match digest_of(&hasher) {
            found if found == *digest => Ok(size),
            found => Err(RegistryError::Corrupt { file: file.to_owned(), expected: *digest, found }),
        }
    }

    async fn holds(&self, file: &FileEntry) -> Result<bool, RegistryError> {
        match self.bucket.head(&file.sha256).await {
            Ok(Some(object)) if object.size == file.size => {}
            Ok(_) => return Ok(false),
            Err(error @ RegistryError::StoreUnreachable { .. }) => {
                return self.cache.fetch(file).await.map(|_| true).map_err(|_| error);
            }
            Err(error) => return Err(error),
        }
        match self.fetch(file).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_of_store() => Err(error),
            Err(_) => Ok(false),
        }
    }

    async fn has(&self, digest: &Digest) -> Result<bool, RegistryError> {
        Ok(self.bucket.head(digest).await?.is_some())
    }

    async fn list(&self, first_byte: u8) -> Result<Vec<StoredFile>, RegistryError> {
        self.bucket.list(first_byte).await
    }

    async fn remove(&self, files: &[StoredFile]) -> Result<BTreeSet<Digest>, RegistryError> {
        let removals: Vec<_> = files.iter().map(|file| self.remove_one(file)).collect();
        let removed: Vec<_> = stream::iter(removals).buffer_unordered(CONCURRENT_FILES).try_collect().await?;
        Ok(removed.into_iter().flatten().collect())
    }
}
