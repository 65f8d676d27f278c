//! Rollouts and observations as the registry keeps them.

use ev_registry::{RegistryError, RolloutRecord};
use ev_rollouts::{Observations, Rollout};

/// A rollout, and the revision of the document it was read from.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) rollout: Rollout,
    pub(crate) revision: u64,
}

// === impl Stored ===

impl Stored {
    /// # Errors
    ///
    /// [`RegistryError::Malformed`] for what no evserve of this kind wrote.
    pub(super) fn of(record: &RolloutRecord) -> Result<Stored, RegistryError> {
        let rollout = serde_json::from_str(&record.document)
            .map_err(|error| RegistryError::Malformed { problem: format!("rollout `{}`: {error}", record.id) })?;
        Ok(Stored { rollout, revision: record.revision })
    }
}

/// # Errors
///
/// [`RegistryError::Malformed`]: a bug, as every rollout can be written.
pub(super) fn text<T: serde::Serialize>(document: &T) -> Result<String, RegistryError> {
    serde_json::to_string(document).map_err(|error| RegistryError::Malformed { problem: error.to_string() })
}

/// What a process saw; nothing where another release of evserve wrote what this one cannot read.
pub(super) fn observations(document: &str) -> Observations {
    serde_json::from_str(document).unwrap_or_default()
}
