//! Where rollouts are kept. What their documents say is not known here.

use async_trait::async_trait;

use crate::{AliasChange, AuditEntry, Origin, RegistryError};

/// What the audit log calls what happens to a rollout.
pub const ROLLOUT: &str = "rollout";
/// Rollouts that are over and kept of a model; older ones are forgotten when another begins.
pub const ROLLOUTS_KEPT: u32 = 100;
/// Processes whose observations of a rollout are kept; of more, the ones that were heard of last.
pub const REPLICAS_KEPT: u32 = 256;

/// A stored rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutRecord {
    /// Its id; ids sort by time.
    pub id: String,
    /// Model name.
    pub model: String,
    /// Whether it goes on; a model has at most one that does.
    pub is_active: bool,
    /// Grows by one with each change.
    pub revision: u64,
    /// When it was stored first, in milliseconds since 1970-01-01 UTC, as the caller said.
    pub created_at_ms: i64,
    /// When it was changed last.
    pub updated_at_ms: i64,
    /// What it says.
    pub document: String,
}

/// A rollout that begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRollout {
    /// Its id; ids sort by time.
    pub id: String,
    /// Model name.
    pub model: String,
    /// What it says.
    pub document: String,
    /// What the audit log tells of it.
    pub entry: AuditEntry,
    /// Who starts it, and when.
    pub origin: Origin,
}

/// A change of a rollout, with the aliases that move with it: all of it happens, or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutChange {
    /// Its id.
    pub id: String,
    /// The revision that the caller saw.
    pub expected_revision: u64,
    /// Whether it goes on.
    pub is_active: bool,
    /// What it says now.
    pub document: String,
    /// Aliases of its model, and where they go.
    pub aliases: Vec<AliasChange>,
    /// What the audit log tells of it.
    pub entry: AuditEntry,
    /// Who changes it, and when.
    pub origin: Origin,
}

/// What one process saw of a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaObservations {
    /// The process.
    pub replica: String,
    /// When it said so, in milliseconds since 1970-01-01 UTC.
    pub updated_at_ms: i64,
    /// What it saw.
    pub document: String,
}

/// Keeps rollouts, and what processes saw of them. Every method is one transaction.
#[async_trait]
pub trait RolloutStore: Send + Sync {
    /// Stores a rollout that begins, at revision 1.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`] for the model, [`RegistryError::RolloutUnderWay`] where it has one that goes on;
    /// [`RegistryError::Storage`], [`RegistryError::Malformed`] and [`RegistryError::DiskFull`], as every method.
    async fn start_rollout(&self, rollout: &NewRollout) -> Result<RolloutRecord, RegistryError>;

    /// A rollout.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`].
    async fn rollout(&self, id: &str) -> Result<RolloutRecord, RegistryError>;

    /// At most `limit` rollouts, newest first, of one model or of all, from the newest before the id `before`.
    ///
    /// # Errors
    ///
    /// As [`RolloutStore::start_rollout`].
    async fn list_rollouts(
        &self,
        model: Option<&str>,
        before: Option<&str>,
        limit: u32,
    ) -> Result<Vec<RolloutRecord>, RegistryError>;

    /// Those that go on, of all models.
    ///
    /// # Errors
    ///
    /// As [`RolloutStore::start_rollout`].
    async fn active_rollouts(&self) -> Result<Vec<RolloutRecord>, RegistryError>;

    /// A number that is another one after each start and each change of any rollout.
    ///
    /// # Errors
    ///
    /// As [`RolloutStore::start_rollout`].
    async fn rollouts_mark(&self) -> Result<u64, RegistryError>;

    /// The time by a clock that all processes share, in milliseconds since 1970: the database's, where it has one.
    /// Without, they are on one machine, and it is `own_ms`.
    ///
    /// # Errors
    ///
    /// As [`RolloutStore::start_rollout`].
    async fn time_ms(&self, own_ms: i64) -> Result<i64, RegistryError> {
        Ok(own_ms)
    }

    /// Changes a rollout that is still at the caller's revision, and moves aliases with it.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`], [`RegistryError::RolloutMoved`], and [`RegistryError::Conflict`] for an alias that is
    /// elsewhere; then nothing has changed.
    async fn change_rollout(&self, change: &RolloutChange) -> Result<RolloutRecord, RegistryError>;

    /// Replaces what a process saw of a rollout.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`].
    async fn observe_rollout(&self, id: &str, seen: &ReplicaObservations) -> Result<(), RegistryError>;

    /// What all processes saw of a rollout, by their names.
    ///
    /// # Errors
    ///
    /// As [`RolloutStore::start_rollout`].
    async fn rollout_observations(&self, id: &str) -> Result<Vec<ReplicaObservations>, RegistryError>;
}

pub(crate) fn no_rollout(id: &str) -> RegistryError {
    RegistryError::NotFound { what: format!("rollout `{}`", crate::error::clip(id)) }
}
