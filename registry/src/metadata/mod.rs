//! What is registered under which name.

mod changes;
mod postgres;
mod rows;
mod sqlite;

use async_trait::async_trait;
use ev_models_core::Digest;
use tokio::sync::watch;

pub use postgres::{PostgresMetadataStore, PostgresOptions};
pub use sqlite::SqliteMetadataStore;

use crate::{
    AliasChange, AuditEntry, AuditHead, AuditOrder, AuditQuery, AuditRecord, Collected, FleetStore, Imported,
    ModelRecord, NewVersion, Origin, RegistryError, RolloutStore, VersionChoice, VersionRecord,
};

/// Keeps models, versions, aliases, and the audit log of their changes.
///
/// Every method is one transaction, a change and its row in the audit log included, and what it changed survives a power cut when it returns.
/// Aliases and page sizes were checked by the caller.
#[async_trait]
pub trait MetadataStore: RolloutStore + FleetStore {
    /// Registers versions, all or none. A version whose digest its model already has is left as it is.
    ///
    /// Whether the files of a new one are there is asked within the transaction: garbage is collected in transactions too,
    /// so that none of them goes between the answer and the registration.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Storage`], [`RegistryError::Unreachable`] and [`RegistryError::Malformed`], as every method;
    /// [`RegistryError::DiskFull`], as every one that writes; and what `stored` says.
    async fn register(
        &self,
        versions: &[NewVersion],
        stored: &dyn Stored,
        actor: &str,
    ) -> Result<Vec<Imported>, RegistryError>;

    /// The version of a model that has this digest.
    ///
    /// # Errors
    ///
    /// As [`MetadataStore::register`].
    async fn find(&self, model: &str, digest: &Digest) -> Result<Option<VersionRecord>, RegistryError>;

    /// A version by number or alias.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`] for a model, version or alias that does not exist.
    async fn get(&self, model: &str, choice: &VersionChoice) -> Result<VersionRecord, RegistryError>;

    /// At most `limit` models by name, from the first one after `after`.
    ///
    /// # Errors
    ///
    /// As [`MetadataStore::register`].
    async fn list_models(&self, after: Option<&str>, limit: u32) -> Result<Vec<ModelRecord>, RegistryError>;

    /// At most `limit` versions of a model, newest first, from the newest one before `before`.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`] for a model that does not exist.
    async fn list_versions(
        &self,
        model: &str,
        before: Option<u32>,
        limit: u32,
    ) -> Result<Vec<VersionRecord>, RegistryError>;

    /// At most `limit` versions of all models: by the model's name, of each the newest first, from the first one after `after`.
    ///
    /// # Errors
    ///
    /// As [`MetadataStore::register`].
    async fn list_all(&self, after: Option<(&str, u32)>, limit: u32) -> Result<Vec<VersionRecord>, RegistryError>;

    /// Points an alias at a version, or removes it, if it is where the caller expects it, and returns the version it pointed at.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`] for a model, version or alias that does not exist, [`RegistryError::Conflict`] when the alias is elsewhere.
    async fn move_alias(&self, change: &AliasChange, origin: &Origin) -> Result<Option<u32>, RegistryError>;

    /// Deletes a version that nothing refers to; `references` are what refers to it that the store does not know of.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`], and [`RegistryError::InUse`] with everything that refers to it.
    async fn delete_version(
        &self,
        model: &str,
        version: u32,
        references: &[String],
        origin: &Origin,
    ) -> Result<VersionRecord, RegistryError>;

    /// Pins a version for a reason, or takes its pin off; false when it was so before.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`].
    async fn set_pin(
        &self,
        model: &str,
        version: u32,
        reason: Option<&str>,
        origin: &Origin,
    ) -> Result<bool, RegistryError>;

    /// Lets a collector delete files while no version can be registered.
    ///
    /// # Errors
    ///
    /// What the collector says.
    async fn collect(&self, collector: &dyn Collector, origin: &Origin) -> Result<Collected, RegistryError>;

    /// The number of the audit log's last row, which grows with every change of any process: at once with those of this
    /// one, within a second with those of others.
    fn changes(&self) -> watch::Receiver<u64>;

    /// Appends rows to the audit log, all or none.
    ///
    /// # Errors
    ///
    /// [`RegistryError::InvalidAuditEntry`].
    async fn record(&self, entries: &[AuditEntry], origin: &Origin) -> Result<Vec<AuditRecord>, RegistryError>;

    /// Rows of the audit log.
    ///
    /// # Errors
    ///
    /// As [`MetadataStore::register`].
    async fn audit(&self, query: &AuditQuery) -> Result<Vec<AuditRecord>, RegistryError>;

    /// The last row's number and hash.
    ///
    /// # Errors
    ///
    /// As [`MetadataStore::register`].
    async fn audit_head(&self) -> Result<AuditHead, RegistryError>;

    /// The row that last moved or removed each alias of a model until some time, by alias.
    ///
    /// # Errors
    ///
    /// As [`MetadataStore::register`].
    async fn as_of(&self, model: &str, at_ms: i64) -> Result<Vec<AuditRecord>, RegistryError>;

    /// The row that tells of a version's registration.
    ///
    /// # Errors
    ///
    /// As [`MetadataStore::register`].
    async fn registration(&self, model: &str, version: u32) -> Result<Option<AuditRecord>, RegistryError>;

    /// The newest rows of one action about a version, at most `limit`, the newest first.
    ///
    /// # Errors
    ///
    /// As [`MetadataStore::register`].
    async fn rows_of(
        &self,
        model: &str,
        version: u32,
        action: &str,
        limit: u32,
    ) -> Result<Vec<AuditRecord>, RegistryError> {
        // Through all of the model's; stores with an index do better.
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let (mut found, mut before) = (Vec::new(), None);
        loop {
            let order = AuditOrder::Before(before);
            let query = AuditQuery { model: Some(model.to_owned()), order, limit: AuditQuery::MAX_ROWS };
            let rows = self.audit(&query).await?;
            let Some(last) = rows.last() else { return Ok(found) };
            before = Some(last.sequence);
            found.extend(rows.into_iter().filter(|row| row.version == Some(version) && row.action == action));
            if found.len() >= limit {
                found.truncate(limit);
                return Ok(found);
            }
        }
    }

    /// Ends all connections; later calls fail.
    async fn close(&self);
}

/// Says whether a version's files are there.
#[async_trait]
pub trait Stored: Send + Sync {
    /// # Errors
    ///
    /// [`RegistryError::Lost`] naming the file that is not, and [`RegistryError::Storage`].
    async fn check(&self, version: &NewVersion) -> Result<(), RegistryError>;
}

/// For callers that have no files.
#[async_trait]
impl Stored for () {
    async fn check(&self, _: &NewVersion) -> Result<(), RegistryError> {
        Ok(())
    }
}

/// Deletes files that no version names.
#[async_trait]
pub trait Collector: Send + Sync {
    /// `live` are the digests of all versions. It shall be done within seconds: nobody else can change anything meanwhile.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Corrupt`] and [`RegistryError::Lost`] when it cannot be known what a version names, and [`RegistryError::Storage`].
    async fn collect(&self, live: &[Digest]) -> Result<Collected, RegistryError>;
}

/// What databases say that have no space left: `SQLITE_FULL`, and `SQLITE_IOERR_SHMSIZE`, when the index of the log, which
/// is a file too, cannot grow; PostgreSQL's `disk_full` and `insufficient_resources`.
const FULL: [&str; 4] = ["13", "4874", "53100", "53000"];

/// Whether the database found no space.
pub(crate) fn is_full(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| FULL.contains(&&*code))
}
