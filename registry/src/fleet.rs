//! What operators want of the servers, and what the servers say that they do. What the documents say is not known here.

use async_trait::async_trait;

use crate::{AuditEntry, Origin, RegistryError};

/// What the audit log calls a change of which versions of a model are served.
pub const SET_VERSION_POLICY: &str = "set_version_policy";
/// Most servers that are known; of more, those that were heard of last.
pub const REPLICAS_MAX: u32 = 256;

/// Which versions of a model are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyRecord {
    /// Model name.
    pub model: String,
    /// What it says.
    pub document: String,
    /// When it was set, in milliseconds since 1970-01-01 UTC.
    pub updated_at_ms: i64,
}

/// Another policy for a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyChange {
    /// Model name.
    pub model: String,
    /// What it says; none: the model has none of its own any more.
    pub document: Option<String>,
    /// What the audit log tells of it.
    pub entry: AuditEntry,
    /// Who changes it, and when.
    pub origin: Origin,
}

/// Most outcomes that wait for the server that takes them.
pub const OUTCOMES_MAX: u32 = 100_000;

/// Something that was reported to a server that could not take it, for the one that can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptOutcome {
    /// Counts up in the order in which they can be seen.
    pub sequence: u64,
    /// What it says.
    pub document: String,
}

/// What one server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaRecord {
    /// The server's process.
    pub replica: String,
    /// When it said so, in milliseconds since 1970-01-01 UTC, by its own clock.
    pub updated_at_ms: i64,
    /// What it says.
    pub document: String,
}

/// Keeps what is wanted of servers, and what they say. Every method is one transaction.
#[async_trait]
pub trait FleetStore: Send + Sync {
    /// Sets or removes a model's policy, and gives the document it had before.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`] for the model; [`RegistryError::Storage`], [`RegistryError::Unreachable`],
    /// [`RegistryError::Malformed`] and [`RegistryError::DiskFull`], as every method.
    async fn set_policy(&self, change: &PolicyChange) -> Result<Option<String>, RegistryError>;

    /// All policies, by model.
    ///
    /// # Errors
    ///
    /// As [`FleetStore::set_policy`].
    async fn policies(&self) -> Result<Vec<PolicyRecord>, RegistryError>;

    /// Replaces what a server said of itself before, and forgets those that were heard of last before a time, and those
    /// that are more than [`REPLICAS_MAX`].
    ///
    /// # Errors
    ///
    /// As [`FleetStore::set_policy`].
    async fn tell_replica(&self, told: &ReplicaRecord, forget_before_ms: i64) -> Result<(), RegistryError>;

    /// What servers said of themselves, by their names.
    ///
    /// # Errors
    ///
    /// As [`FleetStore::set_policy`].
    async fn replicas(&self) -> Result<Vec<ReplicaRecord>, RegistryError>;

    /// Keeps what was reported, as far as there is room below [`OUTCOMES_MAX`], and forgets what was kept before a time.
    /// Gives how many of them, from the first on, were kept.
    ///
    /// # Errors
    ///
    /// As [`FleetStore::set_policy`].
    async fn keep_outcomes(
        &self,
        documents: &[String],
        at_ms: i64,
        forget_before_ms: i64,
    ) -> Result<usize, RegistryError>;

    /// At most `limit` of what is kept, from the first one after a number.
    ///
    /// # Errors
    ///
    /// As [`FleetStore::set_policy`].
    async fn kept_outcomes(&self, after: u64, limit: u32) -> Result<Vec<KeptOutcome>, RegistryError>;

    /// Removes what was taken.
    ///
    /// # Errors
    ///
    /// As [`FleetStore::set_policy`].
    async fn remove_outcomes(&self, sequences: &[u64]) -> Result<(), RegistryError>;

    /// Forgets a server, which has ended.
    ///
    /// # Errors
    ///
    /// As [`FleetStore::set_policy`].
    async fn forget_replica(&self, replica: &str) -> Result<(), RegistryError>;
}
