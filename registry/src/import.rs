//! Versions that come whole: from a directory, or from memory.

use std::{collections::BTreeMap, path::Path};

use bytes::Bytes;
use ev_models_core::{Digest, manifest::FileEntry};
use futures_util::{StreamExt as _, stream};
use tokio::task::JoinSet;

use crate::{
    Imported, NewVersion, Registry, RegistryError, Staged, VersionRecord,
    artifacts::check_content,
    blocking::blocking,
    garbage::{CONCURRENT_LOOKS, InStore},
    plan::{Package, Plan, README},
    registry::MANIFEST,
    source,
};

/// Files that are written and synced at the same time.
/// A file system commits concurrent syncs together, so the wait is that of a few syncs, not of one a file.
const CONCURRENT_FILES: usize = 16;

/// A version in memory, such as one bundled in the program.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// Its `manifest.toml`.
    pub manifest_toml: String,
    /// Its files by path.
    pub files: Vec<(String, Bytes)>,
}

// === impl Bundle ===

impl Bundle {
    /// A version in memory.
    pub fn new(
        manifest_toml: impl Into<String>,
        files: impl IntoIterator<Item = (impl Into<String>, impl Into<Bytes>)>,
    ) -> Bundle {
        let files = files.into_iter().map(|(path, bytes)| (path.into(), bytes.into())).collect();
        Bundle { manifest_toml: manifest_toml.into(), files }
    }

    /// Checks everything and finds the digests.
    fn pack(&self, registry: &Registry, created_at_ms: i64) -> Result<Package, RegistryError> {
        let plan = Plan::new(&self.manifest_toml, registry.limits())?;
        let mut entries = BTreeMap::new();
        let mut total = 0;
        for (path, bytes) in &self.files {
            plan.expects(path)?;
            let size = bytes.len() as u64;
            plan.check_size(path, size, total)?;
            check_content(path, bytes)?;
            total += size;
            let entry = FileEntry { path: path.clone(), sha256: Digest::of(bytes), size };
            plan.check(&entry)?;
            if entries.insert(path.clone(), entry).is_some() {
                return Err(RegistryError::OutOfOrder { file: path.clone() });
            }
        }
        plan.complete(entries, created_at_ms)
    }
}

// === impl Registry ===

impl Registry {
    /// Registers the version in a directory: `manifest.toml`, the files it names, and `README.md` if there is one.
    ///
    /// Content that is registered already gives the version it has; files of it that were lost or corrupted are put back.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`] without a manifest; [`RegistryError::InvalidManifest`], [`RegistryError::MissingFile`],
    /// [`RegistryError::RefusedFile`] for links and devices, [`RegistryError::DigestMismatch`], [`RegistryError::SizeMismatch`],
    /// [`RegistryError::TooLarge`], [`RegistryError::TooManyFiles`], [`RegistryError::DiskFull`], [`RegistryError::Storage`].
    pub async fn import_dir(&self, dir: &Path, created_at_ms: i64) -> Result<Imported, RegistryError> {
        let from = dir.to_owned();
        let manifest_toml = blocking(move || source::read_manifest(&from)).await?;
        let plan = self.plan(manifest_toml).await?;
        let mut paths: Vec<String> = plan.required().map(str::to_owned).collect();
        if !paths.iter().any(|path| path == README) {
            paths.push(README.to_owned());
        }
        let (mut entries, mut staged, mut taken) = (BTreeMap::new(), Vec::new(), 0);
        for path in paths {
            let (from, name) = (dir.to_owned(), path.clone());
            let opened = blocking(move || {
                let Some(file) = source::open(&from, &name)? else { return Ok(None) };
                let size = file.metadata().map_err(|error| RegistryError::storage("read a size")(error.into()))?.len();
                Ok(Some((file, size)))
            });
            let Some((file, size)) = opened.await? else {
                if plan.requires(&path) {
                    return Err(RegistryError::MissingFile { file: path });
                }
                continue;
            };
            plan.check_size(&path, size, taken)?;
            let mut staging = self.artifacts().stage(&path, plan.max_bytes(taken)).await?;
            staging.write_all_of(file).await?;
            let file = staging.finish().await?;
            let entry = file.entry(path.as_str());
            plan.check(&entry)?;
            taken += entry.size;
            entries.insert(path, entry);
            staged.push(file);
        }
        self.store(plan, entries, staged, created_at_ms).await
    }

    /// Registers a version in memory.
    ///
    /// # Errors
    ///
    /// As [`Registry::import_bundles`].
    pub async fn import_files(
        &self,
        manifest_toml: &str,
        files: impl IntoIterator<Item = (impl Into<String>, impl Into<Bytes>)>,
        created_at_ms: i64,
    ) -> Result<Imported, RegistryError> {
        let bundle = Bundle::new(manifest_toml, files);
        let mut imported = self.import_bundles(vec![bundle], created_at_ms).await?;
        imported.pop().ok_or_else(|| RegistryError::Malformed { problem: "a version was not registered".to_owned() })
    }

    /// Registers versions in memory, all or none, and returns them in the order given.
    ///
    /// Every file is synced before any is renamed into the store, every folder is synced before the one transaction that names the versions:
    /// after a power cut at any moment the database names only what is whole.
    /// Syncs of one step run side by side, and a batch pays for the steps once, not once a version.
    ///
    /// # Errors
    ///
    /// [`RegistryError::InvalidManifest`], [`RegistryError::UnknownFile`], [`RegistryError::MissingFile`],
    /// [`RegistryError::OutOfOrder`] for a file given twice, [`RegistryError::DigestMismatch`], [`RegistryError::SizeMismatch`],
    /// [`RegistryError::TooLarge`], [`RegistryError::TooManyFiles`], [`RegistryError::DiskFull`], [`RegistryError::Storage`].
    pub async fn import_bundles(
        &self,
        bundles: Vec<Bundle>,
        created_at_ms: i64,
    ) -> Result<Vec<Imported>, RegistryError> {
        let registry = self.clone();
        let packed = blocking(move || {
            let pack = |bundle: Bundle| Ok((bundle.pack(&registry, created_at_ms)?, bundle.files));
            bundles.into_iter().map(pack).collect::<Result<Vec<_>, RegistryError>>()
        })
        .await?;
        let mut files = Vec::new();
        let mut versions = Vec::with_capacity(packed.len());
        for (Package { canonical, files: entries, version }, contents) in packed {
            let manifest =
                FileEntry { path: MANIFEST.to_owned(), sha256: version.digest, size: canonical.len() as u64 };
            if !self.is_sound(&version, entries.iter().chain([&manifest])).await? {
                files.extend(contents);
                files.push((MANIFEST.to_owned(), canonical.into()));
            }
            versions.push((version, entries));
        }
        if !files.is_empty() {
            let staged = self.stage_all(files).await?;
            self.artifacts().commit(staged).await?;
        }
        self.register(versions).await
    }

    /// Stores and registers a version whose files are staged.
    pub(crate) async fn store(
        &self,
        plan: Plan,
        entries: BTreeMap<String, FileEntry>,
        mut staged: Vec<Staged>,
        created_at_ms: i64,
    ) -> Result<Imported, RegistryError> {
        let Package { canonical, files, version } = blocking(move || plan.complete(entries, created_at_ms)).await?;
        staged.extend(self.stage_all(vec![(MANIFEST.to_owned(), canonical.into())]).await?);
        self.artifacts().commit(staged).await?;
        let mut imported = self.register(vec![(version, files)]).await?;
        imported.pop().ok_or_else(|| RegistryError::Malformed { problem: "a version was not registered".to_owned() })
    }

    async fn register(&self, versions: Vec<(NewVersion, Vec<FileEntry>)>) -> Result<Vec<Imported>, RegistryError> {
        let files = versions.iter().map(|(version, files)| (version.digest, files.clone())).collect();
        let versions: Vec<NewVersion> = versions.into_iter().map(|(version, _)| version).collect();
        let stored = InStore { registry: self, files };
        let imported = self.metadata().register(&versions, &stored, self.actor()).await?;
        for Imported { version, .. } in imported.iter().filter(|imported| imported.created) {
            let (model, number, digest) = (&version.model, version.version, version.digest);
            tracing::info!(model, version = number, %digest, "version registered");
        }
        Ok(imported)
    }

    /// Whether this content is registered and all of it can be read: then nothing needs writing. Of what is registered and
    /// lies in a store that does not answer, nothing can be written either: it is taken as it is.
    async fn is_sound(
        &self,
        version: &NewVersion,
        files: impl Iterator<Item = &FileEntry>,
    ) -> Result<bool, RegistryError> {
        let Some(VersionRecord { model, version, .. }) = self.metadata().find(&version.model, &version.digest).await?
        else {
            return Ok(false);
        };
        let looks: Vec<_> = files.map(|file| self.artifacts().holds(file)).collect();
        let mut looks = stream::iter(looks).buffer_unordered(CONCURRENT_LOOKS);
        while let Some(held) = looks.next().await {
            match held {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(error @ RegistryError::StoreUnreachable { .. }) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(model, version, error, "it is not known whether the version is whole");
                    return Ok(true);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    async fn stage_all(&self, files: Vec<(String, Bytes)>) -> Result<Vec<Staged>, RegistryError> {
        let mut tasks = JoinSet::new();
        let mut staged = Vec::with_capacity(files.len());
        let mut files = files.into_iter();
        loop {
            while tasks.len() < CONCURRENT_FILES
                && let Some((name, bytes)) = files.next()
            {
                let artifacts = self.artifacts().clone();
                tasks.spawn(async move {
                    let mut staging = artifacts.stage(&name, bytes.len() as u64).await?;
                    staging.write(bytes).await?;
                    staging.finish().await
                });
            }
            match tasks.join_next().await {
                None => return Ok(staged),
                Some(Ok(file)) => staged.push(file?),
                Some(Err(error)) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_) => return Err(RegistryError::ShuttingDown),
                },
            }
        }
    }
}
