//! The façade.

use std::{fmt, sync::Arc};

use ev_models_core::{ArtifactDir, Manifest, manifest::FileEntry};

use crate::{
    ArtifactStore, DirectoryArtifactStore, ExpectedVersion, Limits, Listing, MetadataStore, ModelRecord, Page,
    RegistryConfig, RegistryError, RolloutStore, SqliteMetadataStore, Upload, VersionChoice, VersionRecord,
    artifacts::sync_folder,
    blocking::blocking,
    plan::Plan,
    record::{check_alias, no_alias},
};

/// What error messages and checks call the stored manifest.
pub(crate) const MANIFEST: &str = "manifest";

/// Versions, their aliases and their files. Clones are handles of one registry.
#[derive(Clone)]
pub struct Registry {
    artifacts: Arc<dyn ArtifactStore>,
    metadata: Arc<dyn MetadataStore>,
    limits: Limits,
}

/// One check of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Such as `manifest` or `file model.ubj`.
    pub name: String,
    /// Whether it passed.
    pub ok: bool,
    /// What was found.
    pub detail: String,
}

// === impl Registry ===

impl Registry {
    /// Opens a registry in a directory, made where there is none.
    ///
    /// Several processes may open one directory.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotWritable`] naming the path, [`RegistryError::DiskFull`] and [`RegistryError::Storage`].
    pub async fn open(config: &RegistryConfig) -> Result<Registry, RegistryError> {
        let directory = config.directory.clone();
        blocking(move || {
            fs_err::create_dir_all(&directory).map_err(|error| RegistryError::unwritable(&directory, error))?;
            // The directory's own name. Where the directory above may not be read, its owner has made this one long ago.
            let _ = directory.parent().map(sync_folder);
            Ok(())
        })
        .await?;
        let artifacts = DirectoryArtifactStore::open(config.directory.join("artifacts")).await?;
        let metadata = SqliteMetadataStore::open(&config.directory.join("registry.db")).await?;
        // SQLite syncs its files, this their names.
        let directory = config.directory.clone();
        blocking(move || sync_folder(&directory)).await?;
        Ok(Registry::with_stores(Arc::new(artifacts), Arc::new(metadata), config.limits))
    }

    /// A registry over stores of the caller's choice.
    #[must_use]
    pub fn with_stores(
        artifacts: Arc<dyn ArtifactStore>,
        metadata: Arc<dyn MetadataStore>,
        limits: Limits,
    ) -> Registry {
        Registry { artifacts, metadata, limits }
    }

    /// Begins to take a version piece by piece.
    ///
    /// # Errors
    ///
    /// [`RegistryError::InvalidManifest`], [`RegistryError::TooLarge`] and [`RegistryError::TooManyFiles`].
    pub async fn begin_upload(&self, manifest_toml: &str) -> Result<Upload, RegistryError> {
        Ok(Upload::new(self.clone(), self.plan(manifest_toml.to_owned()).await?))
    }

    /// Lists models by name.
    ///
    /// # Errors
    ///
    /// [`RegistryError::InvalidPage`] and [`RegistryError::Storage`].
    pub async fn list_models(&self, page: &Page) -> Result<Listing<ModelRecord>, RegistryError> {
        let limit = page.limit()?;
        let models = self.metadata.list_models(page.after_name()?, limit + 1).await?;
        Ok(Listing::cut(models, limit, |model| model.name.clone()))
    }

    /// Lists a model's versions, newest first.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`], [`RegistryError::InvalidPage`] and [`RegistryError::Storage`].
    pub async fn list_versions(&self, model: &str, page: &Page) -> Result<Listing<VersionRecord>, RegistryError> {
        let limit = page.limit()?;
        let versions = self.metadata.list_versions(model, page.before_version()?, limit + 1).await?;
        Ok(Listing::cut(versions, limit, |version| version.version.to_string()))
    }

    /// A version by number or alias.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`] and [`RegistryError::Storage`].
    pub async fn get(&self, model: &str, choice: &VersionChoice) -> Result<VersionRecord, RegistryError> {
        match choice {
            VersionChoice::Alias(alias) if check_alias(alias).is_err() => Err(no_alias(model, alias)),
            choice => self.metadata.get(model, choice).await,
        }
    }

    /// Points an alias at a version if it is where the caller expects it, and returns the version it pointed at.
    ///
    /// # Errors
    ///
    /// [`RegistryError::InvalidAlias`], [`RegistryError::NotFound`] for the model or the version,
    /// [`RegistryError::Conflict`] with the version it points at, [`RegistryError::DiskFull`], [`RegistryError::Storage`].
    pub async fn set_alias(
        &self,
        model: &str,
        alias: &str,
        version: u32,
        expected: ExpectedVersion,
    ) -> Result<Option<u32>, RegistryError> {
        check_alias(alias)?;
        let previous = self.metadata.set_alias(model, alias, version, expected).await?;
        tracing::info!(model, alias, version, previous, "alias set");
        Ok(previous)
    }

    /// The version's manifest, verified.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Corrupt`], [`RegistryError::Lost`], [`RegistryError::InvalidManifest`] when this evserve does not understand it,
    /// and [`RegistryError::Storage`].
    pub async fn manifest(&self, version: &VersionRecord) -> Result<Manifest, RegistryError> {
        let bytes = self.artifacts.read(MANIFEST, &version.digest, Manifest::MAX_BYTES as u64).await?;
        blocking(move || Manifest::parse_canonical(&bytes).map_err(RegistryError::InvalidManifest)).await
    }

    /// The version's files on the local disk, every byte read and verified.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Corrupt`] and [`RegistryError::Lost`] naming the file, and as [`Registry::manifest`].
    pub async fn fetch(&self, version: &VersionRecord) -> Result<ArtifactDir, RegistryError> {
        let manifest = self.manifest(version).await?;
        let mut places = Vec::with_capacity(manifest.files.len());
        for file in &manifest.files {
            places.push((file.path.clone(), self.artifacts.fetch(file).await?));
        }
        Ok(ArtifactDir::new(places))
    }

    /// Reads the manifest and every file again and compares digests.
    pub async fn verify_files(&self, version: &VersionRecord) -> Vec<Check> {
        let files = match self.manifest(version).await {
            Ok(manifest) => manifest.files,
            Err(error) => return vec![Check::failed(MANIFEST.to_owned(), &error)],
        };
        let mut checks = vec![Check::passed(MANIFEST.to_owned(), version.digest.to_string())];
        for file in files {
            let name = format!("file {}", file.path);
            checks.push(match self.artifacts.fetch(&file).await {
                Ok(_) => Check::passed(name, format!("{} bytes, {}", file.size, file.sha256)),
                Err(error) => Check::failed(name, &error),
            });
        }
        checks
    }

    /// Where rollouts are kept.
    #[must_use]
    pub fn rollouts(&self) -> &dyn RolloutStore {
        &*self.metadata
    }

    /// Ends the database's connections; calls after it fail.
    pub async fn close(&self) {
        self.metadata.close().await;
    }

    pub(crate) fn artifacts(&self) -> &Arc<dyn ArtifactStore> {
        &self.artifacts
    }

    pub(crate) fn metadata(&self) -> &dyn MetadataStore {
        &*self.metadata
    }

    /// Parses a manifest where it may take its time: the largest ones take a serving thread's time from its requests.
    pub(crate) async fn plan(&self, manifest_toml: String) -> Result<Plan, RegistryError> {
        let limits = self.limits;
        blocking(move || Plan::new(&manifest_toml, limits)).await
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// Whether these files are stored and sound.
    pub(crate) async fn holds(&self, files: &[FileEntry]) -> bool {
        for file in files {
            if self.artifacts.fetch(file).await.is_err() {
                return false;
            }
        }
        true
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("limits", &self.limits).finish_non_exhaustive()
    }
}

// === impl Check ===

impl Check {
    fn passed(name: String, detail: String) -> Check {
        Check { name, ok: true, detail }
    }

    fn failed(name: String, error: &RegistryError) -> Check {
        // The whole chain: the check is where the error ends.
        let mut detail = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(error) = source {
            detail = format!("{detail}: {error}");
            source = error.source();
        }
        Check { name, ok: false, detail }
    }
}
