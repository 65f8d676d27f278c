//! The façade.

use std::{any::Any, fmt, sync::Arc};

use ev_models_core::{ArtifactDir, Digest, Manifest};
use tokio::sync::watch;

use crate::{
    AliasChange, ArtifactStore, Artifacts, AuditEntry, AuditHead, AuditQuery, AuditRecord, CacheCounts,
    DirectoryArtifactStore, FleetStore, Limits, Listing, MetadataStore, ModelRecord, Origin, Page,
    PostgresMetadataStore, RegistryConfig, RegistryError, RolloutStore, S3ArtifactStore, SqliteMetadataStore, Upload,
    VersionChoice, VersionRecord, actor_name,
    artifacts::{LocatedFiles, sync_folder},
    audit,
    blocking::blocking,
    plan::Plan,
    record::{check_alias, check_model, no_alias},
};

/// What error messages and checks call the stored manifest.
pub(crate) const MANIFEST: &str = "manifest";
const REGISTRATION: &str = "registration";

/// Versions, their aliases and their files. Clones are handles of one registry.
#[derive(Clone)]
pub struct Registry {
    artifacts: Arc<dyn ArtifactStore>,
    metadata: Arc<dyn MetadataStore>,
    limits: Limits,
    actor: Arc<str>,
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
    /// [`RegistryError::NotWritable`] naming the path, [`RegistryError::Unreachable`], [`RegistryError::StoreRefused`],
    /// [`RegistryError::DiskFull`] and [`RegistryError::Storage`].
    pub async fn open(config: &RegistryConfig) -> Result<Registry, RegistryError> {
        let directory = config.directory.clone();
        blocking(move || {
            fs_err::create_dir_all(&directory).map_err(|error| RegistryError::unwritable(&directory, error))?;
            // The directory's own name. Where the directory above may not be read, its owner has made this one long ago.
            let _ = directory.parent().map(sync_folder);
            Ok(())
        })
        .await?;
        let artifacts: Arc<dyn ArtifactStore> = match &config.artifacts {
            Artifacts::Local => {
                Arc::new(DirectoryArtifactStore::open(config.directory.join("artifacts"), config.staged).await?)
            }
            Artifacts::Directory(directory) => Arc::new(DirectoryArtifactStore::open(directory, config.staged).await?),
            Artifacts::S3(options) => {
                Arc::new(S3ArtifactStore::open(options, config.directory.join("cache"), config.staged).await?)
            }
        };
        let metadata: Arc<dyn MetadataStore> = match &config.database {
            Some(database) => Arc::new(PostgresMetadataStore::open(database.clone()).await?),
            None => Arc::new(SqliteMetadataStore::open(&config.directory.join("registry.db")).await?),
        };
        // SQLite syncs its files, this their names.
        let directory = config.directory.clone();
        blocking(move || sync_folder(&directory)).await?;
        Ok(Registry::with_stores(artifacts, metadata, config.limits))
    }

    /// A registry over stores of the caller's choice.
    #[must_use]
    pub fn with_stores(
        artifacts: Arc<dyn ArtifactStore>,
        metadata: Arc<dyn MetadataStore>,
        limits: Limits,
    ) -> Registry {
        Registry { artifacts, metadata, limits, actor: audit::SYSTEM.into() }
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
        check_model(model)?;
        let versions = self.metadata.list_versions(model, page.before_version()?, limit + 1).await?;
        Ok(Listing::cut(versions, limit, |version| version.version.to_string()))
    }

    /// All versions of all models: by the model's name, of each the newest first. Read a thousand at a time, so that what
    /// changes meanwhile may be in it or not.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Storage`].
    pub async fn all_versions(&self) -> Result<Vec<VersionRecord>, RegistryError> {
        let mut versions: Vec<VersionRecord> = Vec::new();
        loop {
            let after = versions.last().map(|version| (version.model.as_str(), version.version));
            let found = self.metadata.list_all(after, Page::MAX_SIZE).await?;
            let is_last = found.len() < Page::MAX_SIZE as usize;
            versions.extend(found);
            if is_last {
                return Ok(versions);
            }
        }
    }

    /// A version by number or alias.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`] and [`RegistryError::Storage`].
    pub async fn get(&self, model: &str, choice: &VersionChoice) -> Result<VersionRecord, RegistryError> {
        check_model(model)?;
        match choice {
            VersionChoice::Alias(alias) if check_alias(alias).is_err() => Err(no_alias(model, alias)),
            choice => self.metadata.get(model, choice).await,
        }
    }

    /// A handle whose changes the audit log tells of as this actor's; [`audit::SYSTEM`] without.
    #[must_use]
    pub fn on_behalf_of(&self, actor: &str) -> Registry {
        Registry { actor: actor_name(actor).into(), ..self.clone() }
    }

    /// Points an alias at a version, or removes it, if it is where the caller expects it, and returns the version it pointed at.
    ///
    /// # Errors
    ///
    /// [`RegistryError::InvalidAlias`], [`RegistryError::NotFound`] for the model, the version or an alias that shall be removed,
    /// [`RegistryError::Conflict`] with the version it points at, [`RegistryError::DiskFull`], [`RegistryError::Storage`].
    pub async fn move_alias(&self, change: &AliasChange, at_ms: i64) -> Result<Option<u32>, RegistryError> {
        check_model(&change.model)?;
        check_alias(&change.alias)?;
        let previous = self.metadata.move_alias(change, &self.origin(at_ms)).await?;
        let AliasChange { model, alias, version, expected: _ } = change;
        tracing::info!(model, alias, version, previous, actor = &*self.actor, "alias moved");
        Ok(previous)
    }

    /// Whether an alias is where a change of it expects it now, without moving it.
    ///
    /// # Errors
    ///
    /// [`RegistryError::InvalidAlias`], [`RegistryError::NotFound`] for the model, [`RegistryError::Conflict`] with the
    /// version it points at, [`RegistryError::Storage`].
    pub async fn check_move(&self, change: &AliasChange) -> Result<(), RegistryError> {
        let AliasChange { model, alias, version: _, expected } = change;
        check_model(model)?;
        check_alias(alias)?;
        let found = match self.metadata.get(model, &VersionChoice::Alias(alias.clone())).await {
            Ok(version) => Some(version.version),
            Err(RegistryError::NotFound { .. }) => {
                // Tells a model without the alias from none.
                self.metadata.list_versions(model, None, 1).await?;
                None
            }
            Err(error) => return Err(error),
        };
        if expected.holds(found) {
            return Ok(());
        }
        Err(RegistryError::Conflict { model: model.clone(), alias: alias.clone(), found })
    }

    /// Appends a row about something else to the audit log.
    ///
    /// # Errors
    ///
    /// [`RegistryError::InvalidAuditEntry`], [`RegistryError::DiskFull`], [`RegistryError::Storage`].
    pub async fn record(&self, entry: AuditEntry, at_ms: i64) -> Result<AuditRecord, RegistryError> {
        let mut rows = self.metadata.record(&[entry], &self.origin(at_ms)).await?;
        rows.pop().ok_or_else(|| RegistryError::Malformed { problem: "an audit row was not written".to_owned() })
    }

    /// Rows of the audit log.
    ///
    /// # Errors
    ///
    /// [`RegistryError::InvalidPage`], [`RegistryError::Storage`] and [`RegistryError::Malformed`].
    pub async fn audit(&self, query: &AuditQuery) -> Result<Vec<AuditRecord>, RegistryError> {
        query.check()?;
        if let Some(model) = &query.model {
            check_model(model)?;
        }
        self.metadata.audit(query).await
    }

    /// The last row of the audit log. Its number grows with every change.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Storage`] and [`RegistryError::Malformed`].
    pub async fn audit_head(&self) -> Result<AuditHead, RegistryError> {
        self.metadata.audit_head().await
    }

    /// What each alias of a model pointed at at some time: for each the row of the audit log that had pointed it there, by alias.
    ///
    /// Rows count in the order they were written; clocks of several servers may differ by moments.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`] for a model that does not exist, [`RegistryError::Storage`] and [`RegistryError::Malformed`].
    pub async fn as_of(&self, model: &str, at_ms: i64) -> Result<Vec<AuditRecord>, RegistryError> {
        check_model(model)?;
        let mut rows = self.metadata.as_of(model, at_ms).await?;
        if rows.is_empty() {
            // Tells a model without aliases from none.
            self.metadata.list_versions(model, None, 1).await?;
        }
        rows.retain(|row| row.action == audit::SET_ALIAS);
        Ok(rows)
    }

    /// Refuses a version that is not the one whose registration the audit log tells of.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Tampered`], [`RegistryError::Storage`] and [`RegistryError::Malformed`].
    pub async fn attest(&self, version: &VersionRecord) -> Result<(), RegistryError> {
        let tampered =
            |problem| RegistryError::Tampered { model: version.model.clone(), version: version.version, problem };
        let Some(row) = self.metadata.registration(&version.model, version.version).await? else {
            return Err(tampered("the audit log does not know it".to_owned()));
        };
        if row.expected_hash() != row.hash {
            return Err(tampered(format!("row {} of the audit log, which tells of it, was altered", row.sequence)));
        }
        if row.digest != version.digest.to_string() {
            let AuditRecord { sequence, digest, .. } = row;
            let problem = format!("its digest is {}, row {sequence} of the audit log says {digest}", version.digest);
            return Err(tampered(problem));
        }
        Ok(())
    }

    /// The version's manifest, verified.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Corrupt`], [`RegistryError::Lost`], [`RegistryError::Tampered`] when it is another model's,
    /// [`RegistryError::InvalidManifest`] when this evserve does not understand it, and [`RegistryError::Storage`].
    pub async fn manifest(&self, version: &VersionRecord) -> Result<Manifest, RegistryError> {
        let bytes = self.artifacts.read(MANIFEST, &version.digest, Manifest::MAX_BYTES as u64).await?;
        let manifest =
            blocking(move || Manifest::parse_canonical(&bytes).map_err(RegistryError::InvalidManifest)).await?;
        if manifest.model.name != version.model {
            let problem = format!("its manifest is one of model `{}`", manifest.model.name);
            return Err(RegistryError::Tampered { model: version.model.clone(), version: version.version, problem });
        }
        Ok(manifest)
    }

    /// The version's files on the local disk, every byte read and verified. They stay there for as long as what is returned
    /// lives.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Corrupt`] and [`RegistryError::Lost`] naming the file, and as [`Registry::attest`] and [`Registry::manifest`].
    pub async fn fetch(&self, version: &VersionRecord) -> Result<ArtifactDir, RegistryError> {
        self.attest(version).await?;
        self.fetch_of(&self.manifest(version).await?).await
    }

    /// The same for those who have its manifest, as [`Registry::manifest`] gave it, with the files' bytes still to be verified.
    ///
    /// Bytes that turn out not to be the right ones are had anew, where there are others, by [`Registry::fetch`].
    ///
    /// # Errors
    ///
    /// As [`Registry::fetch`]; [`RegistryError::Corrupt`] not before they are verified, and perhaps
    /// [`RegistryError::Lost`].
    pub async fn locate(&self, version: &VersionRecord, manifest: &Manifest) -> Result<LocatedFiles, RegistryError> {
        self.attest(version).await?;
        let held = self.hold(manifest);
        let mut places = Vec::with_capacity(manifest.files.len());
        for file in &manifest.files {
            places.push((file.path.clone(), self.artifacts.locate(file).await?));
        }
        Ok(LocatedFiles::new(places, held))
    }

    async fn fetch_of(&self, manifest: &Manifest) -> Result<ArtifactDir, RegistryError> {
        let held = self.hold(manifest);
        let mut places = Vec::with_capacity(manifest.files.len());
        for file in &manifest.files {
            places.push((file.path.clone(), self.artifacts.fetch(file).await?));
        }
        Ok(ArtifactDir::new(places).held_by(held))
    }

    fn hold(&self, manifest: &Manifest) -> Option<Arc<dyn Any + Send + Sync>> {
        self.artifacts.hold(manifest.files.iter().map(|file| file.sha256).collect())
    }

    /// What becomes of the copies on the local disk, where files are kept elsewhere.
    #[must_use]
    pub fn cache_counts(&self) -> Option<Arc<CacheCounts>> {
        self.artifacts.cache_counts()
    }

    /// Reads the registration, the manifest and every file again, where they are stored, and compares digests.
    pub async fn verify_files(&self, version: &VersionRecord) -> Vec<Check> {
        if let Err(error) = self.attest(version).await {
            return vec![Check::failed(REGISTRATION.to_owned(), &error)];
        }
        let mut checks = vec![Check::passed(REGISTRATION.to_owned(), "as the audit log says".to_owned())];
        // Where it is stored, and as it is read.
        let verified = self.artifacts.verify(MANIFEST, &version.digest).await;
        let files = match async { verified.and(Ok(self.manifest(version).await?.files)) }.await {
            Ok(files) => files,
            Err(error) => {
                checks.push(Check::failed(MANIFEST.to_owned(), &error));
                return checks;
            }
        };
        checks.push(Check::passed(MANIFEST.to_owned(), version.digest.to_string()));
        for file in files {
            let name = format!("file {}", file.path);
            checks.push(match self.artifacts.verify(&file.path, &file.sha256).await {
                Ok(_) => Check::passed(name, format!("{} bytes, {}", file.size, file.sha256)),
                Err(error) => Check::failed(name, &error),
            });
        }
        checks
    }

    /// What is wanted of servers, and what they say that they do.
    #[must_use]
    pub fn fleet(&self) -> &dyn FleetStore {
        &*self.metadata
    }

    /// Where rollouts are kept.
    #[must_use]
    pub fn rollouts(&self) -> &dyn RolloutStore {
        &*self.metadata
    }

    /// The number of the audit log's last row, which grows with every change: at once with those of this process,
    /// within a second with those of others.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.metadata.changes()
    }

    /// Ends the database's connections; calls after it fail.
    pub async fn close(&self) {
        self.metadata.close().await;
    }

    pub(crate) fn artifacts(&self) -> &Arc<dyn ArtifactStore> {
        &self.artifacts
    }

    pub(crate) fn actor(&self) -> &str {
        &self.actor
    }

    pub(crate) fn origin(&self, at_ms: i64) -> Origin {
        Origin { actor: self.actor.to_string(), at_ms }
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

    /// Digests of the files that a manifest names.
    pub(crate) async fn files_of(&self, manifest: &Digest) -> Result<Vec<Digest>, RegistryError> {
        let bytes = self.artifacts.read(MANIFEST, manifest, Manifest::MAX_BYTES as u64).await?;
        let parsed =
            blocking(move || Manifest::parse_canonical(&bytes).map_err(RegistryError::InvalidManifest)).await?;
        Ok(parsed.files.iter().map(|file| file.sha256).collect())
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
