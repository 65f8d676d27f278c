//! What is registered under which name.

mod sqlite;

use async_trait::async_trait;
use ev_models_core::Digest;

pub use sqlite::SqliteMetadataStore;
pub(crate) use sqlite::is_full as is_sqlite_full;

use crate::{
    AliasChange, AuditEntry, AuditHead, AuditQuery, AuditRecord, Imported, ModelRecord, NewVersion, Origin,
    RegistryError, RolloutStore, VersionChoice, VersionRecord,
};

/// Keeps models, versions, aliases, and the audit log of their changes.
///
/// Every method is one transaction, a change and its row in the audit log included, and what it changed survives a power cut when it returns.
/// Aliases and page sizes were checked by the caller.
#[async_trait]
pub trait MetadataStore: RolloutStore {
    /// Registers versions, all or none. A version whose digest its model already has is left as it is.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Storage`] and [`RegistryError::Malformed`], as every method; [`RegistryError::DiskFull`], as every one that writes.
    async fn register(&self, versions: &[NewVersion], actor: &str) -> Result<Vec<Imported>, RegistryError>;

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

    /// Points an alias at a version, or removes it, if it is where the caller expects it, and returns the version it pointed at.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`] for a model, version or alias that does not exist, [`RegistryError::Conflict`] when the alias is elsewhere.
    async fn move_alias(&self, change: &AliasChange, origin: &Origin) -> Result<Option<u32>, RegistryError>;

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

    /// Ends all connections; later calls fail.
    async fn close(&self);
}
