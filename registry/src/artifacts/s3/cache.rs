//! What of the store is kept on the local disk, where models are loaded from.

use std::{
    any::Any,
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ev_models_core::{Digest, manifest::FileEntry};

use crate::{
    ArtifactStore as _, CacheCounts, DirectoryArtifactStore, Located, RegistryError, Staged, StagedLimits, StoredFile,
};

/// Files by digest, those used last. When each was used is its time of modification: it survives a restart.
#[derive(Debug)]
pub(super) struct Cache {
    pub(super) files: DirectoryArtifactStore,
    pub(super) counts: Arc<CacheCounts>,
    max_bytes: u64,
    held: Arc<Mutex<Held>>,
}

/// Files that somebody loads just now, and how many do.
type Held = HashMap<Digest, usize>;

/// Keeps files in the cache until it is dropped.
#[derive(Debug)]
struct Hold {
    digests: Vec<Digest>,
    held: Arc<Mutex<Held>>,
}

// === impl Cache ===

impl Cache {
    pub(super) async fn open(root: &Path, max_bytes: u64, staged: StagedLimits) -> Result<Cache, RegistryError> {
        let files = DirectoryArtifactStore::open(root, staged).await?;
        let cache = Cache { files, counts: Arc::default(), max_bytes, held: Arc::default() };
        // It may have been larger.
        cache.make_room(&HashMap::new()).await?;
        Ok(cache)
    }

    /// Where a file lies, verified; used last from now on.
    pub(super) async fn fetch(&self, file: &FileEntry) -> Result<PathBuf, RegistryError> {
        self.files.touch(&file.sha256).await?;
        self.files.fetch(file).await
    }

    /// Where a file lies, if it is here, to be verified; used last from now on.
    pub(super) async fn locate(&self, file: &FileEntry) -> Result<Option<Located>, RegistryError> {
        self.files.touch(&file.sha256).await?;
        // Only now: who looked before it was touched may have deleted it.
        if !self.files.has(&file.sha256).await? {
            return Ok(None);
        }
        self.files.locate(file).await.map(Some)
    }

    /// Bytes of a small file, verified; used last from now on.
    pub(super) async fn read(&self, file: &str, digest: &Digest, max_bytes: u64) -> Result<Vec<u8>, RegistryError> {
        self.files.touch(digest).await?;
        self.files.read(file, digest, max_bytes).await
    }

    /// Takes files in, and deletes others where there is no room for all.
    pub(super) async fn commit(&self, staged: Vec<Staged>) -> Result<(), RegistryError> {
        self.make_room(&staged.iter().map(|staged| (staged.digest(), staged.size())).collect()).await?;
        let digests: Vec<Digest> = staged.iter().map(Staged::digest).collect();
        self.files.commit(staged).await?;
        // Now, however long they took to come.
        for digest in digests {
            self.files.touch(&digest).await?;
        }
        Ok(())
    }

    /// Keeps files that are here, and those of them that come, until what is returned is dropped.
    pub(super) fn hold(&self, digests: Vec<Digest>) -> Arc<dyn Any + Send + Sync> {
        let mut held = lock(&self.held);
        for digest in &digests {
            *held.entry(*digest).or_default() += 1;
        }
        drop(held);
        Arc::new(Hold { digests, held: self.held.clone() })
    }

    /// Deletes a file that is stored no more.
    pub(super) async fn forget(&self, file: &StoredFile) -> Result<(), RegistryError> {
        if self.files.forget(&file.digest).await? {
            self.counts.count_deleted(file.size);
        }
        Ok(())
    }

    /// Deletes what was used longest ago, until there is room for what comes, by digest and size. What is held stays, and may
    /// be more.
    async fn make_room(&self, coming: &HashMap<Digest, u64>) -> Result<(), RegistryError> {
        let mut files = Vec::new();
        for first_byte in 0..=u8::MAX {
            files.extend(self.files.list(first_byte).await?);
        }
        // Its place is taken.
        files.retain(|file| !coming.contains_key(&file.digest));
        files.sort_by_key(|file| file.stored_at_ms);
        let sizes = files.iter().map(|file| file.size).chain(coming.values().copied());
        let mut used = sizes.fold(0, u64::saturating_add);
        for file in files {
            if used <= self.max_bytes {
                break;
            }
            if lock(&self.held).contains_key(&file.digest) {
                continue;
            }
            // None where somebody uses it at this moment.
            let removed = self.files.remove(std::slice::from_ref(&file)).await?;
            if !removed.is_empty() {
                used = used.saturating_sub(file.size);
                self.counts.count_evicted();
            }
        }
        self.counts.lie(used);
        Ok(())
    }
}

// === impl Hold ===

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = lock(&self.held);
        for digest in &self.digests {
            if let Some(count) = held.get_mut(digest) {
                *count -= 1;
                if *count == 0 {
                    held.remove(digest);
                }
            }
        }
    }
}

fn lock(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}
