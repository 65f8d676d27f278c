//! Deleting versions, and files that no version names.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use async_trait::async_trait;
use ev_models_core::{Digest, manifest::FileEntry};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Map, Value};
use tokio::sync::Mutex;

use crate::{
    AuditEntry, Collector, NewVersion, Registry, RegistryError, Stored, StoredFile, VersionRecord, audit,
    record::check_model, registry::MANIFEST,
};

/// Files deleted in one transaction: the write lock is held for as long.
const BATCH_FILES: usize = 500;
/// Files that are looked for at one time, while a version is registered: a store that is elsewhere takes its time for each.
pub(crate) const CONCURRENT_LOOKS: usize = 16;

/// What refers to versions that the registry does not know of, such as rollouts: by model and version.
pub type References = BTreeMap<(String, u32), Vec<String>>;

/// What was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Collected {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Deletes those of some files that no version names.
struct Sweep<'a> {
    registry: &'a Registry,
    files: &'a [StoredFile],
    /// What manifests name, by their digest. They never change.
    named: Mutex<HashMap<Digest, Vec<Digest>>>,
}

/// Looks for files where they are stored.
pub(crate) struct InStore<'a> {
    pub(crate) registry: &'a Registry,
    /// Files of versions, by the digests of these.
    pub(crate) files: BTreeMap<Digest, Vec<FileEntry>>,
}

// === impl Registry ===

impl Registry {
    /// Deletes a version that no alias, no pin, and none of the caller's own references refers to.
    /// Its number is never given again; its files stay until garbage is collected.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`], [`RegistryError::InUse`] with everything that refers to it,
    /// [`RegistryError::DiskFull`], [`RegistryError::Storage`].
    pub async fn delete_version(
        &self,
        model: &str,
        version: u32,
        references: &References,
        at_ms: i64,
    ) -> Result<VersionRecord, RegistryError> {
        check_model(model)?;
        let references = references.get(&(model.to_owned(), version)).map(Vec::as_slice).unwrap_or_default();
        let deleted = self.metadata().delete_version(model, version, references, &self.origin(at_ms)).await?;
        tracing::info!(model, version, digest = %deleted.digest, actor = self.actor(), "version deleted");
        Ok(deleted)
    }

    /// Keeps a version from being deleted, for a reason that the audit log tells. False when it was pinned before.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`], [`RegistryError::InvalidAuditEntry`] for a reason that is too long,
    /// [`RegistryError::DiskFull`], [`RegistryError::Storage`].
    pub async fn pin(&self, model: &str, version: u32, reason: &str, at_ms: i64) -> Result<bool, RegistryError> {
        check_model(model)?;
        self.metadata().set_pin(model, version, Some(reason), &self.origin(at_ms)).await
    }

    /// Takes a version's pin off. False when it had none.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`], [`RegistryError::DiskFull`], [`RegistryError::Storage`].
    pub async fn unpin(&self, model: &str, version: u32, at_ms: i64) -> Result<bool, RegistryError> {
        check_model(model)?;
        self.metadata().set_pin(model, version, None, &self.origin(at_ms)).await
    }

    /// Deletes versions beyond the newest `keep` of each model; those something refers to are neither deleted nor counted.
    ///
    /// # Errors
    ///
    /// [`RegistryError::DiskFull`] and [`RegistryError::Storage`]; what was deleted before is deleted.
    pub async fn retain(
        &self,
        keep: usize,
        references: &References,
        at_ms: i64,
    ) -> Result<Vec<VersionRecord>, RegistryError> {
        let mut deleted = Vec::new();
        for versions in self.all_versions().await?.chunk_by(|one, next| one.model == next.model) {
            let referred = |version: &VersionRecord| references.contains_key(&(version.model.clone(), version.version));
            let unused = |version: &VersionRecord| version.aliases.is_empty() && !version.pinned && !referred(version);
            for version in versions.iter().filter(|version| unused(version)).skip(keep) {
                match self.delete_version(&version.model, version.version, references, at_ms).await {
                    Ok(version) => deleted.push(version),
                    // Somebody was faster.
                    Err(RegistryError::InUse { .. } | RegistryError::NotFound { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(deleted)
    }

    /// Deletes files that no version names and that were stored before some time, in milliseconds since 1970-01-01 UTC.
    ///
    /// Files of a publish under way are named by no version yet: the time should be longer ago than any publish takes.
    /// One that takes longer all the same, and loses a file, is told so and registers nothing.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Corrupt`] and [`RegistryError::Lost`] when a version's manifest cannot be read: nothing is deleted
    /// while it is not known what it names. [`RegistryError::DiskFull`] and [`RegistryError::Storage`].
    pub async fn collect_garbage(&self, before_ms: i64, at_ms: i64) -> Result<Collected, RegistryError> {
        // Read before the write lock is taken; within it, only what was registered meanwhile.
        let named = Mutex::new(HashMap::new());
        let mut total = Collected::default();
        let mut warm = Sweep { registry: self, files: &[], named };
        for version in self.all_versions().await? {
            match warm.named_by(&version.digest).await {
                // Deleted meanwhile, perhaps; where it was not, the transaction tells.
                Ok(_) | Err(RegistryError::Lost { .. } | RegistryError::Corrupt { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let mut candidates = Vec::new();
        for first_byte in 0..=u8::MAX {
            let files = self.artifacts().list(first_byte).await?;
            let old: Vec<StoredFile> = files.into_iter().filter(|file| file.stored_at_ms < before_ms).collect();
            candidates.extend(warm.unnamed(old).await);
        }
        for batch in candidates.chunks(BATCH_FILES) {
            let sweep = Sweep { registry: self, files: batch, named: warm.named };
            let Collected { files, bytes } = self.metadata().collect(&sweep, &self.origin(at_ms)).await?;
            total = Collected { files: total.files + files, bytes: total.bytes + bytes };
            warm = Sweep { registry: self, files: &[], named: sweep.named };
        }
        if total.files > 0 {
            tracing::info!(files = total.files, bytes = total.bytes, "files that no version names deleted");
        }
        Ok(total)
    }
}

// === impl Sweep ===

impl Sweep<'_> {
    /// Digests of the files that a manifest names.
    async fn named_by(&self, manifest: &Digest) -> Result<Vec<Digest>, RegistryError> {
        let mut named = self.named.lock().await;
        if let Some(files) = named.get(manifest) {
            return Ok(files.clone());
        }
        let files = self.registry.files_of(manifest).await?;
        named.insert(*manifest, files.clone());
        Ok(files)
    }

    /// Those of some files that no manifest names which was read so far, and that are none.
    async fn unnamed(&self, files: Vec<StoredFile>) -> Vec<StoredFile> {
        let named = self.named.lock().await;
        let live: BTreeSet<&Digest> =
            named.iter().flat_map(|(manifest, files)| files.iter().chain([manifest])).collect();
        files.into_iter().filter(|file| !live.contains(&file.digest)).collect()
    }
}

#[async_trait]
impl Collector for Sweep<'_> {
    async fn collect(&self, live: &[Digest]) -> Result<Collected, RegistryError> {
        let mut kept: BTreeSet<Digest> = live.iter().copied().collect();
        for manifest in live {
            kept.extend(self.named_by(manifest).await?);
        }
        let unnamed: Vec<StoredFile> = self.files.iter().filter(|file| !kept.contains(&file.digest)).cloned().collect();
        let removed = self.registry.artifacts().remove(&unnamed).await?;
        let bytes = unnamed.iter().filter(|file| removed.contains(&file.digest)).map(|file| file.size).sum();
        Ok(Collected { files: removed.len() as u64, bytes })
    }
}

// === impl InStore ===

#[async_trait]
impl Stored for InStore<'_> {
    async fn check(&self, version: &NewVersion) -> Result<(), RegistryError> {
        let files = self.files.get(&version.digest).map(Vec::as_slice).unwrap_or_default();
        let named = files.iter().map(|file| (file.path.as_str(), file.sha256));
        let looks: Vec<_> = named
            .chain([(MANIFEST, version.digest)])
            .map(|(file, expected)| async move {
                match self.registry.artifacts().has(&expected).await? {
                    true => Ok(()),
                    false => Err(RegistryError::Lost { file: file.to_owned(), expected }),
                }
            })
            .collect();
        stream::iter(looks).buffer_unordered(CONCURRENT_LOOKS).try_collect().await
    }
}

// === impl Collected ===

impl Collected {
    /// What the audit log tells of it.
    pub(crate) fn entry(&self) -> AuditEntry {
        let numbers = [("files", self.files), ("bytes", self.bytes)];
        let detail: Map<String, Value> =
            numbers.map(|(name, number)| (name.to_owned(), number.into())).into_iter().collect();
        AuditEntry::new(audit::COLLECT_GARBAGE, "").detail(detail)
    }
}
